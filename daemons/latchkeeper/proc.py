"""What /proc tells about a process: whether it is still the same one, and its TCP connections."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_ESTABLISHED = 1


@dataclass(frozen=True)
class Stat:
    """The part of /proc/PID/stat that tells processes apart; start in clock ticks since boot."""

    state: str
    threads: int
    start: int

    @property
    def dead(self) -> bool:
        """A zombie runs nothing; but Z with threads left means only that its first thread ended."""
        return self.state in "ZX" and self.threads <= 1


@dataclass(frozen=True)
class Socket:
    """An established TCP connection; addresses in one spelling (mapped IPv4 as IPv4)."""

    local_ip: str
    local_port: int
    remote_ip: str
    remote_port: int
    inode: int

    @property
    def local(self) -> tuple[str, int]:
        """Address and port on this host."""
        return self.local_ip, self.local_port

    @property
    def remote(self) -> tuple[str, int]:
        """Address and port of the other end."""
        return self.remote_ip, self.remote_port


def parse_stat(text: str) -> Stat:
    """Parse /proc/PID/stat. The name may hold spaces and brackets: fields count from the last one. Raises ValueError."""
    fields = text[text.rindex(")") + 1 :].split()
    if len(fields) < 20:
        raise ValueError("too few fields in stat")
    return Stat(state=fields[0], threads=int(fields[17]), start=int(fields[19]))


def _address(text: str) -> str:
    """Decode an address of /proc/net/tcp: 32-bit words in the byte order of the machine."""
    raw = bytes.fromhex(text)
    if len(raw) not in (4, 16):
        raise ValueError(f"{text!r} is no address")
    if sys.byteorder == "little":
        raw = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
    address = ipaddress.ip_address(raw)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)


def parse_tcp(text: str) -> list[Socket]:
    """Parse /proc/net/tcp or tcp6: the established connections. Lines of another shape are skipped."""
    sockets = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        try:
            (local_ip, local_port), (remote_ip, remote_port) = (field.split(":") for field in fields[1:3])
            if int(fields[3], 16) != _ESTABLISHED:
                continue
            sockets.append(Socket(_address(local_ip), int(local_port, 16), _address(remote_ip), int(remote_port, 16), int(fields[9])))
        except (ValueError, IndexError):
            continue
    return sockets


def parse_inodes(links: Iterable[str]) -> set[int]:
    """Return the inodes of the links ``socket:[123]`` of /proc/PID/fd."""
    return {int(match[1]) for link in links if (match := re.fullmatch(r"socket:\[(\d+)\]", link))}


def read_stat(pid: int, root: Path = PROC) -> Stat | None:
    """Return a process's stat; None when there is no such process."""
    try:
        return parse_stat((root / str(pid) / "stat").read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError):
        return None


def own_age() -> float:
    """Return the seconds since this process was forked; loading Python alone takes a while on a busy machine."""
    stat = read_stat(os.getpid())
    if stat is None:
        return 0.0
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - stat.start / os.sysconf("SC_CLK_TCK"))


def boot_id(root: Path = PROC) -> str:
    """Return the id of this boot: pids and start times of another boot mean nothing. Raises OSError."""
    return (root / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def sockets_of(pid: int, remote_ports: Iterable[int], root: Path = PROC) -> list[Socket]:
    """Return the process's established connections to these ports. Raises OSError when it is gone or another user's."""
    ports = frozenset(remote_ports)
    links = []
    for entry in os.scandir(root / str(pid) / "fd"):
        try:
            links.append(os.readlink(entry.path))  # noqa: PTH115 - a link to no path
        except FileNotFoundError:
            continue
    inodes = parse_inodes(links)
    found = []
    for name in ("tcp", "tcp6"):
        try:
            text = (root / str(pid) / "net" / name).read_text(encoding="ascii")
        except FileNotFoundError:  # no IPv6 on this host
            continue
        found += [socket for socket in parse_tcp(text) if socket.inode in inodes and socket.remote_port in ports]
    return found


def all_stopped(pid: int, root: Path = PROC) -> bool:
    """Tell whether every thread is stopped: SIGSTOP takes effect thread by thread."""
    try:
        tasks = list((root / str(pid) / "task").iterdir())
        return all(parse_stat((task / "stat").read_text(encoding="utf-8", errors="replace")).state in "TtZX" for task in tasks)
    except (OSError, ValueError):
        return True
