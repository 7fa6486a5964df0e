"""What a cluster consists of. Mutable, changed by the core only; faces read them.

A field with metadata `MEMORY` is not stored: the leader finds it out again. Everything else is the record, by `codec.encode`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .states import ApplicationState, DriverState, ExecutorState, WorkerState
from .transitions import Step
from .values import ApplicationDescription, DriverDescription, ProcessRef, ResourceProfile, WorkerInfo

MEMORY: dict[str, Any] = {"stored": False}
#: Steps of an entity's life that are kept, and stored with it.
STORY_LENGTH = 6
#: Ended executors that an application remembers.
ENDED_EXECUTORS = 50
#: Characters that are kept of what a worker says of an end: records stay small whatever it says.
MESSAGE_LENGTH = 1_000
#: Spark's Int.MaxValue: no limit on cores.
UNLIMITED = 2**31 - 1


@dataclass(slots=True, eq=False)
class Worker:
    """A worker. What runs there occupies it until the worker itself says that it ended.

    Times: last_seen_s on CLOCK_BOOTTIME, *_ms Unix. connected: it registered with this leader on a connection that still stands.
    """

    info: WorkerInfo
    state: WorkerState = WorkerState.UNKNOWN
    registered_ms: int = 0
    story: tuple[Step, ...] = ()
    connected: bool = field(default=False, metadata=MEMORY)
    last_seen_s: float = field(default=0.0, metadata=MEMORY)
    last_heartbeat_ms: int = field(default=0, metadata=MEMORY)
    occupied: dict[ProcessRef, tuple[int, int]] = field(default_factory=dict, metadata=MEMORY)
    cores_used: int = field(default=0, metadata=MEMORY)
    memory_used: int = field(default=0, metadata=MEMORY)
    resting: bool = field(default=False, metadata=MEMORY)  # it could not start what it was given, and gets nothing for a while

    @property
    def id(self) -> str:
        """Its own, kept through restarts."""
        return self.info.id

    @property
    def address(self) -> str:
        """host:port."""
        return f"{self.info.host}:{self.info.port}"

    @property
    def cores_free(self) -> int:
        """Never below 0, also when it came back smaller than it was."""
        return max(0, self.info.cores - self.cores_used)

    @property
    def memory_free(self) -> int:
        """MiB, never below 0."""
        return max(0, self.info.memory_mb - self.memory_used)

    @property
    def usable(self) -> bool:
        """It takes new work."""
        return self.connected and self.state is WorkerState.ALIVE and not self.resting

    def occupy(self, ref: ProcessRef, cores: int, memory_mb: int) -> None:
        """Note that `ref` runs there; known ones stay as they were."""
        if ref not in self.occupied:
            self.occupied[ref] = (cores, memory_mb)
            self.cores_used += cores
            self.memory_used += memory_mb

    def release(self, ref: ProcessRef) -> bool:
        """Note that `ref` runs there no more; say whether it did."""
        held = self.occupied.pop(ref, None)
        if held is None:
            return False
        self.cores_used -= held[0]
        self.memory_used -= held[1]
        return True


@dataclass(slots=True, eq=False)
class Driver:
    """A submission, through all its attempts.

    number: its place in the queue, never used twice. attempt: the one that runs or ran, or, while queued, the one that comes next.
    worker_id: where the attempt is; kept when it is final; empty while queued. lost_on: the worker of the attempt that was lost last.
    """

    id: str
    number: int
    description: DriverDescription
    submitted_ms: int
    state: DriverState = DriverState.SUBMITTED
    request_id: str = ""
    attempt: int = 1
    worker_id: str = ""
    worker_address: str = ""
    lost_on: str = ""
    kill_requested: bool = False
    runs: int = 0
    launched_ms: int = 0
    started_ms: int = 0
    ended_ms: int = 0
    exit_code: int | None = None
    message: str = ""
    end_order: int = 0
    story: tuple[Step, ...] = ()
    confirmed: bool = field(default=False, metadata=MEMORY)

    @property
    def ref(self) -> ProcessRef:
        """The current attempt."""
        return ProcessRef("driver", self.id, self.attempt)

    @property
    def shape(self) -> tuple[int, int]:
        """Cores and MiB that it needs."""
        return (self.description.cores, self.description.memory_mb)

    @property
    def title(self) -> str:
        """What a page calls its main class."""
        asked = self.description
        return asked.main_class or asked.name or asked.resource or (asked.argv[0] if asked.argv else "")


@dataclass(slots=True, eq=False)
class Executor:
    """An executor of an application, on one worker. DECOMMISSIONED: still there, but no longer counted for its application."""

    app_id: str
    id: int
    worker_id: str
    profile_id: int
    cores: int
    memory_mb: int
    state: ExecutorState = ExecutorState.LAUNCHING
    launched_ms: int = 0
    started_ms: int = 0

    @property
    def ref(self) -> ProcessRef:
        """The process."""
        return ProcessRef("executor", self.app_id, self.id)

    @property
    def counted(self) -> bool:
        """It uses up the application's cores and executor limit."""
        return self.state is not ExecutorState.DECOMMISSIONED


@dataclass(frozen=True, slots=True)
class EndedExecutor:
    """What is remembered of an executor that ended."""

    id: int
    worker_id: str
    state: ExecutorState
    ended_ms: int
    cores: int = 0
    exit_code: int | None = None
    message: str = ""


@dataclass(slots=True, eq=False)
class Application:
    """An application. targets: executors wanted per profile id, None for no limit. failures: abnormal ends of executors in a row."""

    id: str
    number: int
    description: ApplicationDescription
    registered_ms: int
    state: ApplicationState = ApplicationState.WAITING
    profiles: dict[int, ResourceProfile] = field(default_factory=dict)
    targets: dict[int, int | None] = field(default_factory=dict)
    next_executor: int = 0
    failures: int = 0
    ended_executors: tuple[EndedExecutor, ...] = ()
    ended_ms: int = 0
    message: str = ""
    end_order: int = 0
    story: tuple[Step, ...] = ()
    executors: dict[int, Executor] = field(default_factory=dict, metadata=MEMORY)
    cores_granted: int = field(default=0, metadata=MEMORY)
    counts: dict[int, int] = field(default_factory=dict, metadata=MEMORY)

    def attach(self, executor: Executor) -> None:
        """Add it, counted unless decommissioned."""
        self.executors[executor.id] = executor
        if executor.counted:
            self._count(executor, 1)

    def detach(self, executor: Executor) -> None:
        """Remove it."""
        if self.executors.pop(executor.id, None) is not None and executor.counted:
            self._count(executor, -1)

    def uncount(self, executor: Executor) -> None:
        """Stop counting it: its worker was decommissioned. To be called before its state changes."""
        if executor.counted:
            self._count(executor, -1)

    def _count(self, executor: Executor, sign: int) -> None:
        self.cores_granted += sign * executor.cores
        self.counts[executor.profile_id] = self.counts.get(executor.profile_id, 0) + sign


@dataclass(frozen=True, slots=True)
class Counters:
    """The meta record `counters`: the next numbers. Stored with the submission that used them."""

    drivers: int = 0
    applications: int = 0


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A meta record `forgotten-N`: request ids of drivers that history has dropped, so that a late retry is still no second submission."""

    order: int
    requests: dict[str, str] = field(default_factory=dict)
