"""The web UI: pages of the master (8080), its forms; the worker's are in ui_worker.py.

Paths and parameters are Spark's, so that bookmarks and scripts go on working (org.apache.spark.deploy.master.ui.MasterWebUI, MasterPage,
ApplicationPage).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

from aiohttp import web

from ..core.effects import Answer
from . import ui_format, ui_guard, ui_views
from .faces import MasterFace, NotAlive, NotDurable
from .live import add_leader, add_live, master_says
from .ui_pages import Pages, add_static, number, plain, read_form, with_slash
from .ui_worker import add_worker_routes

T = TypeVar("T")

__all__ = ["add_master_routes", "add_worker_routes"]


def add_master_routes(app: web.Application, face: MasterFace) -> None:
    """Add the master's pages, forms, static files and live updates."""
    web_settings = face.settings.web
    ui = MasterPages(face, Pages(web_settings, add_static(app)))
    app.router.add_get("/", ui.index)
    for path, page in (("/app", ui.application), ("/driver", ui.driver)):
        app.router.add_get(path, with_slash)
        app.router.add_get(path + "/", page)
    for path, form in (("/app/kill", ui.kill_application), ("/driver/kill", ui.kill_driver), ("/workers/kill", ui.decommission)):
        app.router.add_post(path, form)
        app.router.add_post(path + "/", form)
    add_live(app, partial(master_says, face), face.changed)
    add_leader(app, face)


