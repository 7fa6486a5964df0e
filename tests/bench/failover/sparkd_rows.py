"""What is measured of sparkd, on a LocalCluster: real processes and real ZooKeeper; the fence runs as the unit's ExecStopPost does."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from apache import NEVER_FITS, create
from apache_rows import first_write, rss_mb

from sparkd.up import LocalCluster, Master


def rest_ports(cluster: LocalCluster, names: Iterable[str] = ()) -> list[Master]:
    """Return the masters of these names, all without."""
    wanted = set(names)
    return [master for master in cluster.ports.masters if not wanted or master.name in wanted]


def until_submission(cluster: LocalCluster, since: float, names: Iterable[str] = (), timeout_s: float = 60.0) -> float:
    """Seconds from `since` (monotonic) until one of these masters took a submission; asked every 10 ms."""
    masters = rest_ports(cluster, names)
    while time.monotonic() - since < timeout_s:
        if any(create(master.rest, {"spark.driver.memory": NEVER_FITS}) for master in masters):
            return time.monotonic() - since
        time.sleep(0.01)
    return float("inf")


def settle(cluster: LocalCluster) -> str:
    """Wait for a leader with all workers, and for a standby that is in line; return the leader."""
    end = time.monotonic() + 60
    for name, child in cluster.children.items():
        if child.wait(0) and not child.running:
            cluster.start_one(name)
    leader = cluster.wait_alive(60)
    while True:
        answer = cluster.ask(next(master for master in cluster.ports.masters if master.name == leader), "/sparkd/v1/leader")
        masters = answer.body.get("masters", []) if answer and isinstance(answer.body, dict) else []
        if cluster.standbys() and (not masters or len(masters) >= len(cluster.ports.masters)):
            return leader
        if time.monotonic() > end:
            raise TimeoutError(f"no standby in line: {cluster.statuses()}")
        time.sleep(0.05)


def others(cluster: LocalCluster, leader: str) -> list[str]:
    """Names of the other masters."""
    return [master.name for master in cluster.ports.masters if master.name != leader]


def kill_now(cluster: LocalCluster, name: str) -> None:
    """SIGKILL, and the fence after it, both without waiting; not started again before `settle`, which is no crash loop then."""
    threading.Thread(target=cluster.kill, args=(name, False), daemon=True).start()


def kill(cluster: LocalCluster) -> float:
    """SIGKILL of the leader until another one takes a submission."""
    leader = settle(cluster)
    began = time.monotonic()
    kill_now(cluster, leader)
    return until_submission(cluster, began, others(cluster, leader))


def term(cluster: LocalCluster) -> float:
    """SIGTERM of the leader: it hands over."""
    leader = settle(cluster)
    began = time.monotonic()
    cluster.child(leader).terminate()
    value = until_submission(cluster, began, others(cluster, leader))
    cluster.child(leader).wait(10)
    return value


def freeze(cluster: LocalCluster) -> float:
    """Stop the leader from saying anything, as a host that went silent: SIGSTOP, and never a word again."""
    leader = settle(cluster)
    began = time.monotonic()
    cluster.pause(leader)
    value = until_submission(cluster, began, others(cluster, leader))
    cluster.kill(leader, restart=False)
    return value


def leader_and_worker(cluster: LocalCluster) -> float:
    """SIGKILL of the leader and of a worker at once."""
    leader = settle(cluster)
    began = time.monotonic()
    kill_now(cluster, "worker-1")
    kill_now(cluster, leader)
    return until_submission(cluster, began, others(cluster, leader))


def leader_pid(cluster: LocalCluster, leader: str) -> int:
    """Its process now."""
    return cluster.child(leader).pid


def server_of(cluster: LocalCluster, leader: str) -> str:
    """The ZooKeeper server that the leader's session talks to (the word cons, matched by session)."""
    from latchkeeper import fourletter

    record = json.loads(cluster.latch_record(leader).read_text())
    session = int(str(record.get("session")), 16)
    for number, (client, _, _) in enumerate(cluster.ports.zookeeper, 1):
        if any(connection.sid == session for connection in fourletter.cons("127.0.0.1", client, 2.0)):
            return f"zookeeper-{number}"
    raise LookupError(f"no server lists session {session:#x}")


def lose_server(cluster: LocalCluster, how: str) -> tuple[bool, float]:
    """Kill, or stop from answering, the server of the leader's session. Returns (leader stayed, longest time without ALIVE)."""
    leader = settle(cluster)
    pid, server = leader_pid(cluster, leader), server_of(cluster, leader)
    before = next(master for master in cluster.ports.masters if master.name == leader)
    epoch = cluster.ask(before, "/sparkd/v1/leader")
    cluster.kill(server, restart=False) if how == "kill" else cluster.pause(server)
    began = last = time.monotonic()
    worst, changed = 0.0, False
    try:
        while time.monotonic() - began < 8.0:
            said = cluster.statuses(0.3)
            worst = max(worst, time.monotonic() - last)
            if said[leader] == "ALIVE":
                last = time.monotonic()
            changed = changed or any(status == "ALIVE" for name, status in said.items() if name != leader)
            time.sleep(0.05)
    finally:
        cluster.start_one(server) if how == "kill" else cluster.resume(server)
        cluster.wait_quorum()
    after = cluster.ask(before, "/sparkd/v1/leader")
    same = epoch is not None and after is not None and epoch.body.get("epoch") == after.body.get("epoch")
    return same and not changed and cluster.child(leader).running and leader_pid(cluster, leader) == pid, worst


