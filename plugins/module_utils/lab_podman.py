"""What the lab's modules share: podman calls and the decisions about them, kept apart from the calls so that they can be tested."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

LABEL_LAB = "spark-ha.lab"
LABEL_SPEC = "spark-ha.spec"
LABEL_IMAGE = "spark-ha.image"

Runner = Callable[[list[str]], tuple[int, str, str]]
"""Runs a command, returns its code, output and error output."""


class LabError(Exception):
    """The lab cannot be made; the text says why and what to do."""


def fingerprint(*parts: object) -> str:
    """Return 12 hex digits over everything that decides what is built."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


def directory_digest(directory: Path) -> str:
    """Return a digest over names, modes and contents of all files under a directory."""
    digest = hashlib.sha256()
    for path in sorted(p for p in directory.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(directory)} {path.stat().st_mode & 0o111:o}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def ulimit(name: str, hard: int, wanted: int, infinity: int = -1) -> str:
    """Return a podman --ulimit value no higher than the caller's own hard limit: higher ones need CAP_SYS_RESOURCE."""
    value = wanted if hard == infinity else min(hard, wanted)
    return f"{name}={value}:{value}"


def runtime_args(cgroup_version: str, have_runc: bool) -> list[str]:
    """Return the choice of OCI runtime: crun refuses cgroup v1, runc takes both; on v2 podman's default is right."""
    return ["--runtime", "runc"] if cgroup_version == "v1" and have_runc else []


def overlapping(networks: Iterable[Mapping[str, Any]], name: str, subnet: str) -> list[Mapping[str, Any]]:
    """Return podman's other networks whose subnet overlaps the wanted one.

    :param networks: what `podman network inspect` lists.
    """
    wanted = ipaddress.ip_network(subnet)
    return [
        network
        for network in networks
        if network["name"] != name
        and any(
            found.version == wanted.version and found.overlaps(wanted)
            for found in (ipaddress.ip_network(s["subnet"]) for s in network.get("subnets") or [])
        )
    ]


def stale_bridges(interfaces: Iterable[Mapping[str, Any]], subnet: str, in_use: Iterable[str]) -> list[str]:
    """Return podman bridges that hold an address of the subnet although no network of podman's uses them.

    :param interfaces: what `ip -json address` lists.
    :param in_use: interface names of podman's networks.
    """
    wanted = ipaddress.ip_network(subnet)
    used = set(in_use)
    return [
        str(interface["ifname"])
        for interface in interfaces
        if re.fullmatch(r"podman\d+", str(interface["ifname"]))
        and interface["ifname"] not in used
        and any(ipaddress.ip_address(a["local"]) in wanted for a in interface.get("addr_info", []) if "local" in a)
    ]


def judge(container: Mapping[str, Any] | None, name: str, lab: str, spec: str) -> tuple[str, str]:
    """Decide what to do with a host: ('create' | 'recreate' | 'start' | 'unpause' | 'probe', why).

    :param container: what `podman container inspect` says, None when there is none.
    :raises LabError: the container is not of this lab.
    """
    if container is None:
        return "create", "there was none"
    labels = container["Config"].get("Labels") or {}
    if labels.get(LABEL_LAB) != lab:
        owner = labels.get(LABEL_LAB)
        raise LabError(
            f"inventory host {name}: a container of that name exists and belongs to "
            f"{f'the lab {owner!r} (lab_name)' if owner else 'something else'}. "
            f"Rename the host in the inventory, or remove it: podman rm -f {name}"
        )
    if labels.get(LABEL_SPEC) != spec:
        return "recreate", "its image or definition changed"
    status = str(container["State"]["Status"])
    if status == "running":
        return "probe", ""
    if status == "paused":
        return "unpause", "it was paused"
    if status in ("exited", "stopped", "created", "configured", "initialized"):
        return "start", f"it was {status}"
    return "recreate", f"it was {status}"


class Podman:
    """Thin wrapper: every failure is a LabError with podman's last words."""

    def __init__(self, run: Runner) -> None:
        self._run = run

    def __call__(self, *args: str, what: str = "") -> str:
        """Run podman and return its output; raises LabError."""
        code, out, err = self._run(["podman", *args])
        if code:
            last = (err or out).strip().splitlines()[-1:] or [f"exit code {code}"]
            raise LabError(f"{what or 'podman ' + args[0]} failed: {last[0]}")
        return out

    def ok(self, *args: str) -> bool:
        """Tell whether a podman command succeeds."""
        return self._run(["podman", *args])[0] == 0

    def inspect(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return what podman knows about a container, network or image, None when it knows none."""
        code, out, _ = self._run(["podman", kind, "inspect", name])
        if code:
            return None
        found: list[dict[str, Any]] = json.loads(out)
        return found[0] if found else None

    def networks(self) -> list[dict[str, Any]]:
        """Return all networks of podman."""
        names = self("network", "ls", "--format", "{{.Name}}").split()
        return json.loads(self("network", "inspect", *names)) if names else []
