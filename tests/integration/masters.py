"""Real Apache Masters on loopback, each with a latchkeeper as its unit would run it: start, kill, stop, fence, watch."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from ensemble import LOG4J, free_ports

from latchkeeper import pages

DAEMONS = Path(__file__).resolve().parent.parent.parent / "daemons"
JVM = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
START_TIMEOUT_S = 120.0
#: What a Master never loads; leaves 150 MB of the jars.
NOT_NEEDED = re.compile(
    r"jars/(connect-repl/|hive|rocksdbjni|spark-(sql_|mllib|connect)|kubernetes|breeze|icu4j|derby|orc|parquet|datanucleus|spire)"
)


def find_spark(scratch: Path) -> Path | None:
    """Return a directory with the jars of a Master, or None.

    Looked for in $SPARK_HA_JARS, then in the cache of downloads, whose archive is unpacked as far as a Master needs it.
    """
    given = os.environ.get("SPARK_HA_JARS")
    if given and any(Path(given).glob("spark-core_*.jar")):
        return Path(given)
    cache = Path(os.environ.get("SPARK_HA_CACHE") or Path.home() / ".cache" / "spark-ha")
    archives = sorted(cache.glob("spark-[0-9]*.tar"))
    if not archives:
        return None
    with tarfile.open(archives[-1]) as tar:
        wanted = [member for member in tar if member.name.startswith("jars/") and not NOT_NEEDED.match(member.name)]
        tar.extractall(scratch, members=wanted, filter="data")
    return scratch / "jars"


@dataclass
class Master:
    """One Master JVM with its own configuration of the latchkeeper."""

    name: str
    port: int
    page_port: int
    directory: Path
    jars: Path
    zookeeper: str
    pages: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    keeper: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def page(self) -> str:
        """host:port of its page."""
        return f"127.0.0.1:{self.page_port}"

    @property
    def record(self) -> Path:
        """The record of its latch session."""
        return self.directory / "master.json"

    @property
    def config(self) -> Path:
        """The latchkeeper's configuration."""
        return self.directory / "latchkeeper.json"

    @property
    def pid(self) -> int:
        """PID of the JVM."""
        assert self.process is not None
        return self.process.pid

    def configure(self) -> None:
        """Write the configuration."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "log4j2.properties").write_text(LOG4J)
        self.config.write_text(
            json.dumps(
                {
                    "recovery_mode": "ZOOKEEPER",
                    "page": self.page,
                    "zookeeper": self.zookeeper,
                    "masters": self.pages,
                    "record": str(self.record),
                    "pid_file": str(self.directory / "pid"),
                    "handover_timeout_s": 20,
                    "fence_timeout_s": 10,
                }
            )
        )

    def start(self) -> None:
        """Start the JVM and its latchkeeper; returns at once."""
        self.configure()
        java = str(Path(os.environ["JAVA_HOME"]) / "bin" / "java") if os.environ.get("JAVA_HOME") else "java"
        options = (
            "-Dspark.deploy.recoveryMode=ZOOKEEPER",
            f"-Dspark.deploy.zookeeper.url={self.zookeeper}",
            "-Dspark.master.rest.enabled=false",
            "-Dspark.ui.port=0",
        )
        arguments = ("--host", "127.0.0.1", "--port", str(self.port), "--webui-port", str(self.page_port))
        with (self.directory / "master.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(java, *JVM, *options, "-cp", f"{self.directory}:{self.jars}/*", "org.apache.spark.deploy.master.Master"),
                    *arguments,
                ],
                cwd=self.directory,
                env=os.environ | {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_SCALA_VERSION": "2.13"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        (self.directory / "pid").write_text(f"{self.pid}\n")
        if self.keeper is None:
            with (self.directory / "keeper.log").open("ab") as log:
                self.keeper = subprocess.Popen(
                    self.command("run"), env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )

    def command(self, *arguments: str) -> list[str]:
        """A call of the latchkeeper, as the entry on a host makes it."""
        return [sys.executable, "-m", "latchkeeper", "--config", str(self.config), *arguments]

    def environment(self) -> dict[str, str]:
        """Find the package."""
        return os.environ | {"PYTHONPATH": str(DAEMONS)}

    def call(self, *arguments: str) -> tuple[dict[str, object], float]:
        """Run the latchkeeper; return its last line and how long it took."""
        began = time.monotonic()
        done = subprocess.run(self.command(*arguments), env=self.environment(), capture_output=True, text=True, timeout=60, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        assert done.returncode == 0, done.stderr
        return json.loads(lines[-1]), time.monotonic() - began

    def status(self) -> str:
        """Return its status, or `down`."""
        try:
            return pages.read_master(self.page, 2.0).status
        except pages.PageError:
            return "down"

    def recorded(self) -> dict[str, object]:
        """Return the record when it is of the running process, else nothing."""
        try:
            value = json.loads(self.record.read_text())
        except (OSError, ValueError):
            return {}
        return value if value.get("pid") == self.pid else {}

    def wait_for(self, *wanted: str, timeout_s: float = START_TIMEOUT_S, recorded: bool = True) -> float:
        """Wait for a status, and for the record of this process; return the seconds it took."""
        began = time.monotonic()
        while self.status() not in wanted or (recorded and not self.recorded()):
            if time.monotonic() - began > timeout_s:
                log = "\n".join((self.directory / "master.log").read_text().splitlines()[-15:])
                kept = (self.directory / "keeper.log").read_text()
                raise TimeoutError(f"{self.name} is {self.status()}, not {wanted}, after {timeout_s:g} s; {self.recorded()}\n{log}\n{kept}")
            time.sleep(0.05)
        return time.monotonic() - began

    def kill(self) -> None:
        """SIGKILL by PID; waits until it is gone."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)

    def reap(self) -> None:
        """Collect the process when somebody else ended it."""
        if self.process is not None:
            self.process.wait(10)

    def end(self) -> None:
        """End JVM and latchkeeper."""
        self.kill()
        if self.keeper is not None:
            self.keeper.kill()
            self.keeper.wait(10)
            self.keeper = None


