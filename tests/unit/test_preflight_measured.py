"""What was measured on the hosts is judged together, each fault with its way out."""

from __future__ import annotations

import copy
import os
import socket
import sys
from typing import Any

import pytest
from ansible.module_utils import preflight_measured, preflight_model
from hypothesis import given
from hypothesis import strategies as st

from modules import preflight_host

LINES = {"3.5": {"java": [17]}, "4.3": {"java": [17, 21]}}
JAVA = {"Debian-12": [17], "Debian-13": [21, 25]}
LIMITS = preflight_measured.Limits(memory_mb=1024, disk_mb=2048, clock_skew_s=5)
NEED: dict[str, Any] = {
    "ports": [{"port": 8080, "variable": "spark_master_webui_port", "what": "the master's page"}],
    "paths": ["/opt/spark", "/var/lib/spark"],
    "names": {},
    "spark_version": "4.3.0",
    "java_home": "",
    "java_version": 0,
    "myid": 0,
    "myid_file": "/var/lib/zookeeper/myid",
}
FACTS: dict[str, Any] = {
    "time": 1000.0,
    "root": True,
    "python": [3, 11, 2],
    "systemd": True,
    "memory_mb": 4096,
    "disks": [{"path": "/opt/spark", "device": 1, "free_mb": 9000}, {"path": "/var/lib/spark", "device": 1, "free_mb": 9000}],
    "ports": {},
    "names": {},
    "distribution": {"id": "debian", "version": "12", "name": "Debian"},
    "myid": "",
    "java": "",
}


def judge(facts: dict[str, Any] | None = None, need: dict[str, Any] | None = None, **more: Any) -> list[preflight_model.Problem]:
    result = {"between": [999.5, 1000.5], "facts": {**copy.deepcopy(FACTS), **(facts or {})}, **more}
    found: list[preflight_model.Problem] = preflight_measured.judge({"h": {**NEED, **(need or {})}}, {"h": result}, LIMITS, LINES, JAVA)
    return found


def test_good_host() -> None:
    assert judge() == []


@pytest.mark.parametrize("unit", ["spark-master.service", "spark-worker.service", "zookeeper.service"])
def test_own_units_may_hold_ports(unit: str) -> None:
    assert judge({"ports": {"8080": {"pid": 7, "name": "java", "unit": unit}}}) == []


