"""Record what real Apache Masters answer, for tests/unit/sparkd/test_http_rest_recorded.py.

    PYTHONPATH=tests/integration:daemons .venv/bin/python tests/integration/sparkd/record_rest.py --spark-home DIR

DIR holds a whole distribution (bin, jars). Starts one ZooKeeper server, a leading Master, a standby and, for the second half, a Worker,
all on loopback; asks them what ALIVE and STANDBY say, and writes fixtures/rest/*.json there: lists of name, method, path, request, status,
body. Ids, ports and times are made the same in every recording; stack traces are cut; HTML pages are left out (body null). Ends all it
started.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble import Ensemble, free_ports

OUT = Path(__file__).resolve().parents[2] / "unit" / "sparkd" / "fixtures" / "rest"
BODY_LIMIT = 20_000
SUBMISSIONS = "/v1/submissions/"
GOOD: dict[str, Any] = {
    "action": "CreateSubmissionRequest",
    "clientSparkVersion": "4.3.0",
    "appResource": "file:/nowhere/app.jar",
    "mainClass": "org.example.Main",
    "appArgs": ["1"],
    "environmentVariables": {"SPARK_ENV_LOADED": "1"},
    "sparkProperties": {"spark.app.name": "recorded", "spark.driver.memory": "700g"},
}


def good(**changes: Any) -> dict[str, Any]:
    """Return a submission that no worker is large enough for, changed."""
    return {**GOOD, **changes}


def without(name: str) -> dict[str, Any]:
    """Return it without one field."""
    return {key: value for key, value in GOOD.items() if key != name}


def having(**properties: Any) -> dict[str, Any]:
    """Return it with more properties; a '_' in a name stands for a dot."""
    return good(sparkProperties={**GOOD["sparkProperties"], **{key.replace("_", "."): value for key, value in properties.items()}})


Case = tuple[str, str, str, Any]  # name, method, path, body (text, or JSON when it is no str)

#: Asked of a leader without workers, in this order: {id} is the last driver that was made.
ALIVE: tuple[Case, ...] = (
    ("readyz", "GET", SUBMISSIONS + "readyz", None),
    ("readyz with a tail", "GET", SUBMISSIONS + "readyz/more", None),
    ("readyz by post", "POST", SUBMISSIONS + "readyz", ""),
    ("no version", "GET", "/", None),
    ("no prefix", "GET", "/v1", None),
    ("another prefix", "GET", "/v1/other", None),
    ("no verb", "GET", SUBMISSIONS, None),
    ("unknown verb", "POST", SUBMISSIONS + "restart", ""),
    ("verb that only begins like one", "POST", SUBMISSIONS + "created", ""),
    ("unknown version", "POST", "/v2/submissions/create", ""),
    ("unknown version, status", "GET", "/v9/submissions/status/driver-x", None),
    ("unknown version alone", "GET", "/version", None),
    ("create by get", "GET", SUBMISSIONS + "create", None),
    ("kill by get", "GET", SUBMISSIONS + "kill/driver-x", None),
    ("status by post", "POST", SUBMISSIONS + "status/driver-x", ""),
    ("clear by delete", "DELETE", SUBMISSIONS + "clear", None),
    ("status without an id", "GET", SUBMISSIONS + "status", None),
    ("status without an id, slash", "GET", SUBMISSIONS + "status/", None),
    ("status of an unknown id", "GET", SUBMISSIONS + "status/driver-unknown", None),
    ("kill without an id", "POST", SUBMISSIONS + "kill", ""),
    ("kill of an unknown id", "POST", SUBMISSIONS + "kill/driver-unknown", ""),
    ("kill of an unknown id with a tail", "POST", SUBMISSIONS + "kill/driver-unknown/more", ""),
    ("killall of nothing", "POST", SUBMISSIONS + "killall", ""),
    ("clear of nothing", "POST", SUBMISSIONS + "clear", ""),
    ("empty body", "POST", SUBMISSIONS + "create", ""),
    ("no JSON", "POST", SUBMISSIONS + "create", "{this is no JSON"),
    ("JSON and more", "POST", SUBMISSIONS + "create", json.dumps(GOOD) + " trailing"),
    ("a list", "POST", SUBMISSIONS + "create", "[1]"),
    ("a string", "POST", SUBMISSIONS + "create", '"x"'),
    ("an empty object", "POST", SUBMISSIONS + "create", {}),
    ("unknown action", "POST", SUBMISSIONS + "create", good(action="RestartRequest")),
    ("action is a number", "POST", SUBMISSIONS + "create", good(action=5)),
    ("another message", "POST", SUBMISSIONS + "create", {"action": "ErrorResponse", "message": "m", "serverSparkVersion": "4.3.0"}),
    ("too large", "POST", SUBMISSIONS + "create", good(appArgs=["x" * BODY_LIMIT])),
    ("no client version", "POST", SUBMISSIONS + "create", without("clientSparkVersion")),
    ("no resource", "POST", SUBMISSIONS + "create", without("appResource")),
    ("no properties", "POST", SUBMISSIONS + "create", without("sparkProperties")),
    ("no main class", "POST", SUBMISSIONS + "create", without("mainClass")),
    ("properties are a list", "POST", SUBMISSIONS + "create", good(sparkProperties=["a"])),
    ("a property is an object", "POST", SUBMISSIONS + "create", having(a={})),
    ("a property is null", "POST", SUBMISSIONS + "create", having(a=None)),
    ("arguments are a string", "POST", SUBMISSIONS + "create", good(appArgs="one")),
    ("supervise is no boolean", "POST", SUBMISSIONS + "create", having(spark_driver_supervise="maybe")),
    ("cores are no number", "POST", SUBMISSIONS + "create", having(spark_driver_cores="many")),
    ("cores are not whole", "POST", SUBMISSIONS + "create", having(spark_driver_cores="1.5")),
    ("memory is none", "POST", SUBMISSIONS + "create", having(spark_driver_memory="much")),
    ("executor memory is none", "POST", SUBMISSIONS + "create", having(spark_executor_memory="0.5g")),
    ("maximum of cores is none", "POST", SUBMISSIONS + "create", having(spark_cores_max="all")),
    ("no application's name", "POST", SUBMISSIONS + "create", good(sparkProperties={"spark.driver.memory": "700g"})),
    (
        "no arguments, no environment",
        "POST",
        SUBMISSIONS + "create",
        {k: v for k, v in GOOD.items() if k[:3] not in ("app", "env")} | {"appResource": "x"},
    ),
    ("fields are null", "POST", SUBMISSIONS + "create", good(appArgs=None, environmentVariables=None, message=None)),
    ("unknown fields", "POST", SUBMISSIONS + "create", good(zeta=1, alpha={"b": 2})),
    (
        "scalars that are no strings",
        "POST",
        SUBMISSIONS + "create",
        good(appArgs=[1, True, 2.5], sparkProperties={**GOOD["sparkProperties"], "a": 1}),
    ),
    ("with a tail", "POST", SUBMISSIONS + "create/more", GOOD),
    ("create", "POST", SUBMISSIONS + "create", GOOD),
    ("status of a queued one", "GET", SUBMISSIONS + "status/{id}", None),
    ("kill of a queued one", "POST", SUBMISSIONS + "kill/{id}", ""),
    ("kill again", "POST", SUBMISSIONS + "kill/{id}", ""),
    ("status of a killed one", "GET", SUBMISSIONS + "status/{id}", None),
    ("killall of queued ones", "POST", SUBMISSIONS + "killall", ""),
    ("clear", "POST", SUBMISSIONS + "clear", ""),
    ("status after clear", "GET", SUBMISSIONS + "status/{id}", None),
)

#: Asked of a standby, that has allowedAppResourcePatterns "file:/nowhere/.*".
STANDBY: tuple[Case, ...] = (
    ("readyz", "GET", SUBMISSIONS + "readyz", None),
    ("create", "POST", SUBMISSIONS + "create", GOOD),
    ("create with unknown fields", "POST", SUBMISSIONS + "create", good(zeta=1)),
    ("create of what is not allowed", "POST", SUBMISSIONS + "create", good(appResource="file:/elsewhere/app.jar")),
    ("create, malformed", "POST", SUBMISSIONS + "create", "{"),
    ("status", "GET", SUBMISSIONS + "status/driver-x", None),
    ("kill", "POST", SUBMISSIONS + "kill/driver-x", ""),
    ("killall", "POST", SUBMISSIONS + "killall", ""),
    ("clear", "POST", SUBMISSIONS + "clear", ""),
    ("unknown version", "GET", "/v2/submissions/readyz", None),
)


@dataclass
class Daemon:
    """A JVM of Spark's, and where it listens."""

    process: subprocess.Popen[bytes]
    port: int
    page: int
    rest: int

    def stop(self) -> None:
        """End it by its process id."""
        self.process.kill()
        self.process.wait()