class Masters:
    """Two Masters on one ensemble; a context manager that always ends them."""

    def __init__(self, jars: Path, directory: Path, zookeeper: str) -> None:
        ports = iter(free_ports(4))
        self.all = [Master(name, next(ports), next(ports), directory / name, jars, zookeeper) for name in ("one", "two")]
        for master in self.all:
            master.pages = [other.page for other in self.all]

    def __enter__(self) -> Masters:
        try:
            for master in self.all:
                master.start()
            self.roles()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """End all."""
        for master in self.all:
            master.end()

    def roles(self, timeout_s: float = START_TIMEOUT_S) -> tuple[Master, Master]:
        """Return leader and standby, both running and recorded; a dead one is started again."""
        for master in self.all:
            if master.process is None or master.process.poll() is not None:
                master.start()
        end = time.monotonic() + timeout_s
        while True:
            for master in self.all:
                master.wait_for("ALIVE", "STANDBY", timeout_s=max(1.0, end - time.monotonic()))
            statuses = [master.status() for master in self.all]
            if sorted(statuses) == ["ALIVE", "STANDBY"]:
                leader = statuses.index("ALIVE")
                return self.all[leader], self.all[1 - leader]
            if time.monotonic() > end:
                raise TimeoutError(f"no leader and standby: {statuses}")
            time.sleep(0.1)


class Watch:
    """Asks every master each 50 ms, each in a thread of its own, until it is left."""

    def __init__(self, masters: list[Master]) -> None:
        self.masters = masters
        self.seen: list[tuple[float, str, str]] = []
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self._watch, args=(master,), daemon=True) for master in masters]

    def _watch(self, master: Master) -> None:
        while not self.stop.is_set():
            began = time.monotonic()
            status = "down"
            with contextlib.suppress(pages.PageError):
                status = pages.read_master(master.page, 0.5).status
            self.seen.append((time.monotonic(), master.name, status))
            self.stop.wait(max(0.0, 0.05 - (time.monotonic() - began)))

    def __enter__(self) -> Watch:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(5)

    def without_leader(self) -> float:
        """Return the longest time between the last ALIVE of one master and the first ALIVE of another (or the same)."""
        alive = sorted(at for at, _, status in self.seen if status == "ALIVE")
        return max((after - before for before, after in itertools.pairwise(alive)), default=float("inf"))

    def statuses(self, name: str) -> set[str]:
        """Return all that one master said."""
        return {status for _, who, status in self.seen if who == name}
