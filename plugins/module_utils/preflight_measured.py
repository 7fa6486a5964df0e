"""Preflight rules on what was measured on the hosts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.preflight_model import Problem, as_int, name_list
from ansible.module_utils.preflight_rules import UNITS
from ansible.module_utils.sparkd_tree import MACHINES, PYTHONS

#: MiB that a host needs, unless the inventory says so itself.
MEMORY_SPARKD_MB = 512
MEMORY_JVM_MB = 1024


@dataclass(frozen=True)
class Limits:
    """What a host must have: MiB (0: by what runs there), MiB per file system, seconds, and the oldest Python that the modules run on."""

    memory_mb: int
    disk_mb: int
    clock_skew_s: float
    python: tuple[int, int] = (3, 11)


def judge(
    needs: Mapping[str, Mapping[str, Any]],
    measured: Mapping[str, Mapping[str, Any]],
    limits: Limits,
    lines: Mapping[str, Mapping[str, Any]],
    java_of: Mapping[str, Sequence[int]],
) -> list[Problem]:
    """Return what keeps hosts from becoming the cluster.

    ``needs`` is what the inventory asks of each host, ``measured`` what was found there (result of preflight_host),
    ``lines`` the Spark lines with their Java versions, ``java_of`` the Java versions by distribution ("Debian-12").
    """
    found: list[Problem] = []
    for host, result in measured.items():
        if "facts" not in result:
            found.append(_no_answer(host, result))
            continue
        need, facts = needs.get(host, {}), result["facts"]
        if not need:
            continue
        found += [
            *_basics(host, facts, limits),
            *_space(host, need, facts, limits),
            *_clock(host, result, limits),
            *_ports(host, need, facts),
            *_names(host, need, facts),
            *_java(host, need, facts, lines, java_of),
            *_sparkd(host, need, facts),
        ]
    found += _ids(needs, measured)
    return found


def _no_answer(host: str, result: Mapping[str, Any]) -> Problem:
    """Say why a host gave no answer, with the way out that fits."""
    trouble = str(result.get("trouble", "no answer"))
    low = trouble.lower()
    if "host key verification failed" in low or "remote host identification has changed" in low:
        fix = "compare its key with the one in known_hosts; if the host is new, ssh to it once and check the fingerprint."
    elif "permission denied" in low or "authentication" in low:
        fix = (
            "check ansible_user and the key; for a host that so far takes only a password set ssh_trust_first_login_password "
            "and ssh_trust_first_login_fingerprint."
        )
    elif result.get("unreached"):
        fix = "start it, or correct ansible_host and ansible_port, or take it out of the inventory, or leave it out with --limit."
    elif "sudo" in low or "become" in low or "privilege" in low:
        fix = "allow ansible_user sudo without a password, or run with --ask-become-pass."
    elif "python" in low or "interpreter" in low:
        fix = "install python3 (3.11 or later) on it, or set ansible_python_interpreter."
    else:
        fix = f"try: ansible {host} -m ansible.builtin.ping -b -vvv"
    what = "unreachable" if result.get("unreached") else "no answer"
    return Problem((host,), what, "", trouble, fix)


def _basics(host: str, facts: Mapping[str, Any], limits: Limits) -> Iterator[Problem]:
    """Root, systemd and Python."""
    if not facts["root"]:
        yield Problem((host,), "ansible_become", "", "The roles need root and did not get it.", "allow ansible_user sudo.")
    if not facts["systemd"]:
        yield Problem((host,), "systemd", "not running", "The daemons are systemd units.", "use a host that boots with systemd.")
    if tuple(facts["python"][:2]) < limits.python:
        version = ".".join(str(part) for part in facts["python"])
        oldest = ".".join(str(part) for part in limits.python)
        yield Problem(
            (host,),
            "ansible_python_interpreter",
            f"Python {version}",
            f"Python {oldest} or later is needed: by the roles' modules and by PySpark 4.3.",
            "install a newer python3 and set ansible_python_interpreter, or use a newer distribution (Debian 12 has 3.11).",
        )


def _space(host: str, need: Mapping[str, Any], facts: Mapping[str, Any], limits: Limits) -> Iterator[Problem]:
    """Memory, and disk space once per file system."""
    memory_mb = limits.memory_mb or (MEMORY_SPARKD_MB if need.get("sparkd_python") else MEMORY_JVM_MB)
    if facts["memory_mb"] < memory_mb:
        yield Problem(
            (host,),
            "preflight_min_memory_mb",
            str(memory_mb),
            f"The host has {facts['memory_mb']} MiB of memory, too little for its daemons.",
            "give it more memory, or lower preflight_min_memory_mb if you know better.",
        )
    by_device: dict[Any, list[Mapping[str, Any]]] = {}
    for disk in facts["disks"]:
        by_device.setdefault(disk["device"], []).append(disk)
    for disks in by_device.values():
        if disks[0]["free_mb"] < limits.disk_mb:
            yield Problem(
                (host,),
                "preflight_min_disk_mb",
                str(limits.disk_mb),
                f"Only {disks[0]['free_mb']} MiB are free for {name_list([disk['path'] for disk in disks])}.",
                "make room, put the directories elsewhere (spark_install_root, spark_state_dir, ...), or lower preflight_min_disk_mb.",
            )


def clock_skew(between: Sequence[float], host_time: float) -> float:
    """Return by how many seconds a host's clock is certainly wrong: 0 when it lies between sending and receiving."""
    before, after = between
    if host_time < before:
        return host_time - before
    return max(0.0, host_time - after)


