"""What happens to applications and their executors.

Source: org.apache.spark.deploy.master.Master (RegisterApplication, MasterChangeAcknowledged, ExecutorStateChanged, UnregisterApplication,
removeApplication, RequestExecutors, KillExecutors, decommissionWorker, startExecutorsOnWorkers) and ApplicationInfo.
"""

from __future__ import annotations

import heapq
from dataclasses import replace

from . import ids
from .book import Book
from .effects import Answer, EndProcess, ForgetApplication, LaunchExecutor, NotifyApplication
from .entities import ENDED_EXECUTORS, Application, EndedExecutor, Executor, Worker
from .events import ApplicationConfirmed, KillExecutors, RegisterApplication, RequestExecutors, UnregisterApplication
from .scheduler import Demand, Shape, limit, order_workers, plan_executors, split_executors
from .states import ApplicationState, ExecutorState
from .transitions import ApplicationEvent, ExecutorEvent
from .values import ApplicationDescription, Now, ProcessRef, ProcessReport, ResourceProfile

#: What a worker may report of an executor; None: nothing to do but to know that it is there.
REPORTS: dict[str, ExecutorEvent | None] = {
    "LAUNCHING": None,
    "RUNNING": ExecutorEvent.RUNNING,
    "DECOMMISSIONED": ExecutorEvent.RUNNING,
    "EXITED": ExecutorEvent.EXITED,
    "FAILED": ExecutorEvent.FAILED,
    "KILLED": ExecutorEvent.KILLED,
    "LOST": ExecutorEvent.LOST,
}
#: Bytes of a payload and number of profiles, so that an application's record stays below the limit of the store (512 KiB, in base64).
MAX_PAYLOAD = 256 * 1024
MAX_PROFILES = 1_000
ENDS = {
    "FINISHED": ApplicationEvent.FINISHED,
    "FAILED": ApplicationEvent.FAILED,
    "KILLED": ApplicationEvent.KILLED,
}


def register(book: Book, event: RegisterApplication, now: Now) -> None:
    """Take an application; a second registration from the same address is answered with the first."""
    asked = event.description
    known = book.application_at.get(asked.address) if asked.address else None
    if known is not None:
        book.counters["duplicate_applications"] += 1
        book.effect(Answer(event.token, True, f"Registered app {asked.name} with ID {known}", known))
        book.effect(NotifyApplication(known, "registered"))
        return
    why = _unfit(asked)
    if why:
        book.counters["refused_applications"] += 1
        book.effect(Answer(event.token, False, why))
        return
    number = book.numbers.applications
    app_id = ids.application_id(book.policy, now.wall_ms, number, asked.name, lambda taken: book.find_application(taken) is not None)
    book.numbers = replace(book.numbers, applications=number + 1)
    application = Application(app_id, number, asked, now.wall_ms)
    application.profiles = {asked.profile.id: asked.profile}
    application.targets = {asked.profile.id: asked.initial_executors}
    book.applications[app_id] = application
    if asked.address:
        book.application_at[asked.address] = app_id
    book.touch("meta", "counters")
    book.touch("application", app_id)
    book.note(f"application {app_id}", "-", application.state, "registered")
    book.counters["applications"] += 1
    book.effect(Answer(event.token, True, f"Registered app {asked.name} with ID {app_id}", app_id))
    book.effect(NotifyApplication(app_id, "registered"))
    sync_demands(book, application)


def _unfit(asked: ApplicationDescription) -> str:
    if len(asked.payload) > MAX_PAYLOAD:
        return f"the application's description has {len(asked.payload)} bytes; {MAX_PAYLOAD} are allowed"
    if asked.max_cores is not None and asked.max_cores < 1:
        return f"spark.cores.max must be at least 1, not {asked.max_cores}"
    if asked.initial_executors is not None and asked.initial_executors < 0:
        return f"the initial executor limit must be at least 0, not {asked.initial_executors}"
    return _unfit_profile(asked.profile)


def _unfit_profile(profile: ResourceProfile) -> str:
    if (profile.cores is not None and profile.cores < 1) or profile.memory_mb < 1:
        return f"an executor needs at least 1 core and 1 MiB, not {profile.cores} and {profile.memory_mb}"
    return ""


