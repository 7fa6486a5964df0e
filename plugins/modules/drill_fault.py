#!/usr/bin/python
"""Inject a fault whose undoing is armed first, and undo what drills left behind."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_fault
short_description: Inject a fault whose undoing is armed first, and undo what drills left behind
description:
  - With O(state=injected) the undoing is written to O(directory) and armed by a timer of systemd before anything is broken, so that it
    happens even if the controller dies. Then O(inject) is run.
  - With O(state=healed) every undoing found in O(directory) is run now, and all processes and timers of drills are stopped. It says
    what it found, and changes nothing when there is nothing.
options:
  state:
    description: Break or mend.
    type: str
    choices: [injected, healed]
    required: true
  name:
    description: Name of the drill.
    type: str
    default: drill
  inject:
    description: Command that breaks something.
    type: list
    elements: str
    default: []
  undo:
    description: Commands that mend it, in order; they must do no harm when nothing is broken.
    type: list
    elements: list
    default: []
  after_s:
    description: Seconds after which it is undone whatever happens.
    type: int
    default: 120
  unit:
    description: Unit that is broken; its main process is reported.
    type: str
    default: ""
  directory:
    description: Where undoings are kept.
    type: path
    default: /var/lib/spark-ha-drill
author: spark-ha
"""

EXAMPLES = r"""
- name: Kill the leading master
  drill_fault:
    state: injected
    name: leader_kill
    unit: spark-master.service
    inject: [systemctl, kill, --signal=KILL, --kill-who=main, spark-master.service]
    undo:
      - [systemctl, start, spark-master.service]

- name: Undo what an interrupted drill left
  drill_fault:
    state: healed
"""

RETURN = r"""
pid:
  description: Main process of the unit when the fault came.
  type: int
  returned: injected
at:
  description: When the fault came, seconds since the epoch by this host's clock.
  type: float
  returned: injected
healed:
  description: Undoings that were run and units of drills that were stopped.
  type: list
  elements: str
  returned: healed
"""

import shlex
import subprocess
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

#: All that drills start carries this prefix, so that one pattern finds it.
PREFIX = "spark-ha-drill"


class CommandError(Exception):
    """A command failed; the text is the command and its last line."""


def run(*command: str) -> str:
    """Return the output of a command; raise CommandError."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise CommandError(f"{shlex.join(command)} ended with {done.returncode}: {lines[-1] if lines else 'no message'}")
    return done.stdout


def script(undo: list[list[str]], itself: Path) -> str:
    """Return a shell script that runs every undoing, whatever the ones before did, and removes itself only when all went well."""
    lines = ["#!/bin/sh", "failed=0"]
    lines += [f"{shlex.join(command)} || failed=1" for command in undo]
    lines += [f"[ $failed = 0 ] && rm -f {shlex.quote(str(itself))}", "exit $failed"]
    return "\n".join(lines) + "\n"


def inject(module: AnsibleModule) -> None:
    """Arm the undoing, then break."""
    want = module.params
    directory = Path(want["directory"])
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    undoing = directory / f"undo-{want['name']}.sh"
    undoing.write_text(script(want["undo"], undoing), encoding="utf-8")
    undoing.chmod(0o700)
    run("systemd-run", f"--unit={PREFIX}-undo-{want['name']}", "--collect", f"--on-active={want['after_s']}", "/bin/sh", str(undoing))
    pid = run("systemctl", "show", "--property=MainPID", "--value", want["unit"]).strip() if want["unit"] else "0"
    at = time.time()
    run(*want["inject"])
    module.exit_json(changed=True, pid=int(pid or 0), at=at, took_s=time.time() - at)


def heal(module: AnsibleModule) -> None:
    """Undo everything; what fails is said with what to do by hand."""
    healed, failed = [], []
    listed = run("systemctl", "list-units", "--all", "--plain", "--no-legend", f"{PREFIX}-*.service", f"{PREFIX}-*.timer")
    units = [line.split()[0] for line in listed.splitlines() if line.strip()]
    scripts = sorted(Path(module.params["directory"]).glob("undo-*.sh"))
    if module.check_mode:
        module.exit_json(changed=bool(units or scripts), healed=[*units, *map(str, scripts)])
    if units:
        # A unit that ended by itself meanwhile is no error.
        subprocess.run(["systemctl", "stop", *units], capture_output=True, timeout=60, check=False)
        healed += units
    for undoing in scripts:
        try:
            run("/bin/sh", str(undoing))
            healed.append(undoing.name)
        except CommandError as error:
            failed.append(f"{undoing}: {error}")
    if failed:
        module.fail_json(msg=f"undoing failed, run it by hand on this host: sh {' ; '.join(failed)}", healed=healed)
    module.exit_json(changed=bool(healed), healed=healed)


def main() -> None:
    """Do what state says."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["injected", "healed"], "required": True},
            "name": {"type": "str", "default": "drill"},
            "inject": {"type": "list", "elements": "str", "default": []},
            "undo": {"type": "list", "elements": "list", "default": []},
            "after_s": {"type": "int", "default": 120},
            "unit": {"type": "str", "default": ""},
            "directory": {"type": "path", "default": "/var/lib/spark-ha-drill"},
        },
        required_if=[("state", "injected", ["inject", "undo"])],
        supports_check_mode=True,
    )
    try:
        if module.params["state"] == "healed":
            heal(module)
        elif module.check_mode:
            module.exit_json(changed=True, pid=0, at=time.time(), took_s=0.0)
        else:
            inject(module)
    except (CommandError, OSError, subprocess.TimeoutExpired) as error:
        module.fail_json(msg=f"drill {module.params['name']}: {error}")


if __name__ == "__main__":
    main()
