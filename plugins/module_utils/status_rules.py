"""Is the cluster healthy? Pure rules over what every host said about its own services.

A cluster is healthy when exactly one master is ALIVE and every other one STANDBY, the leader lists every worker of the
inventory as ALIVE, and every member of the ensemble serves with all followers in sync. Everything else is a problem with a
code, a sentence and the next step. The report is plain data; its shape is ``SCHEMA`` (docs/status.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA = "spark-ha/status/1"
MASTER, WORKER, ZOOKEEPER = "spark_masters", "spark_workers", "zookeeper"


@dataclass(frozen=True)
class Host:
    """A host of the inventory: its groups and what its probe said; ``probe`` None means lost, ``error`` says why."""

    name: str
    groups: frozenset[str]
    probe: Mapping[str, Any] | None = None
    error: str = ""


@dataclass(frozen=True)
class Cluster:
    """What the inventory says. ``external`` is the number of endpoints of an ensemble that others run."""

    name: str
    daemons: str
    spark_version: str
    recovery_mode: str
    master_url: str
    external: int = 0


@dataclass(frozen=True)
class Problem:
    """Something to act on; ``host`` is empty when it concerns the whole cluster."""

    code: str
    host: str
    message: str
    fix: str


@dataclass
class _Findings:
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def problem(self, code: str, host: str, message: str, fix: str) -> None:
        self.problems.append(Problem(code, host, message, fix))


def judge(cluster: Cluster, hosts: Sequence[Host]) -> dict[str, Any]:
    """Return the report on the cluster: states per host, the ensemble, problems and one verdict."""
    found = _Findings()
    _judge_hosts(hosts, found)
    masters = [host for host in hosts if MASTER in host.groups]
    leader = _judge_masters(cluster, masters, found)
    workers = _judge_workers([host for host in hosts if WORKER in host.groups], leader, found)
    ensemble = _judge_ensemble(cluster, hosts, found)
    _judge_units(hosts, found)
    _judge_kinds(cluster, hosts, found)
    page = _part(leader, "master") if leader else {}
    standbys = [host.name for host in masters if _part(host, "master").get("status") == "STANDBY"]
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "cluster": cluster.name,
        "daemons": cluster.daemons,
        "spark_version": cluster.spark_version,
        "recovery_mode": cluster.recovery_mode,
        "master_url": cluster.master_url,
        "healthy": not found.problems,
        "leader": leader.name if leader else None,
        "standbys": standbys,
        "cores": page.get("cores", 0),
        "cores_used": page.get("cores_used", 0),
        "memory_mb": page.get("memory_mb", 0),
        "memory_used_mb": page.get("memory_used_mb", 0),
        "apps": [{"id": app["id"], "name": app["name"], "state": app["state"]} for app in page.get("apps", [])],
        "drivers": [{"id": driver["id"], "state": driver["state"]} for driver in page.get("drivers", [])],
        "workers": workers,
        "ensemble": ensemble,
        "hosts": [_host_entry(host) for host in hosts],
        "problems": [asdict(problem) for problem in found.problems],
        "notes": found.notes,
    }
    report["verdict"] = _verdict(report, len(masters))
    return report


def _part(host: Host | None, part: str) -> Mapping[str, Any]:
    """Return the probe's answer on ``part``; empty when the host is lost or was not asked."""
    probe = host.probe if host and host.probe else {}
    return probe.get(part) or {}


def _judge_hosts(hosts: Sequence[Host], found: _Findings) -> None:
    for host in hosts:
        if host.probe is None:
            reason = f": {host.error}" if host.error else ""
            fix = f"see whether it is up: ansible {host.name} -m ansible.builtin.ping"
            found.problem("host_lost", host.name, f"{host.name} cannot be asked{reason}", fix)


def _judge_masters(cluster: Cluster, masters: Sequence[Host], found: _Findings) -> Host | None:
    """Record what is wrong with the masters and return the leader if there is exactly one."""
    if not masters:
        found.problem("no_masters", "", "the inventory has no host in the group spark_masters", "add one to the group spark_masters")
        return None
    alive = [host for host in masters if _part(host, "master").get("status") == "ALIVE"]
    for host in masters:
        page = _part(host, "master")
        if host.probe is None:
            continue
        if "status" not in page:
            found.problem(
                "master_down",
                host.name,
                f"the master on {host.name} does not answer ({_unit(host, 'spark-master.service')})",
                f"start it: ansible-playbook playbooks/start.yml; its log: ssh {host.name} journalctl -u spark-master",
            )
        elif page["status"] not in ("ALIVE", "STANDBY"):
            found.problem(
                "master_recovering",
                host.name,
                f"the master on {host.name} is {page['status']}",
                "wait: it asks workers and applications to come back, at most spark.deploy.recoveryTimeout; then look again",
            )
    if len(alive) > 1:
        names = ", ".join(host.name for host in alive)
        found.problem(
            "two_leaders",
            "",
            f"{len(alive)} masters say ALIVE: {names}",
            "find the one that does not own the lowest latch in ZooKeeper and stop it: systemctl stop spark-master",
        )
    elif not alive:
        fix = "start one: ansible-playbook playbooks/start.yml"
        if cluster.recovery_mode == "ZOOKEEPER" and any("status" in _part(host, "master") for host in masters):
            fix = "masters without a leader wait for ZooKeeper: see the ensemble below, then journalctl -u spark-master"
        found.problem("no_leader", "", "no master says ALIVE", fix)
    return alive[0] if len(alive) == 1 else None


