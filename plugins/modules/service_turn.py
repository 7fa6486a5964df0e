#!/usr/bin/python
# Copyright (c) the spark-ha authors
# Apache License 2.0 (see LICENSE)
"""Bring one systemd unit to the desired state and wait until what it serves is healthy."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.latchkeeper import fourletter, pages
from ansible.module_utils.latchkeeper.rules import driver_refusal
from ansible.module_utils.service_rules import (
    PROPERTIES,
    Plan,
    Unit,
    Wish,
    daemon_kind,
    decide,
    loses_drivers,
    parse_show,
    parse_stamp,
    stale_reason,
)

DOCUMENTATION = r"""
module: service_turn
short_description: Start, restart or stop one systemd unit and wait until its service is healthy
description:
  - Restarts a running unit only when the files it was started with have changed, by the stamp that the unit writes at its start.
  - Does it all in one call, so that C(throttle=1) makes a rolling restart that waits for health between hosts.
  - Refuses to stop a leading Apache Master that lists active drivers.
options:
  unit:
    description: Name of the unit, with its suffix.
    type: str
    required: true
  state:
    description: What the unit should be. V(probe) changes nothing and tells whether it runs, needs a restart and leads.
    type: str
    choices: [started, restarted, stopped, probe]
    default: started
  enabled:
    description: Whether it starts at boot. Not given, yes for a unit that is started and unchanged for one that is stopped.
    type: bool
  only_if_stopped:
    description: Leave a running unit alone even if it needs a restart.
    type: bool
    default: false
  watch:
    description: File with C(sha256sum) lines that the unit writes at its start; a missing file or differing digest means a restart.
    type: path
  timeout:
    description: Seconds for the change of state, and again for the service to become healthy.
    type: float
    default: 60
  accept_driver_loss:
    description: Stop or restart a leading master although it lists active drivers.
    type: bool
    default: false
  refuse_drivers:
    description: With O(state=probe), fail when a restart is needed (or O(planned) says so) and active drivers would be lost.
    type: bool
    default: false
  planned:
    description: With O(refuse_drivers), a stop or restart is going to happen whatever the stamp says.
    type: bool
    default: false
  daemons:
    description:
      - Kind of master that is wanted, for what a stop would lose. Apache's loses active drivers with each change of leader; sparkd's loses
        nothing, unless the other kind is wanted.
    type: str
    choices: [sparkd, apache]
    default: apache
  mode_file:
    description: File in which a unit notes the recovery mode that its process was started with; without it the command line tells.
    type: path
  health:
    description: How to see that the service works. Not given, an active unit is enough.
    type: dict
    suboptions:
      kind:
        description: What serves.
        type: str
        required: true
        choices: [master, worker, zookeeper]
      address:
        description: Name or address to ask, from this host.
        type: str
        default: 127.0.0.1
      port:
        description: Port of the page (master, worker) or client port (zookeeper).
        type: int
        required: true
      masters:
        description: C(host:port) of every master's page. One of them must be ALIVE, and list this worker as ALIVE.
        type: list
        elements: str
        default: []
      record:
        description: File in which the latchkeeper records the master's latch session; it must be that of the running process.
        type: path
author: [spark-ha]
attributes:
  check_mode:
    description: Says what would be done.
    support: full
"""

EXAMPLES = r"""
- name: See what needs a restart
  service_turn:
    unit: zookeeper.service
    state: probe
    watch: /run/zookeeper/started-with
    health: {kind: zookeeper, port: 2181}
  register: __turn
  changed_when: false
  check_mode: false

- name: Restart followers one by one
  service_turn:
    unit: zookeeper.service
    enabled: true
    watch: /run/zookeeper/started-with
    health: {kind: zookeeper, port: 2181}
  throttle: 1
  when: __turn.needs_restart and not __turn.is_leader
"""

RETURN = r"""
action:
  description: What was done (or would be, in check mode), one of none, start, restart, stop.
  type: str
  returned: always but for probe
restarted:
  description: Whether a running process was replaced.
  type: bool
  returned: always but for probe
reason:
  description: Why.
  type: str
  returned: always
was_leader:
  description: Whether it led before the change.
  type: bool
  returned: always but for probe
seconds:
  description: How long it took until healthy.
  type: float
  returned: always but for probe
