"""sparkd's own JSON API over loopback, in every state of a master."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from http_faces import ME, OTHER, WORKER, Client, FakeMaster, FakeWorker, Reply, report, serve

from sparkd.coordination.api import SetAside
from sparkd.core.cluster import Cluster
from sparkd.core.events import SubmitDriver, WorkerRegistered
from sparkd.core.states import MasterStatus
from sparkd.core.values import DriverDescription, ProcessRef, ProcessReport
from sparkd.http.api import BadDescription, parse_description
from sparkd.http.json_pages import StateCache

API = "/sparkd/v1"
ALL: dict[str, Any] = {
    "kind": "jvm",
    "name": "n",
    "argv": [],
    "resource": "file:/app.jar",
    "main_class": "M",
    "arguments": ["a", "ü"],
    "environment": {"SECRET_NAME": "secret-value"},
    "properties": {"spark.x": "secret-property"},
    "java_options": ["-Da=b"],
    "class_path": ["/a"],
    "library_path": ["/b"],
    "cores": 2,
    "memory_mb": 64,
    "supervise": True,
}


SPARKS: dict[str, Any] = {
    "action": "CreateSubmissionRequest",
    "clientSparkVersion": "4.3.0",
    "appResource": "x",
    "mainClass": "M",
    "sparkProperties": {},
}


def test_a_description_is_taken_as_it_is() -> None:
    tuples = {name: tuple(value) for name, value in ALL.items() if isinstance(value, list)}
    assert parse_description(ALL) == DriverDescription(**{**ALL, **tuples})
    assert parse_description({"kind": "command", "argv": ["sleep", "1"]}) == DriverDescription("command", argv=("sleep", "1"))


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (None, "not an object"),
        ({"kind": "shell"}, "kind"),
        ({"kind": None}, "kind"),
        ({"user": "root"}, "user"),
        ({"name": 5}, "name"),
        ({"arguments": "a b"}, "arguments"),
        ({"arguments": [1]}, r"arguments\[0\]"),
        ({"arguments": ["a\0b"]}, "NUL"),
        ({"environment": ["a"]}, "environment"),
        ({"environment": {"a": 1}}, "environment"),
        ({"environment": {"a=b": "c"}}, "environment"),
        ({"environment": {"": "c"}}, "environment"),
        ({"cores": 0}, "cores"),
        ({"cores": True}, "cores"),
        ({"cores": 1.0}, "cores"),
        ({"cores": "2"}, "cores"),
        ({"memory_mb": -1}, "memory_mb"),
        ({"memory_mb": 1 << 40}, "memory_mb"),
        ({"supervise": "yes"}, "supervise"),
        ({"main_class": ""}, "main_class"),
        ({"kind": "command"}, "argv"),
        ({"kind": "python", "resource": ""}, "resource"),
    ],
)
def test_a_description_that_cannot_be_run(change: Any, names: str) -> None:
    with pytest.raises(BadDescription, match=names) as caught:
        parse_description({**ALL, **change} if isinstance(change, dict) else change)
    assert "secret-" not in str(caught.value)


def test_a_driver_from_submission_to_its_end() -> None:
    face = FakeMaster()
    face.tell(WorkerRegistered(WORKER))

    async def talk(client: Client) -> None:
        made = await client.rest(f"{API}/drivers", "POST", json={"description": ALL, "request_id": "r1"})
        assert made.status == 200
        driver_id = made.json["id"]
        again = await client.rest(f"{API}/drivers", "POST", json={"description": ALL, "request_id": "r1"})
        assert (again.status, again.json["id"]) == (200, driver_id)
        assert face.submitted[0] == (parse_description(ALL), "r1")
        face.tell(report(driver_id, "RUNNING", 1))
        pages: list[Reply] = [await client.rest(f"{API}/drivers"), await client.rest(f"{API}/drivers/{driver_id}")]
        assert [row["id"] for row in pages[0].json["drivers"]] == [driver_id]
        row = pages[1].json
        assert (row["state"], row["worker"], row["attempt"], row["supervise"]) == ("RUNNING", WORKER.id, 1, True)
        assert row["story"][-1]["to"] == "RUNNING"
        pages.append(await client.rest(f"{API}/explain/{driver_id}"))
        assert driver_id in pages[2].json["sentences"][0]
        killed = await client.rest(f"{API}/drivers/{driver_id}/kill", "POST")
        assert (killed.status, killed.json["id"]) == (200, driver_id)
        face.tell(report(driver_id, "KILLED", 2, exit_code=143))
        killed = await client.rest(f"{API}/drivers/{driver_id}/kill", "POST", json={"give_up": True})
        assert killed.status == 409
        pages += [await client.rest(f"{API}/drivers/{driver_id}"), await client.rest(f"{API}/state"), await client.rest(f"{API}/workers")]
        assert (pages[3].json["state"], pages[3].json["exit_code"]) == ("KILLED", 143)
        assert pages[4].json["cluster"]["drivers"] == {"KILLED": 1}
        assert pages[5].json["workers"][0]["coresused"] == 0
        pages += [await client.web("/json/"), await client.web("/metrics")]
        for page in pages:
            assert b"secret-" not in page.body and b"SECRET_NAME" not in page.body

    serve(face, talk)


def test_unknown_ids_pages_and_methods() -> None:
    async def talk(client: Client) -> None:
        for method, path, status in (
            ("GET", "drivers/driver-x", 404),
            ("POST", "drivers/driver-x/kill", 404),
            ("GET", "explain/driver-x", 404),
            ("GET", "nothing", 404),
            ("POST", "../v2/drivers", 404),
            ("GET", "", 404),
            ("PUT", "drivers", 405),
            ("DELETE", "drivers/driver-x", 405),
            ("POST", "state", 405),
        ):
            reply = await client.rest(f"{API}/{path}", method)
            assert (reply.status, next(iter(reply.json))) == (status, "error"), path

    serve(FakeMaster(), talk)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "UTF-8"),
        (b'"\\ud800"', "JSON that can be read"),
        (b'{"description": NaN}', "JSON that can be read"),
        (b"9" * 5000, "JSON that can be read"),
        (b"[" * 100_000, "JSON that can be read"),
        (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, "JSON that can be read"),
        (b"[]", "not a JSON object"),
        (b'{"descripton": {}}', "descripton: no such field"),
        (b"{}", "description"),
        (b'{"description": {"kind": "command", "argv": ["x"]}, "request_id": 5}', "request_id"),
        (b'{"description": {"kind": "command", "argv": ["x"]}, "request_id": "a\\nb"}', "request_id"),
    ],
)
def test_malformed_submissions(body: bytes, names: str) -> None:
    face = FakeMaster()

    async def talk(client: Client) -> None:
        reply = await client.rest(f"{API}/drivers", "POST", data=body)
        assert reply.status == 400
        assert names in reply.json["error"]

    serve(face, talk)
    assert face.submitted == []


@pytest.mark.parametrize("status", [MasterStatus.STANDBY, MasterStatus.RECOVERING])
def test_who_does_not_lead_names_the_leader(status: MasterStatus) -> None:
    face = FakeMaster(says=status, led_by=OTHER)

    async def talk(client: Client) -> None:
        for method, path, body in (
            ("POST", "drivers", {"description": ALL}),
            ("POST", "drivers/driver-x/kill", {}),
        ):
            reply = await client.rest(f"{API}/{path}", method, json=body)
            assert reply.status == 503
            assert reply.json["status"] == status
            assert reply.json["leader"]["rest"] == OTHER.rest
            assert reply.json["error"] == f"Current state is not alive: {status}"
        for path in ("drivers", "drivers/x", "workers", "applications", "explain/x"):
            reply = await client.rest(f"{API}/{path}")
            known = status is MasterStatus.RECOVERING
            assert reply.status in ((200, 404) if known else (503,)), path
        leader = await client.rest(f"{API}/leader")
        assert (leader.status, leader.json["leader"]["url"], leader.json["status"]) == (200, OTHER.url, status)
        assert [master["url"] for master in leader.json["masters"]] == [ME.url, OTHER.url]

    serve(face, talk)
    assert face.submitted == []


def test_what_cannot_be_stored_is_not_acknowledged() -> None:
    face = FakeMaster(durable=False)

    async def talk(client: Client) -> None:
        reply = await client.rest(f"{API}/drivers", "POST", json={"description": ALL, "request_id": "r"})
        assert (reply.status, reply.json["retry"], reply.headers["Retry-After"]) == (503, True, "1")
        assert "disk full" in reply.json["error"]
        for verb, body in (("create", SPARKS), ("kill/x", None), ("killall", None), ("clear", None)):
            spark = await client.rest(f"/v1/submissions/{verb}", "POST", json=body)
            assert (spark.status, spark.json["action"]) == (503, "ErrorResponse")
            assert "disk full" in spark.json["message"]

    serve(face, talk)


def test_what_may_be_stored_is_not_called_refused() -> None:
    """Spark's clients and proxies submit again when they read "Current state is not alive": then it would run twice."""
    face = FakeMaster(deposed_meanwhile=True)

    async def talk(client: Client) -> None:
        reply = await client.rest(f"{API}/drivers", "POST", json={"description": ALL, "request_id": "r"})
        assert (reply.status, reply.json["uncertain"], reply.json["leader"]["url"]) == (503, True, OTHER.url)
        spark = await client.rest("/v1/submissions/create", "POST", json=SPARKS)
        assert (spark.status, spark.json["action"]) == (500, "ErrorResponse")
        assert "not alive" not in spark.json["message"] and OTHER.url in spark.json["message"]

    serve(face, talk)


