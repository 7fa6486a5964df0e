from __future__ import annotations

import importlib.util
import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from module_utils.drill_history import parse_history
from modules import drill_fault, drill_wait

FILE = Path(__file__).resolve().parents[2] / "roles" / "drill" / "files" / "observer.py"
spec = importlib.util.spec_from_file_location("drill_observer", FILE)
assert spec and spec.loader
observer = importlib.util.module_from_spec(spec)
spec.loader.exec_module(observer)

PAGE = {"status": "ALIVE", "aliveworkers": 2, "coresused": 1, "memoryused": 512, "activeapps": [{"id": "app-1"}], "activedrivers": []}


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(PAGE).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        return


def test_every_master_is_asked_and_silence_is_recorded(tmp_path: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    out = tmp_path / "observer.jsonl"
    targets = [f"--master=a=127.0.0.1:{server.server_port}", "--master=b=127.0.0.1:9"]
    observer.main([*targets, f"--out={out}", "--interval-ms=20", "--seconds=1"], threading.Event())
    server.shutdown()
    lines = out.read_text().splitlines()
    history = parse_history(lines, ["a", "b"])
    assert 20 <= len(history.samples["a"]) <= 51
    assert {sample.status for sample in history.samples["a"]} == {"ALIVE"}
    assert history.samples["a"][0].apps == {"app-1"}
    assert {sample.status for sample in history.samples["b"]} == {None}
    assert json.loads(lines[0])["kind"] == "start" and json.loads(lines[-1])["kind"] == "end"
    assert drill_wait.recovered(lines, ["a", "b"], "b", 2) == "not STANDBY: b"
    assert drill_wait.recovered(lines, ["a"], "b", 2) == ""
    assert "no one new leader" in drill_wait.recovered(lines, ["a"], "a", 2)
    assert drill_wait.recovered(lines, ["a"], "b", 3) == "2 of 3 workers at a"


def test_targets() -> None:
    assert observer.target("a=h:1") == ("a", "h", 1)
    assert observer.target("a=[::1]:1") == ("a", "::1", 1)
    for wrong in ("h:1", "a=h", "a=:1"):
        with pytest.raises(ValueError):
            observer.target(wrong)


def test_what_is_missing_before_the_load_is_ready(tmp_path: Path) -> None:
    assert "not registered" in drill_wait.ready(tmp_path)
    (tmp_path / "load.jsonl").write_text('{"kind": "registered", "app": "a", "seconds": 1}\n')
    assert "0 jobs" in drill_wait.ready(tmp_path)
    (tmp_path / "load.jsonl").write_text('{"kind": "registered", "app": "a", "seconds": 1}\n{"kind": "ready"}\n')
    assert drill_wait.ready(tmp_path) == ""


def test_the_end_of_a_long_file_is_read_in_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("".join(f"{number}\n" for number in range(1000)))
    assert drill_wait.tail(path, 12) == ["998", "999"]
    assert drill_wait.tail(tmp_path / "none", 12) == []


def test_an_undoing_runs_all_and_stays_until_it_worked(tmp_path: Path) -> None:
    undoing = tmp_path / "undo-x.sh"
    done = tmp_path / "it's done"
    undoing.write_text(drill_fault.script([["false"], ["touch", str(done)]], undoing))
    assert subprocess.run(["sh", str(undoing)], check=False).returncode == 1
    assert done.exists() and undoing.exists()
    undoing.write_text(drill_fault.script([["touch", str(done)]], undoing))
    assert subprocess.run(["sh", str(undoing)], check=False).returncode == 0
    assert not undoing.exists()
