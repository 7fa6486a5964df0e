"""1,000 workers, 1,000 running and 5,000 queued drivers: what a leader's death costs then.

Two real masters and three real ZooKeeper servers; the workers are played by one more process (players.py) over the real control protocol.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import sparkd_rows
from apache_rows import rss_mb

from sparkd.up import LocalCluster, Master

HERE = Path(__file__).resolve().parent
WORKERS, RUNNING, QUEUED = 1_000, 1_000, 5_000
CORES = 16
CLIENTS = 64
ALIVE = 'sparkd_workers{state="ALIVE"}'


def submission(number: int, cores: int, memory_mb: int) -> bytes:
    """A submission of about 1.2 KB, as spark-submit makes them; never runs."""
    environment = {f"SPARK_SETTING_{index}": f"/some/path/of/the/submitter/{number}/{index}" for index in range(8)}
    properties = {
        "spark.app.name": f"job-{number}",
        "spark.jars": f"/shared/jobs/job-{number % 50}.jar",
        "spark.driver.cores": str(cores),
        "spark.driver.memory": f"{memory_mb}m",
        "spark.driver.supervise": str(bool(number % 2)).lower(),
        "spark.submit.deployMode": "cluster",
    }
    body = {
        "action": "CreateSubmissionRequest",
        "appArgs": ["--day", str(number)],
        "appResource": f"file:/shared/jobs/job-{number % 50}.jar",
        "clientSparkVersion": "4.3.0",
        "environmentVariables": environment,
        "mainClass": "org.example.jobs.Main",
        "sparkProperties": properties,
    }
    return json.dumps(body).encode()


async def _submit(port: int, bodies: list[bytes]) -> None:
    """One client: one after the other on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while bodies:
        body = bodies.pop()
        head = f"POST /v1/submissions/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        length = 0
        while (line := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        answer = json.loads(await reader.readexactly(length))
        if not answer.get("success"):
            raise RuntimeError(f"a submission was refused: {answer}")
    writer.close()


def submit_all(port: int, bodies: list[bytes]) -> None:
    """Submit with many clients at once."""

    async def run() -> None:
        await asyncio.gather(*(_submit(port, bodies) for _ in range(CLIENTS)))

    bodies.reverse()
    asyncio.run(run())


class Players:
    """The process that plays the workers."""

    def __init__(self, cluster: LocalCluster, count: int) -> None:
        ports = [str(master.port) for master in cluster.ports.masters]
        command = [sys.executable, str(HERE / "players.py"), str(cluster.secret_file), str(count), str(CORES), *ports]
        environ = {**os.environ, "PYTHONPATH": str(HERE.parent.parent.parent / "daemons")}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ)

    def ask(self, command: str) -> dict[str, Any]:
        """Send a command; return its answer."""
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(command + "\n")
        process.stdin.flush()
        found: dict[str, Any] = json.loads(process.stdout.readline())
        return found

    def wait(self, what: Callable[[dict[str, Any]], bool], timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait until they say so."""
        end = time.monotonic() + timeout_s
        while not what(found := self.ask("status")):
            if time.monotonic() > end:
                raise TimeoutError(f"workers: {found}")
            time.sleep(0.1)
        return found

    def __enter__(self) -> Players:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


def figures(cluster: LocalCluster, master: Master) -> dict[str, float]:
    """Return a master's /metrics, by name with labels; nothing when it does not answer."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", master.web, timeout=2.0)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    except OSError:
        return {}
    finally:
        connection.close()
    return {name: float(value) for line in text.splitlines() if line[:1] != "#" for name, _, value in [line.rpartition(" ")]}


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Found:
    """What one failover showed. Times in s from SIGKILL, CPU times in s of the new leader, memory in MB."""

    submission_s: float
    workers_s: float
    load_s: float
    rebuild_s: float
    cpu_to_workers_s: float
    memory_mb: float
    pass_p99_ms: float
    pass_worst_ms: float


def fill(cluster: LocalCluster, players: Players, say: Callable[[str], None]) -> None:
    """1,000 full workers, and 5,000 drivers in 500 shapes that wait."""
    players.wait(lambda said: said["newest"] == WORKERS and said["links"] == WORKERS * len(cluster.ports.masters))
    leader = cluster.leader()
    rest = next(one for one in cluster.ports.masters if one.name == leader).rest
    began = time.monotonic()
    submit_all(rest, [submission(number, CORES, 1024) for number in range(RUNNING)])
    players.wait(lambda said: said["running"] == RUNNING and said["unacknowledged"] == 0)
    top_up(cluster)
    say(f"  {WORKERS} workers, {RUNNING} drivers placed, {QUEUED} queued in {time.monotonic() - began:.1f} s")


def top_up(cluster: LocalCluster) -> None:
    """Submit until 5,000 wait: those of an earlier run have taken the places of others."""
    leader = cluster.wait_alive(60, workers=0)
    master = next(one for one in cluster.ports.masters if one.name == leader)
    lacking = QUEUED - int(figures(cluster, master).get("sparkd_drivers_waiting", 0))
    submit_all(master.rest, [submission(number, 1 + number % 16, 512 * (1 + number % 31)) for number in range(lacking)])


def failover(cluster: LocalCluster, players: Players, churn: int = 1_500) -> Found:
    """SIGKILL of the leader; then drivers end one after the other and queued ones take their places."""
    leader = cluster.wait_alive(60, workers=0)
    while not cluster.standbys():
        time.sleep(0.1)
    players.wait(lambda said: said["links"] == WORKERS * len(cluster.ports.masters))
    name = sparkd_rows.others(cluster, leader)[0]
    master = next(one for one in cluster.ports.masters if one.name == name)
    pid = sparkd_rows.leader_pid(cluster, name)
    before = cpu_s(pid)
    began = time.monotonic()
    sparkd_rows.kill_now(cluster, leader)
    submission_s = sparkd_rows.until_submission(cluster, began, [name])
    said: dict[str, float] = {}
    while said.get(ALIVE, 0) < WORKERS:
        if time.monotonic() - began > 60:
            raise TimeoutError(f"{said.get(ALIVE)} of {WORKERS} workers are ALIVE")
        time.sleep(0.05)
        said = figures(cluster, master)
    workers_s = time.monotonic() - began
    used, memory = cpu_s(pid) - before, rss_mb(pid)
    ended = 0
    while ended < churn:
        ended += players.ask("end 100")["ended"]
        time.sleep(0.1)
    players.wait(lambda told: told["unacknowledged"] == 0)
    after = figures(cluster, master)
    return Found(
        submission_s,
        workers_s,
        said["sparkd_recovery_load_seconds"],
        said["sparkd_recovery_rebuild_seconds"],
        used,
        max(memory, rss_mb(pid)),
        after["sparkd_event_seconds_p99"] * 1000,
        after["sparkd_event_seconds_worst"] * 1000,
    )


def measure(scratch: Path, runs: int, say: Callable[[str], None]) -> list[Found]:
    """Fill a cluster and let its leader die `runs` times."""
    found = []
    with LocalCluster(scratch / "sparkd-scale", masters=2, workers=0, zookeeper=3) as cluster, Players(cluster, WORKERS) as players:
        fill(cluster, players, say)
        for _ in range(runs):
            top_up(cluster)
            found.append(failover(cluster, players))
            one = found[-1]
            say(
                f"  submission after {one.submission_s:.2f} s, all workers after {one.workers_s:.2f} s ({one.cpu_to_workers_s:.2f} s CPU; "
                f"load {one.load_s:.2f} s, rebuild {one.rebuild_s:.2f} s), {one.memory_mb:.0f} MB, "
                f"pass p99 {one.pass_p99_ms:.1f} ms, worst {one.pass_worst_ms:.1f} ms; load {os.getloadavg()[0]:.1f}"
            )
            for name, child in cluster.children.items():
                if not child.running:
                    cluster.start_one(name)
    return found
