"""An unmodified spark-submit against the REST side of a master: it submits, asks, kills, and moves on from a standby."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from missing import missing

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "unit" / "sparkd"))

from http_faces import OTHER, WORKER, FakeMaster, master_settings, report

from sparkd.core.events import WorkerRegistered
from sparkd.core.states import MasterStatus
from sparkd.http.server import Running, start_master
from sparkd.up import LocalCluster

#: What spark-submit and a SparkContext never load; leaves most of the jars.
NOT_NEEDED = re.compile(
    r"jars/(connect-repl/|hive|rocksdbjni|spark-(sql_|mllib|connect)|kubernetes|breeze|icu4j|derby|orc|parquet|spire)|python/(docs|test_|.*/tests/)"
)


@pytest.fixture(scope="module")
def spark_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distribution as far as spark-submit and PySpark without SQL need it: SPARK_HOME, or of the cache of downloads."""
    if not os.environ.get("JAVA_HOME") and not shutil.which("java"):
        missing("no java: install a JRE or set JAVA_HOME")
    given = os.environ.get("SPARK_HOME")
    if given and (Path(given) / "bin" / "spark-submit").exists():
        return Path(given)
    cache = Path(os.environ.get("SPARK_HA_CACHE") or Path.home() / ".cache" / "spark-ha")
    archives = sorted(cache.glob("spark-[0-9]*.tar"))
    if not archives:
        missing("no Spark: deploy once (the cache then has it) or set SPARK_HOME")
    home = tmp_path_factory.mktemp("spark")
    with tarfile.open(archives[-1]) as tar:
        wanted = [item for item in tar if item.name.startswith(("bin/", "jars/", "python/", "RELEASE")) and not NOT_NEEDED.match(item.name)]
        tar.extractall(home, members=wanted, filter="data")
    return home


LOG4J = """\
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
"""


class Served:
    """A master's servers on a loop in a thread of its own."""

    def __init__(self, face: FakeMaster) -> None:
        self.face = face
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.running: Running = asyncio.run_coroutine_threadsafe(start_master(face), self.loop).result(30)

    @property
    def rest(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.running.rest_port}"

    def close(self) -> None:
        """Stop."""
        asyncio.run_coroutine_threadsafe(self.running.close(), self.loop).result(30)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def leader() -> Iterator[Served]:
    face = FakeMaster(settings=master_settings(open_to_all=True))
    face.tell(WorkerRegistered(WORKER))
    served = Served(face)
    yield served
    served.close()


@pytest.fixture
def standby() -> Iterator[Served]:
    served = Served(FakeMaster(says=MasterStatus.STANDBY, led_by=OTHER))
    yield served
    served.close()


def submit(home: Path, tmp_path: Path, masters: str, *arguments: str) -> str:
    """Run spark-submit; return all that it says."""
    (tmp_path / "log4j2.properties").write_text(LOG4J)
    env = {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")}
    env |= {"SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_CONF_DIR": str(tmp_path), "SPARK_TEST_VARIABLE": "passed on"}
    command = [str(home / "bin" / "spark-submit"), "--master", f"spark://{masters}", "--deploy-mode", "cluster"]
    command += ["--conf", "spark.master.rest.enabled=true", *arguments]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False)
    return done.stdout + done.stderr


APPLICATION = ("--class", "org.example.Main", "--name", "an application", "--driver-memory", "512m", "--supervise")


def said(text: str) -> dict[str, object]:
    """Return the answer of the server that spark-submit shows."""
    found = re.search(r"\{\s*\"action\".*?\n\s*\}", text, re.DOTALL)
    assert found, text
    return dict(json.loads(found.group(0)))


