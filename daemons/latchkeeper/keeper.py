"""The daemon: keeps the record of the local master's latch session true while the master lives.

It never ends because ZooKeeper or the master is away, and never deletes a record: a fence reads it after the death.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from . import pages, proc, record, rules, zk
from .config import Config, servers
from .log import say

SOON_S = 0.5
IDLE_S = 1.0
CHECK_S = 2.0
#: The whole chain is looked up again at least this often, whatever seems unchanged.
FULL_CHECK_S = 60.0
#: After this long without a session found it is a matter of the network (NAT, `cons` not allowed), not of a starting JVM.
PATIENCE_S = 60.0

#: A connection by its local and remote (address, port).
Ends = tuple[tuple[str, int], tuple[str, int]]


class Keeper:
    """State between two looks."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.ports = {port for _, port in servers(config.zookeeper)}
        self.boot = proc.boot_id()
        self.pid = 0
        self.start = 0
        self.since = 0.0
        self.ends: set[Ends] = set()
        self.checked = 0.0
        self.held = record.load(config.record)
        self.line: zk.Line | None = None
        self.problem = ""

    def process(self) -> bool:
        """Find the master's process; False while there is none."""
        stat = proc.read_stat(self.pid) if self.pid else None
        if stat is not None and stat.start == self.start and not stat.dead:
            return True
        pid = main_pid(self.config.pid_file)
        stat = proc.read_stat(pid) if pid else None
        if stat is None:
            self.pid = 0
            return False
        self.pid, self.start, self.since = pid, stat.start, time.monotonic()
        self.ends, self.checked = set(), 0.0
        return True

    def latches(self) -> list[rules.Latch]:
        """List the line over the kept session, or a new one."""
        if self.line is None:
            self.line = zk.Line(self.config.zookeeper, self.config.zookeeper_dir, timeout_s=5.0)
        return self.line.latches()

    def disconnect(self) -> None:
        """Drop the session; the next look makes a new one."""
        if self.line is not None:
            self.line.close()
            self.line = None

    def holds(self) -> bool:
        """Tell whether the record is of the process that runs now."""
        held = self.held
        return held is not None and (held.pid, held.start, held.boot) == (self.pid, self.start, self.boot)

    def look(self) -> float:
        """Look once; return the seconds until the next look. Raises zk.Unavailable, OSError."""
        if not self.process():
            self.disconnect()
            return IDLE_S
        ends = {(socket.local, socket.remote) for socket in proc.sockets_of(self.pid, self.ports)}
        if not ends:  # it starts, or ZooKeeper is away
            self.since = time.monotonic()
            return CHECK_S if self.holds() else SOON_S
        now = time.monotonic()
        latches = self.latches()
        if (
            self.holds()
            and ends == self.ends
            and now - self.checked < FULL_CHECK_S
            and self.in_line(latches)
            and self.held
            and self.held.url
        ):
            return CHECK_S
        sessions = sessions_of(ends)
        own = rules.own_latch(latches, sessions)
        if own is None:
            if now - self.since > PATIENCE_S:
                self.report(f"process {self.pid} has {len(ends)} connections and {len(sessions)} known sessions, but no latch of theirs")
                return CHECK_S
            return SOON_S
        self.ends, self.checked = ends, now
        held = self.held
        if held is None or not self.holds() or not held.url or (held.session, held.node) != (own.owner, own.name):
            self.store(own)
        self.problem = ""
        return CHECK_S

    def in_line(self, latches: list[rules.Latch]) -> bool:
        """Tell whether the recorded node is still there."""
        held = self.held
        return held is not None and any(
            (latch.name, latch.owner, latch.czxid) == (held.node, held.session, held.czxid) for latch in latches
        )

    def store(self, own: rules.Latch) -> None:
        """Write the record. Raises OSError."""
        try:
            url = pages.read_master(self.config.page, timeout_s=1.0).url
        except pages.PageError:
            url = ""
        self.held = record.Record(
            pid=self.pid,
            start=self.start,
            boot=self.boot,
            session=own.owner,
            node=own.name,
            czxid=own.czxid,
            zookeeper=self.config.zookeeper,
            zookeeper_dir=self.config.zookeeper_dir,
            url=url,
            recorded_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        record.save(self.config.record, self.held)
        say("recorded", pid=self.pid, session=hex(own.owner), node=own.name)

    def report(self, problem: str) -> None:
        """Log a problem once, not with every look."""
        if problem != self.problem:
            self.problem = problem
            say("waiting", why=problem)


def sessions_of(ends: set[Ends]) -> set[int]:
    """Return the sessions of these connections. Raises zk.Unavailable.

    Each is looked for at the very server it goes to: where hosts reach their own server by loopback (127.0.1.1 in Debian's /etc/hosts),
    another host's master may have the same local address and port at another server, and its latch is not ours to delete.
    """
    listed = zk.clients(sorted({remote for _, remote in ends}))
    found = (rules.sessions_of([local for local, remote in ends if remote == server], clients) for server, clients in listed.items())
    return set().union(*found)


def main_pid(path: str) -> int:
    """Return the process that the unit noted as it started; 0 when there is none."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(32).strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0


def run(config: Config) -> None:
    """Look for ever."""
    keeper = Keeper(config)
    while True:
        try:
            delay = keeper.look()
        except Exception as error:
            keeper.report(f"{type(error).__name__}: {error}")
            keeper.disconnect()
            delay = IDLE_S
        time.sleep(delay)
