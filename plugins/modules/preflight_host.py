#!/usr/bin/python
"""Measure what the preflight checks of one host need to know; judge nothing, change nothing."""

from __future__ import annotations

import os
import platform
import pwd
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: preflight_host
short_description: Measure what the preflight checks of one host need
description:
  - Reads memory, free disk space, the clock, listening ports with the units that hold them, names that resolve, the version
    of Python and the distribution, all in one call. The verdict is made on the controller by M(preflight_verdict).
  - An action plugin of the same name puts the controller's time around the call, so that a difference of clocks is never
    mistaken for a slow network, and returns an unreachable host as data.
options:
  ports:
    description: TCP ports of interest.
    type: list
    elements: int
    default: []
  paths:
    description: Directories whose file systems are measured; the nearest existing parent stands for one that does not exist.
    type: list
    elements: path
    default: []
  names:
    description: Names that must resolve.
    type: list
    elements: str
    default: []
  myid_file:
    description: File that keeps the ZooKeeper server's id; empty looks at none.
    type: str
    default: ""
  java_home:
    description: JAVA_HOME of an existing JRE; empty looks at none.
    type: str
    default: ""
  sparkd_python:
    description: Python that is to run sparkd; empty looks at none.
    type: str
    default: ""
author: spark-ha
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: Look at the host
  preflight_host:
    ports: [7077, 8080]
    paths: [/opt/spark]
"""

RETURN = r"""
facts:
  description: What was measured.
  returned: success
  type: dict
"""

LISTEN = "0A"
RESOLVE_SECONDS = 5.0


def listening(wanted: set[int], proc: Path = Path("/proc")) -> dict[int, dict[str, int]]:
    """Return the sockets that listen on the wanted ports: {port: {inode: uid}}."""
    found: dict[int, dict[str, int]] = {}
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            port = int(fields[1].rpartition(":")[2], 16)
            if fields[3] == LISTEN and port in wanted:
                found.setdefault(port, {})[fields[9]] = int(fields[7])
    return found


def target(link: Path) -> str:
    """Return what a link in /proc/PID/fd points to; empty when it was closed meanwhile."""
    try:
        return os.readlink(link)  # noqa: PTH115 - socket:[1] is no path
    except OSError:
        return ""


def unit_of(process: Path) -> str:
    """Return the systemd service that a process belongs to; empty when it belongs to none. Raises OSError when it has ended."""
    units = re.findall(r"([A-Za-z0-9@._\\-]+\.service)", (process / "cgroup").read_text())
    return units[-1] if units else ""


def holders(inodes: set[str], proc: Path = Path("/proc")) -> dict[str, dict[str, Any]]:
    """Return who holds the sockets: pid, name and systemd unit by inode.

    Processes of other users can be seen by root only, and in a container only with CAP_SYS_PTRACE.
    """
    result: dict[str, dict[str, Any]] = {}
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    for process in proc.iterdir() if inodes else ():
        if not process.name.isdigit():
            continue
        try:
            hit = [wanted[link] for link in map(target, (process / "fd").iterdir()) if link in wanted]
            if hit:
                who = {"pid": int(process.name), "name": (process / "comm").read_text().strip(), "unit": unit_of(process)}
                result.update(dict.fromkeys(hit, who))
        except OSError:
            continue  # ended, or not ours to look at
    return result


def units_of(uid: int, proc: Path = Path("/proc")) -> list[str]:
    """Return the systemd services in which a user has processes: who may hold a socket of that user's whose process cannot be seen."""
    found = set()
    for process in proc.iterdir():
        try:
            if process.name.isdigit() and process.stat().st_uid == uid:
                found.add(unit_of(process))
        except OSError:
            continue
    return sorted(found - {""})


def ports(wanted: list[int]) -> dict[str, dict[str, Any]]:
    """Return, per listening port, who holds it: ``user`` always, ``pid``, ``name`` and ``unit`` where the process can be seen.

    Else ``pid`` is 0, and ``units`` are the services in which that user has processes.
    """
    found = listening(set(wanted))
    who = holders({inode for sockets in found.values() for inode in sockets})
    result: dict[str, dict[str, Any]] = {}
    for port, sockets in found.items():
        inode = next((inode for inode in sorted(sockets) if inode in who), min(sockets))
        uid = sockets[inode]
        try:
            user = pwd.getpwuid(uid).pw_name
        except KeyError:
            user = str(uid)
        seen = who.get(inode)
        result[str(port)] = {"user": user, **(seen or {"pid": 0, "name": "", "unit": "", "units": units_of(uid)})}
    return result


