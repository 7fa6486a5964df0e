"""A worker's connections to all masters, and whom it obeys.

It never gives up: attempts come after 0.1 s, then later and later up to 2 s while no leader has accepted it (a failover waits for nobody),
up to 10 s while one has (the others are standbys). When the leader is lost all links try at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from .coordination.api import MasterAddress
from .core.values import Epoch
from .rpc import control
from .rpc.messages import Message

log = logging.getLogger(__name__)

FIRST_S = 0.1
URGENT_S = 2.0
QUIET_S = 10.0


def backoff(attempt: int, urgent: bool, share: float) -> float:
    """Return the seconds before an attempt, counted from 0. share: random in [0, 1), spreads workers over half to one and a half of it."""
    return min(FIRST_S * 2.0 ** min(attempt, 16), URGENT_S if urgent else QUIET_S) * (0.5 + share)


Verdict = Literal["obey", "stale", "foreign"]


def judge(seen: Epoch | None, epoch: Epoch) -> Verdict:
    """Say whether a leader of this epoch is to be obeyed, by the highest one that was obeyed so far."""
    if seen is None:
        return "obey"
    if seen.cluster_id != epoch.cluster_id:
        return "foreign"
    return "stale" if epoch.number < seen.number else "obey"


@dataclass(eq=False)
class Link:
    """One master of the list."""

    host: str
    port: int
    connection: control.Connection | None = None
    role: str = ""  # standby or leading, as it says; "" while there is no connection
    epoch: Epoch | None = None  # of its term, as it said last
    problem: str = ""
    attempts: int = 0
    address: MasterAddress | None = None  # as it, or another master, told

    @property
    def name(self) -> str:
        """For logs."""
        return f"{self.host}:{self.port}"

    def send(self, message: Message) -> bool:
        """Send; False if there is nobody."""
        return self.connection is not None and self.connection.send(message)


class Links:
    """Keeps all of them connected. `on_message` is awaited message by message; `on_lost` is called when a connection is gone."""

    def __init__(
        self,
        masters: tuple[tuple[str, int], ...],
        secret: bytes,
        on_message: Callable[[Link, Message], Awaitable[None]],
        on_lost: Callable[[Link], None],
    ) -> None:
        """Nothing happens before `start`."""
        self.links = [Link(host, port) for host, port in masters]
        self.urgent = True  # no leader has accepted this worker
        self.name = ""  # the worker's id, for the masters' logs
        self._secret, self._on_message, self._on_lost = secret, on_message, on_lost
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Connect, for ever."""
        self._tasks = [asyncio.create_task(self._keep(link), name=f"link {link.name}") for link in self.links]

    def hurry(self) -> None:
        """The leader is lost: try all masters now."""
        self.urgent = True
        self._wake.set()
        self._wake = asyncio.Event()

    async def close(self) -> None:
        """Close all; what is queued still goes out."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _keep(self, link: Link) -> None:
        while True:
            try:
                await self._hold(link)
            except control.ControlError as error:
                self._note(link, str(error))
            except asyncio.CancelledError:
                raise
            except Exception as error:  # a defect must not cut a worker off for ever
                log.exception("event=link_failed master=%s", link.name)
                self._note(link, f"internal error: {type(error).__name__}")
            pause = backoff(link.attempts, self.urgent, random.random())  # noqa: S311 spreads load, guards nothing
            link.attempts += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause)

    async def _hold(self, link: Link) -> None:
        """Connect and listen until the connection is gone. Raises ControlError."""
        link.connection = await control.connect(link.host, link.port, self._secret, name=self.name, timeout_s=3.0)
        log.info("event=connected master=%s", link.name)
        link.problem = ""
        try:
            while True:
                message = await link.connection.receive()
                link.attempts = 0
                await self._on_message(link, message)
        finally:
            link.connection.close()
            link.connection, link.role, link.epoch = None, "", None
            self._on_lost(link)

    def _note(self, link: Link, problem: str) -> None:
        if problem != link.problem:
            link.problem = problem
            log.warning("event=not_connected master=%s why=%s", link.name, problem)
