"""A small world around a Cluster: a store that survives it, workers that obey and keep journals, and a clock that tests turn."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sparkd.coordination.api import StoredRecord
from sparkd.core import events
from sparkd.core.cluster import Cluster
from sparkd.core.effects import (
    AcceptWorker,
    AckJournal,
    Answer,
    Effect,
    EndProcess,
    ForgetApplication,
    LaunchDriver,
    LaunchExecutor,
    NotifyApplication,
    Outcome,
    RefuseWorker,
    ReregisterWorker,
)
from sparkd.core.entities import Driver
from sparkd.core.events import Event
from sparkd.core.values import (
    ApplicationDescription,
    DriverDescription,
    Now,
    Policy,
    ProcessRef,
    ProcessReport,
    ResourceProfile,
    WorkerInfo,
)

START_MS = 1_700_000_000_000


def asked(cores: int = 1, memory_mb: int = 512, supervise: bool = False, **more: Any) -> DriverDescription:
    return DriverDescription("command", more.pop("name", "job"), ("true",), cores=cores, memory_mb=memory_mb, supervise=supervise, **more)


def an_app(name: str = "app", cores: int | None = 1, memory_mb: int = 512, **more: Any) -> ApplicationDescription:
    return ApplicationDescription(name, profile=ResourceProfile(0, cores, memory_mb), **more)


@dataclass
class SimWorker:
    """A worker as it should be: starts what it does not have, journals before it reports, forgets only what was acknowledged."""

    info: WorkerInfo
    connected: bool = False
    running: dict[ProcessRef, tuple[int, int]] = field(default_factory=dict)
    supervised: set[ProcessRef] = field(default_factory=set)
    journal: list[ProcessReport] = field(default_factory=list)
    inbox: list[Effect] = field(default_factory=list)
    seq: int = 0

    def entry(self, ref: ProcessRef, state: str, size: tuple[int, int], exit_code: int | None = None, message: str = "") -> None:
        self.seq += 1
        ended = 2 if state != "RUNNING" else 0
        self.journal.append(ProcessReport(ref, state, *size, self.seq, 1, ended, exit_code, message))

    def knows(self, ref: ProcessRef) -> bool:
        return ref in self.running or any(told.ref == ref for told in self.journal)

    def end(self, ref: ProcessRef, exit_code: int | None, killed: bool = False) -> None:
        size = self.running.pop(ref)
        if ref.kind == "driver":
            state = "KILLED" if killed else "FINISHED" if exit_code == 0 else "FAILED"
        else:
            state = "KILLED" if killed else "EXITED"
        self.entry(ref, state, size, exit_code)

    def lose_host(self) -> None:
        """Everything that ran is gone, and nobody saw how it ended."""
        for ref, size in list(self.running.items()):
            del self.running[ref]
            state = ("RELAUNCHING" if ref in self.supervised else "FAILED") if ref.kind == "driver" else "LOST"
            self.entry(ref, state, size, None, "its end was not seen")

    def report(self) -> tuple[ProcessReport, ...]:
        return (*self.journal, *(ProcessReport(ref, "RUNNING", *size) for ref, size in self.running.items()))


class World:
    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.cluster = Cluster(self.policy)
        self.store: dict[tuple[str, str], str] = {}
        self.workers: dict[str, SimWorker] = {}
        self.time = 1000.0
        self.token = 0
        self.starts: Counter[ProcessRef] = Counter()
        self.exits: dict[str, list[int]] = {}
        self.answers: list[Answer] = []
        self.notices: list[NotifyApplication] = []
        self.refused: list[RefuseWorker] = []
        self.last = Outcome()

    # --- the shell

    @property
    def now(self) -> Now:
        return Now(START_MS + int(self.time * 1000), self.time)

    def handle(self, event: Event, stored: bool = True) -> Outcome:
        """Give an event to the cluster. stored False: the leader falls before it has stored anything, nobody hears of it."""
        outcome = self.last = self.cluster.handle(event, self.now)
        if stored:
            self.commit(outcome)
        return outcome

    def commit(self, outcome: Outcome) -> None:
        for write in outcome.writes:
            if write.record is None:
                self.store.pop((write.kind, write.id), None)
            else:
                self.store[write.kind, write.id] = json.dumps(write.record)
        for effect in outcome.effects:
            self.carry_out(effect)

    def carry_out(self, effect: Effect) -> None:
        match effect:
            case Answer():
                self.answers.append(effect)
            case NotifyApplication():
                self.notices.append(effect)
            case RefuseWorker():
                self.refused.append(effect)
            case ReregisterWorker():
                pass
            case _:
                worker = self.workers.get(effect.worker_id)
                if worker is not None and worker.connected:
                    worker.inbox.append(effect)

    def records(self) -> list[StoredRecord]:
        return [StoredRecord(kind, entity_id, json.loads(text)) for (kind, entity_id), text in self.store.items()]

    def failover(self) -> Outcome:
        """The leader is gone; another one loads what is stored. Workers have no connection to it yet."""
        for worker in self.workers.values():
            worker.connected = False
            worker.inbox.clear()
        self.cluster, outcome = Cluster.recover(self.policy, self.records(), self.now)
        self.commit(outcome)
        return outcome

    def settle(self) -> None:
        """Tick as long as one is due at once."""
        for _ in range(1000):
            due = self.cluster.next_deadline()
            if due is None or due > self.time:
                return
            self.handle(events.Tick())
        raise AssertionError("ticks without end")

    def pass_time(self, seconds: float, heartbeats: bool = True) -> None:
        """Let time pass; connected workers keep sending heartbeats."""
        end = self.time + seconds
        while self.time < end:
            self.time = min(end, self.time + self.policy.worker_timeout_s / 4)
            for worker in self.workers.values():
                if heartbeats and worker.connected:
                    self.handle(events.WorkerHeartbeat(worker.info.id))
            self.settle()

    # --- workers

    def add_worker(self, worker_id: str = "w1", cores: int = 4, memory_mb: int = 4096, connect: bool = True, **more: Any) -> SimWorker:
        port = more.pop("port", 7000 + len(self.workers))
        worker = self.workers[worker_id] = SimWorker(WorkerInfo(worker_id, "host", port, cores, memory_mb, **more))
        if connect:
            self.connect(worker)
        return worker

    def connect(self, worker: SimWorker) -> Outcome:
        worker.connected = True
        worker.inbox.clear()
        return self.handle(events.WorkerRegistered(worker.info, worker.report()))

    def disconnect(self, worker: SimWorker) -> None:
        if worker.connected:
            worker.connected = False
            worker.inbox.clear()
            self.handle(events.WorkerDisconnected(worker.info.id))

    def deliver(self, worker: SimWorker, count: int = 1000) -> None:
        """The worker takes commands that were sent to it."""
        while worker.connected and worker.inbox and count:
            count -= 1
            self.obey(worker, worker.inbox.pop(0))

    def obey(self, worker: SimWorker, effect: Effect) -> None:
        match effect:
            case AcceptWorker(_, drop, acknowledged):
                for ref in drop:
                    if ref in worker.running:
                        worker.end(ref, 143, killed=True)
                worker.journal = [told for told in worker.journal if told.seq > acknowledged]
            case AckJournal(_, seq):
                worker.journal = [told for told in worker.journal if told.seq > seq]
            case LaunchDriver(_, ref, description):
                if description.supervise:
                    worker.supervised.add(ref)
                self.start(worker, ref, (description.cores, description.memory_mb))
            case LaunchExecutor(_, ref, _, cores, memory_mb, _):
                self.start(worker, ref, (cores, memory_mb))
            case EndProcess(_, ref, _):
                if ref in worker.running:
                    worker.end(ref, 143, killed=True)
            case ForgetApplication():
                pass

    def start(self, worker: SimWorker, ref: ProcessRef, size: tuple[int, int]) -> None:
        if not worker.knows(ref):
            self.starts[ref] += 1
            worker.running[ref] = size
            worker.entry(ref, "RUNNING", size)

    def send_journal(self, worker: SimWorker) -> None:
        if worker.connected:
            for told in list(worker.journal):
                self.handle(events.ProcessChanged(worker.info.id, told))

    def exit(self, worker: SimWorker, ref: ProcessRef, code: int) -> None:
        worker.end(ref, code)
        self.exits.setdefault(ref.owner, []).append(code)

    def sync(self) -> None:
        """Everybody connected does and tells all there is, until nothing moves."""
        for _ in range(50):
            self.settle()
            if not any(worker.connected and (worker.inbox or worker.journal) for worker in self.workers.values()):
                return
            for worker in self.workers.values():
                self.deliver(worker)
                self.send_journal(worker)
        raise AssertionError("it never comes to rest")

    # --- requests

    def submit(self, description: DriverDescription | None = None, request_id: str = "") -> str:
        self.token += 1
        self.handle(events.SubmitDriver(self.token, description or asked(), request_id))
        answer = self.answers[-1]
        assert answer.token == self.token and answer.ok, answer
        return answer.id

    def driver(self, driver_id: str) -> Driver:
        found = self.cluster.driver(driver_id)
        assert found is not None
        return found

    def kill(self, driver_id: str, give_up: bool = False) -> Answer:
        self.token += 1
        self.handle(events.KillDriver(self.token, driver_id, give_up))
        return self.answers[-1]

    def register_app(self, description: ApplicationDescription | None = None) -> str:
        self.token += 1
        self.handle(events.RegisterApplication(self.token, description or an_app()))
        answer = self.answers[-1]
        assert answer.ok, answer
        return answer.id
