"""An in-memory ensemble with sessions, for tests and simulations: the same election and store as on ZooKeeper, and faults at will.

    ensemble = MemoryEnsemble()
    engine = MemoryEngine(ensemble)        # several engines on one ensemble: several masters
    ensemble.expire(engine)                # its session ends: deposed, it rejoins in a new session
    ensemble.suspend(engine)               # cut off; its lease runs out. resume(engine) ends that
    ensemble.lose_reply(engine)            # its next transaction is carried out, but its answer is lost
    ensemble.lose_request(engine)          # its next transaction is lost on the way
    ensemble.delete_latch(engine)          # as a fence does
    ensemble.quorum = False                # nobody's writes are answered

It makes no threads and reads no clock but the one given; timers are the running loop's, so that a loop with virtual time simulates it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..core.effects import Write
from ..core.values import Epoch
from . import aside as asides
from . import epoch as marks
from . import lease, records
from .api import Engine, Interrupted, Listener, Loaded, MasterAddress, NotLeader, SetAside, StoredRecord, StoreUnavailable
from .boottime import boot_s
from .store import Key, Known
from .waiting import happened


@dataclass
class _Latch:
    czxid: int
    engine: MemoryEngine


@dataclass
class MemoryEnsemble:
    """What the engines share."""

    session_s: float = 4.0
    clock: Callable[[], float] = boot_s
    mark: marks.ClusterMark = field(default_factory=marks.new_mark)
    zxid: int = 0
    latches: list[_Latch] = field(default_factory=list)
    records: dict[Key, bytes] = field(default_factory=dict)  # key: kind and node name
    set_aside: dict[str, bytes] = field(default_factory=dict)
    commit: tuple[str, int] = ("", 0)  # last request and its leader's epoch number
    quorum: bool = True
    refuse: str = ""  # not empty: every transaction is refused with this text, as by a full disk

    def next_zxid(self) -> int:
        """Count one change."""
        self.zxid += 1
        return self.zxid

    def leader(self) -> MemoryEngine | None:
        """Return the engine that owns the lowest latch."""
        return self.latches[0].engine if self.latches else None

    def remove(self, engine: MemoryEngine) -> None:
        """Delete an engine's latch and let the others see it."""
        self.latches = [latch for latch in self.latches if latch.engine is not engine]
        self.next_zxid()
        self.changed()

    def changed(self) -> None:
        """Wake everybody who watches."""
        for engine in [latch.engine for latch in self.latches]:
            engine.wake()

    def expire(self, engine: MemoryEngine) -> None:
        """End its session; it learns so as soon as it is not suspended."""
        self.remove(engine)
        engine.session_lost()

    def delete_latch(self, engine: MemoryEngine) -> None:
        """As a fence: the node goes, the session stays."""
        self.remove(engine)
        engine.latch_lost()

    def suspend(self, engine: MemoryEngine) -> None:
        """Cut it off from its server. Its session ends when that lasts as long as a session."""
        engine.cut = True
        engine.cuts += 1
        asyncio.get_running_loop().call_later(self.session_s, self._time_out, engine, engine.cuts)

    def _time_out(self, engine: MemoryEngine, cut: int) -> None:
        if engine.cut and engine.cuts == cut:
            self.expire(engine)

    def resume(self, engine: MemoryEngine) -> None:
        """Undo suspend: it reconnects."""
        engine.cut = False
        engine.wake()

    def lose_reply(self, engine: MemoryEngine) -> None:
        """The next transaction is stored, and its answer is lost."""
        engine.losses.append("reply")

    def lose_request(self, engine: MemoryEngine) -> None:
        """The next transaction never arrives."""
        engine.losses.append("request")


