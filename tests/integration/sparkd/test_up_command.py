"""`sparkd up` and `sparkd demo` as a person runs them; tokens and the proxy; a full disk. On a recovery directory: quick, without Java."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from missing import missing
from up_world import Judge, Traces, Word, lives, until

from sparkd import up_child
from sparkd.client import Client, ClientError, Refused, Token, request
from sparkd.up import LocalCluster, free_ports

SPARKD = [sys.executable, "-m", "sparkd.cli"]
QUICK = ["--recovery", "filesystem", "--workers", "1"]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "SPARKD_"))}


@contextmanager
def up(directory: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Run the command until it says that it is up; yield it and what it printed."""
    out = directory / "out"
    with out.open("w") as file:
        command = [*SPARKD, "up", "--dir", str(directory / "cluster"), "--base-port", str(_base(20)), *flags]
        process = subprocess.Popen(command, stdout=file, stderr=file, text=True, env=environment(), start_new_session=True)
        try:
            until(lambda: "Ctrl-C ends all of it" in out.read_text() or process.poll() is not None, 60)
            assert process.poll() is None, out.read_text()
            yield process, out
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(30)


def _base(count: int) -> int:
    """Return where so many ports in a row are free."""
    while True:
        ports = sorted(free_ports(count))
        if ports[-1] - ports[0] == count - 1:
            return ports[0]


