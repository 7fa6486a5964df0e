"""After a master's death: delete the latch that it held, and no other, so that a standby leads at once instead of after the session's end.

    python -m sparkd.fence /run/sparkd/latch.json [--secret-file FILE]

For the unit's ExecStopPost. The record (coordination/latchrecord.py) is the dead process's own; nothing is deleted unless that very process
is dead (pid, start time, boot) and the node is still its session's. Bounded: 3 s. Exits with 0 but for usage: the unit has ended already.
Imports kazoo and little else: this runs within a failover.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import NoReturn

from .coordination import latchrecord

LIMIT_S = 3.0
#: How long a process that its supervisor calls dead may still be listed.
GRACE_S = 0.5
#: The session that the fence itself opens, in s; the server may make it longer.
SESSION_S = 4.0
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
    from kazoo.exceptions import BadVersionError, ConnectionLoss, NoAuthError, NoNodeError, SessionExpiredError

    from .coordination.impatient import Client

    client = Client(record.zookeeper, SESSION_S, secret)
    connected = client.start()
    problem = "ZooKeeper does not answer"
    while time.monotonic() < end:
        if not connected.wait(end - time.monotonic()):
            break
        try:
            # One at a time, each within its time: kazoo queues calls while not connected, so a lost one is asked again from the start.
            left = min(1.0, max(0.05, end - time.monotonic()))
            stat = client.kazoo.exists_async(record.latch).get(timeout=left)
            if stat is None or _signed(stat.ephemeralOwner) != _signed(record.session):
                return _end(client, "already gone", record.latch)
            client.kazoo.delete_async(record.latch, version=-1).get(timeout=left)
            return _end(client, "fenced", record.latch)
        except NoNodeError:
            return _end(client, "already gone", record.latch)
        except NoAuthError:
            return _end(client, "denied", "the secret does not fit that of the latch's directory")
        except (BadVersionError, ConnectionLoss, SessionExpiredError, client.kazoo.handler.timeout_exception) as error:
            problem = type(error).__name__
            client.connection.drop()
            time.sleep(0.02)
    return _end(client, "given up", problem)


def _end(client: object, result: str, detail: str) -> tuple[str, str]:
    """Return the outcome; the session ends in the background, or by itself when this process is gone first."""
    import threading

    threading.Thread(target=client.stop, daemon=True).start()  # type: ignore[attr-defined]
    return result, detail


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
    """Run, and end at once: kazoo's threads may wait for a server that does not answer."""
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    entry()
