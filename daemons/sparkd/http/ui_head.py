"""What pages of a master say about the masters themselves: who leads, since when, who else there is, how the store fares. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..coordination.api import MasterAddress
from ..core.states import MasterStatus
from ..settings import RecoverySettings
from . import ui_format
from .faces import MasterFace


@dataclass(frozen=True, slots=True)
class MasterLink:
    """A master that is in the election. role: leader, standby, or unknown while nobody leads. me: the one that shows the page."""

    name: str
    url: str
    web_ui: str
    role: str
    me: bool


@dataclass(frozen=True, slots=True)
class Masthead:
    """Who shows this page, and who else there is."""

    name: str
    url: str
    rest: str
    status: str
    since_ms: int
    cluster_id: str
    epoch: int | None
    masters: tuple[MasterLink, ...]
    leader: MasterLink | None

    @property
    def all_masters(self) -> str:
        """The master URL for applications and workers, all masters in it, in an order that does not change with the leader."""
        return "spark://" + ",".join(sorted({link.url.removeprefix("spark://") for link in self.masters}))


def masthead(face: MasterFace) -> Masthead:
    """Return the header of a master's page. The status is read once: one answer never says two things."""
    status = face.status()
    me = face.address()
    leading = me if status is MasterStatus.ALIVE else face.leader()
    if status is MasterStatus.STANDBY and leading is not None and leading.url == me.url:
        leading = None  # its own latch still stands, its lease is over
    epoch = face.epoch()
    known = {address.url: address for address in (*face.masters(), me)}
    if leading is not None:
        known[leading.url] = leading

    def link(address: MasterAddress) -> MasterLink:
        role = "leader" if leading is not None and address.url == leading.url else "standby" if leading is not None else "unknown"
        return MasterLink(f"{address.host}:{address.port}", address.url, ui_format.safe_url(address.web_ui), role, address.url == me.url)

    links = tuple(sorted((link(address) for address in known.values()), key=lambda each: (each.role != "leader", each.name)))
    return Masthead(
        name=f"{me.host}:{me.port}",
        url=me.url,
        rest=me.rest,
        status=str(status),
        since_ms=face.since_ms(),
        cluster_id=epoch.cluster_id if epoch else "",
        epoch=epoch.number if epoch else None,
        masters=links,
        leader=next((each for each in links if each.role == "leader"), None),
    )


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of a list of facts."""

    name: str
    value: str
    code: bool = False


#: Order and words of what Engine.describe() says; what is not here comes after it under its own name.
_FACTS: Mapping[str, str] = {
    "engine": "Recovery mode",
    "votes": "Votes",
    "where": "Where",
    "connected": "Connected",
    "server": "Server in use",
    "session": "Session",
    "session_timeout_s": "Session timeout",
    "latch": "Own latch",
    "lease_left_s": "Lease left",
    "suspended": "Suspended",
    "cluster_id": "Cluster id",
    "epoch": "Epoch",
    "elections": "Elections won",
    "commits": "Writes",
    "last_commit_ms": "Last write took",
}


def facts(described: Mapping[str, object], recovery: RecoverySettings) -> tuple[Fact, ...]:
    """Return what the election and the store say of themselves, and who votes or where it lies, each as a bounded text."""
    known = {name: value for name, value in described.items() if name != "masters"}  # those are on top of every page
    if recovery.mode == "ZOOKEEPER":
        known["votes"] = recovery.zookeeper_url
    elif recovery.mode == "FILESYSTEM" and recovery.directory is not None:
        known["where"] = str(recovery.directory)
    names = [name for name in _FACTS if name in known] + sorted(name for name in known if name not in _FACTS)
    return tuple(_fact(name, known[name]) for name in names)


def _fact(name: str, value: object) -> Fact:
    label = _FACTS.get(name, name.replace("_", " "))
    if value is None or value == "" or (name == "epoch" and value == 0):
        return Fact(label, "none")
    if isinstance(value, bool):
        return Fact(label, "yes" if value else "no")
    if name.endswith(("_s", "_ms")) and isinstance(value, int | float):
        unit = name.rpartition("_")[2]
        return Fact(
            label.removesuffix(f" {unit}"), f"{max(value, 0.0):.1f} {unit}" if value else "none yet" if name in _FACTS else f"0 {unit}"
        )
    if name == "server" and isinstance(value, tuple):
        value = ":".join(map(str, value))
    if isinstance(value, list | tuple | set | frozenset):
        value = ", ".join(str(each) for each in value)
    plain = isinstance(value, int | float) or name == "engine"
    return Fact(label, ui_format.shorten(str(value), 300), code=not plain)
