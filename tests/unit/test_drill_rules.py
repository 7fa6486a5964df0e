from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from module_utils import drill_text
from module_utils.drill_history import History, HistoryError, Load, Sample, change_of_leader, overlaps, parse_history, parse_load
from module_utils.drill_rules import DRILLS, Facts, judge, measured, timeline

BOUNDS = {
    "max_blindness_s": 3.0,
    "max_failover_s": 5.0,
    "max_workers_back_s": 10.0,
    "max_standby_back_s": 30.0,
    "max_job_stall_s": 15.0,
    "max_new_application_s": 60.0,
}
TICK = 0.05
END = 60.0

Say = Callable[[float], dict[str, Any]]


def leader(**more: Any) -> dict[str, Any]:
    return {"status": "ALIVE", "alive_workers": 2, "cores_used": 2, "memory_used_mb": 1024, "apps": ["app-1"], **more}


SILENT: dict[str, Any] = {"status": None, "error": "refused"}
STANDBY: dict[str, Any] = {"status": "STANDBY"}


def old(at: float) -> dict[str, Any]:
    """Killed at 20, back at 30."""
    if at < 20:
        return leader()
    return SILENT if at < 30 else STANDBY


def new(at: float) -> dict[str, Any]:
    """Elected at 22."""
    return STANDBY if at < 22 else leader()


def observed(**masters: Say) -> list[str]:
    lines = [json.dumps({"kind": "start"})]
    for tick in range(round(END / TICK)):
        for name, say in masters.items():
            at = tick * TICK
            lines.append(json.dumps({"kind": "master", "name": name, "begin": at, "end": at + 0.01, **say(at)}))
    return lines


def ran(executors: Callable[[float], dict[str, str]] | None = None, until: float = END, **broken: Any) -> list[str]:
    lines = [json.dumps({"kind": "registered", "seconds": 6.5, "app": "app-1"}), json.dumps({"kind": "ready"})]
    for number in range(5, round(until)):
        listed = executors(number) if executors else {"0": "b:1", "1": "c:1"}
        job = {"kind": "job", "begin": number - 0.9, "end": float(number), "ok": True, "error": None, "executors": listed}
        lines.append(json.dumps(job))
    if broken:
        lines.append(json.dumps({"kind": "job", "begin": 40.0, "end": 41.0, "executors": None, **broken}))
    return lines


def facts(
    masters: dict[str, Say] | None = None,
    load: list[str] | None = None,
    newcomer: list[str] | None = None,
    **bounds: float,
) -> Facts:
    masters = {"old": old, "new": new} if masters is None else masters
    history = parse_history(observed(**masters) if masters else [], ["old", "new"])
    return Facts(
        "old",
        2,
        history,
        parse_load(ran() if load is None else load),
        parse_load(ran() if newcomer is None else newcomer),
        {**BOUNDS, **bounds},
    )


def failed(case: Facts, drill: str = "leader_kill") -> set[str]:
    return {check.name for check in judge(drill, case) if not check.ok}


