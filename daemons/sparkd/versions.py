"""A number that rises with every change, and a way to wait for it: what live pages hang on."""

from __future__ import annotations

import asyncio
import contextlib


class Versions:
    """Begins with 1."""

    def __init__(self) -> None:
        self.now = 1
        self._risen: asyncio.Event | None = None  # while somebody waits

    def rise(self) -> None:
        """Something has changed."""
        self.now += 1
        if self._risen is not None:
            self._risen.set()
            self._risen = None

    async def above(self, since: int, timeout_s: float) -> int:
        """Wait until the number is above `since`, or timeout_s; return it."""
        if self.now <= since:
            if self._risen is None:
                self._risen = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._risen.wait(), timeout_s)
        return self.now
