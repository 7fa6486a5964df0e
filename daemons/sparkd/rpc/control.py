"""The control connection between masters and workers: frames, proof of the cluster secret, bounds. The same for both sides.

A frame: byte 0xA5, version byte, uint32 length of the body, the body (JSON, at most 8 MiB) and, after the handshake, 16 bytes of
HMAC-SHA256 over direction, sequence number and body. Spark's own frames begin with 0x00, so one port can serve both.

The handshake, four frames, each at most 4 KiB, within HANDSHAKE_TIMEOUT_S:
  connecting side   hello     {role, name, nonce}
  listening side    challenge {role, nonce}
  connecting side   proof     {mac}       it proves first: who only knocks learns nothing to guess the secret from
  listening side    welcome   {mac}       or denied {why}
Both proofs cover both nonces, both roles and the side that proves, so none can be reflected or replayed.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from ..core.values import Json
from .messages import Message, Unknown, decode, encode

log = logging.getLogger(__name__)

MAGIC = 0xA5
VERSION = 1
BODY_LIMIT = 8 * 1024 * 1024  # bytes; a register of 20,000 processes takes 4 MiB
HANDSHAKE_LIMIT = 4096  # bytes, of a frame before the peer has proven anything
HANDSHAKE_TIMEOUT_S = 5.0
HANDSHAKES_LIMIT = 4096  # peers that have proven nothing yet, at once: all workers of a cluster may come back in one moment
SEND_LIMIT = 16 * 1024 * 1024  # bytes that wait for a peer that does not read; then it is dropped
SILENCE_S = 10  # seconds until the kernel gives up a peer that does not acknowledge
TAG = 16  # bytes of a frame's HMAC

_HEADER = struct.Struct(">BBI")
_SEQUENCE = struct.Struct(">cQ")
_NONCE = 32


class ControlError(Exception):
    """The connection is of no use; it is closed already."""


class ConnectionLost(ControlError):
    """The peer is gone, or closed the connection."""


class ProtocolError(ControlError):
    """The peer sent what no peer may send."""


class WrongSecret(ControlError):
    """The other side has another cluster secret (spark.sparkd.secretFile)."""


class Connection:
    """An authenticated connection. One task may receive; anything on the loop may send."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: bytes, *, listening: bool, peer: str, name: str
    ) -> None:
        """Made by `connect` and `serve` after the handshake."""
        self.peer = peer  #: address, for logs
        self.name = name  #: what the peer calls itself
        self._reader, self._writer, self._key = reader, writer, key
        self._out, self._in = (b"L", b"C") if listening else (b"C", b"L")
        self._sent = self._received = 0

    def send(self, message: Message) -> bool:
        """Queue a message; return False if the connection is gone. A peer that does not read is dropped, it cannot hold the sender."""
        transport = self._writer.transport
        if transport.is_closing():
            return False
        body = _dump(encode(message))
        if len(body) > BODY_LIMIT:
            raise ValueError(f"a message of {len(body)} bytes is over the limit of {BODY_LIMIT}")
        tag = _tag(self._key, self._out, self._sent, body)
        self._sent += 1
        transport.write(b"".join((_HEADER.pack(MAGIC, VERSION, len(body)), body, tag)))
        if transport.get_write_buffer_size() > SEND_LIMIT:
            log.warning("event=slow_peer peer=%s name=%s action=dropped", self.peer, self.name)
            transport.abort()
            return False
        return True

    async def drain(self) -> None:
        """Wait until the peer has taken most of what was sent. Raises ConnectionLost."""
        try:
            await self._writer.drain()
        except OSError as error:
            raise ConnectionLost(str(error)) from error

    async def receive(self) -> Message:
        """Return the next message; messages of a newer version are skipped. Raises ConnectionLost, ProtocolError."""
        while True:
            try:
                body = await _read_frame(self._reader, BODY_LIMIT)
                tag = await self._reader.readexactly(TAG)
            except (asyncio.IncompleteReadError, OSError) as error:
                raise ConnectionLost("closed by the other side") from error
            if not hmac.compare_digest(tag, _tag(self._key, self._in, self._received, body)):
                raise ProtocolError("a frame's HMAC is wrong")
            self._received += 1
            try:
                message = decode(_parse(body))
            except ValueError as error:  # CodecError among them
                raise ProtocolError(str(error)) from error
            if not isinstance(message, Unknown):
                return message
            log.info("event=unknown_message peer=%s name=%s t=%r action=skipped", self.peer, self.name, message.t)

    @property
    def closing(self) -> bool:
        """It is closed, or about to be."""
        return self._writer.transport.is_closing()

    def close(self) -> None:
        """Close it; what is queued still goes out."""
        self._writer.close()

    def abort(self) -> None:
        """Close it at once; what is queued is lost."""
        self._writer.transport.abort()


Handler = Callable[[Connection], Awaitable[None]]
RawHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]


