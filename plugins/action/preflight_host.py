"""Run the module of the same name between two looks at the controller's clock, and return what kept it from running as data.

All hosts are then judged together, so one that cannot be reached must not end the play before the others have spoken.
"""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc]
    """``preflight_host``, never failed and never unreachable: ``trouble`` says why ``facts`` is missing."""

    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return ``facts``, or ``trouble`` with ``unreached``; and the controller's clock before and after as ``between``."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        result["changed"] = False
        before = time.time()
        try:
            answer = self._execute_module(module_name="preflight_host", module_args=self._task.args, task_vars=task_vars)
        except AnsibleConnectionFailure as error:
            return {**result, "unreached": True, "trouble": _one_line(str(error))}
        except AnsibleError as error:
            return {**result, "unreached": False, "trouble": _one_line(str(error))}
        result["between"] = [before, time.time()]
        if "facts" in answer:
            result["facts"] = answer["facts"]
        else:
            said = answer.get("msg") or answer.get("module_stderr") or answer.get("module_stdout") or "the module gave no answer"
            detail = answer.get("module_stderr") or answer.get("module_stdout") or ""
            result["unreached"] = bool(answer.get("unreachable"))
            result["trouble"] = _one_line(f"{said} {detail}" if detail and detail not in str(said) else str(said))
        return result


def _one_line(text: str) -> str:
    """Return a message without line breaks, cut where it gets long."""
    line = " ".join(text.split())
    return line if len(line) <= 400 else f"{line[:397]}..."
