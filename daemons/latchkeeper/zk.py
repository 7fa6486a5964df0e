"""Thin, bounded access to ZooKeeper: who is connected, who stands in line, delete one node.

kazoo's own ways are kept away: no retry of commands, no call while suspended (it would be queued and sent after reconnection),
and only servers that answered a moment ago are tried (kazoo's order is random, and a silent one costs a whole timeout).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from . import config, fourletter, pages
from .rules import LATCH, NODES_LIMIT, Latch

T = TypeVar("T")
ASK_S = 1.0
SESSION_S = 4.0

# Its connection messages are not ours to print: every operation reports its own outcome.
logging.getLogger("kazoo").addHandler(logging.NullHandler())
logging.getLogger("kazoo").propagate = False


class Unavailable(Exception):  # noqa: N818 - reads as what it says at the raise
    """ZooKeeper does not serve (now); the text says what was tried."""


def each(function: Callable[[Any], T], arguments: Sequence[Any]) -> list[T]:
    """Call a bounded function for all arguments at once; results in order."""
    if not arguments:
        return []
    with ThreadPoolExecutor(max_workers=min(len(arguments), 16)) as pool:
        return list(pool.map(function, arguments))


def serving(connect: str, timeout_s: float = ASK_S) -> list[tuple[str, int]]:
    """Return the servers that are part of a quorum, the quickest first. Raises Unavailable when none is."""

    def ask(server: tuple[str, int]) -> tuple[float, str]:
        started = time.monotonic()
        try:
            fourletter.srvr(*server, timeout_s)
        except fourletter.NotAllowed:
            pass  # it serves, it only does not tell
        except fourletter.FourLetterError as error:
            return -1.0, str(error)
        return time.monotonic() - started, ""

    servers = config.servers(connect)
    answers = each(ask, servers)
    quick = sorted((took, server) for (took, _), server in zip(answers, servers, strict=True) if took >= 0)
    if not quick:
        raise Unavailable("; ".join(problem for _, problem in answers))
    return [server for _, server in quick]


def clients(servers: Sequence[tuple[str, int]], timeout_s: float = ASK_S) -> dict[tuple[str, int], list[fourletter.Connection]]:
    """Return server -> its clients, for the servers that answer ``cons``. Raises Unavailable when none does."""

    def ask(server: tuple[str, int]) -> list[fourletter.Connection] | str:
        try:
            return fourletter.cons(*server, timeout_s)
        except fourletter.FourLetterError as error:
            return str(error)

    answers = dict(zip(servers, each(ask, servers), strict=True))
    listed = {server: answer for server, answer in answers.items() if not isinstance(answer, str)}
    if not listed:
        raise Unavailable("; ".join(map(str, answers.values())))
    return listed


def connected_sessions(connect: str) -> set[int]:
    """Return the sessions that have a connection to a server that answers ``cons``. Raises Unavailable when none does."""
    return {connection.sid for listed in clients(config.servers(connect)).values() for connection in listed if connection.sid}


class Line:
    """The latches of one leader election, over one kazoo session of its own."""

    def __init__(self, connect: str, directory: str, timeout_s: float) -> None:
        from kazoo.client import KazooClient
        from kazoo.retry import KazooRetry

        chroot = connect.partition("/")[2].strip("/")
        self.path = f"{'/' + chroot if chroot else ''}/{directory.strip('/')}/leader_election".replace("//", "/")
        end = time.monotonic() + timeout_s
        hosts = ",".join(pages.join_endpoint(*server) for server in serving(connect, min(ASK_S, timeout_s)))
        self.client = KazooClient(
            hosts=hosts,
            timeout=SESSION_S,
            randomize_hosts=False,
            connection_retry=KazooRetry(max_tries=-1, delay=0.1, max_delay=0.5, backoff=2),
            command_retry=KazooRetry(max_tries=0),
        )
        try:
            self.client.start(timeout=max(0.1, end - time.monotonic()))
        except Exception as error:
            self.close()
            raise Unavailable(f"no session with {hosts} within {timeout_s:g} s ({error or type(error).__name__})") from None

    def __enter__(self) -> Line:
        """Return itself, connected already."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the session."""
        self.close()

    def close(self) -> None:
        """End the session, as far as the server still answers."""
        try:
            self.client.stop()
            self.client.close()
        except Exception as error:
            logging.getLogger(__name__).debug("close: %s", error)

    def _connected(self) -> None:
        if self.client.state != "CONNECTED":
            raise Unavailable(f"the session is {self.client.state}")

    def latches(self, timeout_s: float = 2.0) -> list[Latch]:
        """Return the latch nodes that exist now. Raises Unavailable; names that are no latches are left out."""
        from kazoo.exceptions import KazooException, NoNodeError

        self._connected()
        end = time.monotonic() + timeout_s
        try:
            names = self.client.get_children_async(self.path).get(timeout=timeout_s)
            names = sorted((name for name in names if LATCH.fullmatch(name)), key=lambda name: name[-10:])[:NODES_LIMIT]
            asked = [(name, self.client.exists_async(f"{self.path}/{name}")) for name in names]
            stats = [(name, answer.get(timeout=max(0.05, end - time.monotonic()))) for name, answer in asked]
        except NoNodeError:
            return []
        except (KazooException, self.client.handler.timeout_exception) as error:
            raise Unavailable(f"listing {self.path}: {type(error).__name__} {error}") from None
        return [Latch(name, stat.ephemeralOwner, stat.czxid, stat.version) for name, stat in stats if stat is not None]

    def delete(self, latch: Latch, timeout_s: float = 2.0) -> bool:
        """Delete this very node. False: it was gone, or is another one by now. Raises Unavailable (it may then be deleted)."""
        from kazoo.exceptions import BadVersionError, KazooException, NoNodeError

        self._connected()
        path = f"{self.path}/{latch.name}"
        try:
            stat = self.client.exists_async(path).get(timeout=timeout_s)
            if stat is None or (stat.ephemeralOwner, stat.czxid) != (latch.owner, latch.czxid):
                return False
            self.client.delete_async(path, version=latch.version).get(timeout=timeout_s)
        except (NoNodeError, BadVersionError):
            return False
        except (KazooException, self.client.handler.timeout_exception) as error:
            raise Unavailable(f"deleting {path}: {type(error).__name__} {error}") from None
        return True
