"""Preflight rules on the inventory as a whole: groups, masters, the ensemble, ports, versions. Pure.

Each rule is a function from the inventory to the problems it finds; `check` runs them all, so that a user sees
everything at once.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from ansible.module_utils.preflight_model import KNOWN_GROUPS, Inventory, Problem, as_bool, as_int, name_list, nearest, show
from ansible.module_utils.preflight_values import check_value, check_values

#: Groups that others use for the same thing, and what they are here.
OTHER_NAMES = {
    "masters": "spark_masters",
    "workers": "spark_workers",
    "slaves": "spark_workers",
    "spark_slaves": "spark_workers",
    "clients": "spark_clients",
    "edge": "spark_clients",
    "gateway": "spark_clients",
    "zk": "zookeeper",
    "zoo": "zookeeper",
    "zookeepers": "zookeeper",
}

#: What listens: (group, variable of the port, variable that switches it on or None, what it is, systemd unit).
LISTENERS = (
    ("zookeeper", "zookeeper_client_port", None, "ZooKeeper for clients", "zookeeper.service"),
    ("zookeeper", "zookeeper_peer_port", None, "ZooKeeper between leader and followers", "zookeeper.service"),
    ("zookeeper", "zookeeper_election_port", None, "ZooKeeper's elections", "zookeeper.service"),
    ("zookeeper", "zookeeper_admin_port", "zookeeper_admin_enabled", "ZooKeeper's AdminServer", "zookeeper.service"),
    ("spark_masters", "spark_master_port", None, "the master", "spark-master.service"),
    ("spark_masters", "spark_master_webui_port", None, "the master's page", "spark-master.service"),
    ("spark_masters", "spark_rest_port", "spark_rest_enabled", "REST submissions", "spark-master.service"),
    ("spark_workers", "spark_worker_port", None, "the worker", "spark-worker.service"),
    ("spark_workers", "spark_worker_webui_port", None, "the worker's page", "spark-worker.service"),
)

#: Units of the project: a port that one of them holds is not taken by a stranger.
UNITS = tuple(sorted({unit for *_, unit in LISTENERS} | {"spark-latchkeeper.service"}))

#: The filter that sparkd has, too: bearer tokens.
JWS_FILTER = "org.apache.spark.ui.JWSFilter"

_HOST_PORT = re.compile(r"^(?P<host>[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})$")
_CHROOT = re.compile(r"^(/[^/\s,]+)+$")


def check(inventory: Inventory) -> list[Problem]:
    """Return everything that is wrong with an inventory, warnings last."""
    found = [
        *_groups(inventory),
        *check_values(inventory),
        *_masters(inventory),
        *_ensemble(inventory),
        *_external(inventory),
        *_myids(inventory),
        *_sessions(inventory),
        *_addresses(inventory),
        *_ports(inventory),
        *_versions(inventory),
        *_rest(inventory),
    ]
    return sorted(found, key=lambda problem: problem.warning)


def _groups(inventory: Inventory) -> Iterator[Problem]:
    """Find misspelt groups, hosts that are in none that counts, and an inventory without a master."""
    misspelt: set[str] = set()
    for group, hosts in inventory.groups.items():
        if group in (*KNOWN_GROUPS, "all", "ungrouped") or group in inventory.other_groups or not hosts:
            continue
        if set(inventory.related.get(group, ())) & set(KNOWN_GROUPS):
            continue  # spark (children: spark_masters, ...) or a part of a known group: deliberate
        meant = OTHER_NAMES.get(group) or nearest(group, KNOWN_GROUPS, cutoff=0.75)
        if meant and set(hosts) <= set(inventory.members(meant)):
            continue  # spark_workers_large: a name for some of them, to give them variables
        if meant:
            misspelt.update(hosts)
            yield Problem(
                tuple(hosts),
                f"group {group}",
                "",
                f"No play uses a group of this name. The groups are {name_list(KNOWN_GROUPS)}.",
                f"did you mean {meant}? If it is another group on purpose, add it to preflight_other_groups.",
            )
    others = {host for group in inventory.other_groups for host in inventory.members(group)}
    inside = set(inventory.cluster_hosts()) | misspelt | others
    lost = [host for host in inventory.hosts if host not in inside]
    if lost:
        yield Problem(
            tuple(lost),
            "groups",
            name_list(lost),
            "In none of the groups that the plays use, so nothing would be installed there.",
            f"put each host into one or more of {name_list(KNOWN_GROUPS)}, or take it out of the inventory "
            "(hosts of another purpose: name their group in preflight_other_groups).",
        )
    if not inventory.members("spark_masters"):
        yield Problem(
            (),
            "group spark_masters",
            "empty",
            "There is no master, so there is no cluster.",
            "put one host, or two for high availability, into the group spark_masters.",
        )
    elif not inventory.members("spark_workers"):
        yield Problem(
            (),
            "group spark_workers",
            "empty",
            "There is no worker: applications would wait for resources for ever.",
            "put at least one host into the group spark_workers.",
            warning=True,
        )


def _modes(inventory: Inventory) -> set[str]:
    """Return the recovery modes that the Spark hosts have."""
    return {str(value) for value, _ in inventory.by_value("spark_recovery_mode", inventory.spark_hosts())}


def _masters(inventory: Inventory) -> Iterator[Problem]:
    """Refuse several masters where nothing elects one of them.

    Only ZooKeeperLeaderElectionAgent elects among several; in every other mode MonarchyLeaderAgent makes each Apache master the
    leader of its own, whatever directory they share. sparkd elects with a lock in the directory, if it is one for all of them.
    """
    masters = inventory.members("spark_masters")
    sparkd = _sparkd(inventory)
    for mode in sorted(_modes(inventory) - {"ZOOKEEPER"}):
        if len(masters) < 2 or mode not in ("NONE", "FILESYSTEM"):
            continue
        if mode == "FILESYSTEM" and sparkd:
            yield from _shared(inventory, masters)
            continue
        shared = " A recovery directory that they share does not help." if mode == "FILESYSTEM" else ""
        yield Problem(
            tuple(masters),
            "spark_recovery_mode",
            show("spark_recovery_mode", mode),
            f"{len(masters)} masters ({name_list(masters)}) in this mode: each elects itself, and the cluster would have "
            f"{len(masters)} leaders.{shared}",
            "set spark_recovery_mode: ZOOKEEPER, or leave one host in the group spark_masters.",
        )


def _sparkd(inventory: Inventory) -> bool:
    """Whether the cluster's daemons are sparkd."""
    return any(inventory.get(host, "spark_daemons") == "sparkd" for host in inventory.hosts)