def everything(directory: Path) -> list[int]:
    """Return the PIDs of all that has the cluster's mark."""
    wanted = f"{up_child.MARK}={directory}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and wanted in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_the_judge_sees_two_leaders() -> None:
    judge = Judge.__new__(Judge)
    judge.words = [Word("a", "ALIVE", 1, 0.0, 0.1), Word("b", "ALIVE", 2, 0.2, 0.3), Word("a", "ALIVE", 1, 0.25, 0.4)]
    assert judge.two_leaders() == []  # asked before the other had answered: it may have been true then
    judge.words.append(Word("a", "ALIVE", 1, 0.31, 0.5))
    assert len(judge.two_leaders()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_all_of_it(tmp_path: Path, number: signal.Signals) -> None:
    traces = Traces(tmp_path / "traces")
    with up(tmp_path, *QUICK) as (process, out):
        described = json.loads((tmp_path / "cluster" / "cluster.json").read_text())
        client = Client([tuple(address.rsplit(":", 1)) for address in described["rest"]], patience_s=20)
        script = traces.command("away", "cd /; setsid sleep 600")
        client.submit({"kind": "command", "argv": script, "memory_mb": 64}, "r1")
        until(lambda: traces.pids("away"))
        running = everything(tmp_path / "cluster")
        assert len(running) >= 4  # two masters, a worker, the driver
        process.send_signal(number)
        assert process.wait(20) == 0
        assert not [pid for pid in running if lives(pid)]
        assert everything(tmp_path / "cluster") == []
    assert "all of it has ended" in out.read_text()
    assert "Traceback" not in out.read_text()


def test_a_killed_up_leaves_nothing_either(tmp_path: Path) -> None:
    with up(tmp_path, *QUICK) as (process, _):
        assert everything(tmp_path / "cluster")
        process.kill()
        process.wait(10)
        until(lambda: not everything(tmp_path / "cluster"), 20, "the guard does not end it")


def test_who_leads_is_told_and_a_killed_leader_is_followed(tmp_path: Path) -> None:
    with up(tmp_path, *QUICK) as (_, out):
        path = tmp_path / "cluster" / "cluster.json"

        def leader() -> int:
            done = subprocess.run([*SPARKD, "state", "--leader-pid", str(path)], capture_output=True, text=True, timeout=30, check=False)
            return int(done.stdout) if done.returncode == 0 else 0

        first = leader()
        assert first
        os.kill(first, signal.SIGKILL)
        second = until(leader, 30)
        assert second != first
        until(lambda: re.search(r"master-\d ended \(SIGKILL\); starting it again", out.read_text()))
        until(lambda: len(re.findall(r"master-\d leads", out.read_text())) >= 2)
        until(lambda: all(master["pid"] not in (0, first) for master in json.loads(path.read_text())["masters"]))


def test_the_same_directory_goes_on(tmp_path: Path) -> None:
    drivers = []
    for number in range(2):
        with up(tmp_path, *QUICK, "--masters", "1"):
            described = json.loads((tmp_path / "cluster" / "cluster.json").read_text())
            client = Client([("127.0.0.1", int(described["rest"][0].split(":")[1]))], patience_s=20)
            drivers.append(client.submit({"kind": "command", "argv": ["true"], "memory_mb": 64}, f"r{number}"))
            assert sorted(row["id"] for row in client.drivers()) == drivers
            until(lambda client=client: all(row["state"] == "FINISHED" for row in client.drivers()))  # type: ignore[misc]


def test_a_port_that_is_taken_is_told_before_anything_starts(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [*SPARKD, "up", *QUICK, "--dir", str(tmp_path / "cluster"), "--base-port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=environment())
    assert done.returncode == 2
    assert str(port) in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "cluster").exists()


def test_a_key_that_masters_refuse_ends_it_with_their_words(tmp_path: Path) -> None:
    command = [*SPARKD, "up", *QUICK, "--dir", str(tmp_path / "cluster"), "--conf", "spark.deploy.maxDrivers=many"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment())
    assert done.returncode == 1
    assert "spark.deploy.maxDrivers = 'many'" in done.stderr
    assert "Traceback" not in done.stderr
    assert everything(tmp_path / "cluster") == []


def test_the_demo_shows_a_failover() -> None:
    began = time.monotonic()
    command = [*SPARKD, "demo", "--recovery", "filesystem"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.search(r"kill -9 \d+, the leader", done.stdout)
    assert re.search(r"leads and took driver-\S+ \d+\.\d+ s after the kill", done.stdout)
    assert lines[-1].startswith("Next: ")
    assert time.monotonic() - began < 100


def test_tokens_and_the_proxy(tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "cluster", masters=2, workers=1, recovery="filesystem", tokens=True) as cluster:
        with pytest.raises(Refused) as refused:
            Client(cluster.rest, patience_s=5).drivers()
        assert refused.value.status == 401
        assert cluster.client().drivers() == []
        port = free_ports(1)[0]
        rest = ",".join(f"{host}:{number}" for host, number in cluster.rest)
        flags = ["--listen", f"127.0.0.1:{port}", "--masters", rest, "--token-file", str(cluster.token_key_file)]
        proxy = subprocess.Popen([*SPARKD, "proxy", *flags], stderr=subprocess.PIPE, text=True, env=environment())
        try:
            assert proxy.stderr is not None
            assert proxy.stderr.readline().startswith(f"listening on 127.0.0.1:{port}")
            body = {
                "action": "CreateSubmissionRequest",
                "appResource": "/a.jar",
                "mainClass": "x",
                "appArgs": [],
                "clientSparkVersion": "4.3.0",
                "environmentVariables": {},
                "sparkProperties": {"spark.app.name": "x", "spark.driver.memory": "64m"},
            }
            for _ in range(2):
                answer = request(("127.0.0.1", port), "POST", "/v1/submissions/create", body, timeout_s=60)
                assert answer.body.get("success") is True, answer
                leader = cluster.leader()
                pid = cluster.child(leader).pid
                cluster.kill(leader)
                until(lambda pid=pid: not lives(pid))  # type: ignore[misc]
        finally:
            proxy.terminate()
            assert proxy.wait(10) == 0
            assert proxy.stderr is not None
            proxy.stderr.close()
        assert len(cluster.client().drivers()) == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "sparkd-test", str(place)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        missing(f"no small disk can be mounted: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_refuses_and_forgets_nothing(tmp_path: Path, small_disk: Path) -> None:
    properties = {"spark.deploy.recoveryDirectory": str(small_disk / "recovery")}
    cluster = LocalCluster(tmp_path / "cluster", masters=1, workers=1, recovery="filesystem", properties=properties)
    traces = Traces(tmp_path / "traces")
    with cluster:
        first = cluster.submit(*traces.command("first"))
        cluster.wait_driver(first, "FINISHED")
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(b"x" * 4096)
        taken = [first]
        with pytest.raises(ClientError):
            for number in range(1000):  # what fits beside the filler is taken
                taken.append(cluster.submit(*traces.command(f"more{number}"), request_id=f"more{number}", patience_s=1.0))
        filler.unlink()
        last = cluster.submit(*traces.command("last"))
        cluster.wait_driver(last, "FINISHED")
        cluster.kill("master-1")
        until(lambda: cluster.child("master-1").starts == 2)
        cluster.wait_alive(30)
        kept = {row["id"]: row["state"] for row in cluster.client().drivers()}
        assert {*taken, last} <= set(kept)
    assert traces.starts("last") == ["last"]
    assert len(traces.starts()) == len(set(traces.starts()))


def test_a_token_is_needed_by_nobody_on_a_cluster_without(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, masters=1, workers=0, recovery="none") as cluster:
        assert Client(cluster.rest, Token(key=bytes(32)), patience_s=5).drivers() == []
