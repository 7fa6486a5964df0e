"""kazoo for asyncio, typed: awaitable calls, errors of our own, state changes on the event loop.

A call is refused while not connected: kazoo would queue it and send it after reconnection, when nobody wants it any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from kazoo import exceptions
from kazoo.security import OPEN_ACL_UNSAFE

from .impatient import Client
from .waiting import happened

log = logging.getLogger(__name__)


class BridgeError(Exception):
    """Base of what a call may raise."""


class NotConnected(BridgeError):
    """Nothing was sent."""


class Unanswered(BridgeError):
    """It was sent and may have been carried out, or may be yet."""


class Denied(BridgeError):
    """The ACL of a node does not allow it."""


class NoNode(BridgeError):
    """There is no such node."""


class NodeExists(BridgeError):
    """There is one already."""


class BadVersion(BridgeError):
    """It was changed meanwhile."""


class Failed(BridgeError):
    """Any other answer of the server; the text is its."""


_ERRORS: tuple[tuple[type[BaseException], type[BridgeError]], ...] = (
    (exceptions.NoNodeError, NoNode),
    (exceptions.NodeExistsError, NodeExists),
    (exceptions.BadVersionError, BadVersion),
    (exceptions.NoAuthError, Denied),
    (exceptions.InvalidACLError, Denied),
    (exceptions.AuthFailedError, Denied),
    (exceptions.ConnectionLoss, Unanswered),
    (exceptions.ConnectionClosedError, Unanswered),
    (exceptions.SessionExpiredError, Unanswered),
    (exceptions.SessionMovedError, Unanswered),
    (exceptions.OperationTimeoutError, Unanswered),
)


def translate(error: BaseException) -> BridgeError:
    """Return our error for one of kazoo's."""
    for theirs, ours in _ERRORS:
        if isinstance(error, theirs):
            return ours(str(error) or type(error).__name__)
    return Failed(f"{type(error).__name__}: {error}")


@dataclass(frozen=True, slots=True)
class Stat:
    """The part of a node's stat that counts here."""

    czxid: int
    version: int
    owner: int
    children: int


@dataclass(frozen=True, slots=True)
class Op:
    """One operation of a transaction. check: it exists. set: at this version, -1 for any."""

    what: str  # check, create, set or delete
    path: str
    data: bytes = b""
    version: int = -1


class OpError(BridgeError):
    """A transaction was refused as a whole, by the operation at `index` for `cause`."""

    def __init__(self, index: int, cause: BridgeError) -> None:
        super().__init__(f"operation {index}: {type(cause).__name__} {cause}")
        self.index = index
        self.cause = cause


