"""`sparkd epoch` and `sparkd reset-worker`: what is done while no master, or no worker, runs."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from sparkd import cli
from sparkd.coordination.counter import Counter
from sparkd.core.values import Epoch
from sparkd.processes import files
from sparkd.processes.keeping import Order, Run

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("SPARK_", "SPARKD_")):
            monkeypatch.delenv(name)


def properties(path: Path, **values: object) -> list[str]:
    path.write_text("".join(f"spark.{name.replace('__', '.')} {value}\n" for name, value in values.items()))
    return ["--properties-file", str(path)]


def shown(argv: list[str], capsys: Captured) -> dict[str, object]:
    capsys.readouterr()
    assert cli.run(["epoch", "show", "--json", *argv]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_a_cluster_moves_and_goes_on_counting(tmp_path: Path, capsys: Captured) -> None:
    old = properties(tmp_path / "old", sparkd__stateDir=tmp_path / "state")
    new = properties(tmp_path / "new", deploy__recoveryMode="FILESYSTEM", deploy__recoveryDirectory=tmp_path / "recovery")
    assert shown(old, capsys) == {"mode": "NONE", "cluster_id": "", "number": 0, "led": False}
    assert not (tmp_path / "state").exists()
    counter = Counter(tmp_path / "state")
    counter.prepare()
    assert counter.lock.acquire()
    epoch = [counter.raise_it() for _ in range(3)][-1]
    assert shown(old, capsys) == {"mode": "NONE", "cluster_id": epoch.cluster_id, "number": 3, "led": True}
    counter.lock.release()
    assert cli.run(["epoch", "carry", "--cluster-id", epoch.cluster_id, "--above", "3", *new]) == 0
    assert "epochs go on above 3" in capsys.readouterr().out
    moved = Counter(tmp_path / "recovery")
    assert moved.lock.acquire()
    assert moved.raise_it() == Epoch(epoch.cluster_id, 4)
    moved.lock.release()


def test_what_must_not_be_carried(tmp_path: Path, capsys: Captured) -> None:
    argv = properties(tmp_path / "file", sparkd__stateDir=tmp_path / "state")
    carry = ["epoch", "carry", *argv, "--above", "9"]
    assert cli.run(["epoch", "carry", *argv]) == 2
    assert cli.run([*carry, "--cluster-id", "a/b"]) == 2
    assert cli.run([*carry, "--cluster-id", "a"]) == 0
    assert cli.run([*carry, "--cluster-id", "b"]) == 1
    assert "belongs to cluster a" in capsys.readouterr().err
    assert cli.run([*carry, "--cluster-id", "b", "--replace"]) == 0
    assert cli.run(["epoch", "carry", *argv, "--above", "5", "--cluster-id", "b"]) == 0
    assert shown(argv, capsys)["number"] == 9  # never back
    counter = Counter(tmp_path / "state")
    assert counter.lock.acquire()
    assert cli.run([*carry, "--cluster-id", "b"]) == 1
    assert "stop all masters first" in capsys.readouterr().err
    counter.lock.release()


def test_zookeeper_that_does_not_answer_is_told(tmp_path: Path, capsys: Captured) -> None:
    argv = properties(tmp_path / "file", deploy__recoveryMode="ZOOKEEPER", deploy__zookeeper__url="127.0.0.1:1")
    assert cli.run(["epoch", "show", *argv, "--patience", "300ms"]) == 1
    assert "does not answer" in capsys.readouterr().err


def _worker_dir(root: Path) -> files.Layout:
    layout = files.Layout(root)
    layout.make()
    files.save_state(layout, files.State("worker-1", Epoch("c1", 7)))
    return layout


def test_a_worker_forgets(tmp_path: Path, capsys: Captured) -> None:
    layout = _worker_dir(tmp_path / "work")
    layout.process("driver-1", 1).mkdir(parents=True)
    (layout.process("driver-1", 1) / "stdout").write_text("kept")
    (layout.runs / "driver-1" / "d1").mkdir(parents=True)
    (layout.runs / "driver-1" / "d1" / "launch.json").write_text("secret")
    lock = files.Lock(layout)
    argv = ["reset-worker", "--work-dir", str(tmp_path / "work")]
    assert cli.run(argv) == 1
    assert "stop it first" in capsys.readouterr().err
    lock.release()
    assert cli.run(argv) == 0
    assert files.load_state(layout) is None
    assert (layout.process("driver-1", 1) / "stdout").read_text() == "kept"
    assert not list((tmp_path / "work").rglob("launch.json"))
    assert cli.run(argv) == 2
    assert "no worker has used it" in capsys.readouterr().err


def test_a_worker_does_not_forget_what_still_runs(tmp_path: Path, capsys: Captured) -> None:
    layout = _worker_dir(tmp_path / "work")
    directory, control = layout.process("driver-1", 1), layout.runs / "driver-1" / "d1" / "1"
    directory.mkdir(parents=True)
    control.mkdir(parents=True)
    run = Run(control)
    order = Order(argv=("/bin/sleep", "60"), environment={}, directory=directory, log_max_bytes=1000, log_keep=1, terminate_timeout_s=1.0)
    assert not asyncio.run(run.start(order))
    argv = ["reset-worker", "--work-dir", str(tmp_path / "work")]
    assert cli.run(argv) == 1
    assert "driver-1/d1 still runs there" in capsys.readouterr().err
    pid = int(json.loads((control / "started.json").read_text())["pid"])
    assert Path(f"/proc/{pid}").exists()
    assert cli.run([*argv, "--end"]) == 0
    assert not Path(f"/proc/{pid}").exists()
