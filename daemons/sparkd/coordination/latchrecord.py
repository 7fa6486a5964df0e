"""The latch record: which session and latch the live master on this host holds, for `fence` to read when it is dead.

Imports little: `python -m sparkd.fence` starts with every death of a master.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

LIMIT = 16 * 1024


class BadRecord(ValueError):
    """Not a latch record; the text says why."""


class LatchRecord:
    """session: ZooKeeper session id; latch: absolute path of its node, chroot included; zookeeper: hosts without chroot.

    pid, start (clock ticks since boot, /proc/PID/stat) and boot (the boot's id) together name one process for ever.
    """

    __slots__ = ("boot", "latch", "pid", "session", "start", "zookeeper")

    def __init__(self, *, session: int, latch: str, zookeeper: str, pid: int, start: int, boot: str) -> None:
        self.session = session
        self.latch = latch
        self.zookeeper = zookeeper
        self.pid = pid
        self.start = start
        self.boot = boot

    @classmethod
    def of_this_process(cls, session: int, latch: str, zookeeper: str) -> LatchRecord:
        """Return the record of the calling process."""
        pid = os.getpid()
        return cls(session=session, latch=latch, zookeeper=zookeeper, pid=pid, start=start_of(pid) or 0, boot=boot_id())


def dump(record: LatchRecord) -> bytes:
    """Return the record as it is stored; the session in hexadecimal, as ZooKeeper's own tools print it."""
    fields = {
        "session": hex(record.session),
        "latch": record.latch,
        "zookeeper": record.zookeeper,
        "pid": record.pid,
        "start": record.start,
        "boot": record.boot,
    }
    return json.dumps(fields).encode() + b"\n"


def parse(raw: bytes) -> LatchRecord:
    """Return the record. Raises BadRecord."""
    try:
        value = json.loads(raw)
        session = int(value["session"], 16)
        latch, zookeeper, boot, pid, start = (value[name] for name in ("latch", "zookeeper", "boot", "pid", "start"))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BadRecord("not a latch record") from None
    if not all(isinstance(text, str) and text for text in (latch, zookeeper, boot)):
        raise BadRecord("latch, zookeeper or boot is missing")
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in (pid, start)) or pid < 2 or start < 1 or not session:
        raise BadRecord("pid, start or session is missing")
    if not latch.startswith("/") or "-latch-" not in latch.rpartition("/")[2]:
        raise BadRecord(f"{latch!r} is no latch")
    return LatchRecord(session=session, latch=latch, zookeeper=zookeeper, pid=pid, start=start, boot=boot)


def load(path: Path) -> LatchRecord:
    """Read the record. Raises OSError, BadRecord."""
    with path.open("rb") as file:
        return parse(file.read(LIMIT))


def save(path: Path, record: LatchRecord) -> None:
    """Write it atomically, readable by user and group. Raises OSError. Not synced: after a crash its boot id is stale."""
    temporary = path.with_name(f".{path.name}.{record.pid}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    with os.fdopen(handle, "wb") as file:
        file.write(dump(record))
    temporary.replace(path)


def boot_id() -> str:
    """Return the id of this boot. Raises OSError."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def start_of(pid: int) -> int | None:
    """Return when the process started (clock ticks since boot); None when there is none, or it is dead and only not waited for."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 1 :].split()
    # Z with threads left: only the first thread has ended (proc(5): num_threads is field 20, starttime 22; the state is field 3).
    return None if fields[0] in "ZX" and int(fields[17]) <= 1 else int(fields[19])
