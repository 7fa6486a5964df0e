"""What only a recovery directory has: a journal, full disks, locks that do not hold."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from coordination_suite import Master, contents, refuses, until

from sparkd.coordination import directory, files, filesystem, inspect
from sparkd.coordination.api import NotLeader, StoreUnavailable
from sparkd.coordination.counter import Counter
from sparkd.coordination.directory import RecoveryDirectory
from sparkd.coordination.filesystem import FilesystemEngine
from sparkd.coordination.none import NoneEngine
from sparkd.coordination.store import Known
from sparkd.core.effects import Write
from sparkd.settings import RecoverySettings


async def join(path: Path, name: str) -> Master:
    master = Master(name)
    master.engine = FilesystemEngine(RecoverySettings(mode="FILESYSTEM", directory=path), master.clock)
    await master.engine.start(master.address, master)
    return master


async def lead(path: Path, name: str = "a") -> Master:
    master = await join(path, name)
    await master.hears("elected")
    await master.engine.load()
    return master


def run(steps: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(steps())


def journals(path: Path) -> list[str]:
    return [entry.name for entry in directory.journals(path)]


def test_a_full_disk_acknowledges_nothing_and_keeps_the_leader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps() -> None:
        a = await lead(tmp_path)
        await a.store("r1", ("driver", "d", {"n": 1}))
        real = os.write

        def half(handle: int, data: Any) -> int:
            real(handle, bytes(data[: len(data) // 2]))
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("sparkd.coordination.directory.os.write", half)
        assert "No space left" in await refuses(a.engine.commit([Write("driver", "d", {"n": 2})], "r2"), StoreUnavailable)
        assert "No space left" in await refuses(a.engine.commit([Write("driver", "d", {"n": 3})], "r3"), StoreUnavailable)
        monkeypatch.setattr("sparkd.coordination.directory.os.write", real)
        await a.store("r4", ("driver", "e", {"n": 4}))
        assert contents(await a.engine.load()) == [("driver", "d", {"n": 1}), ("driver", "e", {"n": 4})]
        assert a.names() == ["elected"]
        await a.engine.close()
        b = await lead(tmp_path, "b")
        loaded = await b.engine.load()
        assert contents(loaded) == [("driver", "d", {"n": 1}), ("driver", "e", {"n": 4})]
        assert loaded.set_aside == (), "what a full disk left of a write was taken back"
        await b.engine.close()

    run(steps)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_directory_that_is_not_ones_own_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    async def steps() -> None:
        a = await join(tmp_path / "recovery", "a")
        assert str(tmp_path) in str(await a.hears("misconfigured"))

    run(steps)


def test_a_path_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def steps() -> None:
        a = await join(tmp_path / "file", "a")
        said = str(await a.hears("misconfigured"))
        assert str(tmp_path / "file") in said
        assert "spark.deploy.recoveryDirectory" in said
        await a.engine.close()

    run(steps)


def test_the_files_of_records_follow_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "CHECKPOINT_BYTES", 1000)

    async def steps() -> None:
        a = await lead(tmp_path)
        for number in range(30):
            await a.store(f"r{number}", ("driver", f"d{number % 7}", {"n": number, "text": "x" * 200}), ("driver", "gone", {}))
        await a.store("last", ("driver", "gone", None))
        assert journals(tmp_path)
        await until(lambda: not journals(tmp_path)[1:], "old journals go")
        assert (tmp_path / "records" / "driver" / "d0").exists()
        expected = [("driver", f"d{n}", {"n": 28 + n if n < 2 else 21 + n, "text": "x" * 200}) for n in range(7)]
        assert sorted(contents(await a.engine.load()), key=lambda item: item[1]) == expected
        await a.engine.close()
        b = await lead(tmp_path, "b")
        assert sorted(contents(await b.engine.load()), key=lambda item: item[1]) == expected
        await b.engine.close()

    run(steps)


def test_commits_go_on_while_files_are_written_slowly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "CHECKPOINT_BYTES", 1000)
    replace = files.replace

    def slow(*arguments: Any, **named: Any) -> None:
        if "records" in str(arguments[0]):
            time.sleep(0.05)
        replace(*arguments, **named)

    monkeypatch.setattr(files, "replace", slow)

    async def steps() -> None:
        a = await lead(tmp_path)
        for number in range(100):
            await a.store(f"r{number}", ("driver", f"d{number}", {"text": "x" * 200}))
        await asyncio.sleep(0.7)  # by now they are being written
        began = time.monotonic()
        await a.store("now", ("driver", "now", {}))
        assert time.monotonic() - began < 2
        await a.engine.close()
        b = await lead(tmp_path, "b")
        assert len((await b.engine.load()).records) == 101
        await b.engine.close()

    run(steps)


def test_a_damaged_journal_is_kept_and_reported(tmp_path: Path) -> None:
    async def steps() -> None:
        a = await lead(tmp_path)
        await a.store("r1", ("driver", "d", {"n": 1}))
        await a.store("r2", ("driver", "d", {"n": 2}))
        await a.engine.close()
        [name] = journals(tmp_path)
        raw = (tmp_path / name).read_bytes()[:-10]
        (tmp_path / name).write_bytes(raw)
        b = await join(tmp_path, "b")
        await b.hears("elected")
        loaded = await b.engine.load()
        assert contents(loaded) == [("driver", "d", {"n": 1})]
        [aside] = loaded.set_aside
        assert (aside.kind, aside.id) == ("journal", name)
        await b.store("r3", ("driver", "e", {"n": 3}))
        await until(Path(aside.where).exists, "it is set aside")
        assert Path(aside.where).read_bytes() == raw
        await b.engine.close()

    run(steps)


def test_a_directory_in_a_records_place_harms_no_other(tmp_path: Path) -> None:
    async def steps() -> None:
        a = await lead(tmp_path)
        await a.store("r1", ("driver", "d", {"n": 1}))
        await a.engine.close()
        (tmp_path / "records" / "driver" / "odd" / "inside").mkdir(parents=True)
        b = await join(tmp_path, "b")
        await b.hears("elected")
        loaded = await b.engine.load()
        assert contents(loaded) == [("driver", "d", {"n": 1})]
        [aside] = loaded.set_aside
        assert (aside.id, aside.why) == ("odd", "a directory")
        assert (Path(aside.where) / "inside").is_dir()
        assert (await b.engine.load()).set_aside[0].where == aside.where
        await b.engine.close()

    run(steps)


def test_a_raised_counter_deposes_even_with_the_lock(tmp_path: Path) -> None:
    """As on a file system whose locks do not hold: the other one raised the counter, so this one changes nothing more, and says why."""

    async def steps() -> None:
        a = await lead(tmp_path)
        await a.store("r1", ("driver", "d", {"n": 1}))
        number = a.last("elected").number
        (tmp_path / "epoch").write_text(json.dumps({"number": number + 1}))
        await refuses(a.engine.commit([Write("driver", "d", {"n": 2})], "r2"), NotLeader)
        assert a.names() == ["elected", "deposed", "misconfigured"]
        assert "locks do not hold" in str(a.last("misconfigured"))
        await a.engine.close()

    run(steps)


def test_a_lock_that_was_removed_deposes(tmp_path: Path) -> None:
    async def steps() -> None:
        a = await lead(tmp_path)
        (tmp_path / "lock").unlink()
        await a.hears("misconfigured")
        assert a.names() == ["elected", "deposed", "misconfigured"]
        await a.engine.close()

    run(steps)


def leader_file(path: Path, beat: int, boot: str = "another-boot") -> None:
    fields = {"host": "other", "port": 7077, "web_ui": "", "rest": "", "owner": f"{boot} 1 2", "beat": beat}
    (path / "leader").write_text(json.dumps(fields))


def test_another_host_that_leads_in_spite_of_our_lock_is_named(tmp_path: Path) -> None:
    async def steps() -> None:
        leader_file(tmp_path, 1)
        a = await join(tmp_path, "a")
        await asyncio.sleep(0.5)
        leader_file(tmp_path, 2)
        error = await a.hears("misconfigured")
        assert "spark://other:7077 leads" in str(error)
        assert a.names() == ["misconfigured"]
        await a.engine.close()

    run(steps)


def test_another_host_that_died_a_moment_ago_is_succeeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "BEAT_S", 0.2)

    async def steps() -> None:
        leader_file(tmp_path, 1)
        a = await lead(tmp_path)
        assert a.names() == ["elected"]
        await a.engine.close()
        assert not (tmp_path / "leader").exists(), "who leaves takes its name off"

    run(steps)


CHILD = """
import asyncio, sys
from pathlib import Path
from sparkd.coordination.api import MasterAddress
from sparkd.coordination.filesystem import FilesystemEngine
from sparkd.core.effects import Write
from sparkd.settings import RecoverySettings

