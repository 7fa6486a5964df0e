"""What happens to drivers: submitted, given to a worker, reported, killed, lost with their worker.

Source: org.apache.spark.deploy.master.Master (RequestSubmitDriver, RequestKillDriver, RequestKillAllDrivers, DriverStateChanged,
relaunchDriver, launchDriver). Unlike there, a driver keeps its id when it is relaunched: the attempt is counted instead (SPARK-19900).
"""

from __future__ import annotations

import heapq
from dataclasses import replace

from . import ids
from .book import Book
from .effects import Answer, EndProcess, LaunchDriver
from .entities import Driver, Worker
from .events import ClearCompleted, KillAllDrivers, KillDriver, SubmitDriver
from .scheduler import limit
from .states import DriverState
from .transitions import DriverEvent
from .values import DriverDescription, Now, ProcessRef, ProcessReport

#: What a worker may report of a driver. RELAUNCHING: its end was not seen (the host restarted), so its worker cannot go on with it.
#: SUBMITTED: nothing of it was started, for a reason that is the worker's and not the driver's (a full disk): it goes back into the queue.
REPORTS = {
    "RUNNING": DriverEvent.STARTED,
    "FINISHED": DriverEvent.FINISHED,
    "FAILED": DriverEvent.FAILED,
    "KILLED": DriverEvent.KILLED,
    "ERROR": DriverEvent.ERROR,
    "RELAUNCHING": DriverEvent.LOST_SUPERVISED,
    "SUBMITTED": DriverEvent.NOT_STARTED,
}
#: Characters of a request id.
MAX_REQUEST_ID = 200
KILL_REASON = "killed by request"


def submit(book: Book, event: SubmitDriver, now: Now) -> None:
    """Queue a submission; a request id that was seen before is answered with what it made then."""
    known = book.requests.get(event.request_id) if event.request_id else None
    if known is not None:
        book.counters["duplicate_submissions"] += 1
        book.effect(Answer(event.token, True, f"Driver successfully submitted as {known}", known))
        return
    why = _unfit(event.description)
    if len(event.request_id) > MAX_REQUEST_ID:
        why = f"a request id of {len(event.request_id)} characters; {MAX_REQUEST_ID} are allowed"
    if why:
        book.counters["refused_submissions"] += 1
        book.effect(Answer(event.token, False, why))
        return
    number = book.numbers.drivers
    driver_id = ids.driver_id(book.policy, now.wall_ms, number, lambda taken: book.find_driver(taken) is not None)
    book.numbers = replace(book.numbers, drivers=number + 1)
    description = event.description
    if book.policy.driver_id_as_app_name:
        description = replace(description, properties={**description.properties, "spark.app.name": driver_id})
    driver = Driver(driver_id, number, description, now.wall_ms, request_id=event.request_id)
    book.drivers[driver_id] = driver
    if event.request_id:
        book.requests[event.request_id] = driver_id
    book.enqueue(driver)
    book.touch("meta", "counters")
    book.touch("driver", driver_id)
    book.note(f"driver {driver_id}", "-", driver.state, "submitted")
    book.counters["submissions"] += 1
    book.effect(Answer(event.token, True, f"Driver successfully submitted as {driver_id}", driver_id))


def _unfit(description: DriverDescription) -> str:
    if description.cores < 1 or description.memory_mb < 1:
        return f"a driver needs at least 1 core and 1 MiB, not {description.cores} and {description.memory_mb}"
    return ""


def kill(book: Book, event: KillDriver, now: Now) -> None:
    """End one driver, or note that it has to end as soon as its worker can be told."""
    driver = book.drivers.get(event.driver_id)
    if driver is None:
        message = f"Driver {event.driver_id} has already finished or does not exist"
        book.effect(Answer(event.token, False, message, event.driver_id))
        return
    message = f"Kill request for {driver.id} submitted"
    worker = book.workers.get(driver.worker_id)
    if not driver.state.queued and not (worker and worker.connected):
        if event.give_up:
            reason = f"given up by an operator, its worker {driver.worker_id} did not answer"
            _end(book, driver, DriverEvent.GIVE_UP, now, reason, reason)
            message = f"{driver.id} is given up: should its worker {driver.worker_id} come back, it ends what still runs"
        else:
            _request_kill(book, driver, now)
            message += f"; its worker {driver.worker_id} does not answer now and is told when it comes back"
    else:
        _request_kill(book, driver, now)
    book.effect(Answer(event.token, True, message, driver.id))


