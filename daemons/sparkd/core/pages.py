"""What people read of a cluster: the fields of Spark's /json/, and sentences that explain an entity. Reads only; shows no environment.

Source of the fields: org.apache.spark.deploy.JsonProtocol (writeMasterState, writeWorkerInfo, writeApplicationInfo, writeDriverInfo).
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime

from . import applications
from .book import Book
from .entities import Application, Driver, Worker
from .scheduler import limit
from .states import ApplicationState, DriverState, WorkerState
from .transitions import Step
from .values import Now


def java_date(wall_ms: int) -> str:
    """Return a time as java.util.Date writes it, in UTC."""
    return _java_date(wall_ms // 1000)


@functools.lru_cache(maxsize=16384)
def _java_date(wall_s: int) -> str:
    return datetime.fromtimestamp(wall_s, UTC).strftime("%a %b %d %H:%M:%S UTC %Y")


def json_state(book: Book, now_ms: int) -> dict[str, object]:
    """Return all of /json/ but url and status. Totals are of ALIVE workers, as Spark's."""
    alive = [worker for worker in book.workers.values() if worker.state is WorkerState.ALIVE]
    return {
        "workers": [_worker(worker) for worker in book.workers.values()],
        "aliveworkers": len(alive),
        "cores": sum(worker.info.cores for worker in alive),
        "coresused": sum(worker.cores_used for worker in alive),
        "memory": sum(worker.info.memory_mb for worker in alive),
        "memoryused": sum(worker.memory_used for worker in alive),
        "resources": [],
        "resourcesused": [],
        "activeapps": [_application(app, now_ms) for app in book.applications.values()],
        "completedapps": [_application(app, now_ms) for app in book.completed_applications.values()],
        "activedrivers": [_driver(driver) for driver in book.drivers.values()],
        "completeddrivers": [_driver(driver) for driver in book.completed_drivers.values()],
    }


def _worker(worker: Worker) -> dict[str, object]:
    return {
        "id": worker.id,
        "host": worker.info.host,
        "port": worker.info.port,
        "webuiaddress": worker.info.web_ui,
        "cores": worker.info.cores,
        "coresused": worker.cores_used,
        "coresfree": worker.cores_free,
        "memory": worker.info.memory_mb,
        "memoryused": worker.memory_used,
        "memoryfree": worker.memory_free,
        "resources": {},
        "resourcesused": {},
        "resourcesfree": {},
        "state": worker.state.value,
        "lastheartbeat": worker.last_heartbeat_ms,
    }


def _application(app: Application, now_ms: int) -> dict[str, object]:
    asked = app.description
    return {
        "id": app.id,
        "starttime": app.registered_ms,
        "name": asked.name,
        "cores": app.cores_granted,
        "user": asked.user,
        "memoryperexecutor": asked.profile.memory_mb,
        "memoryperslave": asked.profile.memory_mb,
        "resourcesperexecutor": [],
        "resourcesperslave": [],
        "submitdate": java_date(app.registered_ms),
        "state": app.state.value,
        "duration": max(0, (app.ended_ms or now_ms) - app.registered_ms),
    }


def _driver(driver: Driver) -> dict[str, object]:
    return {
        "id": driver.id,
        "starttime": str(driver.submitted_ms),
        "state": driver.state.value,
        "cores": driver.description.cores,
        "memory": driver.description.memory_mb,
        "resources": {},
        "submitdate": java_date(driver.submitted_ms),
        "worker": driver.worker_id or "None",
        "mainclass": driver.title,
    }


# --- sentences


def explain(book: Book, entity_id: str, now: Now) -> tuple[str, ...]:
    """Return why it is as it is and what it waits for; empty for an unknown id."""
    driver = book.find_driver(entity_id)
    if driver is not None:
        return (*_explain_driver(book, driver), *_told(driver.story))
    app = book.find_application(entity_id)
    if app is not None:
        return (*_explain_application(book, app), *_told(app.story))
    worker = book.workers.get(entity_id)
    if worker is not None:
        return (*_explain_worker(book, worker, now), *_told(worker.story))
    return ()


def _told(story: tuple[Step, ...]) -> list[str]:
    return [f"{java_date(at)}: {before} -> {after}, {cause}." for at, before, after, cause in story]