@dataclass(slots=True)
class Counts:
    """What a listening side has seen since it started."""

    accepted: int = 0
    wrong_secret: int = 0
    malformed: int = 0
    too_many: int = 0

    @property
    def rejected(self) -> int:
        """All that was turned away."""
        return self.wrong_secret + self.malformed + self.too_many


class ControlServer:
    """A listening socket and its connections."""

    def __init__(self, secret: bytes, role: str, handler: Handler, others: Mapping[int, RawHandler], handshake_timeout_s: float) -> None:
        """Made by `serve`."""
        if not secret:
            raise ValueError("an empty cluster secret would let everybody in")
        self.counts = Counts()
        self.port = 0
        self._secret, self._role, self._handler, self._others, self._timeout_s = secret, role, handler, others, handshake_timeout_s
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._knocking = 0

    async def listen(self, host: str, port: int) -> None:
        """Bind. Raises OSError."""
        self._server = await asyncio.start_server(self._accept, host, port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 for the type checker: start_server makes a task of this
        self._tasks.add(task)
        try:
            await self._serve_one(reader, writer)
        except asyncio.CancelledError:
            pass  # closing: asyncio would log it as an error otherwise
        except ConnectionLost:
            pass
        except ControlError as error:
            log.warning("event=connection_dropped peer=%s why=%s", _address(writer), error)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._knocking >= HANDSHAKES_LIMIT:
            self.counts.too_many += 1
            return
        self._knocking += 1
        knocking, peer = True, _address(writer)
        try:
            async with asyncio.timeout(self._timeout_s):
                first = await reader.readexactly(1)
                other = self._others.get(first[0])
                connection = None if other else await _challenge(reader, writer, self._secret, self._role, first, peer)
            self._knocking -= 1
            knocking = False
        except (asyncio.IncompleteReadError, OSError, TimeoutError) as error:
            self.counts.malformed += 1
            why = "said nothing in time" if isinstance(error, TimeoutError) else "left during the handshake"
            log.info("event=connection_rejected peer=%s why=%s", peer, why)
            return
        except WrongSecret:
            self.counts.wrong_secret += 1
            log.error("event=connection_rejected peer=%s why=it has another cluster secret (spark.sparkd.secretFile)", peer)
            return
        except ControlError as error:
            self.counts.malformed += 1
            log.warning("event=connection_rejected peer=%s why=%s", peer, error)
            return
        finally:
            self._knocking -= knocking
        if other is not None:
            await other(reader, writer, first)
        elif connection is not None:
            self.counts.accepted += 1
            try:
                await self._handler(connection)
            except ProtocolError:
                self.counts.malformed += 1
                raise

    def stop_listening(self) -> None:
        """Take no more connections; those that are open stay."""
        if self._server is not None:
            self._server.close()

    async def close(self) -> None:
        """Close the socket and all connections."""
        self.stop_listening()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)


async def serve(
    host: str,
    port: int,
    secret: bytes,
    handler: Handler,
    *,
    role: str = "master",
    others: Mapping[int, RawHandler] | None = None,
    handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S,
) -> ControlServer:
    """Listen. `handler` has each connection until it returns; it may let ControlError out. Raises OSError.

    others: who takes a connection whose first byte (a key here) is not ours; without one it is closed.
    """
    server = ControlServer(secret, role, handler, others or {}, handshake_timeout_s)
    await server.listen(host, port)
    return server


async def connect(
    host: str, port: int, secret: bytes, *, name: str = "", role: str = "worker", timeout_s: float = HANDSHAKE_TIMEOUT_S
) -> Connection:
    """Connect and prove the secret, all within timeout_s. Raises ConnectionLost, ProtocolError, WrongSecret."""
    if not secret:
        raise ValueError("an empty cluster secret proves nothing")
    peer = f"{host}:{port}"
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port)
            connection = await _prove(reader, writer, secret, role, name, peer)
            writer = None  # the connection's from here on
            return connection
    except TimeoutError as error:
        raise ConnectionLost(f"{peer} did not answer within {timeout_s:g} s") from error
    except (asyncio.IncompleteReadError, OSError) as error:
        raise ConnectionLost(f"{peer}: {error.strerror or error if isinstance(error, OSError) else 'closed the connection'}") from error
    finally:
        if writer is not None:
            writer.transport.abort()


async def _challenge(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: bytes, role: str, first: bytes, peer: str
) -> Connection:
    """The listening side of the handshake."""
    if first[0] != MAGIC:
        spark = ": Spark's own protocol is not spoken here" if first[0] == 0 else ""
        raise ProtocolError(f"first byte 0x{first[0]:02x}{spark}")
    hello = _expect(_parse(await _read_frame(reader, HANDSHAKE_LIMIT, first)), "hello")
    theirs, nonce = _nonce(hello), secrets.token_bytes(_NONCE)
    session = _Session(secret, client=_text(hello, "role"), server=role, client_nonce=theirs, server_nonce=nonce)
    _write(writer, {"t": "challenge", "role": role, "nonce": nonce.hex()})
    proof = _expect(_parse(await _read_frame(reader, HANDSHAKE_LIMIT)), "proof")
    if not hmac.compare_digest(_text(proof, "mac").encode(), session.proof(b"C").encode()):
        _write(writer, {"t": "denied", "why": "another cluster secret"})
        raise WrongSecret("another cluster secret")
    _write(writer, {"t": "welcome", "mac": session.proof(b"L")})
    _watch_silence(writer)
    return Connection(reader, writer, session.key(), listening=True, peer=peer, name=_text(hello, "name")[:200])


