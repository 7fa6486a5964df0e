"""ZooKeeper servers killed, paused (a host that drops packets: connections stay, nobody answers) and without a quorum, under a leader.

SPARKD_ROUNDS: how often each (2). The figures are printed: `pytest -s`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "unit" / "sparkd"))

from coordination_suite import Master
from ensemble import Ensemble, Server
from kazoo.client import KazooClient

from sparkd.coordination.api import CoordinationError
from sparkd.coordination.zookeeper import ZookeeperEngine
from sparkd.core.effects import Write
from sparkd.settings import RecoverySettings

ROUNDS = int(os.environ.get("SPARKD_ROUNDS", "2"))
SESSION_S = 4.0


@pytest.fixture(scope="module")
def servers(zookeeper_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    # A frozen leader of the ensemble is given up after syncLimit ticks: 2 s here, 5 s in the role's own configuration.
    with Ensemble(zookeeper_jars, tmp_path_factory.mktemp("outages"), settings={"syncLimit": "4"}) as ensemble:
        yield ensemble


class Pair:
    """A leader that commits all the time, and a standby."""

    def __init__(self, ensemble: Ensemble, directory: str) -> None:
        self.ensemble = ensemble
        settings = RecoverySettings(mode="ZOOKEEPER", zookeeper_url=ensemble.connect, zookeeper_dir=directory, session_timeout_s=SESSION_S)
        self.a, self.b = Master("a"), Master("b")
        for master in (self.a, self.b):
            master.engine = ZookeeperEngine(settings, master.clock)
        self.lowest_s = SESSION_S
        self.longest_s = 0.0
        self.stored = 0

    async def begin(self) -> None:
        await self.a.engine.start(self.a.address, self.a)
        await self.a.hears("elected")
        await self.a.engine.load()
        await self.b.engine.start(self.b.address, self.b)
        await self.b.follows(self.a.address)

    def server(self, master: Master) -> Server:
        """The server that a master is connected to."""
        endpoint = str(master.engine.describe()["server"])
        return next(server for server in self.ensemble.servers if server.endpoint == endpoint)

    async def work(self) -> None:
        """Commit one after the other; remember the longest and the lowest lease."""
        while True:
            began = time.monotonic()
            try:
                await self.a.engine.commit([Write("driver", "d", {"n": self.stored + 1})], f"r{self.stored + 1}")
            except CoordinationError:
                await asyncio.sleep(0.05)
                continue
            self.stored += 1
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            self.lowest_s = min(self.lowest_s, self.a.engine.lease_left_s())
            await asyncio.sleep(0.02)

    async def quiet(self, seconds: float) -> None:
        """Let time pass; look at the lease all the while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.lowest_s = min(self.lowest_s, self.a.engine.lease_left_s())
            await asyncio.sleep(0.02)

    async def end(self) -> None:
        await asyncio.gather(self.a.engine.close(), self.b.engine.close())


def with_pair(ensemble: Ensemble, directory: str, steps: Callable[[Pair], Awaitable[None]]) -> None:
    async def run() -> None:
        pair = Pair(ensemble, directory)
        try:
            await pair.begin()
            await steps(pair)
        finally:
            await pair.end()

    asyncio.run(run())


