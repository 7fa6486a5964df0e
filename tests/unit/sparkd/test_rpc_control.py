"""The control connection: who gets in, what is taken, what is thrown out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sparkd.core.values import Epoch
from sparkd.rpc import control
from sparkd.rpc.control import Connection, ConnectionLost, ControlServer, ProtocolError, WrongSecret, connect, serve
from sparkd.rpc.messages import Ack, Heartbeat, Leading, Standby

SECRET = b"secret of the cluster"
EPOCH = Epoch("c1", 7)
HEADER = struct.Struct(">BBI")


def with_server(
    test: Callable[[ControlServer, asyncio.Queue[Any]], Awaitable[None]], handler: control.Handler | None = None, **options: Any
) -> ControlServer:
    """Run the test beside a server that queues what it receives, errors too, and answers every message with an Ack."""

    async def run() -> ControlServer:
        heard: asyncio.Queue[Any] = asyncio.Queue()

        async def listen(connection: Connection) -> None:
            try:
                while True:
                    heard.put_nowait(await connection.receive())
                    connection.send(Ack(EPOCH, 1))
            except control.ControlError as error:
                heard.put_nowait(error)
                raise

        server = await serve("127.0.0.1", 0, SECRET, handler or listen, **options)
        try:
            async with asyncio.timeout(10):
                await test(server, heard)
        finally:
            await server.close()
        return server

    return asyncio.run(run())


async def still_serves(server: ControlServer) -> None:
    connection = await connect("127.0.0.1", server.port, SECRET)
    connection.send(Heartbeat())
    assert await connection.receive() == Ack(EPOCH, 1)
    connection.close()


async def raw(server: ControlServer, data: bytes) -> bytes:
    """Send bytes, and return all that comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(data)
        await writer.drain()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def frame(body: Any) -> bytes:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HEADER.pack(control.MAGIC, control.VERSION, len(text)) + text


HELLO = {"t": "hello", "role": "worker", "name": "w", "nonce": "00" * 32}


def test_messages_go_both_ways() -> None:
    async def test(server: ControlServer, heard: asyncio.Queue[Any]) -> None:
        connection = await connect("127.0.0.1", server.port, SECRET, name="w1")
        for _ in range(3):
            connection.send(Heartbeat())
            assert await heard.get() == Heartbeat()
            assert await connection.receive() == Ack(EPOCH, 1)
        connection.close()
        assert isinstance(await heard.get(), ConnectionLost)

    assert with_server(test).counts.accepted == 1


def test_wrong_secret_is_told_on_both_sides(caplog: pytest.LogCaptureFixture) -> None:
    async def test(server: ControlServer, heard: asyncio.Queue[Any]) -> None:
        with pytest.raises(WrongSecret, match="another cluster secret"):
            await connect("127.0.0.1", server.port, b"another")
        assert heard.empty()

    counts = with_server(test).counts
    assert (counts.accepted, counts.wrong_secret, counts.rejected) == (0, 1, 1)
    lines = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(lines) == 1 and "secretFile" in lines[0].getMessage() and "another cluster" in lines[0].getMessage()


def test_empty_secret_lets_nobody_in() -> None:
    async def run() -> None:
        with pytest.raises(ValueError, match="empty cluster secret"):
            await serve("127.0.0.1", 0, b"", lambda _: asyncio.sleep(0))
        with pytest.raises(ValueError, match="empty cluster secret"):
            await connect("127.0.0.1", 1, b"")

    asyncio.run(run())


def test_a_listener_without_the_secret_is_found_out() -> None:
    """It takes any proof and welcomes: with nothing, and with the connecting side's own proof sent back."""

    async def run(answer: Callable[[dict[str, Any]], str]) -> None:
        async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            async def read() -> dict[str, Any]:
                _, _, length = HEADER.unpack(await reader.readexactly(HEADER.size))
                body: dict[str, Any] = json.loads(await reader.readexactly(length))
                return body

            await read()
            writer.write(frame({"t": "challenge", "role": "worker", "nonce": "00" * 32}))
            writer.write(frame({"t": "welcome", "mac": answer(await read())}))

        server = await asyncio.start_server(impostor, "127.0.0.1", 0)
        with pytest.raises(WrongSecret, match="could not prove"):
            await connect("127.0.0.1", server.sockets[0].getsockname()[1], SECRET)
        server.close()

    asyncio.run(run(lambda _: "00" * 32))
    asyncio.run(run(lambda proof: str(proof["mac"])))


