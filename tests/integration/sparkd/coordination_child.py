"""A master's engine in a process: lines of CLOCK_BOOTTIME, what was heard, and every 10 ms the lease."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from sparkd.coordination.api import MasterAddress, Misconfigured
from sparkd.coordination.boottime import boot_s
from sparkd.coordination.zookeeper import ZookeeperEngine
from sparkd.core.values import Epoch
from sparkd.settings import RecoverySettings


def say(*words: object) -> None:
    print(boot_s(), *words, flush=True)


class Listener:
    def on_elected(self, epoch: Epoch) -> None:
        say("elected", epoch.number)

    def on_suspended(self, why: str) -> None:
        say("suspended", why)

    def on_resumed(self) -> None:
        say("resumed")

    def on_deposed(self, why: str) -> None:
        say("deposed", why)

    def on_leader(self, leader: MasterAddress | None) -> None:
        say("leader", leader.url if leader else "-")

    def on_misconfigured(self, error: Misconfigured) -> None:
        say("misconfigured", error)


async def main(connect: str, directory: str, session_s: str, record: str) -> None:
    settings = RecoverySettings(
        mode="ZOOKEEPER",
        zookeeper_url=connect,
        zookeeper_dir=directory,
        session_timeout_s=float(session_s),
        latch_record=Path(record),
    )
    engine = ZookeeperEngine(settings)
    await engine.start(MasterAddress("child", 7077), Listener())
    while True:
        say("lease", engine.lease_left_s())
        await asyncio.sleep(0.01)


asyncio.run(main(*sys.argv[1:]))
