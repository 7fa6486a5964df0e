#!/usr/bin/python
"""Keep the project's block in /etc/hosts."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.etc_hosts import Entry, conflicts, render

DOCUMENTATION = r"""
module: etc_hosts
short_description: Keep the cluster's names in /etc/hosts
description:
  - Writes one marked block with the cluster's hosts, and takes the host's own names off loopback lines
    (C(127.0.1.1 name), as Debian writes it), because Java and Spark would bind and advertise loopback.
  - What it switches off stays in the file as a comment; with no entries all of it is taken back.
options:
  path:
    description: The file.
    type: path
    default: /etc/hosts
  entries:
    description:
      - Hosts in order, each with C(ip) (empty when it is not known in this run; the line of an earlier run then stays) and C(names).
    type: list
    elements: dict
    required: true
  own_names:
    description: Names of this host that must not stand on a loopback line.
    type: list
    elements: str
    default: []
author: spark-ha
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""

EXAMPLES = r"""
- name: Write the names of the cluster
  etc_hosts:
    entries:
      - {ip: 192.168.88.82, names: [spark82]}
      - {ip: 192.168.88.83, names: [spark83]}
    own_names: [spark82]
"""

RETURN = r"""
conflicts:
  description: Lines outside the block that give one of the names another address.
  returned: always
  type: list
"""


def main() -> None:
    """Read, render, write when different."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/etc/hosts"},
            "entries": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {"ip": {"type": "str", "default": ""}, "names": {"type": "list", "elements": "str", "required": True}},
            },
            "own_names": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    path = Path(os.path.realpath(module.params["path"]))  # a link's target is written, the link stays
    entries = [Entry(item["ip"] or None, tuple(dict.fromkeys(item["names"]))) for item in module.params["entries"]]
    try:
        before = path.read_text() if path.exists() else "127.0.0.1 localhost\n::1 localhost\n"
    except (OSError, UnicodeDecodeError) as error:
        module.fail_json(msg=f"{path} cannot be read: {error}. Correct the file, or set names_manage_etc_hosts: false.")
    after = render(before, entries, module.params["own_names"])
    strange = conflicts(before, entries)
    for line in strange:
        module.warn(f"{path} has the line {line!r}, which gives a name of the cluster another address: take it out.")
    changed = after != before
    if changed and not module.check_mode:
        handle, name = tempfile.mkstemp(dir=module.tmpdir)
        with os.fdopen(handle, "w") as file:
            file.write(after)
        # A bind-mounted /etc/hosts (most containers) cannot be replaced by renaming: it is then written in place.
        module.atomic_move(name, str(path), unsafe_writes=True)
        if not before or path.stat().st_mode & 0o777 != 0o644:
            path.chmod(0o644)
    module.exit_json(
        changed=changed,
        conflicts=strange,
        diff={"before": before, "after": after, "before_header": str(path), "after_header": str(path)} if changed else {},
    )


if __name__ == "__main__":
    main()
