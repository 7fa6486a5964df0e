#!/usr/bin/python
"""Ask the services of this host how they are, from the host itself."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_probe
short_description: Ask the Spark and ZooKeeper services of this host how they are
description:
  - Reads the page /json/ of the host's own master and worker, the four-letter words srvr and mntr of its own ZooKeeper
    server, and the states of units. The controller needs no access to the cluster's ports.
  - Changes nothing and never fails because a service is down; the answer says so.
options:
  address:
    description: Name or address of this host that its services listen on.
    type: str
    required: true
  master_port:
    description: Port of the master's page; 0 when the host has no master.
    type: int
    default: 0
  worker_port:
    description: Port of the worker's page; 0 when the host has no worker.
    type: int
    default: 0
  zookeeper_port:
    description: Client port of the ZooKeeper server; 0 when the host has none.
    type: int
    default: 0
  external:
    description: Endpoints host:port of an ensemble that others run; asked from this host.
    type: list
    elements: str
    default: []
  units:
    description: Units whose state is wanted.
    type: list
    elements: str
    default: []
  timeout_s:
    description: Seconds that one question may take.
    type: float
    default: 2.0
author: spark-ha
"""

EXAMPLES = r"""
- name: Ask the services of every host
  cluster_probe:
    address: "{{ cluster_address }}"
    master_port: "{{ spark_master_webui_port if cluster_is_master else 0 }}"
    units: [spark-master.service]
"""

RETURN = r"""
probe:
  description: One entry per question; master, worker and zookeeper are null when not asked and carry C(error) when they do not answer.
  type: dict
  returned: always
"""

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.latchkeeper import fourletter, pages
from ansible.module_utils.service_rules import daemon_kind

UNIT_PROPERTIES = ("Id", "LoadState", "ActiveState", "SubState", "UnitFileState", "NRestarts", "Result", "MainPID")


def ask_master(address: str, port: int, timeout_s: float) -> dict[str, Any]:
    """Return what the master says about itself, or its error."""
    endpoint = pages.join_endpoint(address, port)
    asked: dict[str, Any] = {"web_url": f"http://{endpoint}", "error": None}
    try:
        page = pages.read_master(endpoint, timeout_s)
    except pages.PageError as error:
        return {**asked, "error": str(error)}
    return {
        **asked,
        "status": page.status,
        "url": page.url,
        "workers": [asdict(worker) for worker in page.workers],
        "apps": [asdict(app) for app in page.active_apps],
        "drivers": [asdict(driver) for driver in page.active_drivers],
        "cores": page.cores,
        "cores_used": page.cores_used,
        "memory_mb": page.memory_mb,
        "memory_used_mb": page.memory_used_mb,
    }


def ask_worker(address: str, port: int, timeout_s: float) -> dict[str, Any]:
    """Return what the worker says about itself, or its error."""
    endpoint = pages.join_endpoint(address, port)
    asked: dict[str, Any] = {"web_url": f"http://{endpoint}", "error": None}
    try:
        return {**asked, **asdict(pages.read_worker(endpoint, timeout_s))}
    except pages.PageError as error:
        return {**asked, "error": str(error)}


def ask_zookeeper(address: str, port: int, timeout_s: float) -> dict[str, Any]:
    """Return mode and followers of one ZooKeeper server, or its error; ``allowed`` is false when it does not take the word."""
    asked: dict[str, Any] = {"endpoint": pages.join_endpoint(address, port), "error": None, "allowed": True, "serving": False}
    try:
        server = fourletter.srvr(address, port, timeout_s)
    except fourletter.NotAllowed as error:
        return {**asked, "error": str(error), "allowed": False}
    except fourletter.FourLetterError as error:
        return {**asked, "error": str(error)}
    answer = {**asked, "serving": True, "mode": server.mode, "version": server.version, "synced_followers": None}
    try:
        monitor = fourletter.mntr(address, port, timeout_s)
    except fourletter.FourLetterError:
        return answer
    return {**answer, "synced_followers": monitor.synced_followers, "quorum_size": monitor.quorum_size}


def command_line(pid: int) -> list[bytes]:
    """Return a process's arguments; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") if pid else []
    except OSError:
        return []


def parse_units(text: str, arguments: Callable[[int], list[bytes]] = command_line) -> dict[str, dict[str, Any]]:
    """Return unit -> state of the output of ``systemctl show``, whose blocks are parted by blank lines.

    ``daemons``: the kind of master or worker that runs as the unit's main process, empty when none does.
    """
    units = {}
    for block in text.split("\n\n"):
        values = dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line)
        if "Id" in values:
            units[values["Id"]] = {
                "load": values.get("LoadState", ""),
                "active": values.get("ActiveState", ""),
                "sub": values.get("SubState", ""),
                "enabled": values.get("UnitFileState", ""),
                "result": values.get("Result", ""),
                "restarts": int(values["NRestarts"]) if values.get("NRestarts", "").isdigit() else 0,
                "daemons": daemon_kind(arguments(int(values["MainPID"]) if values.get("MainPID", "").isdigit() else 0)),
            }
    return units


def ask_units(names: list[str], timeout_s: float) -> dict[str, dict[str, Any]]:
    """Return unit -> state; empty when there is no systemd to ask."""
    if not names:
        return {}
    command = ["systemctl", "show", f"--property={','.join(UNIT_PROPERTIES)}", "--", *names]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=max(timeout_s, 5.0), check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return parse_units(done.stdout)


def main() -> None:
    """Ask everything at once: the slowest answer bounds the time, not their sum."""
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "master_port": {"type": "int", "default": 0},
            "worker_port": {"type": "int", "default": 0},
            "zookeeper_port": {"type": "int", "default": 0},
            "external": {"type": "list", "elements": "str", "default": []},
            "units": {"type": "list", "elements": "str", "default": []},
            "timeout_s": {"type": "float", "default": 2.0},
        },
        supports_check_mode=True,
    )
    want = module.params
    address, timeout_s = want["address"], want["timeout_s"]
    try:
        external = [pages.split_endpoint(endpoint) for endpoint in want["external"]]
    except pages.PageError as error:
        module.fail_json(msg=f"zookeeper_external: {error}; write h1:2181,h2:2181,h3:2181/chroot")
    with ThreadPoolExecutor(max_workers=4 + len(external)) as pool:
        units = pool.submit(ask_units, want["units"], timeout_s)
        master = pool.submit(ask_master, address, want["master_port"], timeout_s) if want["master_port"] else None
        worker = pool.submit(ask_worker, address, want["worker_port"], timeout_s) if want["worker_port"] else None
        zookeeper = pool.submit(ask_zookeeper, address, want["zookeeper_port"], timeout_s) if want["zookeeper_port"] else None
        others = [pool.submit(ask_zookeeper, host, port, timeout_s) for host, port in external]
        probe = {
            "address": address,
            "units": units.result(),
            "master": master.result() if master else None,
            "worker": worker.result() if worker else None,
            "zookeeper": zookeeper.result() if zookeeper else None,
            "external": [other.result() for other in others],
        }
    module.exit_json(changed=False, probe=probe)


if __name__ == "__main__":
    main()