def _judge_workers(workers: Sequence[Host], leader: Host | None, found: _Findings) -> dict[str, Any]:
    """Record missing workers: those that do not answer, and those that the leader does not list as ALIVE."""
    page = _part(leader, "master")
    listed = {worker["id"]: worker for worker in page.get("workers", []) if worker["state"] == "ALIVE"}
    present, missing = [], []
    known: set[str] = set()
    for host in workers:
        own = _part(host, "worker")
        known.add(own.get("id", ""))
        if "id" in own and (leader is None or own["id"] in listed):
            present.append(host.name)
            continue
        missing.append(host.name)
        if host.probe is None:
            continue  # said already: the host is lost
        if "id" not in own:
            found.problem(
                "worker_down",
                host.name,
                f"the worker on {host.name} does not answer ({_unit(host, 'spark-worker.service')})",
                f"start it: ansible-playbook playbooks/start.yml; its log: ssh {host.name} journalctl -u spark-worker",
            )
        else:
            assert leader is not None  # noqa: S101 - the branch above took the other case; for the type checker
            found.problem(
                "worker_missing",
                host.name,
                f"the worker on {host.name} runs, but the leader {leader.name} does not list it as ALIVE",
                f"it asks again within 15 s; if it does not come: ssh {host.name} journalctl -u spark-worker",
            )
    if any(host.probe is None for host in workers):
        return {"expected": len(workers), "alive": len(listed), "missing": missing}
    strangers = [worker for worker_id, worker in listed.items() if worker_id not in known]
    for worker in strangers:
        found.notes.append(f"the leader lists a worker that the inventory does not have or that has gone: {worker['id']}")
    return {"expected": len(workers), "alive": len(listed), "missing": missing}


def _judge_ensemble(cluster: Cluster, hosts: Sequence[Host], found: _Findings) -> dict[str, Any] | None:
    """Record a lost member, a lost quorum, followers out of sync; return the ensemble's state, None when there is none."""
    if cluster.external:
        return _judge_external(cluster, hosts, found)
    members = [host for host in hosts if ZOOKEEPER in host.groups]
    if not members:
        return None
    states = {host.name: _zookeeper_state(host) for host in members}
    for host in members:
        if host.probe is not None and not _part(host, "zookeeper").get("serving"):
            why = _reason(_part(host, "zookeeper"))
            found.problem(
                "zookeeper_down",
                host.name,
                f"the ZooKeeper server on {host.name} does not serve ({_unit(host, 'zookeeper.service')}): {why}",
                f"start it: ansible-playbook playbooks/start.yml; its log: ssh {host.name} journalctl -u zookeeper",
            )
    return _ensemble(states, {host.name: _part(host, "zookeeper") for host in members}, found)


def _judge_external(cluster: Cluster, hosts: Sequence[Host], found: _Findings) -> dict[str, Any]:
    """Judge an ensemble that others run, as far as it answers four-letter words."""
    answers = [answer for host in hosts if host.probe for answer in host.probe.get("external") or []]
    if not any(answer["serving"] or answer["allowed"] for answer in answers):
        found.notes.append("the external ensemble does not take the word srvr: not checked (add it to 4lw.commands.whitelist there)")
        unknown = dict.fromkeys(("serving", "quorum", "leader", "synced_followers"))
        return {"external": True, "checked": False, "members": cluster.external, **unknown, "states": {}}
    by_endpoint = {answer["endpoint"]: answer for answer in answers}
    states = {endpoint: str(answer.get("mode", "down")) for endpoint, answer in by_endpoint.items()}
    for endpoint, answer in by_endpoint.items():
        if not answer["serving"]:
            message = f"the external ZooKeeper server {endpoint} does not serve: {_reason(answer)}"
            found.problem("zookeeper_down", "", message, "tell those who run it")
    return {**_ensemble(states, by_endpoint, found, "tell those who run it"), "external": True}


def _reason(answer: Mapping[str, Any]) -> str:
    """Return the end of the error: where and what was asked is in the sentence around it."""
    return str(answer.get("error") or "not asked").rpartition("word srvr: ")[2]


def _zookeeper_state(host: Host) -> str:
    if host.probe is None:
        return "lost"
    answer = _part(host, "zookeeper")
    return str(answer["mode"]) if answer.get("serving") else "down"


