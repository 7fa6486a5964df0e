"""Who leads, and what is durable: the one interface that all engines have, and its errors.

One engine per master process. All methods run on, and all callbacks come on, the asyncio loop that called `start`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..core.effects import Write
from ..core.values import Epoch, Record

#: Bytes of one encoded record. ZooKeeper's jute.maxbuffer is 1 MiB, for a whole transaction.
RECORD_LIMIT = 512 * 1024


class CoordinationError(Exception):
    """Base: the text says what to do."""


class NotLeader(CoordinationError):
    """The lease is over, or the latch is gone: nothing was stored, or whether it was is the next leader's to find out."""


class Interrupted(CoordinationError):
    """Leadership is suspended; the write was not started. Try again after `resumed`, or give the client an error."""


class RecordTooLarge(CoordinationError):
    """A record is over RECORD_LIMIT; nothing of the batch was stored."""


class StoreUnavailable(CoordinationError):
    """The store does not take the write (disk full, read-only, access denied); nothing of the batch is acknowledged."""


class Misconfigured(CoordinationError):
    """It cannot work like this: Apache's own state in the same place, wrong ACLs, an unshared directory. The process should end."""


@dataclass(frozen=True, slots=True)
class MasterAddress:
    """What a latch says of its master, so that anyone can find the leader."""

    host: str
    port: int
    web_ui: str = ""  # http://host:8080
    rest: str = ""  # http://host:6066, empty when off

    @property
    def url(self) -> str:
        """As applications and workers name it."""
        return f"spark://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """One record as it was found."""

    kind: str
    id: str
    record: Record


@dataclass(frozen=True, slots=True)
class SetAside:
    """A record that could not be read, found by this leader or by one before. It is kept at `where`, never deleted."""

    kind: str
    id: str
    why: str
    where: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """All that is durable."""

    records: tuple[StoredRecord, ...]
    set_aside: tuple[SetAside, ...] = ()


class Listener(Protocol):
    """What an engine tells its master. None of these may block."""

    def on_elected(self, epoch: Epoch) -> None:
        """It leads: load, then serve."""

    def on_suspended(self, why: str) -> None:
        """The lease is over, the latch may still be held: change nothing, say STANDBY, keep everything in memory."""

    def on_resumed(self) -> None:
        """The same epoch leads again; nobody else led meanwhile."""

    def on_deposed(self, why: str) -> None:
        """Leadership is lost: forget all in memory. The engine goes on as a standby by itself."""

    def on_leader(self, leader: MasterAddress | None) -> None:
        """Somebody leads (this master included), or nobody is known to."""

    def on_misconfigured(self, error: Misconfigured) -> None:
        """It cannot work like this."""


class Engine(ABC):
    """Election and store in one, because every write checks the election."""

    @abstractmethod
    async def start(self, me: MasterAddress, listener: Listener) -> None:
        """Join the election and return at once: not being able to reach anything is waited out, and logged. Raises Misconfigured."""

    @abstractmethod
    def lease_left_s(self) -> float:
        """Seconds on CLOCK_BOOTTIME that this master may still call itself leader; 0.0 or less: it may not. Reads the clock."""

    @abstractmethod
    async def load(self) -> Loaded:
        """Read everything, as the leader. Raises NotLeader, Interrupted."""

    @abstractmethod
    async def commit(self, batch: Sequence[Write], request_id: str) -> None:
        """Store a batch as one transaction that first checks the leader's own latch.

        A lost reply is looked up by request_id before this returns, and retried if it was not stored. One call at a time. Raises NotLeader,
        Interrupted, RecordTooLarge, StoreUnavailable.
        """

    @abstractmethod
    async def step_down(self) -> None:
        """Hand over: `on_deposed` first, then release the latch, then stay out of the election until `close`."""

    @abstractmethod
    async def close(self) -> None:
        """Step down and let go of sessions, locks and threads. Never takes longer than 2 s."""

    def masters(self) -> tuple[MasterAddress, ...]:
        """Every master that stands in line, as far as known, the leader first."""
        return ()

    @abstractmethod
    def describe(self) -> dict[str, object]:
        """State for people and /metrics: engine, connected, latch, session, cluster_id, epoch, lease_left_s, elections, last_commit_ms."""