def test_it_submits_asks_and_kills(spark_home: Path, tmp_path: Path, leader: Served) -> None:
    out = submit(spark_home, tmp_path, leader.rest, *APPLICATION, "--conf", "spark.driver.cores=2", "file:/app.jar", "one", "two words")
    answer = said(out)
    driver_id = str(answer["submissionId"])
    assert (answer["action"], answer["success"], answer["serverSparkVersion"]) == ("CreateSubmissionResponse", True, "4.3.0")
    assert "unknownFields" not in answer
    assert f"State of driver {driver_id} is now RUNNING" in out  # it polls the status once

    (description, _), *others = leader.face.submitted
    assert not others
    assert (description.kind, description.main_class, description.resource) == ("jvm", "org.example.Main", "file:/app.jar")
    assert description.arguments == ("one", "two words")
    assert (description.cores, description.memory_mb, description.supervise, description.name) == (2, 512, True, "an application")
    assert description.properties["spark.master"].startswith("spark://127.0.0.1:")
    assert description.environment["SPARK_TEST_VARIABLE"] == "passed on"
    assert "SPARK_LOCAL_IP" not in description.environment

    leader.face.tell(report(driver_id, "RUNNING", 1))
    # For these two spark-submit tells its user of failures only.
    assert "ERROR" not in submit(spark_home, tmp_path, leader.rest, "--status", driver_id)
    assert "ERROR" not in submit(spark_home, tmp_path, leader.rest, "--kill", driver_id)
    driver = leader.face.core.driver(driver_id)
    assert driver is not None and driver.kill_requested


def test_it_moves_on_from_a_standby(spark_home: Path, tmp_path: Path, leader: Served, standby: Served) -> None:
    out = submit(spark_home, tmp_path, f"{standby.rest},{leader.rest}", *APPLICATION, "file:/app.jar")
    assert "State of driver" in out, out
    assert len(leader.face.submitted) == 1
    assert standby.face.submitted == []


def test_it_shows_why_nothing_was_done(spark_home: Path, tmp_path: Path, leader: Served) -> None:
    leader.face.durable = False
    out = submit(spark_home, tmp_path, leader.rest, *APPLICATION, "file:/app.jar")
    assert "disk full" in out
    leader.face.durable = True
    assert "ERROR" in submit(spark_home, tmp_path, leader.rest, "--status", "driver-unknown")
    out = submit(spark_home, tmp_path, leader.rest, "--kill", "driver-unknown")
    assert "Driver driver-unknown has already finished or does not exist" in out


def test_real_daemons_run_it(spark_home: Path, tmp_path: Path) -> None:
    """From spark-submit through a standby and a leader to a JVM on a worker that ends by itself."""
    jar = next((spark_home / "jars").glob("spark-launcher_*.jar"))
    environ = {**os.environ, "SPARK_HOME": str(spark_home)}
    with LocalCluster(tmp_path / "cluster", masters=2, workers=1, recovery="filesystem", environ=environ) as cluster:
        leader = cluster.wait_alive(workers=1)
        ordered = sorted(cluster.ports.masters, key=lambda master: master.name == leader)  # the standby first
        masters = ",".join(f"127.0.0.1:{master.rest}" for master in ordered)
        application = ("--class", "org.apache.spark.deploy.SparkSubmit", "--driver-memory", "256m", f"file:{jar}", "--version")
        driver_id = str(said(submit(spark_home, tmp_path, masters, *application))["submissionId"])
        row = cluster.wait_driver(driver_id, "FINISHED", "FAILED", "ERROR", timeout_s=120)
        assert (row["state"], row["exit_code"], row["attempt"]) == ("FINISHED", 0, 1)
        assert len(cluster.client().drivers()) == 1


PROGRAM = """\
import sys
from pyspark import SparkConf, SparkContext

context = SparkContext(conf=SparkConf().setMaster("local[1]").set("spark.ui.enabled", "false"))
total = context.parallelize(range(100), 2).sum()
open(sys.argv[1], "w").write(f"{total} {context.appName} {context.getConf().get('spark.test.given')}")
context.stop()
"""


def test_a_python_program_runs_as_a_driver(spark_home: Path, tmp_path: Path) -> None:
    """What spark-submit refuses in cluster mode: `sparkd submit --py`, with a SparkContext of its own in it."""
    (tmp_path / "program.py").write_text(PROGRAM)
    out = tmp_path / "out"
    with LocalCluster(
        tmp_path / "cluster", masters=1, workers=1, recovery="none", environ=dict(os.environ, SPARK_HOME=str(spark_home))
    ) as cluster:
        masters = ",".join(f"{host}:{port}" for host, port in cluster.rest)
        flags = ["--py", str(tmp_path / "program.py"), "--name", "a sum", "--conf", "spark.test.given=here", "--memory", "512m"]
        command = [sys.executable, "-m", "sparkd.cli", "submit", "--wait", "--masters", masters, *flags, "--", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
        stderr = "".join(path.read_text() for path in cluster.work_dir("worker-1").glob("driver-*/stderr"))
        assert done.returncode == 0, (done.stderr, stderr[-3000:])
    assert out.read_text() == "4950 a sum here"
