"""The record: whose latch session the local master holds, written while it lives and read when it is dead."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from .rules import LATCH

SIZE_LIMIT = 64 * 1024


@dataclass(frozen=True)
class Record:
    """One process's latch. Sessions and zxids are signed 64-bit numbers, as kazoo has them."""

    pid: int
    start: int  # clock ticks since boot: with the boot id it makes the pid unique
    boot: str
    session: int
    node: str  # name of the latch node
    czxid: int
    zookeeper: str  # the ensemble and directory in which this holds, whatever the configuration says by now
    zookeeper_dir: str
    url: str
    recorded_at: str


def parse(raw: bytes) -> Record:
    """Return the record; raise ValueError for anything else than what dump wrote."""
    try:
        value = json.loads(raw)
    except RecursionError:
        raise ValueError("not a record") from None
    if not isinstance(value, dict):
        raise ValueError("not a record")
    known = {field.name: field.type for field in fields(Record)}
    if set(value) != set(known):
        raise ValueError("not a record of this version")
    for name, kind in known.items():
        given = value[name]
        if (kind == "int" and (isinstance(given, bool) or not isinstance(given, int))) or (kind == "str" and not isinstance(given, str)):
            raise ValueError(f"{name}={given!r} is of another kind")
    record = Record(**value)
    if record.pid < 2 or not record.session or not LATCH.fullmatch(record.node):
        raise ValueError("a record of nothing")
    return record


def dump(record: Record) -> bytes:
    """Return the record as it is stored."""
    return json.dumps(asdict(record), indent=1).encode() + b"\n"


def load(path: str) -> Record | None:
    """Return the stored record; None when there is none or it is damaged: then nothing is fenced, the session expires."""
    try:
        with Path(path).open("rb") as file:
            return parse(file.read(SIZE_LIMIT))
    except (OSError, ValueError):
        return None


def save(path: str, record: Record) -> None:
    """Store the record atomically, readable by user and group. Raises OSError."""
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".master-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(dump(record))
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o640)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
