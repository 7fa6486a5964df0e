"""The project's block in a file whose other lines belong to somebody else. Pure."""

from __future__ import annotations

from collections.abc import Sequence

BEGIN = "# BEGIN spark-ha"
END = "# END spark-ha"


def split(text: str) -> tuple[list[str], list[str]]:
    """Return the lines outside and inside the block. What follows a beginning without an end is somebody's: it stays outside."""
    outside: list[str] = []
    block: list[str] = []
    pending: list[str] | None = None
    for line in text.splitlines():
        mark = line.strip()
        if mark == BEGIN:
            outside += pending or []
            pending = []
        elif mark == END:
            block += pending or []
            pending = None
        elif pending is None:
            outside.append(line)
        else:
            pending.append(line)
    return outside + (pending or []), block


def join(outside: Sequence[str], block: Sequence[str]) -> str:
    """Return the file's text, the block last; empty when there is nothing in it."""
    lines = [*outside, *([BEGIN, *block, END] if block else [])]
    return "\n".join(lines) + "\n" if lines else ""
