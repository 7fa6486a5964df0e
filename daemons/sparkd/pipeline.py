"""From events to effects, with the store between: the group commit of one term of leadership.

Each event goes into the core at once; what it wants stored waits in a queue. One transaction is in flight, the next one gathers meanwhile.
Effects leave in the order of their events, each once everything up to its own event is stored, and only while the lease lasts.

What is in memory may be ahead of the store, but never outlives the doubt:

- NotLeader: the pipeline ends. Whoever waits gets NotAlive: the next leader knows what was stored, a request id finds it.
- Interrupted, or a lease that is over: nothing moves until `resume`. Whoever has waited SUSPENDED_WAIT_S gets NotAlive, and then the
  memory is thrown away before anything goes on (Broken), so that what was refused does not happen later. Only a transaction that was
  already under way may have been stored all the same: the refusal says so (`uncertain`), and again a request id finds it.
- StoreUnavailable, RecordTooLarge, and errors of the engine's own: whoever waits gets NotDurable, the pipeline ends with Broken, and
  its owner reads the cluster back from the store: the store is right, not the memory.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

from .clock import boot_s, now
from .coordination.api import Engine, Interrupted, NotLeader, RecordTooLarge, StoreUnavailable
from .core.cluster import Cluster
from .core.effects import Answer, Effect, Outcome, Write
from .core.events import Event, Tick, WorkerHeartbeat
from .core.transitions import UnexpectedEvent
from .http.faces import NotAlive, NotDurable

log = logging.getLogger(__name__)

#: Bytes of one transaction: below ZooKeeper's jute.maxbuffer (1 MiB) with room for paths, and above the largest record.
BATCH_BYTES = 768 * 1024
#: Records of one transaction.
BATCH_WRITES = 1000
#: Events whose outcome is not stored yet; more means that the store stands still, and memory must not fill.
QUEUE_LIMIT = 50_000
#: Seconds that someone waits for an answer while leadership is suspended.
SUSPENDED_WAIT_S = 5.0
#: Seconds between two looks at a lease that is over but may come back.
LEASE_POLL_S = 0.02
#: A defect in the core has the cluster read back from the store, but not more often than this (s): one bad event must not stop all others.
DEFECT_RELOAD_S = 60.0
#: Events of which the core's time is kept, for its quantile.
EVENTS_KEPT = 4096
#: Seconds between two Ticks at least: after one that did something, and after one that did not, whatever the core says.
TICK_S, IDLE_TICK_S = 0.001, 0.05
#: A Tick that comes so much later than it was due (s) tells of a pause of this process or its host, not of silent workers.
LATE_S = 2.0


class Broken(Exception):
    """What is in memory cannot be relied on any more: read the cluster back from the store."""


@dataclass(slots=True)
class Figures:
    """Counters of a master's whole life, over all its terms. Times in s."""

    commits: int = 0
    writes: int = 0
    batch_max: int = 0
    persist_sum_s: float = 0.0
    persist_max_s: float = 0.0
    events: int = 0
    failed_commits: int = 0
    failed_events: int = 0
    refused: int = 0  # requests answered with NotAlive or NotDurable
    reloads: int = 0
    defect_s: float = float("-inf")  # CLOCK_BOOTTIME of the last defect that had the cluster read back
    handle_s: deque[float] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))  # the core's time for each of the last events

    def committed(self, writes: int, took_s: float) -> None:
        """One transaction is durable."""
        self.commits += 1
        self.writes += writes
        self.batch_max = max(self.batch_max, writes)
        self.persist_sum_s += took_s
        self.persist_max_s = max(self.persist_max_s, took_s)


@dataclass(slots=True)
class _Entry:
    """An event's outcome that waits for the store."""

    outcome: Outcome
    since: float  # CLOCK_BOOTTIME
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = sum(map(_size, self.outcome.writes))


