"""recoveryMode FILESYSTEM: election by a lock, epochs from a counter, records in a directory that the masters share.

    lock       held by the leader (files.Lock)
    cluster    cluster id and floor
    epoch      the last epoch's number, raised under the lock
    leader     who leads, rewritten every second: so that standbys can name it
    records/<kind>/<id>, journal-<epoch>-<n>, set-aside/   see directory.py

Several masters need one directory that they really share, with locks that hold (a local directory on one host; NFSv4). A leader that finds
the counter raised by another one although it holds the lock says so and ends, as does a master that gets the lock while another host goes
on leading. Two hosts with a directory each cannot know of one another: nothing can detect that.

The lease is renewed by finding lock and counter as they were; a file system that hangs suspends its leader, as does a pause of its process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ..core.effects import Write
from ..core.values import Epoch
from ..settings import RecoverySettings
from . import files, latchrecord, lease
from .api import Engine, Interrupted, Listener, Loaded, MasterAddress, Misconfigured, NotLeader, StoreUnavailable
from .boottime import boot_s
from .counter import Counter
from .directory import RecoveryDirectory
from .waiting import happened

log = logging.getLogger(__name__)
T = TypeVar("T")
POLL_S = 0.1
BEAT_S = 1.0
#: As a session would be: three quarters of it are the lease.
SESSION_S = 4.0
#: A leader file that is younger than this may be a living leader's. In s.
FRESH_S = 10.0
QUIET_S = 5.0
LEADER_LIMIT = 16 * 1024


class FilesystemEngine(Engine):
    """See the module. Whatever touches the disk runs on one thread of its own, in order."""

    def __init__(self, settings: RecoverySettings, clock: Callable[[], float] = boot_s) -> None:
        if settings.directory is None or not settings.directory.is_absolute():
            raise Misconfigured(
                f"spark.deploy.recoveryDirectory={str(settings.directory or '')!r}: recoveryMode FILESYSTEM needs an absolute path"
            )
        self.path: Path = settings.directory
        self.clock = clock
        self.counter = Counter(self.path, "spark.deploy.recoveryDirectory")
        self._me = MasterAddress("", 0)
        self._listener: Listener | None = None
        self._worker: files.Worker | None = None
        self._task: asyncio.Task[None] | None = None
        self._epoch: Epoch | None = None
        self._suspended = False
        self._over = asyncio.Event()
        self._why = ""
        self._store: RecoveryDirectory | None = None
        self._ending: RecoveryDirectory | None = None  # the last term's, still to be closed
        self._lease = lease.NO_LEASE
        self._writing: threading.Thread | None = None
        self._written = False
        self._leader: MasterAddress | None = None
        self._stopped = asyncio.Event()
        self._saw_lock_held = False
        self._checked = False
        self._elections = self._commits = self._beats = 0
        self._last_commit_ms = 0.0
        self._last_commit_at = 0.0
        self._said = ""
        self._boot = latchrecord.boot_id()

    # --- the interface ------------------------------------------------------------------------------------------------

    async def start(self, me: MasterAddress, listener: Listener) -> None:
        """Join the election. Raises Misconfigured."""
        self._me, self._listener = me, listener
        self._worker = files.Worker("sparkd-recovery-directory")
        self._task = asyncio.create_task(self._run())

    def lease_left_s(self) -> float:
        """Seconds that this master may call itself leader."""
        return self._lease.left(self.clock()) if self._epoch is not None else 0.0

    async def load(self) -> Loaded:
        """Read everything."""
        epoch = self._leading()
        store = self._new_store(epoch)
        before, self._store = self._store, None
        if before is not None:
            before.stopping.set()
            self._ending = before

        def load() -> Loaded:
            self._end_store()
            return store.load()

        try:
            loaded = await self._run_there(load)
        except OSError as error:
            raise StoreUnavailable(f"{self.path}: {error.strerror}: {error.filename}") from None
        self._still(epoch)
        self._store = store
        return loaded

    async def commit(self, batch: Sequence[Write], request_id: str) -> None:
        """Store a batch: one append to the journal."""
        epoch, store = self._leading(), self._store
        if store is None:
            store = self._store = self._new_store(epoch)
        try:
            puts = store.known.encode(batch)
        except (ValueError, TypeError) as error:
            raise StoreUnavailable(f"a record that is not JSON: {error}") from error
        began = self.clock()

        def append() -> bool:
            if not self.counter.still(epoch):
                return False
            store.append(puts, request_id)
            return self.counter.still(epoch)

        try:
            stored = await self._run_there(append)
        except OSError as error:
            raise StoreUnavailable(f"{self.path} does not take the write: {error.strerror}") from None
        if not stored:
            self._lost_lock(epoch)
        if self._epoch is not epoch:
            raise NotLeader(f"leadership was lost: {self._why}")
        self._renewed(began)
        self._commits += 1
        self._last_commit_at = self.clock()
        self._last_commit_ms = (self._last_commit_at - began) * 1000

    async def step_down(self) -> None:
        """Hand over."""
        self._stopped.set()
        epoch = self._epoch
        self._depose("stepping down")
        if self._worker is not None:
            jobs = [asyncio.ensure_future(self._worker.run(lambda: self._let_go(epoch)))]
            if self._task is not None:
                jobs.append(asyncio.ensure_future(self._task))
            await asyncio.wait(jobs, timeout=1.5)

    async def close(self) -> None:
        """Let the lock go."""
        await self.step_down()
        if self._task is not None:
            self._task.cancel()
        if self._worker is not None:
            self._worker.end()
            self._worker = None

    def masters(self) -> tuple[MasterAddress, ...]:
        """The leader, and this one."""
        leader = (self._leader,) if self._leader is not None else ()
        return leader if self._leader == self._me else (*leader, self._me)

    def describe(self) -> dict[str, object]:
        """State for people."""
        return {
            "engine": "FILESYSTEM",
            "connected": not self._said,
            "latch": str(self.counter.lock.path) if self._epoch else "",
            "session": "",
            "masters": [master.url for master in self.masters()],
            "cluster_id": self._epoch.cluster_id if self._epoch else "",
            "epoch": self._epoch.number if self._epoch else 0,
            "suspended": self._suspended,
            "lease_left_s": round(self.lease_left_s(), 3),
            "elections": self._elections,
            "commits": self._commits,
            "last_commit_ms": round(self._last_commit_ms, 3),
        }

    # --- leadership ---------------------------------------------------------------------------------------------------

    def _tell(self) -> Listener:
        if self._listener is None:
            raise RuntimeError("not started")
        return self._listener

    def _leading(self) -> Epoch:
        if self._epoch is None:
            raise NotLeader("this master does not lead")
        self._still(self._epoch)
        return self._epoch

    def _still(self, epoch: Epoch) -> None:
        if self._epoch is not epoch:
            raise NotLeader(f"leadership was lost: {self._why}")
        if self._suspended or self.lease_left_s() <= 0:
            raise Interrupted(f"leadership is suspended: {self.path} does not answer")

    async def _run_there(self, function: Callable[[], T]) -> T:
        """Run on the disk's thread; a term that ends meanwhile ends the waiting. Raises NotLeader, OSError."""
        if self._worker is None:
            raise NotLeader("closed")
        job: asyncio.Future[T] = asyncio.ensure_future(self._worker.run(function))
        over = asyncio.ensure_future(self._over.wait())
        both: set[asyncio.Future[Any]] = {job, over}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
        if job.done():
            return job.result()
        job.cancel()
        raise NotLeader(f"leadership was lost: {self._why}")

    def _new_store(self, epoch: Epoch) -> RecoveryDirectory:
        return RecoveryDirectory(self.path, epoch.number, partial(self.counter.still, epoch))

    def _depose(self, why: str) -> None:
        self._lease = lease.NO_LEASE
        store, self._store = self._store, None
        if store is not None:
            store.stopping.set()
            self._ending = store
        epoch, self._epoch = self._epoch, None
        self._suspended = False
        if epoch is None:
            return
        self._why = why
        self._over.set()
        log.warning("event=deposed epoch=%d why=%r", epoch.number, why)
        self._tell().on_deposed(why)

    def _lost_lock(self, epoch: Epoch) -> None:
        """The counter was raised, or the lock's file replaced, under a leader that holds the lock."""
        if self._epoch is not epoch:
            return
        error = Misconfigured(
            f"another master leads on {self.path} although this one holds its lock, or somebody removed the lock: locks do not hold there. "
            "spark.deploy.recoveryDirectory must be one directory for all masters, on a file system with working locks (local, NFSv4)"
        )
        self._depose(str(error))
        self._misconfigured(error)

    def _misconfigured(self, error: Misconfigured) -> None:
        self._stopped.set()
        log.error("event=misconfigured why=%r", str(error))
        self._tell().on_misconfigured(error)

    def _renewed(self, sent: float) -> None:
        self._suspend_when_due()
        self._lease = self._lease.renewed(sent, SESSION_S)
        if self._suspended and self.lease_left_s() > 0:
            self._suspended = False
            log.warning("event=resumed epoch=%d", self._epoch.number if self._epoch else 0)
            self._tell().on_resumed()

    def _let_go(self, epoch: Epoch | None) -> None:
        """On the disk's thread: let the files be, take the name off, release the lock."""
        self._end_store()
        if epoch is not None:
            with_us = read_leader(self.path)
            if with_us is not None and with_us[1] == self._identity():
                (self.path / "leader").unlink(missing_ok=True)
        self.counter.lock.release()

    def _end_store(self) -> None:
        """On the disk's thread: end the last store, if there is one. Not one file may change after this."""
        store, self._ending = self._ending, None
        if self._writing is not None:
            self._writing.join()
            self._writing = None
        if store is not None:
            store.end()

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        worker = self._worker
        if worker is None:
            return
        looked = float("-inf")
        while not self._stopped.is_set():
            epoch = self._epoch
            sent = self.clock()
            try:
                if epoch is None:
                    elected = await worker.run(self._try)
                    if elected is not None and not self._stopped.is_set():
                        self._lead(elected, sent)
                    elif self.clock() - looked >= 0.5 and not self._stopped.is_set():
                        looked = self.clock()
                        found = await worker.run(lambda: read_leader(self.path))
                        self._led_by(found[0] if found else None)
                else:
                    job = asyncio.ensure_future(worker.run(partial(self._beat, epoch)))
                    while not job.done() and self._epoch is epoch:
                        await asyncio.wait([job], timeout=max(0.01, min(0.25, self.lease_left_s())))
                        self._suspend_when_due()
                    if self._epoch is epoch and not job.result():
                        self._lost_lock(epoch)
                    elif self._epoch is epoch:
                        self._renewed(sent)
                self._said = ""
            except Misconfigured as error:
                self._depose(str(error))
                self._misconfigured(error)
                return
            except OSError as error:
                why = f"{error.strerror}: {error.filename or self.path}"
                if why != self._said:
                    self._said = why
                    log.warning("event=waiting_for_directory why=%r", why)
                self._suspend_when_due()
            await happened(self._stopped, POLL_S if self._epoch is None else BEAT_S * 0.5)
            self._suspend_when_due()

    def _suspend_when_due(self) -> None:
        if self._epoch is not None and not self._suspended and self.lease_left_s() <= 0:
            self._suspended = True
            why = f"{self.path} did not answer within the lease"
            log.warning("event=suspended epoch=%d why=%r", self._epoch.number, why)
            self._tell().on_suspended(why)

    def _lead(self, epoch: Epoch, sent: float) -> None:
        self._over = asyncio.Event()
        self._epoch = epoch
        self._lease = lease.NO_LEASE.renewed(sent, SESSION_S)
        self._elections += 1
        log.info("event=elected epoch=%d cluster=%s", epoch.number, epoch.cluster_id)
        self._tell().on_elected(epoch)
        self._led_by(self._me)

    def _led_by(self, leader: MasterAddress | None) -> None:
        if leader != self._leader:
            self._leader = leader
            log.info("event=leader url=%s", leader.url if leader else "")
            self._tell().on_leader(leader)

    # --- on the disk's thread -----------------------------------------------------------------------------------------

    def _identity(self) -> str:
        return f"{self._boot} {os.getpid()} {id(self)}"

    def _try(self) -> Epoch | None:
        """Try to get the lock and raise the counter. Raises Misconfigured, OSError."""
        self.counter.prepare()
        if not self.counter.lock.acquire():
            self._saw_lock_held = True
            return None
        try:
            if not self._saw_lock_held and not self._checked:
                self._look_for_another()
            self._checked = True
            epoch = self.counter.raise_it()
            self._write_leader()
        except BaseException:
            self.counter.lock.release()
            raise
        return epoch

    def _look_for_another(self) -> None:
        """With a lock that nobody was seen to hold: does another host's master go on writing its name? Raises Misconfigured, OSError.

        Costs some seconds, and only after another host's leader died a moment ago without taking its name off.
        """
        first = read_leader(self.path)
        if first is None or first[1].split(" ")[0] == self._boot or time.time() - (self.path / "leader").stat().st_mtime > FRESH_S:
            return
        end = time.monotonic() + 2.5 * BEAT_S
        while time.monotonic() < end and not self._stopped.is_set():
            time.sleep(0.1)
            now = read_leader(self.path)
            if now is not None and now[1:] != first[1:]:
                raise Misconfigured(
                    f"{now[0].url} leads on {self.path} although this master could lock it: locks do not hold there. "
                    "spark.deploy.recoveryDirectory needs a file system with working locks (local, NFSv4)"
                )

    def _beat(self, epoch: Epoch) -> bool:
        """Check lock and counter, show that the leader lives, see to the records' files. False: leadership is lost."""
        if not self.counter.still(epoch):
            return False
        self._beats += 1
        if self._beats % 2 == 0:
            try:
                self._write_leader()
            except OSError as error:  # a full or read-only disk: nothing is acknowledged, but it leads
                log.debug("event=leader_not_written why=%r", error.strerror)
        store = self._store
        if store is not None and self._writing is None and store.due(self.clock() - self._last_commit_at > QUIET_S):
            store.begin_files()
            self._writing = threading.Thread(target=self._write_files, args=(store,), name="sparkd-record-files", daemon=True)
            self._writing.start()
        elif store is not None and self._writing is not None and not self._writing.is_alive():
            self._writing = None
            store.end_files(self._written)
        return True

    def _write_files(self, store: RecoveryDirectory) -> None:
        """On a thread of its own: it may take long, and commits go on meanwhile."""
        try:
            store.write_files()
        except (OSError, Misconfigured) as error:
            self._written = False
            if not isinstance(error, InterruptedError):
                log.warning("event=records_not_written why=%r", str(error))
        else:
            self._written = True

    def _write_leader(self) -> None:
        me = self._me
        fields = {"host": me.host, "port": me.port, "web_ui": me.web_ui, "rest": me.rest, "owner": self._identity(), "beat": self._beats}
        files.replace(self.path / "leader", json.dumps(fields).encode() + b"\n", durable=False)


def read_leader(path: Path) -> tuple[MasterAddress, str, int] | None:
    """Return whom the leader file names, its owner's identity, and its count of beats; None for nobody. Raises OSError."""
    raw = files.read(path / "leader", LEADER_LIMIT)
    try:
        value = json.loads(raw or b"")
        host, web_ui, rest, owner = (value[name] for name in ("host", "web_ui", "rest", "owner"))
        port, beat = value["port"], value["beat"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not all(isinstance(text, str) for text in (host, web_ui, rest, owner)) or not isinstance(port, int) or not isinstance(beat, int):
        return None
    return MasterAddress(host, port, web_ui, rest), owner, beat
