"""/metrics in Prometheus' text format: figures of the daemon's shell, of its core and its process, and Spark's own names for the same.

A figure named ..._total is a counter, a pair ..._sum and ..._count a summary, everything else a gauge. Spark's names are those of
org.apache.spark.deploy.master.MasterSource and worker.WorkerSource as PrometheusServlet writes them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from .. import __version__
from ..core.states import ApplicationState, DriverState, MasterStatus, WorkerState
from . import views
from .faces import MasterFace, WorkerFace

PREFIX = "sparkd_"

#: Requests answered, by (server, status code). One per daemon.
Requests = Counter[tuple[str, int]]


def families(figures: Mapping[str, float]) -> Iterator[Metric]:
    """Return the figures as metric families."""
    for name, value in figures.items():
        stem, _, kind = name.rpartition("_")
        if kind == "total":
            yield CounterMetricFamily(PREFIX + stem, _words(stem), value=value)
        elif kind == "count" and f"{stem}_sum" in figures:
            yield SummaryMetricFamily(PREFIX + stem, _words(stem), count_value=int(value), sum_value=figures[f"{stem}_sum"])
        elif not (kind == "sum" and f"{stem}_count" in figures):
            yield GaugeMetricFamily(PREFIX + name, _words(name), value=value)


def _words(name: str) -> str:
    return f"{name.replace('_', ' ').capitalize()}."


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(name, about, value=value)


def _by_label(name: str, about: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, about, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


def _common(cluster_name: str, role: str, requests: Requests) -> Iterator[Metric]:
    info = GaugeMetricFamily(PREFIX + "build_info", "Version, role and cluster of this daemon.", labels=("version", "role", "cluster"))
    info.add_metric((__version__, role, cluster_name), 1)
    yield info
    answered = CounterMetricFamily(PREFIX + "http_requests", "HTTP requests answered.", labels=("server", "code"))
    for (server, code), count in sorted(requests.items()):
        answered.add_metric((server, str(code)), count)
    yield answered


class MasterCollector(Collector):
    """All of a master's metrics, as they are when they are asked for. A standby has no workers, drivers or applications to tell of."""

    def __init__(self, face: MasterFace, requests: Requests) -> None:
        self._face = face
        self._requests = requests

    def collect(self) -> Iterator[Metric]:
        """Return them."""
        face = self._face
        figures, cluster, status = face.figures(), face.cluster(), face.status()
        if status is MasterStatus.STANDBY:
            cluster = None
        yield from _common(face.settings.cluster_name, "master", self._requests)
        yield _gauge(PREFIX + "is_leader", "1 on the leader while its lease lasts.", status is MasterStatus.ALIVE)
        yield _by_label("status", "1 for the status that this master has.", "status", {s.value: s is status for s in MasterStatus})
        yield _gauge(PREFIX + "status_since_seconds", "Unix time since when it has this status.", face.since_ms() / 1000)
        yield _gauge(PREFIX + "masters", "Masters whose latch is known.", len(face.masters()))
        yield _gauge(PREFIX + "records_set_aside", "Records that could not be read.", len(face.set_aside()))
        if "epoch" not in figures:
            epoch = face.epoch()
            yield _gauge(PREFIX + "epoch", "Number of the epoch that this master leads in, 0 for none.", epoch.number if epoch else 0)
        yield from families({name: value for name, value in figures.items() if name not in _LABELLED})
        counts = views.counts(cluster) if cluster is not None else views.NONE
        for name, states, found in (
            ("workers", WorkerState, counts.workers),
            ("drivers", DriverState, counts.drivers),
            ("applications", ApplicationState, counts.applications),
        ):
            yield _by_label(name, f"{name.capitalize()} by state.", "state", {state.value: found.get(state.value, 0) for state in states})
        oldest = cluster.oldest_waiting_ms() if cluster is not None else None
        yield _gauge(PREFIX + "drivers_waiting", "Queued drivers.", counts.waiting_drivers)
        age_s = max(0.0, time.time() - oldest / 1000) if oldest else 0.0
        yield _gauge(PREFIX + "drivers_waiting_oldest_seconds", "Age of the oldest queued submission, 0 for none.", age_s)
        yield _gauge(PREFIX + "cores", "Cores of ALIVE workers.", counts.cores)
        yield _gauge(PREFIX + "cores_used", "Cores in use on ALIVE workers.", counts.cores_used)
        yield _gauge(PREFIX + "memory_bytes", "Memory of ALIVE workers.", counts.memory_mb << 20)
        yield _gauge(PREFIX + "memory_used_bytes", "Memory in use on ALIVE workers.", counts.memory_used_mb << 20)
        waiting, unanswered = cluster.unconfirmed() if cluster is not None else (0, 0)
        yield _gauge(PREFIX + "recovery_unconfirmed_workers", "Workers that have not reported to this leader yet.", waiting)
        yield _gauge(
            PREFIX + "recovery_unconfirmed_applications", "Applications whose driver has not answered this leader yet.", unanswered
        )
        for name, value in cluster.counters.items() if cluster is not None else ():
            yield CounterMetricFamily(f"{PREFIX}core_{name}", f"{_words(name)[:-1]}, as this leader's core counts.", value=value)
        waiting_apps = counts.applications.get("WAITING", 0)
        active_apps = sum(counts.applications.get(state.value, 0) for state in ApplicationState if not state.final)
        for name, value in (
            ("workers", sum(counts.workers.values())),
            ("aliveWorkers", counts.workers.get("ALIVE", 0)),
            ("apps", active_apps),
            ("waitingApps", waiting_apps),
        ):
            yield _gauge(f"metrics_master_{name}_Value", "As Spark's MasterSource.", value)


