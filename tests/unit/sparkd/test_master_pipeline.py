"""The group commit: what is stored together, what leaves when, and what happens to those who wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from master_world import until

from sparkd import pipeline as module
from sparkd.clock import boot_s
from sparkd.coordination.api import Interrupted, NotLeader, RecordTooLarge, StoreUnavailable
from sparkd.core.effects import AckJournal, Answer, Effect, Outcome, Write
from sparkd.core.events import Event, KillAllDrivers, Tick, WorkerHeartbeat
from sparkd.core.states import MasterStatus
from sparkd.core.transitions import UnexpectedEvent
from sparkd.core.values import Now
from sparkd.http.faces import NotAlive, NotDurable
from sparkd.pipeline import Broken, Figures, Pipeline


def ack(number: int) -> AckJournal:
    return AckJournal("w", number)


def write(name: str, value: object = 0) -> Write:
    return Write("driver", name, {"value": value})


class Core:
    """Answers each event with the next outcome that was laid out for it."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome | Exception] = []
        self.events: list[Event] = []
        self.deadline: float | None = None
        self.workers: dict[str, Any] = {}

    def handle(self, event: Event, now: Now) -> Outcome:
        self.events.append(event)
        if isinstance(event, KillAllDrivers):
            return Outcome((write(f"asked-{event.token}"),), (Answer(event.token, True, "done"),))
        if isinstance(event, Tick) and not self.outcomes:
            return Outcome()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def next_deadline(self) -> float | None:
        return self.deadline


