"""The store on ZooKeeper: what a leader reads and writes. The other half of zookeeper.py, which elects.

Batches: [own latch exists, `<dir>/commit` goes from the version known to the next, records ...]. The first check fences a former leader.
The second puts all transactions in one order: one that was given up for lost and arrives late (kazoo may have queued it) changes nothing.
A batch over TRANSACTION_LIMIT bytes is stored as several transactions, in order: each of them is atomic, the whole is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from ..core.effects import Write
from ..core.values import Epoch
from ..settings import RecoverySettings
from . import aside as asides
from . import layout, records
from .api import Engine, Interrupted, Loaded, Misconfigured, NotLeader, SetAside, StoredRecord, StoreUnavailable
from .bridge import BadVersion, Bridge, BridgeError, Denied, NodeExists, NoNode, NotConnected, Op, OpError, Unanswered
from .store import Known, Put, split
from .waiting import happened

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Bytes of one transaction; the server's jute.maxbuffer is 1 MiB for the whole request.
TRANSACTION_LIMIT = 800_000
#: Bytes that an operation needs beside its data: path, ACL, headers.
OP_OVERHEAD = 400
#: Records read with one request; a renewal waits behind it.
LOAD_WINDOW = 100
#: Requests for records that are on their way beside the one that is worked on.
LOAD_AHEAD = 2
#: A transaction that is lost this often although the connection comes back each time is what the server refuses (jute.maxbuffer).
LOST_LIMIT = 6


class Term:
    """One term of leadership."""

    def __init__(self, epoch: Epoch, commit_version: int) -> None:
        self.epoch = epoch
        self.commit_version = commit_version
        self.suspended = False
        self.over = asyncio.Event()
        self.why = ""
        self.known = Known()
        self.wrote = False  # something was sent since the claim, and may still be under way


class TransactionStore(Engine):
    """Reads and transactions of a term. Who leads, and over which connection, is the subclass's to know."""

    settings: RecoverySettings
    clock: Callable[[], float]
    place: layout.Place
    _latch: str  # path of the own latch
    _term: Term | None
    _connection_changed: asyncio.Event  # set, and replaced, with each change of the connection
    _commits = 0
    _last_commit_ms = 0.0

    @abstractmethod
    def _zk(self) -> Bridge:
        """Return the connection in use."""

    @abstractmethod
    def _renewed(self, latch: str, sent: float) -> None:
        """A quorum write that was sent at `sent` found the latch in its place."""

    @abstractmethod
    def _latch_gone(self, latch: str) -> None:
        """The latch was deleted: the term is over."""

    @abstractmethod
    def _place_gone(self) -> None:
        """A node that `_make` made is missing: make what is missing again."""

    @abstractmethod
    def _wrong_secret(self, detail: str) -> Misconfigured:
        """Return what to tell of an access that ZooKeeper denied."""

    @abstractmethod
    async def _make(self, path: str, open_acl: bool = False) -> None:
        """Make a node unless it is there."""

    async def load(self) -> Loaded:
        """Read all records, in the order in which they were first stored."""
        term = self._leading()
        return await self._patiently(term, lambda: self._load(term))

    async def commit(self, batch: Sequence[Write], request_id: str) -> None:
        """Store a batch."""
        term = self._leading()
        try:
            puts = term.known.encode(batch)
        except (ValueError, TypeError) as error:
            raise StoreUnavailable(f"a record that is not JSON: {error}") from error
        began = self.clock()
        for part, run in enumerate(split(puts, TRANSACTION_LIMIT, OP_OVERHEAD)):
            await self._store(term, run, request_id, part)
        self._commits += 1
        self._last_commit_ms = (self.clock() - began) * 1000

    def _leading(self) -> Term:
        """Return the term that may change things now. Raises NotLeader, Interrupted."""
        if self._term is None:
            raise NotLeader("this master does not lead")
        self._still(self._term)
        return self._term

    def _still(self, term: Term) -> None:
        if term is not self._term:
            raise NotLeader(f"leadership was lost: {term.why}")
        if term.suspended or self.lease_left_s() <= 0:
            raise Interrupted("leadership is suspended: ZooKeeper does not answer")

    async def _until(self, term: Term, work: Awaitable[T]) -> T:
        """Wait for work, but no longer than the term lasts. Raises NotLeader."""
        task: asyncio.Future[T] = asyncio.ensure_future(work)
        over: asyncio.Future[bool] = asyncio.ensure_future(term.over.wait())
        both: set[asyncio.Future[Any]] = {task, over}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        finally:
            over.cancel()
            if not task.done():
                task.cancel()
        raise NotLeader(f"leadership was lost: {term.why}")

    async def _connected(self, term: Term, whatever_the_lease: bool = False) -> None:
        """Wait for a connection. Raises NotLeader, and Interrupted when the lease is over first."""
        while True:
            if whatever_the_lease:
                if term is not self._term:
                    raise NotLeader(f"leadership was lost: {term.why}")
            else:
                self._still(term)
            if self._zk().connected:
                return
            changed = self._connection_changed
            limit = 0.5 if whatever_the_lease else max(0.001, min(0.5, self.lease_left_s()))
            await happened(changed, limit)

    async def _patiently(self, term: Term, read: Callable[[], Awaitable[T]]) -> T:
        """Read, again after a lost connection while the lease lasts. Raises NotLeader, Interrupted, StoreUnavailable."""
        while True:
            await self._connected(term)
            try:
                return await self._until(term, read())
            except (NotConnected, Unanswered):
                await asyncio.sleep(0.02)
            except OpError as error:
                if not isinstance(error.cause, BadVersion | NoNode):
                    raise StoreUnavailable(f"ZooKeeper: {error}") from None
                if error.index == 0:
                    self._latch_gone(self._latch)
            except Denied as error:
                raise StoreUnavailable(str(self._wrong_secret(str(error)))) from None
            except BridgeError as error:
                raise self._failed(error) from None

    def _failed(self, error: BridgeError) -> StoreUnavailable:
        """Return what to raise for an answer that should not be."""
        if isinstance(error.cause if isinstance(error, OpError) else error, NoNode):
            self._place_gone()
            return StoreUnavailable(f"somebody removed a part of {self.place.base} in ZooKeeper; it is made again")
        return StoreUnavailable(f"ZooKeeper: {type(error).__name__} {error}")

    async def _load(self, term: Term) -> Loaded:
        bridge, place = self._zk(), self.place
        if term.wrote:  # a commit that was abandoned must not be carried out after this read: a new version of the commit node ends it
            last, stat = await bridge.get(place.commit)
            request, part, _ = layout.decode_commit(last)
            mark = layout.encode_commit(request, part, term.epoch.number)
            await bridge.transaction([Op("check", self._latch), Op("set", place.commit, mark, stat.version)])
            term.commit_version, term.wrote = stat.version + 1, False
        found: list[records.Decoded] = []
        aside: list[SetAside] = []
        async with contextlib.aclosing(self._raw_records(bridge)) as raws:
            async for kind, name, raw in raws:
                try:
                    found.append(records.decode(raw, kind, name))
                except records.Unreadable as error:
                    aside.append(await self._put_aside(term, kind, name, raw, str(error)))
        names = sorted(await bridge.children(place.set_aside))
        few = [name for name in names if not any(item.where.endswith(f"/{name}") for item in aside)][: asides.READ_LIMIT]
        contents = dict(zip(few, await bridge.read([f"{place.set_aside}/{name}" for name in few]), strict=True))
        aside += asides.found(names, place.set_aside, contents, aside)
        found.sort(key=lambda record: (record.order, record.kind, record.id))
        term.known = Known({(record.kind, record.id): record.order for record in found}, max((record.order for record in found), default=0))
        return Loaded(tuple(StoredRecord(record.kind, record.id, record.record) for record in found), tuple(aside))

    async def _raw_records(self, bridge: Bridge) -> AsyncGenerator[tuple[str, str, bytes]]:
        """Yield kind, name and bytes of all records. While one window is worked on the next one is on its way."""
        place = self.place
        kinds = sorted(await bridge.children(place.records))
        names = await asyncio.gather(*(bridge.children(place.kind(kind)) for kind in kinds))
        windows = [
            (kind, below[first : first + LOAD_WINDOW])
            for kind, below in zip(kinds, names, strict=True)
            for first in range(0, len(below), LOAD_WINDOW)
        ]
        reads: deque[asyncio.Task[list[bytes | None]]] = deque()
        try:
            for number, (kind, window) in enumerate(windows):
                for ahead, few in windows[number + len(reads) : number + 1 + LOAD_AHEAD]:
                    reads.append(asyncio.create_task(bridge.read([f"{place.kind(ahead)}/{name}" for name in few])))
                for name, raw in zip(window, await reads.popleft(), strict=True):
                    if raw is not None:
                        yield kind, name, raw
                await asyncio.sleep(0)  # the loop has other things to do as well
        finally:
            for read in reads:
                read.cancel()
            await asyncio.gather(*reads, return_exceptions=True)

    async def _put_aside(self, term: Term, kind: str, name: str, raw: bytes, why: str) -> SetAside:
        """Move an unreadable record out of the way, or leave it where it is when that cannot be done; it is never deleted."""
        path, latch = f"{self.place.kind(kind)}/{name}", self._latch
        where = f"{self.place.set_aside}/{asides.name(kind, name, term.epoch.number)}"
        if len(raw) + 2 * len(where) + OP_OVERHEAD > TRANSACTION_LIMIT:
            where = path
        else:
            try:
                await self._zk().transaction([Op("check", latch), Op("create", where, raw), Op("delete", path)])
            except OpError as error:
                if error.index == 0:
                    raise Unanswered("the latch is gone") from None
                if not isinstance(error.cause, NodeExists | NoNode):  # else: done, and its answer lost
                    where = path
        log.error("event=record_set_aside kind=%s id=%s where=%s why=%r", kind, records.id_of(name), where, why)
        return SetAside(kind, records.id_of(name), why, where)

    def _ops(self, term: Term, run: Sequence[Put]) -> list[Op]:
        ops = []
        for put in run:
            path = f"{self.place.kind(put.key[0])}/{records.node_name(put.key[1])}"
            exists = put.key in term.known.orders
            if put.raw is not None:
                ops.append(Op("set" if exists else "create", path, put.raw))
            elif exists:
                ops.append(Op("delete", path))
        return ops

    async def _store(self, term: Term, run: Sequence[Put], request_id: str, part: int) -> None:
        """Store a run as one transaction, once and for all."""
        mark = layout.encode_commit(request_id, part, term.epoch.number)
        lost = repaired = 0
        while True:
            await self._connected(term)
            self._still(term)
            latch, sent = self._latch, self.clock()
            term.wrote = True
            ops = [Op("check", latch), Op("set", self.place.commit, mark, term.commit_version), *self._ops(term, run)]
            try:
                await self._until(term, self._zk().transaction(ops))
            except NotConnected:
                continue
            except Unanswered:
                if await self._was_stored(term, mark):
                    break
                lost += 1
                if lost >= LOST_LIMIT:
                    raise StoreUnavailable(
                        f"ZooKeeper drops the connection for a transaction of {sum(len(put.raw or b'') for put in run)} bytes: "
                        "is its jute.maxbuffer below 1 MiB?"
                    ) from None
                continue
            except OpError as error:
                if error.index == 0 and isinstance(error.cause, NoNode):
                    self._latch_gone(latch)
                    raise NotLeader("the latch was deleted") from None
                if isinstance(error.cause, BadVersion) and error.index == 1:
                    # An earlier transaction of ours, given up for lost, was carried out after all.
                    if await self._was_stored(term, mark):
                        break
                    continue
                if isinstance(error.cause, NodeExists | NoNode) and repaired < 3:
                    repaired += 1
                    log.warning("event=store_differs why=%r", str(error))
                    await self._patiently(term, lambda: self._repair(term, run))
                    continue
                if isinstance(error.cause, Denied):
                    raise StoreUnavailable(str(self._wrong_secret(str(error.cause)))) from None
                raise self._failed(error) from None
            except BridgeError as error:
                raise self._failed(error) from None
            term.commit_version += 1
            self._renewed(latch, sent)
            break
        term.known.stored(run)

    async def _was_stored(self, term: Term, mark: bytes) -> bool:
        """Find out whether a transaction without an answer was carried out; waits for ZooKeeper. Raises NotLeader.

        Not stored and retried is safe: the retry has the same expected version of the commit node, so only one of the two can succeed.
        """
        while True:
            await self._connected(term, whatever_the_lease=True)
            try:
                await self._until(term, self._zk().sync(self.place.commit))
                raw, stat = await self._until(term, self._zk().get(self.place.commit))
            except (NotConnected, Unanswered):
                await asyncio.sleep(0.02)
                continue
            except BridgeError as error:
                raise self._failed(error) from None
            term.commit_version = stat.version
            return raw == mark

    async def _repair(self, term: Term, run: Sequence[Put]) -> None:
        """Learn which of a run's records exist, and make parents that are missing."""
        for kind in sorted({put.key[0] for put in run}):
            await self._make(self.place.kind(kind))
        for put in run:
            path = f"{self.place.kind(put.key[0])}/{records.node_name(put.key[1])}"
            if await self._zk().exists(path) is None:
                term.known.orders.pop(put.key, None)
            else:
                term.known.orders.setdefault(put.key, put.order)
