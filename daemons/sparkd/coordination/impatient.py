"""A kazoo client that does not wait for silent servers. All that depends on kazoo's inner parts is in this file, and has its own tests.

As it comes, kazoo (2.10, 2.11) waits the whole session timeout for a TCP connection, a session's third for the handshake, and takes servers
in random order, the silent one again and again. Here: short waits that grow while nobody answers, servers that failed come last, the
negotiated session timeout is known, and a connection can be dropped from outside, so that the same session goes on at another server.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any

from kazoo.client import KazooClient
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.protocol.connection import ConnectionHandler
from kazoo.protocol.serialization import Connect, GetData, MultiHeader, read_buffer, stat_struct
from kazoo.retry import KazooRetry
from kazoo.security import OPEN_ACL_UNSAFE, make_digest_acl

USER = "sparkd"
#: Part of the session that a connection and its handshake may take each, at first; and the least, in s.
FIRST_WAIT_SHARE = 0.125
LEAST_WAIT_S = 0.3

# Never DEBUG: kazoo's debug lines hold whole requests, records and secrets among them.
_log = logging.getLogger("sparkd.kazoo")
_log.setLevel(logging.ERROR)


class MultiRead:
    """Several nodes in one request (ZooDefs.OpCode.multiRead, ZooKeeper 3.6 and later), which kazoo does not have."""

    type = 22
    _HEADER = struct.Struct("!i?i")
    _ERROR = struct.Struct("!i")

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths

    def __repr__(self) -> str:
        """For kazoo's debug lines, which are not printed."""
        return f"MultiRead({len(self.paths)} paths)"

    def serialize(self) -> bytearray:
        """Return the body of the request."""
        body = bytearray()
        for path in self.paths:
            body += MultiHeader(GetData.type, False, -1).serialize() + GetData(path, None).serialize()
        body += MultiHeader(-1, True, -1).serialize()
        return body

    def deserialize(self, raw: Any, offset: int) -> list[bytes | None]:
        """Return the data of each node, None where there is none, or no access."""
        found: list[bytes | None] = []
        while True:
            kind, done, _ = self._HEADER.unpack_from(raw, offset)
            offset += self._HEADER.size
            if done:
                return found
            if kind == GetData.type:
                data, offset = read_buffer(raw, offset)
                offset += stat_struct.size
                found.append(bytes(data or b""))
            else:
                offset += self._ERROR.size
                found.append(None)


class _Handler(SequentialThreadingHandler):  # type: ignore[misc]
    """Threads, and TCP connections with a limit of their own."""

    wait_s = LEAST_WAIT_S

    def create_connection(self, *args: Any, **kwargs: Any) -> Any:
        """Connect within wait_s."""
        kwargs["timeout"] = self.wait_s
        return super().create_connection(*args, **kwargs)

    def select(self, readers: Sequence[Any], writers: Sequence[Any], _: Sequence[Any], timeout: float | None = None) -> Any:
        """Wait as select.select does. kazoo makes an epoll object for this and closes it, for each packet that it reads or writes."""
        asked: dict[int, int] = {}
        by_number: dict[int, Any] = {}
        for files, mask in ((readers, select.POLLIN), (writers, select.POLLOUT)):
            for file in files:
                number = file if isinstance(file, int) else file.fileno()
                if number < 0:
                    raise ValueError(f"Invalid file descriptor: {number}")
                asked[number] = asked.get(number, 0) | mask
                by_number[number] = file
        poller = select.poll()
        for number, mask in asked.items():
            poller.register(number, mask)
        # Errors are shown by reading, or writing.
        ready = poller.poll(None if timeout is None else math.ceil(max(0.0, timeout) * 1000))
        readable = [by_number[number] for number, mask in ready if mask & ~select.POLLOUT and asked[number] & select.POLLIN]
        writable = [by_number[number] for number, mask in ready if mask & ~select.POLLIN and asked[number] & select.POLLOUT]
        return readable, writable, []