def kill_all(book: Book, event: KillAllDrivers, now: Now) -> None:
    """End every driver that is not final."""
    for driver in list(book.drivers.values()):
        _request_kill(book, driver, now)
    book.effect(Answer(event.token, True, "Kill request for all drivers submitted"))


def _request_kill(book: Book, driver: Driver, now: Now) -> None:
    if driver.state.queued:
        _end(book, driver, DriverEvent.KILL, now, "killed while it was queued", KILL_REASON)
        return
    book.move_driver(driver, DriverEvent.KILL, now)
    if not driver.kill_requested:
        driver.kill_requested = True
        book.touch("driver", driver.id)
    worker = book.workers.get(driver.worker_id)
    if worker is not None and worker.connected:
        book.effect(EndProcess(worker.id, driver.ref, KILL_REASON))


def clear(book: Book, event: ClearCompleted) -> None:
    """Forget history (REST clear)."""
    book.forget_drivers(list(book.completed_drivers))
    book.forget_applications(list(book.completed_applications))
    book.effect(Answer(event.token, True, ""))


def report(book: Book, worker: Worker, told: ProcessReport, now: Now) -> bool:
    """Take what a worker says of a driver's attempt; return whether the attempt is wanted there. told.state: one of REPORTS."""
    event = REPORTS[told.state]
    driver = book.drivers.get(told.ref.owner)
    if driver is None:
        return False
    current = told.ref == driver.ref and driver.worker_id == worker.id
    if current and not driver.state.queued:
        _current(book, driver, worker, told, event, now)
        return True
    lost = driver.state is DriverState.RELAUNCHING and told.ref.number == driver.attempt - 1 and driver.lost_on == worker.id
    if lost and event is DriverEvent.FINISHED:
        driver.attempt -= 1
        driver.worker_id, driver.worker_address = worker.id, worker.address
        _take(driver, told)
        _end(book, driver, event, now, told.message, f"attempt {told.ref.number} had ended well while its worker was away")
        return True
    book.counters["stale_reports"] += 1
    return False


def _current(book: Book, driver: Driver, worker: Worker, told: ProcessReport, event: DriverEvent, now: Now) -> None:
    if event is DriverEvent.LOST_SUPERVISED:
        if driver.description.supervise and not driver.kill_requested:
            relaunch(book, driver, now, f"worker {worker.id} did not see its end: {told.message}")
            return
        event = DriverEvent.KILLED if driver.kill_requested else DriverEvent.FAILED
    if event is DriverEvent.NOT_STARTED and not driver.kill_requested:
        book.rest(worker, now)
        relaunch(book, driver, now, f"worker {worker.id} could not start it: {told.message}", event)
        return
    if event is DriverEvent.NOT_STARTED:
        event = DriverEvent.NEVER_STARTED
    if event is DriverEvent.STARTED:
        again = driver.confirmed and told.runs > driver.runs
        _take(driver, told)
        driver.confirmed = True
        if driver.state is DriverState.UNKNOWN:
            driver.message = ""
        book.move_driver(driver, event, now, f"attempt {driver.attempt} runs on {worker.id}")
        if again:
            book.touch("driver", driver.id)  # how often supervise restarted it is worth keeping
        return
    _take(driver, told)
    _end(book, driver, event, now, told.message, f"{event}, exit code {told.exit_code}" if told.exit_code is not None else event)


def _take(driver: Driver, told: ProcessReport) -> None:
    driver.runs = max(driver.runs, told.runs)
    driver.started_ms = told.started_ms or driver.started_ms
    driver.ended_ms = told.ended_ms
    driver.exit_code = told.exit_code


def _end(book: Book, driver: Driver, event: DriverEvent, now: Now, message: str, cause: str) -> None:
    book.move_driver(driver, event, now, cause)
    driver.message = message
    book.complete_driver(driver, now)
    book.counters[f"drivers_{driver.state.lower()}"] += 1


