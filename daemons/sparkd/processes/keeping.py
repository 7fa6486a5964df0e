"""The worker's side of keepers: start one, find one again, watch it, end it, and what to make of one that died.

Whether a run ever started is never a guess. Its keeper holds `lock` for as long as it lives, and lets the command run only after
started.json is durable:
  exit.json there           it ended, and how
  lock held                 its keeper lives: adopt it
  lock free, started.json   it ran and its keeper died (or the host was restarted): LOST, what is left of it is ended
  lock free, nothing        it never ran, and exit.json {"error": NEVER} is put there under the lock, so that it never will: a keeper that
                            was on its way sees it. The same attempt may then be started in a new control directory
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.values import Json
from . import keeper
from .files import read_json, write_private
from .supervise import Exit

log = logging.getLogger(__name__)

NEVER = "never started"
#: What the system is short of now and may have later.
SHORTAGE = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR))
START_S = 30.0  # until a keeper has said that it started
POLL_S = 0.1  # where the kernel has no pidfd
LOOK_S = 0.02  # between two looks at a keeper that is starting
RETRY_S = 1.0  # until a run is looked at again when the system could not do it


@dataclass(frozen=True, slots=True)
class Order:
    """What a keeper is to run."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    log_max_bytes: int
    log_keep: int
    terminate_timeout_s: float


@dataclass(frozen=True, slots=True)
class Started:
    """started.json."""

    pid: int
    start: int
    boot_id: str
    keeper_pid: int
    keeper_start: int
    started_ms: int


class Run:
    """One run of one process, in its control directory."""

    def __init__(self, control: Path) -> None:
        """Nothing is read yet: see `start` and `find`."""
        self.control = control
        self.started: Started | None = None
        self._pidfd = -1

    async def start(self, order: Order) -> str:
        """Start it; return "" or why it could not be started (an exit is there then). Raises OSError if nothing could be written."""
        spec: Json = {
            "argv": list(order.argv),
            "environment": dict(order.environment),
            "directory": str(order.directory),
            "stdout": str(order.directory / "stdout"),
            "stderr": str(order.directory / "stderr"),
            "log_max_bytes": order.log_max_bytes,
            "log_keep": order.log_keep,
            "terminate_timeout_s": order.terminate_timeout_s,
        }
        said = await asyncio.to_thread(_spawn, self.control, spec)
        return "" if said == "started" else said or "the keeper said nothing"

    async def find(self) -> Exit | None:
        """Return how it ended, or None: it runs and can be watched now. A keeper that is only starting is waited for."""
        until = time.monotonic() + START_S
        while True:
            pause = LOOK_S
            try:
                ended = self._exit()
                if ended is None and await asyncio.to_thread(self._lock_is_free):
                    # Under the lock nothing changes any more: look again, it may have ended just now.
                    ended = self._exit() or await asyncio.to_thread(self._bury)
                if ended is not None:
                    return ended
                self.started = self._read_started()
                if self.started is not None and self._open():
                    return None
            except OSError as error:  # no more files, a full disk: that says nothing about the process
                log.warning("event=run_not_looked_at control=%s why=%s", self.control, error.strerror)
                pause = RETRY_S
            if time.monotonic() > until:
                log.warning("event=keeper_slow control=%s", self.control)
                until += START_S
            await asyncio.sleep(pause)

    async def wait(self) -> Exit:
        """Wait until it has ended; return how."""
        while True:
            await self._gone()
            # The keeper is gone, but another look at the lock decides, not the pid.
            ended = await self.find()
            if ended is not None:
                return ended

    def terminate(self) -> None:
        """Ask the keeper to end it."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End a keeper that does not react; the kernel ends the command, `wait` the rest of it."""
        self._signal(signal.SIGKILL)

    def close(self) -> None:
        """Watch no longer; it goes on."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, number)
            elif self.started is not None and self._alive(self.started):
                os.kill(self.started.keeper_pid, number)

    def _alive(self, started: Started) -> bool:
        try:
            fields = keeper.stat_fields(started.keeper_pid)
        except OSError:
            return False
        return int(fields[19]) == started.keeper_start and fields[0] not in "ZX"

    def _open(self) -> bool:
        """Get hold of the keeper, so that its pid cannot become somebody else's. False if it is gone."""
        assert self.started is not None  # noqa: S101 for the type checker
        self.close()
        try:
            self._pidfd = os.pidfd_open(self.started.keeper_pid)
        except ProcessLookupError:
            return False
        except OSError:  # no pidfd in this kernel: `_gone` polls
            self._pidfd = -1
        if self._alive(self.started):
            return True
        self.close()
        return False

    async def _gone(self) -> None:
        loop = asyncio.get_running_loop()
        if self._pidfd >= 0:
            future: asyncio.Future[None] = loop.create_future()
            fd = self._pidfd
            loop.add_reader(fd, _done, future)
            try:
                await future
            finally:
                loop.remove_reader(fd)
        else:
            while self.started is not None and self._alive(self.started):
                await asyncio.sleep(POLL_S)
        self.close()

    def _lock_is_free(self) -> bool:
        try:
            fd = os.open(self.control / "lock", os.O_RDWR)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(fd)
        return True

    def _bury(self) -> Exit | None:
        """Find out what became of a run whose keeper is gone without a word; make sure that nothing of it runs, or ever will.

        None: look again. Raises OSError: what is not written down may not be told, a keeper that is late would start it yet.
        """
        self.control.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self.control / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # a keeper came just now; it starts
                return None
            ended = self._exit()
            if ended is not None:
                return ended
            started = self._read_started()
            now_ms = int(time.time() * 1000)
            if started is None:
                result = {"error": NEVER, "ended_ms": now_ms}
                keeper.write_json(str(self.control), "exit.json", result, "exit.tmp")
                return _as_exit(result)
            result = {"lost": end_orphans(started), "started_ms": started.started_ms, "ended_ms": now_ms}
            with contextlib.suppress(OSError):  # a full disk: started.json says enough, it is found out again the next time
                keeper.write_json(str(self.control), "exit.json", result, "exit.tmp")
            return _as_exit(result)
        finally:
            os.close(fd)

    def _read_started(self) -> Started | None:
        """Return what the keeper wrote, None if it has written nothing. Raises OSError: not to know is not the same."""
        try:
            body = read_json(self.control / "started.json")
            return Started(**{name: body[name] for name in Started.__slots__})
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):  # written atomically: this is a damaged disk. It may have run
            return Started(-1, 0, keeper.boot_id(), -1, 0, 0)  # -1: nobody's pid, nobody's session

    def _exit(self) -> Exit | None:
        try:
            return _as_exit(read_json(self.control / "exit.json"))
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in SHORTAGE:
                raise
            return Exit(lost=f"{self.control / 'exit.json'} cannot be read: {error.strerror}", ended_ms=int(time.time() * 1000))
        except (ValueError, TypeError, AttributeError) as error:
            return Exit(lost=f"{self.control / 'exit.json'} cannot be read: {type(error).__name__}", ended_ms=int(time.time() * 1000))


