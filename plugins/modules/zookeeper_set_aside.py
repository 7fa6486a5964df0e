#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Move a server's data and id out of its way, without deleting anything."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: zookeeper_set_aside
short_description: Move a ZooKeeper server's data and id out of its way
description:
  - Moves C(version-2) and C(myid) into a new directory C(retired-TIME) beside them, so that the host can become a new, empty
    member later. Nothing is deleted. The server must be stopped.
options:
  directories:
    description: Data directories.
    type: list
    elements: path
    required: true
author: [spark-ha]
attributes:
  check_mode:
    description: Says what would be moved.
    support: full
"""

EXAMPLES = r"""
- name: Set the data of a former member aside
  zookeeper_set_aside:
    directories: [/var/lib/zookeeper]
"""

RETURN = r"""
kept:
  description: Where the data is now.
  type: list
  elements: str
  returned: success
"""

NAMES = ("version-2", "myid")


def set_aside(directories: list[str], check_mode: bool) -> dict[str, Any]:
    """Move what is there, by renames on the same file system. Raises OSError."""
    kept = []
    for directory in map(Path, directories):
        there = [directory / name for name in NAMES if (directory / name).exists()]
        if not there:
            continue
        target = directory / time.strftime("retired-%Y%m%dT%H%M%SZ", time.gmtime())
        kept.append(str(target))
        if not check_mode:
            target.mkdir(mode=0o750)
            for path in there:
                path.rename(target / path.name)
    return {"changed": bool(kept), "kept": kept}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={"directories": {"type": "list", "elements": "path", "required": True}}, supports_check_mode=True)
    try:
        module.exit_json(**set_aside(module.params["directories"], module.check_mode))
    except OSError as error:
        module.fail_json(msg=f"could not set the data aside: {error}")


if __name__ == "__main__":
    main()
