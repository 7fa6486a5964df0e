"""What masters and workers say to each other on 7077. One frozen class per message; on the wire a JSON object with "t".

Every command carries the epoch of the leader that gives it. A worker refuses a lower number within one cluster id, and everything of a
foreign cluster id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..coordination.api import MasterAddress
from ..core import codec
from ..core.values import ApplicationDescription, DriverDescription, Epoch, Json, ProcessRef, ProcessReport, WorkerInfo

# Worker to master


@dataclass(frozen=True, slots=True)
class Register:
    """All that a worker has, on a new connection to a leader and whenever one asks by `leading`.

    seen: the highest epoch it has obeyed. processes: what runs, and every journal entry that is not acknowledged, oldest first.
    """

    t: ClassVar[str] = "register"
    worker: WorkerInfo
    seen: Epoch | None = None
    processes: tuple[ProcessReport, ...] = ()


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """It lives."""

    t: ClassVar[str] = "heartbeat"


@dataclass(frozen=True, slots=True)
class Journal:
    """New entries of its journal, oldest first; kept by the worker until an Ack."""

    t: ClassVar[str] = "journal"
    entries: tuple[ProcessReport, ...]


@dataclass(frozen=True, slots=True)
class Decommissioned:
    """It takes no more work."""

    t: ClassVar[str] = "decommissioned"


# Master to worker


@dataclass(frozen=True, slots=True)
class Standby:
    """The master that says so does not lead. leader: who does, as far as it knows."""

    t: ClassVar[str] = "standby"
    leader: MasterAddress | None = None


@dataclass(frozen=True, slots=True)
class Leading:
    """The master that says so leads: answer with Register. master: what its latch says of it, for pages."""

    t: ClassVar[str] = "leading"
    epoch: Epoch
    master: MasterAddress | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """Registered. drop: end these before reporting anything else of them. acknowledged: journal entries up to this number are stored."""

    t: ClassVar[str] = "accepted"
    epoch: Epoch
    drop: tuple[ProcessRef, ...] = ()
    acknowledged: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """Not registered. Try again later: the reason may go away."""

    t: ClassVar[str] = "refused"
    why: str


@dataclass(frozen=True, slots=True)
class LaunchDriver:
    """Start this attempt, or report it if it is there already."""

    t: ClassVar[str] = "launch_driver"
    epoch: Epoch
    ref: ProcessRef
    description: DriverDescription


@dataclass(frozen=True, slots=True)
class LaunchExecutor:
    """Start this executor, or report it if it is there already."""

    t: ClassVar[str] = "launch_executor"
    epoch: Epoch
    ref: ProcessRef
    profile_id: int
    cores: int
    memory_mb: int
    description: ApplicationDescription


@dataclass(frozen=True, slots=True)
class End:
    """End a process; its end comes back as a journal entry."""

    t: ClassVar[str] = "end"
    epoch: Epoch
    ref: ProcessRef
    why: str


@dataclass(frozen=True, slots=True)
class Ack:
    """Journal entries up to seq are stored: forget them."""

    t: ClassVar[str] = "ack"
    epoch: Epoch
    seq: int


@dataclass(frozen=True, slots=True)
class ForgetApplication:
    """The application is over: clean up after it."""

    t: ClassVar[str] = "forget_application"
    epoch: Epoch
    app_id: str


@dataclass(frozen=True, slots=True)
class Decommission:
    """Take no more work; answer with Decommissioned."""

    t: ClassVar[str] = "decommission"
    epoch: Epoch


FromWorker = Register | Heartbeat | Journal | Decommissioned
FromMaster = Standby | Leading | Accepted | Refused | LaunchDriver | LaunchExecutor | End | Ack | ForgetApplication | Decommission
Message = FromWorker | FromMaster

_KINDS: dict[str, type[Message]] = {
    kind.t: kind
    for kind in (
        *(Register, Heartbeat, Journal, Decommissioned),
        *(Standby, Leading, Accepted, Refused, LaunchDriver, LaunchExecutor, End, Ack, ForgetApplication, Decommission),
    )
}


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of a newer version: to be skipped."""

    t: str


def encode(message: Message) -> dict[str, Json]:
    """Return the message as a JSON object."""
    return {"t": message.t, **codec.encode(message)}


def decode(body: Json) -> Message | Unknown:
    """Return the message that a JSON object tells of. Raises CodecError."""
    name = body.get("t") if isinstance(body, dict) else None
    if not isinstance(name, str):
        raise codec.CodecError("not a message")
    kind = _KINDS.get(name)
    return Unknown(name[:40]) if kind is None else codec.decode(kind, body)
