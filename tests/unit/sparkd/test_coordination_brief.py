"""The fence speaks to servers that answer badly or not at all. A real one: test_coordination_zookeeper."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from sparkd import fence
from sparkd.coordination import brief, latchrecord

SESSION = 0x1234
CONNECTED = struct.pack(">iiqi16s", 0, 4000, 99, 16, bytes(16))


def stat(owner: int) -> bytes:
    """A Stat."""
    return struct.pack(">qqqqiiiqiiq", 1, 1, 0, 0, 0, 0, 0, owner, 0, 0, 1)


def answer(xid: int, error: int = 0, body: bytes = b"") -> bytes:
    """A reply."""
    return struct.pack(">iqi", xid, 7, error) + body


class Server:
    """Takes one connection after the other; `say` makes of (operation, xid) the frames to send, None to close."""

    def __init__(self, say: Callable[[int, int], list[bytes] | None], first: bytes = CONNECTED) -> None:
        self.say, self.first = say, first
        self.asked: list[int] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        with contextlib.suppress(OSError, struct.error):
            while True:
                connection = self.socket.accept()[0]
                with connection, connection.makefile("rwb") as file, contextlib.suppress(OSError, struct.error):
                    self.talk(file)

    def talk(self, file: object) -> None:
        def frame() -> bytes:
            (length,) = struct.unpack(">i", file.read(4))  # type: ignore[attr-defined]
            return bytes(file.read(length))  # type: ignore[attr-defined]

        def send(body: bytes) -> None:
            file.write(struct.pack(">i", len(body)) + body)  # type: ignore[attr-defined]
            file.flush()  # type: ignore[attr-defined]

        assert struct.unpack_from(">iqiqi", frame())[2] == 4000, "the session's length in ms"
        send(self.first)
        while True:
            xid, operation = struct.unpack_from(">ii", frame())
            self.asked.append(operation)
            said = self.say(operation, xid)
            if said is None:
                return
            for body in said:
                send(body)


@contextlib.contextmanager
def serving(*servers: Server) -> Iterator[latchrecord.LatchRecord]:
    """A record of a process that is dead, at these servers."""
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    yield latchrecord.LatchRecord(session=SESSION, latch="/a/b", zookeeper=hosts, pid=os.getpid(), start=1, boot="x")
    for server in servers:
        server.socket.close()


def delete(record: latchrecord.LatchRecord, limit_s: float = 3.0, secret: str = "") -> str:
    """What became of it."""
    return fence._delete(record, secret, time.monotonic() + limit_s)[0]


def usual(operation: int, xid: int) -> list[bytes]:
    """As a server answers: to the secret with its own number, and with watches in between."""
    if operation == brief._AUTH:
        return [answer(brief._AUTH_XID)]
    return [answer(-1), answer(xid, 0, stat(SESSION) if operation == brief._EXISTS else b"")]


def test_looks_deletes_and_ends_its_session() -> None:
    """In this order, with the secret first."""
    server = Server(usual)
    with serving(server) as record:
        assert delete(record, secret="s") == "fenced"
        end = time.monotonic() + 5
        while brief._CLOSE not in server.asked and time.monotonic() < end:
            time.sleep(0.005)
    assert server.asked == [brief._AUTH, brief._EXISTS, brief._DELETE, brief._CLOSE]


@pytest.mark.parametrize("session", [-2, 0x7FFFFFFFFFFFFFFF])
def test_another_sessions_node_stays(session: int) -> None:
    """Nothing is deleted."""
    server = Server(lambda operation, xid: [answer(xid, 0, stat(session))])
    with serving(server) as record:
        assert delete(record) == "already gone"
    assert brief._DELETE not in server.asked


def test_no_node() -> None:
    """It is gone, before the look or between look and deletion."""
    for when in (brief._EXISTS, brief._DELETE):
        server = Server(lambda operation, xid, when=when: [answer(xid, -101)] if operation == when else usual(operation, xid))  # type: ignore[misc]
        with serving(server) as record:
            assert delete(record) == "already gone"


@pytest.mark.parametrize("error", [-102, -115])
def test_denied(error: int) -> None:
    """The wrong secret."""
    server = Server(lambda operation, xid: [answer(xid, error)] if operation == brief._DELETE else usual(operation, xid))
    with serving(server) as record:
        assert delete(record) == "denied"


def test_a_deletion_without_an_answer_that_was_done_is_told_as_done() -> None:
    """The second server has the node no more."""
    done: list[int] = []

    def say(operation: int, xid: int) -> list[bytes] | None:
        if operation == brief._DELETE:
            done.append(xid)
            return None
        return [answer(xid, -101)] if done else usual(operation, xid)

    with serving(Server(say), Server(say)) as record:
        assert delete(record) == "fenced"
    assert len(done) == 1


@pytest.mark.parametrize(
    "bad",
    [
        Server(usual, first=struct.pack(">iiqi16s", 0, 0, 0, 16, bytes(16))),  # no session
        Server(usual, first=b"short"),
        Server(lambda operation, xid: None),
        Server(lambda operation, xid: [b"x"]),
        Server(lambda operation, xid: [answer(xid, 0, b"too short for a Stat")]),
        Server(lambda operation, xid: [answer(xid, -4)]),
        Server(lambda operation, xid: [answer(xid, 0, bytes(100_000))]),
    ],
)
def test_a_bad_server_is_left_for_a_good_one(bad: Server) -> None:
    """Whatever is wrong with it, and whoever is asked first."""
    with serving(bad, Server(usual)) as record:
        assert delete(record) == "fenced"


def test_a_silent_server_is_left() -> None:
    """One that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent, serving(Server(usual)) as record:
        record.zookeeper += f",127.0.0.1:{silent.getsockname()[1]}"
        assert delete(record) == "fenced"


def test_nobody_there_ends_in_time() -> None:
    """Given up, not before its time and not long after."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    record = latchrecord.LatchRecord(session=1, latch="/a", zookeeper=f"127.0.0.1:{port}", pid=1, start=1, boot="x")
    began = time.monotonic()
    assert delete(record, 0.3) == "given up"
    assert 0.3 <= time.monotonic() - began < 3


def test_connect_strings() -> None:
    """Ports may be missing, addresses may be those of IPv6."""
    assert sorted(brief.servers("a:1, b,[::1]:3,[::2]")) == [("::1", 3), ("::2", 2181), ("a", 1), ("b", 2181)]
