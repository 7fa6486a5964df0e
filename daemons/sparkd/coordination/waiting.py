"""Waiting for an event or a time."""

from __future__ import annotations

import asyncio


async def happened(event: asyncio.Event, timeout_s: float) -> bool:
    """Wait until the event is set, at most timeout_s; tell whether it is.

    Not asyncio.wait_for: in Python 3.11 that swallows a cancellation that comes together with the event (cpython issue 86296).
    """
    if event.is_set():
        return True
    waiter = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait([waiter], timeout=timeout_s)
    finally:
        waiter.cancel()
    return event.is_set()
