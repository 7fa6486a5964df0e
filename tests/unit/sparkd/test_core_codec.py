"""The codec: what goes out comes back, and what is not as declared is refused by its place."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from sparkd.core import codec
from sparkd.core.codec import CodecError, decode, encode
from sparkd.core.entities import Application, Counters, Driver, Executor, Worker
from sparkd.core.states import DriverState
from sparkd.core.values import (
    ApplicationDescription,
    DriverDescription,
    Epoch,
    ProcessRef,
    ProcessReport,
    ResourceProfile,
    WorkerInfo,
)

VALUES = st.one_of(
    st.builds(
        DriverDescription,
        kind=st.sampled_from(["command", "jvm", "python"]),
        argv=st.lists(st.text(max_size=5), max_size=3).map(tuple),
        environment=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
        cores=st.integers(1, 99),
        supervise=st.booleans(),
    ),
    st.builds(ApplicationDescription, name=st.text(max_size=9), max_cores=st.none() | st.integers(1, 9), payload=st.binary(max_size=30)),
    st.builds(WorkerInfo, id=st.text(), host=st.text(), port=st.integers(0, 9), cores=st.integers(1, 9), memory_mb=st.integers(1, 9)),
    st.builds(
        ProcessReport,
        ref=st.builds(ProcessRef, st.sampled_from(["driver", "executor"]), st.text(), st.integers(0, 9)),
        state=st.text(max_size=5),
        cores=st.integers(0, 9),
        memory_mb=st.integers(0, 9),
        exit_code=st.none() | st.integers(-9, 255),
    ),
    st.builds(Epoch, st.text(), st.integers(0, 2**62)),
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
@settings(max_examples=60, deadline=None)
def test_values_survive_json(value: Any) -> None:
    assert decode(type(value), json.loads(json.dumps(encode(value)))) == value


@given(JSON, st.sampled_from([DriverDescription, ApplicationDescription, WorkerInfo, ProcessReport, Driver, Worker, Application, Executor]))
@settings(max_examples=150, deadline=None)
def test_anything_else_is_refused_by_one_error(data: Any, cls: type) -> None:
    try:
        decode(cls, data)
    except CodecError as error:
        assert str(error) and len(str(error)) < 300


REPORT = {"ref": {"kind": "driver", "owner": "d", "number": 1}, "state": "RUNNING", "cores": 1, "memory_mb": 2}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cores": "1"}, "cores: '1' is not a whole number"),
        ({"cores": True}, "cores: True is not a whole number"),
        ({"cores": 1.0}, "cores: 1.0 is not a whole number"),
        ({"cores": 2**63}, "cores: a whole number of more than 64 bits"),
        ({"exit_code": "x"}, "exit_code: 'x' is not a whole number"),
        ({"state": None}, "state: None is not a string"),
        ({"state": ["x"]}, "state: a JSON list is not a string"),
        ({"ref": {"kind": "pod", "owner": "d", "number": 1}}, "ref.kind: 'pod' is none of driver, executor"),
        ({"ref": {"kind": "driver", "number": 1}}, "ref: field 'owner' is missing"),
        ({"ref": 5}, "ref: 5 is not an object"),
    ],
)
def test_an_error_names_its_place(change: dict[str, Any], said: str) -> None:
    with pytest.raises(CodecError) as caught:
        decode(ProcessReport, {**REPORT, **change})
    assert str(caught.value) == said


def test_places_inside_lists_and_objects() -> None:
    with pytest.raises(CodecError, match=r"^argv\[1\]: 7 is not a string$"):
        decode(DriverDescription, {"kind": "command", "argv": ["a", 7]})
    with pytest.raises(CodecError, match=r"^environment\.A: None is not a string$"):
        decode(DriverDescription, {"kind": "command", "environment": {"A": None}})


def test_a_newer_members_field_is_ignored() -> None:
    assert decode(ProcessReport, {**REPORT, "colour": "red"}).state == "RUNNING"


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_TEXT", 10)
    monkeypatch.setattr(codec, "MAX_ITEMS", 2)
    with pytest.raises(CodecError, match="state: a string of 11 characters, more than 10"):
        decode(ProcessReport, {**REPORT, "state": "x" * 11})
    with pytest.raises(CodecError, match="argv: 3 items, more than 2"):
        decode(DriverDescription, {"kind": "command", "argv": ["a", "b", "c"]})
    deep: Any = None
    for _ in range(codec.MAX_DEPTH + 1):
        deep = [deep]
    with pytest.raises(CodecError, match="nested deeper"):
        decode(object, deep)


def test_numbers_that_json_does_not_have() -> None:
    with pytest.raises(CodecError, match="is not a number"):
        decode(float, float("nan"))
    assert decode(float, 3) == 3.0


def test_bytes_travel_as_base64() -> None:
    sent = encode(ApplicationDescription("a", payload=b"\x00\xff"))
    assert sent["payload"] == "AP8="
    with pytest.raises(CodecError, match="payload: not base64"):
        decode(ApplicationDescription, {"name": "a", "payload": "%%"})


def test_what_belongs_to_memory_is_not_stored_and_not_believed() -> None:
    driver = Driver("d", 0, DriverDescription("command"), 1, confirmed=True)
    assert "confirmed" not in encode(driver)
    assert decode(Driver, {**encode(driver), "confirmed": True}).confirmed is False


def test_empty_fields_are_left_out_and_come_back() -> None:
    record = encode(Driver("d", 0, DriverDescription("command"), 1))
    assert "message" not in record and "worker_id" not in record and record["exit_code" if "exit_code" in record else "attempt"] == 1
    assert decode(Driver, record).exit_code is None


def test_enums_mappings_by_number_and_nested_entities() -> None:
    app = Application("a", 1, ApplicationDescription("x"), 5, profiles={3: ResourceProfile(3, None, 9)}, targets={3: None})
    app.story = ((1, "WAITING", "RUNNING", "why"),)
    back = decode(Application, json.loads(json.dumps(encode(app))))
    assert back.profiles == app.profiles and back.targets == {3: None} and back.story == app.story
    assert decode(DriverState, "RUNNING") is DriverState.RUNNING
    with pytest.raises(CodecError, match="'GONE' is none of SUBMITTED"):
        decode(DriverState, "GONE")
    with pytest.raises(CodecError, match="'x' is not a whole number"):
        decode(Application, {**encode(app), "targets": {"x": 1}})


def test_what_json_cannot_carry_is_an_error() -> None:
    with pytest.raises(CodecError, match="set cannot be written"):
        encode({"a": {1, 2}})
    assert encode([Counters(1, 2), None, (True,)]) == [{"drivers": 1, "applications": 2}, None, [True]]
