"""site.yml itself against inventories that cannot work: it says why, all at once, and touches no host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
LAB: dict[str, dict[str, Any]] = {
    "zookeeper": {"a": {}, "b": {}, "c": {}},
    "spark_masters": {"a": {}, "b": {}},
    "spark_workers": {"b": {}, "c": {}},
}
# Nothing answers there (RFC 5737), and trying would take its time: the inventory is judged before any connection.
NOWHERE = {host: {"ansible_host": f"192.0.2.{number}"} for number, host in enumerate("abc", 1)}


def play(
    folder: Path,
    groups: dict[str, dict[str, Any]],
    hosts: dict[str, Any],
    playbook: Path | None = None,
    everyone: dict[str, Any] | None = None,
    arguments: tuple[str, ...] = (),
) -> tuple[int, str]:
    inventory = folder / "hosts.yml"
    content: dict[str, Any] = {name: {"hosts": members} for name, members in groups.items()}
    content["all"] = {"hosts": hosts, "vars": everyone or {}}
    inventory.write_text(json.dumps(content))
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", str(inventory), str(playbook or ROOT / "site.yml"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "COLUMNS": "160"},
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def only_preflight(tmp_path: Path) -> Path:
    """Return a playbook with the role alone: the plays of site.yml up to the first change."""
    playbook = tmp_path / "preflight.yml"
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "any_errors_fatal": True, "roles": ["preflight"]}]))
    return playbook


def test_all_faults_of_an_inventory_are_shown_at_once_and_no_host_is_contacted(tmp_path: Path) -> None:
    code, said = play(
        tmp_path,
        {**LAB, "zookeeper": {"a": {}, "b": {}}, "spark_worker": {"d": {}}},
        {**NOWHERE, "d": {"ansible_host": "192.0.2.4"}, "e": {"ansible_host": "192.0.2.5"}},
        everyone={
            "spark_daemons": "apache",
            "spark_recovery_mode": "FILESYSTEM",
            "spark_worker_webui_port": 8080,
            "spark_rest_enabled": True,
            "zookeper_heap": "1g",
        },
        arguments=("-e", "spark_master_prot=7078"),
    )
    assert code != 0
    assert "7 problems in the inventory; nothing was changed." in said
    for words in (
        "each elects itself",
        "An ensemble of 2 needs both for a quorum",
        "did you mean spark_workers?",
        "In none of the groups that the plays use",
        "would listen on the same port of one host",
        "spark_rest_filters is empty",
        "did you mean spark_master_port?",
    ):
        assert words in said
    assert "UNREACHABLE" not in said
    assert "changed=1" not in said


def test_what_comes_from_extra_vars_is_judged_too(tmp_path: Path) -> None:
    code, said = play(tmp_path, LAB, NOWHERE, arguments=("-e", "spark_recovery_mode=ZOKEEPER"))
    assert code != 0
    assert "1 problem in the inventory" in said
    assert "did you mean spark_recovery_mode: ZOOKEEPER?" in said


def test_facts_in_a_variable_are_no_fault_but_slips_in_a_template_are(tmp_path: Path) -> None:
    everyone = {"spark_daemon_memory": "{{ [ansible_facts['memtotal_mb'] // 8, 512] | max }}m", "base": "{{ ansible_facts['x'] }}"}
    code, said = play(tmp_path, LAB, NOWHERE, everyone={**everyone, "spark_log_dir": "{{ base }}/log", "spark_work_dir": "{{ bse }}/work"})
    assert code != 0
    assert "1 problem in the inventory" in said
    assert "spark_work_dir" in said
    assert "'bse' is undefined" in said


def test_unreachable_hosts_are_named_together_and_the_others_stay_untouched(tmp_path: Path) -> None:
    """Only the host "here" answers; ports on loopback where nobody listens stand for hosts that are down."""
    hosts = {
        "here": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
        "down1": {"ansible_host": "127.0.0.2", "ansible_port": 9, "cluster_ip": "192.0.2.8"},
        "down2": {"ansible_host": "127.0.0.2", "ansible_port": 10, "cluster_ip": "192.0.2.9"},
    }
    groups: dict[str, dict[str, Any]] = {
        "zookeeper": {host: {} for host in hosts},
        "spark_masters": {"here": {}, "down1": {}},
        "spark_workers": {"down2": {}},
    }
    code, said = play(tmp_path, groups, hosts, everyone={"ansible_become": False})
    assert code != 0
    assert "on the hosts; nothing was changed." in said
    assert said.count("Connection refused") >= 2
    assert "unreachable  (down1)" in said
    assert "unreachable  (down2)" in said
    assert "leave it out with --limit" in said
    assert "(3/9)" not in said.split("PLAY RECAP")[0]


def test_limits_of_a_host_are_variables(tmp_path: Path, only_preflight: Path) -> None:
    hosts = {"here": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}
    code, said = play(
        tmp_path,
        {"spark_masters": {"here": {}}, "spark_workers": {"here": {}}},
        hosts,
        playbook=only_preflight,
        everyone={"spark_recovery_mode": "NONE", "preflight_min_memory_mb": 10**9, "preflight_min_disk_mb": 10**12},
    )
    assert code != 0
    assert "too little for its daemons" in said
    assert "lower preflight_min_disk_mb" in said
