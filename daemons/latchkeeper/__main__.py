"""Command line: run, fence, stop, guard, status."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from dataclasses import asdict
from types import FrameType
from typing import NoReturn

from . import config, fence, keeper, pages, proc, record, rules, stop, zk
from .log import say
from .process import start_now

REFUSED = 3


def leave(status: int) -> NoReturn:
    """End at once: kazoo's threads may wait for a server that does not answer."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue
    os._exit(status)


def _late(_number: int, _frame: FrameType | None) -> NoReturn:
    raise TimeoutError("out of time")


def run_fence(settings: config.Config) -> int:
    """Fence; 0 in any case, since the unit has ended and must not fail for it."""
    signal.signal(signal.SIGALRM, _late)
    signal.setitimer(signal.ITIMER_REAL, max(1.0, settings.fence_timeout_s))
    try:
        fence.fence(settings)
    except Exception as error:
        say("fence", result="failed", why=f"{type(error).__name__}: {error}")
    return 0


def guard(settings: config.Config, accepted: bool) -> int:
    """Refuse (3) when the local master lists drivers that a change of leader would lose."""
    try:
        page = pages.read_master(settings.page)
    except pages.PageError as error:
        print(f"the master's page does not answer, so nothing is known to be lost: {error}")
        return 0
    refusal = rules.driver_refusal(page.status, {driver.id: driver.state for driver in page.active_drivers}, accepted)
    if refusal:
        print(refusal, file=sys.stderr)
        return REFUSED
    print(f"the master is {page.status}; no driver is in the way")
    return 0


def status(settings: config.Config, as_json: bool) -> int:
    """Print what is recorded, and the line as ZooKeeper has it."""
    held = record.load(settings.record)
    verdict = rules.verdict(held, proc.boot_id(), start_now(held.pid) if held else None)
    problem = ""
    line: list[rules.Latch] = []
    connect, directory = (held.zookeeper, held.zookeeper_dir) if held else (settings.zookeeper, settings.zookeeper_dir)
    if connect:
        try:
            with zk.Line(connect, directory, timeout_s=3.0) as session:
                line = rules.in_line(session.latches())
        except zk.Unavailable as error:
            problem = str(error)
    place = next((number for number, latch in enumerate(line, 1) if held and latch.owner == held.session), None)
    if as_json:
        latches = [{"name": latch.name, "owner": latch.owner, "czxid": latch.czxid} for latch in line]
        report = {"mode": settings.recovery_mode, "verdict": verdict, "place": place, "latches": latches, "problem": problem}
        print(json.dumps({**report, "record": asdict(held) if held else None}, indent=1))
        return 0
    print(f"recovery mode  {settings.recovery_mode}")
    print(f"recorded       {verdict}" + (f", pid {held.pid}, session {held.session:#x}, since {held.recorded_at}" if held else ""))
    print(f"place in line  {place or '-'} of {len(line)}" + (f" ({problem})" if problem else ""))
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 fine, 1 configuration, 2 usage, 3 refused."""
    parser = argparse.ArgumentParser(prog="latchkeeper", description="Looks after the latch of the local Apache Master.")
    parser.add_argument("--config", default=config.DEFAULT_PATH, help="default: %(default)s")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="keep the record of the master's latch session (the daemon)")
    commands.add_parser("fence", help="after the master's death: remove its latch, and no other")
    stopping = commands.add_parser("stop", help="stop the master; a leader hands over first")
    stopping.add_argument("--pid", default="", help="the master's process")
    guarding = commands.add_parser("guard", help="exit 3 when a change of leader would lose drivers")
    guarding.add_argument("--accept-driver-loss", action="store_true")
    showing = commands.add_parser("status", help="show the record and the line of latches")
    showing.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    try:
        settings = config.load(given.config)
    except config.ConfigError as error:
        print(f"latchkeeper: {error}", file=sys.stderr)
        if given.command != "stop":
            return 0 if given.command == "fence" else 1
        settings = config.Config(recovery_mode="NONE", page="")  # a stop still has to stop
    match given.command:
        case "run" if not settings.elects:
            print(f"latchkeeper: nobody elects a leader with recovery_mode {settings.recovery_mode}: nothing to keep", file=sys.stderr)
            return 1
        case "run":
            keeper.run(settings)
            return 0
        case "fence":
            return run_fence(settings)
        case "stop":
            if not given.pid.isdigit():
                say("stop", result="nothing to stop", why=f"no process ({given.pid!r})")
                return 0
            stop.stop(settings, int(given.pid))
            return 0
        case "guard":
            return guard(settings, given.accept_driver_loss)
        case _:
            return status(settings, given.json)


if __name__ == "__main__":
    leave(main())
