"""Keeps one process for a worker that may die, be restarted or be upgraded meanwhile. Run as `python -I -S keeper.py SPEC`.

Standard library only, imports nothing of the package, one thread. It detaches itself (double fork, own session), starts the command of
SPEC in a session and directory of its own, copies the output into rotated files, and writes into the control directory (SPEC's own):

  lock          held (flock) as long as the keeper lives
  started.json  {pid, start, boot_id, keeper_pid, keeper_start, started_ms}: durable BEFORE the command may run. start: field 22 of
                /proc/PID/stat. Without this file the command never ran, and never will once exit.json is there
  exit.json     {exit_code | signal, killed, error, message, started_ms, ended_ms}: durable, exactly once. Its room is reserved before
                the start, so that a full disk cannot lose it

SIGTERM ends the command and all that it started: TERM, after `terminate_timeout_s` KILL. What a command leaves running when it ends by
itself is ended too (it is the keeper's: PR_SET_CHILD_SUBREAPER), so nothing goes on unaccounted. If the keeper dies, the kernel kills
the command (PR_SET_PDEATHSIG), and the worker ends the rest.
"""

# Plain os and try: pathlib and contextlib would cost every process 2 MB.
# ruff: noqa: PTH100, PTH103, PTH104, PTH108, PTH110, PTH118, PTH120, PTH123, PTH208, SIM105

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import sys
import time
from typing import Any

Spec = dict[str, Any]  # as keeping.py writes it

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
CHUNK = 64 * 1024  # bytes, a pipe's capacity
LEFTOVER_S = 2.0  # what a command left behind gets from TERM to KILL, at most
UNKILLABLE_S = 5.0  # after KILL; what is left then sits in the kernel, and is named in the message
RESERVED = 4096  # bytes, one block
NOTICE = b"\n[sparkd: output was lost here, the file could not be written: %s]\n"


class Log:
    """A file of bounded size: FILE, older parts FILE.1 (newest) to FILE.keep. What cannot be written is dropped, never waited for."""

    def __init__(self, path: str, limit: int, keep: int) -> None:
        """Open for appending. Raises OSError."""
        self.path, self.limit, self.keep = path, max(limit, 1), keep
        self.lost = ""
        self.fd = -1
        self._open()

    def _open(self) -> None:
        # O_NOFOLLOW: the directory is the command's own, it could put a link there.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
        self.fd = os.open(self.path, flags, 0o644)
        self.size = os.fstat(self.fd).st_size

    def _rotate(self) -> None:
        os.close(self.fd)
        self.fd = -1
        for number in range(self.keep, 0, -1):
            older = self.path if number == 1 else f"{self.path}.{number - 1}"
            try:
                os.rename(older, f"{self.path}.{number}")
            except FileNotFoundError:
                pass
        if self.keep <= 0:
            os.unlink(self.path)
        self._open()

    def write(self, data: bytes) -> None:
        """Append. Never raises."""
        try:
            if self.fd < 0:
                self._open()
            if self.lost:
                data = NOTICE % self.lost.encode() + data
            while data:
                if self.size >= self.limit:
                    self._rotate()
                done = os.write(self.fd, data[: max(1, self.limit - self.size)])
                self.size += done
                data = data[done:]
            self.lost = ""
        except OSError as error:
            self.lost = error.strerror or "error"


