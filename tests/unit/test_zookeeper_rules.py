from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from module_utils.zookeeper_rules import RuleError, assign_ids, judge, parse_servers, plan

names = st.lists(st.sampled_from("abcdefghij"), unique=True, min_size=1, max_size=7)

some_ids = st.dictionaries(st.sampled_from("abcdefghij"), st.integers(1, 9))


def lines(*hosts: str) -> dict[int, str]:
    """Server lines with ids 1, 2, ... for hosts; host 'c' is id 3 wherever it is."""
    return {ord(host) - ord("a") + 1: f"{host}:2888:3888" for host in hosts}


def seen(host: str, *, data: bool = True, running: bool = True, servers: dict[int, str] | None = None, **more: Any) -> dict[str, Any]:
    shown = {str(number): line for number, line in (servers or {}).items()}
    return {"id": ord(host) - ord("a") + 1, "has_data": data, "running": running, "servers": shown, **more}


# --- ids


def test_a_new_ensemble_counts_in_inventory_order() -> None:
    assert assign_ids(["x", "y", "z"]) == {"x": 1, "y": 2, "z": 3}


def test_an_explicit_id_is_kept_free_for_its_host() -> None:
    assert assign_ids(["x", "y", "z"], explicit={"z": 1}) == {"x": 2, "y": 3, "z": 1}


def test_a_removed_host_renumbers_nobody_and_its_number_is_not_given_away_in_the_same_run() -> None:
    assert assign_ids(["y", "z", "new"], persisted={"y": 2, "z": 3}, known={"x": 1, "y": 2, "z": 3}) == {"y": 2, "z": 3, "new": 4}


def test_a_host_with_a_new_disk_gets_the_id_that_the_others_know() -> None:
    assert assign_ids(["x", "y", "z"], persisted={"x": 1, "z": 3}, known={"x": 1, "y": 2, "z": 3})["y"] == 2


def test_a_changed_id_is_refused_with_both_values_and_the_fix() -> None:
    with pytest.raises(RuleError, match=r"zookeeper_myid=7 of x, but the host is server 1 .*Set zookeeper_myid: 1"):
        assign_ids(["x"], explicit={"x": 7}, persisted={"x": 1})


@pytest.mark.parametrize("number", [-1, 256, 1000])
def test_ids_out_of_range(number: int) -> None:
    with pytest.raises(RuleError, match="between 1 and 255"):
        assign_ids(["x"], explicit={"x": number})


def test_duplicates_are_refused_naming_both_hosts() -> None:
    with pytest.raises(RuleError, match=r"x and z are all server 1 .*zookeeper_myid: 2 is free"):
        assign_ids(["x", "y", "z"], explicit={"x": 1, "z": 1})
    with pytest.raises(RuleError, match="x and y"):
        assign_ids(["x", "y"], explicit={"x": 2}, persisted={"y": 2})


def test_a_member_that_was_not_reached_needs_an_id_that_somebody_knows() -> None:
    assert assign_ids(["x", "y"], persisted={"x": 1}, known={"y": 5}, unseen=["y"]) == {"x": 1, "y": 5}
    with pytest.raises(RuleError, match="server id of y is not known"):
        assign_ids(["x", "y"], persisted={"x": 1}, unseen=["y"])


