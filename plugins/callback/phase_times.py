# SPDX-License-Identifier: Apache-2.0
"""Prints how long each play took, at the end of the run."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: phase_times
type: aggregate
short_description: Time of each play and of the slowest tasks
description:
  - Prints after the recap how long each play took, and the three slowest tasks.
requirements:
  - enable it in ansible.cfg (callbacks_enabled)
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Measures plays and tasks on the monotonic clock, in seconds."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "phase_times"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._plays: list[list[Any]] = []  # name, start, end
        self._tasks: list[list[Any]] = []

    @staticmethod
    def _close(entries: list[list[Any]], now: float) -> None:
        if entries and entries[-1][2] is None:
            entries[-1][2] = now

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Start a phase."""
        now = time.monotonic()
        self._close(self._tasks, now)
        self._close(self._plays, now)
        self._plays.append([play.get_name().strip() or "play", now, None])

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:  # noqa: ARG002 - Ansible's signature
        """Start a task."""
        now = time.monotonic()
        self._close(self._tasks, now)
        self._tasks.append([task.get_name().strip(), now, None])

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """Start a handler."""
        self.v2_playbook_on_task_start(task, False)

    def v2_playbook_on_stats(self, stats: Any) -> None:  # noqa: ARG002 - Ansible's signature
        """Print the table."""
        now = time.monotonic()
        self._close(self._tasks, now)
        self._close(self._plays, now)
        if not self._plays:
            return
        self._display.banner("PHASE TIMES")
        for name, start, end in self._plays:
            self._display.display(f"{end - start:7.1f} s  {name}")
        self._display.display(f"{now - self._plays[0][1]:7.1f} s  total")
        slow = sorted(((end - start, name) for name, start, end in self._tasks), reverse=True)[:3]
        if slow and slow[0][0] >= 2:
            self._display.display("slowest tasks: " + ", ".join(f"{name} {seconds:.1f} s" for seconds, name in slow))