class Cluster:
    """The daemons of one recording."""

    def __init__(self, home: Path, scratch: Path, zookeeper: str) -> None:
        self.home, self.scratch, self.zookeeper = home, scratch, zookeeper
        self.daemons: list[Daemon] = []

    def start(self, kind: str, arguments: list[str], options: dict[str, str]) -> Daemon:
        """Start spark-class in the foreground; wait until its page answers."""
        port, page, rest = free_ports(3)
        flags = {**options, "spark.master.rest.enabled": "true", "spark.master.rest.port": str(rest), "spark.port.maxRetries": "0"}
        env = {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")} | {
            "SPARK_HOME": str(self.home),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_DAEMON_MEMORY": "400m",
            f"SPARK_{kind.upper()}_OPTS": " ".join(f"-D{name}={value}" for name, value in flags.items()),
        }
        command = [str(self.home / "bin" / "spark-class"), f"org.apache.spark.deploy.{kind}.{kind.capitalize()}", "--host", "127.0.0.1"]
        command += ["--port", str(port), "--webui-port", str(page), *arguments]
        with (self.scratch / f"{kind}-{page}.log").open("wb") as log:
            process = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=self.scratch, start_new_session=True)
        daemon = Daemon(process, port, page, rest)
        self.daemons.append(daemon)
        until(lambda: ask(daemon.page, "GET", "/json/", None)[0] == 200)
        return daemon

    def stop(self) -> None:
        """End all."""
        for daemon in reversed(self.daemons):
            daemon.stop()


