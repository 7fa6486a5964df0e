"""make bench: Apache's daemons and sparkd, one after the other on this machine, in one run; prints a table with ratios and bounds.

    python tests/bench/failover [--only WORD] [--runs 20] [--apache-runs 3] [--no-apache] [--out FILE]

Exits with 1 when a bound is missed. Real ZooKeeper, real Masters, real processes; everything is ended by its PID.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
for folder in (ROOT / "tests" / "integration", ROOT / "daemons", HERE):
    sys.path.insert(0, str(folder))

import apache_rows
import scale
import sparkd_rows
from apache import Apache
from ensemble import Ensemble, find_jars
from masters import find_spark
from table import Row, text

from sparkd.up import LocalCluster

BEGAN = time.monotonic()


def say(line: str) -> None:
    """Progress, with the seconds since the start."""
    print(f"[{time.monotonic() - BEGAN:6.1f}] {line}", flush=True)


class Bench:
    """The rows, by key, and what was asked for."""

    def __init__(self, only: str, runs: int, apache_runs: int) -> None:
        self.only, self.runs, self.apache_runs = only, runs, apache_runs
        self.rows: dict[str, Row] = {}

    def row(self, key: str, name: str, **more: Any) -> Row | None:
        """Return the row of this key, or None when it was not asked for."""
        if self.only and self.only not in key:
            return None
        return self.rows.setdefault(key, Row(name, **more))

    def measure(self, row: Row | None, who: str, runs: int, once: Callable[[], float]) -> None:
        """Measure `runs` times; a run that fails is told in the row."""
        if row is None:
            return
        values = row.apache if who == "apache" else row.sparkd
        for _ in range(runs):
            try:
                values.append(once())
            except Exception as error:
                row.failed = f"{who}: {type(error).__name__}: {str(error).splitlines()[0][:120]}"
                say(f"  {row.name}: FAILED {row.failed}")
                return
            say(f"  {row.name}: {who} {values[-1]:.3f} {row.unit}")


SCALE = "1,000 workers, 1,000 running and 5,000 queued drivers"


def define(bench: Bench) -> dict[str, Row | None]:
    """All rows in the order of the table, with the bounds of the project."""
    return {
        "kill": bench.row(
            "kill",
            "SIGKILL of the leader until the next one takes a submission",
            median_bound=0.8,
            max_bound=2.0,
            note="Apache: fenced after 2 s",
        ),
        "kill-unfenced": bench.row("kill-unfenced", "the same, Apache as it comes", note="session 40 s"),
        "silent": bench.row("silent", "leader silent, never a word again", max_bound=5.5, note="session 4 s, one tick 0.5 s, 1 s"),
        "term": bench.row("term", "SIGTERM of the leader", max_bound=0.5),
        "server-killed": bench.row("server-killed", "the leader's ZooKeeper server killed: without a leader"),
        "server-killed-kept": bench.row("server-killed-kept", "- leader stayed, of 10", unit="of 10", min_bound=10),
        "server-silent": bench.row("server-silent", "the leader's ZooKeeper server silent: without a leader"),
        "server-silent-kept": bench.row("server-silent-kept", "- leader stayed, of 10", unit="of 10", min_bound=10),
        "quorum": bench.row("quorum", "quorum lost 30 s: from its return to a leader", max_bound=3.0),
        "both": bench.row("both", "leader and a worker die together", median_bound=0.8, max_bound=2.0),
        "queued": bench.row(
            "queued",
            "queued drivers that keep id and order through 20 failovers, of 10",
            unit="of 10",
            min_bound=10,
            note="Apache: one failover",
        ),
        "outage": bench.row("outage", "driver exits 0 while nobody leads: FINISHED and ran once, of 3", unit="of 3", min_bound=3),
        "rate-4": bench.row("rate-4", "durable submissions, 4 clients", unit="/s"),
        "rate-64": bench.row("rate-64", "durable submissions, 64 clients", unit="/s", min_bound=1000),
        "memory": bench.row("memory", "idle leader's memory", unit="MB", max_bound=70),
        "start": bench.row("start", "exec of a master to its first page", median_bound=1.0),
        "scale-submission": bench.row("scale-submission", f"{SCALE}: SIGKILL until a submission is taken", max_bound=3.0),
        "scale-workers": bench.row("scale-workers", "- until every worker is ALIVE", max_bound=3.0),
        "scale-pass": bench.row("scale-pass", "- the core's time per event, schedule passes among them, p99", unit="ms", max_bound=50),
        "scale-memory": bench.row("scale-memory", "- the leader's memory", unit="MB", max_bound=150),
    }


def run_apache(bench: Bench, rows: dict[str, Row | None], scratch: Path) -> None:
    """Apache's side: an ensemble that grants 40 s as ZooKeeper's defaults do, and one that grants 4 s for the silent host."""
    spark, zookeeper = find_spark(scratch / "spark"), find_jars(scratch / "zookeeper")
    if spark is None or zookeeper is None:
        sys.exit("bench: no Spark in the cache of downloads: run `make cluster` once, or set SPARK_HA_JARS to the jars/ of a Spark")
    few = bench.apache_runs
    long = {"maxSessionTimeout": "40000", "minSessionTimeout": "1000"}
    with (
        Ensemble(zookeeper, scratch / "ensemble", settings=long) as ensemble,
        Apache(spark, scratch / "apache", ensemble.connect, workers=2) as apache,
    ):
        say(f"Apache: 2 Masters, 2 Workers, session 40 s; {few} runs where they are short, one where they are long")
        if rows["memory"]:
            leader, _ = apache.settle()
            time.sleep(5)
            rows["memory"].apache.append(apache_rows.rss_mb(leader.pid))
        bench.measure(rows["kill"], "apache", few, lambda: apache_rows.kill_fenced(apache))
        bench.measure(rows["kill-unfenced"], "apache", 1, lambda: apache_rows.kill(apache))
        bench.measure(rows["term"], "apache", 1, lambda: apache_rows.term(apache))
        bench.measure(rows["both"], "apache", 1, lambda: apache_rows.leader_and_worker(apache))
        for key, how in (("server-killed", "kill"), ("server-silent", "silent")):
            row, kept = rows[key], rows[f"{key}-kept"]
            if row and kept:
                worst, exited = apache_rows.lose_server(apache, ensemble, how)
                row.apache.append(worst)
                kept.apache.append(0.0 if exited else 10.0)
                say(f"  {row.name}: apache {worst:.2f} s, exited {exited}")
        bench.measure(rows["quorum"], "apache", 1, lambda: apache_rows.quorum_lost(apache, ensemble)[0])
        bench.measure(rows["queued"], "apache", 1, lambda: float(apache_rows.queued_through_failover(apache)[0]))
        bench.measure(rows["rate-4"], "apache", 1, lambda: apache_rows.submissions(apache, 4, 150))
        bench.measure(rows["rate-64"], "apache", 1, lambda: apache_rows.submissions(apache, 64, 150))
        # Last: a killed standby leaves its latch for the whole session, and the next leader's death would wait for that.
        bench.measure(rows["start"], "apache", few, lambda: apache_rows.start_time(apache))
    if rows["silent"]:
        short = {"maxSessionTimeout": "4000", "tickTime": "1000"}
        with (
            Ensemble(zookeeper, scratch / "ensemble-4", settings=short) as ensemble,
            Apache(spark, scratch / "apache-4", ensemble.connect) as apache,
        ):
            bench.measure(rows["silent"], "apache", few, lambda: apache_rows.freeze(apache))


def run_sparkd(bench: Bench, rows: dict[str, Row | None], scratch: Path) -> None:
    """sparkd's side, each group on a fresh cluster."""
    many = bench.runs
    if bench.only.startswith("scale"):
        run_scale(bench, rows, scratch)
        return
    with LocalCluster(scratch / "sparkd", masters=2, workers=2, zookeeper=3) as cluster:
        say(f"sparkd: 2 masters, 2 workers, 3 ZooKeeper servers, session 4 s; {many} runs")
        if rows["memory"]:
            time.sleep(5)
            rows["memory"].sparkd.append(sparkd_rows.idle_memory(cluster))
        bench.measure(rows["start"], "sparkd", 10, lambda: sparkd_rows.start_time(cluster))
        bench.measure(rows["kill"], "sparkd", many, lambda: sparkd_rows.kill(cluster))
        bench.measure(rows["term"], "sparkd", 10, lambda: sparkd_rows.term(cluster))
        bench.measure(rows["silent"], "sparkd", 5, lambda: sparkd_rows.freeze(cluster))
        bench.measure(rows["both"], "sparkd", 5, lambda: sparkd_rows.leader_and_worker(cluster))
        for key, how in (("server-killed", "kill"), ("server-silent", "silent")):
            row, kept = rows[key], rows[f"{key}-kept"]
            if row and kept:
                stayed = 0
                for _ in range(10):
                    fine, worst = sparkd_rows.lose_server(cluster, how)
                    stayed += fine
                    row.sparkd.append(worst)
                    say(f"  {row.name}: sparkd leader stayed {fine}, longest without ALIVE {worst:.2f} s")
                kept.sparkd.append(float(stayed))
        quorum = rows["quorum"]
        if quorum:
            for _ in range(2):
                value, exited = sparkd_rows.quorum_lost(cluster)
                quorum.sparkd.append(value)
                say(f"  {quorum.name}: sparkd {value:.2f} s, a master exited: {exited}")
                if exited:
                    quorum.failed = "sparkd: a master exited"
    with LocalCluster(scratch / "sparkd-work", masters=2, workers=2, zookeeper=3) as cluster:
        queued, outage = rows["queued"], rows["outage"]
        if outage:
            states = [sparkd_rows.exit_during_outage(cluster, scratch) for _ in range(3)]
            say(f"  {outage.name}: {states}")
            outage.sparkd.append(float(states.count("FINISHED, ran 1 times")))
        if queued:
            kept_ids, wrong = sparkd_rows.queued_through_failovers(cluster, scratch)
            queued.sparkd.append(float(kept_ids))
            if wrong:
                queued.failed = f"sparkd: {wrong}"
            say(f"  {queued.name}: sparkd {kept_ids} {wrong}")
        bench.measure(rows["rate-4"], "sparkd", 3, lambda: sparkd_rows.submissions(cluster, 4, 5.0))
        bench.measure(rows["rate-64"], "sparkd", 3, lambda: sparkd_rows.submissions(cluster, 64, 5.0))
    run_scale(bench, rows, scratch)


