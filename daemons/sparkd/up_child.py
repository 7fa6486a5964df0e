"""Processes of `sparkd up`: each watched by a thread, started again when it dies by itself, and found by a mark when all must end.

The mark is a variable of the environment that everything of one cluster inherits, drivers too. Run as a program, this module is the guard:
it waits until the process that started it is gone, however it went, and ends what it left.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

#: Begins with SPARK_, so that a worker's processes inherit it.
MARK = "SPARK_LOCAL_CLUSTER"
#: From a death to the next start; doubled while deaths follow each other within STEADY_S, up to the last.
RESTART_DELAY_S = (0.3, 5.0)
STEADY_S = 10.0
MISCONFIGURED = 2


class Child:
    """One process that is kept running. on_death(child, exit code) is called from its thread before it is started again."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        directory: Path,
        environ: Mapping[str, str],
        told: Callable[[str], None],
        on_death: Callable[[Child, int], None] | None = None,
        on_start: Callable[[Child], None] | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.directory = directory
        self.log = directory / f"{name}.log"
        self.starts = 0
        self.short_lives = 0  # deaths in a row, each soon after a start
        self.refused = False  # it ended with exit code 2: it will not take its configuration, and is not started again
        self._environ = dict(environ)
        self._told = told
        self._on_death = on_death
        self._on_start = on_start
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: threading.Thread | None = None
        self._wanted = threading.Event()
        self._lock = threading.RLock()

    @property
    def pid(self) -> int:
        """PID of the running process; 0 when it does not run."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else 0

    @property
    def running(self) -> bool:
        """It is there (it may be paused)."""
        return self.pid != 0

    def start(self) -> None:
        """Start it, and keep it running; returns at once. Raises OSError."""
        with self._lock:
            if self._wanted.is_set():
                return
            self._wanted.set()
            self.refused = False
            try:
                self._spawn()
            except OSError:
                self._wanted.clear()
                raise
            self._watch = threading.Thread(target=self._watch_it, name=f"watch-{self.name}", daemon=True)
            self._watch.start()

    def _spawn(self) -> None:
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal is for us, and we end them in order.
            self._process = subprocess.Popen(
                self.command,
                cwd=self.directory,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.starts += 1
        if self._on_start:
            self._on_start(self)

    def _watch_it(self) -> None:
        delay, last = RESTART_DELAY_S
        pause = delay
        while True:
            process, began = self._process, time.monotonic()
            assert process is not None  # noqa: S101 for mypy
            code = process.wait()
            if self._on_death:
                self._on_death(self, code)
            with self._lock:
                if not self._wanted.is_set():
                    return
            if code == MISCONFIGURED:
                self.refused = True
                self._wanted.clear()
                return
            self._told(f"{self.name} ended ({_how(code)}); starting it again")
            steady = time.monotonic() - began > STEADY_S
            self.short_lives = 0 if steady else self.short_lives + 1
            pause = delay if steady else min(last, pause * 2)
            time.sleep(pause)
            with self._lock:
                if not self._wanted.is_set():
                    return
                try:
                    self._spawn()
                except OSError as error:
                    self._told(f"{self.name} cannot be started: {error}")
                    self._wanted.clear()
                    return

    def signal(self, number: int) -> None:
        """Send it a signal. Raises ProcessLookupError when it does not run."""
        with self._lock:
            if not self.pid:
                raise ProcessLookupError(f"{self.name} does not run")
            os.kill(self.pid, number)

    def kill(self, restart: bool = True) -> None:
        """SIGKILL it; `restart`: as if it had died by itself."""
        with self._lock:
            if not restart:
                self._wanted.clear()
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)
        if not restart:
            self.wait(10.0)

    def terminate(self) -> None:
        """SIGTERM it, once, not to be started again; returns at once."""
        with self._lock:
            self._wanted.clear()
            if self.pid:
                os.kill(self.pid, signal.SIGTERM)
                os.kill(self.pid, signal.SIGCONT)  # a paused one must see it

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is gone for good, its death's consequences included; False when it is not in time."""
        watch = self._watch
        if watch is None:
            return True
        watch.join(max(0.0, timeout_s))
        return not watch.is_alive()

    def stop(self, timeout_s: float = 15.0) -> bool:
        """SIGTERM, and SIGKILL after the time. True when it went by itself."""
        self.terminate()
        if self.wait(timeout_s):
            return True
        self.kill(restart=False)
        return False

    def tail(self, lines: int = 5) -> str:
        """Return the last lines of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def marked(mark: str) -> Iterator[int]:
    """Yield the PIDs of all processes that carry this mark, but the calling one."""
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)
        except OSError:
            continue  # gone, or not ours


def sweep(mark: str, limit_s: float = 5.0) -> int:
    """SIGKILL all that carries the mark until nothing does; return how many there were."""
    ended: set[int] = set()
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        found = list(marked(mark))
        if not found:
            break
        for pid in found:
            ended.add(pid)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)
    return len(ended)


def guard(mark: str) -> subprocess.Popen[bytes]:
    """Start the guard of a cluster: it ends everything marked when this process is gone. Close its stdin after your own sweep."""
    environ = {name: value for name, value in os.environ.items() if name != MARK}
    return subprocess.Popen(
        [sys.executable, "-m", __name__, mark],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


if __name__ == "__main__":
    sys.stdin.buffer.read()  # ends when nobody holds the other end
    sweep(sys.argv[1])