class Pipeline:
    """One per cluster in memory; thrown away together with it."""

    def __init__(
        self,
        cluster: Cluster,
        engine: Engine,
        *,
        term: str,
        carry_out: Callable[[Effect], None],
        stored: Callable[[Outcome], None],
        broken: Callable[[Exception], None],
        refusal: Callable[[], Exception],
        figures: Figures,
    ) -> None:
        """term: unique among all terms of all masters; begins each request id.

        Callbacks, all on the loop: carry_out has each effect but Answer; stored: an event's outcome, now durable; broken: once, with
        NotLeader or Broken, after whoever waited was refused. refusal: what whoever waits is refused with when this does not lead.
        """
        self.cluster = cluster
        self._engine, self._term = engine, term
        self._carry_out, self._stored, self._broken, self._refusal = carry_out, stored, broken, refusal
        self._figures = figures
        self._queue: deque[_Entry] = deque()
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._begun: set[int] = set()  # tokens whose outcome may be in the store already
        self._token = self._request = 0
        self._loop = asyncio.get_running_loop()
        self._filled, self._running = asyncio.Event(), asyncio.Event()
        self._running.set()
        self._patience: asyncio.TimerHandle | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._tick_at = self._tick_due = 0.0
        self._tick_min_s = TICK_S
        self._spoiled = ""
        self._closed = False
        self._task = self._loop.create_task(self._run())

    # In

    def begin(self, recovered: Outcome) -> None:
        """Take what Cluster.recover wants done; then the clock runs."""
        self._add(recovered)

    def post(self, event: Event) -> None:
        """Take an event that nobody waits for the answer of. An event that the core does not take is logged and forgotten."""
        if self._closed:
            return
        try:
            self._handle(event)
        except Exception as error:
            self._failed(event, error)

    async def ask(self, event: Callable[[int], Event]) -> Answer:
        """Take an event made with a token; return its answer once it is durable. Raises NotAlive, NotDurable."""
        if self._closed or not self._running.is_set():
            self._figures.refused += 1
            raise self._refusal()
        if len(self._queue) >= QUEUE_LIMIT:
            self._figures.refused += 1
            raise NotDurable("too much waits for the store; try again later")
        self._token += 1
        token = self._token
        made = event(token)
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting[token] = future
        try:
            try:
                self._handle(made)
            except Exception as error:
                del self._waiting[token]
                self._failed(made, error)
                raise NotDurable(f"refused: {error}") from error
            return await future
        finally:
            self._waiting.pop(token, None)

    async def barrier(self) -> None:
        """Wait until all that was posted before is durable and its effects have left. Raises NotAlive, NotDurable."""
        self._token += 1
        token = self._token
        future = self._waiting[token] = self._loop.create_future()
        try:
            self._add(Outcome(effects=(Answer(token, True, ""),)))
            if self._closed:
                raise self._refusal()
            await future
        finally:
            self._waiting.pop(token, None)

    async def room(self) -> None:
        """Wait while too much waits for the store: whoever reads from a worker reads no faster than that."""
        while len(self._queue) > QUEUE_LIMIT // 5 and not self._closed:
            await asyncio.sleep(LEASE_POLL_S)

    def __len__(self) -> int:
        """Events that wait for the store."""
        return len(self._queue)

    def age_s(self) -> float:
        """How long the oldest of them has waited."""
        return boot_s() - self._queue[0].since if self._queue else 0.0

    # Leadership

    def suspend(self) -> None:
        """Nothing is stored and nothing leaves until `resume`."""
        self._running.clear()
        if self._patience is None and not self._closed:
            self._patience = self._loop.call_later(SUSPENDED_WAIT_S, self._impatient)

    def resume(self) -> None:
        """The same epoch leads again."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._running.set()
        if self._spoiled:
            self._break(Broken(self._spoiled))

    def _impatient(self) -> None:
        if self._refuse_all(self._refusal):
            self._spoiled = "requests were refused while leadership was suspended"

    def close(self) -> None:
        """Leadership is over: whoever waits gets NotAlive, nothing more leaves."""
        self._closed = True
        for timer in (self._patience, self._tick):
            if timer is not None:
                timer.cancel()
        self._queue.clear()
        self._refuse_all(self._refusal)
        self._running.set()
        self._filled.set()

    async def ended(self) -> None:
        """Wait for a transaction that is still under way: an engine takes one at a time."""
        await asyncio.wait([self._task])

    # Core

    def _handle(self, event: Event) -> None:
        self._figures.events += 1
        begun = perf_counter()
        outcome = self.cluster.handle(event, now())
        self._figures.handle_s.append(perf_counter() - begun)
        self._add(outcome)

    def _add(self, outcome: Outcome) -> None:
        if outcome.writes or outcome.effects or outcome.transitions:
            self._queue.append(_Entry(outcome, boot_s()))
            self._filled.set()
            self._tick_min_s = TICK_S
            if len(self._queue) > 2 * QUEUE_LIMIT:
                self._break(Broken(f"{len(self._queue)} events wait for the store"))
                return
        self._arm()

    def _failed(self, event: Event, error: Exception) -> None:
        """An event that a state does not know tells the entity's story; anything else is a defect. Neither may stop the others."""
        self._figures.failed_events += 1
        told = isinstance(error, UnexpectedEvent)
        log.error("event=refused_event kind=%s why=%s", type(event).__name__, json.dumps(str(error)), exc_info=None if told else error)
        if not told and boot_s() - self._figures.defect_s > DEFECT_RELOAD_S:
            self._figures.defect_s = boot_s()
            self._break(Broken(f"a defect: {type(error).__name__} while taking a {type(event).__name__}"))

    def _arm(self) -> None:
        """Keep one timer for the core's next deadline."""
        deadline = self.cluster.next_deadline()
        if deadline is None or self._closed:
            return
        if self._tick is not None:
            if deadline >= self._tick_at:
                return  # fires early enough; the deadline is looked at again then
            self._tick.cancel()
        self._tick_at = deadline
        wait = max(deadline - boot_s(), self._tick_min_s)
        self._tick_due = boot_s() + wait
        self._tick = self._loop.call_later(wait, self._on_tick)

    def _on_tick(self) -> None:
        if boot_s() - self._tick_due > LATE_S:
            self._excuse()
        deadline = self.cluster.next_deadline()
        if deadline is not None and deadline <= boot_s():
            self._tick_min_s = IDLE_TICK_S  # should this one be in vain
            self.post(Tick())  # leaves the timer alone: there is one until here
        self._tick = None
        self._arm()

    def _excuse(self) -> None:
        """Nobody was heard during a pause of our own: what workers said meanwhile is read next, and counts from now."""
        log.warning("event=paused for_s=%.1f", boot_s() - self._tick_due)
        for worker in list(self.cluster.workers.values()):
            if worker.connected:
                self.post(WorkerHeartbeat(worker.id))

    # Store

    async def _run(self) -> None:
        try:
            while not self._closed:
                await self._filled.wait()
                await self._running.wait()
                if self._closed:
                    break
                entries, chunks = self._take()
                if chunks:
                    self._begun.update(effect.token for entry in entries for effect in entry.outcome.effects if isinstance(effect, Answer))
                for chunk in chunks:
                    await self._commit(chunk)
                for entry in entries:
                    await self._release(entry)
                if not self._queue:
                    self._filled.clear()
        except NotLeader as error:
            self._break(error)
        except (StoreUnavailable, RecordTooLarge) as error:
            self._figures.failed_commits += 1
            self._break(error)
        except _Over:
            pass
        except Exception as error:
            self._figures.failed_commits += 1
            log.exception("event=commit_failed term=%s", self._term)
            self._break(Broken(f"{type(error).__name__}: {error}"))

    def _take(self) -> tuple[list[_Entry], list[list[Write]]]:
        """Take what fits one transaction. An event that alone is larger is stored in several: each record is whole in itself."""
        first = self._queue.popleft()
        entries, writes, size = [first], {(write.kind, write.id): write for write in first.outcome.writes}, first.size
        if size > BATCH_BYTES or len(writes) > BATCH_WRITES:
            return entries, _chunks(first.outcome.writes)
        while self._queue:
            following = self._queue[0]
            if size + following.size > BATCH_BYTES or len(writes) + len(following.outcome.writes) > BATCH_WRITES:
                break
            entries.append(self._queue.popleft())
            size += following.size
            for write in following.outcome.writes:
                writes[write.kind, write.id] = write  # only the last state of a record is stored
        return entries, [list(writes.values())] if writes else []

    async def _commit(self, writes: list[Write]) -> None:
        self._request += 1
        request_id = f"{self._term}-{self._request}"
        while True:
            begun = boot_s()
            try:
                await self._engine.commit(writes, request_id)
            except Interrupted:
                await asyncio.sleep(LEASE_POLL_S)  # the engine may say so before it calls on_suspended
                await self._running.wait()
                self._still_on()
                continue
            self._figures.committed(len(writes), boot_s() - begun)
            return

    async def _release(self, entry: _Entry) -> None:
        """Let an event's effects out. The lease is looked at before each."""
        self._still_on()
        self._stored(entry.outcome)
        for effect in entry.outcome.effects:
            while self._engine.lease_left_s() <= 0.0 or not self._running.is_set():
                await asyncio.sleep(LEASE_POLL_S)
                await self._running.wait()
                self._still_on()
            if isinstance(effect, Answer):
                self._answer(effect)
            else:
                self._carry_out(effect)

    def _still_on(self) -> None:
        if self._closed:
            raise _Over

    # Out

    def _answer(self, answer: Answer) -> None:
        future = self._waiting.get(answer.token)
        if future is not None and not future.done():
            future.set_result(answer)
        self._begun.discard(answer.token)

    def _refuse_all(self, refusal: Callable[[], Exception]) -> int:
        """Refuse whoever waits; who may be in the store all the same is told so. Return how many."""
        waiting = [(token, future) for token, future in self._waiting.items() if not future.done()]
        for token, future in waiting:
            error = refusal()
            if token in self._begun:
                error = _uncertain(error)
            future.set_exception(error)
        self._figures.refused += len(waiting)
        return len(waiting)

    def _break(self, error: Exception) -> None:
        """End, and tell the owner."""
        if self._closed:
            return
        if not isinstance(error, NotLeader):
            why = str(error)
            if isinstance(error, StoreUnavailable | RecordTooLarge):
                self._begun.clear()  # nothing of the batch counts
            self._refuse_all(lambda: NotDurable(why))
        self.close()
        self._broken(error)


def _uncertain(error: Exception) -> Exception:
    """Add to a refusal that the transaction had begun: nobody here knows whether it was stored."""
    if isinstance(error, NotAlive):
        error.uncertain = True
        return error
    return NotDurable(f"{error}; it was on its way to the store, which may have taken it all the same")


class _Over(Exception):
    """The pipeline was closed while it waited."""


def _size(write: Write) -> int:
    """Bytes that a write takes in a transaction, roughly, and rather too many than too few."""
    return 512 + len(write.id) + len(write.body())


def _chunks(writes: tuple[Write, ...]) -> list[list[Write]]:
    chunks: list[list[Write]] = [[]]
    size = 0
    for write in writes:
        more = _size(write)
        if chunks[-1] and (size + more > BATCH_BYTES or len(chunks[-1]) >= BATCH_WRITES):
            chunks.append([])
            size = 0
        chunks[-1].append(write)
        size += more
    return chunks
