"""A Cluster in a rough world: leaders fall, workers come and go, commands get lost. A small reference model says what must never happen."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

import hypothesis.strategies as st
from core_world import SimWorker, World, an_app, asked
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sparkd.core import events
from sparkd.core.codec import encode
from sparkd.core.entities import Driver
from sparkd.core.states import DriverState
from sparkd.core.values import Policy, ProcessRef

SIZES = st.sampled_from([(1, 256), (2, 512), (3, 512), (9, 512)])  # the last one fits nowhere


class Rough(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(Policy(retained_drivers=6, retained_applications=6, max_executor_retries=3))
        self.acknowledged: list[str] = []
        self.final: dict[str, str] = {}
        self.killed: set[str] = set()
        self.requests: dict[str, str] = {}
        self.replaced = 0
        self.gone: list[SimWorker] = []

    @initialize(cores=st.integers(1, 4))
    def start(self, cores: int) -> None:
        self.world.add_worker("w0", 4, 2048)
        self.world.add_worker("w1", cores, cores * 512)

    # --- choosing

    def some_worker(self, pick: int, connected: bool | None = None) -> SimWorker | None:
        found = [worker for worker in self.world.workers.values() if connected is None or worker.connected is connected]
        return found[pick % len(found)] if found else None

    def running(self) -> list[tuple[SimWorker, ProcessRef]]:
        return [(worker, ref) for worker in self.world.workers.values() for ref in worker.running]

    # --- what happens

    @precondition(lambda self: len(self.world.workers) < 4)
    @rule(cores=st.integers(1, 4))
    def new_worker(self, cores: int) -> None:
        self.world.add_worker(f"w{len(self.world.workers)}", cores, cores * 512)

    @rule(pick=st.integers(0, 9))
    def connect(self, pick: int) -> None:
        worker = self.some_worker(pick, connected=False)
        if worker:
            self.world.connect(worker)

    @rule(pick=st.integers(0, 9), host_lost=st.booleans())
    def disconnect(self, pick: int, host_lost: bool) -> None:
        worker = self.some_worker(pick, connected=True)
        if worker:
            self.world.disconnect(worker)
            if host_lost:
                worker.lose_host()

    @rule(pick=st.integers(0, 9), count=st.integers(0, 4), tell=st.booleans())
    def worker_works(self, pick: int, count: int, tell: bool) -> None:
        """One worker takes some of its commands, and may tell of it."""
        worker = self.some_worker(pick, connected=True)
        if worker:
            self.world.deliver(worker, count)
            if tell:
                self.world.send_journal(worker)

    @rule()
    def all_work(self) -> None:
        """All that are connected take all commands and tell everything: then only what is wanted runs there."""
        self.world.sync()
        cluster = self.world.cluster
        for worker in self.world.workers.values():
            for ref in worker.running if worker.connected else ():
                if ref.kind == "driver":
                    driver = cluster.drivers[ref.owner]
                    assert driver.ref == ref and driver.worker_id == worker.info.id and not driver.kill_requested
                else:
                    assert cluster.applications[ref.owner].executors[ref.number].worker_id == worker.info.id

    @rule(code=st.sampled_from([0, 0, 1]), pick=st.integers(0, 99))
    def all_work_and_one_ends(self, code: int, pick: int) -> None:
        self.world.sync()
        self.process_ends(pick, code)

    @rule(pick=st.integers(0, 9), again=st.booleans())
    def worker_goes_unnoticed(self, pick: int, again: bool) -> None:
        """It registers again on a new connection before anybody saw the old one break; or it tells that it takes no more."""
        worker = self.some_worker(pick, connected=True)
        if worker:
            if not again:
                worker.info = replace(worker.info, decommissioned=not worker.info.decommissioned)
            if not again and worker.info.decommissioned:
                self.world.handle(events.WorkerDecommissioned(worker.info.id))
            else:
                self.world.connect(worker)

    @rule(pick=st.integers(0, 9), ends=st.sampled_from([None, 0, 1]), back=st.booleans())
    def worker_is_lost_for_a_while(self, pick: int, ends: int | None, back: bool) -> None:
        """It is away for longer than its timeout; what it runs goes on, and some of it ends meanwhile."""
        worker = self.some_worker(pick, connected=True)
        if not worker:
            return
        self.world.deliver(worker)
        self.world.disconnect(worker)
        self.world.pass_time(61.0)
        for ref in list(worker.running)[:1]:
            if ends is not None and (ends == 0 or ref not in worker.supervised):
                self.world.exit(worker, ref, ends)
        if back:
            self.world.connect(worker)

    @rule(pick=st.integers(0, 9), really=st.sampled_from([False, False, True]))
    def worker_is_replaced(self, pick: int, really: bool) -> None:
        """Its state file is lost: another id at its address, the old one never comes back."""
        worker = self.some_worker(pick)
        if worker and really:
            self.replaced += 1
            worker.lose_host()
            self.world.disconnect(worker)
            self.gone.append(self.world.workers.pop(worker.info.id))
            info = replace(worker.info, id=f"{worker.info.id[:2]}-{self.replaced}")
            self.world.workers[info.id] = SimWorker(info)
            self.world.connect(self.world.workers[info.id])

    @rule(pick=st.integers(0, 99), code=st.sampled_from([0, 0, 1]))
    def process_ends(self, pick: int, code: int) -> None:
        found = self.running()
        if found:
            worker, ref = found[pick % len(found)]
            if code == 0 or ref not in worker.supervised:  # supervise restarts the others within the attempt
                self.world.exit(worker, ref, code)

    @rule(size=SIZES, supervise=st.booleans(), request=st.sampled_from(["", "r1", "r2"]), stored=st.integers(0, 5))
    def submit(self, size: tuple[int, int], supervise: bool, request: str, stored: int) -> None:
        event = events.SubmitDriver(0, asked(*size, supervise), request)
        if stored == 0:  # the leader falls before it is stored: never acknowledged, and nothing of it has happened
            self.world.handle(event, stored=False)
            self.world.failover()
            return
        self.world.handle(event)
        answer = self.world.answers[-1]
        assert answer.ok
        if request in self.requests:
            assert answer.id == self.requests[request]
            return
        assert answer.id not in self.acknowledged, "an id was given twice"
        self.acknowledged.append(answer.id)
        if request:
            self.requests[request] = answer.id

    @precondition(lambda self: self.acknowledged)
    @rule(pick=st.integers(0, 99), give_up=st.booleans(), everything=st.sampled_from(["", "", "", "", "kill", "clear"]))
    def kill(self, pick: int, give_up: bool, everything: str) -> None:
        if everything == "kill":
            self.killed |= set(self.world.cluster.drivers)
            self.world.handle(events.KillAllDrivers(0))
        elif everything == "clear":
            self.world.handle(events.ClearCompleted(0))
            assert not self.world.cluster.completed_drivers
        else:
            driver_id = self.acknowledged[-1 - pick % len(self.acknowledged)]
            answer = self.world.kill(driver_id, give_up)
            assert answer.ok is (driver_id not in self.final)
            self.killed.add(driver_id)

    @rule(seconds=st.sampled_from([5.0, 61.0, 1000.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule()
    def failover(self) -> None:
        before = {driver.id: (driver.state, driver.attempt, driver.worker_id) for driver in self.world.cluster.drivers.values()}
        order = [driver.id for driver in self.world.cluster.waiting_drivers()]
        history = list(self.world.cluster.completed_drivers)
        self.world.failover()
        assert not self.world.cluster.unreadable
        assert before == {driver.id: (driver.state, driver.attempt, driver.worker_id) for driver in self.world.cluster.drivers.values()}
        assert order == [driver.id for driver in self.world.cluster.waiting_drivers()]
        assert history == list(self.world.cluster.completed_drivers)

    @precondition(lambda self: len(self.world.cluster.applications) < 3)
    @rule(cores=st.sampled_from([None, 1, 2]), most=st.sampled_from([None, 1, 4]), first=st.sampled_from([None, 0, 2]))
    def application(self, cores: int | None, most: int | None, first: int | None) -> None:
        self.world.register_app(an_app("app", cores, 256, max_cores=most, initial_executors=first))

    @precondition(lambda self: self.world.cluster.applications)
    @rule(pick=st.integers(0, 9), what=st.integers(0, 9), number=st.integers(0, 5))
    def application_says(self, pick: int, what: int, number: int) -> None:
        app_id = list(self.world.cluster.applications)[pick % len(self.world.cluster.applications)]
        match what:
            case 0:
                self.world.handle(events.UnregisterApplication(app_id))
            case 1:
                self.world.handle(events.RequestExecutors(0, app_id, ((0, number),)))
            case 2:
                self.world.handle(events.KillExecutors(0, app_id, (number,)))
            case _:
                self.world.handle(events.ApplicationConfirmed(app_id))

    # --- what must hold

    @invariant()
    def nothing_runs_twice(self) -> None:
        assert all(count == 1 for count in self.world.starts.values())

    @invariant()
    def workers_hold_what_they_can(self) -> None:
        for worker in self.world.cluster.workers.values():
            used = [sum(part) for part in zip(*worker.occupied.values(), strict=True)] or [0, 0]
            assert used == [worker.cores_used, worker.memory_used]
            assert worker.cores_used <= worker.info.cores and worker.memory_used <= worker.info.memory_mb
        for sim in self.world.workers.values():
            if sim.connected:
                assert sim.running.keys() <= self.world.cluster.workers[sim.info.id].occupied.keys(), "something runs that is not counted"
            assert sum(cores for cores, _ in sim.running.values()) <= sim.info.cores, "more runs than there is room for"

    @invariant()
    def all_is_stored(self) -> None:
        """What is in memory is in the store: no change of state without a write, nothing left behind."""
        cluster, store = self.world.cluster, self.world.store
        drivers = {**cluster.drivers, **cluster.completed_drivers}
        applications = {**cluster.applications, **cluster.completed_applications}
        executors = [one for app in cluster.applications.values() for one in app.executors.values()]
        assert kept(store, "driver") == set(drivers)
        assert kept(store, "application") == set(applications)
        assert kept(store, "executor") == {f"{one.app_id}.{one.id}" for one in executors}
        assert kept(store, "worker") == set(cluster.workers)
        for driver in drivers.values():
            record = json.loads(store["driver", driver.id])
            assert decided(record) == decided(json.loads(json.dumps(encode(driver))))
        for one in executors:
            assert json.loads(store["executor", f"{one.app_id}.{one.id}"])["state"] == one.state
        for app in cluster.applications.values():
            record = json.loads(store["application", app.id])
            assert (record["next_executor"], record["failures"]) == (app.next_executor, app.failures)
            assert app.cores_granted == sum(one.cores for one in app.executors.values() if one.counted)

    @invariant()
    def ends_are_final_and_true(self) -> None:
        for driver in self.world.cluster.completed_drivers.values():
            assert self.final.setdefault(driver.id, driver.state) == driver.state
            codes = self.world.exits.get(driver.id, [])
            if driver.state is DriverState.FINISHED:
                assert 0 in codes
            elif driver.state is DriverState.FAILED:
                assert 1 in codes or driver.message == "its end was not seen"
            else:
                assert driver.state is DriverState.KILLED and driver.id in self.killed
        for driver_id in self.world.cluster.drivers:
            assert driver_id not in self.final

    @invariant()
    def nothing_is_forgotten(self) -> None:
        for driver_id in self.acknowledged:
            assert driver_id in self.final or driver_id in self.world.cluster.drivers
        assert len(self.world.cluster.completed_drivers) <= 6

    @invariant()
    def the_queue_is_in_order_and_as_short_as_can_be(self) -> None:
        self.world.settle()
        cluster = self.world.cluster
        waiting = cluster.waiting_drivers()
        assert [driver.number for driver in waiting] == sorted(driver.number for driver in cluster.drivers.values() if driver.state.queued)
        free = [(worker.cores_free, worker.memory_free) for worker in cluster.workers.values() if worker.usable]
        for driver in waiting:
            assert not any(cores >= driver.shape[0] and memory >= driver.shape[1] for cores, memory in free), driver.id
        for app in cluster.waiting_applications():
            profile = app.description.profile
            assert not any(cores >= (profile.cores or 1) and memory >= profile.memory_mb for cores, memory in free), app.id

    def teardown(self) -> None:
        """When all workers are back and every process ends, every driver that fits anywhere ends, once."""
        world = self.world
        if not world.workers:
            return
        for worker in world.workers.values():
            worker.info = replace(worker.info, decommissioned=False)
            world.connect(worker)
        for app_id in list(world.cluster.applications):
            world.handle(events.UnregisterApplication(app_id))
        for _ in range(200):
            world.sync()
            found = self.running()
            if not found:
                break
            for worker, ref in found:
                world.exit(worker, ref, 0)
        widest = max(worker.info.cores for worker in world.workers.values())
        lost = {worker.info.id for worker in self.gone}  # for these only an operator can say that they ended
        left = [driver for driver in world.cluster.drivers.values() if fits(driver, widest) and driver.worker_id not in lost]
        assert not left, [(driver.id, driver.state, driver.story) for driver in left]
        self.nothing_runs_twice()
        self.ends_are_final_and_true()
        self.all_is_stored()
        assert all(worker.cores_used == 0 for worker in world.cluster.workers.values() if worker.connected)


def fits(driver: Driver, cores: int) -> bool:
    return driver.shape[0] <= cores and driver.shape[1] <= cores * 512


def kept(store: Iterable[tuple[str, str]], kind: str) -> set[str]:
    return {entity_id for found, entity_id in store if found == kind}


def decided(record: dict[str, object]) -> list[object]:
    """What a record says apart from what the worker tells again anyhow."""
    names = (
        "state",
        "attempt",
        "worker_id",
        "kill_requested",
        "lost_on",
        "exit_code",
        "end_order",
        "message",
        "number",
        "request_id",
        "story",
    )
    return [record.get(name) for name in names]


class RoughPacked(Rough):
    """The same with the other policies."""

    def __init__(self) -> None:
        super().__init__()
        packed = Policy(
            retained_drivers=6, retained_applications=6, spread_out_drivers=False, spread_out_apps=False, max_executor_retries=-1
        )
        self.world = World(packed)


# Derandomized: a red test is always somebody's change. Hunts with more examples are for a developer's machine.
steady = settings(max_examples=30, stateful_step_count=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
TestRough = Rough.TestCase
TestRough.settings = steady
TestRoughPacked = RoughPacked.TestCase
TestRoughPacked.settings = settings(steady, max_examples=15)
