"""service_turn as Ansible runs it, with a systemctl that only keeps books and a master that is only a page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE = f"""
import runpy, sys
import ansible.module_utils as utils
utils.__path__ += [{str(ROOT / "plugins/module_utils")!r}, {str(ROOT / "daemons")!r}]
from ansible.module_utils import basic
basic._ANSIBLE_PROFILE, basic._ANSIBLE_ARGS = "legacy", sys.stdin.buffer.read()
runpy.run_path({str(ROOT / "plugins/modules/service_turn.py")!r}, run_name="__main__")
"""
SYSTEMCTL = """#!/bin/sh
cd "$(dirname "$0")" || exit 1
[ "$1" = show ] || echo "$*" >> calls
case "$1" in
  show)
    [ -e crashes ] && { n=$(cat count); echo $((n + 1)) > count; sed -i "s/^NRestarts=.*/NRestarts=$n/" unit; }
    cat unit ;;
  start|restart)
    [ -e hangs ] && exec sleep 60
    [ -e fails ] && { echo "Job for x failed." >&2; exit 1; }
    sha256sum "$PWD/settings" > stamp
    sed -i "s/^ActiveState=.*/ActiveState=active/" unit ;;
  stop) sed -i "s/^ActiveState=.*/ActiveState=inactive/" unit ;;
