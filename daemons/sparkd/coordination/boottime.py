"""The clock of leases."""

from __future__ import annotations

import time


def boot_s() -> float:
    """Return CLOCK_BOOTTIME in s: it never jumps, and goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
