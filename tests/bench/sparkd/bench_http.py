"""How many requests a second the HTTP side of a master takes, with a face that stores nothing: the price of HTTP, JSON and checks.

    .venv/bin/python tests/bench/sparkd/bench_http.py [--clients 64] [--seconds 4]

Clients are keep-alive connections of another process, so that on two cores one serves and the other asks. Prints one line per case:
requests a second, milliseconds at the median, the 99th percentile and the maximum, and microseconds of the server's CPU for each request,
which does not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import quantiles

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "unit" / "sparkd"))

from http_faces import FakeMaster, master_settings

from sparkd.core.effects import Answer
from sparkd.core.events import SubmitDriver, WorkerRegistered
from sparkd.core.values import DriverDescription, WorkerInfo
from sparkd.http.auth import sign
from sparkd.http.server import start_master

KEY = b"a key of thirty-two bytes or more"
CREATE = {
    "action": "CreateSubmissionRequest",
    "clientSparkVersion": "4.3.0",
    "appResource": "hdfs://namenode:9000/apps/application.jar",
    "mainClass": "org.example.Application",
    "appArgs": ["--date", "2026-01-01", "--input", "/data/in", "--output", "/data/out"],
    "environmentVariables": {"SPARK_ENV_LOADED": "1"},
    "sparkProperties": {
        "spark.app.name": "application",
        "spark.master": "spark://h1:6066,h2:6066",
        "spark.submit.deployMode": "cluster",
        "spark.driver.memory": "1g",
        "spark.driver.cores": "1",
        "spark.driver.supervise": "true",
        "spark.executor.memory": "2g",
        "spark.jars": "hdfs://namenode:9000/apps/application.jar",
    },
}
OWN = {"description": {"kind": "command", "argv": ["sh", "-c", "date >> /tmp/out"], "cores": 1, "memory_mb": 64}, "request_id": ""}


class Acknowledging(FakeMaster):
    """Takes everything at once."""

    async def submit(self, description: DriverDescription, request_id: str = "") -> Answer:
        """Take it."""
        self.token = getattr(self, "token", 0) + 1
        return Answer(0, True, f"Driver successfully submitted as driver-20260101000000-{self.token:04d}", f"driver-{self.token:04d}")


def serve(pipe: Connection) -> None:
    """Serve until the pipe says stop: a cluster of 100 workers with 500 queued drivers behind the pages."""

    async def whole() -> None:
        face = Acknowledging(settings=master_settings(open_to_all=False, token_key=KEY, max_connections=1000))
        for number in range(100):
            face.tell(WorkerRegistered(WorkerInfo(f"worker-{number}", "127.0.0.1", number + 1, 16, 65536)))
        for _ in range(500):
            face.tell(SubmitDriver(0, DriverDescription("command", argv=("x",), memory_mb=1 << 20)))
        running = await start_master(face)
        pipe.send((running.web_port, running.rest_port))
        while await asyncio.get_running_loop().run_in_executor(None, pipe.recv) == "cpu":
            pipe.send(time.process_time())
        await running.close()

    asyncio.run(whole())


async def client(port: int, request: bytes, until_s: float, times: list[float]) -> None:
    """Ask again and again on one connection; note how long each answer took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.monotonic() < until_s:
        begun = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"unexpected answer: {head!r}")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        times.append(time.perf_counter() - begun)
    writer.close()


async def measure(port: int, request: bytes, clients: int, seconds: float) -> list[float]:
    """Return how long each request took, in s."""
    times: list[float] = []
    until_s = time.monotonic() + seconds
    await asyncio.gather(*(client(port, request, until_s, times) for _ in range(clients)))
    return times


def post(path: str, body: object) -> bytes:
    """Return a request as bytes."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {sign({}, KEY)}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def cpu_s(pipe: Connection) -> float:
    """Return the CPU time that the server has used."""
    pipe.send("cpu")
    return float(pipe.recv())


def main() -> int:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--clients", type=int, default=64)
    options.add_argument("--seconds", type=float, default=4.0)
    chosen = options.parse_args()
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(theirs,))
    process.start()
    web, rest = ours.recv()
    get = "GET {} HTTP/1.1\r\nHost: x\r\n\r\n"
    cases = (
        ("POST /v1/submissions/create", rest, post("/v1/submissions/create", CREATE), chosen.clients),
        ("POST /v1/submissions/create", rest, post("/v1/submissions/create", CREATE), 4),
        ("POST /sparkd/v1/drivers", rest, post("/sparkd/v1/drivers", OWN), chosen.clients),
        ("GET /leader", web, get.format("/leader").encode(), 4),
        ("GET /json/ (100 workers, 500 drivers)", web, get.format("/json/").encode(), 4),
        ("GET /metrics", web, get.format("/metrics").encode(), 1),
    )
    print(f"{'case':40} {'clients':>7} {'n':>7} {'per s':>7} {'median ms':>9} {'p99 ms':>7} {'max ms':>7} {'CPU us':>7}")
    for name, port, request, clients in cases:
        before_s = cpu_s(ours)
        times = asyncio.run(measure(port, request, clients, chosen.seconds))
        cost_us = (cpu_s(ours) - before_s) / len(times) * 1e6
        cuts = quantiles(times, n=100)
        shown = f"{cuts[49] * 1e3:9.2f} {cuts[98] * 1e3:7.2f} {max(times) * 1e3:7.2f} {cost_us:7.0f}"
        print(f"{name:40} {clients:7} {len(times):7} {len(times) / chosen.seconds:7.0f} {shown}", flush=True)
    ours.send("stop")
    process.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
