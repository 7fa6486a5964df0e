"""A worker whose directory was copied: two of one id are never both told to run something."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from master_world import Worker, World, until

from sparkd.rpc import messages as msg


@pytest.mark.parametrize("moved", [False, True])
def test_a_second_worker_of_one_id_is_refused_while_the_first_is_there(moved: bool) -> None:
    async def story() -> None:
        world = World()
        master = await world.leading()
        first = await world.worker(master)
        await first.register()
        second: Worker = await world.worker(master)
        if moved:
            second.info = dataclasses.replace(first.info, host="127.0.0.2")
        await second.next(msg.Leading)
        second.links[0].send(msg.Register(second.info))
        if not moved:  # it came back before its old connection was found dead
            await second.next(msg.Accepted)
        else:
            refused = await second.next(msg.Refused)
            assert "127.0.0.1" in refused.why and await first.quiet()
            first.links[0].close()
            await until(lambda: not master._sessions.registered(), "the first is gone")
            second.links[0].send(msg.Register(second.info))
            await second.next(msg.Accepted)
        for worker in world.workers:
            for link in worker.links:
                link.abort()
        for master in world.masters:
            await master.stop()

    asyncio.run(story())