class MemoryEngine(Engine):
    """One master's engine on a MemoryEnsemble."""

    _numbers = itertools.count(1)

    def __init__(self, ensemble: MemoryEnsemble | None = None, clock: Callable[[], float] | None = None) -> None:
        """clock: this master's own, the ensemble's when not given."""
        self.ensemble = ensemble or MemoryEnsemble()
        self.clock = clock or self.ensemble.clock
        self.cut = False
        self.cuts = 0
        self.losses: list[str] = []
        self.number = next(self._numbers)
        self._me = MasterAddress("", 0)
        self._listener: Listener | None = None
        self._latch: _Latch | None = None
        self._lost_session = False
        self._epoch: Epoch | None = None
        self._suspended = False
        self._why = ""
        self._known = Known()
        self._lease = lease.NO_LEASE
        self._leader: MasterAddress | None = None
        self._stepped_down = self._closed = False
        self._wake = asyncio.Event()
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._elections = 0

    # --- the interface ------------------------------------------------------------------------------------------------

    async def start(self, me: MasterAddress, listener: Listener) -> None:
        """Join the election."""
        self._me, self._listener = me, listener
        self._task = asyncio.create_task(self._run())

    def lease_left_s(self) -> float:
        """As of its clock."""
        return self._lease.left(self.clock()) if self._epoch is not None else 0.0

    async def load(self) -> Loaded:
        """Read everything."""
        self._leading()
        found: list[records.Decoded] = []
        aside: list[SetAside] = []
        for (kind, name), raw in sorted(self.ensemble.records.items()):
            try:
                found.append(records.decode(raw, kind, name))
            except records.Unreadable as error:
                where = asides.name(kind, name, self._epoch.number if self._epoch else 0)
                self.ensemble.set_aside[where] = self.ensemble.records.pop((kind, name))
                aside.append(SetAside(kind, records.id_of(name), str(error), f"memory/{where}"))
        aside += asides.found(self.ensemble.set_aside, "memory", self.ensemble.set_aside, aside)
        found.sort(key=lambda record: (record.order, record.kind, record.id))
        self._known = Known(
            {(record.kind, record.id): record.order for record in found}, max((record.order for record in found), default=0)
        )
        return Loaded(tuple(StoredRecord(record.kind, record.id, record.record) for record in found), tuple(aside))

    async def commit(self, batch: Sequence[Write], request_id: str) -> None:
        """Store a batch."""
        epoch = self._leading()
        try:
            puts = self._known.encode(batch)
        except (ValueError, TypeError) as error:
            raise StoreUnavailable(f"a record that is not JSON: {error}") from error
        while True:
            await asyncio.sleep(0)  # a transaction takes its time, and things happen meanwhile
            while self.cut or not self.ensemble.quorum:
                if self._epoch is not epoch:
                    raise NotLeader(f"leadership was lost: {self._why}")
                if self._suspended or self.lease_left_s() <= 0:
                    raise Interrupted("leadership is suspended")
                await self._pause()
            loss = self.losses.pop(0) if self.losses else ""
            if loss == "request":
                continue
            if self._epoch is not epoch or self._latch not in self.ensemble.latches:
                if self._epoch is epoch:
                    self.latch_lost()
                raise NotLeader(f"leadership was lost: {self._why}")
            if self._suspended:
                raise Interrupted("leadership is suspended")
            if self.ensemble.refuse:
                raise StoreUnavailable(self.ensemble.refuse)
            if self.ensemble.commit[0] != request_id or loss != "looked up":
                sent = self.clock()
                for put in puts:
                    key = (put.key[0], records.node_name(put.key[1]))
                    if put.raw is None:
                        self.ensemble.records.pop(key, None)
                    else:
                        self.ensemble.records[key] = put.raw
                self.ensemble.commit = (request_id, epoch.number)
                self.ensemble.next_zxid()
                self._renew(sent)
            if loss == "reply":  # then it is looked up, and found
                self.losses.insert(0, "looked up")
                continue
            self._known.stored(puts)
            return

    async def step_down(self) -> None:
        """Hand over."""
        self._stepped_down = True
        self._depose("stepping down")
        if self._latch is not None and not self.cut:
            self._latch = None
            self.ensemble.remove(self)

    async def close(self) -> None:
        """Let go."""
        if self._closed:
            return
        await self.step_down()
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def masters(self) -> tuple[MasterAddress, ...]:
        """Every master in line."""
        return tuple(latch.engine._me for latch in self.ensemble.latches)

    def describe(self) -> dict[str, object]:
        """State for people."""
        return {
            "engine": "MEMORY",
            "connected": not self.cut,
            "latch": str(self._latch.czxid) if self._latch else "",
            "session": str(self.number),
            "cluster_id": self.ensemble.mark.cluster_id,
            "epoch": self._epoch.number if self._epoch else 0,
            "suspended": self._suspended,
            "lease_left_s": round(self.lease_left_s(), 3),
            "elections": self._elections,
            "last_commit_ms": 0.0,
        }

    # --- inside -------------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something changed."""
        self._wake.set()

    def session_lost(self) -> None:
        """The session is over; learnt at once, or on reconnection."""
        self._lost_session = True
        self._wake.set()

    def latch_lost(self) -> None:
        """The watch on the own latch fired; learnt at once, or on reconnection."""
        if not self.cut:
            self._latch = None
            self._depose("the latch was deleted")
        self._wake.set()

    def _tell(self) -> Listener:
        if self._listener is None:
            raise RuntimeError("not started")
        return self._listener

    def _leading(self) -> Epoch:
        if self._epoch is None:
            raise NotLeader("this master does not lead")
        if self._suspended or self.lease_left_s() <= 0:
            raise Interrupted("leadership is suspended")
        return self._epoch

    def _depose(self, why: str) -> None:
        self._lease = lease.NO_LEASE
        epoch, self._epoch = self._epoch, None
        self._suspended = False
        if epoch is not None:
            self._why = why
            self._over.set()
            self._tell().on_deposed(why)

    def _renew(self, sent: float) -> None:
        self._lease = self._lease.renewed(sent, self.ensemble.session_s)

    async def _pause(self) -> None:
        """Wait for the end of the term, or a little."""
        await happened(self._over, self.ensemble.session_s * lease.RENEWAL_SHARE)

    async def _run(self) -> None:
        while not self._closed:
            self._wake.clear()
            self._step()
            await happened(self._wake, self.ensemble.session_s * lease.RENEWAL_SHARE)

    def _step(self) -> None:
        """Look once: renew, suspend, resume, rejoin, lead."""
        if self._epoch is not None and not self._suspended and self.lease_left_s() <= 0:
            self._suspended = True
            self._tell().on_suspended("no answer within the lease")
        if self.cut or not self.ensemble.quorum:
            return
        if self._lost_session or (self._latch is not None and self._latch not in self.ensemble.latches):
            why = "the session is lost" if self._lost_session else "the latch was deleted"
            self._lost_session, self._latch = False, None
            self._depose(why)
        if self._stepped_down:
            if self._latch is not None:
                self._latch = None
                self.ensemble.remove(self)
            return
        if self._latch is None:
            self._latch = _Latch(self.ensemble.next_zxid(), self)
            self.ensemble.latches.append(self._latch)
            self.ensemble.changed()
        if self._epoch is not None:
            self._renew(self.clock())
            if self._suspended:
                self._suspended = False
                self._tell().on_resumed()
        leader = self.ensemble.leader()
        if leader is self and self._epoch is None:
            mark = self.ensemble.mark
            self._over = asyncio.Event()
            self._epoch = Epoch(mark.cluster_id, mark.floor + self._latch.czxid)
            self._elections += 1
            self.ensemble.commit = (self.ensemble.commit[0], self._epoch.number)
            self._renew(self.clock())
            self._tell().on_elected(self._epoch)
        address = leader._me if leader is not None else None
        if address != self._leader:
            self._leader = address
            self._tell().on_leader(address)
