"""A worker's processes, commanded by a scripted master: launch, supervise, end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from worker_bench import Master, command, ref, settings, shell, until, working

from sparkd.processes import supervise


def test_a_command_runs_and_its_exit_is_reported(tmp_path: Path) -> None:
    async def story() -> None:
        master = await Master().start()
        async with working(settings(tmp_path, master.port)) as worker:
            await master.registered()
            master.launch(shell("echo out; echo err >&2; exit 3"))
            started, failed = await master.report("RUNNING"), await master.report("FAILED")
            assert 0 < started.seq < failed.seq
            assert (failed.exit_code, failed.runs, failed.message) == (3, 1, "exit code 3")
            assert worker.read_log("driver-1", 1, "stdout", None, 100).text == b"out\n"
            assert worker.read_log("driver-1", 1, "stderr", None, 100).text == b"err\n"
            await until(lambda: worker.journal_backlog() == 0, "acknowledged")
            assert not worker.running() and worker.used() == (0, 0)
        await master.stop()

    asyncio.run(story())


def test_supervise_starts_again_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "FIRST_WAIT_S", 0.05)

    async def story() -> None:
        master = await Master().start()
        async with working(settings(tmp_path, master.port)):
            await master.registered()
            master.launch(shell("test -e again && exit 0; touch again; exit 1", supervise=True))
            finished = await master.report("FINISHED")
            assert (finished.exit_code, finished.runs) == (0, 2)
        await master.stop()

    asyncio.run(story())


def test_an_end_kills_and_is_reported_killed(tmp_path: Path) -> None:
    async def story() -> None:
        master = await Master().start()
        async with working(settings(tmp_path, master.port)):
            await master.registered()
            master.launch(command("sleep", "1000", supervise=True))
            await until(lambda: (tmp_path / "driver-1/1/stdout").exists())
            master.end()
            killed = await master.report("KILLED")
            assert killed.exit_code is None and "killed by request" in killed.message
            master.end(ref(7, "driver-7"))
            never = await master.report("KILLED", ref(7, "driver-7"))
            assert "never started here" in never.message
        await master.stop()

    asyncio.run(story())