def _shared(inventory: Inventory, masters: list[str]) -> Iterator[Problem]:
    """Refuse several masters on directories of their own, or on one that nobody says is shared."""
    directories = [str(value) for value, _ in inventory.by_value("spark_recovery_directory", masters)]
    if len(directories) > 1:
        yield Problem(
            tuple(masters),
            "spark_recovery_directory",
            name_list(directories),
            f"{len(masters)} masters with several directories: each would elect itself.",
            "set one spark_recovery_directory for all of them, on a file system that they share.",
        )
    apart = [host for host in masters if not as_bool(inventory.get(host, "spark_recovery_shared", False))]
    if apart:
        yield Problem(
            tuple(apart),
            "spark_recovery_shared",
            "false",
            f"{len(masters)} masters ({name_list(masters)}) in mode FILESYSTEM elect by a lock in spark_recovery_directory. If that is a "
            f"local directory of each host, the cluster has {len(masters)} leaders.",
            "if it is one shared file system on all of them (NFS 4 or the like), set spark_recovery_shared: true; else set "
            "spark_recovery_mode: ZOOKEEPER, or leave one host in the group spark_masters.",
        )


def _ensemble(inventory: Inventory) -> Iterator[Problem]:
    """Check the ensemble's size, and that there is one when the masters need one."""
    members = inventory.ensemble()
    external = any(inventory.get(host, "zookeeper_external") for host in inventory.hosts)
    if "ZOOKEEPER" in _modes(inventory) and not members and not external:
        yield Problem(
            tuple(inventory.members("spark_masters")),
            "spark_recovery_mode",
            '"ZOOKEEPER"',
            "The group zookeeper is empty and zookeeper_external is not set: there is no ensemble to keep the state and elect a leader.",
            "put 3 hosts (1 for a trial) into the group zookeeper, or set zookeeper_external: host:2181,host:2181,host:2181, "
            "or with a single master set spark_recovery_mode: FILESYSTEM.",
        )
    if len(members) == 2:
        yield Problem(
            tuple(members),
            "group zookeeper",
            "2 hosts",
            "An ensemble of 2 needs both for a quorum: it stops when either fails, so it is worse than one.",
            "put 1 or 3 hosts into the group zookeeper.",
        )
    elif members and len(members) % 2 == 0:
        yield Problem(
            tuple(members),
            "group zookeeper",
            f"{len(members)} hosts",
            f"An ensemble of {len(members)} survives the loss of {(len(members) - 1) // 2}, no more than one of {len(members) - 1}.",
            f"put {len(members) - 1} or {len(members) + 1} hosts into the group zookeeper.",
            warning=True,
        )


