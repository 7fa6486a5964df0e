"""What destroy removes, and what it must never remove."""

from __future__ import annotations

from pathlib import Path

import pytest

from modules import destroy_paths


@pytest.fixture
def opt(tmp_path: Path) -> Path:
    for version in ("spark-4.3.0", "spark-3.5.9"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / destroy_paths.MARKER).touch()
    (tmp_path / "spark-2.4-by-hand").mkdir()
    (tmp_path / "hadoop").mkdir()
    (tmp_path / "current").symlink_to("spark-4.3.0")
    return tmp_path


def clear(opt: Path, check_mode: bool = False) -> list[str]:
    removed, kept = destroy_paths.clear([f"{opt}/current", f"{opt}/gone"], [f"{opt}/spark-[0-9]*"], [str(opt)], check_mode)
    assert not kept
    return removed


def test_an_install_root_that_others_use_keeps_what_is_theirs(opt: Path) -> None:
    expected = [f"{opt}/{name}" for name in ("current", "spark-3.5.9", "spark-4.3.0")]
    assert clear(opt, check_mode=True) == expected
    assert (opt / "spark-4.3.0" / "bin").is_dir()
    assert clear(opt) == expected
    assert sorted(path.name for path in opt.iterdir()) == ["hadoop", "spark-2.4-by-hand"]
    assert clear(opt) == []


@pytest.mark.parametrize("check_mode", [True, False])
def test_an_install_root_of_its_own_goes(opt: Path, check_mode: bool) -> None:
    (opt / "hadoop").rmdir()
    (opt / "spark-2.4-by-hand").rmdir()
    assert clear(opt, check_mode)[-1] == str(opt)
    assert opt.exists() == check_mode


def test_a_link_without_its_target_goes(tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("nowhere")
    assert destroy_paths.clear([f"{tmp_path}/current"], [], [], check_mode=False)[0] == [f"{tmp_path}/current"]
    assert not (tmp_path / "current").is_symlink()


@pytest.mark.parametrize("path", ["/", "/opt", "/var/log/", "/usr/../opt", "/usr/local", "relative"])
def test_directories_of_the_system_are_left_alone(path: str) -> None:
    assert destroy_paths.shared(Path(path))


def test_a_shared_directory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destroy_paths, "SHARED", frozenset({tmp_path}))
    assert destroy_paths.clear([str(tmp_path)], [], [str(tmp_path)], check_mode=False) == ([], [str(tmp_path)])
    assert tmp_path.is_dir()


def test_a_mount_point_is_emptied_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app-1").mkdir()
    (tmp_path / "lost+found").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path)
    assert destroy_paths.clear([str(tmp_path)], [], [], check_mode=False)[0] == [str(tmp_path)]
    assert [path.name for path in tmp_path.iterdir()] == ["lost+found"]
    assert destroy_paths.clear([str(tmp_path)], [], [], check_mode=False)[0] == []
