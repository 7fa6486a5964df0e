"""The command line against real servers: what it prints, its exit codes, and never a traceback."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_masters import Masters
from http_faces import WORKER, report

from sparkd import cli
from sparkd.core.events import WorkerRegistered

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(("SPARK_", "SPARKD_")):
            monkeypatch.delenv(name)


def test_a_driver_id_comes_alone_on_stdout(capsys: Captured) -> None:
    with Masters(2) as masters:
        masters.lead(1)
        argv = ["submit", "--masters", masters.text, "--name", "n", "--cores", "2", "--memory", "1g", "--supervise"]
        assert cli.run([*argv, "--env", "A=1", "--conf", "spark.x=y=z", "--request-id", "r", "--", "sh", "-c", "exit 0", "--wait"]) == 0
        out = capsys.readouterr().out
        assert re.fullmatch(r"driver-\d{14}-\d{4}\n", out)
        description, request_id = masters[1].submitted[0]
    assert request_id == "r"
    assert description.argv == ("sh", "-c", "exit 0", "--wait")
    assert (description.kind, description.name, description.cores, description.memory_mb) == ("command", "n", 2, 1024)
    assert (description.supervise, description.environment, description.properties) == (True, {"A": "1"}, {"spark.x": "y=z"})


def test_jars_and_programs(capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.py").write_text("")
    with Masters(1) as masters:
        base = ["submit", "--masters", masters.text, "--json"]
        assert cli.run([*base, "--py", "job.py", "--", "--year", "2024"]) == 0
        assert cli.run([*base, "--jar", "hdfs:///a.jar", "--class", "org.example.Main"]) == 0
        program, jar = (description for description, _ in masters[0].submitted)
    assert (program.kind, program.resource, program.name, program.arguments) == (
        *("python", str(tmp_path / "job.py"), "job.py"),
        ("--year", "2024"),
    )
    assert (jar.kind, jar.resource, jar.main_class, jar.name) == ("jvm", "hdfs:///a.jar", "org.example.Main", "org.example.Main")
    assert (program.properties["spark.app.name"], jar.properties["spark.app.name"]) == ("job.py", "org.example.Main")
    first = json.loads(capsys.readouterr().out.split("}")[0] + "}")
    assert set(first) == {"id", "request_id"}


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], "nothing to run"),
        (["--jar", "a.jar"], "--jar: needs --class"),
        (["--class", "X", "--", "x"], "--class: needs --jar"),
        (["--jar", "a", "--class", "X", "--py", "b"], "give one of them"),
        (["--memory", "1", "--", "x"], "--memory '1': at least 1m"),
        (["--memory", "much", "--", "x"], "--memory 'much'"),
        (["--cores", "0", "--", "x"], "--cores"),
        (["--env", "=x", "--", "x"], "NAME=VALUE"),
        (["--env", "NOT_SET_HERE", "--", "x"], "give NOT_SET_HERE=VALUE"),
        (["--conf", "a", "--", "x"], "--conf a"),
        (["--nonsense", "--", "x"], "--nonsense"),
        (["stray", "--", "x"], "stray"),
        (["--masters", "h1:x", "--", "x"], "'h1:x' is no host:port"),
        (["--token-file", "/nonexistent", "--", "x"], "--token-file: /nonexistent cannot be read"),
        (["--patience", "soon", "--", "x"], "--patience"),
    ],
)
def test_what_is_asked_wrongly_ends_with_2_and_one_line(argv: list[str], told: str, capsys: Captured) -> None:
    assert cli.run(["submit", *argv]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("sparkd submit: ")
    assert err.count("\n") == 1
    assert told in err


def test_what_fails_ends_with_1_and_one_line(capsys: Captured) -> None:
    with Masters(1) as masters:
        for argv in (["status", "driver-1"], ["kill", "driver-1"], ["explain", "driver-1"]):
            assert cli.run([*argv, "--masters", masters.text]) == 1
            captured = capsys.readouterr()
            assert "driver-1" in captured.out + captured.err
            assert (captured.out + captured.err).count("\n") == 1
        masters.lead(None)
        assert cli.run(["list", "--masters", masters.text, "--patience", "0s"]) == 1
        assert "no leader" in capsys.readouterr().err


def test_waiting_ends_as_the_driver_ends(capsys: Captured) -> None:
    import threading

    with Masters(1) as masters:
        masters[0].tell(WorkerRegistered(WORKER))
        for state, code, seq in (("FINISHED", 0, 1), ("FAILED", 1, 2)):

            def end(state: str = state, seq: int = seq) -> None:
                driver = next(iter(masters[0].core.json_state()["activedrivers"]))["id"]  # type: ignore[call-overload]
                masters[0].tell(report(driver, state, seq, exit_code=seq - 1))

            threading.Timer(0.3, end).start()
            assert cli.run(["submit", "--masters", masters.text, "--memory", "64m", "--wait", "--", "true"]) == code
            out, err = capsys.readouterr()
            assert err.splitlines()[0] == f"{out.strip()} RUNNING"
            assert f"{out.strip()} {state}" in err


def test_tables(capsys: Captured) -> None:
    with Masters(1) as masters:
        argv = ["--masters", masters.text]
        assert cli.run(["list", *argv]) == 0
        assert capsys.readouterr().out == "no workers\n\nno drivers\n\nno applications\n"
        masters[0].tell(WorkerRegistered(WORKER))
        assert cli.run(["submit", *argv, "--memory", "64m", "--name", "evil\x1b[2J\nname", "--", "true"]) == 0
        driver = capsys.readouterr().out.strip()
        assert cli.run(["list", *argv]) == 0
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert re.search(rf"^{WORKER.id}\s+ALIVE\s+3\s+1\s+3072\s+64\s+http://127\.0\.0\.1:1$", out, re.MULTILINE)
        assert re.search(rf"^{driver}\s+evil\?\[2J\?name\s+RUNNING\s+{WORKER.id}", out, re.MULTILINE)
        assert cli.run(["list", "drivers", "--json", "--state", "running", *argv]) == 0
        assert [row["id"] for row in json.loads(capsys.readouterr().out)] == [driver]
        assert cli.run(["list", "drivers", "--json", "--state", "FINISHED", *argv]) == 0
        assert json.loads(capsys.readouterr().out) == []
        assert cli.run(["status", driver, "--json", *argv]) == 0
        assert json.loads(capsys.readouterr().out)["state"] == "RUNNING"
        assert cli.run(["status", driver, *argv]) == 0
        assert re.search(r"^state\s+RUNNING$", capsys.readouterr().out, re.MULTILINE)
        assert cli.run(["explain", driver, *argv]) == 0
        assert capsys.readouterr().out
        assert cli.run(["kill", driver, "driver-none", *argv]) == 1
        assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [driver, "driver-none"]


def test_state_needs_no_leader(capsys: Captured) -> None:
    with Masters(2) as masters:
        masters[0].tell(WorkerRegistered(WORKER))
        assert cli.run(["state", "--masters", masters.text]) == 0
        out = capsys.readouterr().out
        assert re.search(rf"^cores +0 of {WORKER.cores} used$", out, re.MULTILINE)
        assert re.search(rf"^memory +0 of {WORKER.memory_mb} MiB used$", out, re.MULTILINE)
        assert re.search(rf"^{masters.text.split(',')[0]}\s+ALIVE\s+7", out, re.MULTILINE)
        assert re.search(rf"^{masters.text.split(',')[1]}\s+STANDBY", out, re.MULTILINE)
        masters.lead(None)
        assert cli.run(["state", "--masters", masters.text + ",127.0.0.1:1"]) == 0
        assert "no master says ALIVE" in capsys.readouterr().out
        assert cli.run(["state", "--masters", masters.text, "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)) == 2
    assert cli.run(["state", "--masters", "127.0.0.1:1"]) == 1


def test_the_command_itself(capsys: Captured) -> None:
    assert cli.run([]) == 2
    assert cli.run(["--help"]) == 0
    assert "sparkd COMMAND --help" in capsys.readouterr().out
    assert cli.run(["frobnicate"]) == 2
    assert "no such command; there are master, worker" in capsys.readouterr().err
    assert cli.run(["--version"]) == 0


@pytest.mark.parametrize("name", [name for name in cli.COMMANDS if name not in ("fence",)])
def test_every_command_has_help(name: str, capsys: Captured) -> None:
    try:
        code: object = cli.run([name, "--help"])
    except SystemExit as end:
        code = end.code
    assert code == 0
    assert capsys.readouterr().out.startswith(f"usage: sparkd {name}")


@pytest.mark.parametrize("name", ["master", "worker"])
def test_daemons_do_not_start_misconfigured(name: str, capsys: Captured) -> None:
    assert cli.run([name, "-p", "seven", "--webui-port", "x"]) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[0].startswith(f"sparkd {name}: SPARK_{name.upper()}_PORT = 'seven' (from flag -p)")
    assert all(line.startswith(f"sparkd {name}: ") for line in err)
    assert len(err) >= 2


def test_an_unforeseen_error_is_one_line(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.COMMANDS, "broken", ("no_such_module", "run", ""))
    assert cli.run(["broken"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_asking_imports_neither_asyncio_nor_aiohttp_nor_kazoo() -> None:
    """A daemon is ready within a second, and a question is asked in less: whatever is imported is paid for."""
    code = "import sys; from sparkd import cli; assert cli.run(['list', '--masters', '127.0.0.1:1', '--patience', '0s']) == 1; "
    code += "print([name for name in ('asyncio', 'aiohttp', 'kazoo', 'jinja2') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_reading_configuration_imports_no_server() -> None:
    code = "import sys; from sparkd import config; config.load_master(['-h', '127.0.0.1'], {}); "
    code += "print([name for name in ('asyncio', 'aiohttp', 'kazoo', 'jinja2', 'http.client') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
