"""ZooKeeper's four-letter words: bounded questions over TCP and parsers of their answers.

Standard library only: it runs on the hosts and inside Ansible modules. Formats are those of ZooKeeper 3.5 to 3.9
(org.apache.zookeeper.server.command.*, ServerCnxn.dumpConnectionInfo); all but cons are `key<separator>value` lines.
A word must be in `4lw.commands.whitelist` of zoo.cfg; by default only srvr is.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import time
from dataclasses import dataclass

DEFAULT_TIMEOUT_S = 2.0
DEFAULT_LIMIT_BYTES = 4 * 1024 * 1024


class FourLetterError(Exception):
    """A question without a usable answer; the text names the server, the word and why."""


class Unreachable(FourLetterError):  # noqa: N818 - reads as what it says at the raise
    """Nothing answers: refused, reset, no route, unknown name."""


class Silent(FourLetterError):  # noqa: N818
    """Connected, but no whole answer within the time: a paused process or a full disk looks like this."""


class NotServing(FourLetterError):  # noqa: N818
    """The process lives but is not part of a quorum (looking, or leader without enough followers)."""


class NotAllowed(FourLetterError):  # noqa: N818
    """The word is not in 4lw.commands.whitelist of zoo.cfg."""


class BadAnswer(FourLetterError):  # noqa: N818
    """Too long, not text, or not the shape of this word: perhaps something else listens on the port."""


@dataclass(frozen=True, slots=True)
class Server:
    """What srvr tells. zxid = epoch << 32 | counter; latencies in milliseconds."""

    version: str
    mode: str  # standalone | leader | follower | observer | read-only
    zxid: int
    node_count: int
    connections: int
    outstanding: int
    received: int
    sent: int
    latency_min: float
    latency_avg: float
    latency_max: float

    @property
    def epoch(self) -> int:
        """Election epoch: the upper half of the zxid (0 until a leader's first transaction is seen)."""
        return self.zxid >> 32


@dataclass(frozen=True, slots=True)
class Monitor:
    """What mntr tells; every key as text in `values`. A number that this server does not report is None."""

    values: dict[str, str]
    version: str
    server_state: str  # standalone | leader | follower | observer | read-only
    znode_count: int | None
    synced_followers: int | None  # leaders only; without the leader itself
    learners: int | None  # leaders only; followers and observers, synced or not
    quorum_size: int | None  # voting members in the server's view
    min_latency: float | None
    avg_latency: float | None
    max_latency: float | None
    num_alive_connections: int | None
    outstanding_requests: int | None
    ephemerals_count: int | None


@dataclass(frozen=True, slots=True)
class Connection:
    """One line of cons: a client of this server.

    `sid` is the session id as a signed 64-bit number, the same as Stat.ephemeralOwner on the wire; None for a
    connection without a session, such as another four-letter word. `timeout_ms` is the negotiated session timeout.
    """

    ip: str
    port: int
    sid: int | None
    queued: int
    received: int
    sent: int
    timeout_ms: int | None
    established_ms: int | None
    last_zxid: int | None
    fields: dict[str, str]


def ask(
    host: str,
    port: int,
    word: str,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    limit_bytes: int = DEFAULT_LIMIT_BYTES,
) -> str:
    """Send one word and return the whole answer.

    timeout_s bounds the whole exchange, not each read, so a server that drips bytes cannot hold the caller.
    Raises Unreachable, Silent, NotServing, NotAllowed or BadAnswer; ValueError for something that is no such word.
    """
    if not re.fullmatch(r"[a-z]{4}", word):
        raise ValueError(f"'{word}' is no four-letter word")
    where = f"ZooKeeper at {host}:{port}, word {word}"
    deadline = time.monotonic() + timeout_s
    chunks: list[bytes] = []
    size = 0
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            connection.sendall(word.encode("ascii"))
            while True:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Silent(f"{where}: no whole answer within {timeout_s:g} s")
                connection.settimeout(left)
                chunk = connection.recv(65536)
                if not chunk:
                    break
                size += len(chunk)
                if size > limit_bytes:
                    raise BadAnswer(f"{where}: answer longer than {limit_bytes} bytes")
                chunks.append(chunk)
    except TimeoutError:
        raise Silent(f"{where}: no whole answer within {timeout_s:g} s") from None
    except OSError as error:
        # Also after a part of the answer: half a list of sessions must not pass for the list.
        raise Unreachable(f"{where}: {error.strerror or error}") from None
    try:
        text = b"".join(chunks).decode("utf-8")
    except UnicodeDecodeError:
        raise BadAnswer(f"{where}: the answer is not text") from None
    if "not currently serving requests" in text[:200]:
        raise NotServing(f"{where}: the server runs but is not part of a quorum")
    if "not in the whitelist" in text[:200]:
        raise NotAllowed(f"{where}: not in 4lw.commands.whitelist of zoo.cfg")
    return text


def ruok(host: str, port: int, timeout_s: float = DEFAULT_TIMEOUT_S) -> bool:
    """Tell whether the process answers imok. It says nothing about the quorum. Raises like ask."""
    return ask(host, port, "ruok", timeout_s, 64) == "imok"


def srvr(host: str, port: int, timeout_s: float = DEFAULT_TIMEOUT_S) -> Server:
    """Ask srvr and parse it. Raises like ask."""
    return parse_srvr(ask(host, port, "srvr", timeout_s))


def mntr(host: str, port: int, timeout_s: float = DEFAULT_TIMEOUT_S) -> Monitor:
    """Ask mntr and parse it. Raises like ask."""
    return parse_mntr(ask(host, port, "mntr", timeout_s))


def cons(host: str, port: int, timeout_s: float = DEFAULT_TIMEOUT_S) -> list[Connection]:
    """Ask cons and parse it: the clients of this one server, not of the ensemble. Raises like ask."""
    return parse_cons(ask(host, port, "cons", timeout_s))


def parse_srvr(text: str) -> Server:
    """Parse an answer of srvr. Raises BadAnswer when version, mode or zxid is missing."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            values[key.strip()] = value.strip()
    version, mode, zxid = values.get("Zookeeper version", ""), values.get("Mode", ""), values.get("Zxid", "")
    if not (version and mode and zxid):
        raise BadAnswer(f"no answer of srvr: {text[:80]!r}")
    low, avg, high = ([*values.get("Latency min/avg/max", "").split("/"), "", "", ""])[:3]
    try:
        return Server(
            version=_version(version),
            mode=mode,
            zxid=int(zxid, 16),
            node_count=int(values.get("Node count", "0")),
            connections=int(values.get("Connections", "0")),
            outstanding=int(values.get("Outstanding", "0")),
            received=int(values.get("Received", "0")),
            sent=int(values.get("Sent", "0")),
            latency_min=float(low or 0),
            latency_avg=float(avg or 0),
            latency_max=float(high or 0),
        )
    except ValueError as error:
        raise BadAnswer(f"no answer of srvr: {error}") from None


def parse_mntr(text: str) -> Monitor:
    """Parse an answer of mntr. Raises BadAnswer when the server's state is missing."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, tab, value = line.partition("\t")
        if tab:
            values[key.strip()] = value.strip()
    if "zk_server_state" not in values:
        raise BadAnswer(f"no answer of mntr: {text[:80]!r}")

    def whole(key: str) -> int | None:
        number = fraction(key)
        return None if number is None else int(number)

    def fraction(key: str) -> float | None:
        try:
            # 3.6 and later print some counters as floats ("2.0").
            return float(values[key])
        except (KeyError, ValueError, OverflowError):
            return None

    return Monitor(
        values=values,
        version=_version(values.get("zk_version", "")),
        server_state=values["zk_server_state"],
        znode_count=whole("zk_znode_count"),
        synced_followers=whole("zk_synced_followers"),
        learners=whole("zk_learners"),
        quorum_size=whole("zk_quorum_size"),
        min_latency=fraction("zk_min_latency"),
        avg_latency=fraction("zk_avg_latency"),
        max_latency=fraction("zk_max_latency"),
        num_alive_connections=whole("zk_num_alive_connections"),
        outstanding_requests=whole("zk_outstanding_requests"),
        ephemerals_count=whole("zk_ephemerals_count"),
    )


# " /127.0.0.1:43122[1](queued=0,...)", with the name before the slash when the JVM knows it, IPv6 in brackets since JDK 14.
_CONNECTION = re.compile(r"^\s*[^/\s]*/\[?(?P<ip>[0-9A-Fa-f:.]+)(?:%[^\]:]+)?\]?:(?P<port>\d+)\[\d+\]\((?P<fields>[^)]*)\)\s*$")


def parse_cons(text: str) -> list[Connection]:
    """Parse an answer of cons. An empty answer is no connections; raises BadAnswer on a line of another shape."""
    connections = []
    for line in text.splitlines():
        if not line.strip():
            continue
        match = _CONNECTION.match(line)
        if match is None:
            raise BadAnswer(f"no line of cons: {line[:80]!r}")
        fields = dict(pair.partition("=")[::2] for pair in match["fields"].split(",") if pair)
        try:
            connections.append(
                Connection(
                    ip=plain_ip(match["ip"]),
                    port=int(match["port"]),
                    sid=signed64(int(fields["sid"], 16)) if "sid" in fields else None,
                    queued=int(fields.get("queued", "0")),
                    received=int(fields.get("recved", "0")),
                    sent=int(fields.get("sent", "0")),
                    timeout_ms=int(fields["to"]) if "to" in fields else None,
                    established_ms=int(fields["est"]) if "est" in fields else None,
                    last_zxid=signed64(int(fields["lzxid"], 16)) if "lzxid" in fields else None,
                    fields=fields,
                )
            )
        except ValueError as error:
            raise BadAnswer(f"no line of cons: {line[:80]!r}: {error}") from None
    return connections


def plain_ip(text: str) -> str:
    """One spelling per address: compressed IPv6, mapped IPv4 as IPv4. Raises ValueError when it is no address."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)


def signed64(number: int) -> int:
    """Java prints a long in hexadecimal as unsigned; the wire and every client carry it signed."""
    number &= 0xFFFFFFFFFFFFFFFF
    return number - (1 << 64) if number >> 63 else number


def _version(text: str) -> str:
    """3.9.5 of '3.9.5-293c895..., built on ...'."""
    return re.split(r"[-,\s]", text.strip(), maxsplit=1)[0]
