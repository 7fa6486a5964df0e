"""Health pages: true codes in every state, over real sockets."""

from __future__ import annotations

import pytest
from http_faces import OTHER, Client, FakeMaster, FakeWorker, serve

from sparkd.core.states import MasterStatus

PAGES = ("/livez", "/readyz", "/leader", "/standby")


@pytest.mark.parametrize(
    ("status", "connected", "codes"),
    [
        (MasterStatus.ALIVE, True, (200, 200, 200, 503)),
        (MasterStatus.ALIVE, False, (200, 200, 200, 503)),  # the lease says so, not the connection
        (MasterStatus.STANDBY, True, (200, 200, 503, 200)),
        (MasterStatus.STANDBY, False, (200, 503, 503, 200)),  # suspended, or ZooKeeper not there yet
        (MasterStatus.RECOVERING, True, (200, 503, 503, 503)),
    ],
)
def test_codes(status: MasterStatus, connected: bool, codes: tuple[int, ...]) -> None:
    face = FakeMaster(says=status, connected=connected, led_by=OTHER)

    async def talk(client: Client) -> None:
        got = [await client.web(page) for page in PAGES]
        assert tuple(reply.status for reply in got) == codes
        for reply in got:
            assert reply.json["status"] == status
            assert reply.json["epoch"] == {"cluster_id": "c1", "number": 7}
            assert reply.json["leader"]["url"] == "spark://other:7077"
            assert reply.headers["Cache-Control"] == "no-store"
        heads = [await client.web(page, "HEAD") for page in PAGES]
        assert tuple(reply.status for reply in heads) == codes
        assert {reply.body for reply in heads} == {b""}

    serve(face, talk)


def test_the_state_is_read_at_every_answer() -> None:
    face = FakeMaster()

    async def talk(client: Client) -> None:
        assert (await client.web("/leader")).status == 200
        face.says, face.led_by, face.term = MasterStatus.STANDBY, None, None
        reply = await client.web("/leader")
        assert (reply.status, reply.json["leader"], reply.json["epoch"]) == (503, None, None)

    serve(face, talk)


@pytest.mark.parametrize(("state", "code"), [("ALIVE", 200), ("DISCONNECTED", 503), ("DECOMMISSIONED", 503)])
def test_worker(state: str, code: int) -> None:
    async def talk(client: Client) -> None:
        assert (await client.web("/livez")).status == 200
        reply = await client.web("/readyz")
        assert (reply.status, reply.json["status"], reply.json["id"]) == (code, state, "worker-1")
        assert (await client.web("/readyz", "HEAD")).status == code

    serve(FakeWorker(is_now=state), talk)