class _Connection(ConnectionHandler):  # type: ignore[misc]
    """Takes the servers that failed last, and bounds the handshake."""

    def __init__(self, client: Any, retry: Any, handler: _Handler, session_s: float) -> None:
        super().__init__(client, retry, logger=_log)
        self.threads = handler
        self.session_s = session_s  # as negotiated, once it is
        self.failed: dict[tuple[str, int], float] = {}
        self.peer: tuple[str, int] | None = None
        self.least_wait_s = handler.wait_s

    def _expand_client_hosts(self) -> Any:
        hosts = super()._expand_client_hosts()
        random.shuffle(hosts)
        return sorted(hosts, key=lambda host: self.failed.get((host[1], host[2]), 0.0))

    def _connect(self, host: str, hostip: str, port: int) -> Any:
        self.peer = (hostip, port)
        try:
            answer = super()._connect(host, hostip, port)
        except Exception:
            self.failed[(hostip, port)] = time.monotonic()
            # Nobody may be quick enough: a little more patience with each failure, up to what kazoo itself would have waited.
            self.threads.wait_s = min(self.threads.wait_s * 1.25, max(self.least_wait_s, self.session_s / 2))
            raise
        self.threads.wait_s = self.least_wait_s
        return answer

    def _invoke(self, timeout: float, request: Any, xid: Any = None) -> Any:
        if not isinstance(request, Connect):
            return super()._invoke(timeout, request, xid)
        answer = super()._invoke(self.threads.wait_s, request, xid)
        if answer[0].time_out > 0:
            self.session_s = answer[0].time_out / 1000.0
        return answer

    def drop(self) -> bool:
        """Shut the socket down, from any thread; kazoo then goes on to the next server with the same session. False: there was none."""
        current = self._socket
        if current is None:
            return False
        if self.peer is not None:
            self.failed[self.peer] = time.monotonic()
        with contextlib.suppress(OSError):
            current.shutdown(socket.SHUT_RDWR)
        return True


class Client:
    """One session. The kazoo client is `kazoo`; threads run from `start` to `stop`."""

    def __init__(self, hosts: str, session_s: float, secret: str = "") -> None:
        handler = _Handler()
        handler.wait_s = max(LEAST_WAIT_S, session_s * FIRST_WAIT_SHARE)
        self.acl: list[Any] = [make_digest_acl(USER, secret, all=True)] if secret else list(OPEN_ACL_UNSAFE)
        retry = KazooRetry(max_tries=-1, delay=0.05, backoff=1.5, max_jitter=0.4, max_delay=0.5)
        self.kazoo: Any = KazooClient(
            hosts=hosts,
            timeout=session_s,
            handler=handler,
            auth_data=[("digest", f"{USER}:{secret}")] if secret else None,
            default_acl=self.acl,
            connection_retry=retry,
            command_retry=KazooRetry(max_tries=1),
            logger=_log,
        )
        self.connection = _Connection(self.kazoo, self.kazoo._conn_retry.copy(), handler, session_s)
        self.kazoo._connection = self.connection

    @property
    def session_s(self) -> float:
        """The session timeout in s: as asked for, then as negotiated."""
        return self.connection.session_s

    @property
    def session_id(self) -> int:
        """The session as a signed 64-bit number, 0 for none."""
        return int(self.kazoo._session_id or 0)

    @property
    def server(self) -> str:
        """host:port that it is or was last connected to."""
        peer = self.connection.peer
        return f"{peer[0]}:{peer[1]}" if peer else ""

    def start(self) -> Any:
        """Start connecting and return at once: an event that is set while connected."""
        return self.kazoo.start_async()

    def read_async(self, paths: Sequence[str]) -> Any:
        """Ask for several nodes' data at once."""
        result = self.kazoo.handler.async_result()
        self.kazoo._call(MultiRead(paths), result)
        return result

    def stop(self) -> None:
        """End the session, as far as a server answers, and all threads. Blocks: up to a handshake's wait."""
        self.kazoo.stop()
        self.kazoo.close()
