"""The master: joins an election, a store, the core, its workers and its faces. Decides nothing itself.

What it says of itself is looked up at the moment it is asked: ALIVE is who was elected, has read the store, is not suspended and has a
lease that is not over. Every command and every acknowledgement looks at the lease just before it leaves (pipeline.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import resource
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from . import master_figures as figures
from .coordination.api import RECORD_LIMIT, CoordinationError, Engine, MasterAddress, Misconfigured, SetAside
from .coordination.factory import make_engine
from .core import effects as fx
from .core import events as ev
from .core.cluster import Cluster
from .core.codec import encode
from .core.effects import Answer, Effect, Outcome
from .core.states import MasterStatus
from .core.values import DriverDescription, Epoch
from .http.faces import NotAlive, NotDurable
from .pipeline import Figures, Pipeline
from .rpc import messages as msg
from .rpc.commands import command
from .rpc.control import ControlServer, Counts, serve
from .rpc.server import WorkerSessions
from .settings import MasterSettings
from .systemd import Notifier
from .term import RecoveryTimes, Term
from .versions import Versions

if TYPE_CHECKING:
    from .http.server import Running

log = logging.getLogger(__name__)

#: Bytes of a driver's record beside its description: its story, its last message.
RECORD_RESERVE = 32 * 1024
#: Seconds until a lease that is over is looked at again.
LOOK_S = 0.1
#: Seconds that faces have to close in.
CLOSE_S = 0.15
#: Seconds that releasing the latch may take before the process ends without it; its session does the rest.
RELEASE_S = 2.0


class Master:
    """Implements http.faces.MasterFace, coordination.api.Listener and rpc.server.WorkerListener."""

    def __init__(self, settings: MasterSettings, engine: Engine, notifier: Notifier | None = None) -> None:
        self.settings = settings
        self.ended: asyncio.Future[Misconfigured] = asyncio.get_running_loop().create_future()  #: it cannot go on
        self._engine = engine
        self._notifier = notifier or Notifier({})
        self._sessions = WorkerSessions(self)
        self._control: ControlServer | None = None
        self._pages: Running | None = None
        self._me = MasterAddress(settings.host, settings.port)
        self._leader: MasterAddress | None = None
        self._term: Term | None = None
        self._last_term: Term | None = None
        self._elections = 0
        self._figures = Figures()
        self._times = RecoveryTimes()
        self._status = MasterStatus.STANDBY  # as it was last told
        self._since_ms = time.time_ns() // 1_000_000
        self._versions = Versions()
        self._looking: asyncio.TimerHandle | None = None

    # Life

    async def start(self) -> None:
        """Bind all ports, then join the election. Raises OSError for a port, Misconfigured."""
        settings = self.settings
        try:
            self._control = await serve(settings.host, settings.port, settings.cluster_secret, self._sessions.serve)
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            fix = "is another master running? Choose another port with SPARK_MASTER_PORT (--port)"
            fix = fix if taken else "name an address of this host with SPARK_MASTER_HOST (--host)"
            raise OSError(error.errno, f"Cannot listen on {settings.host}:{settings.port} for workers: {error.strerror}; {fix}") from error
        try:
            from .http.server import start_master  # here: 0.2 s and 20 MB that tests of everything else need not pay

            self._pages = await start_master(self)
            self._me = self._address(self._control.port, self._pages.web_port, self._pages.rest_port)
            self._notifier.ready(self._line())
            log.info("event=listening url=%s web_ui=%s rest=%s", self._me.url, self._me.web_ui, self._me.rest or "off")
            await self._engine.start(self._me, self)
        except BaseException:
            await self._close_faces()
            raise

    def _address(self, port: int, web_port: int, rest_port: int) -> MasterAddress:
        settings = self.settings
        rest = f"http://{settings.rest.host or settings.host}:{rest_port}" if rest_port else ""
        return MasterAddress(settings.host, port, f"http://{settings.web.public_host or settings.host}:{web_port}", rest)

    async def stop(self) -> None:
        """Hand over, then close everything: every face says STANDBY from here on, then the latch is released, then the rest.

        A request that is under way is not acknowledged any more: its client hears that it may have been stored, and asks the next leader
        with the same request id.
        """
        self._notifier.stopping()
        if self._control is not None:
            self._control.stop_listening()
        try:
            async with asyncio.timeout(RELEASE_S):
                await self._engine.step_down()
        except (CoordinationError, TimeoutError, OSError) as error:
            log.warning("event=release_failed why=%s", json.dumps(str(error) or "no answer"))
        if self._term is not None:  # an engine that failed to say so
            self.on_deposed("stopping")
        for problem in await asyncio.gather(self._close_faces(), self._engine.close(), return_exceptions=True):
            if problem is not None:
                log.error("event=close_failed", exc_info=problem)
        log.info("event=stopped")

    async def _close_faces(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        if self._control is not None:
            await self._control.close()
        if self._pages is not None:
            with contextlib.suppress(TimeoutError):  # requests still under way are cut
                await asyncio.wait_for(self._pages.close(), CLOSE_S)

    # Listener: what the engine says

    def on_elected(self, epoch: Epoch) -> None:
        """It leads: read the store, then serve."""
        self._elections += 1
        if self._term is not None:
            self.on_deposed("elected anew")
        self._term = Term(
            epoch,
            self._engine,
            self.settings.policy,
            self._figures,
            carry_out=self._carry_out,
            stored=self._stored,
            refusal=self._refusal,
            changed=self._term_changed,
            before=self._last_term,
        )
        self._last_term = None
        self._tell("elected")

    def on_suspended(self, why: str) -> None:
        """Nothing changes until on_resumed or on_deposed."""
        if self._term is not None:
            self._term.suspend(why)
        self._tell(f"suspended: {why}")

    def on_resumed(self) -> None:
        """The same epoch leads again."""
        if self._term is not None:
            self._term.resume()
            if self._term.pipeline is not None:
                self._sessions.invite(self._leading(self._term))
        self._tell("resumed")

    def on_deposed(self, why: str) -> None:
        """Forget everything; workers are told that nobody leads here."""
        term, self._term = self._term, None
        self._leader = None if self._leader == self._me else self._leader
        if term is not None:
            self._last_term = term
            term.end()
            self._sessions.broadcast(msg.Standby(self._leader))
        self._tell(f"deposed: {why}", term)

    def on_leader(self, leader: MasterAddress | None) -> None:
        """Somebody leads, or nobody."""
        if leader == self._leader:
            return
        self._leader = leader
        if self._term is None and leader != self._me:
            self._sessions.tell_all(msg.Standby(leader))
        self._tell()

    def on_misconfigured(self, error: Misconfigured) -> None:
        """The process ends."""
        if not self.ended.done():
            self.ended.set_result(error)

    def _term_changed(self) -> None:
        """The term serves, or serves no more."""
        term = self._term
        if term is not None and term.pipeline is not None:
            if term.times is not self._times:
                self._times = term.times
            if not term.suspended:
                self._sessions.broadcast(self._leading(term))
        served = term is not None and term.pipeline is not None
        self._tell("the cluster was read" if served else f"read back: {term.trouble if term else ''}")

    def _tell(self, cause: str = "", term: Term | None = None) -> None:
        """After anything that may change the status. term: the one that it is about, if it is over."""
        status, before = self.status(), self._status
        if status is not before:
            about = term or self._term
            epoch = about.epoch.number if about is not None else 0
            log.info("event=transition epoch=%d entity=master from=%s to=%s cause=%s", epoch, before, status, json.dumps(cause))
            self._status, self._since_ms = status, time.time_ns() // 1_000_000
        self._versions.rise()
        self._notifier.status(self._line())

    def _line(self) -> str:
        """One line for `systemctl status`."""
        status = self.status()
        if status is MasterStatus.STANDBY:
            return f"STANDBY, leader: {self._leader.url if self._leader else 'none known'}"
        return f"{status}, {self._sessions.registered()} workers connected"

    # Effects

    def _carry_out(self, effect: Effect) -> None:
        """Send a worker what the core wants of it. The pipeline has looked at the lease just now."""
        term = self._term
        if term is None:
            return
        match effect:
            case fx.RefuseWorker():
                self._sessions.refuse(effect.worker_id, msg.Refused(effect.why))
            case fx.ReregisterWorker():
                log.info("event=reregister worker=%s why=%s", json.dumps(effect.worker_id), json.dumps(effect.why))
                self._sessions.send(effect.worker_id, self._leading(term))
            case fx.Answer() | fx.NotifyApplication():
                pass  # answers are the pipeline's; no application can connect yet
            case _:
                self._sessions.send(effect.worker_id, command(effect, term.epoch))

    def _stored(self, outcome: Outcome) -> None:
        """An event's outcome is durable: log its transitions, wake who watches."""
        if outcome.transitions:
            epoch = self._term.epoch.number if self._term is not None else 0
            for step in outcome.transitions:
                entity, cause = json.dumps(step.entity), json.dumps(step.cause)
                log.info("event=transition epoch=%d entity=%s from=%s to=%s cause=%s", epoch, entity, step.before, step.after, cause)
        if outcome.writes or outcome.transitions:
            self._versions.rise()

    # WorkerListener: what workers say

    def greeting(self) -> msg.FromMaster:
        """First message on a worker's connection."""
        term = self._term
        if term is not None and term.pipeline is not None and self.status() is MasterStatus.ALIVE:
            return self._leading(term)
        if term is not None and not term.suspended:
            self._look_again()
        return msg.Standby(self.leader())

    def _leading(self, term: Term) -> msg.Leading:
        return msg.Leading(term.epoch, self._me)

    def _look_again(self) -> None:
        """The lease is over and the engine has not said so (yet). If it comes back, who was told STANDBY meanwhile is invited."""
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._looking = None
        term = self._term
        if term is None or term.suspended or term.pipeline is None:
            return  # on_elected, on_resumed and the term's own beginning tell everybody
        if self.status() is MasterStatus.ALIVE:
            self._sessions.invite(self._leading(term))
            self._tell("the lease is back")
        else:
            self._look_again()

    def register(self, message: msg.Register) -> msg.FromMaster | None:
        """A worker told all it has."""
        term = self._term
        if term is None or term.pipeline is None:
            return msg.Standby(self.leader())
        seen = message.seen
        if seen is not None and seen.cluster_id != term.epoch.cluster_id:
            why = (
                f"it belongs to cluster {seen.cluster_id}, and this is cluster {term.epoch.cluster_id}: "
                "end what runs there, then `sparkd reset-worker` makes it forget"
            )
        elif seen is not None and seen.number > term.epoch.number:
            why = f"it has obeyed a newer leader (epoch {seen.number}; this one's is {term.epoch.number})"
        else:
            term.pipeline.post(ev.WorkerRegistered(message.worker, message.processes))
            return None
        log.error("event=worker_refused worker=%s why=%s", json.dumps(message.worker.id), json.dumps(why))
        return msg.Refused(why)

    def heartbeat(self, worker_id: str) -> None:
        """It lives."""
        self._post(ev.WorkerHeartbeat(worker_id))

    async def journal(self, worker_id: str, message: msg.Journal) -> None:
        """New entries; acknowledged once they are stored."""
        for entry in message.entries:
            self._post(ev.ProcessChanged(worker_id, entry))
        term = self._term
        if term is not None and term.pipeline is not None:
            await term.pipeline.room()

    def decommissioned(self, worker_id: str) -> None:
        """It takes no more work."""
        self._post(ev.WorkerDecommissioned(worker_id))

    def gone(self, worker_id: str) -> None:
        """Its connection is over."""
        self._post(ev.WorkerDisconnected(worker_id))

    def _post(self, event: ev.Event) -> None:
        if self._term is not None and self._term.pipeline is not None:
            self._term.pipeline.post(event)

    # MasterFace: what it says of itself

    def status(self) -> MasterStatus:
        """Reads the lease."""
        term = self._term
        if term is None or term.suspended or self._engine.lease_left_s() <= 0.0:
            return MasterStatus.STANDBY
        return MasterStatus.RECOVERING if term.pipeline is None else MasterStatus.ALIVE

    def address(self) -> MasterAddress:
        """Of this master."""
        return self._me

    def leader(self) -> MasterAddress | None:
        """Who leads, as far as it knows; itself only while its lease lasts."""
        if self.status() is not MasterStatus.STANDBY:
            return self._me
        return None if self._leader == self._me else self._leader

    def epoch(self) -> Epoch | None:
        """Of its own term."""
        return self._term.epoch if self._term is not None else None

    def since_ms(self) -> int:
        """Since when it has this status."""
        return self._since_ms

    def masters(self) -> Sequence[MasterAddress]:
        """The leader first."""
        leader = self.leader()
        known = [leader] if leader is not None else []
        in_line: Callable[[], Sequence[MasterAddress]] = getattr(self._engine, "masters", tuple)
        for address in (*in_line(), self._me):
            if address not in known:
                known.append(address)
        return known

    def cluster(self) -> Cluster | None:
        """None unless it leads now."""
        term = self._term
        if term is None or term.pipeline is None or self.status() is not MasterStatus.ALIVE:
            return None
        return term.pipeline.cluster

    def set_aside(self) -> Sequence[SetAside]:
        """Records that could not be read in this term."""
        return self._term.set_aside if self._term is not None else ()

    def coordination(self) -> Mapping[str, object]:
        """The engine's own words."""
        return self._engine.describe()

    def figures(self) -> Mapping[str, float]:
        """Counters (..._total, ..._count, ..._sum) and gauges by metric name, without the prefix sparkd_. Times in s."""
        pipeline = self._term.pipeline if self._term is not None else None
        return {
            "elections_total": self._elections,
            "epoch": self._term.epoch.number if self._term is not None else 0,
            "lease_left_seconds": max(0.0, self._engine.lease_left_s()),
            "queue_length": len(pipeline) if pipeline is not None else 0,
            "queue_age_seconds": pipeline.age_s() if pipeline is not None else 0.0,
            **figures.of_pipelines(self._figures),
            **figures.of_recovery(self._times),
            **figures.of_connections(self._sessions, self._control.counts if self._control is not None else Counts()),
            **figures.of_cluster(self.cluster()),
        }

    def version(self) -> int:
        """Rises with every change."""
        return self._versions.now

    async def changed(self, since: int, timeout_s: float) -> int:
        """Wait until the version is above `since`, or timeout_s; return it."""
        return await self._versions.above(since, timeout_s)

    # MasterFace: what it is asked to do

    async def submit(self, description: DriverDescription, request_id: str = "") -> Answer:
        """Queue a driver. One that no record can hold is refused before anything else."""
        pipeline = self._serving()
        # Nearly every one is far from the limit: no character takes more than 12 bytes of JSON, or less than one of this.
        size = 12 * len(repr(description))
        if size > RECORD_LIMIT - RECORD_RESERVE and (size := len(json.dumps(encode(description)))) > RECORD_LIMIT - RECORD_RESERVE:
            message = f"The submission takes {size} bytes; {RECORD_LIMIT - RECORD_RESERVE} are allowed. Put large arguments in a file."
            return Answer(0, False, message)
        return await pipeline.ask(lambda token: ev.SubmitDriver(token, description, request_id))

    async def kill_driver(self, driver_id: str, give_up: bool = False) -> Answer:
        """Kill one driver."""
        return await self._serving().ask(lambda token: ev.KillDriver(token, driver_id, give_up))

    async def kill_all(self) -> Answer:
        """Kill all drivers."""
        return await self._serving().ask(ev.KillAllDrivers)

    async def clear(self) -> Answer:
        """Forget completed ones."""
        return await self._serving().ask(ev.ClearCompleted)

    async def kill_application(self, app_id: str) -> Answer:
        """End an application from the page (Spark's Master.handleKillRequest)."""
        pipeline = self._serving()
        if app_id not in pipeline.cluster.applications:
            return Answer(0, False, f"Application {app_id} is not active.", app_id)
        pipeline.post(ev.UnregisterApplication(app_id, "KILLED", "killed from the web UI"))
        await pipeline.barrier()
        return Answer(0, True, f"Kill request for {app_id} submitted", app_id)

    async def decommission(self, hosts: Sequence[str]) -> Answer:
        """Take no more work on these hosts' workers (Spark's Master.DecommissionWorkersOnHosts)."""
        pipeline = self._serving()
        wanted = {host.lower() for host in hosts}
        found = [worker.id for worker in pipeline.cluster.workers.values() if worker.info.host.lower() in wanted]
        for worker_id in found:
            pipeline.post(ev.WorkerDecommissioned(worker_id))
        await pipeline.barrier()
        term = self._term
        if term is not None and self.status() is MasterStatus.ALIVE:
            for worker_id in found:
                self._sessions.send(worker_id, msg.Decommission(term.epoch))
        return Answer(0, True, f"Decommissioned {len(found)} workers on {len(wanted)} hosts", str(len(found)))

    def _serving(self) -> Pipeline:
        """Return what takes requests. Raises NotAlive, NotDurable."""
        term, status = self._term, self.status()
        if term is None or status is MasterStatus.STANDBY:
            self._figures.refused += 1
            raise NotAlive(MasterStatus.STANDBY, self.leader())
        if term.pipeline is None:
            self._figures.refused += 1
            if term.trouble:
                raise NotDurable(term.trouble)
            raise NotAlive(status, self.leader())
        return term.pipeline

    def _refusal(self) -> Exception:
        """For whoever waited when leadership was lost or suspended."""
        return NotAlive(MasterStatus.STANDBY, None if self._leader == self._me else self._leader)


