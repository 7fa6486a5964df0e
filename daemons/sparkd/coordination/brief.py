"""Just enough of ZooKeeper's client protocol to look at a node and delete it: for `sparkd.fence`, which runs within a failover.

kazoo does the same, but takes 50 ms to import and start, a quarter of a failover. Source: zookeeper.jute (ConnectRequest, AuthPacket,
ExistsRequest, DeleteRequest, Stat, ReplyHeader), ZooDefs.OpCode, KeeperException.Code.
"""

from __future__ import annotations

import random
import socket
import struct
import time

_HEAD = struct.Struct(">ii")  # xid, operation
_REPLY = struct.Struct(">iqi")  # xid, zxid, error
_CONNECT = struct.Struct(">iqiqi16s?")  # version, last zxid, timeout in ms, session, password, read only
_LENGTH = struct.Struct(">i")
_OWNER = struct.Struct(">qqqqiiiq")  # a Stat up to ephemeralOwner
_EXISTS, _DELETE, _AUTH, _CLOSE = 3, 2, 100, -11
_AUTH_XID = -4
_OK, _NO_NODE = 0, -101
_DENIED = (-102, -115)  # NoAuth, AuthFailed
#: Bytes of an answer: those expected here have less than a hundred.
_ANSWER_LIMIT = 64 * 1024


class Lost(Exception):
    """The server does not answer, or not as it should: another one may."""


class Denied(Exception):
    """The ACL does not allow it."""


class Session:
    """A session with one server. Every step ends at `until` (monotonic, s). Raises Lost."""

    def __init__(self, host: str, port: int, session_s: float, secret: str, user: str, until: float) -> None:
        self._until = until
        self._xid = 0
        try:
            self._socket = socket.create_connection((host, port), timeout=self._left())
        except OSError as error:
            raise Lost(f"{host}:{port}: {error}") from error
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._send(_CONNECT.pack(0, 0, int(session_s * 1000), 0, 16, bytes(16), False))
            answer = self._receive()
            if len(answer) < 16 or struct.unpack_from(">i", answer, 4)[0] <= 0:
                raise Lost(f"{host}:{port} gives no session")
            if secret:
                self._send(_HEAD.pack(_AUTH_XID, _AUTH) + _LENGTH.pack(0) + _text("digest") + _text(f"{user}:{secret}"))
        except Lost:
            self._socket.close()
            raise

    def until(self, moment: float) -> None:
        """Set when the next steps have to be over."""
        self._until = moment

    def owner(self, path: str) -> int | None:
        """Return the session that an ephemeral node belongs to (0: to none), None when there is no such node."""
        error, answer = self._call(_EXISTS, _text(path) + b"\0")
        if error == _NO_NODE:
            return None
        self._check(error)
        if len(answer) < _OWNER.size:
            raise Lost("an answer that is too short")
        return int(_OWNER.unpack_from(answer)[-1])

    def delete(self, path: str) -> bool:
        """Delete a node; False when there is none. Raises Denied."""
        error, _ = self._call(_DELETE, _text(path) + _LENGTH.pack(-1))
        if error == _NO_NODE:
            return False
        self._check(error)
        return True

    def close(self) -> None:
        """End the session without waiting for the answer; never raises."""
        try:
            self._send(_HEAD.pack(self._xid + 1, _CLOSE))
        except Lost:
            pass
        finally:
            self._socket.close()

    def _check(self, error: int) -> None:
        if error in _DENIED:
            raise Denied
        if error != _OK:
            raise Lost(f"ZooKeeper's error {error}")

    def _call(self, operation: int, body: bytes) -> tuple[int, bytes]:
        self._xid += 1
        self._send(_HEAD.pack(self._xid, operation) + body)
        while True:
            answer = self._receive()
            if len(answer) < _REPLY.size:
                raise Lost("an answer that is too short")
            xid, _, error = _REPLY.unpack_from(answer)
            if xid == _AUTH_XID and error != _OK:
                raise Denied
            if xid == self._xid:
                return error, answer[_REPLY.size :]

    def _left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise Lost("no answer in time")
        return left

    def _send(self, body: bytes) -> None:
        try:
            self._socket.settimeout(self._left())
            self._socket.sendall(_LENGTH.pack(len(body)) + body)
        except OSError as error:
            raise Lost(str(error)) from error

    def _receive(self) -> bytes:
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        if not 0 <= length <= _ANSWER_LIMIT:
            raise Lost(f"an answer of {length} bytes")
        return self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            try:
                self._socket.settimeout(self._left())
                more = self._socket.recv(count - len(got))
            except OSError as error:
                raise Lost(str(error)) from error
            if not more:
                raise Lost("closed by the server")
            got += more
        return got


def servers(hosts: str) -> list[tuple[str, int]]:
    """Return the servers of a connect string without chroot, in random order. Raises ValueError."""
    found = []
    for one in hosts.split(","):
        host, colon, port = one.strip().rpartition(":")
        if not colon or port.endswith("]"):
            host, port = one.strip(), "2181"
        found.append((host.strip("[]"), int(port)))
    random.shuffle(found)
    return found


def _text(value: str) -> bytes:
    raw = value.encode()
    return _LENGTH.pack(len(raw)) + raw
