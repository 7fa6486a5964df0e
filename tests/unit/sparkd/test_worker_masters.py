"""Whom a worker obeys: epochs, foreign clusters, replay until acknowledged, drops, decommissioning. Masters are scripted."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker_bench import Master, command, ref, settings, shell, until, working

from sparkd.commands.reset import reset_worker
from sparkd.core.values import Epoch
from sparkd.processes import supervise
from sparkd.processes.files import Layout, State, WorkDirError, load_state, save_state
from sparkd.rpc import messages as wire
from sparkd.worker import Worker, run_worker, spark_lines
from sparkd.worker_links import backoff, judge


def test_it_registers_with_all_it_has_and_keeps_its_id(tmp_path: Path) -> None:
    async def story() -> None:
        master = await Master(number=5).start()
        ids: list[tuple[str, int]] = []
        for _ in range(2):
            async with working(settings(tmp_path, master.port, id_pattern="w-%s-%s-%d")) as worker:
                register = await master.registered(len(ids) + 1)
                await until(lambda worker=worker: worker.state() == "ALIVE")  # type: ignore[misc]
                assert register.seen == Epoch("c1", 5) and register.worker.cores == 8 and register.worker.memory_mb == 8192
                assert worker.address() == ("127.0.0.1", register.worker.port) and worker.leader() is not None
                ids.append((register.worker.id, register.worker.port))
        assert ids[0] == ids[1] and ids[0][0].startswith("w-2")
        assert load_state(Layout(tmp_path)) == State(ids[0][0], Epoch("c1", 5), ids[0][1])
        await master.stop()

    asyncio.run(story())


def test_the_highest_epoch_leads_and_older_ones_are_refused(tmp_path: Path) -> None:
    async def story() -> None:
        old, new = await Master(number=5).start(), await Master(number=7).start()
        new.leads = False
        async with working(settings(tmp_path, old.port, new.port)) as worker:
            await old.registered()
            await until(lambda: new.connections)
            new.send(wire.Leading(new.epoch))
            await new.registered()
            await until(lambda: worker.state() == "ALIVE" and worker.epoch() == new.epoch)
            old.launch(command("touch", str(tmp_path / "old")))  # it does not know yet that it was deposed
            old.send(wire.Leading(old.epoch))
            new.send(wire.LaunchDriver(old.epoch, ref(3), command("touch", str(tmp_path / "old"))))
            new.launch(shell("exit 0"), ref(2))
            await new.report("FINISHED", ref(2))
            await until(lambda: worker.figures()["refused_stale_commands_total"] == 3)
            assert not (tmp_path / "old").exists() and len(old.registers) == 1
        assert load_state(Layout(tmp_path)).epoch == new.epoch  # type: ignore[union-attr]
        await old.stop()
        await new.stop()

    asyncio.run(story())


def test_the_epoch_is_remembered_over_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        Layout(tmp_path).make()
        save_state(Layout(tmp_path), State("worker-1", Epoch("c1", 9), 0))
        master = await Master(number=8).start()
        async with working(settings(tmp_path, master.port)) as worker:
            await until(lambda: worker.figures()["refused_stale_commands_total"] > 0)
            assert worker.state() == "DISCONNECTED" and not master.registers
        await master.stop()

    asyncio.run(story())


def test_a_foreign_cluster_is_refused_and_the_reset_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        master = await Master("c1", 5).start()
        async with working(settings(tmp_path, master.port)):
            await master.registered()
        await master.stop()
        foreign = await Master("c2", 99).start()
        async with working(settings(tmp_path, foreign.port)) as worker:
            await until(worker.problems)
            assert f"sparkd reset-worker --work-dir {tmp_path}" in worker.problems()[0]
            assert "leads cluster c2, but this worker belongs to c1" in caplog.text
            foreign.launch(command("touch", str(tmp_path / "ran")))
            await until(lambda: worker.figures()["refused_stale_commands_total"] > 0)
            assert worker.state() == "DISCONNECTED" and not foreign.registers and not (tmp_path / "ran").exists()
        assert await asyncio.to_thread(reset_worker, ["--work-dir", str(tmp_path)]) == 0
        async with working(settings(tmp_path, foreign.port)):
            assert (await foreign.registered()).seen == foreign.epoch
        await foreign.stop()

    asyncio.run(story())


def test_entries_are_replayed_until_a_leader_acknowledges_them(tmp_path: Path) -> None:
    async def story() -> None:
        first = await Master(number=1).start()
        first.acknowledges = False
        async with working(settings(tmp_path, first.port, heartbeat_s=0.1)) as worker:
            await first.registered()
            first.launch(shell("exit 3"))
            failed = await first.report("FAILED")
            await until(lambda: first.entries().count(failed) > 1, "sent again without a word")
            assert worker.journal_backlog() == 2
            worker._accepted = False  # nobody to wait for at the stop
        await first.stop()
        second = await Master(number=2).start()
        async with working(settings(tmp_path, second.port)) as worker:
            told = (await second.registered()).processes
            assert [(entry.state, entry.seq) for entry in told] == [("RUNNING", 1), ("FAILED", 2)]
            await until(lambda: worker.journal_backlog() == 0)
            second.send(wire.Leading(second.epoch))
            assert (await second.registered(2)).processes == ()
            assert [entry.state for entry in worker.finished()] == ["FAILED"]
        await second.stop()

    asyncio.run(story())


def test_an_attempt_is_started_once_however_often_it_is_asked_for(tmp_path: Path) -> None:
    async def story() -> None:
        master = await Master().start()
        async with working(settings(tmp_path, master.port)):
            await master.registered()
            for _ in range(3):
                master.launch(shell("echo x >> ran; while [ ! -e go ]; do sleep 0.02; done"))
            await until(lambda: (tmp_path / "driver-1/1/ran").exists())
            await until(lambda: sum(entry.state == "RUNNING" for entry in master.entries()) >= 3)
            (tmp_path / "driver-1/1/go").touch()
            finished = await master.report("FINISHED")
            master.launch(shell("echo x >> ran"))
            again = await until(lambda: next((entry for entry in master.entries() if entry.state == "FINISHED" and not entry.seq), None))
            assert again.ended_ms == finished.ended_ms
        assert (tmp_path / "driver-1/1/ran").read_text() == "x\n"
        await master.stop()

    asyncio.run(story())


def test_a_dropped_attempt_is_ended_before_it_is_told_of_and_before_the_next_starts(tmp_path: Path) -> None:
    async def story() -> None:
        first = await Master(number=1).start()
        async with working(settings(tmp_path, first.port), "leave"):
            await first.registered()
            first.launch(
                shell("trap 'sleep 0.2; echo old over >> ../../order; exit 0' TERM; touch going; while :; do sleep 0.02; done", True)
            )
            await until(lambda: (tmp_path / "driver-1/1/going").exists())
        await first.stop()
        second = await Master(number=2).start()
        second.drop = (ref(1),)
        async with working(settings(tmp_path, second.port)):
            register = await second.registered()
            assert [entry.state for entry in register.processes] == ["RUNNING"]
            second.launch(shell("echo new >> ../../order"), ref(2))
            killed = await second.report("KILLED")
            await second.report("FINISHED", ref(2))
            assert "no longer wanted" in killed.message and killed.runs == 1
            later = [entry.state for entry in second.entries() if entry.ref == ref(1)]
            assert later == ["RUNNING", "KILLED"]
        assert (tmp_path / "order").read_text() == "old over\nnew\n"
        await second.stop()

    asyncio.run(story())


def test_it_never_gives_up_and_follows_a_master_that_comes_late(tmp_path: Path) -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        async with working(settings(tmp_path, port)) as worker:
            await until(worker.problems)
            master = await Master().start(port)
            await master.registered()
            await until(lambda: worker.state() == "ALIVE" and not worker.problems())
            await master.stop()
            await until(lambda: worker.state() == "DISCONNECTED")
            later = await Master(number=2).start(port)
            await later.registered()
            await until(lambda: worker.state() == "ALIVE")
            await later.stop()

    asyncio.run(story())


def test_a_refused_worker_asks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparkd.worker.REFUSED_AGAIN_S", 0.05)

    async def story() -> None:
        master = await Master().start()
        master.accepts = False
        async with working(settings(tmp_path, master.port)) as worker:
            await master.registered()
            master.send(wire.Refused("the address is taken"))
            await until(lambda: any("the address is taken" in text for text in worker.problems()))
            master.accepts = True
            await master.registered(2)
            await until(lambda: worker.state() == "ALIVE" and not worker.problems())
        await master.stop()

    asyncio.run(story())


def test_decommissioning_is_told_and_what_runs_goes_on(tmp_path: Path) -> None:
    async def story() -> None:
        master = await Master().start()
        async with working(settings(tmp_path, master.port)) as worker:
            await master.registered()
            master.launch(shell("while [ ! -e go ]; do sleep 0.02; done; exit 0"))
            await master.report("RUNNING")
            master.send(wire.Decommission(master.epoch))
            await until(lambda: any(isinstance(message, wire.Decommissioned) for message in master.heard))
            assert worker.state() == "DECOMMISSIONED"
            master.send(wire.Leading(master.epoch))
            assert (await master.registered(2)).worker.decommissioned
            await until(lambda: (tmp_path / "driver-1/1").exists())
            (tmp_path / "driver-1/1/go").touch()
            await master.report("FINISHED")
        await master.stop()

    asyncio.run(story())


def test_supervise_waits_for_a_leader_that_was_not_heard_for_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "FIRST_WAIT_S", 0.05)

    async def story() -> None:
        master = await Master().start()
        async with working(settings(tmp_path, master.port, worker_timeout_s=0.1)) as worker:
            await master.registered()
            master.launch(shell("echo x >> ran; while [ ! -e go$(wc -l < ran) ]; do sleep 0.02; done; exit 1", supervise=True))
            work = tmp_path / "driver-1/1"
            await until(lambda: (work / "ran").exists())
            port = master.port
            await master.stop()
            await until(lambda: not worker._pool.leader_heard.is_set())
            (work / "go1").touch()
            await until(lambda: "started again" in worker.running()[0].message)
            await asyncio.sleep(0.3)  # the pause of supervise is over
            assert (work / "ran").read_text() == "x\n"
            again = await Master(number=2).start(port)
            await until(lambda: (work / "ran").read_text() == "x\nx\n")
            await until(lambda: any(entry.runs == 2 for entry in again.entries()))
            await again.stop()

    asyncio.run(story())


def test_nothing_unjournaled_runs_and_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparkd.processes.pool.RETRY_S", 0.02)
    real = os.pwrite

    def full(fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def story() -> None:
        master = await Master().start()
        async with working(settings(tmp_path, master.port)) as worker:
            await master.registered()
            monkeypatch.setattr(os, "pwrite", full)
            master.launch(command("touch", str(tmp_path / "ran")))
            error = await master.report("SUBMITTED")
            assert "No space left on device" in error.message and error.seq == 0
            assert any("no work is taken" in text for text in worker.problems())
            monkeypatch.setattr(os, "pwrite", real)
            await until(lambda: worker.journal_backlog() == 0 and not worker.running() and not worker.problems())
            master.launch(shell("exit 0"), ref(2))
            await master.report("FINISHED", ref(2))
        assert not (tmp_path / "ran").exists()
        await master.stop()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("change", "code", "why"),
    [({}, 2, "another worker"), ({"port": -1}, 1, "SPARK_WORKER_PORT.*in use")],
)
def test_what_keeps_it_from_starting_is_told(
    tmp_path: Path, change: dict[str, int], code: int, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with working(settings(tmp_path / "a", 1)) as worker:
            taken = {"port": worker.address()[1]} if change else {}
            assert await run_worker(settings(tmp_path / ("b" if change else "a"), 1, **taken)) == code
            assert re.search(why, caplog.text)

    asyncio.run(story())


def test_missing_resources_are_errors(tmp_path: Path) -> None:
    async def story() -> None:
        master = await Master().start()
        async with working(settings(tmp_path, master.port)) as worker:
            await master.registered()
            master.launch(command("true", resource="/no/such/app.jar", supervise=True))
            error = await master.report("ERROR")
            assert error.message == "cannot fetch /no/such/app.jar: there is no such file on this worker"
            master.launch(command("/no/such/program"), ref(2))
            assert "cannot run /no/such/program" in (await master.report("ERROR", ref(2))).message
            (tmp_path / "tool").write_text("#!/bin/sh\necho from tool\n")
            (tmp_path / "tool").chmod(0o755)
            master.launch(command("./tool", resource=str(tmp_path / "tool"), environment={"S": "secret"}), ref(3))
            await master.report("FINISHED", ref(3))
            assert worker.read_log("driver-1", 3, "stdout", None, 99).text == b"from tool\n"
            assert worker.description("driver-1") == {"name": "test", "kind": "command", "command": "./tool"}
            for bad in (("driver-9", 1, "stdout"), ("..", 1, "stdout"), ("driver-1/..", 1, "stdout"), ("driver-1", 77, "stdout")):
                with pytest.raises(KeyError):
                    worker.read_log(*bad, None, 10)
            assert worker.description("../..") == {}
        left = b"".join(path.read_bytes() for path in (tmp_path / ".sparkd").rglob("*") if path.is_file())
        assert b"secret" not in left
        await master.stop()

    asyncio.run(story())


@given(st.integers(0, 100), st.booleans(), st.floats(0, 1, exclude_max=True))
def test_backoff_is_bounded(attempt: int, urgent: bool, share: float) -> None:
    pause = backoff(attempt, urgent, share)
    assert 0.05 <= pause <= (3.0 if urgent else 15.0)
    assert attempt or pause < 0.16


def test_epochs_compare_only_within_a_cluster() -> None:
    assert judge(None, Epoch("a", 1)) == "obey"
    assert [judge(Epoch("a", 5), Epoch("a", number)) for number in (4, 5, 6)] == ["stale", "obey", "obey"]
    assert judge(Epoch("a", 5), Epoch("b", 99)) == "foreign"


def test_lines_of_spark_by_its_jars(tmp_path: Path) -> None:
    (tmp_path / "jars").mkdir()
    for name in ("spark-core_2.13-4.3.0.jar", "spark-sql_2.13-4.3.0.jar", "spark-core_2.13-4.3.0-tests.jar"):
        (tmp_path / "jars" / name).touch()
    assert spark_lines(tmp_path) == ("4.3",) and spark_lines(None) == ()


def test_a_worker_takes_no_work_directory_by_halves(tmp_path: Path) -> None:
    (tmp_path / ".sparkd").mkdir()
    (tmp_path / ".sparkd/state.json").write_text("{")
    for _ in range(2):  # the lock is let go of
        with pytest.raises(WorkDirError, match="cannot be read"):
            Worker(settings(tmp_path, 1))
