"""Scheduling: Spark's own loop as a slow reference, and the indexes against plain search."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from core_world import START_MS, World, an_app, asked
from hypothesis import given, settings

from sparkd.core import events, ids
from sparkd.core.entities import UNLIMITED, Worker
from sparkd.core.scheduler import CapacityIndex, Demand, ShapeQueue, order_workers, plan_executors, split_executors
from sparkd.core.values import Policy, ProcessRef, WorkerInfo


def as_spark_does(demand: Demand, free: list[tuple[int, int]], spread: bool) -> list[int]:
    """Master.scheduleExecutorsOnWorkers, line by line."""
    least, single = demand.cores_per_executor or 1, demand.cores_per_executor is None
    cores, executors = [0] * len(free), [0] * len(free)
    to_assign = min(demand.cores_left, sum(has for has, _ in free))

    def can_launch(slot: int) -> bool:
        keep = to_assign >= least
        enough = free[slot][0] - cores[slot] >= least
        if not single or executors[slot] == 0:
            memory = free[slot][1] - executors[slot] * demand.memory_mb >= demand.memory_mb
            return keep and enough and memory and sum(executors) < demand.executors_left
        return keep and enough

    open_slots = [slot for slot in range(len(free)) if can_launch(slot)]
    while open_slots:
        for slot in open_slots:
            keep_scheduling = True
            while keep_scheduling and can_launch(slot):
                to_assign -= least
                cores[slot] += least
                executors[slot] = 1 if single else executors[slot] + 1
                if spread:
                    keep_scheduling = False
        open_slots = [slot for slot in open_slots if can_launch(slot)]
    return cores


@given(
    cores_left=st.integers(0, 30) | st.just(UNLIMITED),
    executors_left=st.integers(0, 8) | st.just(UNLIMITED),
    unit=st.none() | st.integers(1, 4),
    memory=st.integers(1, 4),
    free=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 12)), max_size=6),
    spread=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_executors_are_planned_as_spark_does(
    cores_left: int, executors_left: int, unit: int | None, memory: int, free: list[tuple[int, int]], spread: bool
) -> None:
    usable = [has for has in free if has[0] >= (unit or 1) and has[1] >= memory]
    demand = Demand(cores_left, executors_left, unit, memory)
    assert plan_executors(demand, usable, spread) == as_spark_does(demand, usable, spread)


@pytest.mark.parametrize(
    ("demand", "spread", "expected"),
    [
        (Demand(8, UNLIMITED, None, 1), True, [3, 3, 2]),  # one core at a time over all
        (Demand(8, UNLIMITED, None, 1), False, [4, 4, 0]),
        (Demand(8, UNLIMITED, 3, 1), True, [3, 3, 0]),  # two left over are not given out (SPARK-8881)
        (Demand(UNLIMITED, 2, 1, 1), True, [1, 1, 0]),
        (Demand(UNLIMITED, 2, None, 1), True, [4, 4, 0]),  # the limit counts executors, which go on growing
        (Demand(0, UNLIMITED, None, 1), True, [0, 0, 0]),
    ],
)
def test_examples(demand: Demand, spread: bool, expected: list[int]) -> None:
    assert plan_executors(demand, [(4, 9), (4, 9), (4, 9)], spread) == expected


def test_a_share_becomes_executors() -> None:
    assert split_executors(Demand(9, 9, None, 1), 5) == [5]
    assert split_executors(Demand(9, 9, 2, 1), 6) == [2, 2, 2]
    assert split_executors(Demand(9, 9, 2, 1), 0) == []


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("CORES_FREE_DESC", "cab"), ("CORES_FREE_ASC", "bac"),
        ("MEMORY_FREE_DESC", "bca"), ("MEMORY_FREE_ASC", "acb"), ("WORKER_ID", "abc"),
    ],
)  # fmt: skip
def test_workers_in_the_order_of_the_policy(policy: str, expected: str) -> None:
    workers = [Worker(WorkerInfo(name, "h", 1, cores, memory)) for name, cores, memory in (("a", 4, 10), ("b", 2, 30), ("c", 4, 20))]
    ordered = order_workers(Policy(worker_selection=policy), workers)  # type: ignore[arg-type]
    assert "".join(worker.id for worker in ordered) == expected


# --- the indexes


@given(
    free=st.lists(st.tuples(st.integers(-1, 5), st.integers(-1, 5)), max_size=12),
    changes=st.lists(st.tuples(st.integers(0, 11), st.integers(-1, 5), st.integers(-1, 5)), max_size=8),
    shape=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    start=st.integers(0, 12),
)
@settings(max_examples=200, deadline=None)
def test_the_first_worker_that_fits(
    free: list[tuple[int, int]], changes: list[tuple[int, int, int]], shape: tuple[int, int], start: int
) -> None:
    names = [f"w{number:02}" for number in range(len(free))]
    index, plain = CapacityIndex(), dict(zip(names, free, strict=True))
    for name in reversed(names):
        index.add(name)
        index.set(name, *plain[name])
    for number, cores, memory in changes:
        name = f"w{number:02}"
        if name in plain:
            plain[name] = (cores, memory)
            index.set(name, cores, memory)
    if names:
        index.discard(names[0])
        del plain[names[0]]
    left = sorted(plain)
    fitting = [slot for slot, name in enumerate(left) if plain[name][0] >= shape[0] and plain[name][1] >= shape[1]]
    assert index.fitting(shape) == fitting and [index.id_at(slot) for slot in range(len(index))] == left
    assert index.first(shape, start) == next((slot for slot in fitting if slot >= start), -1)
    around = next((slot for slot in fitting if slot >= start), fitting[0] if fitting else -1)
    assert index.next_round_robin(shape, start) == around


def test_a_blocked_shape_is_not_looked_at_until_somebody_has_room() -> None:
    queue: ShapeQueue[str] = ShapeQueue()
    queue.add("a", (1, 0), (4, 10))
    queue.add("b", (2, 0), (4, 10))
    queue.add("c", (3, 0), (1, 1))
    assert [shape for _, shape in sorted(queue.heads())] == [(4, 10), (1, 1)]
    queue.block((4, 10))
    queue.block((1, 1))
    queue.add("d", (4, 0), (4, 10))
    assert not queue.ready
    queue.wake(3, 99)
    assert [shape for _, shape in queue.heads()] == [(1, 1)]
    queue.wake(4, 10)
    assert queue.head((4, 10)) == ((1, 0), "a")
    queue.remove("a")
    queue.remove("zzz")
    assert queue.head((4, 10)) == ((2, 0), "b") and list(queue) == ["b", "c", "d"] and len(queue) == 3
    queue.add("b", (2, 0), (1, 1))  # another shape: it moves
    assert queue.head((1, 1)) == ((2, 0), "b") and queue.head((4, 10)) == ((4, 0), "d") and "b" in queue
    assert queue.first_keys() == ["d", "b"]


def test_a_queue_that_fits_nowhere_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts look-ups of workers: none for events that give no room."""
    world = World()
    world.add_worker("w1", cores=2)
    for _ in range(50):
        world.submit(asked(8))
    looked: list[tuple[int, int]] = []
    search = CapacityIndex.next_round_robin

    def count(self: CapacityIndex, shape: tuple[int, int], position: int) -> int:
        looked.append(shape)
        return search(self, shape, position)

    monkeypatch.setattr(CapacityIndex, "next_round_robin", count)
    world.submit(asked(8))
    world.handle(events.Tick())
    world.handle(events.WorkerHeartbeat("w1"))
    assert looked == []
    world.add_worker("w2", cores=4)
    assert looked == []  # too small for any of them
    world.add_worker("w3", cores=8)
    assert looked == [(8, 512), (8, 512)]


