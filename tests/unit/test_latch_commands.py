"""The latchkeeper's commands as systemd calls them, with real processes and a ZooKeeper that is away: they end in time and harm nobody."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from latchkeeper import proc, record

DAEMONS = Path(__file__).resolve().parent.parent.parent / "daemons"
IGNORES = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
OBEYS = "import time; print(flush=True); time.sleep(60)"


@contextmanager
def child(code: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that plays the master."""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def silent_server() -> Iterator[str]:
    """A ZooKeeper that takes connections and says nothing, as a paused one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    return {
        "recovery_mode": "ZOOKEEPER",
        "page": "127.0.0.1:1",
        "zookeeper": "127.0.0.1:1",
        "masters": ["127.0.0.1:1", "127.0.0.1:2"],
        "record": str(tmp_path / "master.json"),
        "pid_file": str(tmp_path / "pid"),
        "fence_delay_s": 0.5,
        "fence_timeout_s": 2.0,
        "stop_timeout_s": 1.0,
    }


def call(settings: dict[str, Any] | str, tmp_path: Path, *arguments: str) -> tuple[int, str, float]:
    """Return exit code, what was said and the seconds it took."""
    config = tmp_path / "latchkeeper.json"
    config.write_text(settings if isinstance(settings, str) else json.dumps(settings))
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "latchkeeper", "--config", str(config), *arguments],
        env=os.environ | {"PYTHONPATH": str(DAEMONS)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr, time.monotonic() - began


def remember(settings: dict[str, Any], pid: int, start: int) -> record.Record:
    """Leave a record of this process."""
    held = record.Record(
        pid=pid,
        start=start,
        boot=proc.boot_id(),
        session=0x111,
        node="_c_1-latch-0000000004",
        czxid=7,
        zookeeper=settings["zookeeper"],
        zookeeper_dir="/spark",
        url="spark://h1:7077",
        recorded_at="2026-01-01T00:00:00",
    )
    record.save(settings["record"], held)
    return held


def start_of(pid: int) -> int:
    stat = proc.read_stat(pid)
    assert stat is not None
    return stat.start


def test_fence_without_a_record_or_with_a_broken_configuration_is_no_failure(tmp_path: Path, settings: dict[str, Any]) -> None:
    code, said, _ = call(settings, tmp_path, "fence")
    assert (code, "nothing recorded" in said) == (0, True)
    code, said, _ = call("{", tmp_path, "fence")
    assert (code, "not JSON" in said) == (0, True)


def test_fence_of_a_living_process_asks_nobody(tmp_path: Path, settings: dict[str, Any]) -> None:
    with child(OBEYS) as process:
        remember(settings, process.pid, start_of(process.pid))
        code, said, _ = call(settings, tmp_path, "fence")
        assert (code, "process alive" in said) == (0, True)
        assert process.poll() is None


@pytest.mark.parametrize("away", ["refused", "silent"])
def test_fence_gives_up_in_time_while_zookeeper_is_away(tmp_path: Path, settings: dict[str, Any], away: str) -> None:
    with silent_server() as endpoint:
        if away == "silent":
            settings["zookeeper"] = endpoint
        remember(settings, 2**22 + 1, 1)
        code, said, took = call(settings, tmp_path, "fence")
    assert (code, "given up" in said) == (0, True)
    assert took < settings["fence_timeout_s"] + 5


def test_the_number_of_a_dead_process_that_another_one_has_now_is_fenced_without_touching_it(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    with child(OBEYS) as process:
        remember(settings, process.pid, start_of(process.pid) - 1)
        _, said, _ = call(settings, tmp_path, "fence")
        assert "given up" in said  # it was dead, and only ZooKeeper is away
        assert process.poll() is None


@pytest.mark.parametrize("away", ["refused", "silent"])
@pytest.mark.parametrize("recorded", [True, False])
def test_stop_is_plain_while_zookeeper_is_away(tmp_path: Path, settings: dict[str, Any], away: str, recorded: bool) -> None:
    with silent_server() as endpoint, child(OBEYS) as process:
        if away == "silent":
            settings["zookeeper"] = endpoint
        if recorded:
            remember(settings, process.pid, start_of(process.pid))
        code, said, took = call(settings, tmp_path, "stop", "--pid", str(process.pid))
        assert (code, "stopped" in said) == (0, True)
        assert process.wait(5) == -signal.SIGTERM, "stopped and killed would be the hand-over, which nobody was there to take"
        assert took < 15


def test_stop_with_a_broken_configuration_still_stops(tmp_path: Path) -> None:
    with child(OBEYS) as process:
        code, said, _ = call("{", tmp_path, "stop", "--pid", str(process.pid))
        assert (code, "not JSON" in said) == (0, True)
        assert process.wait(5) == -signal.SIGTERM


def test_stop_does_not_wait_for_ever(tmp_path: Path, settings: dict[str, Any]) -> None:
    with child(IGNORES) as process:
        code, said, took = call(settings, tmp_path, "stop", "--pid", str(process.pid))
        assert (code, "did not end on SIGTERM" in said) == (0, True)
        assert process.poll() is None, "the rest is systemd's, with SIGKILL"
        assert took < settings["stop_timeout_s"] + 10


def test_stop_touches_only_the_process_that_it_was_given(tmp_path: Path, settings: dict[str, Any]) -> None:
    """The record of another process, of whatever state, is no reason to signal that one."""
    with child(OBEYS) as other, child(OBEYS) as process:
        remember(settings, other.pid, start_of(other.pid))
        call(settings, tmp_path, "stop", "--pid", str(process.pid))
        assert process.wait(5) == -signal.SIGTERM
        assert other.poll() is None


@pytest.mark.parametrize("pid", ["", "0x1", "4194999"])
def test_stop_of_nothing_is_no_failure(tmp_path: Path, settings: dict[str, Any], pid: str) -> None:
    code, said, _ = call(settings, tmp_path, "stop", "--pid", pid)
    assert (code, "nothing to stop" in said) == (0, True)


def test_run_needs_an_election_and_a_connect_string(tmp_path: Path, settings: dict[str, Any]) -> None:
    code, said, _ = call(settings | {"recovery_mode": "FILESYSTEM"}, tmp_path, "run")
    assert (code, "nothing to keep" in said) == (1, True)
    code, said, _ = call(settings | {"zookeeper": "h:x"}, tmp_path, "run")
    assert (code, "is not host:port" in said) == (1, True)


def test_guard_lets_go_where_nothing_is_known(tmp_path: Path, settings: dict[str, Any]) -> None:
    code, said, _ = call(settings, tmp_path, "guard")
    assert (code, "does not answer" in said) == (0, True)


def test_status_says_what_is_wrong_with_zookeeper(tmp_path: Path, settings: dict[str, Any]) -> None:
    held = remember(settings, 2**22 + 1, 1)
    code, said, _ = call(settings, tmp_path, "status", "--json")
    report = json.loads(said)
    assert (code, report["verdict"], report["place"]) == (0, "dead", None)
    assert report["record"]["session"] == held.session
    assert "127.0.0.1:1" in report["problem"]
    record.save(settings["record"], replace(held, boot="x"))
    assert "another boot" in call(settings, tmp_path, "status")[1]
