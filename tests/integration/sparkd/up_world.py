"""For tests on whole clusters: a judge of leadership, work that leaves its traces outside of sparkd, and how it all gets back to rest."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from sparkd.up import LocalCluster, Master


@dataclass(frozen=True, slots=True)
class Word:
    """One master's own word. Times on the monotonic clock: asked and answered, in s."""

    master: str
    status: str
    epoch: int
    asked: float
    answered: float


class Judge:
    """Asks every master all the time. Two leaders: one that says ALIVE after another has said ALIVE with a higher epoch."""

    def __init__(self, cluster: LocalCluster, every_s: float = 0.03) -> None:
        self.words: list[Word] = []
        self._cluster = cluster
        self._every_s = every_s
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(master,), daemon=True) for master in cluster.ports.masters]

    def _ask(self, master: Master) -> None:
        while not self._stop.wait(self._every_s):
            asked = time.monotonic()
            answer = self._cluster.ask(master, "/sparkd/v1/leader", 20.0)  # a paused one answers when it is woken
            if answer is None or not isinstance(answer.body, dict):
                continue
            epoch = (answer.body.get("epoch") or {}).get("number", 0)
            self.words.append(Word(master.name, str(answer.body.get("status")), int(epoch), asked, time.monotonic()))

    def __enter__(self) -> Judge:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(25)

    def leaders(self) -> list[tuple[str, int]]:
        """Return who said ALIVE with which epoch, in order of epochs."""
        return sorted({(word.master, word.epoch) for word in self.words if word.status == "ALIVE"}, key=lambda item: item[1])

    def two_leaders(self) -> list[tuple[Word, Word]]:
        """Return pairs that prove two leaders: the second was asked after the first had answered, and is of a lower epoch."""
        alive = [word for word in self.words if word.status == "ALIVE"]
        return [(one, other) for one in alive for other in alive if other.epoch < one.epoch and other.asked > one.answered]

    def first_words(self, master: str, after: float) -> list[str]:
        """Return what a master said from a moment on."""
        return [
            word.status for word in sorted(self.words, key=lambda word: word.answered) if word.master == master and word.answered > after
        ]


class Traces:
    """A file that commands append to: `start NAME PID` and `end NAME PID`, whatever sparkd believes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def command(self, name: str, body: str = "true") -> list[str]:
        """Return a command that leaves its traces around `body`."""
        return ["/bin/sh", "-c", f'echo "start {name} $$" >> {self.path}; {body}; echo "end {name} $$" >> {self.path}']

    def lines(self) -> list[list[str]]:
        """Return all of them, in order."""
        return [line.split() for line in self.path.read_text().splitlines()]

    def starts(self, name: str = "") -> list[str]:
        """Return the names that were started, in order; those of one name only."""
        return [line[1] for line in self.lines() if line[0] == "start" and name in ("", line[1])]

    def ends(self, name: str = "") -> list[str]:
        """Return the names that ended by themselves."""
        return [line[1] for line in self.lines() if line[0] == "end" and name in ("", line[1])]

    def pids(self, name: str) -> list[int]:
        """Return the PIDs of all runs."""
        return [int(line[2]) for line in self.lines() if line[0] == "start" and line[1] == name]


def lives(pid: int) -> bool:
    """It runs, and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def until(what: Callable[[], object], timeout_s: float = 30.0, why: str = "it does not come") -> Any:
    """Wait until it returns something true; return that."""
    end = time.monotonic() + timeout_s
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < end, why
        time.sleep(0.03)


@contextmanager
def at_rest(cluster: LocalCluster) -> Iterator[None]:
    """Begin and end with everything running, a leader, all workers, no work."""
    rest(cluster)
    try:
        yield
    finally:
        rest(cluster)


def rest(cluster: LocalCluster) -> None:
    """Start what is down, wake what is paused, end all work."""
    import signal

    for child in cluster.children.values():
        child.start()
    for child in cluster.children.values():
        if child.running:
            child.signal(signal.SIGCONT)
    if cluster.zookeeper:
        cluster.wait_quorum(60)
    cluster.wait_alive(60)
    until(lambda: set(cluster.statuses().values()) <= {"ALIVE", "STANDBY"}, 30)
    client = cluster.client()
    busy = [row["id"] for row in client.drivers() if row["state"] not in ("FINISHED", "FAILED", "KILLED", "ERROR")]
    for driver in busy:
        client.kill(driver)
    for driver in busy:
        cluster.wait_driver(driver, "FINISHED", "FAILED", "KILLED", "ERROR", timeout_s=30)


def pids(cluster: LocalCluster, kind: str) -> dict[str, int]:
    """Return name -> PID of all processes of a kind."""
    return {name: child.pid for name, child in cluster.children.items() if name.startswith(kind)}


def in_ci() -> bool:
    """Everything must be at hand there."""
    return os.environ.get("CI") == "true"
