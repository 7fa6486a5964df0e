"""What happens to a cluster. One frozen class per event; `Cluster.handle(event, now)` takes any of them.

token: chosen by the caller, comes back in the Answer of this event.
"""

from __future__ import annotations

from dataclasses import dataclass

from .values import ApplicationDescription, DriverDescription, ProcessReport, WorkerInfo


@dataclass(frozen=True, slots=True)
class WorkerRegistered:
    """A worker told all it has: on a new connection, and again whenever a leader asks.

    processes: everything that runs or ended without being acknowledged, journal entries (seq > 0) among them, oldest first.
    """

    worker: WorkerInfo
    processes: tuple[ProcessReport, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerHeartbeat:
    """A worker lives."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class WorkerDisconnected:
    """Its connection broke. It may come back within worker_timeout_s: nothing is given up yet."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class WorkerDecommissioned:
    """It takes no more work; what runs goes on."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class ProcessChanged:
    """A worker's journal entry: a process started or ended."""

    worker_id: str
    report: ProcessReport


@dataclass(frozen=True, slots=True)
class SubmitDriver:
    """A submission. request_id: the client's own; the same id again is answered with the same driver, never run twice."""

    token: int
    description: DriverDescription
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class KillDriver:
    """give_up: an operator declares a driver ended whose worker does not answer."""

    token: int
    driver_id: str
    give_up: bool = False


@dataclass(frozen=True, slots=True)
class KillAllDrivers:
    """Every driver that is not final."""

    token: int


@dataclass(frozen=True, slots=True)
class ClearCompleted:
    """Forget completed drivers and applications (REST clear)."""

    token: int


@dataclass(frozen=True, slots=True)
class RegisterApplication:
    """An application wants executors."""

    token: int
    description: ApplicationDescription


@dataclass(frozen=True, slots=True)
class ApplicationConfirmed:
    """After a failover its driver answered this leader (MasterChangeAcknowledged)."""

    app_id: str


@dataclass(frozen=True, slots=True)
class UnregisterApplication:
    """It is done: state FINISHED, or KILLED/FAILED with the reason."""

    app_id: str
    state: str = "FINISHED"
    why: str = ""


@dataclass(frozen=True, slots=True)
class RequestExecutors:
    """Dynamic allocation: total targets per profile id; profiles not named before come with what they need."""

    token: int
    app_id: str
    targets: tuple[tuple[int, int], ...]
    profiles: tuple[object, ...] = ()  # ResourceProfile


@dataclass(frozen=True, slots=True)
class KillExecutors:
    """The application gives executors back."""

    token: int
    app_id: str
    executor_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed: due at `Cluster.next_deadline()`."""


Event = (
    WorkerRegistered
    | WorkerHeartbeat
    | WorkerDisconnected
    | WorkerDecommissioned
    | ProcessChanged
    | SubmitDriver
    | KillDriver
    | KillAllDrivers
    | ClearCompleted
    | RegisterApplication
    | ApplicationConfirmed
    | UnregisterApplication
    | RequestExecutors
    | KillExecutors
    | Tick
)