def test_in_a_container_the_user_tells_whose_port_it_is() -> None:
    """Without CAP_SYS_PTRACE even root cannot see which process of another user holds a socket."""
    hidden = {"pid": 0, "name": "", "unit": "", "user": "spark"}
    assert judge({"ports": {"8080": {**hidden, "units": ["spark-worker.service"]}}}) == []
    found = judge({"ports": {"8080": {**hidden, "units": ["nginx.service"]}}})
    assert "a process of user spark already listens" in found[0].problem


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str, str, str]] = {
    "no Python for sparkd": (
        {"sparkd_python": "missing", "machine": "x86_64"},
        {"sparkd_python": "/usr/bin/python3"},
        "sparkd_python",
        "It is not there",
        "Debian 12, Debian 13 or Ubuntu 24.04",
    ),
    "a Python that sparkd does not run on": (
        {"sparkd_python": "3.9", "machine": "x86_64"},
        {"sparkd_python": "/usr/bin/python3"},
        "sparkd_python",
        "It is Python 3.9",
        "spark_daemons: apache",
    ),
    "a machine without wheels": (
        {"sparkd_python": "3.13", "machine": "riscv64"},
        {"sparkd_python": "/usr/bin/python3"},
        "spark_daemons",
        "a riscv64",
        "another host",
    ),
    "memory": ({"memory_mb": 500}, {}, "preflight_min_memory_mb", "500 MiB of memory", "lower preflight_min_memory_mb"),
    "disk, once per file system": (
        {"disks": [{"path": "/a", "device": 1, "free_mb": 10}, {"path": "/b", "device": 1, "free_mb": 10}]},
        {},
        "preflight_min_disk_mb",
        "Only 10 MiB are free for /a and /b",
        "make room",
    ),
    "clock behind": ({"time": 900.0}, {}, "preflight_max_clock_skew_s", "99.5 s behind", "NTP"),
    "clock ahead": ({"time": 1100.0}, {}, "preflight_max_clock_skew_s", "99.5 s ahead of", "NTP"),
    "no root": ({"root": False}, {}, "ansible_become", "need root", "sudo"),
    "no systemd": ({"systemd": False}, {}, "systemd", "systemd units", "boots with systemd"),
    "old Python": ({"python": [3, 9, 2]}, {}, "ansible_python_interpreter", "Python 3.11 or later", "Debian 12"),
    "port of a stranger": (
        {"ports": {"8080": {"pid": 7, "name": "nginx", "unit": "nginx.service"}}},
        {},
        "spark_master_webui_port",
        "nginx (pid 7, unit nginx.service) already listens on this port, which the master's page needs",
        "set spark_master_webui_port of h",
    ),
    "port of a Spark started by hand": (
        {"ports": {"8080": {"pid": 7, "name": "java", "unit": ""}}},
        {},
        "spark_master_webui_port",
        "java (pid 7) already listens",
        "stop it",
    ),
    "name that does not resolve": (
        {"names": {"p": []}},
        {"names": {"p": ""}},
        "cluster_address",
        "does not resolve",
        "names_manage_etc_hosts",
    ),
    "name on loopback": ({"names": {"p": ["127.0.1.1"]}}, {"names": {"p": ""}}, "cluster_address", "127.0.1.1", "DNS"),
    "name with another address": (
        {"names": {"p": ["10.0.0.9"]}},
        {"names": {"p": "10.0.0.1"}},
        "cluster_address",
        "10.0.0.9, not to cluster_ip 10.0.0.1",
        "DNS",
    ),
    "3.5 on Debian 13": (
        {"distribution": {"id": "debian", "version": "13", "name": ""}},
        {"spark_version": "3.5.9"},
        "spark_version",
        "Debian-13 packages Java 21 and 25 only, which does not fit Spark 3.5 (Java 17)",
        "set java_home",
    ),
    "Java 21 on Debian 12": ({}, {"java_version": 21}, "java_version", "packages Java 17 only", "java_home"),
    "java_home of another version": (
        {"java": "1.8.0_392"},
        {"java_home": "/opt/jdk8"},
        "java_home",
        "It is Java 1.8.0_392; Spark 4.3 takes 17 or 21",
        "point java_home",
    ),
    "java_home of nothing": ({"java": "missing"}, {"java_home": "/opt/nothing"}, "java_home", "no bin/java", "point java_home"),
    "changed id": ({"myid": "3"}, {"myid": 1}, "zookeeper_myid", "server 3 of the ensemble", "set zookeeper_myid: 3"),
}


@pytest.mark.parametrize("name", CASES)
def test_each_fault_gives_its_problem(name: str) -> None:
    facts, need, variable, problem, fix = CASES[name]
    found = judge(facts, need)
    assert len(found) == 1, found
    assert found[0].variable == variable
    assert problem in found[0].problem
    assert fix in found[0].fix


def test_java_home_frees_from_the_distribution() -> None:
    facts = {"distribution": {"id": "debian", "version": "13", "name": ""}, "java": "17.0.12"}
    assert judge(facts, {"spark_version": "3.5.9", "java_home": "/opt/jre17"}) == []