async def _prove(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: bytes, role: str, name: str, peer: str) -> Connection:
    """The connecting side of the handshake."""
    nonce = secrets.token_bytes(_NONCE)
    _write(writer, {"t": "hello", "role": role, "name": name, "nonce": nonce.hex()})
    challenge = _expect(_parse(await _read_frame(reader, HANDSHAKE_LIMIT)), "challenge")
    server = _text(challenge, "role")
    session = _Session(secret, client=role, server=server, client_nonce=nonce, server_nonce=_nonce(challenge))
    _write(writer, {"t": "proof", "mac": session.proof(b"C")})
    answer = _parse(await _read_frame(reader, HANDSHAKE_LIMIT))
    if isinstance(answer, dict) and answer.get("t") == "denied":
        raise WrongSecret(f"{peer} has another cluster secret (spark.sparkd.secretFile)")
    if not hmac.compare_digest(_text(_expect(answer, "welcome"), "mac").encode(), session.proof(b"L").encode()):
        raise WrongSecret(f"{peer} could not prove the cluster secret (spark.sparkd.secretFile)")
    _watch_silence(writer)
    return Connection(reader, writer, session.key(), listening=False, peer=peer, name=server)


class _Session:
    """Proofs and the key of one handshake."""

    def __init__(self, secret: bytes, *, client: str, server: str, client_nonce: bytes, server_nonce: bytes) -> None:
        parts = (b"sparkd control 1", client.encode(), server.encode(), client_nonce, server_nonce)
        self._secret = secret
        self._transcript = b"".join(struct.pack(">I", len(part)) + part for part in parts)

    def proof(self, side: bytes) -> str:
        """What the side C (connecting) or L (listening) has to show."""
        return hmac.digest(self._secret, b"proof " + side + self._transcript, hashlib.sha256).hex()

    def key(self) -> bytes:
        """Key of the frames' HMACs."""
        return hmac.digest(self._secret, b"frames " + self._transcript, hashlib.sha256)


def _tag(key: bytes, direction: bytes, sequence: int, body: bytes) -> bytes:
    return hmac.digest(key, _SEQUENCE.pack(direction, sequence) + body, "sha256")[:TAG]


async def _read_frame(reader: asyncio.StreamReader, limit: int, first: bytes = b"") -> bytes:
    """Return the body of the next frame. first: bytes of it that were read already. Raises ProtocolError, IncompleteReadError, OSError."""
    magic, version, length = _HEADER.unpack(first + await reader.readexactly(_HEADER.size - len(first)))
    if magic != MAGIC:
        raise ProtocolError(f"a frame begins with 0x{magic:02x}")
    if version != VERSION:
        raise ProtocolError(f"version {version} of the control protocol; this side speaks {VERSION}")
    if length > limit:
        raise ProtocolError(f"a frame of {length} bytes, over the limit of {limit}")
    return await reader.readexactly(length)


def _write(writer: asyncio.StreamWriter, body: Json) -> None:
    raw = _dump(body)
    writer.write(_HEADER.pack(MAGIC, VERSION, len(raw)) + raw)


def _dump(body: Json) -> bytes:
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()


def _parse(raw: bytes) -> Json:
    """Return the JSON. Raises ProtocolError."""
    try:
        return json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("not JSON") from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _expect(body: Json, kind: str) -> dict[str, Json]:
    if not isinstance(body, dict) or body.get("t") != kind:
        raise ProtocolError(f"no {kind}")
    return body


def _text(body: dict[str, Json], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise ProtocolError(f"no {name}")
    return value


def _nonce(body: dict[str, Json]) -> bytes:
    try:
        nonce = bytes.fromhex(_text(body, "nonce"))
    except ValueError:
        raise ProtocolError("a nonce that is not hexadecimal") from None
    if len(nonce) != _NONCE:
        raise ProtocolError(f"a nonce of {len(nonce)} bytes")
    return nonce


def _address(writer: asyncio.StreamWriter) -> str:
    name = writer.get_extra_info("peername")
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "unknown"


def _watch_silence(writer: asyncio.StreamWriter) -> None:
    """Let the kernel find out that a peer's host is gone: no timers of our own, however many peers there are."""
    sock = writer.get_extra_info("socket")
    if sock is None:
        return
    for level, option, value in (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE_S // 2),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_S * 1000),
    ):
        sock.setsockopt(level, option, value)