#: Figures that are told with labels, or in bytes.
_LABELLED = frozenset(
    ("cores", "cores_used", "memory_mb", "memory_used_mb", "drivers_waiting", *(f"workers_{state.value.lower()}" for state in WorkerState))
)


class WorkerCollector(Collector):
    """All of a worker's metrics."""

    def __init__(self, face: WorkerFace, requests: Requests) -> None:
        self._face = face
        self._requests = requests

    def collect(self) -> Iterator[Metric]:
        """Return them."""
        face = self._face
        cores, memory_mb = face.settings.cores, face.settings.memory_mb
        used_cores, used_mb = face.used()
        running = Counter(report.ref.kind for report in face.running())
        yield from _common("", "worker", self._requests)
        yield _gauge(PREFIX + "is_alive", "1 while a leader has this worker as ALIVE.", face.state() == "ALIVE")
        yield _gauge(PREFIX + "journal_backlog", "Journal entries that no leader has acknowledged yet.", face.journal_backlog())
        yield _by_label("processes", "Processes that run, by kind.", "kind", {kind: running[kind] for kind in ("driver", "executor")})
        own = {"cores": cores, "cores_used": used_cores, "memory_bytes": memory_mb << 20, "memory_used_bytes": used_mb << 20}
        for name, value in own.items():
            yield _gauge(PREFIX + name, _words(name), value)
        taken = {*own, "is_alive", "journal_backlog", "processes"}
        yield from families({name: value for name, value in face.figures().items() if name not in taken})
        for name, value in (
            ("executors", running["executor"]),
            ("coresUsed", used_cores),
            ("memUsed_MB", used_mb),
            ("coresFree", max(0, cores - used_cores)),
            ("memFree_MB", max(0, memory_mb - used_mb)),
        ):
            yield _gauge(f"metrics_worker_{name}_Value", "As Spark's WorkerSource.", value)


def add_metrics(app: web.Application, collector: Collector) -> None:
    """Add /metrics."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(collector)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4, "Cache-Control": "no-store"})

    app.router.add_get("/metrics", metrics)
