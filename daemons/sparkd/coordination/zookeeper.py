"""Election and store on ZooKeeper: one session, one latch, one transaction per batch.

Everything is derived from what a look at the election directory shows (`_look`); watches, reconnections and timers only cause another look.

Election: `<dir>/election/<uuid>-latch-NNNNNNNNNN`, ephemeral and sequential; the lowest leads. The directory itself is watched and not only
the predecessor: every master must know the leader and the others anyway, and masters are few.

Lease: renewed by quorum writes only, of the own latch or of a batch (see lease.py). A renewal that is not answered soon means a server that
is gone or cut off: its connection is dropped, and kazoo goes on at another one with the same session.
"""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import Callable

from ..core.values import Epoch
from ..settings import RecoverySettings
from . import epoch as marks
from . import latchrecord, layout, lease
from .api import (
    Listener,
    MasterAddress,
    Misconfigured,
)
from .boottime import boot_s
from .bridge import BadVersion, Bridge, BridgeError, Denied, Failed, NodeExists, NoNode, NotConnected, Op, OpError, Unanswered
from .waiting import happened
from .zookeeper_store import Term, TransactionStore

log = logging.getLogger(__name__)

#: A look is taken at least this often, in s, whatever seems unchanged.
IDLE_S = 5.0
WAITING_LOG_S = 10.0
#: ACLs changed at once, when a secret is new.
SECURE_WINDOW = 100


