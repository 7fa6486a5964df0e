#!/usr/bin/python
"""Log in from this host to every peer with the real ssh client, as the cluster's scripts do."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ssh_files import explain

DOCUMENTATION = r"""
module: ssh_mesh
short_description: Verify passwordless ssh by really logging in
description:
  - Runs C(ssh PEER true) as I(user) for all peers at once, with BatchMode and StrictHostKeyChecking on, so that neither a prompt nor blind
    trust can hide a fault. Changes nothing; fails when a login fails, and says which and why.
options:
  user:
    description: User on both sides.
    type: str
    required: true
  me:
    description: Name of this host in messages.
    type: str
    required: true
  peers:
    description: Names to log in to, each with C(name) and C(port).
    type: list
    elements: dict
    required: true
  timeout:
    description: Seconds for one login.
    type: int
    default: 15
author: spark-ha
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: Log in from every host to every host
  ssh_mesh:
    user: spark
    me: spark82
    peers: [{name: spark83, port: 22}, {name: localhost, port: 22}]
"""

RETURN = r"""
failures:
  description: Logins that failed, with C(peer), C(reason) and C(fix).
  returned: always
  type: list
seconds:
  description: How long all logins took.
  returned: always
  type: float
"""

OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "PreferredAuthentications=publickey",
    "UpdateHostKeys=no",
    "ControlPath=none",
    "ForwardAgent=no",
    "LogLevel=ERROR",
)

#: sshd refuses at random when many log in at the same moment (MaxStartups 10:30:100): that is no fault, so try again.
BUSY = ("kex_exchange_identification", "connection reset", "connection closed by", "banner exchange")
TRIES = 4


def login(account: pwd.struct_passwd, peer: dict[str, Any], timeout: int) -> tuple[str, int | None]:
    """Return (what ssh said, its exit code); None is a time-out of ``timeout`` seconds."""
    command = ["ssh", "-T", "-n", "-p", str(peer["port"]), "-o", f"ConnectTimeout={max(1, timeout - 2)}"]
    command += [part for option in OPTIONS for part in ("-o", option)]
    environment = {
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "PATH": os.environ.get("PATH", ""),
        "LC_ALL": "C",
    }
    other: dict[str, Any] = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    said: str = ""
    code: int | None = None
    for attempt in range(TRIES):
        try:
            done = subprocess.run(
                [*command, "--", peer["name"], "true"],
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
                env=environment,
                cwd="/",
                **other,
            )
        except subprocess.TimeoutExpired as error:
            return str(error), None
        said, code = done.stderr or done.stdout, done.returncode
        if code == 0 or not any(word in said.lower() for word in BUSY):
            break
        time.sleep(random.uniform(0.2, 0.6) * (attempt + 1))  # noqa: S311 - spreads logins, guards nothing
    return said, code


def main() -> None:
    """Log in to all peers and report."""
    module = AnsibleModule(
        argument_spec={
            "user": {"type": "str", "required": True},
            "me": {"type": "str", "required": True},
            "peers": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {"name": {"type": "str", "required": True}, "port": {"type": "int", "default": 22}},
            },
            "timeout": {"type": "int", "default": 15},
        },
        supports_check_mode=True,
    )
    user, me, peers = module.params["user"], module.params["me"], module.params["peers"]
    if not shutil.which("ssh"):
        module.fail_json(msg=f"{me} has no ssh client. Install openssh-client.", failures=[])
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        module.fail_json(
            msg=f"There is no user {user} (spark_user) on {me}. Role spark makes it: run site.yml from the start.", failures=[]
        )
    begin = time.monotonic()
    with ThreadPoolExecutor(max_workers=8) as pool:
        answers = list(pool.map(lambda peer: login(account, peer, module.params["timeout"]), peers))
    failures = []
    for peer, (said, code) in zip(peers, answers, strict=True):
        if code != 0:
            reason, fix = explain(said, code)
            failures.append({"peer": peer["name"], "reason": reason, "fix": fix})
    result = {"changed": False, "failures": failures, "seconds": round(time.monotonic() - begin, 2)}
    if failures:
        lines = [f"{user}@{me} -> {user}@{item['peer']}: {item['reason']}\n   Fix: {item['fix']}" for item in failures]
        module.fail_json(msg=f"{len(failures)} of {len(peers)} logins without a password failed.\n" + "\n".join(lines), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
