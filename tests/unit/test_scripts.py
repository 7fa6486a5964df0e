"""The commands around everything: scripts/stage, scripts/bootstrap, the Makefile's order."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **(env or {})}, check=False)


def test_stage_prints_name_and_time(tmp_path: Path) -> None:
    result = run(str(ROOT / "scripts/stage"), "Lab hosts", "echo", "working", cwd=tmp_path)
    assert result.returncode == 0
    first, second, last = result.stdout.splitlines()
    assert (first, second) == ("==> Lab hosts", "working")
    assert last.startswith("==> Lab hosts: ")
    assert last.endswith(" s")
    assert "Lab hosts\t" in (tmp_path / ".cache/stages.tsv").read_text()


def test_stage_fails_as_its_command_does(tmp_path: Path) -> None:
    result = run(str(ROOT / "scripts/stage"), "Broken", "sh", "-c", "exit 7", cwd=tmp_path)
    assert result.returncode == 7
    assert "==> Broken failed after" in result.stderr


def test_a_quiet_stage_leaves_its_command_the_last_word(tmp_path: Path) -> None:
    result = run(str(ROOT / "scripts/stage"), "Tests-", "echo", "1 passed", cwd=tmp_path)
    assert result.stdout.splitlines() == ["==> Tests", "1 passed"]


def test_no_colours_without_a_terminal(tmp_path: Path) -> None:
    result = run(str(ROOT / "scripts/stage"), "Broken", "false", cwd=tmp_path)
    assert "\033" not in result.stdout + result.stderr


def test_bootstrap_names_an_old_python(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\ncase $1 in --version) echo "Python 3.9.2";; *) exit 1;; esac\n')
    old.chmod(0o755)
    result = run(str(ROOT / "scripts/bootstrap"), env={"SPARK_HA_PYTHON": str(old)})
    assert result.returncode == 1
    assert "Python 3.9.2 is too old: 3.11 or newer is needed" in result.stderr


def test_bootstrap_refuses_an_unknown_option() -> None:
    assert run(str(ROOT / "scripts/bootstrap"), "--wrong").returncode == 2


def test_pytest_has_the_last_word_of_make_test() -> None:
    result = run("make", "--dry-run", "test", cwd=ROOT)
    assert result.returncode == 0, result.stderr
    stages = [line for line in result.stdout.splitlines() if line.startswith("scripts/stage")]
    assert "tests/integration" in stages[-1]
    assert stages[-1].split('"')[1].endswith("-")
    assert result.stdout.splitlines()[-1] == stages[-1]
    assert any("yamllint" in line for line in stages[:3])


@pytest.mark.parametrize("script", sorted(p.name for p in (ROOT / "scripts").iterdir() if p.is_file()))
def test_scripts_are_executable_and_parse(script: str) -> None:
    path = ROOT / "scripts" / script
    assert os.access(path, os.X_OK)
    if path.read_text().startswith("#!/bin/sh"):
        result = run("sh", "-n", str(path))
        assert result.returncode == 0, result.stderr
