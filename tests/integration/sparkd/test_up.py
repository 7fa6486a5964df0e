"""Whole clusters of real processes and real ZooKeeper: who leads, and what becomes of the work, while parts die, stop and pause.

Judged by what masters say of themselves (up_world.Judge), and by a file that the commands themselves write.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from up_world import Judge, Traces, at_rest, lives, pids, rest, until

from sparkd.up import LocalCluster

LONG = "while :; do sleep 0.1; done"


@pytest.fixture(scope="module")
def whole(zookeeper_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Two masters, two workers, three ZooKeeper servers, for all tests of the module."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SPARK_HA_JARS", str(zookeeper_jars))
    import os

    properties = {"spark.worker.timeout": "8s"}
    cluster = LocalCluster(tmp_path_factory.mktemp("up"), masters=2, workers=2, environ=dict(os.environ), properties=properties)
    patch.undo()
    with cluster:
        yield cluster


@pytest.fixture
def cluster(whole: LocalCluster) -> Iterator[LocalCluster]:
    """The cluster at rest, and brought to rest again."""
    with at_rest(whole):
        yield whole


@pytest.fixture
def traces(tmp_path: Path) -> Traces:
    """What commands did, by their own account."""
    return Traces(tmp_path / "traces")


def run_long(cluster: LocalCluster, traces: Traces, name: str = "long", **more: object) -> str:
    """Submit a command that runs until it is ended; return its driver when it runs."""
    driver = cluster.submit(*traces.command(name, LONG), **more)  # type: ignore[arg-type]
    until(lambda: traces.pids(name))
    return driver


def test_a_killed_leader_is_followed_at_once_and_what_runs_goes_on(cluster: LocalCluster, traces: Traces) -> None:
    driver = run_long(cluster, traces)
    with Judge(cluster) as judge:
        first = cluster.leader()
        before = len(cluster.fences)
        cluster.kill(first)
        began = time.monotonic()
        second = cluster.submit(*traces.command("second"))
        took = time.monotonic() - began
        cluster.wait_driver(second, "FINISHED")
        until(lambda: cluster.standbys() == [first])
    assert cluster.leader() != first
    assert "fenced" in cluster.fences[before]
    assert took < 4.0, "that is a session's end, not a fence"
    assert judge.two_leaders() == []
    row = cluster.client().driver(driver)
    assert (row["state"], row["attempt"]) == ("RUNNING", 1)
    assert traces.starts() == ["long", "second"]
    assert lives(traces.pids("long")[0])


def test_a_standby_that_dies_takes_nothing_with_it(cluster: LocalCluster) -> None:
    leader, standby = cluster.leader(), cluster.standbys()[0]
    epoch = cluster.client().call("GET", "/state")["epoch"]
    cluster.kill(standby)
    until(lambda: cluster.child(standby).running and standby in cluster.standbys())
    assert cluster.leader() == leader
    assert cluster.client().call("GET", "/state")["epoch"] == epoch


def test_sigterm_hands_over(cluster: LocalCluster, traces: Traces) -> None:
    driver = run_long(cluster, traces)
    with Judge(cluster) as judge:
        first = cluster.leader()
        cluster.child(first).terminate()
        began = time.monotonic()
        second = cluster.submit(*traces.command("second"))
        took = time.monotonic() - began
        assert cluster.child(first).wait(10)
        cluster.wait_driver(second, "FINISHED")
    assert took < 3.0, "that is no hand-over"
    assert judge.two_leaders() == []
    assert cluster.client().driver(driver)["attempt"] == 1
    assert traces.starts() == ["long", "second"]


def test_a_paused_leader_is_replaced_and_says_standby_when_it_wakes(cluster: LocalCluster, traces: Traces) -> None:
    driver = run_long(cluster, traces)
    with Judge(cluster) as judge:
        first = cluster.leader()
        cluster.pause(first)
        second = cluster.submit(*traces.command("second"), patience_s=30.0)
        cluster.wait_driver(second, "FINISHED")
        woken = time.monotonic()
        cluster.resume(first)
        until(lambda: judge.first_words(first, woken))
        until(lambda: first in cluster.standbys())
    assert judge.first_words(first, woken)[0] != "ALIVE"
    assert "ALIVE" not in judge.first_words(first, woken)
    assert judge.two_leaders() == []
    assert (cluster.client().driver(driver)["state"], traces.starts()) == ("RUNNING", ["long", "second"])


def test_one_zookeeper_server_after_the_other_dies_and_nobody_notices(cluster: LocalCluster) -> None:
    masters, leader = pids(cluster, "master"), cluster.leader()
    with Judge(cluster) as judge:
        for number in (1, 2, 3):
            cluster.kill(f"zookeeper-{number}", restart=False)
            cluster.submit("true", patience_s=15.0)
            cluster.start_one(f"zookeeper-{number}")
            cluster.wait_quorum(60)
    assert judge.leaders() == [(leader, judge.leaders()[0][1])]
    assert pids(cluster, "master") == masters


def test_one_paused_zookeeper_server_after_the_other_is_left_alone(cluster: LocalCluster) -> None:
    masters, leader = pids(cluster, "master"), cluster.leader()
    with Judge(cluster) as judge:
        for number in (1, 2, 3):
            cluster.pause(f"zookeeper-{number}")
            cluster.submit("true", patience_s=20.0)
            cluster.resume(f"zookeeper-{number}")
            cluster.wait_quorum(60)
    assert pids(cluster, "master") == masters
    assert judge.two_leaders() == []
    assert {name for name, _ in judge.leaders()} == {leader}


def test_a_quorum_is_lost_and_comes_back(cluster: LocalCluster, traces: Traces) -> None:
    masters = pids(cluster, "master")
    driver = run_long(cluster, traces)
    short = cluster.submit(*traces.command("short", "sleep 3"))
    until(lambda: traces.pids("short"))
    with Judge(cluster) as judge:
        for number in (1, 2):
            cluster.kill(f"zookeeper-{number}", restart=False)
        until(lambda: "ALIVE" not in cluster.statuses().values(), 20)
        until(lambda: traces.ends("short"))
        for number in (1, 2):
            cluster.start_one(f"zookeeper-{number}")
        cluster.wait_alive(40)
        row = cluster.wait_driver(short, "FINISHED", "ERROR", "FAILED")
    assert row["state"] == "FINISHED"
    assert pids(cluster, "master") == masters
    assert judge.two_leaders() == []
    assert cluster.client().driver(driver)["state"] == "RUNNING"
    assert sorted(traces.starts()) == ["long", "short"]


def test_a_driver_that_ends_while_nobody_leads_has_ended_once(cluster: LocalCluster, traces: Traces) -> None:
    good = cluster.submit(*traces.command("good", "sleep 1"), supervise=True)
    bad = cluster.submit(*traces.command("bad", "sleep 1; exit 3"))
    until(lambda: traces.pids("good") and traces.pids("bad"))
    for name in pids(cluster, "master"):
        cluster.kill(name, restart=False)
    until(lambda: traces.ends("good") and not lives(traces.pids("bad")[0]))
    for name in pids(cluster, "master"):
        cluster.start_one(name)
    assert cluster.wait_driver(good, "FINISHED", "ERROR", "FAILED")["state"] == "FINISHED"
    row = cluster.wait_driver(bad, "FINISHED", "ERROR", "FAILED")
    assert (row["state"], row["exit_code"]) == ("FAILED", 3)
    assert sorted(traces.starts()) == ["bad", "good"]


def test_a_killed_worker_adopts_what_it_ran(cluster: LocalCluster, traces: Traces) -> None:
    drivers = [run_long(cluster, traces, name, supervise=supervise) for name, supervise in (("a", True), ("b", False))]
    for worker in pids(cluster, "worker"):
        cluster.kill(worker)
    until(lambda: all(cluster.child(worker).starts > 1 for worker in pids(cluster, "worker")))
    cluster.wait_alive(30)
    rows = [cluster.wait_driver(driver, "RUNNING") for driver in drivers]
    assert [row["attempt"] for row in rows] == [1, 1]
    assert traces.starts() == ["a", "b"]
    for name, driver in zip("ab", drivers, strict=True):
        assert lives(traces.pids(name)[0])
        cluster.client().kill(driver)
        cluster.wait_driver(driver, "KILLED")
        until(lambda name=name: not lives(traces.pids(name)[0]))  # type: ignore[misc]


def test_a_driver_that_ends_while_its_worker_is_down_has_ended_once(cluster: LocalCluster, traces: Traces) -> None:
    driver = cluster.submit(*traces.command("short", "sleep 1"), supervise=True)
    until(lambda: traces.pids("short"))
    for worker in pids(cluster, "worker"):
        cluster.kill(worker, restart=False)
    until(lambda: traces.ends("short"))
    for worker in pids(cluster, "worker"):
        cluster.start_one(worker)
    assert cluster.wait_driver(driver, "FINISHED")["attempt"] == 1
    assert traces.starts() == ["short"]


def test_a_stopped_worker_ends_its_processes_and_supervised_ones_go_elsewhere(cluster: LocalCluster, traces: Traces) -> None:
    driver = run_long(cluster, traces, supervise=True)
    where = cluster.client().driver(driver)["worker_address"].split(":")[1]
    worker = next(one.name for one in cluster.ports.workers if str(one.port) == where)
    cluster.stop(worker)
    assert not lives(traces.pids("long")[0])
    until(lambda: len(traces.pids("long")) == 2, 40, "it is not started on the other worker")
    row = cluster.wait_driver(driver, "RUNNING")
    assert row["attempt"] == 2
    assert not row["worker_address"].endswith(f":{where}")


def test_a_worker_that_was_paused_goes_on_or_ends_what_was_given_to_others(cluster: LocalCluster, traces: Traces) -> None:
    """Below worker.timeout nothing changes; beyond it supervised work runs elsewhere, and the woken worker ends its own attempt of it."""
    again = run_long(cluster, traces, "again", supervise=True)
    others = [run_long(cluster, traces, name) for name in ("a", "b")]  # one on each worker
    rows = {row["id"]: row["worker_address"].split(":")[1] for row in cluster.client().drivers() if row["state"] == "RUNNING"}
    [once] = [driver for driver in others if rows[driver] == rows[again]]
    worker = next(one.name for one in cluster.ports.workers if str(one.port) == rows[again])
    cluster.pause(worker)
    time.sleep(2)
    cluster.resume(worker)
    assert [cluster.wait_driver(driver, "RUNNING")["attempt"] for driver in (again, once)] == [1, 1]
    cluster.pause(worker)
    until(lambda: len(traces.pids("again")) == 2, 40, "it is not started elsewhere")
    assert cluster.client().driver(once)["state"] == "UNKNOWN"
    cluster.resume(worker)
    cluster.wait_alive(30)
    first, second = traces.pids("again")
    until(lambda: not lives(first), 20, "the old attempt is not ended")
    assert lives(second)
    assert cluster.wait_driver(again, "RUNNING")["attempt"] == 2
    assert cluster.wait_driver(once, "RUNNING")["attempt"] == 1
    assert sorted(traces.starts()) == ["a", "again", "again", "b"]


def test_leader_and_worker_die_together_and_the_rest_does_not_wait(cluster: LocalCluster, traces: Traces) -> None:
    leader = cluster.leader()
    cluster.kill("worker-1", restart=False)
    cluster.kill(leader)
    began = time.monotonic()
    driver = cluster.submit(*traces.command("next"))
    took = time.monotonic() - began
    cluster.wait_driver(driver, "FINISHED")
    assert took < 4.0, "the dead worker is waited for"


def test_queued_drivers_keep_ids_and_order_and_run_once_through_failovers(cluster: LocalCluster, traces: Traces) -> None:
    blockers = [run_long(cluster, traces, f"block{number}", cores=4) for number in (1, 2)]
    queued = [cluster.submit(*traces.command(f"q{number}"), cores=4) for number in range(6)]
    with Judge(cluster) as judge:
        for _ in range(3):
            cluster.kill(cluster.leader())
            cluster.wait_alive(30)
            until(lambda: len(cluster.standbys()) == 1)
        states = {row["id"]: row["state"] for row in cluster.client().drivers()}
        assert [states[driver] for driver in queued] == ["SUBMITTED"] * 6
        cluster.client().kill(blockers[0])
        for driver in queued:
            cluster.wait_driver(driver, "FINISHED")
    assert judge.two_leaders() == []
    assert [name for name in traces.starts() if name.startswith("q")] == [f"q{number}" for number in range(6)]


def test_submissions_through_a_failover_are_run_once_each(cluster: LocalCluster, traces: Traces) -> None:
    """One request id each; what was acknowledged runs, and nothing runs twice."""
    from concurrent.futures import ThreadPoolExecutor

    def submit(number: int) -> str:
        return cluster.submit(*traces.command(f"s{number}"), request_id=f"through-{number}-{id(traces)}", patience_s=30.0)

    with ThreadPoolExecutor(4) as pool:
        first = [pool.submit(submit, number) for number in range(20)]
        cluster.kill(cluster.leader())
        second = [pool.submit(submit, number) for number in range(20, 40)]
        drivers = [one.result() for one in (*first, *second)]
    assert len(set(drivers)) == 40
    for driver in drivers:
        cluster.wait_driver(driver, "FINISHED", timeout_s=60)
    assert sorted(traces.starts()) == sorted(f"s{number}" for number in range(40))


def test_bytes_that_are_no_frames_do_not_harm(cluster: LocalCluster) -> None:
    import random
    import socket

    before = pids(cluster, "master")
    source = random.Random(7)  # noqa: S311 no secret
    for master in cluster.ports.masters:
        for first in (b"\x00", b"\xa5", b"\xa5\x01", b"GET / HTTP/1.1\r\n\r\n", b""):
            with socket.create_connection(("127.0.0.1", master.port), 5) as connection:
                connection.sendall(first + source.randbytes(4096))
    cluster.submit("true")
    assert pids(cluster, "master") == before


def test_a_worker_with_another_secret_is_not_taken(cluster: LocalCluster, tmp_path: Path) -> None:
    import subprocess
    import sys

    secret = tmp_path / "secret"
    secret.write_text("something else altogether")
    secret.chmod(0o600)
    conf = tmp_path / "spark-defaults.conf"
    conf.write_text(f"spark.sparkd.secretFile {secret}\n")
    flags = ["-h", "127.0.0.1", "--webui-port", "0", "-d", str(tmp_path / "work"), "--properties-file", str(conf), cluster.master_url]
    log = tmp_path / "log"
    with log.open("wb") as out:
        worker = subprocess.Popen([sys.executable, "-m", "sparkd.cli", "worker", *flags], stdout=out, stderr=out)
    try:
        until(lambda: "secret" in log.read_text().lower().replace("secretfile", ""))
        assert len(cluster.client().workers()) == 2
        assert worker.poll() is None  # it goes on trying
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(15)
    rest(cluster)


def test_the_store_is_read_without_a_leader_and_secrets_stay_hidden(cluster: LocalCluster, traces: Traces) -> None:
    import json
    import os
    import subprocess
    import sys

    driver = run_long(cluster, traces, environment={"HUSH": "a very secret value"})
    command = [sys.executable, "-m", "sparkd.cli", "state", "--store", "--json"]
    environ = {**os.environ, "SPARK_CONF_DIR": str(cluster.directory / "master-1" / "conf")}
    for name in pids(cluster, "master"):
        cluster.kill(name, restart=False)
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True)
    state = json.loads(done.stdout)
    assert driver in {record["id"] for record in state["records"] if record["kind"] == "driver"}
    assert "a very secret value" not in done.stdout
    shown = subprocess.run([*command[:3], "epoch", "show", "--json"], env=environ, capture_output=True, text=True, timeout=60, check=True)
    epoch = json.loads(shown.stdout)
    assert (epoch["cluster_id"], epoch["number"]) == (state["cluster_id"], state["epoch"])
    assert epoch["led"] is False
