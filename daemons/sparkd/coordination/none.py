"""recoveryMode NONE: one master, nothing durable but its cluster id and its epoch numbers, in `state_dir`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from ..core.effects import Write
from ..core.values import Epoch
from ..settings import RecoverySettings
from .api import Engine, Listener, Loaded, MasterAddress, Misconfigured, NotLeader, StoreUnavailable
from .counter import Counter
from .files import Worker
from .store import Known
from .waiting import happened

log = logging.getLogger(__name__)
POLL_S = 0.1
#: No other master can lead, so its lease has no end; a number all the same, for those who show it.
LEASE_S = 60.0


class NoneEngine(Engine):
    """Elects itself as soon as no other process uses the same state directory."""

    def __init__(self, settings: RecoverySettings) -> None:
        self.counter = Counter(settings.state_dir)
        self._me = MasterAddress("", 0)
        self._listener: Listener | None = None
        self._epoch: Epoch | None = None
        self._known = Known()
        self._worker: Worker | None = None
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._elections = 0
        self._last_commit_ms = 0.0

    async def start(self, me: MasterAddress, listener: Listener) -> None:
        """Elect itself, soon."""
        self._me, self._listener = me, listener
        self._worker = Worker("sparkd-state-dir")
        self.counter.prepare()
        self._task = asyncio.create_task(self._run(listener, self._worker))

    async def _run(self, listener: Listener, worker: Worker) -> None:
        said = ""
        while not self._stop.is_set():
            try:
                epoch = await worker.run(self._elect)
            except Misconfigured as error:
                listener.on_misconfigured(error)
                return
            except OSError as error:
                epoch, why = None, f"{error.strerror}: {error.filename}"
            else:
                why = f"another process holds {self.counter.lock.path}"
            if self._stop.is_set():
                return
            if epoch is not None:
                self._epoch, self._elections = epoch, self._elections + 1
                log.info("event=elected epoch=%d cluster=%s", epoch.number, epoch.cluster_id)
                listener.on_elected(epoch)
                listener.on_leader(self._me)
                return
            if why != said:
                said = why
                log.warning("event=waiting why=%r", why)
            await happened(self._stop, POLL_S)

    def _elect(self) -> Epoch | None:
        return self.counter.raise_it() if self.counter.lock.acquire() else None

    def lease_left_s(self) -> float:
        """LEASE_S while it leads."""
        return LEASE_S if self._epoch is not None else 0.0

    async def load(self) -> Loaded:
        """Nothing is durable."""
        if self._epoch is None:
            raise NotLeader("this master does not lead")
        return Loaded(())

    async def commit(self, batch: Sequence[Write], request_id: str) -> None:  # noqa: ARG002 - the interface's
        """Check the records as another engine would, and forget them."""
        began = time.monotonic()
        if self._epoch is None:
            raise NotLeader("this master does not lead")
        try:
            self._known.stored(self._known.encode(batch))
        except (ValueError, TypeError) as error:
            raise StoreUnavailable(f"a record that is not JSON: {error}") from error
        self._last_commit_ms = (time.monotonic() - began) * 1000

    async def step_down(self) -> None:
        """Lead no more."""
        self._stop.set()
        epoch, self._epoch = self._epoch, None
        if epoch is not None and self._listener is not None:
            self._listener.on_deposed("stepping down")
            self._listener.on_leader(None)
        if self._task is not None:
            await asyncio.wait([self._task], timeout=0.5)
        self.counter.lock.release()

    async def close(self) -> None:
        """Let the lock go."""
        await self.step_down()
        if self._worker is not None:
            self._worker.end()

    def masters(self) -> tuple[MasterAddress, ...]:
        """Itself."""
        return (self._me,)

    def describe(self) -> dict[str, object]:
        """State for people."""
        return {
            "engine": "NONE",
            "connected": self._epoch is not None,
            "latch": str(self.counter.lock.path),
            "session": "",
            "cluster_id": self._epoch.cluster_id if self._epoch else "",
            "epoch": self._epoch.number if self._epoch else 0,
            "suspended": False,
            "lease_left_s": self.lease_left_s(),
            "elections": self._elections,
            "last_commit_ms": round(self._last_commit_ms, 3),
        }
