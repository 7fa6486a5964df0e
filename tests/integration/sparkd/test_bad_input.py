"""Bad input against real daemons: a clear error, nothing lost, no traceback, no secret, and work goes on.

What needs no processes is in tests/unit/sparkd: slow bodies (test_http_limits), records and journals (test_coordination_*), secrets and
malformed frames (test_rpc_control), values of every key (test_config_*), options of every command (test_cli_*), the clock (test_core_*).
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ensemble import Ensemble
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl
from up_world import until

from sparkd.client import Client, Refused
from sparkd.coordination import records
from sparkd.up import LocalCluster, free_ports

SPARKD = [sys.executable, "-m", "sparkd.cli"]
SECRET = "a-secret-that-nobody-may-see"


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "SPARKD_"))}
    return {**kept, **(more or {})}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path_factory.mktemp("bad"), masters=2, workers=1, recovery="filesystem", environ=environment()) as whole:
        yield whole


def page(url: str) -> str:
    """Return a page, whatever its status."""
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 a page of loopback
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()


def logs(cluster: LocalCluster) -> str:
    return "".join(child.log.read_text() for child in cluster.children.values())


def stat(pid: int) -> tuple[float, float]:
    """Return the CPU time in s and the memory in MiB of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_bytes_of_all_kinds_on_every_port_leave_no_trace(cluster: LocalCluster) -> None:
    leader = next(master for master in cluster.ports.masters if master.name == cluster.leader())
    worker = cluster.ports.workers[0]
    pids = {name: child.pid for name, child in cluster.children.items()}
    head = b"POST /v1/submissions/create HTTP/1.1\r\nHost: x\r\n"
    source = random.Random(3)  # noqa: S311 no secret
    cases = [
        b"POST /v1/submissions/create HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{",
        head + b"Content-Length: -1\r\n\r\n{",
        head + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{",
        head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        head + b"Content-Length: 70000\r\n\r\n" + b"[" * 70_000,
        b"GET /" + b"a" * 50_000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        *(start + source.randbytes(source.randrange(1, 6000)) for start in (b"", b"\x00", b"\xa5", b"\xa5\x01") for _ in range(10)),
    ]

    def throw() -> None:
        for port in (leader.port, leader.rest, leader.web, worker.port, worker.web):
            for case in cases:
                with socket.create_connection(("127.0.0.1", port), 5) as connection:
                    try:
                        connection.sendall(case)
                    except OSError:
                        continue  # closed already: refused

    throw()
    before = {name: stat(pid)[1] for name, pid in pids.items()}
    for _ in range(3):
        throw()
    cluster.wait_driver(cluster.submit("true"), "FINISHED")
    assert {name: child.pid for name, child in cluster.children.items()} == pids
    for name, pid in pids.items():
        assert stat(pid)[1] < before[name] + 20, f"{name} grows"
    assert "Traceback" not in logs(cluster)


def test_unknown_versions_verbs_and_ids_are_named(cluster: LocalCluster) -> None:
    rest = next(f"http://127.0.0.1:{master.rest}" for master in cluster.ports.masters if master.name == cluster.leader())
    assert "Unknown protocol version 'v9'" in page(f"{rest}/v9/submissions/status/x")
    assert "Missing an action" in page(f"{rest}/v1/submissions/frobnicate")
    assert "Unknown version of sparkd's API: /sparkd/v9/drivers" in page(f"{rest}/sparkd/v9/drivers")
    with pytest.raises(Refused, match="driver-nobody"):
        cluster.client().kill("driver-nobody")
    with pytest.raises(Refused, match="driver-nobody"):
        cluster.client().driver("driver-nobody")
    done = subprocess.run(
        [*SPARKD, "kill", "driver-nobody", "--masters", rest.removeprefix("http://")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=environment(),
    )
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (1, 1, "")
    assert "driver-nobody has already finished or does not exist" in done.stdout


def test_what_is_not_there_or_fits_nowhere_is_explained(cluster: LocalCluster) -> None:
    client = cluster.client()

    def submit(**described: Any) -> str:
        return client.submit({"memory_mb": 64, **described}, f"explained-{described}")

    missing = {
        submit(kind="jvm", resource="/no/such.jar", main_class="X"): "/no/such.jar: there is no such file on this worker",
        submit(kind="python", resource="/no/such.py"): "/no/such.py: there is no such file on this worker",
        submit(kind="command", argv=["/no/such/program"]): "cannot run /no/such/program: No such file",
        submit(kind="jvm", resource="s3://b/x.jar", main_class="X"): "only local paths, file:, http: and https:",
    }
    large = submit(kind="command", argv=["true"], cores=4000)
    for driver, why in missing.items():
        row = cluster.wait_driver(driver, "ERROR", "FAILED", "FINISHED")
        assert (row["state"], why in row["message"]) == ("ERROR", True), row
    assert client.driver(large)["state"] == "SUBMITTED"
    assert any("No worker is large enough" in sentence for sentence in client.explain(large))
    cluster.wait_driver(submit(kind="command", argv=["true"]), "FINISHED")  # it holds nobody up
    client.kill(large)
    assert client.driver(large)["state"] == "KILLED"


def test_no_secret_is_on_a_page_or_in_a_log(cluster: LocalCluster) -> None:
    client = cluster.client()
    asked = {"memory_mb": 64, "environment": {"PASSWORD": SECRET}, "properties": {"spark.x.password": SECRET}}
    url = f"http://user:{SECRET}@127.0.0.1:1/x.jar?token={SECRET}"
    submitted = [
        client.submit({**asked, "kind": "jvm", "resource": url, "main_class": "X"}, "secret-1"),
        client.submit({**asked, "kind": "command", "argv": ["true", "--password", SECRET, f"--key={url}"]}, "secret-2"),
    ]
    for driver in submitted:
        cluster.wait_driver(driver, "ERROR", "FAILED", "FINISHED")
    leader = next(master for master in cluster.ports.masters if master.name == cluster.leader())
    web, worker = f"http://127.0.0.1:{leader.web}", f"http://127.0.0.1:{cluster.ports.workers[0].web}"
    shown = [f"{web}/driver/?driverId={driver}" for driver in submitted]
    shown += [f"{base}{path}" for base in (web, worker) for path in ("/", "/json/", "/metrics")]
    shown += [
        f"http://127.0.0.1:{leader.rest}/{path}" for path in ("sparkd/v1/drivers", "sparkd/v1/state", f"sparkd/v1/explain/{submitted[0]}")
    ]
    for one in shown:
        text = page(one)
        assert text
        assert SECRET not in text, one
    assert SECRET not in logs(cluster)
    assert cluster.secret_file.read_text().strip() not in logs(cluster)


def test_damaged_files_of_a_recovery_directory_are_set_aside_and_shown(cluster: LocalCluster) -> None:
    drivers = [cluster.submit("true", request_id=f"damage-{number}") for number in range(5)]
    for driver in drivers:
        cluster.wait_driver(driver, "FINISHED")
    before = {row["id"] for row in cluster.client().drivers()}
    directory = cluster.directory / "recovery" / "records" / "driver"
    until(lambda: all((directory / driver).exists() for driver in drivers), 20, "records are written into files after a while")
    for master in cluster.ports.masters:
        cluster.kill(master.name, restart=False)
    raw = (directory / drivers[1]).read_bytes()
    damage = {
        drivers[0]: b"",
        drivers[1]: raw[: len(raw) // 2],
        drivers[2]: b"\xff" * 100,
        drivers[3]: (directory / drivers[3]).read_bytes().replace(b'"format":1', b'"format":9'),
    }
    for driver, bytes_ in damage.items():
        (directory / driver).write_bytes(bytes_)
    for journal in directory.parent.parent.glob("journal-*"):
        journal.unlink()  # else it mends them: it says the same
    for master in cluster.ports.masters:
        cluster.start_one(master.name)
    cluster.wait_alive(30)
    for restarted in (False, True):
        if restarted:  # the next leader shows them as well
            cluster.kill(cluster.leader())
            cluster.wait_alive(30)
        state = cluster.client().call("GET", "/state")
        assert {item["id"] for item in state["set_aside"]} == set(damage)
        assert {item["why"] for item in state["set_aside"] if item["id"] == drivers[3]} == {
            "written by a newer version (format 9; this one reads 1)"
        }
        assert {Path(item["where"]).read_bytes() for item in state["set_aside"]} == set(damage.values())
        assert {row["id"] for row in cluster.client().drivers()} == before - set(damage)
        leader = next(master for master in cluster.ports.masters if master.name == cluster.leader())
        assert all(driver in page(f"http://127.0.0.1:{leader.web}/") for driver in damage)


def test_clocks_that_jump_change_nothing(tmp_path: Path) -> None:
    library = next(iter([*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]), None)
    if library is None:
        pytest.skip("no libfaketime (Debian: libfaketime)")
    jump = tmp_path / "jump"
    jump.write_text("+0")
    faked = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(jump),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    with LocalCluster(tmp_path / "c", masters=2, workers=1, recovery="filesystem", environ=environment(faked)) as cluster:
        driver = cluster.submit("sleep", "600", supervise=True)
        cluster.wait_driver(driver, "RUNNING")
        leader, ids = cluster.leader(), [driver]
        for offset in ("+400d", "-30y", "+0"):
            jump.write_text(offset)
            time.sleep(1.5)  # beats, leases, deadlines
            ids.append(cluster.submit("true"))
            assert cluster.wait_driver(ids[-1], "FINISHED")["attempt"] == 1
        assert cluster.leader() == leader
        assert (cluster.client().driver(driver)["state"], cluster.client().driver(driver)["attempt"]) == ("RUNNING", 1)
        cluster.kill(leader)
        cluster.wait_alive(30)
        assert {row["id"] for row in cluster.client().drivers()} == set(ids)
        assert len(set(ids)) == len(ids)


# --- one master by itself ---------------------------------------------------------------------------------------------


@dataclass
class Alone:
    """A `sparkd master` and what it said to its supervisor and into its log."""

    process: subprocess.Popen[bytes]
    log: Path
    rest: int
    web: int
    notified: socket.socket

    def text(self) -> str:
        return self.log.read_text()

    def ready(self) -> bool:
        try:
            return any(b"READY=1" in self.notified.recv(4096) for _ in range(100))
        except BlockingIOError:
            return False


@contextmanager
def alone(directory: Path, **properties: str) -> Iterator[Alone]:
    """Run a master with these properties (`__` for a dot)."""
    directory.mkdir(parents=True, exist_ok=True)
    port, rest, web = free_ports(3)
    secret = directory / "secret"
    secret.touch(mode=0o600)
    secret.write_text("x" * 40)
    given = {"spark.sparkd.secretFile": secret, "spark.sparkd.stateDir": directory / "state", "spark.master.rest.port": rest}
    given |= {key.replace("__", "."): value for key, value in properties.items()}
    file = directory / "properties"
    file.write_text("".join(f"{key} {value}\n" for key, value in given.items()))
    log = directory / "log"
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notified.bind(str(directory / "notify"))
    notified.setblocking(False)
    command = [*SPARKD, "master", "-h", "127.0.0.1", "-p", str(port), "--webui-port", str(web), "--properties-file", str(file)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment({"NOTIFY_SOCKET": str(directory / "notify")}))
    try:
        yield Alone(process, log, rest, web, notified)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(15)
        notified.close()
        assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    ("properties", "says"),
    [
        ({"spark__deploy__recoveryMode": "BANANA"}, "spark.deploy.recoveryMode = 'BANANA'.*one of NONE, FILESYSTEM, ZOOKEEPER, CUSTOM"),
        ({"spark__sparkd__stateDirectory": "x"}, "spark.sparkd.stateDirectory = 'x'.*no such key; did you mean spark.sparkd.stateDir"),
        ({"spark__sparkd__stateDir": "/etc/passwd"}, "/etc/passwd cannot be made.*spark.sparkd.stateDir"),
        (
            {"spark__deploy__recoveryMode": "FILESYSTEM", "spark__deploy__recoveryDirectory": "/etc/passwd"},
            "/etc/passwd cannot be made.*spark.deploy.recoveryDirectory",
        ),
    ],
)
def test_a_master_that_cannot_be_right_ends_and_says_what_to_change(tmp_path: Path, properties: dict[str, str], says: str) -> None:
    with alone(tmp_path, **properties) as master:
        assert master.process.wait(20) == 2
        assert re.search(says, master.text())


def test_a_zookeeper_that_is_not_there_is_waited_for_ready_and_quiet(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    with alone(tmp_path, spark__deploy__recoveryMode="ZOOKEEPER", spark__deploy__zookeeper__url=f"127.0.0.1:{port}") as master:
        until(lambda: f"event=waiting_for_zookeeper hosts=127.0.0.1:{port}" in master.text(), 15)
        assert master.ready(), "READY is for its ports, not for ZooKeeper"
        assert "STANDBY" in page(f"http://127.0.0.1:{master.web}/json/")
        assert '"success" : false' in page(f"http://127.0.0.1:{master.rest}/v1/submissions/status/x")
        cpu, _ = stat(master.process.pid)
        time.sleep(3)
        assert stat(master.process.pid)[0] - cpu < 1.0, "a busy loop"
        assert master.text().count("\n") < 15
        assert master.process.poll() is None


@pytest.fixture
def admin(zookeeper: Ensemble) -> Iterator[Any]:
    client = KazooClient(zookeeper.connect, timeout=10)
    client.start(30)
    yield client
    client.stop()
    client.close()


def in_zookeeper(zookeeper: Ensemble, directory: str) -> dict[str, str]:
    return {
        "spark__deploy__recoveryMode": "ZOOKEEPER",
        "spark__deploy__zookeeper__url": zookeeper.connect,
        "spark__deploy__zookeeper__dir": directory,
    }


def test_apaches_state_and_foreign_acls_end_it_and_stay_untouched(tmp_path: Path, zookeeper: Ensemble, admin: Any) -> None:
    admin.ensure_path("/apaches/master_status")
    admin.create("/apaches/master_status/worker_1", b"\xac\xed\x00\x05")
    admin.create("/others", b"", acl=[make_digest_acl("somebody", "else", all=True)])
    with (
        alone(tmp_path / "a", **in_zookeeper(zookeeper, "/apaches")) as apaches,
        alone(tmp_path / "b", **in_zookeeper(zookeeper, "/others")) as others,
    ):
        assert (apaches.process.wait(20), others.process.wait(20)) == (2, 2)
        assert re.search("spark.deploy.zookeeper.dir=/apaches holds state of Apache's Masters.*a directory of its own", apaches.text())
        assert "spark.sparkd.zookeeper.secretFile" in others.text()
    assert admin.get("/apaches/master_status/worker_1")[0] == b"\xac\xed\x00\x05"
    assert admin.get_children("/apaches") == ["master_status"]


def test_damaged_records_in_zookeeper_are_set_aside_and_shown(tmp_path: Path, zookeeper: Ensemble, admin: Any) -> None:
    place = "/damaged/records/driver"

    def client(master: Alone) -> Client:
        return Client([("127.0.0.1", master.rest)], patience_s=20)

    with alone(tmp_path / "a", **in_zookeeper(zookeeper, "/damaged")) as first:
        drivers = [client(first).submit({"kind": "command", "argv": ["true"]}, f"r{number}") for number in range(5)]
    raw = admin.get(f"{place}/{drivers[1]}")[0]
    record = json.loads(raw.split(b"\n")[1])
    admin.set(f"{place}/{drivers[0]}", b"")
    admin.set(f"{place}/{drivers[1]}", raw[:-30])
    admin.set(f"{place}/{drivers[2]}", admin.get(f"{place}/{drivers[2]}")[0].replace(b'"format":1', b'"format":2'))
    odd = records.encode("driver", "driver-odd", 99, {**record, "id": "driver-odd", "state": "HIBERNATING"})
    admin.create(f"{place}/driver-odd", odd)
    admin.create("/damaged/election/nonsense", b"\xff")
    for name in ("b", "c"):
        with alone(tmp_path / name, **in_zookeeper(zookeeper, "/damaged")) as master:
            assert [row["id"] for row in client(master).drivers()] == drivers[3:]
            shown = page(f"http://127.0.0.1:{master.web}/")
            assert all(driver in shown for driver in (*drivers[:3], "driver-odd"))
            state = client(master).call("GET", "/state")["set_aside"]
            assert {item["id"] for item in state} == {*drivers[:3], "driver-odd"}
            assert any("newer version" in item["why"] for item in state)
    assert admin.get(f"{place}/driver-odd")[0] == odd
    assert len(admin.get_children("/damaged/set-aside")) == 3


def test_two_masters_with_a_directory_each_are_not_taken_for_one_cluster(tmp_path: Path) -> None:
    """A recovery directory that is not shared makes two leaders: a worker obeys one of them and says what is wrong with the other."""
    directories = [tmp_path / name for name in "ab"]
    properties = [{"spark__deploy__recoveryMode": "FILESYSTEM", "spark__deploy__recoveryDirectory": str(one / "r")} for one in directories]
    with alone(directories[0], **properties[0]) as one, alone(directories[1], **properties[1]) as other:
        for master in (one, other):
            until(lambda master=master: "to=ALIVE" in master.text(), 20)  # type: ignore[misc]
        ports = [re.search(r"url=spark://127.0.0.1:(\d+)", master.text()) for master in (one, other)]
        masters = ",".join(f"127.0.0.1:{found[1]}" for found in ports if found)
        log = tmp_path / "worker.log"
        flags = ["-h", "127.0.0.1", "--webui-port", "0", "-c", "1", "-m", "512m", "-d", str(tmp_path / "work")]
        command = [*SPARKD, "worker", *flags, "--properties-file", str(directories[0] / "worker"), f"spark://{masters}"]
        (directories[0] / "worker").write_text(f"spark.sparkd.secretFile {directories[0] / 'secret'}\n")
        with log.open("wb") as out:
            worker = subprocess.Popen(command, stdout=out, stderr=out, env=environment())
        try:
            until(lambda: "reset-worker" in log.read_text(), 20, "it does not say so")
            assert "event=foreign_cluster" in log.read_text()
            alive = [len(Client([("127.0.0.1", master.rest)], patience_s=5).workers()) for master in (one, other)]
            assert sorted(alive) == [0, 1]
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(15)
