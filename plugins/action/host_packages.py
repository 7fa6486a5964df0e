"""Install packages of the distribution that are missing, and ask apt for nothing when none is.

The apt module loads its whole cache, and with ``cache_valid_time`` fetches the package lists once they are old: a run that has nothing to
install would need the mirror, and seconds. dpkg knows at once.
"""

from __future__ import annotations

import shlex
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc]
    """Arguments and result: see the module ``host_packages``, which documents it."""

    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return unchanged when dpkg has all packages, else what ansible.builtin.apt says."""
        _, wanted = self.validate_argument_spec(
            argument_spec={
                "name": {"type": "list", "elements": "str", "required": True},
                "cache_valid_time": {"type": "int", "default": 86400},
            }
        )
        result: dict[str, Any] = super().run(tmp, task_vars)
        names = list(dict.fromkeys(wanted["name"]))
        query = ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}|${Package}\\n", *names]
        answer = self._low_level_execute_command(shlex.join(query), sudoable=True)
        missing = [name for name in names if name not in installed(str(answer.get("stdout", "")))]
        if not missing:
            return {**result, "changed": False}
        if self._task.check_mode:
            # apt would not fetch lists in check mode, and fail on a host that has none yet.
            return {**result, "changed": True, "msg": f"would install {', '.join(missing)}"}
        arguments = {
            "name": missing,
            "install_recommends": False,
            "update_cache": True,
            "cache_valid_time": wanted["cache_valid_time"],
        }
        result.update(self._execute_module(module_name="ansible.builtin.apt", module_args=arguments, task_vars=task_vars))
        return result


def installed(text: str) -> set[str]:
    """Return the packages that dpkg-query calls installed, held ones included."""
    lines = [line.partition("|") for line in text.splitlines()]
    return {name.strip() for state, _, name in lines if state[1:2] == "i"}
