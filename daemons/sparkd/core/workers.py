"""What happens to workers: registered, silent, lost, replaced, decommissioned, and their reports.

Source: org.apache.spark.deploy.master.Master (RegisterWorker, WorkerLatestState, Heartbeat, timeOutDeadWorkers, removeWorker,
decommissionWorker). Unlike there, a broken connection gives nothing up: a worker has worker_timeout_s to come back.
"""

from __future__ import annotations

from dataclasses import replace

from . import applications, drivers
from .book import Book
from .effects import AcceptWorker, AckJournal, EndProcess, NotifyApplication, RefuseWorker, ReregisterWorker
from .entities import MESSAGE_LENGTH, Worker
from .events import ProcessChanged, WorkerDecommissioned, WorkerDisconnected, WorkerHeartbeat, WorkerRegistered
from .states import WorkerState
from .transitions import WorkerEvent
from .values import Now, ProcessRef, ProcessReport, WorkerInfo

#: States in which a reported process occupies its worker.
RUNNING_STATES = {"driver": frozenset({"RUNNING"}), "executor": frozenset({"LAUNCHING", "RUNNING", "DECOMMISSIONED"})}
KNOWN_STATES = {"driver": frozenset(drivers.REPORTS), "executor": frozenset(applications.REPORTS)}


def register(book: Book, event: WorkerRegistered, now: Now) -> None:
    """Take a worker and all that it says of its processes; tell it what to drop, launch again and end.

    At an address that another worker has: refused while that one is connected (as Spark). Otherwise the other one, whose port is taken,
    is gone for good: DEAD now, its supervised work relaunched, its unsupervised work UNKNOWN until its journal or an operator answers.
    """
    info = event.worker
    why = _unfit(info) or _take_address(book, info, now)
    if why:
        book.counters["refused_workers"] += 1
        book.note(f"worker {info.id}", "-", "refused", why)
        book.effect(RefuseWorker(info.id, why))
        return
    worker = book.workers.get(info.id)
    if worker is None:
        worker = book.workers[info.id] = Worker(info, registered_ms=now.wall_ms)
        book.capacity.add(info.id)
        book.touch("worker", info.id)
        book.counters["new_workers"] += 1
    elif worker.info != info:
        if book.worker_at.get(worker.address) == worker.id:
            del book.worker_at[worker.address]
        worker.info = info
        book.touch("worker", info.id)
    book.worker_at[worker.address] = worker.id
    worker.connected = True
    _heard(worker, now)
    book.watch(worker, now.boot_s + book.policy.worker_timeout_s)
    book.move_worker(worker, WorkerEvent.REGISTERED_DECOMMISSIONED if info.decommissioned else WorkerEvent.REGISTERED, now)
    place = book.effects_so_far
    running = _take_all(book, worker, event.processes, now)
    drop = tuple(ref for ref, wanted in running.items() if not wanted)
    acknowledged = max((told.seq for told in event.processes), default=0)
    book.effect_at(place, AcceptWorker(worker.id, drop, acknowledged))
    reported = {told.ref for told in event.processes}
    _release_unreported(book, worker, reported)
    drivers.reconcile(book, worker, reported, now)
    applications.reconcile(book, worker, reported, now)
    if info.decommissioned:
        applications.decommission(book, worker, now)
    book.sync_capacity(worker)


def _unfit(info: WorkerInfo) -> str:
    if not info.id or not info.host or info.cores < 1 or info.memory_mb < 1:
        return f"a worker needs an id, a host, at least 1 core and 1 MiB, not {info.id!r}, {info.host!r}, {info.cores} and {info.memory_mb}"
    return ""


def _take_address(book: Book, info: WorkerInfo, now: Now) -> str:
    """Make room for a worker at its address, or say why not."""
    address = f"{info.host}:{info.port}"
    other_id = book.worker_at.get(address)
    if other_id is None or other_id == info.id:
        return ""
    other = book.workers[other_id]
    if other.connected:
        return f"Attempted to re-register worker at same address: {address}, which {other_id} has and uses"
    if other.state is not WorkerState.DEAD:
        _declare_dead(book, other, WorkerEvent.REPLACED, f"worker {info.id} registered at its address {address}", now)
    _forget(book, other)
    return ""


def _take_all(book: Book, worker: Worker, processes: tuple[ProcessReport, ...], now: Now) -> dict[ProcessRef, bool]:
    """Take reports, oldest first; return what runs in the end, and whether it is wanted."""
    running: dict[ProcessRef, bool] = {}
    for told in processes:
        wanted = _take(book, worker, told, now)
        if told.ref in worker.occupied:
            running[told.ref] = wanted
        else:
            running.pop(told.ref, None)
    return running


def _take(book: Book, worker: Worker, told: ProcessReport, now: Now) -> bool:
    """Take one report: whether it occupies its worker first, then what it means. Return whether a process like this is wanted there."""
    if len(told.message) > MESSAGE_LENGTH:
        told = replace(told, message=told.message[:MESSAGE_LENGTH] + "...")
    if told.state in RUNNING_STATES[told.ref.kind]:
        worker.occupy(told.ref, max(0, told.cores), max(0, told.memory_mb))
    else:
        worker.release(told.ref)
    if told.state not in KNOWN_STATES[told.ref.kind]:
        book.counters["refused_reports"] += 1
        book.note(
            f"{told.ref.kind} {told.ref}", "-", "-", f"refused: worker {worker.id} reports a state {told.state[:40]!r} that nobody knows"
        )
        return False
    if told.ref.kind == "driver":
        return drivers.report(book, worker, told, now)
    return applications.report(book, worker, told, now)