@pytest.mark.parametrize("fault", ["killed", "paused"])
def test_the_leaders_own_server_is_lost(servers: Ensemble, fault: str) -> None:
    """One server of three, the one the leader is connected to, follower or leader of the ensemble: the master that leads stays the same."""
    rows = []

    async def steps(pair: Pair) -> None:
        working = asyncio.create_task(pair.work())
        for _ in range(ROUNDS):
            await asyncio.to_thread(servers.wait_for_quorum, 3)
            await asyncio.sleep(1.0)
            server = pair.server(pair.a)
            role = await asyncio.to_thread(server.mode)
            pair.lowest_s, pair.longest_s = SESSION_S, 0.0
            heard, stored = len(pair.a.names()), pair.stored
            if fault == "killed":
                await asyncio.to_thread(server.kill)
            else:
                server.pause()
            try:
                await pair.quiet(SESSION_S + 2.5)
                moved = pair.server(pair.a) is not server
                interrupted = pair.a.names()[heard:]
                rows.append((role, round(pair.longest_s, 2), round(pair.lowest_s, 2), interrupted))
                assert moved
                assert pair.stored > stored, "it works again while the server is still away"
                assert pair.b.names() == []
                assert pair.a.count("elected") == 1
                assert pair.a.count("deposed") == 0
                assert pair.a.count("suspended") == pair.a.count("resumed")
                if role == "follower":
                    assert interrupted == [], "the others have a quorum at once"
            finally:
                if fault == "killed":
                    server.start()
                else:
                    server.resume()
        working.cancel()

    with_pair(servers, f"/{fault}", steps)
    print(
        f"\n{fault} server, {len(rows)} of {ROUNDS} without a change of leader (its role, longest commit s, lowest lease s, interruptions):"
    )
    for row in rows:
        print("  ", row)


def test_the_quorum_is_lost_and_comes_back(servers: Ensemble) -> None:
    """For longer than a session: the same leader goes on, since sessions count anew when a quorum is back."""
    took = []

    async def steps(pair: Pair) -> None:
        await asyncio.to_thread(servers.wait_for_quorum, 3)
        await pair.a.engine.commit([Write("driver", "d", {"n": 0})], "r0")
        for server in servers.servers[:2]:
            await asyncio.to_thread(server.kill)
        await pair.a.hears("suspended")
        assert pair.a.engine.lease_left_s() <= 0
        writing = asyncio.create_task(pair.a.engine.commit([Write("driver", "d", {"n": 1})], "r1"))
        await asyncio.sleep(2 * SESSION_S)
        assert writing.done()
        with pytest.raises(CoordinationError):
            await writing
        assert pair.b.names() == []
        for server in servers.servers[:2]:
            server.start()
        client = KazooClient(servers.connect, timeout=4)
        await asyncio.to_thread(client.start, 60)
        await asyncio.to_thread(client.ensure_path, "/independent")
        back = time.monotonic()
        while max(pair.a.engine.lease_left_s(), pair.b.engine.lease_left_s()) <= 0:
            assert time.monotonic() - back < 30
            await asyncio.sleep(0.01)
        took.append(time.monotonic() - back)
        await asyncio.to_thread(client.stop)
        client.close()
        leader = pair.a if pair.a.engine.lease_left_s() > 0 else pair.b
        assert "misconfigured" not in pair.a.names() + pair.b.names()
        if leader is pair.a and pair.a.count("elected") == 1:
            await leader.engine.commit([Write("driver", "d", {"n": 2})], "r2")
        loaded = await leader.engine.load()
        assert [record.record for record in loaded.records] == [{"n": 2 if leader is pair.a else 0}]

    with_pair(servers, "/quorum", steps)
    print(f"\nquorum back until a leader: {took[0]:.2f} s")


def test_how_much_is_stored_in_a_second(servers: Ensemble) -> None:
    rates = {}

    async def steps(pair: Pair) -> None:
        for size in (1, 64, 200):
            rounds = max(10, 4000 // size // (4 if size == 1 else 1))
            began = time.monotonic()
            for number in range(rounds):
                writes = [Write("driver", f"{size}-{number}-{index}", {"text": "x" * 900}) for index in range(size)]
                await pair.a.engine.commit(writes, f"{size}-{number}")
            rates[size] = rounds * size / (time.monotonic() - began)
        began = time.monotonic()
        loaded = await pair.a.engine.load()
        rates[0] = len(loaded.records) / (time.monotonic() - began)
        assert pair.a.names() == ["elected"]

    with_pair(servers, "/rate", steps)
    stored = {size: round(rate) for size, rate in rates.items() if size}
    print(f"\nrecords of 1 KB a second, by batch: {stored}; loaded a second: {rates[0]:.0f}")
    assert rates[200] > 500, "3,000 and more on a quiet machine"