@given(names, st.data())
def test_ids_are_never_given_twice_and_never_change(members: list[str], data: st.DataObject) -> None:
    first = assign_ids(members)
    for _ in range(3):
        assert sorted(set(first.values())) == sorted(first.values())
        # take hosts out, add others, in any order; those that stay have their id on disk, or only the others know it
        left = data.draw(st.permutations(members).map(lambda order: order[: len(order) // 2 + 1]))
        others = data.draw(st.lists(st.sampled_from("klmnopq"), unique=True, max_size=3))
        now = data.draw(st.permutations([*left, *(host for host in others if host not in left)]))
        wiped = set(data.draw(st.lists(st.sampled_from(left), max_size=1)))
        kept = {host: number for host, number in first.items() if host in left and host not in wiped}
        second = assign_ids(now, persisted=kept, known=first)
        assert all(second[host] == first[host] for host in left)
        assert not {second[host] for host in now if host not in first} & set(first.values())
        members, first = now, second


@given(
    names,
    st.dictionaries(st.sampled_from("abcdefghij"), st.integers(1, 9)),
    st.dictionaries(st.sampled_from("abcdefghij"), st.integers(1, 9)),
)
def test_whatever_is_set_or_kept_is_honoured_or_refused(members: list[str], explicit: dict[str, int], persisted: dict[str, int]) -> None:
    try:
        ids = assign_ids(members, explicit, persisted)
    except RuleError:
        return
    assert list(ids) == members
    assert len(set(ids.values())) == len(ids)
    assert all(ids[host] == persisted[host] for host in members if host in persisted)
    assert all(ids[host] == explicit[host] for host in members if host in explicit)


# --- the order of starts


def test_a_new_ensemble_starts_all_at_once() -> None:
    result = plan(lines("a", "b", "c"), {host: seen(host, data=False, running=False) for host in "abc"})
    assert (result["switch"], result["old"], result["first"], result["rest"]) == (False, [], ["a", "b", "c"], [])


def test_nothing_to_do() -> None:
    now = lines("a", "b", "c")
    result = plan(now, {host: seen(host, servers=now) for host in "abc"})
    assert (result["switch"], result["old"], result["first"], result["rest"]) == (False, ["a", "b", "c"], [], [])


def test_growing_from_one_needs_the_one_that_has_the_data_in_every_quorum() -> None:
    new = lines("a", "b", "c")
    members = {"a": seen("a", servers=lines("a"))} | {host: seen(host, data=False, running=False) for host in "bc"}
    result = plan(new, members)
    assert (result["switch"], result["old"], result["first"], result["rest"]) == (True, ["a"], ["b"], ["c"])


def test_growing_from_three_to_five_switches_the_old_ones_first() -> None:
    members = {host: seen(host, servers=lines("a", "b", "c")) for host in "abc"} | {h: seen(h, data=False, running=False) for h in "de"}
    result = plan(lines("a", "b", "c", "d", "e"), members)
    assert (result["switch"], result["old"], result["first"], result["rest"]) == (True, ["a", "b", "c"], [], ["d", "e"])


@given(st.integers(1, 5), st.integers(1, 5))
def test_no_quorum_can_form_without_all_that_hold_data_until_one_exists(size_old: int, size_new: int) -> None:
    old, new = list("abcde")[:size_old], list("abcde")[: max(size_old, size_new)]
    members = {h: seen(h, servers=lines(*old)) if h in old else seen(h, data=False, running=False) for h in new}
    result = plan(lines(*new), members)
    assert sorted(result["old"] + result["first"] + result["rest"]) == sorted(new)
    if result["first"]:
        started = len(result["old"]) + len(result["first"])
        assert started == len(new) // 2 + 1, "exactly a majority, so each of them is needed"


def test_shrinking_while_the_former_members_still_run_is_refused() -> None:
    members = {"a": seen("a", servers=lines("a", "b", "c"), strangers=["b", "c"])}
    with pytest.raises(RuleError, match=r"b and c still runs .*systemctl disable --now zookeeper"):
        plan(lines("a"), members)
    assert plan(lines("a"), {"a": seen("a", servers=lines("a", "b", "c"))})["switch"]


def test_data_of_another_life_may_not_join() -> None:
    members = {"a": seen("a", servers=lines("a")), "b": seen("b", running=False, servers=lines("a", "b", "c"))}
    with pytest.raises(RuleError, match=r"b holds ZooKeeper data that the ensemble's other members do not know"):
        plan(lines("a", "b", "c"), members | {"c": seen("c", data=False, running=False)})


def test_a_member_that_was_away_while_the_ensemble_grew_is_no_stranger_and_makes_none() -> None:
    now = lines("a", "b", "c", "d", "e")
    members = {host: seen(host, servers=now) for host in "abde"} | {"c": seen("c", servers=lines("a", "b", "c"))}
    assert plan(now, members)["old"] == ["a", "b", "d", "e", "c"]


def test_empty_members_make_no_majority_while_one_with_data_is_away() -> None:
    now = lines("a", "b", "c")
    members = {"a": seen("a", running=False, servers=now), "b": seen("b", data=False, running=False)}
    with pytest.raises(RuleError, match=r"c:2888:3888 of the ensemble is not reached"):
        plan(now, members)


def test_a_dead_member_does_not_stop_a_run_without_changes() -> None:
    now = lines("a", "b", "c")
    assert not plan(now, {host: seen(host, servers=now) for host in "ab"})["switch"]


def test_a_new_data_directory_leaves_no_data_behind() -> None:
    with pytest.raises(RuleError, match=r"zookeeper_data_dir of a changes and /old holds its data"):
        plan(lines("a"), {"a": seen("a", data=False, old_data_dir="/old")})


def test_server_lines() -> None:
    text = "tickTime=1\nserver.1=a:2888:3888\n server.12 = b.example:1:2:observer;0.0.0.0:2181\n#server.3=c:1:2\n"
    assert parse_servers(text) == {1: "a:2888:3888", 12: "b.example:1:2"}


# --- the verdict


def leader(synced: int) -> dict[str, Any]:
    return {"state": "leader", "synced_followers": synced}


FOLLOWER = {"state": "follower"}
DOWN = {"state": "down", "why": "refused"}


@pytest.mark.parametrize(
    ("states", "quorum", "healthy", "why"),
    [
        ({"a": leader(2), "b": FOLLOWER, "c": FOLLOWER}, True, True, "a leads, b and c in sync"),
        ({"a": leader(1), "b": FOLLOWER, "c": DOWN}, True, False, "a leads, but 1 of 3 lost: c is down (refused)"),
        ({"a": leader(1), "b": FOLLOWER, "c": FOLLOWER}, True, False, "counts 1 of 2 followers in sync"),
        ({"a": DOWN, "b": DOWN, "c": DOWN}, False, False, "no member of 3 leads"),
        ({"a": leader(0), "b": DOWN, "c": DOWN}, False, False, "2 are needed"),
        ({"a": {"state": "standalone"}}, True, True, "a serves alone"),
        ({"a": {"state": "standalone"}, "b": FOLLOWER, "c": FOLLOWER}, False, False, "a runs standalone"),
        ({"a": leader(1), "b": leader(1), "c": FOLLOWER}, False, False, "a and b all lead"),
        ({}, False, False, "no members"),
    ],
)
def test_verdict(states: dict[str, dict[str, Any]], quorum: bool, healthy: bool, why: str) -> None:
    verdict = judge(states)
    assert (verdict["quorum"], verdict["healthy"]) == (quorum, healthy)
    assert why in verdict["why"]


def test_a_member_that_said_nothing_is_lost() -> None:
    verdict = judge({"a": leader(1), "b": FOLLOWER}, ["a", "b", "c"])
    assert (verdict["quorum"], verdict["lost"], verdict["leader"], verdict["followers"]) == (True, ["c"], "a", ["b"])
    assert "c is down (it was not reached)" in verdict["why"]


@given(st.dictionaries(st.sampled_from("abcde"), st.sampled_from(["leader", "follower", "standalone", "down", "observer"]), min_size=1))
def test_healthy_implies_quorum_and_one_leader(modes: dict[str, str]) -> None:
    verdict = judge({host: {"state": mode, "synced_followers": len(modes)} for host, mode in modes.items()})
    assert verdict["quorum"] or not verdict["healthy"]
    assert bool(verdict["leader"]) or not verdict["quorum"]
    assert verdict["why"]