def _clock(host: str, result: Mapping[str, Any], limits: Limits) -> Iterator[Problem]:
    skew = clock_skew(result["between"], result["facts"]["time"])
    if abs(skew) > limits.clock_skew_s:
        yield Problem(
            (host,),
            "preflight_max_clock_skew_s",
            f"{limits.clock_skew_s:g}",
            f"Its clock is {abs(skew):.1f} s {'behind' if skew < 0 else 'ahead of'} the controller's.",
            "let both keep time by NTP (chrony or systemd-timesyncd).",
        )


def _ports(host: str, need: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Problem]:
    """Ports that a stranger holds; the project's own units may, whichever of them."""
    for entry in need["ports"]:
        holder = facts["ports"].get(str(entry["port"]))
        if holder is None or {holder["unit"], *holder.get("units", ())} & set(UNITS):
            continue
        if holder["pid"]:
            who = f"{holder['name']} (pid {holder['pid']}{', unit ' + holder['unit'] if holder['unit'] else ''})"
        else:
            who = f"a process of user {holder['user']}"
        yield Problem(
            (host,),
            entry["variable"],
            str(entry["port"]),
            f"{who} already listens on this port, which {entry['what']} needs.",
            f"stop it, or set {entry['variable']} of {host} to a free port.",
        )


def _names(host: str, need: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Problem]:
    """Names of peers that do not resolve, or to loopback; asked only where the roles leave /etc/hosts alone."""
    for name, address in need["names"].items():
        found = facts["names"].get(name, [])
        fix = "let the roles write /etc/hosts (names_manage_etc_hosts: true), or correct the DNS."
        if not found:
            yield Problem((host,), "cluster_address", name, "This name of a peer does not resolve on the host.", fix)
        elif any(item.startswith("127.") for item in found):
            yield Problem((host,), "cluster_address", name, f"It resolves to {name_list(found)}, and loopback is no way to a peer.", fix)
        elif address and address not in found:
            yield Problem((host,), "cluster_address", name, f"It resolves to {name_list(found)}, not to cluster_ip {address}.", fix)


