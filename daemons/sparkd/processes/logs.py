"""Reading stdout and stderr of a process for a page. The directory is the process's own: nothing in it is trusted."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..http.faces import LogSlice

NAMES = ("stdout", "stderr")
LENGTH_LIMIT = 1024 * 1024  # bytes at a time


def read_log(directory: Path, name: str, keep: int, offset: int | None, length: int) -> LogSlice:
    """Return a part of a log and its older parts, seen as one; offset None: the end of it.

    When the oldest part is dropped all offsets move: they count from what is there. Raises ValueError for a bad name or number,
    FileNotFoundError if there is no such log, OSError.
    """
    if name not in NAMES:
        raise ValueError(f"there is no log {name[:40]!r}, only {' and '.join(NAMES)}")
    if length < 0 or (offset is not None and offset < 0):
        raise ValueError("offset and length cannot be negative")
    length = min(length, LENGTH_LIMIT)
    parts: list[tuple[int, int]] = []  # fd, size; oldest first
    try:
        for number in range(max(0, keep), -1, -1):
            opened = _open(directory / (f"{name}.{number}" if number else name))
            if opened is not None:
                parts.append(opened)
        if not parts:
            raise FileNotFoundError(f"no {name} there")
        total = sum(size for _, size in parts)
        begin = max(0, total - length) if offset is None else min(offset, total)
        end = min(begin + length, total)
        text, position = bytearray(), 0
        for fd, size in parts:
            first, last = max(begin, position) - position, min(end, position + size) - position
            if first < last:
                text += os.pread(fd, last - first, first)
            position += size
        return LogSlice(bytes(text), begin, begin + len(text), total)
    finally:
        for fd, _ in parts:
            os.close(fd)


def _open(path: Path) -> tuple[int, int] | None:
    """Open a plain file, never a link or a device."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise FileNotFoundError(f"{path.name} is not a file")
    return fd, status.st_size
