"""pages: what Spark writes is read; anything else is refused with a reason, in bounded time and space."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from latchkeeper import pages

MASTER: dict[str, Any] = {
    "url": "spark://h1:7077",
    "workers": [
        {
            "id": "worker-1",
            "host": "h1",
            "port": 35000,
            "webuiaddress": "http://h1:8081",
            "cores": 2,
            "coresused": 1,
            "coresfree": 1,
            "memory": 1024,
            "memoryused": 512,
            "memoryfree": 512,
            "resources": {},
            "state": "ALIVE",
            "lastheartbeat": 1700000000000,
        }
    ],
    "aliveworkers": 1,
    "cores": 2,
    "coresused": 1,
    "memory": 1024,
    "memoryused": 512,
    "activeapps": [{"id": "app-1", "name": "wc", "cores": 1, "user": "spark", "state": "RUNNING", "duration": 5}],
    "completedapps": [],
    "activedrivers": [
        {"id": "driver-1", "starttime": "1", "state": "SUBMITTED", "cores": 1, "memory": 1, "worker": "None", "mainclass": "X"}
    ],
    "completeddrivers": [],
    "status": "ALIVE",
}


def test_master() -> None:
    page = pages.parse_master(json.dumps(MASTER).encode())
    assert page.status == "ALIVE"
    assert page.alive_workers[0].cores_used == 1
    assert page.active_drivers == (pages.DriverEntry("driver-1", "SUBMITTED", "X", "None"),)
    assert page.active_apps[0].name == "wc"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "BORED"}, "status 'BORED'"),
        ({"status": None}, "field 'status'"),
        ({"url": 7}, "field 'url'"),
        ({"cores": True}, "field 'cores'"),
        ({"cores": "2"}, "field 'cores'"),
        ({"workers": {}}, "field 'workers'"),
        ({"workers": [3]}, "field 'workers'"),
        ({"workers": [{"id": 3}]}, "field 'id'"),
    ],
)
def test_master_of_another_shape(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(pages.PageError, match=reason):
        pages.parse_master(json.dumps(MASTER | change).encode())


@pytest.mark.parametrize("raw", [b"", b"<html>", b"[]", b"3", b"\xff\xfe", b"[" * 100_000])
def test_not_a_page(raw: bytes) -> None:
    with pytest.raises(pages.PageError):
        pages.parse_master(raw)
    with pytest.raises(pages.PageError):
        pages.parse_worker(raw)


def test_worker() -> None:
    raw = b'{"id":"worker-1","masterurl":"spark://h1:7077","cores":2,"coresused":0,"memory":9,"memoryused":0,"executors":[{}],"finishedexecutors":[]}'
    assert pages.parse_worker(raw) == pages.WorkerPage("worker-1", "spark://h1:7077", 2, 0, 9, 0, 1, 0)


@pytest.mark.parametrize("endpoint", ["h1", ":80", "h1:", "h1:x", "h1:0", "h1:70000", "h1:²"])
def test_endpoint(endpoint: str) -> None:
    with pytest.raises(pages.PageError, match="host:port"):
        pages.split_endpoint(endpoint)


@pytest.mark.parametrize(("host", "text"), [("h1", "h1:80"), ("10.0.0.1", "10.0.0.1:80"), ("fd00::1", "[fd00::1]:80")])
def test_an_endpoint_comes_apart_as_it_was_joined(host: str, text: str) -> None:
    assert pages.join_endpoint(host, 80) == text
    assert pages.split_endpoint(text) == (host, 80)


@contextmanager
def answers(reply: bytes, drip_s: float = 0.0) -> Iterator[str]:
    """Serve one connection with fixed bytes, one at a time when they should drip."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            try:
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    for piece in [reply] if not drip_s else [reply[i : i + 1] for i in range(len(reply))]:
                        connection.sendall(piece)
                        time.sleep(drip_s)
            except OSError:
                pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_fetch() -> None:
    body = json.dumps(MASTER).encode()
    with answers(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body) as endpoint:
        assert pages.read_master(endpoint).status == "ALIVE"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "HTTP 302"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "HTTP 500"),
        (b"SSH-2.0-OpenSSH\r\n", "BadStatusLine"),
        (b"", "RemoteDisconnected"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000, "larger than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", "IncompleteRead|not JSON"),
    ],
)
def test_fetch_refuses(reply: bytes, reason: str) -> None:
    with answers(reply) as endpoint, pytest.raises(pages.PageError, match=reason):
        pages.parse_master(pages.fetch(endpoint, limit=1000))


@pytest.mark.parametrize("reply", [b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 500, b"HTTP/1.1 200 OK\r\nX: " + b"x" * 500])
def test_a_dripping_page_is_bounded_in_time(reply: bytes) -> None:
    started = time.monotonic()
    with answers(reply, drip_s=0.05) as endpoint, pytest.raises(pages.PageError, match="longer than"):
        pages.fetch(endpoint, timeout_s=1.2)
    assert time.monotonic() - started < 5


def test_a_silent_page_is_bounded_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(pages.PageError):
        started = time.monotonic()
        pages.fetch(f"127.0.0.1:{server.getsockname()[1]}", timeout_s=0.3)
    assert time.monotonic() - started < 5
