"""A whole cluster on loopback: ZooKeeper servers, masters and workers as real processes, without root. To try out, test and measure.

    with LocalCluster(tmp_path, masters=2, workers=2, zookeeper=3) as cluster:   # started, a leader ALIVE, workers registered
        driver = cluster.submit("sleep", "60", supervise=True)
        cluster.kill(cluster.leader())      # SIGKILL; fenced at once and started again, as its unit does on a host
        cluster.wait_alive()

Everything ends with it, drivers too, also when this process is killed (up_child.guard).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from . import up_child, up_zookeeper
from .client import Address, Answer, Client, ClientError, Token, new_request_id, request
from .up_child import Child
from .up_shape import HOST, Master, Ports, Recovery, Shape, UpError, Worker, free_ports, is_free

START_TIMEOUT_S = 60.0
NODE = "/spark"
#: So many deaths in a row, each within seconds of a start: waiting will not help.
HOPELESS = 4


class LocalCluster:
    """Start, kill, stop, pause, ask. Names: zookeeper-1.., master-1.., worker-1.. told: gets a line per event."""

    def __init__(
        self,
        directory: Path,
        shape: Shape | None = None,
        *,
        ports: Ports | None = None,
        told: Callable[[str], None] | None = None,
        environ: Mapping[str, str] | None = None,
        **parts: Any,
    ) -> None:
        self.shape = shape or Shape(**parts)
        self.shape.check()
        self.directory = directory.absolute()
        self.ports = ports or Ports(self.shape)
        self.mark = f"{self.directory}:{secrets.token_hex(4)}"
        self.children: dict[str, Child] = {}
        self.fences: list[str] = []  # what each fence said
        self._told = told or (lambda _: None)
        self._environ = self._clean(os.environ if environ is None else environ)
        self._guard: subprocess.Popen[bytes] | None = None
        self._token = Token()
        self._writing = threading.Lock()

    def _clean(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the environment without what would configure the daemons from outside; SPARK_HOME stays, for what they run."""
        kept = {name: value for name, value in environ.items() if not name.startswith(("SPARK_", "SPARKD_")) or name == "SPARK_HOME"}
        return {**kept, up_child.MARK: self.mark, "PYTHONUNBUFFERED": "1"}

    # --- files -----------------------------------------------------------------------------------------------------

    @property
    def master_url(self) -> str:
        """As workers and applications name the cluster."""
        return "spark://" + ",".join(f"{HOST}:{master.port}" for master in self.ports.masters)

    @property
    def rest(self) -> list[Address]:
        """REST addresses of the masters."""
        return [(HOST, master.rest) for master in self.ports.masters]

    @property
    def zookeeper(self) -> str:
        """Connect string; empty without ZooKeeper."""
        return ",".join(f"{HOST}:{client}" for client, _, _ in self.ports.zookeeper)

    @property
    def secret_file(self) -> Path:
        """The cluster secret."""
        return self.directory / "secret"

    @property
    def zookeeper_secret_file(self) -> Path:
        """The secret of the nodes' ACLs."""
        return self.directory / "zookeeper-secret"

    @property
    def token_key_file(self) -> Path:
        """The JWS key of REST, for clients (`tokens`)."""
        return self.directory / "token-key"

    def _prepare(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        given = os.environ.get("SPARKD_SECRET", "")
        for path, text in ((self.secret_file, given), (self.zookeeper_secret_file, ""), (self.token_key_file, "")):
            if text or not path.exists():
                _write_secret(path, text or secrets.token_urlsafe(48))
        if self.shape.tokens:
            self._token = Token.read(self.token_key_file)

    def _properties(self, own: Mapping[str, str]) -> str:
        values = {
            "spark.master": self.master_url,
            "spark.sparkd.secretFile": str(self.secret_file),
            "spark.deploy.recoveryMode": self.shape.recovery.upper(),
            **own,
        }
        if self.shape.recovery == "zookeeper":
            values |= {
                "spark.deploy.zookeeper.url": self.zookeeper,
                "spark.deploy.zookeeper.dir": NODE,
                "spark.sparkd.zookeeper.secretFile": str(self.zookeeper_secret_file),
            }
        elif self.shape.recovery == "filesystem":
            values["spark.deploy.recoveryDirectory"] = str(self.directory / "recovery")
        if self.shape.tokens:
            values["spark.org.apache.spark.ui.JWSFilter.param.secretKey"] = self.token_key_file.read_text().strip()
            values["spark.master.rest.filters"] = "org.apache.spark.ui.JWSFilter"
        values |= self.shape.properties
        return "".join(f"{key} {_escaped(value)}\n" for key, value in values.items())

    def _conf(self, name: str, own: Mapping[str, str]) -> dict[str, str]:
        """Write a daemon's own configuration directory; return its environment."""
        conf = self.directory / name / "conf"
        conf.mkdir(parents=True, exist_ok=True)
        _write_secret(conf / "spark-defaults.conf", self._properties(own))
        return {**self._environ, "SPARK_CONF_DIR": str(conf)}

    def latch_record(self, name: str) -> Path:
        """Where a master notes its latch."""
        return self.directory / name / "latch.json"

    def work_dir(self, name: str) -> Path:
        """A worker's SPARK_WORKER_DIR."""
        return self.directory / name / "work"

    def write_description(self) -> None:
        """Write cluster.json, for whoever drives this cluster from outside."""
        path = self.directory / "cluster.json"
        fresh = path.with_suffix(".new")
        with self._writing:  # each process has a thread that calls this
            fresh.write_text(json.dumps(self.describe(), indent=1) + "\n")
            fresh.replace(path)

    def describe(self) -> dict[str, Any]:
        """Return what is where: PIDs, ports, URLs, files."""

        def process(name: str) -> dict[str, Any]:
            child = self.children.get(name)
            return {
                "name": name,
                "pid": child.pid if child else 0,
                "starts": child.starts if child else 0,
                "log": str(child.log) if child else "",
            }

        return {
            "directory": str(self.directory),
            "pid": os.getpid(),
            "master_url": self.master_url,
            "rest": [f"{host}:{port}" for host, port in self.rest],
            "recovery": self.shape.recovery,
            "zookeeper_connect": self.zookeeper,
            "zookeeper_dir": NODE if self.zookeeper else "",
            "secret_file": str(self.secret_file),
            "zookeeper_secret_file": str(self.zookeeper_secret_file) if self.zookeeper else "",
            "token_key_file": str(self.token_key_file) if self.shape.tokens else "",
            "masters": [
                {
                    **process(master.name),
                    "host": HOST,
                    "port": master.port,
                    "url": f"spark://{HOST}:{master.port}",
                    "web_ui": f"http://{HOST}:{master.web}",
                    "rest": f"http://{HOST}:{master.rest}",
                    "latch_record": str(self.latch_record(master.name)),
                }
                for master in self.ports.masters
            ],
            "workers": [
                {
                    **process(worker.name),
                    "host": HOST,
                    "port": worker.port,
                    "web_ui": f"http://{HOST}:{worker.web}",
                    "work_dir": str(self.work_dir(worker.name)),
                }
                for worker in self.ports.workers
            ],
            "zookeeper": [
                {**process(f"zookeeper-{n}"), "endpoint": f"{HOST}:{client}"} for n, (client, _, _) in enumerate(self.ports.zookeeper, 1)
            ],
        }

    # --- processes -------------------------------------------------------------------------------------------------

    def _make(self) -> None:
        if self.shape.recovery == "zookeeper":
            java = up_zookeeper.java(self._environ)
            jars = up_zookeeper.class_path(self._environ, self.directory / "zookeeper")
            servers = [up_zookeeper.Server(n, *ports, self.directory / f"zookeeper-{n}") for n, ports in enumerate(self.ports.zookeeper, 1)]
            up_zookeeper.configure(servers)
            for server in servers:
                self._add(f"zookeeper-{server.number}", up_zookeeper.command(java, server, jars), server.directory, self._environ)
        program = [sys.executable, "-m", "sparkd.cli"]
        for master in self.ports.masters:
            environ = self._conf(
                master.name,
                {
                    "spark.master.rest.port": str(master.rest),
                    "spark.sparkd.stateDir": str(self.directory / master.name),
                    "spark.sparkd.latchRecord": str(self.latch_record(master.name)),
                },
            )
            flags = ["master", "-h", HOST, "-p", str(master.port), "--webui-port", str(master.web)]
            self._add(master.name, [*program, *flags], self.directory / master.name, environ, fenced=True)
        for worker in self.ports.workers:
            environ = self._conf(worker.name, {"spark.worker.driverTerminateTimeout": "3s"})
            flags = ["worker", "-h", HOST, "-p", str(worker.port), "--webui-port", str(worker.web), "-d", str(self.work_dir(worker.name))]
            flags += ["-c", str(self.shape.cores), "-m", f"{self.shape.memory_mb}m", self.master_url]
            self._add(worker.name, [*program, *flags], self.directory / worker.name, environ)

    def _add(self, name: str, command: Sequence[str], directory: Path, environ: Mapping[str, str], fenced: bool = False) -> None:
        def died(child: Child, _: int) -> None:
            if fenced:
                self._fence(child)
            self.write_description()

        self.children[name] = Child(name, command, directory, environ, self._told, died, lambda _: self.write_description())

    def _fence(self, child: Child) -> None:
        """Remove a dead master's latch, as the unit's ExecStopPost does: a standby leads at once, not after the session's end."""
        if self.shape.recovery != "zookeeper":
            return
        command = [
            sys.executable,
            "-m",
            "sparkd.fence",
            str(self.latch_record(child.name)),
            "--secret-file",
            str(self.zookeeper_secret_file),
        ]
        try:
            done = subprocess.run(command, env=self._environ, capture_output=True, text=True, timeout=10, check=False)
        except subprocess.TimeoutExpired:
            self.fences.append("timed out")
            return
        self.fences.append((done.stdout or done.stderr).strip())

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start all that is not started, and wait until a leader is ALIVE with every worker. Raises UpError, up_zookeeper.Lacking."""
        end = time.monotonic() + timeout_s
        self._prepare()
        if not self.children:
            self._make()
        self._guard = self._guard or up_child.guard(self.mark)
        for child in self.children.values():
            child.start()
        if self.shape.recovery == "zookeeper":
            self._told(f"waiting for ZooKeeper ({self.zookeeper})")
            self.wait_quorum(end - time.monotonic())
        self._told("waiting for a leader and the workers")
        self.wait_alive(end - time.monotonic())

    def child(self, name: str) -> Child:
        """Return a process by name. Raises KeyError."""
        return self.children[name]

    def kill(self, name: str, restart: bool = True) -> None:
        """SIGKILL a process; it is fenced and started again unless `restart` is false."""
        self.children[name].kill(restart)

    def stop(self, name: str = "", timeout_s: float = 15.0) -> None:
        """SIGTERM a process and wait; without a name: end everything, in order, and leave nothing."""
        if name:
            self.children[name].stop(timeout_s)
            return
        for kind in ("worker", "master", "zookeeper"):
            group = [child for key, child in self.children.items() if key.startswith(kind)]
            for child in group:
                child.terminate()
            end = time.monotonic() + (6.0 if kind == "worker" else 3.0)
            for child in group:
                if not child.wait(end - time.monotonic()):
                    child.kill(restart=False)
        self.end_now()

    def end_now(self) -> None:
        """SIGKILL whatever is left of it."""
        for child in self.children.values():
            child.kill(restart=False) if child.running else child.terminate()
        up_child.sweep(self.mark)
        if self._guard is not None and self._guard.stdin is not None:
            with contextlib.suppress(OSError):
                self._guard.stdin.close()
            self._guard.wait(10)
            self._guard = None
        if self.directory.is_dir():
            self.write_description()

    def start_one(self, name: str) -> None:
        """Start a stopped process again; returns at once."""
        self.children[name].start()

    def pause(self, name: str) -> None:
        """SIGSTOP: it keeps its connections and says nothing."""
        self.children[name].signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self.children[name].signal(signal.SIGCONT)

    def __enter__(self) -> LocalCluster:
        """Start."""
        try:
            self.start()
        except BaseException:
            self.end_now()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End all."""
        self.stop()

    # --- asking ----------------------------------------------------------------------------------------------------

    def client(self, patience_s: float = 30.0) -> Client:
        """Return a client of all masters."""
        return Client(self.rest, self._token, patience_s)

    def submit(
        self, *argv: str, request_id: str = "", cores: int = 1, memory_mb: int = 64, patience_s: float = 30.0, **more: object
    ) -> str:
        """Submit a command; return the driver's id. more: fields of DriverDescription, as supervise."""
        described = {"kind": "command", "name": Path(argv[0]).name, "argv": list(argv), "cores": cores, "memory_mb": memory_mb, **more}
        return self.client(patience_s).submit(described, request_id or new_request_id())

    def wait_driver(self, driver_id: str, *states: str, timeout_s: float = 30.0) -> dict[str, Any]:
        """Wait until a driver is in one of these states; return its row. Raises UpError."""
        end = time.monotonic() + timeout_s
        row: dict[str, Any] = {}
        client = self.client(5.0)
        while time.monotonic() < end:
            with contextlib.suppress(ClientError):
                row = client.driver(driver_id)
                if row.get("state") in states:
                    return row
            time.sleep(0.05)
        raise UpError(f"{driver_id} is {row.get('state', 'unknown')} after {timeout_s:g} s, not {' or '.join(states)}: {row}")

    def statuses(self, timeout_s: float = 1.0) -> dict[str, str]:
        """Return each master's own word: ALIVE, STANDBY, RECOVERING, or down."""
        return {master.name: self.status(master, timeout_s) for master in self.ports.masters}

    def status(self, master: Master, timeout_s: float = 1.0) -> str:
        """Return one master's own word."""
        answer = self.ask(master, "/sparkd/v1/leader", timeout_s)
        return str(answer.body.get("status", "down")) if answer and isinstance(answer.body, dict) else "down"

    def ask(self, master: Master, path: str, timeout_s: float = 1.0) -> Answer | None:
        """GET a page of a master's REST port; None when it does not answer."""
        import http.client

        try:
            return request((HOST, master.rest), "GET", path, headers=self._token.header(), timeout_s=timeout_s)
        except (OSError, http.client.HTTPException, ValueError):
            return None

    def leader(self) -> str:
        """Return the name of the master that says ALIVE. Raises UpError when none does."""
        found = [name for name, status in self.statuses().items() if status == "ALIVE"]
        if not found:
            raise UpError(f"no leader: {self.statuses()}")
        return found[0]

    def standbys(self) -> list[str]:
        """Return the names of the masters that say STANDBY."""
        return [name for name, status in self.statuses().items() if status == "STANDBY"]

    def _polled(self, timeout_s: float, every_s: float = 0.05) -> Iterator[None]:
        end = time.monotonic() + timeout_s
        while True:
            yield
            if time.monotonic() > end:
                return
            time.sleep(every_s)

    def wait_alive(self, timeout_s: float = 30.0, workers: int | None = None) -> str:
        """Wait until one master says ALIVE with `workers` of them ALIVE (all when not given); return its name. Raises UpError."""
        wanted = self.shape.workers if workers is None else workers
        alive, states = [], {}
        for _ in self._polled(timeout_s):
            refused = next((child for child in self.children.values() if child.refused), None)
            if refused:
                raise UpError(f"{refused.name} does not start: {refused.tail(1)}")
            dying = next((child for child in self.children.values() if child.short_lives > HOPELESS), None)
            if dying:
                raise UpError(f"{dying.name} ends again and again ({dying.log}): {dying.tail(1)}")
            states = self.statuses()
            alive = [name for name, status in states.items() if status == "ALIVE"]
            if len(alive) == 1 and self._alive_workers(alive[0]) >= wanted:
                return alive[0]
        last = "\n".join(f"--- {name}: {child.log}\n{child.tail()}" for name, child in self.children.items() if not name.startswith("zoo"))
        raise UpError(f"no leader with {wanted} workers after {timeout_s:.0f} s: {states}\n{last}")

    def _alive_workers(self, name: str) -> int:
        master = next(one for one in self.ports.masters if one.name == name)
        answer = self.ask(master, "/sparkd/v1/workers")
        rows = answer.body.get("workers", []) if answer and isinstance(answer.body, dict) else []
        return sum(row.get("state") == "ALIVE" for row in rows)

    def wait_quorum(self, timeout_s: float = START_TIMEOUT_S, members: int | None = None) -> None:
        """Wait until the ensemble leads itself with `members` servers (all when not given). Raises UpError."""
        wanted = members or len(self.ports.zookeeper)
        modes: list[str] = []
        for _ in self._polled(timeout_s, 0.1):
            modes = self.zookeeper_modes()
            serving = [mode for mode in modes if mode in ("leader", "follower", "standalone")]
            if len(serving) >= wanted and any(mode in ("leader", "standalone") for mode in serving):
                return
        logs = "\n".join(f"--- {child.log}\n{child.tail()}" for name, child in self.children.items() if name.startswith("zoo"))
        raise UpError(f"ZooKeeper is not in quorum after {timeout_s:.0f} s: {modes}\n{logs}")

    def zookeeper_modes(self) -> list[str]:
        """Return each server's mode: leader, follower, standalone, looking or down."""
        return [up_zookeeper.mode(client) for client, _, _ in self.ports.zookeeper]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")


def _write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner reads."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text if text.endswith("\n") else text + "\n")


__all__ = ["LocalCluster", "Master", "Ports", "Recovery", "Shape", "UpError", "Worker", "free_ports", "is_free"]
