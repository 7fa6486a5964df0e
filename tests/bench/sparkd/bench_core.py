"""What the core costs at 1,000 workers and 5,000 queued items: recovery, schedule passes, memory. `python bench_core.py [--json]`.

Pure computation, no store and no network: what a store adds is measured elsewhere. Times are wall times of this process.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sparkd.coordination.api import StoredRecord
from sparkd.core import events
from sparkd.core.cluster import Cluster
from sparkd.core.effects import LaunchDriver, Outcome
from sparkd.core.values import (
    ApplicationDescription,
    DriverDescription,
    Now,
    Policy,
    ProcessReport,
    ResourceProfile,
    WorkerInfo,
)

WORKERS = 1_000
QUEUED = 5_000
RUNNING = 1_000
BOUNDS = {"recovery_s": 1.5, "pass_p99_ms": 50.0, "memory_mb": 100.0}


class Bench:
    """A cluster with a store, driven as fast as it goes; notes how long each event took."""

    def __init__(self) -> None:
        self.cluster = Cluster(Policy())
        self.store: dict[tuple[str, str], str] = {}
        self.times: dict[str, list[float]] = {}
        self.clock = 1_000.0

    def now(self) -> Now:
        return Now(1_700_000_000_000 + int(self.clock * 1000), self.clock)

    def do(self, name: str, event: events.Event) -> Outcome:
        begin = time.perf_counter()
        outcome = self.cluster.handle(event, self.now())
        self.times.setdefault(name, []).append(time.perf_counter() - begin)
        for write in outcome.writes:
            if write.record is None:
                self.store.pop((write.kind, write.id), None)
            else:
                self.store[write.kind, write.id] = json.dumps(write.record)
        return outcome

    def settle(self, name: str) -> list[Outcome]:
        """Tick while a pass is due at once."""
        outcomes = []
        while (due := self.cluster.next_deadline()) is not None and due <= self.clock:
            outcomes.append(self.do(name, events.Tick()))
        return outcomes


def description(number: int, cores: int, memory_mb: int) -> DriverDescription:
    """A submission of about 1.2 KB, as spark-submit makes them."""
    environment = {f"SPARK_SETTING_{index}": f"/some/path/of/the/submitter/{number}/{index}" for index in range(8)}
    properties = {"spark.app.name": f"job-{number}", "spark.jars": f"/shared/jobs/job-{number % 50}.jar", "spark.driver.supervise": "true"}
    return DriverDescription(
        "jvm", f"job-{number}", resource=f"/shared/jobs/job-{number % 50}.jar", main_class="org.example.jobs.Main",
        arguments=("--day", str(number)), environment=environment, properties=properties, cores=cores, memory_mb=memory_mb,
        supervise=bool(number % 2),
    )  # fmt: skip


def worker(number: int) -> WorkerInfo:
    return WorkerInfo(
        f"worker-20240101000000-10.0.{number // 250}.{number % 250}-7078", f"10.0.{number // 250}.{number % 250}", 7078, 16, 65536
    )


def fill(bench: Bench) -> None:
    """1,000 full workers, 5,000 drivers in 500 shapes that wait, 1,000 that run."""
    for number in range(WORKERS):
        bench.do("register, empty", events.WorkerRegistered(worker(number)))
    for number in range(RUNNING):
        bench.do("submit, placed", events.SubmitDriver(number, description(number, 16, 1024)))
    for number in range(QUEUED):
        shape = (1 + number % 16, 512 * (1 + number % 31))
        bench.do("submit, queued", events.SubmitDriver(number, description(number, *shape)))


def stored(bench: Bench) -> list[StoredRecord]:
    return [StoredRecord(kind, entity_id, json.loads(text)) for (kind, entity_id), text in bench.store.items()]


def recovery(bench: Bench) -> tuple[float, float]:
    """Seconds to recover from decoded records, and until all 1,000 workers have reported."""
    records = stored(bench)
    gc.collect()
    begin = time.perf_counter()
    bench.cluster, _ = Cluster.recover(Policy(), records, bench.now())
    recovered = time.perf_counter() - begin
    for number in range(WORKERS):
        info = worker(number)
        held = [bench.cluster.drivers[key] for key in sorted(bench.cluster._book.drivers_of.get(info.id, ()))]
        reports = tuple(ProcessReport(driver.ref, "RUNNING", *driver.shape) for driver in held)
        bench.do("register, after failover", events.WorkerRegistered(info, reports))
        bench.settle("pass")
    return recovered, time.perf_counter() - begin


def busy(bench: Bench, rounds: int = 3_000) -> None:
    """Drivers end, others take their place; submissions that fit nowhere; kills of queued ones; heartbeats."""
    chance = random.Random(1)  # noqa: S311 the same mix each time
    running = [driver for driver in bench.cluster.drivers.values() if driver.state == "RUNNING"]
    for number in range(rounds):
        bench.clock += 0.01
        ended = running.pop(chance.randrange(len(running)))
        report = ProcessReport(ended.ref, "FINISHED", *ended.shape, seq=1, exit_code=0)
        for outcome in [bench.do("end, others launched", events.ProcessChanged(ended.worker_id, report)), *bench.settle("pass")]:
            running += [bench.cluster.drivers[effect.ref.owner] for effect in outcome.effects if isinstance(effect, LaunchDriver)]
        bench.do("submit, fits nowhere", events.SubmitDriver(number, description(number, 16, 65536)))
        bench.do("heartbeat", events.WorkerHeartbeat(ended.worker_id))


def applications(bench: Bench) -> None:
    """Applications over all workers: one that takes everything, then many that wait for it, then all at once."""
    for number in range(WORKERS):
        bench.do("register, empty", events.WorkerRegistered(worker(number)))
    first = ApplicationDescription("all", profile=ResourceProfile(0, 4, 4096), payload=b"x" * 8192)
    outcome = bench.do("application over 4,000 executors", events.RegisterApplication(1, first))
    app_id = outcome.writes[1].id
    for number in range(QUEUED):
        waiting = ApplicationDescription(
            f"app-{number}", max_cores=8, profile=ResourceProfile(0, 1 + number % 8, 1024), payload=b"x" * 8192
        )
        bench.do("application, waits", events.RegisterApplication(number, waiting))
    bench.do("application over 4,000 executors ends", events.UnregisterApplication(app_id))
    for number in range(WORKERS):
        for executor in range(number, 4000, WORKERS):
            ref = next(iter(bench.cluster.workers[worker(number).id].occupied), None)
            if ref is None or ref.owner != app_id:
                break
            report = ProcessReport(ref, "KILLED", 4, 4096, seq=1 + executor)
            bench.do("executor ends, others launched", events.ProcessChanged(worker(number).id, report))
            bench.settle("pass")


def memory_mb(records: Path | None) -> float:
    """Resident MB of a fresh process with the core, and with a state recovered from `records` (a JSON list per line)."""
    more = ["--measure", str(records)] if records else ["--measure", "/dev/null"]
    done = subprocess.run([sys.executable, str(Path(__file__)), *more], check=True, capture_output=True, text=True)
    return float(done.stdout)


def measure(records: Path) -> float:
    """Recover and return what this process holds, in MB."""
    with records.open() as lines:
        cluster, _ = Cluster.recover(Policy(), (StoredRecord(*json.loads(line)) for line in lines), Now(1, 1.0))
    gc.collect()
    held = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    assert len(cluster.drivers) in (0, QUEUED + RUNNING)
    return int(held.split()[1]) / 1024


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> int:
    """Print the figures; 1 when one misses its bound."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", action="store_true")
    arguments.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.measure:
        print(measure(chosen.measure))
        return 0
    bench = Bench()
    fill(bench)
    record_bytes = [len(text) for (kind, _), text in bench.store.items() if kind == "driver"]
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(f'["{kind}", "{entity_id}", {text}]\n' for (kind, entity_id), text in bench.store.items())
        file.flush()
        with_state, without = memory_mb(Path(file.name)), memory_mb(None)
    recovered, reported = recovery(bench)
    busy(bench)
    others = Bench()
    applications(others)
    times = {**bench.times, **{f"{name} (applications)" if name in bench.times else name: found for name, found in others.times.items()}}
    passes = [one for name, found in times.items() if "register" not in name for one in found]
    figures: dict[str, float] = {
        "recovery_s": recovered,
        "all_workers_reported_s": reported,
        "pass_p99_ms": statistics.quantiles(passes, n=100)[-1] * 1000,
        "pass_max_ms": max(passes) * 1000,
        "memory_mb": with_state,
        "memory_without_state_mb": without,
        "json_state_ms": timed(bench.cluster.json_state) * 1000,
        "driver_record_bytes": statistics.median(record_bytes),
    }
    rows = {
        name: {"n": len(found), "median_ms": statistics.median(found) * 1e3, "max_ms": max(found) * 1e3} for name, found in times.items()
    }
    missed = [name for name, bound in BOUNDS.items() if figures[name] > bound]
    if chosen.json:
        print(json.dumps({"figures": figures, "events": rows, "bounds": BOUNDS, "missed": missed}))
        return 1 if missed else 0
    print(f"{WORKERS} workers, {QUEUED} queued drivers, {RUNNING} running; then {QUEUED} applications")
    for name, figure in figures.items():
        bound = f"  (bound {BOUNDS[name]:g})" if name in BOUNDS else ""
        print(f"  {name:28} {figure:10.3f}{bound}")
    print(f"  {'event':40} {'n':>6} {'median ms':>10} {'max ms':>10}")
    for name, row in rows.items():
        print(f"  {name:40} {row['n']:6} {row['median_ms']:10.3f} {row['max_ms']:10.3f}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
