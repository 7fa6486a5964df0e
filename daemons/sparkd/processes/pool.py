"""All processes of a worker: started once, watched, started again by supervise, ended, found again. One task per process.

Order of things, so that a crash anywhere loses nothing and runs nothing twice:
  launch    launch.json, then the journal's start (run 1), then the keeper's started.json, then the command itself
  restart   the journal's start (run n) before the keeper. A run that the journal tells of but that no keeper started is started then
  end       the journal's intent, then the signal; the end that follows is KILLED, whatever the exit code
  exit      exit.json by the keeper, then the journal's exit, kept until a leader acknowledges it
A supervised process is started again only while a leader has been heard within the worker's timeout: after that it may have been given
to somebody else, and the first word of the next leader says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

from ..core import codec
from ..core.values import ApplicationDescription, DriverDescription, Json, ProcessRef, ProcessReport
from ..settings import WorkerSettings
from . import launch as launching
from .fetch import FetchError, fetch
from .files import Layout, directory_name, read_json, write_private
from .held import Held
from .journal import Journal, Known
from .keeping import NEVER, Order, Run, forget_secrets, write_files
from .supervise import Again, Exit, Over, decide, in_words

log = logging.getLogger(__name__)

T = TypeVar("T")

ACTIVE = frozenset(("RUNNING", "LAUNCHING"))
RETRY_S = 1.0  # a disk that cannot be written is tried again
UNWRITABLE = "cannot write"
KILL_GRACE_S = 2.0  # more than a keeper's own time to KILL; then the keeper is killed


def _failed(ref: ProcessRef) -> str:
    """State of what cannot be started, whoever tries."""
    return "ERROR" if ref.kind == "driver" else "FAILED"


def _unstarted(ref: ProcessRef) -> str:
    """State of what this worker cannot start and another one can: a driver goes back into the queue."""
    return "SUBMITTED" if ref.kind == "driver" else "FAILED"


class Ended(Exception):
    """Somebody wants the process ended while something else was under way."""


class Pool:
    """The processes. `on_report` hears of each change once it is durable, and with seq 0 of what cannot be made so."""

    def __init__(self, settings: WorkerSettings, layout: Layout, journal: Journal, on_report: Callable[[ProcessReport], None]) -> None:
        """Call `adopt` next."""
        self.settings, self.layout, self.journal, self.on_report = settings, layout, journal, on_report
        self.held: dict[ProcessRef, Held] = {}
        self.finished: dict[ProcessRef, ProcessReport] = {}  # oldest first
        self.leader_heard = asyncio.Event()  # within the worker's timeout; set and cleared by the worker
        self.problem = ""  # what keeps it from working, for the page
        self.counts = {"launches": 0, "restarts": 0, "adopted": 0, "lost": 0, "fetch_failures": 0, "launch_failures": 0}
        self._abouts: dict[str, Mapping[str, str]] = {}

    # What the leader wants

    async def launch_driver(self, ref: ProcessRef, description: DriverDescription) -> None:
        """Start a driver's attempt, or only report it if it is known."""
        report = ProcessReport(ref, "RUNNING", description.cores, description.memory_mb, started_ms=now_ms())
        await self._launch(Held(report, description))

    async def launch_executor(self, ref: ProcessRef, cores: int, memory_mb: int, application: ApplicationDescription) -> None:
        """Start an executor, or only report it if it is known."""
        report = ProcessReport(ref, "RUNNING", cores, memory_mb, started_ms=now_ms())
        await self._launch(Held(report, application=application))

    async def _launch(self, held: Held) -> None:
        known = self.current(held.ref)
        if known is not None:
            self.on_report(dataclasses.replace(known, seq=0))
            return
        early = self.journal.contents.intents.get(held.ref, "")
        self.held[held.ref] = held
        self.counts["launches"] += 1
        if early:
            held.end = early
            held.ending.set()
        held.task = asyncio.create_task(self._begin(held), name=f"process {held.ref}")

    async def end(self, ref: ProcessRef, why: str) -> None:
        """End a process; its end is reported. One that was never here is reported as ended, and never started."""
        held = self.held.get(ref)
        if held is None:
            finished = self.finished.get(ref)
            if finished is not None:
                self.on_report(dataclasses.replace(finished, seq=0))
                return
            report = ProcessReport(ref, "KILLED", 0, 0, ended_ms=now_ms(), message=f"{why} (it was never started here)", runs=0)
            await self._record(report)
            return
        if held.end:
            return
        try:
            await self.journal.end(ref, why)
        except OSError as error:  # a full disk is no reason to let it run on
            self._unwritable(error)
        held.end = why
        held.ending.set()

    async def drop(self, refs: tuple[ProcessRef, ...]) -> None:
        """End attempts that are no longer wanted. The next that is reported of them is their end: nothing starts them again."""
        await asyncio.gather(*(self.end(ref, "no longer wanted") for ref in refs if ref in self.held))

    # What is there

    def current(self, ref: ProcessRef) -> ProcessReport | None:
        """Return what is known of a process."""
        held = self.held.get(ref)
        return held.report if held is not None else self.finished.get(ref)

    def used(self) -> tuple[int, int]:
        """Cores and MiB that are taken."""
        reports = [held.report for held in self.held.values()]
        return sum(report.cores for report in reports), sum(report.memory_mb for report in reports)

    def reports(self) -> tuple[ProcessReport, ...]:
        """Return all that a new leader has to know: what runs, then every entry that is not acknowledged, oldest first."""
        entries = self.journal.unacknowledged()
        named = {entry.ref for entry in entries}
        running = [dataclasses.replace(held.report, seq=0) for ref, held in self.held.items() if ref not in named]
        return (*running, *entries)

    def about(self, owner: str) -> Mapping[str, str]:
        """Return name and command of a driver's or application's newest process; empty when they are not known any more."""
        known = self._abouts.get(owner)
        if known is None:
            known = {}
            with contextlib.suppress(OSError, ValueError, AttributeError):
                found = (self.layout.runs / directory_name(owner)).glob("*/about.json")
                newest = max(found, key=lambda path: path.stat().st_mtime)
                known = {str(key): str(value) for key, value in read_json(newest).items()}
            if any(ref.owner == owner for ref in (*self.held, *self.finished)):  # nobody fills it by asking for what never was
                self._abouts[owner] = known
        return known

    def log_directory(self, owner: str, number: int) -> Path:
        """Return where stdout and stderr of a process are. Raises KeyError: only processes of this worker have any."""
        for kind in ("driver", "executor"):
            if self.layout.attempt(ProcessRef(kind, owner, number)).is_dir():
                return self.layout.process(owner, number)
        raise KeyError(f"{owner}/{number}")

    # Across the worker's own ends

    async def adopt(self) -> None:
        """Take up again what an earlier worker had."""
        for ref, known in list(self.journal.contents.known.items()):
            if known.report.state in ACTIVE:
                self._adopt(known)
            else:
                self.finished[ref] = known.report
        await self._adopt_unknown()
        self._retain()

    def _adopt(self, known: Known) -> None:
        held = Held(known.report, self._stored(known.report.ref), wait_s=known.wait_s, end=known.end)
        if known.end:
            held.ending.set()
        self.held[held.ref] = held
        self.counts["adopted"] += 1
        log.info("event=adopted process=%s run=%d", held.ref, held.report.runs)
        held.task = asyncio.create_task(self._guard(held, self._live(held)), name=f"process {held.ref}")

    async def _adopt_unknown(self) -> None:
        """Take up processes that keepers know of and the journal does not: its records were damaged, or its file lost."""
        for attempt in sorted(self.layout.runs.glob("*/[de]*")):
            if not any(attempt.glob("*/started.json")):
                continue
            try:
                body = read_json(attempt / "launch.json")
                ref = codec.decode(ProcessRef, body["ref"])
            except (OSError, ValueError, KeyError, TypeError):
                continue  # over: launch.json goes with the end
            if ref in self.journal.contents.known:
                continue
            description = self._stored(ref)
            cores, memory_mb = (description.cores, description.memory_mb) if description else (0, 0)
            runs = max((int(path.name.partition("-")[0]) for path in attempt.glob("*-*") if path.name[0].isdigit()), default=1)
            report = ProcessReport(ref, "RUNNING", cores, memory_mb, started_ms=now_ms(), runs=runs)
            log.warning("event=adopted_without_journal process=%s run=%d", ref, runs)
            with contextlib.suppress(OSError):
                report = await self.journal.entry(report)
            self._adopt(Known(report))

    async def stop(self, why: str, timeout_s: float) -> None:
        """End everything because the worker ends; return when it is over, or after timeout_s."""
        for held in self.held.values():
            held.stop = why
            held.ending.set()
        waits = [asyncio.ensure_future(held.over.wait()) for held in self.held.values()]
        if waits:
            await asyncio.wait(waits, timeout=timeout_s)
            for wait in waits:
                wait.cancel()

    async def leave(self) -> None:
        """Watch no longer; everything goes on."""
        tasks = [held.task for held in self.held.values() if held.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for held in self.held.values():
            if held.run is not None:
                held.run.close()

    # One process

    async def _begin(self, held: Held) -> None:
        attempt = self.layout.attempt(held.ref)
        try:
            try:
                if held.description is not None:
                    body: Json = {"ref": codec.encode(held.ref), "description": codec.encode(held.description)}
                    await asyncio.to_thread(write_private, attempt / "launch.json", body)
                    self._abouts[held.ref.owner] = launching.for_people(held.description)
                    await asyncio.to_thread(write_private, attempt / "about.json", self._abouts[held.ref.owner])
                held.report = await self.journal.entry(held.report)
            except OSError as error:
                self._unwritable(error)
                why = f"{UNWRITABLE} {error.filename or self.journal.path}: {error.strerror}; nothing runs here that is not in the journal"
                await self._finish(held, _unstarted(held.ref), why)
                return
            self.problem = ""
            self.on_report(held.report)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("event=process_task_failed process=%s", held.ref)
            return
        # Not known to the journal does not mean that it never ran: a journal can be lost. The control directories tell.
        await self._guard(held, self._live(held))

    async def _guard(self, held: Held, work: Awaitable[None]) -> None:
        """A defect here must not look like a process that runs for ever."""
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("event=process_task_failed process=%s", held.ref)
            if held.run is not None:
                held.run.terminate()
                await held.run.wait()
            await self._finish(held, _failed(held.ref), f"internal error: {type(error).__name__}: {error}")

    async def _live(self, held: Held) -> None:
        """From the first start to the end. An earlier worker may have started the first run."""
        order: Order | None = None
        found = True
        while True:
            exit_ = await self._found(held) if found else None
            found = False
            try:
                if exit_ is None:
                    await self._earlier_attempts(held)
                    if order is None:
                        order = await self._unless_ended(held, self._prepare(held))
                    exit_ = await self._run(held, order)
                next_ = self._after(held, exit_)
                if isinstance(next_, Over):
                    code = None if held.end or held.stop else exit_.code
                    await self._finish(held, next_.state, next_.message, code, exit_.ended_ms)
                    return
                self._note_restart(held, next_, exit_)
                await self._unless_ended(held, self._pause(next_.after_s))
                await self._unless_ended(held, self._next_run(held, next_))
            except Ended:
                await self._finish_unstarted(held)
                return
            except (FetchError, launching.LaunchError) as error:
                self.counts["fetch_failures" if isinstance(error, FetchError) else "launch_failures"] += 1
                why = str(error)
                await self._finish(held, _unstarted(held.ref) if why.startswith(UNWRITABLE) else _failed(held.ref), why)
                return

    async def _found(self, held: Held) -> Exit | None:
        """Return how an earlier worker's run ended, waiting for that if need be; None if it was never started."""
        runs = sorted(self.layout.attempt(held.ref).glob(f"{held.report.runs}-*"), key=lambda path: int(path.name.partition("-")[2]))
        if not runs:
            return None
        held.run = Run(runs[-1])
        exit_ = await held.run.find() or await self._watch(held, held.run)
        if exit_.error == NEVER:
            log.info("event=never_started process=%s run=%d", held.ref, held.report.runs)
            return None
        return exit_

    async def _run(self, held: Held, order: Order) -> Exit:
        """Start one run and wait for its end. Raises LaunchError if nothing could be written."""
        attempt = self.layout.attempt(held.ref)
        tries = [int(path.name.partition("-")[2]) for path in attempt.glob(f"{held.report.runs}-*")]
        run = held.run = Run(attempt / f"{held.report.runs}-{max(tries, default=0) + 1}")
        log.info("event=start process=%s run=%d", held.ref, held.report.runs)
        # Shielded: a keeper that is being started must not be lost sight of.
        starting = asyncio.ensure_future(run.start(order))
        try:
            why = await asyncio.shield(starting)
        except OSError as error:
            return Exit(error=f"{UNWRITABLE} {error.filename or run.control}: {error.strerror}", ended_ms=now_ms())
        exit_ = await run.find() or await self._watch(held, run)
        return dataclasses.replace(exit_, error=why) if why and exit_.error == NEVER else exit_

    async def _watch(self, held: Held, run: Run) -> Exit:
        """Wait for a run's end, bringing it about if somebody wants that."""
        ended = asyncio.ensure_future(run.wait())
        asked = asyncio.ensure_future(held.ending.wait())
        try:
            await asyncio.wait((ended, asked), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                run.terminate()
                await asyncio.wait((ended,), timeout=self.settings.driver_terminate_timeout_s + KILL_GRACE_S)
                if not ended.done():
                    log.warning("event=keeper_does_not_react process=%s action=killed", held.ref)
                    run.kill()
            return await ended
        finally:
            ended.cancel()
            asked.cancel()

    def _after(self, held: Held, exit_: Exit) -> Over | Again:
        if exit_.lost:
            self.counts["lost"] += 1
            log.warning("event=lost process=%s run=%d why=%s", held.ref, held.report.runs, exit_.lost)
        if held.stop and not held.end and (exit_.killed or exit_.lost):
            # Not KILLED: nobody wanted that. RELAUNCHING lets the leader queue the next attempt at once.
            state = "RELAUNCHING" if held.supervise else "FAILED" if held.ref.kind == "driver" else "LOST"
            return Over(state, f"{held.stop} ({in_words(exit_)})")
        if exit_.error.startswith(UNWRITABLE) and held.supervise and held.report.runs > 1 and not held.end:
            return Again(RETRY_S, held.wait_s, exit_.error)
        if exit_.error.startswith(UNWRITABLE) and not held.end:
            return Over(_unstarted(held.ref), exit_.error)
        return decide(held.ref.kind, held.supervise, held.end, exit_, held.wait_s)

    def _note_restart(self, held: Held, next_: Again, exit_: Exit) -> None:
        log.info("event=exit process=%s run=%d how=%r again_in_s=%g", held.ref, held.report.runs, next_.message, next_.after_s)
        message = f"{next_.message}; started again after {next_.after_s:g} s"
        held.report = dataclasses.replace(held.report, message=message, exit_code=exit_.code)

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.leader_heard.wait()

    async def _next_run(self, held: Held, next_: Again) -> None:
        """Journal the next run; a disk that cannot be written is waited for."""
        runs = held.report.runs + 1
        report = dataclasses.replace(held.report, runs=runs, started_ms=now_ms(), exit_code=None, message="")
        held.report = await self._record(report, next_.next_s)
        held.wait_s = next_.next_s
        self.counts["restarts"] += 1

    async def _earlier_attempts(self, held: Held) -> None:
        """An attempt of the same driver that is still being ended goes first."""
        for other in list(self.held.values()):
            if other.ref.kind == "driver" and other.ref.owner == held.ref.owner and other.ref.number < held.ref.number:
                await self._unless_ended(held, other.over.wait())

    async def _prepare(self, held: Held) -> Order:
        """Make the directory, fetch what is needed. Raises LaunchError, FetchError."""
        directory, attempt = self.layout.process(held.ref.owner, held.ref.number), self.layout.attempt(held.ref)
        place = self._place(attempt, directory)
        if held.description is None:
            if held.application is None:
                raise launching.LaunchError("the worker was restarted before it was started, and what it was is not known any more")
            plan = launching.executor(held.ref, held.report.cores, held.report.memory_mb, held.application, place)
        else:
            try:
                await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
                path = await fetch(held.description.resource, directory) if held.description.resource else ""
                plan = launching.driver(held.ref, held.description, place, str(path))
                await asyncio.to_thread(write_files, attempt, plan.files)
            except OSError as error:
                raise launching.LaunchError(f"{UNWRITABLE} {error.filename or directory}: {error.strerror}") from error
        settings = self.settings
        limits = (settings.log_max_bytes, settings.log_keep, settings.driver_terminate_timeout_s)
        return Order(plan.argv, plan.environment, directory, *limits)

    def _place(self, attempt: Path, directory: Path) -> launching.Place:
        settings = self.settings
        home = settings.spark_home
        zips = sorted(home.glob("python/lib/py4j-*-src.zip")) if home is not None else []
        return launching.Place(
            host=settings.host,
            spark_home=str(home or ""),
            java_home=str(settings.java_home or ""),
            base=os.environ,
            environment=settings.environment,
            py4j=str(zips[-1]) if zips else "",
            private=str(attempt),
            local_dirs=str(directory / "local"),
        )

    async def _unless_ended(self, held: Held, work: Awaitable[T]) -> T:
        """Do something that can be given up when the process is to be ended. Raises Ended."""
        task = asyncio.ensure_future(work)
        asked = asyncio.ensure_future(held.ending.wait())
        try:
            await asyncio.wait((task, asked), return_when=asyncio.FIRST_COMPLETED)
            if not task.done() or held.ending.is_set():
                if task.done():
                    task.exception()  # it failed, and is to be ended: the second counts
                raise Ended
            return task.result()
        finally:
            task.cancel()
            asked.cancel()

    async def _finish_unstarted(self, held: Held) -> None:
        """It is to be ended, and no run of it is under way."""
        if held.end:
            await self._finish(held, "KILLED", held.end)
        elif held.supervise and held.report.message:  # between two runs
            await self._finish(held, "RELAUNCHING", f"{held.stop} ({held.report.message})")
        else:  # the worker stops, and starts it when it is back
            held.over.set()

    async def _finish(self, held: Held, state: str, message: str, code: int | None = None, ended_ms: int = 0) -> None:
        report = dataclasses.replace(held.report, state=state, message=message[:4000], exit_code=code, ended_ms=ended_ms or now_ms(), seq=0)
        log.info("event=over process=%s state=%s run=%d exit_code=%s why=%r", report.ref, state, report.runs, code, message[:500])
        held.report = report  # what a leader that asks meanwhile is told
        held.report = await self._record(report)
        self.held.pop(held.ref, None)
        held.over.set()
        if held.run is not None:
            held.run.close()
        forget_secrets(self.layout.attempt(held.ref))

    async def _record(self, report: ProcessReport, wait_s: float = 0.0) -> ProcessReport:
        """Journal a report and tell of it. A disk that cannot be written is waited for; an end is told at once all the same."""
        told = False
        while True:
            try:
                stored = await self.journal.entry(report, wait_s)
                break
            except OSError as error:
                self._unwritable(error)
                if not told and report.state not in ACTIVE:
                    told = True
                    self.on_report(report)
                await asyncio.sleep(RETRY_S)
        self.problem = ""
        if stored.state not in ACTIVE:
            self.finished.pop(stored.ref, None)
            self.finished[stored.ref] = stored
            self._retain()
        self.on_report(stored)
        return stored

    def _unwritable(self, error: OSError) -> None:
        problem = f"{UNWRITABLE} {error.filename or self.layout.control}: {error.strerror}; no work is taken until it can be"
        if problem != self.problem:
            self.problem = problem
            log.error("event=disk_problem why=%s", problem)

    def _retain(self) -> None:
        """Forget the oldest ended processes beyond the retained ones; what is not acknowledged stays."""
        waiting = {entry.ref for entry in self.journal.unacknowledged()}
        for kind, limit in (("driver", self.settings.retained_drivers), ("executor", self.settings.retained_executors)):
            mine = [ref for ref in self.finished if ref.kind == kind]
            if len(mine) <= limit:
                continue
            gone = [ref for ref in mine[: len(mine) - limit + limit // 10] if ref not in waiting]
            for ref in gone:
                del self.finished[ref]
                self._abouts.pop(ref.owner, None)
            if gone:
                task = asyncio.ensure_future(self.journal.forget(gone))
                task.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _stored(self, ref: ProcessRef) -> DriverDescription | None:
        try:
            return codec.decode(DriverDescription, read_json(self.layout.attempt(ref) / "launch.json")["description"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def now_ms() -> int:
    """Unix time in ms."""
    return time.time_ns() // 1_000_000
