"""Watch every master's page and write what it says, a JSON line per answer, until SIGTERM.

One thread per master and one monotonic clock, so that answers of different masters can be put in order: a master said so at some
moment between ``begin`` and ``end`` of its line. Standard library only; Python 3.11.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any, TextIO

#: Seconds until a silent master counts as not answering.
TIMEOUT_S = 1.0
LIMIT_BYTES = 16 * 1024 * 1024


class Log:
    """Lines of a file, written whole."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._lock = file, threading.Lock()

    def write(self, entry: dict[str, Any]) -> None:
        """Append a line; those who wait for it read the file."""
        line = json.dumps(entry, separators=(",", ":"))
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()


def ask(host: str, port: int) -> dict[str, Any]:
    """Return what the page says, or why there is none."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/json/", headers={"Connection": "close"})
        response = connection.getresponse()
        raw = response.read(LIMIT_BYTES)
        if response.status != http.client.OK:
            return {"status": None, "error": f"HTTP {response.status}"}
        page = json.loads(raw)
        return {
            "status": str(page["status"]),
            "alive_workers": int(page["aliveworkers"]),
            "cores_used": int(page["coresused"]),
            "memory_used_mb": int(page["memoryused"]),
            "apps": [str(app["id"]) for app in page["activeapps"]],
            "drivers": len(page["activedrivers"]),
        }
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        return {"status": None, "error": f"{type(error).__name__}: {error}"[:200]}
    finally:
        connection.close()


def watch(name: str, host: str, port: int, interval_s: float, log: Log, stop: threading.Event) -> None:
    """Ask once per tick; a tick that a slow answer has eaten is left out, not made up for."""
    tick = time.monotonic()
    while not stop.is_set():
        begin = time.monotonic()
        answer = ask(host, port)
        log.write({"kind": "master", "name": name, "begin": round(begin, 4), "end": round(time.monotonic(), 4), **answer})
        tick = max(tick + interval_s, time.monotonic())
        stop.wait(tick - time.monotonic())


def target(text: str) -> tuple[str, str, int]:
    """Return name, host and port of ``name=host:port``; raise ValueError."""
    name, _, endpoint = text.partition("=")
    host, _, port = endpoint.rpartition(":")
    if not (name and host):
        raise ValueError(f"{text!r} is not name=host:port")
    return name, host.strip("[]"), int(port)


def main(arguments: Sequence[str] | None = None, stop: threading.Event | None = None) -> None:
    """Watch until SIGTERM, SIGINT or the end of --seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--master", action="append", type=target, required=True, metavar="NAME=HOST:PORT")
    parser.add_argument("--out", required=True, help="file that gets the lines")
    parser.add_argument("--interval-ms", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=900.0, help="end by itself after so long")
    options = parser.parse_args(arguments)
    if stop is None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
    with open(options.out, "w", encoding="utf-8") as file:  # noqa: PTH123 - a path like any other
        log = Log(file)
        log.write({"kind": "start", "monotonic": time.monotonic(), "wall": time.time(), "host": socket.gethostname()})
        threads = [
            threading.Thread(target=watch, args=(name, host, port, options.interval_ms / 1000, log, stop), daemon=True)
            for name, host, port in options.master
        ]
        for thread in threads:
            thread.start()
        stop.wait(options.seconds)
        stop.set()
        for thread in threads:
            thread.join(2 * TIMEOUT_S)
        log.write({"kind": "end", "monotonic": time.monotonic(), "wall": time.time()})


if __name__ == "__main__":
    main()
