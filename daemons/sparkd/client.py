"""Talks to whichever master leads: asks the masters it knows, follows the leader they name, and goes on through a failover.

Standard library only and without asyncio: a command that asks one thing should start in no time.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config_files import FileProblem, secret
from .config_values import endpoint, token_key

PREFIX = "/sparkd/v1"
REST_PORT = 6066
#: How long one master gets to accept a connection, and to answer. A commit waits for a quorum; a host may be silent.
CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 10.0
#: At first it gets less: it may be paused, and another one lead. Doubled with each round.
FIRST_ANSWER_TIMEOUT_S = 1.5
#: How long a request goes on looking for a leader: a session timeout and a host's restart.
PATIENCE_S = 60.0
ANSWER_LIMIT = 64 << 20
TOKEN_LIFE_S = 300

Address = tuple[str, int]


class ClientError(Exception):
    """It did not work; the text is for people and says what to do."""


class Refused(ClientError):
    """The leader answered, and the answer is no. `status` is HTTP's, `body` what came with it."""

    def __init__(self, status: int, body: Mapping[str, Any], text: str) -> None:
        super().__init__(text)
        self.status = status
        self.body = body


class Token:
    """What is shown to REST: a ready bearer token, or one made of a JWS key for each request."""

    def __init__(self, ready: str = "", key: bytes = b"") -> None:
        self._ready = ready
        self._key = key

    @classmethod
    def read(cls, path: Path) -> Token:
        """Return the token of a file: three parts with dots between are a ready token; anything else is the key in Base64URL.

        Raises FileProblem when others may read it, or it is neither.
        """
        text = secret(path).decode("utf-8", "replace")
        if text.count(".") == 2:
            if not text.isascii() or not text.isprintable() or " " in text:
                raise FileProblem(f"{path} is no token: it has blanks or other signs in it")
            return cls(ready=text)
        try:
            return cls(key=token_key(text))
        except ValueError as error:
            raise FileProblem(f"{path} is neither a token (header.payload.signature) nor a JWS key: {error}") from None

    def header(self, now_s: float | None = None) -> dict[str, str]:
        """Return the Authorization header; none without a token. The token made of a key is good for TOKEN_LIFE_S (RFC 7519, HS256)."""
        if self._ready:
            return {"Authorization": f"Bearer {self._ready}"}
        if not self._key:
            return {}
        import hashlib
        import hmac

        issued = int(time.time() if now_s is None else now_s)
        claims = {"sub": "sparkd", "iat": issued, "exp": issued + TOKEN_LIFE_S}
        signed = f"{_base64url(json.dumps({'alg': 'HS256', 'typ': 'JWT'}).encode())}.{_base64url(json.dumps(claims).encode())}"
        return {"Authorization": f"Bearer {signed}.{_base64url(hmac.new(self._key, signed.encode(), hashlib.sha256).digest())}"}


def _base64url(data: bytes) -> str:
    import base64

    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def addresses(text: str, port: int = REST_PORT) -> tuple[Address, ...]:
    """Return host and REST port of each of h1:6066,h2. Raises ValueError."""
    found = []
    for item in text.split(","):
        plain = item.strip().removeprefix("http://").rstrip("/")
        address = endpoint(plain, port) if plain else None
        if address is None or address[1] == 0:
            raise ValueError(f"{item.strip()!r} is no host:port; allowed: REST addresses of the masters, as in h1:6066,h2:6066")
        found.append(address)
    return tuple(dict.fromkeys(found))


