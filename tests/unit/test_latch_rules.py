"""rules: whose latch is deleted when, and when leadership may be handed over."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from latchkeeper.fourletter import parse_cons
from latchkeeper.record import Record
from latchkeeper.rules import Latch, driver_refusal, fence, handover, in_line, own_latch, sessions_of, verdict

LEADER = Latch("_c_4f0e2a7d-latch-0000000003", owner=111, czxid=30, version=0)
STANDBY = Latch("_c_99999999-latch-0000000004", owner=-222, czxid=31, version=0)
THIRD = Latch("_c_00000000-latch-0000000010", owner=333, czxid=40, version=0)
RECORD = Record(
    pid=50,
    start=777,
    boot="b",
    session=111,
    node=LEADER.name,
    czxid=30,
    zookeeper="h:2181",
    zookeeper_dir="/spark",
    url="spark://h:7077",
    recorded_at="2026-01-01T00:00:00",
)


def test_the_sequence_orders_the_line_not_the_uuid() -> None:
    assert in_line([THIRD, STANDBY, LEADER]) == [LEADER, STANDBY, THIRD]
    assert in_line([Latch("something-else", 1, 1, 0), Latch("x" * 5000 + "latch-0000000001", 1, 1, 0)]) == []


def test_a_dead_leader_is_fenced_after_the_delay() -> None:
    plan = fence([STANDBY, LEADER], session=111, delay_s=2.0)
    assert (plan.nodes, plan.delay_s, plan.led) == ((LEADER,), 2.0, True)


def test_a_dead_standby_is_fenced_at_once_and_the_leader_left_alone() -> None:
    plan = fence([STANDBY, LEADER], session=-222, delay_s=2.0)
    assert (plan.nodes, plan.delay_s, plan.led) == ((STANDBY,), 0.0, False)


def test_nothing_of_another_session_is_ever_touched() -> None:
    assert fence([STANDBY, LEADER], session=999, delay_s=2.0).nodes == ()
    assert fence([], session=111, delay_s=2.0).nodes == ()


@dataclass
class Client:
    ip: str
    port: int
    sid: int | None


def test_sessions_by_address_and_port() -> None:
    clients = [Client("10.0.0.1", 4000, 111), Client("10.0.0.2", 4000, 5), Client("10.0.0.1", 4001, None), Client("10.0.0.1", 4002, 6)]
    assert sessions_of([("10.0.0.1", 4000), ("10.0.0.1", 4001)], clients) == {111}
    line = (
        " /127.0.0.1:4000[1](queued=0,recved=3,sent=3,sid=0xffffffffffffff22,lop=PING,est=1,to=6000,lcxid=0x1,lzxid=0x2,lresp=1,llat=0)\n"
    )
    assert sessions_of([("127.0.0.1", 4000)], parse_cons(line)) == {-222}


def test_own_latch() -> None:
    assert own_latch([LEADER, STANDBY], {111, 112}) == LEADER
    assert own_latch([LEADER, STANDBY], {112}) is None
    newer = Latch("_c_1-latch-0000000012", owner=111, czxid=50, version=0)
    assert own_latch([newer, LEADER], {111}) == newer


@pytest.mark.parametrize(
    ("record", "boot", "start", "result"),
    [
        (None, "b", None, "nothing recorded"),
        (RECORD, "other", None, "another boot"),
        (RECORD, "b", 777, "process alive"),
        (RECORD, "b", None, "dead"),
        (RECORD, "b", 778, "dead"),  # the pid is another process's by now
    ],
)
def test_verdict(record: Record | None, boot: str, start: int | None, result: str) -> None:
    assert verdict(record, boot, start) == result


PAGES = {"h2:8080": "STANDBY"}


def test_handover() -> None:
    assert handover(RECORD, "b", 50, 777, [STANDBY, LEADER], {111, -222}, PAGES).nodes == (LEADER,)


@pytest.mark.parametrize(
    ("change", "latches", "live", "pages", "reason", "transient"),
    [
        ({"boot": "x"}, [LEADER, STANDBY], {111, -222}, PAGES, "another process's", False),
        ({"pid": 51}, [LEADER, STANDBY], {111, -222}, PAGES, "another process's", False),
        ({"start": 1}, [LEADER, STANDBY], {111, -222}, PAGES, "another process's", False),
        ({"session": -222}, [LEADER, STANDBY], {111, -222}, PAGES, "does not lead", False),
        ({}, [], {111, -222}, PAGES, "does not lead", False),
        ({}, [LEADER], {111, -222}, PAGES, "no other master owns", True),
        ({}, [LEADER], {111, -222}, {"h2:8080": "refused"}, "no other master owns", False),
        ({}, [LEADER, STANDBY, THIRD], {111, 333}, PAGES, "without a connection", True),
        ({}, [LEADER, STANDBY], {111, -222}, {"h2:8080": "connection refused"}, "answers STANDBY", False),
        ({}, [LEADER, STANDBY], {111, -222}, {"h2:8080": "ALIVE"}, "answers STANDBY", False),
        ({}, [LEADER, STANDBY], {111, -222}, {}, "there are no other masters", False),
    ],
)
def test_no_handover(
    change: dict[str, object], latches: list[Latch], live: set[int], pages: dict[str, str], reason: str, transient: bool
) -> None:
    plan = handover(replace(RECORD, **change), "b", 50, 777, latches, live, pages)  # type: ignore[arg-type]
    assert plan.nodes == ()
    assert reason in plan.refused
    assert plan.transient == transient


def test_no_handover_without_a_record() -> None:
    assert handover(None, "b", 50, 777, [LEADER, STANDBY], {111, -222}, PAGES).refused == "no latch session is recorded"


def test_driver_refusal() -> None:
    drivers = {f"driver-{n}": "SUBMITTED" for n in range(12)}
    text = driver_refusal("ALIVE", drivers, accepted=False)
    assert "driver-0 (SUBMITTED)" in text
    assert "and 2 more" in text
    assert "accept_driver_loss=true" in text
    assert driver_refusal("ALIVE", drivers, accepted=True) == ""
    assert driver_refusal("STANDBY", drivers, accepted=False) == ""
    assert driver_refusal("", {}, accepted=False) == ""
    assert driver_refusal("RECOVERING", {"d": "RUNNING"}, accepted=False)
