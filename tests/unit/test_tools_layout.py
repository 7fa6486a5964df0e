"""The archive of tools: the same bytes from the same input, and a command that runs from nothing but its own directory."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from module_utils.tools_layout import BundleError, Wheel, pack

PACKAGE = Path(__file__).resolve().parent.parent.parent / "daemons" / "latchkeeper"


def make_wheel(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {"kazoo/__init__.py": "", "kazoo/tests/x.py": "", "kazoo-1.dist-info/METADATA": "", **files}.items():
            archive.writestr(name, content)
    return path


def test_the_same_bytes_and_only_what_is_needed(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "kazoo-1-py3-none-any.whl")
    first, second = pack(PACKAGE, wheel), pack(PACKAGE, wheel)
    assert first == second
    assert first.sha256.startswith(first.name.removeprefix("spark-ha-tools-").removesuffix(".tar"))
    with tarfile.open(fileobj=io.BytesIO(first.content)) as tar:
        names = tar.getnames()
        assert {"bin/latchkeeper", "latchkeeper/__main__.py", "latchkeeper/fence.py", "kazoo/__init__.py"} <= set(names)
        assert not [name for name in names if "tests" in name or "dist-info" in name or "__pycache__" in name]


def test_the_command_runs_isolated(tmp_path: Path) -> None:
    bundle = pack(PACKAGE, make_wheel(tmp_path / "kazoo-1-py3-none-any.whl"))
    with tarfile.open(fileobj=io.BytesIO(bundle.content)) as tar:
        tar.extractall(tmp_path, filter="data")
    command = [sys.executable, "-I", str(tmp_path / "bin" / "latchkeeper")]
    assert "{run,fence,stop,guard,status}" in subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    done = subprocess.run([*command, "--config", "/nonexistent", "status"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "/nonexistent: No such file" in done.stderr


def test_refusals(tmp_path: Path) -> None:
    for name in ("kazoo.zip", "kazoo-1-cp311-cp311-linux_x86_64.whl", "../kazoo-1-py3-none-any.whl"):
        with pytest.raises(BundleError, match="no wheel of pure Python"):
            Wheel(name, "a" * 64)
    with pytest.raises(BundleError, match="no SHA-256"):
        Wheel("kazoo-1-py3-none-any.whl", "a")
    broken = tmp_path / "kazoo-1-py3-none-any.whl"
    broken.write_bytes(b"not a zip")
    with pytest.raises(BundleError, match="is damaged"):
        pack(PACKAGE, broken)
    with pytest.raises(BundleError, match="leads out"):
        pack(PACKAGE, make_wheel(tmp_path / "w.whl", **{"../evil.py": ""}))
    with pytest.raises(BundleError, match="__main__"):
        pack(tmp_path, broken)