def parse_connect(text: str) -> str | None:
    """Return what is wrong with a ZooKeeper connect string (host:port,host:port/chroot), None when nothing is.

    The rules of ZooKeeper's ConnectStringParser, but with ports that must be written.
    """
    if text != text.strip() or re.search(r"\s", text):
        return "it has blanks in it"
    servers, slash, path = text.partition("/")
    if slash and "," in path:
        return "the chroot comes once, after the last server"
    if slash and not _CHROOT.match(slash + path):
        return f"{slash + path!r} is no chroot: /name or /name/name"
    for server in servers.split(","):
        match = _HOST_PORT.match(server)
        if not match:
            return f"{server!r} is not host:port" if server else "there is an empty entry between commas"
        if not 1 <= int(match["port"]) <= 65535:
            return f"port {match['port']} is not between 1 and 65535"
    if len(set(servers.split(","))) != len(servers.split(",")):
        return "a server is in it twice"
    return None


def _external(inventory: Inventory) -> Iterator[Problem]:
    """Check the connect string of an existing ensemble."""
    for value, hosts in inventory.by_value("zookeeper_external", inventory.hosts):
        wrong = parse_connect(value) if isinstance(value, str) and value else None
        if wrong:
            yield Problem(
                hosts,
                "zookeeper_external",
                show("zookeeper_external", value),
                f"This is no connect string: {wrong}.",
                "write host:2181,host:2181,host:2181, with a chroot such as /spark-ha after the last port if you use one.",
            )


def _myids(inventory: Inventory) -> Iterator[Problem]:
    """Check explicit server ids: 1..255, each once."""
    taken: dict[int, list[str]] = {}
    for host in inventory.ensemble():
        value = inventory.get(host, "zookeeper_myid")
        number = as_int(value)
        if value in (None, "") or number == 0:
            continue  # not explicit: persisted or given by the role
        if number is None:
            continue  # reported as a value of the wrong type
        if not 1 <= number <= 255:
            yield Problem(
                (host,), "zookeeper_myid", str(value), "A server id lies between 1 and 255.", "choose one that no other host has."
            )
        taken.setdefault(number, []).append(host)
    for number, hosts in taken.items():
        if len(hosts) > 1:
            free = next(candidate for candidate in range(1, 256) if candidate not in taken)
            yield Problem(
                tuple(hosts),
                "zookeeper_myid",
                str(number),
                f"{name_list(hosts)} have the same server id: they would take each other for themselves.",
                f"give each host of the group zookeeper its own zookeeper_myid; {free} is free.",
            )


