"""A handed-over master is paused, loses its latch, and dies: whatever happens after the pause, it never runs again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from latchkeeper import proc, record, stop, zk
from latchkeeper.config import Config
from latchkeeper.process import Process
from latchkeeper.rules import Latch

OWN = Latch("_c_1-latch-0000000003", owner=111, czxid=30, version=0)
NEXT = Latch("_c_2-latch-0000000004", owner=222, czxid=31, version=0)
#: Says so in a file if it is ever woken.
MASTER = """
import pathlib, signal, sys, time
signal.signal(signal.SIGCONT, lambda *_: pathlib.Path(sys.argv[1]).write_text("woken"))
print(flush=True)
while True:
    time.sleep(1)
"""


class Ensemble:
    """ZooKeeper's part, and the other master's: what is deleted, and what happens then."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.deleted: list[Latch] = []
        self.paused_at_delete = False
        self.failure: Exception | None = None
        self.takes_over = True
        self.latches_now = [OWN, NEXT]

    def __call__(self, connect: str, directory: str, timeout_s: float) -> Ensemble:
        return self

    def __enter__(self) -> Ensemble:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def latches(self) -> list[Latch]:
        return self.latches_now

    def delete(self, latch: Latch) -> bool:
        self.paused_at_delete = proc.all_stopped(self.pid)
        if self.failure:
            raise self.failure
        self.deleted.append(latch)
        return True

    def statuses(self, endpoints: tuple[str, ...], timeout_s: float) -> dict[str, str]:
        return dict.fromkeys(endpoints, "ALIVE" if self.deleted and self.takes_over else "STANDBY")


class World:
    """A real process that leads, and the ensemble above."""

    def __init__(self, directory: Path, process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
        self.process, self.woken = process, directory / "woken"
        self.ensemble = Ensemble(process.pid)
        monkeypatch.setattr(zk, "Line", self.ensemble)
        monkeypatch.setattr(zk, "connected_sessions", lambda _: {111, 222})
        monkeypatch.setattr(stop, "statuses", self.ensemble.statuses)
        self.config = Config(
            recovery_mode="ZOOKEEPER",
            page="h1:8080",
            zookeeper="h1:2181",
            masters=("h1:8080", "h2:8080"),
            record=str(directory / "master.json"),
            handover_timeout_s=0.5,
            stop_timeout_s=1.0,
        )
        held = record.Record(
            pid=process.pid,
            start=Process(process.pid).start,
            boot=proc.boot_id(),
            session=OWN.owner,
            node=OWN.name,
            czxid=OWN.czxid,
            zookeeper="h1:2181",
            zookeeper_dir="/spark",
            url="spark://h1:7077",
            recorded_at="2026-01-01T00:00:00",
        )
        record.save(self.config.record, held)

    def stop(self) -> str:
        """Stop it; the process must be gone afterwards and must not have been woken."""
        said = stop.stop(self.config, self.process.pid)
        self.code = self.process.wait(5)
        assert not self.woken.exists()
        return said


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with subprocess.Popen([sys.executable, "-c", MASTER, str(tmp_path / "woken")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield World(tmp_path, process, monkeypatch)
        finally:
            process.kill()


def test_leadership_goes_over_before_the_process_ends(world: World) -> None:
    assert world.stop() == "handed over"
    assert world.ensemble.deleted == [OWN]
    assert world.ensemble.paused_at_delete, "a leader that still ran would work on beside the new one"
    assert world.code == -signal.SIGKILL


@pytest.mark.parametrize("failure", [zk.Unavailable("the session is LOST"), OSError("no"), RuntimeError("a bug")])
def test_a_failure_after_the_pause_ends_with_its_death(world: World, failure: Exception) -> None:
    world.ensemble.failure = failure
    assert world.stop() == "handed over"
    assert world.code == -signal.SIGKILL


def test_when_nobody_takes_over_it_dies_in_time(world: World) -> None:
    world.ensemble.takes_over = False
    began = time.monotonic()
    assert world.stop() == "handed over"
    assert world.code == -signal.SIGKILL
    assert time.monotonic() - began < 5


def without_a_record(world: World) -> None:
    Path(world.config.record).unlink()


def without_another_latch(world: World) -> None:
    world.ensemble.latches_now = [OWN]


def as_a_standby(world: World) -> None:
    world.ensemble.latches_now = [Latch("_c_2-latch-0000000001", owner=222, czxid=1, version=0), OWN]


def with_another_process_recorded(world: World) -> None:
    held = record.load(world.config.record)
    assert held is not None
    record.save(world.config.record, record.Record(**{**vars(held), "start": held.start + 1}))


@pytest.mark.parametrize("spoil", [without_a_record, without_another_latch, as_a_standby, with_another_process_recorded])
def test_where_a_hand_over_is_not_possible_it_is_neither_paused_nor_its_latch_touched(
    world: World, spoil: Callable[[World], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop, "JOIN_S", 0.3)
    spoil(world)
    assert world.stop() == "stopped"
    assert world.ensemble.deleted == []
    assert world.code == -signal.SIGTERM
