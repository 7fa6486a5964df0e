"""Real ZooKeeper servers on loopback for `sparkd up`: where their jars are, their files, and whether they serve."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

JVM = (
    "-Xmx96m",
    "-Xss512k",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Dzookeeper.admin.enableServer=false",
)
MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
#: Debian's package libzookeeper-java and what it needs to run a server.
DISTRIBUTION = Path("/usr/share/java")
DISTRIBUTION_JARS = (
    "zookeeper*",
    "slf4j-api*",
    "slf4j-simple*",
    "log4j-1.2*",
    "netty*",
    "jline*",
    "snappy-java*",
    "metrics-core*",
    "commons-*",
    "audience*",
)
LOG4J = """\
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
"""


class Lacking(Exception):
    """A part is not on this host; the text says how to get it."""


def java(environ: Mapping[str, str]) -> str:
    """Return the java to run. Raises Lacking."""
    if environ.get("JAVA_HOME"):
        found = Path(environ["JAVA_HOME"]) / "bin" / "java"
        if not os.access(found, os.X_OK):
            raise Lacking(
                f"JAVA_HOME is {environ['JAVA_HOME']}, and there is no bin/java in it: set it to a JRE, or unset it to use java on PATH"
            )
        return str(found)
    on_path = shutil.which("java", path=environ.get("PATH"))
    if not on_path:
        raise Lacking(
            "no java: ZooKeeper needs one. Install a JRE (apt install default-jre-headless) or set JAVA_HOME; or use --recovery filesystem"
        )
    return on_path


def class_path(environ: Mapping[str, str], scratch: Path) -> list[str]:
    """Return a class path with a ZooKeeper in it; a cached tar is unpacked into `scratch`. Raises Lacking.

    Looked for in SPARK_HA_JARS, SPARK_HOME/jars, the project's cache, an installed pyspark, the distribution's /usr/share/java.
    """
    folders = []
    if environ.get("SPARK_HA_JARS"):
        folders.append(Path(environ["SPARK_HA_JARS"]))
    if environ.get("SPARK_HOME"):
        folders.append(Path(environ["SPARK_HOME"]) / "jars")
    for folder in folders:
        if _has_zookeeper(folder):
            return [f"{folder}/*"]
    cache = Path(environ.get("SPARK_HA_CACHE") or Path(environ.get("HOME") or "/") / ".cache" / "spark-ha")
    for archive in sorted(cache.glob("zookeeper-*.tar"), reverse=True):
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        for jar in sorted(scratch.rglob("zookeeper-[0-9]*.jar")):
            return [f"{jar.parent}/*"]
    spec = importlib.util.find_spec("pyspark")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if _has_zookeeper(Path(place) / "jars"):
            return [f"{place}/jars/*"]
    if _has_zookeeper(DISTRIBUTION):
        return [str(jar) for pattern in DISTRIBUTION_JARS for jar in sorted(DISTRIBUTION.glob(f"{pattern}.jar"))]
    raise Lacking(
        "no ZooKeeper on this host: set SPARK_HOME to a Spark (its jars/ hold one), or install one (pip install pyspark, or apt install "
        "libzookeeper-java); or use --recovery filesystem, which needs neither ZooKeeper nor Java"
    )


def _has_zookeeper(folder: Path) -> bool:
    return folder.is_dir() and (any(folder.glob("zookeeper-[0-9]*.jar")) or (folder / "zookeeper.jar").exists())


@dataclass(frozen=True, slots=True)
class Server:
    """One server's place: three ports of 127.0.0.1 and a directory."""

    number: int
    client_port: int
    peer_port: int
    election_port: int
    directory: Path

    @property
    def endpoint(self) -> str:
        """host:port for clients."""
        return f"127.0.0.1:{self.client_port}"


def configure(servers: Sequence[Server], settings: Mapping[str, str] | None = None) -> None:
    """Write zoo.cfg, myid and the logging configuration of each; data is kept. A tick of 500 ms grants sessions of 1 to 10 s."""
    members = [f"server.{one.number}=127.0.0.1:{one.peer_port}:{one.election_port}" for one in servers]
    for one in servers:
        data = one.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        (data / "myid").write_text(f"{one.number}\n")
        (one.directory / "log4j2.properties").write_text(LOG4J)
        values = {
            "tickTime": "500",
            "initLimit": "20",
            "syncLimit": "10",
            "maxClientCnxns": "0",
            "4lw.commands.whitelist": "cons,mntr,ruok,srvr",
            "dataDir": str(data),
            "clientPort": str(one.client_port),
            "clientPortAddress": "127.0.0.1",
            **(settings or {}),
        }
        lines = [f"{key}={value}" for key, value in values.items()] + (members if len(members) > 1 else [])
        (one.directory / "zoo.cfg").write_text("\n".join([*lines, ""]))


def command(java_path: str, one: Server, jars: Sequence[str]) -> list[str]:
    """Return what to run in the server's directory."""
    return [java_path, *JVM, "-cp", ":".join([str(one.directory), *jars]), MAIN, "zoo.cfg"]


def mode(port: int, timeout_s: float = 1.0) -> str:
    """Return leader, follower, standalone, looking (no quorum) or down, as the word srvr says."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(b"srvr")
            said = b""
            while len(said) < 65536 and (part := connection.recv(4096)):
                said += part
    except OSError:
        return "down"
    for line in said.decode(errors="replace").splitlines():
        if line.startswith("Mode: "):
            return line.removeprefix("Mode: ").strip()
    return "looking"
