"""A real ZooKeeper ensemble on loopback, for tests: start, stop, kill and pause its servers.

    with Ensemble(jars, tmp_path, size=3) as ensemble:   # started and in quorum
        ensemble.connect                                  # "127.0.0.1:port,..."
        leader = ensemble.leader()
        leader.kill()                                     # SIGKILL by PID
        ensemble.wait_for_quorum()
        leader.start()

The servers come from the jars inside Spark, as the role installs them. Every process is ended by its PID.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from latchkeeper import fourletter

START_TIMEOUT_S = 60.0
JVM = ("-Xmx96m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.admin.enableServer=false")
LOG4J = """\
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
"""


def find_jars(scratch: Path) -> Path | None:
    """Return a directory of jars with a ZooKeeper among them, or None.

    Looked for in $SPARK_HA_JARS, then in the cache of downloads ($SPARK_HA_CACHE or ~/.cache/spark-ha), whose small
    ZooKeeper tar is unpacked into `scratch`.
    """
    given = os.environ.get("SPARK_HA_JARS")
    if given:
        return Path(given) if any(Path(given).glob("zookeeper-[0-9]*.jar")) else None
    cache = Path(os.environ.get("SPARK_HA_CACHE") or Path.home() / ".cache" / "spark-ha")
    tars = sorted(cache.glob("zookeeper-*-spark-*.tar"))
    if not tars:
        return None
    with tarfile.open(tars[-1]) as tar:
        tar.extractall(scratch, filter="data")
    return scratch / "lib"


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listened on a moment ago; all different."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()


@dataclass
class Server:
    """One server: a JVM on three ports of 127.0.0.1 with its own directory."""

    myid: int
    client_port: int
    peer_port: int
    election_port: int
    directory: Path
    jars: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def endpoint(self) -> str:
        """host:port for clients."""
        return f"127.0.0.1:{self.client_port}"

    @property
    def line(self) -> str:
        """server.N of zoo.cfg."""
        return f"server.{self.myid}=127.0.0.1:{self.peer_port}:{self.election_port}"

    @property
    def log(self) -> Path:
        """What the JVM printed."""
        return self.directory / "zookeeper.log"

    @property
    def pid(self) -> int:
        """PID of the running JVM. Raises RuntimeError when it does not run."""
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError(f"ZooKeeper {self.myid} does not run")
        return self.process.pid

    @property
    def running(self) -> bool:
        """The process is there (it may be paused or without a quorum)."""
        return self.process is not None and self.process.poll() is None

    def configure(self, lines: list[str], settings: dict[str, str]) -> None:
        """Write zoo.cfg, myid and the logging configuration; data is kept."""
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        (data / "myid").write_text(f"{self.myid}\n")
        (self.directory / "log4j2.properties").write_text(LOG4J)
        values = {
            "tickTime": "500",
            "initLimit": "20",
            "syncLimit": "10",
            "maxSessionTimeout": "4000",
            "maxClientCnxns": "0",
            "4lw.commands.whitelist": "cons,mntr,ruok,srvr",
            "dataDir": str(data),
            "clientPort": str(self.client_port),
            "clientPortAddress": "127.0.0.1",
            **settings,
        }
        members = lines if len(lines) > 1 else []
        (self.directory / "zoo.cfg").write_text("\n".join([*(f"{key}={value}" for key, value in values.items()), *members, ""]))

    def start(self) -> None:
        """Start the JVM; returns at once."""
        if self.running:
            return
        java = str(Path(os.environ["JAVA_HOME"]) / "bin" / "java") if os.environ.get("JAVA_HOME") else "java"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [java, *JVM, "-cp", f"{self.directory}:{self.jars}/*", "org.apache.zookeeper.server.quorum.QuorumPeerMain", "zoo.cfg"],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def stop(self) -> None:
        """End it with SIGTERM, SIGKILL after ten seconds; waits until it is gone."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it with SIGKILL; waits until it is gone. A paused one too."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and says nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def wipe(self) -> None:
        """Remove its data, as if the disk had been replaced."""
        shutil.rmtree(self.directory / "data" / "version-2", ignore_errors=True)

    def mode(self) -> str:
        """Return leader, follower, standalone, looking (no quorum) or down."""
        try:
            return fourletter.srvr("127.0.0.1", self.client_port, 1.0).mode
        except fourletter.NotServing:
            return "looking"
        except fourletter.FourLetterError:
            return "down"


class Ensemble:
    """Servers of one ensemble; a context manager that starts them and always ends them."""

    def __init__(self, jars: Path, directory: Path, size: int = 3, settings: dict[str, str] | None = None) -> None:
        self.settings = settings or {}
        ports = iter(free_ports(3 * size))
        self.servers = [
            Server(number, next(ports), next(ports), next(ports), directory / f"zookeeper-{number}", jars) for number in range(1, size + 1)
        ]
        self.configure()

    def __enter__(self) -> Ensemble:
        try:
            self.start()
            self.wait_for_quorum(members=len(self.servers))
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    @property
    def connect(self) -> str:
        """Connect string of all servers."""
        return ",".join(server.endpoint for server in self.servers)

    @property
    def hosts(self) -> list[tuple[str, int]]:
        """Host and client port of each server."""
        return [("127.0.0.1", server.client_port) for server in self.servers]

    def configure(self) -> None:
        """Write every server's files."""
        for server in self.servers:
            server.configure([other.line for other in self.servers], self.settings)

    def start(self) -> None:
        """Start every server; returns at once."""
        for server in self.servers:
            server.start()

    def stop(self) -> None:
        """End every server with SIGTERM."""
        for server in self.servers:
            server.stop()

    def kill(self) -> None:
        """End every server with SIGKILL."""
        for server in self.servers:
            server.kill()

    def modes(self) -> dict[int, str]:
        """Return myid -> mode."""
        return {server.myid: server.mode() for server in self.servers}

    def leader(self) -> Server:
        """Return the server that leads (the only one of one). Raises RuntimeError when none does."""
        for server in self.servers:
            if server.mode() in ("leader", "standalone"):
                return server
        raise RuntimeError(f"no leader: {self.modes()}")

    def followers(self) -> list[Server]:
        """Return the servers that follow."""
        return [server for server in self.servers if server.mode() == "follower"]

    def wait_for_quorum(self, members: int | None = None, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until a leader and `members` servers in all (a majority when not given) serve. Raises TimeoutError."""
        wanted = members or len(self.servers) // 2 + 1
        end = time.monotonic() + timeout_s
        while True:
            modes = list(self.modes().values())
            if (
                sum(mode in ("leader", "standalone") for mode in modes) == 1
                and len(modes) - modes.count("looking") - modes.count("down") >= wanted
            ):
                return
            if time.monotonic() > end:
                last = [line for server in self.servers if server.log.exists() for line in server.log.read_text().splitlines()[-3:]]
                raise TimeoutError(f"no quorum of {wanted} after {timeout_s:g} s: {self.modes()}; " + " | ".join(last))
            time.sleep(0.2)