def lose(book: Book, driver: Driver, now: Now, cause: str) -> None:
    """Its worker is gone, or has no memory of it: relaunch it, or, not supervised, wait for what is really known.

    A driver that is to be killed is never relaunched.
    """
    if driver.state is DriverState.UNKNOWN:
        return
    if driver.description.supervise and not driver.kill_requested:
        relaunch(book, driver, now, cause)
        return
    book.move_driver(driver, DriverEvent.LOST, now, cause)
    driver.message = f"{cause}; it stays like this until that worker's journal answers or an operator gives it up"
    book.touch("driver", driver.id)


def relaunch(book: Book, driver: Driver, now: Now, cause: str, event: DriverEvent = DriverEvent.LOST_SUPERVISED) -> None:
    """Queue the next attempt."""
    book.move_driver(driver, event, now, f"attempt {driver.attempt}: {cause}")
    book.unassign(driver)
    driver.lost_on = driver.worker_id
    driver.worker_id = driver.worker_address = ""
    driver.attempt += 1
    driver.runs = driver.launched_ms = driver.started_ms = driver.ended_ms = 0
    driver.exit_code = None
    driver.confirmed = False
    driver.message = cause
    book.enqueue(driver)
    book.touch("driver", driver.id)
    book.counters["relaunched_drivers"] += 1


def reconcile(book: Book, worker: Worker, reported: set[ProcessRef], now: Now) -> None:
    """After a worker told all it has: launch again what it never had, end what has to end. reported: processes that it named."""
    for driver_id in sorted(book.drivers_of.get(worker.id, ()), key=lambda known: book.drivers[known].number):
        driver = book.drivers[driver_id]
        if driver.ref in reported:
            if driver.kill_requested:
                book.effect(EndProcess(worker.id, driver.ref, KILL_REASON))
        elif driver.kill_requested:
            reason = "killed before its worker had started it"
            _end(book, driver, DriverEvent.NEVER_STARTED, now, reason, reason)
        elif driver.confirmed:
            # It ran there, by this very worker's word, and is not in its journal: a lost disk. Starting it again could run it twice.
            lose(book, driver, now, f"worker {worker.id} does not know attempt {driver.attempt} any more")
        else:
            worker.occupy(driver.ref, *driver.shape)
            book.move_driver(driver, DriverEvent.LAUNCHED_AGAIN, now, f"worker {worker.id} had not got attempt {driver.attempt} yet")
            book.effect(LaunchDriver(worker.id, driver.ref, driver.description))


def schedule(book: Book, now: Now, allowance: int) -> int:
    """Give queued drivers to workers, first come first served; what fits nowhere does not hold up the rest.

    Return what is left of the allowance.
    """
    queue, capacity = book.driver_queue, book.capacity
    room = limit(book.policy.max_drivers) - book.placed_drivers
    if room <= 0 or not queue.ready:
        return allowance
    heads = queue.heads()
    while heads and room > 0 and allowance > 0:
        _, shape = heapq.heappop(heads)
        head = queue.head(shape)
        if head is None:
            continue
        spread = book.policy.spread_out_drivers
        slot = capacity.next_round_robin(shape, book.position if spread else 0)
        if slot < 0:
            queue.block(shape)
            continue
        if spread:
            book.position = (slot + 1) % len(capacity)
        _launch(book, book.drivers[head[1]], book.workers[capacity.id_at(slot)], now)
        room -= 1
        allowance -= 1
        head = queue.head(shape)
        if head is not None:
            heapq.heappush(heads, (head[0], shape))
    return allowance


def _launch(book: Book, driver: Driver, worker: Worker, now: Now) -> None:
    book.driver_queue.remove(driver.id)
    book.assign(driver, worker)
    book.move_driver(driver, DriverEvent.ASSIGNED, now, f"attempt {driver.attempt} given to {worker.id}")
    driver.launched_ms = now.wall_ms
    driver.message = ""
    worker.occupy(driver.ref, *driver.shape)
    book.sync_capacity(worker)
    book.counters["launched_drivers"] += 1
    book.effect(LaunchDriver(worker.id, driver.ref, driver.description))


def runnable(book: Book) -> bool:
    """Some queued driver may find a place in the next pass."""
    return book.driver_queue.ready and book.placed_drivers < limit(book.policy.max_drivers)
