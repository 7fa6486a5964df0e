"""All that a leader knows, and the one place where it is changed: whoever changes an entity says so here, and the record follows.

The handlers of drivers.py, workers.py and applications.py work on a Book; `Cluster` gives each event to them and takes the Outcome out.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, replace

from .codec import encode
from .effects import Effect, Outcome, Transition, Write
from .entities import STORY_LENGTH, Application, Counters, Driver, Executor, Forgotten, Worker
from .scheduler import CapacityIndex, ShapeQueue
from .states import ApplicationState, WorkerState
from .transitions import (
    APPLICATION,
    DRIVER,
    EXECUTOR,
    WORKER,
    ApplicationEvent,
    DriverEvent,
    ExecutorEvent,
    Step,
    WorkerEvent,
    following,
)
from .values import Now, Policy

#: Meta records of forgotten request ids; each holds those of one trimming of the history, the oldest is written over.
FORGOTTEN_SLOTS = 256
#: Request ids in one of them, about: a record stays far below the store's limit.
FORGOTTEN_REQUESTS = 500

NOTHING = Outcome()

#: Order of records within an outcome, so that every prefix is sound: numbers before what uses them, an application before its executors.
_ORDER = {"meta": 0, "application": 1, "executor": 2, "driver": 3, "worker": 4}

#: Seconds that a worker gets no work after it could not start some: its disk may be full.
REST_S = 5.0


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A stored record that is well-formed but means nothing to this version. It stays stored, untouched."""

    kind: str
    id: str
    why: str


