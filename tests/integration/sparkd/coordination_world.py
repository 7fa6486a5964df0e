"""The world of the coordination suite on a real ensemble: each master reaches it through proxies that can fall silent."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Sequence
from typing import Any

from coordination_suite import Master, World
from ensemble import Ensemble
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from sparkd.coordination.api import Engine
from sparkd.coordination.bridge import Bridge, Op, Unanswered
from sparkd.coordination.zookeeper import ZookeeperEngine
from sparkd.settings import RecoverySettings

_numbers = itertools.count(1)


class Proxy:
    """A TCP proxy that can stop forwarding without closing anything, as a network that drops packets."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.server: asyncio.Server | None = None

    async def open(self) -> str:
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self.server.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.flowing.wait()
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.close()
            return
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await self.flowing.wait()
                sink.write(data)
                await sink.drain()
        sink.close()

    async def close(self) -> None:
        if self.server is not None:
            self.server.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class ZookeeperWorld(World):
    def __init__(self, ensemble: Ensemble, session_s: float = 2.0, secret: str = "") -> None:
        super().__init__()
        self.ensemble = ensemble
        self.session_s = session_s
        self.secret = secret
        self.directory = f"/suite/{next(_numbers)}"
        self.proxies: dict[str, list[Proxy]] = {}
        self.connects: dict[str, str] = {}
        self.admin: Any = None
        self.extra: dict[str, Any] = {}  # more settings

    async def opened(self) -> None:
        auth = [("digest", f"sparkd:{self.secret}")] if self.secret else None
        self.admin = KazooClient(self.ensemble.connect, timeout=10, auth_data=auth)
        await asyncio.to_thread(self.admin.start, 30)

    async def closed(self) -> None:
        for proxies in self.proxies.values():
            for proxy in proxies:
                await proxy.close()
        await asyncio.to_thread(self.admin.stop)
        self.admin.close()

    async def join(self, name: str) -> Master:
        self.proxies[name] = [Proxy(target) for target in self.ensemble.hosts]
        self.connects[name] = ",".join([await proxy.open() for proxy in self.proxies[name]])
        return await super().join(name)

    def settings(self, connect: str) -> RecoverySettings:
        return RecoverySettings(
            mode="ZOOKEEPER",
            zookeeper_url=connect,
            zookeeper_dir=self.directory,
            session_timeout_s=self.session_s,
            zookeeper_secret=self.secret,
            **self.extra,
        )

    def make(self, master: Master) -> Engine:
        return ZookeeperEngine(self.settings(self.connects[master.name]), master.clock)

    def engine(self, master: Master) -> ZookeeperEngine:
        assert isinstance(master.engine, ZookeeperEngine)
        return master.engine

    def bridge(self, master: Master) -> Bridge:
        bridge = self.engine(master)._bridge
        assert bridge is not None
        return bridge

    async def expire(self, master: Master) -> None:
        """Open the session a second time and close it there, as kazoo's own harness does."""
        client_id = self.bridge(master).client.kazoo.client_id
        other = KazooClient(self.ensemble.connect, timeout=self.session_s, client_id=client_id)
        await asyncio.to_thread(other.start, 30)
        await asyncio.to_thread(other.stop)
        other.close()

    async def drop_connection(self, master: Master) -> None:
        self.bridge(master).drop("test")

    async def cut(self, master: Master) -> None:
        for proxy in self.proxies[master.name]:
            proxy.flowing.clear()

    async def heal(self, master: Master) -> None:
        for proxy in self.proxies[master.name]:
            proxy.flowing.set()

    async def delete_latch(self, master: Master) -> None:
        await asyncio.to_thread(self.admin.delete, self.engine(master)._latch)

    def lose_reply(self, master: Master) -> None:
        self._once(master, carried_out=True)

    def lose_request(self, master: Master) -> None:
        self._once(master, carried_out=False)

    def _once(self, master: Master, carried_out: bool) -> None:
        bridge = self.bridge(master)
        original = bridge.transaction

        async def lossy(ops: Sequence[Op], timeout_s: float | None = None) -> None:
            bridge.transaction = original  # type: ignore[method-assign]
            if carried_out:
                await original(ops, timeout_s)
            bridge.drop("test")
            raise Unanswered("test")

        bridge.transaction = lossy  # type: ignore[method-assign]

    async def raw(self, kind: str, name: str) -> bytes | None:
        try:
            data, _ = await asyncio.to_thread(self.admin.get, f"{self.directory}/records/{kind}/{name}")
        except NoNodeError:
            return None
        return bytes(data)

    async def spoil(self, kind: str, name: str, raw: bytes) -> None:
        await asyncio.to_thread(self.admin.set, f"{self.directory}/records/{kind}/{name}", raw)

    async def set_aside(self) -> list[bytes]:
        parent = f"{self.directory}/set-aside"
        names = await asyncio.to_thread(self.admin.get_children, parent)
        return [bytes((await asyncio.to_thread(self.admin.get, f"{parent}/{name}"))[0]) for name in names]
