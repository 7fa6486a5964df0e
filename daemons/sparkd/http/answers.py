"""What all HTTP faces answer with: JSON forms of common values, bounded reading of bodies, errors as JSON."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from ..coordination.api import RECORD_LIMIT, MasterAddress
from ..core.values import Epoch, Json

#: Bytes of a request's body that are read at most, whatever is configured: a record is at most RECORD_LIMIT, and JSON may double it.
BODY_LIMIT = 2 * RECORD_LIMIT
#: Seconds in which a body must have arrived.
BODY_TIMEOUT_S = 20.0

NO_STORE = {"Cache-Control": "no-store"}


class BadBody(Exception):
    """A body that is refused; `status` is the HTTP status."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def json_answer(body: Json, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return the body as JSON that nothing caches."""
    return web.Response(
        body=json.dumps(body, separators=(",", ":")).encode(),
        status=status,
        content_type="application/json",
        charset="utf-8",
        headers={**NO_STORE, **headers} if headers else NO_STORE,
    )


def address_json(address: MasterAddress | None) -> Json:
    """Return a master's address as faces show it, null for none."""
    if address is None:
        return None
    return {"host": address.host, "port": address.port, "url": address.url, "web_ui": address.web_ui, "rest": address.rest}


def epoch_json(epoch: Epoch | None) -> Json:
    """Return an epoch as faces show it, null for none."""
    return None if epoch is None else {"cluster_id": epoch.cluster_id, "number": epoch.number}


async def read_body(request: web.Request, limit: int, timeout_s: float = BODY_TIMEOUT_S) -> bytes:
    """Return the whole body. Raises BadBody: 413 above `limit` bytes or BODY_LIMIT, 408 when it is slow, 400 when it breaks off."""
    large = f"The request body exceeds the maximum allowed size ({min(limit, BODY_LIMIT)} bytes)."
    if limit <= BODY_LIMIT:
        large += " Adjust spark.master.rest.maxRequestBodySize to change the limit."
    limit = min(limit, BODY_LIMIT)
    if request.content_length is not None and request.content_length > limit:
        raise BadBody(413, large)
    body = bytearray()
    try:
        if request.content.is_eof():  # all of it has come already, as it is with most: no timer, nothing to wait for
            body += await request.content.readany()
            if len(body) > limit:
                raise BadBody(413, large)
            return bytes(body)
        async with asyncio.timeout(timeout_s):
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > limit:
                    raise BadBody(413, large)
    except TimeoutError:
        raise BadBody(408, f"The request's body did not arrive within {timeout_s:g} s.") from None
    except web.RequestPayloadError as error:
        raise BadBody(400, f"The request's body is not complete: {error}") from None
    return bytes(body)


def _no_constant(name: str) -> Json:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def parse_json(body: bytes) -> Any:
    """Return the body as JSON. Raises BadBody; the text never repeats the body, which may hold secrets."""
    try:
        found = _DECODER.decode(body.decode())
        if b"\\u" in body:
            _check_texts(found)
        return found
    except UnicodeDecodeError:
        raise BadBody(400, "The request's body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise BadBody(400, f"The request's body is not JSON: {error.msg} at line {error.lineno} column {error.colno}.") from None
    except (RecursionError, ValueError):  # too deep, an integer of thousands of digits, NaN
        raise BadBody(
            400, "The request's body is not JSON that can be read: too deep, half a character, or a number that is none."
        ) from None


def _check_texts(value: Json) -> None:
    """Refuse strings that no UTF-8 can carry: lone surrogates, which only escapes can make."""
    if isinstance(value, str):
        value.encode()  # UnicodeEncodeError is a ValueError
    elif isinstance(value, dict):
        for key, item in value.items():
            key.encode()
            _check_texts(item)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item)
