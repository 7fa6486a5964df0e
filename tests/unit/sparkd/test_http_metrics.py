"""/metrics: what Prometheus reads, in every state."""

from __future__ import annotations

from typing import Any

from http_faces import WORKER, Client, FakeMaster, FakeWorker, report, serve
from prometheus_client.parser import text_string_to_metric_families

from sparkd.core.events import SubmitDriver, WorkerRegistered
from sparkd.core.states import MasterStatus
from sparkd.core.values import DriverDescription, ProcessRef, ProcessReport


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return every sample by name and labels; each only once."""
    found: dict[Any, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    return found


def read(face: FakeMaster | FakeWorker) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    got: list[str] = []

    async def talk(client: Client) -> None:
        assert (await client.web("/livez")).status == 200
        reply = await client.web("/metrics")
        assert (reply.status, reply.headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        got.append(reply.body.decode())

    serve(face, talk)
    return samples(got[0])


def test_a_leader() -> None:
    face = FakeMaster(
        numbers={"elections_total": 3, "persist_seconds_sum": 0.5, "persist_seconds_count": 10, "queue_length": 2, "cores": 9}
    )
    face.tell(WorkerRegistered(WORKER))
    ids = [face.tell(SubmitDriver(0, DriverDescription("command", argv=("x",), memory_mb=size))).id for size in (512, 1 << 20)]
    face.tell(report(ids[0], "RUNNING", 1))
    found = read(face)
    assert found["sparkd_is_leader", ()] == 1
    assert found["sparkd_status", (("status", "ALIVE"),)] == 1
    assert found["sparkd_status", (("status", "STANDBY"),)] == 0
    assert found["sparkd_epoch", ()] == 7
    assert found["sparkd_elections_total", ()] == 3
    assert (found["sparkd_persist_seconds_sum", ()], found["sparkd_persist_seconds_count", ()]) == (0.5, 10)
    assert found["sparkd_queue_length", ()] == 2
    assert found["sparkd_workers", (("state", "ALIVE"),)] == 1
    assert found["sparkd_drivers", (("state", "RUNNING"),)] == 1
    assert found["sparkd_drivers", (("state", "SUBMITTED"),)] == 1
    assert found["sparkd_drivers", (("state", "ERROR"),)] == 0
    assert found["sparkd_drivers_waiting", ()] == 1
    assert (found["sparkd_cores", ()], found["sparkd_cores_used", ()]) == (3, 1)
    assert found["sparkd_memory_used_bytes", ()] == 512 << 20
    assert found["sparkd_core_submissions_total", ()] == 2
    assert found["metrics_master_aliveWorkers_Value", ()] == 1
    assert found["sparkd_http_requests_total", (("code", "200"), ("server", "web"))] == 1
    assert found["process_resident_memory_bytes", ()] > 1 << 20


def test_a_standby_has_nothing_to_tell_of_the_cluster() -> None:
    face = FakeMaster(says=MasterStatus.STANDBY, term=None, led_by=None)
    face.tell(WorkerRegistered(WORKER))
    found = read(face)
    assert (found["sparkd_is_leader", ()], found["sparkd_epoch", ()], found["sparkd_cores", ()]) == (0, 0, 0)
    assert found["sparkd_workers", (("state", "ALIVE"),)] == 0
    assert not any(name.startswith("sparkd_core_") for name, _ in found)


def test_a_worker() -> None:
    face = FakeWorker(runs=(ProcessReport(ProcessRef("driver", "driver-1", 1), "RUNNING", 1, 512),))
    found = read(face)
    assert found["sparkd_journal_backlog", ()] == 3
    assert found["sparkd_refused_stale_commands_total", ()] == 2
    assert found["sparkd_processes", (("kind", "driver"),)] == 1
    assert (found["sparkd_cores", ()], found["sparkd_cores_used", ()]) == (4, 2)
    assert found["metrics_worker_coresFree_Value", ()] == 2
