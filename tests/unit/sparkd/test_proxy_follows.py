"""The proxy adds the token, follows the leader, and never sends twice what may have been done."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from cli_masters import Masters
from test_client_follows import Losing, nobody

from sparkd import cli
from sparkd.client import Address, Answer, Token, request
from sparkd.proxy import BODY_LIMIT, Proxy, serve

KEY = bytes(range(32))
CREATE = {
    "action": "CreateSubmissionRequest",
    "appResource": "/a.jar",
    "mainClass": "Main",
    "appArgs": [],
    "clientSparkVersion": "4.3.0",
    "environmentVariables": {},
    "sparkProperties": {"spark.app.name": "n", "spark.driver.memory": "64m"},
}


@contextmanager
def proxy(masters: list[Address], patience_s: float = 10.0, token: Token | None = None) -> Iterator[Address]:
    """Run a proxy on a loop of its own; yield where it listens."""
    loop = asyncio.new_event_loop()
    stop, ready = asyncio.Event(), asyncio.Event()
    address = nobody()
    work = serve(Proxy(masters, token or Token(key=KEY), patience_s), *address, ready, stop)
    thread = threading.Thread(target=loop.run_until_complete, args=(work,), daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(ready.wait(), loop).result(10)
    try:
        yield address
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def create(address: Address, headers: dict[str, str] | None = None) -> Answer:
    return request(address, "POST", "/v1/submissions/create", CREATE, headers)


def test_a_submission_without_a_token_gets_one() -> None:
    with Masters(1, open_to_all=False, token_key=KEY, allowed=()) as masters:
        assert request(masters.addresses[0], "GET", "/sparkd/v1/drivers").status == 401
        with proxy(masters.addresses) as address:
            answer = create(address, {"Authorization": "Bearer something of the client's own"})
            assert (answer.status, answer.body["success"]) == (200, True)
            status = request(address, "GET", f"/v1/submissions/status/{answer.body['submissionId']}")
            assert status.body["driverState"] == "SUBMITTED"


@pytest.mark.parametrize("known", [True, False])
def test_the_leader_is_followed(known: bool) -> None:
    with Masters(2, open_to_all=False, token_key=KEY, allowed=()) as masters, proxy([nobody(), *masters.addresses]) as address:
        masters.lead(1, known)
        assert create(address).body["success"] is True
        masters.lead(0, known)
        assert create(address).body["success"] is True
        assert [len(face.submitted) for face in masters.faces] == [1, 1]


def test_a_time_without_a_leader_is_waited_out() -> None:
    with Masters(2, open_to_all=False, token_key=KEY, allowed=()) as masters, proxy(masters.addresses, 20.0) as address:
        masters.lead(None)
        threading.Timer(0.5, masters.lead, (1,)).start()
        assert create(address).body["success"] is True
        assert len(masters[1].submitted) == 1


def test_at_the_end_of_its_patience_the_masters_own_answer_is_passed_on() -> None:
    with Masters(1) as masters:
        masters.lead(None)
        with proxy(masters.addresses, 0.3) as address:
            answer = create(address)
            assert answer.body["success"] is False
            assert "Current state is not alive: STANDBY" in answer.body["message"]
    with proxy([nobody()], 0.3) as address:
        answer = create(address)
        assert answer.status == 502
        assert answer.body["action"] == "ErrorResponse"


def test_a_submission_whose_answer_is_lost_is_not_sent_again() -> None:
    losing = Losing(1)
    try:
        with proxy([losing.address], 5.0) as address:
            answer = create(address)
            assert answer.status == 502
            assert "may have done it" in answer.body["message"]
            assert len(losing.seen) == 1
    finally:
        losing.close()


def test_a_question_whose_answer_is_lost_is_asked_again() -> None:
    losing = Losing(2)
    try:
        with proxy([losing.address], 5.0) as address:
            assert request(address, "GET", "/sparkd/v1/drivers").status == 200
            assert len(losing.seen) == 3
    finally:
        losing.close()


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}])
def test_web_pages_are_not_passed_on(headers: dict[str, str]) -> None:
    with Masters(1) as masters, proxy(masters.addresses) as address:
        assert create(address, headers).status == 403
        assert not masters[0].submitted


def test_a_body_that_is_too_large_is_refused() -> None:
    with Masters(1) as masters, proxy(masters.addresses) as address:
        answer = request(address, "POST", "/v1/submissions/create", {"x": "y" * BODY_LIMIT})
        assert answer.status == 413
        assert not masters[0].submitted


def test_it_listens_on_loopback_only(capsys: pytest.CaptureFixture[str]) -> None:
    for listen in ("0.0.0.0:6066", "192.168.7.1:6066", "nonsense:x"):
        assert cli.run(["proxy", "--listen", listen, "--masters", "h1:6066"]) == 2
        assert "loopback" in capsys.readouterr().err
    assert cli.run(["proxy", "--listen", "127.0.0.1:6066", "--masters", "127.0.0.1:6066"]) == 2
    assert "a master's own address" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: Any = taken.getsockname()[1]
        assert cli.run(["proxy", "--listen", f"127.0.0.1:{port}", "--masters", "h1:6066"]) == 1
        assert json.dumps(capsys.readouterr().err).count("\\n") == 1
