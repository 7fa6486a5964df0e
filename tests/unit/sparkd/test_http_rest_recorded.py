"""Spark's REST protocol compared with what real Spark 4.3.0 answered (fixtures/rest, made by tests/integration/sparkd/record_rest.py)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from http_faces import Client, FakeMaster, Reply, driver_row, master_settings, serve

from sparkd.core.states import MasterStatus
from sparkd.http.json_pages import EMPTY

RECORDED = Path(__file__).parent / "fixtures" / "rest"
BODY_LIMIT = 20_000
WORKER = "worker-20260101000000-127.0.0.1-1"

#: Where sparkd differs on purpose: (file, name) -> status.
STRICTER = {
    ("alive", "JSON and more"): 400,  # Spark takes the first value and drops the rest
}
NOT_DONE = {("standby", "clear")}  # Spark says success, and clears nothing


def recorded(name: str) -> list[dict[str, Any]]:
    return list(json.loads((RECORDED / f"{name}.json").read_text()))


def plain(text: str) -> Any:
    return json.loads(re.sub(r"driver-20260101000000-\d{4}", "driver-20260101000000-0000", text))


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


@pytest.mark.parametrize("entry", recorded("drivers"), ids=lambda entry: entry["name"])
def test_drivers_at_work(entry: dict[str, Any]) -> None:
    face = FakeMaster()
    state = (entry["body"] or {}).get("driverState", "RUNNING")
    row = driver_row("driver-20260101000000-0000", state, "None" if state == "SUBMITTED" else WORKER)
    if state == "ERROR":
        row["message"] = entry["body"]["message"].partition("\n")[2]
    face.fake.state["workers"].append({"id": WORKER, "host": "127.0.0.1", "port": 1, "state": "ALIVE"})
    face.fake.state["activedrivers" if state in ("RUNNING", "SUBMITTED") else "completeddrivers"].append(row)

    async def talk(client: Client) -> None:
        same("drivers", entry, await ask(client, entry, ""))

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


def test_the_pages_of_a_leader() -> None:
    entries = {entry["name"]: entry["body"] for entry in recorded("pages")}
    face = FakeMaster()
    face.fake.state = {name: entries["leader at work"][name] for name in EMPTY}

    async def talk(client: Client) -> None:
        state = (await client.web("/json/")).json
        assert {**state, "url": ""} == {**entries["leader at work"], "url": ""}
        assert (await client.web("/json/clusterutilization")).json == entries["leader at work, use"]

    serve(face, talk)
