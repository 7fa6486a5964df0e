"""Spark's REST protocol compared with what real Spark 4.3.0 answered (fixtures/rest, made by tests/integration/sparkd/record_rest.py)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from http_faces import WORKER, Client, FakeMaster, Reply, master_settings, report, serve

from sparkd.core.events import SubmitDriver, WorkerRegistered
from sparkd.core.states import MasterStatus
from sparkd.core.values import DriverDescription

RECORDED = Path(__file__).parent / "fixtures" / "rest"
BODY_LIMIT = 20_000

#: Where sparkd differs on purpose: (file, name) -> status.
STRICTER = {
    ("alive", "JSON and more"): 400,  # Spark takes the first value and drops the rest
}
NOT_DONE = {("standby", "clear")}  # Spark says success, and clears nothing


def recorded(name: str) -> list[dict[str, Any]]:
    return list(json.loads((RECORDED / f"{name}.json").read_text()))


def plain(text: str) -> Any:
    return json.loads(re.sub(r"driver-\d{14}-\d{4}", "driver-20260101000000-0000", text))


async def ask(client: Client, entry: dict[str, Any], last: str) -> Reply:
    body = entry["request"]
    if entry["name"] == "too large":
        body = "x" * (BODY_LIMIT + 1)
    data = None if body is None else body if isinstance(body, str) else json.dumps(body)
    return await client.rest(entry["path"].replace("{id}", last), entry["method"], data=data, headers={"Content-Type": "application/json"})


def same(where: str, entry: dict[str, Any], reply: Reply) -> None:
    """The same status and message, or better where Spark's is a page of HTML, a stack trace or a promise not kept."""
    name, spark = entry["name"], entry["body"]
    got = plain(reply.body.decode())
    assert reply.headers["Content-Type"].replace(" ", "").lower() == "application/json;charset=utf-8"
    if (where, name) in STRICTER:
        assert (reply.status, got["action"]) == (STRICTER[where, name], "ErrorResponse"), name
    elif (where, name) in NOT_DONE:
        assert (reply.status, got["success"], sorted(got)) == (200, False, sorted(spark)), name
    elif spark is None:
        assert reply.status == {500: 400}.get(entry["status"], entry["status"]), name
        assert got["action"] == "ErrorResponse", name
    elif spark.get("message", "").startswith("Malformed request: com.fasterxml."):
        assert (reply.status, got["action"]) == (entry["status"], "ErrorResponse"), name
        assert got["message"].startswith("Malformed request: "), name
    elif spark.get("message", "").startswith("Malformed request: "):
        assert (reply.status, {**got, "message": ""}) == (entry["status"], {**spark, "message": ""}), name
        assert got["message"].split("\n")[0] == spark["message"].split("\n")[0], name
        if "Validation of" in got["message"]:
            assert "\nCaused by: " in got["message"], name
    else:
        assert (reply.status, got) == (entry["status"], spark), name


def test_a_leader_without_workers() -> None:
    entries = recorded("alive")
    assert len(entries) > 50
    face = FakeMaster(settings=master_settings(max_body_bytes=BODY_LIMIT))

    async def talk(client: Client) -> None:
        last = ""
        for entry in entries:
            reply = await ask(client, entry, last)
            same("alive", entry, reply)
            last = reply.json.get("submissionId") or last

    serve(face, talk)
    assert len(face.submitted) >= 7


def test_a_standby() -> None:
    entries = recorded("standby")
    face = FakeMaster(settings=master_settings(allowed_resources=("file:/nowhere/.*",)), says=MasterStatus.STANDBY)

    async def talk(client: Client) -> None:
        for entry in entries:
            same("standby", entry, await ask(client, entry, ""))

    serve(face, talk)
    assert face.submitted == []


#: What the worker reports until a driver is in this state.
LIVES: dict[str, tuple[dict[str, Any], ...]] = {
    "SUBMITTED": (),
    "RUNNING": ({"state": "RUNNING"},),
    "FINISHED": ({"state": "RUNNING"}, {"state": "FINISHED", "exit_code": 0}),
    "FAILED": ({"state": "RUNNING"}, {"state": "FAILED", "exit_code": 1}),
    "KILLED": ({"state": "RUNNING"}, {"state": "KILLED", "exit_code": 143}),
    "ERROR": ({"state": "ERROR", "message": "java.nio.file.NoSuchFileException: /nowhere/app.jar"},),
}


@pytest.mark.parametrize("entry", recorded("drivers"), ids=lambda entry: entry["name"])
def test_drivers_at_work(entry: dict[str, Any]) -> None:
    face = FakeMaster()
    state = (entry["body"] or {}).get("driverState", "RUNNING")
    size = 512 if state != "SUBMITTED" else 700 * 1024
    face.tell(WorkerRegistered(WORKER))
    driver_id = face.tell(SubmitDriver(0, DriverDescription("jvm", main_class="org.example.Main", memory_mb=size))).id
    for seq, step in enumerate(LIVES[state], 1):
        face.tell(report(driver_id, seq=seq, **step))

    async def talk(client: Client) -> None:
        path = re.sub(r"driver-20260101000000-0000", driver_id, entry["path"])
        same("drivers", entry, await ask(client, {**entry, "path": path}, ""))

    serve(face, talk)


def test_the_pages_of_a_standby() -> None:
    entries = {entry["name"]: entry["body"] for entry in recorded("pages")}
    face = FakeMaster(says=MasterStatus.STANDBY)

    async def talk(client: Client) -> None:
        state = (await client.web("/json/")).json
        assert {**state, "url": ""} == {**entries["standby"], "url": ""}
        assert list(state) == list(entries["standby"])
        assert (await client.web("/json/clusterutilization")).json == entries["standby, use"]

    serve(face, talk)


def shape(value: Any) -> Any:
    """The fields and their types."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return [shape(item) for item in value[:1]] if isinstance(value, list) else type(value)


def test_the_pages_of_a_leader() -> None:
    entries = {entry["name"]: entry["body"] for entry in recorded("pages")}
    face = FakeMaster()
    face.tell(WorkerRegistered(WORKER))
    for size in (512, 700 * 1024, 512):
        last = face.tell(SubmitDriver(0, DriverDescription("jvm", main_class="org.example.Main", memory_mb=size))).id
    face.tell(report(last, state="FINISHED", seq=1, exit_code=0))

    async def talk(client: Client) -> None:
        state, spark = (await client.web("/json/")).json, entries["leader at work"]
        assert list(state) == list(spark)
        for name in ("workers", "activedrivers", "completeddrivers"):
            for row in (*state[name], *spark[name]):
                row.update({key: 0 for key in ("starttime", "lastheartbeat") if key in row})
            assert shape(state[name]) == shape(spark[name]), name
        assert (state["status"], state["coresused"], state["memoryused"]) == ("ALIVE", 1, 512)
        assert (await client.web("/json/clusterutilization")).json == entries["leader at work, use"]

    serve(face, talk)
