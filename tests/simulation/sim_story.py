"""A random course of events: clients submit and kill, and everything that can fail does. Then all heals, and has to come to rest."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

from sim_checks import Checks, Request
from sim_nodes import WORKER_TIMEOUT_S, Host, MasterNode, Sim, clean

from sparkd.core.effects import Answer
from sparkd.core.values import DriverDescription
from sparkd.http.faces import NotAlive, NotDurable
from sparkd.worker import Worker

TROUBLE_S = 21.0
REST_S = 240.0
LAST_S = 3.0  # in which what is not wanted any more has to end
TROUBLES_PER_S = 1.0
SUBMISSIONS = 14
PATIENCE_S = 6.0  # a client's, for one answer


class _Handler(logging.Handler):
    def __init__(self, fail: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self.fail = fail

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.fail(f"{record.name}: {self.format(record)}")


@contextmanager
def _defects(fail: Callable[[str], None]) -> Iterator[None]:
    """A daemon that logs a defect of its own has failed; nothing else is logged."""
    log, handler = logging.getLogger("sparkd"), _Handler(fail)
    before = log.level, log.propagate
    log.setLevel(logging.ERROR)
    log.propagate = False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]


class Story:
    """One seed."""

    def __init__(self, seed: int, directory: Path) -> None:
        clean(directory)
        directory.mkdir(parents=True)
        self.sim = Sim(seed, directory)
        self.checks = Checks(self.sim)
        self.world, self.random = self.sim.world, self.sim.world.random
        self.begun = self.world.time

    def run(self) -> Story:
        """Live through it."""
        with _defects(self.world.fail), self.sim.patched():
            self.checks.watch()
            with mock.patch.object(Worker, "_command", self.checks.patched_command):
                try:
                    self._live()
                finally:
                    self.sim.close()
                    clean(self.sim.directory)
        return self

    def _live(self) -> None:
        sim, world = self.sim, self.world
        for node in sim.nodes:
            world.after(self.random.random() * 2, node.start)
        for number in range(SUBMISSIONS):
            world.after(1 + self.random.random() * TROUBLE_S, lambda number=number: self._submit(number))  # type: ignore[misc]
        when = 0.0
        while True:
            when += self.random.expovariate(TROUBLES_PER_S)
            if when > TROUBLE_S:
                break
            world.after(when, self._trouble)
        world.run(self.begun + TROUBLE_S)
        self._heal()
        end = world.time + REST_S
        while True:  # what a client gave up may come yet
            world.run(end, self.checks.settled)
            world.run(world.time + LAST_S)
            if world.failures or world.time >= end or self.checks.settled():
                break
        for node in sim.masters:
            node.check()
        if not world.failures:
            self.checks.end()

    # --- trouble

    def _trouble(self) -> None:
        sim, chance = self.sim, self.random
        master, host = chance.choice(sim.masters), chance.choice(sim.hosts)
        if chance.random() < 0.6:  # the leader is worth more of it
            master = next(iter(sim.alive()), master)
        some = 0.05 + 10 * chance.random() ** 2
        what: list[tuple[int, str, Callable[[], None]]] = [
            (5, "kill", lambda: self._down(master, master.kill)),
            (3, "stop", lambda: self._down(master, master.stop)),
            (5, "pause", lambda: master.pause(some)),
            (4, "cut", lambda: master.cut(some)),
            (3, "quorum", lambda: self._for(some * 1.5, "quorum", False, True)),
            (1, "refuse", lambda: self._for(some / 3, "refuse", "disk full", "")),
            (2, "latch", lambda: self._delete_latch(master)),
            (4, "kill worker", lambda: self._down(host, host.kill)),
            (1, "fall", lambda: self._down(host, host.fall)),
            (2, "pause worker", lambda: host.pause(some * 2)),
            (3, "part", lambda: self._part(master.name, host.name, some * 2)),
            (2, "flap", lambda: self._flap(host.name)),
            (2, "full", lambda: self._full(host, some)),
            (3, "kill driver", self._kill_driver),
        ]
        _, name, act = chance.choices(what, [weight for weight, _, _ in what])[0]
        self.world.note(f"trouble: {name} {master.name} {host.name} {some:.2f}")
        sim.counts[name] += 1
        act()

    def _down(self, node: Any, how: Callable[[], None]) -> None:
        how()
        away = 0.3 + 6 * self.random.random() ** 2
        if self.random.random() < 0.25:
            away += WORKER_TIMEOUT_S
        for late in (0.0, 3.0):  # who was only about to stop is started the second time
            self.world.after(away + late, node.start)

    def _full(self, host: Host, seconds: float) -> None:
        host.full = True
        self.world.after(seconds, lambda: setattr(host, "full", False))

    def _for(self, seconds: float, name: str, value: object, after: object) -> None:
        ensemble = self.sim.ensemble
        setattr(ensemble, name, value)
        self.world.after(seconds, lambda: setattr(ensemble, name, after))

    def _delete_latch(self, master: MasterNode) -> None:
        """By a human; a living master hears of it at once, by its watch, and before any other can lead."""
        engine, process = master.engine, master.process
        if engine is None or process is None or process.dead or process.paused or not engine.reachable or engine.latch is None:
            return
        ensemble = self.sim.ensemble
        ensemble.latches = [latch for latch in ensemble.latches if latch.engine is not engine]
        process.inside(engine.latch_lost)
        ensemble.changed()

    def _part(self, one: str, other: str, seconds: float) -> None:
        """No message between two hosts; their connections break after a while, on each side at its own time."""
        self.world.apart[frozenset((one, other))] = self.world.time + seconds
        for near, far in ((one, other), (other, one)):
            process = self.sim.process(near)
            for end in list(process.ends) if process is not None else ():
                if end.far.name == far and seconds > 2:
                    self.world.after(self.random.random() * min(10.0, seconds), end.lose)

    def _flap(self, name: str) -> None:
        """Its connections break, and stand again at once, a few times."""

        def flap() -> None:
            process = self.sim.process(name)
            for end in list(process.ends) if process is not None else ():
                if self.random.random() < 0.7:
                    end.close()

        for number in range(3):
            self.world.after(number * 0.3 * self.random.random(), flap)

    def _heal(self) -> None:
        sim, world = self.sim, self.world
        world.note("healed")
        sim.lossy = sim.stops_while_speaking = 0.0
        sim.ensemble.quorum, sim.ensemble.refuse = True, ""
        world.apart.clear()
        for host in sim.hosts:
            host.full = False
        for master in sim.masters:
            if master.engine is not None:
                master.engine.cut, master.engine.lossy = False, 0.0
        for node in sim.nodes:
            if node.process is not None:
                node.process.paused_until = min(node.process.paused_until, world.time + 1)
            world.after(self.random.random(), node.start)
            world.after(30.0, node.start)  # who was stopping just now

    # --- clients

    def _submit(self, number: int) -> None:
        chance = self.random
        supervise = chance.random() < 0.4
        seconds = f"{0.05 + 15 * chance.random() ** 3:.3f}"
        codes = [str(chance.choice((0, 0, 0, 1, 7)))] if not supervise else [str(chance.choice((0, 1))) for _ in range(2)] + ["0"]
        name = f"job-{number}"
        request = Request(name, f"request-{number}" if chance.random() < 0.5 else "", supervise)
        self.checks.requests[name] = request
        argv = ("job", seconds, *codes)
        self._ask(request, DriverDescription("command", name, argv, cores=chance.choice((1, 1, 2)), memory_mb=128, supervise=supervise))

    def _ask(self, request: Request, description: DriverDescription) -> None:
        """One attempt at one master, as a client who looks for the leader: it often knows who leads."""
        alive = self.sim.alive()
        node = alive[0] if alive and self.random.random() < 0.8 else self.random.choice(self.sim.masters)

        def again() -> None:
            self.world.after(0.1 + self.random.random(), lambda: self._ask(request, description))

        def heard(said: str, driver_id: str) -> None:
            self.world.note(f"{request.name} at {node.name}: {said} {driver_id}")
            if not request.open:
                return
            if said == "ok":
                request.driver_id, request.open = driver_id, False
            elif said == "refused":
                # Surely not done: without a request id it may be sent again all the same, as Spark's clients do.
                if request.request_id or self.random.random() < 0.5:
                    again()
                else:
                    request.open, request.refused = False, True
            elif request.request_id:
                again()
            else:
                request.open = False  # nobody knows

        self._call(node, lambda master: master.submit(description, request.request_id), heard)

    def _call(self, node: MasterNode, ask: Callable[[Any], Any], heard: Callable[[str, str], None]) -> None:
        """Ask a master over HTTP. Tells `heard` once: ok, refused (surely not done), or unknown."""
        world = self.world
        told: list[str] = []

        def once(said: str, driver_id: str = "") -> None:
            if not told:
                told.append(said)
                heard(said, driver_id)

        def arrive() -> None:
            process, master = node.process, node.master
            if process is None or process.dead or master is None or node.stopping:
                once("refused")  # nobody listens there
                return

            async def handle() -> None:
                said, driver_id = "unknown", ""
                with suppress(Exception):
                    try:
                        answer: Answer = await ask(master)
                        said, driver_id = ("ok" if answer.ok else "no"), answer.id
                    except NotAlive as refusal:
                        said = "unknown" if refusal.uncertain else "refused"
                    except NotDurable as refusal:
                        said = "unknown" if "may have taken it" in str(refusal) else "refused"
                if not process.dead:
                    world.at(max(world.time, process.paused_until) + 1e-4 + world.lag(0.02), lambda: once(said, driver_id))

            process.spawn(handle())

        world.after(1e-4 + world.lag(0.02), arrive)
        world.after(PATIENCE_S, lambda: once("unknown"))

    def _kill_driver(self) -> None:
        ids = [request.driver_id for request in self.checks.requests.values() if request.driver_id]
        alive = self.sim.alive()
        if ids and alive:
            driver_id, give_up = self.random.choice(ids), self.random.random() < 0.3
            self._call(alive[0], lambda master: master.kill_driver(driver_id, give_up), lambda said, _: None)
