"""Bounded reader of the ``/json/`` pages of Spark's Master and Worker.

Source of the fields: ``org.apache.spark.deploy.JsonProtocol`` (``writeMasterState``, ``writeWorkerState``), Spark 3.5 to 4.3.
A page is input from the network: its size, the time it may take and the type of each field are checked.
Only the standard library, no import of a sibling: Ansible modules load this file too.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Bytes; 200 applications, 200 drivers and 10,000 workers stay below it.
PAGE_LIMIT = 16 * 1024 * 1024
STATUSES = ("STANDBY", "RECOVERING", "COMPLETING_RECOVERY", "ALIVE")


class PageError(Exception):
    """The page could not be had or is not what Spark writes; the text says which."""


@dataclass(frozen=True)
class WorkerEntry:
    """A worker as a master lists it; memory in MiB."""

    id: str
    host: str
    port: int
    web_ui: str
    state: str
    cores: int
    cores_used: int
    memory_mb: int
    memory_used_mb: int


@dataclass(frozen=True)
class AppEntry:
    """An application as a master lists it."""

    id: str
    name: str
    state: str
    cores: int
    user: str


@dataclass(frozen=True)
class DriverEntry:
    """A driver in cluster mode as a master lists it."""

    id: str
    state: str
    main_class: str
    worker: str


@dataclass(frozen=True)
class MasterPage:
    """What a master says about itself; memory in MiB."""

    url: str
    status: str
    workers: tuple[WorkerEntry, ...]
    cores: int
    cores_used: int
    memory_mb: int
    memory_used_mb: int
    active_apps: tuple[AppEntry, ...]
    completed_apps: tuple[AppEntry, ...]
    active_drivers: tuple[DriverEntry, ...]
    completed_drivers: tuple[DriverEntry, ...]

    @property
    def alive_workers(self) -> tuple[WorkerEntry, ...]:
        """The workers in state ALIVE."""
        return tuple(worker for worker in self.workers if worker.state == "ALIVE")


@dataclass(frozen=True)
class WorkerPage:
    """What a worker says about itself; memory in MiB."""

    id: str
    master_url: str
    cores: int
    cores_used: int
    memory_mb: int
    memory_used_mb: int
    executors: int
    finished_executors: int


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Return host and port of ``host:port`` or ``[v6]:port``; raise PageError for anything else."""
    host, colon, port = endpoint.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise PageError(f"{endpoint!r} is not host:port")
    return host.strip("[]"), int(port)


def join_endpoint(host: str, port: int) -> str:
    """Return ``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Bounded(socket.socket):
    """A connection whose reads together end at ``end``: a peer that drips its headers holds nobody."""

    end: float

    def recv_into(self, *arguments: Any) -> int:
        """Read as long as there is time. Raises TimeoutError."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self.settimeout(left)
        return super().recv_into(*arguments)


def fetch(endpoint: str, path: str = "/json/", timeout_s: float = 2.0, limit: int = PAGE_LIMIT) -> bytes:
    """Return the body of ``http://endpoint/path``, within ``timeout_s`` seconds and ``limit`` bytes.

    Knows no proxy and follows no redirect. Raises PageError.
    """
    host, port = split_endpoint(endpoint)
    end = time.monotonic() + timeout_s
    connection = http.client.HTTPConnection(host, port)
    try:
        plain = socket.create_connection((host, port), timeout=timeout_s)
        connection.sock = bounded = _Bounded(plain.family, plain.type, plain.proto, plain.detach())
        bounded.settimeout(timeout_s)
        bounded.end = end
        connection.request("GET", path, headers={"Accept": "application/json", "Connection": "close"})
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise PageError(f"http://{endpoint}{path} answers HTTP {response.status}")
        chunks, size = [], 0
        while chunk := response.read1(65536):
            size += len(chunk)
            if size > limit:
                raise PageError(f"http://{endpoint}{path} is larger than {limit} bytes")
            chunks.append(chunk)
        return b"".join(chunks)
    except TimeoutError:
        raise PageError(f"http://{endpoint}{path} took longer than {timeout_s} s") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise PageError(f"http://{endpoint}{path}: {type(error).__name__}: {error}") from error
    finally:
        connection.close()


