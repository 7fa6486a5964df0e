"""`sparkd config`: every key, its value, where it came from, honoured or not. The whole truth about this host's configuration."""

from __future__ import annotations

import os
from typing import Any

from .common import USAGE, parser, print_json, say, table


def _rows(found: Any) -> list[dict[str, object]]:
    return [
        {"key": name, "value": setting.effective, "source": setting.source, "state": setting.key.state, "why": setting.key.why}
        for name, setting in found.settings.items()
    ]


def run(argv: list[str]) -> int:
    """Show the configuration of the daemon that the flags are of; exit code 2 when it could not start with it."""
    options = parser(
        "config",
        "Every key of a daemon: value (secrets masked), where it came from, honoured or not.",
        "What follows is read as the daemon's own flags: sparkd config worker -c 4 spark://h1:7077",
    )
    options.add_argument("role", nargs="?", choices=("master", "worker"), default="master")
    options.add_argument("--given", action="store_true", help="only keys that were set somewhere")
    options.add_argument("--json", action="store_true", help="JSON for programs")
    if "--help" in argv:
        options.print_help()
        return 0
    own = ("--given", "--json")
    role = argv[0] if argv and argv[0] in ("master", "worker") else ""
    flags = [word for word in argv[1 if role else 0 :] if word not in own]
    chosen = options.parse_args([*([role] if role else []), *(word for word in argv if word in own)])
    from ..config import ConfigError, gather, master_settings, worker_settings

    found = gather(chosen.role, flags, os.environ)
    if chosen.role == "worker" and not found.arguments:
        found.arguments.append("spark://127.0.0.1:7077")  # only to judge the rest
    try:
        master_settings(found) if chosen.role == "master" else worker_settings(found)
    except ConfigError as error:
        problems = list(error.problems)
    else:
        problems = []
    rows = _rows(found)
    if chosen.given:
        rows = [row for row in rows if row["source"] != "default"]
    if chosen.json:
        print_json({"role": chosen.role, "keys": rows, "notes": found.notes, "problems": problems})
    else:
        print(table(("KEY", "VALUE", "FROM", "STATE"), [(row["key"], row["value"], row["source"], row["state"]) for row in rows]))
        for note in found.notes:
            print(f"note: {note}")
    for problem in problems:
        say(f"sparkd config: {problem}")
    return USAGE if problems else 0
