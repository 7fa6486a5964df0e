"""One attempt that is not over, as the pool has it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from ..core.values import ApplicationDescription, DriverDescription, ProcessRef, ProcessReport
from .keeping import Run


@dataclass(eq=False)
class Held:
    """An attempt that is not over."""

    report: ProcessReport
    description: DriverDescription | None = None  # None: an executor, or lost
    application: ApplicationDescription | None = None
    wait_s: float = 0.0
    end: str = ""  # a leader wants it ended, and why
    stop: str = ""  # the worker itself is stopping
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    run: Run | None = None
    task: asyncio.Task[None] | None = None

    @property
    def ref(self) -> ProcessRef:
        """Whose it is."""
        return self.report.ref

    @property
    def supervise(self) -> bool:
        """It is started again."""
        return self.description is not None and self.description.supervise
