"""A virtual clock, processes that run on it, and a network between them. One seed, one course of events.

Each process has an event loop of its own; all of them live in one thread and step in an order that the seed decides. A paused process does
not step, and finds the time gone by when it goes on; a killed one never steps again. What it sent before is on its way all the same.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from sparkd.rpc.control import ConnectionLost
from sparkd.rpc.messages import Message


class _Selector:
    """Nothing comes from outside, and nobody waits: the world turns the clock."""

    def select(self, timeout: float | None) -> list[Any]:
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """A loop whose time is the world's. Work for threads is done a little later, in the loop itself."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process
        self._selector = _Selector()

    def time(self) -> float:
        return self.process.world.time

    def _process_events(self, event_list: list[Any]) -> None:
        return

    def _write_to_self(self) -> None:
        return

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = self.create_future()
        self.call_later(self.process.world.lag(0.004), _work, future, func, args)
        return future

    def due(self) -> float | None:
        """When it has something to do next; in the past: at once."""
        if self._ready:  # type: ignore[attr-defined]
            return 0.0
        timers = self._scheduled  # type: ignore[attr-defined]
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)._scheduled = False
            self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
        return float(timers[0]._when) if timers else None

    def step(self) -> None:
        """Run what is ready now, once."""
        events._set_running_loop(self)
        try:
            self._run_once()  # type: ignore[attr-defined]
        finally:
            events._set_running_loop(None)


def _work(future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if future.cancelled():
        func(*args)  # a thread is not stopped
        return
    try:
        future.set_result(func(*args))
    except Exception as error:
        future.set_exception(error)


class Process:
    """Something that can be paused and killed."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.loop = VirtualLoop(self)
        self.loop.set_exception_handler(self._complain)
        self.loop.set_task_factory(self._task)
        self.tasks: list[asyncio.Task[Any]] = []
        self.dead = False
        self.paused_until = 0.0
        self.ends: list[End] = []
        world.processes.append(self)

    @property
    def paused(self) -> bool:
        return self.world.time < self.paused_until

    def pause(self, seconds: float) -> None:
        self.paused_until = max(self.paused_until, self.world.time + seconds)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self.loop.create_task(work)

    def _task(self, loop: asyncio.AbstractEventLoop, work: Any, context: Any = None) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=loop, context=context)
        self.tasks.append(task)
        if len(self.tasks) > 200:
            self.tasks = [task for task in self.tasks if not task.done()]
        return task

    def inside(self, function: Callable[[], Any]) -> Any:
        """Call something that needs the running loop."""
        events._set_running_loop(self.loop)
        try:
            return function()
        finally:
            events._set_running_loop(None)

    def kill(self) -> None:
        """No word more from it; its peers hear that the connections are gone."""
        self.dead = True
        self.world.processes.remove(self)
        self.world.graves.append(self)
        for end in self.ends:
            end.cut()
        self.ends.clear()

    def bury(self) -> None:
        """After the simulation: end its tasks quietly."""
        self.dead = True
        for _ in range(50):
            self.tasks = [task for task in self.tasks if not task.done()]
            if not self.tasks:
                break
            for task in self.tasks:
                task.cancel()
            self.loop.step()
        self.loop.close()

    def _complain(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not self.dead:
            self.world.fail(f"{self.name}: {context.get('message')}: {context.get('exception')!r}")


class World:
    """The clock, the processes, and what happens when. time: CLOCK_BOOTTIME in s."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 chooses what happens, guards nothing
        self.time = 1000.0
        self.processes: list[Process] = []  # living
        self.graves: list[Process] = []  # their tasks are not to be collected before the end: that would run code of theirs
        self.failures: list[str] = []
        self.after_step: Callable[[], None] = lambda: None
        self.trace: list[str] = []
        self._numbers = itertools.count()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self.apart: dict[frozenset[str], float] = {}  # names of two processes that hear nothing of each other, and until when

    def at(self, when: float, function: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (when, next(self._numbers), function))

    def after(self, seconds: float, function: Callable[[], None]) -> None:
        self.at(self.time + seconds, function)

    def lag(self, most: float) -> float:
        """Usually short, sometimes nearly `most`, in s."""
        return most * self.random.random() ** 3

    def note(self, text: str) -> None:
        self.trace.append(f"{self.time:.4f} {text}")

    def fail(self, why: str) -> None:
        self.failures.append(f"{self.time:.4f} {why}")

    def run(self, until: float, done: Callable[[], bool] = lambda: False) -> None:
        """Let time go on, up to `until`, a failure, or until it is done."""
        steps = 0
        while not self.failures and self.time < until:
            steps += 1
            if steps % 64 == 0 and done():
                return
            if steps > 2_000_000:
                self.fail("time stands still")
                return
            now = self.time
            first, ready = until, []
            for process in self.processes:
                due = process.loop.due()
                if due is None:
                    continue
                if due < process.paused_until:
                    due = process.paused_until
                if due < now:
                    due = now
                if due < first:
                    first, ready = due, [process]
                elif due == first:
                    ready.append(process)
            if self._agenda and self._agenda[0][0] <= first:
                when, _, function = heapq.heappop(self._agenda)
                self.time = max(now, when)
                function()
            elif ready:
                self.time = first
                (ready[0] if len(ready) == 1 else self.random.choice(ready)).loop.step()
                self.time += 1e-6 + self.random.random() * 5e-5  # a step takes its time
            else:
                self.time = until
            self.after_step()

    def separated(self, one: str, other: str) -> float:
        """Until when two processes hear nothing of each other."""
        return self.apart.get(frozenset((one, other)), 0.0)

    def close(self) -> None:
        for process in (*self.processes, *self.graves):
            process.bury()


class End:
    """One end of a connection between processes, as rpc.control.Connection is. Messages keep their order."""

    def __init__(self, process: Process, peer: Process) -> None:
        self.process, self.far = process, peer
        self.peer = self.name = peer.name
        self.other: End = self
        self.sent: Callable[[End, Message], None] = lambda end, message: None  # hears of each message that leaves
        self.lost = self.closed = False
        self._in: deque[Message] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._last = 0.0
        process.ends.append(self)

    def send(self, message: Message) -> bool:
        if self.closed or self.lost or self.process.dead:
            return False
        self.sent(self, message)
        self._travel(lambda: self.other.arrive(message))
        return True

    def _travel(self, arrive: Callable[[], None]) -> None:
        """Have something arrive, in order; what a paused process sent in its last step leaves when it goes on."""
        world = self.process.world
        begun = max(world.time, self.process.paused_until, world.separated(self.process.name, self.far.name))
        self._last = max(self._last, begun + 1e-4 + world.lag(0.02))
        world.at(self._last, arrive)

    def arrive(self, message: Message) -> None:
        if not self.lost and not self.closed and not self.process.dead:
            self._in.append(message)
            self._wake()

    def cut(self) -> None:
        """This process is gone: the other one hears of it when what was sent has come."""
        self.closed = True
        self._travel(self.other.lose)

    def lose(self) -> None:
        if not self.process.dead:
            self.lost = True
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def receive(self) -> Message:
        while not self._in:
            if self.lost or self.closed:
                raise ConnectionLost("closed by the other side")
            self._waiter = self.process.loop.create_future()
            await self._waiter
        return self._in.popleft()

    @property
    def closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed and not self.process.dead:
            self.cut()
            self._wake()

    abort = close


def connection(near: Process, far: Process) -> tuple[End, End]:
    one, other = End(near, far), End(far, near)
    one.other, other.other = other, one
    return one, other
