"""Many workers in one process, over the real control protocol and the real Links: players.py SECRET_FILE COUNT CORES MASTER_PORT...

Each is connected to all masters, registers with who leads, "starts" drivers by saying that they run, and keeps its journal until it is
acknowledged. Reads commands from stdin, one a line, and answers each with one line of JSON:
    status    how many were accepted, by epoch, and how many drivers run
    end N     N running drivers end with FINISHED
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import sys
import time
from collections import Counter
from pathlib import Path

from sparkd.core.values import Epoch, ProcessRef, ProcessReport, WorkerInfo
from sparkd.rpc import messages as wire
from sparkd.worker_links import Link, Links, judge

HEARTBEAT_S = 15.0


class Player:
    """One worker without processes."""

    def __init__(self, number: int, cores: int, masters: tuple[tuple[str, int], ...], secret: bytes) -> None:
        host = f"10.0.{number // 250}.{number % 250}"
        self.info = WorkerInfo(f"worker-20260101000000-{host}-7078", host, 7078, cores, 65536)
        self.epoch: Epoch | None = None
        self.accepted: Epoch | None = None
        self.leader: Link | None = None
        self.running: dict[ProcessRef, ProcessReport] = {}
        self.journal: dict[int, ProcessReport] = {}
        self.seq = 0
        self.links = Links(masters, secret, self.take, self.lost)
        self.links.name = self.info.id
        self.links.start()

    async def take(self, link: Link, message: wire.Message) -> None:
        """What a worker does, without processes."""
        match message:
            case wire.Leading(epoch):
                if judge(self.epoch, epoch) == "obey":
                    self.epoch, self.leader = epoch, link
                    link.send(wire.Register(self.info, epoch, (*self.running.values(), *self.journal.values())))
            case wire.Accepted(epoch):
                self.accepted, self.links.urgent = epoch, False
            case wire.LaunchDriver(_, ref, description):
                self.tell(ProcessReport(ref, "RUNNING", description.cores, description.memory_mb, self.next()))
            case wire.End(_, ref):
                known = self.running.get(ref)
                self.tell(ProcessReport(ref, "KILLED", *((known.cores, known.memory_mb) if known else (1, 1)), self.next()))
            case wire.Ack(_, seq):
                for told in [told for told in self.journal if told <= seq]:
                    del self.journal[told]

    def next(self) -> int:
        """The number of a journal entry."""
        self.seq += 1
        return self.seq

    def tell(self, report: ProcessReport) -> None:
        """Write a journal entry and send it."""
        if report.state == "RUNNING":
            self.running[report.ref] = ProcessReport(report.ref, report.state, report.cores, report.memory_mb)
        else:
            self.running.pop(report.ref, None)
        self.journal[report.seq] = report
        if self.leader is not None:
            self.leader.send(wire.Journal((report,)))

    def lost(self, link: Link) -> None:
        """A connection is gone."""
        if link is self.leader:
            self.leader = None
            self.links.hurry()


async def heartbeats(players: list[Player]) -> None:
    """Every so often, spread over the time."""
    while True:
        for player in players:
            if player.leader is not None:
                player.leader.send(wire.Heartbeat())
            await asyncio.sleep(HEARTBEAT_S / len(players))


def answer(players: list[Player], command: list[str]) -> dict[str, object]:
    """Carry out a command."""
    ended = 0
    if command[0] == "end":
        for player in players:
            known = next(iter(player.running.values()), None)
            if ended < int(command[1]) and known is not None:
                player.tell(ProcessReport(known.ref, "FINISHED", known.cores, known.memory_mb, player.next(), exit_code=0))
                ended += 1
    accepted = Counter(player.accepted.number for player in players if player.accepted is not None)
    links = sum(link.connection is not None for player in players for link in player.links.links)
    return {
        "accepted": dict(accepted),
        "newest": accepted[max(accepted)] if accepted else 0,
        "links": links,
        "running": sum(len(player.running) for player in players),
        "unacknowledged": sum(len(player.journal) for player in players),
        "ended": ended,
        "cpu_s": time.process_time(),
    }


async def main() -> None:
    """Play until stdin ends."""
    logging.disable(logging.WARNING)  # a line per connection and worker
    secret, count, cores = Path(sys.argv[1]).read_text().strip().encode(), int(sys.argv[2]), int(sys.argv[3])
    masters = tuple(("127.0.0.1", int(port)) for port in sys.argv[4:])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    players = [Player(number, cores, masters, secret) for number in range(count)]
    beating = asyncio.create_task(heartbeats(players))
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        print(json.dumps(answer(players, line.decode().split())), flush=True)
    beating.cancel()


if __name__ == "__main__":
    asyncio.run(main())
