#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""One host of a lab."""

from __future__ import annotations

import json
import resource
import shutil
import socket
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab_podman import LABEL_LAB, LABEL_SPEC, LabError, Podman, fingerprint, judge, runtime_args, ulimit

DOCUMENTATION = r"""
module: lab_host
short_description: Make one lab host, a container with systemd and sshd
description:
  - Creates the container, or starts, unpauses or recreates one that is stopped, paused, dead or of another definition.
  - Waits until systemd has booted and ssh answers, and returns the host's real ssh key, read through podman and not over the network.
author: spark-ha
options:
  name:
    description: Name of the container and of the host.
    type: str
    required: true
  lab:
    description: Name of the lab that it belongs to.
    type: str
    required: true
  image:
    description: Image.
    type: str
    required: true
  network:
    description: Network.
    type: str
    required: true
  address:
    description: Static address on the network.
    type: str
    required: true
  aliases:
    description: Names that resolve to the host.
    type: list
    elements: str
    default: []
  volumes:
    description: Bind mounts as C(source:target[:options]).
    type: list
    elements: str
    default: []
  memory:
    description: Limit of memory, as podman takes it; empty sets none.
    type: str
    default: ""
  cpus:
    description: Limit of processors; 0 sets none.
    type: float
    default: 0
  user:
    description: User who may log in by key.
    type: str
    required: true
  authorized_key:
    description: Public key of that user.
    type: str
    required: true
  timeout:
    description: How long to wait for the boot, in seconds.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Make the host
  lab_host:
    name: spark82
    lab: lab
    image: localhost/spark-ha-host:debian-12-0123456789ab
    network: spark-ha-lab
    address: 192.168.88.82
    user: admin
    authorized_key: "{{ lookup('ansible.builtin.file', '.lab/lab/id_ed25519.pub') }}"
"""

RETURN = r"""
host_key:
  description: The host's public ssh key, type and value.
  type: str
  returned: always
reason:
  description: Why something was done; empty when nothing was.
  type: str
  returned: always
"""

# Reads the key from standard input. Kept as short as it is because the host has nothing but a shell yet.
AUTHORIZE = """
set -e
umask 077
home=$(getent passwd "$1" | cut -d: -f6)
mkdir -p "$home/.ssh"
key=$(cat)
if grep -qxF "$key" "$home/.ssh/authorized_keys" 2>/dev/null; then exit 0; fi
echo "$key" >> "$home/.ssh/authorized_keys"
chown -R "$1:" "$home/.ssh"
echo changed
"""


def definition(module: AnsibleModule, podman: Podman) -> list[str]:
    """Return the arguments of `podman run`."""
    p = module.params
    version = str(json.loads(podman("info", "--format", "json"))["host"]["cgroupVersion"])
    args = [
        *runtime_args(version, shutil.which("runc", path="/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin") is not None),
        "--name", p["name"], "--hostname", p["name"], "--label", f"{LABEL_LAB}={p['lab']}",
        "--systemd=always", "--restart", "always",
        # NET_*: firewall rules and ping. SYS_ADMIN: units are sandboxed as on a real host; without it systemd 257 refuses to start
        # those with User= and a filter of system calls ("Failed to keep CAP_SYS_ADMIN"), and older ones leave the sandbox out.
        "--cap-add", "NET_ADMIN,NET_RAW,SYS_ADMIN",
        "--ulimit", ulimit("nofile", resource.getrlimit(resource.RLIMIT_NOFILE)[1], 524288, resource.RLIM_INFINITY),
        # More than 32768 was refused without CAP_SYS_RESOURCE even below the hard limit.
        "--ulimit", ulimit("nproc", resource.getrlimit(resource.RLIMIT_NPROC)[1], 32768, resource.RLIM_INFINITY),
        "--pids-limit", "16384",
        # The host's own /etc/hosts: a bind-mounted one cannot be replaced.
        "--no-hosts", "--network", p["network"], "--ip", p["address"],
    ]  # fmt: skip
    for alias in p["aliases"]:
        args += ["--network-alias", alias]
    for volume in p["volumes"]:
        args += ["--volume", volume]
    if p["memory"]:
        args += ["--memory", p["memory"]]
    if p["cpus"]:
        args += ["--cpus", f"{p['cpus']:g}"]
    return args