def test_custom_resources_are_refused_loudly() -> None:
    async def talk(client: Client) -> None:
        body = {**SPARKS, "sparkProperties": {"spark.driver.resource.gpu.amount": "1"}}
        reply = await client.rest("/v1/submissions/create", "POST", json=body)
        assert (reply.status, reply.json["action"]) == (400, "ErrorResponse")
        assert "spark.driver.resource" in reply.json["message"]

    serve(FakeMaster(), talk)


def test_state_and_leader() -> None:
    face = FakeMaster(aside=[SetAside("driver", "driver-1", "checksum", "/set-aside/1")])

    async def talk(client: Client) -> None:
        state = (await client.rest(f"{API}/state")).json
        assert (state["status"], state["epoch"]) == ("ALIVE", {"cluster_id": "c1", "number": 7})
        assert state["coordination"] == {"engine": "NONE", "connected": True}
        assert state["set_aside"] == [{"kind": "driver", "id": "driver-1", "why": "checksum", "where": "/set-aside/1"}]
        face.says = MasterStatus.STANDBY
        state = (await client.rest(f"{API}/state")).json
        assert (state["status"], state["cluster"]) == ("STANDBY", None)

    serve(face, talk)


def test_json_of_the_web_port_reads_the_status_at_every_answer() -> None:
    face = FakeMaster()
    face.tell(WorkerRegistered(WORKER))

    async def talk(client: Client) -> None:
        assert (await client.web("/json/")).json["aliveworkers"] == 1
        # Without any new version: the lease is over.
        face.says = MasterStatus.STANDBY
        state = (await client.web("/json/")).json
        assert (state["status"], state["aliveworkers"], state["workers"]) == ("STANDBY", 0, [])
        face.says = MasterStatus.ALIVE
        assert (await client.web("/json/")).json["aliveworkers"] == 1
        face.tell(SubmitDriver(0, DriverDescription("command", argv=("x",), memory_mb=1 << 20)))
        assert len((await client.web("/json/")).json["activedrivers"]) == 1
        assert (await client.web("/json")).json["status"] == "ALIVE"

    serve(face, talk)


