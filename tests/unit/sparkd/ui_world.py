"""A small cluster for the pages: the real core, workers that do at once what they are told, faces over it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aiohttp import web

from sparkd.coordination.api import MasterAddress, SetAside
from sparkd.core import events
from sparkd.core.cluster import Cluster
from sparkd.core.effects import Answer, EndProcess, LaunchDriver, LaunchExecutor, Outcome
from sparkd.core.states import MasterStatus
from sparkd.core.values import (
    ApplicationDescription,
    DriverDescription,
    Epoch,
    Now,
    Policy,
    ProcessRef,
    ProcessReport,
    ResourceProfile,
    WorkerInfo,
)
from sparkd.http.faces import LogSlice, NotAlive
from sparkd.http.ui import add_master_routes, add_worker_routes
from sparkd.settings import MasterSettings, RecoverySettings, RestSettings, WebSettings, WorkerSettings

RECOVERY = RecoverySettings("ZOOKEEPER", zookeeper_url="spark82:2181,spark83:2181,spark84:2181")
SPARK82 = MasterAddress("spark82", 7077, "http://spark82:8080", "http://spark82:6066")
SPARK83 = MasterAddress("spark83", 7077, "http://spark83:8080", "http://spark83:6066")


class World:
    """A cluster and its clock. Workers start and end what they are told to, at once."""

    def __init__(self, start_ms: int | None = None) -> None:
        self.wall_ms = start_ms if start_ms is not None else time.time_ns() // 1_000_000
        self.boot_s = 1000.0
        self.cluster = Cluster(Policy())
        self.version = 1
        self._waiting: set[asyncio.Event] = set()
        self._seq = 0

    def handle(self, event: events.Event) -> Outcome:
        """Give the core an event and let the workers answer what it wants of them; the outcome is the event's own."""
        outcome = self.cluster.handle(event, Now(self.wall_ms, self.boot_s))
        for effect in outcome.effects:
            if isinstance(effect, LaunchDriver):
                asked = effect.description
                self._report(effect.worker_id, effect.ref, "RUNNING", asked.cores, asked.memory_mb)
            elif isinstance(effect, LaunchExecutor):
                self._report(effect.worker_id, effect.ref, "RUNNING", effect.cores, effect.memory_mb)
            elif isinstance(effect, EndProcess):
                self._report(effect.worker_id, effect.ref, "KILLED", 0, 0, ended=True)
        self.touch()
        return outcome

    def _report(
        self, worker_id: str, ref: ProcessRef, state: str, cores: int, memory_mb: int, ended: bool = False, code: int | None = None
    ) -> None:
        self._seq += 1
        now = self.wall_ms
        report = ProcessReport(ref, state, cores, memory_mb, self._seq, now, now if ended else 0, code)
        self.handle(events.ProcessChanged(worker_id, report))

    def touch(self) -> None:
        """Something that a page shows has changed."""
        self.version += 1
        for waiting in self._waiting:
            waiting.set()

    async def changed(self, since: int, timeout_s: float) -> int:
        """Wait for another version than `since`."""
        if self.version == since:
            waiting = asyncio.Event()
            self._waiting.add(waiting)
            try:
                async with asyncio.timeout(timeout_s):
                    await waiting.wait()
            except TimeoutError:
                pass
            finally:
                self._waiting.discard(waiting)
        return self.version

    def worker(self, host: str, cores: int = 8, memory_mb: int = 15360, port: int = 41000) -> str:
        """Register a worker; return its id."""
        worker_id = f"worker-20261121090000-{host}-{port}"
        self.handle(events.WorkerRegistered(WorkerInfo(worker_id, host, port, cores, memory_mb, f"http://{host}:8081")))
        return worker_id

    def submit(
        self,
        *argv: str,
        cores: int = 1,
        memory_mb: int = 1024,
        supervise: bool = False,
        name: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """Submit a command; return the driver's id."""
        asked = DriverDescription(
            "command", name, argv, cores=cores, memory_mb=memory_mb, supervise=supervise, environment=environment or {}
        )
        outcome = self.handle(events.SubmitDriver(1, asked))
        return next(effect.id for effect in outcome.effects if isinstance(effect, Answer))

    def application(self, name: str, user: str = "anna", max_cores: int | None = 4) -> str:
        """Register an application; return its id."""
        asked = ApplicationDescription(
            name, user, f"{name}:{self.version}", max_cores, profile=ResourceProfile(0, 2, 2048), web_ui="http://app:4040"
        )
        outcome = self.handle(events.RegisterApplication(1, asked))
        return next(effect.id for effect in outcome.effects if isinstance(effect, Answer))

    def end(self, driver_id: str, state: str, code: int | None, message: str = "") -> None:
        """Let a running driver end by itself."""
        driver = self.cluster.drivers[driver_id]
        self._seq += 1
        report = ProcessReport(
            driver.ref,
            state,
            driver.description.cores,
            driver.description.memory_mb,
            self._seq,
            driver.started_ms,
            self.wall_ms,
            code,
            message,
        )
        self.handle(events.ProcessChanged(driver.worker_id, report))


@dataclass
class FakeMaster:
    """A MasterFace over a World."""

    world: World
    settings: MasterSettings = field(
        default_factory=lambda: MasterSettings("spark82", rest=RestSettings(open_to_all=True), recovery=RECOVERY)
    )
    says: MasterStatus = MasterStatus.ALIVE
    me: MasterAddress = SPARK82
    led_by: MasterAddress | None = None
    others: Sequence[MasterAddress] = (SPARK83,)
    aside: Sequence[SetAside] = ()
    since: int = 0
    killed: list[tuple[str, str]] = field(default_factory=list)
    decommissioned: list[str] = field(default_factory=list)

    def status(self) -> MasterStatus:
        return self.says

    def address(self) -> MasterAddress:
        return self.me

    def leader(self) -> MasterAddress | None:
        return self.led_by or (self.me if self.says is MasterStatus.ALIVE else None)

    def epoch(self) -> Epoch | None:
        return Epoch("3f1c9a52-7d1e-4d9b-8a80-31a3ec1f3e77", 8589934611)

    def since_ms(self) -> int:
        return self.since or self.world.wall_ms

    def masters(self) -> Sequence[MasterAddress]:
        return [self.me, *self.others]

    def cluster(self) -> Cluster | None:
        return self.world.cluster if self.says is MasterStatus.ALIVE else None

    def set_aside(self) -> Sequence[SetAside]:
        return self.aside

    def coordination(self) -> Mapping[str, object]:
        return {
            "engine": "ZOOKEEPER",
            "connected": True,
            "server": ("spark83", 2181),
            "session": "0x10000b1d4e60003",
            "latch": "/spark/election/_c_7c1e-latch-0000000012",
            "lease_left_s": 2.84,
            "suspended": False,
            "cluster_id": "3f1c9a52-7d1e-4d9b-8a80-31a3ec1f3e77",
            "epoch": 8589934611,
            "elections": 3,
            "commits": 41,
            "last_commit_ms": 2.318,
            "masters": ["spark://spark82:7077"],
        }

    def figures(self) -> Mapping[str, float]:
        return {}

    def version(self) -> int:
        return self.world.version

    async def changed(self, since: int, timeout_s: float) -> int:
        return await self.world.changed(since, timeout_s)

    async def submit(self, description: DriverDescription, request_id: str = "") -> Answer:
        raise NotImplementedError

    async def kill_driver(self, driver_id: str, give_up: bool = False) -> Answer:
        return self._do("driver", driver_id, events.KillDriver(1, driver_id, give_up))

    async def kill_all(self) -> Answer:
        raise NotImplementedError

    async def clear(self) -> Answer:
        raise NotImplementedError

    async def kill_application(self, app_id: str) -> Answer:
        self.killed.append(("app", app_id))
        self.world.handle(events.UnregisterApplication(app_id, "KILLED", "killed through the web UI"))
        return Answer(1, True, "", app_id)

    async def decommission(self, hosts: Sequence[str]) -> Answer:
        self.decommissioned.extend(hosts)
        return Answer(1, "spark84" in hosts, "one worker" if "spark84" in hosts else "no worker there")

    def _do(self, kind: str, entity: str, event: events.Event) -> Answer:
        if self.says is not MasterStatus.ALIVE:
            raise NotAlive(self.says, self.led_by)
        self.killed.append((kind, entity))
        outcome = self.world.handle(event)
        return next(effect for effect in outcome.effects if isinstance(effect, Answer))


LOG = b"".join(b"line %05d of a log\n" % number for number in range(20_000))


@dataclass
class FakeWorker:
    """A WorkerFace with one running and one ended driver, and an executor."""

    settings: WorkerSettings = field(
        default_factory=lambda: WorkerSettings(
            "spark84", (("spark82", 7077), ("spark83", 7077)), web=WebSettings(port=8081), cores=8, memory_mb=15360
        )
    )
    now_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    says: str = "ALIVE"
    log: bytes = LOG

    def worker_id(self) -> str:
        return "worker-20261121090000-spark84-41000"

    def state(self) -> str:
        return self.says

    def address(self) -> tuple[str, int]:
        return ("spark84", 41000)

    def leader(self) -> MasterAddress | None:
        return MasterAddress("spark82", 7077, "http://spark82:8080") if self.says == "ALIVE" else None

    def epoch(self) -> Epoch | None:
        return Epoch("3f1c9a52", 8589934611)

    def running(self) -> Sequence[ProcessReport]:
        now = self.now_ms
        return [
            ProcessReport(ProcessRef("driver", "driver-20261121093000-0007", 2), "RUNNING", 1, 1024, 3, now - 95_000, runs=4),
            ProcessReport(ProcessRef("executor", "app-20261121093500-0001", 0), "RUNNING", 2, 2048, 4, now - 700_000),
        ]

    def finished(self) -> Sequence[ProcessReport]:
        now = self.now_ms
        ref = ProcessRef("driver", "driver-20261121093000-0003", 1)
        return [ProcessReport(ref, "FAILED", 1, 1024, 2, now - 9_000_000, now - 8_000_000, -9, "killed from outside")]

    def used(self) -> tuple[int, int]:
        return (3, 3072)

    def journal_backlog(self) -> int:
        return 0

    def problems(self) -> Sequence[str]:
        return ["The disk is full."] if self.says != "ALIVE" else []

    def figures(self) -> Mapping[str, float]:
        return {}

    def description(self, owner: str) -> Mapping[str, str]:
        return {
            "name": "nightly import",
            "command": "python3 import.py --password hunter2 --day 2026-11-20",
            "environment": "AWS_SECRET=never-shown",
        }

    def read_log(self, owner: str, number: int, name: str, offset: int | None, length: int) -> LogSlice:
        if (owner, number) not in {(report.ref.owner, report.ref.number) for report in (*self.running(), *self.finished())}:
            raise KeyError(owner)
        log = self.log if name == "stdout" else b""
        begin = max(0, len(log) - length) if offset is None else min(offset, len(log))
        return LogSlice(log[begin : begin + length], begin, min(begin + length, len(log)), len(log))

    def version(self) -> int:
        return 1

    async def changed(self, since: int, timeout_s: float) -> int:
        await asyncio.sleep(timeout_s)
        return 1


@dataclass
class Served:
    """An app that listens on loopback."""

    port: int
    runner: web.AppRunner

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def close(self) -> None:
        await self.runner.cleanup()


async def serve(face: FakeMaster | FakeWorker, port: int = 0) -> Served:
    """Serve the pages of a face on a port of loopback."""
    app = web.Application()
    if isinstance(face, FakeMaster):
        add_master_routes(app, face)
    else:
        add_worker_routes(app, face)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    sockets = site._server.sockets  # type: ignore[union-attr]
    return Served(int(sockets[0].getsockname()[1]), runner)


def busy_world() -> World:
    """A cluster with something of everything."""
    world = World(time.time_ns() // 1_000_000 - 7_200_000)
    for host in ("spark83", "spark84", "spark85"):
        world.worker(host)
    world.worker("spark86", 16, 63488)
    ended = [world.submit("python3", "/srv/jobs/import.py", "--day", "2026-11-20", name="nightly import") for _ in range(3)]
    world.wall_ms += 340_000
    world.end(ended[0], "FINISHED", 0)
    world.wall_ms += 12_000
    world.end(ended[1], "FAILED", 1, "Exited with code 1")
    world.handle(events.KillDriver(1, ended[2]))
    world.application("report", max_cores=6)
    old = world.application("backfill", "ben")
    world.wall_ms += 1_500_000
    world.handle(events.UnregisterApplication(old))
    world.wall_ms += 4_000_000
    world.submit(
        "/srv/jobs/stream", "--topic", "clicks", "--token=abc123", name="clicks to parquet", cores=4, memory_mb=4096, supervise=True
    )
    world.submit("sleep", "600", cores=2, memory_mb=2048)
    world.submit("python3", "/srv/jobs/train.py", cores=8, memory_mb=8192, name="train the ranking model")
    world.wall_ms += 600_000
    world.submit("./big-join", cores=64, memory_mb=131072, name="big join")
    world.submit("./wide", cores=14, memory_mb=16384, name="wide scan")
    world.handle(events.WorkerDisconnected("worker-20261121090000-spark85-41000"))
    world.wall_ms = time.time_ns() // 1_000_000 - 8000
    for worker in list(world.cluster.workers):
        if "spark85" not in worker:
            world.handle(events.WorkerHeartbeat(worker))
    return world
