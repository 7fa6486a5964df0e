"""The in-memory engine with a network to its ensemble: requests and answers take time, get lost, arrive late.

As on ZooKeeper: a transaction checks the leader's latch and the version of the commit node; one without an answer is looked up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sim_world import Process, World

from sparkd.coordination import lease, records
from sparkd.coordination.api import Interrupted, Loaded, NotLeader, StoreUnavailable
from sparkd.coordination.memory import MemoryEngine, MemoryEnsemble, _Latch
from sparkd.coordination.store import Put
from sparkd.core.effects import Write
from sparkd.core.values import Epoch


@dataclass
class Ensemble(MemoryEnsemble):
    version: int = 0  # of the commit node
    applied: Callable[[Sequence[Put], Epoch], None] = lambda puts, epoch: None


class SimEngine(MemoryEngine):
    """lossy: share of requests, and of answers, that get lost."""

    def __init__(self, world: World, ensemble: Ensemble, process: Process, lossy: float) -> None:
        super().__init__(ensemble, lambda: world.time)
        self.world, self.there, self.process, self.lossy = world, ensemble, process, lossy
        self.version = 0
        self.away_since: float | None = None  # since when its server has not heard of it

    @property
    def reachable(self) -> bool:
        return not self.cut and self.there.quorum

    @property
    def latch(self) -> _Latch | None:
        return next((latch for latch in self.there.latches if latch.engine is self), None)

    def last_renewal(self) -> float:
        """When the renewal was sent that its lease counts from."""
        return self._lease.until - lease.LEASE_SHARE * self.there.session_s

    def _still(self, epoch: Epoch, whatever_the_lease: bool = False) -> None:
        if self._epoch is not epoch:
            raise NotLeader(f"leadership was lost: {self._why}")
        if not whatever_the_lease and (self._suspended or self.lease_left_s() <= 0):
            raise Interrupted("leadership is suspended")

    async def _reach(self, epoch: Epoch, whatever_the_lease: bool = False) -> None:
        while True:
            self._still(epoch, whatever_the_lease)
            if self.reachable:
                return
            await asyncio.sleep(0.05)

    async def load(self) -> Loaded:
        epoch = self._leading()
        await self._reach(epoch)
        await asyncio.sleep(self.world.lag(0.05))
        await self._reach(epoch)
        if self.latch is None:
            raise NotLeader("the latch was deleted")
        self.there.version += 1  # nothing that is still under way is carried out after this
        self.version = self.there.version
        return await super().load()

    async def commit(self, batch: Sequence[Write], request_id: str) -> None:
        epoch = self._leading()
        try:
            puts = self._known.encode(batch)
        except (ValueError, TypeError) as error:
            raise StoreUnavailable(str(error)) from error
        while True:
            await self._reach(epoch)
            sent = self.clock()
            said = await self._ask(epoch, puts, request_id)
            if said == "stored":
                self.version += 1
            elif said == "no latch":
                self._latch = None
                self._depose("the latch was deleted")
                raise NotLeader("the latch was deleted")
            elif said.startswith("refused"):
                raise StoreUnavailable(said)
            elif not await self._look_up(epoch, request_id):
                continue
            self._renew(sent)
            self._known.stored(puts)
            return

    async def _ask(self, epoch: Epoch, puts: Sequence[Put], request_id: str) -> str:
        """Send a transaction; return what the server says, "" if no answer comes. Raises NotLeader when the term is over first."""
        world, answer, version = self.world, asyncio.get_running_loop().create_future(), self.version

        def reply(said: str) -> None:
            if self.reachable and not self.process.dead and not answer.done():
                answer.set_result(said)

        def serve() -> None:
            said = self._serve(epoch, puts, request_id, version)
            if said and world.random.random() >= self.lossy:
                world.after(1e-4 + world.lag(0.02), lambda: reply(said))

        begun = max(world.time, self.process.paused_until)
        if world.random.random() >= self.lossy:
            world.at(begun + 1e-4 + world.lag(0.03), serve)
        elif world.random.random() < 0.3:  # not lost, only very late
            world.at(begun + world.random.random() * 3, serve)
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait([answer, over], timeout=0.25 * self.there.session_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
        self._still(epoch, whatever_the_lease=True)
        if answer.done():
            return str(answer.result())
        answer.cancel()
        return ""

    def _serve(self, epoch: Epoch, puts: Sequence[Put], request_id: str, version: int) -> str:
        """What the ensemble does with a transaction; "" if it never came."""
        there = self.there
        if not self.reachable:
            return ""
        latch = self.latch
        if latch is None or latch.czxid + there.mark.floor != epoch.number:
            return "no latch"
        if version != there.version:
            return "bad version"
        if there.refuse:
            return f"refused: {there.refuse}"
        for put in puts:
            key = (put.key[0], records.node_name(put.key[1]))
            if put.raw is None:
                there.records.pop(key, None)
            else:
                there.records[key] = put.raw
        there.commit = (request_id, epoch.number)
        there.version += 1
        there.next_zxid()
        there.applied(puts, epoch)
        return "stored"

    async def _look_up(self, epoch: Epoch, request_id: str) -> bool:
        await self._reach(epoch, whatever_the_lease=True)
        await asyncio.sleep(self.world.lag(0.02))
        await self._reach(epoch, whatever_the_lease=True)
        self.version = self.there.version
        return self.there.commit == (request_id, epoch.number)

    async def step_down(self) -> None:
        """What was sent before goes before."""
        self._stepped_down = True
        self._depose("stepping down")
        await asyncio.sleep(self.world.lag(0.03))
        await super().step_down()