def _sessions(inventory: Inventory) -> Iterator[Problem]:
    """Check that the session timeouts fit the tick (QuorumPeerConfig: minimum 2 ticks, maximum 20 ticks unless set)."""
    names = ("zookeeper_tick_time_ms", "zookeeper_session_timeout_min_ms", "zookeeper_session_timeout_max_ms")
    seen: dict[tuple[Any, ...], list[str]] = {}
    for host in inventory.ensemble():
        seen.setdefault(tuple(as_int(inventory.get(host, name)) for name in names), []).append(host)
    for (tick, low, high), hosts in seen.items():
        if tick is not None and tick <= 0:
            yield Problem(tuple(hosts), names[0], str(tick), "A tick must last longer than 0 ms.", f"set {names[0]}: 500.")
            continue
        if not high or high < 0:
            continue
        if low and low > 0:
            if low > high:
                yield Problem(
                    tuple(hosts),
                    names[2],
                    str(high),
                    f"It is less than {names[1]} ({low}), and ZooKeeper refuses to start.",
                    f"set {names[2]} to {low} or more, or {names[1]} to {high} or less.",
                )
        elif tick and high < 2 * tick:
            yield Problem(
                tuple(hosts),
                names[2],
                str(high),
                f"It is less than 2 ticks of {tick} ms, the shortest session that ZooKeeper grants, and ZooKeeper refuses to start.",
                f"set {names[2]} to {2 * tick} or more, or {names[0]} to {high // 2} or less.",
            )


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _addresses(inventory: Inventory) -> Iterator[Problem]:
    """Find hosts that would have the same address, and loopback addresses that peers cannot reach."""
    hosts = inventory.cluster_hosts()
    for variable in ("cluster_address", "cluster_ip"):
        for value, same in inventory.by_value(variable, hosts):
            if value and len(same) > 1:
                yield _same_address(variable, value, same)
    by_ssh: dict[tuple[str, Any], list[str]] = {}
    for host in hosts:
        address = inventory.get(host, "ansible_host")
        if address and not inventory.get(host, "cluster_ip"):
            by_ssh.setdefault((str(address), None), []).append(host)
        elif address:
            # Several hosts behind one address and different ports: fine as long as each says its cluster_ip.
            by_ssh.setdefault((str(address), as_int(inventory.get(host, "ansible_port")) or 22), []).append(host)
    for (address, _), same in by_ssh.items():
        if len(same) > 1:
            yield _same_address("ansible_host", address, tuple(same))
    if len(hosts) < 2:
        return
    for host in hosts:
        address = str(inventory.get(host, "cluster_ip") or inventory.get(host, "ansible_host") or "")
        named = str(inventory.get(host, "cluster_address") or "")
        bad = next((text for text in (address, named) if text and _is_loopback(text)), None)
        if bad:
            yield Problem(
                (host,),
                "cluster_address" if bad == named else "cluster_ip",
                show("", bad),
                "A loopback address: the other hosts of the cluster cannot reach this one there.",
                f"set cluster_ip of {host} to the address that the others reach it by.",
            )


def _same_address(variable: str, value: Any, hosts: tuple[str, ...]) -> Problem:
    return Problem(
        hosts,
        variable,
        show(variable, value),
        f"{name_list(hosts)} have the same address: they would be one machine with every port and every unit twice.",
        f"give each host its own {'ansible_host or cluster_ip' if variable == 'ansible_host' else variable}, "
        "or make it one host that is in several groups.",
    )


def listeners(inventory: Inventory, host: str) -> list[tuple[int, str, str, str]]:
    """Return (port, variable, what listens, unit) for what the project starts on a host; ports the system chooses are left out."""
    result = []
    ensemble = inventory.ensemble()
    for group, variable, switch, what, unit in LISTENERS:
        members = ensemble if group == "zookeeper" else inventory.members(group)
        if host not in members:
            continue
        if switch is not None and not as_bool(inventory.get(host, switch, False)):
            continue
        port = as_int(inventory.get(host, variable))
        if port is not None and 1 <= port <= 65535:
            result.append((port, variable, what, unit))
    return result


def _ports(inventory: Inventory) -> Iterator[Problem]:
    """Find ports that two daemons of one host would both listen on."""
    seen: dict[tuple[int, tuple[tuple[str, str], ...]], list[str]] = {}
    for host in inventory.cluster_hosts():
        users: dict[int, list[tuple[str, str]]] = {}
        for port, variable, what, _ in listeners(inventory, host):
            users.setdefault(port, []).append((variable, what))
        ssh = as_int(inventory.get(host, "ansible_port")) or 22
        if ssh in users and str(inventory.get(host, "ansible_connection", "ssh")).rpartition(".")[2] != "local":
            users[ssh].append(("ansible_port", "sshd"))
        for port, both in users.items():
            if len(both) > 1:
                seen.setdefault((port, tuple(both)), []).append(host)
    for (port, clash), hosts in seen.items():
        variables = [variable for variable, _ in clash]
        movable = variables[0] if variables[-1] == "ansible_port" else variables[-1]
        yield Problem(
            tuple(hosts),
            name_list(variables),
            str(port),
            f"{name_list([f'{what} ({variable})' for variable, what in clash])} would listen on the same port of one host.",
            f"set {movable} to a free port, for example {_free_port(inventory, hosts, port)}.",
        )


