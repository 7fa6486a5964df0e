"""Why systemd stops a worker: for good, or to start it again. A restart leaves the processes running, a stop ends them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from pathlib import Path
from typing import Literal

ASK_S = 1.0

Job = Literal["restart", "stop", "none"]


def unit_of(cgroup: str) -> str:
    """Return the service that /proc/self/cgroup names, "" for none: the last component that is one, a delegated subgroup may follow."""
    for line in cgroup.splitlines():
        for part in reversed(line.rpartition(":")[2].split("/")):
            if re.fullmatch(r"[A-Za-z0-9@:._\\-]{1,250}\.service", part):
                return part
    return ""


def job_of(unit: str, listed: str) -> Job:
    """Return what the lines of `systemctl list-jobs` say of a unit: JOB UNIT TYPE STATE."""
    for line in listed.splitlines():
        fields = line.split()
        if len(fields) >= 3 and fields[1] == unit:
            # While a restart stops the unit its job is still "restart"; try-restart and reload-or-restart become one.
            return "restart" if "restart" in fields[2] else "stop"
    return "none"


async def current_job() -> Job:
    """Return what systemd is doing with this process's own unit. "none" if there is no systemd or it does not answer in time."""
    try:
        unit = unit_of(Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return "none"
    if not unit or "INVOCATION_ID" not in os.environ:
        return "none"
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(ASK_S):
            return job_of(unit, await _list_jobs())
    return "none"


async def _list_jobs() -> str:
    process = await asyncio.create_subprocess_exec(
        *("systemctl", "list-jobs", "--no-legend", "--no-pager", "--plain", "--full"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return out.decode(errors="replace")
