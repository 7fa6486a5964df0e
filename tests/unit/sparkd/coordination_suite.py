"""What every engine must do, against the in-memory ensemble, a directory and (tests/integration) a real ensemble: the same tests.

A World makes engines and faults. A test takes the fixture `world` and runs its steps in one event loop; all engines are closed in the end.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest

from sparkd.coordination.api import (
    RECORD_LIMIT,
    Engine,
    Interrupted,
    Loaded,
    MasterAddress,
    Misconfigured,
    NotLeader,
    RecordTooLarge,
    StoreUnavailable,
)
from sparkd.coordination.boottime import boot_s
from sparkd.core.effects import Write
from sparkd.core.values import Epoch, Record

PATIENCE_S = 30.0


class Master:
    """A listener that writes down what it is told, with its engine."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.address = MasterAddress(name, 7077, f"http://{name}:8080", f"http://{name}:6066")
        self.engine: Engine
        self.heard: list[tuple[str, Any]] = []
        self.shift_s = 0.0

    def clock(self) -> float:
        return boot_s() + self.shift_s

    def on_elected(self, epoch: Epoch) -> None:
        self.heard.append(("elected", epoch))

    def on_suspended(self, why: str) -> None:
        self.heard.append(("suspended", why))

    def on_resumed(self) -> None:
        self.heard.append(("resumed", None))

    def on_deposed(self, why: str) -> None:
        assert self.engine.lease_left_s() <= 0, "the lease ends before anybody hears of it"
        self.heard.append(("deposed", why))

    def on_leader(self, leader: MasterAddress | None) -> None:
        self.heard.append(("leader", leader))

    def on_misconfigured(self, error: Misconfigured) -> None:
        self.heard.append(("misconfigured", error))

    def names(self) -> list[str]:
        """What was heard, without who leads."""
        return [what for what, _ in self.heard if what != "leader"]

    def count(self, what: str) -> int:
        return self.names().count(what)

    def last(self, what: str) -> Any:
        return [value for name, value in self.heard if name == what][-1]

    async def hears(self, what: str, times: int = 1) -> Any:
        """Wait until it was told this so often; return what came with it."""
        await until(lambda: [name for name, _ in self.heard].count(what) >= times, f"{self.name} hears {what} {times} times: {self.heard}")
        return self.last(what)

    async def follows(self, leader: MasterAddress | None) -> None:
        await until(
            lambda: any(what == "leader" for what, _ in self.heard) and self.last("leader") == leader, f"{self.name} knows {leader}"
        )

    async def store(self, request_id: str, *writes: tuple[str, str, Record | None]) -> None:
        await self.engine.commit([Write(*write) for write in writes], request_id)


async def until(condition: Callable[[], object], what: str, timeout_s: float = PATIENCE_S) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"in vain: {what}"
        await asyncio.sleep(0.005)