class Book:
    """Entities, queues, indexes, and what the event at hand has changed."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.workers: dict[str, Worker] = {}
        self.drivers: dict[str, Driver] = {}  # not final, in order of submission
        self.completed_drivers: dict[str, Driver] = {}  # oldest end first
        self.applications: dict[str, Application] = {}
        self.completed_applications: dict[str, Application] = {}
        self.numbers = Counters()
        self.end_order = 0
        self.requests: dict[str, str] = {}  # request id -> driver id
        self.forgotten: dict[int, Forgotten] = {}  # slot -> ids
        self.forgotten_order = 0
        self.worker_at: dict[str, str] = {}  # host:port -> worker id
        self.application_at: dict[str, str] = {}  # address of its driver -> id, active ones only
        self.drivers_of: dict[
            str, set[str]
        ] = {}  # worker id -> drivers whose attempt is there, also when the worker is not listed any more
        self.capacity = CapacityIndex()
        self.driver_queue: ShapeQueue[str] = ShapeQueue()
        self.demands: ShapeQueue[tuple[str, int]] = ShapeQueue()
        self.resting: dict[str, float] = {}  # worker id -> until when (Now.boot_s), the first one first
        self.position = 0  # where spreading drivers goes on
        self.counters: Counter[str] = Counter()
        self.unreadable: list[Unreadable] = []
        self._dirty: dict[tuple[str, str], None] = {}
        self._effects: list[Effect] = []
        self._transitions: list[Transition] = []

        self._watched: set[str] = set()
        self._watch: list[tuple[float, str]] = []  # heap of (boot_s not before which a worker has to be looked at, its id)

    # --- what an event changed

    def effect(self, effect: Effect) -> None:
        """To be done once the writes are durable, in the order of these calls."""
        self._effects.append(effect)

    def effect_at(self, place: int, effect: Effect) -> None:
        """Put an effect before those that came since `place`, the value of `effects_so_far` then."""
        self._effects.insert(place, effect)

    @property
    def effects_so_far(self) -> int:
        """How many effects this event has had."""
        return len(self._effects)

    def touch(self, kind: str, entity_id: str) -> None:
        """Its record has changed, or is gone."""
        self._dirty[kind, entity_id] = None

    def note(self, entity: str, before: str, after: str, cause: str) -> None:
        """A line for the log."""
        self._transitions.append(Transition(entity, before, after, cause))

    def outcome(self) -> Outcome:
        """Return what has gathered and begin anew."""
        if not self._dirty and not self._effects and not self._transitions:
            return NOTHING
        writes = [self._write(kind, entity_id) for kind, entity_id in self._dirty]
        if len(writes) > 1:
            writes.sort(key=lambda write: (write.record is None, _ORDER[write.kind]))
        outcome = Outcome(tuple(writes), tuple(self._effects), tuple(self._transitions))
        self._dirty.clear()
        self._effects.clear()
        self._transitions.clear()
        return outcome

    def _write(self, kind: str, entity_id: str) -> Write:
        entity: object | None = None
        match kind:
            case "meta" if entity_id == "counters":
                entity = self.numbers
            case "meta":
                entity = self.forgotten.get(int(entity_id.rpartition("-")[2]))
            case "driver":
                entity = self.find_driver(entity_id)
            case "application":
                return Write(kind, entity_id, application_record(self.find_application(entity_id)))
            case "executor":
                app_id, _, number = entity_id.rpartition(".")
                application = self.applications.get(app_id)
                entity = application.executors.get(int(number)) if application else None
            case "worker":
                return Write(kind, entity_id, worker_record(self.workers.get(entity_id)))
        return Write(kind, entity_id, None if entity is None else encode(entity))

    # --- finding

    def find_driver(self, driver_id: str) -> Driver | None:
        """Active or completed."""
        return self.drivers.get(driver_id) or self.completed_drivers.get(driver_id)

    def find_application(self, app_id: str) -> Application | None:
        """Active or completed."""
        return self.applications.get(app_id) or self.completed_applications.get(app_id)

    @property
    def placed_drivers(self) -> int:
        """Drivers that are on some worker: what spark.deploy.maxDrivers counts."""
        return len(self.drivers) - len(self.driver_queue)

    # --- changing state

    def move_driver(self, driver: Driver, event: DriverEvent, now: Now, cause: str = "") -> None:
        """Take an event by the table. Raises UnexpectedEvent before anything has changed."""
        name = f"driver {driver.id}"
        after = following(DRIVER, name, driver.state, event, driver.story)
        if after is not driver.state:
            self.touch("driver", driver.id)
            driver.story = self._tell(name, driver.story, now, driver.state, after, cause or event)
            driver.state = after

    def move_worker(self, worker: Worker, event: WorkerEvent, now: Now, cause: str = "") -> None:
        """Take an event by the table. Raises UnexpectedEvent. Only what is stored of a worker's state makes a write."""
        name = f"worker {worker.id}"
        before, after = worker.state, following(WORKER, name, worker.state, event, worker.story)
        if after is not before:
            step = self._tell(name, worker.story, now, before, after, cause or event)
            worker.state = after
            if WorkerState.DEAD in (before, after) or WorkerState.DECOMMISSIONED in (before, after):
                worker.story = step
                self.touch("worker", worker.id)
        self.sync_capacity(worker)

    def move_application(self, application: Application, event: ApplicationEvent, now: Now, cause: str = "") -> None:
        """Take an event by the table. Raises UnexpectedEvent."""
        name = f"application {application.id}"
        after = following(APPLICATION, name, application.state, event, application.story)
        if after is not application.state:
            self.touch("application", application.id)
            application.story = self._tell(name, application.story, now, application.state, after, cause or event)
            application.state = after

    def move_executor(self, executor: Executor, event: ExecutorEvent, now: Now, cause: str = "") -> None:
        """Take an event by the table. Raises UnexpectedEvent."""
        name = f"executor {executor.ref}"
        after = following(EXECUTOR, name, executor.state, event)
        if after is not executor.state:
            self._tell(name, (), now, executor.state, after, cause or event)
            executor.state = after
            self.touch("executor", f"{executor.app_id}.{executor.id}")

    def _tell(self, name: str, story: tuple[Step, ...], now: Now, before: str, after: str, cause: str) -> tuple[Step, ...]:
        self.note(name, str(before), str(after), str(cause))
        return (*story[-(STORY_LENGTH - 1) :], (now.wall_ms, str(before), str(after), str(cause)))

    # --- time

    def watch(self, worker: Worker, due_s: float) -> None:
        """Look at this worker at `due_s` or later. One entry each: a heartbeat costs nothing, the entry moves on when it comes up."""
        if worker.id not in self._watched:
            self._watched.add(worker.id)
            heapq.heappush(self._watch, (due_s, worker.id))

    def next_watch(self) -> float | None:
        """When the next worker has to be looked at."""
        return self._watch[0][0] if self._watch else None

    def take_due(self, now: Now) -> str | None:
        """Return the id of a worker that has to be looked at now, and stop watching it."""
        if not self._watch or self._watch[0][0] > now.boot_s:
            return None
        worker_id = heapq.heappop(self._watch)[1]
        self._watched.discard(worker_id)
        return worker_id

    def rest(self, worker: Worker, now: Now) -> None:
        """Give a worker nothing new for REST_S: it could not start what it was given."""
        worker.resting = True
        self.resting.pop(worker.id, None)
        self.resting[worker.id] = now.boot_s + REST_S
        self.sync_capacity(worker)

    def next_rested(self) -> float | None:
        """When the next worker has rested enough."""
        return next(iter(self.resting.values()), None)

    def wake_rested(self, now: Now) -> None:
        """Try again with workers that have rested enough."""
        while (until := self.next_rested()) is not None and until <= now.boot_s:
            worker = self.workers.get(next(iter(self.resting)))
            self.resting.pop(next(iter(self.resting)))
            if worker is not None:
                worker.resting = False
                self.sync_capacity(worker)

    # --- indexes

    def sync_capacity(self, worker: Worker) -> None:
        """To be called after anything that changed what a worker has free or whether it takes work."""
        if worker.id not in self.workers:
            return
        before = self.capacity.free(worker.id)
        if not worker.usable:
            self.capacity.set(worker.id, -1, -1)
            return
        cores, memory = worker.cores_free, worker.memory_free
        self.capacity.set(worker.id, cores, memory)
        if cores > before[0] or memory > before[1]:
            self.driver_queue.wake(cores, memory)
            self.demands.wake(cores, memory)

    def assign(self, driver: Driver, worker: Worker) -> None:
        """Note that the driver's attempt is on this worker."""
        driver.worker_id, driver.worker_address = worker.id, worker.address
        self.drivers_of.setdefault(worker.id, set()).add(driver.id)

    def unassign(self, driver: Driver) -> None:
        """Note that its attempt is nowhere any more; what the driver says of its last worker stays."""
        there = self.drivers_of.get(driver.worker_id)
        if there is not None:
            there.discard(driver.id)
            if not there:
                del self.drivers_of[driver.worker_id]

    def enqueue(self, driver: Driver) -> None:
        """Let it wait for a worker, at the place of its number: a relaunched one is older than what came after it."""
        self.driver_queue.add(driver.id, (driver.number, 0), driver.shape)

    # --- history

    def next_end_order(self) -> int:
        """Rises with every end, so that history keeps its order whatever the clock does."""
        self.end_order += 1
        return self.end_order

    def complete_driver(self, driver: Driver, now: Now) -> None:
        """It is final: into history, without its environment and properties, which may hold secrets and are of no more use."""
        del self.drivers[driver.id]
        self.driver_queue.remove(driver.id)
        self.unassign(driver)
        driver.ended_ms = driver.ended_ms or now.wall_ms
        driver.end_order = self.next_end_order()
        driver.description = replace(driver.description, environment={}, properties={})
        kept = self.policy.retained_drivers
        if len(self.completed_drivers) >= kept:
            self.forget_drivers(list(self.completed_drivers)[: max(kept // 10, 1)])
        self.completed_drivers[driver.id] = driver
        self.touch("driver", driver.id)

    def forget_drivers(self, ids: list[str]) -> None:
        """Drop completed drivers from history; their request ids are remembered for a while."""
        late: dict[str, str] = {}
        for driver_id in ids:
            gone = self.completed_drivers.pop(driver_id)
            self.touch("driver", driver_id)
            if gone.request_id:
                late[gone.request_id] = driver_id
        requests = list(late.items())
        for start in range(0, len(requests), FORGOTTEN_REQUESTS):
            self._remember(dict(requests[start : start + FORGOTTEN_REQUESTS]))

    def _remember(self, late: dict[str, str]) -> None:
        """Keep request ids of forgotten drivers, in the place of the oldest ones."""
        self.forgotten_order += 1
        slot = self.forgotten_order % FORGOTTEN_SLOTS
        before = self.forgotten.get(slot)
        for request_id, driver_id in before.requests.items() if before else ():
            if self.requests.get(request_id) == driver_id and self.find_driver(driver_id) is None:
                del self.requests[request_id]
        self.forgotten[slot] = Forgotten(self.forgotten_order, late)
        self.touch("meta", f"forgotten-{slot}")

    def complete_application(self, application: Application, now: Now) -> None:
        """It is final: into history, without the payload that only launching needs."""
        del self.applications[application.id]
        if self.application_at.get(application.description.address) == application.id:
            del self.application_at[application.description.address]
        application.ended_ms = now.wall_ms
        application.end_order = self.next_end_order()
        application.description = replace(application.description, payload=b"")
        kept = self.policy.retained_applications
        if len(self.completed_applications) >= kept:
            self.forget_applications(list(self.completed_applications)[: max(kept // 10, 1)])
        self.completed_applications[application.id] = application
        self.touch("application", application.id)

    def forget_applications(self, ids: list[str]) -> None:
        """Drop completed applications from history."""
        for app_id in ids:
            del self.completed_applications[app_id]
            self.touch("application", app_id)


def worker_record(worker: Worker | None) -> dict[str, object] | None:
    """Return a worker's record. Whether it answers is the leader's to find out, so UNKNOWN is stored as ALIVE: registered."""
    if worker is None:
        return None
    record: dict[str, object] = encode(worker)
    if worker.state is WorkerState.UNKNOWN:
        record["state"] = (WorkerState.DECOMMISSIONED if worker.info.decommissioned else WorkerState.ALIVE).value
    return record


def application_record(application: Application | None) -> dict[str, object] | None:
    """Return an application's record. Whether its driver answers is the leader's to find out: UNKNOWN is not stored."""
    if application is None:
        return None
    record: dict[str, object] = encode(application)
    if application.state is ApplicationState.UNKNOWN:
        record["state"] = (ApplicationState.RUNNING if application.next_executor else ApplicationState.WAITING).value
    return record
