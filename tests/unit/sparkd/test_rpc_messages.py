"""Every message survives the wire."""

from __future__ import annotations

import json
import typing
from typing import Any

import pytest

from sparkd.coordination.api import MasterAddress
from sparkd.core.codec import CodecError
from sparkd.core.values import ApplicationDescription, DriverDescription, Epoch, ProcessRef, ProcessReport, WorkerInfo
from sparkd.rpc import messages
from sparkd.rpc.messages import Message, Unknown, decode, encode

EPOCH = Epoch("c1", 1 << 40)
REF = ProcessRef("driver", "driver-20260101000000-0001", 2)
REPORT = ProcessReport(REF, "FAILED", 1, 512, seq=9, started_ms=1, ended_ms=2, exit_code=-9, message="Signal", runs=3)
DRIVER = DriverDescription(
    "jvm", "n", resource="/a.jar", main_class="M", arguments=("a b", ""), environment={"K": "V"}, properties={"p": "q"}
)

ALL: list[Message] = [
    messages.Register(WorkerInfo("w", "h", 1, 4, 1024, "http://h:8081", ("4.3",), True), EPOCH, (REPORT, REPORT)),
    messages.Register(WorkerInfo("w", "h", 1, 4, 1024)),
    messages.Heartbeat(),
    messages.Journal((REPORT,)),
    messages.Decommissioned(),
    messages.Standby(MasterAddress("h", 7077, "http://h:8080")),
    messages.Standby(),
    messages.Leading(EPOCH),
    messages.Accepted(EPOCH, (REF,), 8),
    messages.Refused("because"),
    messages.LaunchDriver(EPOCH, REF, DRIVER),
    messages.LaunchExecutor(EPOCH, ProcessRef("executor", "app-1", 0), 1, 2, 3, ApplicationDescription("a", payload=b"\x00\xff")),
    messages.End(EPOCH, REF, "asked"),
    messages.Ack(EPOCH, 7),
    messages.ForgetApplication(EPOCH, "app-1"),
    messages.Decommission(EPOCH),
]


@pytest.mark.parametrize("message", ALL, ids=lambda message: message.t)
def test_round_trip(message: Message) -> None:
    assert decode(json.loads(json.dumps(encode(message)))) == message


def test_none_is_forgotten() -> None:
    assert {type(message) for message in ALL} == set(typing.get_args(messages.Message))
    assert len({message.t for message in ALL}) == len(typing.get_args(messages.Message)), "two messages share a name"


def test_bad_ones_are_refused() -> None:
    good = encode(messages.Ack(EPOCH, 7))
    bodies: list[Any] = [None, [], "ack", {}, {"t": None}, {"t": "ack"}]
    bodies += [good | {"seq": "7"}, good | {"seq": True}, good | {"epoch": None}]
    for bad in bodies:
        with pytest.raises(CodecError):
            decode(bad)
    assert decode({"t": "news", "x": 1}) == Unknown("news")
