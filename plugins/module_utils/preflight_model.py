"""What the preflight rules work on: plain data of the inventory, and the problems they find. No Ansible, no I/O."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Groups that mean something to the project's plays.
KNOWN_GROUPS = ("zookeeper", "spark_masters", "spark_workers", "spark_clients")

#: Words in a variable's or a key's name whose value is not shown.
SECRET_WORDS = ("password", "passphrase", "secret", "token")

_UNSET = object()


@dataclass(frozen=True)
class Problem:
    """One thing that cannot work, with the way out.

    ``variable`` may also be a group; ``value`` is what was found, already fit to be shown; ``warning`` means: go on.
    """

    hosts: tuple[str, ...]
    variable: str
    value: str
    problem: str
    fix: str
    warning: bool = False


@dataclass(frozen=True)
class Inventory:
    """The inventory as the rules see it.

    ``groups`` has every group with its hosts in order; ``related`` names, per group, the groups above and below it.
    ``values`` are each host's effective variables (defaults of all roles under what the inventory says), templated;
    a variable that could not be templated yet (it needs facts) is missing. ``given`` is the part that the user set.
    ``broken`` has the reason per host and variable where a template of the user's cannot be worked out at all.
    ``specs`` are the options of all roles' argument_specs; ``lines`` the supported Spark lines with their Java versions.
    """

    groups: Mapping[str, Sequence[str]]
    values: Mapping[str, Mapping[str, Any]]
    given: Mapping[str, Mapping[str, Any]]
    specs: Mapping[str, Mapping[str, Any]]
    lines: Mapping[str, Mapping[str, Any]]
    related: Mapping[str, Sequence[str]] = field(default_factory=dict)
    broken: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    other_groups: Sequence[str] = ()

    @property
    def hosts(self) -> list[str]:
        """Every host, in the inventory's order."""
        return list(self.values)

    def members(self, group: str) -> list[str]:
        """Return the hosts of a group, empty when there is no such group."""
        return list(self.groups.get(group, ()))

    def cluster_hosts(self) -> list[str]:
        """Return the hosts that are in one of the known groups."""
        inside = {host for group in KNOWN_GROUPS for host in self.members(group)}
        return [host for host in self.hosts if host in inside]

    def spark_hosts(self) -> list[str]:
        """Return the hosts that get Spark."""
        inside = {host for group in KNOWN_GROUPS if group != "zookeeper" for host in self.members(group)}
        return [host for host in self.hosts if host in inside]

    def ensemble(self) -> list[str]:
        """Return the hosts of an ensemble of the project's own; none when an existing one is used."""
        members = self.members("zookeeper")
        external = {str(self.values[host].get("zookeeper_external") or "") for host in self.hosts} - {""}
        return [] if external else members

    def get(self, host: str, variable: str, default: Any = None) -> Any:
        """Return a host's effective value."""
        return self.values.get(host, {}).get(variable, default)

    def by_value(self, variable: str, hosts: Iterable[str]) -> list[tuple[Any, tuple[str, ...]]]:
        """Return (value, hosts that have it) for a variable, in the order of first sight; hosts without it are left out."""
        found: dict[str, tuple[Any, list[str]]] = {}
        for host in hosts:
            value = self.values.get(host, {}).get(variable, _UNSET)
            if value is not _UNSET:
                found.setdefault(repr(value), (value, []))[1].append(host)
        return [(value, tuple(names)) for value, names in found.values()]


def as_int(value: Any) -> int | None:
    """Return an int for what Ansible's type ``int`` accepts, else None."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return value
    try:
        return int(str(value).strip())
    except ValueError:
        return None


def as_bool(value: Any) -> bool | None:
    """Return a bool for what Ansible's type ``bool`` accepts, else None."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("yes", "on", "1", "true", "t", "y"):
        return True
    if text in ("no", "off", "0", "false", "f", "n"):
        return False
    return None


def show(variable: str, value: Any) -> str:
    """Return a value fit for a message: as JSON where that is shorter than a line, secrets never."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except TypeError:
        text = repr(value)
    inside = text.lower() if isinstance(value, list | Mapping) else ""
    if any(word in variable.lower() or word in inside for word in SECRET_WORDS):
        return "(not shown)"
    return text if len(text) <= 100 else f"{text[:97]}..."


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known name that looks most like ``name``, or None when none is near enough to be meant."""
    matches = difflib.get_close_matches(name, sorted(set(known)), n=1, cutoff=cutoff)
    return matches[0] if matches else None


def name_list(names: Sequence[str], limit: int = 6) -> str:
    """Return ``a, b and c``; long lists are cut with their count."""
    if len(names) > limit:
        return f"{', '.join(names[:limit])} and {len(names) - limit} more"
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def report(problems: Sequence[Problem], everyone: Sequence[str], what: str) -> str:
    """Return all problems as one numbered text; ``what`` says where they are ("in the inventory")."""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [f"{count} {what}; nothing was changed.", ""]
    for number, item in enumerate(problems, 1):
        where = "all hosts" if len(everyone) > 1 and set(item.hosts) == set(everyone) else name_list(item.hosts)
        head = f"{item.variable}: {item.value}" if item.value else item.variable
        lines.append(f"{number}. {head}" + (f"  ({where})" if where else ""))
        lines.append(f"   {item.problem}")
        lines.append(f"   Fix: {item.fix}")
        lines.append("")
    return "\n".join(lines).rstrip()
