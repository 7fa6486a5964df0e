"""From records back to a Book: everything is there at once, and each worker and application is confirmed on its own.

Workers are UNKNOWN until they report, applications until their driver answers; queued drivers are queued in their old order; what runs is
taken to run where its record says until that worker tells otherwise. Nothing is written: a leader that falls right away leaves no trace.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from ..coordination.api import StoredRecord
from . import applications
from .book import Book, Unreadable
from .codec import CodecError, decode
from .effects import NotifyApplication
from .entities import Application, Counters, Driver, Executor, Forgotten, Worker
from .scheduler import CapacityIndex
from .states import ApplicationState, WorkerState
from .values import Now, Policy

T = TypeVar("T")


def recover(policy: Policy, records: Iterable[StoredRecord], now: Now) -> Book:
    """Return the Book that the records tell of. What cannot be understood is listed in `Book.unreadable` and left alone in the store."""
    book = Book(policy)
    workers: list[Worker] = []
    drivers: list[Driver] = []
    apps: list[Application] = []
    executors: list[Executor] = []
    for stored in records:
        try:
            match stored.kind:
                case "worker":
                    workers.append(_same(stored, decode(Worker, stored.record), lambda worker: worker.info.id))
                case "driver":
                    drivers.append(_same(stored, decode(Driver, stored.record), lambda driver: driver.id))
                case "application":
                    apps.append(_same(stored, decode(Application, stored.record), lambda app: app.id))
                case "executor":
                    executors.append(_same(stored, decode(Executor, stored.record), lambda one: f"{one.app_id}.{one.id}"))
                case "meta" if stored.id == "counters":
                    book.numbers = decode(Counters, stored.record)
                case "meta" if stored.id.startswith("forgotten-"):
                    book.forgotten[int(stored.id.rpartition("-")[2])] = decode(Forgotten, stored.record)
                case _:
                    raise CodecError(f"nobody knows records of kind {stored.kind!r} with this id")
        except ValueError as error:
            book.unreadable.append(Unreadable(stored.kind, stored.id, str(error)))
    # Numbers follow from the entities too: a counter that was set aside never makes an id appear twice.
    book.numbers = Counters(
        drivers=max([book.numbers.drivers, *(driver.number + 1 for driver in drivers)]),
        applications=max([book.numbers.applications, *(app.number + 1 for app in apps)]),
    )
    _workers(book, workers, now)
    _drivers(book, drivers)
    _applications(book, apps, executors)
    unknown = sum(worker.state is WorkerState.UNKNOWN for worker in workers)
    told = f"{unknown} workers to report, {len(book.drivers)} drivers, {len(book.driver_queue)} of them queued"
    book.note("cluster", "stored", "recovered", f"{told}, {len(book.applications)} applications to answer")
    return book


def _same(stored: StoredRecord, entity: T, id_of: object) -> T:
    found = id_of(entity) if callable(id_of) else None
    if found != stored.id:
        raise CodecError(f"the record is of {found!r}, not of {stored.id!r}")
    return entity


def _workers(book: Book, workers: list[Worker], now: Now) -> None:
    for worker in workers:
        worker.last_seen_s = now.boot_s
        if worker.state is not WorkerState.DEAD:
            worker.state = WorkerState.UNKNOWN
        book.workers[worker.id] = worker
        book.worker_at.setdefault(worker.address, worker.id)
        book.watch(worker, now.boot_s + book.policy.worker_timeout_s)
    book.capacity = CapacityIndex(book.workers)


def _drivers(book: Book, drivers: list[Driver]) -> None:
    drivers.sort(key=lambda driver: driver.number)
    for driver in drivers:
        if driver.request_id:
            book.requests[driver.request_id] = driver.id
        if driver.state.final:
            continue
        book.drivers[driver.id] = driver
        if driver.state.queued:
            book.enqueue(driver)
            continue
        book.drivers_of.setdefault(driver.worker_id, set()).add(driver.id)
        worker = book.workers.get(driver.worker_id)
        if worker is not None and worker.state is not WorkerState.DEAD:
            worker.occupy(driver.ref, *driver.shape)
    completed = sorted((driver for driver in drivers if driver.state.final), key=lambda driver: (driver.end_order, driver.number))
    book.completed_drivers = {driver.id: driver for driver in completed}
    book.end_order = max((driver.end_order for driver in completed), default=0)
    for slot in sorted(book.forgotten, key=lambda slot: book.forgotten[slot].order):
        forgotten = book.forgotten[slot]
        book.forgotten_order = max(book.forgotten_order, forgotten.order)
        for request_id, driver_id in forgotten.requests.items():
            book.requests.setdefault(request_id, driver_id)


def _applications(book: Book, apps: list[Application], executors: list[Executor]) -> None:
    for app in sorted(apps, key=lambda app: app.number):
        if app.state.final:
            continue
        app.state = ApplicationState.UNKNOWN
        book.applications[app.id] = app
        if app.description.address:
            book.application_at[app.description.address] = app.id
        book.effect(NotifyApplication(app.id, "master_changed"))
    completed = sorted((app for app in apps if app.state.final), key=lambda app: (app.end_order, app.number))
    book.completed_applications = {app.id: app for app in completed}
    book.end_order = max([book.end_order, *(app.end_order for app in completed)])
    for executor in sorted(executors, key=lambda one: (one.app_id, one.id)):
        owner = book.applications.get(executor.app_id)
        if owner is None:
            book.unreadable.append(Unreadable("executor", f"{executor.app_id}.{executor.id}", "its application is not known or over"))
            continue
        owner.attach(executor)
        worker = book.workers.get(executor.worker_id)
        if worker is not None and worker.state is not WorkerState.DEAD:
            worker.occupy(executor.ref, executor.cores, executor.memory_mb)
    for app in book.applications.values():
        applications.sync_demands(book, app)
