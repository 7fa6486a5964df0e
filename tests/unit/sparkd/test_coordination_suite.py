"""The suite of all engines against the in-memory ensemble, a directory, and recoveryMode NONE."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from coordination_suite import *  # noqa: F403
from coordination_suite import Master, World

from sparkd.coordination import records
from sparkd.coordination.api import Engine
from sparkd.coordination.filesystem import FilesystemEngine
from sparkd.coordination.memory import MemoryEngine, MemoryEnsemble
from sparkd.coordination.none import NoneEngine
from sparkd.settings import RecoverySettings


class MemoryWorld(World):
    session_s = 0.6

    def __init__(self) -> None:
        super().__init__()
        self.ensemble = MemoryEnsemble(session_s=self.session_s)

    def make(self, master: Master) -> Engine:
        return MemoryEngine(self.ensemble, clock=master.clock)

    def engine(self, master: Master) -> MemoryEngine:
        assert isinstance(master.engine, MemoryEngine)
        return master.engine

    async def expire(self, master: Master) -> None:
        self.ensemble.expire(self.engine(master))

    async def drop_connection(self, master: Master) -> None:
        self.ensemble.suspend(self.engine(master))
        asyncio.get_running_loop().call_later(0.02, self.ensemble.resume, self.engine(master))

    async def cut(self, master: Master) -> None:
        self.ensemble.suspend(self.engine(master))

    async def heal(self, master: Master) -> None:
        self.ensemble.resume(self.engine(master))

    async def delete_latch(self, master: Master) -> None:
        self.ensemble.delete_latch(self.engine(master))

    def lose_reply(self, master: Master) -> None:
        self.ensemble.lose_reply(self.engine(master))

    def lose_request(self, master: Master) -> None:
        self.ensemble.lose_request(self.engine(master))

    async def raw(self, kind: str, name: str) -> bytes | None:
        return self.ensemble.records.get((kind, name))

    async def spoil(self, kind: str, name: str, raw: bytes) -> None:
        self.ensemble.records[(kind, name)] = raw

    async def set_aside(self) -> list[bytes]:
        return list(self.ensemble.set_aside.values())


class DirectoryWorld(World):
    sessions = False

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def make(self, master: Master) -> Engine:
        return FilesystemEngine(RecoverySettings(mode="FILESYSTEM", directory=self.path), master.clock)

    async def raw(self, kind: str, name: str) -> bytes | None:
        from sparkd.coordination.directory import RecoveryDirectory

        # What a leader of long standing would have written by itself.
        directory = RecoveryDirectory(self.path, 10**6)
        directory.load()
        directory.begin_files()
        directory.write_files()
        file = self.path / "records" / kind / name
        return file.read_bytes() if file.exists() else None

    async def spoil(self, kind: str, name: str, raw: bytes) -> None:
        (self.path / "records" / kind / name).write_bytes(raw)

    async def set_aside(self) -> list[bytes]:
        return [path.read_bytes() for path in (self.path / "set-aside").iterdir()]


class NoWorld(DirectoryWorld):
    durable = False

    def make(self, master: Master) -> Engine:
        return NoneEngine(RecoverySettings(mode="NONE", state_dir=self.path))


@pytest.fixture(params=["memory", "filesystem", "none"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    match request.param:
        case "memory":
            yield MemoryWorld()
        case "filesystem":
            yield DirectoryWorld(tmp_path / "recovery")
        case _:
            yield NoWorld(tmp_path / "state")


def test_names_of_records_are_what_is_spoilt() -> None:
    assert records.node_name("cut") == "cut"
