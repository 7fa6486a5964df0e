"""Decisions of the latchkeeper, without I/O.

Apache's latch nodes carry no name, so a fence cannot tell whose a node is unless the session of each process is recorded
while it lives. Deleting the lowest node when a standby died would depose the living leader for ever: its LeaderLatch watches only
the node before its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

#: Curator's LeaderLatch: ``_c_<uuid>-latch-<sequence>``; the name is somebody else's bytes, so its length is bounded.
LATCH = re.compile(r"[0-9A-Za-z_.-]{0,128}latch-(\d{10})")
NODES_LIMIT = 1000


@dataclass(frozen=True)
class Latch:
    """One child of leader_election: who owns it and where it stands in line."""

    name: str
    owner: int
    czxid: int
    version: int

    @property
    def sequence(self) -> int:
        """Place in line; the lowest leads (LeaderLatch.checkLeadership, LockInternals' sorter)."""
        match = LATCH.fullmatch(self.name)
        return int(match[1]) if match else 1 << 40


class Held(Protocol):
    """What the rules need of a record."""

    @property
    def pid(self) -> int: ...  # noqa: D102
    @property
    def start(self) -> int: ...  # noqa: D102
    @property
    def boot(self) -> str: ...  # noqa: D102
    @property
    def session(self) -> int: ...  # noqa: D102


class Connected(Protocol):
    """What the rules need of a connection that ``cons`` lists."""

    @property
    def ip(self) -> str: ...  # noqa: D102
    @property
    def port(self) -> int: ...  # noqa: D102
    @property
    def sid(self) -> int | None: ...  # noqa: D102


def in_line(latches: Iterable[Latch]) -> list[Latch]:
    """Return the latches, the leader's first."""
    return sorted((latch for latch in latches if LATCH.fullmatch(latch.name)), key=lambda latch: (latch.sequence, latch.czxid))


def sessions_of(ends: Iterable[tuple[str, int]], connections: Iterable[Connected]) -> set[int]:
    """Return the sessions whose client is one of these local (address, port) pairs."""
    wanted = set(ends)
    return {connection.sid for connection in connections if connection.sid and (connection.ip, connection.port) in wanted}


def own_latch(latches: Iterable[Latch], sessions: Iterable[int]) -> Latch | None:
    """Return the latch that one of the sessions owns. Of several the newest: Curator drops the older ones."""
    mine = set(sessions)
    own = [latch for latch in in_line(latches) if latch.owner in mine]
    return own[-1] if own else None


Verdict = Literal["nothing recorded", "another boot", "process alive", "dead"]


def verdict(record: Held | None, boot: str, start_now: int | None) -> Verdict:
    """Say whether the recorded process is dead for certain. start_now: start time of the pid's process, None for none."""
    if record is None:
        return "nothing recorded"
    if record.boot != boot:
        return "another boot"
    return "process alive" if start_now == record.start else "dead"


@dataclass(frozen=True)
class Fence:
    """The nodes to delete, and how long after the death."""

    nodes: tuple[Latch, ...]
    delay_s: float
    led: bool


def fence(latches: Iterable[Latch], session: int, delay_s: float) -> Fence:
    """Return what to delete for a dead process that held this session.

    A leader's node waits ``delay_s`` from the death on: workers that lose their leader re-register at once, and a new leader that
    gets this while RECOVERING kills their executors ("Duplicate registration", Master.scala). A standby's goes at once.
    """
    line = in_line(latches)
    nodes = tuple(latch for latch in line if latch.owner == session)
    led = bool(nodes) and line[0].owner == session
    return Fence(nodes=nodes, delay_s=delay_s if led else 0.0, led=led)


@dataclass(frozen=True)
class Handover:
    """The latches to delete; or, in ``refused``, why the stop is a plain one."""

    nodes: tuple[Latch, ...] = ()
    refused: str = ""
    transient: bool = False  # a standby that has just started may still join


def handover(
    record: Held | None, boot: str, pid: int, start_now: int | None, latches: Sequence[Latch], live: Iterable[int], pages: Mapping[str, str]
) -> Handover:
    """Decide whether leadership can be handed over before a planned stop.

    live: sessions that have a connection now (a dead process's latch may be next in line until its session expires).
    pages: endpoint -> status of the other masters.
    """
    if record is None:
        return Handover(refused="no latch session is recorded")
    if verdict(record, boot, start_now) != "process alive" or record.pid != pid:
        return Handover(refused="the recorded latch session is another process's")
    line = in_line(latches)
    if not line or line[0].owner != record.session:
        return Handover(refused="this master does not own the lowest latch: it does not lead")
    rest = [latch for latch in line if latch.owner != record.session]
    if not rest:
        return Handover(refused="no other master owns a latch", transient="STANDBY" in pages.values())
    if rest[0].owner not in set(live):
        return Handover(refused="the next latch belongs to a session without a connection", transient="STANDBY" in pages.values())
    if "STANDBY" not in pages.values():
        seen = ", ".join(f"{endpoint}: {status}" for endpoint, status in pages.items()) or "there are no other masters"
        return Handover(refused=f"no other master answers STANDBY ({seen})")
    return Handover(nodes=tuple(latch for latch in line if latch.owner == record.session))


def driver_refusal(status: str, drivers: Mapping[str, str], accepted: bool) -> str:
    """Say why a leading Apache Master must not go now; empty when it may. drivers: id -> state.

    A change of leader makes queued drivers ERROR and may run finished ones again (Master.completeRecovery, SPARK-19900);
    a STANDBY knows no drivers, so its list is empty anyway.
    """
    if accepted or status == "STANDBY" or not drivers:
        return ""
    names = ", ".join(f"{driver} ({state})" for driver, state in list(drivers.items())[:10])
    more = f" and {len(drivers) - 10} more" if len(drivers) > 10 else ""
    return (
        f"this host's master is {status} and lists {len(drivers)} active driver(s) that a change of leader may lose or run twice: "
        f"{names}{more}. Wait until they have ended, or accept it with -e accept_driver_loss=true"
    )