# --- drivers on workers


def placed(world: World) -> list[str]:
    return [driver.worker_id for driver in world.cluster.drivers.values()]


def test_drivers_are_spread_or_packed() -> None:
    for spread, expected in ((True, ["a", "b", "c", "a", "b"]), (False, ["a", "a", "b", "b", "c"])):
        world = World(Policy(spread_out_drivers=spread))
        for name in "cab":
            world.add_worker(name, cores=2)
        for _ in range(5):
            world.submit()
        assert placed(world) == expected


def test_max_drivers() -> None:
    world = World(Policy(max_drivers=2))
    worker = world.add_worker("w1", cores=8)
    ids_ = [world.submit() for _ in range(4)]
    assert placed(world) == ["w1", "w1", "", ""]
    assert "spark.deploy.maxDrivers is 2, and as many are running." in world.cluster.explain(ids_[2])
    world.sync()
    world.exit(worker, ProcessRef("driver", ids_[1], 1), 0)
    world.sync()
    assert placed(world) == ["w1", "w1", ""]
    world.failover()
    world.connect(worker)
    assert placed(world) == ["w1", "w1", ""]


def test_a_driver_that_does_not_fit_does_not_hold_up_those_behind_it() -> None:
    world = World()
    big, small = world.submit(asked(8)), world.submit(asked(1))
    world.add_worker("w1", cores=2)
    assert placed(world) == ["", "w1"]
    assert world.cluster.waiting_drivers()[0].id == big and world.cluster.driver(small)
    assert world.cluster.waiting_count == 1 and world.cluster.oldest_waiting_ms() == START_MS + 1_000_000


def test_drivers_come_before_applications() -> None:
    world = World()
    world.register_app(an_app(cores=None))
    world.submit()
    world.add_worker("w1", cores=3)
    executors = next(iter(world.cluster.applications.values())).executors
    assert placed(world) == ["w1"] and [one.cores for one in executors.values()] == [2]


def test_a_large_pass_is_done_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparkd.core.cluster.PASS_ALLOWANCE", 10)
    world = World()
    for _ in range(25):
        world.submit()
    world.add_worker("w1", cores=100, memory_mb=99999)
    counts = [world.cluster.waiting_count]
    while (due := world.cluster.next_deadline()) is not None and due <= world.time:
        world.handle(events.Tick())
        counts.append(world.cluster.waiting_count)
    assert counts == [15, 5, 0]


# --- ids


def test_ids_follow_their_patterns_and_never_repeat() -> None:
    taken: set[str] = set()
    policy = Policy(driver_id_pattern="d-%s-%d", app_id_pattern="a-%s-%02d", app_number_modulo=2)
    assert ids.driver_id(policy, 0, 7, taken.__contains__) == "d-19700101000000-7"
    for number in range(4):
        taken.add(ids.application_id(policy, 0, number, "x", taken.__contains__))
    assert sorted(taken) == ["a-19700101000000-00", "a-19700101000000-00-2", "a-19700101000000-01", "a-19700101000000-01-3"]


@pytest.mark.parametrize(
    ("name", "expected"), [("My App", "myapp"), ("../x y/Z", "xy-z"), ("  ", "app-19700101000000-0003"), ("päss", "p-ss")]
)
def test_an_applications_name_as_its_id(name: str, expected: str) -> None:
    policy = Policy(app_name_as_id=True)
    assert ids.application_id(policy, 0, 3, name, set().__contains__) == expected
