"""A real application under which a drill injects its fault: word counts with a shuffle, each result checked.

Writes a JSON line per job: when it began and ended on the monotonic clock of this host, whether its result was right, and which
executors Spark's own interface lists as alive. Runs until SIGTERM, or until --jobs jobs are done. Spark 3.5 to 4.x.
"""

from __future__ import annotations

import argparse
import json
import socket
import time
import urllib.request
from operator import add
from pathlib import Path
from typing import Any, TextIO

WORDS = 97
LINES = 400
WORDS_PER_LINE = 20


def text() -> list[str]:
    """Return lines whose word counts are known without Spark."""
    return [" ".join(f"w{(line * WORDS_PER_LINE + column) % WORDS}" for column in range(WORDS_PER_LINE)) for line in range(LINES)]


def expected(lines: list[str]) -> dict[str, int]:
    """Count without Spark."""
    counts: dict[str, int] = {}
    for line in lines:
        for word in line.split():
            counts[word] = counts.get(word, 0) + 1
    return counts


def write(file: TextIO, entry: dict[str, Any]) -> None:
    """Append a line; the drill reads along."""
    file.write(json.dumps(entry) + "\n")
    file.flush()


def executors(context: Any) -> dict[str, str] | None:
    """Return id -> host:port of the executors that live, None when the interface does not answer."""
    url = f"{context.uiWebUrl}/api/v1/applications/{context.applicationId}/executors"
    try:
        # No proxy: the interface is on this host.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=3) as answer:
            listed = json.load(answer)
    except (OSError, ValueError):
        return None
    return {entry["id"]: entry["hostPort"] for entry in listed if entry["isActive"] and entry["id"] != "driver"}


def job(context: Any, lines: list[str], right: dict[str, int], partitions: int) -> dict[str, Any]:
    """Run one job and say how it went."""
    begin = time.monotonic()
    error = None
    try:
        counts = context.parallelize(lines, partitions).flatMap(str.split).map(lambda word: (word, 1)).reduceByKey(add).collectAsMap()
        if counts != right:
            error = f"wrong result: {len(counts)} words, {sum(counts.values())} in all; {len(right)} and {sum(right.values())} expected"
    except Exception as problem:  # whatever it is, it is this job's result
        error = f"{type(problem).__name__}: {problem}"[:500]
    return {"kind": "job", "begin": begin, "end": time.monotonic(), "wall": time.time(), "ok": error is None, "error": error}


def main() -> None:
    """Run jobs until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True, help="file that gets the lines")
    parser.add_argument("--name", default="drill-load")
    parser.add_argument("--executors", type=int, default=1, help="ready when so many live")
    parser.add_argument("--jobs", type=int, default=0, help="end after so many; 0: go on")
    parser.add_argument("--pause-ms", type=float, default=100.0)
    parser.add_argument("--ready-after", type=int, default=5, help="jobs before the load counts as ready")
    options = parser.parse_args()

    from pyspark.sql import SparkSession

    lines = text()
    right = expected(lines)
    begin = time.monotonic()
    with Path(options.out).open("w", encoding="utf-8") as file:
        write(file, {"kind": "begin", "monotonic": begin, "wall": time.time(), "host": socket.gethostname()})
        context = SparkSession.builder.appName(options.name).getOrCreate().sparkContext
        # SparkContext is there when a master has accepted the application.
        write(file, {"kind": "registered", "seconds": time.monotonic() - begin, "app": context.applicationId, "spark": context.version})
        done, ready = 0, False
        while options.jobs == 0 or done < options.jobs:
            result = job(context, lines, right, 2 * options.executors)
            alive = executors(context)
            done += 1
            write(file, {**result, "number": done, "executors": alive})
            if not ready and done >= options.ready_after and result["ok"] and len(alive or {}) >= options.executors:
                ready = True
                write(file, {"kind": "ready", "monotonic": time.monotonic(), "wall": time.time()})
            time.sleep(options.pause_ms / 1000)
        context.stop()


if __name__ == "__main__":
    main()
