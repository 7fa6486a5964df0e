"""Workers that are killed, stopped and restarted, with running processes. The worker is a process of its own here."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest
from worker_bench import Master, Separate, alive, command, ref, settings, shell, until, working

from sparkd.core import codec
from sparkd.core.values import DriverDescription, ProcessReport
from sparkd.processes import supervise
from sparkd.processes.files import Layout, write_private
from sparkd.processes.journal import Journal

LASTING = "echo $$ > pid; echo x >> ran; while [ ! -e go ]; do sleep 0.02; done; exit 5"


async def started(master: Master, work: Path, description: DriverDescription) -> int:
    master.launch(description)
    await until(lambda: (work / "pid").exists() and (work / "pid").read_text().endswith("\n"), "the command runs")
    return int((work / "pid").read_text())


@pytest.mark.parametrize(
    ("number", "code", "ends_meanwhile"), [(signal.SIGKILL, -9, True), (signal.SIGKILL, -9, False), (signal.SIGHUP, 0, False)]
)
def test_its_processes_outlive_it_and_are_adopted_with_their_exits(
    tmp_path: Path, number: signal.Signals, code: int, ends_meanwhile: bool
) -> None:
    async def story() -> None:
        master, work = await Master().start(), tmp_path / "driver-1/1"
        worker = await Separate(tmp_path, master.port).start()
        first = await master.registered()
        pid = await started(master, work, shell(LASTING))
        assert await worker.end(number) == code
        assert alive(pid)
        if ends_meanwhile:
            (work / "go").touch()
            await until(lambda: not alive(pid))
        async with working(settings(tmp_path, master.port)):
            again = await master.registered(2)
            assert again.worker.id == first.worker.id and again.worker.port == first.worker.port
            assert [(entry.ref, entry.state) for entry in again.processes] == [(ref(), "RUNNING")] or ends_meanwhile
            (work / "go").touch()
            failed = await master.report("FAILED")
            assert (failed.exit_code, failed.runs) == (5, 1) and (work / "ran").read_text() == "x\n"
        await master.stop()

    asyncio.run(story())


def test_a_stop_ends_all_and_says_so_first(tmp_path: Path) -> None:
    async def story() -> None:
        master, work = await Master().start(), tmp_path / "driver-1/1"
        worker = await Separate(tmp_path, master.port).start()
        await master.registered()
        pid = await started(master, work, shell(LASTING))
        master.launch(command("sleep", "1000", supervise=True), ref(1, "driver-2"))
        await until(lambda: (tmp_path / "driver-2/1/stdout").exists())
        assert await worker.end(signal.SIGTERM) == 0
        assert not alive(pid)
        assert "the worker was stopped" in (await master.report("FAILED")).message
        # Not FAILED: nobody wanted it to end, and the leader can start it elsewhere.
        assert "the worker was stopped" in (await master.report("RELAUNCHING", ref(1, "driver-2"))).message
        said = [message.t for message in master.heard]
        assert "decommissioned" in said and said.index("decommissioned") < len(said) - 1
        async with working(settings(tmp_path, master.port)):
            again = await master.registered(2)
            assert not again.processes and not again.worker.decommissioned
        await master.stop()

    asyncio.run(story())


def test_a_restart_by_systemd_leaves_them_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def restarting() -> str:
        return "restart"

    monkeypatch.setattr("sparkd.worker.current_job", restarting)

    async def story() -> None:
        master, work = await Master().start(), tmp_path / "driver-1/1"
        async with working(settings(tmp_path, master.port), "leave") as worker:
            await master.registered()
            pid = await started(master, work, shell(LASTING))
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: worker._end is not None and worker._end.done())
        assert alive(pid)
        async with working(settings(tmp_path, master.port)):
            (work / "go").touch()
            assert (await master.report("FAILED")).exit_code == 5
        await master.stop()

    asyncio.run(story())


def test_a_supervised_process_that_failed_meanwhile_waits_for_a_leader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "FIRST_WAIT_S", 0.05)

    async def story() -> None:
        master, work = await Master().start(), tmp_path / "driver-1/1"
        async with working(settings(tmp_path, master.port), "leave"):
            await master.registered()
            pid = await started(master, work, shell(LASTING, supervise=True))
        port = master.port
        await master.stop()
        (work / "go").touch()
        await until(lambda: not alive(pid))
        async with working(settings(tmp_path, port)) as alone:
            await until(lambda: "started again" in alone.running()[0].message)
            await asyncio.sleep(0.3)  # the pause of supervise is over
            assert (work / "ran").read_text() == "x\n"
            later = Master(number=2)
            later.drop = (ref(),)  # it was given to another worker
            await later.start(port)
            assert (await later.report("KILLED")).runs == 1
            await later.stop()
        assert (work / "ran").read_text() == "x\n"

    asyncio.run(story())


def test_a_crash_between_the_journal_and_the_start_starts_it_once(tmp_path: Path) -> None:
    async def story() -> None:
        layout = Layout(tmp_path)
        layout.make()
        description = shell("echo x >> ran")
        body = {"ref": codec.encode(ref()), "description": codec.encode(description)}
        write_private(layout.attempt(ref()) / "launch.json", body)
        journal = Journal(layout.journal)
        await journal.entry(ProcessReport(ref(), "RUNNING", 1, 64))
        await journal.close()
        (layout.attempt(ref()) / "1-1").mkdir()  # where its keeper would have been
        master = await Master().start()
        for _ in range(2):
            async with working(settings(tmp_path, master.port)):
                await master.report("FINISHED")
        assert (tmp_path / "driver-1/1/ran").read_text() == "x\n"
        await master.stop()

    asyncio.run(story())


def test_an_intent_to_end_is_carried_out_after_a_crash(tmp_path: Path) -> None:
    async def story() -> None:
        master, work = await Master().start(), tmp_path / "driver-1/1"
        async with working(settings(tmp_path, master.port), "leave"):
            await master.registered()
            pid = await started(master, work, shell(LASTING, supervise=True))
        journal = Journal(Layout(tmp_path).journal)
        await journal.end(ref(), "killed by request")
        await journal.close()
        async with working(settings(tmp_path, master.port)):
            killed = await master.report("KILLED")
            assert "killed by request" in killed.message and not alive(pid)
        await master.stop()

    asyncio.run(story())


def test_a_lost_journal_loses_no_process(tmp_path: Path) -> None:
    async def story() -> None:
        master, work = await Master().start(), tmp_path / "driver-1/1"
        async with working(settings(tmp_path, master.port), "leave"):
            await master.registered()
            pid = await started(master, work, shell(LASTING))
        Layout(tmp_path).journal.unlink()
        async with working(settings(tmp_path, master.port)):
            register = await master.registered(2)
            assert [(entry.ref, entry.state, entry.cores) for entry in register.processes] == [(ref(), "RUNNING", 1)]
            assert alive(pid)
            (work / "go").touch()
            assert (await master.report("FAILED")).exit_code == 5
        await master.stop()

    asyncio.run(story())


def test_a_killed_keeper_is_a_failure_or_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "FIRST_WAIT_S", 0.05)

    async def story() -> None:
        master = await Master().start()
        async with working(settings(tmp_path, master.port)) as worker:
            await master.registered()
            for number, supervise in ((1, False), (2, True)):
                which, work = ref(1, f"driver-{number}"), tmp_path / f"driver-{number}/1"
                master.launch(shell("echo x >> ran; test $(wc -l < ran) = 2 && exit 0; sleep 1000", supervise), which)
                await until(lambda work=work: (work / "ran").exists())  # type: ignore[misc]
                started = json.loads((worker._layout.attempt(which) / "1-1/started.json").read_text())
                os.kill(started["keeper_pid"], signal.SIGKILL)
                await until(lambda started=started: not alive(started["pid"]))  # type: ignore[misc]
            failed = await master.report("FAILED", ref(1, "driver-1"))
            assert "was killed" in failed.message and failed.exit_code is None
            assert (await master.report("FINISHED", ref(1, "driver-2"))).runs == 2
        await master.stop()

    asyncio.run(story())


def test_a_keeper_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparkd.processes.pool.KILL_GRACE_S", 0.1)

    async def story() -> None:
        master, work = await Master().start(), tmp_path / "driver-1/1"
        async with working(settings(tmp_path, master.port, driver_terminate_timeout_s=0.2)) as worker:
            await master.registered()
            pid = await started(master, work, shell(LASTING))
            record = json.loads((worker._layout.attempt(ref()) / "1-1/started.json").read_text())
            os.kill(record["keeper_pid"], signal.SIGSTOP)
            master.end()
            await master.report("KILLED")
            await until(lambda: not alive(pid))
        await master.stop()

    asyncio.run(story())


def test_retention_and_clean_up(tmp_path: Path) -> None:
    async def story() -> None:
        master = await Master().start()
        given = settings(tmp_path, master.port, retained_drivers=3, cleanup_interval_s=0.1, cleanup_ttl_s=0.5)
        async with working(given) as worker:
            await master.registered()
            master.launch(shell(LASTING), ref(1, "driver-0"))
            for number in range(1, 7):
                master.launch(shell("exit 0"), ref(1, f"driver-{number}"))
                await master.report("FINISHED", ref(1, f"driver-{number}"))
                await until(lambda: worker.journal_backlog() == 0)
            assert [entry.ref.owner for entry in worker.finished()] == ["driver-6", "driver-5", "driver-4"]
            await until(lambda: not (tmp_path / "driver-6").exists() and not (tmp_path / "driver-1").exists())
            assert (tmp_path / "driver-0/1").exists() and worker.used() == (1, 64)
            await until(lambda: worker.figures()["cleaned_directories_total"] == 6)
        await master.stop()

    asyncio.run(story())
