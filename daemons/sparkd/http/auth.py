"""Who may use REST: a bearer token (JWS HS256, as org.apache.spark.ui.JWSFilter checks it) or an allow-listed source address.

Source of the format: RFC 7515 (JWS compact serialization), RFC 7518 section 3.2 (HS256), RFC 7519 (exp, nbf), RFC 6750 (Bearer).
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from ..core.values import Json
from ..settings import RestSettings

#: Characters of a token that are looked at.
TOKEN_LIMIT = 8000
#: Rightly signed tokens that are remembered.
KNOWN_TOKENS = 64
#: Clients' addresses that are remembered as parsed.
KNOWN_ADDRESSES = 1024


class BadToken(ValueError):
    """A token that is not taken. The text says why, and never repeats it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """401: say who you are; 403: this is not enough."""

    status: int
    why: str


def sign(claims: Mapping[str, Json], key: bytes) -> str:
    """Return a token with these claims."""
    signed = f"{_encode(json.dumps({'alg': 'HS256', 'typ': 'JWT'}).encode())}.{_encode(json.dumps(dict(claims)).encode())}"
    return f"{signed}.{_encode(_mac(signed, key))}"


@dataclass(frozen=True, slots=True)
class Validity:
    """From when until when a token is good, Unix time in s."""

    begin_s: float = float("-inf")
    end_s: float = float("inf")


def verify(token: str, key: bytes, now_s: float) -> None:
    """Return if the token is good at this Unix time (s). Raises BadToken."""
    check_time(signed_validity(token, key), now_s)


def check_time(validity: Validity, now_s: float) -> None:
    """Raise BadToken when it is not good now."""
    if now_s >= validity.end_s:
        raise BadToken("it has expired")
    if now_s < validity.begin_s:
        raise BadToken("it is not valid yet")


def signed_validity(token: str, key: bytes) -> Validity:
    """Return when a rightly signed token is good. Raises BadToken.

    The algorithm is pinned: a header that names another one, or none, is refused whatever the signature. The signature is compared before
    anything of the claims is read.
    """
    parts = token.split(".")
    if not key or len(token) > TOKEN_LIMIT or len(parts) != 3:
        raise BadToken("not a signed token")
    header = _object(parts[0])
    if header.get("alg") != "HS256":
        raise BadToken("its algorithm is not HS256")
    if "crit" in header:
        raise BadToken("it has critical header fields, and none is known")
    try:
        given = _decode(parts[2])
        expected = _mac(f"{parts[0]}.{parts[1]}", key)
    except ValueError:
        raise BadToken("not a signed token") from None
    if not hmac.compare_digest(given, expected):
        raise BadToken("its signature is wrong")
    claims = _object(parts[1])
    return Validity(_time(claims, "nbf", float("-inf")), _time(claims, "exp", float("inf")))


def _time(claims: Mapping[str, Json], name: str, otherwise: float) -> float:
    found = claims.get(name)
    if found is None:
        return otherwise
    if type(found) not in (int, float):
        raise BadToken(f"its {name} is no time")
    return float(found)


def _mac(signed: str, key: bytes) -> bytes:
    return hmac.new(key, signed.encode("ascii"), hashlib.sha256).digest()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """Return base64url without padding, strictly. Raises ValueError."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error
    if _encode(data) != text:  # padding, '+' and '/', or stray bits at the end
        raise ValueError("not base64url")
    return data


def _object(part: str) -> dict[str, Any]:
    try:
        found = json.loads(_decode(part))
    except (ValueError, RecursionError):
        raise BadToken("not a signed token") from None
    if not isinstance(found, dict):
        raise BadToken("not a signed token")
    return found


@functools.lru_cache(KNOWN_ADDRESSES)
def _address(remote: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a socket's peer has, None for none."""
    try:
        address = ip_address(remote.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


class Gate:
    """Decides on each request. wall_s: Unix time in s."""

    def __init__(self, settings: RestSettings, wall_s: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._wall_s = wall_s
        # Clients send the same token again and again: its signature is checked once, its times at every request.
        self._signed = functools.lru_cache(KNOWN_TOKENS)(functools.partial(signed_validity, key=settings.token_key))

    def check(self, remote: str | None, headers: Mapping[str, str]) -> Refusal | None:
        """Return why a request from this address with these headers is refused, None if it is not.

        A browser names the page that made it send a request (Origin): such a request is taken with a token only, or any page that somebody
        on an allow-listed host looks at could submit.
        """
        key = self._settings.token_key
        given = headers.get("Authorization")
        scheme, _, token = (given or "").partition(" ")
        if key and scheme.lower() == "bearer":
            try:
                check_time(self._signed(token), self._wall_s())
            except BadToken as error:
                return Refusal(403, f"The bearer token is refused: {error}.")
            return None
        if self._settings.open_to_all or self.allowed(remote):
            if "Origin" in headers:
                return Refusal(403, "A request that a web page made needs a bearer token.")
            return None
        if key:
            return Refusal(401, "Authorization header is missing: a bearer token is needed, or an allow-listed source address.")
        return Refusal(403, f"{remote} is no allow-listed source address, and no key for tokens is configured.")

    def allowed(self, remote: str | None) -> bool:
        """Say whether the address is allow-listed."""
        address = _address(remote or "")
        if address is None:
            return False
        return any(address.version == network.version and address in network for network in self._settings.allowed)
