"""The cluster's entities as the APIs show them: everything that they read of the core. No environment, no arguments, no properties."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ..core.cluster import Cluster
from ..core.entities import Application, Driver, Worker
from ..core.states import DriverState, WorkerState
from ..core.values import Json


def _driver(driver: Driver) -> dict[str, Json]:
    asked = driver.description
    return {
        "id": driver.id,
        "name": asked.name,
        "mainclass": driver.title,
        "kind": asked.kind,
        "state": driver.state.value,
        "cores": asked.cores,
        "memory": asked.memory_mb,
        "supervise": asked.supervise,
        "attempt": driver.attempt,
        "runs": driver.runs,
        "worker": driver.worker_id,
        "worker_address": driver.worker_address,
        "kill_requested": driver.kill_requested,
        "exit_code": driver.exit_code,
        "message": driver.message,
        "submitted_ms": driver.submitted_ms,
        "launched_ms": driver.launched_ms,
        "started_ms": driver.started_ms,
        "ended_ms": driver.ended_ms,
    }


def _worker(worker: Worker) -> dict[str, Json]:
    info = worker.info
    return {
        "id": info.id,
        "host": info.host,
        "port": info.port,
        "webuiaddress": info.web_ui,
        "state": worker.state.value,
        "connected": worker.connected,
        "cores": info.cores,
        "coresused": worker.cores_used,
        "memory": info.memory_mb,
        "memoryused": worker.memory_used,
        "lastheartbeat": worker.last_heartbeat_ms,
        "registered_ms": worker.registered_ms,
        "running": [str(ref) for ref in worker.occupied],
    }


def _application(app: Application) -> dict[str, Json]:
    return {
        "id": app.id,
        "name": app.description.name,
        "user": app.description.user,
        "state": app.state.value,
        "cores": app.cores_granted,
        "executors": len(app.executors),
        "failures": app.failures,
        "message": app.message,
        "submitted_ms": app.registered_ms,
        "ended_ms": app.ended_ms,
    }


def drivers(cluster: Cluster) -> list[dict[str, Json]]:
    """Return all drivers that are remembered: the active ones by submission, then the completed ones by their end."""
    return [_driver(driver) for group in (cluster.drivers, cluster.completed_drivers) for driver in group.values()]


def driver(cluster: Cluster, driver_id: str) -> dict[str, Json] | None:
    """Return one driver with the last steps of its life, None when it is not known."""
    found = cluster.driver(driver_id)
    if found is None:
        return None
    story = [{"at_ms": at_ms, "from": before, "to": after, "why": cause} for at_ms, before, after, cause in found.story]
    return {**_driver(found), "story": story}


def workers(cluster: Cluster) -> list[dict[str, Json]]:
    """Return all workers that are listed."""
    return [_worker(worker) for worker in cluster.workers.values()]


def applications(cluster: Cluster) -> list[dict[str, Json]]:
    """Return all applications that are remembered."""
    return [_application(app) for group in (cluster.applications, cluster.completed_applications) for app in group.values()]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many there are of everything, by state; cores and memory (MiB) of ALIVE workers."""

    workers: Mapping[str, int]
    drivers: Mapping[str, int]
    applications: Mapping[str, int]
    waiting_drivers: int = 0
    cores: int = 0
    cores_used: int = 0
    memory_mb: int = 0
    memory_used_mb: int = 0


NONE = Counts({}, {}, {})


def counts(cluster: Cluster) -> Counts:
    """Count."""
    alive = [worker for worker in cluster.workers.values() if worker.state is WorkerState.ALIVE]
    return Counts(
        dict(Counter(worker.state.value for worker in cluster.workers.values())),
        dict(Counter(row.state.value for group in (cluster.drivers, cluster.completed_drivers) for row in group.values())),
        dict(Counter(row.state.value for group in (cluster.applications, cluster.completed_applications) for row in group.values())),
        cluster.waiting_count,
        sum(worker.info.cores for worker in alive),
        sum(worker.cores_used for worker in alive),
        sum(worker.info.memory_mb for worker in alive),
        sum(worker.memory_used for worker in alive),
    )


@dataclass(frozen=True, slots=True)
class DriverStatus:
    """What Spark's protocol tells of a driver. worker_address: host:port; message: why there was an ERROR."""

    state: str
    worker_id: str = ""
    worker_address: str = ""
    message: str = ""


def driver_status(cluster: Cluster, driver_id: str) -> DriverStatus | None:
    """Return the status of one driver, None when it is not known."""
    found = cluster.driver(driver_id)
    if found is None:
        return None
    return DriverStatus(found.state.value, found.worker_id, found.worker_address, found.message if found.state is DriverState.ERROR else "")
