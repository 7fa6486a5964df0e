from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from module_utils.status_rules import SCHEMA, Cluster, Host, judge
from module_utils.status_text import render

CLUSTER = Cluster("lab", "apache", "4.3.0", "ZOOKEEPER", "spark://a:7077,b:7077")
GROUPS = {
    "a": frozenset({"zookeeper", "spark_masters"}),
    "b": frozenset({"zookeeper", "spark_masters", "spark_workers"}),
    "c": frozenset({"zookeeper", "spark_workers"}),
}


def worker(name: str, state: str = "ALIVE") -> dict[str, Any]:
    return {"id": f"worker-{name}", "host": name, "port": 1, "state": state}


def master(status: str, workers: tuple[str, ...] = ("b", "c")) -> dict[str, Any]:
    listed = [worker(name) for name in workers] if status == "ALIVE" else []
    numbers = {"cores": 4, "cores_used": 1, "memory_mb": 2048, "memory_used_mb": 512}
    return {"web_url": "http://x:8080", "error": None, "status": status, "workers": listed, "apps": [], "drivers": [], **numbers}


def own_worker(name: str) -> dict[str, Any]:
    numbers = {"cores": 2, "cores_used": 0, "memory_mb": 1024, "memory_used_mb": 0, "executors": 0}
    return {"web_url": "http://x:8081", "error": None, "id": f"worker-{name}", **numbers}


def server(mode: str, synced: int | None = None) -> dict[str, Any]:
    return {"endpoint": "x:2181", "error": None, "allowed": True, "serving": True, "mode": mode, "synced_followers": synced}


def down(**more: Any) -> dict[str, Any]:
    return {"web_url": "http://x", "endpoint": "x:2181", "error": "refused", "allowed": True, "serving": False, **more}


def probes() -> dict[str, dict[str, Any] | None]:
    units = {"spark-master.service": {"load": "loaded", "active": "active", "sub": "running"}}
    return {
        "a": {"master": master("ALIVE"), "worker": None, "zookeeper": server("follower"), "units": units, "external": []},
        "b": {"master": master("STANDBY"), "worker": own_worker("b"), "zookeeper": server("leader", 2), "units": units, "external": []},
        "c": {"master": None, "worker": own_worker("c"), "zookeeper": server("follower"), "units": {}, "external": []},
    }


def report(changed: dict[str, dict[str, Any] | None] | None = None, cluster: Cluster = CLUSTER) -> dict[str, Any]:
    answers = probes()
    for name, change in (changed or {}).items():
        answers[name] = None if change is None else {**(answers[name] or {}), **change}
    return judge(cluster, [Host(name, GROUPS[name], answer, "no route" if answer is None else "") for name, answer in answers.items()])


def codes(result: dict[str, Any]) -> list[str]:
    return [problem["code"] for problem in result["problems"]]


def test_healthy() -> None:
    result = report()
    assert result["healthy"] and result["leader"] == "a" and result["standbys"] == ["b"]
    assert result["verdict"] == "HEALTHY: a leads, 1 of 1 standbys ready, 2 of 2 workers, ensemble 3 of 3"
    assert result["schema"] == SCHEMA
    assert result["ensemble"]["quorum"] and result["ensemble"]["leader"] == "b"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"a": {"master": master("STANDBY")}}, {"no_leader"}),
        ({"a": {"master": master("RECOVERING")}}, {"no_leader", "master_recovering"}),
        ({"a": {"master": master("COMPLETING_RECOVERY")}}, {"no_leader", "master_recovering"}),
        ({"b": {"master": master("ALIVE")}}, {"two_leaders"}),
        ({"a": {"master": down()}}, {"no_leader", "master_down"}),
        ({"b": {"master": down()}}, {"master_down"}),
        ({"c": {"worker": down()}}, {"worker_down"}),
        ({"a": {"master": master("ALIVE", ("b",))}}, {"worker_missing"}),
        ({"c": None}, {"host_lost"}),
        ({"a": None}, {"host_lost", "no_leader"}),
        ({"b": None}, {"host_lost"}),  # with the ensemble's leader, which the others follow
        ({"b": None, "c": {"zookeeper": down()}}, {"host_lost", "zookeeper_down", "zookeeper_no_quorum"}),
        ({"c": {"zookeeper": down()}}, {"zookeeper_down"}),
        ({"a": {"zookeeper": down()}, "c": {"zookeeper": down()}}, {"zookeeper_down", "zookeeper_no_quorum"}),
        ({"b": {"zookeeper": server("leader", 1)}}, {"zookeeper_unsynced"}),
        ({"a": {"zookeeper": server("leader", 2)}}, {"zookeeper_split"}),
        ({"b": {"zookeeper": server("follower")}}, {"zookeeper_no_quorum"}),
        (
            {"a": {"units": {"spark-latchkeeper.service": {"load": "loaded", "active": "failed", "sub": "failed"}}}},
            {"latchkeeper_down"},
        ),
    ],
)
def test_each_problem_is_found_and_has_a_next_step(changed: dict[str, Any], expected: set[str]) -> None:
    result = report(changed)
    assert set(codes(result)) == expected
    assert not result["healthy"] and result["verdict"].startswith("NOT HEALTHY: ")
    assert all(problem["message"] and problem["fix"] for problem in result["problems"])


