"""Health pages for load balancers, supervisors and people: plain codes, a small JSON body, HEAD as well as GET.

Master: /livez 200 while the process answers. /leader 200 only on the leader (ALIVE), so that a balancer finds it. /standby 200 only on a
standby. /readyz 200 when it does its part: it leads, or it is a standby that is connected to the election and could lead. All else 503.
Worker: /livez, and /readyz 200 while a leader has it as ALIVE.
"""

from __future__ import annotations

from aiohttp import web

from ..core.states import MasterStatus
from .answers import address_json, epoch_json, json_answer
from .faces import MasterFace, WorkerFace


def add_master_health(app: web.Application, face: MasterFace) -> None:
    """Add /livez, /readyz, /leader and /standby."""

    def answer(status: MasterStatus, good: bool) -> web.Response:
        body = {
            "status": str(status),
            "epoch": epoch_json(face.epoch()),
            "leader": address_json(face.leader()),
            "since_ms": face.since_ms(),
        }
        return json_answer(body, 200 if good else 503)

    async def livez(_: web.Request) -> web.Response:
        return answer(face.status(), True)

    async def readyz(_: web.Request) -> web.Response:
        status = face.status()
        return answer(
            status, status is MasterStatus.ALIVE or (status is MasterStatus.STANDBY and face.coordination().get("connected") is True)
        )

    async def leader(_: web.Request) -> web.Response:
        status = face.status()
        return answer(status, status is MasterStatus.ALIVE)

    async def standby(_: web.Request) -> web.Response:
        status = face.status()
        return answer(status, status is MasterStatus.STANDBY)

    for path, handler in (("/livez", livez), ("/readyz", readyz), ("/leader", leader), ("/standby", standby)):
        app.router.add_get(path, handler)


def add_worker_health(app: web.Application, face: WorkerFace) -> None:
    """Add /livez and /readyz."""

    def answer(state: str, good: bool) -> web.Response:
        body = {"status": state, "id": face.worker_id(), "epoch": epoch_json(face.epoch()), "leader": address_json(face.leader())}
        return json_answer(body, 200 if good else 503)

    async def livez(_: web.Request) -> web.Response:
        return answer(face.state(), True)

    async def readyz(_: web.Request) -> web.Response:
        state = face.state()
        return answer(state, state == "ALIVE")

    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
