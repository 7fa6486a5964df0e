"""What the end of a run means: over, or once more. Pure. Rules of Spark's DriverRunner.runCommandWithRetry and ExecutorRunner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LONG_RUN_S = 5.0  # successfulRunDuration: a longer run sets the wait back
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 3600.0  # Spark doubles without a limit


@dataclass(frozen=True, slots=True)
class Exit:
    """How a run ended. code: exit code, negative for a signal, None if nobody knows (`lost` says why). error: it could not be run."""

    code: int | None = None
    killed: bool = False
    error: str = ""
    lost: str = ""
    message: str = ""
    started_ms: int = 0
    ended_ms: int = 0


@dataclass(frozen=True, slots=True)
class Over:
    """Nothing follows: a DriverState or ExecutorState by name."""

    state: str
    message: str


@dataclass(frozen=True, slots=True)
class Again:
    """Start it once more after so many seconds; next_s is the wait after that."""

    after_s: float
    next_s: float
    message: str


def decide(kind: Literal["driver", "executor"], supervise: bool, end: str, exit_: Exit, wait_s: float) -> Over | Again:
    """Return what follows. end: why it was to be ended, "" if nobody asked; wait_s: the wait that is due if it is started again."""
    text = in_words(exit_)
    if end:
        return Over("KILLED", f"{end} ({text})" if text else end)
    if exit_.error:
        return Over("ERROR" if kind == "driver" else "FAILED", exit_.error)
    if kind == "executor":
        return Over("LOST" if exit_.code is None else "EXITED", text)
    if exit_.code == 0 and not exit_.killed:
        return Over("FINISHED", exit_.message)
    if supervise:
        ran_s = (exit_.ended_ms - exit_.started_ms) / 1000
        after = FIRST_WAIT_S if ran_s > LONG_RUN_S else max(FIRST_WAIT_S, wait_s)
        return Again(after, min(after * 2, LONGEST_WAIT_S), text)
    return Over("FAILED", text)


def in_words(exit_: Exit) -> str:
    """Say how it ended."""
    if exit_.error or exit_.lost:
        return exit_.error or exit_.lost
    if exit_.code is None:
        return exit_.message or "how it ended is not known"
    told = f"signal {-exit_.code}" if exit_.code < 0 else f"exit code {exit_.code}"
    return f"{told}; {exit_.message}" if exit_.message else told
