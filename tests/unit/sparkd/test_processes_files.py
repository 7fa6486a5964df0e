"""Fetching, reading logs, cleaning up, the work directory's own files, systemd's jobs."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkd.core.values import Epoch, ProcessRef
from sparkd.processes.cleanup import clean
from sparkd.processes.fetch import FetchError, fetch
from sparkd.processes.files import Layout, Lock, State, WorkDirError, directory_name, load_state, save_state, write_private
from sparkd.processes.logs import read_log
from sparkd.processes.service import job_of, unit_of


def got(resource: str, directory: Path, **bounds: float) -> Path:
    return asyncio.run(fetch(resource, directory, **bounds))  # type: ignore[arg-type]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd" if "evil" in self.path else "/app.jar?signature=s")
            self.end_headers()
        elif self.path.startswith("/app.jar"):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"j" * 1000)
        elif self.path.startswith("/private"):
            shown = self.headers.get("Authorization")
            self.send_response(200 if shown == "Basic dXNlcjpwYXNzd29yZA==" else 401)  # RFC 7617
            self.end_headers()
            self.wfile.write(b"p")
        elif self.path.startswith("/hang"):
            time.sleep(0.6)
        else:
            self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://user:password@127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_local_files_are_copied_with_their_mode(tmp_path: Path) -> None:
    source = tmp_path / "a b.sh"
    source.write_text("#!/bin/sh\n")
    source.chmod(0o555)
    (tmp_path / "d").mkdir()
    for resource in (str(source), f"file://{tmp_path}/a%20b.sh", f"file:{tmp_path}/a%20b.sh"):
        path = got(resource, tmp_path / "d")
        assert path == tmp_path / "d/a b.sh" and path.read_text() == "#!/bin/sh\n" and os.access(path, os.X_OK | os.W_OK)
    assert got(f"local:{tmp_path}/a%20b.sh", tmp_path / "d") == source


def test_http_with_redirects(tmp_path: Path, site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    assert got(f"{site}/app.jar?x=1".replace("user:password@", ""), tmp_path).read_bytes() == b"j" * 1000
    assert got(f"{site}/moved.jar".replace("user:password@", ""), tmp_path).name == "moved.jar"


@pytest.mark.parametrize(
    ("resource", "why"),
    [
        ("/no/such/app.jar", "there is no such file on this worker"),
        ("/etc", "not a file"),
        ("/dev/zero", "not a file"),
        ("relative/app.jar", "must be absolute"),
        ("file://elsewhere/x", "file:///absolute"),
        ("local:/no/such", "no such file"),
        ("hdfs://h/x.jar", "only local paths"),
        ("/x/..", "no usable file name"),
        ("/x/stdout", "no usable file name"),
        ("http://127.0.0.1:1/app.jar", "refused"),
        ("{site}/none.jar", "HTTP 404"),
        ("{site}/evil.jar", "HTTP 404"),
        ("{site}/moved-evil.jar", "cannot fetch"),
        ("{site}/hang.jar", "no answer in time|Remote end"),
    ],
)
def test_what_cannot_be_fetched_says_why(tmp_path: Path, site: str, resource: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    resource = resource.replace("{site}", site.replace("user:password@", ""))
    with pytest.raises(FetchError, match=why) as caught:
        got(resource, tmp_path, silence_s=0.2)
    assert str(caught.value).startswith("cannot fetch ")
    assert not list(tmp_path.iterdir())


def test_passwords_and_signatures_are_not_told(tmp_path: Path, site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(FetchError) as caught:
        got(f"{site}/none.jar?signature=s3cret", tmp_path)
    assert "password" not in str(caught.value) and "s3cret" not in str(caught.value)


def test_user_and_password_are_shown_to_that_server_only(tmp_path: Path, site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(FetchError, match="HTTP 401"):
        got(f"{site}/private.jar".replace("user:password@", ""), tmp_path)
    assert got(f"{site}/private.jar", tmp_path).read_bytes() == b"p"


def test_a_file_that_is_too_large_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 5000)
    (tmp_path / "d").mkdir()
    with pytest.raises(FetchError, match="larger than 4999 bytes"):
        got(str(tmp_path / "large"), tmp_path / "d", size_limit=4999)
    assert not list((tmp_path / "d").iterdir())


def test_logs_are_read_as_one_over_their_parts(tmp_path: Path) -> None:
    for name, text in (("stdout.2", "aaaa"), ("stdout.1", "bbbb"), ("stdout", "cc")):
        (tmp_path / name).write_text(text)
    tail = read_log(tmp_path, "stdout", 2, None, 4)
    assert (tail.text, tail.begin, tail.end, tail.total) == (b"bbcc", 6, 10, 10)
    middle = read_log(tmp_path, "stdout", 2, 3, 3)
    assert (middle.text, middle.begin, middle.end) == (b"abb", 3, 6)
    assert read_log(tmp_path, "stdout", 2, 99, 3).text == b""
    assert read_log(tmp_path, "stdout", 2, 0, 1 << 40).text == b"aaaabbbbcc"


def test_logs_are_bounded_and_nothing_else_is_read(tmp_path: Path) -> None:
    (tmp_path / "stdout").write_bytes(b"x" * (2 << 20))
    assert len(read_log(tmp_path, "stdout", 0, None, 1 << 40).text) == 1 << 20
    for name in ("../stdout", "/etc/passwd", "", "stdout.1", "app.jar"):
        with pytest.raises(ValueError, match="no log"):
            read_log(tmp_path, name, 4, None, 10)
    for offset, length in ((-1, 10), (None, -1)):
        with pytest.raises(ValueError, match="negative"):
            read_log(tmp_path, "stdout", 4, offset, length)
    (tmp_path / "stderr").symlink_to("/etc/passwd")
    with pytest.raises(OSError):
        read_log(tmp_path, "stderr", 4, None, 10)
    (tmp_path / "stderr").unlink()
    os.mkfifo(tmp_path / "stderr")
    with pytest.raises(FileNotFoundError):
        read_log(tmp_path, "stderr", 4, None, 10)
    (tmp_path / "stderr").unlink()
    with pytest.raises(FileNotFoundError):
        read_log(tmp_path, "stderr", 4, None, 10)


@given(st.text(min_size=1, max_size=80))
def test_any_id_is_one_plain_directory(owner: str) -> None:
    with contextlib.suppress(UnicodeEncodeError):
        owner.encode()
        name = directory_name(owner)
        assert name and "/" not in name and "\0" not in name and not name.startswith(".")


def ended(layout: Layout, owner: str, number: int, age_s: float) -> Path:
    ref = ProcessRef("driver", owner, number)
    directory, attempt = layout.process(owner, number), layout.attempt(ref)
    directory.mkdir(parents=True)
    (directory / "stdout").write_text("x")
    write_private(attempt / "about.json", {})
    for path in (directory / "stdout", directory, *attempt.rglob("*"), attempt):
        os.utime(path, (time.time() - age_s,) * 2)
    return directory


def test_clean_up_takes_old_ended_directories_only(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    old, young = ended(layout, "driver-1", 1, 500), ended(layout, "driver-1", 2, 50)
    running = ended(layout, "driver-2", 1, 500)
    foreign = tmp_path / "somebody/1"
    foreign.mkdir(parents=True)
    os.utime(foreign, (0, 0))
    assert clean(layout, [ProcessRef("driver", "driver-2", 1)], 100, time.time()) == 1
    assert not old.exists() and young.exists() and running.exists() and foreign.exists()
    assert clean(layout, [], 0, time.time() + 1) == 2
    assert not young.parent.exists() and foreign.exists()


def test_clean_up_follows_no_links(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "work")
    layout.make()
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    directory = ended(layout, "driver-1", 1, 500)
    (directory / "stdout").unlink()
    directory.rmdir()
    directory.symlink_to(precious)
    clean(layout, [], 100, time.time())
    assert (precious / "file").exists()


def test_a_work_directory_has_one_worker(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    lock = Lock(layout)
    with pytest.raises(WorkDirError, match=rf"another worker \(pid {os.getpid()}\) uses the work directory"):
        Lock(layout)
    lock.release()
    Lock(layout).release()


def test_state_is_kept_and_a_damaged_one_is_not_guessed(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    assert load_state(layout) is None
    state = State("worker-1", Epoch("c", 1 << 40), 7000)
    save_state(layout, state)
    assert load_state(layout) == state
    for text in ("", "{", "[]", '{"worker_id": 5}', '{"worker_id": "w", "epoch": {"cluster_id": "c"}}'):
        layout.state.write_text(text)
        with pytest.raises(WorkDirError, match="sparkd reset-worker --work-dir"):
            load_state(layout)


def test_a_work_directory_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkDirError, match="cannot use the work directory"):
        Layout(tmp_path / "file/work").make()


def test_which_job_systemd_has_for_the_unit() -> None:
    listed = "12 other.service restart waiting\n13 spark-worker.service restart running\n"
    assert job_of("spark-worker.service", listed) == "restart"
    assert job_of("spark-worker.service", listed.replace("restart running", "stop running")) == "stop"
    assert job_of("spark-worker.service", "No jobs running.\n") == "none"
    assert unit_of("0::/system.slice/spark-worker.service\n") == "spark-worker.service"
    assert unit_of("0::/system.slice/spark-worker@a\\x2db.service/sub\n") == "spark-worker@a\\x2db.service"
    assert unit_of("0::/user.slice/session-1.scope\n") == ""
