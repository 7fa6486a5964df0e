"""sparkd's own JSON API, /sparkd/v1/, on the REST port: what Spark's protocol has no words for.

POST drivers {"description": DriverDescription, "request_id": ""} -> {"id", "message"}; GET drivers; GET drivers/<id>;
POST drivers/<id>/kill {"give_up": false}; GET workers, applications, explain/<id>, leader, state. Errors: {"error": sentence, ...}.
A master that does not lead answers 503 with its `status` and {"leader": ...} (or null), so that a client can follow; what could not be
stored is 503 with `retry`. Either way the same request_id may be sent again and is never run twice; without one, not if it is `uncertain`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from ..core.cluster import Cluster
from ..core.effects import Answer
from ..core.states import MasterStatus
from ..core.values import DriverDescription, Json
from . import views
from .answers import BadBody, address_json, epoch_json, json_answer, parse_json, read_body
from .faces import MasterFace, NotAlive, NotDurable

PREFIX = "/sparkd/v1"
REQUEST_ID_LIMIT = 128  # characters
CORES_LIMIT = 1_000_000
MEMORY_LIMIT_MB = 1 << 31

_TEXTS = ("name", "resource", "main_class")
_LISTS = ("argv", "arguments", "java_options", "class_path", "library_path")
_MAPS = ("environment", "properties")
_KNOWN = frozenset((*_TEXTS, *_LISTS, *_MAPS, "kind", "cores", "memory_mb", "supervise"))

Handler = Callable[[web.Request], Awaitable[web.Response]]


class BadDescription(ValueError):
    """A description that cannot be run. The text names the field, never its value, which may be a secret."""


def parse_description(body: Json) -> DriverDescription:
    """Return the description that the JSON tells of, checked. Raises BadDescription."""
    if not isinstance(body, dict):
        raise BadDescription("description: not an object")
    unknown = sorted(set(body) - _KNOWN)
    if unknown:
        raise BadDescription(f"description.{unknown[0][:64]}: no such field; there are {', '.join(sorted(_KNOWN))}")
    kind = body.get("kind")
    if kind not in ("command", "jvm", "python"):
        raise BadDescription("description.kind: must be command, jvm or python")
    values: dict[str, Any] = {"kind": kind}
    for name in _TEXTS:
        values[name] = _text(body.get(name, ""), name)
    for name in _LISTS:
        items = body.get(name, [])
        if not isinstance(items, list):
            raise BadDescription(f"description.{name}: not a list of strings")
        values[name] = tuple(_text(item, f"{name}[{index}]") for index, item in enumerate(items))
    for name in _MAPS:
        items = body.get(name, {})
        if not isinstance(items, dict):
            raise BadDescription(f"description.{name}: not a map of strings")
        values[name] = {_text(key, f"{name}: a key"): _text(item, f"{name}: a value") for key, item in items.items()}
    if any(not key or "=" in key for key in values["environment"]):
        raise BadDescription("description.environment: a name is empty or has a '=' in it")
    values["cores"] = _number(body.get("cores", 1), "cores", CORES_LIMIT)
    values["memory_mb"] = _number(body.get("memory_mb", 1024), "memory_mb", MEMORY_LIMIT_MB)
    values["supervise"] = body.get("supervise", False)
    if not isinstance(values["supervise"], bool):
        raise BadDescription("description.supervise: not true or false")
    if kind == "command" and not values["argv"]:
        raise BadDescription("description.argv: a command needs one")
    if kind == "jvm" and not values["main_class"]:
        raise BadDescription("description.main_class: a jvm driver needs one")
    if kind == "python" and not values["resource"]:
        raise BadDescription("description.resource: a python driver needs its program")
    return DriverDescription(**values)


def _text(value: Json, name: str) -> str:
    if not isinstance(value, str):
        raise BadDescription(f"description.{name}: not a string")
    if "\0" in value:
        raise BadDescription(f"description.{name}: has a NUL byte, which no process can be given")
    return value


def _number(value: Json, name: str, limit: int) -> int:
    if type(value) is not int or not 1 <= value <= limit:
        raise BadDescription(f"description.{name}: not a whole number from 1 to {limit}")
    return value


def not_alive(refusal: NotAlive, face: MasterFace) -> web.Response:
    """Return the answer of a master that does not lead: 503, who it is, who leads, and whether the request may yet have been stored."""
    body = {"error": str(refusal), "status": str(refusal.status), "epoch": epoch_json(face.epoch()), "leader": address_json(refusal.leader)}
    return json_answer({**body, "uncertain": refusal.uncertain}, 503)


def error(text: str, status: int, **more: Json) -> web.Response:
    """Return an error as JSON."""
    return json_answer({"error": text, **more}, status)


def add_master_api(app: web.Application, face: MasterFace) -> None:
    """Add all routes below PREFIX."""
    api = _Api(face)
    for method, path, handler in (
        ("POST", "drivers", api.submit),
        ("GET", "drivers", api.drivers),
        ("GET", "drivers/{id}", api.driver),
        ("POST", "drivers/{id}/kill", api.kill),
        ("GET", "workers", api.workers),
        ("GET", "applications", api.applications),
        ("GET", "explain/{id}", api.explain),
        ("GET", "leader", api.leader),
        ("GET", "state", api.state),
    ):
        app.router.add_route(method, f"{PREFIX}/{path}", _guarded(face, handler))
    app.router.add_route("*", "/sparkd/{rest:.*}", _unknown)


def _guarded(face: MasterFace, handler: Handler) -> Handler:
    """Turn what the face raises into answers."""

    @functools.wraps(handler)
    async def guarded(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except NotAlive as refusal:
            return not_alive(refusal, face)
        except NotDurable as refusal:
            return json_answer({"error": str(refusal), "retry": True}, 503, {"Retry-After": "1"})
        except BadBody as refusal:
            return error(str(refusal), refusal.status)
        except BadDescription as refusal:
            return error(str(refusal), 400)

    return guarded


async def _unknown(request: web.Request) -> web.Response:
    if not request.path.startswith(f"{PREFIX}/"):
        return error(f"Unknown version of sparkd's API: {request.path[:200]}. This master has {PREFIX}/.", 404)
    return error(
        "No such page or method here. See /sparkd/v1/state, and docs/ for all of them.", 404 if request.method in ("GET", "HEAD") else 405
    )


class _Api:
    def __init__(self, face: MasterFace) -> None:
        self.face = face

    def cluster(self) -> Cluster:
        """Return the cluster of the leader. Raises NotAlive."""
        cluster, status = self.face.cluster(), self.face.status()
        if cluster is None or status is MasterStatus.STANDBY:
            raise NotAlive(status, self.face.leader())
        return cluster

    async def submit(self, request: web.Request) -> web.Response:
        body = await self._body(request, {"description", "request_id"})
        request_id = body.get("request_id", "")
        if not isinstance(request_id, str) or len(request_id) > REQUEST_ID_LIMIT or not request_id.isprintable():
            raise BadBody(400, f"request_id: not a string of at most {REQUEST_ID_LIMIT} printable characters")
        answer = await self.face.submit(parse_description(body.get("description")), request_id)
        return _answered(answer, 409)

    async def drivers(self, _: web.Request) -> web.Response:
        return json_answer({"drivers": views.drivers(self.cluster())})

    async def driver(self, request: web.Request) -> web.Response:
        driver_id = request.match_info["id"]
        found = views.driver(self.cluster(), driver_id)
        if found is None:
            return error(f"No driver {driver_id} is known here.", 404, id=driver_id)
        return json_answer(found)

    async def kill(self, request: web.Request) -> web.Response:
        body = await self._body(request, {"give_up"}, optional=True)
        give_up = body.get("give_up", False)
        if not isinstance(give_up, bool):
            raise BadBody(400, "give_up: not true or false")
        driver_id = request.match_info["id"]
        answer = await self.face.kill_driver(driver_id, give_up)
        cluster = self.face.cluster()
        known = answer.ok or cluster is None or cluster.driver(driver_id) is not None
        return _answered(answer, 409 if known else 404)

    async def workers(self, _: web.Request) -> web.Response:
        return json_answer({"workers": views.workers(self.cluster())})

    async def applications(self, _: web.Request) -> web.Response:
        return json_answer({"applications": views.applications(self.cluster())})

    async def explain(self, request: web.Request) -> web.Response:
        entity = request.match_info["id"]
        sentences = self.cluster().explain(entity)
        if not sentences:
            return error(f"Nothing is known of {entity}.", 404, id=entity)
        return json_answer({"id": entity, "sentences": list(sentences)})

    async def leader(self, _: web.Request) -> web.Response:
        status = self.face.status()
        body = {"status": str(status), "epoch": epoch_json(self.face.epoch()), "leader": address_json(self.face.leader())}
        return json_answer({**body, "masters": [address_json(master) for master in self.face.masters()]})

    async def state(self, _: web.Request) -> web.Response:
        return json_answer(summary(self.face))

    async def _body(self, request: web.Request, known: set[str], optional: bool = False) -> Mapping[str, Json]:
        """Return the body as an object with no other fields. Raises BadBody; NotAlive before anything is read on a standby."""
        status = self.face.status()
        if status is not MasterStatus.ALIVE:
            raise NotAlive(status, self.face.leader())
        raw = await read_body(request, self.face.settings.rest.max_body_bytes)
        if optional and not raw:
            return {}
        body = parse_json(raw)
        if not isinstance(body, dict):
            raise BadBody(400, "The request's body is not a JSON object.")
        unknown = sorted(set(body) - known)
        if unknown:
            raise BadBody(400, f"{unknown[0][:64]}: no such field; there are {', '.join(sorted(known))}")
        return body


def _answered(answer: Answer, refused: int) -> web.Response:
    if not answer.ok:
        return error(answer.message, refused, id=answer.id)
    return json_answer({"id": answer.id, "message": answer.message})


def summary(face: MasterFace) -> Json:
    """Return what a master knows, in one page: status, election, counts, what was set aside."""
    cluster, status = face.cluster(), face.status()
    counts: dict[str, Json] | None = None
    if cluster is not None and status is not MasterStatus.STANDBY:
        counts = dataclasses.asdict(views.counts(cluster))
    return {
        "status": str(status),
        "since_ms": face.since_ms(),
        "epoch": epoch_json(face.epoch()),
        "me": address_json(face.address()),
        "leader": address_json(face.leader()),
        "masters": [address_json(master) for master in face.masters()],
        "coordination": dict(face.coordination()),
        "set_aside": [{"kind": item.kind, "id": item.id, "why": item.why, "where": item.where} for item in face.set_aside()],
        "cluster": counts,
    }