class Keeper:
    """The loop. States: runs; ends (TERM sent, KILL at `deadline`)."""

    def __init__(self, spec: Spec, control: str) -> None:
        """Remember what to run."""
        self.spec, self.control = spec, control
        self.status: int | None = None  # the command's wait status
        self.asked = False  # SIGTERM came while the command still ran
        self.deadline: float | None = None
        self.kills = 0
        self.durable = False  # started.json is
        self.pid = 0
        self.logs: dict[int, Log] = {}

    def start(self) -> str:
        """Start the command; return an error text or "". After started.json is durable and not before."""
        spec = self.spec
        self.started_ms = int(time.time() * 1000)
        try:
            os.makedirs(spec["directory"], exist_ok=True)
            logs = [Log(spec[name], spec["log_max_bytes"], spec["log_keep"]) for name in ("stdout", "stderr")]
            self.reserve()
        except OSError as error:
            return f"cannot write {error.filename or self.control}: {error.strerror}"
        pipes = [os.pipe(), os.pipe()]
        go_read, go_write = os.pipe()
        failed_read, failed_write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(go_write)
            run(spec, pipes[0][1], pipes[1][1], go_read, failed_write)
        for (reader, writer), log in zip(pipes, logs, strict=True):
            os.close(writer)
            os.set_blocking(reader, False)
            self.logs[reader] = log
        os.close(go_read)
        os.close(failed_write)
        try:
            started = {
                "pid": self.pid,
                "start": start_time(self.pid),
                "boot_id": boot_id(),
                "keeper_pid": os.getpid(),
                "keeper_start": start_time(os.getpid()),
                "started_ms": self.started_ms,
            }
            write_json(self.control, "started.json", started)
            self.durable = True
        except OSError as error:
            os.close(go_write)  # the child reads the end of the file, and never runs the command
            os.waitpid(self.pid, 0)
            return f"cannot write {self.control}/started.json: {error.strerror}"
        os.write(go_write, b"g")
        os.close(go_write)
        why = os.read(failed_read, 1000).decode(errors="replace")  # the end of the file at a successful exec
        os.close(failed_read)
        if why:
            os.waitpid(self.pid, 0)
        return why

    def reserve(self) -> None:
        """Take the room of exit.json. Raises OSError."""
        fd = os.open(os.path.join(self.control, "exit.tmp"), os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.posix_fallocate(fd, 0, RESERVED)
            os.fsync(fd)
        finally:
            os.close(fd)

    def loop(self, wakeup: int) -> None:
        """Copy and reap until the command and all that it started are gone."""
        poll = select.poll()
        poll.register(wakeup, select.POLLIN)
        for reader in self.logs:
            poll.register(reader, select.POLLIN)
        while True:
            self.reap()
            if self.status is not None:
                if not descendants():
                    break
                if self.deadline is None:  # it ended by itself and left something behind
                    self.end(min(LEFTOVER_S, self.spec["terminate_timeout_s"]))
            if self.deadline is not None and time.monotonic() >= self.deadline:
                if self.kills * 0.1 > UNKILLABLE_S:
                    break
                self.signal_all(signal.SIGKILL)
                self.kills += 1
                self.deadline = time.monotonic() + 0.1
            wait = None if self.deadline is None else max(0.0, self.deadline - time.monotonic()) * 1000 + 1
            for fd, _ in poll.poll(wait):
                if fd == wakeup:
                    if signal.SIGTERM in os.read(wakeup, 1024) and not self.asked and self.status is None:
                        self.reap()
                        if self.status is None:
                            self.asked = True
                            self.end(self.spec["terminate_timeout_s"])
                elif not self.copy(fd):
                    poll.unregister(fd)
        for reader in list(self.logs):
            while self.copy(reader):
                pass

    def copy(self, reader: int) -> bool:
        """Copy what is there; return False at the end of the file, or if nothing is there."""
        try:
            data = os.read(reader, CHUNK)
        except BlockingIOError:
            return False
        if data:
            self.logs[reader].write(data)
        return bool(data)

    def reap(self) -> None:
        """Reap what ended, grandchildren among it."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                self.status = status

    def end(self, patience_s: float) -> None:
        """TERM now, KILL later. A process that is stopped has to go on to take the TERM."""
        self.signal_all(signal.SIGTERM)
        self.signal_all(signal.SIGCONT)
        self.deadline = time.monotonic() + patience_s

    def signal_all(self, number: int) -> None:
        """Signal the command's group, and whatever has left it."""
        if self.status is None:
            try:
                os.killpg(self.pid, number)
            except OSError:
                pass
        for pid, group in descendants():
            # The group got it already, as long as its leader is not reaped.
            if self.status is not None or group != self.pid:
                try:
                    os.kill(pid, number)
                except OSError:
                    pass

    def finish(self, error: str = "") -> None:
        """Write exit.json, whatever it takes: a disk that is full or read-only is waited for, unless the command never was."""
        result: dict[str, object] = {
            "started_ms": self.started_ms,
            "ended_ms": int(time.time() * 1000),
            "killed": self.asked,
            "error": error,
        }
        if not error and self.status is not None:
            code = os.waitstatus_to_exitcode(self.status)
            result["signal" if code < 0 else "exit_code"] = abs(code)
        left = descendants()
        if left:
            result["message"] = f"left behind, SIGKILL had no effect: {[pid for pid, _ in left[:20]]}"
        while True:
            try:
                write_json(self.control, "exit.json", result, "exit.tmp")
                return
            except FileNotFoundError:
                return  # the control directory was removed: nobody asks any more
            except OSError:
                if not self.durable:
                    return
                time.sleep(1.0)


def run(spec: Spec, out: int, err: int, go: int, failed: int) -> None:
    """Become the command (in the child); never returns."""
    try:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # A keeper that died before this line closed its end: then nothing is read.
        if os.read(go, 1) != b"g":
            os._exit(127)
        for number in range(1, signal.NSIG):
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):
                pass
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        signal.set_wakeup_fd(-1)
        lift_oom_score()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.chdir(spec["directory"])
        os.execvpe(spec["argv"][0], spec["argv"], spec["environment"])  # noqa: S606 there is no shell in it
    except OSError as error:
        os.write(failed, f"cannot run {spec['argv'][0]}: {error.strerror}".encode(errors="replace")[:900])
    except BaseException as error:
        os.write(failed, f"cannot run the command: {type(error).__name__}".encode())
    os._exit(127)