def _load(raw: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise PageError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise PageError(f"a JSON {type(value).__name__}, not an object")
    return value


def _text(entry: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = entry.get(key, default)
    if not isinstance(value, str):
        raise PageError(f"field {key!r} is {value!r}, not a string")
    return value


def _number(entry: Mapping[str, Any], key: str) -> int:
    value = entry.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int):
        raise PageError(f"field {key!r} is {value!r}, not a whole number")
    return value


def _entries(page: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = page.get(key, [])
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise PageError(f"field {key!r} is not a list of objects")
    return value


def _worker(entry: Mapping[str, Any]) -> WorkerEntry:
    return WorkerEntry(
        id=_text(entry, "id"),
        host=_text(entry, "host"),
        port=_number(entry, "port"),
        web_ui=_text(entry, "webuiaddress", ""),
        state=_text(entry, "state"),
        cores=_number(entry, "cores"),
        cores_used=_number(entry, "coresused"),
        memory_mb=_number(entry, "memory"),
        memory_used_mb=_number(entry, "memoryused"),
    )


def _app(entry: Mapping[str, Any]) -> AppEntry:
    return AppEntry(
        id=_text(entry, "id"),
        name=_text(entry, "name", ""),
        state=_text(entry, "state"),
        cores=_number(entry, "cores"),
        user=_text(entry, "user", ""),
    )


def _driver(entry: Mapping[str, Any]) -> DriverEntry:
    return DriverEntry(
        id=_text(entry, "id"),
        state=_text(entry, "state"),
        main_class=_text(entry, "mainclass", ""),
        worker=_text(entry, "worker", ""),
    )


def parse_master(raw: bytes) -> MasterPage:
    """Return a master's page; raise PageError when a field is missing, of another type, or the status is not one of Spark's."""
    page = _load(raw)
    status = _text(page, "status")
    if status not in STATUSES:
        raise PageError(f"status {status!r} is none of {', '.join(STATUSES)}")
    return MasterPage(
        url=_text(page, "url"),
        status=status,
        workers=tuple(map(_worker, _entries(page, "workers"))),
        cores=_number(page, "cores"),
        cores_used=_number(page, "coresused"),
        memory_mb=_number(page, "memory"),
        memory_used_mb=_number(page, "memoryused"),
        active_apps=tuple(map(_app, _entries(page, "activeapps"))),
        completed_apps=tuple(map(_app, _entries(page, "completedapps"))),
        active_drivers=tuple(map(_driver, _entries(page, "activedrivers"))),
        completed_drivers=tuple(map(_driver, _entries(page, "completeddrivers"))),
    )


def parse_worker(raw: bytes) -> WorkerPage:
    """Return a worker's page; raise PageError when a field is missing or of another type."""
    page = _load(raw)
    return WorkerPage(
        id=_text(page, "id"),
        master_url=_text(page, "masterurl", ""),
        cores=_number(page, "cores"),
        cores_used=_number(page, "coresused"),
        memory_mb=_number(page, "memory"),
        memory_used_mb=_number(page, "memoryused"),
        executors=len(_entries(page, "executors")),
        finished_executors=len(_entries(page, "finishedexecutors")),
    )


def read_master(endpoint: str, timeout_s: float = 2.0) -> MasterPage:
    """Return the page of the master at ``host:port`` of its web UI; raise PageError."""
    return parse_master(fetch(endpoint, timeout_s=timeout_s))


def read_worker(endpoint: str, timeout_s: float = 2.0) -> WorkerPage:
    """Return the page of the worker at ``host:port`` of its web UI; raise PageError."""
    return parse_worker(fetch(endpoint, timeout_s=timeout_s))
