"""The inventories that ship: their groups, what is computed from them, and that they set only variables that a role knows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from project import ROOT, specified

BIN = Path(sys.executable).parent
COMPUTED = (
    "cluster_master_url",
    "cluster_zookeeper_connect",
    "cluster_masters",
    "cluster_workers",
    "cluster_clients",
    "cluster_ensemble",
    "cluster_is_master",
    "cluster_is_worker",
    "cluster_is_zookeeper",
    "cluster_has_spark",
    "spark_recovery_mode",
    "spark_master_port",
)
PLAYBOOK = """
- hosts: all
  connection: local
  gather_facts: false
  become: false
  vars: {ansible_python_interpreter: "%(python)s", ansible_become: false}
  roles: [cluster]
  tasks:
    - name: Write what this host computes
      ansible.builtin.copy:
        content: "{{ {%(pairs)s} | to_json }}"
        dest: "%(target)s/{{ inventory_hostname }}.json"
        mode: "0600"
"""


def run(*command: str) -> str:
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    done = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@cache
def listed(inventory: str) -> dict[str, Any]:
    listing: dict[str, Any] = json.loads(run("ansible-inventory", "-i", f"inventory/{inventory}", "--list"))
    return listing


def groups(inventory: str) -> dict[str, list[str]]:
    return {name: group["hosts"] for name, group in listed(inventory).items() if name != "_meta" and "hosts" in group}


def computed(inventory: str, target: Path, *more: str) -> dict[str, dict[str, Any]]:
    playbook = target / "computed.yml"
    pairs = ", ".join(f"'{name}': {name}" for name in COMPUTED)
    playbook.write_text(PLAYBOOK % {"python": sys.executable, "pairs": pairs, "target": target})
    run("ansible-playbook", "-i", f"inventory/{inventory}", str(playbook), *more)
    return {path.stem: json.loads(path.read_text()) for path in target.glob("*.json")}


def test_groups_of_the_lab() -> None:
    assert groups("lab") == {
        "zookeeper": ["spark82", "spark83", "spark84"],
        "spark_masters": ["spark82", "spark83"],
        "spark_workers": ["spark83", "spark84"],
    }


def test_groups_of_the_single_host() -> None:
    assert groups("single") == {"spark_masters": ["spark81"], "spark_workers": ["spark81"]}


def test_groups_of_the_example() -> None:
    assert groups("example") == {
        "zookeeper": ["spark-a", "spark-b", "spark-c"],
        "spark_masters": ["spark-a", "spark-b"],
        "spark_workers": ["spark-c", "spark-d"],
        "spark_clients": ["spark-e"],
    }


def test_lab_computes_the_whole_list_of_masters_and_servers(tmp_path: Path) -> None:
    hosts = computed("lab", tmp_path)
    assert {values["cluster_master_url"] for values in hosts.values()} == {"spark://spark82:7077,spark83:7077"}
    assert {values["cluster_zookeeper_connect"] for values in hosts.values()} == {"spark82:2181,spark83:2181,spark84:2181"}
    assert {host: (values["cluster_is_master"], values["cluster_is_worker"]) for host, values in hosts.items()} == {
        "spark82": (True, False),
        "spark83": (True, True),
        "spark84": (False, True),
    }


def test_single_host_needs_no_ensemble(tmp_path: Path) -> None:
    hosts = computed("single", tmp_path)
    assert list(hosts) == ["spark81"]
    assert hosts["spark81"]["cluster_master_url"] == "spark://spark81:7077"
    assert hosts["spark81"]["spark_recovery_mode"] == "FILESYSTEM"
    assert hosts["spark81"]["cluster_zookeeper_connect"] == ""
    assert hosts["spark81"]["cluster_ensemble"] == []


def test_example_shows_ports_of_one_host_to_all(tmp_path: Path) -> None:
    hosts = computed("example", tmp_path)
    assert {values["cluster_master_url"] for values in hosts.values()} == {"spark://spark-a:7077,spark-b:7078"}
    assert hosts["spark-b"]["spark_master_port"] == 7078
    assert [host for host, values in hosts.items() if not values["cluster_has_spark"]] == []
    assert hosts["spark-e"]["cluster_clients"] == ["spark-e"]


def test_an_existing_ensemble_replaces_the_group(tmp_path: Path) -> None:
    hosts = computed("example", tmp_path, "-e", "zookeeper_external=zk1:2181,zk2:2181/spark-ha")
    assert {values["cluster_zookeeper_connect"] for values in hosts.values()} == {"zk1:2181,zk2:2181/spark-ha"}
    assert {values["cluster_is_zookeeper"] for values in hosts.values()} == {False}


def test_lab_and_single_do_not_share_a_subnet() -> None:
    subnets = [yaml.safe_load((ROOT / f"inventory/{name}/group_vars/all.yml").read_text())["lab_subnet"] for name in ("lab", "single")]
    assert len(set(subnets)) == 2


def commented_settings(path: Path) -> set[str]:
    """Names of the settings that a file offers in comments: a line `# name: value`, with no blank before the name."""
    return set(re.findall(r"(?m)^# ?([a-z][a-z0-9_]*):(?: |$)", path.read_text()))


@pytest.mark.parametrize("inventory", ["lab", "single", "example"])
def test_inventories_set_only_variables_that_a_role_knows(inventory: str) -> None:
    names = {name for host in listed(inventory)["_meta"]["hostvars"].values() for name in host}
    for path in (ROOT / "inventory" / inventory).rglob("*_vars/**/*.yml"):
        names |= commented_settings(path)
    assert {name for name in names - specified() if not name.startswith(("ansible_", "vault_"))} == set()