def lift_oom_score() -> None:
    """Undo a protection that the worker's unit has: the command must not be harder to kill than the rest of the host."""
    try:
        with open("/proc/self/oom_score_adj", "r+", encoding="ascii") as file:
            if int(file.read()) < 0:
                file.seek(0)
                file.write("0")
    except (OSError, ValueError):
        pass


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process; a kernel that does not know it is no reason not to run."""
    ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on (field 3). Raises OSError."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def start_time(pid: int) -> int:
    """Return when the process started, in clock ticks since boot. Raises OSError."""
    return int(stat_fields(pid)[19])


def boot_id() -> str:
    """Return this boot's id. Raises OSError."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def descendants() -> list[tuple[int, int]]:
    """Return pid and process group of all that descends from here and is not a zombie."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            if not file.read().strip():
                return []  # orphans come to the keeper: no children, no descendants
    except OSError:
        pass  # a kernel without CONFIG_PROC_CHILDREN
    parents: dict[int, list[tuple[int, int, str]]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = stat_fields(int(name))
                parents.setdefault(int(fields[1]), []).append((int(name), int(fields[2]), fields[0]))
            except (OSError, IndexError, ValueError):
                continue
    found, queue = [], [os.getpid()]
    while queue:
        for pid, group, state in parents.get(queue.pop(), ()):
            queue.append(pid)
            if state not in "ZX":
                found.append((pid, group))
    return found


def write_json(directory: str, name: str, value: object, temporary: str = "") -> None:
    """Write a file atomically and durably. A temporary file that exists is overwritten in place (its room is reserved). Raises OSError."""
    temporary = os.path.join(directory, temporary or name + ".tmp")
    data = json.dumps(value).encode()
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.ftruncate(fd, len(data))
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, os.path.join(directory, name))
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def take_lock(control: str) -> bool:
    """Take the lock for the rest of this process's life; False if somebody has it. Raises OSError."""
    fd = os.open(os.path.join(control, "lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def keep(path: str) -> str:
    """Run SPEC from start to end; stdout tells the worker when it started. Return why not, or ""."""
    control = os.path.dirname(path)
    with open(path, encoding="utf-8") as file:
        spec = json.load(file)
    if (
        not take_lock(control)
        or os.path.exists(os.path.join(control, "started.json"))
        or os.path.exists(os.path.join(control, "exit.json"))
    ):
        return "this run was started or given up before"
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    wakeup, wakeup_write = os.pipe()
    os.set_blocking(wakeup, False)
    os.set_blocking(wakeup_write, False)
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    keeper = Keeper(spec, control)
    why = keeper.start()
    null = os.open(os.devnull, os.O_RDWR)
    if not why:
        os.write(1, b"started\n")
        os.dup2(null, 1)
        keeper.loop(wakeup)
    keeper.finish(why)
    return why


def main() -> None:
    """Detach, then keep."""
    path = os.path.abspath(sys.argv[1])
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.umask(0o022)
    try:
        why = keep(path)
    except OSError as error:
        why = f"{error.filename or path}: {error.strerror}"
    except (ValueError, KeyError, TypeError) as error:
        why = f"bad specification: {error!r}"
    if why:
        try:
            os.write(1, why.encode(errors="replace"))
        except OSError:
            pass


if __name__ == "__main__":
    main()