@pytest.mark.parametrize("first", [b"\x00\x00\x00\x00\x00\x00\x00\x10" + b"x" * 8, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01"])
def test_other_protocols_are_closed_at_their_first_byte(first: bytes) -> None:
    async def test(server: ControlServer, heard: asyncio.Queue[Any]) -> None:
        assert await raw(server, first) == b""
        await still_serves(server)

    assert with_server(test).counts.malformed == 1


def test_another_protocol_can_be_served_on_the_same_port() -> None:
    async def spark(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes) -> None:
        writer.write(b"spark " + first + await reader.readexactly(2))

    async def test(server: ControlServer, heard: asyncio.Queue[Any]) -> None:
        assert await raw(server, b"\x00ab") == b"spark \x00ab"
        await still_serves(server)

    with_server(test, others={0: spark})


@pytest.mark.parametrize(
    "data",
    [
        HEADER.pack(control.MAGIC, control.VERSION + 1, 10) + b"0123456789",
        HEADER.pack(control.MAGIC, control.VERSION, control.HANDSHAKE_LIMIT + 1),
        HEADER.pack(control.MAGIC, control.VERSION, 0xFFFFFFFF),
        frame(b"not JSON"),
        frame(b"[" * 4000),
        frame(b'{"t": NaN}'),
        frame(b"\xff\xfe"),
        frame([]),
        frame({"t": "proof"}),
        frame(HELLO | {"nonce": "zz"}),
        frame(HELLO | {"nonce": "00"}),
        frame(HELLO | {"role": 5}),
        frame(HELLO) + frame({"t": "proof", "mac": 5}),
        frame(HELLO) + frame({"t": "proof", "mac": "\u00e4"}),
        frame(HELLO) + frame({"t": "hello"}),
    ],
)
def test_malformed_handshakes_are_closed(data: bytes) -> None:
    async def test(server: ControlServer, heard: asyncio.Queue[Any]) -> None:
        await raw(server, data)
        await still_serves(server)
        assert server.counts.rejected == 1

    with_server(test)


def test_random_bytes_harm_nobody() -> None:
    """A slice of fuzzing: noise, noise after a true beginning, and flipped bytes in a true handshake."""
    dice = random.Random(20260101)  # noqa: S311 the same noise each time
    good = frame(HELLO)

    def sample() -> bytes:
        noise = dice.randbytes(dice.randrange(1, 300))
        match dice.randrange(4):
            case 0:
                return noise
            case 1:
                return bytes([control.MAGIC]) + noise
            case 2:
                return HEADER.pack(control.MAGIC, control.VERSION, len(noise)) + noise
        flipped = bytearray(good + good)
        for _ in range(dice.randrange(1, 4)):
            flipped[dice.randrange(len(flipped))] ^= 1 << dice.randrange(8)
        return bytes(flipped)

    async def test(server: ControlServer, heard: asyncio.Queue[Any]) -> None:
        for _ in range(300):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(sample())
            writer.write_eof()
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
        await still_serves(server)
        assert heard.get_nowait() == Heartbeat()  # of still_serves: nothing of the noise came through

    counts = with_server(test).counts
    assert (counts.accepted, counts.rejected) == (1, 300)


def test_who_says_nothing_is_closed() -> None:
    async def test(server: ControlServer, heard: asyncio.Queue[Any]) -> None:
        assert await raw(server, b"") == b""
        assert await raw(server, b"\xa5\x01") == b""
        begun = await raw(server, frame(HELLO))
        assert b"challenge" in begun

    assert with_server(test, handshake_timeout_s=0.05).counts.malformed == 3


def test_only_so_many_may_knock_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "HANDSHAKES_LIMIT", 2)

    async def test(server: ControlServer, heard: asyncio.Queue[Any]) -> None:
        idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert await raw(server, frame(HELLO)) == b""
        assert server.counts.too_many == 1
        for _, writer in idle:
            writer.close()
        await asyncio.sleep(0.05)
        await still_serves(server)

    with_server(test)


def test_connecting_gives_up_a_silent_listener() -> None:
    async def run() -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        with pytest.raises(ConnectionLost, match="did not answer"):
            await connect("127.0.0.1", server.sockets[0].getsockname()[1], SECRET, timeout_s=0.05)
        server.close()
        with pytest.raises(ConnectionLost, match=r"127\.0\.0\.1"):
            await connect("127.0.0.1", 1, SECRET)

    asyncio.run(run())


def tampered(change: Callable[[bytes], bytes]) -> Any:
    """Return what a server makes of `change(frame)` for the second frame of a true connection."""
    found: list[Any] = []

    async def test(server: ControlServer, heard: asyncio.Queue[Any]) -> None:
        connection = await connect("127.0.0.1", server.port, SECRET)
        connection.send(Heartbeat())
        assert await heard.get() == Heartbeat()
        sent: list[bytes] = []
        transport = connection._writer.transport
        original = transport.write
        transport.write = sent.append  # type: ignore[method-assign, assignment]
        connection.send(Heartbeat())
        original(change(sent[0]))
        transport.write_eof()
        found.append(await heard.get())

    with_server(test)
    return found[0]


def test_a_changed_frame_ends_the_connection() -> None:
    assert tampered(lambda data: data) == Heartbeat()
    assert isinstance(tampered(lambda data: data.replace(b"heartbeat", b"heartBeat")), ProtocolError)
    assert isinstance(tampered(lambda data: data[:-1] + bytes([data[-1] ^ 1])), ProtocolError)
    assert isinstance(tampered(lambda data: data[:-1]), ConnectionLost)
    assert isinstance(tampered(lambda data: b"\x00" + data[1:]), ProtocolError)
    big = HEADER.pack(control.MAGIC, control.VERSION, control.BODY_LIMIT + 1)
    assert isinstance(tampered(lambda _: big), ProtocolError)


def test_a_replayed_frame_ends_the_connection() -> None:
    async def test(server: ControlServer, heard: asyncio.Queue[Any]) -> None:
        connection = await connect("127.0.0.1", server.port, SECRET)
        sent: list[bytes] = []
        transport = connection._writer.transport
        original = transport.write

        def tap(data: bytes) -> None:
            sent.append(data)
            original(data)

        transport.write = tap  # type: ignore[method-assign, assignment]
        connection.send(Heartbeat())
        assert await heard.get() == Heartbeat()
        original(sent[0])
        assert isinstance(await heard.get(), ProtocolError)

    assert with_server(test).counts.malformed == 1


def send_body(connection: Connection, body: Any) -> None:
    """Send any body with a true HMAC."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    tag = control._tag(connection._key, connection._out, connection._sent, data)
    connection._sent += 1
    connection._writer.write(frame(data) + tag)


@pytest.mark.parametrize(
    "body", [b"\x00", [], {"t": 5}, {"t": "journal", "entries": 7}, {"t": "register"}, {"t": "ack", "epoch": {}, "seq": 1}]
)
def test_a_malformed_message_ends_the_connection(body: Any) -> None:
    async def test(server: ControlServer, heard: asyncio.Queue[Any]) -> None:
        connection = await connect("127.0.0.1", server.port, SECRET)
        send_body(connection, body)
        assert isinstance(await heard.get(), ProtocolError)
        await still_serves(server)

    with_server(test)


def test_messages_and_fields_of_a_newer_version_are_skipped() -> None:
    async def test(server: ControlServer, heard: asyncio.Queue[Any]) -> None:
        connection = await connect("127.0.0.1", server.port, SECRET)
        send_body(connection, {"t": "from_the_future", "x": 1})
        send_body(connection, {"t": "heartbeat", "mood": "good"})
        assert await heard.get() == Heartbeat()

    with_server(test)


def test_a_peer_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "SEND_LIMIT", 100_000)
    outcome: list[int] = []

    async def flood(connection: Connection) -> None:
        count = 0
        while connection.send(Leading(Epoch("x" * 10_000, count))):
            count += 1
            assert count < 10_000, "nothing stops it"
        outcome.append(count)
        assert not connection.send(Standby()), "gone stays gone"

    async def test(server: ControlServer, heard: asyncio.Queue[Any]) -> None:
        await connect("127.0.0.1", server.port, SECRET)
        while not outcome:
            await asyncio.sleep(0.01)

    with_server(test, handler=flood)


def test_closing_the_server_ends_its_connections() -> None:
    async def test(server: ControlServer, heard: asyncio.Queue[Any]) -> None:
        connection = await connect("127.0.0.1", server.port, SECRET)
        await server.close()
        with pytest.raises(ConnectionLost):
            await connection.receive()
        with pytest.raises(ConnectionLost):
            await connect("127.0.0.1", server.port, SECRET)

    with_server(test)
