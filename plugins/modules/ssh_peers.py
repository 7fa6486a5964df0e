#!/usr/bin/python
"""Write the cluster's keys into a user's authorized_keys and known_hosts."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ssh_files import Peer, authorized_keys, client_config, known_hosts

DOCUMENTATION = r"""
module: ssh_peers
short_description: Trust between one user of all hosts of a cluster
description:
  - Keeps a marked block in the user's C(authorized_keys) (every peer's key), C(known_hosts) (every peer's real host keys) and, when an
    sshd does not listen on port 22, C(config). Lines outside the blocks belong to the user.
  - Peers whose keys are not known in this run keep their lines; peers that are no longer listed lose them.
options:
  user:
    description: The user.
    type: str
    required: true
  me:
    description: Which peer this host is; its host keys also stand for localhost.
    type: str
    required: true
  peers:
    description: Every host with C(host), C(names), C(port), C(key) and C(host_keys).
    type: list
    elements: dict
    required: true
author: spark-ha
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""

EXAMPLES = r"""
- name: Trust every host of the cluster
  ssh_peers:
    user: spark
    me: spark82
    peers:
      - {host: spark82, names: [spark82, 192.168.88.82], port: 22, key: ssh-ed25519 AAAA..., host_keys: [ssh-ed25519 AAAA...]}
"""

RETURN = r"""
files:
  description: Files that were written, or would be.
  returned: always
  type: list
"""


FILES = ("authorized_keys", "known_hosts", "config")


@contextmanager
def acting_as(owner: pwd.struct_passwd) -> Iterator[None]:
    """Touch files with the user's rights: a link that it plants in its own home must not lead root to other files."""
    if os.geteuid() != 0:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    os.setgroups([owner.pw_gid])
    os.setegid(owner.pw_gid)
    os.seteuid(owner.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def read(path: Path) -> str:
    """Return a file's text, empty when it is not there. Raises OSError."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def write(path: Path, text: str) -> None:
    """Replace a file of the user's: 0600, theirs, whole or not at all. Raises OSError."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def main() -> None:
    """Read, render, write what differs."""
    module = AnsibleModule(
        argument_spec={
            "user": {"type": "str", "required": True},
            "me": {"type": "str", "required": True},
            "peers": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "host": {"type": "str", "required": True},
                    "names": {"type": "list", "elements": "str", "required": True},
                    "port": {"type": "int", "default": 22},
                    "key": {"type": "str", "default": "", "no_log": False},
                    "host_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
                },
            },
        },
        supports_check_mode=True,
    )
    name, me = module.params["user"], module.params["me"]
    peers = [
        Peer(item["host"], tuple(item["names"]), item["port"], item["key"], tuple(item["host_keys"])) for item in module.params["peers"]
    ]
    if not any(peer.host == me and peer.host_keys for peer in peers):
        module.fail_json(
            msg=f"No host key of {me} is known. Has /etc/ssh keys (ssh-keygen -A makes them), and were facts gathered (subset min)?"
        )
    try:
        owner = pwd.getpwnam(name)
    except KeyError:
        if module.check_mode:
            module.exit_json(changed=True, files=["authorized_keys", "known_hosts"])
        module.fail_json(msg=f"There is no user {name} (spark_user) on the host. Role spark makes it: run site.yml from the start.")
    folder = Path(owner.pw_dir, ".ssh")
    changed, diffs = [], []
    try:
        with acting_as(owner):
            before = {file: read(folder / file) for file in FILES}
            wanted = {
                "authorized_keys": authorized_keys(before["authorized_keys"], peers),
                "known_hosts": known_hosts(before["known_hosts"], peers, me),
                "config": client_config(before["config"], peers),
            }
            for file, text in wanted.items():
                if text == before[file]:
                    continue
                path = str(folder / file)
                changed.append(file)
                diffs.append({"before": before[file], "after": text, "before_header": path, "after_header": path})
                if not module.check_mode:
                    write(folder / file, text)
    except (OSError, UnicodeDecodeError) as error:
        module.fail_json(msg=f"{name} (spark_user) cannot keep its files in {folder}: {error}. See their owner and mode.")
    module.exit_json(changed=bool(changed), files=changed, diff=diffs)


if __name__ == "__main__":
    main()
