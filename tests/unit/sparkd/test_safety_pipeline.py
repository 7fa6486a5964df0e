"""What is told to whoever waited when leadership ended: refused for good, or perhaps stored. And what a proxy makes of it."""

from __future__ import annotations

import asyncio
import json

import pytest
from test_master_pipeline import Bench, run, settle

from sparkd import pipeline as module
from sparkd.coordination.api import NotLeader, StoreUnavailable
from sparkd.core.effects import Outcome
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


def test_a_proxy_sends_again_only_what_was_surely_not_done() -> None:
    def passed(status: int, **body: object) -> Passed:
        return Passed(status, {}, json.dumps(body).encode())

    assert passed(503, error="not alive", leader=None, uncertain=False).stands_by
    assert not passed(503, error="not alive", leader=None, uncertain=True).stands_by
    assert passed(200, success=False, message="Current state is not alive: STANDBY.").stands_by
    assert not passed(500, action="ErrorResponse", message="may have it, or not").stands_by
