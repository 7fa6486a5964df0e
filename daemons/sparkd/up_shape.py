"""What a local cluster is made of, and who listens where."""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Recovery = Literal["zookeeper", "filesystem", "none"]
HOST = "127.0.0.1"
#: Below Linux's range for outgoing connections, so that none of those takes a port between choosing and binding.
PORTS = (20000, 32000)


class UpError(Exception):
    """It does not come up, or not so; the text says what to do."""


def is_free(port: int) -> bool:
    """Nothing listens on this port of loopback."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on; all different. Raises UpError."""
    start = random.randrange(*PORTS)  # noqa: S311 no secret
    span = PORTS[1] - PORTS[0]
    found: list[int] = []
    for step in range(span):
        port = PORTS[0] + (start - PORTS[0] + step) % span
        if is_free(port):
            found.append(port)
            if len(found) == count:
                return found
    raise UpError("no free ports on 127.0.0.1")


@dataclass(frozen=True, slots=True)
class Shape:
    """What a cluster is made of. cores and memory are what each worker offers, true or not."""

    masters: int = 2
    workers: int = 2
    recovery: Recovery = "zookeeper"
    zookeeper: int = 3
    cores: int = 4
    memory_mb: int = 2048
    tokens: bool = False  # REST wants a bearer token
    properties: Mapping[str, str] = field(default_factory=dict)  # for masters and workers

    def check(self) -> None:
        """Raise UpError when it cannot be."""
        if self.masters < 1 or self.workers < 0:
            raise UpError("at least one master, and no fewer than no workers")
        if self.recovery == "none" and self.masters > 1:
            raise UpError(f"--masters {self.masters} with --recovery none: each would lead; use one master, or another --recovery")
        if self.recovery == "zookeeper" and self.zookeeper < 1:
            raise UpError("--zookeeper 0: give 1 or 3, or use --recovery filesystem")


@dataclass(frozen=True, slots=True)
class Master:
    """A master's ports."""

    name: str
    port: int
    rest: int
    web: int


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker's ports."""

    name: str
    port: int
    web: int


class Ports:
    """Who listens where: the usual ports, ports from a base on, or any that are free."""

    def __init__(self, shape: Shape, base: int | None = None, usual: bool = False) -> None:
        servers = shape.zookeeper if shape.recovery == "zookeeper" else 0
        wanted = 3 * servers + 3 * shape.masters + 2 * shape.workers
        self.moved = False
        if base is not None:
            if not 1024 <= base <= 65536 - wanted:
                raise UpError(f"--base-port {base}: from 1024 to {65536 - wanted}")
            numbers = list(range(base, base + wanted))
            taken = [port for port in numbers if not is_free(port)]
            if taken:
                raise UpError(f"--base-port {base}: {', '.join(map(str, taken))} of the {wanted} ports from it on are taken; give another")
        else:
            numbers = self._usual(shape, servers) if usual else []
            if not numbers or not all(map(is_free, numbers)):
                self.moved = bool(numbers)
                numbers = free_ports(wanted)
        each = iter(numbers)
        self.zookeeper = [(next(each), next(each), next(each)) for _ in range(servers)]
        self.masters = [Master(f"master-{n}", next(each), next(each), next(each)) for n in range(1, shape.masters + 1)]
        self.workers = [Worker(f"worker-{n}", next(each), next(each)) for n in range(1, shape.workers + 1)]

    @staticmethod
    def _usual(shape: Shape, servers: int) -> list[int]:
        zookeeper = [port for n in range(servers) for port in (2181 + n, 2888 + n, 3888 + n)]
        masters = [port for n in range(shape.masters) for port in (7077 + n, 6066 + n, 8080 + 10 * n)]
        return [*zookeeper, *masters, *(port for n in range(shape.workers) for port in (7177 + n, 8180 + n))]
