"""What is right for a ZooKeeper ensemble: pure rules over what its members say.

Used by the role `zookeeper` (through the filters of plugins/filter/zookeeper.py), by its module and by the checks:

    judge({"h1": {"state": "leader", "synced_followers": 2, ...}, "h2": {"state": "follower"}, "h3": {"state": "down", "why": "..."}})
    -> {"quorum": True, "leader": "h1", "followers": ["h2"], "lost": ["h3"], "synced": 2, "healthy": False, "why": "h1 leads, but ..."}

The states are the results of the module zookeeper_health; a member that said nothing may be left out by the caller only
if it is named in `members`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MIN_ID, MAX_ID = 1, 255  # org.apache.zookeeper.server.quorum.QuorumPeer: the id is the top byte of a session id
SERVING = ("leader", "standalone", "follower", "observer", "read-only")


class RuleError(ValueError):
    """Something that must not be; the text names the variable or host, the value and the fix."""


def parse_servers(zoo_cfg: str) -> dict[int, str]:
    """Return id -> "host:peer_port:election_port" of the server lines of a zoo.cfg; what follows (role, client port) is dropped."""
    servers = {}
    for line in zoo_cfg.splitlines():
        match = re.fullmatch(r"\s*server\.(\d+)\s*=\s*(\S+)\s*", line)
        if match:
            servers[int(match[1])] = ":".join(match[2].split(";")[0].split(":")[:3])
    return servers


def name_list(names: Iterable[str]) -> str:
    """'h1', 'h1 and h2', 'h1, h2 and h3'."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def assign_ids(
    members: Sequence[str],
    explicit: Mapping[str, int] | None = None,
    persisted: Mapping[str, int] | None = None,
    known: Mapping[str, int] | None = None,
    unseen: Iterable[str] = (),
) -> dict[str, int]:
    """Return host -> id for all members in one go.

    An id is the one that the host has kept on disk (persisted), else the one that zookeeper_myid asks for (explicit), else
    the one under which the running ensemble knows the host (known: it may name hosts that are no members any more), else
    the lowest number that nobody has or had, in the order of `members`. So nobody is ever renumbered: not by taking a host
    out, not by adding one, not by changing the order.

    Raises RuleError on an id that is out of range, used twice or different from the one on disk, and for a member of
    `unseen` (not reached in this run) whose id nobody knows.
    """
    explicit, persisted, known = explicit or {}, persisted or {}, known or {}
    ids: dict[str, int] = {}
    for host in members:
        wanted, kept = explicit.get(host), persisted.get(host)
        if wanted is not None and not MIN_ID <= wanted <= MAX_ID:
            raise RuleError(f"zookeeper_myid={wanted} of {host}: a server id lies between {MIN_ID} and {MAX_ID}.")
        if wanted is not None and kept is not None and wanted != kept:
            raise RuleError(
                f"zookeeper_myid={wanted} of {host}, but the host is server {kept} (myid in its data directory): a server's id must never "
                f"change, or its votes count twice. Set zookeeper_myid: {kept}, or take the variable out and the host keeps its id."
            )
        number = kept if kept is not None else wanted if wanted is not None else known.get(host)
        if number is not None:
            ids[host] = number
    owners: dict[int, list[str]] = {}
    for host, number in ids.items():
        owners.setdefault(number, []).append(host)
    for number, hosts in owners.items():
        if len(hosts) > 1:
            free = _free({*ids.values(), *known.values()})
            raise RuleError(
                f"zookeeper_myid: {name_list(hosts)} are all server {number} (set in the inventory or kept in myid). Give the one that "
                f"joined last another number (zookeeper_myid: {free} is free) and remove its myid file and data."
            )
    lost = [host for host in members if host not in ids and host in set(unseen)]
    if lost:
        raise RuleError(
            f"The server id of {name_list(lost)} is not known, because it was not reached in this run and no other "
            "member knows it. Run without --limit once it is reachable, or set its zookeeper_myid."
        )
    taken = {*ids.values(), *known.values()}
    for host in members:
        if host not in ids:
            ids[host] = _free(taken)
            taken.add(ids[host])
    return {host: ids[host] for host in members}


def _free(taken: Iterable[int]) -> int:
    used = set(taken)
    for number in range(MIN_ID, MAX_ID + 1):
        if number not in used:
            return number
    raise RuleError(f"zookeeper_myid: all server ids from {MIN_ID} to {MAX_ID} are taken.")


