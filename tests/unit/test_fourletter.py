from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latchkeeper import fourletter

FIXTURES = Path(__file__).parent / "fixtures" / "fourletter"


def recorded(name: str) -> str:
    return (FIXTURES / f"{name}.txt").read_text()


@contextmanager
def answering(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server on loopback that gives its one client to `talk`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                talk(client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
    thread.join(5)


def says(text: bytes) -> Callable[[socket.socket], None]:
    def talk(client: socket.socket) -> None:
        client.recv(4)
        client.sendall(text)

    return talk


@pytest.mark.parametrize(
    ("name", "mode", "zxid", "epoch"),
    [("standalone", "standalone", 0x2, 0), ("follower", "follower", 0x100000004, 1), ("leader", "leader", 0x100000004, 1)],
)
def test_srvr(name: str, mode: str, zxid: int, epoch: int) -> None:
    server = fourletter.parse_srvr(recorded(f"{name}.srvr"))
    assert (server.mode, server.epoch, server.version) == (mode, epoch, "3.9.5")
    assert server.zxid == zxid
    assert server.node_count >= 5


def test_mntr_of_a_leader_counts_followers() -> None:
    monitor = fourletter.parse_mntr(recorded("leader.mntr"))
    assert (monitor.server_state, monitor.synced_followers, monitor.learners, monitor.quorum_size) == ("leader", 2, 2, 3)
    assert monitor.znode_count == 6
    assert monitor.max_latency is not None and monitor.max_latency >= (monitor.min_latency or 0)
    assert monitor.values["zk_peer_state"] == "leading - broadcast"


def test_mntr_of_others_has_no_followers() -> None:
    for name in ("follower", "standalone"):
        monitor = fourletter.parse_mntr(recorded(f"{name}.mntr"))
        assert (monitor.server_state, monitor.synced_followers, monitor.version) == (name, None, "3.9.5")


def test_cons_finds_sessions_by_address_and_port() -> None:
    (session, probe) = fourletter.parse_cons(recorded("follower.cons"))
    assert (session.ip, session.port, session.sid, session.timeout_ms) == ("127.0.0.1", 43122, 0x1000011E3110000, 10000)
    assert session.last_zxid == 0x100000002
    assert (probe.sid, probe.received, probe.timeout_ms) == (None, 1, None)


def test_cons_of_ipv6() -> None:
    connections = fourletter.parse_cons(recorded("leader6.cons"))
    assert {connection.ip for connection in connections} == {"::1", "127.0.0.1"}
    assert [c.sid for c in connections if c.ip == "::1" and c.sid] == [0x3000011E31C0001]


@pytest.mark.parametrize(
    ("shown", "ip", "port"),
    [
        ("/10.0.0.7:5", "10.0.0.7", 5),
        ("spark82/10.0.0.7:5", "10.0.0.7", 5),
        ("/0:0:0:0:0:0:0:1:57756", "::1", 57756),
        ("/[fe80:0:0:0:0:0:0:7%eth0]:9", "fe80::7", 9),
        ("/[0:0:0:0:0:ffff:a00:7]:9", "10.0.0.7", 9),
    ],
)
def test_cons_spellings_of_an_address(shown: str, ip: str, port: int) -> None:
    (connection,) = fourletter.parse_cons(f" {shown}[1](queued=0,recved=1,sent=1,sid=0x1)\n\n")
    assert (connection.ip, connection.port) == (ip, port)


def test_a_session_of_a_server_with_a_high_myid_is_negative_as_on_the_wire() -> None:
    (connection,) = fourletter.parse_cons(" /10.0.0.7:5[1](queued=0,recved=1,sent=1,sid=0xc80000abcdef0001)")
    assert connection.sid == 0xC80000ABCDEF0001 - (1 << 64)


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_signed64_undoes_javas_hexadecimal(number: int) -> None:
    assert fourletter.signed64(int(f"{number & 0xFFFFFFFFFFFFFFFF:x}", 16)) == number


@given(st.text())
def test_parsers_refuse_what_they_do_not_know(text: str) -> None:
    for parse in (fourletter.parse_srvr, fourletter.parse_mntr, fourletter.parse_cons):
        try:
            parse(text)
        except fourletter.BadAnswer:
            continue


def test_ask_reads_until_the_end() -> None:
    with answering(says(recorded("leader.mntr").encode())) as port:
        assert fourletter.mntr("127.0.0.1", port).synced_followers == 2
    with answering(says(b"imok")) as port:
        assert fourletter.ruok("127.0.0.1", port)


def test_a_server_without_quorum() -> None:
    with answering(says(recorded("lost.srvr").encode())) as port, pytest.raises(fourletter.NotServing, match="quorum"):
        fourletter.srvr("127.0.0.1", port)


def test_a_word_that_is_not_allowed() -> None:
    with answering(says(recorded("refused.conf").encode())) as port, pytest.raises(fourletter.NotAllowed, match="whitelist"):
        fourletter.ask("127.0.0.1", port, "conf")


def test_something_else_on_the_port() -> None:
    with answering(says(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port, pytest.raises(fourletter.BadAnswer):
        fourletter.srvr("127.0.0.1", port)
    with answering(says(b"\xff\xfe")) as port, pytest.raises(fourletter.BadAnswer, match="not text"):
        fourletter.srvr("127.0.0.1", port)


def test_an_endless_answer_is_cut() -> None:
    def endless(client: socket.socket) -> None:
        try:
            while True:
                client.sendall(b"x" * 65536)
        except OSError:
            return

    with answering(endless) as port, pytest.raises(fourletter.BadAnswer, match="longer than"):
        fourletter.ask("127.0.0.1", port, "mntr", limit_bytes=200_000)


def test_a_dripping_server_does_not_hold_the_caller() -> None:
    def drip(client: socket.socket) -> None:
        try:
            for _ in range(100):
                client.sendall(b"x")
                time.sleep(0.05)
        except OSError:
            return

    started = time.monotonic()
    with answering(drip) as port, pytest.raises(fourletter.Silent):
        fourletter.ask("127.0.0.1", port, "srvr", timeout_s=0.3)
    assert time.monotonic() - started < 6


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(fourletter.Unreachable, match=f"127.0.0.1:{port}, word srvr"):
        fourletter.srvr("127.0.0.1", port)


def test_no_word() -> None:
    with pytest.raises(ValueError, match="four-letter"):
        fourletter.ask("127.0.0.1", 1, "srvr\n")
