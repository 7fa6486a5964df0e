from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from module_utils.drill_plan import Refusal, Wish, confirm, plan

WISH = Wish("leader_kill", ("leader_kill", "handover"), "prod", lab=True, confirm="", accept_driver_loss=False)


def host(name: str, *roles: str, reachable: bool = True) -> dict[str, Any]:
    return {"name": name, "reachable": reachable, "roles": [{"role": role} for role in roles]}


def report(**more: Any) -> dict[str, Any]:
    hosts = [host("a", "zookeeper", "master"), host("b", "master", "worker"), host("c", "worker"), host("z", "zookeeper")]
    return {
        "healthy": True,
        "verdict": "",
        "daemons": "apache",
        "leader": "a",
        "standbys": ["b"],
        "hosts": hosts,
        "workers": {"expected": 2, "alive": 1},
        "recovery_mode": "ZOOKEEPER",
        "ensemble": {"checked": True, "quorum": True},
        "cores": 4,
        "cores_used": 0,
        "drivers": [],
        **more,
    }


def test_the_watcher_is_a_host_with_spark_that_is_no_master_if_there_is_one() -> None:
    decided = plan(WISH, report())
    assert (decided.victim, decided.seat, decided.load_cores) == ("a", "c", 2)
    with_client = report(hosts=[*report()["hosts"], host("d", "client")])
    assert plan(WISH, with_client).seat == "d"
    assert plan(WISH, report(leader="b", hosts=[host("a", "master"), host("b", "master", "worker")])).seat == "a"


def test_the_load_leaves_a_core_for_the_new_application() -> None:
    assert plan(WISH, report(cores=2)).load_cores == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"healthy": False, "verdict": "NOT HEALTHY: x"}, "not healthy"),
        ({"hosts": [host("a", "master"), host("c", "worker")]}, "1 master"),
        ({"drivers": [{"id": "driver-1"}]}, "driver-1.*accept_driver_loss"),
        ({"cores_used": 3}, "1 free core"),
        ({"hosts": [host("a", "master"), host("b", "master", reachable=False)]}, "no host but"),
    ],
)
def test_refusals(change: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        plan(WISH, report(**change))


def test_drivers_that_may_be_lost() -> None:
    assert plan(dataclasses.replace(WISH, accept_driver_loss=True), report(drivers=[{"id": "driver-1"}]))
    assert plan(WISH, report(drivers=[{"id": "driver-1"}], daemons="sparkd"))


def test_the_confirmation_is_the_clusters_name() -> None:
    real = dataclasses.replace(WISH, lab=False)
    with pytest.raises(Refusal, match="drill_confirm=prod"):
        confirm(real)
    with pytest.raises(Refusal, match="'pod'"):
        confirm(dataclasses.replace(real, confirm="pod"))
    confirm(dataclasses.replace(real, confirm="prod"))


def test_an_unknown_drill_lists_the_known_ones() -> None:
    with pytest.raises(Refusal, match="handover, leader_kill"):
        confirm(dataclasses.replace(WISH, drill="leader_kil"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"recovery_mode": "FILESYSTEM"}, "FILESYSTEM"),
        ({"leader": None}, "exactly one leader"),
        ({"standbys": []}, "nobody could take over"),
        ({"ensemble": {"checked": True, "quorum": False}}, "quorum"),
        ({"drivers": [{"id": "driver-1"}]}, "accept_driver_loss"),
    ],
)
def test_a_handover_needs_somebody_to_hand_over_to(change: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        plan(dataclasses.replace(WISH, drill="handover", planned=True), report(**change))


def test_a_handover_does_not_need_every_worker() -> None:
    wish = dataclasses.replace(WISH, drill="handover", planned=True)
    decided = plan(wish, report(healthy=False, cores=0, ensemble={"checked": False, "quorum": None}))
    assert decided.victim == "a" and decided.workers == 1