def _ensemble(
    states: Mapping[str, str],
    answers: Mapping[str, Mapping[str, Any]],
    found: _Findings,
    fix: str = "start the missing servers: ansible-playbook playbooks/start.yml",
) -> dict[str, Any]:
    size, quorum = len(states), len(states) // 2 + 1
    serving = sum(state in ("leader", "follower", "standalone", "observer") for state in states.values())
    leaders = [name for name, state in states.items() if state in ("leader", "standalone")]
    synced = answers[leaders[0]].get("synced_followers") if len(leaders) == 1 else None
    # A follower serves only with a leader: the host that could not be asked may be that one.
    has_quorum = serving >= quorum and (bool(leaders) or "lost" in states.values())
    if not has_quorum:
        found.problem(
            "zookeeper_no_quorum",
            "",
            f"the ensemble has no quorum: {serving} of {size} servers serve, {quorum} are needed",
            fix,
        )
    elif len(leaders) > 1:
        found.problem(
            "zookeeper_split",
            "",
            f"{len(leaders)} ZooKeeper servers say that they lead: {', '.join(leaders)}",
            "compare server.N in /etc/zookeeper/zoo.cfg on these hosts: ansible-playbook site.yml writes them alike",
        )
    elif synced is not None and serving == size and synced < size - 1:
        found.problem(
            "zookeeper_unsynced",
            leaders[0],
            f"{synced} of {size - 1} followers are in sync with the ensemble's leader {leaders[0]}",
            "wait for the rest to catch up, then look again",
        )
    return {
        "external": False,
        "checked": True,
        "members": size,
        "serving": serving,
        "quorum": has_quorum,
        "leader": leaders[0] if len(leaders) == 1 else None,
        "synced_followers": synced,
        "states": dict(states),
    }


def _judge_units(hosts: Sequence[Host], found: _Findings) -> None:
    """Record a fence that is not up beside its master: without it a killed leader costs the whole session."""
    for host in hosts:
        unit = _units(host).get("spark-latchkeeper.service")
        if not unit or unit["load"] != "loaded" or unit["active"] == "active" or MASTER not in host.groups:
            continue
        if unit.get("enabled") == "disabled":  # that is what spark_master_fencing: false leaves
            found.notes.append(f"fencing is off on {host.name}: if its master leads and is killed, ZooKeeper's session timeout decides")
        else:
            found.problem(
                "latchkeeper_down",
                host.name,
                f"spark-latchkeeper on {host.name} is {unit['active']}: a killed leader there would be noticed late",
                f"start it: ansible-playbook playbooks/start.yml; its log: ssh {host.name} journalctl -u spark-latchkeeper",
            )


def _judge_kinds(cluster: Cluster, hosts: Sequence[Host], found: _Findings) -> None:
    """Record masters and workers of the other kind: they are not in this cluster, whatever they say."""
    for host in hosts:
        for name, unit in _units(host).items():
            kind = unit.get("daemons") or cluster.daemons
            if kind != cluster.daemons:
                found.problem(
                    "other_daemons",
                    host.name,
                    f"{name} on {host.name} runs the {kind} daemon, and spark_daemons is {cluster.daemons}",
                    "ansible-playbook site.yml stops the one and starts the other",
                )


def _units(host: Host) -> Mapping[str, Any]:
    return (host.probe or {}).get("units") or {}


def _unit(host: Host, name: str) -> str:
    """Return the unit's state in words."""
    unit = _units(host).get(name)
    if not unit:
        return f"{name}: state unknown"
    if unit["load"] == "not-found":
        return f"{name} is not installed"
    return f"{name} is {unit['active']} ({unit['sub']})"


def _host_entry(host: Host) -> dict[str, Any]:
    """One host as the report shows it: a state per role."""
    entry: dict[str, Any] = {"name": host.name, "reachable": host.probe is not None, "roles": []}
    for role in _roles(host):
        entry["roles"].append(role)
    return entry


def _roles(host: Host) -> Iterator[dict[str, Any]]:
    lost = host.probe is None
    if ZOOKEEPER in host.groups:
        yield {"role": "zookeeper", "state": _zookeeper_state(host), "url": _part(host, "zookeeper").get("endpoint")}
    if MASTER in host.groups:
        page = _part(host, "master")
        yield {"role": "master", "state": "lost" if lost else page.get("status", "down"), "url": page.get("web_url")}
    if WORKER in host.groups:
        page = _part(host, "worker")
        yield {
            "role": "worker",
            "state": "lost" if lost else ("up" if "id" in page else "down"),
            "url": page.get("web_url"),
            **{key: page.get(key) for key in ("cores", "cores_used", "memory_mb", "memory_used_mb", "executors")},
        }
    if not host.groups & {ZOOKEEPER, MASTER, WORKER}:
        yield {"role": "client", "state": "lost" if lost else "up", "url": None}


def _verdict(report: Mapping[str, Any], masters: int) -> str:
    """One line that tells the whole."""
    if report["problems"]:
        problems = report["problems"]
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        return "NOT HEALTHY: " + "; ".join(problem["message"] for problem in problems[:3]) + more
    parts = [f"{report['leader']} leads", f"{len(report['standbys'])} of {masters - 1} standbys ready"]
    if masters == 1:
        parts[1] = "no standby"
    parts.append(f"{report['workers']['alive']} of {report['workers']['expected']} workers")
    ensemble = report["ensemble"]
    if ensemble:
        parts.append(f"ensemble {ensemble['serving']} of {ensemble['members']}" if ensemble["checked"] else "ensemble not checked")
    return "HEALTHY: " + ", ".join(parts)
