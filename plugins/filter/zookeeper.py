"""Filters of the role zookeeper: what all members saw of themselves becomes ids, server lines, a plan and a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.errors import AnsibleFilterError

# Ansible sends module_utils to the hosts; on the controller they must be put where the same import finds them.
if (_utils := str(Path(__file__).resolve().parent.parent / "module_utils")) not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_utils)

from ansible.module_utils import zookeeper_rules

SEEN = "__zookeeper_state"  # registered by the role, per host, from the module zookeeper_state
TURN = "__zookeeper_turn"  # the same from service_turn
STARTED = "__zookeeper_started"
HEALTH = "__zookeeper_health"  # the same from zookeeper_health


def _seen(hostvars: Mapping[str, Any], host: str, name: str = SEEN) -> Mapping[str, Any]:
    result = hostvars[host].get(name) or {}
    usable = isinstance(result, Mapping) and not result.get("failed") and not result.get("unreachable")
    return result if usable else {}


def _address(hostvars: Mapping[str, Any], host: str) -> str:
    return str(hostvars[host].get("cluster_address", host))


def zookeeper_ids(members: Sequence[str], hostvars: Mapping[str, Any]) -> dict[str, int]:
    """Return host -> server id; see zookeeper_rules.assign_ids for where an id comes from."""
    hosts = {_address(hostvars, host): host for host in members}
    explicit = {host: int(hostvars[host].get("zookeeper_myid") or 0) for host in members}
    seen = {host: _seen(hostvars, host) for host in members}
    known: dict[str, int] = {}
    for state in seen.values():
        for number, line in (state.get("servers") or {}).items():
            address = str(line).split(":", 1)[0]
            known.setdefault(hosts.get(address, address), int(number))
    try:
        ids: dict[str, int] = zookeeper_rules.assign_ids(
            members,
            explicit={host: number for host, number in explicit.items() if number},
            persisted={host: int(state["myid"]) for host, state in seen.items() if state.get("myid")},
            known=known,
            unseen=[host for host in members if not seen[host]],
        )
        return ids
    except zookeeper_rules.RuleError as error:
        raise AnsibleFilterError(str(error)) from error


def zookeeper_servers(ids: Mapping[str, int], hostvars: Mapping[str, Any]) -> dict[int, str]:
    """Return id -> host:peer_port:election_port, in the order of the ids, each with its own host's ports."""
    servers = {}
    for host, number in sorted(ids.items(), key=lambda item: item[1]):
        variables = hostvars[host]
        peer = int(variables.get("zookeeper_peer_port", 2888))
        election = int(variables.get("zookeeper_election_port", 3888))
        servers[int(number)] = f"{_address(hostvars, host)}:{peer}:{election}"
    return servers


def zookeeper_plan(ids: Mapping[str, int], hostvars: Mapping[str, Any]) -> dict[str, Any]:
    """Return in which order the members come up; see zookeeper_rules.plan."""
    members = {host: {**seen, "id": number} for host, number in ids.items() if (seen := _seen(hostvars, host))}
    try:
        order: dict[str, Any] = zookeeper_rules.plan(zookeeper_servers(ids, hostvars), members)
        return order
    except zookeeper_rules.RuleError as error:
        raise AnsibleFilterError(str(error)) from error


def zookeeper_verdict(members: Iterable[str], hostvars: Mapping[str, Any]) -> dict[str, Any]:
    """Judge what every member said when the role asked it (zookeeper_health); see zookeeper_rules.judge."""
    hosts = list(members)
    verdict: dict[str, Any] = zookeeper_rules.judge({host: _seen(hostvars, host, HEALTH) for host in hosts}, hosts)
    return verdict


def zookeeper_restarts(members: Iterable[str], hostvars: Mapping[str, Any], every: bool = False) -> list[str]:
    """Return the members that run with other files than those on disk (service_turn, state probe), or every one: the leader last."""
    stale = [host for host in members if every or _seen(hostvars, host, TURN).get("needs_restart")]
    return sorted(stale, key=lambda host: bool(_seen(hostvars, host, TURN).get("is_leader")))


def zookeeper_changed(members: Iterable[str], hostvars: Mapping[str, Any]) -> list[str]:
    """Return the members whose server the role has just started."""
    return [host for host in members if _seen(hostvars, host, STARTED).get("changed")]


class FilterModule:
    """The filters, by the names templates use."""

    def filters(self) -> dict[str, Any]:
        """Return name -> function."""
        return {
            "zookeeper_changed": zookeeper_changed,
            "zookeeper_ids": zookeeper_ids,
            "zookeeper_plan": zookeeper_plan,
            "zookeeper_restarts": zookeeper_restarts,
            "zookeeper_servers": zookeeper_servers,
            "zookeeper_verdict": zookeeper_verdict,
        }