esac
exit 0
"""


class Host:
    """A host with one unit, a page that says what a test wants it to say, and the module."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.page: dict[str, Any] = {"url": "spark://h:7077", "status": "ALIVE", "workers": [], "activeapps": [], "activedrivers": []}
        host = self

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(host.page).encode())

            def log_message(self, *_arguments: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.health = {"kind": "master", "port": self.server.server_port, "masters": [f"127.0.0.1:{self.server.server_port}"]}
        (directory / "systemctl").write_text(SYSTEMCTL)
        (directory / "systemctl").chmod(0o755)
        (directory / "settings").write_text("a\n")
        self.unit("active")

    def unit(self, state: str) -> None:
        """Put the unit into a state, started with the settings of now."""
        text = f"LoadState=loaded\nActiveState={state}\nSubState=x\nUnitFileState=enabled\nNeedDaemonReload=no\nMainPID={os.getpid()}\n"
        (self.directory / "unit").write_text(text + "NRestarts=0\nResult=success\n")
        stamp = subprocess.run(["sha256sum", str(self.directory / "settings")], capture_output=True, text=True, check=True).stdout
        (self.directory / "stamp").write_text(stamp)

    def turn(self, check: bool = False, **arguments: Any) -> dict[str, Any]:
        """Run the module."""
        given = {"unit": "x.service", "watch": str(self.directory / "stamp"), "health": self.health, "timeout": 2, **arguments}
        done = subprocess.run(
            [sys.executable, "-c", MODULE],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": {**given, "_ansible_check_mode": check}}),
            env=os.environ | {"PATH": f"{self.directory}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    @property
    def calls(self) -> list[str]:
        """What changed something."""
        file = self.directory / "calls"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    subject = Host(tmp_path)
    yield subject
    subject.server.shutdown()


def test_a_unit_that_runs_what_is_on_disk_is_left_alone(host: Host) -> None:
    result = host.turn()
    assert (result["changed"], result["action"], result["restarted"], host.calls) == (False, "none", False, [])


def test_changed_settings_restart_once(host: Host) -> None:
    (host.directory / "settings").write_text("b\n")
    assert host.turn(check=True)["action"] == "restart"
    assert host.calls == []
    result = host.turn()
    assert (result["changed"], result["restarted"], result["was_leader"]) == (True, True, True)
    assert str(host.directory / "settings") in result["reason"]
    assert host.turn()["changed"] is False
    assert host.calls == ["restart x.service"]


def test_a_stopped_unit_is_started_and_a_running_one_kept_when_only_that_is_asked(host: Host) -> None:
    (host.directory / "settings").write_text("b\n")
    assert host.turn(only_if_stopped=True)["changed"] is False
    host.unit("inactive")
    assert host.turn(check=True, only_if_stopped=True)["action"] == "start"
    assert host.turn(only_if_stopped=True)["action"] == "start"
    assert host.turn(state="stopped")["action"] == "stop"
    assert host.turn(state="stopped")["changed"] is False
    assert host.calls == ["start x.service", "stop x.service"]


@pytest.mark.parametrize("wish", [{"state": "restarted"}, {"state": "stopped"}])
def test_a_leader_with_drivers_is_neither_restarted_nor_stopped(host: Host, wish: dict[str, Any]) -> None:
    host.page["activedrivers"] = [{"id": "driver-1", "state": "SUBMITTED"}]
    for check in (True, False):
        result = host.turn(check=check, **wish)
        assert result["failed"] is True
        assert "driver-1 (SUBMITTED)" in result["msg"]
    assert host.calls == []
    probe = host.turn(state="probe", refuse_drivers=True)
    assert (probe["is_leader"], probe["needs_restart"], probe["drivers"]) == (True, False, {"driver-1": "SUBMITTED"})
    assert host.turn(state="probe", refuse_drivers=True, planned=True)["failed"] is True
    assert host.turn(accept_driver_loss=True, **wish)["changed"] is True


@pytest.fixture
def sparkd(host: Host) -> Iterator[Host]:
    """A host whose unit's main process is called as sparkd is."""
    command = host.directory / "bin" / "sparkd"
    command.parent.mkdir()
    command.write_text("import time\ntime.sleep(60)\n")
    with subprocess.Popen([sys.executable, str(command), "master"]) as process:
        text = (host.directory / "unit").read_text().replace(f"MainPID={os.getpid()}", f"MainPID={process.pid}")
        (host.directory / "unit").write_text(text)
        yield host
        process.kill()


def test_a_leader_of_sparkd_loses_nothing_but_to_the_other_kind(sparkd: Host) -> None:
    sparkd.page["activedrivers"] = [{"id": "driver-1", "state": "SUBMITTED"}]
    assert sparkd.turn(state="restarted", daemons="sparkd")["restarted"] is True
    assert "driver-1 (SUBMITTED)" in sparkd.turn(state="stopped", daemons="apache")["msg"]
    assert sparkd.turn(state="stopped", daemons="apache", accept_driver_loss=True)["action"] == "stop"


def test_kind_and_recovery_mode_of_what_runs(sparkd: Host) -> None:
    mode = sparkd.directory / "recovery-mode"
    probe = sparkd.turn(state="probe", daemons="sparkd", mode_file=str(mode))
    assert (probe["daemons"], probe["recovery_mode"]) == ("sparkd", "NONE")
    mode.write_text("ZOOKEEPER\n")
    assert sparkd.turn(state="probe", daemons="sparkd", mode_file=str(mode))["recovery_mode"] == "ZOOKEEPER"


def test_it_waits_for_health_and_says_what_it_saw(host: Host) -> None:
    host.page["status"] = "RECOVERING"
    result = host.turn(state="restarted")
    assert result["failed"] is True
    for part in ("waited 2 s for a healthy master", "status RECOVERING", "the unit is active", "journalctl -u x.service"):
        assert part in result["msg"]
    host.page["status"] = "STANDBY"
    assert "no master is ALIVE" in host.turn(state="restarted")["msg"]


def test_the_record_must_be_of_the_running_process(host: Host) -> None:
    record = host.directory / "master.json"
    health = {**host.health, "record": str(record)}
    for content in ("", "[]", '{"pid": 1}'):
        record.write_text(content)
        assert "does not hold the latch session" in host.turn(state="restarted", health=health, timeout=1)["msg"]
    record.write_text(json.dumps({"pid": os.getpid()}))
    assert host.turn(state="restarted", health=health)["changed"] is True


def test_a_crash_loop_is_not_waited_out(host: Host) -> None:
    host.page["status"] = "RECOVERING"
    (host.directory / "crashes").touch()
    (host.directory / "count").write_text("0\n")
    result = host.turn(state="restarted", timeout=60)
    assert "it has ended 5 times since its start" in result["msg"]


@pytest.mark.parametrize(("trouble", "said"), [("hangs", "did not return within 2 s"), ("fails", "Job for x failed.")])
def test_what_systemctl_does_not_do_is_said(host: Host, trouble: str, said: str) -> None:
    (host.directory / trouble).touch()
    result = host.turn(state="restarted")
    assert result["failed"] is True
    assert said in result["msg"]


def test_a_masked_unit_is_named(host: Host) -> None:
    text = (host.directory / "unit").read_text()
    (host.directory / "unit").write_text(text.replace("LoadState=loaded", "LoadState=masked").replace("=active", "=inactive"))
    assert "systemctl unmask x.service" in host.turn()["msg"]
    assert host.calls == []