def confirm(book: Book, event: ApplicationConfirmed, now: Now) -> None:
    """Its driver answered this leader: it may have executors again."""
    application = book.applications.get(event.app_id)
    if application is None:
        gone = book.completed_applications.get(event.app_id)
        state, message = (gone.state, gone.message) if gone else (ApplicationState.FINISHED, "unknown to this leader")
        book.effect(NotifyApplication(event.app_id, "removed", state=state, message=message))
        return
    if application.state is ApplicationState.UNKNOWN:
        kept = ApplicationEvent.CONFIRMED_RUNNING if application.executors else ApplicationEvent.CONFIRMED
        book.move_application(application, kept, now)
        sync_demands(book, application)


def unconfirmed(book: Book, now: Now) -> None:
    """The time to answer a new leader is over: applications that did not are over as well (Master.completeRecovery)."""
    for application in [known for known in book.applications.values() if known.state is ApplicationState.UNKNOWN]:
        _finish(book, application, ApplicationEvent.UNCONFIRMED, now, "its driver did not answer the new leader in time")


def unregister(book: Book, event: UnregisterApplication, now: Now) -> None:
    """It is over; unknown ones are over already."""
    application = book.applications.get(event.app_id)
    if application is not None:
        _finish(book, application, ENDS.get(event.state, ApplicationEvent.FINISHED), now, event.why)


def _finish(book: Book, application: Application, event: ApplicationEvent, now: Now, why: str) -> None:
    book.move_application(application, event, now, why or event)
    application.message = why
    for profile_id in application.profiles:
        book.demands.remove((application.id, profile_id))
    for executor in list(application.executors.values()):
        _kill(book, application, executor, now, f"application {application.id} is over")
    book.complete_application(application, now)
    book.counters[f"applications_{application.state.lower()}"] += 1
    for worker in book.workers.values():
        if worker.connected:
            book.effect(ForgetApplication(worker.id, application.id))
    if application.state is not ApplicationState.FINISHED or event is ApplicationEvent.UNCONFIRMED:
        book.effect(NotifyApplication(application.id, "removed", state=application.state, message=why))


def request_executors(book: Book, event: RequestExecutors) -> None:
    """Set how many executors it wants in all, per profile. Lowering a target ends none. Stored: it survives a failover."""
    application = book.applications.get(event.app_id)
    profiles = {profile.id: profile for profile in event.profiles if isinstance(profile, ResourceProfile)}
    if application is None:
        why = f"application {event.app_id} is not known or over"
    else:
        missing = [str(profile_id) for profile_id, _ in event.targets if profile_id not in application.profiles | profiles]
        why = f"resource profiles {', '.join(missing)} are not known" if missing else ""
        if len(application.profiles | profiles) > MAX_PROFILES:
            why = f"an application may have {MAX_PROFILES} resource profiles"
        why = why or next((unfit for profile in profiles.values() if (unfit := _unfit_profile(profile))), "")
    if why or application is None:
        book.effect(Answer(event.token, False, why, event.app_id))
        return
    application.profiles = profiles | application.profiles  # a profile never changes
    application.targets = application.targets | {profile_id: max(0, total) for profile_id, total in event.targets}
    book.touch("application", application.id)
    book.effect(Answer(event.token, True, "", application.id))
    sync_demands(book, application)


def kill_executors(book: Book, event: KillExecutors, now: Now) -> None:
    """The application gives executors back; ids that it does not have are none of our business (Master.handleKillExecutors)."""
    application = book.applications.get(event.app_id)
    if application is None:
        book.effect(Answer(event.token, False, f"application {event.app_id} is not known or over", event.app_id))
        return
    for executor_id in event.executor_ids:
        executor = application.executors.get(executor_id)
        if executor is not None:
            _kill(book, application, executor, now, "given back by its application")
    book.effect(Answer(event.token, True, "", application.id))
    sync_demands(book, application)


def _kill(book: Book, application: Application, executor: Executor, now: Now, why: str) -> None:
    """Off its application at once; its worker is free of it when that says so."""
    _end(book, application, executor, ExecutorEvent.KILLED, now, None, why)
    worker = book.workers.get(executor.worker_id)
    if worker is not None and worker.connected:
        book.effect(EndProcess(executor.worker_id, executor.ref, why))


def executor_at(book: Book, ref: ProcessRef, worker: Worker) -> Executor | None:
    """Return the executor that `ref` is, when it belongs to an active application and to this worker."""
    application = book.applications.get(ref.owner)
    executor = application.executors.get(ref.number) if application is not None else None
    return executor if executor is not None and executor.worker_id == worker.id else None