def prepare_volumes(volumes: list[str]) -> None:
    """Make the sources of bind mounts: podman refuses missing ones."""
    for volume in volumes:
        Path(volume.split(":", 1)[0]).mkdir(parents=True, exist_ok=True)


def banner(address: str) -> bool:
    """Tell whether an ssh server answers."""
    try:
        with socket.create_connection((address, 22), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def wait(module: AnsibleModule) -> None:
    """Wait until systemd has booted and ssh answers; raises LabError after the timeout."""
    p = module.params
    deadline = time.monotonic() + p["timeout"]
    state = ""
    while True:
        _, out, err = module.run_command(["podman", "exec", p["name"], "systemctl", "is-system-running"])
        state = (out or err).strip()
        # degraded: a unit failed that is not the lab's business.
        if state in ("running", "degraded") and banner(p["address"]):
            return
        if time.monotonic() > deadline:
            raise LabError(
                f"host {p['name']} did not boot within {p['timeout']} s: systemd says {state!r}, ssh on {p['address']}:22 "
                f"{'answers' if banner(p['address']) else 'does not answer'}. "
                f"Look: podman logs {p['name']}; podman exec {p['name']} systemctl --failed"
            )
        time.sleep(0.3)


def ensure(module: AnsibleModule, podman: Podman) -> tuple[bool, str]:
    """Bring the container to the wanted state; returns (changed, why)."""
    p = module.params
    args = definition(module, podman)
    spec = fingerprint(args, p["image"])
    action, reason = judge(podman.inspect("container", p["name"]), p["name"], p["lab"], spec)
    if action == "probe":
        # After a power cut of the controller podman may say "Up" for a dead host.
        if podman.ok("exec", p["name"], "true"):
            return False, ""
        action, reason = "recreate", "podman took it for running, but it was dead"
    if module.check_mode:
        return True, reason
    if action in ("start", "unpause"):
        if podman.ok(action, p["name"]):
            return True, reason
        action = "recreate"
    if action == "recreate" and not podman.ok("rm", "--force", "--time", "2", p["name"]):
        podman("rm", "--force", "--time", "2", p["name"], what=f"removing {p['name']}")
    prepare_volumes(p["volumes"])
    podman("run", "--detach", *args, "--label", f"{LABEL_SPEC}={spec}", p["image"], "/sbin/init", what=f"starting host {p['name']}")
    return True, reason


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "lab": {"type": "str", "required": True},
            "image": {"type": "str", "required": True},
            "network": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "aliases": {"type": "list", "elements": "str", "default": []},
            "volumes": {"type": "list", "elements": "str", "default": []},
            "memory": {"type": "str", "default": ""},
            "cpus": {"type": "float", "default": 0},
            "user": {"type": "str", "required": True},
            "authorized_key": {"type": "str", "required": True, "no_log": False},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    p = module.params
    podman = Podman(lambda argv: module.run_command(argv))
    try:
        changed, reason = ensure(module, podman)
        if module.check_mode and changed:
            module.exit_json(changed=True, reason=reason, host_key="")
        wait(module)
        code, out, err = module.run_command(
            ["podman", "exec", "--interactive", p["name"], "sh", "-c", AUTHORIZE, "sh", p["user"]], data=p["authorized_key"]
        )
        if code:
            raise LabError(f"host {p['name']}: the ssh key of {p['user']} could not be written: {err.strip()}")
        if "changed" in out and not changed:
            changed, reason = True, f"{p['user']}'s key was missing"
        host_key = podman("exec", p["name"], "cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()
        module.exit_json(changed=changed, reason=reason, host_key=" ".join(host_key[:2]))
    except LabError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
