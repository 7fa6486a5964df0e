"""A load of submissions under which a drill injects its fault: one `sparkd submit` a second, each of a command that notes that it ran.

Writes a JSON line per submission when its outcome is known: when it began and ended on the monotonic clock of this host, and the id that
was acknowledged, or why there is none. Runs until SIGTERM (then it waits for what is under way), or until --submissions are done.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import subprocess
import threading
import time
from typing import Any, TextIO

#: Submissions whose outcome is not known yet; more are not started: without a leader they only wait.
UNDER_WAY_MAX = 30


class Log:
    """Lines of a file, written whole."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._lock = file, threading.Lock()
        self.acknowledged = 0

    def write(self, entry: dict[str, Any]) -> None:
        """Append a line; those who wait for it read the file."""
        line = json.dumps(entry, separators=(",", ":"))
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()


def submit(options: argparse.Namespace, number: int, log: Log) -> None:
    """Submit one command and note the outcome."""
    key = f"{options.key}-{number}"
    command = [options.sparkd, "submit", f"--name=drill-{number}", "--cores=1", f"--memory={options.memory}", f"--request-id={key}"]
    command += [f"--patience={options.patience_s:g}s", "--", "/bin/sh", options.run, options.ran, key, f"{options.work_s:g}"]
    begin = time.monotonic()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=options.patience_s + 30, check=False, stdin=subprocess.DEVNULL
        )
        said = done.stdout.strip()
        error = None if done.returncode == 0 and said else (done.stderr.strip() or said or f"exit code {done.returncode}")[-500:]
        driver = said.splitlines()[-1] if error is None else None
    except (OSError, subprocess.SubprocessError) as problem:
        driver, error = None, f"{type(problem).__name__}: {problem}"[:500]
    entry = {"kind": "submission", "number": number, "key": key, "begin": round(begin, 4), "end": round(time.monotonic(), 4)}
    log.write({**entry, "wall": time.time(), "driver": driver, "error": error})


def main() -> None:
    """Submit until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True, help="file that gets the lines")
    parser.add_argument("--sparkd", default="/opt/sparkd/current/bin/sparkd")
    parser.add_argument("--run", required=True, help="the program on the workers, run.sh")
    parser.add_argument("--ran", required=True, help="file on the workers that it writes to")
    parser.add_argument("--key", required=True, help="beginning of each submission's own id, another one for each drill")
    parser.add_argument("--memory", default="64m")
    parser.add_argument("--work-s", type=float, default=1.5, help="how long each command runs")
    parser.add_argument("--interval-s", type=float, default=1.0)
    parser.add_argument("--patience-s", type=float, default=60.0)
    parser.add_argument("--submissions", type=int, default=0, help="end after so many; 0: go on")
    options = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with open(options.out, "w", encoding="utf-8") as file:  # noqa: PTH123 - a path like any other
        log = Log(file)
        log.write({"kind": "begin", "monotonic": time.monotonic(), "wall": time.time(), "host": socket.gethostname()})
        threads: list[threading.Thread] = []
        tick, done = time.monotonic(), 0
        while not stop.is_set() and (options.submissions == 0 or done < options.submissions):
            threads = [thread for thread in threads if thread.is_alive()]
            if len(threads) < UNDER_WAY_MAX:
                done += 1
                threads.append(threading.Thread(target=submit, args=(options, done, log)))
                threads[-1].start()
            tick = max(tick + options.interval_s, time.monotonic())
            if options.submissions == 0 or done < options.submissions:
                stop.wait(tick - time.monotonic())
        for thread in threads:
            thread.join()
        log.write({"kind": "end", "monotonic": time.monotonic(), "wall": time.time()})


if __name__ == "__main__":
    main()