def report(book: Book, worker: Worker, told: ProcessReport, now: Now) -> bool:
    """Take what a worker says of an executor; return whether it is wanted there. told.state: one of REPORTS."""
    executor = executor_at(book, told.ref, worker)
    if executor is None:
        return False
    application = book.applications[executor.app_id]
    event = REPORTS[told.state]
    if event is None:
        return True
    if event is ExecutorEvent.RUNNING:
        fresh = executor.state is ExecutorState.LAUNCHING
        executor.started_ms = told.started_ms or executor.started_ms
        book.move_executor(executor, event, now)
        if fresh:
            if application.failures:
                application.failures = 0
                book.touch("application", application.id)
            book.effect(NotifyApplication(application.id, "executor_updated", executor.id, worker.id, state=executor.state))
        return True
    expected = executor.state is ExecutorState.DECOMMISSIONED
    _end(book, application, executor, event, now, told.exit_code, told.message)
    book.effect(
        NotifyApplication(
            application.id, "executor_updated", executor.id, worker.id, state=executor.state, message=told.message, exit_code=told.exit_code
        )
    )
    if told.exit_code != 0 and not expected:
        _failed_once(book, application, now)
    sync_demands(book, application)
    return True


def _failed_once(book: Book, application: Application, now: Now) -> None:
    application.failures += 1
    book.touch("application", application.id)
    most = book.policy.max_executor_retries
    if most < 0 or application.failures < most:
        return
    if any(executor.state is ExecutorState.RUNNING for executor in application.executors.values()):
        return
    why = f"{application.failures} executors in a row ended abnormally and none is running"
    _finish(book, application, ApplicationEvent.FAILED, now, why)


def _end(
    book: Book, application: Application, executor: Executor, event: ExecutorEvent, now: Now, exit_code: int | None, message: str
) -> None:
    application.detach(executor)
    book.move_executor(executor, event, now, message)
    ended = EndedExecutor(executor.id, executor.worker_id, executor.state, now.wall_ms, executor.cores, exit_code, message)
    application.ended_executors = (*application.ended_executors[-(ENDED_EXECUTORS - 1) :], ended)
    book.touch("application", application.id)
    book.counters[f"executors_{executor.state.lower()}"] += 1


def reconcile(book: Book, worker: Worker, reported: set[ProcessRef], now: Now) -> None:
    """After a worker told all it has: executors that it never got are launched again, those that it had and has no more are lost."""
    touched: dict[str, Application] = {}
    for ref in [ref for ref in worker.occupied if ref.kind == "executor" and ref not in reported]:
        executor = executor_at(book, ref, worker)
        if executor is None:
            continue
        if executor.state is ExecutorState.LAUNCHING:
            book.effect(_launch_effect(book.applications[executor.app_id], executor))
            continue
        worker.release(ref)
        touched[executor.app_id] = application = book.applications[executor.app_id]
        _lose(book, application, executor, now, f"worker {worker.id} does not know it any more")
    for application in touched.values():
        sync_demands(book, application)


def lose_worker(book: Book, worker: Worker, now: Now, cause: str) -> None:
    """All executors on it are lost; their applications get others."""
    touched: dict[str, Application] = {}
    for ref in worker.occupied:
        executor = executor_at(book, ref, worker) if ref.kind == "executor" else None
        if executor is not None:
            touched[executor.app_id] = application = book.applications[executor.app_id]
            _lose(book, application, executor, now, cause)
    for application in touched.values():
        sync_demands(book, application)


def check_orphans(book: Book, now: Now) -> None:
    """Executors on workers that are not listed are lost with them."""
    for application in book.applications.values():
        orphans = [executor for executor in application.executors.values() if executor.worker_id not in book.workers]
        for executor in orphans:
            _lose(book, application, executor, now, f"worker {executor.worker_id} is not known to this leader")
        if orphans:
            sync_demands(book, application)


def _lose(book: Book, application: Application, executor: Executor, now: Now, cause: str) -> None:
    _end(book, application, executor, ExecutorEvent.LOST, now, None, cause)
    book.effect(NotifyApplication(application.id, "executor_updated", executor.id, executor.worker_id, state="LOST", message=cause))


