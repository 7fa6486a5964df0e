"""When a systemd unit must be started, restarted, stopped or left alone: decisions only, no I/O.

A unit writes ``sha256sum`` of its configuration to a stamp as it starts (ExecStartPre). As long as the files still have these
digests, the process runs with what is on disk. Unlike a handler this survives an interrupted run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

PROPERTIES = ("LoadState", "ActiveState", "SubState", "UnitFileState", "NeedDaemonReload", "MainPID", "NRestarts", "Result")
State = Literal["started", "restarted", "stopped"]
Action = Literal["none", "start", "restart", "stop"]


@dataclass(frozen=True)
class Unit:
    """What ``systemctl show`` says about a unit."""

    load_state: str = "not-found"
    active_state: str = "inactive"
    sub_state: str = "dead"
    unit_file_state: str = ""
    need_reload: bool = False
    main_pid: int = 0
    restarts: int = 0
    result: str = ""

    @property
    def exists(self) -> bool:
        """A unit file is there and could be read."""
        return self.load_state == "loaded"

    @property
    def running(self) -> bool:
        """Up. A unit that waits for its automatic restart is not."""
        return self.active_state in ("active", "reloading")

    @property
    def stopped(self) -> bool:
        """Down and nothing will bring it up by itself."""
        return self.active_state in ("inactive", "failed")


@dataclass(frozen=True)
class Wish:
    """What the task asks for. ``enabled`` None leaves it as it is."""

    state: State
    enabled: bool | None = True
    only_if_stopped: bool = False


@dataclass(frozen=True)
class Plan:
    """What to do, in the order reload, enable, action; ``reason`` is for people."""

    reload: bool
    enable: bool | None
    action: Action
    reason: str

    @property
    def changes(self) -> bool:
        """A reload alone changes nothing that anyone could see."""
        return self.enable is not None or self.action != "none"


def parse_show(text: str) -> Unit:
    """Parse ``systemctl show -p ...``; properties that an older systemd lacks keep their defaults."""
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def number(key: str) -> int:
        value = values.get(key, "0")
        return int(value) if value.isascii() and value.isdigit() else 0

    return Unit(
        load_state=values.get("LoadState", "not-found"),
        active_state=values.get("ActiveState", "inactive"),
        sub_state=values.get("SubState", "dead"),
        unit_file_state=values.get("UnitFileState", ""),
        need_reload=values.get("NeedDaemonReload") == "yes",
        main_pid=number("MainPID"),
        restarts=number("NRestarts"),
        result=values.get("Result", ""),
    )


def parse_stamp(text: str) -> dict[str, str]:
    """Return path -> SHA-256 of the lines that sha256sum wrote. Raises ValueError on a line of another shape."""
    digests = {}
    for line in text.splitlines():
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](/.+)", line)
        if match is None:
            raise ValueError(f"no line of sha256sum: {line[:80]!r}")
        digests[match[2]] = match[1]
    return digests


def stale_reason(unit: Unit, stamp: Mapping[str, str] | None, now: Mapping[str, str | None]) -> str:
    """Say why a running unit does not run what is on disk; empty when it does.

    stamp: path -> digest at its start, None when there is no readable stamp. now: path -> digest on disk, None when it is gone.
    """
    if unit.need_reload:
        return "its unit file changed"
    if not stamp:
        return "there is no record of what it was started with"
    changed = [path for path, digest in stamp.items() if now.get(path) is not None and now[path] != digest]
    gone = [path for path in stamp if now.get(path) is None]
    parts = []
    if changed:
        parts.append(f"changed since its start: {', '.join(changed)}")
    if gone:
        parts.append(f"gone since its start: {', '.join(gone)}")
    return "; ".join(parts)


def decide(unit: Unit, stale: str, wish: Wish) -> Plan:
    """Return what brings the unit to the wish. ``stale`` is the result of stale_reason, empty when nothing is watched."""
    enable = None
    if wish.enabled is not None and unit.exists and unit.unit_file_state in ("enabled", "enabled-runtime", "disabled", ""):
        enabled_now = unit.unit_file_state == "enabled"
        enable = wish.enabled if enabled_now != wish.enabled else None
    reload = unit.need_reload

    def plan(action: Action, reason: str) -> Plan:
        return Plan(reload=reload, enable=enable, action=action, reason=reason)

    if wish.state == "stopped":
        if unit.stopped:
            return plan("none", "it is stopped")
        return plan("stop", "it runs")
    if not unit.running:
        return plan("start", f"it is {unit.active_state}" if unit.exists else "it is not installed yet")
    if wish.only_if_stopped:
        return plan("none", "it runs")
    if wish.state == "restarted":
        return plan("restart", "a restart was asked for")
    if stale:
        return plan("restart", stale)
    return plan("none", "it runs what is on disk")


def daemon_kind(command_line: Sequence[bytes]) -> str:
    """Return which kind of daemon a process is by its arguments: apache, sparkd, or empty for another one."""
    if any(argument.startswith(b"org.apache.spark.deploy.") for argument in command_line):
        return "apache"
    return "sparkd" if any(argument.endswith(b"/bin/sparkd") for argument in command_line) else ""


def loses_drivers(running: str, wanted: str) -> bool:
    """Whether a stop of a running leader loses active drivers: Apache's always does, sparkd's when the other kind takes its place."""
    return running != "sparkd" or wanted != "sparkd"