def _explain_driver(book: Book, driver: Driver) -> list[str]:
    cores, memory = driver.shape
    if driver.state.final:
        said = [f"Driver {driver.id} is {driver.state} after {driver.attempt} attempt(s); this is final."]
        if driver.exit_code is not None:
            said.append(f"Its last process ended with exit code {driver.exit_code}.")
        return said + ([f"Message: {driver.message}."] if driver.message else [])
    if driver.state.queued:
        said = [f"Driver {driver.id} is {driver.state}: attempt {driver.attempt} waits for {cores} core(s) and {memory} MiB on one worker."]
        if driver.message:
            said.append(f"It waits again because {driver.message}.")
        return said + _why_queued(book, driver)
    where = f"worker {driver.worker_id} ({driver.worker_address})"
    worker = book.workers.get(driver.worker_id)
    said = [f"Driver {driver.id} is {driver.state}: attempt {driver.attempt} was given to {where}."]
    if driver.state is DriverState.UNKNOWN:
        said.append(f"{driver.message}." if driver.message else "That worker does not answer.")
        said.append(f"`kill` with give-up declares it ended; should {driver.worker_id} come back, it ends what still runs there.")
    elif worker is None or not worker.connected:
        said.append(f"That worker does not answer now; it has {book.policy.worker_timeout_s:g} s to come back.")
    elif not driver.confirmed:
        said.append("That worker has not said yet that it runs.")
    if driver.runs > 1:
        said.append(f"Supervise has started it {driver.runs} times within this attempt.")
    if driver.kill_requested:
        said.append("It is to be killed; its worker has not reported its end yet.")
    return said


def _why_queued(book: Book, driver: Driver) -> list[str]:
    cores, memory = driver.shape
    said = []
    ahead = book.driver_queue.ahead(driver.id)
    if ahead:
        said.append(f"{ahead} driver(s) that were submitted before it wait too.")
    if book.placed_drivers >= limit(book.policy.max_drivers):
        said.append(f"spark.deploy.maxDrivers is {book.policy.max_drivers}, and as many are running.")
    said += _capacity(book, cores, memory)
    return said


def _capacity(book: Book, cores: int, memory: int) -> list[str]:
    """Why nobody has this much."""
    usable = [worker for worker in book.workers.values() if worker.usable]
    if not usable:
        states = ", ".join(f"{worker.id} {worker.state}" for worker in list(book.workers.values())[:5])
        return [f"No worker is ALIVE{f' ({states})' if states else ''}."]
    large = [worker for worker in usable if worker.info.cores >= cores and worker.info.memory_mb >= memory]
    if not large:
        most = max(worker.info.cores for worker in usable), max(worker.info.memory_mb for worker in usable)
        return [f"No worker is large enough: the largest have {most[0]} core(s) and {most[1]} MiB. It waits until a larger one registers."]
    if any(worker.cores_free >= cores and worker.memory_free >= memory for worker in large):
        return ["A worker has room for it: it is next."]
    best = max(large, key=lambda worker: (worker.cores_free, worker.memory_free))
    return [
        f"{len(large)} of {len(usable)} ALIVE worker(s) are large enough and all are busy; {best.id} has {best.cores_free} core(s) and"
        f" {best.memory_free} MiB free."
    ]


def _explain_application(book: Book, app: Application) -> list[str]:
    if app.state.final:
        return [f"Application {app.id} is {app.state}; this is final."] + ([f"Reason: {app.message}."] if app.message else [])
    said = [f"Application {app.id} is {app.state} with {len(app.executors)} executor(s) and {app.cores_granted} core(s)."]
    if app.state is ApplicationState.UNKNOWN:
        said.append("Its driver has not answered this leader yet; it keeps its executors and gets no new ones until then.")
        return said
    for profile_id in sorted(app.profiles):
        wanted = applications.demand(book, app, profile_id)
        name = f"Resource profile {profile_id}"
        if wanted.executors_left <= 0:
            said.append(f"{name} has the {app.targets.get(profile_id, 0)} executor(s) that it asked for.")
        elif wanted.cores_left < wanted.unit:
            left = max(0, wanted.cores_left)
            said.append(f"{name} could use more, but {left} core(s) are left of its limit and one executor needs {wanted.unit}.")
        else:
            said.append(f"{name} wants more executors of {wanted.unit} core(s) and {wanted.memory_mb} MiB.")
            said += _capacity(book, wanted.unit, wanted.memory_mb)
    if app.failures:
        said.append(
            f"{app.failures} executor(s) in a row ended abnormally; spark.deploy.maxExecutorRetries is {book.policy.max_executor_retries}."
        )
    return said


def _explain_worker(book: Book, worker: Worker, now: Now) -> list[str]:
    said = [
        f"Worker {worker.id} at {worker.address} is {worker.state}; {worker.cores_used} of {worker.info.cores} core(s) and"
        f" {worker.memory_used} of {worker.info.memory_mb} MiB are in use."
    ]
    silent = max(0.0, now.boot_s - worker.last_seen_s)
    if worker.state is WorkerState.UNKNOWN:
        said.append(f"It has not been heard for {silent:.0f} s; after {book.policy.worker_timeout_s:g} s it is given up as DEAD.")
    if worker.state is WorkerState.DEAD:
        waiting = sorted(book.drivers_of.get(worker.id, ()))
        if waiting:
            said.append(f"Only its journal or an operator can tell how these ended: {', '.join(waiting[:20])}.")
    if worker.state is WorkerState.DECOMMISSIONED:
        said.append("It takes no more work; what runs there goes on.")
    return said
