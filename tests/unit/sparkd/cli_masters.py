"""Masters with real HTTP servers and small faces, on a loop of their own, for tests of clients, which block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

from http_faces import FakeMaster, master_settings

from sparkd.client import Address
from sparkd.coordination.api import MasterAddress
from sparkd.core.states import MasterStatus
from sparkd.http.server import Running, start_master

T = TypeVar("T")


class Masters:
    """with Masters(2) as masters: masters.lead(0); masters.addresses; masters[1].says."""

    def __init__(self, count: int = 1, **rest: Any) -> None:
        self.faces = [FakeMaster(settings=master_settings(**rest), says=MasterStatus.STANDBY, led_by=None) for _ in range(count)]
        self.running: list[Running] = []
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it on the masters' loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def __enter__(self) -> Masters:
        self._thread.start()
        self.running = [self.run(start_master(face)) for face in self.faces]
        self.lead(0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for running in self.running:
            self.run(running.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()

    def __getitem__(self, index: int) -> FakeMaster:
        return self.faces[index]

    @property
    def addresses(self) -> list[Address]:
        return [("127.0.0.1", running.rest_port) for running in self.running]

    @property
    def text(self) -> str:
        return ",".join(f"{host}:{port}" for host, port in self.addresses)

    def lead(self, index: int | None, known: bool = True) -> None:
        """Make one of them the leader, or nobody; known: the others name it."""
        for number, face in enumerate(self.faces):
            face.says = MasterStatus.ALIVE if number == index else MasterStatus.STANDBY
            face.led_by = None
            if index is not None and known:
                host, port = self.addresses[index]
                face.led_by = MasterAddress(host, 7077, "", f"http://{host}:{port}")
