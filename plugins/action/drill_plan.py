"""Decide on the controller whether a drill may run, and on which hosts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

# Ansible puts the project's module_utils into what it sends to hosts, not into its own path.
if (folder := str(Path(__file__).resolve().parent.parent / "module_utils")) not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(folder)

from ansible.module_utils.drill_plan import Refusal, Wish, confirm, plan
from ansible.module_utils.drill_rules import DRILLS


class ActionModule(ActionBase):  # type: ignore[misc]
    """Arguments: see the role ``drill``, its only user."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the plan, or without a report only ask for the confirmation; fail with the refusal."""
        super().run(tmp, task_vars)
        _spec, args = self.validate_argument_spec(
            {
                "drill": {"type": "str", "required": True},
                "cluster": {"type": "str", "required": True},
                "lab": {"type": "bool", "required": True},
                "confirm": {"type": "str", "default": ""},
                "accept_driver_loss": {"type": "bool", "default": False},
                "planned": {"type": "bool", "default": False},
                "report": {"type": "dict"},
            }
        )
        report = args.pop("report")
        wish = Wish(known=tuple(DRILLS), **args)
        try:
            confirm(wish)
            decided = plan(wish, report).as_dict() if report else {}
        except Refusal as refusal:
            raise AnsibleActionFail(f"Refused: {refusal}") from None
        return {"changed": False, "plan": decided, "before": report, "stamp": datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")}
