"""Apache's own Masters and Workers on loopback, as the yardstick: start, submit, kill, fence."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from ensemble import LOG4J, free_ports

from latchkeeper import pages, zk

JVM = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
#: More than any worker has: such a driver is accepted, queued and never started.
NEVER_FITS = "900g"
START_TIMEOUT_S = 180.0


def java() -> str:
    """Return the java to run."""
    return str(Path(os.environ["JAVA_HOME"]) / "bin" / "java") if os.environ.get("JAVA_HOME") else "java"


@dataclass
class Jvm:
    """One JVM daemon and its ports."""

    name: str
    directory: Path
    jars: Path
    main: tuple[str, ...]
    options: tuple[str, ...]
    web_port: int
    rest_port: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        """PID of the running JVM."""
        assert self.process is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        """It has not ended."""
        return self.process is not None and self.process.poll() is None

    @property
    def page(self) -> str:
        """host:port of its page."""
        return f"127.0.0.1:{self.web_port}"

    def start(self) -> None:
        """Start it; returns at once."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "log4j2.properties").write_text(LOG4J)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [java(), *JVM, *self.options, "-cp", f"{self.directory}:{self.jars}/*", *self.main],
                cwd=self.directory,
                env=os.environ
                | {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_SCALA_VERSION": "2.13", "SPARK_HOME": str(self.jars.parent)}
                | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process only."""
        if self.running:
            os.kill(self.pid, number)

    def end(self) -> None:
        """SIGKILL; waits until it is gone."""
        self.send(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(20)


def create(rest_port: int, properties: dict[str, str], main_class: str = "Nothing", arguments: tuple[str, ...] = ()) -> str | None:
    """Submit over REST; return the driver's id, or None when it was not taken (Spark's CreateSubmissionRequest)."""
    message = {
        "action": "CreateSubmissionRequest",
        "appArgs": list(arguments),
        "appResource": "file:/dev/null",
        "clientSparkVersion": "4.3.0",
        "environmentVariables": {"BENCH": "1"},
        "mainClass": main_class,
        "sparkProperties": {"spark.app.name": "bench", "spark.submit.deployMode": "cluster", "spark.driver.cores": "1", **properties},
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{rest_port}/v1/submissions/create",
        data=json.dumps(message).encode(),
        headers={"Content-Type": "application/json"},
    )
    with contextlib.suppress(OSError, ValueError, urllib.error.URLError), urllib.request.urlopen(request, timeout=5) as reply:  # noqa: S310
        answer = json.load(reply)
        return answer.get("submissionId") if answer.get("success") else None
    return None


def driver_state(rest_port: int, driver: str) -> str:
    """Return a driver's state over REST; `unknown` when the master does not know it, empty when nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{rest_port}/v1/submissions/status/{driver}", timeout=5) as reply:
            answer = json.load(reply)
    except (OSError, ValueError):
        return ""
    return str(answer.get("driverState") or "unknown")


class Apache:
    """Two Masters and some Workers; a context manager that ends them by PID."""

    def __init__(self, jars: Path, directory: Path, zookeeper: str, workers: int = 0, worker_timeout_s: int = 60) -> None:
        self.zookeeper = zookeeper
        ports = iter(free_ports(6 + 2 * workers))
        recovery = (
            "-Dspark.deploy.recoveryMode=ZOOKEEPER",
            f"-Dspark.deploy.zookeeper.url={zookeeper}",
            "-Dspark.deploy.zookeeper.dir=/apache",
            f"-Dspark.worker.timeout={worker_timeout_s}",
        )
        self.masters: list[Jvm] = []
        endpoints = []
        for name in ("apache-1", "apache-2"):
            port, web, rest = next(ports), next(ports), next(ports)
            endpoints.append(f"127.0.0.1:{port}")
            options = (*recovery, "-Dspark.master.rest.enabled=true", f"-Dspark.master.rest.port={rest}")
            main: tuple[str, ...] = (
                "org.apache.spark.deploy.master.Master",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "--webui-port",
                str(web),
            )
            self.masters.append(Jvm(name, directory / name, jars, main, options, web, rest))
        self.workers = []
        for number in range(1, workers + 1):
            port, web = next(ports), next(ports)
            name = f"apache-worker-{number}"
            main = (
                "org.apache.spark.deploy.worker.Worker",
                *("--host", "127.0.0.1", "--port", str(port), "--webui-port", str(web), "--cores", "4", "--memory", "4g"),
                *("--work-dir", str(directory / name / "work"), f"spark://{','.join(endpoints)}"),
            )
            self.workers.append(Jvm(name, directory / name, jars, main, recovery, web))

    def __enter__(self) -> Apache:
        try:
            for jvm in (*self.masters, *self.workers):
                jvm.start()
            self.settle()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """End every process."""
        for jvm in (*self.workers, *self.masters):
            jvm.end()

    def status(self, master: Jvm) -> str:
        """Return a master's status, `down` without an answer."""
        try:
            return pages.read_master(master.page, 2.0).status
        except pages.PageError:
            return "down"

    def leader(self) -> Jvm | None:
        """Return the master that says ALIVE."""
        return next((master for master in self.masters if master.running and self.status(master) == "ALIVE"), None)

    def settle(self, timeout_s: float = START_TIMEOUT_S) -> tuple[Jvm, Jvm]:
        """Start what has ended, or ends meanwhile; wait for one leader with all workers, and a standby whose latch is there."""
        end = time.monotonic() + timeout_s
        while True:
            for jvm in (*self.masters, *self.workers):
                if not jvm.running:
                    jvm.start()
            statuses = [self.status(master) for master in self.masters]
            if sorted(statuses) == ["ALIVE", "STANDBY"] and len(self.latches()) >= 2:
                leader = self.masters[statuses.index("ALIVE")]
                if len(pages.read_master(leader.page, 2.0).alive_workers) >= len(self.workers):
                    return leader, self.masters[statuses.index("STANDBY")]
            if time.monotonic() > end:
                raise TimeoutError(f"no leader and standby with {len(self.workers)} workers: {statuses}")
            time.sleep(0.1)

    def latches(self) -> list[tuple[int, str]]:
        """Return (session, node) of the latches in line."""
        from latchkeeper import rules

        with contextlib.suppress(zk.Unavailable), zk.Line(self.zookeeper, "/apache", timeout_s=3.0) as line:
            return [(latch.owner, latch.name) for latch in rules.in_line(line.latches())]
        return []

    def submit(self) -> bool:
        """One submission to whoever takes it, one round over the masters."""
        return any(master.running and create(master.rest_port, {"spark.driver.memory": NEVER_FITS}) for master in self.masters)

    def until_submission(self, since: float, timeout_s: float = 240.0) -> float:
        """Seconds from `since` (monotonic) until a submission was taken; asked every 20 ms."""
        while time.monotonic() - since < timeout_s:
            if self.submit():
                return time.monotonic() - since
            time.sleep(0.02)
        return float("inf")

    def fence(self, delay_s: float = 2.0) -> None:
        """What the unit does 2 s after a leader's death: the first latch is removed."""
        time.sleep(delay_s)
        from kazoo.client import KazooClient

        client = KazooClient(self.zookeeper)
        client.start(10)
        try:
            children = sorted(client.get_children("/apache/leader_election"), key=lambda name: name[-10:])
            client.delete(f"/apache/leader_election/{children[0]}")
        finally:
            client.stop()
            client.close()
