#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Ask a ZooKeeper server how it is, and wait until it serves."""

from __future__ import annotations

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.latchkeeper import fourletter

DOCUMENTATION = r"""
module: zookeeper_health
short_description: Ask a ZooKeeper server how it is, and wait until it serves
description:
  - Asks the words srvr and mntr. Run it on each member; zookeeper_rules.judge (filter C(zookeeper_verdict)) makes one verdict of all.
  - A server that answers with a mode is in the quorum and has the leader's state; one outside of a quorum gives state C(down) with
    the reason, and is no failure of the module.
options:
  host:
    description: Name or address of the server, from this host.
    type: str
    default: 127.0.0.1
  port:
    description: Client port.
    type: int
    default: 2181
  timeout:
    description: Seconds to wait until it is healthy; 0 asks once.
    type: float
    default: 0
  followers:
    description: How many followers a leader must count in sync to be healthy. The others ignore it.
    type: int
    default: 0
author: [spark-ha]
attributes:
  check_mode:
    description: Only asks.
    support: full
"""

EXAMPLES = r"""
- name: Wait until each member serves and the leader has all followers in sync
  zookeeper_health:
    port: 2181
    timeout: 60
    followers: 2
  register: __zookeeper_health
"""

RETURN = r"""
state:
  description: One of standalone, leader, follower, observer, read-only, down.
  type: str
  returned: always
healthy:
  description: Whether it serves, and as a leader has the wanted number of followers in sync.
  type: bool
  returned: always
why:
  description: The reason when it is not healthy.
  type: str
  returned: always
epoch:
  description: Election epoch of the last transaction it has seen.
  type: int
  returned: when it serves
zxid:
  description: The last transaction it has seen, as hexadecimal text.
  type: str
  returned: when it serves
synced_followers:
  description: Followers that a leader counts in sync, without itself; 0 for others.
  type: int
  returned: always
followers:
  description: Followers and observers connected to a leader; 0 for others.
  type: int
  returned: always
version:
  description: Version of the server.
  type: str
  returned: when it serves
seconds:
  description: How long it took.
  type: float
  returned: always
"""

POLL_S = 0.25
ASK_TIMEOUT_S = 2.0


def look(host: str, port: int, followers: int) -> dict[str, Any]:
    """Ask once."""
    down: dict[str, Any] = {"state": "down", "healthy": False, "synced_followers": 0, "followers": 0}
    try:
        server = fourletter.srvr(host, port, ASK_TIMEOUT_S)
        monitor = fourletter.mntr(host, port, ASK_TIMEOUT_S)
    except fourletter.FourLetterError as error:
        return {**down, "why": str(error)}
    synced = monitor.synced_followers or 0
    short = server.mode == "leader" and synced < followers
    return {
        "state": server.mode,
        "healthy": not short,
        "why": f"it leads and counts {synced} of {followers} followers in sync" if short else "",
        "epoch": server.epoch,
        "zxid": f"0x{server.zxid:x}",
        "synced_followers": synced,
        "followers": monitor.learners or 0,
        "version": server.version,
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "default": "127.0.0.1"},
            "port": {"type": "int", "default": 2181},
            "timeout": {"type": "float", "default": 0.0},
            "followers": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    params = module.params
    started = time.monotonic()
    while True:
        seen = look(params["host"], params["port"], params["followers"])
        if seen["healthy"] or time.monotonic() - started >= params["timeout"]:
            break
        time.sleep(POLL_S)
    module.exit_json(changed=False, seconds=round(time.monotonic() - started, 2), **seen)


if __name__ == "__main__":
    main()
