"""Real Masters on a real ensemble: who is fenced, who is left alone, and how long the cluster is without a leader.

Bounds are generous (a busy machine); the figures are printed, see them with `pytest -s`.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ensemble import Ensemble
from masters import Masters, Watch, find_spark
from missing import missing

from latchkeeper import rules, zk

#: Sessions of a dead Master live this long here, so that a quick new leader can only be the fence's work.
SESSION_MS = "40000"


@pytest.fixture(scope="module")
def cluster(zookeeper_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ensemble, Masters]]:
    """One ZooKeeper server with long sessions and two Masters."""
    jars = find_spark(tmp_path_factory.mktemp("spark"))
    if jars is None:
        missing("no jars of Spark: deploy once (the cache then has them) or set SPARK_HA_JARS to the jars/ of a Spark")
    settings = {"tickTime": "2000", "maxSessionTimeout": SESSION_MS}
    directory = tmp_path_factory.mktemp("cluster")
    with Ensemble(zookeeper_jars, directory, size=1, settings=settings) as ensemble, Masters(jars, directory, ensemble.connect) as masters:
        yield ensemble, masters


def latches(ensemble: Ensemble) -> list[rules.Latch]:
    with zk.Line(ensemble.connect, "/spark", timeout_s=10) as line:
        return rules.in_line(line.latches())


def test_the_record_names_the_latch_of_each_process(cluster: tuple[Ensemble, Masters]) -> None:
    ensemble, masters = cluster
    leader, standby = masters.roles()
    first, second = latches(ensemble)
    assert (leader.recorded()["session"], leader.recorded()["node"]) == (first.owner, first.name)
    assert (standby.recorded()["session"], standby.recorded()["node"]) == (second.owner, second.name)
    end = time.monotonic() + 30
    while not leader.recorded().get("url") and time.monotonic() < end:  # its page is slow at first
        time.sleep(0.2)
    assert leader.recorded()["url"] == f"spark://127.0.0.1:{leader.port}"


def test_the_fence_refuses_while_the_process_lives(cluster: tuple[Ensemble, Masters]) -> None:
    ensemble, masters = cluster
    leader, standby = masters.roles()
    before = latches(ensemble)
    for master in (leader, standby):
        said, _ = master.call("fence")
        assert said["result"] == "process alive"
    assert latches(ensemble) == before


def test_a_dead_standby_leaves_the_leader_alone(cluster: tuple[Ensemble, Masters]) -> None:
    ensemble, masters = cluster
    leader, standby = masters.roles()
    first, second = latches(ensemble)
    with Watch([leader]) as watch:
        standby.kill()
        said, took = standby.call("fence")
        assert said["result"] == "fenced"
        assert said["led"] is False
        assert said["deleted"] == [second.name]
        assert latches(ensemble) == [first]
        time.sleep(3)
    assert watch.statuses(leader.name) == {"ALIVE"}
    print(f"\nstandby killed: its latch gone after {said['after_s']} s ({took:.2f} s with Python's start), leader ALIVE throughout")


def test_a_dead_leader_is_fenced_and_the_standby_leads(cluster: tuple[Ensemble, Masters]) -> None:
    ensemble, masters = cluster
    leader, standby = masters.roles()
    first, second = latches(ensemble)
    killed = time.monotonic()
    leader.kill()
    said, _ = leader.call("fence")
    assert said["result"] == "fenced"
    assert said["led"] is True
    assert said["deleted"] == [first.name]
    assert isinstance(said["after_s"], float)
    assert 2.0 <= said["after_s"] < 8, "a leader is fenced two seconds after its death: sooner kills executors"
    standby.wait_for("ALIVE", timeout_s=15)
    print(f"\nleader killed: latch gone after {said['after_s']} s, new leader after {time.monotonic() - killed:.2f} s")
    assert latches(ensemble) == [second]
    # A second fence of the same death finds nothing to do; so does one whose record names another session.
    assert leader.call("fence")[0]["result"] == "already gone"
    record = json.loads(leader.record.read_text())
    record["session"] = record["session"] + 1
    leader.record.write_text(json.dumps(record))
    assert leader.call("fence")[0]["result"] == "already gone"
    # Nor does one of another boot, though everything else in the record is right.
    record = json.loads(standby.record.read_text()) | {"boot": "00000000-0000-0000-0000-000000000000", "pid": 2**22}
    leader.record.write_text(json.dumps(record))
    assert leader.call("fence")[0]["result"] == "another boot"
    assert latches(ensemble) == [second]
    assert standby.status() == "ALIVE"


def test_a_planned_stop_hands_over(cluster: tuple[Ensemble, Masters]) -> None:
    ensemble, masters = cluster
    leader, standby = masters.roles()
    first, second = latches(ensemble)
    with Watch([leader, standby]) as watch:
        time.sleep(0.5)
        said, took = leader.call("stop", "--pid", str(leader.pid))
        leader.reap()
        time.sleep(0.5)
    assert said["result"] == "handed over", said
    assert said["to"] == standby.page
    assert latches(ensemble) == [second]
    assert first.owner != second.owner
    assert leader.process is not None
    assert leader.process.returncode == -9
    gap = watch.without_leader()
    print(f"\nplanned stop: {gap:.2f} s without a leader (its own measure {said['without_leader_s']} s), {took:.2f} s in all")
    assert gap <= 4, "two seconds on a machine with nothing else to do"
    assert leader.call("fence")[0]["result"] == "already gone"


def test_a_planned_stop_of_a_standby_is_plain(cluster: tuple[Ensemble, Masters]) -> None:
    ensemble, masters = cluster
    leader, standby = masters.roles()
    first = latches(ensemble)[0]
    with Watch([leader]) as watch:
        said, _ = standby.call("stop", "--pid", str(standby.pid))
        standby.reap()
        assert said["result"] == "stopped"
        assert "does not lead" in str(said["why"])
        assert standby.process is not None
        assert standby.process.returncode == 143
        assert standby.call("fence")[0]["led"] is False
        # Now the leader has nobody to hand over to; its stop is plain too, and at once.
        assert latches(ensemble) == [first]
    assert watch.statuses(leader.name) == {"ALIVE"}
    said, took = leader.call("stop", "--pid", str(leader.pid))
    leader.reap()
    assert said["result"] == "stopped"
    assert "no other master owns a latch" in str(said["why"])
    assert leader.call("fence")[0]["led"] is True
    assert latches(ensemble) == []
    print(f"\nplain stop of the only master: {took:.2f} s")


def test_guard_and_status(cluster: tuple[Ensemble, Masters]) -> None:
    _, masters = cluster
    leader, _ = masters.roles()
    report = json.loads(
        subprocess.run(leader.command("status", "--json"), env=leader.environment(), capture_output=True, text=True, check=True).stdout
    )
    assert report["verdict"] == "process alive"
    assert report["place"] == 1
    assert len(report["latches"]) == 2