def test_a_good_failover_passes_and_is_measured() -> None:
    case = facts()
    assert failed(case) == set()
    figures = {check.name: check.value for check in judge("leader_kill", case)}
    # Last ALIVE answer began at 19.95, the first of the new one ended at 22.01.
    assert figures["max_failover_s"] == pytest.approx(2.06, abs=0.001)
    assert figures["max_standby_back_s"] == pytest.approx(10.06, abs=0.001)
    assert measured(case)["new_leader"] == "new"


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (facts({"old": old, "new": lambda at: STANDBY if at < 26 else leader()}), {"max_failover_s"}),
        (facts({"old": old, "new": lambda _at: STANDBY}), None),
        (facts({"old": lambda at: leader() if at < 20 else SILENT, "new": new}), {"max_standby_back_s"}),
        (facts({"old": lambda at: STANDBY if 30 <= at < 50 else old(at) if at < 30 else SILENT, "new": new}), {"max_standby_back_s"}),
        # The master never steps down: it leads on beside the new one.
        (facts({"old": lambda _at: leader(), "new": new}), {"two_leaders", "max_standby_back_s"}),
        (facts({"old": lambda at: leader() if at < 20 or 24 < at < 25 else old(at), "new": new}), {"two_leaders"}),
        (facts({"old": old, "new": lambda at: STANDBY if at < 22 else leader(alive_workers=1)}), {"max_workers_back_s"}),
        (facts({"old": old, "new": lambda at: leader(alive_workers=2 if at < 40 else 1) if at >= 22 else STANDBY}), {"max_workers_back_s"}),
        (
            facts({"old": old, "new": lambda at: leader(alive_workers=2 if at > 40 else 1) if at >= 22 else STANDBY}),
            {"max_workers_back_s"},
        ),
        (facts({"old": old, "new": lambda at: STANDBY if at < 22 else leader(cores_used=1)}), {"cores_used_same"}),
        (facts({"old": old, "new": lambda at: STANDBY if at < 22 else leader(memory_used_mb=-512)}), {"memory_used_mb_same"}),
        (facts({"old": old, "new": lambda at: STANDBY if at < 22 else leader(apps=[])}), {"cores_used_same", "memory_used_mb_same"}),
        (facts(load=ran(ok=False, error="lost")), {"jobs_failed"}),
        (facts(load=ran(lambda at: {"0": "b:1", "1" if at < 25 else "2": "c:1"})), {"executors_lost"}),
        (facts(load=ran(lambda at: {"0": "b:1"} if at > 25 else {"0": "b:1", "1": "c:1"})), {"executors_lost"}),
        (facts(load=ran(until=30)), {"max_job_stall_s"}),
        (facts(load=ran(until=19)), {"jobs_failed", "executors_lost", "max_job_stall_s"}),
        (facts(load=[]), {"jobs_failed", "executors_lost", "max_job_stall_s", "cores_used_same", "memory_used_mb_same"}),
        (facts(newcomer=[]), {"max_new_application_s"}),
        (facts(newcomer=ran(ok=False, error="lost")), {"max_new_application_s"}),
        (facts(max_new_application_s=6.0), {"max_new_application_s"}),
    ],
)
def test_each_violation_is_caught_by_the_check_meant_for_it(case: Facts, expected: set[str] | None) -> None:
    found = failed(case)
    if expected is None:
        assert "max_failover_s" in found and "jobs_failed" in found
    else:
        assert found == expected
    assert all(check.why for check in judge("leader_kill", case) if not check.ok)


def test_no_samples_is_not_a_pass() -> None:
    nothing = Facts("old", 2, History({"old": [], "new": []}), Load(), Load(), BOUNDS)
    for drill, checks in DRILLS.items():
        assert len(failed(nothing, drill)) == len(checks)
    assert len(failed(Facts("old", 2, History(), Load(), Load(), BOUNDS))) == len(DRILLS["leader_kill"])


def test_a_blind_observer_is_not_believed() -> None:
    case = facts()
    case.history.samples["new"] = [sample for sample in case.history.samples["new"] if not 20 < sample.begin < 24]
    assert "max_blindness_s" in failed(case)


@pytest.mark.parametrize("lost", [lambda at: at > 40, lambda at: at < 10])
def test_an_observer_that_lost_sight_of_one_master_is_not_believed(lost: Callable[[float], bool]) -> None:
    case = facts({"old": old, "new": new, "third": lambda _at: STANDBY})
    assert failed(case) == set()
    case.history.samples["third"] = [sample for sample in case.history.samples["third"] if not lost(sample.begin)]
    assert failed(case) == {"max_blindness_s"}


def test_an_observer_that_ended_before_the_load_is_not_believed() -> None:
    case = facts()
    for name, samples in case.history.samples.items():
        case.history.samples[name] = [sample for sample in samples if sample.begin < 50]
    assert failed(case) == {"max_blindness_s"}


def test_a_new_leader_that_falls_too_is_counted() -> None:
    def second(at: float) -> dict[str, Any]:
        return new(at) if at < 35 else SILENT if at < 45 else STANDBY

    case = facts({"old": old, "new": second, "third": lambda at: STANDBY if at < 45 else leader()})
    figures = {check.name: check for check in judge("leader_kill", case)}
    assert figures["max_failover_s"].value == pytest.approx(45.01 - 34.95, abs=0.001)
    assert failed(case) == {"max_failover_s"}
    # The same master again, after it had stepped down.
    again = facts({"old": old, "new": lambda at: STANDBY if 35 <= at < 45 else new(at)})
    assert failed(again) == {"max_failover_s"}
    # It only did not answer for a while: no proof that it did not lead.
    assert failed(facts({"old": old, "new": lambda at: SILENT if 35 <= at < 37 else new(at)})) == set()


def alive(name: str, begin: float, end: float) -> Sample:
    return Sample(name, begin, end, "ALIVE")


