#!/usr/bin/python
"""Give a user an ssh key of its own, once."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: ssh_user_key
short_description: Give a user an ssh key of its own, once
description:
  - Makes C(~/.ssh) and an ed25519 key without a passphrase as the user, when there is none. An existing key is never replaced. Returns
    the public key, so that one call per host is enough on every run.
options:
  user:
    description: The user.
    type: str
    required: true
  comment:
    description: Comment of a new key.
    type: str
    default: ""
author: spark-ha
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: Give spark a key
  ssh_user_key:
    user: spark
    comment: spark@spark82
"""

RETURN = r"""
public_key:
  description: The public key without its comment; empty in check mode when there is none yet.
  returned: success
  type: str
"""


def main() -> None:
    """Look, make when missing, return the public key."""
    module = AnsibleModule(
        argument_spec={"user": {"type": "str", "required": True}, "comment": {"type": "str", "default": ""}},
        supports_check_mode=True,
    )
    name = module.params["user"]
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        if module.check_mode:
            module.exit_json(changed=True, public_key="")
        module.fail_json(msg=f"There is no user {name} (spark_user) on the host. Role spark makes it: run site.yml from the start.")
    key = Path(account.pw_dir, ".ssh", "id_ed25519")
    # As the user: nothing that it plants in its own home can make root write elsewhere.
    other: dict[str, Any] = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}

    def run(*command: str) -> str:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/", **other)
        except FileNotFoundError:
            module.fail_json(msg=f"There is no {command[0]} on the host. Install openssh-client.")
        except subprocess.CalledProcessError as error:
            module.fail_json(msg=f"The ssh key of {name} (spark_user) in {key.parent}: {(error.stderr or error.stdout).strip()}")
        return str(done.stdout)

    changed = not key.exists()
    if changed and not module.check_mode:
        run("mkdir", "-p", "-m", "0700", str(key.parent))
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", module.params["comment"], "-f", str(key))
    public = key.with_suffix(".pub")
    text = ""
    if key.exists():
        text = run("cat", str(public)) if public.exists() else run("ssh-keygen", "-y", "-P", "", "-f", str(key))
    module.exit_json(changed=changed, public_key=" ".join(text.split()[:2]))


if __name__ == "__main__":
    main()