def named_leader(body: object) -> Address | None:
    """Return the REST address of the leader that a standby's answer names."""
    leader = body.get("leader") if isinstance(body, dict) else None
    rest = leader.get("rest") if isinstance(leader, dict) else None
    return endpoint(rest.removeprefix("http://").rstrip("/"), REST_PORT) if isinstance(rest, str) and rest else None


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, as JSON."""

    status: int
    body: Any


def request(
    address: Address,
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = ANSWER_TIMEOUT_S,
) -> Answer:
    """Ask one master. Raises OSError, http.client.HTTPException; ValueError when the answer is no JSON."""
    connection = http.client.HTTPConnection(*address, timeout=min(CONNECT_TIMEOUT_S, timeout_s))
    try:
        connection.connect()
        assert isinstance(connection.sock, socket.socket)  # noqa: S101 for mypy
        connection.sock.settimeout(timeout_s)
        data = None if body is None else json.dumps(body).encode()
        given = {"Content-Type": "application/json"} if data is not None else {}
        connection.request(method, path, data, {**given, **(headers or {}), "Connection": "close"})
        response = connection.getresponse()
        raw = response.read(ANSWER_LIMIT + 1)
        if len(raw) > ANSWER_LIMIT:
            raise ValueError(f"the answer is larger than {ANSWER_LIMIT >> 20} MiB")
        try:
            return Answer(response.status, json.loads(raw))
        except ValueError:
            why = f"HTTP {response.status} and no JSON: that is not the REST port of a master ({REST_PORT}, where nothing else is set)"
            raise ValueError(why) from None
    finally:
        connection.close()


class Client:
    """Asks the leader. masters: REST addresses, any of them may lead; notice: told once per pause why it waits."""

    def __init__(
        self,
        masters: Sequence[Address],
        token: Token | None = None,
        patience_s: float = PATIENCE_S,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        self.masters = tuple(masters)
        self.token = token or Token()
        self.patience_s = patience_s
        self._notice = notice
        self._leader: Address | None = None

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Return the leader's answer to a request that may safely be sent again. Raises Refused, ClientError when there is no leader."""
        end = time.monotonic() + self.patience_s
        pause, told, limit = 0.05, False, FIRST_ANSWER_TIMEOUT_S
        said: dict[Address, str] = {}
        while True:
            order = self._order()
            for number, address in enumerate(order):
                left = end - time.monotonic()
                if left <= 0 and said:
                    break
                # Each of them gets its share of what is left, so that a silent one does not take it all.
                answer = self._ask(address, method, path, body, max(0.2, min(limit, left / (len(order) - number))), said)
                if answer is not None:
                    return answer.body
            limit = min(ANSWER_TIMEOUT_S, limit * 2)
            if time.monotonic() + pause > end:
                raise ClientError(self._nobody(said))
            if self._notice and not told and time.monotonic() > end - self.patience_s + 1.0:
                told = True
                self._notice(f"waiting for a leader: {_joined(said)}")
            time.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 no secret
            pause = min(0.5, pause * 1.5)

    def _order(self) -> list[Address]:
        first = [self._leader] if self._leader else []
        return list(dict.fromkeys([*first, *self.masters]))

    def _ask(
        self, address: Address, method: str, path: str, body: object, timeout_s: float, said: dict[Address, str], hops: int = 2
    ) -> Answer | None:
        """Ask one master and whom it names. Returns None when there is no leader's answer yet. Raises Refused."""
        try:
            answer = request(address, method, PREFIX + path, body, self.token.header(), timeout_s)
        except (OSError, http.client.HTTPException, ValueError) as error:
            said[address] = "no time left to answer" if isinstance(error, TimeoutError) else _why(error)
            if address == self._leader:
                self._leader = None
            return None
        if answer.status < 300:
            self._leader = address
            return answer
        text = str(answer.body.get("error", "")) if isinstance(answer.body, dict) else ""
        if answer.status != 503:
            raise Refused(answer.status, answer.body if isinstance(answer.body, dict) else {}, _refusal(address, answer.status, text))
        said[address] = text or "HTTP 503"
        leader = named_leader(answer.body)
        if address == self._leader:
            self._leader = None
        if leader and leader != address and leader not in said and hops:
            return self._ask(leader, method, path, body, timeout_s, said, hops - 1)
        if leader and leader != address:
            said.pop(leader, None)  # it may be asked again in the next round
        return None

    def _nobody(self, said: Mapping[Address, str]) -> str:
        return (
            f"no leader answered within {self.patience_s:g} s: {_joined(said)}. "
            "Name the masters' REST addresses with --masters h1:6066,h2:6066, or wait longer with --patience"
        )

    # --- what there is to ask --------------------------------------------------------------------------------------

    def submit(self, description: Mapping[str, object], request_id: str) -> str:
        """Submit a driver, and return its id. The same request id is never run twice."""
        return str(self.call("POST", "/drivers", {"description": description, "request_id": request_id})["id"])

    def drivers(self) -> list[dict[str, Any]]:
        """Return all drivers that are remembered."""
        return list(self.call("GET", "/drivers")["drivers"])

    def driver(self, driver_id: str) -> dict[str, Any]:
        """Return one driver. Raises Refused 404."""
        return dict(self.call("GET", f"/drivers/{_quoted(driver_id)}"))

    def kill(self, driver_id: str, give_up: bool = False) -> str:
        """Kill a driver, and return what the leader says."""
        return str(self.call("POST", f"/drivers/{_quoted(driver_id)}/kill", {"give_up": give_up})["message"])

    def workers(self) -> list[dict[str, Any]]:
        """Return all workers."""
        return list(self.call("GET", "/workers")["workers"])

    def applications(self) -> list[dict[str, Any]]:
        """Return all applications that are remembered."""
        return list(self.call("GET", "/applications")["applications"])

    def explain(self, entity: str) -> list[str]:
        """Return sentences: why it is as it is."""
        return [str(sentence) for sentence in self.call("GET", f"/explain/{_quoted(entity)}")["sentences"]]

    def each(self, path: str) -> dict[Address, Answer | str]:
        """Ask every master by itself: what it answered, or why it did not."""
        found: dict[Address, Answer | str] = {}
        for address in self.masters:
            try:
                found[address] = request(address, "GET", PREFIX + path, headers=self.token.header())
            except (OSError, http.client.HTTPException, ValueError) as error:
                found[address] = _why(error)
        return found


