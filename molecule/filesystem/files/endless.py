"""Runs jobs with a shuffle until a file appears: endless.py PROGRESS STOP; one line per job goes to PROGRESS."""

import sys
import time
from pathlib import Path

from pyspark.sql import SparkSession


def main() -> None:
    """Run jobs and check each result."""
    progress, stop = Path(sys.argv[1]), Path(sys.argv[2])
    context = SparkSession.builder.appName("endless").getOrCreate().sparkContext
    failed = 0
    with progress.open("w", buffering=1) as out:
        while not stop.exists():
            counts = context.parallelize(range(1000), 4).map(lambda n: (n % 10, 1)).reduceByKey(lambda a, b: a + b).collectAsMap()
            failed += counts != dict.fromkeys(range(10), 100)
            out.write(f"job {time.time():.1f}\n")
            time.sleep(0.2)
        out.write(f"done, {failed} failed\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
