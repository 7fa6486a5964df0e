"""What happens at a master's end: `stop` before a planned one, `fence` after any. Both are bounded in time."""

from __future__ import annotations

import os
import signal
import time

from . import pages, proc, record, rules, zk
from .config import Config
from .log import say

POLL_S = 0.05
#: How long a standby that has just started may take to join the line before a stop becomes a plain one.
JOIN_S = 3.0
#: Left for systemd after the last deed of a fence.
MARGIN_S = 0.2


class Process:
    """One process, by pid and start time: a signal never reaches another one that got its pid."""

    def __init__(self, pid: int) -> None:
        stat = proc.read_stat(pid)
        if stat is None:
            raise ProcessLookupError(f"no process {pid}")
        self.pid, self.start = pid, stat.start
        self.handle = os.pidfd_open(pid)

    def alive(self) -> bool:
        """Tell whether it still runs (a zombie does not)."""
        stat = proc.read_stat(self.pid)
        return stat is not None and stat.start == self.start and not stat.dead

    def send(self, number: signal.Signals) -> None:
        """Send a signal; that it is gone already is fine."""
        try:
            signal.pidfd_send_signal(self.handle, number)
        except ProcessLookupError:
            return

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; False when it is still there."""
        end = time.monotonic() + timeout_s
        while self.alive():
            if time.monotonic() > end:
                return False
            time.sleep(POLL_S)
        return True


def start_now(pid: int) -> int | None:
    """Return the start time of the pid's process, None when there is none or it is dead."""
    stat = proc.read_stat(pid)
    return None if stat is None or stat.dead else stat.start


def statuses(endpoints: tuple[str, ...], timeout_s: float) -> dict[str, str]:
    """Return endpoint -> status; what does not answer says why instead."""

    def ask(endpoint: str) -> str:
        try:
            return pages.read_master(endpoint, timeout_s).status
        except pages.PageError as error:
            return str(error)

    return dict(zip(endpoints, zk.each(ask, endpoints), strict=True))


def fence(config: Config) -> str:
    """Delete the latch of the master that has just died, and no other; return what was done. Raises zk.Unavailable, OSError.

    Whether it died or was stopped, and how, does not matter ($SERVICE_RESULT is not asked): only that the recorded process is gone.
    """
    died = time.monotonic()
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
            live = {connection.sid for connection in zk.connections(held.zookeeper) if connection.sid}
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
