"""The master's side of its workers' connections: who is connected, what they say, and commands to them.

A connection is merely open, or registered under a worker's id for the current term. Only `register` is listened to on the former: what else
a worker says before this leader knows it, it will tell again when it registers (its journal is kept until it is acknowledged).
"""

from __future__ import annotations

import json
import logging
from typing import Protocol

from .control import Connection, ConnectionLost
from .messages import Decommissioned, FromMaster, Heartbeat, Journal, Refused, Register

log = logging.getLogger(__name__)


class WorkerListener(Protocol):
    """What becomes of workers' messages."""

    def greeting(self) -> FromMaster:
        """Return the first message on a new connection: leading or standby."""

    def register(self, message: Register) -> FromMaster | None:
        """A worker told all it has. Return an answer if it is not taken: refused or standby."""

    def heartbeat(self, worker_id: str) -> None:
        """It lives."""

    async def journal(self, worker_id: str, message: Journal) -> None:
        """New entries of its journal. May wait, and so the worker waits too."""

    def decommissioned(self, worker_id: str) -> None:
        """It takes no more work."""

    def gone(self, worker_id: str) -> None:
        """Its connection is over, and no other has replaced it."""


class _Session:
    """One connection. worker_id is empty until it has registered in the current term."""

    __slots__ = ("address", "connection", "worker_id")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.worker_id = ""
        self.address = ("", 0)  # the worker's own, as it registered


class WorkerSessions:
    """All connections of workers to this master."""

    def __init__(self, listener: WorkerListener) -> None:
        self._listener = listener
        self._all: set[_Session] = set()
        self._registered: dict[str, _Session] = {}
        self.undelivered = 0  # commands for workers that are not connected; they are given again on registration

    def __len__(self) -> int:
        """Connections, registered or not."""
        return len(self._all)

    def registered(self) -> int:
        """Connections of workers that registered in the current term."""
        return len(self._registered)

    async def serve(self, connection: Connection) -> None:
        """Have a connection until it ends. Raises ControlError for what no worker may send."""
        session = _Session(connection)
        self._all.add(session)
        log.info("event=worker_connected peer=%s name=%s", connection.peer, json.dumps(connection.name))
        try:
            connection.send(self._listener.greeting())
            while True:
                await self._take(session)
        except ConnectionLost:
            pass
        finally:
            self._all.discard(session)
            worker_id = self._unregister(session)
            log.info("event=worker_disconnected peer=%s worker=%s", connection.peer, json.dumps(worker_id or connection.name))
            if worker_id:
                self._listener.gone(worker_id)

    async def _take(self, session: _Session) -> None:
        message = await session.connection.receive()
        if isinstance(message, Register):
            self._register(session, message)
        elif not session.worker_id:
            return
        elif isinstance(message, Heartbeat):
            self._listener.heartbeat(session.worker_id)
        elif isinstance(message, Journal):
            await self._listener.journal(session.worker_id, message)
        elif isinstance(message, Decommissioned):
            self._listener.decommissioned(session.worker_id)
        else:
            log.warning("event=odd_message peer=%s t=%s", session.connection.peer, message.t)

    def _register(self, session: _Session, message: Register) -> None:
        worker_id = message.worker.id
        if session.worker_id not in ("", worker_id):
            session.connection.send(Refused(f"this connection belongs to {session.worker_id}"))
            return
        address = (message.worker.host, message.worker.port)
        other = self._registered.get(worker_id)
        if other is not None and other is not session and other.address != address and not other.connection.closing:
            # Two of one id would each be told to run what the other one has. A dead connection is found out within control.SILENCE_S.
            why = f"the worker at {other.address[0]}:{other.address[1]} has the id {worker_id} and is connected: was its directory copied?"
            log.error("event=worker_refused worker=%s peer=%s why=%s", json.dumps(worker_id), session.connection.peer, json.dumps(why))
            session.connection.send(Refused(why))
            return
        if other is not None and other is not session:  # it came back before its old connection was found dead
            log.info("event=worker_reconnected worker=%s peer=%s", json.dumps(worker_id), session.connection.peer)
            self._unregister(other)
            other.connection.close()
        session.worker_id, session.address = worker_id, address
        self._registered[worker_id] = session
        answer = self._listener.register(message)
        if answer is not None:
            self._unregister(session)
            session.connection.send(answer)

    def _unregister(self, session: _Session) -> str:
        """Forget that a session is a worker's; return the worker's id if it was."""
        worker_id, session.worker_id = session.worker_id, ""
        if worker_id and self._registered.get(worker_id) is session:
            del self._registered[worker_id]
            return worker_id
        return ""

    def send(self, worker_id: str, message: FromMaster) -> bool:
        """Send to a worker; return False if it is not connected, or does not take what it is sent."""
        session = self._registered.get(worker_id)
        if session is not None and session.connection.send(message):
            return True
        self.undelivered += 1
        return False

    def refuse(self, worker_id: str, message: FromMaster) -> None:
        """Send to a worker that is not registered any more."""
        session = self._registered.get(worker_id)
        if session is not None:
            self._unregister(session)
            session.connection.send(message)

    def broadcast(self, message: FromMaster) -> None:
        """Tell everybody who leads, or that nobody does: all registrations are void."""
        self._registered.clear()
        for session in list(self._all):
            session.worker_id = ""
            session.connection.send(message)

    def invite(self, message: FromMaster) -> None:
        """Tell those that are not registered."""
        for session in list(self._all):
            if not session.worker_id:
                session.connection.send(message)

    def tell_all(self, message: FromMaster) -> None:
        """Tell everybody, and leave registrations as they are."""
        for session in list(self._all):
            session.connection.send(message)
