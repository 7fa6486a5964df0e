"""After a master's death: delete the latch that it held, and no other. Bounded in time."""

from __future__ import annotations

import time

from . import proc, record, rules, zk
from .config import Config
from .log import say
from .process import start_now

#: Left for the last deed within the bound.
MARGIN_S = 0.2


def fence(config: Config) -> str:
    """Delete the latch of the master that has just died, and no other; return what was done. Raises zk.Unavailable, OSError.

    Whether it died or was stopped, and how, does not matter ($SERVICE_RESULT is not asked): only that the recorded process is gone.
    """
    # systemd starts this as it learns of the death.
    died = time.monotonic() - min(proc.own_age(), config.fence_delay_s)
    held = record.load(config.record)
    verdict = rules.verdict(held, proc.boot_id(), start_now(held.pid) if held else None)
    if held is None or verdict != "dead":
        say("fence", result=verdict, deleted=[])
        return verdict
    end = died + config.fence_timeout_s - MARGIN_S
    problem = ""
    while time.monotonic() < end:
        try:
            with zk.Line(held.zookeeper, held.zookeeper_dir, timeout_s=min(3.0, max(0.1, end - time.monotonic()))) as line:
                plan = rules.fence(line.latches(), held.session, config.fence_delay_s)
                if not plan.nodes:
                    say("fence", result="already gone", session=hex(held.session), deleted=[])
                    return "already gone"
                time.sleep(max(0.0, min(died + plan.delay_s, end) - time.monotonic()))
                if start_now(held.pid) == held.start:  # cannot be; but then it must keep its latch
                    say("fence", result="process alive", deleted=[])
                    return "process alive"
                deleted = [latch.name for latch in plan.nodes if line.delete(latch)]
                after = round(time.monotonic() - died, 3)
                say("fence", result="fenced", led=plan.led, session=hex(held.session), deleted=deleted, after_s=after)
                return "fenced"
        except zk.Unavailable as error:
            problem = str(error)
            time.sleep(0.2)
    say("fence", result="given up", session=hex(held.session), why=problem, deleted=[])
    return "given up"