def memory_mb() -> int:
    """Return the memory that this host may use in MiB: the machine's, or its control group's limit where that is less."""
    text = Path("/proc/meminfo").read_text()
    match = re.search(r"^MemTotal:\s+(\d+) kB", text, re.MULTILINE)
    total = int(match[1]) // 1024 if match else 0
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = int(Path(name).read_text().strip()) // 2**20
        except (OSError, ValueError):
            continue
        total = min(total, limit)
    return total


def disk(path: str) -> dict[str, Any]:
    """Return the file system of a directory, or of its nearest existing parent: mount identity and free MiB."""
    place = Path(path)
    while not place.exists() and place != place.parent:
        place = place.parent
    stat = os.statvfs(place)
    return {"path": path, "device": place.stat().st_dev, "free_mb": stat.f_bavail * stat.f_frsize // 2**20}


def resolve(names: list[str]) -> dict[str, list[str]]:
    """Return the IPv4 addresses per name, empty for one that does not resolve in time."""

    def one(name: str) -> list[str]:
        try:
            return sorted({str(entry[4][0]) for entry in socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)})
        except OSError:
            return []

    result: dict[str, list[str]] = {}
    pool = ThreadPoolExecutor(max_workers=16)
    pending = {name: pool.submit(one, name) for name in names}
    until = time.monotonic() + RESOLVE_SECONDS
    for name, future in pending.items():
        try:
            result[name] = future.result(timeout=max(0.05, until - time.monotonic()))
        except FutureTimeout:
            result[name] = []
    pool.shutdown(wait=False, cancel_futures=True)
    return result


def distribution() -> dict[str, str]:
    """Return name and version from os-release."""
    try:
        text = Path("/etc/os-release").read_text()
    except OSError:
        return {"id": "", "version": "", "name": "unknown"}
    fields = dict(re.findall(r'^([A-Z_]+)="?(.*?)"?$', text, re.MULTILINE))
    return {"id": fields.get("ID", ""), "version": fields.get("VERSION_ID", ""), "name": fields.get("PRETTY_NAME", "")}


def java_release(home: str) -> str:
    """Return the version that a JRE's `release` file gives; empty when there is none, missing when there is no bin/java."""
    if not home:
        return ""
    if not os.access(Path(home, "bin", "java"), os.X_OK):
        return "missing"
    try:
        match = re.search(r'^JAVA_VERSION="([^"]+)"', Path(home, "release").read_text(), re.MULTILINE)
    except OSError:
        return ""
    return match[1] if match else ""


def python_version(path: str) -> str:
    """Return the minor version of a Python, like 3.11; missing when it does not run, empty when none is asked for."""
    if not path:
        return ""
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([path, "-I", "-c", ask], capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return "missing"
    return done.stdout.strip() if done.returncode == 0 else "missing"


def read_text(path: str) -> str:
    """Return a small file's text, empty when it is not there."""
    try:
        return Path(path).read_text().strip() if path else ""
    except (OSError, UnicodeDecodeError):
        return ""


def main() -> None:
    """Measure and return."""
    module = AnsibleModule(
        argument_spec={
            "ports": {"type": "list", "elements": "int", "default": []},
            "paths": {"type": "list", "elements": "path", "default": []},
            "names": {"type": "list", "elements": "str", "default": []},
            "myid_file": {"type": "str", "default": ""},
            "java_home": {"type": "str", "default": ""},
            "sparkd_python": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    measured = {
        "time": time.time(),
        "root": os.geteuid() == 0,
        "python": list(sys.version_info[:3]),
        "systemd": Path("/run/systemd/system").is_dir(),
        "memory_mb": memory_mb(),
        "disks": [disk(path) for path in wanted["paths"]],
        "ports": ports(wanted["ports"]),
        "names": resolve(wanted["names"]),
        "distribution": distribution(),
        "myid": read_text(wanted["myid_file"]),
        "java": java_release(wanted["java_home"]),
        "sparkd_python": python_version(wanted["sparkd_python"]),
        "machine": platform.machine(),
        "hostname": socket.gethostname(),
    }
    module.exit_json(changed=False, facts=measured)


if __name__ == "__main__":
    main()
