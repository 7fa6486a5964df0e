"""Masters on an in-memory ensemble, and a worker that says what a test wants, over loopback."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sparkd.coordination.memory import MemoryEngine, MemoryEnsemble
from sparkd.core.states import MasterStatus
from sparkd.core.values import DriverDescription, Epoch, Policy, ProcessRef, ProcessReport, WorkerInfo
from sparkd.master import Master
from sparkd.rpc import messages as msg
from sparkd.rpc.control import Connection, connect
from sparkd.settings import MasterSettings, RestSettings, WebSettings

SECRET = b"secret of the cluster"
TRUE = DriverDescription("command", "true", argv=("true",), memory_mb=128)
ATTEMPT_S = 10.0

M = TypeVar("M")


def settings(secret: bytes = SECRET) -> MasterSettings:
    return MasterSettings(
        "127.0.0.1",
        0,
        web=WebSettings("127.0.0.1", 0),
        rest=RestSettings(port=0, open_to_all=True),
        policy=Policy(),
        cluster_secret=secret,
    )


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait for a condition; fail after ATTEMPT_S."""
    end = time.monotonic() + ATTEMPT_S
    while not condition():
        assert time.monotonic() < end, f"never came: {what}"
        await asyncio.sleep(0.002)


@dataclass
class World:
    """Masters of one cluster. The session is short: tests that lose it wait for it."""

    ensemble: MemoryEnsemble = field(default_factory=lambda: MemoryEnsemble(session_s=0.4))
    masters: list[Master] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)

    async def master(self, engine: MemoryEngine | None = None) -> Master:
        """Start one more."""
        master = Master(settings(), engine or MemoryEngine(self.ensemble))
        await master.start()
        self.masters.append(master)
        return master

    async def leading(self, engine: MemoryEngine | None = None) -> Master:
        """Start one that leads."""
        master = await self.master(engine)
        await alive(master)
        return master

    async def worker(self, *masters: Master, id: str = "w1", cores: int = 4) -> Worker:
        """A worker, connected to these masters, not registered."""
        worker = Worker(id, cores)
        for master in masters:
            worker.links.append(await connect("127.0.0.1", master.address().port, SECRET, name=id))
        self.workers.append(worker)
        return worker


async def alive(master: Master) -> None:
    await until(lambda: master.status() is MasterStatus.ALIVE, "ALIVE")


def engine_of(master: Master) -> MemoryEngine:
    engine = master._engine
    assert isinstance(engine, MemoryEngine)
    return engine


class Worker:
    """The far end of connections, by hand."""

    def __init__(self, worker_id: str, cores: int) -> None:
        self.id = worker_id
        self.info = WorkerInfo(worker_id, "127.0.0.1", 1 + zlib.crc32(worker_id.encode()) % 60_000, cores, 4096)
        self.links: list[Connection] = []
        self.seq = 0

    async def next(self, kind: type[M], link: int = 0) -> M:
        """The next message, which must be of this kind."""
        message = await asyncio.wait_for(self.links[link].receive(), ATTEMPT_S)
        assert isinstance(message, kind), message
        return message

    async def quiet(self, link: int = 0, seconds: float = 0.1) -> bool:
        """Nothing comes for a while."""
        try:
            await asyncio.wait_for(self.links[link].receive(), seconds)
        except TimeoutError:
            return True
        return False

    async def register(self, link: int = 0, *processes: ProcessReport, seen: Epoch | None = None) -> msg.Accepted:
        """Take the leader's greeting and register."""
        await self.next(msg.Leading, link)
        self.links[link].send(msg.Register(self.info, seen, processes))
        return await self.next(msg.Accepted, link)

    def report(self, ref: ProcessRef, state: str, **more: Any) -> ProcessReport:
        """A new entry of its journal."""
        self.seq += 1
        return ProcessReport(ref, state, 1, 128, seq=self.seq, **more)

    async def tell(self, ref: ProcessRef, state: str, link: int = 0, **more: Any) -> msg.Ack:
        """Send an entry, wait until it is acknowledged."""
        self.links[link].send(msg.Journal((self.report(ref, state, **more),)))
        return await self.next(msg.Ack, link)


def run(test: Callable[[World], Awaitable[None]]) -> None:
    """Run a test in a world, and stop what it started."""

    async def whole() -> None:
        world = World()
        try:
            async with asyncio.timeout(30):
                await test(world)
        finally:
            for worker in world.workers:
                for link in worker.links:
                    link.abort()
            for master in world.masters:
                await master.stop()

    asyncio.run(whole())
