"""The worker: a thin shell around its processes (processes/pool.py) and its connections to the masters (worker_links.py).

SIGTERM   under systemd, when the unit's job is a restart: leaves the processes to the next worker. Otherwise ends them, and itself
SIGINT    ends them, and itself
SIGHUP    leaves them, and ends itself. So does SIGKILL
SIGPWR    (spark.worker.decommission.signal) takes no more work; what runs goes on. Until the worker is restarted
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import signal
import time
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path

from .coordination.api import MasterAddress
from .core.values import Epoch, ProcessRef, ProcessReport, WorkerInfo
from .http import server
from .http.faces import LogSlice
from .processes.cleanup import clean
from .processes.files import Layout, Lock, State, WorkDirError, load_state, save_state
from .processes.journal import Journal
from .processes.logs import read_log
from .processes.pool import KILL_GRACE_S, Pool
from .processes.service import current_job
from .rpc import messages as wire
from .settings import WorkerSettings
from .systemd import Notifier
from .worker_links import Link, Links, judge

log = logging.getLogger(__name__)

LAST_WORDS_S = 1.0  # for the leader to acknowledge the ends of a stop
REFUSED_AGAIN_S = 2.0


class Worker:
    """State of a running worker; the face of its pages (http/faces.py WorkerFace)."""

    def __init__(self, settings: WorkerSettings) -> None:
        """Take the work directory. Raises WorkDirError."""
        self.settings = settings
        self._layout = Layout(settings.work_dir.absolute())
        self._layout.make()
        self._lock = Lock(self._layout)
        try:
            self._stored = load_state(self._layout)
            self._journal = Journal(self._layout.journal)
        except OSError as error:
            self._lock.release()
            raise WorkDirError(f"cannot use {error.filename or self._layout.control}: {error.strerror}") from error
        except WorkDirError:
            self._lock.release()
            raise
        self._pool = Pool(settings, self._layout, self._journal, self._on_report)
        self._state = State("")
        self._port = self._web_port = 0
        self._following = asyncio.Lock()
        self._leader: Link | None = None  # it leads, and was sent a register
        self._leader_address: MasterAddress | None = None
        self._accepted = False
        self._sent = 0  # journal entries up to here went to this leader
        self._unacknowledged = 0  # entries up to here were out at the last heartbeat
        self._decommissioned = self._stopping = False
        self._problem = ""
        self._version, self._news = 1, asyncio.Event()
        self._forget_leader: asyncio.TimerHandle | None = None
        names = ("refused_stale_commands", "foreign_leaders", "registrations", "refused_registrations", "cleaned_directories")
        self._counts = dict.fromkeys(names, 0)
        self._links = Links(settings.masters, settings.cluster_secret, self._on_message, self._on_lost)
        self._notifier = Notifier()
        self._end: asyncio.Future[str] | None = None

    # Life

    async def run(self) -> int:
        """Serve until a signal; return the exit code. Raises OSError if a port cannot be bound."""
        loop = asyncio.get_running_loop()
        self._end = loop.create_future()
        self._signals(loop)
        stored_port = self._stored.port if self._stored else 0
        listener = await self._listen(self.settings.port or stored_port)
        pages = await server.start_worker(self)
        tasks: list[asyncio.Task[None]] = []
        try:
            self._port = listener.sockets[0].getsockname()[1]
            self._web_port = pages.web_port
            await self._remember()
            await self._pool.adopt()
            self._links.name = self._state.worker_id
            self._links.start()
            tasks = [asyncio.create_task(work()) for work in (self._heartbeats, self._cleanups)]
            self._notifier.ready(f"{self._state.worker_id}: no leader yet")
            self._notifier.watch(loop)
            log.info("event=started worker=%s port=%d web_port=%d", self._state.worker_id, self._port, self._web_port)
            how = await self._end
            self._notifier.stopping()
            log.info("event=ending worker=%s how=%s", self._state.worker_id, how)
            if how == "stop":
                await self._stop()
            return 0
        finally:
            for task in tasks:
                task.cancel()
            await self._links.close()
            await self._pool.leave()
            await self._journal.close()
            listener.close()
            await pages.close()
            self._notifier.close()
            self._lock.release()

    async def _listen(self, port: int) -> asyncio.Server:
        """Hold the worker's port: executors will talk there; until then whoever comes is turned away. Raises OSError."""

        async def away(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        try:
            return await asyncio.start_server(away, self.settings.host, port)
        except OSError as error:
            if self.settings.port or not port:
                where = f"{self.settings.host}:{port}"
                raise OSError(f"the worker cannot listen on {where} (SPARK_WORKER_HOST, SPARK_WORKER_PORT): {error.strerror}") from error
            return await asyncio.start_server(away, self.settings.host, 0)  # the port it had is somebody else's now

    async def _remember(self) -> None:
        """Know who it is, for good. Raises OSError."""
        worker_id = self._stored.worker_id if self._stored else ""
        if not worker_id:
            stamp = time.strftime("%Y%m%d%H%M%S")
            worker_id = self.settings.id_pattern % (stamp, self.settings.host, self._port)
        self._state = State(worker_id, self._stored.epoch if self._stored else None, self._port)
        if self._state != self._stored:
            await asyncio.to_thread(save_state, self._layout, self._state)

    def _signals(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_signal_handler(signal.SIGTERM, lambda: self._task(self._on_term()))
        loop.add_signal_handler(signal.SIGINT, self._finish, "stop")
        loop.add_signal_handler(signal.SIGHUP, self._finish, "leave")
        number = getattr(signal, f"SIG{self.settings.decommission_signal.upper().removeprefix('SIG')}", None)
        if number is None:
            log.warning("event=no_such_signal name=%s", self.settings.decommission_signal)
        else:
            loop.add_signal_handler(number, self._decommission, f"signal {self.settings.decommission_signal}")

    async def _on_term(self) -> None:
        self._finish("leave" if await current_job() == "restart" else "stop")

    def _finish(self, how: str) -> None:
        if self._end is not None and not self._end.done():
            self._end.set_result(how)

    async def _stop(self) -> None:
        """End all processes, and tell the leader of it while there is one."""
        self._stopping = True
        self._decommission("it stops")  # first, so that what is relaunched goes elsewhere
        await self._pool.stop("the worker was stopped", self.settings.driver_terminate_timeout_s + KILL_GRACE_S)
        self._send_entries()
        until = time.monotonic() + LAST_WORDS_S
        while self._accepted and self._journal.unacknowledged() and time.monotonic() < until:
            await asyncio.sleep(0.02)

    # What masters say

    async def _on_message(self, link: Link, message: wire.Message) -> None:
        match message:
            case wire.Standby(leader):
                self._standby(link, leader)
            case wire.Leading(epoch, address):
                link.address = address or link.address
                await self._leading(link, epoch)
            case wire.Refused(why):
                self._refused(link, why)
            case wire.Accepted() | wire.LaunchDriver() | wire.LaunchExecutor() | wire.End() | wire.Ack():
                if self._obeys(link, message):
                    await self._command(link, message)
            case wire.ForgetApplication() | wire.Decommission():
                if self._obeys(link, message):
                    await self._command(link, message)
            case _:
                log.warning("event=unexpected_message master=%s t=%s", link.name, message.t)

    def _standby(self, link: Link, leader: MasterAddress | None) -> None:
        link.role = "standby"
        if link is self._leader:
            self._lose_leader(f"{link.name} is a standby now")
        if leader is not None:
            for other in self._links.links:
                if (other.host, other.port) == (leader.host, leader.port):
                    other.address = leader
            if not self._accepted:
                self._leader_address = leader
        self._changed()

    async def _leading(self, link: Link, epoch: Epoch) -> None:
        link.role, link.epoch = "leading", epoch
        async with self._following:  # one after the other: two at once could lower the epoch on disk
            if link.role == "leading" and link.epoch == epoch and link.connection is not None:
                await self._follow(link, epoch)

    async def _follow(self, link: Link, epoch: Epoch) -> None:
        """Register with who leads, unless a newer one was obeyed."""
        verdict = judge(self._state.epoch, epoch)
        if verdict == "stale":
            self._counts["refused_stale_commands"] += 1
            log.warning("event=stale_leader master=%s epoch=%d seen=%s", link.name, epoch.number, self._state.epoch)
            return
        if verdict == "foreign":
            self._foreign(link, epoch)
            return
        if not await self._raise_epoch(epoch) or link.connection is None:
            return
        if self._leader is not link:
            if self._leader is not None:
                self._lose_leader(f"{link.name} leads now")
            log.info("event=leader master=%s epoch=%d", link.name, epoch.number)
        self._leader, self._accepted = link, False
        self._leader_address = link.address or MasterAddress(link.host, link.port)
        self._problem = ""
        self._register(link)

    async def _raise_epoch(self, epoch: Epoch) -> bool:
        """Remember the highest epoch, durably, before anything is done for it."""
        if epoch == self._state.epoch:
            return True
        state = State(self._state.worker_id, epoch, self._port)
        try:
            await asyncio.to_thread(save_state, self._layout, state)
        except OSError as error:
            self._problem = f"cannot write {self._layout.state}: {error.strerror}; the leader is not followed until it can be"
            log.error("event=disk_problem why=%s", self._problem)
            asyncio.get_running_loop().call_later(1.0, self._try_again)
            return False
        self._state = state
        return True

    def _try_again(self) -> None:
        """A leader could not be followed for a full disk, or refused this worker: it may be otherwise now."""
        for link in self._links.links:
            waits = link.role == "leading" and link is not self._leader
            if waits and link.epoch is not None and judge(self._state.epoch, link.epoch) == "obey":
                self._task(self._leading(link, link.epoch))

    def _task(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        _background.add(task)
        task.add_done_callback(_background.discard)

    def _foreign(self, link: Link, epoch: Epoch) -> None:
        assert self._state.epoch is not None  # noqa: S101 for the type checker
        self._counts["foreign_leaders"] += 1
        problem = (
            f"{link.name} leads cluster {epoch.cluster_id}, but this worker belongs to {self._state.epoch.cluster_id} "
            "and refuses its commands. "
            f"If it shall change over, stop it and run: sparkd reset-worker --work-dir {self.settings.work_dir}"
        )
        if problem != self._problem:
            log.error("event=foreign_cluster why=%s", problem)
        self._problem = problem
        self._notifier.status(problem)
        self._changed()

    def _register(self, link: Link) -> None:
        processes = self._pool.reports()
        self._sent = max((report.seq for report in processes), default=0)
        self._sent = self._unacknowledged = max(self._sent, self._journal.contents.acknowledged)
        self._counts["registrations"] += 1
        link.send(wire.Register(self.info(), self._state.epoch, processes))

    def _obeys(
        self,
        link: Link,
        message: wire.Accepted | wire.LaunchDriver | wire.LaunchExecutor | wire.End | wire.Ack | wire.ForgetApplication | wire.Decommission,
    ) -> bool:
        """Refuse what an older leader, or one of a foreign cluster, or one that is not registered with, says."""
        if link is self._leader and message.epoch == self._state.epoch:
            return True
        self._counts["refused_stale_commands"] += 1
        verdict = judge(self._state.epoch, message.epoch)
        log.warning("event=refused_command t=%s master=%s epoch=%d why=%s", message.t, link.name, message.epoch.number, verdict)
        return False

    async def _command(self, link: Link, message: wire.Message) -> None:
        match message:
            case wire.Accepted(_, drop, acknowledged):
                await self._on_accepted(link, drop, acknowledged)
            case wire.LaunchDriver(_, ref, description):
                if not self._stopping:
                    await self._pool.launch_driver(ref, description)
            case wire.LaunchExecutor(_, ref, _, cores, memory_mb, application):
                if not self._stopping:
                    await self._pool.launch_executor(ref, cores, memory_mb, application)
            case wire.End(_, ref, why):
                await self._pool.end(ref, why)
            case wire.Ack(_, seq):
                self._journal.acknowledge(seq)
            case wire.Decommission():
                self._decommission(f"asked by {link.name}")
            case wire.ForgetApplication(_, app_id):
                log.info("event=application_over application=%s", app_id)  # its directories go when cleanup_ttl_s is over
        self._changed()

    async def _on_accepted(self, link: Link, drop: tuple[ProcessRef, ...], acknowledged: int) -> None:
        try:
            await self._journal.renumber(acknowledged)
        except OSError as error:
            log.warning("event=journal_not_renumbered why=%s", error.strerror)
        self._journal.acknowledge(acknowledged)
        for ref in drop:
            log.info("event=drop process=%s", ref)
        await self._pool.drop(drop)
        if link is not self._leader:
            return
        self._accepted = True
        self._links.urgent = False
        if self._forget_leader is not None:
            self._forget_leader.cancel()
            self._forget_leader = None
        self._pool.leader_heard.set()
        log.info("event=accepted master=%s epoch=%s", link.name, self._state.epoch.number if self._state.epoch else None)
        self._notifier.status(f"{self._state.worker_id}: registered with {link.name}")
        self._send_entries()

    def _refused(self, link: Link, why: str) -> None:
        self._counts["refused_registrations"] += 1
        if link is self._leader:
            self._lose_leader(f"refused: {why}")
        if why != self._problem:
            log.error("event=refused master=%s why=%s", link.name, why)
        self._problem = f"{link.name} refused this worker: {why}"
        asyncio.get_running_loop().call_later(REFUSED_AGAIN_S, self._try_again)
        self._changed()

    def _on_lost(self, link: Link) -> None:
        if link is self._leader:
            self._lose_leader(f"the connection to {link.name} broke")

    def _lose_leader(self, why: str) -> None:
        self._leader, self._accepted, self._leader_address = None, False, None
        log.warning("event=leader_lost why=%s", why)
        self._notifier.status(f"{self._state.worker_id}: no leader ({why})")
        if self._forget_leader is None:
            clear = self._pool.leader_heard.clear
            self._forget_leader = asyncio.get_running_loop().call_later(self.settings.worker_timeout_s, clear)
        self._links.hurry()
        self._changed()

    # What it says to the leader

    def _on_report(self, report: ProcessReport) -> None:
        if report.seq == 0 and self._accepted and self._leader is not None:
            self._leader.send(wire.Journal((report,)))
        self._send_entries()
        self._changed()

    def _send_entries(self) -> None:
        """Send the entries that this leader has not got, in the order of their numbers."""
        if not self._accepted or self._leader is None:
            return
        entries = tuple(entry for entry in self._journal.unacknowledged() if entry.seq > self._sent)
        if entries and self._leader.send(wire.Journal(entries)):
            self._sent = entries[-1].seq

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(self.settings.heartbeat_s)
            if self._accepted and self._leader is not None:
                self._leader.send(wire.Heartbeat())
                waiting = self._journal.unacknowledged()
                if waiting and waiting[0].seq <= self._unacknowledged:
                    self._sent = waiting[0].seq - 1  # out for a whole heartbeat without an answer: once more
                    self._send_entries()
                self._unacknowledged = self._sent

    async def _cleanups(self) -> None:
        while self.settings.cleanup_enabled:
            await asyncio.sleep(self.settings.cleanup_interval_s)
            running = tuple(self._pool.held)
            count = await asyncio.to_thread(clean, self._layout, running, self.settings.cleanup_ttl_s, time.time())
            self._counts["cleaned_directories"] += count

    def _decommission(self, why: str) -> None:
        if not self._decommissioned:
            self._decommissioned = True
            log.info("event=decommissioned worker=%s why=%s", self._state.worker_id, why)
        if self._accepted and self._leader is not None:
            self._leader.send(wire.Decommissioned())
        self._changed()

    def info(self) -> WorkerInfo:
        """What it says of itself when it registers."""
        settings = self.settings
        web = settings.web.public_host or settings.host
        return WorkerInfo(
            self._state.worker_id,
            settings.host,
            self._port,
            settings.cores,
            settings.memory_mb,
            f"http://{web}:{self._web_port}",
            spark_lines(settings.spark_home),
            self._decommissioned,
        )

    def _changed(self) -> None:
        self._version += 1
        self._news.set()
        self._news = asyncio.Event()

    # The face

    def worker_id(self) -> str:
        """Its id, kept over restarts."""
        return self._state.worker_id

    def state(self) -> str:
        """ALIVE, DECOMMISSIONED, or DISCONNECTED while no leader has accepted it."""
        if not self._accepted:
            return "DISCONNECTED"
        return "DECOMMISSIONED" if self._decommissioned else "ALIVE"

    def problems(self) -> Sequence[str]:
        """What an operator should know: a foreign cluster, a full disk, masters that cannot be reached."""
        links = [f"{link.name}: {link.problem}" for link in self._links.links if link.problem]
        return [text for text in (self._problem, self._pool.problem, *self._journal.problems, *links) if text]

    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.settings.host, self._port

    def leader(self) -> MasterAddress | None:
        """Who leads, as far as it knows."""
        return self._leader_address

    def epoch(self) -> Epoch | None:
        """The highest one it has obeyed."""
        return self._state.epoch

    def running(self) -> Sequence[ProcessReport]:
        """What is not over."""
        return [held.report for held in self._pool.held.values()]

    def finished(self) -> Sequence[ProcessReport]:
        """What is over, newest first."""
        return list(reversed(self._pool.finished.values()))

    def used(self) -> tuple[int, int]:
        """Cores, MiB."""
        return self._pool.used()

    def journal_backlog(self) -> int:
        """Entries that no leader has acknowledged."""
        return len(self._journal.unacknowledged())

    def figures(self) -> Mapping[str, float]:
        """Counters and gauges."""
        own = {f"{name}_total": count for name, count in (*self._counts.items(), *self._pool.counts.items())}
        own |= {"processes_retained": len(self._pool.finished), "journal_bytes": self._journal.size, "problems": len(self.problems())}
        own |= {"connected": int(self._accepted), "decommissioned": int(self._decommissioned)}
        if self._state.epoch is not None:
            own["epoch"] = self._state.epoch.number
        return {name: float(value) for name, value in own.items()}

    def description(self, owner: str) -> Mapping[str, str]:
        """Name and command, for people; empty when they are not known any more."""
        return self._pool.about(owner)

    def read_log(self, owner: str, number: int, name: str, offset: int | None, length: int) -> LogSlice:
        """Return a part of stdout or stderr. Raises KeyError, OSError, ValueError."""
        return read_log(self._pool.log_directory(owner, number), name, self.settings.log_keep, offset, length)

    def version(self) -> int:
        """Rises with every change."""
        return self._version

    async def changed(self, since: int, timeout_s: float) -> int:
        """Wait for a version above `since`, or so many seconds."""
        if self._version <= since:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), timeout_s)
        return self._version


_background: set[object] = set()  # asyncio keeps only weak references to tasks


def spark_lines(spark_home: Path | None) -> tuple[str, ...]:
    """Return the lines of Spark ("4.3") whose executors can run here."""
    if spark_home is None:
        return ()
    names = [path.name for path in sorted(spark_home.glob("jars/spark-core_*.jar"))]
    found = [match[1] for name in names if (match := re.fullmatch(r"spark-core_[\d.]+-(\d+\.\d+)\..*\.jar", name))]
    return tuple(dict.fromkeys(found))


async def run_worker(settings: WorkerSettings) -> int:
    """Run a worker until a signal; return the exit code: 0, 1 for a port that is taken, 2 for what must be configured."""
    if not settings.cluster_secret:
        log.error("event=cannot_start why=no cluster secret (spark.sparkd.secretFile)")
        return 2
    try:
        worker = Worker(settings)
    except WorkDirError as error:
        log.error("event=cannot_start why=%s", error)
        return 2
    try:
        return await worker.run()
    except OSError as error:
        log.error("event=cannot_start why=%s", error)
        return 1
