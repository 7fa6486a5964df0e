"""Which event may come in which state, and what follows. A pair that is not listed is an error that tells the entity's story."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TypeVar

from .states import ApplicationState, DriverState, ExecutorState, WorkerState

#: One step of an entity's life: Unix time in ms, state before, state after, cause.
Step = tuple[int, str, str, str]

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


class UnexpectedEvent(Exception):
    """An event that the entity's state does not know. The text tells what happened to it before."""

    def __init__(self, entity: str, state: str, event: str, story: Sequence[Step]) -> None:
        told = "; ".join(f"{before} -> {after} ({cause})" for _, before, after, cause in story) or "nothing before"
        super().__init__(f"{entity} is {state} and does not know {event!r}. Its story: {told}")
        self.entity = entity
        self.state = state
        self.event = event


class DriverEvent(StrEnum):
    """What happens to a driver. The FINISHED, FAILED, KILLED and ERROR of a worker's report end the attempt that is meant."""

    ASSIGNED = "given to a worker"
    STARTED = "reported running"
    LAUNCHED_AGAIN = "launched again, its worker did not have it"
    FINISHED = "reported FINISHED"
    FAILED = "reported FAILED"
    KILLED = "reported KILLED"
    ERROR = "reported ERROR"
    LOST_SUPERVISED = "worker lost, to be relaunched"
    LOST = "worker lost"
    KILL = "kill requested"
    GIVE_UP = "given up by an operator"
    NEVER_STARTED = "killed before its worker had it"
    NOT_STARTED = "its worker could not start it"


class WorkerEvent(StrEnum):
    """What happens to a worker."""

    REGISTERED = "registered"
    REGISTERED_DECOMMISSIONED = "registered as decommissioned"
    DISCONNECTED = "connection broke"
    DECOMMISSIONED = "decommissioned"
    TIMED_OUT = "silent for too long"
    REPLACED = "replaced by another at its address"


class ApplicationEvent(StrEnum):
    """What happens to an application."""

    GRANTED = "was given an executor"
    CONFIRMED = "driver answered"
    CONFIRMED_RUNNING = "driver answered, executors kept"
    UNCONFIRMED = "driver did not answer"
    FINISHED = "finished"
    FAILED = "failed"
    KILLED = "killed"


class ExecutorEvent(StrEnum):
    """What happens to an executor."""

    RUNNING = "reported RUNNING"
    EXITED = "reported EXITED"
    FAILED = "reported FAILED"
    KILLED = "killed"
    LOST = "worker lost"
    DECOMMISSIONED = "worker decommissioned"


_D, _DE = DriverState, DriverEvent
_ends = {_DE.FINISHED: _D.FINISHED, _DE.FAILED: _D.FAILED, _DE.KILLED: _D.KILLED, _DE.ERROR: _D.ERROR}

DRIVER: Mapping[tuple[DriverState, DriverEvent], DriverState] = {
    (_D.SUBMITTED, _DE.ASSIGNED): _D.RUNNING,
    (_D.SUBMITTED, _DE.KILL): _D.KILLED,
    (_D.RELAUNCHING, _DE.ASSIGNED): _D.RUNNING,
    (_D.RELAUNCHING, _DE.KILL): _D.KILLED,
    # The attempt that was given up as lost had ended well after all, and the next one had not begun: it is done.
    (_D.RELAUNCHING, _DE.FINISHED): _D.FINISHED,
    (_D.RUNNING, _DE.STARTED): _D.RUNNING,
    (_D.RUNNING, _DE.LAUNCHED_AGAIN): _D.RUNNING,
    (_D.RUNNING, _DE.LOST_SUPERVISED): _D.RELAUNCHING,
    (_D.RUNNING, _DE.NOT_STARTED): _D.RELAUNCHING,
    (_D.RUNNING, _DE.LOST): _D.UNKNOWN,
    (_D.RUNNING, _DE.KILL): _D.RUNNING,
    (_D.RUNNING, _DE.GIVE_UP): _D.KILLED,
    (_D.RUNNING, _DE.NEVER_STARTED): _D.KILLED,
    (_D.UNKNOWN, _DE.STARTED): _D.RUNNING,
    (_D.UNKNOWN, _DE.LAUNCHED_AGAIN): _D.RUNNING,
    (_D.UNKNOWN, _DE.NOT_STARTED): _D.RELAUNCHING,
    (_D.UNKNOWN, _DE.KILL): _D.UNKNOWN,
    (_D.UNKNOWN, _DE.GIVE_UP): _D.KILLED,
    (_D.UNKNOWN, _DE.NEVER_STARTED): _D.KILLED,
    **{(state, event): end for state in (_D.RUNNING, _D.UNKNOWN) for event, end in _ends.items()},
}

