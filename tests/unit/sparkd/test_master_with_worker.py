"""Real masters and a real worker in one loop: what the two ends make of each other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from master_world import SECRET, World, alive, engine_of, run, until
from worker_bench import shell

from sparkd.core.states import MasterStatus
from sparkd.master import Master
from sparkd.settings import WebSettings, WorkerSettings
from sparkd.worker import Worker


@contextlib.asynccontextmanager
async def running(work_dir: Path, *masters: Master) -> AsyncIterator[Worker]:
    """A worker that follows these masters."""
    addresses = tuple((master.address().host, master.address().port) for master in masters)
    settings = WorkerSettings(
        "127.0.0.1", addresses, web=WebSettings("127.0.0.1", 0), cores=4, memory_mb=4096, work_dir=work_dir, cluster_secret=SECRET
    )
    worker = Worker(settings)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker._finish("stop")
        await task


def state(master: Master, driver_id: str) -> str:
    cluster = master.cluster()
    driver = cluster.driver(driver_id) if cluster is not None else None
    return str(driver.state) if driver is not None else ""


def test_a_driver_runs_and_its_end_is_stored(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        leader = await world.leading()
        async with running(tmp_path / "work", leader) as worker:
            good = await leader.submit(shell(f"echo once >> {tmp_path / 'ran'}"))
            bad = await leader.submit(shell("exit 3"))
            await until(lambda: state(leader, good.id) == "FINISHED" and state(leader, bad.id) == "FAILED", "both ends")
            await until(lambda: worker.journal_backlog() == 0, "acknowledged")
        assert (tmp_path / "ran").read_text() == "once\n"

    run(test)


def test_a_driver_that_ends_while_nobody_leads_is_reported_as_what_it_was(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        leader, standby = await world.leading(), await world.master()
        async with running(tmp_path / "work", leader, standby) as worker:
            gate, ran = tmp_path / "gate", tmp_path / "ran"
            answer = await leader.submit(shell(f"echo once >> {ran}; while [ ! -e {gate} ]; do sleep 0.02; done"))
            await until(lambda: state(leader, answer.id) == "RUNNING" and ran.exists(), "RUNNING")
            world.ensemble.quorum = False
            await until(lambda: leader.status() is MasterStatus.STANDBY, "nobody leads")
            gate.touch()
            await until(lambda: not worker.running(), "its end")
            world.ensemble.quorum = True
            world.ensemble.expire(engine_of(leader))
            await alive(standby)
            await until(lambda: state(standby, answer.id) == "FINISHED", "FINISHED")
            assert worker.epoch() == standby.epoch()
        assert ran.read_text() == "once\n"

    run(test)


def test_running_drivers_stay_through_hand_overs(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        leader, standby = await world.leading(), await world.master()
        async with running(tmp_path / "work", leader, standby) as worker:
            answer = await leader.submit(shell(f"echo once >> {tmp_path / 'ran'}; exec sleep 600"))
            await until(lambda: (tmp_path / "ran").exists(), "it runs")
            await leader.stop()
            await alive(standby)
            await until(lambda: state(standby, answer.id) == "RUNNING" and worker.epoch() == standby.epoch(), "confirmed")
            assert (await standby.kill_driver(answer.id)).ok
            await until(lambda: state(standby, answer.id) == "KILLED", "KILLED")
        assert (tmp_path / "ran").read_text() == "once\n"

    run(test)


def test_a_leader_that_was_suspended_goes_on_with_its_worker(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        leader = await world.leading()
        async with running(tmp_path / "work", leader):
            first = await leader.submit(shell("exit 0"))
            await until(lambda: state(leader, first.id) == "FINISHED", "FINISHED")
            world.ensemble.quorum = False
            await until(lambda: leader.status() is MasterStatus.STANDBY, "suspended")
            world.ensemble.quorum = True
            await alive(leader)
            second = await leader.submit(shell("exit 0"))
            await until(lambda: state(leader, second.id) == "FINISHED", "FINISHED")
        assert leader.figures()["elections_total"] == 1

    run(test)
