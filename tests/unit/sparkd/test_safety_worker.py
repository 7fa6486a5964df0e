"""Two masters that lead, or say so, at the same time: a worker's epoch never falls, and no old leader takes the new one's place."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from worker_bench import Master, ref, settings, shell, until, working

from sparkd import worker as module
from sparkd.core.values import Epoch
from sparkd.processes.files import Layout, State, load_state, save_state
from sparkd.rpc import messages as wire


def test_two_leaders_at_once_never_lower_the_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write of the lower epoch takes longer than that of the higher one."""

    def slow(layout: Layout, state: State) -> None:
        if state.epoch is not None and state.epoch.number == 6:
            time.sleep(0.3)
        save_state(layout, state)

    monkeypatch.setattr(module, "save_state", slow)

    async def story() -> None:
        masters = [await Master(number=number).start() for number in (6, 7)]
        for master in masters:
            master.leads = False
        async with working(settings(tmp_path, *(master.port for master in masters))) as worker:
            await until(lambda: all(master.connections for master in masters))
            masters[0].send(wire.Leading(masters[0].epoch))
            await asyncio.sleep(0.05)
            masters[1].send(wire.Leading(masters[1].epoch))
            await masters[1].registered()
            await asyncio.sleep(0.4)
            assert worker.epoch() == Epoch("c1", 7) and worker._leader is not None
            assert worker._leader.port == masters[1].port
            stored = load_state(Layout(tmp_path))
            assert stored is not None and stored.epoch == Epoch("c1", 7)
        for master in masters:
            await master.stop()

    asyncio.run(story())


@pytest.mark.parametrize("other", [Epoch("c1", 5), Epoch("c2", 9)])
def test_who_was_refused_by_its_leader_goes_to_no_older_and_no_foreign_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: Epoch
) -> None:
    monkeypatch.setattr(module, "REFUSED_AGAIN_S", 0.05)

    async def story() -> None:
        new, old = await Master(number=7).start(), await Master(other.cluster_id, other.number).start()
        old.leads = new.accepts = False
        async with working(settings(tmp_path, new.port, old.port)) as worker:
            await new.registered()
            await until(lambda: old.connections)
            old.send(wire.Leading(other))
            await until(lambda: worker.figures()["refused_stale_commands_total"] + worker.figures()["foreign_leaders_total"])
            new.send(wire.Refused("its address is taken"))
            await new.registered(2)  # it tries again, there and only there
            await asyncio.sleep(0.2)
            assert not old.registers and worker.epoch() == Epoch("c1", 7)
        await new.stop()
        await old.stop()

    asyncio.run(story())


def test_what_ran_is_not_run_again_for_a_journal_that_was_lost(tmp_path: Path) -> None:
    """A leader that does not know that it had begun launches it once more."""

    async def story() -> None:
        master = await Master().start()
        master.acknowledges = False
        async with working(settings(tmp_path, master.port)):
            await master.registered()
            master.launch(shell("echo x >> ran; exit 4"))
            await master.report("FAILED")
        Layout(tmp_path).journal.unlink()
        async with working(settings(tmp_path, master.port)):
            assert (await master.registered(2)).processes == ()
            master.heard.clear()
            master.launch(shell("echo x >> ran; exit 4"))
            failed = await master.report("FAILED")
            assert failed.exit_code == 4 and (Layout(tmp_path).process(ref().owner, 1) / "ran").read_text() == "x\n"
        await master.stop()

    asyncio.run(story())