class Listener:
    elected = None
    def __getattr__(self, name):
        return lambda *a: name == "on_elected" and self.elected.set()

async def main():
    Listener.elected = asyncio.Event()
    engine = FilesystemEngine(RecoverySettings(mode="FILESYSTEM", directory=Path(sys.argv[1])))
    await engine.start(MasterAddress("child", 7077), Listener())
    await Listener.elected.wait()
    await engine.load()
    await engine.commit([Write("driver", "d", {"n": 1})], "r1")
    print("stored", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_a_killed_leader_is_succeeded_at_once(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)

    async def steps() -> None:
        assert child.stdout is not None
        assert await asyncio.to_thread(child.stdout.readline) == "stored\n"
        b = await join(tmp_path, "b")
        await until(lambda: any(what == "leader" and value and value.host == "child" for what, value in b.heard), "b knows the child")
        assert b.names() == []
        child.kill()
        await b.hears("elected")
        assert contents(await b.engine.load()) == [("driver", "d", {"n": 1})]
        await b.engine.close()

    try:
        run(steps)
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def test_a_hung_file_system_suspends_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "SESSION_S", 0.8)
    real = Counter.still
    hung = [False]

    def still(counter: Counter, epoch: Any) -> bool:
        while hung[0]:
            time.sleep(0.02)
        return real(counter, epoch)

    monkeypatch.setattr(Counter, "still", still)

    async def steps() -> None:
        a = await lead(tmp_path)
        hung[0] = True
        await a.hears("suspended")
        assert a.engine.lease_left_s() <= 0
        hung[0] = False
        await a.hears("resumed")
        await a.store("r", ("driver", "d", {}))
        await a.engine.close()
        assert a.names()[-1] == "deposed"
        assert a.count("elected") == 1

    run(steps)


