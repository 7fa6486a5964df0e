"""A drill's submissions: what was acknowledged against what ran, judged."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from ansible.module_utils.drill_history import HistoryError, parse_history

from module_utils.drill_rules import Check, Facts, judge, measured, timeline
from module_utils.drill_submissions import Submission, Submissions, parse_ran, parse_states, parse_submissions

BOUNDS = {
    "max_blindness_s": 3.0,
    "max_failover_s": 2.0,
    "max_first_submission_s": 2.0,
    "max_workers_back_s": 3.0,
    "max_standby_back_s": 10.0,
    "max_new_submission_s": 5.0,
}
KILL, LEADS, BACK, END = 20.0, 20.6, 23.0, 40.0


def page(**more: Any) -> dict[str, Any]:
    return {"status": "ALIVE", "alive_workers": 2, "cores_used": 0, "memory_used_mb": 0, **more}


def observed() -> list[str]:
    lines = []
    for tick in range(round(END / 0.05)):
        at = tick * 0.05
        a = page() if at < KILL else {"status": None} if at < BACK else {"status": "STANDBY"}
        b = {"status": "STANDBY"} if at < LEADS else page()
        for name, said in (("a", a), ("b", b)):
            lines.append(json.dumps({"kind": "master", "name": name, "begin": at, "end": at + 0.01, **said}))
    return lines


def submitted(number: int, end: float | None = None, driver: str | None = "", error: str | None = None) -> Submission:
    return Submission(f"k-{number}", number, number + 0.3 if end is None else end, f"driver-{number}" if driver == "" else driver, error)


def facts(**changes: Any) -> Facts:
    """Return a drill that went well, a submission a second, with changes."""
    made = changes.pop("made", None) or [submitted(number, 20.9 if number == 20 else None) for number in range(1, 35)]
    keys = Counter({**{one.key: 1 for one in made}, "k-new-1": 1})
    of = Submissions(made, Counter(keys), Counter(keys), {one.driver: "FINISHED" for one in made if one.driver})
    for name in ("started", "ended", "states"):
        if name in changes:
            setattr(of, name, changes.pop(name))
    given = {
        "victim": "a",
        "workers": 2,
        "history": parse_history(observed(), ["a", "b"]),
        "bounds": BOUNDS,
        "submissions": of,
        "new_submission": Submission("k-new-1", 36, 36.4, "driver-99", None),
        "before": {"cores_used": 0, "memory_used_mb": 0},
    }
    return Facts(**{**given, **changes})


def judged(given: Facts) -> dict[str, Check]:
    return {check.name: check for check in judge("leader_kill", given, "sparkd")}


def failed(given: Facts) -> dict[str, Check]:
    return {name: check for name, check in judged(given).items() if not check.ok}


def test_a_drill_that_went_well() -> None:
    checks = judged(facts())
    assert [check for check in checks.values() if not check.ok] == []
    assert checks["max_failover_s"].value == pytest.approx(0.66, abs=0.02)
    assert checks["max_first_submission_s"].value == pytest.approx(0.95, abs=0.02)
    assert checks["max_new_submission_s"].value == 0.4
    figures = measured(facts())
    assert (figures["submissions"], figures["acknowledged"], figures["ran_unacknowledged"]) == (34, 34, 0)


def test_acknowledged_and_never_ran() -> None:
    given = facts()
    del given.submissions.started["k-19"]
    assert failed(given)["submissions_lost"].why == "k-19"


def test_a_second_run_is_found_acknowledged_or_not() -> None:
    given = facts()
    given.submissions.started["k-7"] = 2
    assert failed(given)["submissions_twice"].why == "k-7"
    given = facts(made=[*(submitted(number) for number in range(1, 35)), submitted(35, driver=None, error="no leader")])
    given.submissions.started["k-35"] = 2
    assert {"submissions_twice", "submissions_failed"} == set(failed(given))


def test_begun_and_not_ended() -> None:
    given = facts()
    del given.submissions.ended["k-20"]
    assert failed(given)["submissions_unfinished"].why == "k-20"


def test_states_of_the_cluster() -> None:
    given = facts()
    given.submissions.states = {**(given.submissions.states or {}), "driver-3": "ERROR"}
    assert failed(given)["states_wrong"].why == "k-3 ERROR"
    given.submissions.states = {"driver-1": "FINISHED"}
    assert "k-2 not listed" in failed(given)["states_wrong"].why
    assert failed(facts(states=None))["states_wrong"].why == "nobody could be asked"


def test_nothing_to_look_at_is_no_pass() -> None:
    given = facts(submissions=Submissions(), new_submission=None)
    wanted = {"submissions_failed", "submissions_lost", "submissions_twice", "submissions_unfinished", "states_wrong"}
    assert set(failed(given)) == wanted | {"max_first_submission_s", "max_new_submission_s"}
    only_before = facts(made=[submitted(number) for number in range(1, 15)])
    assert {"submissions_failed", "max_first_submission_s"} == set(failed(only_before))


def test_an_acknowledgement_of_the_old_leader_is_not_the_new_ones() -> None:
    made = [submitted(number) for number in range(1, 20)] + [submitted(20, 20.4), submitted(21, 23.5), submitted(22, 23.6)]
    assert judged(facts(made=made))["max_first_submission_s"].value == pytest.approx(3.55, abs=0.02)


def test_a_core_that_stays_in_use() -> None:
    assert failed(facts(before={"cores_used": 1, "memory_used_mb": 0})).keys() == {"cores_used_same"}


def test_the_new_submission_must_run_once() -> None:
    given = facts()
    given.submissions.ended["k-new-1"] = 0
    assert "did not run once" in failed(given)["max_new_submission_s"].why
    refused = Submission("k-new-1", 1, 2, None, "no leader")
    assert failed(facts(new_submission=refused))["max_new_submission_s"].why == "no leader"


def test_the_timeline_names_failed_submissions() -> None:
    given = facts(made=[*(submitted(number) for number in range(1, 35)), submitted(35, driver=None, error="no leader")])
    assert {"at_s", "master", "event"} == set(timeline(given)[0])
    assert any(event["event"] == "submission failed: no leader" for event in timeline(given))


def test_lines_of_submitter_and_commands() -> None:
    line = {"kind": "submission", "number": 1, "key": "k-1", "begin": 1.0, "end": 1.5, "driver": "driver-1", "error": None}
    cut = '{"kind": "subm'
    assert parse_submissions(['{"kind": "begin"}', json.dumps(line), cut]) == [Submission("k-1", 1.0, 1.5, "driver-1", None)]
    with pytest.raises(HistoryError, match="lacks something"):
        parse_submissions([json.dumps({**line, "begin": None})])
    files = {
        "w1": ['{"event":"start","id":"k-1"}', '{"event":"end","id":"k-1"}', '{"event":"start","id":"other-1"}'],
        "w2": ['{"event":"start","id":"k-1"}'],
    }
    assert parse_ran(files, "k-") == (Counter({"k-1": 2}), Counter({"k-1": 1}))


def test_states_that_were_printed() -> None:
    assert parse_states('[{"id": "d1", "state": "FINISHED", "name": "x"}]') == {"d1": "FINISHED"}
    for text in ("", "no drivers", "{}x", '[{"id": 1}]'):
        assert parse_states(text) is None