def _free_port(inventory: Inventory, hosts: Iterable[str], near: int) -> int:
    """Return a port close to ``near`` that nothing of the project uses on these hosts."""
    used: set[int] = {entry[0] for host in hosts for entry in listeners(inventory, host)}
    near = max(near, 1024)
    for port in chain(range(near + 10, 65536), range(1024, near)):
        if port not in used:
            return port
    return 0


def _versions(inventory: Inventory) -> Iterator[Problem]:
    """Check that the Spark line is a supported one, and that the Java version asked for runs it."""
    lines = inventory.lines
    if not lines:
        return
    for value, hosts in inventory.by_value("spark_version", inventory.spark_hosts()):
        line = ".".join(str(value).split(".")[:2])
        if not re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+([.-][0-9A-Za-z.]+)?", str(value)):
            yield Problem(
                hosts,
                "spark_version",
                show("spark_version", value),
                "This is no version of Spark: three numbers are needed.",
                f"write it like spark_version: {inventory.specs.get('spark_version', {}).get('default', '4.3.0')}.",
            )
        elif line not in lines:
            yield Problem(
                hosts,
                "spark_version",
                show("spark_version", value),
                f"The line {line} of Spark is not supported; these are: {name_list(list(lines))}.",
                f"choose a version of one of these lines, for example {inventory.specs.get('spark_version', {}).get('default', '4.3.0')}.",
            )
        else:
            yield from _java(inventory, line, lines[line]["java"], hosts)


def _java(inventory: Inventory, line: str, fits: list[int], hosts: Iterable[str]) -> Iterator[Problem]:
    """Check an explicit Java version against a Spark line."""
    for value, same in inventory.by_value("java_version", hosts):
        number = as_int(value)
        wrong = tuple(host for host in same if not inventory.get(host, "java_home"))
        known = check_value("java_version", value, inventory.specs.get("java_version", {})) is None
        if known and number and number not in fits and wrong:
            yield Problem(
                wrong,
                "java_version",
                str(value),
                f"Spark {line} does not run on Java {number}; it takes {' or '.join(str(fit) for fit in fits)}.",
                f"set java_version: {max(fits)}, or take it out, or choose another spark_version.",
            )


def _rest(inventory: Inventory) -> Iterator[Problem]:
    """Refuse REST submissions without a filter: whoever reaches the port could run code as the Spark user.

    sparkd has its own key, and knows one filter only.
    """
    if _sparkd(inventory):
        for value, hosts in inventory.by_value("spark_rest_filters", inventory.members("spark_masters")):
            unknown = sorted(set(value) - {JWS_FILTER}) if isinstance(value, dict) else []
            if unknown:
                yield Problem(
                    hosts,
                    "spark_rest_filters",
                    name_list(unknown),
                    f"Filters are Java classes; sparkd knows one by name, {JWS_FILTER}.",
                    "take it out (sparkd checks tokens with a key of its own), or set spark_daemons: apache.",
                )
        return
    open_hosts = [
        host
        for host in inventory.members("spark_masters")
        if as_bool(inventory.get(host, "spark_rest_enabled", False)) and not inventory.get(host, "spark_rest_filters")
    ]
    if open_hosts:
        yield Problem(
            tuple(open_hosts),
            "spark_rest_enabled",
            "true",
            "spark_rest_filters is empty: whoever reaches the port could run any program as the Spark user.",
            "set spark_rest_filters (org.apache.spark.ui.JWSFilter with its key, Spark 4.0 and later), or spark_rest_enabled: false.",
        )
