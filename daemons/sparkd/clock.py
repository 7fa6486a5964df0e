"""The time, read where it is needed: nothing else in the daemons asks for it twice."""

from __future__ import annotations

import time

from .core.values import Now


def boot_s() -> float:
    """Seconds on CLOCK_BOOTTIME: goes on while the machine or the process sleeps, and cannot be set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def now() -> Now:
    """Both clocks."""
    return Now(wall_ms=time.time_ns() // 1_000_000, boot_s=boot_s())
