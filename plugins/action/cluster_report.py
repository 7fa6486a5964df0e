"""Judge the probes of all hosts, on the controller: print the table or JSON, fail when the cluster is not healthy."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

# Ansible puts the project's module_utils into what it sends to hosts, not into its own path.
if (folder := str(Path(__file__).resolve().parent.parent / "module_utils")) not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(folder)

from ansible.module_utils.status_rules import Cluster, Host, judge
from ansible.module_utils.status_text import render

GROUPS = ("zookeeper", "spark_masters", "spark_workers", "spark_clients")
PAUSE_S = 2.0


class ActionModule(ActionBase):  # type: ignore[misc]
    """Arguments: see the role ``status``, its only user."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the report; ``again`` asks the role for another look while there is time left."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        _spec, args = self.validate_argument_spec(
            {
                "cluster": {"type": "dict", "required": True},
                "format": {"type": "str", "choices": ["table", "json", "none"], "default": "table"},
                "file": {"type": "str", "default": ""},
                "wait_s": {"type": "float", "default": 0.0},
                "started": {"type": "float", "default": 0.0},
                "must_be_healthy": {"type": "bool", "default": True},
            }
        )
        cluster = Cluster(**args["cluster"])
        report = judge(cluster, _hosts(variables, GROUPS[1:] if cluster.external else GROUPS))
        report["time"] = datetime.now(UTC).isoformat(timespec="milliseconds")
        started = args["started"] or time.time()
        result: dict[str, Any] = {"changed": False, "report": report, "started": started, "again": False}
        if not report["healthy"] and time.time() - started < args["wait_s"]:
            self._display.display(f"Not yet: {report['verdict']}", stderr=True)
            time.sleep(PAUSE_S)
            return {**result, "again": True}
        self._show(report, args["format"], args["file"], result)
        if not report["healthy"] and args["must_be_healthy"]:
            # Without the report: it was shown already.
            return {"changed": False, "failed": True, "msg": report["verdict"], "stdout_document": result.get("stdout_document", "")}
        return result

    def _show(self, report: Mapping[str, Any], how: str, file: str, result: dict[str, Any]) -> None:
        document = json.dumps(report, indent=2, sort_keys=False)
        if file:
            try:
                Path(file).expanduser().write_text(document + "\n", encoding="utf-8")
            except OSError as error:
                message = f"status_file is {file!r}, which cannot be written: {error.strerror}; name a file in a directory that exists"
                raise AnsibleActionFail(message) from error
        if how == "json":
            if "json_on_stdout" in constants.CALLBACKS_ENABLED:
                result["stdout_document"] = document
            else:
                self._display.display(document)
        elif how == "table":
            text, _newline, verdict = render(report).rpartition("\n")
            self._display.display(text)
            self._display.display(verdict, color=constants.COLOR_OK if report["healthy"] else constants.COLOR_ERROR)


def _hosts(variables: Mapping[str, Any], wanted: Sequence[str]) -> list[Host]:
    """Every host of the inventory's groups, also those that earlier plays lost."""
    groups = {name: set(variables["groups"].get(name, [])) for name in wanted}
    names = [name for name in variables["groups"].get("all", []) if any(name in members for members in groups.values())]
    return [_host(name, frozenset(group for group in wanted if name in groups[group]), variables) for name in names]


def _host(name: str, groups: frozenset[str], variables: Mapping[str, Any]) -> Host:
    answer = variables["hostvars"][name].get("__status_probe") or {}
    probe = answer.get("probe")
    if probe is not None and not answer.get("unreachable"):
        return Host(name, groups, probe)
    left_out = "" if name in variables.get("ansible_play_hosts_all", [name]) else "left out by --limit"
    return Host(name, groups, None, left_out or " ".join(str(answer.get("msg", "")).split())[:200])
