"""systemd's notification protocol (sd_notify(3)): state lines in a datagram to $NOTIFY_SOCKET. Does nothing where there is none."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)

#: Part of WatchdogSec after which the next WATCHDOG=1 goes out: two may be lost.
WATCHDOG_SHARE = 1 / 3


class Notifier:
    """Tells the service manager how the daemon is."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """environment: the process's own by default."""
        given = os.environ if environment is None else environment
        self._address = given.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.watchdog_s = _watchdog_s(given)
        if self._address[:1] in ("/", "@"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    def _send(self, *lines: str) -> None:
        if self._socket is None:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            self._socket.sendto("\n".join(lines).encode(), address)
        except OSError as error:  # the daemon works without its supervisor's ear
            log.debug("event=notify_failed why=%s", error)

    def ready(self, status: str) -> None:
        """Ports are bound."""
        self._send("READY=1", f"STATUS={_line(status)}")

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={_line(status)}")

    def stopping(self) -> None:
        """It ends on purpose."""
        self._send("STOPPING=1")

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer the watchdog from the event loop: if that hangs, so does the answer, and the unit is restarted."""
        if self._socket is None or self.watchdog_s is None:
            return
        self._send("WATCHDOG=1")
        self._timer = loop.call_later(self.watchdog_s * WATCHDOG_SHARE, self.watch, loop)

    def close(self) -> None:
        """Stop answering."""
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _watchdog_s(given: Mapping[str, str]) -> float | None:
    """Return WatchdogSec in s if it is meant for this process (sd_watchdog_enabled(3))."""
    interval, process = given.get("WATCHDOG_USEC", ""), given.get("WATCHDOG_PID", "")
    if not interval.isdecimal() or int(interval) == 0 or (process and process != str(os.getpid())):
        return None
    return int(interval) / 1e6


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
