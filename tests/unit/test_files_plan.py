"""Directories, files and links in one call."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import files_plan

ME = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}


def run(entries: list[dict[str, Any]], check: bool = False) -> files_plan.Outcome:
    return files_plan.apply([files_plan.wanted_from({**ME, **entry}) for entry in entries], check)


def names(outcome: files_plan.Outcome) -> list[str]:
    return [Path(path).name for path in outcome.changed]


def test_everything_once_then_nothing(tmp_path: Path) -> None:
    entries = [
        {"path": f"{tmp_path}/etc", "state": "directory", "mode": "0750"},
        {"path": f"{tmp_path}/etc/workers", "content": "h1\n"},
        {"path": f"{tmp_path}/etc/slaves", "state": "link", "target": "workers"},
        {"path": f"{tmp_path}/old", "state": "absent"},
    ]
    (tmp_path / "old").mkdir()
    assert names(run(entries, check=True)) == ["etc", "workers", "slaves", "old"]
    assert not (tmp_path / "etc").exists()
    assert names(run(entries)) == ["etc", "workers", "slaves", "old"]
    assert (tmp_path / "etc/slaves").read_text() == "h1\n"
    assert (tmp_path / "etc").stat().st_mode & 0o777 == 0o750
    assert names(run(entries)) == []
    assert names(run(entries, check=True)) == []


def test_only_a_mode_that_differs_is_set_and_shown(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").chmod(0o666)
    outcome = run([{"path": f"{tmp_path}/a", "content": "x", "mode": "0640"}])
    assert outcome.diff[0]["after"].endswith(" 0640\n")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_file_that_its_check_refuses_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "sudoers"
    path.write_text("good\n")
    with pytest.raises(files_plan.PlanError, match="was not written: 'grep -q good %s' refuses it"):
        run([{"path": str(path), "content": "bad\n", "validate": "grep -q good %s"}])
    assert [entry.name for entry in tmp_path.iterdir()] == ["sudoers"]
    assert path.read_text() == "good\n"


def test_secrets_are_in_no_diff(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("KEY=old-secret\n")
    outcome = run([{"path": f"{tmp_path}/env", "secret_content": "KEY=new-secret\n", "mode": "0640"}])
    assert "secret\n" not in str(outcome.diff)
    assert "new-secret" not in str(outcome.diff)
    assert (tmp_path / "env").read_text() == "KEY=new-secret\n"


def test_a_link_replaces_a_file_or_a_link_but_never_a_directory(tmp_path: Path) -> None:
    (tmp_path / "start-all.sh").write_text("Apache's")
    entry = {"path": f"{tmp_path}/start-all.sh", "state": "link", "target": "spark-service.sh"}
    assert run([entry]).diff[0]["before"] == "file\n"
    assert run([{**entry, "target": "other"}]).diff[0]["before"] == "link spark-service.sh\n"
    (tmp_path / "conf").mkdir()
    with pytest.raises(files_plan.PlanError, match="is a directory, but a link"):
        run([{"path": f"{tmp_path}/conf", "state": "link", "target": "/etc/spark"}])


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"path": "relative"}, "not an absolute path"),
        ({"path": "/x"}, "neither content nor secret_content"),
        ({"path": "/x", "state": "link"}, "no target"),
        ({"path": "/x", "content": "", "mode": "rw"}, "is not octal"),
    ],
)
def test_what_is_missing_is_named(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(files_plan.PlanError, match=words):
        files_plan.wanted_from(entry)


def test_an_unknown_owner_is_an_error_but_not_in_check_mode(tmp_path: Path) -> None:
    entry = {"path": f"{tmp_path}/a", "content": "x", "owner": "no-such-user"}
    assert names(run([entry], check=True)) == ["a"]
    with pytest.raises(files_plan.PlanError, match="no-such-user"):
        run([entry])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is led astray")
@pytest.mark.parametrize(
    ("entry", "refused"),
    [
        ({"path": "way", "state": "directory"}, True),
        ({"path": "way/file", "content": "x"}, True),
        ({"path": "way/kept", "state": "absent"}, True),
        # The last link is replaced or removed, not followed.
        ({"path": "way", "content": "x"}, False),
        ({"path": "way", "state": "absent"}, False),
    ],
)
def test_a_link_that_another_user_planted_is_not_followed(tmp_path: Path, entry: dict[str, Any], refused: bool) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "kept").touch()
    before = target.stat()
    way = tmp_path / "way"
    way.symlink_to(target)
    entry = {**entry, "path": f"{tmp_path}/{entry['path']}"}
    os.chown(way, 65534, 65534, follow_symlinks=False)
    if refused:
        with pytest.raises(files_plan.PlanError, match="chown -h root"):
            run([{**entry, "mode": "0700"}])
        os.chown(way, 0, 0, follow_symlinks=False)
        assert target.stat() == before
        run([entry])
    else:
        run([entry])
        assert (target / "kept").exists()