async def run_master(settings: MasterSettings, engine: Engine | None = None) -> int:
    """Be a master until SIGTERM or SIGINT. Return the exit code: 0, 1: a port is taken, 2: it has to be configured otherwise."""
    loop = asyncio.get_running_loop()
    stop = loop.create_future()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft != hard:  # a thousand workers take a thousand; the usual 1024 is a soft limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signals = (signal.SIGTERM, signal.SIGINT)

    def ask_to_stop(number: signal.Signals) -> None:
        log.info("event=signal name=%s", number.name)
        if not stop.done():
            stop.set_result(None)

    for number in signals:
        loop.add_signal_handler(number, ask_to_stop, number)
    notifier = Notifier()
    try:
        if not settings.cluster_secret:
            raise Misconfigured(
                "no cluster secret: put one into a file that only this user can read, and name it in spark.sparkd.secretFile"
            )
        master = Master(settings, engine or make_engine(settings.recovery), notifier)
        await master.start()
        notifier.watch(loop)
        await asyncio.wait([stop, master.ended], return_when=asyncio.FIRST_COMPLETED)
        await master.stop()
        if not stop.done():
            raise master.ended.result()
    except Misconfigured as error:
        log.error("event=misconfigured why=%s", json.dumps(str(error)))
        return 2
    except OSError as error:
        log.error("event=cannot_start why=%s", json.dumps(error.strerror or str(error)))
        return 1
    finally:
        notifier.close()
        for number in signals:
            loop.remove_signal_handler(number)
    return 0
