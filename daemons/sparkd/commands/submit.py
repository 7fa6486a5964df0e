"""`sparkd submit`: any command, a jar or a Python program, in cluster mode."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .common import FAILED, Usage, add_client, client_of, count, parser, plain, print_json, say

EPILOG = """examples:
  sparkd submit -- /usr/bin/env sh -c 'echo hello; sleep 5'
  sparkd submit --supervise --cores 2 --memory 2g --py /srv/jobs/count.py -- --year 2024
  sparkd submit --wait --jar https://files.example.org/app.jar --class org.example.Main -- in out

The driver's id comes alone on stdout. A jar or program must be where every worker finds it: a shared directory, or a URL.
A lost connection or a change of leader is waited out; the same --request-id is never run twice."""


def _description(chosen: Any, words: Sequence[str]) -> dict[str, object]:
    """Return the description to send. Raises Usage."""
    if chosen.jar and chosen.py:
        raise Usage("--jar and --py: give one of them")
    if chosen.class_name and not chosen.jar:
        raise Usage("--class: needs --jar, the jar that holds it")
    if chosen.jar and not chosen.class_name:
        raise Usage("--jar: needs --class, the class whose main() is run")
    kind = "jvm" if chosen.jar else "python" if chosen.py else "command"
    resource = chosen.jar or chosen.py
    if resource and "://" not in resource:
        resource = str(Path(resource).absolute())
        if not Path(resource).is_file():
            say(f"sparkd submit: note: {resource} is not on this host; the worker must find it there")
    if kind == "command" and not words:
        raise Usage("nothing to run: give a command after --, or --jar and --class, or --py (see sparkd submit --help)")
    name = chosen.name or (chosen.class_name if chosen.jar else Path(resource or words[0]).name)
    properties = dict(_pair("--conf", item) for item in chosen.conf)
    described: dict[str, object] = {
        "kind": kind,
        "name": name,
        "environment": dict(_pair("--env", item, os.environ) for item in chosen.env),
        "properties": properties,
        "cores": chosen.cores,
        "memory_mb": _memory(chosen.memory),
        "supervise": chosen.supervise,
    }
    if kind == "command":
        return {**described, "argv": list(words)}
    described["properties"] = {"spark.app.name": name, **properties}  # as spark-submit's --name
    return {**described, "resource": resource, "main_class": chosen.class_name, "arguments": list(words)}


def _pair(option: str, text: str, environ: Any = None) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or (not equals and environ is None):
        raise Usage(f"{option} {name}: allowed is NAME=VALUE")
    if not equals:
        if name not in environ:
            raise Usage(f"{option} {name}: not set here; give {name}=VALUE")
        value = environ[name]
    return name, value


def _memory(text: str) -> int:
    from ..config_values import memory_mb

    try:
        return memory_mb(text)
    except ValueError as error:
        raise Usage(f"--memory {text!r}: {error}") from None


def run(argv: list[str]) -> int:
    """Submit; with --wait follow it to its end."""
    before, words = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    options = parser("submit", "Submit work to the cluster's leader.", EPILOG)
    options.add_argument("--jar", default="", help="a jar; what it needs beside Spark's own classes must be in it")
    options.add_argument("--class", dest="class_name", default="", help="the class in the jar whose main() is run")
    options.add_argument("--py", default="", metavar="FILE", help="a Python program")
    options.add_argument("--name", default="", help="for people; else the program's")
    options.add_argument("--cores", type=count(1), default=1, help="for the driver (1)")
    options.add_argument("--memory", default="1g", help="for the driver (1g)")
    options.add_argument("--supervise", action="store_true", help="start it again when it fails, or its worker is lost")
    options.add_argument(
        "--env", action="append", default=[], metavar="K=V", help="a variable of the driver's environment; K alone: as it is here"
    )
    options.add_argument("--conf", action="append", default=[], metavar="K=V", help="a property of Spark's")
    options.add_argument("--request-id", default="", metavar="ID", help="your own, to send the same submission again safely")
    options.add_argument("--wait", action="store_true", help="follow it to its end: exit code 0 when it FINISHED, else 1")
    add_client(options)
    chosen = options.parse_args(before)
    from ..client import Client, new_request_id, wait_until_ended

    described = _description(chosen, words)
    client: Client = client_of(chosen)
    request_id = chosen.request_id or new_request_id()
    driver_id = client.submit(described, request_id)
    if not chosen.wait:
        print_json({"id": driver_id, "request_id": request_id}) if chosen.json else print(driver_id)
        return 0
    if not chosen.json:
        print(driver_id, flush=True)
    row = wait_until_ended(client, driver_id, lambda state: say(f"{driver_id} {state}"))
    if chosen.json:
        print_json({"request_id": request_id, **row})
    elif row["state"] != "FINISHED" and row.get("message"):
        say(f"{driver_id}: {plain(str(row['message']))}")
    return 0 if row["state"] == "FINISHED" else FAILED
