"""The JSON pages of Spark's web UIs, which probes and drills poll every 50 ms.

Source of the fields: org.apache.spark.deploy.JsonProtocol (writeMasterState, writeClusterUtilization, writeWorkerState).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping

from aiohttp import web

from ..core.cluster import Cluster
from ..core.states import MasterStatus
from ..core.values import Json, ProcessReport
from . import views
from .answers import NO_STORE, json_answer
from .faces import MasterFace, WorkerFace

#: Master fields of a standby: nothing is known there.
EMPTY: Mapping[str, Json] = {
    "workers": [],
    "aliveworkers": 0,
    "cores": 0,
    "coresused": 0,
    "memory": 0,
    "memoryused": 0,
    "resources": [],
    "resourcesused": [],
    "activeapps": [],
    "completedapps": [],
    "activedrivers": [],
    "completeddrivers": [],
}

#: CPU seconds of encoding below which every change is shown at once. A large state that changes all the time is encoded again only after
#: PAUSE_FACTOR times what it costs, so that pages polled every 50 ms take at most a fifth of the time.
CHEAP_S = 0.005
PAUSE_FACTOR = 4.0
#: Seconds after which it is encoded again though nothing happened: heartbeats and durations go on.
AGE_S = 1.0


class StateCache:
    """The cluster's fields of /json/ as text, without url and status: those are read at every answer. Clocks in s."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic, cpu_s: Callable[[], float] = time.thread_time) -> None:
        self._now_s, self._cpu_s = now_s, cpu_s
        self._cluster: Cluster | None = None
        self._version = -1
        self._made_s = 0.0
        self._cost_s = 0.0
        self._text = _inner(EMPTY)

    def text(self, cluster: Cluster | None, version: int) -> str:
        """Return the fields as JSON without the braces around them."""
        if cluster is None:
            self._cluster = None
            return _inner(EMPTY)
        age_s = self._now_s() - self._made_s
        pause_s = PAUSE_FACTOR * self._cost_s if self._cost_s > CHEAP_S else 0.0
        if cluster is self._cluster and age_s < (max(AGE_S, pause_s) if version == self._version else pause_s):
            return self._text
        begun_s = self._cpu_s()
        self._text = _inner({**EMPTY, **{name: value for name, value in cluster.json_state().items() if name not in ("url", "status")}})
        self._cost_s = self._cpu_s() - begun_s
        self._cluster, self._version, self._made_s = cluster, version, self._now_s()
        return self._text


def _inner(fields: Mapping[str, Json]) -> str:
    return json.dumps(fields, separators=(",", ":"))[1:-1]


def add_master_pages(app: web.Application, face: MasterFace) -> None:
    """Add /json/ and /json/clusterutilization."""
    cache = StateCache()

    async def state(_: web.Request) -> web.Response:
        fields = cache.text(face.cluster(), face.version())
        url = face.address().url
        status = face.status()  # last: what was read before may be of a term that is over
        if status is MasterStatus.STANDBY:
            fields = cache.text(None, 0)
        body = f'{{"url":{json.dumps(url)},{fields},"status":"{status}"}}'
        return web.Response(body=body.encode(), content_type="application/json", charset="utf-8", headers=NO_STORE)

    async def utilization(_: web.Request) -> web.Response:
        cluster = face.cluster()
        counts = views.counts(cluster) if cluster is not None else views.NONE
        if face.status() is MasterStatus.STANDBY:
            counts = views.NONE
        return json_answer(cluster_utilization(counts))

    for path in ("/json", "/json/"):
        app.router.add_get(path, state)
    for path in ("/json/clusterutilization", "/json/clusterutilization/"):
        app.router.add_get(path, utilization)


def cluster_utilization(counts: views.Counts) -> Json:
    """Return JsonProtocol.writeClusterUtilization; of nothing, everything is in use."""
    return {
        "waitingDrivers": counts.waiting_drivers,
        "cores": counts.cores,
        "coresused": counts.cores_used,
        "coresutilization": 100 * counts.cores_used // counts.cores if counts.cores else 100,
        "memory": counts.memory_mb,
        "memoryused": counts.memory_used_mb,
        "memoryutilization": 100 * counts.memory_used_mb // counts.memory_mb if counts.memory_mb else 100,
    }


def add_worker_pages(app: web.Application, face: WorkerFace) -> None:
    """Add the worker's /json/."""

    async def state(_: web.Request) -> web.Response:
        return json_answer(worker_state(face))

    for path in ("/json", "/json/"):
        app.router.add_get(path, state)


def worker_state(face: WorkerFace) -> Json:
    """Return JsonProtocol.writeWorkerState."""
    leader = face.leader()
    used_cores, used_mb = face.used()
    running, finished = face.running(), face.finished()
    return {
        "id": face.worker_id(),
        "masterurl": leader.url if leader is not None else "",
        "masterwebuiurl": leader.web_ui if leader is not None else "",
        "cores": face.settings.cores,
        "coresused": used_cores,
        "memory": face.settings.memory_mb,
        "memoryused": used_mb,
        "resources": {},
        "resourcesused": {},
        "executors": [_executor(face, report) for report in running if report.ref.kind == "executor"],
        "finishedexecutors": [_executor(face, report) for report in finished if report.ref.kind == "executor"],
    }


def _executor(face: WorkerFace, report: ProcessReport) -> Json:
    return {
        "id": report.ref.number,
        "memory": report.memory_mb,
        "resources": {},
        "appid": report.ref.owner,
        "appdesc": {"name": face.description(report.ref.owner).get("name", "")},
    }