def _why(error: Exception) -> str:
    if isinstance(error, http.client.BadStatusLine) and not isinstance(error, http.client.RemoteDisconnected):
        return f"no HTTP: that is not the REST port of a master ({REST_PORT}, where nothing else is set)"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _joined(said: Mapping[Address, str]) -> str:
    return "; ".join(f"{host}:{port}: {text}" for (host, port), text in said.items())


def _refusal(address: Address, status: int, text: str) -> str:
    where = f"{address[0]}:{address[1]}"
    if status in (401, 403):
        return f"{where} refuses ({status}{': ' + text if text else ''}): give a token with --token-file or SPARKD_TOKEN_FILE"
    return text or f"{where} answers HTTP {status}"


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


def new_request_id() -> str:
    """Return an id that no other submission has."""
    import secrets

    return secrets.token_hex(16)


def wait_until_ended(
    client: Client, driver_id: str, told: Callable[[str], None], every_s: float = 0.5, sleep: Callable[[float], None] = time.sleep
) -> dict[str, Any]:
    """Follow a driver to its end through any failover, telling each change of state; return its last row. Raises ClientError."""
    state = ""
    while True:
        row = client.driver(driver_id)
        if row["state"] != state:
            state = str(row["state"])
            told(state)
        if state in ("FINISHED", "FAILED", "KILLED", "ERROR"):
            return row
        sleep(every_s)


def connect(masters: str, environ: Mapping[str, str], token_file: str = "", patience_s: float = PATIENCE_S) -> Client:
    """Return a client of these masters; of SPARKD_MASTERS, of spark.master in spark-defaults.conf, or of this host's when none are given.

    masters: REST addresses, or a master URL (spark://...), whose masters are asked on REST_PORT. Raises ClientError.
    """
    text = masters or environ.get("SPARKD_MASTERS", "")
    try:
        found = addresses(text) if text and not text.startswith("spark://") else ()
        if text.startswith("spark://"):
            found = addresses(",".join(item.strip().rsplit(":", 1)[0] for item in text.removeprefix("spark://").split(",")))
    except ValueError as error:
        raise ClientError(f"{'--masters' if masters else 'SPARKD_MASTERS'}: {error}") from None
    if not found:
        from .config import ConfigError, spark_master

        try:
            found = tuple((host, REST_PORT) for host, _ in spark_master(environ)) or (("127.0.0.1", REST_PORT),)
        except ConfigError as error:
            raise ClientError(str(error)) from None
    path = token_file or environ.get("SPARKD_TOKEN_FILE", "")
    try:
        token = Token.read(Path(path)) if path else Token()
    except FileProblem as error:
        raise ClientError(f"{'--token-file' if token_file else 'SPARKD_TOKEN_FILE'}: {error}") from None
    return Client(found, token, patience_s, _tell)


def _tell(text: str) -> None:
    import sys

    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
