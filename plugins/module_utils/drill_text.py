"""A drill's report as a person reads it in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.text_table import table


def render(report: Mapping[str, Any]) -> str:
    """Return the fault, the figures beside their bounds and the verdict; the verdict is the last line."""
    rows = [
        (check["text"], _value(check["value"]), check["unit"], _bound(check), "ok" if check["ok"] else f"FAILED: {check['why']}")
        for check in report["checks"]
    ]
    lines = [f"Drill {report['drill']} on {report['cluster']} ({report['daemons']} daemons, Spark {report['versions']['spark']})"]
    if report["fault"]:
        lines.append(f"Fault: {report['fault']['what']} on {report['fault']['host']} at {report['fault']['at']}")
    if rows:
        lines += ["", *table(("MEASURED", "VALUE", "", "BOUND", ""), rows, frozenset({1}))]
    change = report["measured"].get("new_leader")
    if change:
        lines += ["", f"{report['measured']['old_leader']} led, {change} leads now."]
    return "\n".join([*lines, "", verdict(report)])


def verdict(report: Mapping[str, Any]) -> str:
    """Return one line that tells the whole."""
    if report["verdict"] == "passed":
        gap = report["measured"].get("without_leader_s")
        return f"PASSED: {gap} s without a leader" if gap is not None else "PASSED"
    if report["verdict"] == "aborted":
        return f"ABORTED: {report['aborted_because']}"
    failed = [f"{check['text']}: {check['why']}" for check in report["checks"] if not check["ok"]]
    return "FAILED: " + "; ".join(failed)


def _value(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _bound(check: Mapping[str, Any]) -> str:
    word = "at most" if check["name"].startswith("max_") else "exactly"
    return f"{word} {_value(check['bound'])}"