@pytest.mark.parametrize(
    ("trouble", "unreached", "fix"),
    [
        ("ssh: connect to host h port 22: No route to host", True, "--limit"),
        ("admin@h: Permission denied (publickey,password).", True, "ssh_trust_first_login_password"),
        ("Host key verification failed.", True, "known_hosts"),
        ("Missing sudo password", False, "--ask-become-pass"),
        ("The module interpreter '/usr/bin/python3' was not found.", False, "install python3"),
        ("something else", False, "ansible h -m"),
    ],
)
def test_a_host_without_an_answer_is_named_with_the_others(trouble: str, unreached: bool, fix: str) -> None:
    measured: dict[str, dict[str, Any]] = {
        "h": {"trouble": trouble, "unreached": unreached, "between": [0, 1]},
        "g": {"between": [999, 1001], "facts": {**FACTS, "memory_mb": 1}},
    }
    found = preflight_measured.judge({"h": NEED, "g": NEED}, measured, LIMITS, LINES, JAVA)
    assert [problem.hosts for problem in found] == [("h",), ("g",)]
    assert trouble in found[0].problem
    assert fix in found[0].fix


def test_ids_kept_on_hosts_clash_with_ids_asked_for() -> None:
    measured: dict[str, dict[str, Any]] = {
        host: {"between": [999, 1001], "facts": {**FACTS, "myid": kept}} for host, kept in (("a", "2"), ("b", ""))
    }
    found = preflight_measured.judge({"a": NEED, "b": {**NEED, "myid": 2}}, measured, LIMITS, LINES, JAVA)
    assert [problem.hosts for problem in found] == [("a", "b")]


@given(
    offset=st.floats(-1e4, 1e4),
    there=st.floats(0, 60),
    back=st.floats(0, 60),
)
def test_a_slow_network_is_never_a_wrong_clock(offset: float, there: float, back: float) -> None:
    """What is reported is never more than the real difference, and misses it by no more than the transfer took."""
    start = 1_000_000.0
    skew = preflight_measured.clock_skew([start, start + there + back], start + there + offset)
    assert abs(skew) <= abs(offset) + 1e-6
    assert abs(skew) >= abs(offset) - there - back - 1e-6


def test_a_listening_port_is_seen_with_its_holder() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        seen = preflight_host.ports([port, 1])
        assert list(seen) == [str(port)]
        assert seen[str(port)]["pid"] == os.getpid()
        assert seen[str(port)]["user"]
    assert preflight_host.ports([port]) == {}


def test_disk_of_a_path_that_does_not_exist_is_its_parents(tmp_path: Any) -> None:
    assert preflight_host.disk(str(tmp_path / "a" / "b"))["free_mb"] == preflight_host.disk(str(tmp_path))["free_mb"]


def test_names_resolve_within_bounds() -> None:
    assert preflight_host.resolve(["localhost", "no-such-name.invalid"]) == {"localhost": ["127.0.0.1"], "no-such-name.invalid": []}


def test_java_release(tmp_path: Any) -> None:
    assert preflight_host.java_release("") == ""
    assert preflight_host.java_release(str(tmp_path)) == "missing"
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.touch(0o755)
    (tmp_path / "release").write_text('IMPLEMENTOR="x"\nJAVA_VERSION="17.0.12"\n')
    assert preflight_host.java_release(str(tmp_path)) == "17.0.12"


def test_sparkd_needs_less_memory_than_a_jvm() -> None:
    limits = preflight_measured.Limits(memory_mb=0, disk_mb=2048, clock_skew_s=5)
    facts = {**copy.deepcopy(FACTS), "memory_mb": 700, "sparkd_python": "3.11", "machine": "x86_64"}
    for python, wanted in (("", 1), ("/usr/bin/python3", 0)):
        measured = {"h": {"between": [999.5, 1000.5], "facts": facts}}
        found = preflight_measured.judge({"h": {**NEED, "sparkd_python": python}}, measured, limits, LINES, JAVA)
        assert len(found) == wanted


def test_the_version_of_a_python() -> None:
    assert preflight_host.python_version(sys.executable) == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert preflight_host.python_version("/nonexistent/python3") == "missing"
    assert preflight_host.python_version("/bin/false") == "missing"
    assert preflight_host.python_version("") == ""
