"""sparkd's archives: the lock file, the same bytes from the same input, and a command that runs from nothing but its own directory."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from module_utils import sparkd_tree
from module_utils.sparkd_tree import MACHINES, PYTHONS, Pin, Target, TreeError

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "daemons" / "sparkd"
TARGET = Target("3.11", "x86_64")


def wheel(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_the_lock_file_pins_what_the_package_asks_for() -> None:
    pins = {pin.name: pin for pin in sparkd_tree.parse_lock((PACKAGE / "requirements.lock").read_text())}
    for text in tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]["dependencies"]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(pins[wanted.name].version), f"{wanted}: run scripts/sparkd-lock"
    # One wheel per target where there is compiled code.
    assert len(pins["aiohttp"].digests) == len(PYTHONS) * len(MACHINES)


def test_lock_files_are_read_as_they_are_written() -> None:
    wheels = {"a_b-1.0-py3-none-any.whl": "1" * 64, "c-2-cp311-cp311-x.whl": "2" * 64, "c-2-cp312-cp312-x.whl": "3" * 64}
    text = sparkd_tree.write_lock(wheels, "# head")
    assert sparkd_tree.parse_lock(text) == [Pin("a-b", "1.0", frozenset({"1" * 64})), Pin("c", "2", frozenset({"2" * 64, "3" * 64}))]
    with pytest.raises(TreeError, match="two versions, 1 and 2"):
        sparkd_tree.write_lock({"c-1-x.whl": "1" * 64, "c-2-x.whl": "2" * 64}, "")


@pytest.mark.parametrize(
    "line", ["aiohttp", "aiohttp==1", "aiohttp>=1 --hash=sha256:" + "1" * 64, "aiohttp==1 --hash=md5:12", "-r other.txt"]
)
def test_a_lock_file_without_digests_is_refused(line: str) -> None:
    with pytest.raises(TreeError, match="needs name==version and --hash"):
        sparkd_tree.parse_lock(line)


def test_targets() -> None:
    assert str(Target.parse("3.13-aarch64")) == "3.13-aarch64"
    assert "--python-version=3.11" in TARGET.pip_options() and "--platform=manylinux2014_x86_64" in TARGET.pip_options()
    for wrong in ("3.9-x86_64", "3.11-riscv64", "3.11", ""):
        with pytest.raises(TreeError, match="no pinned wheels"):
            Target.parse(wrong)


def test_only_pinned_wheels_and_all_of_them() -> None:
    pins = [Pin("a", "1", frozenset({"1" * 64})), Pin("b", "2", frozenset({"2" * 64, "3" * 64}))]
    sparkd_tree.check_wheels(TARGET, pins, {"a.whl": "1" * 64, "b.whl": "3" * 64})
    with pytest.raises(TreeError, match=r"damaged: x\.whl"):
        sparkd_tree.check_wheels(TARGET, pins, {"a.whl": "1" * 64, "x.whl": "9" * 64})
    with pytest.raises(TreeError, match=r"no wheel of b for 3\.11-x86_64"):
        sparkd_tree.check_wheels(TARGET, pins, {"a.whl": "1" * 64})


def test_the_same_bytes_and_a_command_that_runs_isolated(tmp_path: Path) -> None:
    code = "import sys, other\ndef entry():\n    print(other.WORD, *sys.argv[1:])\n    return 3\n"
    own = sparkd_tree.wheel_files(
        wheel(
            tmp_path / "sparkd-1-py3-none-any.whl",
            **{
                "sparkd/__init__.py": "",
                "sparkd/cli.py": code,
                "sparkd-1.dist-info/entry_points.txt": "[console_scripts]\nsparkd = sparkd.cli:entry\n",
                "sparkd-1.dist-info/RECORD": "",
            },
        )
    )
    other = sparkd_tree.wheel_files(
        wheel(tmp_path / "other-1-py3-none-any.whl", **{"other.py": "WORD = 'hello'\n", "other/tests/x.py": ""})
    )
    entry = sparkd_tree.entry_point(own, "sparkd")
    tree = sparkd_tree.pack(TARGET, "1", entry, [own, other], sys.executable)
    assert tree == sparkd_tree.pack(TARGET, "1", entry, [other, own], sys.executable)
    assert tree.sha256 == hashlib.sha256(tree.content).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(tree.content)) as tar:
        assert not [name for name in tar.getnames() if "RECORD" in name or "tests" in name]
        tar.extractall(tmp_path / "tree", filter="data")
    command = tmp_path / "tree" / "bin" / "sparkd"
    done = subprocess.run([str(command), "world"], capture_output=True, text=True, check=False, env={"PYTHONPATH": "/nonexistent"})
    assert (done.returncode, done.stdout) == (3, "hello world\n"), done.stderr


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(TreeError, match=r"two wheels bring a\.py"):
        sparkd_tree.pack(TARGET, "1", ("a", "b"), [{"a.py": b"1"}, {"a.py": b"2"}], "/usr/bin/python3")
    with pytest.raises(TreeError, match="no command sparkd"):
        sparkd_tree.entry_point({"x.dist-info/entry_points.txt": b"[console_scripts]\nother = a:b\n"}, "sparkd")
    with pytest.raises(TreeError, match="leads out"):
        sparkd_tree.wheel_files(wheel(tmp_path / "w.whl", **{"../evil.py": ""}))
    (tmp_path / "broken.whl").write_bytes(b"no zip")
    with pytest.raises(TreeError, match="is damaged"):
        sparkd_tree.wheel_files(tmp_path / "broken.whl")
    with pytest.raises(TreeError, match=r"leaves out new/thing\.py"):
        sparkd_tree.check_complete({"new/thing.py": b"", "README": b""}, {"sparkd/cli.py": b""}, "sparkd")


def test_the_package_names_all_of_its_own_packages() -> None:
    """A directory that pyproject.toml forgets would be missing on the hosts."""
    listed = set(tomllib.loads((PACKAGE / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    there = {".".join(("sparkd", *path.parent.relative_to(PACKAGE).parts)) for path in PACKAGE.rglob("__init__.py")}
    assert listed == {name for name in there if "egg-info" not in name}


def test_source_files_leave_out_what_builds_leave(tmp_path: Path) -> None:
    for name in ("a.py", "core/b.py", "core/__pycache__/b.pyc", "build/lib/a.py", "x.egg-info/PKG-INFO", ".hidden"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = sparkd_tree.source_files(tmp_path)
    assert list(found) == ["a.py", "core/b.py"]
    assert sparkd_tree.source_digest(found) != sparkd_tree.source_digest({**found, "a.py": b"other"})
