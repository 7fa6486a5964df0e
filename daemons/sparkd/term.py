"""One term of leadership: read the store, serve, and read it again whenever memory cannot be relied on."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass

from .clock import boot_s, now
from .coordination.api import Engine, Interrupted, Loaded, NotLeader, SetAside, StoreUnavailable
from .core.cluster import Cluster
from .core.effects import Effect, Outcome
from .core.values import Epoch, Policy
from .pipeline import Figures, Pipeline

log = logging.getLogger(__name__)

#: Seconds until the store is read again after it failed; doubles up to RETRY_MAX_S.
RETRY_S = 0.2
RETRY_MAX_S = 5.0
#: Seconds of service after which a failure is the first one again, and the store is read at once.
STEADY_S = 10.0
#: Where a record is that is sound, but of which this version can make nothing.
LEFT = "left where it is in the store"


@dataclass(slots=True)
class RecoveryTimes:
    """Seconds that a term's beginning took: read the store, rebuild the cluster, and from election to the first submission possible."""

    load_s: float = 0.0
    rebuild_s: float = 0.0
    total_s: float = 0.0
    records: int = 0


class Term:
    """From on_elected to on_deposed."""

    def __init__(
        self,
        epoch: Epoch,
        engine: Engine,
        policy: Policy,
        figures: Figures,
        *,
        carry_out: Callable[[Effect], None],
        stored: Callable[[Outcome], None],
        refusal: Callable[[], Exception],
        changed: Callable[[], None],
        before: Term | None,
    ) -> None:
        """changed: status or pipeline is another one. before: the term before, whose last transaction may still be under way."""
        self.epoch = epoch
        self.suspended = ""  # why
        self.trouble = ""  # why the cluster is being read back
        self.pipeline: Pipeline | None = None  #: while it serves
        self.set_aside: tuple[SetAside, ...] = ()
        self.times = RecoveryTimes()
        self._engine, self._policy, self._figures = engine, policy, figures
        self._carry_out, self._stored, self._refusal, self._changed = carry_out, stored, refusal, changed
        self._last: Pipeline | None = before._last if before is not None else None
        self._begun = boot_s()
        self._over = False
        self._wake = asyncio.Event()
        self._served = 0  # how often the cluster was read
        self._task = asyncio.get_running_loop().create_task(self._run())

    # What the engine says

    def suspend(self, why: str) -> None:
        """Change nothing, keep everything."""
        self.suspended = why or "suspended"
        if self.pipeline is not None:
            self.pipeline.suspend()

    def resume(self) -> None:
        """Go on."""
        self.suspended = ""
        self._wake.set()
        if self.pipeline is not None:
            self.pipeline.resume()

    def end(self) -> None:
        """Forget everything."""
        self._over = True
        self._wake.set()
        pipeline, self.pipeline = self.pipeline, None
        gc.unfreeze()
        if pipeline is not None:
            pipeline.close()

    async def ended(self) -> None:
        """Wait for what is under way after `end`."""
        await asyncio.wait([self._task])

    # Life

    async def _run(self) -> None:
        """Read the store until that works, and again when the pipeline breaks. Errors are retried, none is final."""
        failures = 0  # in a row
        while not self._over:
            if failures:
                await self._sleep(min(RETRY_S * 2 ** min(failures - 1, 10), RETRY_MAX_S))
                if self._over:
                    return
            try:
                await self._read()
            except Interrupted:
                await self._sleep(RETRY_S)
            except NotLeader as error:  # on_deposed follows
                log.info("event=load_refused epoch=%d why=%s", self.epoch.number, json.dumps(str(error)))
                failures += 1
            except StoreUnavailable as error:
                self.trouble = str(error)
                log.error("event=load_failed epoch=%d why=%s", self.epoch.number, json.dumps(str(error)))
                failures += 1
            except Exception as error:
                self.trouble = f"the stored cluster cannot be read: {type(error).__name__}"
                log.exception("event=load_failed epoch=%d", self.epoch.number)
                failures += 1
            else:
                began = boot_s()
                while self.pipeline is not None and not self._over:
                    self._wake.clear()
                    await self._wake.wait()
                failures = 0 if boot_s() - began > STEADY_S else failures + 1

    async def _sleep(self, seconds: float) -> None:
        self._wake.clear()
        if self._over:
            return
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return

    async def _read(self) -> None:
        """Read the store and serve what it holds. Raises what Engine.load and commit raise."""
        if self._last is not None:
            await self._last.ended()
            self._last = None
        begun = boot_s()
        loaded: Loaded = await self._engine.load()
        if self.trouble:  # does it take writes again? An empty transaction tells, where the engine makes one of it
            await self._engine.commit((), f"{self._name()}-probe")
        read = boot_s()
        if self._over:
            return
        cluster, outcome = Cluster.recover(self._policy, loaded.records, now())
        self._served += 1
        left = (SetAside(item.kind, item.id, item.why, LEFT) for item in cluster.unreadable)
        told = set(self.set_aside)
        self.set_aside = tuple(dict.fromkeys((*self.set_aside, *loaded.set_aside, *left)))
        for item in self.set_aside:
            if item in told:
                continue
            log.error("event=set_aside kind=%s id=%s why=%s where=%s", item.kind, json.dumps(item.id), json.dumps(item.why), item.where)
        pipeline = Pipeline(
            cluster,
            self._engine,
            term=self._name(),
            carry_out=self._carry_out,
            stored=self._stored,
            broken=self._broken,
            refusal=self._refusal,
            figures=self._figures,
        )
        if self.suspended:
            pipeline.suspend()
        self.pipeline = self._last = pipeline
        self.trouble = ""
        pipeline.begin(outcome)
        # All of this lives as long as the term: the garbage collector need not look at it again and again, 0.1 s each time with thousands.
        gc.freeze()
        done = boot_s()
        if self._served == 1:
            self.times = RecoveryTimes(read - begun, done - read, done - self._begun, len(loaded.records))
        log.info(
            "event=recovered epoch=%d records=%d load_ms=%.1f rebuild_ms=%.1f total_ms=%.1f",
            *(self.epoch.number, len(loaded.records), (read - begun) * 1e3, (done - read) * 1e3, (done - self._begun) * 1e3),
        )
        self._changed()

    def _name(self) -> str:
        """Unique among terms, and among the pipelines of this one: no other request id begins like this."""
        return f"{self.epoch.number}-{self._served}"

    def _broken(self, error: Exception) -> None:
        """The pipeline has ended; whoever waited was refused already."""
        log.error("event=pipeline_broken epoch=%d kind=%s why=%s", self.epoch.number, type(error).__name__, json.dumps(str(error)))
        self.pipeline = None
        gc.unfreeze()
        self._figures.reloads += 1
        self.trouble = str(error) if isinstance(error, StoreUnavailable) else ""
        self._changed()
        self._wake.set()
