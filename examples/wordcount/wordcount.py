"""Count the words of a text file with Spark and write the result as JSON.

The text must be at the same path on every worker, or on a file system that all of them see.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import time
from collections.abc import Iterable, Iterator
from operator import add
from pathlib import Path

#: A run of letters, with apostrophes inside it.
WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")


def words(line: str) -> list[str]:
    """Return the words of a line, in lower case."""
    return WORD.findall(line.lower())


def where(lines: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Yield the host that reads this partition and how many lines it has."""
    yield socket.gethostname(), sum(1 for _ in lines)


def main() -> None:
    """Count and write."""
    parser = argparse.ArgumentParser(description="Count the words of a text file with Spark.")
    parser.add_argument("text", help="path of the text, the same on every worker")
    parser.add_argument("--output", required=True, help="file on this host that gets the result")
    parser.add_argument("--partitions", type=int, default=8, help="parts of the text, each counted by a task")
    options = parser.parse_args()

    # Here, so that the rest can be used where there is no Spark.
    from pyspark.sql import SparkSession

    started = time.monotonic()
    spark = SparkSession.builder.appName("wordcount").getOrCreate()
    context = spark.sparkContext
    lines = context.textFile(Path(options.text).resolve().as_uri(), options.partitions)
    counts = lines.flatMap(words).map(lambda word: (word, 1)).reduceByKey(add, options.partitions).collectAsMap()
    parts = lines.mapPartitions(where).collect()
    hosts: dict[str, int] = {}
    for host, _lines in parts:
        hosts[host] = hosts.get(host, 0) + 1
    result = {
        "application": context.applicationId,
        "spark": context.version,
        "master": context.master,
        "seconds": round(time.monotonic() - started, 3),
        "partitions": len(parts),
        "lines": sum(count for _host, count in parts),
        "hosts": hosts,
        "counts": counts,
    }
    spark.stop()
    Path(options.output).write_text(json.dumps(result, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