def test_two_processes_with_one_state_directory(tmp_path: Path) -> None:
    async def steps() -> None:
        masters = []
        for name in ("a", "b"):
            master = Master(name)
            master.engine = NoneEngine(RecoverySettings(mode="NONE", state_dir=tmp_path))
            await master.engine.start(master.address, master)
            masters.append(master)
            await asyncio.sleep(0.2)
        a, b = masters
        assert [a.names(), b.names()] == [["elected"], []]
        await a.engine.close()
        second = await b.hears("elected")
        assert second.number == a.last("elected").number + 1
        assert second.cluster_id == a.last("elected").cluster_id
        await b.engine.close()

    run(steps)


def test_the_counter_goes_on_above_a_floor(tmp_path: Path) -> None:
    from sparkd.coordination.epoch import ClusterMark

    counter = Counter(tmp_path)
    assert counter.lock.acquire()
    counter.seed(ClusterMark("carried", 1000))
    assert counter.raise_it().number == 1001
    assert counter.raise_it().number == 1002
    assert not Counter(tmp_path).lock.acquire()
    counter.lock.release()
    assert Counter(tmp_path).lock.acquire()


def test_what_is_stored_can_be_read_without_leading(tmp_path: Path) -> None:
    store = RecoveryDirectory(tmp_path, 1)
    store.load()
    known = Known()
    store.append(
        known.encode([Write("driver", "d", {"name": "x", "environment": {"A": "b"}}), Write("worker", "w", {"state": "ALIVE"})]), "r"
    )
    state = inspect.read(RecoverySettings(mode="FILESYSTEM", directory=tmp_path))
    assert [(row["kind"], row["id"]) for row in state["records"]] == [("driver", "d"), ("worker", "w")]
    shown = inspect.render(state)
    assert "state=ALIVE" in shown
    assert "b" not in str(state["records"][0]["record"]["environment"].values()).replace(inspect.HIDDEN, "").replace("dict_values", "")
    (tmp_path / "records" / "driver").mkdir()
    (tmp_path / "records" / "driver" / "bad").write_bytes(b"?")
    state = inspect.read(RecoverySettings(mode="FILESYSTEM", directory=tmp_path))
    assert [item["id"] for item in state["unreadable"]] == ["bad"]
    assert (tmp_path / "records" / "driver" / "bad").exists(), "looking changes nothing"
    store.end()
