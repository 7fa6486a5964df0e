"""What pages and APIs need of a daemon. Master and worker implement these; tests have small ones of their own.

Every answer is taken at the moment of the call: `status()` reads the lease, so a master that was paused says STANDBY with its first word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..coordination.api import MasterAddress, SetAside
from ..core.effects import Answer
from ..core.states import MasterStatus
from ..core.values import DriverDescription, Epoch, ProcessReport
from ..settings import MasterSettings, WorkerSettings

if TYPE_CHECKING:
    from ..core.cluster import Cluster


class NotAlive(Exception):
    """Not the leader. `status` and `leader` are what it knows; the text is Spark's: Current state is not alive: STANDBY.

    uncertain: the request was taken before leadership ended, so it may be stored. Only a client with a request id may simply send it again.
    """

    def __init__(self, status: MasterStatus, leader: MasterAddress | None, uncertain: bool = False) -> None:
        super().__init__(f"Current state is not alive: {status}")
        self.status = status
        self.leader = leader
        self.uncertain = uncertain


class NotDurable(Exception):
    """It could not be stored, so it is not acknowledged and not done; the text says why. To be tried again with the same request id."""


class MasterFace(Protocol):
    """A master as its HTTP faces see it."""

    settings: MasterSettings

    def status(self) -> MasterStatus: ...
    def address(self) -> MasterAddress: ...
    def leader(self) -> MasterAddress | None: ...
    def epoch(self) -> Epoch | None: ...
    def since_ms(self) -> int: ...  # wall clock: since when it has this status
    def masters(self) -> Sequence[MasterAddress]: ...  # everyone whose latch is known, the leader first
    def cluster(self) -> Cluster | None: ...  # read only; None unless it leads (also None as soon as the lease is over)
    def set_aside(self) -> Sequence[SetAside]: ...
    def coordination(self) -> Mapping[str, object]: ...  # Engine.describe()
    def figures(self) -> Mapping[str, float]: ...  # counters and gauges of the shell, by metric name without the prefix sparkd_
    def version(self) -> int: ...  # rises with every change that a page shows; live updates wait on it
    async def changed(self, since: int, timeout_s: float) -> int: ...

    # Raise NotAlive, NotDurable. They return when the change is durable.
    async def submit(self, description: DriverDescription, request_id: str = "") -> Answer: ...
    async def kill_driver(self, driver_id: str, give_up: bool = False) -> Answer: ...
    async def kill_all(self) -> Answer: ...
    async def clear(self) -> Answer: ...
    async def kill_application(self, app_id: str) -> Answer: ...
    async def decommission(self, hosts: Sequence[str]) -> Answer: ...


@dataclass(frozen=True, slots=True)
class LogSlice:
    """Bytes [begin, end) of a log file of `total` bytes."""

    text: bytes
    begin: int
    end: int
    total: int


class WorkerFace(Protocol):
    """A worker as its HTTP faces see it."""

    settings: WorkerSettings

    def worker_id(self) -> str: ...
    def state(self) -> str: ...  # ALIVE, DECOMMISSIONED, or DISCONNECTED while no leader has accepted it
    def address(self) -> tuple[str, int]: ...
    def leader(self) -> MasterAddress | None: ...
    def epoch(self) -> Epoch | None: ...
    def running(self) -> Sequence[ProcessReport]: ...
    def finished(self) -> Sequence[ProcessReport]: ...
    def used(self) -> tuple[int, int]: ...  # cores, MiB
    def journal_backlog(self) -> int: ...
    def problems(self) -> Sequence[str]: ...  # what an operator should know: a foreign cluster, a full disk, masters out of reach
    def figures(self) -> Mapping[str, float]: ...
    def description(self, owner: str) -> Mapping[str, str]: ...  # name, command line for people; never the environment
    def read_log(
        self, owner: str, number: int, name: str, offset: int | None, length: int
    ) -> LogSlice: ...  # KeyError, OSError, ValueError
    def version(self) -> int: ...
    async def changed(self, since: int, timeout_s: float) -> int: ...
