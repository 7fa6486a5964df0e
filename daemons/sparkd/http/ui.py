"""The web UI: pages of the master (8080), its forms; the worker's are in ui_worker.py.

Paths and parameters are Spark's, so that bookmarks and scripts go on working (org.apache.spark.deploy.master.ui.MasterWebUI, MasterPage,
ApplicationPage).
"""

from __future__ import annotations

import time
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

from aiohttp import web

from ..core.cluster import Cluster
from ..core.effects import Answer
from ..core.states import MasterStatus
from . import ui_format, ui_guard, ui_head, ui_views
from .faces import MasterFace, NotAlive, NotDurable
from .live import add_leader, add_live, master_says, masters_mark
from .ui_pages import Pages, add_static, number, plain, read_form, with_slash
from .ui_worker import add_worker_routes

T = TypeVar("T")

#: A page of a busy cluster is made again only after this many times what making it costs: at most a fifth of the leader's time.
REST_FACTOR = 4.0
#: Seconds that a page is good for when nothing has changed: the lease's rest and such are on it.
SAME_S = 1.0
PAGES_KEPT = 8

__all__ = ["add_master_routes", "add_worker_routes"]


def add_master_routes(app: web.Application, face: MasterFace) -> None:
    """Add the master's pages, forms, static files and live updates."""
    web_settings = face.settings.web
    ui = MasterPages(face, Pages(web_settings, add_static(app)))
    app.router.add_get("/", partial(ui.page, ui.index))
    for path, page in (("/app", ui.application), ("/driver", ui.driver)):
        app.router.add_get(path, with_slash)
        app.router.add_get(path + "/", partial(ui.page, page))
    for path, form in (("/app/kill", ui.kill_application), ("/driver/kill", ui.kill_driver), ("/workers/kill", ui.decommission)):
        app.router.add_post(path, form)
        app.router.add_post(path + "/", form)
    add_live(app, partial(master_says, face), face.changed)
    add_leader(app, face)


@dataclass(frozen=True, slots=True)
class Made:
    """A page as it was made for somebody, and what it was made of. Times in s."""

    status: MasterStatus
    cluster: weakref.ref[Cluster] | None  # weak: a leader that is deposed forgets all at once
    version: int
    at_s: float
    cost_s: float
    body: bytes
    headers: Mapping[str, str]
    code: int

    def serves(self, status: MasterStatus, cluster: Cluster | None, version: int, now_s: float) -> bool:
        """Whether the next visitor may have it too: the same truth, or younger than REST_FACTOR times what another one would cost."""
        if status is not self.status or cluster is not (self.cluster() if self.cluster is not None else None):
            return False
        age_s = now_s - self.at_s
        return age_s < REST_FACTOR * self.cost_s or (version == self.version and age_s < SAME_S)


class MasterPages:
    """Handlers of a master."""

    def __init__(self, face: MasterFace, pages: Pages) -> None:
        self.face = face
        self.pages = pages
        self._made: OrderedDict[str, Made] = OrderedDict()

    async def page(self, make: Callable[[web.Request], web.Response], request: web.Request) -> web.Response:
        """Return a page that was true when its last byte was made; many visitors of a large, busy cluster share it."""
        made = self._made.get(request.path_qs)
        # A leader's page must not leave after the lease: the process may have been paused meanwhile. There is little to make the next time.
        for _ in range(3):
            status, begun_s = self.face.status(), time.monotonic()
            if made is not None and made.serves(status, self.face.cluster(), self.face.version(), begun_s):
                break
            cluster, version = self.face.cluster(), self.face.version()
            answer = make(request)
            body = answer.body if isinstance(answer.body, bytes) else b""
            done_s = time.monotonic()
            made = Made(
                status,
                weakref.ref(cluster) if cluster is not None else None,
                version,
                done_s,
                done_s - begun_s,
                body,
                answer.headers,
                answer.status,
            )
            if self.face.status() is status and self.face.cluster() is cluster:
                break
        assert made is not None  # noqa: S101 the loop runs
        self._made[request.path_qs] = made
        while len(self._made) > PAGES_KEPT:
            self._made.popitem(last=False)
        return web.Response(body=made.body, status=made.code, headers=made.headers)

    def _answer(self, request: web.Request, template: str, values: Mapping[str, Any], status: int = 200) -> web.Response:
        head = ui_head.masthead(self.face)
        origins = tuple(sorted({ui_format.origin(link.web_ui) for link in head.masters if not link.me} - {""}))
        return self.pages.answer(
            request,
            template,
            {
                "kind": "master",
                "head": head,
                "version": self.face.version(),
                "masters_mark": masters_mark(self.face),
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

    def index(self, request: web.Request) -> web.Response:
        """The status page."""
        cluster = self.face.cluster()
        view = ui_views.cluster_view(cluster) if cluster is not None else None
        wanted = request.query.get("find", "")[:200]
        values: dict[str, Any] = {
            "view": None,
            "facts": ui_head.facts(self.face.coordination(), self.face.settings.recovery),
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
                "why": {row.id: ui_views.reasons(cluster, row.id) for row in queue.rows[: ui_views.EXPLAINED_ROWS]},
                "drivers": view.driver_rows(page(found.drivers, "drivers")),
                "apps": view.application_rows(page(found.applications, "apps")),
                "ended": view.driver_rows(page(found.completed_drivers, "ended", ui_views.HISTORY_ROWS)),
                "apps_ended": view.application_rows(page(found.completed_applications, "apps_ended", ui_views.HISTORY_ROWS)),
            }
        return self._answer(request, "master.html.j2", values)

    def driver(self, request: web.Request) -> web.Response:
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

    def application(self, request: web.Request) -> web.Response:
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
