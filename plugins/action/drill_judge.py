"""Judge a drill on the controller: write report.json, print the figures beside their bounds, fail when one is missed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.release import __version__ as ansible_version

# Ansible puts the project's module_utils into what it sends to hosts, not into its own path.
if (folder := str(Path(__file__).resolve().parent.parent / "module_utils")) not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(folder)

from ansible.module_utils.drill_history import HistoryError, parse_history, parse_load
from ansible.module_utils.drill_rules import SCHEMA, Check, Facts, judge, measured, timeline
from ansible.module_utils.drill_submissions import Submissions, parse_ran, parse_states, parse_submissions
from ansible.module_utils.drill_text import render, verdict


class ActionModule(ActionBase):  # type: ignore[misc]
    """Arguments: see the role ``drill``, its only user."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the report; fail when the drill was aborted or a bound is missed."""
        super().run(tmp, task_vars)
        _spec, args = self.validate_argument_spec(
            {
                "plan": {"type": "dict", "required": True},
                "before": {"type": "dict", "required": True},
                "bounds": {"type": "dict", "required": True},
                "fault": {"type": "dict", "default": {}},
                "aborted_because": {"type": "str", "default": ""},
                "key": {"type": "str", "default": ""},
                "directory": {"type": "path", "required": True},
            }
        )
        directory = Path(args["directory"]).resolve()
        report = self._report(args, directory, task_vars or {})
        try:
            directory.mkdir(parents=True, exist_ok=True)
            file = directory / "report.json"
            file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise AnsibleActionFail(f"drill_reports is not writable: {error}") from error
        passed = report["verdict"] == "passed"
        text, _newline, last = render(report).rpartition("\n")
        self._display.display(text)
        self._display.display(last, color=constants.COLOR_OK if passed else constants.COLOR_ERROR)
        self._display.display(f"Report: {file}")
        if not passed:
            return {"changed": False, "failed": True, "msg": f"{report['drill']}: {verdict(report)} (report: {file})"}
        return {"changed": False, "report": report, "file": str(file)}

    def _load(self, args: Mapping[str, Any], directory: Path) -> dict[str, Any]:
        """Return what was recorded of the load, jobs or submissions. Raises HistoryError."""
        if args["before"]["daemons"] != "sparkd":
            return {
                "load": parse_load(_lines(directory / "load.jsonl")),
                "newcomer": parse_load(_lines(directory / "newcomer.jsonl")),
            }
        files = {path.name: _lines(path) for path in sorted(directory.glob("ran-*.jsonl"))}
        started, ended = parse_ran(files, args["key"])
        made = parse_submissions(_lines(directory / "submissions.jsonl"))
        new = parse_submissions(_lines(directory / "newcomer.jsonl"))
        states = parse_states("\n".join(_lines(directory / "drivers.json")))
        return {"submissions": Submissions(made, started, ended, states), "new_submission": new[0] if new else None}

    def _report(self, args: Mapping[str, Any], directory: Path, variables: Mapping[str, Any]) -> dict[str, Any]:
        plan, before, aborted = args["plan"], args["before"], args["aborted_because"]
        masters = [host["name"] for host in before["hosts"] for role in host["roles"] if role["role"] == "master"]
        bounds = _bounds(args["bounds"])
        checks: list[Check] = []
        figures: dict[str, Any] = {}
        events: list[dict[str, Any]] = []
        try:
            facts = Facts(
                victim=plan["victim"],
                workers=plan["workers"],
                history=parse_history(_lines(directory / "observer.jsonl"), masters),
                bounds=bounds,
                before=before,
                **self._load(args, directory),
            )
            # What was seen is worth having even when the drill did not come to its end.
            figures, events = measured(facts), timeline(facts)
            checks = [] if aborted else judge(plan["drill"], facts, before["daemons"])
        except HistoryError as error:
            aborted = aborted or str(error)
        except KeyError as error:
            raise AnsibleActionFail(f"drill_bounds has no {error}; the drill {plan['drill']} needs it") from error
        result = "aborted" if aborted else "passed" if checks and all(check.ok for check in checks) else "failed"
        return {
            "schema": SCHEMA,
            "drill": plan["drill"],
            "cluster": before["cluster"],
            "daemons": before["daemons"],
            "versions": {"spark": before["spark_version"], "ansible": ansible_version},
            "inventory_sha256": _inventory_hash(variables),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "plan": plan,
            "fault": args["fault"],
            "verdict": result,
            "aborted_because": aborted,
            "measured": figures,
            "bounds": bounds,
            "checks": [asdict(check) for check in checks],
            "allowances": [],
            "timeline": events,
        }


def _bounds(bounds: Mapping[str, Any]) -> dict[str, float]:
    """Return the bounds as numbers; fail naming the one that is none."""
    result = {}
    for name, value in bounds.items():
        try:
            result[name] = float(value)
        except (TypeError, ValueError):
            raise AnsibleActionFail(
                f"drill_{name} is {value!r}, which is no number; give a number, for example -e drill_{name}=5"
            ) from None
    return result


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _inventory_hash(variables: Mapping[str, Any]) -> str:
    """Return a digest of who is in which group: two reports with the same one are of the same deployment."""
    groups = {name: list(members) for name, members in sorted(variables.get("groups", {}).items()) if name != "drill_seat"}
    return hashlib.sha256(json.dumps(groups, sort_keys=True).encode()).hexdigest()
