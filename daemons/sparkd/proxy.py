"""`sparkd proxy`: a listener on loopback that passes HTTP to whichever master leads, and adds the bearer token.

spark-submit has no way to send a token, and knows one master's REST address at a time: it is pointed here instead,
`spark-submit --master spark://127.0.0.1:6066 --deploy-mode cluster --conf spark.master.rest.enabled=true ...`. Anybody on this host who
reaches the port acts with the token: it listens on loopback only.

A request is passed on again after a failover only when nothing can be done twice by it: GET always; POST when the master that was asked
says that it does not lead, or was not reached at all.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from .client import Address, Token, named_leader

log = logging.getLogger("sparkd.proxy")
#: As the masters': a record is at most 512 KiB.
BODY_LIMIT = 2 << 20
PATIENCE_S = 30.0
CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 30.0
#: What belongs to one connection (RFC 9110, 7.6.1), and what the proxy says itself.
HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "host",
        "content-length",
    )
)


@dataclass(frozen=True, slots=True)
class Passed:
    """A master's answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def stands_by(self) -> bool:
        """The master does not lead, so nothing was done: 503 of sparkd's own API, or success false of Spark's protocol."""
        if self.status not in (200, 503):
            return False
        try:
            body = json.loads(self.body)
        except ValueError:
            return False
        if not isinstance(body, dict):
            return False
        if self.status == 503:
            return "leader" in body and not body.get("uncertain")  # uncertain: it may be done yet
        text = " ".join(str(body.get(name, "")) for name in ("message", "serverError"))
        return body.get("success") is False and "Current state is not alive" in text

    def leader(self) -> Address | None:
        """The leader that the answer names."""
        try:
            return named_leader(json.loads(self.body))
        except ValueError:
            return None


class Proxy:
    """masters: REST addresses; token: what is added."""

    def __init__(self, masters: Sequence[Address], token: Token, patience_s: float = PATIENCE_S) -> None:
        self.masters = tuple(masters)
        self.token = token
        self.patience_s = patience_s
        self._leader: Address | None = None
        self._session: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        """Return the server's application."""
        app = web.Application(client_max_size=BODY_LIMIT)
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.cleanup_ctx.append(self._connected)
        return app

    async def _connected(self, _: web.Application):  # type: ignore[no-untyped-def]
        timeout = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S)
        # A connection each: one that was kept and breaks may have carried the request or not, one that is refused has not.
        connector = aiohttp.TCPConnector(force_close=True)
        jar = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False, cookie_jar=jar) as session:
            self._session = session
            yield

    async def _handle(self, request: web.Request) -> web.Response:
        # A web page must not act through us: browsers say whose page sends (Fetch Metadata, Origin); spark-submit and curl say neither.
        if request.headers.get("Origin") or request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return _error(403, "Requests of web pages are not passed on.")
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return _error(413, f"Request body exceeds maximum size of {BODY_LIMIT} bytes.")
        end = time.monotonic() + self.patience_s
        last: Passed | None = None
        why = ""
        pause = 0.05
        while True:
            for address in list(dict.fromkeys([*([self._leader] if self._leader else []), *self.masters])):
                try:
                    answer = await self._pass(address, request, body)
                except aiohttp.ClientConnectorError as error:
                    why = str(error)  # not reached: nothing was done
                    self._forget(address)
                    continue
                except (aiohttp.ClientError, TimeoutError) as error:
                    why = f"{address[0]}:{address[1]}: {error or type(error).__name__}"
                    self._forget(address)
                    if request.method in ("GET", "HEAD"):
                        continue
                    log.warning("event=broken method=%s master=%s:%d why=%r", request.method, *address, why)
                    return _error(502, f"The master's answer was lost, so it may have done it: {why}")
                if answer.stands_by:
                    last = answer
                    self._forget(address)
                    self._leader = self._leader or answer.leader()
                    continue
                if answer.status < 500:
                    self._leader = address
                return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
            if time.monotonic() + pause > end:
                break
            await asyncio.sleep(pause)
            pause = min(0.5, pause * 1.5)
        if last is not None:
            return web.Response(status=last.status, headers=last.headers, body=last.body)
        return _error(502, f"No master answers: {why}")

    def _forget(self, address: Address) -> None:
        if self._leader == address:
            self._leader = None

    async def _pass(self, address: Address, request: web.Request, body: bytes) -> Passed:
        """Ask one master. Raises aiohttp.ClientError, TimeoutError."""
        assert self._session is not None  # noqa: S101 for mypy
        dropped = HOP | {name.strip().lower() for name in request.headers.get("Connection", "").split(",")}
        headers = {name: value for name, value in request.headers.items() if name.lower() not in dropped}
        headers.pop("Authorization", None)
        headers.update(self.token.header())
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        from yarl import URL

        url = URL(f"http://{host}:{address[1]}{request.raw_path}", encoded=True)
        async with self._session.request(request.method, url, headers=headers, data=body or None, allow_redirects=False) as response:
            data = await response.read()
            kept = {name: value for name, value in response.headers.items() if name.lower() not in HOP}
            return Passed(response.status, kept, data)


def _error(status: int, text: str) -> web.Response:
    """Return an error that Spark's client shows: an ErrorResponse of its protocol."""
    from . import __version__

    return web.json_response(
        {"action": "ErrorResponse", "message": text, "serverSparkVersion": f"sparkd proxy {__version__}"}, status=status
    )


async def serve(proxy: Proxy, host: str, port: int, ready: asyncio.Event | None = None, stop: asyncio.Event | None = None) -> None:
    """Listen until `stop` is set. Raises OSError."""
    runner = web.AppRunner(proxy.application(), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        if ready:
            ready.set()
        await (stop or asyncio.Event()).wait()
    finally:
        await runner.cleanup()
