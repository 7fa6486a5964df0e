"""Judge what was measured on all hosts, in one message. The rules are in module_utils/preflight_measured.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.plugins.action import ActionBase

_UTILS = str(Path(__file__).resolve().parent.parent / "module_utils")
if _UTILS not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(_UTILS)

from ansible.module_utils import preflight_measured, preflight_model  # noqa: E402


class ActionModule(ActionBase):  # type: ignore[misc]
    """``preflight_verdict``: fails for all hosts when one cannot become what the inventory says."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return failed with every problem, or nothing."""
        _, wanted = self.validate_argument_spec(
            argument_spec={
                "needs": {"type": "dict", "required": True},
                "measured": {"type": "dict", "required": True},
                "lines": {"type": "dict", "required": True},
                "java": {"type": "dict", "default": {}},
                "min_memory_mb": {"type": "int", "required": True},
                "min_disk_mb": {"type": "int", "required": True},
                "max_clock_skew_s": {"type": "float", "required": True},
            }
        )
        result: dict[str, Any] = super().run(tmp, task_vars)
        limits = preflight_measured.Limits(wanted["min_memory_mb"], wanted["min_disk_mb"], wanted["max_clock_skew_s"])
        found = preflight_measured.judge(wanted["needs"], wanted["measured"], limits, wanted["lines"], wanted["java"])
        result["changed"] = False
        if found:
            result["failed"] = True
            result["msg"] = preflight_model.report(found, list(wanted["measured"]), "on the hosts")
        return result
