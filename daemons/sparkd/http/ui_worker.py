"""The worker's pages (8081): its processes and their logs.

Source of paths and parameters: org.apache.spark.deploy.worker.ui.{WorkerWebUI, WorkerPage, LogPage}.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Any

from aiohttp import web
from multidict import MultiMapping

from . import ui_format, ui_views
from .faces import LogSlice, WorkerFace
from .live import add_live, worker_says
from .ui_pages import Pages, add_static, number, plain, with_slash

#: Bytes of one page of a log, and the most that may be asked for.
LOG_BYTES = 100 * 1024
LOG_BYTES_MAX = 1024 * 1024

_LOG_NAME = re.compile(r"(?:stdout|stderr)(?:\.[0-9]{1,3})?")


class NoLog(Exception):
    """There is nothing to show; `status` is the HTTP status, the text says why."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


def add_worker_routes(app: web.Application, face: WorkerFace) -> None:
    """Add the worker's pages, logs, static files and live updates."""
    ui = WorkerPages(face, Pages(face.settings.web, add_static(app)))
    app.router.add_get("/", ui.index)
    app.router.add_get("/logPage", with_slash)
    app.router.add_get("/logPage/", ui.log_page)
    app.router.add_get("/log", ui.log)
    app.router.add_get("/log/", ui.log)
    add_live(app, partial(worker_says, face), face.changed)


class WorkerPages:
    """Handlers of a worker."""

    def __init__(self, face: WorkerFace, pages: Pages) -> None:
        self.face = face
        self.pages = pages

    def _answer(self, request: web.Request, template: str, values: Mapping[str, Any], status: int = 200) -> web.Response:
        leader = self.face.leader()
        host, port = self.face.address()
        return self.pages.answer(
            request,
            template,
            {
                "kind": "worker",
                "name": f"{host}:{port}",
                "worker_id": self.face.worker_id(),
                "state": self.face.state(),
                "leader": leader,
                "masters": [f"{host}:{port}" for host, port in self.face.settings.masters],
                "version": self.face.version(),
                "masters_mark": "",
                "peers": "",
                **values,
            },
            status,
        )

    async def index(self, request: web.Request) -> web.Response:
        """The status page."""
        rows = [ui_views.process_row(report, self.face.description(report.ref.owner)) for report in self.face.running()]
        ended = [ui_views.process_row(report, self.face.description(report.ref.owner)) for report in self.face.finished()]
        ended.sort(key=lambda row: -row.ended_ms)
        used_cores, used_mb = self.face.used()
        epoch = self.face.epoch()
        return self._answer(
            request,
            "worker.html.j2",
            {
                "running": ui_views.page_of(rows, number(request.query.get("running"), 1)),
                "ended": ui_views.page_of(ended, number(request.query.get("ended"), 1)),
                "used_cores": used_cores,
                "used_mb": used_mb,
                "cores": self.face.settings.cores,
                "memory_mb": self.face.settings.memory_mb,
                "epoch": epoch,
                "backlog": self.face.journal_backlog(),
                "problems": self.face.problems(),
                "work_dir": str(self.face.settings.work_dir),
            },
        )

    async def log_page(self, request: web.Request) -> web.Response:
        """A slice of a log, with links to its neighbours; without an offset the newest one."""
        try:
            owner, attempt, name, length = self._which(request.query)
            found = self._read(request.query, owner, attempt, name, length)
        except NoLog as error:
            return self._answer(request, "message.html.j2", {"heading": "No log", "text": str(error)}, error.status)
        return self._answer(
            request,
            "log.html.j2",
            {
                "owner": owner,
                "attempt": attempt,
                "process_kind": "executor" if "executorId" in request.query or "appId" in request.query else "driver",
                "log": name,
                "others": [other for other in ("stdout", "stderr") if other != name],
                "slice": ui_views.log_page(found.begin, found.end, found.total, length),
                "text": ui_format.log_text(found.text),
                "running": any(report.ref.owner == owner and report.ref.number == attempt for report in self.face.running()),
            },
        )

    async def log(self, request: web.Request) -> web.Response:
        """The bytes as they are. The headers say which: X-Log-Begin, X-Log-End, X-Log-Total."""
        try:
            owner, attempt, name, length = self._which(request.query)
            found = self._read(request.query, owner, attempt, name, length)
        except NoLog as error:
            return plain(error.status, str(error))
        return web.Response(
            body=found.text,
            content_type="text/plain",
            charset="utf-8",
            headers={
                "X-Content-Type-Options": "nosniff",
                "Content-Security-Policy": "default-src 'none'; sandbox",
                "Cache-Control": "no-store",
                "X-Log-Begin": str(found.begin),
                "X-Log-End": str(found.end),
                "X-Log-Total": str(found.total),
            },
        )

    def _which(self, query: MultiMapping[str]) -> tuple[str, int, str, int]:
        """Return owner, number, file and length that are meant. Raises NoLog."""
        name = query.get("logType", "stdout")
        if not _LOG_NAME.fullmatch(name):
            raise NoLog(HTTPStatus.BAD_REQUEST, "logType is stdout or stderr, with .1, .2 for what was rotated away.")
        length = min(max(number(query.get("byteLength"), LOG_BYTES), 1), LOG_BYTES_MAX)
        driver_id, app_id = query.get("driverId", ""), query.get("appId", "")
        if driver_id:
            return driver_id, number(query.get("attempt"), self._last_attempt(driver_id)), name, length
        executor = number(query.get("executorId"), -1)
        if app_id and executor >= 0:
            return app_id, executor, name, length
        raise NoLog(HTTPStatus.BAD_REQUEST, "Which log? driverId=..., or appId=... and executorId=...")

    def _last_attempt(self, driver_id: str) -> int:
        return max(
            (report.ref.number for report in (*self.face.running(), *self.face.finished()) if report.ref.owner == driver_id), default=1
        )

    def _read(self, query: MultiMapping[str], owner: str, attempt: int, name: str, length: int) -> LogSlice:
        offset = query.get("offset")
        try:
            return self.face.read_log(owner, attempt, name, number(offset, 0) if offset else None, length)
        except (KeyError, ValueError, FileNotFoundError):
            raise NoLog(
                HTTPStatus.NOT_FOUND, f"{ui_format.shorten(owner, 100)} has no {name} here: it never ran on this worker, or was cleaned up."
            ) from None
        except OSError as error:
            raise NoLog(HTTPStatus.INTERNAL_SERVER_ERROR, f"{name} cannot be read: {error.strerror or 'input/output error'}.") from None
