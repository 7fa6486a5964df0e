"""Who gets what: Spark's scheduling as decisions on numbers, and the two indexes that make a pass cost what it changes.

Source: org.apache.spark.deploy.master.Master.{schedule, scheduleExecutorsOnWorkers, startExecutorsOnWorkers}. Two differences: workers are
not shuffled before drivers are spread (the order is by id, going on from the last position, so the core needs no randomness), and what
fits nowhere is not looked at again until a worker has room for it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from .entities import UNLIMITED, Worker
from .values import Policy

K = TypeVar("K")

#: Cores and MiB.
Shape = tuple[int, int]


class CapacityIndex:
    """Free cores and memory of all workers, ordered by worker id; finds the first that fits in logarithmic time."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._ids = sorted(ids)
        self._slots: dict[str, int] = {}
        self._build([(-1, -1)] * len(self._ids))

    def _build(self, leaves: Sequence[Shape]) -> None:
        self._slots = {worker_id: slot for slot, worker_id in enumerate(self._ids)}
        size = 1
        while size < len(self._ids):
            size *= 2
        self._size = size
        padded = [*leaves, *[(-1, -1)] * (size - len(leaves))]
        self._cores = [-1] * size + [leaf[0] for leaf in padded]
        self._memory = [-1] * size + [leaf[1] for leaf in padded]
        for node in range(size - 1, 0, -1):
            self._pull(node)

    def _pull(self, node: int) -> None:
        left, right = 2 * node, 2 * node + 1
        cores, memory = self._cores, self._memory
        cores[node] = cores[left] if cores[left] > cores[right] else cores[right]
        memory[node] = memory[left] if memory[left] > memory[right] else memory[right]

    def __len__(self) -> int:
        """Number of workers known, usable or not."""
        return len(self._ids)

    def id_at(self, slot: int) -> str:
        """The worker of a slot."""
        return self._ids[slot]

    def add(self, worker_id: str) -> None:
        """Know a worker, not usable yet. Costs a rebuild for a new one."""
        if worker_id not in self._slots:
            self._change([*self._ids, worker_id])

    def discard(self, worker_id: str) -> None:
        """Forget a worker."""
        if worker_id in self._slots:
            self._change([known for known in self._ids if known != worker_id])

    def _change(self, ids: list[str]) -> None:
        before = {known: self.free(known) for known in self._ids}
        self._ids = sorted(ids)
        self._build([before.get(known, (-1, -1)) for known in self._ids])

    def free(self, worker_id: str) -> Shape:
        """What a worker has, (-1, -1) when it takes nothing."""
        leaf = self._size + self._slots[worker_id]
        return (self._cores[leaf], self._memory[leaf])

    def set(self, worker_id: str, cores: int, memory_mb: int) -> None:
        """Set what a worker has free; -1: it takes nothing, not even work that needs nothing."""
        node = self._size + self._slots[worker_id]
        if self._cores[node] == cores and self._memory[node] == memory_mb:
            return
        self._cores[node], self._memory[node] = cores, memory_mb
        node >>= 1
        while node:
            self._pull(node)
            node >>= 1

    def first(self, shape: Shape, start: int = 0) -> int:
        """Return the first slot from `start` on that fits, -1 for none."""
        if start >= len(self._ids):
            return -1
        wanted_cores, wanted_memory = shape
        cores, memory, size = self._cores, self._memory, self._size
        node = size + start
        while True:
            if cores[node] >= wanted_cores and memory[node] >= wanted_memory:
                if node >= size:
                    return node - size
                node *= 2
                continue
            while node & 1:
                node >>= 1
            if node == 0:
                return -1
            node += 1

    def fitting(self, shape: Shape) -> list[int]:
        """Return every slot that fits, in order of worker ids."""
        wanted_cores, wanted_memory = shape
        size = self._size
        if self._cores[1] < wanted_cores or self._memory[1] < wanted_memory:
            return []
        cores, memory = self._cores, self._memory
        return [node - size for node in range(size, size + len(self._ids)) if cores[node] >= wanted_cores and memory[node] >= wanted_memory]

    def next_round_robin(self, shape: Shape, position: int) -> int:
        """Return the first slot that fits, searching from `position` on and around, -1 for none."""
        found = self.first(shape, position)
        return found if found >= 0 or position == 0 else self.first(shape)


class _Line(Generic[K]):
    """The queue of one shape. Removed keys stay in the heap until they come to its head."""

    __slots__ = ("blocked", "heap", "shape", "size")

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.heap: list[tuple[tuple[int, int], K]] = []
        self.blocked = False
        self.size = 0


