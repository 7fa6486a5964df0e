"""Real masters and real workers as processes of the simulation: their own code, with a simulated network, clock, and keepers."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from unittest import mock

from sim_engine import Ensemble, SimEngine
from sim_world import End, Process, World, connection

from sparkd import pipeline, term, worker_links
from sparkd import worker as worker_module
from sparkd.coordination import epoch as marks
from sparkd.coordination.api import MasterAddress
from sparkd.core.states import MasterStatus
from sparkd.core.values import Now, Policy, ProcessRef
from sparkd.master import Master
from sparkd.processes import pool
from sparkd.processes.files import Layout
from sparkd.processes.journal import Journal
from sparkd.processes.keeping import NEVER, Order
from sparkd.processes.supervise import Exit
from sparkd.rpc.control import ConnectionLost, ControlError
from sparkd.rpc.messages import Message
from sparkd.settings import MasterSettings, WebSettings, WorkerSettings
from sparkd.worker import Worker

WORKER_TIMEOUT_S = 6.0
HEARTBEAT_S = 1.5
SECRET = b"secret of the simulation"
Start = tuple[ProcessRef, int]  # a process and its run
KIND: dict[str, Literal["driver", "executor"]] = {"d": "driver", "e": "executor"}


class Sim:
    """One cluster: `masters` on one ensemble, `workers` with a directory each below `directory`."""

    def __init__(self, seed: int, directory: Path, masters: int = 3, workers: int = 3, lossy: float = 0.01) -> None:
        self.world = World(seed)
        self.directory = directory
        self.lossy = lossy
        self.stops_while_speaking = 0.015  # share of a leader's commands during which it is stopped
        self.ensemble = Ensemble(session_s=4.0, clock=lambda: self.world.time, mark=marks.ClusterMark("simulated"))
        self.policy = Policy(worker_timeout_s=WORKER_TIMEOUT_S, retained_drivers=1000)
        self.masters = [MasterNode(self, f"m{number}") for number in range(masters)]
        self.hosts = [Host(self, f"w{number}") for number in range(workers)]
        self.starts: dict[Start, list[str]] = defaultdict(list)
        self.counts: Counter[str] = Counter()

    @property
    def nodes(self) -> list[MasterNode | Host]:
        """All that can be started."""
        return [*self.masters, *self.hosts]

    def process(self, name: str) -> Process | None:
        """The living process of this name."""
        for node in self.nodes:
            if node.name == name and node.process is not None and not node.process.dead:
                return node.process
        return None

    def alive(self) -> list[MasterNode]:
        """Who would say ALIVE at this instant."""
        return [node for node in self.masters if node.says() is MasterStatus.ALIVE]

    async def connect(self, host: str, port: int, secret: bytes, *, name: str = "", timeout_s: float = 0.0) -> End:
        """What rpc.control.connect is. Raises ConnectionLost."""
        loop: Any = asyncio.get_running_loop()
        mine: Process = loop.process
        world = self.world
        await asyncio.sleep(1e-3 + world.lag(0.03))
        node = next(node for node in self.masters if node.name == host)
        theirs = node.process
        if theirs is None or theirs.dead or node.master is None:
            raise ConnectionLost("refused")
        if theirs.paused or world.separated(mine.name, host) > world.time:
            await asyncio.sleep(timeout_s)
            raise ConnectionLost("no answer")
        near, far = connection(mine, theirs)
        far.name = name
        far.sent = node.speaks
        connected: Any = far
        theirs.spawn(_served(node.master, connected))
        return near

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Put the simulated clock, network and keepers where the daemons look for theirs."""
        world = self.world

        def boot_s() -> float:
            return world.time

        def now() -> Now:
            return Now(1_700_000_000_000 + int(world.time * 1000), world.time)

        sim = self

        class SimRun(Run):
            def __init__(self, control: Path) -> None:
                super().__init__(sim, control)

        control = SimpleNamespace(connect=self.connect, ControlError=ControlError, Connection=End)
        with ExitStack() as stack:
            for module in (pipeline, term):
                stack.enter_context(mock.patch.object(module, "boot_s", boot_s))
                stack.enter_context(mock.patch.object(module, "now", now))
            stack.enter_context(mock.patch.object(worker_links, "control", control))
            stack.enter_context(mock.patch.object(worker_links, "random", world.random))
            stack.enter_context(mock.patch.object(pool, "Run", SimRun))
            stack.enter_context(mock.patch.object(pool, "now_ms", lambda: now().wall_ms))
            for owner, name in ((Journal, "_write"), (pool, "write_private"), (pool, "write_files"), (worker_module, "save_state")):
                stack.enter_context(mock.patch.object(owner, name, self._on_disk(getattr(owner, name))))
            stack.enter_context(mock.patch("os.fsync", lambda fd: None))  # a simulated host that fails keeps its disk
            stack.enter_context(mock.patch("os.fdatasync", lambda fd: None))
            yield

    def _on_disk(self, write: Callable[..., Any]) -> Callable[..., Any]:
        """Have a function that writes below a host's directory fail while that one's disk is full."""

        def written(what: Any, *arguments: Any) -> Any:
            path = what.path if isinstance(what, Journal) else what.root if isinstance(what, Layout) else what
            if any(host.full and host.directory in (path, *path.parents) for host in self.hosts):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            return write(what, *arguments)

        return written

    def close(self) -> None:
        """End everything."""
        self.world.close()
        for host in self.hosts:
            host.let_go()


