"""The four-letter words against real servers, in the states that a health check must tell apart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ensemble import Ensemble, Server
from kazoo.client import KazooClient

from latchkeeper import fourletter
from module_utils.zookeeper_rules import plan


@contextmanager
def session(hosts: str) -> Iterator[KazooClient]:
    client = KazooClient(hosts, timeout=4.0)
    client.start(20)
    try:
        yield client
    finally:
        client.stop()
        client.close()


def wait_until(true: object, timeout_s: float = 20.0) -> None:
    assert callable(true)
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, f"not true within {timeout_s:g} s"
        time.sleep(0.1)


def test_one_server_is_standalone(zookeeper: Ensemble) -> None:
    host, port = zookeeper.hosts[0]
    assert fourletter.ruok(host, port)
    assert fourletter.srvr(host, port).mode == "standalone"
    with pytest.raises(fourletter.NotAllowed):
        fourletter.ask(host, port, "conf")


def test_a_leader_counts_its_followers(shared_ensemble: Ensemble) -> None:
    leader = shared_ensemble.leader()
    assert len(shared_ensemble.followers()) == 2
    monitor = fourletter.mntr("127.0.0.1", leader.client_port)
    assert (monitor.server_state, monitor.synced_followers, monitor.quorum_size) == ("leader", 2, 3)
    with session(shared_ensemble.followers()[0].endpoint) as client:
        client.create("/proof", b"x")
        client.delete("/proof")
    wait_until(lambda: fourletter.srvr("127.0.0.1", leader.client_port).epoch >= 1)


def test_cons_lists_the_session_as_the_owner_of_ephemeral_nodes(shared_ensemble: Ensemble) -> None:
    follower = shared_ensemble.followers()[0]
    with session(follower.endpoint) as client:
        client.create("/latch", b"", ephemeral=True)
        owner = client.get("/latch")[1].ephemeralOwner
        own_port = client._connection._socket.getsockname()[1]
        connections = fourletter.cons("127.0.0.1", follower.client_port)
        assert [c.sid for c in connections if (c.ip, c.port) == ("127.0.0.1", own_port)] == [owner]
        assert [c.timeout_ms for c in connections if c.sid == owner] == [4000]
        # only at the server that the client is connected to
        assert owner not in [c.sid for c in fourletter.cons("127.0.0.1", shared_ensemble.leader().client_port)]


def test_losing_servers(ensemble: Ensemble) -> None:
    first = ensemble.leader()
    first.kill()
    ensemble.wait_for_quorum()
    second = ensemble.leader()
    assert second is not first
    assert first.mode() == "down"
    wait_until(lambda: fourletter.mntr("127.0.0.1", second.client_port).synced_followers == 1)

    first.start()
    ensemble.wait_for_quorum(members=3)
    assert first.mode() == "follower"

    rest = [server for server in ensemble.servers if server is not first]
    for server in rest:
        server.kill()
    wait_until(lambda: first.mode() == "looking")
    assert fourletter.ruok("127.0.0.1", first.client_port), "it lives, without a quorum"


def test_a_paused_server_is_silent(ensemble: Ensemble) -> None:
    follower = ensemble.followers()[0]
    follower.pause()
    try:
        with pytest.raises(fourletter.Silent):
            fourletter.srvr("127.0.0.1", follower.client_port, timeout_s=0.5)
    finally:
        follower.resume()
    wait_until(lambda: follower.mode() == "follower")


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 5)])
def test_growing_in_the_order_of_the_plan_keeps_the_data(zookeeper_jars: Path, tmp_path: Path, before: int, after: int) -> None:
    """The steps of the role: the old members stop and start together with the new lines, then empty ones join."""
    grown = Ensemble(zookeeper_jars, tmp_path, size=after)
    old, fresh = grown.servers[:before], grown.servers[before:]

    def seen(server: Server, lines: list[Server]) -> dict[str, object]:
        running = server in old
        return {"id": server.myid, "has_data": running, "running": running, "servers": {str(s.myid): s.line for s in lines}}

    try:
        for server in old:
            server.configure([other.line for other in old], grown.settings)
            server.start()
        wait_until(lambda: sum(server.mode() in ("leader", "standalone") for server in old) == 1, 60)
        with session(old[0].endpoint) as client:
            for number in range(20):
                client.create(f"/kept-{number}", b"x" * 1000)

        order = plan({s.myid: s.line for s in grown.servers}, {str(s.myid): seen(s, old) for s in [*fresh, *old]})
        assert order["switch"]
        for server in old:
            server.stop()
        grown.configure()
        by_id = {str(server.myid): server for server in grown.servers}
        for stage in ("old", "first", "rest"):
            for host in order[stage]:
                by_id[host].start()
            if order["old"] and stage != "old":
                grown.wait_for_quorum()
        grown.wait_for_quorum(members=after)
        for server in grown.servers:
            with session(server.endpoint) as client:
                client.sync("/")
                assert len([name for name in client.get_children("/") if name.startswith("kept-")]) == 20
    finally:
        grown.kill()