class ShapeQueue(Generic[K]):
    """Waiting work, first come first served, grouped by what it needs.

    What one member of a shape cannot have, no other can: the whole shape is blocked until some worker has room for it. So a pass looks only
    at shapes that may be served, however long the queue is.
    """

    def __init__(self) -> None:
        self._lines: dict[Shape, _Line[K]] = {}
        self._members: dict[K, tuple[tuple[int, int], Shape]] = {}
        self._ready: set[Shape] = set()

    def __len__(self) -> int:
        """Number of waiting keys."""
        return len(self._members)

    def __contains__(self, key: K) -> bool:
        """Whether it waits."""
        return key in self._members

    def __iter__(self) -> Iterator[K]:
        """All that wait, in their order. Sorts: for pages, not for passes."""
        return iter([key for _, key in sorted((order, key) for key, (order, _) in self._members.items())])

    @property
    def ready(self) -> bool:
        """Some shape may be served."""
        return bool(self._ready)

    def add(self, key: K, order: tuple[int, int], shape: Shape) -> None:
        """Queue a key; queueing it again in another shape moves it."""
        known = self._members.get(key)
        if known == (order, shape):
            return
        if known is not None:
            self.remove(key)
        line = self._lines.get(shape)
        if line is None:
            line = self._lines[shape] = _Line(shape)
        heapq.heappush(line.heap, (order, key))
        line.size += 1
        self._members[key] = (order, shape)
        if not line.blocked:
            self._ready.add(shape)

    def ahead(self, key: K) -> int:
        """Return how many that wait come before it."""
        mine = self._members[key][0]
        return sum(order < mine for order, _ in self._members.values())

    def first_keys(self) -> list[K]:
        """Return the first key of every shape."""
        return [head[1] for shape in list(self._lines) if (head := self.head(shape)) is not None]

    def remove(self, key: K) -> None:
        """Take a key out; unknown ones are fine."""
        known = self._members.pop(key, None)
        if known is None:
            return
        line = self._lines[known[1]]
        line.size -= 1
        if line.size == 0:
            del self._lines[known[1]]
            self._ready.discard(known[1])

    def head(self, shape: Shape) -> tuple[tuple[int, int], K] | None:
        """Return order and key of the first of a shape."""
        line = self._lines.get(shape)
        if line is None:
            return None
        heap = line.heap
        while heap and self._members.get(heap[0][1]) != (heap[0][0], shape):
            heapq.heappop(heap)
        return heap[0] if heap else None

    def heads(self) -> list[tuple[tuple[int, int], Shape]]:
        """Return a heap of (order of the first, shape) over all shapes that may be served."""
        found = [(head[0], shape) for shape in self._ready if (head := self.head(shape)) is not None]
        heapq.heapify(found)
        return found

    def block(self, shape: Shape) -> None:
        """No worker has room for this shape."""
        line = self._lines.get(shape)
        if line is not None:
            line.blocked = True
        self._ready.discard(shape)

    def wake(self, cores: int, memory_mb: int) -> None:
        """A worker has this much room now: shapes that fit in may be served again."""
        for shape, line in self._lines.items():
            if line.blocked and shape[0] <= cores and shape[1] <= memory_mb:
                line.blocked = False
                self._ready.add(shape)


def order_workers(policy: Policy, workers: Iterable[Worker]) -> list[Worker]:
    """Return workers in the order that spark.deploy.workerSelectionPolicy says; ties by id, reversed with the rest when descending."""
    match policy.worker_selection:
        case "CORES_FREE_ASC":
            return sorted(workers, key=lambda worker: (worker.cores_free, worker.id))
        case "CORES_FREE_DESC":
            return sorted(workers, key=lambda worker: (worker.cores_free, worker.id), reverse=True)
        case "MEMORY_FREE_ASC":
            return sorted(workers, key=lambda worker: (worker.memory_free, worker.id))
        case "MEMORY_FREE_DESC":
            return sorted(workers, key=lambda worker: (worker.memory_free, worker.id), reverse=True)
        case "WORKER_ID":
            return sorted(workers, key=lambda worker: worker.id)


@dataclass(frozen=True, slots=True)
class Demand:
    """What one resource profile of an application still wants.

    cores_per_executor None: one executor per worker and pass, of all the cores that it gets. executors_left: under its target.
    """

    cores_left: int
    executors_left: int
    cores_per_executor: int | None
    memory_mb: int

    @property
    def unit(self) -> int:
        """Cores that are given at a time; never parts of an executor (SPARK-8881)."""
        return 1 if self.cores_per_executor is None else self.cores_per_executor

    @property
    def open(self) -> bool:
        """Something could be given. Fewer cores left than one executor needs are not given out."""
        return self.cores_left >= self.unit and self.executors_left > 0


def plan_executors(demand: Demand, free: Sequence[Shape], spread_out: bool) -> list[int]:
    """Return how many cores each worker gives (Master.scheduleExecutorsOnWorkers).

    free: what usable workers have, each enough for one executor, in the order of the selection policy.
    """
    unit, single = demand.unit, demand.cores_per_executor is None
    budget = min(demand.cores_left, sum(cores for cores, _ in free))
    # Most units that a worker could take: memory limits executors, so it does not limit the one growing executor of a worker.
    room = [cores // unit if single or demand.memory_mb == 0 else min(cores // unit, memory // demand.memory_mb) for cores, memory in free]
    wanted = len(free) if single else sum(room)
    if sum(room) * unit <= budget and wanted <= demand.executors_left:
        return [units * unit for units in room]  # everything that is there: no need to deal it out one by one
    assigned = [0] * len(free)
    executors = 0
    open_slots = list(range(len(free)))
    while open_slots:
        still_open = []
        for slot in open_slots:
            while True:
                starts_one = not single or assigned[slot] == 0
                if budget < unit or assigned[slot] >= room[slot] * unit or (starts_one and executors >= demand.executors_left):
                    break
                budget -= unit
                assigned[slot] += unit
                executors += starts_one
                if spread_out:
                    still_open.append(slot)
                    break
        open_slots = still_open if spread_out else []
    return assigned


def split_executors(demand: Demand, cores: int) -> list[int]:
    """Return the cores of each executor that a worker's share makes."""
    if cores <= 0:
        return []
    if demand.cores_per_executor is None:
        return [cores]
    return [demand.cores_per_executor] * (cores // demand.cores_per_executor)


def limit(value: int | None) -> int:
    """Return a limit as a number; None is Spark's Int.MaxValue."""
    return UNLIMITED if value is None else value
