"""May this drill run here, and on which hosts? Pure; decides from a status report (status_rules)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


class Refusal(Exception):  # noqa: N818 - reads as what it says at the raise
    """The drill must not run; the text says why and what to do."""


@dataclass(frozen=True)
class Wish:
    """What is asked for. ``confirm`` must be the cluster's name unless ``lab``."""

    drill: str
    known: Sequence[str]
    cluster: str
    lab: bool
    confirm: str
    accept_driver_loss: bool
    masters_min: int = 2
    loses_drivers: bool = True
    planned: bool = False


@dataclass(frozen=True)
class Plan:
    """Who does what: ``seat`` runs observer and load. ``load_cores`` executors of one core each."""

    drill: str
    victim: str
    seat: str
    standbys: list[str]
    workers: int
    load_cores: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def confirm(wish: Wish) -> None:
    """Raise Refusal for an unknown drill, and for a cluster that is not the lab and was not named."""
    if wish.drill not in wish.known:
        raise Refusal(f"drill_name is {wish.drill!r}, which is no drill; known: {', '.join(sorted(wish.known))}")
    if not wish.lab and wish.confirm != wish.cluster:
        said = f"drill_confirm is {wish.confirm!r}" if wish.confirm else "drill_confirm is not set"
        raise Refusal(f"{said}: the drill {wish.drill} breaks the cluster {wish.cluster!r} on purpose; say -e drill_confirm={wish.cluster}")


def seat(report: Mapping[str, Any], victim: str) -> str:
    """Return the host for observer and load: any with Spark but the victim; clients first, then workers without a master.

    Raises Refusal when there is none.
    """

    def rank(host: Mapping[str, Any]) -> tuple[int, int] | None:
        roles = {role["role"] for role in host["roles"]}
        if host["name"] == victim or not host["reachable"] or not roles & {"client", "worker", "master"}:
            return None
        return ("master" in roles, "client" not in roles)

    ranked = sorted((place, number) for number, host in enumerate(report["hosts"]) if (place := rank(host)) is not None)
    if not ranked:
        raise Refusal(f"no host but the leader {victim} could watch; a drill needs a second host with Spark")
    return str(report["hosts"][ranked[0][1]]["name"])


def _needs_of_a_handover(report: Mapping[str, Any]) -> None:
    """Raise Refusal where nobody could take over. sparkd also elects in a directory that its masters share."""
    if report["recovery_mode"] != "ZOOKEEPER" and (report["daemons"], report["recovery_mode"]) != ("sparkd", "FILESYSTEM"):
        raise Refusal(f"spark_recovery_mode is {report['recovery_mode']}; leadership is handed over only with ZOOKEEPER")
    if not report["leader"]:
        raise Refusal(f"there is not exactly one leader: {report['verdict']}")
    if not report["standbys"]:
        raise Refusal(f"no standby answers, so nobody could take over from {report['leader']}: ansible-playbook playbooks/start.yml")
    ensemble = report["ensemble"]
    if ensemble and ensemble["checked"] and not ensemble["quorum"]:
        raise Refusal("the ensemble has no quorum, so nobody could be elected: see ansible-playbook playbooks/status.yml")


def plan(wish: Wish, report: Mapping[str, Any]) -> Plan:
    """Return who does what; raise Refusal when the cluster cannot stand the drill."""
    confirm(wish)
    masters = [host["name"] for host in report["hosts"] for role in host["roles"] if role["role"] == "master"]
    if len(masters) < wish.masters_min:
        raise Refusal(
            f"the cluster has {len(masters)} master(s), the drill {wish.drill} needs {wish.masters_min}: add a host to spark_masters"
        )
    if wish.planned:
        _needs_of_a_handover(report)
    elif not report["healthy"]:
        raise Refusal(f"the cluster is not healthy before the drill: {report['verdict']}. See ansible-playbook playbooks/status.yml")
    if report["drivers"] and wish.loses_drivers and report["daemons"] == "apache" and not wish.accept_driver_loss:
        names = ", ".join(driver["id"] for driver in report["drivers"][:5])
        raise Refusal(
            f"the leader lists {len(report['drivers'])} active driver(s) ({names}) that a change of leader"
            " may lose or run twice on Apache's daemons; wait for their end, or say -e accept_driver_loss=true"
        )
    victim = report["leader"]
    workers = report["workers"]["alive" if wish.planned else "expected"]
    free = report["cores"] - report["cores_used"]
    if not wish.planned and free < 2:
        raise Refusal(f"the cluster has {free} free core(s), the drill's two applications need 2: end an application or add a worker")
    return Plan(wish.drill, victim, seat(report, victim), list(report["standbys"]), workers, max(1, min(workers, free - 1)))
