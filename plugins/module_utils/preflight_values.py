"""Preflight rules on single values: types, choices, ranges, and names that nobody knows. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.module_utils.preflight_model import Inventory, Problem, as_bool, as_int, name_list, nearest, show

#: A variable that starts with one of these belongs to the project, so a name that no role knows is a slip.
PREFIXES = (
    "spark_",
    "zookeeper_",
    "java_",
    "scala_",
    "ssh_trust_",
    "cluster_",
    "preflight_",
    "names_",
    "drill_",
    "lab_",
    "status_",
    "artifact_",
    "sparkd_",
    "wordcount_",
    "destroy_",
)

#: What the JVM and Spark both read as a size: a number and a unit. A bare number means bytes to one and MiB to the other.
MEMORY = re.compile(r"^[1-9][0-9]*[kmgt]b?$", re.IGNORECASE)
MEMORY_NAME = re.compile(r"_(memory|heap)$")

#: Variables that must say the same on every host, because the daemons of all hosts must agree.
CLUSTER_WIDE = (
    "cluster_name",
    "spark_daemons",
    "spark_version",
    "spark_user",
    "spark_recovery_mode",
    "spark_zookeeper_dir",
    "zookeeper_external",
)


def check_values(inventory: Inventory) -> list[Problem]:
    """Return the problems of single values."""
    return [
        *_unknown_names(inventory),
        *_untemplatable(inventory),
        *_types(inventory),
        *_differing(inventory),
    ]


def _unknown_names(inventory: Inventory) -> Iterable[Problem]:
    """Find variables with one of the project's prefixes that no role knows."""
    hosts_of: dict[str, list[str]] = {}
    for host, given in inventory.given.items():
        for name in given:
            if name.startswith(PREFIXES) and name not in inventory.specs:
                hosts_of.setdefault(name, []).append(host)
    for name, hosts in sorted(hosts_of.items()):
        meant = nearest(name, inventory.specs)
        prefix = next(prefix for prefix in PREFIXES if name.startswith(prefix))
        advice = f"did you mean {meant}? Otherwise take" if meant else "take"
        yield Problem(
            tuple(hosts),
            name,
            show(name, inventory.given[hosts[0]][name]),
            f"No role knows a variable of this name, so it would have no effect (names that start with {prefix} belong to this project).",
            f"{advice} it out; docs/variables.md has the list.",
        )


def _untemplatable(inventory: Inventory) -> Iterable[Problem]:
    """Find values whose template fails whatever the facts are."""
    seen: dict[tuple[str, str], list[str]] = {}
    for host, broken in inventory.broken.items():
        for name, reason in broken.items():
            seen.setdefault((name, reason), []).append(host)
    for (name, reason), hosts in seen.items():
        yield Problem(
            tuple(hosts), name, "", f"Its value cannot be worked out: {reason}", "correct the expression, or the variable that it names."
        )


def _types(inventory: Inventory) -> Iterable[Problem]:
    """Find values of the wrong type, out of range or not among the choices."""
    for name in inventory.specs:
        for value, hosts in inventory.by_value(name, inventory.hosts):
            trouble = check_value(name, value, inventory.specs[name])
            if trouble:
                yield Problem(hosts, name, show(name, value), *trouble)


def check_value(name: str, value: Any, spec: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return (problem, fix) when a value cannot be what its role's argument_specs and its name say, else None."""
    if value is None:
        return (
            ("It has no value.", f"set it, or take the line out to get the default ({_default(spec)}).") if spec.get("required") else None
        )
    kind = spec.get("type", "str")
    choices = spec.get("choices")
    if choices and kind != "list" and str(value) not in [str(choice) for choice in choices]:
        meant = nearest(str(value).upper(), [str(choice).upper() for choice in choices])
        listed = name_list([str(choice) for choice in choices])
        exact = next((str(choice) for choice in choices if str(choice).upper() == meant), None)
        return (f"Unknown value; it can be {listed}.", f"did you mean {name}: {exact}?" if exact else f"set {name} to one of these.")
    return _check_kind(name, value, kind, spec) or _check_range(name, value, kind, spec)


def _check_kind(name: str, value: Any, kind: str, spec: Mapping[str, Any]) -> tuple[str, str] | None:
    """Compare a value with the declared type."""
    example = f"for example the default, {_default(spec)}." if "default" in spec else "see docs/variables.md."
    if kind == "int" and as_int(value) is None:
        return "It must be a whole number.", f"set {name} to a number, {example}"
    if kind == "float":
        try:
            float(value)
        except (TypeError, ValueError):
            return "It must be a number.", f"set {name} to a number, {example}"
    if kind == "bool" and as_bool(value) is None:
        return "It must be true or false.", f"set {name} to true or false."
    if kind == "list":
        if isinstance(value, str) or not isinstance(value, list | tuple):
            return "It must be a list.", f"write it as a list: {name}: [{value if isinstance(value, str) else '...'}]."
        if spec.get("choices"):
            strange = [str(item) for item in value if str(item) not in [str(choice) for choice in spec["choices"]]]
            if strange:
                return f"Unknown entries: {name_list(strange)}.", f"take from {name_list([str(choice) for choice in spec['choices']])}."
    if kind == "dict" and not isinstance(value, Mapping):
        return "It must be a mapping of names to values.", f"write it as a mapping: {name}: {{key: value}}."
    if kind in ("str", "path") and isinstance(value, list | Mapping):
        return "It must be a single text.", f"write {name} as one text, {example}"
    return None


def _check_range(name: str, value: Any, kind: str, spec: Mapping[str, Any]) -> tuple[str, str] | None:
    """Check what a name promises: ports, sizes of memory, spans of time and amounts."""
    if kind == "int":
        number = as_int(value)
        assert number is not None  # noqa: S101 - _check_kind came first
        if name.endswith("_port"):
            lowest = 0 if as_int(spec.get("default")) == 0 else 1
            if not lowest <= number <= 65535:
                return f"A port lies between {lowest} and 65535.", f"choose a free port, for example the default, {_default(spec)}."
        elif name.endswith(("_ms", "_s", "_mb", "_gb", "_cores", "_retries")) and number < 0:
            return "It cannot be negative.", f"set {name} to zero or more, for example the default, {_default(spec)}."
    if kind == "str" and MEMORY_NAME.search(name) and value != "" and not MEMORY.match(str(value)):
        return (
            "It must be a size of memory with a unit: a whole number followed by k, m, g or t.",
            f"write it like 512m or 2g, for example {name}: {_default(spec)}." if spec.get("default") else "write it like 512m or 2g.",
        )
    return None


def _default(spec: Mapping[str, Any]) -> str:
    return str(spec.get("default", "none"))


def _differing(inventory: Inventory) -> Iterable[Problem]:
    """Find variables that must be the same everywhere and are not."""
    for name in CLUSTER_WIDE:
        found = inventory.by_value(name, inventory.cluster_hosts())
        if len(found) > 1:
            values = "; ".join(f"{show(name, value)} on {name_list(hosts)}" for value, hosts in found)
            yield Problem(
                tuple(host for _, hosts in found for host in hosts),
                name,
                values,
                "The hosts of one cluster must agree on it.",
                f"set {name} once, in group_vars/all.yml.",
            )