running:
  description: Whether the unit is active.
  type: bool
  returned: probe
needs_restart:
  description: Whether it runs and was started with other files than those on disk.
  type: bool
  returned: probe
is_leader:
  description: Whether it leads (master, status ALIVE; ZooKeeper, leader or standalone).
  type: bool
  returned: probe
recovery_mode:
  description: Recovery mode that the running process was started with.
  type: str
  returned: probe
daemons:
  description: Kind of the running master or worker, V(apache) or V(sparkd); empty when none runs.
  type: str
  returned: probe
drivers:
  description: Active drivers that the master lists, id to state.
  type: dict
  returned: probe
"""

POLL_S = 0.25
ASK_TIMEOUT_S = 4.0
#: So many ends while it is waited for mean that waiting longer will not help.
CRASHES = 5


@dataclass
class Seen:
    """One look at the service: healthy or not, and what a person should read."""

    healthy: bool
    text: str
    leader: bool = False
    status: str = ""
    drivers: dict[str, str] = field(default_factory=dict)


def command_line(pid: int) -> list[bytes]:
    """Return a process's arguments; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") if pid else []
    except OSError:
        return []


def recovery_mode(pid: int, mode_file: str | None = None) -> str:
    """Return the mode that a running daemon was started with (NONE is Spark's default); empty when there is no such process.

    Apache's says so in its command line; the unit of sparkd's writes mode_file.
    """
    arguments = command_line(pid)
    if not arguments:
        return ""
    if daemon_kind(arguments) == "sparkd" and mode_file:
        with contextlib.suppress(OSError):
            return Path(mode_file).read_text(encoding="utf-8").strip()
    given = [argument.partition(b"=")[2] for argument in arguments if argument.startswith(b"-Dspark.deploy.recoveryMode=")]
    return given[-1].decode(errors="replace").upper() if given else "NONE"


