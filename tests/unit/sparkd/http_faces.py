"""Small faces for tests of the HTTP side: what they are told is what they say. And a client that reads answers whole."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from sparkd.coordination.api import MasterAddress, SetAside
from sparkd.core.cluster import Cluster
from sparkd.core.effects import Answer
from sparkd.core.events import ClearCompleted, KillAllDrivers, KillDriver, ProcessChanged, SubmitDriver
from sparkd.core.states import MasterStatus
from sparkd.core.values import DriverDescription, Epoch, Now, Policy, ProcessRef, ProcessReport, WorkerInfo
from sparkd.http.faces import LogSlice, NotAlive, NotDurable
from sparkd.http.server import Running, start_master, start_worker
from sparkd.settings import MasterSettings, RestSettings, WebSettings, WorkerSettings

ME = MasterAddress("127.0.0.1", 7077, "http://127.0.0.1:8080", "http://127.0.0.1:6066")
OTHER = MasterAddress("other", 7077, "http://other:8080", "http://other:6066")
LOOPBACK = WebSettings(host="127.0.0.1", port=0)


def master_settings(**rest: Any) -> MasterSettings:
    """Return settings on free ports of loopback, REST open unless something else is said."""
    values = {"port": 0, "open_to_all": True} | rest
    return MasterSettings(host="127.0.0.1", web=LOOPBACK, rest=RestSettings(**values))


WORKER = WorkerInfo("worker-20260101000000-127.0.0.1-1", "127.0.0.1", 1, cores=3, memory_mb=3072, web_ui="http://127.0.0.1:1")


def report(driver_id: str, state: str, seq: int, **more: Any) -> ProcessChanged:
    """Return what WORKER says of the first attempt of a driver."""
    return ProcessChanged(WORKER.id, ProcessReport(ProcessRef("driver", driver_id, 1), state, 1, 512, seq=seq, **more))


@dataclass
class FakeMaster:
    """A MasterFace."""

    settings: MasterSettings = field(default_factory=master_settings)
    says: MasterStatus = MasterStatus.ALIVE
    led_by: MasterAddress | None = ME
    term: Epoch | None = field(default_factory=lambda: Epoch("c1", 7))
    connected: bool = True
    core: Cluster = field(default_factory=lambda: Cluster(Policy()))
    durable: bool = True
    deposed_meanwhile: bool = False
    submitted: list[tuple[DriverDescription, str]] = field(default_factory=list)
    shown: int = 0
    numbers: dict[str, float] = field(default_factory=dict)
    aside: list[SetAside] = field(default_factory=list)

    def status(self) -> MasterStatus:
        return self.says

    def address(self) -> MasterAddress:
        return ME

    def leader(self) -> MasterAddress | None:
        return self.led_by

    def epoch(self) -> Epoch | None:
        return self.term

    def since_ms(self) -> int:
        return 1_700_000_000_000

    def masters(self) -> Sequence[MasterAddress]:
        return [ME, OTHER]

    def cluster(self) -> Cluster | None:
        return self.core if self.says is not MasterStatus.STANDBY else None

    def set_aside(self) -> Sequence[SetAside]:
        return self.aside

    def coordination(self) -> Mapping[str, object]:
        return {"engine": "NONE", "connected": self.connected}

    def figures(self) -> Mapping[str, float]:
        return self.numbers

    def version(self) -> int:
        return self.shown

    async def changed(self, since: int, timeout_s: float) -> int:
        await asyncio.sleep(0 if since != self.shown else timeout_s)
        return self.shown

    def _lead(self) -> None:
        if self.says is not MasterStatus.ALIVE:
            raise NotAlive(self.says, self.led_by)
        if not self.durable:
            raise NotDurable("The store does not take it: disk full")
        if self.deposed_meanwhile:
            raise NotAlive(MasterStatus.STANDBY, OTHER, uncertain=True)

    def tell(self, event: Any) -> Answer:
        """Let the core take an event now; return the answer to it, if it has one."""
        self.shown += 1
        outcome = self.core.handle(event, Now(time.time_ns() // 1_000_000, time.monotonic()))
        return next((effect for effect in outcome.effects if isinstance(effect, Answer)), Answer(0, True, ""))

    async def submit(self, description: DriverDescription, request_id: str = "") -> Answer:
        self._lead()
        self.submitted.append((description, request_id))
        return self.tell(SubmitDriver(0, description, request_id))

    async def kill_driver(self, driver_id: str, give_up: bool = False) -> Answer:
        self._lead()
        return self.tell(KillDriver(0, driver_id, give_up))

    async def kill_all(self) -> Answer:
        self._lead()
        return self.tell(KillAllDrivers(0))

    async def clear(self) -> Answer:
        self._lead()
        return self.tell(ClearCompleted(0))

    async def kill_application(self, app_id: str) -> Answer:
        self._lead()
        return Answer(0, False, f"no application {app_id}")

    async def decommission(self, hosts: Sequence[str]) -> Answer:
        self._lead()
        return Answer(0, True, "")


@dataclass
class FakeWorker:
    """A WorkerFace."""

    settings: WorkerSettings = field(default_factory=lambda: WorkerSettings("127.0.0.1", (("127.0.0.1", 7077),), web=LOOPBACK, cores=4))
    is_now: str = "ALIVE"
    led_by: MasterAddress | None = ME
    runs: tuple[ProcessReport, ...] = ()
    ran: tuple[ProcessReport, ...] = ()

    def worker_id(self) -> str:
        return "worker-1"

    def state(self) -> str:
        return self.is_now

    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", 7078)

    def leader(self) -> MasterAddress | None:
        return self.led_by

    def epoch(self) -> Epoch | None:
        return Epoch("c1", 7)

    def running(self) -> Sequence[ProcessReport]:
        return self.runs

    def finished(self) -> Sequence[ProcessReport]:
        return self.ran

    def used(self) -> tuple[int, int]:
        return (2, 512)

    def journal_backlog(self) -> int:
        return 3

    def problems(self) -> Sequence[str]:
        return ()

    def figures(self) -> Mapping[str, float]:
        return {"refused_stale_commands_total": 2.0}

    def description(self, owner: str) -> Mapping[str, str]:
        return {"name": f"name of {owner}", "command": "sleep 1"}

    def read_log(self, owner: str, number: int, name: str, offset: int | None, length: int) -> LogSlice:
        raise KeyError(owner)

    def version(self) -> int:
        return 0

    async def changed(self, since: int, timeout_s: float) -> int:
        await asyncio.sleep(timeout_s)
        return 0


@dataclass
class Reply:
    """An HTTP answer, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Client:
    """Talks to both ports of a running daemon."""

    def __init__(self, running: Running, session: aiohttp.ClientSession) -> None:
        self.running = running
        self.session = session

    async def web(self, path: str, method: str = "GET", **more: Any) -> Reply:
        """Ask the web port."""
        return await self._ask(self.running.web_port, path, method, more)

    async def rest(self, path: str, method: str = "GET", **more: Any) -> Reply:
        """Ask the REST port."""
        return await self._ask(self.running.rest_port, path, method, more)

    async def _ask(self, port: int, path: str, method: str, more: dict[str, Any]) -> Reply:
        url = f"http://127.0.0.1:{port}{path}"
        async with self.session.request(method, url, allow_redirects=False, **more) as answer:
            return Reply(answer.status, answer.headers, await answer.read())


def serve(face: FakeMaster | FakeWorker, talk: Callable[[Client], Awaitable[None]]) -> None:
    """Start the daemon's servers on loopback, let `talk` use them, stop them."""

    async def whole() -> None:
        running = await (start_master(face) if isinstance(face, FakeMaster) else start_worker(face))
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
                await talk(Client(running, session))
        finally:
            await running.close()

    asyncio.run(whole())
