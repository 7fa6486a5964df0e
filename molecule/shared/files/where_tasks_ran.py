"""Exits with 0 once tasks of one job have run on every host that is named: where_tasks_ran.py HOST..."""

import socket
import sys
import time

from pyspark.sql import SparkSession


def place(_: int) -> str:
    """Return the host of the task; slow enough that one executor cannot take them all."""
    time.sleep(0.3)
    return socket.gethostname()


def main() -> None:
    """Run jobs until every host has taken part, for a minute at most."""
    wanted = set(sys.argv[1:])
    spark = SparkSession.builder.appName("where tasks run").getOrCreate()
    deadline = time.monotonic() + 60
    seen: set[str] = set()
    # One job must do; executors that are still starting get another chance.
    while seen != wanted and time.monotonic() < deadline:
        slices = 8 * len(wanted)
        seen = set(spark.sparkContext.parallelize(range(slices), slices).map(place).collect())
    spark.stop()
    if seen != wanted:
        sys.exit(f"tasks ran on {sorted(seen)}, wanted {sorted(wanted)}")
    print(f"tasks ran on {sorted(seen)}")


if __name__ == "__main__":
    main()