class Ordered(dict[Any, None]):
    """A set in the order of its items: a real one's depends on where they are in memory."""

    def add(self, item: Any) -> None:
        self[item] = None

    def discard(self, item: Any) -> None:
        self.pop(item, None)


async def _served(master: Master, end: Any) -> None:
    try:
        await master._sessions.serve(end)
    except ControlError:
        pass
    finally:
        end.close()


class MasterNode:
    """A place where a master runs, is killed and started again."""

    def __init__(self, sim: Sim, name: str) -> None:
        self.sim, self.name = sim, name
        self.process: Process | None = None
        self.engine: SimEngine | None = None
        self.master: Master | None = None
        self.stopping = False

    @property
    def up(self) -> bool:
        return self.process is not None and not self.process.dead

    def says(self) -> MasterStatus:
        """What it would say now; a paused one, should it go on now."""
        master = self.master
        if master is None or master._term is None or not self.up:
            return MasterStatus.STANDBY
        return master.status()

    def start(self) -> None:
        if self.up:
            return
        sim = self.sim
        self.process = Process(sim.world, self.name)
        self.stopping = False
        self.engine = engine = SimEngine(sim.world, sim.ensemble, self.process, sim.lossy)
        settings = MasterSettings(self.name, 7077, policy=sim.policy, cluster_secret=SECRET)
        self.master = master = self.process.inside(lambda: Master(settings, engine))
        sessions: Any = master._sessions
        sessions._all = Ordered()
        self.process.spawn(engine.start(MasterAddress(self.name, 7077), master))

    def kill(self) -> None:
        """SIGKILL. Its session ends later, unless somebody fences it."""
        if self.process is None or self.engine is None or self.process.dead:
            return
        self.check()
        self.process.kill()
        self._session_ends(self.engine, lambda: True)
        if self.sim.world.random.random() < 0.5:
            self.sim.world.after(0.03 + self.sim.world.lag(0.5), lambda engine=self.engine: self.sim.ensemble.remove(engine))  # type: ignore[misc]

    def pause(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT later."""
        if self.process is None or self.engine is None or self.process.dead:
            return
        self.process.pause(seconds)
        self._away(self.engine, seconds, lambda process=self.process: process.paused)  # type: ignore[misc]

    def cut(self, seconds: float) -> None:
        """No word to or from the ensemble for a while."""
        engine = self.engine
        if engine is None or not self.up or engine.cut:
            return
        engine.cut = True

        def heal() -> None:
            engine.cut = False
            engine.wake()

        self.sim.world.after(seconds, heal)
        self._away(engine, seconds, lambda: engine.cut)

    def _away(self, engine: SimEngine, seconds: float, still: Callable[[], bool]) -> None:
        if seconds > self.sim.ensemble.session_s * 0.9:
            self._session_ends(engine, still)

    def _session_ends(self, engine: SimEngine, still: Callable[[], bool]) -> None:
        """Not before a session after its last renewal, and only if it is still away."""
        world, ensemble = self.sim.world, self.sim.ensemble
        began = world.time
        leads = engine.lease_left_s() > 0
        earliest = engine.last_renewal() + ensemble.session_s if leads else world.time + 0.75 * ensemble.session_s

        def expire() -> None:
            if not ensemble.quorum:
                world.after(1.0 + world.lag(2.0), expire)
            elif still() and engine.latch is not None and engine.last_renewal() <= began:
                self.sim.counts["expired"] += 1
                ensemble.expire(engine)

        world.at(max(earliest, world.time + 0.01) + world.lag(1.5), expire)

    def stop(self) -> None:
        """SIGTERM: the real hand-over."""
        process, master, engine = self.process, self.master, self.engine
        if process is None or master is None or engine is None or process.dead or self.stopping:
            return
        self.stopping = True

        async def stop() -> None:
            await master.stop()
            self.check()
            process.kill()
            if engine.latch is not None:  # it could not be released
                self._session_ends(engine, lambda: True)

        process.spawn(stop())

    def check(self) -> None:
        """No event may have been refused by the core, and nothing may have failed within."""
        if self.master is not None and self.master._figures.failed_events:
            self.sim.world.fail(f"{self.name}: the core refused an event")

    def speaks(self, end: End, message: Message) -> None:
        """A command of the leader leaves: only while its lease lasts."""
        world = self.sim.world
        if hasattr(message, "epoch") and message.t != "leading":
            if self.says() is not MasterStatus.ALIVE:
                world.fail(f"{self.name} says {message} and is {self.says()}")
            self.sim.counts[f"said_{message.t}"] += 1
            if world.random.random() < self.sim.stops_while_speaking:
                self.sim.counts["stopped_while_speaking"] += 1
                self.pause(0.5 + world.random.random() * 9)


class Host:
    """A host with a disk, a worker, and processes that outlive the worker."""

    def __init__(self, sim: Sim, name: str) -> None:
        self.sim, self.name = sim, name
        self.process: Process | None = None
        self.worker: Worker | None = None
        self.directory = sim.directory / name
        self.boot = 0
        self.full = False
        self.runs: dict[Path, Running] = {}
        self._held: Worker | None = None  # whose files are open

    @property
    def up(self) -> bool:
        return self.process is not None and not self.process.dead

    def start(self) -> None:
        if self.up:
            return
        self.let_go()
        world = self.sim.world
        self.process = Process(world, self.name)
        masters = tuple((node.name, 7077) for node in self.sim.masters)
        settings = WorkerSettings(
            self.name,
            masters,
            port=8000,
            web=WebSettings(port=0),
            cores=4,
            memory_mb=4096,
            work_dir=self.directory,
            id_pattern="%.0sworker-%s-%d",
            cluster_secret=SECRET,
            heartbeat_s=HEARTBEAT_S,
            worker_timeout_s=WORKER_TIMEOUT_S,
            driver_terminate_timeout_s=1.0,
        )
        worker = self.worker = self._held = self.process.inside(lambda: Worker(settings))

        async def run() -> None:
            worker._port = 8000
            try:
                await worker._remember()
            except OSError:  # the real one ends, and its unit starts it again
                self.kill()
                world.after(1.0, self.start)
                return
            await worker._pool.adopt()
            worker._links.name = worker.worker_id()
            worker._links.start()
            await worker._heartbeats()

        self.process.spawn(run())

    def kill(self) -> None:
        """SIGKILL of the worker; its processes go on."""
        if self.process is not None and not self.process.dead:
            self.process.kill()

    def let_go(self) -> None:
        """The kernel closes a dead worker's files."""
        worker, self._held = self._held, None
        if worker is not None:
            os.close(worker._journal._fd)
            worker._lock.release()

    def fall(self) -> None:
        """The host itself: the worker, and all that runs."""
        self.kill()
        self.boot += 1
        for running in self.runs.values():
            running.lost_with_host()

    def pause(self, seconds: float) -> None:
        if self.process is not None and not self.process.dead:
            self.process.pause(seconds)


class Running:
    """A run as the host has it, whatever becomes of the worker."""

    def __init__(self, host: Host, control: Path) -> None:
        self.host, self.control = host, control
        self.boot = host.boot
        self.watchers: list[asyncio.Future[None]] = []
        self.state: Literal["coming", "runs", "ended", "buried"] = "coming"
        self.exit = Exit()
        self.began = 0.0
        owner, attempt, run = control.parent.parent.name, control.parent.name, control.name
        self.ref = ProcessRef(KIND[attempt[0]], owner, int(attempt[1:]))
        self.run = int(run.partition("-")[0])

    def begin(self, seconds: float, code: int) -> None:
        """The keeper takes its lock and starts the command, unless it was given up meanwhile."""
        world = self.host.sim.world
        if self.state != "coming" or self.boot != self.host.boot:
            return
        self.state, self.began = "runs", world.time
        self.host.sim.starts[self.ref, self.run].append(self.host.name)
        world.note(f"{self.host.name} starts {self.ref} run {self.run}")
        world.after(seconds, lambda: self.end(code))

    def end(self, code: int, killed: bool = False) -> None:
        if self.state == "runs" and self.boot == self.host.boot:
            self._over()
            self.exit = Exit(code, killed, started_ms=int(self.began * 1000), ended_ms=int(self.host.sim.world.time * 1000))
            self.host.sim.world.note(f"{self.host.name} ends {self.ref} run {self.run} with {code}{' killed' if killed else ''}")

    def lost_with_host(self) -> None:
        if self.state == "runs":
            self._over()
            self.exit = Exit(lost="the host was restarted while it ran", started_ms=int(self.began * 1000))

    def _over(self) -> None:
        self.state = "ended"
        for watcher in self.watchers:
            if not watcher.done():
                watcher.set_result(None)

    def found(self) -> Exit | None:
        """What processes/keeping.py makes of it: buried if no keeper has begun."""
        if self.state == "coming":
            self.state = "buried"
        if self.state == "buried":
            return Exit(error=NEVER)
        return None if self.state == "runs" else self.exit


class Run:
    """What processes/keeping.py's Run is. argv of a job: "job", seconds, exit codes of its runs (the last one's for all that follow)."""

    def __init__(self, sim: Sim, control: Path) -> None:
        self.sim, self.control = sim, control
        self.host = next(host for host in sim.hosts if host.directory in control.parents)

    async def start(self, order: Order) -> str:
        if self.host.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.control))
        self.control.mkdir(parents=True)
        running = self.host.runs[self.control] = Running(self.host, self.control)
        _, seconds, *codes = order.argv
        code = int(codes[min(running.run, len(codes)) - 1])
        world = self.sim.world
        world.after(1e-3 + world.lag(0.1), lambda: running.begin(float(seconds), code))
        while running.state == "coming":
            await asyncio.sleep(0.02)
        return "" if running.state != "buried" else "given up"

    async def find(self) -> Exit | None:
        await asyncio.sleep(self.sim.world.lag(0.01))
        running = self.host.runs.get(self.control)
        return Exit(error=NEVER) if running is None else running.found()

    async def wait(self) -> Exit:
        while True:
            ended = await self.find()
            if ended is not None:
                return ended
            gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.host.runs[self.control].watchers.append(gone)
            await gone

    def terminate(self) -> None:
        running = self.host.runs.get(self.control)
        if running is not None:
            self.sim.world.after(self.sim.world.lag(0.2), lambda: running.end(-15, killed=True))

    kill = terminate

    def close(self) -> None:
        return


def clean(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