def until(done: Any, seconds: float = 90.0) -> None:
    """Wait for something; connection errors are not yet."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if done():
                return
        time.sleep(0.3)
    raise TimeoutError("it did not come to pass; the logs are in the scratch directory")


def ask(port: int, method: str, path: str, body: Any) -> tuple[int, Any]:
    """Return status and body: JSON, or None for anything else."""
    data = None if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 http only
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, None


def plain(value: Any) -> Any:
    """Return it without what differs from run to run, and without stack traces."""
    if isinstance(value, dict):
        fixed = {"starttime": 0, "duration": 0, "lastheartbeat": 0, "submitdate": "DATE"}
        return {key: fixed.get(key, plain(item)) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, str):
        return value
    text = "\n".join(line for line in value.split("\n") if not line.startswith("\t"))
    text = re.sub(r"driver-\d{14}-\d{4}", "driver-20260101000000-0000", text)
    text = re.sub(r"worker-\d{14}-127\.0\.0\.1-\d+", "worker-20260101000000-127.0.0.1-1", text)
    text = re.sub(r"/tmp/[^\s\"']*", "/tmp/SCRATCH", text)
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", text)


def record(port: int, cases: tuple[Case, ...]) -> Iterator[dict[str, Any]]:
    """Ask all, in their order."""
    last = "driver-none"
    for name, method, path, body in cases:
        status, answer = ask(port, method, path.replace("{id}", last), body)
        last = (answer or {}).get("submissionId") or last
        request = f"(more than {BODY_LIMIT} bytes)" if name == "too large" else body
        yield {"name": name, "method": method, "path": path, "request": request, "status": status, "body": plain(answer)}


def write(name: str, entries: list[dict[str, Any]]) -> None:
    """Write one file."""
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n")
    print(f"{name}: {len(entries)} answers")


def lives(cluster: Cluster, leader: Daemon) -> list[dict[str, Any]]:
    """Run drivers on a worker; record their status, and the pages while they are there."""
    worker = cluster.start("worker", [f"spark://127.0.0.1:{leader.port}", "-c", "3", "-m", "3g", "-d", str(cluster.scratch / "work")], {})
    until(lambda: ask(leader.page, "GET", "/json/", None)[1]["aliveworkers"] == 1)
    jar = next((cluster.home / "jars").glob("spark-launcher_*.jar")).as_uri()
    kinds = {
        "running": ("org.apache.spark.deploy.ExternalShuffleService", [], jar, {"spark.shuffle.service.port": "0"}),
        "finished": ("org.apache.spark.deploy.SparkSubmit", ["--version"], jar, {}),
        "failed": ("org.apache.spark.deploy.SparkSubmit", ["--no-such-option"], jar, {}),
        "error": ("org.example.Main", [], "file:/nowhere/app.jar", {}),
        "queued": ("org.example.Main", [], jar, {"spark.driver.memory": "700g"}),
    }
    wanted = {"running": "RUNNING", "finished": "FINISHED", "failed": "FAILED", "error": "ERROR", "queued": "SUBMITTED"}
    found: list[dict[str, Any]] = []
    ids: dict[str, str] = {}
    for name, (main, arguments, resource, properties) in kinds.items():
        body = good(
            mainClass=main,
            appArgs=arguments,
            appResource=resource,
            sparkProperties={"spark.app.name": name, "spark.driver.memory": "512m", **properties},
        )
        ids[name] = ask(leader.rest, "POST", SUBMISSIONS + "create", body)[1]["submissionId"]
        path = SUBMISSIONS + "status/" + ids[name]
        until(lambda path=path, name=name: ask(leader.rest, "GET", path, None)[1].get("driverState") == wanted[name])
        found.extend(record(leader.rest, ((f"status of one that is {wanted[name]}", "GET", path, None),)))
    pages = [
        *record(leader.page, (("leader at work", "GET", "/json/", None), ("leader at work, use", "GET", "/json/clusterutilization", None)))
    ]
    pages += record(worker.page, (("worker", "GET", "/json/", None),))
    found.extend(record(leader.rest, (("kill of a running one", "POST", SUBMISSIONS + "kill/" + ids["running"], ""),)))
    until(lambda: ask(leader.rest, "GET", SUBMISSIONS + "status/" + ids["running"], None)[1].get("driverState") == "KILLED")
    found.extend(record(leader.rest, (("status of one that was KILLED", "GET", SUBMISSIONS + "status/" + ids["running"], None),)))
    for entry in found:
        entry["path"] = plain(entry["path"])
    return found + pages


def main() -> int:
    """Record everything."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--spark-home", type=Path, required=True)
    home = options.parse_args().spark_home.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="record-rest-") as folder, Ensemble(home / "jars", Path(folder) / "zk", size=1) as ensemble:
        ensemble.wait_for_quorum()
        cluster = Cluster(home, Path(folder), ensemble.connect)
        recovery = {"spark.deploy.recoveryMode": "ZOOKEEPER", "spark.deploy.zookeeper.url": ensemble.connect}
        try:
            leader = cluster.start("master", [], {**recovery, "spark.master.rest.maxRequestBodySize": str(BODY_LIMIT)})
            until(lambda: ask(leader.page, "GET", "/json/", None)[1]["status"] == "ALIVE")
            write("alive", [*record(leader.rest, ALIVE)])
            standby = cluster.start("master", [], {**recovery, "spark.master.rest.allowedAppResourcePatterns": "file:/nowhere/.*"})
            write("standby", [*record(standby.rest, STANDBY)])
            found = lives(cluster, leader)
            write("drivers", [entry for entry in found if "/submissions/" in entry["path"]])
            pages = [entry for entry in found if "/json/" in entry["path"]]
            pages += record(standby.page, (("standby", "GET", "/json/", None), ("standby, use", "GET", "/json/clusterutilization", None)))
            write("pages", pages)
        finally:
            cluster.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
