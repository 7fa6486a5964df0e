"""What the core wants done. The shell stores `writes` first and carries out `effects`, in order, only once they are durable."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from .values import ApplicationDescription, DriverDescription, ProcessRef, Record

_COMPACT = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True)
class Write:
    """One record to store under (kind, id); record None: remove it. kind: worker, driver, application, executor or meta."""

    kind: str
    id: str
    record: Record | None
    _body: bytes = field(default=b"", init=False, repr=False, compare=False)

    def body(self) -> bytes:
        """Return the record as JSON, made once for all who need it or its size. Raises ValueError or TypeError for what is not JSON."""
        if not self._body and self.record is not None:
            object.__setattr__(self, "_body", _COMPACT.encode(self.record).encode())
        return self._body


@dataclass(frozen=True, slots=True)
class Answer:
    """To whoever sent the event with this token. id: what was made or meant. message: a sentence, in Spark's words where it has some."""

    token: int
    ok: bool
    message: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class AcceptWorker:
    """It is registered. drop: processes that are no longer wanted; the worker ends them before it reports anything else of them.

    acknowledged: journal entries up to this number are stored.
    """

    worker_id: str
    drop: tuple[ProcessRef, ...] = ()
    acknowledged: int = 0


@dataclass(frozen=True, slots=True)
class RefuseWorker:
    """It is not registered; why is for its log."""

    worker_id: str
    why: str


@dataclass(frozen=True, slots=True)
class ReregisterWorker:
    """It spoke without being registered here (given up meanwhile, or never asked): send it `leading` again, it answers with `register`."""

    worker_id: str
    why: str


@dataclass(frozen=True, slots=True)
class AckJournal:
    """Entries up to seq are stored: the worker may forget them."""

    worker_id: str
    seq: int


@dataclass(frozen=True, slots=True)
class LaunchDriver:
    """Start this attempt; a worker that already has it only reports it."""

    worker_id: str
    ref: ProcessRef
    description: DriverDescription


@dataclass(frozen=True, slots=True)
class LaunchExecutor:
    """Start this executor; a worker that already has it only reports it."""

    worker_id: str
    ref: ProcessRef
    profile_id: int
    cores: int
    memory_mb: int
    description: ApplicationDescription


@dataclass(frozen=True, slots=True)
class EndProcess:
    """End it; its end comes back as a ProcessChanged."""

    worker_id: str
    ref: ProcessRef
    why: str


@dataclass(frozen=True, slots=True)
class ForgetApplication:
    """It is over: the worker may clean up after it."""

    worker_id: str
    app_id: str


@dataclass(frozen=True, slots=True)
class NotifyApplication:
    """For the application's driver: notice is registered, executor_added, executor_updated, removed, worker_removed or master_changed."""

    app_id: str
    notice: str
    executor_id: int = -1
    worker_id: str = ""
    cores: int = 0
    memory_mb: int = 0
    state: str = ""
    message: str = ""
    exit_code: int | None = None


Effect = (
    Answer
    | AcceptWorker
    | RefuseWorker
    | ReregisterWorker
    | AckJournal
    | LaunchDriver
    | LaunchExecutor
    | EndProcess
    | ForgetApplication
    | NotifyApplication
)


@dataclass(frozen=True, slots=True)
class Transition:
    """One line for the log: entity ("driver driver-2026...-0001"), from and to by name, and the cause."""

    entity: str
    before: str
    after: str
    cause: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of one event.

    Every prefix of `writes` is a sound state, so an engine may split a large outcome into several transactions; effects wait for all.
    """

    writes: tuple[Write, ...] = ()
    effects: tuple[Effect, ...] = ()
    transitions: tuple[Transition, ...] = ()
