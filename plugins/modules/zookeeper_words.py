#!/usr/bin/python
# Copyright: spark-ha contributors
# Apache License 2.0 (see LICENSE)
"""See whether an ensemble that others run can be reached from this host, and tells what fencing needs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.latchkeeper import fourletter, pages

DOCUMENTATION = r"""
module: zookeeper_words
short_description: See whether an ensemble that others run can be reached from this host, and tells what fencing needs
description:
  - Fails when no server of the connect string answers, or when one that answers does not take the word C(cons).
  - By default a server takes no word but srvr, and a master's latch session can then not be told from the others'.
options:
  connect:
    description: Connect string of the ensemble; a chroot is ignored.
    type: str
    required: true
  sessions:
    description: Whether the servers must take C(cons).
    type: bool
    default: true
  timeout_s:
    description: Seconds that one server may take.
    type: float
    default: 5
author: [spark-ha]
attributes:
  check_mode:
    description: Only asks.
    support: full
"""

EXAMPLES = r"""
- name: Refuse an ensemble that does not tell who holds which session
  zookeeper_words:
    connect: "{{ zookeeper_external }}"
"""

RETURN = r"""
silent:
  description: Servers that gave no answer, with the reason.
  type: dict
  returned: always
"""


def ask(server: str, timeout_s: float) -> tuple[bool, str]:
    """Return whether the server was reached, and why it does not tell its connections (empty when it does)."""
    try:
        fourletter.cons(*pages.split_endpoint(server), timeout_s)
    except fourletter.NotAllowed as error:
        return True, str(error)
    except (fourletter.FourLetterError, pages.PageError) as error:
        return False, str(error)
    return True, ""


def judge(answers: dict[str, tuple[bool, str]], sessions: bool) -> str:
    """Return what keeps masters from using the ensemble; empty when nothing does. answers: server -> what ask said of it."""
    if not any(reached for reached, _ in answers.values()):
        reasons = "; ".join(why for _, why in answers.values())
        return (
            f"zookeeper_external: no server of it serves this host ({reasons}). Correct it, start the ensemble, or open its port to the "
            "masters."
        )
    mute = [server for server, (reached, why) in answers.items() if reached and why]
    if sessions and mute:
        return (
            f"zookeeper_external: {', '.join(mute)} does not take the four-letter word cons, without which a dead master's latch is not "
            "recognised. Add cons to 4lw.commands.whitelist there (srvr and mntr, too, for the status), or set spark_master_fencing: "
            "false; every change of leader then takes as long as a session."
        )
    return ""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "connect": {"type": "str", "required": True},
            "sessions": {"type": "bool", "default": True},
            "timeout_s": {"type": "float", "default": 5.0},
        },
        supports_check_mode=True,
    )
    servers = [server.strip() for server in module.params["connect"].partition("/")[0].split(",") if server.strip()]
    with ThreadPoolExecutor(max_workers=max(1, len(servers))) as pool:
        answers = dict(zip(servers, pool.map(lambda server: ask(server, module.params["timeout_s"]), servers), strict=True))
    problem = judge(answers, module.params["sessions"])
    silent = {server: why for server, (reached, why) in answers.items() if not reached}
    if problem:
        module.fail_json(msg=problem, silent=silent)
    module.exit_json(changed=False, silent=silent)


if __name__ == "__main__":
    main()
