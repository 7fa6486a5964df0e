"""`sparkd demo`: a whole cluster on loopback, a supervised counter, the leader killed, the next leader. Nothing is left behind."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import Failure, parser, program

if TYPE_CHECKING:
    from ..up import LocalCluster

COUNTER = "n=0; while sleep 0.2; do n=$((n+1)); echo $n; done"


class Teller:
    """One line per step, with the time since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, text: str) -> None:
        """Print."""
        print(f"[{time.monotonic() - self._began:5.1f} s] {text}", flush=True)


def _cluster(directory: Path, recovery: str, tell: Teller) -> LocalCluster:
    """Return the cluster to show: on ZooKeeper, or on a shared directory where this host has none."""
    from ..up import LocalCluster
    from ..up_zookeeper import Lacking, class_path, java

    if recovery != "filesystem":
        import os

        try:
            java(os.environ)
            class_path(os.environ, directory / "zookeeper")
        except Lacking as lack:
            if recovery == "zookeeper":
                raise Failure(str(lack)) from None
            tell(f"{lack}")
            recovery = "filesystem"
    parts: dict[str, Any] = {"recovery": recovery or "zookeeper", "masters": 2, "workers": 2}
    return LocalCluster(directory, **parts)


def _count(cluster: LocalCluster, driver_id: str) -> int:
    """Return the last number that the counter printed, on whatever worker it runs."""
    last = 0
    for worker in cluster.ports.workers:
        for path in cluster.work_dir(worker.name).rglob("stdout"):
            if driver_id in str(path):
                numbers = [line for line in path.read_text(errors="replace").split() if line.isdigit()]
                last = max(last, int(numbers[-1]) if numbers else 0)
    return last


def _show(cluster: LocalCluster, tell: Teller) -> None:
    servers = f"{len(cluster.ports.zookeeper)} ZooKeeper servers, " if cluster.zookeeper else "a shared directory, "
    tell(f"starting {servers}2 masters, 2 workers on 127.0.0.1")
    cluster.start()
    first = cluster.leader()
    tell(f"up: {first} leads, {', '.join(cluster.standbys())} stands by; pages: {_page(cluster, first)}")

    driver = cluster.submit("sh", "-c", COUNTER, name="counter", supervise=True)
    cluster.wait_driver(driver, "RUNNING")
    end = time.monotonic() + 5
    while _count(cluster, driver) < 5 and time.monotonic() < end:
        time.sleep(0.1)
    before = _count(cluster, driver)
    tell(f"submitted a counter: {driver} is RUNNING and has counted to {before}")

    pid = cluster.child(first).pid
    tell(f"kill -9 {pid}, the leader ({first}); submitting at once, again and again until somebody takes it")
    began = time.monotonic()
    cluster.kill(first)
    second = cluster.submit("echo", "taken by the new leader", name="second")
    took = time.monotonic() - began
    leader = cluster.wait_alive()
    tell(f"{leader} leads and took {second} {took:.2f} s after the kill")
    row = cluster.wait_driver(second, "FINISHED")
    tell(f"{second} has run: {row['state']}")

    time.sleep(1.0)
    row = cluster.client().driver(driver)
    after = _count(cluster, driver)
    if row["state"] != "RUNNING" or row.get("attempt", 1) != 1 or after <= before:
        raise Failure(f"the counter did not go on: {row['state']}, attempt {row.get('attempt')}, {before} and then {after}")
    tell(f"{driver} went on all the while: still attempt 1, it has counted to {after}")
    again = time.monotonic() + 10
    while first not in cluster.standbys() and time.monotonic() < again:
        time.sleep(0.1)
    tell(f"{first} is back, as a {cluster.statuses()[first]}")


def _page(cluster: LocalCluster, name: str) -> str:
    return next(f"http://127.0.0.1:{master.web}" for master in cluster.ports.masters if master.name == name)


def run(argv: list[str]) -> int:
    """Show it."""
    options = parser("demo", "A cluster on loopback, a submission, the leader's death, the next leader. Needs no root, leaves nothing.")
    options.add_argument("--recovery", choices=("zookeeper", "filesystem"), default="", help="zookeeper when this host has one")
    chosen = options.parse_args(argv)
    from ..client import ClientError
    from ..up import UpError

    tell = Teller()
    directory = Path(tempfile.mkdtemp(prefix="sparkd-demo-"))
    cluster: LocalCluster | None = None
    keep = False
    try:
        cluster = _cluster(directory, chosen.recovery, tell)
        _show(cluster, tell)
        cluster.stop()
    except (UpError, ClientError, Failure) as error:
        keep = True
        raise Failure(f"{error}\nthe logs stay in {directory}") from None
    finally:
        if cluster is not None:
            cluster.end_now()
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
    tell("ended: nothing is left running")
    sparkd = program()
    print(f"Next: `{sparkd} up` keeps such a cluster running, for you to submit to and to break; `{sparkd} --help` lists what there is.")
    return 0