def test_fencing_that_was_switched_off_is_a_note() -> None:
    unit = {"load": "loaded", "active": "inactive", "sub": "dead", "enabled": "disabled"}
    result = report({"a": {"units": {"spark-latchkeeper.service": unit}}})
    assert result["healthy"]
    assert "fencing is off on a" in result["notes"][0]


def test_a_lost_host_is_named_with_the_reason() -> None:
    result = report({"c": None})
    assert "c cannot be asked: no route" in result["verdict"]
    assert result["workers"]["missing"] == ["c"]
    assert {entry["name"]: entry["reachable"] for entry in result["hosts"]} == {"a": True, "b": True, "c": False}


def test_a_worker_that_the_leader_lists_as_dead_is_missing() -> None:
    leader = master("ALIVE", ("b",))
    leader["workers"].append(worker("c", "DEAD"))
    assert codes(report({"a": {"master": leader}})) == ["worker_missing"]


def test_a_strange_worker_is_noted_and_does_not_fail() -> None:
    result = report({"a": {"master": master("ALIVE", ("b", "c", "zz"))}})
    assert result["healthy"] and "worker-zz" in result["notes"][0]


def test_an_external_ensemble_that_does_not_take_words_is_not_checked() -> None:
    cluster = Cluster("lab", "apache", "4.3.0", "ZOOKEEPER", "spark://a:7077", external=3)
    refused = [{**down(), "allowed": False, "endpoint": f"z{number}:2181"} for number in range(3)]
    result = report({"a": {"external": refused}}, cluster)
    assert result["healthy"] and result["ensemble"]["checked"] is False and "not checked" in result["notes"][0]
    assert "not checked" in result["verdict"] and "not checked" in render(result)


def test_an_external_ensemble_is_judged_when_it_answers() -> None:
    cluster = Cluster("lab", "apache", "4.3.0", "ZOOKEEPER", "spark://a:7077", external=3)
    answers = [
        {**server("leader", 1), "endpoint": "z1:2181"},
        {**server("follower"), "endpoint": "z2:2181"},
        {**down(), "endpoint": "z3:2181"},
    ]
    result = report({"a": {"external": answers}}, cluster)
    assert codes(result) == ["zookeeper_down"] and result["ensemble"]["serving"] == 2 and result["ensemble"]["quorum"]


def test_one_host_with_everything() -> None:
    probe = {"master": master("ALIVE", ("a",)), "worker": own_worker("a"), "zookeeper": server("standalone"), "units": {}, "external": []}
    result = judge(CLUSTER, [Host("a", frozenset({"zookeeper", "spark_masters", "spark_workers"}), probe)])
    assert result["healthy"] and "no standby" in result["verdict"]


def test_without_masters() -> None:
    assert codes(judge(CLUSTER, [Host("c", frozenset({"spark_clients"}), {"units": {}})])) == ["no_masters"]


STATE = st.sampled_from(["ALIVE", "STANDBY", "RECOVERING", "COMPLETING_RECOVERY", None])
MODE = st.sampled_from(["leader", "follower", None])


@given(st.tuples(STATE, STATE), st.tuples(MODE, MODE, MODE), st.lists(st.sampled_from("abc"), unique=True))
def test_healthy_only_with_one_leader_all_workers_and_a_whole_ensemble(
    states: tuple[str | None, str | None], modes: tuple[str | None, str | None, str | None], lost: list[str]
) -> None:
    changed: dict[str, Any] = {}
    for name, mode in zip("abc", modes, strict=True):
        changed[name] = {"zookeeper": server(mode) if mode else down()}
    for name, state in zip("ab", states, strict=True):
        changed[name]["master"] = master(state) if state else down()
    changed.update(dict.fromkeys(lost))
    result = report(changed)
    perfect = not lost and sorted(states, key=str) == ["ALIVE", "STANDBY"] and sorted(modes, key=str) == ["follower", "follower", "leader"]
    assert result["healthy"] == perfect
    json.dumps(result)
    assert render(result).endswith(result["verdict"])
