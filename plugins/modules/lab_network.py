#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Network of a lab."""

from __future__ import annotations

import ipaddress
import json

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab_podman import LABEL_LAB, LabError, Podman, overlapping, stale_bridges

DOCUMENTATION = r"""
module: lab_network
short_description: Create or remove the network of a lab
description:
  - A podman bridge network with name resolution.
  - What an earlier lab left on the same subnet is removed; what belongs to somebody else is not.
author: spark-ha
options:
  name:
    description: Name of the network.
    type: str
    required: true
  lab:
    description: Name of the lab that it belongs to.
    type: str
    required: true
  subnet:
    description: Its subnet.
    type: str
  state:
    description: V(absent) removes the network and the containers of the lab.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Make the network
  lab_network: {name: spark-ha-lab, lab: lab, subnet: 192.168.88.0/24}
"""

RETURN = r"""
removed:
  description: Names of networks, containers and bridges that were removed.
  type: list
  elements: str
  returned: always
"""


def clear(module: AnsibleModule, podman: Podman, wanted: bool) -> list[str]:
    """Find (and unless check mode remove) what is in the way; raises LabError for what is not a lab's."""
    p = module.params
    removed: list[str] = []
    networks = podman.networks()
    mine = next((n for n in networks if n["name"] == p["name"]), None)
    if not wanted:
        containers = podman("ps", "--all", "--filter", f"label={LABEL_LAB}={p['lab']}", "--format", "{{.Names}}").split()
        if containers and not module.check_mode:
            podman("rm", "--force", "--time", "2", *containers, what="removing containers")
        removed += containers
    if mine and (not wanted or [s["subnet"] for s in mine.get("subnets") or []] != [p["subnet"]]):
        if not module.check_mode:
            podman("network", "rm", "--force", p["name"])
        removed.append(p["name"])
    if wanted:
        for network in overlapping(networks, p["name"], p["subnet"]):
            label = (network.get("labels") or {}).get(LABEL_LAB)
            users = podman("ps", "--quiet", "--filter", f"network={network['name']}").split()
            if not label or users:
                raise LabError(
                    f"lab_subnet={p['subnet']}: podman's network {network['name']!r} is on it"
                    + (f", with running hosts of the lab {label!r}" if label else "")
                    + ". Choose another lab_subnet (and ansible_host addresses in it), or remove that network: "
                    + f"podman network rm {network['name']}"
                )
            if not module.check_mode:
                podman("network", "rm", "--force", network["name"])
            removed.append(network["name"])
        code, out, _ = module.run_command(["ip", "-json", "address"])
        in_use = [str(n.get("network_interface", "")) for n in networks if n["name"] not in removed]
        for bridge in stale_bridges(json.loads(out) if code == 0 and out else [], p["subnet"], in_use):
            if not module.check_mode:
                module.run_command(["ip", "link", "delete", bridge])
            removed.append(bridge)
    return removed


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "lab": {"type": "str", "required": True},
            "subnet": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["subnet"])],
        supports_check_mode=True,
    )
    p = module.params
    wanted = p["state"] == "present"
    podman = Podman(lambda argv: module.run_command(argv))
    try:
        if wanted:
            try:
                ipaddress.ip_network(p["subnet"])
            except ValueError as error:
                raise LabError(f"lab_subnet={p['subnet']}: {error}. Give a network like 192.168.88.0/24") from error
        removed = clear(module, podman, wanted)
        changed = bool(removed)
        if wanted and not podman.ok("network", "exists", p["name"]):
            changed = True
            if not module.check_mode:
                args = ["--label", f"{LABEL_LAB}={p['lab']}", "--subnet", p["subnet"], p["name"]]
                podman("network", "create", *args, what=f"making a network on lab_subnet={p['subnet']}")
        module.exit_json(changed=changed, removed=removed)
    except LabError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
