"""The HTTP servers of a daemon: web pages (8080, 8081) and, on a master, REST (6066). Bounded in connections, headers, bodies and time."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
from collections import Counter
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler, Middleware

from ..settings import WebSettings
from . import api, health, json_pages, metrics, rest, ui
from .answers import json_answer
from .auth import Gate
from .faces import MasterFace, WorkerFace

log = logging.getLogger(__name__)

#: Connections to a web UI at a time (REST has a setting). One over it is answered 503 and closed.
WEB_CONNECTIONS = 512
#: Seconds in which a connection must bring the (next) request's headers.
IDLE_S = 30.0
#: Seconds that `close` lets requests under way end in.
CLOSE_S = 0.5
#: Seconds that the rest of a body that nobody wants is read and dropped, so that the client sees the answer and no reset.
LINGER_S = 1.0
#: Bytes of the request line, and of one header field. Tokens fit.
LINE_LIMIT = 8190
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 22\r\n"
    b"Retry-After: 1\r\nConnection: close\r\n\r\nToo many connections.\n"
)


_protocol_log = logging.getLogger(__name__ + ".protocol")


def _brief(record: logging.LogRecord) -> bool:
    """Make one line of what aiohttp says of bytes that are no HTTP: anyone can send those, and nothing is wrong here."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        where, record.exc_info = record.args, None
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.msg, record.args = (
            "event=http_malformed source=%s why=%s",
            (where[0] if isinstance(where, tuple) and where else "", error.code),
        )
    return True


_protocol_log.addFilter(_brief)


class CannotListen(OSError):
    """A port cannot be bound; the text names it and the variable that sets it."""


@dataclass
class Running:
    """Servers that listen. Ports are those that were bound, also when 0 was asked for."""

    web_port: int = 0
    rest_port: int = 0  # 0: REST is off
    _servers: list[asyncio.Server] = field(default_factory=list)
    _runners: list[web.AppRunner] = field(default_factory=list)

    async def close(self) -> None:
        """Stop listening, give requests under way CLOSE_S to end, then close all connections."""
        for server in self._servers:
            server.close()
        await asyncio.gather(*(runner.cleanup() for runner in self._runners))

    async def _add(self, app: web.Application, host: str, port: int, connections: int, what: str, how: str) -> int:
        """Serve `app`; return the port. Raises CannotListen."""
        runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=CLOSE_S,
            keepalive_timeout=IDLE_S,
            lingering_time=LINGER_S,
            logger=_protocol_log,
            max_line_size=LINE_LIMIT,
            max_field_size=LINE_LIMIT,
            auto_decompress=False,
        )
        await runner.setup()
        self._runners.append(runner)
        handlers = runner.server
        if handlers is None:
            raise RuntimeError("aiohttp made no server")

        def protocol() -> asyncio.BaseProtocol:
            return handlers() if len(handlers.connections) < connections else _Busy()

        try:
            server = await asyncio.get_running_loop().create_server(protocol, host or None, port, backlog=min(connections, 1024))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            fix = "stop what listens there, or choose another port" if taken else "choose another"
            raise CannotListen(
                error.errno, f"Cannot listen on {host or '*'}:{port} for {what}: {error.strerror}; {fix} with {how}"
            ) from error
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])


class _Busy(asyncio.Protocol):
    """Answers a connection that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            transport.write(BUSY)
            transport.close()


def _outermost(server: str, requests: metrics.Requests) -> Middleware:
    """Count answers; make of a defect one log line and a 500 that tells nothing of the inside. aiohttp's own errors are passed on."""

    @web.middleware
    async def outermost(request: web.Request, handler: Handler) -> web.StreamResponse:
        code = 500
        try:
            answer = await handler(request)
            code = answer.status
            return answer
        except web.HTTPException as answer:
            code = answer.status
            raise
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception:
            log.exception("event=http_failed method=%s path=%s", request.method, json.dumps(request.path))
            return json_answer({"error": "Internal server error; the daemon's log has it."}, 500)
        finally:
            requests[server, code] += 1

    return outermost


def _guard(face: MasterFace) -> Middleware:
    """Let through who may use REST. /v1/submissions/readyz tells a load balancer no more than the web port does, so it is open."""
    gate = Gate(face.settings.rest)

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = None if request.path == f"/{rest.VERSION}/submissions/readyz" else gate.check(request.remote, request.headers)
        if refusal is None:
            return await handler(request)
        path = json.dumps(request.path)
        log.warning("event=rest_refused status=%d source=%s method=%s path=%s", refusal.status, request.remote, request.method, path)
        answer = api.error if request.path.startswith(api.PREFIX) else rest.error
        reply = answer(refusal.why, refusal.status)
        if refusal.status == 401:
            reply.headers["WWW-Authenticate"] = "Bearer"
        return reply

    return guard


async def _add_web(running: Running, app: web.Application, settings: WebSettings, kind: str) -> int:
    """Serve a daemon's pages; return the port. Raises CannotListen."""
    variable = f"SPARK_{kind.upper()}_WEBUI_PORT (spark.{kind}.ui.port, --webui-port)"
    return await running._add(app, settings.host, settings.port, WEB_CONNECTIONS, f"the {kind}'s web UI", variable)


async def start_master(face: MasterFace) -> Running:
    """Serve a master's pages and, when enabled, REST. Ports are bound when this returns. Raises CannotListen, with nothing left open."""
    running = Running()
    settings = face.settings
    requests: metrics.Requests = Counter()
    app = web.Application(middlewares=[_outermost("web", requests)])
    json_pages.add_master_pages(app, face)
    health.add_master_health(app, face)
    metrics.add_metrics(app, metrics.MasterCollector(face, requests))
    ui.add_master_routes(app, face)
    try:
        running.web_port = await _add_web(running, app, settings.web, "master")
        if settings.rest.enabled:
            submissions = web.Application(middlewares=[_outermost("rest", requests), _guard(face)])
            api.add_master_api(submissions, face)
            rest.add_submissions(submissions, face)
            running.rest_port = await running._add(
                submissions,
                settings.rest.host or settings.host,
                settings.rest.port,
                settings.rest.max_connections,
                "REST",
                "spark.master.rest.port",
            )
    except BaseException:
        await running.close()
        raise
    return running


async def start_worker(face: WorkerFace) -> Running:
    """Serve a worker's pages. The port is bound when this returns. Raises CannotListen, with nothing left open."""
    running = Running()
    settings = face.settings
    requests: metrics.Requests = Counter()
    app = web.Application(middlewares=[_outermost("web", requests)])
    json_pages.add_worker_pages(app, face)
    health.add_worker_health(app, face)
    metrics.add_metrics(app, metrics.WorkerCollector(face, requests))
    ui.add_worker_routes(app, face)
    try:
        running.web_port = await _add_web(running, app, settings.web, "worker")
    except BaseException:
        await running.close()
        raise
    return running
