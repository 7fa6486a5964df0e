"""`sparkd status`, `kill`, `list`, `explain`: what the leader knows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from .common import Failure, add_client, client_of, parser, plain, print_json, say, table


def _time(value: object) -> str:
    """Return ms since 1970 as local time."""
    if not isinstance(value, (int, float)) or value <= 0:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value / 1000))


def _first(row: Mapping[str, Any], *names: str) -> object:
    return next((row[name] for name in names if row.get(name) not in (None, "")), "")


def _drivers(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ("DRIVER", "NAME", "STATE", "WORKER", "CORES", "MIB", "SUBMITTED")
    return table(
        head,
        [
            (
                row.get("id"),
                _first(row, "name", "mainclass"),
                row.get("state"),
                _first(row, "worker"),
                row.get("cores", 0),
                row.get("memory", 0),
                _time(_first(row, "submitted_ms", "submitted", "starttime")) or _first(row, "submitdate"),
            )
            for row in rows
        ],
    )


def _workers(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ("WORKER", "STATE", "CORES", "USED", "MIB", "USED MIB", "WEB UI")
    keys = ("id", "state", "cores", "coresused", "memory", "memoryused", "webuiaddress")
    return table(head, [[row.get(key, "") for key in keys] for row in rows])


def _applications(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ("APPLICATION", "NAME", "STATE", "CORES", "USER", "SUBMITTED")
    return table(
        head,
        [(row.get("id"), row.get("name"), row.get("state"), row.get("cores", 0), row.get("user"), row.get("submitdate")) for row in rows],
    )


def status(argv: list[str]) -> int:
    """Show one driver."""
    options = parser("status", "State of one driver.")
    options.add_argument("id", metavar="DRIVER")
    options.add_argument("--wait", action="store_true", help="follow it to its end: exit code 0 when it FINISHED, else 1")
    add_client(options)
    chosen = options.parse_args(argv)
    client = client_of(chosen)
    if chosen.wait:
        from ..client import wait_until_ended

        row = wait_until_ended(client, chosen.id, lambda state: say(f"{chosen.id} {state}"))
    else:
        row = client.driver(chosen.id)
    if chosen.json:
        print_json(row)
    else:
        width = max(map(len, row))
        for name, value in row.items():
            if value not in (None, "", [], {}):
                shown = _time(value) if name.endswith("_ms") else plain(str(value))
                print(f"{name.removesuffix('_ms').ljust(width)}  {shown}")
    return 0 if not chosen.wait or row["state"] == "FINISHED" else 1


def kill(argv: list[str]) -> int:
    """End a driver."""
    options = parser("kill", "End a driver. Its end is seen in `sparkd status`.")
    options.add_argument("ids", nargs="+", metavar="DRIVER")
    options.add_argument(
        "--give-up",
        action="store_true",
        help="declare it ended although its worker does not answer: only when you know that it does not run",
    )
    add_client(options)
    chosen = options.parse_args(argv)
    client = client_of(chosen)
    from ..client import Refused

    answers, failed = {}, False
    for driver_id in chosen.ids:
        try:
            answers[driver_id] = {"ok": True, "message": client.kill(driver_id, chosen.give_up)}
        except Refused as refusal:
            if refusal.status in (401, 403):
                raise
            failed = True
            answers[driver_id] = {"ok": False, "message": str(refusal)}
        if not chosen.json:
            print(plain(f"{driver_id}: {answers[driver_id]['message']}"))
    if chosen.json:
        print_json(answers)
    return 1 if failed else 0


def listing(argv: list[str]) -> int:
    """Show tables."""
    options = parser("list", "What the cluster has.")
    options.add_argument("what", nargs="?", choices=("drivers", "workers", "applications", "all"), default="all")
    options.add_argument("--state", default="", help="only those in this state: RUNNING")
    add_client(options)
    chosen = options.parse_args(argv)
    client = client_of(chosen)
    kinds = {
        "workers": (client.workers, _workers),
        "drivers": (client.drivers, _drivers),
        "applications": (client.applications, _applications),
    }
    found = {name: ask() for name, (ask, _) in kinds.items() if chosen.what in (name, "all")}
    if chosen.state:
        found = {name: [row for row in rows if row.get("state") == chosen.state.upper()] for name, rows in found.items()}
    if chosen.json:
        print_json(found if chosen.what == "all" else found[chosen.what])
        return 0
    texts = [kinds[name][1](rows) if rows else f"no {name}" for name, rows in found.items()]
    print("\n\n".join(texts))
    return 0


def explain(argv: list[str]) -> int:
    """Say why."""
    options = parser("explain", "Why a driver, worker or application is as it is, and what it waits for.")
    options.add_argument("id", metavar="ID")
    add_client(options)
    chosen = options.parse_args(argv)
    sentences = client_of(chosen).explain(chosen.id)
    if not sentences:
        raise Failure(f"nothing is known of {chosen.id}")
    print_json({"id": chosen.id, "sentences": sentences}) if chosen.json else print("\n".join(map(plain, sentences)))
    return 0
