"""Where things are in ZooKeeper, below chroot and spark.deploy.zookeeper.dir. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from .api import MasterAddress, Misconfigured

KINDS = ("application", "driver", "executor", "meta", "worker")
#: Apache's own children of the same directory (ZooKeeperLeaderElectionAgent, ZooKeeperPersistenceEngine).
APACHES = ("leader_election", "master_status")
LATCH = re.compile(r"([0-9a-f]{32})-latch-(-?\d{10,11})")
LATCH_LIMIT = 16 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """An ensemble's hosts, and the paths of one cluster in it."""

    hosts: str
    base: str

    @property
    def cluster(self) -> str:
        """The cluster mark."""
        return f"{self.base}/cluster"

    @property
    def election(self) -> str:
        """Parent of the latches."""
        return f"{self.base}/election"

    @property
    def records(self) -> str:
        """Parent of the kinds."""
        return f"{self.base}/records"

    @property
    def commit(self) -> str:
        """The last request, changed by every commit: its version orders them."""
        return f"{self.base}/commit"

    @property
    def set_aside(self) -> str:
        """Parent of what could not be read."""
        return f"{self.base}/set-aside"

    def kind(self, kind: str) -> str:
        """Parent of the records of a kind."""
        return f"{self.records}/{kind}"

    @property
    def parents(self) -> list[str]:
        """Paths above the base, the topmost first."""
        parts = self.base.strip("/").split("/")[:-1]
        return ["/" + "/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def place(url: str, directory: str) -> Place:
    """Return the place that spark.deploy.zookeeper.url and .dir name. Raises Misconfigured."""
    hosts, _, chroot = url.strip().partition("/")
    listed = [host.strip() for host in hosts.split(",") if host.strip()]
    if not listed:
        raise Misconfigured("spark.deploy.zookeeper.url is empty: name the ensemble's servers, host:port,host:port,...")
    checked = []
    for host in listed:
        name, colon, port = host.rpartition(":")
        if not colon or port.endswith("]"):
            name, port = host, "2181"
        if not name or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise Misconfigured(f"spark.deploy.zookeeper.url={url!r}: {host!r} is not host:port")
        checked.append(f"{name}:{port}")
    parts = [part for part in f"{chroot}/{directory}".split("/") if part]
    if not [part for part in directory.split("/") if part] or any(part in (".", "..", "zookeeper") for part in parts):
        raise Misconfigured(f"spark.deploy.zookeeper.dir={directory!r} is not a path below /")
    return Place(",".join(checked), "/" + "/".join(parts))


def sequence(name: str) -> int:
    """Return a latch's place in line; the lowest leads."""
    match = LATCH.fullmatch(name)
    return int(match[2]) if match else 1 << 40


def in_line(names: list[str]) -> list[str]:
    """Return the latches among the names, the leader's first."""
    return sorted((name for name in names if LATCH.fullmatch(name)), key=sequence)


def encode_latch(me: MasterAddress, pid: int, start: int, boot: str) -> bytes:
    """Return a latch node's data."""
    fields = {"host": me.host, "port": me.port, "web_ui": me.web_ui, "rest": me.rest, "pid": pid, "start": start, "boot": boot}
    return json.dumps({"format": 1, **fields}).encode()


def decode_latch(raw: bytes) -> MasterAddress | None:
    """Return whose latch it is; None for anything that does not say so."""
    try:
        value = json.loads(raw[:LATCH_LIMIT])
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    host, port, web_ui, rest = (value.get(name) for name in ("host", "port", "web_ui", "rest"))
    if not isinstance(host, str) or not isinstance(port, int) or not isinstance(web_ui, str) or not isinstance(rest, str):
        return None
    return MasterAddress(host, port, web_ui, rest)


def encode_commit(request_id: str, part: int, number: int) -> bytes:
    """Return the commit node's data. part: which of a batch's transactions; number: the leader's epoch."""
    return json.dumps({"request": request_id, "part": part, "number": number}).encode()


def decode_commit(raw: bytes) -> tuple[str, int, int]:
    """Return request id, part and epoch number; of a node that nobody has committed to yet: "", 0, 0."""
    try:
        value = json.loads(raw)
        request, part, number = value["request"], value["part"], value["number"]
    except (ValueError, TypeError, KeyError):
        return "", 0, 0
    if isinstance(request, str) and isinstance(part, int) and isinstance(number, int):
        return request, part, number
    return "", 0, 0
