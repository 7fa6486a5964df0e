"""The master's process, and what its peers' pages say now."""

from __future__ import annotations

import os
import signal
import time

from . import pages, proc, zk

POLL_S = 0.05


class Process:
    """One process, by pid and start time: a signal never reaches another one that got its pid."""

    def __init__(self, pid: int) -> None:
        stat = proc.read_stat(pid)
        if stat is None:
            raise ProcessLookupError(f"no process {pid}")
        self.pid, self.start = pid, stat.start
        self.handle = os.pidfd_open(pid)

    def alive(self) -> bool:
        """Tell whether it still runs (a zombie does not)."""
        stat = proc.read_stat(self.pid)
        return stat is not None and stat.start == self.start and not stat.dead

    def send(self, number: signal.Signals) -> None:
        """Send a signal; that it is gone already is fine."""
        try:
            signal.pidfd_send_signal(self.handle, number)
        except ProcessLookupError:
            return

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; False when it is still there."""
        end = time.monotonic() + timeout_s
        while self.alive():
            if time.monotonic() > end:
                return False
            time.sleep(POLL_S)
        return True


def start_now(pid: int) -> int | None:
    """Return the start time of the pid's process, None when there is none or it is dead."""
    stat = proc.read_stat(pid)
    return None if stat is None or stat.dead else stat.start


def statuses(endpoints: tuple[str, ...], timeout_s: float) -> dict[str, str]:
    """Return endpoint -> status; what does not answer says why instead."""

    def ask(endpoint: str) -> str:
        try:
            return pages.read_master(endpoint, timeout_s).status
        except pages.PageError as error:
            return str(error)

    return dict(zip(endpoints, zk.each(ask, endpoints), strict=True))