class Bridge:
    """One session with the ensemble."""

    def __init__(self, hosts: str, session_s: float, secret: str, changed: Callable[[str], None]) -> None:
        """changed: called on the loop with CONNECTED, SUSPENDED or LOST."""
        self.client = Client(hosts, session_s, secret)
        self.changed = changed
        self.connected = False
        self.session = 0
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._started = False
        self._reads_many = True

    @property
    def session_s(self) -> float:
        """Session timeout in s, negotiated once connected."""
        return self.client.session_s

    def start(self) -> None:
        """Begin to connect."""
        self.client.kazoo.add_listener(self._listen)
        self.client.start()
        # Its thread clears this too, but perhaps later than somebody asks.
        self.client.connection.connection_stopped.clear()
        self._started = True

    def _to_loop(self, function: Callable[..., None], *arguments: object) -> None:
        """Hand over from kazoo's threads; the loop may be closed already."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _listen(self, state: str) -> None:
        self._to_loop(self._changed, str(state), self.client.session_id)

    def _changed(self, state: str, session: int) -> None:
        if self._closed:
            return
        self.connected = state == "CONNECTED"
        if self.connected:
            self.session = session
        self.changed(state)

    @property
    def dead(self) -> bool:
        """The connection's thread has ended (an error in it): this session is lost, a new bridge is needed."""
        return not self._closed and self._started and bool(self.client.connection.connection_stopped.is_set())

    def drop(self, why: str) -> None:
        """Leave this server for another one, with the same session."""
        if self.client.connection.drop():
            log.warning("event=server_dropped server=%s why=%r", self.client.server, why)

    def watcher(self, wake: Callable[[], None]) -> Callable[[object], None]:
        """Return a watch function for kazoo that wakes somebody on the loop."""
        return lambda _event: self._to_loop(wake)

    async def call(self, name: str, *arguments: Any, timeout_s: float | None = None, **named: Any) -> Any:
        """Call an *_async method of kazoo and wait for its answer. Raises BridgeError.

        A server that does not answer within timeout_s (half a session when not given) is left.
        """
        if not self.connected or self._closed:
            raise NotConnected("not connected to ZooKeeper")
        future: asyncio.Future[Any] = self._loop.create_future()
        try:
            getattr(self.client.kazoo, f"{name}_async")(*arguments, **named).rawlink(partial(self._answered, future))
        except AttributeError as error:  # kazoo closed its wake-up socket just now
            raise NotConnected(str(error)) from None
        return await self._wait(future, name, timeout_s)

    def _answered(self, future: asyncio.Future[Any], result: Any) -> None:
        """Runs on kazoo's thread."""
        error = result.exception
        self._to_loop(_settle, future, None if error else result.value, error)

    async def _wait(self, future: asyncio.Future[Any], name: str, timeout_s: float | None) -> Any:
        limit = self.session_s / 2 if timeout_s is None else timeout_s
        future.add_done_callback(_seen)
        done, _ = await asyncio.wait([future], timeout=limit)
        if not done:
            future.cancel()
            self.drop(f"no answer to {name} within {limit:.2f} s")
            raise Unanswered(f"no answer to {name} within {limit:.2f} s")
        error = future.exception()
        if error is not None:
            raise translate(error)
        return future.result()

    async def exists(self, path: str) -> Stat | None:
        """Return a node's stat."""
        stat = await self.call("exists", path)
        return None if stat is None else _stat(stat)

    async def get(self, path: str) -> tuple[bytes, Stat]:
        """Return a node's data and stat. Raises NoNode."""
        data, stat = await self.call("get", path)
        return bytes(data or b""), _stat(stat)

    async def read(self, paths: Sequence[str]) -> list[bytes | None]:
        """Return the data of several nodes, None where there is none; in one request where the server can do that. Raises Denied."""
        if not self.connected or self._closed:
            raise NotConnected("not connected to ZooKeeper")
        if self._reads_many:
            future: asyncio.Future[Any] = self._loop.create_future()
            try:
                self.client.read_async(paths).rawlink(partial(self._answered, future))
            except AttributeError as error:
                raise NotConnected(str(error)) from None
            try:
                found: list[bytes | None] = list(await self._wait(future, "multiRead", None))
            except Failed as error:  # UnimplementedError: ZooKeeper 3.5 and before
                log.info("event=no_multi_read why=%r", str(error))
                self._reads_many = False
            else:  # nothing: not there, or denied
                return [await self._data(path) if raw is None else raw for path, raw in zip(paths, found, strict=True)]
        return list(await asyncio.gather(*(self._data(path) for path in paths)))

    async def _data(self, path: str) -> bytes | None:
        try:
            return (await self.get(path))[0]
        except NoNode:
            return None

    async def children(self, path: str, watch: Callable[[], None] | None = None) -> list[str]:
        """Return the names below a node, in no order. watch: called once when they change, or the connection does. Raises NoNode."""
        return list(await self.call("get_children", path, watch=self.watcher(watch) if watch else None))

    async def create(self, path: str, data: bytes = b"", *, ephemeral: bool = False, sequence: bool = False, open_acl: bool = False) -> str:
        """Create a node and return its path. Raises NoNode, NodeExists."""
        acl = list(OPEN_ACL_UNSAFE) if open_acl else self.client.acl
        return str(await self.call("create", path, data, acl=acl, ephemeral=ephemeral, sequence=sequence))

    async def set(self, path: str, data: bytes, version: int = -1, timeout_s: float | None = None) -> Stat:
        """Replace a node's data. Raises NoNode, BadVersion."""
        return _stat(await self.call("set", path, data, version=version, timeout_s=timeout_s))

    async def delete(self, path: str, version: int = -1, timeout_s: float | None = None) -> None:
        """Remove a node. Raises NoNode, BadVersion."""
        await self.call("delete", path, version=version, timeout_s=timeout_s)

    async def is_ours(self, path: str) -> bool:
        """Tell whether a node has the ACL that this bridge gives. Raises NoNode."""
        acls, _ = await self.call("get_acls", path)
        return {(acl.perms, acl.id.scheme, acl.id.id) for acl in acls} == {(acl.perms, acl.id.scheme, acl.id.id) for acl in self.client.acl}

    async def make_ours(self, path: str) -> None:
        """Give a node that ACL. Raises NoNode."""
        await self.call("set_acls", path, self.client.acl)

    async def sync(self, path: str) -> None:
        """Make this server catch up with its leader."""
        await self.call("sync", path)

    async def transaction(self, ops: Sequence[Op], timeout_s: float | None = None) -> None:
        """Carry out all or nothing. Raises OpError, NotConnected, Unanswered."""
        if not self.connected or self._closed:
            raise NotConnected("not connected to ZooKeeper")
        request = self.client.kazoo.transaction()
        for op in ops:
            match op.what:
                case "check":
                    request.check(op.path, op.version)
                case "create":
                    request.create(op.path, op.data, acl=self.client.acl)
                case "set":
                    request.set_data(op.path, op.data, version=op.version)
                case _:
                    request.delete(op.path, version=op.version)
        future: asyncio.Future[Any] = self._loop.create_future()
        try:
            request.commit_async().rawlink(partial(self._answered, future))
        except AttributeError as error:
            raise NotConnected(str(error)) from None
        results = await self._wait(future, "transaction", timeout_s)
        refused = [(index, result) for index, result in enumerate(results) if isinstance(result, Exception)]
        if not refused:
            return
        # All others say RolledBackError (before the culprit) or RuntimeInconsistency (after it).
        for index, result in refused:
            if not isinstance(result, exceptions.RolledBackError | exceptions.RuntimeInconsistency):
                raise OpError(index, translate(result))
        raise OpError(refused[0][0], translate(refused[0][1]))

    async def close(self, timeout_s: float) -> bool:
        """End the session and the threads; False when that takes longer, and is left to them (they are daemons)."""
        self._closed = True
        self.connected = False
        done = asyncio.Event()

        def stop() -> None:
            with contextlib.suppress(Exception):
                self.client.stop()
            self._to_loop(done.set)

        threading.Thread(target=stop, name="sparkd-kazoo-stop", daemon=True).start()
        if await happened(done, timeout_s):
            return True
        self.client.connection.drop()
        return False


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


def _seen(future: asyncio.Future[Any]) -> None:
    """An error that comes after its caller was cancelled is nobody's."""
    if not future.cancelled():
        future.exception()


def _stat(stat: Any) -> Stat:
    return Stat(int(stat.czxid), int(stat.version), int(stat.ephemeralOwner), int(stat.numChildren))