_W, _WE = WorkerState, WorkerEvent

WORKER: Mapping[tuple[WorkerState, WorkerEvent], WorkerState] = {
    **{(state, _WE.REGISTERED): _W.ALIVE for state in _W},
    **{(state, _WE.REGISTERED_DECOMMISSIONED): _W.DECOMMISSIONED for state in _W},
    (_W.ALIVE, _WE.DISCONNECTED): _W.UNKNOWN,
    (_W.DECOMMISSIONED, _WE.DISCONNECTED): _W.UNKNOWN,
    (_W.ALIVE, _WE.DECOMMISSIONED): _W.DECOMMISSIONED,
    (_W.DECOMMISSIONED, _WE.DECOMMISSIONED): _W.DECOMMISSIONED,
    (_W.ALIVE, _WE.TIMED_OUT): _W.DEAD,
    (_W.DECOMMISSIONED, _WE.TIMED_OUT): _W.DEAD,
    (_W.UNKNOWN, _WE.TIMED_OUT): _W.DEAD,
    (_W.UNKNOWN, _WE.REPLACED): _W.DEAD,
}

_A, _AE = ApplicationState, ApplicationEvent
_active = (_A.WAITING, _A.RUNNING, _A.UNKNOWN)

APPLICATION: Mapping[tuple[ApplicationState, ApplicationEvent], ApplicationState] = {
    (_A.WAITING, _AE.GRANTED): _A.RUNNING,
    (_A.RUNNING, _AE.GRANTED): _A.RUNNING,
    (_A.UNKNOWN, _AE.CONFIRMED): _A.WAITING,
    (_A.UNKNOWN, _AE.CONFIRMED_RUNNING): _A.RUNNING,
    (_A.UNKNOWN, _AE.UNCONFIRMED): _A.FINISHED,
    **{(state, _AE.FINISHED): _A.FINISHED for state in _active},
    **{(state, _AE.FAILED): _A.FAILED for state in _active},
    **{(state, _AE.KILLED): _A.KILLED for state in _active},
}

_X, _XE = ExecutorState, ExecutorEvent

EXECUTOR: Mapping[tuple[ExecutorState, ExecutorEvent], ExecutorState] = {
    (_X.LAUNCHING, _XE.RUNNING): _X.RUNNING,
    (_X.RUNNING, _XE.RUNNING): _X.RUNNING,
    (_X.DECOMMISSIONED, _XE.RUNNING): _X.DECOMMISSIONED,
    (_X.LAUNCHING, _XE.DECOMMISSIONED): _X.DECOMMISSIONED,
    (_X.RUNNING, _XE.DECOMMISSIONED): _X.DECOMMISSIONED,
    **{(state, _XE.EXITED): _X.EXITED for state in (_X.LAUNCHING, _X.RUNNING, _X.DECOMMISSIONED)},
    **{(state, _XE.FAILED): _X.FAILED for state in (_X.LAUNCHING, _X.RUNNING, _X.DECOMMISSIONED)},
    **{(state, _XE.KILLED): _X.KILLED for state in (_X.LAUNCHING, _X.RUNNING, _X.DECOMMISSIONED)},
    **{(state, _XE.LOST): _X.LOST for state in (_X.LAUNCHING, _X.RUNNING, _X.DECOMMISSIONED)},
}


def following(table: Mapping[tuple[S, E], S], entity: str, state: S, event: E, story: Sequence[Step] = ()) -> S:
    """Return the state after `event`. Raises UnexpectedEvent."""
    try:
        return table[state, event]
    except KeyError:
        raise UnexpectedEvent(entity, state, event, story) from None
