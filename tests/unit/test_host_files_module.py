"""host_files as Ansible runs it: nothing of what it was called with reaches the host's journal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Both ways that Ansible logs: systemd's journal, and syslog where there is none.
MODULE = f"""
import runpy, sys, syslog
import ansible.module_utils as utils
utils.__path__.append({str(ROOT / "plugins/module_utils")!r})
from ansible.module_utils import basic
logged = []
syslog.syslog = lambda *words: logged.append(words)
basic.AnsibleModule.log = lambda self, message, log_args=None: logged.append(message)
basic._ANSIBLE_PROFILE, basic._ANSIBLE_ARGS = "legacy", sys.stdin.buffer.read()
try:
    runpy.run_path({str(ROOT / "plugins/modules/host_files.py")!r}, run_name="__main__")
finally:
    print(logged, file=sys.stderr)
"""


def test_no_file_is_logged(tmp_path: Path) -> None:
    path = tmp_path / "secret.opts"
    entry = {
        "path": str(path),
        "secret_content": "first line\nkey=hunter2\n",
        "owner": str(os.getuid()),
        "group": str(os.getgid()),
        "mode": "0600",
    }
    given = json.dumps({"ANSIBLE_MODULE_ARGS": {"files": [entry], "_ansible_no_log": False, "_ansible_diff": True}})
    done = subprocess.run([sys.executable, "-c", MODULE], input=given, capture_output=True, text=True, check=False)
    assert "hunter2" not in done.stderr and done.stderr.strip().endswith("[]"), done.stderr
    assert "hunter2" not in done.stdout
