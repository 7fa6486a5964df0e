"""Which secrets a cluster has: its own, an inventory's, or new ones; and what the module reads on a host."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

from filter.sparkd_secrets import NAMES, sparkd_secrets

ROOT = Path(__file__).resolve().parents[2]
MODULE = f"""
import runpy, sys
from ansible.module_utils import basic
basic._ANSIBLE_PROFILE, basic._ANSIBLE_ARGS = "legacy", sys.stdin.buffer.read()
runpy.run_path({str(ROOT / "plugins/modules/sparkd_secrets.py")!r}, run_name="__main__")
"""


def test_new_ones_are_strong_and_differ() -> None:
    made = sparkd_secrets([], {})
    assert set(made) == set(NAMES) and len(set(made.values())) == len(NAMES)
    assert {len(base64.urlsafe_b64decode(value + "=")) for value in made.values()} == {32}
    assert made != sparkd_secrets([], {})


def test_what_the_first_host_has_is_kept() -> None:
    known = [{}, {"cluster": "of a master", "rest": "r"}, {"cluster": "of a worker", "zookeeper": "z"}]
    assert sparkd_secrets(known, {"cluster": "", "rest": ""}) == {"cluster": "of a master", "rest": "r", "zookeeper": "z"}


def test_given_ones_win_and_rotation_makes_new_ones() -> None:
    known = [{"cluster": "c", "rest": "r", "zookeeper": "z"}]
    assert sparkd_secrets(known, {"rest": "mine"})["rest"] == "mine"
    rotated = sparkd_secrets(known, {}, ["cluster"])
    assert rotated["cluster"] != "c" and (rotated["rest"], rotated["zookeeper"]) == ("r", "z")


def test_the_module_reads_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "cluster.secret").write_text("abc\n")
    (tmp_path / "rest.key").write_text("\n")
    given = json.dumps({"ANSIBLE_MODULE_ARGS": {"directory": str(tmp_path)}})
    done = subprocess.run([sys.executable, "-c", MODULE], input=given, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["secrets"] == {"cluster": "abc"}, done.stderr
    (tmp_path / "rest.key").write_bytes(b"\xff\xff")
    done = subprocess.run([sys.executable, "-c", MODULE], input=given, capture_output=True, text=True, check=False)
    assert "cannot be read as a secret" in json.loads(done.stdout)["msg"]
