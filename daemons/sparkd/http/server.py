"""The HTTP servers of a daemon: web pages (8080, 8081) and, on a master, REST (6066). Bounded in connections, headers, bodies and time."""

from __future__ import annotations

import asyncio
import errno
import logging
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from . import api, health, json_pages, rest
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
#: Bytes of the request line, and of one header field. Tokens fit.
LINE_LIMIT = 8190
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 22\r\n"
    b"Retry-After: 1\r\nConnection: close\r\n\r\nToo many connections.\n"
)


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
            lingering_time=2.0,
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


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A defect is one log line and a 500 that tells nothing of the inside; aiohttp's own errors are passed on."""
    try:
        return await handler(request)
    except (web.HTTPException, asyncio.CancelledError, ConnectionError):
        raise
    except Exception:
        log.exception("http request failed method=%s path=%s", request.method, request.path)
        return json_answer({"error": "Internal server error; the master's log has it."}, 500)


def _guard(face: MasterFace) -> Middleware:
    """Let through who may use REST. /v1/submissions/readyz tells a load balancer no more than the web port does, so it is open."""
    gate = Gate(face.settings.rest)

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = None if request.path == f"/{rest.VERSION}/submissions/readyz" else gate.check(request.remote, request.headers)
        if refusal is None:
            return await handler(request)
        log.warning("rest refused status=%d source=%s method=%s path=%s", refusal.status, request.remote, request.method, request.path)
        answer = api.error if request.path.startswith(api.PREFIX) else rest.error
        reply = answer(refusal.why, refusal.status)
        if refusal.status == 401:
            reply.headers["WWW-Authenticate"] = "Bearer"
        return reply

    return guard


async def start_master(face: MasterFace) -> Running:
    """Serve a master's pages and, when enabled, REST. Ports are bound when this returns. Raises CannotListen, with nothing left open."""
    running = Running()
    settings = face.settings
    app = web.Application(middlewares=[_errors])
    json_pages.add_master_pages(app, face)
    health.add_master_health(app, face)
    try:
        running.web_port = await running._add(
            app,
            settings.web.host,
            settings.web.port,
            WEB_CONNECTIONS,
            "the master's web UI",
            "SPARK_MASTER_WEBUI_PORT (spark.master.ui.port, --webui-port)",
        )
        if settings.rest.enabled:
            submissions = web.Application(middlewares=[_errors, _guard(face)])
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
    app = web.Application(middlewares=[_errors])
    json_pages.add_worker_pages(app, face)
    health.add_worker_health(app, face)
    try:
        running.web_port = await running._add(
            app,
            settings.web.host,
            settings.web.port,
            WEB_CONNECTIONS,
            "the worker's web UI",
            "SPARK_WORKER_WEBUI_PORT (spark.worker.ui.port, --webui-port)",
        )
    except BaseException:
        await running.close()
        raise
    return running
