"""Files that survive a crash: atomic replacement, locks, and a thread for what may block (a disk, NFS)."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace(path: Path, raw: bytes, *, durable: bool = True, directory_too: bool = True) -> None:
    """Replace a file as a whole; readable by user and group. Raises OSError, and the old content is then still there."""
    temporary = path.with_name(f".{path.name}.new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable and directory_too:
        sync_directory(path.parent)


def read(path: Path, limit: int) -> bytes | None:
    """Return a file's bytes, at most `limit` + 1 of them; None when there is none. Raises OSError."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except FileNotFoundError:
        return None


class Lock:
    """An exclusive lock on a file, held until it is let go or the process ends.

    An open file description lock (fcntl(2), F_OFD_SETLK): byte-range as lockf's, so it works over NFS, but not lost when another descriptor
    of the same file is closed, and exclusive between two holders in one process too.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handle = -1

    def acquire(self) -> bool:
        """Try once; False: somebody else holds it. Raises OSError (ENOLCK: the file system has no locks)."""
        if self.handle >= 0:
            return True
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            fcntl.fcntl(handle, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: fcntl(2)
            os.close(handle)
            return False
        except BaseException:
            os.close(handle)
            raise
        self.handle = handle
        return True

    def holds(self) -> bool:
        """Tell whether the locked file is still the one under its name: somebody may have removed the directory. Raises OSError."""
        if self.handle < 0:
            return False
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        mine = os.fstat(self.handle)
        return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)

    def release(self) -> None:
        """Let go."""
        handle, self.handle = self.handle, -1
        if handle >= 0:
            os.close(handle)


class Worker:
    """One daemon thread that runs functions in order: a hung disk holds neither the event loop nor the end of the process."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.AbstractEventLoop, asyncio.Future[Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    async def run(self, function: Callable[[], T]) -> T:
        """Run it on the thread and return what it returns. A cancelled caller does not stop it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put((function, loop, future))
        return await future

    def end(self) -> None:
        """Let the thread end after what it has got."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, loop, future = job
            value: Any = None
            error: BaseException | None = None
            try:
                value = function()
            except Exception as raised:
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_settle, future, value, error)


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