def _release_unreported(book: Book, worker: Worker, reported: set[ProcessRef]) -> None:
    """What a worker does not name does not run there. Executors are their applications' to judge."""
    for ref in [ref for ref in worker.occupied if ref not in reported]:
        if ref.kind == "driver" or applications.executor_at(book, ref, worker) is None:
            worker.release(ref)


def changed(book: Book, event: ProcessChanged, now: Now) -> None:
    """Take a journal entry of a registered worker; others are asked to register, which brings the entry again."""
    worker = _registered(book, event.worker_id)
    if worker is None:
        return
    told = event.report
    _heard(worker, now)
    wanted = _take(book, worker, told, now)
    if told.ref in worker.occupied and not wanted:
        book.effect(EndProcess(worker.id, told.ref, "no longer wanted"))
    if told.seq:
        book.effect(AckJournal(worker.id, told.seq))
    book.sync_capacity(worker)


def _registered(book: Book, worker_id: str) -> Worker | None:
    worker = book.workers.get(worker_id)
    if worker is not None and worker.connected:
        return worker
    why = "not registered with this leader" if worker is None or worker.state is not WorkerState.DEAD else "declared dead meanwhile"
    book.counters["unregistered_messages"] += 1
    book.effect(ReregisterWorker(worker_id, why))
    return None


def heartbeat(book: Book, event: WorkerHeartbeat, now: Now) -> None:
    """Note that it lives. Writes nothing."""
    worker = _registered(book, event.worker_id)
    if worker is not None:
        _heard(worker, now)


def _heard(worker: Worker, now: Now) -> None:
    worker.last_seen_s = now.boot_s
    worker.last_heartbeat_ms = now.wall_ms


def disconnected(book: Book, event: WorkerDisconnected, now: Now) -> None:
    """Give it no new work; what it has stays its own until it has been silent for too long."""
    worker = book.workers.get(event.worker_id)
    if worker is None or not worker.connected:
        return
    worker.connected = False
    book.move_worker(worker, WorkerEvent.DISCONNECTED, now)


def decommissioned(book: Book, event: WorkerDecommissioned, now: Now) -> None:
    """It takes no more work; its executors no longer count for their applications, which get others elsewhere."""
    worker = _registered(book, event.worker_id)
    if worker is None:
        return
    _heard(worker, now)
    book.move_worker(worker, WorkerEvent.DECOMMISSIONED, now)
    applications.decommission(book, worker, now)


def check_silent(book: Book, now: Now) -> None:
    """Declare those dead that were silent for worker_timeout_s; stop listing them dead_worker_persistence times that later."""
    timeout = book.policy.worker_timeout_s
    while (worker_id := book.take_due(now)) is not None:
        worker = book.workers.get(worker_id)
        if worker is None:
            continue
        if worker.state is not WorkerState.DEAD:
            due = worker.last_seen_s + timeout
            if due <= now.boot_s:
                cause = f"worker {worker.id} was silent for {now.boot_s - worker.last_seen_s:.0f} s"
                _declare_dead(book, worker, WorkerEvent.TIMED_OUT, cause, now)
                due = _unlisted_at(book, worker)
        else:
            due = _unlisted_at(book, worker)
            if due <= now.boot_s:
                _forget(book, worker)
                continue
        book.watch(worker, due)


def check_orphans(book: Book, now: Now) -> None:
    """Some time after a recovery: work on workers that no record tells of, and that did not come, is lost with them."""
    for driver in list(book.drivers.values()):
        if not driver.state.queued and driver.worker_id not in book.workers:
            drivers.lose(book, driver, now, f"worker {driver.worker_id} is not known to this leader")
    applications.check_orphans(book, now)


def _unlisted_at(book: Book, worker: Worker) -> float:
    return worker.last_seen_s + (book.policy.dead_worker_persistence + 1) * book.policy.worker_timeout_s


def _declare_dead(book: Book, worker: Worker, event: WorkerEvent, cause: str, now: Now) -> None:
    worker.connected = False
    book.move_worker(worker, event, now, cause)
    book.counters["lost_workers"] += 1
    for driver_id in sorted(book.drivers_of.get(worker.id, ()), key=lambda known: book.drivers[known].number):
        drivers.lose(book, book.drivers[driver_id], now, cause)
    applications.lose_worker(book, worker, now, cause)
    for ref in list(worker.occupied):
        worker.release(ref)  # what still runs there counts again when it comes back and says so
    for app_id in book.applications:
        book.effect(NotifyApplication(app_id, "worker_removed", worker_id=worker.id, message=cause))


def _forget(book: Book, worker: Worker) -> None:
    """Stop listing it. Drivers that may still be there keep its id, and it is heard when it comes back."""
    del book.workers[worker.id]
    book.capacity.discard(worker.id)
    if book.worker_at.get(worker.address) == worker.id:
        del book.worker_at[worker.address]
    book.touch("worker", worker.id)
    book.note(f"worker {worker.id}", worker.state, "-", "no longer listed")