def run_scale(bench: Bench, rows: dict[str, Row | None], scratch: Path) -> None:
    """A large cluster's leader dies three times; each of its rows has a value of each time."""
    if not any(row for key, row in rows.items() if key.startswith("scale-")):
        return
    say(f"sparkd: 2 masters, 3 ZooKeeper servers, {SCALE}; 3 runs")
    try:
        runs = scale.measure(scratch, 3, say)
    except Exception as error:
        runs = []
        for key, row in rows.items():
            if row and key.startswith("scale-"):
                row.failed = f"sparkd: {type(error).__name__}: {str(error).splitlines()[0][:120]}"
    for found in runs:
        for key, value in (
            ("submission", found.submission_s),
            ("workers", found.workers_s),
            ("pass", found.pass_p99_ms),
            ("memory", found.memory_mb),
        ):
            row = rows[f"scale-{key}"]
            if row:
                row.sparkd.append(value)


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(prog="make bench", description="Apache's daemons and sparkd measured in one run.")
    parser.add_argument("--only", default="", help="rows whose key contains this word, as kill or rate")
    parser.add_argument("--runs", type=int, default=20, help="of SIGKILL on sparkd (default: %(default)s)")
    parser.add_argument("--apache-runs", type=int, default=3, help="where a run of Apache's takes seconds (default: %(default)s)")
    parser.add_argument("--no-apache", action="store_true", help="sparkd alone, without ratios")
    parser.add_argument("--out", type=Path, help="write the table there too")
    given = parser.parse_args()
    bench = Bench(given.only, given.runs, given.apache_runs)
    rows = define(bench)
    with tempfile.TemporaryDirectory(prefix="spark-ha-bench-") as directory:
        scratch = Path(directory)
        # Compiled, as the role installs it: without this, each start and each fence may compile all that it imports.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(scratch / "bytecode")
        if not given.no_apache:
            run_apache(bench, rows, scratch)
        run_sparkd(bench, rows, scratch)
    shown = [row for row in bench.rows.values() if row.apache or row.sparkd or row.failed]
    about = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
    about += f", load {os.getloadavg()[2]:.1f} (15 min)"
    table = f"{about}; {time.monotonic() - BEGAN:.0f} s in all\n\n{text(shown)}\n"
    print(f"\n{table}")
    if given.out:
        given.out.write_text(table)
    missed = [row.name for row in shown if row.bounded and not row.holds]
    if missed:
        print(f"Missed: {'; '.join(missed)}")
    else:
        print("Every bound holds.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
