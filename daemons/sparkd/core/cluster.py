"""The cluster as a leader knows it: `handle` takes events and returns what to store and to do. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..coordination.api import StoredRecord
from . import applications, drivers, events, pages, recovery, workers
from .book import NOTHING, Book, Unreadable
from .effects import Outcome
from .entities import Application, Driver, Worker
from .events import Event
from .states import ApplicationState
from .values import Now, Policy

#: Launches of one event, about. What is left goes on with the next event, or a Tick that is due at once: no pass holds the loop for
#: long, and no outcome grows without bound.
PASS_ALLOWANCE = 128


class Cluster:
    """All entities of a cluster, and the only way to change them.

    The mappings are live views in their order (drivers by submission, completed ones by their end): to be read, never to be changed, by
    whoever runs on the same thread.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._book = Book(policy)
        self._confirm_by: float | None = None
        self._last_s = 0.0
        self._last_ms = 0

    @classmethod
    def recover(cls, policy: Policy, records: Iterable[StoredRecord], now: Now) -> tuple[Cluster, Outcome]:
        """Return the cluster that the records tell of, every worker UNKNOWN until it reports."""
        cluster = cls(policy)
        cluster._book = recovery.recover(policy, records, now)
        cluster._last_s, cluster._last_ms = now.boot_s, now.wall_ms
        if cluster._book.applications or cluster._book.drivers:
            cluster._confirm_by = now.boot_s + policy.worker_timeout_s
        return cluster, cluster._book.outcome()

    def handle(self, event: Event, now: Now) -> Outcome:
        """Take one event."""
        self._last_s, self._last_ms = now.boot_s, now.wall_ms
        book = self._book
        match event:
            case events.WorkerHeartbeat():
                workers.heartbeat(book, event, now)
                if not self._work_left():
                    return book.outcome()
            case events.ProcessChanged():
                workers.changed(book, event, now)
            case events.SubmitDriver():
                drivers.submit(book, event, now)
            case events.WorkerRegistered():
                workers.register(book, event, now)
            case events.WorkerDisconnected():
                workers.disconnected(book, event, now)
            case events.WorkerDecommissioned():
                workers.decommissioned(book, event, now)
            case events.KillDriver():
                drivers.kill(book, event, now)
            case events.KillAllDrivers():
                drivers.kill_all(book, event, now)
            case events.ClearCompleted():
                drivers.clear(book, event)
            case events.RegisterApplication():
                applications.register(book, event, now)
            case events.ApplicationConfirmed():
                applications.confirm(book, event, now)
            case events.UnregisterApplication():
                applications.unregister(book, event, now)
            case events.RequestExecutors():
                applications.request_executors(book, event)
            case events.KillExecutors():
                applications.kill_executors(book, event, now)
            case events.Tick():
                self._tick(now)
        self._schedule(now)
        return book.outcome()

    def _tick(self, now: Now) -> None:
        workers.check_silent(self._book, now)
        self._book.wake_rested(now)
        if self._confirm_by is not None and self._confirm_by <= now.boot_s:
            self._confirm_by = None
            applications.unconfirmed(self._book, now)
            workers.check_orphans(self._book, now)

    def _schedule(self, now: Now) -> None:
        """Drivers strictly first, then applications (Master.schedule)."""
        left = drivers.schedule(self._book, now, PASS_ALLOWANCE)
        if left > 0:
            applications.schedule(self._book, now, left)

    def _work_left(self) -> bool:
        return drivers.runnable(self._book) or applications.runnable(self._book)

    def next_deadline(self) -> float | None:
        """Return when a Tick is due (Now.boot_s), None for never. It may be in the past: at once."""
        if self._work_left():
            return self._last_s
        return min((due for due in (self._book.next_watch(), self._book.next_rested(), self._confirm_by) if due is not None), default=None)

    # --- views

    @property
    def workers(self) -> Mapping[str, Worker]:
        """Every worker that is listed, DEAD ones among them for a while."""
        return self._book.workers

    @property
    def drivers(self) -> Mapping[str, Driver]:
        """Drivers that are not final."""
        return self._book.drivers

    @property
    def completed_drivers(self) -> Mapping[str, Driver]:
        """The last retained_drivers final ones, oldest end first."""
        return self._book.completed_drivers

    @property
    def applications(self) -> Mapping[str, Application]:
        """Applications that are not final."""
        return self._book.applications

    @property
    def completed_applications(self) -> Mapping[str, Application]:
        """The last retained_applications final ones, oldest end first."""
        return self._book.completed_applications

    @property
    def counters(self) -> Mapping[str, int]:
        """What this leader has counted: submissions, duplicate_submissions, refused_workers, stale_reports, launched_drivers and so on."""
        return self._book.counters

    @property
    def unreadable(self) -> tuple[Unreadable, ...]:
        """Records that recovery could not understand."""
        return tuple(self._book.unreadable)

    def driver(self, driver_id: str) -> Driver | None:
        """Active or completed, None for unknown or forgotten."""
        return self._book.find_driver(driver_id)

    def application(self, app_id: str) -> Application | None:
        """Active or completed, None for unknown or forgotten."""
        return self._book.find_application(app_id)

    def waiting_drivers(self) -> tuple[Driver, ...]:
        """Queued drivers, the next one first."""
        return tuple(self._book.drivers[driver_id] for driver_id in self._book.driver_queue)

    def waiting_applications(self) -> tuple[Application, ...]:
        """Applications that could use more executors, the next one first."""
        return tuple(dict.fromkeys(self._book.applications[app_id] for app_id, _ in self._book.demands))

    @property
    def waiting_count(self) -> int:
        """Queued drivers."""
        return len(self._book.driver_queue)

    def oldest_waiting_ms(self) -> int | None:
        """Unix time of the oldest queued submission: the age of the queue."""
        return min((self._book.drivers[key].submitted_ms for key in self._book.driver_queue.first_keys()), default=None)

    def unconfirmed(self) -> tuple[int, int]:
        """Workers and applications that have not answered yet: recovery is over when both are 0."""
        waiting = sum(worker.state == "UNKNOWN" for worker in self._book.workers.values())
        return waiting, sum(app.state is ApplicationState.UNKNOWN for app in self._book.applications.values())

    def explain(self, entity_id: str) -> tuple[str, ...]:
        """Sentences: why a driver, application or worker is as it is, and what it waits for. Empty for an unknown id."""
        return pages.explain(self._book, entity_id, Now(self._last_ms, self._last_s))

    def json_state(self, now_ms: int | None = None) -> Mapping[str, object]:
        """Fields of Spark's /json/ that are the core's (JsonProtocol.writeMasterState).

        now_ms: for durations; default: the last event's time.
        """
        return pages.json_state(self._book, self._last_ms if now_ms is None else now_ms)


__all__ = ["NOTHING", "PASS_ALLOWANCE", "Cluster"]
