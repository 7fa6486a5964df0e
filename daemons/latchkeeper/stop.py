"""A planned stop of the master: hand leadership over first, where that is possible. Bounded in time."""

from __future__ import annotations

import signal
import time

from . import proc, record, rules, zk
from .config import Config
from .log import say
from .process import POLL_S, Process, start_now, statuses

#: How long a standby that has just started may take to join the line before a stop becomes a plain one.
JOIN_S = 3.0


def stop(config: Config, pid: int) -> str:
    """Stop the master: hand leadership over first where that is possible, else plainly; return which. Never raises for ZooKeeper."""
    try:
        process = Process(pid)
    except OSError as error:
        say("stop", result="nothing to stop", why=str(error))
        return "nothing to stop"
    why = "recovery mode is not ZOOKEEPER"
    if config.elects:
        try:
            why = hand_over(config, process)
        except Exception as error:  # whatever it is, the stop goes on plainly
            why = f"{type(error).__name__}: {error}"
        if not why:
            return "handed over"
    if process.alive():
        process.send(signal.SIGTERM)
    ended = process.wait(config.stop_timeout_s)
    # Whatever is left gets SIGKILL from systemd. Its latch, a standby's for instance, is the fence's.
    say("stop", result="stopped" if ended else "did not end on SIGTERM", why=why)
    return "stopped"


def hand_over(config: Config, process: Process) -> str:
    """Hand leadership over and end the process; return why not, with the process untouched. Raises zk.Unavailable, also untouched."""
    held = record.load(config.record)
    if held is None or not config.others:
        return "no latch session is recorded" if held is None else "there is no other master"
    end = time.monotonic() + JOIN_S
    with zk.Line(held.zookeeper, held.zookeeper_dir, timeout_s=3.0) as line:
        while True:
            seen = statuses(config.others, 1.0)
            live = zk.connected_sessions(held.zookeeper)
            plan = rules.handover(held, proc.boot_id(), process.pid, start_now(process.pid), line.latches(), live, seen)
            if not plan.refused:
                break
            if not plan.transient or time.monotonic() > end:
                return plan.refused
            time.sleep(0.2)
        # From the first signal on there is no way back: a woken process without its latch would be a second leader.
        began = time.monotonic()
        leader = problem = ""
        try:
            process.send(signal.SIGSTOP)
            freeze = time.monotonic() + 1.0
            while not proc.all_stopped(process.pid) and time.monotonic() < freeze:
                time.sleep(0.005)
            for latch in plan.nodes:
                line.delete(latch)
            leader = wait_for_leader(config, began + config.handover_timeout_s)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        finally:
            process.send(signal.SIGKILL)
        took = round(time.monotonic() - began, 3)
        process.wait(5.0)
        say("stop", result="handed over" if leader else "killed without a new leader", to=leader, without_leader_s=took, why=problem)
        return ""


def wait_for_leader(config: Config, end: float) -> str:
    """Return the page of the master that became ALIVE; empty when none did in time."""
    while time.monotonic() < end:
        for endpoint, status in statuses(config.others, 0.5).items():
            if status == "ALIVE":
                return endpoint
        time.sleep(POLL_S)
    return ""