class MasterPages:
    """Handlers of a master."""

    def __init__(self, face: MasterFace, pages: Pages) -> None:
        self.face = face
        self.pages = pages

    def _answer(self, request: web.Request, template: str, values: Mapping[str, Any], status: int = 200) -> web.Response:
        head = ui_views.masthead(self.face)
        origins = tuple(sorted({ui_format.origin(link.web_ui) for link in head.masters if not link.me} - {""}))
        return self.pages.answer(
            request,
            template,
            {
                "kind": "master",
                "head": head,
                "version": self.face.version(),
                "peers": " ".join(origins),
                "kill_enabled": self.pages.settings.kill_enabled,
                **values,
            },
            status,
            origins,
        )

    def message(self, request: web.Request, status: HTTPStatus, title: str, text: str) -> web.Response:
        """Return a page that says why there is none."""
        return self._answer(request, "message.html.j2", {"heading": title, "text": text}, status)

    async def index(self, request: web.Request) -> web.Response:
        """The status page."""
        cluster = self.face.cluster()
        view = ui_views.cluster_view(cluster) if cluster is not None else None
        wanted = request.query.get("find", "")[:200]
        values: dict[str, Any] = {
            "view": None,
            "facts": ui_views.facts(self.face.coordination()),
            "set_aside": self.face.set_aside(),
            "find": wanted,
        }
        if view is not None and cluster is not None:
            found = ui_views.find(view, wanted)

            def page(rows: tuple[T, ...], name: str, per_page: int = ui_views.PAGE_ROWS) -> ui_views.Page[T]:
                return ui_views.page_of(rows, number(request.query.get(name), 1), per_page)

            queue = view.driver_rows(page(found.queue, "queue", ui_views.QUEUE_ROWS))
            values |= {
                "view": view,
                "totals": ui_views.totals(view),
                "workers": page(found.workers, "workers"),
                "queue": queue,
                "why": {row.id: ui_views.reasons(cluster, row.id) for row in queue.rows},
                "drivers": view.driver_rows(page(found.drivers, "drivers")),
                "apps": view.application_rows(page(found.applications, "apps")),
                "ended": view.driver_rows(page(found.completed_drivers, "ended", ui_views.HISTORY_ROWS)),
                "apps_ended": view.application_rows(page(found.completed_applications, "apps_ended", ui_views.HISTORY_ROWS)),
            }
        return self._answer(request, "master.html.j2", values)

    async def driver(self, request: web.Request) -> web.Response:
        """One driver: /driver/?driverId=."""
        driver_id = request.query.get("driverId", "")
        cluster = self.face.cluster()
        if cluster is None:
            return self._not_leading(request)
        row = ui_views.find_driver(cluster, driver_id)
        if row is None:
            return self.message(
                request,
                HTTPStatus.NOT_FOUND,
                "No such driver",
                f"No driver has the id {ui_format.shorten(driver_id, 100)!r}, or it ended so long ago that it is forgotten.",
            )
        return self._answer(request, "driver.html.j2", {"driver": row, "why": ui_views.reasons(cluster, driver_id)})

    async def application(self, request: web.Request) -> web.Response:
        """One application: /app/?appId=."""
        app_id = request.query.get("appId", "")
        cluster = self.face.cluster()
        if cluster is None:
            return self._not_leading(request)
        row = ui_views.find_application(cluster, app_id)
        if row is None:
            return self.message(
                request,
                HTTPStatus.NOT_FOUND,
                "No such application",
                f"No application has the id {ui_format.shorten(app_id, 100)!r}, or it ended so long ago that it is forgotten.",
            )
        return self._answer(request, "app.html.j2", {"app": row, "why": ui_views.reasons(cluster, app_id)})

    def _not_leading(self, request: web.Request) -> web.Response:
        return self.message(request, HTTPStatus.SERVICE_UNAVAILABLE, "Not the leader", "Only the leader knows drivers and applications.")

    async def kill_driver(self, request: web.Request) -> web.Response:
        """Form of a kill button, POST /driver/kill/ with id and terminate; giveUp=true is sparkd's own."""
        return await self._kill(request, "driverId", self.face.kill_driver)

    async def kill_application(self, request: web.Request) -> web.Response:
        """Form of a kill button, POST /app/kill/ with id and terminate."""
        return await self._kill(request, "appId", lambda app_id, _: self.face.kill_application(app_id))

    async def _kill(self, request: web.Request, parameter: str, kill: Callable[[str, bool], Awaitable[Answer]]) -> web.Response:
        why = ui_guard.refused_as_foreign(request.headers)
        if why is not None:
            return self.message(request, HTTPStatus.FORBIDDEN, "Not from here", f"{why} Nothing was done.")
        if not self.pages.settings.kill_enabled:
            return self.message(
                request, HTTPStatus.FORBIDDEN, "Kill buttons are off", "spark.ui.killEnabled is false here. Nothing was done."
            )
        form = await read_form(request)
        wanted = form.get("id", [""])[0]
        if not wanted or form.get("terminate", [""])[0] != "true":
            return self.message(
                request, HTTPStatus.BAD_REQUEST, "Incomplete", "The form needs the fields id and terminate=true. Nothing was done."
            )
        try:
            answer = await kill(wanted, form.get("giveUp", [""])[0] == "true")
        except NotAlive as error:
            return self.message(request, HTTPStatus.SERVICE_UNAVAILABLE, "Not the leader", f"{error}. Nothing was done.")
        except NotDurable as error:
            return self.message(request, HTTPStatus.SERVICE_UNAVAILABLE, "It could not be stored", f"{error} Try again.")
        if not answer.ok:
            return self.message(request, HTTPStatus.CONFLICT, "Nothing was done", answer.message)
        raise web.HTTPSeeOther(f"{'../' if request.path.endswith('/') else './'}?{parameter}={quote(wanted, safe='')}")

    async def decommission(self, request: web.Request) -> web.Response:
        """POST /workers/kill?host=a&host=b, for scripts. Codes are Spark's: 404 when no worker is there, 405 when not allowed."""
        why = ui_guard.refused_as_foreign(request.headers)
        if why is not None:
            return plain(HTTPStatus.FORBIDDEN, f"{why} Nothing was done.")
        rule = self.pages.settings.decommission_allowed
        if not ui_guard.may_decommission(rule, request.remote, request.headers):
            return plain(
                HTTPStatus.METHOD_NOT_ALLOWED,
                f"Not from {request.remote}: spark.master.ui.decommission.allow.mode is {rule}. Nothing was done.",
            )
        hosts = tuple(host for host in (*request.query.getall("host", []), *(await read_form(request)).get("host", [])) if host)
        if not hosts:
            return plain(HTTPStatus.BAD_REQUEST, "Which host? POST /workers/kill/?host=NAME, several times for several. Nothing was done.")
        try:
            answer = await self.face.decommission(hosts)
        except NotAlive as error:
            return plain(
                HTTPStatus.SERVICE_UNAVAILABLE, f"{error}. Leader: {error.leader.web_ui if error.leader else 'unknown'}. Nothing was done."
            )
        except NotDurable as error:
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, f"It could not be stored: {error}")
        return plain(HTTPStatus.OK if answer.ok else HTTPStatus.NOT_FOUND, answer.message)