def plan(servers: Mapping[int, str], members: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Say how to bring an ensemble to its new server lines without losing what it has stored.

    servers: the new lines, id -> "host:peer:election". members: per reached host what the module zookeeper_state saw, with
    its (new) id besides: has_data, running, servers (the lines it runs with, or would), strangers, old_data_dir.

    The answer has
      switch: the lines change under running members. They then stop and start together: while old and new lines run side
        by side two disjoint majorities could both decide (3 -> 5: two of three, and three of five).
      old: hosts that hold the data; they start first.
      first: hosts without data that are needed for a majority; they start next, and only as many, so that a quorum needs
        all old members and cannot be made of empty ones.
      rest: the other hosts without data; they join the quorum that is there.
      why: a sentence.

    Raises RuleError where data could be overruled, left out or left behind.
    """
    for host, seen in members.items():
        if seen.get("old_data_dir"):
            raise RuleError(
                f"zookeeper_data_dir of {host} changes and {seen['old_data_dir']} holds its data. Stop zookeeper there and move "
                "version-2 and myid to the new directory, or set zookeeper_data_dir back."
            )
    old = [host for host, seen in members.items() if seen.get("has_data")]
    fresh = [host for host in members if host not in old]
    if not old:
        return {"switch": False, "old": [], "first": fresh, "rest": [], "why": "a new ensemble"}
    strangers = sorted({line for host in old for line in members[host].get("strangers") or []})
    if strangers:
        raise RuleError(
            f"{name_list(strangers)} still runs as a member of the ensemble and is not in the group zookeeper any more: it could "
            "elect a leader against the others. Stop it there first (systemctl disable --now zookeeper), or put it back."
        )
    aliens = [host for host in old if _alien(host, old, members)]
    if aliens:
        raise RuleError(
            f"{name_list(aliens)} holds ZooKeeper data that the ensemble's other members do not know of; joining with it could "
            "replace what they have stored. Move version-2 and myid out of its zookeeper_data_dir and run again."
        )
    before = {line for host in old for line in _lines(members[host]).values()}
    continuing = before & set(servers.values())
    reached = {servers[number] for number in servers if number in {int(members[host]["id"]) for host in old}}
    missing = sorted(continuing - reached - {servers[int(members[host]["id"])] for host in fresh})
    first = fresh[: max(0, len(servers) // 2 + 1 - len(old))]
    switch = any(members[host].get("running") and _lines(members[host]) != dict(servers) for host in old)
    if missing and (first or (switch and len(old) < len(before) // 2 + 1)):
        raise RuleError(
            f"{name_list(missing)} of the ensemble is not reached, and without it what is stored might be lost by this change of members. "
            "Bring it back first."
        )
    why = f"{name_list(old)} hold{'s' if len(old) == 1 else ''} the data"
    return {"switch": switch, "old": old, "first": first, "rest": fresh[len(first) :], "why": why}


def _lines(seen: Mapping[str, Any]) -> dict[int, str]:
    return {int(number): line for number, line in (seen.get("servers") or {}).items()}


def _alien(host: str, old: Sequence[str], members: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tell whether the others that hold data (those that run, if any does) have no line for this one; a tie is enough."""
    others = [members[other] for other in old if other != host and _lines(members[other])]
    others = [seen for seen in others if seen.get("running")] or others
    naming = sum(1 for seen in others if int(members[host]["id"]) in _lines(seen))
    return bool(others) and naming <= len(others) - naming


def judge(states: Mapping[str, Mapping[str, Any]], members: Sequence[str] | None = None) -> dict[str, Any]:
    """Judge an ensemble by what each member said about itself.

    states: host -> result of zookeeper_health (state, synced_followers, epoch, why). members: all hosts that should be
    there (default: those of `states`); one without a state is lost.

    Returns quorum (bool), leader (host or ""), followers, lost (hosts), synced (followers that the leader counts, without
    itself), size, healthy (quorum, one leader, nobody lost, all in sync) and why, a sentence for people.
    """
    hosts = list(members if members is not None else states)
    said = {host: states.get(host) or {"state": "down", "why": "it was not reached"} for host in hosts}
    leaders = [host for host in hosts if said[host].get("state") in ("leader", "standalone")]
    followers = [host for host in hosts if said[host].get("state") == "follower"]
    lost = [host for host in hosts if said[host].get("state") not in SERVING]
    size = len(hosts)
    alone = [host for host in leaders if said[host].get("state") == "standalone"]
    synced = int(said[leaders[0]].get("synced_followers") or 0) if len(leaders) == 1 else 0
    quorum = len(leaders) == 1 and len(leaders) + len(followers) > size // 2 and not (alone and size > 1)
    reasons = "; ".join(
        f"{host} is {said[host].get('state') or 'down'}" + (f" ({said[host]['why']})" if said[host].get("why") else "") for host in lost
    )

    if not hosts:
        why = "the ensemble has no members"
    elif alone and size > 1:
        why = f"{name_list(alone)} runs standalone, although the ensemble has {size} members: it keeps a state of its own"
    elif len(leaders) > 1:
        why = f"{name_list(leaders)} all lead: there are several ensembles"
    elif not leaders:
        why = f"no member of {size} leads" + (f": {reasons}" if lost else ", an election is under way")
    elif lost:
        why = f"{leaders[0]} leads, but {len(lost)} of {size} lost: {reasons}"
        if not quorum:
            why += f"; {size // 2 + 1} are needed"
    elif size > 1 and synced < len(followers):
        why = f"{leaders[0]} leads, but counts {synced} of {len(followers)} followers in sync"
    elif size == 1:
        why = f"{leaders[0]} serves alone"
    else:
        why = f"{leaders[0]} leads, {name_list(followers)} in sync" if followers else f"{leaders[0]} leads"
    healthy = quorum and not lost and (size == 1 or synced >= len(followers))
    return {
        "quorum": quorum,
        "leader": leaders[0] if len(leaders) == 1 else "",
        "followers": followers,
        "lost": lost,
        "synced": synced,
        "size": size,
        "healthy": healthy,
        "why": why,
    }
