"""What is told to whoever waited when leadership ended: refused for good, or perhaps stored. And what a proxy makes of it."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace

import pytest
from test_master_pipeline import Bench, run, settle

from sparkd import pipeline as module
from sparkd.clock import boot_s
from sparkd.coordination.api import NotLeader, StoreUnavailable
from sparkd.core.effects import Outcome
from sparkd.core.events import Tick, WorkerHeartbeat
from sparkd.http.faces import NotAlive, NotDurable
from sparkd.proxy import Passed


@pytest.mark.parametrize("how", ["closed", "not leader", "suspended"])
def test_only_who_was_on_the_way_to_the_store_may_be_stored(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SUSPENDED_WAIT_S", 0.01)

    async def test(bench: Bench) -> None:
        bench.store.gate.clear()
        first = bench.ask()
        await settle()
        second = bench.ask()
        await settle()
        if how == "closed":
            bench.line.close()
        elif how == "suspended":
            bench.line.suspend()
        else:
            bench.store.errors.append(NotLeader("gone"))
            bench.store.gate.set()
        await asyncio.wait([first, second])
        errors = [first.exception(), second.exception()]
        assert [error.uncertain for error in errors if isinstance(error, NotAlive)] == [True, False]
        bench.store.gate.set()

    run(test)


def test_a_defect_during_a_transaction_leaves_it_open_what_was_stored() -> None:
    async def test(bench: Bench) -> None:
        bench.store.gate.clear()
        first = bench.ask()
        await settle()
        second = bench.ask()
        await settle()
        bench.post(ValueError("a defect"))
        await asyncio.wait([first, second])
        texts = [str(first.exception()), str(second.exception())]
        assert ["may have taken it" in text for text in texts] == [True, False]
        bench.store.gate.set()

    run(test)


def test_what_the_store_refused_is_not_in_it() -> None:
    async def test(bench: Bench) -> None:
        bench.store.errors.append(StoreUnavailable("disk full"))
        asked = bench.ask()
        await asyncio.wait([asked])
        assert isinstance(asked.exception(), NotDurable) and str(asked.exception()) == "disk full"

    run(test)


def test_an_answer_leaves_nothing_behind() -> None:
    async def test(bench: Bench) -> None:
        bench.post(Outcome())
        await bench.ask()
        assert bench.line._begun == set() and bench.line._waiting == {}

    run(test)


@pytest.mark.parametrize("paused", [False, True])
def test_silence_during_a_pause_of_its_own_is_no_silence_of_workers(paused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline at which workers are looked at comes and goes while the process is stopped."""
    monkeypatch.setattr(module, "LATE_S", 0.1 if paused else 60.0)

    async def test(bench: Bench) -> None:
        bench.core.workers = {name: SimpleNamespace(id=name, connected=name != "away") for name in ("w1", "away", "w2")}
        bench.core.outcomes += [Outcome(), Outcome()]  # of the heartbeats
        bench.core.deadline = boot_s() + 0.02
        bench.line._arm()
        time.sleep(0.2)
        await asyncio.sleep(0.02)
        heard = [event.worker_id for event in bench.core.events if isinstance(event, WorkerHeartbeat)]
        assert heard == (["w1", "w2"] if paused else []) and any(isinstance(event, Tick) for event in bench.core.events)
        assert not paused or isinstance(bench.core.events[2], Tick)
        bench.core.deadline = None

    run(test)


def test_a_proxy_sends_again_only_what_was_surely_not_done() -> None:
    def passed(status: int, **body: object) -> Passed:
        return Passed(status, {}, json.dumps(body).encode())

    assert passed(503, error="not alive", leader=None, uncertain=False).stands_by
    assert not passed(503, error="not alive", leader=None, uncertain=True).stands_by
    assert passed(200, success=False, message="Current state is not alive: STANDBY.").stands_by
    assert not passed(500, action="ErrorResponse", message="may have it, or not").stands_by