def digest(path: str) -> str | None:
    """SHA-256 of a file, None when it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


class Turn:
    """The I/O: systemctl, the stamp, the pages."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.unit: str = module.params["unit"]
        self.timeout: float = module.params["timeout"]
        self.health: dict[str, Any] | None = module.params["health"]

    def fail(self, text: str, **more: Any) -> NoReturn:
        """End the task, with the place to look at."""
        self.module.fail_json(msg=f"{self.unit}: {text}. See: journalctl -u {self.unit} -n 50", **more)
        raise AssertionError  # fail_json does not return

    def systemctl(self, *arguments: str) -> str:
        """Run systemctl, bounded; end the task when it fails."""
        try:
            done = subprocess.run(
                ["systemctl", *arguments], capture_output=True, text=True, timeout=self.timeout, check=False, stdin=subprocess.DEVNULL
            )
        except FileNotFoundError:
            self.fail("there is no systemctl on this host; the roles need systemd as PID 1")
        except subprocess.TimeoutExpired:
            self.fail(f"systemctl {' '.join(arguments)} did not return within {self.timeout:g} s; now {self.describe()}")
        if done.returncode != 0:
            why = (done.stderr or done.stdout).strip().splitlines()
            self.fail(f"systemctl {' '.join(arguments)} failed: {why[0] if why else f'exit {done.returncode}'}; now {self.describe()}")
        return str(done.stdout)

    def show(self) -> Unit:
        """Ask systemd about the unit."""
        return parse_show(self.systemctl("show", self.unit, "-p", ",".join(PROPERTIES)))

    def describe(self) -> str:
        """Say the unit's state in a message; never raises."""
        try:
            done = subprocess.run(
                ["systemctl", "show", self.unit, "-p", ",".join(PROPERTIES)], capture_output=True, text=True, timeout=5, check=False
            )
        except (OSError, subprocess.SubprocessError):
            return "of unknown state"
        unit = parse_show(done.stdout)
        return f"{unit.active_state} ({unit.sub_state}), restarted {unit.restarts} times by systemd, result {unit.result or 'unknown'}"

    def stale(self, unit: Unit) -> str:
        """Say why the running process does not run what is on disk."""
        watch = self.module.params["watch"]
        if not unit.running or not watch:
            return ""
        try:
            stamp = parse_stamp(Path(watch).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return str(stale_reason(unit, None, {}))
        return str(stale_reason(unit, stamp, {path: digest(path) for path in stamp}))

    def look(self, unit: Unit) -> Seen:
        """Ask the service how it is."""
        if self.health is None:
            return Seen(True, "active")
        where = pages.join_endpoint(self.health["address"], self.health["port"])
        match self.health["kind"]:
            case "master":
                return self.look_master(where, unit)
            case "worker":
                return self.look_worker(where)
            case _:
                return self.look_zookeeper(where)

    def look_zookeeper(self, where: str) -> Seen:
        """Serve means: srvr answers with a mode, which a server outside a quorum does not."""
        host, port = pages.split_endpoint(where)
        try:
            server = fourletter.srvr(host, port, ASK_TIMEOUT_S)
        except fourletter.FourLetterError as error:
            return Seen(False, str(error))
        return Seen(True, f"mode {server.mode}", leader=server.mode in ("leader", "standalone"), status=server.mode)

    def look_master(self, where: str, unit: Unit) -> Seen:
        """ALIVE or STANDBY; RECOVERING is not finished."""
        try:
            page = pages.read_master(where, ASK_TIMEOUT_S)
        except pages.PageError as error:
            return Seen(False, str(error))
        seen = Seen(
            page.status in ("ALIVE", "STANDBY"),
            f"status {page.status}",
            leader=page.status == "ALIVE",
            status=page.status,
            drivers={driver.id: driver.state for driver in page.active_drivers},
        )
        record = self.health["record"] if self.health else None
        if seen.healthy and record and self.recorded_pid(record) != unit.main_pid:
            seen.healthy = False
            seen.text += (
                f", but {record} does not hold the latch session of its process {unit.main_pid} yet (why: journalctl -u spark-latchkeeper; "
                "with an ensemble that does not allow the word cons set spark_master_fencing: false)"
            )
        return seen

    def look_worker(self, where: str) -> Seen:
        """Its own page answers, and a leader lists it."""
        try:
            page = pages.read_worker(where, ASK_TIMEOUT_S)
        except pages.PageError as error:
            return Seen(False, str(error))
        masters = self.health["masters"] if self.health else []
        if not masters:
            return Seen(True, f"{page.id} answers")
        problems = []
        for endpoint in masters:
            try:
                master = pages.read_master(endpoint, ASK_TIMEOUT_S)
            except pages.PageError as error:
                problems.append(str(error))
                continue
            if master.status != "ALIVE":
                problems.append(f"{endpoint} is {master.status}")
            elif any(worker.id == page.id for worker in master.alive_workers):
                return Seen(True, f"{page.id} is ALIVE at {endpoint}")
            else:
                problems.append(f"{endpoint} does not list it")
        return Seen(False, f"{page.id} answers but no leader lists it as ALIVE ({'; '.join(problems)})")

    def recorded_pid(self, record: str) -> int:
        """Return the process whose latch session the latchkeeper holds; 0 for none."""
        try:
            value = json.loads(Path(record).read_bytes()[:65536])
        except (OSError, ValueError):
            return 0
        pid = value.get("pid") if isinstance(value, dict) else 0
        return pid if isinstance(pid, int) else 0

    def a_leader(self) -> str:
        """Empty when some master is ALIVE (or none is named); else what was seen."""
        if not self.health or self.health["kind"] != "master" or not self.health["masters"]:
            return ""
        seen = []
        for endpoint in self.health["masters"]:
            try:
                status = pages.read_master(endpoint, ASK_TIMEOUT_S).status
            except pages.PageError as error:
                seen.append(str(error))
                continue
            if status == "ALIVE":
                return ""
            seen.append(f"{endpoint} is {status}")
        return f"no master is ALIVE ({'; '.join(seen)})"

    def wait(self) -> str:
        """Wait until the service is healthy; end the task when it is not in time."""
        end = time.monotonic() + self.timeout
        restarts = None
        while True:
            unit = self.show()
            restarts = unit.restarts if restarts is None else restarts
            if unit.restarts - restarts >= CRASHES:
                self.fail(f"it has ended {unit.restarts - restarts} times since its start; the unit is {self.describe()}")
            seen = self.look(unit) if unit.running else Seen(False, f"unit is {unit.active_state} ({unit.sub_state})")
            missing = self.a_leader() if seen.healthy else ""
            if seen.healthy and not missing:
                return seen.text
            if time.monotonic() > end:
                kind = self.health["kind"] if self.health else "unit"
                last = f"{seen.text}; {missing}" if missing else seen.text
                self.fail(f"waited {self.timeout:g} s for a healthy {kind}, last seen: {last}; the unit is {self.describe()}")
            time.sleep(POLL_S)

    def act(self, plan: Plan) -> None:
        """Do what the plan says."""
        if plan.reload:
            self.systemctl("daemon-reload")
        if plan.enable is not None:
            self.systemctl("enable" if plan.enable else "disable", self.unit)
        if plan.action != "none":
            self.systemctl(plan.action, self.unit)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["started", "restarted", "stopped", "probe"], "default": "started"},
            "enabled": {"type": "bool"},
            "only_if_stopped": {"type": "bool", "default": False},
            "watch": {"type": "path"},
            "timeout": {"type": "float", "default": 60.0},
            "accept_driver_loss": {"type": "bool", "default": False},
            "refuse_drivers": {"type": "bool", "default": False},
            "planned": {"type": "bool", "default": False},
            "daemons": {"type": "str", "choices": ["sparkd", "apache"], "default": "apache"},
            "mode_file": {"type": "path"},
            "health": {
                "type": "dict",
                "options": {
                    "kind": {"type": "str", "required": True, "choices": ["master", "worker", "zookeeper"]},
                    "address": {"type": "str", "default": "127.0.0.1"},
                    "port": {"type": "int", "required": True},
                    "masters": {"type": "list", "elements": "str", "default": []},
                    "record": {"type": "path"},
                },
            },
        },
        supports_check_mode=True,
    )
    parameters = module.params
    turn = Turn(module)
    started = time.monotonic()
    unit = turn.show()
    stale = turn.stale(unit)
    kind = daemon_kind(command_line(unit.main_pid)) if unit.running else ""
    accepted = parameters["accept_driver_loss"] or not loses_drivers(kind, parameters["daemons"])

    if parameters["state"] == "probe":
        seen = turn.look(unit) if unit.running and turn.health else Seen(False, unit.active_state)
        needs = bool(stale)
        if parameters["refuse_drivers"] and unit.running and (needs or parameters["planned"]):
            refusal = driver_refusal(seen.status, seen.drivers, accepted)
            if refusal:
                module.fail_json(msg=refusal, drivers=seen.drivers)
        module.exit_json(
            changed=False,
            exists=unit.exists,
            running=unit.running,
            needs_restart=needs,
            is_leader=seen.leader,
            healthy=seen.healthy,
            status=seen.status,
            seen=seen.text,
            drivers=seen.drivers,
            daemons=kind,
            recovery_mode=recovery_mode(unit.main_pid, parameters["mode_file"]) if unit.running else "",
            reason=stale or (unit.active_state if not unit.running else "it runs what is on disk"),
        )

    enabled = parameters["enabled"]
    if enabled is None and parameters["state"] != "stopped":
        enabled = True
    plan = decide(unit, stale, Wish(parameters["state"], enabled, parameters["only_if_stopped"]))
    if unit.load_state == "masked" and parameters["state"] != "stopped":
        turn.fail(f"the unit is masked; systemctl unmask {turn.unit} if it should run")
    if plan.action in ("start", "restart") and not unit.exists and not module.check_mode:
        turn.fail(f"there is no such unit to start (LoadState={unit.load_state})")

    before = turn.look(unit) if plan.action in ("restart", "stop") and turn.health else Seen(False, "")
    if plan.action in ("restart", "stop"):
        refusal = driver_refusal(before.status, before.drivers, accepted)
        if refusal:
            module.fail_json(msg=refusal, drivers=before.drivers)
    text = ""
    if not module.check_mode:
        turn.act(plan)
        if plan.action in ("start", "restart"):
            text = turn.wait()
    module.exit_json(
        changed=plan.changes,
        action=plan.action,
        restarted=plan.action == "restart",
        reason=plan.reason,
        was_leader=before.leader,
        seen=text,
        seconds=round(time.monotonic() - started, 2),
    )


if __name__ == "__main__":
    main()
