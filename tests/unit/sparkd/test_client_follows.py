"""The client finds the leader, follows it through failovers, and never runs anything twice."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from cli_masters import Masters
from http_faces import WORKER, report

from sparkd import client as module
from sparkd.client import Client, ClientError, Refused, Token, addresses, connect, new_request_id, wait_until_ended
from sparkd.config_files import FileProblem
from sparkd.core.events import WorkerRegistered
from sparkd.http.auth import BadToken, verify

COMMAND = {"kind": "command", "argv": ["true"]}


def nobody() -> tuple[str, int]:
    """Return an address of loopback where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return ("127.0.0.1", listener.getsockname()[1])


@pytest.mark.parametrize(("leader", "known"), [(0, True), (1, True), (1, False), (2, False)])
def test_the_leader_is_found_wherever_it_is(leader: int, known: bool) -> None:
    with Masters(3) as masters:
        masters.lead(leader, known)
        driver = Client([nobody(), *masters.addresses], patience_s=10).submit(COMMAND, "r1")
        assert driver.startswith("driver-")
        assert [len(face.submitted) for face in masters.faces] == [int(index == leader) for index in range(3)]


def test_a_leader_that_is_not_in_the_list_is_followed() -> None:
    with Masters(2) as masters:
        masters.lead(1)
        assert Client(masters.addresses[:1], patience_s=10).submit(COMMAND, "r1")
        assert masters[1].submitted


def test_it_waits_for_a_leader_and_tells_why() -> None:
    told: list[str] = []
    with Masters(2) as masters:
        masters.lead(None)

        def notice(text: str) -> None:
            told.append(text)
            masters.lead(1, known=False)

        assert Client(masters.addresses, patience_s=60, notice=notice).submit(COMMAND, "r1")
    assert len(told) == 1
    assert "STANDBY" in told[0]


