"""After a master's death: delete the latch that it held, and no other, so that a standby leads at once instead of after the session's end.

    python -m sparkd.fence /run/sparkd/latch.json [--secret-file FILE]

For the unit's ExecStopPost. The record (coordination/latchrecord.py) is the dead process's own; nothing is deleted unless that very process
is dead (pid, start time, boot) and the node is still its session's. Bounded: 3 s. Exits with 0 but for usage: the unit has ended already.
Imports little, and not kazoo: this runs within a failover.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import NoReturn

from .coordination import brief, latchrecord

LIMIT_S = 3.0
#: How long a process that its supervisor calls dead may still be listed.
GRACE_S = 0.5
#: The session that the fence itself opens, in s; the server may make it longer.
SESSION_S = 4.0
#: Seconds that a server has to give a session, at first; and to answer within one.
FIRST_WAIT_S, ANSWER_S = 0.5, 1.0
#: As the masters call themselves (coordination/impatient.py).
USER = "sparkd"
USAGE = "usage: python -m sparkd.fence RECORD [--secret-file FILE]"


def fence(record_path: Path, secret: str = "", limit_s: float = LIMIT_S) -> tuple[str, str]:
    """Return what was done, and a detail: fenced, already gone, nothing recorded, another boot, process alive, denied or given up.

    Raises nothing: whatever cannot be done is done by the session's end.
    """
    end = time.monotonic() + limit_s
    try:
        record = latchrecord.load(record_path)
        boot = latchrecord.boot_id()
    except (OSError, latchrecord.BadRecord) as error:
        return "nothing recorded", str(error)
    if record.boot != boot:
        return "another boot", record.latch
    if not _dead(record, min(GRACE_S, limit_s)):
        return "process alive", f"pid {record.pid}"
    try:
        return _delete(record, secret, end)
    except Exception as error:
        return "given up", f"{type(error).__name__} {error}"


def _dead(record: latchrecord.LatchRecord, grace_s: float) -> bool:
    end = time.monotonic() + grace_s
    while latchrecord.start_of(record.pid) == record.start:
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def _delete(record: latchrecord.LatchRecord, secret: str, end: float) -> tuple[str, str]:
    """Ask one server after the other, each a little more patiently than the one before."""
    order, wait_s = brief.servers(record.zookeeper), FIRST_WAIT_S
    problem, number, asked = "ZooKeeper does not answer", 0, False
    while (now := time.monotonic()) < end:
        host, port = order[number % len(order)]
        number += 1
        try:
            session = brief.Session(host, port, SESSION_S, secret, USER, min(end, now + wait_s))
        except brief.Lost as error:
            problem, wait_s = str(error), wait_s * 1.25
            time.sleep(0.005 if number % len(order) else 0.05)
            continue
        try:
            # A server that has given a session but does not answer is left soon; what it may still do of this is what is wanted.
            session.until(min(end, time.monotonic() + ANSWER_S))
            if session.owner(record.latch) != _signed(record.session):
                return "fenced" if asked else "already gone", record.latch
            asked = True  # whatever becomes of the answer
            return "fenced" if session.delete(record.latch) else "already gone", record.latch
        except brief.Denied:
            return "denied", "the secret does not fit that of the latch's directory"
        except brief.Lost as error:
            problem = str(error)
        finally:
            session.close()
    return "given up", problem


def _signed(number: int) -> int:
    """Sessions are 64-bit numbers, signed on the wire."""
    number &= 0xFFFFFFFFFFFFFFFF
    return number - (1 << 64) if number >> 63 else number


def main(arguments: list[str]) -> int:
    """Run the command."""
    secret_file = None
    if len(arguments) == 3 and arguments[1] == "--secret-file":
        secret_file = Path(arguments[2])
    elif len(arguments) != 1 or arguments[0].startswith("-"):
        print(USAGE, file=sys.stderr)
        return 2
    began = time.monotonic()
    secret = ""
    if secret_file is not None:
        try:
            secret = secret_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            print(f"event=fence secret_file={secret_file} why={error.strerror!r}", file=sys.stderr)
    result, detail = fence(Path(arguments[0]), secret)
    print(f"event=fence result={result!r} detail={detail!r} took_s={time.monotonic() - began:.3f}", flush=True)
    return 0


def entry() -> NoReturn:
    """Run, and end at once: taking the interpreter down takes time too."""
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    entry()
