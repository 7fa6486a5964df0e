"""A run whose keeper is gone, or only coming: what the system cannot tell just now is asked again, and never taken for 'never started'."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest

from sparkd.processes import keeper, keeping
from sparkd.processes.keeping import NEVER, Run
from sparkd.processes.supervise import Exit


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "RETRY_S", 0.02)


def found(control: Path) -> Exit | None:
    async def look() -> Exit | None:
        return await asyncio.wait_for(Run(control).find(), 10)

    return asyncio.run(look())


def failing(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, number: int, times: int, only: str) -> list[int]:
    """Have the first `times` calls that name `only` raise OSError."""
    real, left = getattr(module, name), [times]

    def call(*arguments: Any) -> Any:
        if left[0] and any(only in str(argument) for argument in arguments):
            left[0] -= 1
            raise OSError(number, os.strerror(number))
        return real(*arguments)

    monkeypatch.setattr(module, name, call)
    return left


def test_a_keeper_that_takes_its_lock_just_now_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([True])
    real = Run._lock_is_free
    monkeypatch.setattr(Run, "_lock_is_free", lambda self: next(looks, None) or real(self))
    fd = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)

    async def story() -> None:
        looking = asyncio.create_task(Run(tmp_path).find())
        await asyncio.sleep(0.1)
        assert not looking.done()
        (tmp_path / "exit.json").write_text(json.dumps({"exit_code": 3}))
        exit_ = await asyncio.wait_for(looking, 10)
        assert exit_ is not None and (exit_.code, exit_.lost) == (3, "")

    asyncio.run(story())
    os.close(fd)


def test_never_started_is_told_only_when_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = failing(monkeypatch, keeper, "write_json", errno.ENOSPC, 2, "exit.json")
    exit_ = found(tmp_path)
    assert exit_ is not None and exit_.error == NEVER and left == [0]
    assert json.loads((tmp_path / "exit.json").read_text())["error"] == NEVER


@pytest.mark.parametrize("name", ["started.json", "exit.json"])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM])
def test_a_shortage_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    started = {"pid": 2**22 + 1, "start": 1, "boot_id": keeper.boot_id(), "keeper_pid": 2**22 + 2, "keeper_start": 1, "started_ms": 5}
    (tmp_path / "started.json").write_text(json.dumps(started))
    left = failing(monkeypatch, keeping, "read_json", number, 2, name)
    exit_ = found(tmp_path)
    assert left == [0] and exit_ is not None and not exit_.error
    assert "its keeper" in exit_.lost and exit_.started_ms == 5


def test_a_damaged_start_is_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "started.json").write_text("{")
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _: killed.append(pid))
    exit_ = found(tmp_path)
    assert exit_ is not None and exit_.lost and exit_.error != NEVER and killed == []