def _java(
    host: str,
    need: Mapping[str, Any],
    facts: Mapping[str, Any],
    lines: Mapping[str, Mapping[str, Any]],
    java_of: Mapping[str, Sequence[int]],
) -> Iterator[Problem]:
    """Look for a Java that runs the chosen Spark: the one given, or one that the distribution has."""
    line = ".".join(need["spark_version"].split(".")[:2])
    if line not in lines:
        return
    fits = [int(version) for version in lines[line]["java"]]
    wanted = " or ".join(str(version) for version in fits)
    if need["java_home"]:
        if facts["java"] == "missing":
            yield Problem(
                (host,), "java_home", need["java_home"], "It has no bin/java.", f"point java_home to a JRE {wanted}, or take it out."
            )
        major = as_int(facts["java"].split(".")[0]) if facts["java"] else None
        if major is not None and major not in fits:
            yield Problem(
                (host,),
                "java_home",
                need["java_home"],
                f"It is Java {facts['java']}; Spark {line} takes {wanted}.",
                f"point java_home to a JRE {wanted}, or choose another spark_version.",
            )
        return
    name = facts["distribution"]
    release = f"{name['id'].capitalize()}-{name['version'].split('.')[0]}"
    packaged = java_of.get(release)
    if packaged is None:
        return  # the java role says what it thinks of a distribution that it does not know
    usable = set(packaged) & ({need["java_version"]} if need["java_version"] else set(fits))
    if not usable:
        asked = f"java_version {need['java_version']}" if need["java_version"] else f"Spark {line} (Java {wanted})"
        yield Problem(
            (host,),
            "java_version" if need["java_version"] else "spark_version",
            str(need["java_version"] or need["spark_version"]),
            f"{release} packages Java {name_list([str(version) for version in packaged])} only, which does not fit {asked}.",
            f"install a JRE {wanted} on the host and set java_home, or choose another spark_version or distribution.",
        )


def _sparkd(host: str, need: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Problem]:
    """Look for a Python that runs sparkd, on a machine that there are wheels for."""
    path, version = need.get("sparkd_python", ""), facts.get("sparkd_python", "")
    if not path:
        return
    if version not in PYTHONS:
        yield Problem(
            (host,),
            "sparkd_python",
            path,
            f"It is {'not there' if version in ('', 'missing') else f'Python {version}'}; sparkd runs on {name_list(PYTHONS)}.",
            "install python3 of Debian 12, Debian 13 or Ubuntu 24.04, or set sparkd_python to such a Python, or set spark_daemons: apache.",
        )
    if facts.get("machine") not in MACHINES:
        yield Problem(
            (host,),
            "spark_daemons",
            "sparkd",
            f"The host is a {facts.get('machine')}; sparkd's pinned packages are for {name_list(MACHINES)}.",
            "use another host, or set spark_daemons: apache.",
        )


def _ids(needs: Mapping[str, Mapping[str, Any]], measured: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
    """Server ids that differ from what a host has kept, or that two hosts have."""
    kept = {host: as_int(result["facts"]["myid"]) for host, result in measured.items() if "facts" in result and result["facts"]["myid"]}
    ids: dict[int, list[str]] = {}
    for host, need in needs.items():
        asked, has = need.get("myid") or 0, kept.get(host)
        if asked and has and asked != has:
            yield Problem(
                (host,),
                "zookeeper_myid",
                str(asked),
                f"The host is server {has} of the ensemble ({need['myid_file']}); an id must never change: its votes would count twice.",
                f"set zookeeper_myid: {has}, or take it out and the host keeps its id.",
            )
        final = asked or has
        if final and need.get("myid_file"):
            ids.setdefault(final, []).append(host)
    for number, hosts in ids.items():
        if len(hosts) > 1 and not all(needs[host].get("myid") for host in hosts):
            yield Problem(
                tuple(hosts),
                "zookeeper_myid",
                str(number),
                f"{name_list(hosts)} have the same server id (kept in myid or set in the inventory).",
                "give the newer of them another zookeeper_myid.",
            )
