"""The parts of kazoo that impatient.py lays hands on: that they are there, and that a silent server costs little."""

from __future__ import annotations

import inspect
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from kazoo.client import KazooClient
from kazoo.protocol.connection import ConnectionHandler

from sparkd.coordination import bridge
from sparkd.coordination.impatient import LEAST_WAIT_S, Client, MultiRead


class Server:
    """Speaks just enough to open a session; then, or from the start, it is silent."""

    def __init__(self, silent: bool) -> None:
        self.silent = silent
        self.greeted = 0
        self.accepted = 0
        self.sessions: list[int] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.held: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            self.held.append(peer)
            if not self.silent:
                threading.Thread(target=self._greet, args=(peer,), daemon=True).start()

    def _greet(self, peer: socket.socket) -> None:
        """ConnectRequest: length, version, zxid, timeout, session, password; ConnectResponse: version, timeout, session, password."""
        try:
            length = struct.unpack("!i", peer.recv(4, socket.MSG_WAITALL))[0]
            body = peer.recv(length, socket.MSG_WAITALL)
            timeout, session = struct.unpack_from("!iq", body, 12)
            self.sessions.append(session)
            answer = struct.pack("!iiq", 0, timeout // 2, session or 0x1234) + struct.pack("!i", 16) + bytes(16) + b"\0"
            peer.sendall(struct.pack("!i", len(answer)) + answer)
            self.greeted += 1
        except OSError:
            return

    def close(self) -> None:
        self.listener.close()
        for peer in self.held:
            peer.close()


@pytest.fixture
def silent() -> Iterator[Server]:
    server = Server(silent=True)
    yield server
    server.close()


@pytest.fixture
def speaking() -> Iterator[Server]:
    server = Server(silent=False)
    yield server
    server.close()


def test_what_is_overridden_is_still_there() -> None:
    assert list(inspect.signature(ConnectionHandler._connect).parameters) == ["self", "host", "hostip", "port"]
    assert list(inspect.signature(ConnectionHandler._invoke).parameters) == ["self", "timeout", "request", "xid"]
    assert list(inspect.signature(ConnectionHandler._expand_client_hosts).parameters) == ["self"]
    client = KazooClient("127.0.0.1:1")
    for name in ("_connection", "_conn_retry", "_session_id", "_call"):
        assert hasattr(client, name), name
    for name in ("_socket", "connection_stopped"):
        assert hasattr(client._connection, name), name
    ours = Client("127.0.0.1:1", 4.0)
    assert ours.kazoo._connection is ours.connection


@pytest.fixture
def deaf() -> Iterator[Server]:
    """A host that drops packets: nobody accepts, the queue is full, and a connection is never made."""
    server = Server(silent=True)
    server.close()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    server.listener = listener
    filling = [socket.socket() for _ in range(4)]
    for peer in filling:
        peer.setblocking(False)
        peer.connect_ex(listener.getsockname())
    yield server
    for peer in (*filling, listener):
        peer.close()


@pytest.mark.parametrize("first", ["silent", "deaf"])
def test_a_silent_server_costs_little_and_the_negotiated_session_is_known(
    first: str, speaking: Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad: Server = request.getfixturevalue(first)
    monkeypatch.setattr("random.shuffle", lambda hosts: None)  # the bad one is tried first
    client = Client(f"{bad.endpoint},{speaking.endpoint}", 8.0)
    began = time.monotonic()
    try:
        assert client.start().wait(20)
        assert 0.9 < time.monotonic() - began < 3, "an eighth of the session; kazoo as it comes: 8 s for a deaf host, 4 s for a silent one"
        assert client.session_s == 4.0
        assert client.session_id == 0x1234
        assert client.server == speaking.endpoint
    finally:
        client.connection.drop()
        threading.Thread(target=client.stop, daemon=True).start()


def test_a_dropped_connection_goes_on_elsewhere_with_the_same_session() -> None:
    servers = [Server(silent=False), Server(silent=False)]
    client = Client(",".join(server.endpoint for server in servers), 4.0)
    try:
        connected = client.start()
        assert connected.wait(10)
        first = next(server for server in servers if server.endpoint == client.server)
        second = next(server for server in servers if server is not first)
        assert client.connection.drop()
        end = time.monotonic() + 10
        while not second.greeted:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert second.sessions == [0x1234]
        assert first.greeted == 1, "the one that was left comes last"
    finally:
        client.connection.drop()
        threading.Thread(target=client.stop, daemon=True).start()
        for server in servers:
            server.close()


def test_without_a_connection_there_is_nothing_to_drop() -> None:
    assert not Client("127.0.0.1:1", 4.0).connection.drop()


def test_patience_grows_while_nobody_answers(silent: Server) -> None:
    client = Client(silent.endpoint, 1.0)
    try:
        client.start()
        end = time.monotonic() + 10
        while client.connection.threads.wait_s <= LEAST_WAIT_S:
            assert time.monotonic() < end
            time.sleep(0.02)
        assert client.connection.threads.wait_s <= 0.5, "and never beyond half a session"
    finally:
        threading.Thread(target=client.stop, daemon=True).start()


def test_many_nodes_in_one_request() -> None:
    request = MultiRead(["/a", "/b"])
    header = struct.Struct("!i?i")
    assert bytes(request.serialize()) == (
        header.pack(4, False, -1) + b"\0\0\0\2/a\0" + header.pack(4, False, -1) + b"\0\0\0\2/b\0" + header.pack(-1, True, -1)
    )
    stat = bytes(68)
    answer = (
        header.pack(4, False, 0)
        + b"\0\0\0\3abc"
        + stat
        + header.pack(-1, False, -101)
        + struct.pack("!i", -101)
        + header.pack(-1, True, -1)
    )
    assert request.deserialize(answer, 0) == [b"abc", None]


def test_errors_have_our_names() -> None:
    from kazoo import exceptions

    assert isinstance(bridge.translate(exceptions.NoNodeError()), bridge.NoNode)
    assert isinstance(bridge.translate(exceptions.ConnectionLoss()), bridge.Unanswered)
    assert isinstance(bridge.translate(exceptions.SessionExpiredError()), bridge.Unanswered)
    assert isinstance(bridge.translate(exceptions.NoAuthError()), bridge.Denied)
    assert isinstance(bridge.translate(exceptions.BadArgumentsError()), bridge.Failed)


def test_requests_are_never_logged() -> None:
    import logging

    assert logging.getLogger("sparkd.kazoo").getEffectiveLevel() > logging.DEBUG
