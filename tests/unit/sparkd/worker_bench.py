"""A scripted master and a real worker, over loopback, for the tests of the worker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

from sparkd.core.values import DriverDescription, Epoch, ProcessRef, ProcessReport
from sparkd.processes.keeper import stat_fields
from sparkd.rpc import control
from sparkd.rpc import messages as wire
from sparkd.settings import WebSettings, WorkerSettings
from sparkd.worker import Worker

T = TypeVar("T")

SECRET = b"a cluster secret for tests"
PATIENCE_S = 20.0  # bounds a wait that should take milliseconds; a loaded machine is slow


def settings(work_dir: Path, *ports: int, **other: object) -> WorkerSettings:
    defaults: dict[str, object] = {"cores": 8, "memory_mb": 8192, "driver_terminate_timeout_s": 2.0, "web": WebSettings("127.0.0.1", 0)}
    masters = tuple(("127.0.0.1", port) for port in ports)
    return WorkerSettings("127.0.0.1", masters, work_dir=work_dir, cluster_secret=SECRET, **(defaults | other))  # type: ignore[arg-type]


def command(*argv: str, supervise: bool = False, **other: object) -> DriverDescription:
    return DriverDescription("command", "test", argv, supervise=supervise, memory_mb=64, **other)  # type: ignore[arg-type]


def shell(script: str, supervise: bool = False) -> DriverDescription:
    return command("/bin/sh", "-c", script, supervise=supervise)


def ref(number: int = 1, owner: str = "driver-1") -> ProcessRef:
    return ProcessRef("driver", owner, number)


async def until(what: Callable[[], T | None], about: str = "") -> T:
    """Return what is true in the end."""
    end = time.monotonic() + PATIENCE_S
    while True:
        value = what()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"never came: {about}")
        await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return stat_fields(pid)[0] not in "ZX"
    except OSError:
        return False


class Master:
    """Says what the test wants; keeps what workers say."""

    def __init__(self, cluster: str = "c1", number: int = 1) -> None:
        self.epoch = Epoch(cluster, number)
        self.leads = True
        self.accepts = True
        self.acknowledges = True
        self.drop: tuple[ProcessRef, ...] = ()
        self.heard: list[wire.Message] = []
        self.registers: list[wire.Register] = []
        self.connections: list[control.Connection] = []
        self.server: control.ControlServer | None = None
        self.port = 0

    async def start(self, port: int = 0) -> Master:
        self.server = await control.serve("127.0.0.1", port, SECRET, self._serve)
        self.port = self.server.port
        return self

    async def stop(self) -> None:
        if self.server is not None:
            await self.server.close()

    async def _serve(self, connection: control.Connection) -> None:
        self.connections.append(connection)
        connection.send(wire.Leading(self.epoch) if self.leads else wire.Standby())
        try:
            while True:
                self._take(connection, await connection.receive())
        finally:
            self.connections.remove(connection)

    def _take(self, connection: control.Connection, message: wire.Message) -> None:
        self.heard.append(message)
        entries: tuple[ProcessReport, ...] = ()
        if isinstance(message, wire.Register):
            self.registers.append(message)
            if self.accepts:
                last = max((told.seq for told in message.processes), default=0) if self.acknowledges else 0
                connection.send(wire.Accepted(self.epoch, self.drop, last))
        elif isinstance(message, wire.Journal):
            entries = message.entries
        for entry in entries:
            if self.acknowledges and entry.seq:
                connection.send(wire.Ack(self.epoch, entry.seq))

    def send(self, message: wire.Message) -> None:
        for connection in self.connections:
            connection.send(message)

    def launch(self, description: DriverDescription, which: ProcessRef | None = None) -> None:
        self.send(wire.LaunchDriver(self.epoch, which or ref(), description))

    def end(self, which: ProcessRef | None = None, why: str = "killed by request") -> None:
        self.send(wire.End(self.epoch, which or ref(), why))

    def entries(self) -> list[ProcessReport]:
        """All that was reported since the start, registers included, in order."""
        found: list[ProcessReport] = []
        for message in self.heard:
            if isinstance(message, wire.Register):
                found += message.processes
            elif isinstance(message, wire.Journal):
                found += message.entries
        return found

    async def report(self, state: str, which: ProcessRef | None = None) -> ProcessReport:
        wanted = which or ref()
        return await until(
            lambda: next((entry for entry in self.entries() if entry.ref == wanted and entry.state == state), None), f"{wanted} {state}"
        )

    async def registered(self, times: int = 1) -> wire.Register:
        await until(lambda: len(self.registers) >= times, f"register {times}")
        return self.registers[times - 1]


@contextlib.asynccontextmanager
async def working(given: WorkerSettings, how: str = "stop") -> AsyncIterator[Worker]:
    """A worker in this process; `how` it ends: stop, or leave its processes."""
    worker = Worker(given)
    task = asyncio.create_task(worker.run())
    try:
        await until(lambda: worker.worker_id() or task.done(), "worker runs")
        yield worker
    finally:
        worker._finish(how)
        assert await task == 0


class Separate:
    """A worker as a process of its own, that can be killed."""

    def __init__(self, work_dir: Path, port: int) -> None:
        self.work_dir, self.port = work_dir, port
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> Separate:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, __file__, str(self.work_dir), str(self.port)), stderr=asyncio.subprocess.DEVNULL
        )
        return self

    async def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), PATIENCE_S)


def main() -> None:
    from sparkd.worker import run_worker

    os.environ.pop("INVOCATION_ID", None)  # the unit that the tests run in is not the worker's
    sys.exit(asyncio.run(run_worker(settings(Path(sys.argv[1]), int(sys.argv[2])))))


if __name__ == "__main__":
    main()