class Store:
    """An engine whose commits wait for `gate`, and raise what `errors` holds."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.batches: list[list[Write]] = []
        self.request_ids: list[str] = []
        self.errors: list[Exception] = []
        self.lease = 1.0
        self.under_way = 0
        self.before: Callable[[], object] = lambda: None

    def lease_left_s(self) -> float:
        return self.lease

    async def commit(self, batch: Sequence[Write], request_id: str) -> None:
        self.under_way += 1
        assert self.under_way == 1, "one transaction at a time"
        try:
            await self.gate.wait()
            self.before()
            self.request_ids.append(request_id)
            if self.errors:
                raise self.errors.pop(0)
            self.batches.append(list(batch))
        finally:
            self.under_way -= 1


class Bench:
    def __init__(self) -> None:
        self.core, self.store, self.figures = Core(), Store(), Figures()
        self.out: list[Effect] = []
        self.stored: list[Outcome] = []
        self.broken: list[Exception] = []
        engine: Any = self.store
        core: Any = self.core
        self.line = Pipeline(
            core,
            engine,
            term="7-1",
            carry_out=self.out.append,
            stored=self.stored.append,
            broken=self.broken.append,
            refusal=lambda: NotAlive(MasterStatus.STANDBY, None),
            figures=self.figures,
        )

    def post(self, *outcomes: Outcome | Exception) -> None:
        for outcome in outcomes:
            self.core.outcomes.append(outcome)
            self.line.post(WorkerHeartbeat("w"))

    def ask(self) -> asyncio.Task[Answer]:
        return asyncio.create_task(self.line.ask(KillAllDrivers))


def run(test: Callable[[Bench], Awaitable[None]]) -> Bench:
    async def whole() -> Bench:
        bench = Bench()
        async with asyncio.timeout(10):
            await test(bench)
            bench.line.close()
            bench.store.gate.set()
            await bench.line.ended()
        return bench

    return asyncio.run(whole())


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_effects_leave_only_once_stored() -> None:
    async def test(bench: Bench) -> None:
        bench.store.gate.clear()
        bench.post(Outcome((write("a"),), (ack(1),)))
        asked = bench.ask()
        bench.post(Outcome((), (ack(2),)))  # stores nothing, but comes after what does
        await settle()
        assert (bench.out, bench.stored, asked.done()) == ([], [], False)
        assert len(bench.line) + bench.store.under_way >= 1 and bench.line.age_s() >= 0
        bench.store.gate.set()
        assert (await asked).ok
        await settle()
        assert bench.out == [ack(1), ack(2)] and len(bench.stored) == 3

    run(test)


def test_one_transaction_in_flight_the_next_gathers() -> None:
    async def test(bench: Bench) -> None:
        bench.store.gate.clear()
        bench.post(Outcome((write("first"),), (ack(0),)))
        await settle()
        bench.post(*(Outcome((write(f"d{number}"),), (ack(number),)) for number in range(1, 30)))
        bench.store.gate.set()
        await until(lambda: len(bench.out) == 30)
        assert [len(batch) for batch in bench.store.batches] == [1, 29]
        assert bench.out == [ack(number) for number in range(30)]
        assert bench.figures.commits == 2 and bench.figures.writes == 30 and bench.figures.batch_max == 29

    bench = run(test)
    assert len(set(bench.store.request_ids)) == 2 and all(name.startswith("7-1-") for name in bench.store.request_ids)


def test_only_the_last_state_of_a_record_is_stored() -> None:
    async def test(bench: Bench) -> None:
        bench.store.gate.clear()
        bench.post(Outcome((write("first"),)))
        await settle()
        bench.post(Outcome((write("a", 1), write("b", 1))), Outcome((write("a", 2),)), Outcome((Write("driver", "b", None),)))
        bench.store.gate.set()
        await until(lambda: len(bench.store.batches) == 2)
        assert {item.id: item.record for item in bench.store.batches[1]} == {"a": {"value": 2}, "b": None}

    run(test)


def test_a_batch_stays_below_the_limit_of_a_transaction() -> None:
    async def test(bench: Bench) -> None:
        bench.store.gate.clear()
        bench.post(Outcome((write("first"),)))
        await settle()
        bench.post(*(Outcome((write(f"d{number}", "x" * 200_000),), (ack(number),)) for number in range(8)))
        bench.store.gate.set()
        await until(lambda: len(bench.out) == 8)
        assert [len(batch) for batch in bench.store.batches] == [1, 3, 3, 2]

    run(test)


def test_an_outcome_over_the_limit_is_stored_in_parts_and_then_released() -> None:
    async def test(bench: Bench) -> None:
        writes = tuple(write(f"d{number}", "x" * 200_000) for number in range(8))
        released: list[int] = []
        bench.store.before = lambda: released.append(len(bench.out))
        bench.post(Outcome(writes, (ack(1),)))
        await until(lambda: bench.out == [ack(1)])
        assert released == [0, 0, 0]
        assert [item.id for batch in bench.store.batches for item in batch] == [item.id for item in writes]

    run(test)


def test_what_stores_nothing_leaves_at_once_and_makes_no_transaction() -> None:
    async def test(bench: Bench) -> None:
        bench.post(Outcome((), (ack(1),)), Outcome())
        await settle()
        assert bench.out == [ack(1)] and bench.store.batches == []

    run(test)


@pytest.mark.parametrize("error", [StoreUnavailable("disk full"), RecordTooLarge("too large"), RuntimeError("disk full: a defect")])
def test_a_store_that_fails_acknowledges_nothing_and_ends_it(error: Exception) -> None:
    async def test(bench: Bench) -> None:
        bench.store.gate.clear()
        asked = [bench.ask() for _ in range(3)]
        await settle()
        asked.append(bench.ask())  # behind the transaction that fails
        bench.store.errors.append(error)
        bench.store.gate.set()
        for task in asked:
            with pytest.raises(NotDurable, match=str(error).partition(":")[0]):
                await task
        assert len(bench.broken) == 1 and isinstance(bench.broken[0], type(error) if not isinstance(error, RuntimeError) else Broken)
        bench.post(Outcome((write("late"),), (ack(9),)))
        await settle()
        assert bench.out == [] and bench.store.batches == []
        with pytest.raises(NotAlive):
            await bench.line.ask(KillAllDrivers)

    assert run(test).figures.failed_commits == 1


def test_lost_leadership_refuses_all_who_wait() -> None:
    async def test(bench: Bench) -> None:
        bench.store.gate.clear()
        bench.post(Outcome((write("a"),), (ack(1),)))
        first = bench.ask()
        await settle()
        second = bench.ask()
        bench.store.errors.append(NotLeader("gone"))
        bench.store.gate.set()
        for task in (first, second):
            with pytest.raises(NotAlive):
                await task
        assert bench.out == [] and isinstance(bench.broken[0], NotLeader)

    assert run(test).figures.refused == 2


def test_closed_during_a_commit_nothing_leaves() -> None:
    """on_deposed comes while the transaction is under way, and then it turns out to have been stored."""

    async def test(bench: Bench) -> None:
        bench.store.gate.clear()
        bench.post(Outcome((write("a"),), (ack(1),)))
        asked = bench.ask()
        await settle()
        bench.line.close()
        with pytest.raises(NotAlive):
            await asked
        bench.store.gate.set()
        await bench.line.ended()
        assert bench.out == [] and bench.broken == [] and len(bench.store.batches) == 1

    run(test)


def test_an_interrupted_transaction_is_tried_again_under_the_same_request_id() -> None:
    async def test(bench: Bench) -> None:
        bench.store.errors.append(Interrupted("suspended"))
        bench.line.suspend()
        bench.line.resume()
        asked = bench.ask()
        await settle()
        bench.line.suspend()
        await asyncio.sleep(0.05)
        assert not asked.done() and bench.store.batches == []
        bench.line.resume()
        assert (await asked).ok
        assert len(bench.store.request_ids) == 2 and len(set(bench.store.request_ids)) == 1

    run(test)


def test_suspended_too_long_refuses_and_reads_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SUSPENDED_WAIT_S", 0.02)

    async def test(bench: Bench) -> None:
        bench.store.gate.clear()
        asked = bench.ask()
        await settle()
        bench.line.suspend()
        with pytest.raises(NotAlive):
            await asked
        with pytest.raises(NotAlive):
            await bench.line.ask(KillAllDrivers)
        assert bench.broken == []
        bench.line.resume()
        assert isinstance(bench.broken[0], Broken)

    run(test)


def test_suspended_with_nobody_waiting_keeps_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SUSPENDED_WAIT_S", 0.01)

    async def test(bench: Bench) -> None:
        bench.line.suspend()
        bench.post(Outcome((write("a"),), (ack(1),)))
        await asyncio.sleep(0.05)
        assert bench.store.batches == [] and bench.out == []
        bench.line.resume()
        await until(lambda: bench.out == [ack(1)])
        assert bench.broken == []

    run(test)


def test_a_lease_that_is_over_holds_everything_back() -> None:
    """Paused after the transaction: what is stored is not acknowledged by a master that may not lead any more."""

    async def test(bench: Bench) -> None:
        bench.store.gate.clear()
        bench.post(Outcome((write("a"),), (ack(1), ack(2))))
        asked = bench.ask()
        await settle()
        bench.store.lease = 0.0
        bench.store.gate.set()
        await asyncio.sleep(0.05)
        assert len(bench.store.batches) == 1 and bench.out == [] and not asked.done()
        bench.store.lease = 1.0
        assert (await asked).ok and bench.out == [ack(1), ack(2)]

    run(test)


def test_an_unexpected_event_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def test(bench: Bench) -> None:
        bench.post(UnexpectedEvent("driver d1", "FINISHED", "reported running", ()))
        bench.post(Outcome((write("a"),), (ack(1),)))
        await settle()
        assert bench.out == [ack(1)] and bench.broken == []

    assert run(test).figures.failed_events == 1
    assert "driver d1 is FINISHED" in caplog.text


def test_a_defect_reads_back_once_and_not_over_and_over() -> None:
    async def test(bench: Bench) -> None:
        bench.post(KeyError("a defect"))
        assert isinstance(bench.broken[0], Broken)

    figures = run(test).figures

    async def again(bench: Bench) -> None:
        bench.figures.defect_s = figures.defect_s
        bench.post(KeyError("the same"), Outcome((write("a"),), (ack(1),)))
        await settle()
        assert bench.broken == [] and bench.out == [ack(1)]

    run(again)


def test_who_asks_for_what_is_a_defect_is_told() -> None:
    async def test(bench: Bench) -> None:
        bench.core.outcomes.append(KeyError("a defect"))
        with pytest.raises(NotDurable, match="refused"):
            await bench.line.ask(lambda token: WorkerHeartbeat("w"))

    run(test)


def test_ticks_come_when_they_are_due() -> None:
    async def test(bench: Bench) -> None:
        begun = boot_s()
        bench.core.deadline = begun + 0.05
        bench.line.begin(Outcome())
        await until(lambda: bench.core.events)
        assert isinstance(bench.core.events[0], Tick) and boot_s() >= begun + 0.05
        bench.core.deadline = None

    run(test)


def test_a_sooner_deadline_replaces_a_later_one() -> None:
    async def test(bench: Bench) -> None:
        bench.core.deadline = boot_s() + 3600
        bench.line.begin(Outcome())
        bench.core.deadline = boot_s() + 0.02
        bench.post(Outcome())
        await until(lambda: len(bench.core.events) == 2)
        bench.core.deadline = None

    run(test)


def test_a_deadline_that_no_tick_moves_does_not_keep_the_loop_busy() -> None:
    async def test(bench: Bench) -> None:
        bench.core.deadline = boot_s() - 1
        bench.line.begin(Outcome())
        await asyncio.sleep(0.2)
        assert 1 <= len(bench.core.events) <= 10

    run(test)


def test_ticks_that_do_something_follow_each_other_at_once() -> None:
    async def test(bench: Bench) -> None:
        bench.core.deadline = boot_s() - 1
        bench.core.outcomes = [Outcome((), (ack(number),)) for number in range(100)]
        begun = boot_s()
        bench.line.begin(Outcome())
        await until(lambda: len(bench.out) == 100)
        assert boot_s() - begun < 100 * module.IDLE_TICK_S / 2
        bench.core.deadline = None

    run(test)


def test_a_barrier_waits_for_all_before_it() -> None:
    async def test(bench: Bench) -> None:
        bench.store.gate.clear()
        bench.post(Outcome((write("a"),), (ack(1),)))
        waiting = asyncio.create_task(bench.line.barrier())
        await settle()
        assert not waiting.done()
        bench.store.gate.set()
        await waiting
        assert bench.out == [ack(1)]

    run(test)


def test_memory_does_not_fill_while_the_store_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUEUE_LIMIT", 10)

    async def test(bench: Bench) -> None:
        bench.store.gate.clear()
        bench.post(Outcome((write("first"),)))
        await settle()
        bench.post(*(Outcome((write(f"d{number}"),)) for number in range(10)))
        with pytest.raises(NotDurable, match="try again"):
            await bench.line.ask(KillAllDrivers)
        bench.post(*(Outcome((write(f"e{number}"),)) for number in range(11)))
        assert isinstance(bench.broken[0], Broken)
        await asyncio.wait_for(bench.line.room(), 1)

    run(test)
