"""Every pair of state and event: what follows, or an error that tells the story."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from itertools import product
from typing import Any

import pytest

from sparkd.core.states import ApplicationState, DriverState, ExecutorState, WorkerState
from sparkd.core.transitions import (
    APPLICATION,
    DRIVER,
    EXECUTOR,
    WORKER,
    ApplicationEvent,
    DriverEvent,
    ExecutorEvent,
    UnexpectedEvent,
    WorkerEvent,
    following,
)

#: One line per state: which event leads where. Everything that is not named must be refused.
EXPECTED: dict[str, dict[str, str]] = {
    "driver SUBMITTED": {"ASSIGNED": "RUNNING", "KILL": "KILLED"},
    "driver RELAUNCHING": {"ASSIGNED": "RUNNING", "KILL": "KILLED", "FINISHED": "FINISHED"},
    "driver RUNNING": {
        "STARTED": "RUNNING", "LAUNCHED_AGAIN": "RUNNING", "KILL": "RUNNING", "LOST_SUPERVISED": "RELAUNCHING", "LOST": "UNKNOWN",
        "FINISHED": "FINISHED", "FAILED": "FAILED", "KILLED": "KILLED", "ERROR": "ERROR", "GIVE_UP": "KILLED", "NEVER_STARTED": "KILLED",
        "NOT_STARTED": "RELAUNCHING",
    },
    "driver UNKNOWN": {
        "STARTED": "RUNNING", "LAUNCHED_AGAIN": "RUNNING", "KILL": "UNKNOWN", "FINISHED": "FINISHED", "FAILED": "FAILED",
        "KILLED": "KILLED", "ERROR": "ERROR", "GIVE_UP": "KILLED", "NEVER_STARTED": "KILLED", "NOT_STARTED": "RELAUNCHING",
    },
    "worker ALIVE": {
        "REGISTERED": "ALIVE", "REGISTERED_DECOMMISSIONED": "DECOMMISSIONED", "DISCONNECTED": "UNKNOWN", "DECOMMISSIONED": "DECOMMISSIONED",
        "TIMED_OUT": "DEAD",
    },
    "worker DECOMMISSIONED": {
        "REGISTERED": "ALIVE", "REGISTERED_DECOMMISSIONED": "DECOMMISSIONED", "DISCONNECTED": "UNKNOWN", "DECOMMISSIONED": "DECOMMISSIONED",
        "TIMED_OUT": "DEAD",
    },
    "worker UNKNOWN": {
        "REGISTERED": "ALIVE", "REGISTERED_DECOMMISSIONED": "DECOMMISSIONED", "TIMED_OUT": "DEAD", "REPLACED": "DEAD",
    },
    "worker DEAD": {"REGISTERED": "ALIVE", "REGISTERED_DECOMMISSIONED": "DECOMMISSIONED"},
    "application WAITING": {"GRANTED": "RUNNING", "FINISHED": "FINISHED", "FAILED": "FAILED", "KILLED": "KILLED"},
    "application RUNNING": {"GRANTED": "RUNNING", "FINISHED": "FINISHED", "FAILED": "FAILED", "KILLED": "KILLED"},
    "application UNKNOWN": {
        "CONFIRMED": "WAITING", "CONFIRMED_RUNNING": "RUNNING", "UNCONFIRMED": "FINISHED",
        "FINISHED": "FINISHED", "FAILED": "FAILED", "KILLED": "KILLED",
    },
    "executor LAUNCHING": {
        "RUNNING": "RUNNING", "EXITED": "EXITED", "FAILED": "FAILED", "KILLED": "KILLED", "LOST": "LOST",
        "DECOMMISSIONED": "DECOMMISSIONED",
    },
    "executor RUNNING": {
        "RUNNING": "RUNNING", "EXITED": "EXITED", "FAILED": "FAILED", "KILLED": "KILLED", "LOST": "LOST",
        "DECOMMISSIONED": "DECOMMISSIONED",
    },
    "executor DECOMMISSIONED": {"RUNNING": "DECOMMISSIONED", "EXITED": "EXITED", "FAILED": "FAILED", "KILLED": "KILLED", "LOST": "LOST"},
}  # fmt: skip

TABLES: dict[str, tuple[Mapping[Any, Any], type[StrEnum], type[StrEnum]]] = {
    "driver": (DRIVER, DriverState, DriverEvent),
    "worker": (WORKER, WorkerState, WorkerEvent),
    "application": (APPLICATION, ApplicationState, ApplicationEvent),
    "executor": (EXECUTOR, ExecutorState, ExecutorEvent),
}
PAIRS = [(kind, state, event) for kind, (_, states, happenings) in TABLES.items() for state, event in product(states, happenings)]


@pytest.mark.parametrize(("kind", "state", "event"), PAIRS, ids=lambda part: getattr(part, "name", part))
def test_each_pair(kind: str, state: Any, event: Any) -> None:
    wanted = EXPECTED.get(f"{kind} {state}", {}).get(event.name)
    if wanted is not None:
        assert following(TABLES[kind][0], kind, state, event) == wanted
        return
    story = ((5, "A", "B", "some cause"),)
    with pytest.raises(UnexpectedEvent, match=r"x-1 is .* and does not know .* Its story: A -> B \(some cause\)"):
        following(TABLES[kind][0], "x-1", state, event, story)


@pytest.mark.parametrize("kind", ["driver", "application", "executor"])
def test_nothing_follows_a_final_state(kind: str) -> None:
    table, states, _ = TABLES[kind]
    final = [state for state in states if state.final]  # type: ignore[attr-defined]
    assert final and not [pair for pair in table if pair[0] in final]