def _as_exit(body: Json) -> Exit:
    code = body.get("exit_code")
    if code is None and body.get("signal") is not None:
        code = -int(body["signal"])
    return Exit(
        code=code,
        killed=bool(body.get("killed")),
        error=str(body.get("error") or ""),
        lost=str(body.get("lost") or ""),
        message=str(body.get("message") or ""),
        started_ms=int(body.get("started_ms") or 0),
        ended_ms=int(body.get("ended_ms") or 0),
    )


def _spawn(control: Path, spec: Json) -> str:
    """Start a keeper and return what it says; "started" is good. Raises OSError."""
    write_private(control / "spec.json", spec)
    with subprocess.Popen(
        [sys.executable, "-I", "-S", keeper.__file__, str(control / "spec.json")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={"LC_ALL": "C.UTF-8"},
        start_new_session=True,
    ) as process:
        assert process.stdout is not None  # noqa: S101 for the type checker
        return process.stdout.read(4096).decode(errors="replace").strip()


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def end_orphans(started: Started) -> str:
    """KILL what is left of a run whose keeper died; return in words what became of it."""
    if started.boot_id != keeper.boot_id():
        return "the host was restarted while it ran"
    count = 0
    for _ in range(50):
        left = _session(started)
        if not left:
            break
        count = max(count, len(left))
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    ended = f"; {count} of its processes were left and were ended" if count else ""
    return f"its keeper (pid {started.keeper_pid}) was killed, so how it ended is not known{ended}"


def _session(started: Started) -> list[int]:
    """Return the living processes of the run's session: its id is the command's pid, and the kernel reuses no pid that is a session's."""
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208 names are all that is wanted
        if not entry.isdigit():
            continue
        try:
            fields = keeper.stat_fields(int(entry))
        except OSError:
            continue
        if int(fields[3]) != started.pid or fields[0] in "ZX" or int(fields[19]) < started.start:
            continue
        if int(entry) == started.pid and int(fields[19]) != started.start:
            return []  # somebody else's session: ours had ended, and its number was free again
        found.append(int(entry))
    return found


def write_files(directory: Path, files: Mapping[str, str]) -> None:
    """Write private text files. Raises OSError."""
    for name, text in files.items():
        fd = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)


def forget_secrets(attempt: Path) -> None:
    """Remove what only a start needs, secrets among it."""
    for path in (attempt / "launch.json", attempt / "java.options", attempt / "spark.properties", *attempt.glob("*/spec.json")):
        with contextlib.suppress(OSError):
            path.unlink()
