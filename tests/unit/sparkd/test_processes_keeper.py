"""Keepers with real small processes: exits, signals, groups, rotation, and being found again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from worker_bench import alive, until

from sparkd.processes import keeper, keeping
from sparkd.processes.keeping import NEVER, Order, Run
from sparkd.processes.supervise import Exit


def order(tmp_path: Path, *argv: str, **other: object) -> Order:
    defaults: dict[str, object] = {"log_max_bytes": 1 << 20, "log_keep": 2, "terminate_timeout_s": 1.0}
    return Order(argv, {"PATH": "/usr/bin:/bin", "X": "1"}, tmp_path / "work", **(defaults | other))  # type: ignore[arg-type]


def shell(tmp_path: Path, script: str, **other: object) -> Order:
    return order(tmp_path, "/bin/sh", "-c", script, **other)


async def ran(tmp_path: Path, what: Order) -> Exit:
    run = Run(tmp_path / "1-1")
    await run.start(what)
    return await run.find() or await run.wait()


def number_in(path: Path) -> int:
    text = path.read_text() if path.exists() else ""
    return int(text) if text.endswith("\n") else 0


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -9), ("kill -TERM $$", -15), ("exec 1>&- 2>&-; sleep 0.1; exit 5", 5)]
)
def test_how_it_ended_is_kept(tmp_path: Path, script: str, code: int) -> None:
    exit_ = asyncio.run(ran(tmp_path, shell(tmp_path, script)))
    assert (exit_.code, exit_.killed, exit_.error, exit_.lost) == (code, False, "", "")
    assert 0 < exit_.started_ms <= exit_.ended_ms


def test_it_runs_in_its_own_directory_session_and_environment(tmp_path: Path) -> None:
    asyncio.run(ran(tmp_path, shell(tmp_path, "pwd; echo $X; readlink /proc/self/fd/0; ps -o sid= -p $$ | tr -d ' '; echo $$; env")))
    directory, x, stdin, session, pid, *environment = (tmp_path / "work/stdout").read_text().splitlines()
    assert (directory, x, stdin) == (str(tmp_path / "work"), "1", "/dev/null")
    assert session == pid
    assert {line.partition("=")[0] for line in environment} <= {"PATH", "X", "PWD", "OLDPWD", "SHLVL", "_"}


@pytest.mark.parametrize(("argv", "why"), [(("/no/such/program",), "cannot run /no/such/program: No such file"), (("/etc",), "Permission")])
def test_what_cannot_be_run_says_why(tmp_path: Path, argv: tuple[str, ...], why: str) -> None:
    exit_ = asyncio.run(ran(tmp_path, order(tmp_path, *argv)))
    assert why in exit_.error and exit_.code is None


def test_an_end_takes_all_of_it(tmp_path: Path) -> None:
    script = "sleep 1000 & echo $! > a; setsid sh -c 'echo $$ > b; exec sleep 1000' & (trap '' TERM; echo $$; sleep 1000) & wait"

    async def story() -> None:
        run = Run(tmp_path / "1-1")
        await run.start(shell(tmp_path, script, terminate_timeout_s=0.3))
        assert await run.find() is None
        pids = [await until(lambda name=name: number_in(tmp_path / "work" / name)) for name in ("a", "b")]  # type: ignore[misc]
        run.terminate()
        exit_ = await run.wait()
        assert exit_.killed and exit_.code == -15
        assert not any(map(alive, pids))

    asyncio.run(story())


def test_who_ignores_term_is_killed_in_time(tmp_path: Path) -> None:
    async def story() -> None:
        run = Run(tmp_path / "1-1")
        await run.start(shell(tmp_path, "trap '' TERM; echo $$ > pid; while :; do sleep 0.05; done", terminate_timeout_s=0.2))
        assert await run.find() is None
        pid = await until(lambda: number_in(tmp_path / "work/pid"))
        run.terminate()
        exit_ = await run.wait()
        assert (exit_.killed, exit_.code) == (True, -9)
        assert not alive(pid)

    asyncio.run(story())


def test_what_a_command_leaves_behind_is_ended_before_its_exit_is_told(tmp_path: Path) -> None:
    exit_ = asyncio.run(ran(tmp_path, shell(tmp_path, "setsid sleep 1000 & echo $! > pid; exit 4")))
    assert exit_.code == 4 and not exit_.killed
    assert not alive(number_in(tmp_path / "work/pid"))


def test_a_stopped_process_can_be_ended(tmp_path: Path) -> None:
    async def story() -> None:
        run = Run(tmp_path / "1-1")
        await run.start(shell(tmp_path, "kill -STOP $$; exit 1"))
        assert await run.find() is None and run.started is not None
        pid = run.started.pid
        await until(lambda: keeper.stat_fields(pid)[0] == "T")
        run.terminate()
        assert (await run.wait()).killed

    asyncio.run(story())


def test_output_is_rotated_and_the_newest_kept(tmp_path: Path) -> None:
    what = shell(tmp_path, "i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done", log_max_bytes=1000, log_keep=2)
    asyncio.run(ran(tmp_path, what))
    files = {path.name: path.read_bytes() for path in (tmp_path / "work").glob("stdout*")}
    assert set(files) == {"stdout", "stdout.1", "stdout.2"}
    assert all(len(content) <= 1000 for content in files.values())
    whole = files["stdout.2"] + files["stdout.1"] + files["stdout"]
    everything = b"".join(b"line %d\n" % number for number in range(500))
    assert everything.endswith(whole) and len(whole) > 2000


def test_a_log_that_cannot_be_written_does_not_stop_the_command(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/stdout").symlink_to(tmp_path / "elsewhere")  # never followed
    exit_ = asyncio.run(ran(tmp_path, shell(tmp_path, "exit 0")))
    assert exit_.error.startswith("cannot write") and not (tmp_path / "elsewhere").exists()
    (tmp_path / "2").mkdir()
    (tmp_path / "work/stdout").unlink()
    run = "rm -f stdout.1; mkdir stdout.1 stdout.2; for i in 1 2 3; do echo 123456789; done; exit 6"
    exit_ = asyncio.run(ran(tmp_path / "2", shell(tmp_path / "2", run, log_max_bytes=10)))
    assert exit_.code == 6


def test_a_keeper_is_small(tmp_path: Path) -> None:
    async def story() -> None:
        run = Run(tmp_path / "1-1")
        await run.start(order(tmp_path, "sleep", "1000"))
        assert await run.find() is None and run.started is not None
        status = Path(f"/proc/{run.started.keeper_pid}/status").read_text()
        resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        assert resident < 12 * 1024
        run.terminate()
        await run.wait()

    asyncio.run(story())


def test_another_worker_finds_it_running_and_learns_its_exit(tmp_path: Path) -> None:
    async def story() -> None:
        first = Run(tmp_path / "1-1")
        await first.start(shell(tmp_path, "while [ ! -e go ]; do sleep 0.02; done; exit 9"))
        first.close()
        second = Run(tmp_path / "1-1")
        assert await second.find() is None
        (tmp_path / "work/go").touch()
        assert (await second.wait()).code == 9
        third = Run(tmp_path / "1-1")
        found = await third.find()
        assert found is not None and found.code == 9

    asyncio.run(story())


def test_a_keeper_outlives_whoever_started_it(tmp_path: Path) -> None:
    spec: dict[str, object] = {"argv": ["sleep", "1000"], "environment": {"PATH": "/bin:/usr/bin"}, "directory": str(tmp_path / "w")}
    spec |= {"stdout": str(tmp_path / "w/stdout"), "stderr": str(tmp_path / "w/stderr")}
    spec |= {"log_max_bytes": 1000, "log_keep": 1, "terminate_timeout_s": 1.0}
    (tmp_path / "1-1").mkdir()
    (tmp_path / "1-1/spec.json").write_text(json.dumps(spec))
    start = "subprocess.Popen([sys.executable, '-I', '-S', *sys.argv[1:]], stdout=subprocess.DEVNULL)"
    script = f"import subprocess, sys, time; {start}; time.sleep(99)"
    parent = subprocess.Popen([sys.executable, "-c", script, keeper.__file__, str(tmp_path / "1-1/spec.json")], start_new_session=True)

    async def story() -> None:
        await until(lambda: (tmp_path / "1-1/started.json").exists())
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()
        run = Run(tmp_path / "1-1")
        assert await run.find() is None and run.started is not None
        assert alive(run.started.pid) and keeper.stat_fields(run.started.keeper_pid)[3] != str(parent.pid)
        run.terminate()
        assert (await run.wait()).killed

    asyncio.run(story())


def test_a_killed_keeper_is_noticed_and_its_orphans_are_ended(tmp_path: Path) -> None:
    async def story() -> None:
        run = Run(tmp_path / "1-1")
        await run.start(shell(tmp_path, "sleep 1000 & echo $! > pid; wait"))
        assert await run.find() is None and run.started is not None
        orphan = await until(lambda: number_in(tmp_path / "work/pid"))
        os.kill(run.started.keeper_pid, signal.SIGKILL)
        exit_ = await run.wait()
        assert exit_.code is None and "was killed" in exit_.lost
        await until(lambda: not alive(orphan) and run.started is not None and not alive(run.started.pid))
        again = await Run(tmp_path / "1-1").find()
        assert again is not None and again.lost == exit_.lost

    asyncio.run(story())


def test_a_run_that_never_started_never_will(tmp_path: Path) -> None:
    async def story() -> None:
        run = Run(tmp_path / "1-1")
        exit_ = await run.find()
        assert exit_ is not None and exit_.error == NEVER
        said = await run.start(shell(tmp_path, "touch ran"))
        assert "started or given up before" in said
        assert not (tmp_path / "work/ran").exists()

    asyncio.run(story())


def test_a_run_of_another_boot_is_lost_and_no_pid_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1-1").mkdir()
    started = {"pid": os.getpid(), "start": 1, "boot_id": "another", "keeper_pid": os.getpid(), "keeper_start": 1, "started_ms": 5}
    (tmp_path / "1-1/started.json").write_text(json.dumps(started))
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a pid of another boot was signalled"))
    exit_ = asyncio.run(Run(tmp_path / "1-1").find())
    assert exit_ is not None and exit_.lost == "the host was restarted while it ran"


def test_a_reused_pid_is_not_taken_for_the_run(tmp_path: Path) -> None:
    mine = keeper.stat_fields(os.getpid())
    started = keeping.Started(os.getpid(), int(mine[19]) - 1, keeper.boot_id(), os.getpid(), int(mine[19]) - 1, 5)
    assert keeping._session(started) == []
    assert not Run(tmp_path)._alive(started)


def test_damaged_exit_files_are_lost_exits(tmp_path: Path) -> None:
    (tmp_path / "1-1").mkdir()
    for text in ("{", "[]", '{"exit_code": 1', '"x"'):
        (tmp_path / "1-1/exit.json").write_text(text)
        exit_ = asyncio.run(Run(tmp_path / "1-1").find())
        assert exit_ is not None and "cannot be read" in exit_.lost


def test_a_directory_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        (tmp_path / "work").write_text("in the way")
        run = Run(tmp_path / "1-1")
        assert (await run.start(shell(tmp_path, "exit 0"))).startswith("cannot write")
        exit_ = await run.find()
        assert exit_ is not None and exit_.error.startswith("cannot write")

    asyncio.run(story())