class ZookeeperEngine(TransactionStore):
    """See the module."""

    def __init__(self, settings: RecoverySettings, clock: Callable[[], float] = boot_s) -> None:
        self.settings = settings
        self.clock = clock
        self.place = layout.place(settings.zookeeper_url, settings.zookeeper_dir)
        if not 0.5 <= settings.session_timeout_s <= 120:
            raise Misconfigured(f"spark.sparkd.zookeeper.sessionTimeout={settings.session_timeout_s:g} s: 0.5 s to 120 s are allowed")
        self._bridge: Bridge | None = None
        self._me = MasterAddress("", 0)
        self._listener: Listener | None = None
        self._latch_data = b""
        self._latch = ""  # path of the own latch
        self._guid = uuid.uuid4().hex
        self._term: Term | None = None
        self._lease = lease.NO_LEASE
        self._lease_timer: asyncio.TimerHandle | None = None
        self._mark: marks.ClusterMark | None = None
        self._prepared = 0  # session that found everything in its place
        self._leader: MasterAddress | None = None
        self._masters: dict[str, MasterAddress | None] = {}  # latch name -> whose
        self._line: tuple[str, ...] = ()
        self._stepped_down = False
        self._closed = False
        self._wake = asyncio.Event()
        self._beat = asyncio.Event()
        self._connection_changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._elections = 0
        self._said = ""
        self._waiting_since: float | None = None
        self._waiting_said = 0.0

    # --- the interface ------------------------------------------------------------------------------------------------

    async def start(self, me: MasterAddress, listener: Listener) -> None:
        """Join the election; returns at once."""
        self._me, self._listener = me, listener
        pid = os.getpid()
        self._latch_data = layout.encode_latch(me, pid, latchrecord.start_of(pid) or 0, latchrecord.boot_id())
        self._connect()
        self._tasks = [asyncio.create_task(self._stand_in_line()), asyncio.create_task(self._renew())]

    def lease_left_s(self) -> float:
        """Seconds that this master may call itself leader."""
        return self._lease.left(self.clock()) if self._term is not None else 0.0

    async def step_down(self) -> None:
        """Hand over."""
        self._stepped_down = True
        self._depose("stepping down")
        await self._release(1.0)

    async def close(self) -> None:
        """Let go of everything, within 2 s."""
        if self._closed:
            return
        self._stepped_down = True
        self._depose("closing")
        await self._release(0.6)
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._lease_timer is not None:
            self._lease_timer.cancel()
        if self._bridge is not None:
            await self._bridge.close(1.0)

    def masters(self) -> tuple[MasterAddress, ...]:
        """Every master whose latch is known, the leader first."""
        return tuple(master for name in self._line if (master := self._masters.get(name)) is not None)

    def describe(self) -> dict[str, object]:
        """State for people and /metrics."""
        bridge, term = self._bridge, self._term
        return {
            "engine": "ZOOKEEPER",
            "connected": bridge is not None and bridge.connected,
            "server": bridge.client.server if bridge is not None else "",
            "session": hex(bridge.session & 0xFFFFFFFFFFFFFFFF) if bridge is not None and bridge.session else "",
            "session_timeout_s": bridge.session_s if bridge is not None else self.settings.session_timeout_s,
            "latch": self._latch,
            "masters": [master.url for master in self.masters()],
            "cluster_id": self._mark.cluster_id if self._mark else "",
            "epoch": term.epoch.number if term else 0,
            "suspended": bool(term and term.suspended),
            "lease_left_s": round(self.lease_left_s(), 3),
            "elections": self._elections,
            "commits": self._commits,
            "last_commit_ms": round(self._last_commit_ms, 3),
        }

    # --- connection and lease -----------------------------------------------------------------------------------------

    def _connect(self) -> None:
        settings = self.settings
        self._bridge = Bridge(self.place.hosts, settings.session_timeout_s, settings.zookeeper_secret, self._on_state)
        self._bridge.start()

    def _on_state(self, state: str) -> None:
        """A change of the connection, on the loop."""
        log.info("event=zookeeper state=%s server=%s", state, self._bridge.client.server if self._bridge else "")
        if state == "LOST":
            self._latch = ""
            self._depose("the ZooKeeper session is lost")
        self._connection_changed.set()
        self._connection_changed = asyncio.Event()
        self._wake.set()
        self._beat.set()

    def _zk(self) -> Bridge:
        if self._bridge is None:
            raise NotConnected("not started")
        return self._bridge

    async def _renew(self) -> None:
        """Write the own latch every so often, and after a reconnection: a leader for its lease, a standby to know its server alive."""
        while not self._closed:
            bridge = self._zk()
            period = bridge.session_s * (lease.RENEWAL_SHARE if self._term else lease.PATIENCE_SHARE)
            await happened(self._beat, period)
            self._beat.clear()
            latch, bridge = self._latch, self._zk()
            if not latch or not bridge.connected:
                continue
            sent = self.clock()
            try:
                await bridge.set(latch, self._latch_data, timeout_s=bridge.session_s * lease.PATIENCE_SHARE)
            except NoNode:
                self._latch_gone(latch)
            except (NotConnected, Unanswered):
                continue
            except BridgeError as error:
                self._say(f"event=renewal_refused why={str(error)!r}")
            else:
                self._renewed(latch, sent)

    def _latch_gone(self, latch: str) -> None:
        if latch == self._latch:
            self._latch = ""
            self._depose("the latch was deleted")
            self._wake.set()

    def _place_gone(self) -> None:
        self._prepared = 0
        self._wake.set()

    def _renewed(self, latch: str, sent: float) -> None:
        """A quorum write that was sent at `sent` found the latch in its place."""
        term = self._term
        if latch != self._latch or term is None:
            return
        self._suspend_when_due()  # a pause that nobody has noticed yet was one all the same
        self._lease = self._lease.renewed(sent, self._zk().session_s)
        if term.suspended and self.lease_left_s() > 0:
            # The latch was there all the time and the lowest: nobody else can have led.
            term.suspended = False
            log.warning("event=resumed epoch=%d", term.epoch.number)
            self._tell().on_resumed()
            self._connection_changed.set()
            self._connection_changed = asyncio.Event()
        self._arm_lease_timer()

    def _arm_lease_timer(self) -> None:
        if self._lease_timer is None and self._term is not None and not self._term.suspended:
            self._lease_timer = asyncio.get_running_loop().call_later(self.lease_left_s() + 0.001, self._lease_due)

    def _lease_due(self) -> None:
        """Suspend when the lease is over; else look again when it would be."""
        self._lease_timer = None
        self._suspend_when_due()
        self._arm_lease_timer()

    def _suspend_when_due(self) -> None:
        term = self._term
        if term is None or term.suspended or self.lease_left_s() > 0:
            return
        term.suspended = True
        why = "no quorum write was answered within the lease"
        log.warning("event=suspended epoch=%d why=%r", term.epoch.number, why)
        self._tell().on_suspended(why)

    def _tell(self) -> Listener:
        if self._listener is None:
            raise RuntimeError("not started")
        return self._listener

    def _depose(self, why: str) -> None:
        """End the term, if there is one, at once."""
        self._lease = lease.NO_LEASE
        term, self._term = self._term, None
        if term is None:
            return
        term.why = why
        term.over.set()
        log.warning("event=deposed epoch=%d why=%r", term.epoch.number, why)
        self._tell().on_deposed(why)

    async def _release(self, timeout_s: float) -> None:
        """Delete the own latch; when that cannot be done now the session's end does it."""
        latch, self._latch = self._latch, ""
        bridge = self._bridge
        if not latch or bridge is None:
            return
        try:
            await bridge.delete(latch, timeout_s=timeout_s)
        except NoNode:
            pass
        except BridgeError as error:
            log.warning("event=latch_not_released latch=%s why=%r", latch, str(error))
        else:
            log.info("event=latch_released latch=%s", latch)

    # --- election -----------------------------------------------------------------------------------------------------

    async def _stand_in_line(self) -> None:
        """Look whenever something may have changed, for as long as the engine lives."""
        while not self._closed:
            self._wake.clear()
            delay = IDLE_S
            try:
                if self._zk().dead:
                    await self._zk().close(1.0)
                    self._on_state("LOST")
                    self._connect()
                if self._zk().connected:
                    await self._look()
                    self._waiting_since = None
                else:
                    delay = self._wait_for_zookeeper()
            except (NotConnected, Unanswered):
                delay = self._wait_for_zookeeper()
            except (NoNode, NodeExists, BadVersion, OpError) as error:  # somebody was quicker: look again
                self._say(f"event=look_again why={type(error).__name__} detail={str(error)!r}")
                self._prepared = 0  # or somebody removed the directory: what is missing is made again
                delay = 0.1
            except Denied as error:
                self._misconfigured(self._wrong_secret(str(error)))
                return
            except Misconfigured as error:
                self._misconfigured(error)
                return
            except Failed as error:
                self._say(f"event=look_failed why={str(error)!r}")
                delay = 1.0
            except Exception:
                log.exception("event=look_failed")
                delay = 1.0
            await happened(self._wake, delay)

    def _wait_for_zookeeper(self) -> float:
        """Say so, once and then every ten seconds; return how long to wait, in s."""
        now = self.clock()
        if self._waiting_since is None:
            self._waiting_since, self._waiting_said = now, float("-inf")
        if now - self._waiting_since >= 1.0 and now - self._waiting_said >= WAITING_LOG_S:
            self._waiting_said = now
            log.warning("event=waiting_for_zookeeper hosts=%s for_s=%d", self.place.hosts, now - self._waiting_since)
        if now - self._waiting_since > self._zk().session_s and self._term is None:
            self._led_by(None)
        return 1.0

    def _misconfigured(self, error: Misconfigured) -> None:
        log.error("event=misconfigured why=%r", str(error))
        self._depose(str(error))
        self._tell().on_misconfigured(error)

    def _wrong_secret(self, detail: str) -> Misconfigured:
        what = "does not fit" if self.settings.zookeeper_secret else "is not set"
        return Misconfigured(
            f"ZooKeeper denies access to {self.place.base} ({detail}): spark.sparkd.zookeeper.secretFile {what}. "
            "Give every master the secret that this directory was made with, or another spark.deploy.zookeeper.dir"
        )

    def _say(self, line: str) -> None:
        """Log a problem once, not with every look."""
        if line != self._said:
            self._said = line
            log.warning("%s", line)

    async def _look(self) -> None:
        """Take part: make what is missing, find the own place in line, lead when it is the first."""
        bridge = self._zk()
        session = bridge.session
        if self._prepared != session:
            await self._prepare()
            self._prepared = session
        names = await bridge.children(self.place.election, self._wake.set)
        if self._stepped_down or session != bridge.session:
            self._see(layout.in_line(names))
            return
        own = self._latch.rpartition("/")[2]
        if own and own not in names:
            self._latch_gone(self._latch)
            own = ""
        if not own:
            own = await self._join(names, session)
            if not own:
                return
            if own not in names:
                names = await bridge.children(self.place.election, self._wake.set)
        line = layout.in_line(names)
        for name in line:
            if name not in self._masters:
                try:
                    self._masters[name] = layout.decode_latch((await bridge.get(f"{self.place.election}/{name}"))[0])
                except NoNode:
                    self._wake.set()
        if line and line[0] == own and self._term is None and self._latch:
            await self._claim(bridge, self._latch)
        self._see(line)

    def _see(self, line: list[str]) -> None:
        """Note who stands in line."""
        self._line = tuple(line)
        self._masters = {name: master for name, master in self._masters.items() if name in line}
        self._led_by(self._masters.get(line[0]) if line else None)

    def _led_by(self, leader: MasterAddress | None) -> None:
        if leader != self._leader:
            self._leader = leader
            log.info("event=leader url=%s", leader.url if leader else "")
            self._tell().on_leader(leader)

    async def _join(self, names: list[str], session: int) -> str:
        """Find the own latch (the answer to its creation may have been lost) or make one; return its name, "" when stepping down."""
        bridge = self._zk()
        own = ""
        for name in layout.in_line([name for name in names if name.startswith(self._guid)]):
            stat = await bridge.exists(f"{self.place.election}/{name}")
            if stat is not None and stat.owner == session:
                own = name
        if not own:
            path = await bridge.create(f"{self.place.election}/{self._guid}-latch-", self._latch_data, ephemeral=True, sequence=True)
            own = path.rpartition("/")[2]
        path = f"{self.place.election}/{own}"
        if session != bridge.session or not bridge.connected:
            return ""  # perhaps it is there all the same: the next look finds it by its name and owner
        self._guid = uuid.uuid4().hex  # the next latch is another one
        self._latch = path
        self._masters[own] = self._me
        if self._stepped_down:
            await self._release(1.0)
            return ""
        self._note_latch(session, path)
        log.info("event=joined latch=%s session=%#x", own, session & 0xFFFFFFFFFFFFFFFF)
        return own

    def _note_latch(self, session: int, path: str) -> None:
        """Write the latch record; without it a dead master's latch waits for its session to expire."""
        target = self.settings.latch_record
        if target is None:
            return
        try:
            latchrecord.save(target, latchrecord.LatchRecord.of_this_process(session, path, self.place.hosts))
        except OSError as error:
            log.warning("event=latch_record_not_written path=%s why=%r", target, str(error))

    async def _claim(self, bridge: Bridge, latch: str) -> None:
        """First in line: lead. The claim is a quorum write, so all that an earlier leader stored is seen by reads after it."""
        stat = await bridge.exists(latch)
        if stat is None:
            self._latch_gone(latch)
            return
        if self.settings.zookeeper_secret and not await bridge.is_ours(self.place.base):
            await self._secure(bridge)
        mark = await self._cluster_mark(bridge, latch)
        number = mark.floor + stat.czxid
        raw, commit = await bridge.get(self.place.commit)
        request, part, earlier = layout.decode_commit(raw)
        if earlier > number:  # the ensemble was rebuilt, and counts from the start again
            log.warning("event=floor_raised floor=%d was=%d", earlier, mark.floor)
            mark = marks.ClusterMark(mark.cluster_id, earlier)
            number = mark.floor + stat.czxid
            await bridge.transaction([Op("check", latch), Op("set", self.place.cluster, marks.encode(mark))])
        sent = self.clock()
        claim = layout.encode_commit(request, part, number)
        await bridge.transaction([Op("check", latch), Op("set", self.place.commit, claim, commit.version)])
        if latch != self._latch or self._stepped_down:
            return
        self._mark = mark
        self._term = Term(Epoch(mark.cluster_id, number), commit.version + 1)
        self._lease = lease.NO_LEASE.renewed(sent, bridge.session_s)
        self._elections += 1
        self._arm_lease_timer()
        self._beat.set()
        log.info("event=elected epoch=%d cluster=%s latch=%s", number, mark.cluster_id, latch.rpartition("/")[2])
        self._tell().on_elected(self._term.epoch)

    async def _secure(self, bridge: Bridge) -> None:
        """Give what was made without a secret the ACL of the one that is configured now; the directory itself last."""
        log.warning("event=securing directory=%s", self.place.base)

        async def below(path: str) -> list[str]:
            return [f"{path}/{name}" for name in await bridge.children(path)]

        for parent in (*await below(self.place.records), self.place.set_aside):
            paths = await below(parent)
            for first in range(0, len(paths), SECURE_WINDOW):
                await asyncio.gather(*(bridge.make_ours(path) for path in paths[first : first + SECURE_WINDOW]))
        for path in (*await below(self.place.records), *await below(self.place.base), self.place.base):
            await bridge.make_ours(path)

    async def _cluster_mark(self, bridge: Bridge, latch: str) -> marks.ClusterMark:
        try:
            raw, _ = await bridge.get(self.place.cluster)
        except NoNode:
            mark = marks.new_mark()
            await bridge.transaction([Op("check", latch), Op("create", self.place.cluster, marks.encode(mark))])
            return mark
        try:
            return marks.decode(raw)
        except marks.BadCluster as error:
            raise Misconfigured(
                f"{self.place.cluster} in ZooKeeper: {error}. Mend it with sparkd epoch carry, or use another dir"
            ) from None

    async def _prepare(self) -> None:
        """Make the directories; refuse a place that is Apache's."""
        bridge, place = self._zk(), self.place
        try:
            names = await bridge.children(place.base)
        except NoNode:
            for path in place.parents:
                await self._make(path, open_acl=True)
            await self._make(place.base)
            names = []
        for name in layout.APACHES:
            if name in names:
                found = await bridge.children(f"{place.base}/{name}")
                if found:
                    raise Misconfigured(
                        f"spark.deploy.zookeeper.dir={self.settings.zookeeper_dir} holds state of Apache's Masters: {place.base}/{name} "
                        f"has {len(found)} entries ({', '.join(sorted(found)[:3])}). Stop Apache's Masters and give sparkd a directory of "
                        "its own, or remove that state once it is not needed any more"
                    )
        for path in (place.election, place.records, place.set_aside, place.commit, *map(place.kind, layout.KINDS)):
            await self._make(path)

    async def _make(self, path: str, open_acl: bool = False) -> None:
        if await self._zk().exists(path) is not None:
            return
        try:
            await self._zk().create(path, open_acl=open_acl)
        except NodeExists:
            return