class World(ABC):
    """Engines on one store, and what may happen to them."""

    sessions = True  # has sessions, connections and replies that can be lost
    durable = True
    session_s = 4.0

    def __init__(self) -> None:
        self.masters: list[Master] = []

    @abstractmethod
    def make(self, master: Master) -> Engine: ...

    async def opened(self) -> None:
        self.masters.clear()

    async def closed(self) -> None:
        self.masters.clear()

    async def expire(self, master: Master) -> None:
        raise NotImplementedError

    async def drop_connection(self, master: Master) -> None:
        raise NotImplementedError

    async def cut(self, master: Master) -> None:
        raise NotImplementedError

    async def heal(self, master: Master) -> None:
        raise NotImplementedError

    async def delete_latch(self, master: Master) -> None:
        raise NotImplementedError

    def lose_reply(self, master: Master) -> None:
        raise NotImplementedError

    def lose_request(self, master: Master) -> None:
        raise NotImplementedError

    @abstractmethod
    async def raw(self, kind: str, name: str) -> bytes | None: ...

    @abstractmethod
    async def spoil(self, kind: str, name: str, raw: bytes) -> None: ...

    @abstractmethod
    async def set_aside(self) -> list[bytes]: ...

    async def join(self, name: str) -> Master:
        master = Master(name)
        master.engine = self.make(master)
        self.masters.append(master)
        await master.engine.start(master.address, master)
        return master

    async def leader(self, name: str = "a") -> Master:
        """The first master: elected, with everything loaded."""
        master = await self.join(name)
        await master.hears("elected")
        await master.engine.load()
        return master

    async def standby(self, name: str, leader: Master) -> Master:
        master = await self.join(name)
        await master.follows(leader.address)
        return master

    def run(self, steps: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def all_of_it() -> None:
            await self.opened()
            try:
                await steps()
            finally:
                await asyncio.gather(*(master.engine.close() for master in self.masters))
                await self.closed()

        asyncio.run(all_of_it())


def needs(world: World, what: str) -> None:
    if not getattr(world, what):
        pytest.skip(f"this engine has no {what}")


def contents(loaded: Loaded) -> list[tuple[str, str, Record]]:
    return [(record.kind, record.id, record.record) for record in loaded.records]


async def refuses(call: Awaitable[object], *errors: type[Exception]) -> str:
    with pytest.raises(errors) as caught:
        await call
    return str(caught.value)


# --- election ---------------------------------------------------------------------------------------------------------


def test_the_first_leads_and_hands_over(world: World) -> None:
    needs(world, "durable")

    async def steps() -> None:
        a = await world.leader("a")
        b = await world.standby("b", a)
        first = a.last("elected")
        assert a.engine.lease_left_s() > 0
        assert b.engine.lease_left_s() <= 0
        assert b.names() == []
        await refuses(b.engine.commit([Write("driver", "d", {})], "r"), NotLeader)
        await refuses(b.engine.load(), NotLeader)
        await a.engine.step_down()
        assert a.names() == ["elected", "deposed"]
        assert a.engine.lease_left_s() <= 0
        await refuses(a.engine.commit([Write("driver", "d", {})], "r"), NotLeader)
        second = await b.hears("elected")
        assert second.cluster_id == first.cluster_id
        assert second.number > first.number
        await b.follows(b.address)
        await asyncio.sleep(0.3)
        assert a.names() == ["elected", "deposed"], "who stepped down stays out"
        assert b.address in b.engine.masters()

    world.run(steps)


def test_three_in_line_and_the_middle_one_leaves(world: World) -> None:
    needs(world, "sessions")

    async def steps() -> None:
        a = await world.leader("a")
        b = await world.standby("b", a)
        c = await world.standby("c", a)
        await b.engine.close()
        await asyncio.sleep(0.2)
        assert c.names() == []
        await a.engine.close()
        await c.hears("elected")
        assert b.names() == []

    world.run(steps)


def test_a_master_that_comes_back_waits(world: World) -> None:
    needs(world, "durable")

    async def steps() -> None:
        a = await world.leader("a")
        b = await world.standby("b", a)
        await a.engine.close()
        await b.hears("elected")
        a2 = await world.standby("a2", b)
        assert a2.names() == []
        await b.engine.close()
        assert (await a2.hears("elected")).number > b.last("elected").number

    world.run(steps)


def test_closing_is_quick_and_may_be_repeated(world: World) -> None:
    async def steps() -> None:
        a = await world.leader("a")
        began = time.monotonic()
        await a.engine.close()
        assert time.monotonic() - began < 2.5
        assert a.names() == ["elected", "deposed"]
        await a.engine.close()
        assert a.names() == ["elected", "deposed"]
        assert a.engine.lease_left_s() <= 0

    world.run(steps)


def test_the_description_is_for_people(world: World) -> None:
    async def steps() -> None:
        a = await world.leader("a")
        described = a.engine.describe()
        names = {"engine", "connected", "latch", "session", "cluster_id", "epoch", "lease_left_s", "elections", "last_commit_ms"}
        assert names <= set(described)
        assert described["epoch"] == a.last("elected").number
        assert described["cluster_id"] == a.last("elected").cluster_id

    world.run(steps)


# --- the store --------------------------------------------------------------------------------------------------------


def test_records_are_there_for_the_next_leader_in_order(world: World) -> None:
    needs(world, "durable")

    async def steps() -> None:
        a = await world.leader("a")
        b = await world.standby("b", a)
        await a.store("r1", ("driver", "z", {"n": 1}), ("driver", "m", {"n": 2}), ("worker", "w", {"text": 'ä\n"\x00'}))
        await a.store("r2", ("driver", "a", {"n": 3}), ("driver", "gone", {"n": 0}))
        await a.store("r3", ("driver", "z", {"n": 4}), ("driver", "gone", None), ("driver", "never", None))
        await a.store("r4", ("driver", "twice", {"n": 1}), ("driver", "twice", {"n": 2}))
        await a.store("r5")
        await a.engine.close()
        await b.hears("elected")
        loaded = await b.engine.load()
        assert contents(loaded) == [
            ("driver", "z", {"n": 4}),
            ("driver", "m", {"n": 2}),
            ("worker", "w", {"text": 'ä\n"\x00'}),
            ("driver", "a", {"n": 3}),
            ("driver", "twice", {"n": 2}),
        ]
        assert loaded.set_aside == ()
        await b.store("r6", ("driver", "m", None), ("driver", "a", {"n": 5}), ("driver", "new", {}))
        assert [record.id for record in (await b.engine.load()).records] == ["z", "w", "a", "twice", "new"]

    world.run(steps)


def test_a_leader_may_read_again_and_go_on(world: World) -> None:
    needs(world, "durable")

    async def steps() -> None:
        a = await world.leader("a")
        b = await world.standby("b", a)
        for number in range(3):
            await a.store(f"r{number}", ("driver", f"d{number}", {"n": number}), ("driver", "same", {"n": number}))
            assert len((await a.engine.load()).records) == number + 2
        abandoned = asyncio.create_task(a.store("r3", ("driver", "same", {"n": 3})))
        await asyncio.sleep(0)
        abandoned.cancel()
        seen = contents(await a.engine.load())
        await asyncio.sleep(0.1)
        assert contents(await a.engine.load()) == seen, "what was abandoned is not stored later"
        await a.store("r4", ("driver", "d0", None))
        await a.engine.close()
        await b.hears("elected")
        assert contents(await b.engine.load()) == [item for item in seen if item[1] != "d0"]
        assert a.names() == ["elected", "deposed"]

    world.run(steps)


def test_any_id_has_its_place(world: World) -> None:
    needs(world, "durable")
    ids = ["", ".", "..", "../../etc/passwd", "a/b", "ä ö", ".hidden", "%2E", "x" * 400, "=y", "worker-1-h:7078", "a\nb\x00c"]

    async def steps() -> None:
        a = await world.leader("a")
        await a.store("r", *(("meta", record_id, {"id": record_id}) for record_id in ids))
        await a.store("s", *(("meta", record_id, {"id": record_id, "again": True}) for record_id in ids))
        assert contents(await a.engine.load()) == [("meta", record_id, {"id": record_id, "again": True}) for record_id in ids]

    world.run(steps)


def test_a_record_too_large_stores_nothing_of_its_batch(world: World) -> None:
    async def steps() -> None:
        a = await world.leader("a")
        batch = [Write("driver", "small", {}), Write("driver", "large", {"text": "x" * RECORD_LIMIT})]
        assert "large" in await refuses(a.engine.commit(batch, "r"), RecordTooLarge)
        assert contents(await a.engine.load()) == []
        await refuses(a.engine.commit([Write("driver", "odd", {"x": object()})], "r"), StoreUnavailable)
        await refuses(a.engine.commit([Write("driver", "odd", {"x": float("nan")})], "r"), StoreUnavailable)
        await a.store("s", ("driver", "small", {}))
        assert a.names() == ["elected"]

    world.run(steps)


def test_batches_over_the_limit_of_a_transaction(world: World) -> None:
    needs(world, "durable")

    async def steps() -> None:
        a = await world.leader("a")
        await a.store("r", *(("driver", f"d{number}", {"text": "x" * 400_000}) for number in range(5)))
        await a.store("s", *(("driver", f"s{number}", {"n": number}) for number in range(1000)))
        assert [record.id for record in (await a.engine.load()).records] == [f"d{n}" for n in range(5)] + [f"s{n}" for n in range(1000)]
        assert a.names() == ["elected"]

    world.run(steps)


def test_what_cannot_be_read_is_set_aside_and_kept(world: World) -> None:
    needs(world, "durable")

    async def steps() -> None:
        a = await world.leader("a")
        names = ("good", "empty", "cut", "flipped", "future", "noise", "list")
        await a.store("r", *(("driver", name, {"n": 1, "text": "some text"}) for name in names))
        await a.engine.close()
        good = await world.raw("driver", "cut")
        assert good is not None
        spoilt = {
            "empty": b"",
            "cut": good[: len(good) // 2],
            "flipped": (await world.raw("driver", "flipped") or b"").replace(b"some text", b"same text"),
            "future": (await world.raw("driver", "future") or b"").replace(b'"format":1', b'"format":2'),
            "noise": bytes(range(256)) * 20,
            "list": b"[" * 3000,
        }
        for name, raw in spoilt.items():
            await world.spoil("driver", name, raw)
        b = await world.join("b")
        await b.hears("elected")
        loaded = await b.engine.load()
        assert [record.id for record in loaded.records] == ["good"]
        assert sorted(aside.id for aside in loaded.set_aside) == sorted(spoilt)
        why = {aside.id: aside.why for aside in loaded.set_aside}
        assert "newer version (format 2" in why["future"]
        assert "checksum" in why["flipped"]
        assert all(aside.where for aside in loaded.set_aside)
        assert sorted(await world.set_aside()) == sorted(spoilt.values()), "kept as it was"
        again = await b.engine.load()
        assert [record.id for record in again.records] == ["good"]
        assert set(again.set_aside) == set(loaded.set_aside), "told until somebody takes it away"
        await b.store("s", ("driver", "future", {"n": 2}))
        assert [record.id for record in (await b.engine.load()).records] == ["good", "future"]
        await b.engine.close()
        c = await world.join("c")
        await c.hears("elected")
        assert set((await c.engine.load()).set_aside) == set(loaded.set_aside)

    world.run(steps)


# --- faults -----------------------------------------------------------------------------------------------------------


def test_a_leader_whose_latch_was_deleted_changes_nothing_more(world: World) -> None:
    needs(world, "sessions")

    async def steps() -> None:
        a = await world.leader("a")
        b = await world.standby("b", a)
        await a.store("r1", ("driver", "d", {"n": 1}))
        await world.delete_latch(a)
        await refuses(a.engine.commit([Write("driver", "d", {"n": 2})], "r2"), NotLeader)
        await a.hears("deposed")
        second = await b.hears("elected")
        assert second.number > a.last("elected").number
        assert contents(await b.engine.load()) == [("driver", "d", {"n": 1})]
        await b.engine.close()
        third = await a.hears("elected", 2)
        assert third.number > second.number

    world.run(steps)


def test_a_session_that_expires(world: World) -> None:
    needs(world, "sessions")

    async def steps() -> None:
        a = await world.leader("a")
        b = await world.standby("b", a)
        await world.expire(a)
        await a.hears("deposed")
        assert a.engine.lease_left_s() <= 0
        await b.hears("elected")
        await a.follows(b.address)
        await world.expire(b)
        await b.hears("deposed")
        await a.hears("elected", 2)
        assert [a.names(), b.names()] == [["elected", "deposed", "elected"], ["elected", "deposed"]]

    world.run(steps)


def test_a_lost_connection_changes_nothing(world: World) -> None:
    needs(world, "sessions")

    async def steps() -> None:
        a = await world.leader("a")
        b = await world.standby("b", a)
        for number in range(5):
            await world.drop_connection(a)
            await a.store(f"r{number}", ("driver", "d", {"n": number}))
            assert a.engine.lease_left_s() > 0
        await world.drop_connection(b)
        await asyncio.sleep(0.3)
        assert [a.names(), b.names()] == [["elected"], []]
        assert contents(await a.engine.load()) == [("driver", "d", {"n": 4})]

    world.run(steps)


def test_a_lost_reply_and_a_lost_request(world: World) -> None:
    needs(world, "sessions")

    async def steps() -> None:
        a = await world.leader("a")
        b = await world.standby("b", a)
        world.lose_reply(a)
        await a.store("r1", ("driver", "kept", {"n": 1}))
        await a.store("r2", ("driver", "kept", {"n": 2}), ("driver", "other", {}))
        world.lose_request(a)
        await a.store("r3", ("driver", "kept", {"n": 3}), ("driver", "other", None))
        world.lose_request(a)
        world.lose_reply(a)
        await a.store("r4", ("driver", "last", {}))
        await a.engine.close()
        await b.hears("elected")
        assert contents(await b.engine.load()) == [("driver", "kept", {"n": 3}), ("driver", "last", {})]
        assert a.names() == ["elected", "deposed"]

    world.run(steps)


def test_cut_off_for_longer_than_the_lease_but_not_the_session(world: World) -> None:
    needs(world, "sessions")

    async def steps() -> None:
        a = await world.leader("a")
        b = await world.standby("b", a)
        epoch = a.last("elected")
        await a.store("r1", ("driver", "d", {"n": 1}))
        a.shift_s += 10 * world.session_s  # as after a pause: by the clock alone, whatever else is not known yet
        assert a.engine.lease_left_s() <= 0
        await refuses(a.engine.commit([Write("driver", "d", {"n": 2})], "r2"), Interrupted)
        await a.hears("resumed")
        assert a.engine.lease_left_s() > 0
        await a.store("r3", ("driver", "d", {"n": 3}))
        assert a.names() == ["elected", "suspended", "resumed"]
        assert a.last("elected") == epoch
        assert b.names() == []

    world.run(steps)


def test_cut_off_until_another_one_leads(world: World) -> None:
    needs(world, "sessions")

    async def steps() -> None:
        a = await world.leader("a")
        b = await world.standby("b", a)
        both: list[tuple[float, float]] = []

        async def watch() -> None:
            while True:
                left = a.engine.lease_left_s(), b.engine.lease_left_s()
                if min(left) > 0:
                    both.append(left)
                await asyncio.sleep(0.002)

        watching = asyncio.create_task(watch())
        await a.store("r1", ("driver", "d", {"n": 1}))
        await world.cut(a)
        await a.hears("suspended")
        await refuses(a.engine.commit([Write("driver", "d", {"n": 2})], "r2"), Interrupted)
        await b.hears("elected")
        assert contents(await b.engine.load()) == [("driver", "d", {"n": 1})]
        await b.store("r3", ("driver", "d", {"n": 3}))
        await world.heal(a)
        await a.hears("deposed")
        await a.follows(b.address)
        await refuses(a.engine.commit([Write("driver", "d", {"n": 4})], "r4"), NotLeader)
        assert contents(await b.engine.load()) == [("driver", "d", {"n": 3})]
        watching.cancel()
        assert both == [], "never two leaders"
        assert [a.names(), b.names()] == [["elected", "suspended", "deposed"], ["elected"]]

    world.run(steps)


def test_a_write_under_way_when_the_leader_is_cut_off_is_not_answered_wrongly(world: World) -> None:
    needs(world, "sessions")

    async def steps() -> None:
        a = await world.leader("a")
        b = await world.standby("b", a)
        await world.cut(a)
        writing = asyncio.create_task(a.store("r1", ("driver", "d", {"n": 1})))
        await b.hears("elected")
        await world.heal(a)
        await refuses(writing, NotLeader, Interrupted)
        await a.hears("deposed")

    world.run(steps)


def test_closing_while_cut_off_is_quick(world: World) -> None:
    needs(world, "sessions")

    async def steps() -> None:
        a = await world.leader("a")
        await world.cut(a)
        began = time.monotonic()
        await a.engine.close()
        assert time.monotonic() - began < 2.5
        assert a.names() == ["elected", "deposed"]

    world.run(steps)


ALL: Sequence[str] = tuple(name for name in list(globals()) if name.startswith("test_"))
