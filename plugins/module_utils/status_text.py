"""The report on a cluster as a person reads it in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.text_table import table


def render(report: Mapping[str, Any]) -> str:
    """Return the table, what is wrong and what to do next; the verdict is the last line."""
    lines = [
        f"Cluster {report['cluster']}: Spark {report['spark_version']} ({report['daemons']} daemons),"
        f" recovery {report['recovery_mode']}, {report['master_url']}",
        "",
        *table(("HOST", "ROLE", "STATE", "CORES", "MEMORY", "URL"), list(_rows(report)), frozenset({3, 4})),
        "",
    ]
    if report["leader"]:
        lines.append(
            f"In use: {report['cores_used']} of {report['cores']} cores,"
            f" {_memory(report['memory_used_mb'])} of {_memory(report['memory_mb'])} memory;"
            f" {len(report['apps'])} applications, {len(report['drivers'])} drivers"
        )
    lines.append(_ensemble(report["ensemble"]))
    lines += [f"Note: {note}" for note in report["notes"]]
    if report["problems"]:
        lines += ["", "What to do:"]
        lines += [f"  - {problem['message']}\n    {problem['fix']}" for problem in report["problems"]]
    lines += ["", report["verdict"]]
    return "\n".join(lines)


def _rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for host in report["hosts"]:
        name = host["name"]
        for role in host["roles"]:
            cores = memory = ""
            if role.get("cores") is not None:
                cores = f"{role['cores_used']}/{role['cores']}"
                memory = f"{_memory(role['memory_used_mb'])}/{_memory(role['memory_mb'])}"
            rows.append((name, role["role"], role["state"], cores, memory, role["url"] or ""))
            name = ""
    return rows


def _ensemble(ensemble: Mapping[str, Any] | None) -> str:
    if ensemble is None:
        return "Ensemble: none"
    if not ensemble["checked"]:
        return "Ensemble: external, not checked"
    leader = ensemble["leader"] or "none"
    synced = f", {ensemble['synced_followers']} followers in sync" if ensemble["synced_followers"] is not None else ""
    kind = "external, " if ensemble["external"] else ""
    return f"Ensemble: {kind}{ensemble['serving']} of {ensemble['members']} servers serve, leader {leader}{synced}"


def _memory(megabytes: int) -> str:
    return f"{megabytes / 1024:.1f}G" if megabytes >= 1024 else f"{megabytes}M"