def test_an_overlap_needs_an_answer_between_two_of_the_other() -> None:
    # A paused master's answer, asked for before the new leader spoke, proves nothing.
    hanging = History({"a": [alive("a", 1.0, 5.0)], "b": [alive("b", 2.0, 2.1), alive("b", 4.0, 4.1)]})
    assert overlaps(hanging) == []
    # a led, b took over: an ordinary succession.
    assert overlaps(History({"a": [alive("a", 1.0, 1.1)], "b": [alive("b", 2.0, 2.1), alive("b", 3.0, 3.1)]})) == []
    # b, then a wholly between, then b again.
    proven = History({"a": [alive("a", 2.5, 2.6)], "b": [alive("b", 2.0, 2.1), alive("b", 3.0, 3.1)]})
    assert len(overlaps(proven)) == 1
    # b stepped down in between: no proof.
    between = [alive("b", 2.0, 2.1), Sample("b", 2.2, 2.3, None), alive("b", 3.0, 3.1)]
    assert overlaps(History({"a": [alive("a", 2.5, 2.6)], "b": between})) == []


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 3)), min_size=2, max_size=8), st.data())
def test_masters_that_lead_one_after_the_other_never_overlap(turns: list[tuple[float, float]], data: st.DataObject) -> None:
    """Whatever the delays of the answers: if the truth has no overlap, none is proven.

    Each master is asked again and again, one question after the other, and says what is true at some moment in between. A master that
    has led starts anew before it leads again, and is seen to (a JVM takes seconds, its silence many questions).
    """
    reigns, at = [], 0.0
    for number, (length, pause) in enumerate(turns):
        reigns.append(("ab"[number % 2], at, at + length))
        at += length + pause + 0.001
    history = History({"a": [], "b": []})
    for name, samples in history.samples.items():
        clock = 0.0
        for (_, begin, end), following in zip(mine := [reign for reign in reigns if reign[0] == name], [*mine[1:], None], strict=True):
            for share in sorted(data.draw(st.lists(st.floats(0, 1), max_size=4))):
                truth = begin + share * (end - begin)
                asked = max(clock, truth - data.draw(st.floats(0, 3)))
                if asked <= truth:
                    clock = truth + data.draw(st.floats(0, 3))
                    samples.append(alive(name, asked, clock))
            clock = max(clock, end)
            samples.append(Sample(name, clock, clock, None))
            if following and clock > following[1]:
                break  # the answer came so late that the next reign is not asked about in time
    assert overlaps(history) == []


def test_change_of_leader_counts_from_the_last_answer_of_the_old_one() -> None:
    history = History({"a": [alive("a", 1.0, 1.1), alive("a", 2.0, 2.1)], "b": [alive("b", 5.0, 5.2)]})
    change = change_of_leader(history, "a")
    assert change and change.without_leader_s == pytest.approx(3.2)
    assert change_of_leader(history, "b") is None
    assert change_of_leader(History({"a": []}), "a") is None


def test_a_cut_off_last_line_is_left_out_and_others_are_named() -> None:
    lines = ran()
    assert len(parse_load([*lines, '{"kind": "jo']).jobs) == len(parse_load(lines).jobs)
    with pytest.raises(HistoryError, match="line 1"):
        parse_load(["{", *lines])
    with pytest.raises(HistoryError, match="lacks"):
        parse_history([json.dumps({"kind": "master", "name": "a"})], ["a"])
    with pytest.raises(HistoryError, match="no object"):
        parse_load(["[]", "{}"])


def test_the_timeline_tells_the_story() -> None:
    events = [(event["master"], event["event"]) for event in timeline(facts())]
    assert events == [("old", "ALIVE"), ("new", "STANDBY"), ("old", "no answer"), ("new", "ALIVE"), ("old", "STANDBY")]


def report(case: Facts, **more: Any) -> dict[str, Any]:
    checks = [check.__dict__ for check in judge("leader_kill", case)]
    return {
        "drill": "leader_kill",
        "cluster": "lab",
        "daemons": "apache",
        "versions": {"spark": "4.3.0"},
        "fault": {"what": "SIGKILL", "host": "old", "at": "now"},
        "measured": measured(case),
        "checks": checks,
        "verdict": "passed",
        "aborted_because": "",
        **more,
    }


def test_the_summary_shows_figures_beside_bounds() -> None:
    text = drill_text.render(report(facts()))
    assert "at most 5" in text and text.endswith("PASSED: 2.06 s without a leader")
    slow = facts(max_failover_s=1.0)
    assert "without a leader: 2.06 s, at most 1 allowed" in drill_text.render(report(slow, verdict="failed"))
    assert drill_text.render(report(slow, verdict="aborted", aborted_because="x")).endswith("ABORTED: x")
