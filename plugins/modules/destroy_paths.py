#!/usr/bin/python
# Copyright: spark-ha contributors
# Apache License 2.0 (see LICENSE)
"""Remove what the roles put on a host, and nothing that merely lies beside it."""

from __future__ import annotations

import glob
import os
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: destroy_paths
short_description: Remove what the roles put on a host, and nothing that merely lies beside it
description:
  - Paths are variables of the inventory, and an install root may be C(/opt). So install roots are never removed as a whole, and
    directories of the system are left alone, with a warning.
  - A directory that is a mount point is emptied and stays.
options:
  paths:
    description: Files, links and directories that go with all that is in them; shell patterns are allowed.
    type: list
    elements: path
    default: []
  installed:
    description: Shell patterns of directories that go only where the mark of the roles' own unpacking is in them.
    type: list
    elements: path
    default: []
  emptied:
    description: Directories that go at the end, if nothing is left in them.
    type: list
    elements: path
    default: []
author: [spark-ha]
attributes:
  check_mode:
    description: Says what would be removed.
    support: full
"""

EXAMPLES = r"""
- name: Remove Spark
  destroy_paths:
    paths: [/opt/spark/current]
    installed: ["/opt/spark/spark-[0-9]*"]
    emptied: [/opt/spark]
"""

RETURN = r"""
removed:
  description: What was removed, or would be.
  type: list
  elements: str
  returned: success
"""

#: Written by artifact_unpack.
MARKER = ".artifact.sha256"
#: Never removed, whatever a variable says: directories that others use too.
SHARED = frozenset(
    map(
        Path,
        [
            "/bin",
            "/boot",
            "/data",
            "/dev",
            "/etc",
            "/home",
            "/lib",
            "/media",
            "/mnt",
            "/opt",
            "/proc",
            "/root",
            "/run",
            "/sbin",
            "/srv",
            "/sys",
            "/tmp",  # noqa: S108 - only compared
            "/usr",
            "/usr/bin",
            "/usr/lib",
            "/usr/local",
            "/usr/local/bin",
            "/usr/local/lib",
            "/usr/local/share",
            "/usr/sbin",
            "/usr/share",
            "/var",
            "/var/cache",
            "/var/lib",
            "/var/log",
            "/var/opt",
            "/var/spool",
            "/var/tmp",  # noqa: S108 - only compared
            "/etc/profile.d",
            "/etc/sudoers.d",
            "/etc/systemd",
            "/etc/systemd/system",
        ],
    )
)


def shared(path: Path) -> bool:
    """Whether a path is the system's: / itself, or one that others use too, by whatever spelling."""
    real = Path(os.path.realpath(path))
    return not path.is_absolute() or (not path.is_symlink() and (real in SHARED or real == Path("/") or real.parent == Path("/home")))


def matches(patterns: list[str]) -> list[Path]:
    """Return what is there, in the order given, each once."""
    found = [Path(name) for pattern in patterns for name in sorted(glob.glob(pattern, include_hidden=True))]  # noqa: PTH207 - the patterns are absolute
    # A dangling link is no match for glob when the pattern has no wildcard.
    found += [Path(pattern) for pattern in patterns if Path(pattern).is_symlink()]
    return list(dict.fromkeys(found))


def remove(path: Path) -> bool:
    """Remove a path with what is in it; a mount point stays, empty. Return whether there was anything to do. Raises OSError."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return True
    if not path.is_mount():
        shutil.rmtree(path)
        return True
    inside = [entry for entry in path.iterdir() if entry.name != "lost+found"]
    for entry in inside:
        remove(entry)
    return bool(inside)


def clear(paths: list[str], installed: list[str], emptied: list[str], check_mode: bool) -> tuple[list[str], list[str]]:
    """Return what was removed (in check mode: would be) and what was left alone because it is the system's. Raises OSError."""
    wanted = matches(paths) + [path for path in matches(installed) if (path / MARKER).is_file()]
    kept = [str(path) for path in wanted if shared(path)]
    going = [path for path in wanted if not shared(path)]
    removed = []
    for path in going:
        if not (path.exists() or path.is_symlink()):
            continue  # went with its parent
        if check_mode:
            removed += [str(path)] if not path.is_mount() or any(path.iterdir()) else []
        elif remove(path):
            removed.append(str(path))
    for path in map(Path, emptied):
        if path.is_dir() and not path.is_symlink() and not path.is_mount() and not shared(path):
            left = {entry for entry in path.iterdir() if not (check_mode and entry in going)}
            if not left:
                removed.append(str(path))
                if not check_mode:
                    path.rmdir()
    return list(dict.fromkeys(removed)), kept


def main() -> None:
    """Run the module."""
    paths = {"type": "list", "elements": "path", "default": []}
    module = AnsibleModule(argument_spec={"paths": paths, "installed": paths, "emptied": paths}, supports_check_mode=True)
    try:
        removed, kept = clear(module.params["paths"], module.params["installed"], module.params["emptied"], module.check_mode)
    except OSError as error:
        module.fail_json(msg=f"{error.filename} could not be removed: {error.strerror}")
    for path in kept:
        module.warn(f"{path} is a directory of the system and was left alone; remove what Spark or ZooKeeper left in it by hand.")
    module.exit_json(changed=bool(removed), removed=removed)


if __name__ == "__main__":
    main()
