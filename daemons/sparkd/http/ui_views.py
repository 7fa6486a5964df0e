"""What the pages show, as plain values: the one place that knows how the core, the faces and the templates fit together. Pure."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ..core.cluster import Cluster
from ..core.entities import Application, Driver, Worker
from ..core.states import DriverState
from ..core.transitions import Step
from ..core.values import DriverDescription, ProcessReport
from . import ui_format

T = TypeVar("T")
U = TypeVar("U")

#: Rows of a table on one page. Making a page holds up the leader's loop, so tables are short: 1,000 workers are ten pages.
PAGE_ROWS = 100
QUEUE_ROWS = 50
#: Queued drivers that are explained where they are listed, the next ones to run; an explanation looks at the whole queue.
EXPLAINED_ROWS = 5
HISTORY_ROWS = 50


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a long table. number: from 1."""

    rows: tuple[T, ...] = ()
    number: int = 1
    pages: int = 1
    total: int = 0
    first: int = 0  # position of the first row, from 1

    def of(self, rows: tuple[U, ...]) -> Page[U]:
        """Return the same page with other rows."""
        return Page(rows, self.number, self.pages, self.total, self.first)


def page_of(rows: Sequence[T], number: int, per_page: int = PAGE_ROWS) -> Page[T]:
    """Return page `number` (from 1) of rows; a number outside gives the nearest page."""
    pages = max(1, -(-len(rows) // per_page))
    number = min(max(number, 1), pages)
    begin = (number - 1) * per_page
    return Page(tuple(rows[begin : begin + per_page]), number, pages, len(rows), begin + 1 if rows else 0)


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker as the master knows it; memory in MiB."""

    id: str
    host: str
    port: int
    web_ui: str
    state: str
    cores: int
    cores_used: int
    memory_mb: int
    memory_used_mb: int
    heard_ms: int = 0
    drivers: int = 0
    executors: int = 0


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step of an entity's life."""

    at_ms: int
    state: str
    why: str


@dataclass(frozen=True, slots=True)
class DriverRow:
    """A driver; memory in MiB, times Unix in ms, 0 for none. what: main class, program or command line without secrets."""

    id: str
    name: str
    what: str
    state: str
    cores: int
    memory_mb: int
    supervise: bool
    submitted_ms: int
    started_ms: int = 0
    ended_ms: int = 0
    worker_id: str = ""
    worker_host: str = ""
    worker_url: str = ""
    attempt: int = 0
    runs: int = 0
    exit_code: int | None = None
    message: str = ""
    final: bool = False
    queued: bool = False
    kill_requested: bool = False
    kind: str = "command"
    number: int = 0
    story: tuple[StepRow, ...] = ()


@dataclass(frozen=True, slots=True)
class ExecutorRow:
    """An executor of an application; memory in MiB."""

    number: int
    worker_id: str
    worker_url: str
    state: str
    cores: int
    memory_mb: int
    exit_code: int | None = None
    message: str = ""
    final: bool = False


@dataclass(frozen=True, slots=True)
class ApplicationRow:
    """An application; memory of one executor in MiB, times Unix in ms. max_cores None: unlimited."""

    id: str
    name: str
    user: str
    state: str
    cores: int
    memory_mb: int
    submitted_ms: int
    ended_ms: int = 0
    max_cores: int | None = None
    web_ui: str = ""
    message: str = ""
    final: bool = False
    executors: tuple[ExecutorRow, ...] = ()
    story: tuple[StepRow, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterView:
    """What a leader knows, in the order of the pages. Drivers and applications stay entities: only the rows that a page shows are made."""

    workers: tuple[WorkerRow, ...] = ()  # troubled ones first
    queue: tuple[Driver, ...] = ()  # first come, first
    drivers: tuple[Driver, ...] = ()  # RUNNING and UNKNOWN, newest first
    completed_drivers: tuple[Driver, ...] = ()  # last ended first
    applications: tuple[Application, ...] = ()  # in order of registration
    completed_applications: tuple[Application, ...] = ()  # last ended first

    def driver_rows(self, page: Page[Driver]) -> Page[DriverRow]:
        """Return a page's rows."""
        workers = {row.id: row for row in self.workers}
        return page.of(tuple(driver_row(driver, workers) for driver in page.rows))

    def application_rows(self, page: Page[Application]) -> Page[ApplicationRow]:
        """Return a page's rows."""
        workers = {row.id: row for row in self.workers}
        return page.of(tuple(application_row(application, workers) for application in page.rows))


def cluster_view(cluster: Cluster) -> ClusterView:
    """Return what a leader knows."""
    return ClusterView(
        tuple(sorted(map(worker_row, cluster.workers.values()), key=_troubled_first)),
        cluster.waiting_drivers(),
        tuple(driver for driver in cluster.drivers.values() if not driver.state.queued)[::-1],
        tuple(cluster.completed_drivers.values())[::-1],
        tuple(cluster.applications.values()),
        tuple(cluster.completed_applications.values())[::-1],
    )


def find_driver(cluster: Cluster, driver_id: str) -> DriverRow | None:
    """Return one driver, None when it is not known."""
    driver = cluster.driver(driver_id)
    return driver_row(driver, _worker_of(cluster, {driver.worker_id})) if driver is not None else None


def find_application(cluster: Cluster, app_id: str) -> ApplicationRow | None:
    """Return one application, None when it is not known."""
    application = cluster.application(app_id)
    if application is None:
        return None
    wanted = {each.worker_id for each in application.executors.values()} | {each.worker_id for each in application.ended_executors}
    return application_row(application, _worker_of(cluster, wanted))


def reasons(cluster: Cluster, entity_id: str) -> tuple[str, ...]:
    """Return why something is as it is, in the core's sentences, without what the page says already: the headline and the story.

    Nothing for what is final: its message and exit code are on the page.
    """
    entity = cluster.driver(entity_id) or cluster.application(entity_id)
    if entity is None or entity.state.final:
        return ()
    said = cluster.explain(entity_id)
    return said[1 : len(said) - len(entity.story)]


def _worker_of(cluster: Cluster, wanted: set[str]) -> dict[str, WorkerRow]:
    return {worker_id: worker_row(cluster.workers[worker_id]) for worker_id in wanted if worker_id in cluster.workers}


def _troubled_first(row: WorkerRow) -> tuple[int, str, int]:
    order = {"UNKNOWN": 0, "DEAD": 1, "DECOMMISSIONED": 2}
    return order.get(row.state, 3), row.host, row.port


def worker_row(worker: Worker) -> WorkerRow:
    """Return a worker's row."""
    info = worker.info
    return WorkerRow(
        id=info.id,
        host=info.host,
        port=info.port,
        web_ui=ui_format.safe_url(info.web_ui),
        state=str(worker.state),
        cores=info.cores,
        cores_used=worker.cores_used,
        memory_mb=info.memory_mb,
        memory_used_mb=worker.memory_used,
        heard_ms=worker.last_heartbeat_ms,
        drivers=sum(ref.kind == "driver" for ref in worker.occupied),
        executors=sum(ref.kind == "executor" for ref in worker.occupied),
    )


def driver_row(driver: Driver, workers: Mapping[str, WorkerRow]) -> DriverRow:
    """Return a driver's row. Of its environment and properties nothing is taken."""
    worker = workers.get(driver.worker_id)
    asked = driver.description
    return DriverRow(
        id=driver.id,
        number=driver.number,
        name=ui_format.shorten(asked.name, 200),
        what=_what(asked),
        kind=asked.kind,
        state=str(driver.state),
        cores=asked.cores,
        memory_mb=asked.memory_mb,
        supervise=asked.supervise,
        submitted_ms=driver.submitted_ms,
        started_ms=driver.started_ms or driver.launched_ms,
        ended_ms=driver.ended_ms,
        worker_id=driver.worker_id,
        worker_host=worker.host if worker else driver.worker_address.rpartition(":")[0],
        worker_url=worker.web_ui if worker else "",
        attempt=driver.attempt,
        runs=driver.runs,
        exit_code=driver.exit_code,
        message=ui_format.shorten(driver.message, 2000),
        kill_requested=driver.kill_requested,
        final=driver.state.final,
        queued=driver.state.queued,
        story=_story(driver.story),
    )


def _what(asked: DriverDescription) -> str:
    """Return what runs: the command, or the main class or program with its arguments."""
    if asked.kind == "command":
        return ui_format.command_line(asked.argv)
    program = asked.main_class if asked.kind == "jvm" and asked.main_class else ui_format.shown_arguments([asked.resource])[0]
    return ui_format.command_line([program, *asked.arguments])


def _story(steps: Iterable[Step]) -> tuple[StepRow, ...]:
    return tuple(StepRow(at_ms, after, ui_format.shorten(cause, 500)) for at_ms, _, after, cause in steps)


def application_row(application: Application, workers: Mapping[str, WorkerRow]) -> ApplicationRow:
    """Return an application's row, its executors with it."""
    asked = application.description

    def url(worker_id: str) -> str:
        return workers[worker_id].web_ui if worker_id in workers else ""

    executors = [
        ExecutorRow(each.id, each.worker_id, url(each.worker_id), str(each.state), each.cores, each.memory_mb)
        for each in application.executors.values()
    ]
    ended = [
        ExecutorRow(
            each.id,
            each.worker_id,
            url(each.worker_id),
            str(each.state),
            each.cores,
            0,
            each.exit_code,
            ui_format.shorten(each.message, 500),
            True,
        )
        for each in application.ended_executors
    ]
    return ApplicationRow(
        id=application.id,
        name=ui_format.shorten(asked.name, 200),
        user=ui_format.shorten(asked.user, 100),
        state=str(application.state),
        cores=application.cores_granted,
        memory_mb=asked.profile.memory_mb,
        submitted_ms=application.registered_ms,
        ended_ms=application.ended_ms,
        max_cores=asked.max_cores,
        web_ui=ui_format.safe_url(asked.web_ui),
        message=ui_format.shorten(application.message, 2000),
        final=application.state.final,
        executors=tuple(executors + ended[::-1]),
        story=_story(application.story),
    )


@dataclass(frozen=True, slots=True)
class Totals:
    """The strip of figures on top of the master's page; capacity counts ALIVE workers only, as Spark's page does."""

    cores: int = 0
    cores_used: int = 0
    memory_mb: int = 0
    memory_used_mb: int = 0
    workers: Mapping[str, int] = field(default_factory=dict)  # by state
    drivers_running: int = 0
    drivers_queued: int = 0
    drivers_unknown: int = 0
    applications: Mapping[str, int] = field(default_factory=dict)  # active ones by state


def totals(view: ClusterView) -> Totals:
    """Return the sums of a cluster."""
    alive = [row for row in view.workers if row.state == "ALIVE"]
    unknown = sum(driver.state is DriverState.UNKNOWN for driver in view.drivers)
    return Totals(
        cores=sum(row.cores for row in alive),
        cores_used=sum(row.cores_used for row in alive),
        memory_mb=sum(row.memory_mb for row in alive),
        memory_used_mb=sum(row.memory_used_mb for row in alive),
        workers=Counter(row.state for row in view.workers),
        drivers_running=len(view.drivers) - unknown,
        drivers_queued=len(view.queue),
        drivers_unknown=unknown,
        applications=Counter(str(application.state) for application in view.applications),
    )


def find(view: ClusterView, text: str) -> ClusterView:
    """Return the rows that have the text (upper or lower case) in their id, name, program, host, state or user; empty text: all."""
    wanted = text.strip().casefold()
    if not wanted:
        return view

    def drivers(found: tuple[Driver, ...]) -> tuple[Driver, ...]:
        return tuple(
            driver
            for driver in found
            if wanted in f"{driver.id}\n{driver.description.name}\n{driver.title}\n{driver.state}\n{driver.worker_address}".casefold()
        )

    def applications(found: tuple[Application, ...]) -> tuple[Application, ...]:
        return tuple(
            each for each in found if wanted in f"{each.id}\n{each.description.name}\n{each.description.user}\n{each.state}".casefold()
        )

    return ClusterView(
        tuple(row for row in view.workers if wanted in f"{row.id}\n{row.host}:{row.port}\n{row.state}".casefold()),
        drivers(view.queue),
        drivers(view.drivers),
        drivers(view.completed_drivers),
        applications(view.applications),
        applications(view.completed_applications),
    )


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """A driver or executor on its worker's page; memory in MiB, times Unix in ms."""

    kind: str
    owner: str
    number: int
    name: str
    what: str
    state: str
    cores: int
    memory_mb: int
    started_ms: int
    ended_ms: int
    exit_code: int | None
    message: str
    runs: int


def process_row(report: ProcessReport, described: Mapping[str, str]) -> ProcessRow:
    """Return a process as its worker shows it. Of what describes it only its name and command are used."""
    return ProcessRow(
        kind=report.ref.kind,
        owner=report.ref.owner,
        number=report.ref.number,
        name=ui_format.shorten(described.get("name", ""), 200),
        what=ui_format.command_line(ui_format.words(described.get("command", "")), 500),
        state=report.state,
        cores=report.cores,
        memory_mb=report.memory_mb,
        started_ms=report.started_ms,
        ended_ms=report.ended_ms,
        exit_code=report.exit_code,
        message=report.message,
        runs=report.runs,
    )


def exit_words(code: int | None) -> str:
    """Return an exit code for people: 0, 143, or the signal that ended it (SIGKILL)."""
    if code is None:
        return ""
    if code >= 0:
        return str(code)
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


@dataclass(frozen=True, slots=True)
class LogPage:
    """A slice of a log and the offsets of its neighbours; bytes. None: there is none."""

    begin: int
    end: int
    total: int
    length: int
    older: int | None
    newer: int | None


def log_page(begin: int, end: int, total: int, length: int) -> LogPage:
    """Return where one may go from bytes [begin, end) of `total`, in steps of `length`."""
    return LogPage(begin, end, total, length, max(0, begin - length) if begin > 0 else None, end if end < total else None)
