"""States of all entities, by Spark's names, and which of them are final.

Source: org.apache.spark.deploy.master.{RecoveryState, WorkerState, ApplicationState, DriverState}, org.apache.spark.deploy.ExecutorState.
"""

from __future__ import annotations

from enum import StrEnum


class MasterStatus(StrEnum):
    """What a master says of itself on every face."""

    STANDBY = "STANDBY"
    RECOVERING = "RECOVERING"
    COMPLETING_RECOVERY = "COMPLETING_RECOVERY"  # part of the contract; never lasts here, entities recover one by one
    ALIVE = "ALIVE"


class WorkerState(StrEnum):
    """UNKNOWN: stored by an earlier leader and has not reported to this one yet, or its connection broke. Never stored itself."""

    ALIVE = "ALIVE"
    DEAD = "DEAD"
    DECOMMISSIONED = "DECOMMISSIONED"
    UNKNOWN = "UNKNOWN"


class ApplicationState(StrEnum):
    """UNKNOWN: its driver has not answered this leader yet. Never stored itself."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"
    UNKNOWN = "UNKNOWN"

    @property
    def final(self) -> bool:
        """Nothing follows."""
        return self in (ApplicationState.FINISHED, ApplicationState.FAILED, ApplicationState.KILLED)


class DriverState(StrEnum):
    """A driver keeps its id through all attempts.

    SUBMITTED queued; RUNNING an attempt was given to a worker; RELAUNCHING the attempt is lost and the next one is queued;
    UNKNOWN it runs, or ran, on a worker that does not answer, and only that worker's journal or an operator can end it.
    """

    SUBMITTED = "SUBMITTED"
    RUNNING = "RUNNING"
    RELAUNCHING = "RELAUNCHING"
    UNKNOWN = "UNKNOWN"
    FINISHED = "FINISHED"
    KILLED = "KILLED"
    FAILED = "FAILED"
    ERROR = "ERROR"

    @property
    def final(self) -> bool:
        """Nothing follows."""
        return self in (DriverState.FINISHED, DriverState.KILLED, DriverState.FAILED, DriverState.ERROR)

    @property
    def queued(self) -> bool:
        """Waits for a worker."""
        return self in (DriverState.SUBMITTED, DriverState.RELAUNCHING)


class ExecutorState(StrEnum):
    """As Spark's; LAUNCHING until the worker says RUNNING."""

    LAUNCHING = "LAUNCHING"
    RUNNING = "RUNNING"
    KILLED = "KILLED"
    FAILED = "FAILED"
    LOST = "LOST"
    EXITED = "EXITED"
    DECOMMISSIONED = "DECOMMISSIONED"

    @property
    def final(self) -> bool:
        """Nothing follows (ExecutorState.isFinished; DECOMMISSIONED still runs)."""
        return self in (ExecutorState.KILLED, ExecutorState.FAILED, ExecutorState.LOST, ExecutorState.EXITED)