def decommission(book: Book, worker: Worker, now: Now) -> None:
    """Executors there go on but are counted no more, so that others take over (Master.decommissionWorker)."""
    touched: dict[str, Application] = {}
    for ref in worker.occupied:
        executor = executor_at(book, ref, worker) if ref.kind == "executor" else None
        if executor is not None and executor.counted:
            touched[executor.app_id] = application = book.applications[executor.app_id]
            application.uncount(executor)
            book.move_executor(executor, ExecutorEvent.DECOMMISSIONED, now)
            notice = NotifyApplication(
                application.id, "executor_updated", executor.id, worker.id, state=executor.state, message="worker decommissioned"
            )
            book.effect(notice)
    for application in touched.values():
        sync_demands(book, application)


# --- scheduling


def demand(book: Book, application: Application, profile_id: int) -> Demand:
    """What one profile still wants."""
    most = application.description.max_cores
    cores = limit(most if most is not None else book.policy.default_cores) - application.cores_granted
    executors = limit(application.targets.get(profile_id, 0)) - application.counts.get(profile_id, 0)
    profile = application.profiles[profile_id]
    return Demand(cores, executors, profile.cores, profile.memory_mb)


def sync_demands(book: Book, application: Application) -> None:
    """To be called after anything that changed what an application wants or may have. UNKNOWN ones get nothing new."""
    active = application.id in book.applications and application.state is not ApplicationState.UNKNOWN
    for profile_id in application.profiles:
        key = (application.id, profile_id)
        wanted = demand(book, application, profile_id)
        if active and wanted.open:
            book.demands.add(key, (application.number, profile_id), (wanted.unit, wanted.memory_mb))
        else:
            book.demands.remove(key)


def schedule(book: Book, now: Now, allowance: int) -> int:
    """Serve applications in order of arrival, their profiles by id; what cannot be served does not hold up the rest.

    Return what is left of the allowance.
    """
    queue = book.demands
    if not queue.ready:
        return allowance
    heads = queue.heads()
    while heads and allowance > 0:
        _, shape = heapq.heappop(heads)
        head = queue.head(shape)
        if head is None:
            continue
        app_id, profile_id = head[1]
        allowance -= _serve(book, book.applications[app_id], profile_id, shape, now)
        if head[1] in queue and queue.head(shape) == head:
            queue.block(shape)  # it wants more and nobody has it, so nobody has it for the next in line
            continue
        following = queue.head(shape)
        if following is not None:
            heapq.heappush(heads, (following[0], shape))
    return allowance


def _serve(book: Book, application: Application, profile_id: int, shape: Shape, now: Now) -> int:
    """Give one profile all that it wants and workers have; return what that cost, in launches or a hundred workers looked at."""
    usable = order_workers(book.policy, (book.workers[book.capacity.id_at(slot)] for slot in book.capacity.fitting(shape)))
    if not usable:
        return 1
    wanted = demand(book, application, profile_id)
    free = [(worker.cores_free, worker.memory_free) for worker in usable]
    launched = 0
    for worker, cores in zip(usable, plan_executors(wanted, free, book.policy.spread_out_apps), strict=True):
        for share in split_executors(wanted, cores):
            _launch(book, application, worker, profile_id, share, wanted.memory_mb, now)
            launched += 1
        if cores:
            book.sync_capacity(worker)
    if launched:
        book.move_application(application, ApplicationEvent.GRANTED, now)
        book.touch("application", application.id)
    sync_demands(book, application)
    return 1 + launched + len(usable) // 100


def _launch(book: Book, application: Application, worker: Worker, profile_id: int, cores: int, memory_mb: int, now: Now) -> None:
    executor = Executor(application.id, application.next_executor, worker.id, profile_id, cores, memory_mb, launched_ms=now.wall_ms)
    application.next_executor += 1
    application.attach(executor)
    worker.occupy(executor.ref, cores, memory_mb)
    book.touch("executor", f"{application.id}.{executor.id}")
    book.note(f"executor {executor.ref}", "-", executor.state, f"given to {worker.id}: {cores} cores, {memory_mb} MiB")
    book.counters["launched_executors"] += 1
    book.effect(_launch_effect(application, executor))
    book.effect(NotifyApplication(application.id, "executor_added", executor.id, worker.id, cores, memory_mb))


def _launch_effect(application: Application, executor: Executor) -> LaunchExecutor:
    return LaunchExecutor(
        executor.worker_id, executor.ref, executor.profile_id, executor.cores, executor.memory_mb, application.description
    )


def runnable(book: Book) -> bool:
    """Some application may get executors in the next pass."""
    return book.demands.ready