def quorum_lost(cluster: LocalCluster, seconds: float = 30.0) -> tuple[float, bool]:
    """Two of three servers away. Returns (seconds from an independent client's first write to a leader, a master exited)."""
    settle(cluster)
    pids = {master.name: leader_pid(cluster, master.name) for master in cluster.ports.masters}
    for name in ("zookeeper-1", "zookeeper-2"):
        cluster.kill(name, restart=False)
    time.sleep(seconds)
    for name in ("zookeeper-1", "zookeeper-2"):
        cluster.start_one(name)
    first_write(cluster.zookeeper)
    began = time.monotonic()
    while not any(status == "ALIVE" for status in cluster.statuses(0.3).values()) and time.monotonic() - began < 60:
        time.sleep(0.02)
    value = time.monotonic() - began
    exited = any(not cluster.child(name).running or cluster.child(name).pid != pid for name, pid in pids.items())
    return value, exited


def queued_through_failovers(cluster: LocalCluster, directory: Path, failovers: int = 20, count: int = 10) -> tuple[int, list[str]]:
    """Queue drivers, kill the leader again and again, then give them room. Returns (kept id and order, what went wrong).

    The workers are stopped meanwhile; each driver appends its id to a file outside sparkd.
    """
    ran = directory / "ran"
    ran.touch()
    settle(cluster)
    workers = [worker.name for worker in cluster.ports.workers]
    for name in workers:
        cluster.stop(name)
    ids = [cluster.submit("/bin/sh", "-c", f"echo $SPARK_DRIVER_ID >> {ran}", cores=1) for _ in range(count)]
    wrong = []
    for _ in range(failovers):
        leader = cluster.wait_alive(60, workers=0)
        cluster.kill(leader, restart=False)
        cluster.start_one(leader)
        cluster.wait_alive(60, workers=0)
    now = [row["id"] for row in cluster.client().drivers() if row.get("state") in ("SUBMITTED", "RELAUNCHING")]
    kept = [driver for driver in now if driver in ids]
    if kept != ids:
        wrong.append(f"queue is {kept}, not {ids}")
    for name in workers:
        cluster.start_one(name)
    for driver in ids:
        cluster.wait_driver(driver, "FINISHED", timeout_s=60)
    lines = ran.read_text().split()
    if sorted(lines) != sorted(ids):
        wrong.append(f"ran {len(lines)} times: {lines}")
    return len(kept), wrong


def exit_during_outage(cluster: LocalCluster, directory: Path) -> str:
    """A driver ends with 0 while nobody leads; return its state afterwards and how often it ran."""
    mark = directory / f"outage-{time.monotonic_ns()}"
    settle(cluster)
    go = directory / f"{mark.name}.go"
    driver = cluster.submit("/bin/sh", "-c", f"echo run >> {mark}; while [ ! -e {go} ]; do sleep 0.05; done; exit 0", supervise=True)
    while not mark.exists():
        time.sleep(0.02)
    masters = [master.name for master in cluster.ports.masters]
    for name in masters:
        cluster.kill(name, restart=False)
    go.touch()
    time.sleep(0.5)
    for name in masters:
        cluster.start_one(name)
    row = cluster.wait_driver(driver, "FINISHED", "FAILED", "ERROR", "KILLED", timeout_s=60)
    time.sleep(0.5)
    return f"{row['state']}, ran {len(mark.read_text().split())} times"


def submissions(cluster: LocalCluster, clients: int, seconds: float = 8.0) -> float:
    """Durable submissions per second, so many clients at once; the clients are a process of their own (load.py)."""
    leader = settle(cluster)
    master = next(one for one in cluster.ports.masters if one.name == leader)
    import sys

    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("load.py")), str(master.rest), str(clients), str(seconds)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


def start_time(cluster: LocalCluster) -> float:
    """From exec of a master to its first page: the standby, killed and started."""
    leader = settle(cluster)
    name = others(cluster, leader)[0]
    master = next(one for one in cluster.ports.masters if one.name == name)
    cluster.kill(name, restart=False)
    time.sleep(0.3)
    began = time.monotonic()
    cluster.start_one(name)
    while cluster.status(master, 0.3) == "down":
        time.sleep(0.01)
    return time.monotonic() - began


def idle_memory(cluster: LocalCluster) -> float:
    """The leader's resident memory in MB."""
    return rss_mb(leader_pid(cluster, settle(cluster)))
