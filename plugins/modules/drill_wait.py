#!/usr/bin/python
"""Wait on the host of a drill's observer until the load is ready or the cluster has recovered."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_wait
short_description: Wait until a drill's load is ready, or the cluster has recovered as its observer sees it
description:
  - Reads what observer and load write. Recovered means that a master other than O(victim) is ALIVE with O(workers) workers and every
    other master of O(masters) is STANDBY.
options:
  until:
    description: What to wait for.
    type: str
    choices: [ready, recovered]
    required: true
  load:
    description: What the load is. Ready means that its first jobs ran, or that its first submissions were acknowledged.
    type: str
    choices: [jobs, submissions]
    default: jobs
  directory:
    description: Where observer.jsonl and load.jsonl are.
    type: path
    required: true
  masters:
    description: Names of all masters.
    type: list
    elements: str
    default: []
  victim:
    description: The master that led.
    type: str
    default: ""
  workers:
    description: Number of workers.
    type: int
    default: 0
  timeout_s:
    description: Seconds to wait.
    type: float
    default: 60
  must:
    description: Fail when it does not come; else only say so.
    type: bool
    default: true
author: spark-ha
"""

EXAMPLES = r"""
- name: Wait for the load
  drill_wait:
    until: ready
    directory: /var/lib/spark-ha-drill
"""

RETURN = r"""
reached:
  description: Whether it came.
  type: bool
  returned: always
waited_s:
  description: Seconds waited.
  type: float
  returned: always
"""

import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.drill_history import HistoryError, parse_history, parse_load
from ansible.module_utils.drill_submissions import parse_submissions

#: Bytes from the end of the observer's file that surely hold an answer of every master.
TAIL = 64 * 1024
#: So many acknowledged submissions, and the load is ready.
SUBMISSIONS_READY = 5


def tail(path: Path, limit: int) -> list[str]:
    """Return the last lines of a file, without the first, cut one."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - limit))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    return lines[1:] if size > limit else lines


def recovered(lines: list[str], masters: list[str], victim: str, workers: int) -> str:
    """Return what is still missing by the latest answers; empty when nothing is."""
    history = parse_history(lines, masters)
    latest = {name: samples[-1] for name, samples in history.samples.items() if samples}
    said = {name: latest[name].status if name in latest else None for name in masters}
    leaders = [name for name, status in said.items() if status == "ALIVE"]
    if len(leaders) != 1 or leaders[0] == victim:
        return f"no one new leader: {said}"
    if latest[leaders[0]].alive_workers < workers:
        return f"{latest[leaders[0]].alive_workers} of {workers} workers at {leaders[0]}"
    missing = [name for name, status in said.items() if name not in leaders and status != "STANDBY"]
    return f"not STANDBY: {', '.join(missing)}" if missing else ""


def ready(directory: Path) -> str:
    """Return what is still missing; empty when the load is ready."""
    path = directory / "load.jsonl"
    load = parse_load(path.read_text(encoding="utf-8").splitlines()) if path.exists() else parse_load([])
    if load.ready:
        return ""
    return f"the load has run {len(load.jobs)} jobs" if load.app else "the load is not registered with a master"


def submitted(directory: Path) -> str:
    """Return what is still missing; empty when the first submissions were acknowledged."""
    path = directory / "submissions.jsonl"
    made = parse_submissions(path.read_text(encoding="utf-8").splitlines()) if path.exists() else []
    errors = [one.error for one in made if one.error]
    if sum(1 for one in made if one.driver) >= SUBMISSIONS_READY:
        return ""
    return f"{len(made) - len(errors)} of {SUBMISSIONS_READY} submissions are acknowledged{f', an error: {errors[-1]}' if errors else ''}"


def main() -> None:
    """Wait."""
    module = AnsibleModule(
        argument_spec={
            "until": {"type": "str", "choices": ["ready", "recovered"], "required": True},
            "load": {"type": "str", "choices": ["jobs", "submissions"], "default": "jobs"},
            "directory": {"type": "path", "required": True},
            "masters": {"type": "list", "elements": "str", "default": []},
            "victim": {"type": "str", "default": ""},
            "workers": {"type": "int", "default": 0},
            "timeout_s": {"type": "float", "default": 60.0},
            "must": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    want = module.params
    directory = Path(want["directory"])
    begin = time.monotonic()
    while True:
        try:
            if want["until"] == "ready":
                missing = submitted(directory) if want["load"] == "submissions" else ready(directory)
            else:
                missing = recovered(tail(directory / "observer.jsonl", TAIL), want["masters"], want["victim"], want["workers"])
        except (HistoryError, OSError) as error:
            missing = str(error)
        waited = round(time.monotonic() - begin, 3)
        if not missing:
            module.exit_json(changed=False, reached=True, waited_s=waited, missing="")
        if waited > want["timeout_s"]:
            break
        time.sleep(0.2)
    if want["must"]:
        words = ("ERROR", "Error", "Initial job has not")
        complaints = [line for line in tail(directory / "load.log", TAIL) if any(word in line for word in words)]
        log = f" Its log says: {complaints[-1]}" if complaints and want["until"] == "ready" else ""
        module.fail_json(msg=f"not {want['until']} after {want['timeout_s']:g} s: {missing}.{log}")
    module.exit_json(changed=False, reached=False, waited_s=waited, missing=missing)


if __name__ == "__main__":
    main()
