"""The notification protocol, against a socket of our own."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparkd.systemd import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def test_states_are_told(manager: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()})
    notifier.ready("STANDBY, leader: none")
    assert manager.recv(1000) == b"READY=1\nSTATUS=STANDBY, leader: none"
    notifier.status("two\nlines=1")
    assert manager.recv(1000) == b"STATUS=two lines=1", "a line break would begin another assignment"
    notifier.stopping()
    assert manager.recv(1000) == b"STOPPING=1"
    notifier.close()
    notifier.status("after the end")


def test_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        name = f"sparkd-test-{os.getpid()}"
        listening.bind("\0" + name)
        listening.settimeout(5)
        Notifier({"NOTIFY_SOCKET": "@" + name}).ready("x")
        assert listening.recv(1000).startswith(b"READY=1")


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    for value in ("", "relative", str(tmp_path / "gone")):
        notifier = Notifier({"NOTIFY_SOCKET": value} if value else {})
        notifier.ready("x")
        notifier.close()


def test_the_watchdog_is_answered_by_the_loop(manager: socket.socket) -> None:
    manager.setblocking(False)

    async def run() -> int:
        notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "60000", "WATCHDOG_PID": str(os.getpid())})
        notifier.watch(asyncio.get_running_loop())
        answers = 0
        while answers < 3:
            await asyncio.sleep(0.005)
            try:
                assert manager.recv(100) == b"WATCHDOG=1"
                answers += 1
            except BlockingIOError:
                pass
        notifier.close()
        return answers

    assert asyncio.run(asyncio.wait_for(run(), 10)) == 3


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "10000000"}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_interval(environment: dict[str, str], seconds: float | None) -> None:
    assert Notifier(environment).watchdog_s == seconds