@pytest.mark.parametrize("reply", [b"HTTP/1.0 404 Not Found\r\n\r\n404: Not Found", b"Apache ZooKeeper\n"])
def test_another_port_than_rest_is_told(reply: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(4096)
                        connection.sendall(reply)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(ClientError, match="that is not the REST port of a master") as caught:
            Client([listener.getsockname(), nobody()], patience_s=0.3).drivers()
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    assert ": Connection refused" in str(caught.value)


def test_its_patience_ends_with_a_sentence() -> None:
    silent = nobody()
    with Masters(1) as masters:
        masters.lead(None)
        with pytest.raises(ClientError, match=r"no leader answered within 0\.4 s") as caught:
            Client([silent, *masters.addresses], patience_s=0.4).drivers()
    assert "Current state is not alive: STANDBY" in str(caught.value)
    assert f"127.0.0.1:{silent[1]}: " in str(caught.value)
    assert "--masters" in str(caught.value)


def test_what_was_not_durable_is_tried_again_under_the_same_request_id() -> None:
    with Masters(1) as masters:
        masters[0].durable = False
        timer = threading.Timer(0.4, setattr, (masters[0], "durable", True))
        timer.start()
        driver = Client(masters.addresses, patience_s=20).submit(COMMAND, "the-same")
        again = Client(masters.addresses, patience_s=20).submit(COMMAND, "the-same")
        timer.join()
        assert driver == again
        assert {request_id for _, request_id in masters[0].submitted} == {"the-same"}


class Losing:
    """A master that takes requests and loses its answers: it cuts the connection after `cuts` requests were read."""

    def __init__(self, cuts: int) -> None:
        self.left = cuts
        self.seen: list[dict[str, Any]] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = ("127.0.0.1", int(self.listener.getsockname()[1]))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                length = 0
                while (line := stream.readline()) not in (b"\r\n", b""):
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                self.seen.append(json.loads(stream.read(length) or b"{}"))
                self.left -= 1
                if self.left < 0:
                    body = b'{"id":"driver-1","message":""}'
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join(5)


def test_a_lost_answer_is_asked_for_again_with_the_same_request_id() -> None:
    losing = Losing(2)
    try:
        assert Client([losing.address], patience_s=20).submit(COMMAND, "r7") == "driver-1"
    finally:
        losing.close()
    assert [body["request_id"] for body in losing.seen] == ["r7"] * 3


def test_a_silent_master_does_not_hold_it_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_ANSWER_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent, Masters(1) as masters:
        assert Client([silent.getsockname()[:2], *masters.addresses], patience_s=20).submit(COMMAND, "r1")


def test_a_leader_that_stops_leading_is_left_for_the_next() -> None:
    with Masters(2) as masters:
        client = Client(masters.addresses, patience_s=20)
        client.submit(COMMAND, "r1")
        masters.lead(1)
        client.submit(COMMAND, "r2")
        assert [[request_id for _, request_id in face.submitted] for face in masters.faces] == [["r1"], ["r2"]]


def test_a_refusal_is_not_tried_again() -> None:
    with Masters(1) as masters:
        client = Client(masters.addresses, patience_s=20)
        before = time.monotonic()
        with pytest.raises(Refused, match=r"description\.argv: a command needs one") as caught:
            client.submit({"kind": "command", "argv": []}, "r1")
        assert caught.value.status == 400
        with pytest.raises(Refused, match="No driver driver-9 is known"):
            client.driver("driver-9")
        with pytest.raises(Refused):
            client.kill("../../state")
        assert time.monotonic() - before < 10


def test_tokens() -> None:
    key = bytes(range(32))
    with Masters(1, open_to_all=False, token_key=key, allowed=()) as masters:
        with pytest.raises(Refused, match="--token-file or SPARKD_TOKEN_FILE") as caught:
            Client(masters.addresses, patience_s=5).drivers()
        assert caught.value.status == 401
        assert Client(masters.addresses, Token(key=key), patience_s=5).drivers() == []
        with pytest.raises(Refused):
            Client(masters.addresses, Token(key=bytes(32)), patience_s=5).drivers()
        ready = Token(key=key).header()["Authorization"].removeprefix("Bearer ")
        assert Client(masters.addresses, Token(ready=ready), patience_s=5).drivers() == []


def test_a_token_ends() -> None:
    key = bytes(range(32))
    token = Token(key=key).header(now_s=1000.0)["Authorization"].removeprefix("Bearer ")
    verify(token, key, 1000.0 + module.TOKEN_LIFE_S - 1)
    with pytest.raises(BadToken):
        verify(token, key, 1000.0 + module.TOKEN_LIFE_S + 3600)


def test_a_token_file_holds_a_key_or_a_token(tmp_path: Path) -> None:
    path = tmp_path / "token"

    def write(text: str, mode: int = 0o600) -> None:
        path.write_text(text)
        path.chmod(mode)

    write("aaaaaaaa.bbbbbbbb.cccccccc\n")
    assert Token.read(path).header() == {"Authorization": "Bearer aaaaaaaa.bbbbbbbb.cccccccc"}
    write(base64.urlsafe_b64encode(bytes(40)).decode())
    verify(Token.read(path).header()["Authorization"].removeprefix("Bearer "), bytes(40), time.time())
    write("no key at all, this")
    with pytest.raises(FileProblem, match="neither a token"):
        Token.read(path)
    write("aaaaaaaa.bbbb bbb.cccccccc\n")
    with pytest.raises(FileProblem, match="no token"):
        Token.read(path)
    write("aaaaaaaa.bbbbbbbb.cccccccc\n", 0o644)
    with pytest.raises(FileProblem, match="others may read"):
        Token.read(path)


def test_where_masters_come_from(tmp_path: Path) -> None:
    (tmp_path / "spark-defaults.conf").write_text("spark.master spark://h1:7077,h2:7077\n")
    environ = {"SPARK_CONF_DIR": str(tmp_path)}
    assert connect("", environ).masters == (("h1", 6066), ("h2", 6066))
    assert connect("", {**environ, "SPARKD_MASTERS": "h3:1,h4"}).masters == (("h3", 1), ("h4", 6066))
    assert connect("h5", {**environ, "SPARKD_MASTERS": "h3:1"}).masters == (("h5", 6066),)
    assert connect("spark://h6:7077,[::1]:7078", {}).masters == (("h6", 6066), ("::1", 6066))
    assert connect("", {}).masters == (("127.0.0.1", 6066),)
    with pytest.raises(ClientError, match="--masters"):
        connect("h1:x", {})
    with pytest.raises(ClientError, match="SPARKD_MASTERS"):
        connect("", {"SPARKD_MASTERS": ","})
    with pytest.raises(ClientError, match="SPARKD_TOKEN_FILE"):
        connect("h1", {"SPARKD_TOKEN_FILE": str(tmp_path / "gone")})
    assert addresses("http://h1:6066/,h1:6066") == (("h1", 6066),)


def test_a_driver_is_followed_through_a_failover() -> None:
    told: list[str] = []
    with Masters(2) as masters:
        masters[0].tell(WorkerRegistered(WORKER))
        client = Client(masters.addresses, patience_s=20)
        driver = client.submit({**COMMAND, "memory_mb": 64}, "r1")
        pauses = 0

        def pause(_: float) -> None:
            nonlocal pauses
            pauses += 1
            if pauses == 1:
                masters.lead(None)
                masters[1].core = masters[0].core  # the next leader knows what was stored
                threading.Timer(0.3, masters.lead, (1,)).start()
            elif pauses == 2:
                masters[1].tell(report(driver, "FINISHED", 1, exit_code=0))

        row = wait_until_ended(client, driver, told.append, sleep=pause)
    assert row["state"] == "FINISHED"
    assert (told, pauses) == (["RUNNING", "FINISHED"], 2)


def test_request_ids_differ() -> None:
    assert len({new_request_id() for _ in range(100)}) == 100
