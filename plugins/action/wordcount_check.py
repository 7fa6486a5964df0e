"""Compare Spark's word count with a count of the controller's own, and print both sides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

# Ansible puts the project's module_utils into what it sends to hosts, not into its own path.
if (folder := str(Path(__file__).resolve().parent.parent / "module_utils")) not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(folder)

from ansible.module_utils.text_table import table
from ansible.module_utils.wordcount import judge, top


class ActionModule(ActionBase):  # type: ignore[misc]
    """Arguments: see the role ``wordcount``, its only user."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Print the top words and the verdict; fail with the first words that differ."""
        super().run(tmp, task_vars)
        _spec, args = self.validate_argument_spec(
            {
                "text": {"type": "str", "required": True},
                "result": {"type": "dict", "required": True},
                "top": {"type": "int", "default": 10},
                "hosts_min": {"type": "int", "default": 1},
            }
        )
        try:
            # newline="": lines are counted as they are in the file.
            with Path(args["text"]).expanduser().open(encoding="utf-8", newline="") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise AnsibleActionFail(f"wordcount_text is {args['text']!r}: {error}; name a text file in UTF-8") from error
        result = args["result"]
        wrong = judge(text, result)
        hosts = result.get("hosts") or {}
        if len(hosts) < args["hosts_min"]:
            wrong.append(f"tasks ran on {len(hosts)} hosts ({', '.join(hosts)}), {args['hosts_min']} were expected")
        show = self._display.display
        counts = result.get("counts") or {}
        rows = [(word, str(count)) for word, count in top(counts, args["top"])]
        show("\n".join(table(("WORD", "COUNT"), rows, frozenset({1}))))
        show(
            f"\n{sum(counts.values())} words, {len(counts)} different, {result.get('lines')} lines,"
            f" in {result.get('seconds')} s with Spark {result.get('spark')} as {result.get('application')} at {result.get('master')}"
        )
        show("Tasks ran on: " + ", ".join(f"{host} ({count})" for host, count in sorted(hosts.items())))
        if wrong:
            return {"changed": False, "failed": True, "msg": f"Spark's word count is wrong: {'; '.join(wrong)}"}
        show("The independent count is the same.", color=constants.COLOR_OK)
        return {"changed": False, "hosts": sorted(hosts), "words": sum(result["counts"].values())}
