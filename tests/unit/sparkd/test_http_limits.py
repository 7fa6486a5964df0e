"""Ports that are taken, and clients that send too much, too slowly, too often, or nothing that is HTTP."""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import replace
from typing import Any

import pytest
from http_faces import LOOPBACK, Client, FakeMaster, FakeWorker, master_settings, serve

from sparkd.http import answers, server
from sparkd.http.server import CannotListen, start_master, start_worker

GOOD = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("which", "names"),
    [("web", "SPARK_MASTER_WEBUI_PORT"), ("rest", "spark.master.rest.port"), ("worker", "SPARK_WORKER_WEBUI_PORT")],
)
def test_a_port_that_is_taken_is_named_and_nothing_stays_open(which: str, names: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder, socket.create_server(("127.0.0.1", 0)) as spare:
        taken, free = holder.getsockname()[1], spare.getsockname()[1]
        spare.close()
        web = replace(LOOPBACK, port=free if which == "rest" else taken)
        face: Any = FakeMaster(settings=replace(master_settings(port=taken), web=web))
        if which == "worker":
            face = FakeWorker()
            face.settings = replace(face.settings, web=web)

        async def start() -> None:
            with pytest.raises(CannotListen, match=f":{taken} .*{names}"):
                await (start_worker(face) if which == "worker" else start_master(face))

        asyncio.run(start())
        socket.create_server(("127.0.0.1", free)).close()


def test_an_address_that_is_not_ours() -> None:
    face = FakeMaster(settings=replace(master_settings(), web=replace(LOOPBACK, host="192.0.2.1")))

    async def start() -> None:
        with pytest.raises(CannotListen, match=r"192\.0\.2\.1:0"):
            await start_master(face)

    asyncio.run(start())


def test_rest_can_be_off() -> None:
    async def start() -> None:
        running = await start_master(FakeMaster(settings=master_settings(enabled=False)))
        assert running.web_port and not running.rest_port
        await running.close()

    asyncio.run(start())


async def exchange(port: int, sent: bytes, wait_s: float = 5.0) -> bytes:
    """Send, and return all that comes until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        async with asyncio.timeout(wait_s):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def test_a_body_that_says_it_is_huge_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LINGER_S", 0.1)
    face = FakeMaster(settings=master_settings(max_body_bytes=1 << 40))

    async def talk(client: Client) -> None:
        head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{"
        for path in (b"/v1/submissions/create", b"/sparkd/v1/drivers"):
            reply = await exchange(client.running.rest_port, head % path)
            assert reply.startswith(b"HTTP/1.1 413 ")
            assert b"exceeds the maximum allowed size (%d bytes)" % answers.BODY_LIMIT in reply

    serve(face, talk)


def test_a_body_that_grows_without_saying() -> None:
    face = FakeMaster(settings=master_settings(max_body_bytes=10_000))

    async def endless() -> Any:
        for _ in range(100):
            yield b"x" * 1000

    async def talk(client: Client) -> None:
        reply = await client.rest("/v1/submissions/create", "POST", data=endless())
        assert reply.status == 413
        assert "spark.master.rest.maxRequestBodySize" in reply.json["message"]
        assert (await client.rest("/v1/submissions/readyz")).status == 200

    serve(face, talk)


def test_a_slow_body_and_a_broken_one(monkeypatch: pytest.MonkeyPatch) -> None:
    read = answers.read_body

    async def impatient(request: Any, limit: int) -> bytes:
        return await read(request, limit, timeout_s=0.2)

    monkeypatch.setattr("sparkd.http.rest.read_body", impatient)
    monkeypatch.setattr(server, "LINGER_S", 0.1)

    async def talk(client: Client) -> None:
        head = b"POST /v1/submissions/create HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nConnection: close\r\n\r\n"
        reply = await exchange(client.running.rest_port, head + b'{"action"')
        assert reply.startswith(b"HTTP/1.1 408 ")
        chunked = b"POST /v1/submissions/create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnot a chunk\r\n"
        assert b" 400 " in (await exchange(client.running.rest_port, chunked)).split(b"\r\n")[0]
        _, writer = await asyncio.open_connection("127.0.0.1", client.running.rest_port)
        writer.write(head + b"{")
        await writer.drain()
        writer.transport.abort()
        assert (await client.rest("/v1/submissions/readyz")).status == 200

    face = FakeMaster()
    serve(face, talk)
    assert face.submitted == []


def test_connections_are_bounded() -> None:
    face = FakeMaster(settings=master_settings(max_connections=3))

    async def talk(client: Client) -> None:
        port = client.running.rest_port
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        for reader, writer in held:
            writer.write(b"GET /v1/submissions/readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        refused = await exchange(port, b"")
        assert refused.startswith(b"HTTP/1.1 503 ") and refused.endswith(b"\r\n\r\nToo many connections.\n")
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        for _ in range(200):
            answer = await exchange(port, b"GET /v1/submissions/readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            if answer.startswith(b"HTTP/1.1 200"):
                return
            await asyncio.sleep(0.02)
        raise AssertionError("it never took a connection again")

    serve(face, talk)


def test_a_connection_that_says_nothing_or_never_ends_its_headers_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_S", 0.3)

    async def talk(client: Client) -> None:
        for sent in (b"", b"GET /livez HTTP/1.1\r\nX: "):
            assert b"200" not in await exchange(client.running.web_port, sent)
        answer = await exchange(client.running.web_port, GOOD)
        assert answer.startswith(b"HTTP/1.1 200")

    serve(FakeMaster(), talk)


@pytest.mark.parametrize(
    "sent",
    [
        b"\xa5\x01\x00\x00\x00\x00",
        b"\x00" * 64,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"get /livez\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_and_the_server_goes_on(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def talk(client: Client) -> None:
        for port in (client.running.web_port, client.running.rest_port):
            reply = await exchange(port, sent)
            assert reply == b"" or reply.startswith(b"HTTP/1.")
            assert b" 200 " not in reply.split(b"\r\n")[0]
        assert (await client.web("/livez")).status == 200

    with caplog.at_level(logging.INFO):
        serve(FakeMaster(), talk)
    assert "Traceback" not in caplog.text


def test_a_defect_is_logged_and_tells_nothing(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    face = FakeMaster()

    def broken() -> None:
        raise RuntimeError("inner secret")

    monkeypatch.setattr(face, "status", broken)

    async def talk(client: Client) -> None:
        for reply in (await client.web("/json/"), await client.rest("/sparkd/v1/leader"), await client.rest("/v1/submissions/status/x")):
            assert reply.status == 500
            assert b"inner secret" not in reply.body

    serve(face, talk)
    assert "event=http_failed" in caplog.text


def test_close_ends_idle_connections_soon() -> None:
    async def whole() -> None:
        running = await start_master(FakeMaster())
        reader, writer = await asyncio.open_connection("127.0.0.1", running.web_port)
        writer.write(GOOD)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        async with asyncio.timeout(5):
            await running.close()
            await reader.read()
        writer.close()
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", running.web_port)

    asyncio.run(whole())
