"""Parts of `sparkd up`: processes that are kept running and always end, ports, where ZooKeeper comes from."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sparkd import cli, up, up_child, up_shape, up_zookeeper
from sparkd.up import LocalCluster, Ports, Shape, UpError
from sparkd.up_child import Child


@pytest.fixture
def mark() -> Iterator[str]:
    """A mark of its own; whatever still carries it at the end is a failure, and is ended."""
    name = f"test-{os.getpid()}-{time.monotonic_ns()}"
    yield name
    assert up_child.sweep(name) == 0


def until(what: Callable[[], object], timeout_s: float = 10.0) -> None:
    end = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.01)


def child(tmp_path: Path, mark: str, script: str, **more: object) -> tuple[Child, list[str]]:
    told: list[str] = []
    made = Child("one", ["/bin/sh", "-c", script], tmp_path, {**os.environ, up_child.MARK: mark}, told.append, **more)  # type: ignore[arg-type]
    return made, told


def test_a_process_that_is_killed_is_started_again_after_its_fence(tmp_path: Path, mark: str) -> None:
    deaths: list[int] = []
    one, told = child(tmp_path, mark, "exec sleep 60", on_death=lambda _, code: deaths.append(code))
    one.start()
    first = one.pid
    one.kill()
    until(lambda: one.starts == 2)
    assert one.pid not in (0, first)
    assert deaths == [-signal.SIGKILL]
    assert "SIGKILL" in told[0]
    assert one.stop()
    assert not one.running
    assert len(deaths) == 2
    assert len(told) == 1


def test_a_process_that_is_stopped_stays_so_until_it_is_started(tmp_path: Path, mark: str) -> None:
    one, _ = child(tmp_path, mark, "exec sleep 60")
    one.start()
    one.kill(restart=False)
    assert not one.running
    with pytest.raises(ProcessLookupError):
        one.signal(signal.SIGSTOP)
    one.start()
    assert one.running
    assert one.starts == 2
    one.signal(signal.SIGSTOP)
    assert one.stop()  # a paused one too


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path, mark: str) -> None:
    one, _ = child(tmp_path, mark, "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    one.start()
    until(lambda: "ready" in one.tail())
    assert one.stop(0.2) is False
    assert not one.running
    until(lambda: not list(up_child.marked(mark)))


def test_a_misconfigured_process_is_not_started_again(tmp_path: Path, mark: str) -> None:
    one, told = child(tmp_path, mark, "echo 'a.key = 1: no'; exit 2")
    one.start()
    until(lambda: one.refused)
    assert (one.starts, told, one.tail()) == (1, [], "a.key = 1: no")


def test_a_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    one = Child("one", ["/nonexistent"], tmp_path, {}, print)
    with pytest.raises(FileNotFoundError):
        one.start()
    assert one.wait(0.1)


def test_everything_marked_is_swept_and_nothing_else(tmp_path: Path, mark: str) -> None:
    """A driver that left its session, its directory and its parent is still found."""
    other = subprocess.Popen(["sleep", "60"], env={up_child.MARK: mark + "x"})
    script = "cd / && setsid sh -c 'sleep 60 & sleep 60' >/dev/null 2>&1 & echo done"
    subprocess.run(["/bin/sh", "-c", script], env={"PATH": "/usr/bin:/bin", up_child.MARK: mark}, check=True, timeout=10)
    until(lambda: len(list(up_child.marked(mark))) >= 3)
    assert up_child.sweep(mark) >= 3
    assert not list(up_child.marked(mark))
    assert other.poll() is None
    other.kill()
    other.wait()


def test_the_guard_ends_what_a_killed_cluster_left(tmp_path: Path, mark: str) -> None:
    script = (
        "import os, subprocess, sys, time\nfrom sparkd import up_child\n"
        f"up_child.guard({mark!r})\nsubprocess.Popen(['sleep', '60'], env={{**os.environ, up_child.MARK: {mark!r}}})\n"
        "print('started', flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as cluster:
        assert cluster.stdout is not None
        assert cluster.stdout.readline() == b"started\n"
        until(lambda: list(up_child.marked(mark)))
        cluster.kill()
    until(lambda: not list(up_child.marked(mark)))


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        (Shape(recovery="none"), "each would lead"),
        (Shape(masters=0), "at least one master"),
        (Shape(zookeeper=0), "--zookeeper 0"),
    ],
)
def test_shapes_that_cannot_be(shape: Shape, told: str) -> None:
    with pytest.raises(UpError, match=told):
        shape.check()


def test_ports_from_a_base_on() -> None:
    shape = Shape(masters=2, workers=1, zookeeper=3)
    base = min(up.free_ports(1)[0], 60000)
    while not all(up.is_free(base + step) for step in range(17)):
        base = up.free_ports(1)[0]
    ports = Ports(shape, base)
    found = [number for group in ports.zookeeper for number in group]
    found += [number for master in ports.masters for number in (master.port, master.rest, master.web)]
    found += [number for worker in ports.workers for number in (worker.port, worker.web)]
    assert found == list(range(base, base + 17))
    with socket.create_server(("127.0.0.1", base + 3)), pytest.raises(UpError, match=f"{base + 3} of the 17 ports"):
        Ports(shape, base)
    with pytest.raises(UpError, match="from 1024 to"):
        Ports(shape, 65530)


def test_usual_ports_yield_when_one_is_taken() -> None:
    shape = Shape(masters=1, workers=0, recovery="none")
    try:
        blocker = socket.create_server(("127.0.0.1", 7077))
    except OSError:
        blocker = None  # somebody else's, so it is taken all the same
    try:
        ports = Ports(shape, usual=True)
        assert ports.moved
        assert ports.masters[0].port != 7077
    finally:
        if blocker:
            blocker.close()


def test_free_ports_are_free_and_differ() -> None:
    ports = up.free_ports(20)
    assert len(set(ports)) == 20
    assert all(up_shape.PORTS[0] <= port < up_shape.PORTS[1] for port in ports)


def test_zookeeper_is_found_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up_zookeeper, "DISTRIBUTION", tmp_path / "java")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    environ = {"HOME": str(tmp_path)}
    with pytest.raises(up_zookeeper.Lacking, match=r"SPARK_HOME.*pip install pyspark.*--recovery filesystem"):
        up_zookeeper.class_path(environ, tmp_path / "scratch")
    (tmp_path / "java").mkdir()
    (tmp_path / "java" / "zookeeper.jar").touch()
    (tmp_path / "java" / "slf4j-api.jar").touch()
    (tmp_path / "java" / "unrelated.jar").touch()
    found = up_zookeeper.class_path(environ, tmp_path / "scratch")
    assert [Path(jar).name for jar in found] == ["zookeeper.jar", "slf4j-api.jar"]
    cache = tmp_path / ".cache" / "spark-ha"
    cache.mkdir(parents=True)
    with tarfile.open(cache / "zookeeper-3.9.5-spark-4.3.0.tar", "w") as tar:
        (tmp_path / "jar").touch()
        tar.add(tmp_path / "jar", "lib/zookeeper-3.9.5.jar")
    assert up_zookeeper.class_path(environ, tmp_path / "scratch") == [f"{tmp_path}/scratch/lib/*"]
    (tmp_path / "spark" / "jars").mkdir(parents=True)
    (tmp_path / "spark" / "jars" / "zookeeper-3.6.3.jar").touch()
    spark = {**environ, "SPARK_HOME": str(tmp_path / "spark")}
    assert up_zookeeper.class_path(spark, tmp_path / "scratch") == [f"{tmp_path}/spark/jars/*"]


def test_java_is_found_or_told(tmp_path: Path) -> None:
    with pytest.raises(up_zookeeper.Lacking, match="default-jre-headless"):
        up_zookeeper.java({"PATH": str(tmp_path)})
    with pytest.raises(up_zookeeper.Lacking, match="JAVA_HOME is"):
        up_zookeeper.java({"JAVA_HOME": str(tmp_path)})
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").touch(mode=0o755)
    assert up_zookeeper.java({"JAVA_HOME": str(tmp_path)}) == str(tmp_path / "bin" / "java")


def test_a_server_that_is_not_there_is_down() -> None:
    assert up_zookeeper.mode(up.free_ports(1)[0]) == "down"


def test_what_is_written_about_a_cluster(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path / "dir", masters=2, workers=1, recovery="filesystem", tokens=True)
    cluster._prepare()
    cluster._make()
    cluster.write_description()
    described = json.loads((tmp_path / "dir" / "cluster.json").read_text())
    assert [master["name"] for master in described["masters"]] == ["master-1", "master-2"]
    assert all(process["pid"] == 0 for process in [*described["masters"], *described["workers"]])
    text = json.dumps(described)
    for name in ("secret_file", "token_key_file"):
        path = Path(described[name])
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_text().strip() not in text
    for conf in (tmp_path / "dir").glob("*/conf/spark-defaults.conf"):
        assert conf.stat().st_mode & 0o777 == 0o600
    from sparkd.config import load_master, load_worker

    master, worker = cluster.children["master-1"], cluster.children["worker-1"]
    settings = load_master(master.command[4:], {"SPARK_CONF_DIR": str(tmp_path / "dir" / "master-1" / "conf")})
    assert (settings.recovery.mode, settings.recovery.directory) == ("FILESYSTEM", tmp_path / "dir" / "recovery")
    assert settings.rest.token_key
    found = load_worker(worker.command[4:], {"SPARK_CONF_DIR": str(tmp_path / "dir" / "worker-1" / "conf")})
    assert found.cluster_secret == settings.cluster_secret
    assert len(found.masters) == 2


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--recovery", "none", "--masters", "2"], "each would lead"),
        (["--recovery", "filesystem", "--zookeeper", "3"], "give one of them"),
        (["--masters", "0"], "--masters"),
        (["--worker-memory", "2"], "--worker-memory"),
        (["--conf", "x"], "KEY=VALUE"),
        (["--base-port", "80"], "--base-port"),
    ],
)
def test_what_up_does_not_start(argv: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["up", *argv]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
