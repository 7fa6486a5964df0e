"""Live updates: pages hear of every change by server-sent events (WHATWG HTML, 9.2), and of the leader even after their own master died.

GET /live?since=N      events {version, status, masters, name, leader}. At most LISTENERS at a time, the next one gets 503 and polls.
GET /live/leader       the same as one JSON answer; the only answer that pages of other origins (the other masters) may read.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from . import ui_format
from .faces import MasterFace, WorkerFace

#: Streams at a time; each is one connection and one waiting task.
LISTENERS = 100
#: Seconds after which an event comes without a change: status is read from the lease at that moment, and a dead connection is noticed.
BEAT_S = 3.0
#: Seconds between two events of one stream: a busy cluster changes more often than anyone can read.
CALM_S = 0.5

Say = Callable[[], Mapping[str, object]]


def master_says(face: MasterFace) -> dict[str, object]:
    """Return what a master's page must know to be true: the version it should show, the status, and where the leader's page is."""
    leader = face.leader()
    return {
        "version": face.version(),
        "status": str(face.status()),
        "masters": masters_mark(face),
        "name": f"{face.address().host}:{face.address().port}",
        "leader": {"name": f"{leader.host}:{leader.port}", "web_ui": ui_format.safe_url(leader.web_ui)} if leader is not None else None,
    }


def masters_mark(face: MasterFace) -> str:
    """Return who is in the election, as a text to compare: a standby that comes or goes is no change of the cluster's version."""
    return " ".join(sorted(address.url for address in face.masters()))


def worker_says(face: WorkerFace) -> dict[str, object]:
    """Return the same of a worker."""
    return {"version": face.version(), "status": face.state(), "masters": "", "name": face.worker_id(), "leader": None}


def add_live(app: web.Application, say: Say, changed: Callable[[int, float], Awaitable[int]], listeners: int = LISTENERS) -> None:
    """Add /live, which ends at once when the app shuts down. changed: the face's; say: what an event carries."""
    tasks: set[asyncio.Task[object]] = set()

    async def live(request: web.Request) -> web.StreamResponse:
        if len(tasks) >= listeners:
            return web.json_response(
                {"message": f"{listeners} pages listen already; this one asks every few seconds."},
                status=503,
                headers={"Retry-After": "5", "Cache-Control": "no-store"},
            )
        task: asyncio.Task[object] | None = asyncio.current_task()
        assert task is not None  # noqa: S101 a handler runs in a task
        tasks.add(task)
        try:
            return await _stream(request)
        finally:
            tasks.discard(task)

    async def _stream(request: web.Request) -> web.StreamResponse:
        since = _number(request.headers.get("Last-Event-ID"), _number(request.query.get("since"), -1))
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",  # nginx passes each event on at once
                "X-Content-Type-Options": "nosniff",
            }
        )
        await response.prepare(request)
        try:
            await response.write(b"retry: 1000\n\n")
            while True:
                if say()["version"] == since:  # a lower one is of a new process, whose versions are its own: said at once
                    await changed(since, BEAT_S)
                said = say()
                await response.write(f"id: {said['version']}\ndata: {json.dumps(said, separators=(',', ':'))}\n\n".encode())
                since = _number(str(said["version"]), -1)
                await asyncio.sleep(CALM_S)
        except (ConnectionError, asyncio.CancelledError):  # the page is closed, or the daemon stops
            return response

    async def stop(_: web.Application) -> None:
        for task in tuple(tasks):
            task.cancel()

    app.router.add_get("/live", live, allow_head=False)
    app.on_shutdown.append(stop)


def add_leader(app: web.Application, face: MasterFace) -> None:
    """Add /live/leader. Other origins may read it, because the page of a master that died asks the others. It says who leads, no more."""

    async def leader(_: web.Request) -> web.Response:
        return web.json_response(master_says(face), headers={"Cache-Control": "no-store", "Access-Control-Allow-Origin": "*"})

    app.router.add_get("/live/leader", leader)


def _number(text: str | None, otherwise: int) -> int:
    """Return a version from a request; anything that is none is the other value."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 19 else otherwise
