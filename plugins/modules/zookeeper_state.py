#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""See what a host has of ZooKeeper: its id, its data, the ensemble it runs with."""

from __future__ import annotations

import re
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.zookeeper_rules import parse_servers

DOCUMENTATION = r"""
module: zookeeper_state
short_description: See what a host has of ZooKeeper
description:
  - Reads the id kept in the data directory, whether there is data, whether the unit runs and with which server lines.
  - Changes nothing. All members run it at once; the role then computes ids and the order of starts from all answers.
options:
  data_dir:
    description: dataDir as it shall be.
    type: path
    required: true
  config:
    description: The zoo.cfg on disk.
    type: path
    default: /etc/zookeeper/zoo.cfg
  running_config:
    description: The copy of it that the unit made when it was started; it decides while the unit runs.
    type: path
    default: /run/zookeeper/zoo.cfg
  unit:
    description: Name of the unit.
    type: str
    default: zookeeper.service
  addresses:
    description: Addresses of all members as server lines name them. Members of the running ensemble that are not among them are probed.
    type: list
    elements: str
    default: []
author: [spark-ha]
attributes:
  check_mode:
    description: Only reads.
    support: full
"""

EXAMPLES = r"""
- name: See what each member has
  zookeeper_state:
    data_dir: /var/lib/zookeeper
    addresses: [zk1, zk2, zk3]
  register: __zookeeper_state
"""

RETURN = r"""
myid:
  description: The id kept in the data directory, 0 for none.
  type: int
  returned: success
has_data:
  description: Whether a snapshot, a transaction log or an epoch is in the data directory.
  type: bool
  returned: success
old_data_dir:
  description: The data directory of the zoo.cfg on disk, when it is another one and holds data that data_dir has not.
  type: str
  returned: success
ours:
  description: Whether the unit is installed and the role wrote it. A distribution's unit of the same name is not ours.
  type: bool
  returned: success
running:
  description: Whether the unit is active.
  type: bool
  returned: success
servers:
  description: Server lines it runs with (or has on disk, when it does not run), id to host:peer:election.
  type: dict
  returned: success
strangers:
  description: Addresses of the running ensemble that are not in O(addresses) and still answer on their election port.
  type: list
  elements: str
  returned: success
"""

PROBE_TIMEOUT_S = 1.0
#: In every unit that the role writes, see templates/zookeeper/zookeeper.service.j2.
STAMP = "/run/zookeeper/started-with"


class StateError(Exception):
    """What a person must look at."""


def read(path: Path) -> str:
    """Text of a file, empty when it is not there."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def kept_id(data_dir: Path) -> int:
    """Return the number in myid, 0 when there is no such file. Raises StateError when it holds something else."""
    path = data_dir / "myid"
    text = read(path).strip()
    if not text:
        return 0
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 255:
        raise StateError(
            f"{path} holds '{text[:40]}', which is no server id (1 to 255). Write the id that zoo.cfg names for this host into it."
        )
    return int(text)


def has_data(data_dir: Path) -> bool:
    """Whether a server has ever stored something there."""
    folder = data_dir / "version-2"
    return folder.is_dir() and any(re.match(r"snapshot\.|log\.|currentEpoch", entry.name) for entry in folder.iterdir())


def answers(line: str) -> bool:
    """Whether somebody listens on the election port of a server line."""
    host, _, election = line.split(":")[:3]
    try:
        with socket.create_connection((host, int(election)), PROBE_TIMEOUT_S):
            return True
    except (OSError, ValueError):
        return False


def unit_states(unit: str) -> dict[str, str]:
    """LoadState, ActiveState and FragmentPath of a unit; empty without systemd."""
    try:
        done = subprocess.run(
            ["systemctl", "show", unit, "-p", "LoadState,ActiveState,FragmentPath"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def made_here(unit_file: str) -> bool:
    """Whether the role wrote this unit: only its units keep a stamp. Another server of the same name is not ours to retire."""
    return bool(unit_file) and STAMP in read(Path(unit_file))


def look(params: dict[str, Any]) -> dict[str, Any]:
    """Return what there is. Raises StateError."""
    data_dir = Path(params["data_dir"])
    states = unit_states(params["unit"])
    running = states.get("ActiveState") in ("active", "reloading")
    on_disk = read(Path(params["config"]))
    text = (read(Path(params["running_config"])) or on_disk) if running else on_disk
    servers = parse_servers(text)
    match = re.search(r"^\s*dataDir\s*=\s*(\S+)", text, re.MULTILINE)
    former = Path(match[1]) if match else data_dir
    known = set(params["addresses"])
    gone = [line for line in servers.values() if known and line.split(":", 1)[0] not in known]
    with ThreadPoolExecutor(max_workers=max(1, len(gone))) as pool:
        strangers = [line.split(":", 1)[0] for line, there in zip(gone, pool.map(answers, gone), strict=True) if there]
    mine = has_data(data_dir)
    return {
        "myid": kept_id(data_dir),
        "has_data": mine,
        "old_data_dir": str(former) if former != data_dir and not mine and has_data(former) else "",
        "ours": made_here(states.get("FragmentPath", "")),
        "running": running,
        "servers": {str(number): line for number, line in servers.items()},
        "strangers": strangers,
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "data_dir": {"type": "path", "required": True},
            "config": {"type": "path", "default": "/etc/zookeeper/zoo.cfg"},
            "running_config": {"type": "path", "default": "/run/zookeeper/zoo.cfg"},
            "unit": {"type": "str", "default": "zookeeper.service"},
            "addresses": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, **look(module.params))
    except (StateError, OSError, UnicodeDecodeError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