class Encoded:
    """A cluster whose encoding costs CPU time; counts how often it is asked."""

    def __init__(self, cost_s: float) -> None:
        self.cost_s, self.cpu, self.now, self.asked = cost_s, 0.0, 100.0, 0
        self.cache = StateCache(lambda: self.now, lambda: self.cpu)

    def json_state(self) -> dict[str, object]:
        self.asked += 1
        self.cpu += self.cost_s
        return {"cores": self.asked, "status": "ALIVE", "url": "x"}

    def cores(self, version: int) -> int:
        text = self.cache.text(cast(Cluster, self), version)
        assert '"status"' not in text and '"url"' not in text
        return int(json.loads("{" + text + "}")["cores"])


def test_a_small_state_is_always_fresh_and_encoded_once_for_each_version() -> None:
    cluster = Encoded(0.001)
    assert [cluster.cores(version) for version in (1, 1, 2, 2, 3)] == [1, 1, 2, 2, 3]
    cluster.now += 1.0  # heartbeats go on without a version
    assert cluster.cores(3) == 4


def test_a_large_state_takes_at_most_a_fifth_of_the_time() -> None:
    cluster = Encoded(0.05)
    seen = []
    for version in range(40):  # every 50 ms, always changed: 2 s
        seen.append(cluster.cores(version))
        cluster.now += 0.05
    assert seen == sorted(seen)
    assert 8 <= cluster.asked <= 10


def test_nothing_of_an_earlier_term_is_shown() -> None:
    first, second = Encoded(0.05), Encoded(0.05)
    second.asked = 10
    assert first.cores(1) == 1
    second.cache = first.cache
    assert second.cores(1) == 11


def test_a_worker_page() -> None:
    reports = (
        ProcessReport(ProcessRef("driver", "driver-1", 1), "RUNNING", 1, 512),
        ProcessReport(ProcessRef("executor", "app-1", 3), "RUNNING", 1, 256),
    )

    async def talk(client: Client) -> None:
        state = (await client.web("/json/")).json
        assert (state["id"], state["masterurl"], state["coresused"], state["memoryused"]) == ("worker-1", ME.url, 2, 512)
        assert [row["id"] for row in state["executors"]] == [3]
        assert state["executors"][0]["appdesc"]["name"] == "name of app-1"

    serve(FakeWorker(runs=reports), talk)
