"""Every kind of bad inventory gives exactly its problem, with the variable, the value and the fix in the text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils import preflight_model, preflight_rules, preflight_values
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parent.parent.parent


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text()) if path.is_file() else {}


SPECS: dict[str, dict[str, Any]] = {}
DEFAULTS: dict[str, Any] = {}
for role in sorted((ROOT / "roles").iterdir()):
    DEFAULTS.update(load(role / "defaults" / "main.yml") or {})
    for entry in (load(role / "meta" / "argument_specs.yml").get("argument_specs") or {}).values():
        for option, option_spec in (entry.get("options") or {}).items():
            SPECS.setdefault(option, {}).update(option_spec or {})
LINES = load(ROOT / "roles" / "cluster" / "vars" / "main.yml")["cluster_spark_lines"]
PLAIN = {name: value for name, value in DEFAULTS.items() if not (isinstance(value, str) and "{{" in value)}

LAB = {
    "zookeeper": ["spark82", "spark83", "spark84"],
    "spark_masters": ["spark82", "spark83"],
    "spark_workers": ["spark83", "spark84"],
}


def inventory(
    groups: dict[str, list[str]] | None = None,
    everyone: dict[str, Any] | None = None,
    hosts: dict[str, dict[str, Any]] | None = None,
    **more: Any,
) -> preflight_model.Inventory:
    """Return the lab's inventory with changes: for all hosts, and per host."""
    members = LAB if groups is None else groups
    names = list(dict.fromkeys([*(host for group in members.values() for host in group), *(hosts or {})]))
    values, own = {}, {}
    for number, host in enumerate(names):
        own[host] = {"ansible_host": f"192.168.88.{82 + number}", **(everyone or {}), **(hosts or {}).get(host, {})}
        values[host] = {**PLAIN, "spark_daemons": "apache", "cluster_address": host, **own[host]}
    return preflight_model.Inventory(
        groups={"all": names, "ungrouped": [], **members}, values=values, given=own, specs=SPECS, lines=LINES, **more
    )


def one(found: list[preflight_model.Problem]) -> preflight_model.Problem:
    assert len(found) == 1, preflight_model.report(found, [], "")
    return found[0]


GOOD: dict[str, dict[str, Any]] = {
    "the lab": {},
    "one host": {"groups": {"spark_masters": ["h"], "spark_workers": ["h"]}, "everyone": {"spark_recovery_mode": "FILESYSTEM"}},
    "no recovery": {"groups": {"spark_masters": ["a"], "spark_workers": ["b"]}, "everyone": {"spark_recovery_mode": "NONE"}},
    "ensemble of one": {"groups": {**LAB, "zookeeper": ["spark82"]}},
    "ensemble of five": {"groups": {**LAB, "zookeeper": list("abcde")}},
    "external ensemble": {"groups": {"spark_masters": ["a", "b"], "spark_workers": ["c"]}, "everyone": {"zookeeper_external": "z:2181/s"}},
    "external ensemble beside the group": {
        "groups": {**LAB, "zookeeper": ["a", "b"]},
        "everyone": {"zookeeper_external": "z1:2181,z2:2181"},
    },
    "numbers as text": {"everyone": {"spark_master_port": "7177", "preflight_min_memory_mb": "512", "names_manage_etc_hosts": "no"}},
    "own ids": {"hosts": {"spark82": {"zookeeper_myid": 1}, "spark83": {"zookeeper_myid": 2}, "spark84": {"zookeeper_myid": 7}}},
    "own ports": {"hosts": {"spark83": {"spark_master_webui_port": 18080}}},
    "AdminServer on a port of its own": {"everyone": {"zookeeper_admin_enabled": True}},
    "REST with a filter": {
        "everyone": {"spark_rest_enabled": True, "spark_rest_filters": {"org.apache.spark.ui.JWSFilter": {"secretKey": "x"}}}
    },
    "Java that fits": {"everyone": {"java_version": 17, "spark_version": "3.5.9"}},
    "an odd Java given by java_home": {"everyone": {"java_version": 21, "spark_version": "3.5.9", "java_home": "/opt/jre17"}},
    "ports of ssh forwarded": {
        "everyone": {"ansible_host": "127.0.0.1"},
        "hosts": {f"spark8{n}": {"ansible_port": 2200 + n, "cluster_ip": f"10.0.0.{n}"} for n in (2, 3, 4)},
    },
    "part of a group, beside it": {"groups": {**LAB, "spark_workers_large": ["spark84"]}},
    "parent group": {"groups": {**LAB, "spark_cluster": LAB["spark_masters"]}, "related": {"spark_cluster": ["spark_masters"]}},
    "a group of another purpose": {"groups": {**LAB, "monitoring": ["grafana"]}, "other_groups": ["monitoring"]},
    "another group with the same hosts": {"groups": {**LAB, "rack1": ["spark82"]}},
    "variables of others": {"everyone": {"nginx_port": 80, "sparkle": 1}},
    "sparkd": {"everyone": {"spark_daemons": "sparkd"}},
    "sparkd with REST, which has a key of its own": {"everyone": {"spark_daemons": "sparkd", "spark_rest_enabled": True}},
    "several masters of sparkd on a shared directory": {
        "everyone": {
            "spark_daemons": "sparkd",
            "spark_recovery_mode": "FILESYSTEM",
            "spark_recovery_directory": "/srv/shared",
            "spark_recovery_shared": True,
        }
    },
}


@pytest.mark.parametrize("name", GOOD)
def test_good_inventory_has_no_problem(name: str) -> None:
    found = preflight_rules.check(inventory(**GOOD[name]))
    assert not found, preflight_model.report(found, [], "")


BAD: dict[str, tuple[dict[str, Any], str, str, str, str]] = {
    # what: (inventory, variable, value, words of the problem, words of the fix)
    "several masters in FILESYSTEM": (
        {"everyone": {"spark_recovery_mode": "FILESYSTEM"}},
        "spark_recovery_mode",
        "FILESYSTEM",
        "2 masters (spark82 and spark83) in this mode: each elects itself, and the cluster would have 2 leaders. A recovery directory",
        "spark_recovery_mode: ZOOKEEPER, or leave one host in the group spark_masters",
    ),
    "several masters of sparkd on a directory that nobody calls shared": (
        {"everyone": {"spark_daemons": "sparkd", "spark_recovery_mode": "FILESYSTEM", "spark_recovery_directory": "/var/lib/spark/r"}},
        "spark_recovery_shared",
        "false",
        "elect by a lock in spark_recovery_directory",
        "set spark_recovery_shared: true; else set spark_recovery_mode: ZOOKEEPER",
    ),
    "several masters of sparkd on several directories": (
        {
            "everyone": {"spark_daemons": "sparkd", "spark_recovery_mode": "FILESYSTEM", "spark_recovery_shared": True},
            "hosts": {"spark82": {"spark_recovery_directory": "/a"}, "spark83": {"spark_recovery_directory": "/b"}},
        },
        "spark_recovery_directory",
        "/a and /b",
        "several directories",
        "one spark_recovery_directory for all of them",
    ),
    "several masters of sparkd in NONE": (
        {"everyone": {"spark_daemons": "sparkd", "spark_recovery_mode": "NONE"}},
        "spark_recovery_mode",
        "NONE",
        "each elects itself",
        "ZOOKEEPER",
    ),
    "a filter that sparkd has not": (
        {"everyone": {"spark_daemons": "sparkd", "spark_rest_enabled": True, "spark_rest_filters": {"org.example.Filter": {}}}},
        "spark_rest_filters",
        "org.example.Filter",
        "sparkd knows one by name",
        "spark_daemons: apache",
    ),
    "several masters in NONE": (
        {"everyone": {"spark_recovery_mode": "NONE"}},
        "spark_recovery_mode",
        "NONE",
        "each elects itself",
        "ZOOKEEPER",
    ),
    "unknown mode": (
        {"everyone": {"spark_recovery_mode": "ZOKEEPER"}},
        "spark_recovery_mode",
        "ZOKEEPER",
        "NONE, FILESYSTEM and ZOOKEEPER",
        "did you mean spark_recovery_mode: ZOOKEEPER?",
    ),
    "ensemble of two": (
        {"groups": {**LAB, "zookeeper": ["spark82", "spark83"]}},
        "group zookeeper",
        "2 hosts",
        "stops when either fails",
        "put 1 or 3 hosts",
    ),
    "no ensemble": (
        {"groups": {"spark_masters": ["a", "b"], "spark_workers": ["c"]}},
        "spark_recovery_mode",
        "ZOOKEEPER",
        "zookeeper is empty and zookeeper_external is not set",
        "put 3 hosts",
    ),
    "no port in the connect string": (
        {"everyone": {"zookeeper_external": "z1,z2"}},
        "zookeeper_external",
        "z1,z2",
        "'z1' is not host:port",
        "host:2181",
    ),
    "chroot after each server": (
        {"everyone": {"zookeeper_external": "z1:2181/spark,z2:2181/spark"}},
        "zookeeper_external",
        "z1:2181/spark,z2",
        "the chroot comes once, after the last server",
        "after the last port",
    ),
    "semicolons": ({"everyone": {"zookeeper_external": "z1:2181;z2:2181"}}, "zookeeper_external", ";", "is not host:port", "host:2181"),
    "duplicate id": (
        {"hosts": {"spark82": {"zookeeper_myid": 1}, "spark84": {"zookeeper_myid": "1"}}},
        "zookeeper_myid",
        "1",
        "spark82 and spark84 have the same server id",
        "2 is free",
    ),
    "id out of range": ({"hosts": {"spark82": {"zookeeper_myid": 256}}}, "zookeeper_myid", "256", "between 1 and 255", "choose one"),
    "host in no group": (
        {"hosts": {"spark85": {}}},
        "groups",
        "spark85",
        "In none of the groups",
        "zookeeper, spark_masters, spark_workers and spark_clients",
    ),
    "misspelt group": (
        {"groups": {**LAB, "spark_worker": ["spark85"]}},
        "group spark_worker",
        "",
        "No play uses a group of this name",
        "did you mean spark_workers?",
    ),
    "misspelt group of hosts that are in another one": (
        {"groups": {**LAB, "spark_workers": ["spark83"], "spark_worker": ["spark84"]}},
        "group spark_worker",
        "",
        "No play uses a group of this name",
        "did you mean spark_workers?",
    ),
    "group's old name": ({"groups": {**LAB, "slaves": ["spark85"]}}, "group slaves", "", "No play uses", "did you mean spark_workers?"),
    "no master": (
        {"groups": {"zookeeper": ["a"], "spark_workers": ["b"]}},
        "group spark_masters",
        "empty",
        "There is no master",
        "into the group spark_masters",
    ),
    "AdminServer on the master's page": (
        {"everyone": {"zookeeper_admin_enabled": True, "zookeeper_admin_port": 8080}},
        "zookeeper_admin_port and spark_master_webui_port",
        "8080",
        "would listen on the same port of one host",
        "set spark_master_webui_port to a free port, for example 8090",
    ),
    "port twice on one host only": (
        {"hosts": {"spark83": {"spark_worker_webui_port": 8080}}},
        "spark_master_webui_port and spark_worker_webui_port",
        "8080",
        "the master's page (spark_master_webui_port) and the worker's page (spark_worker_webui_port)",
        "set spark_worker_webui_port",
    ),
    "REST on the master's port": (
        {"everyone": {"spark_rest_enabled": True, "spark_rest_filters": {"f": {}}, "spark_rest_port": 7077}},
        "spark_master_port and spark_rest_port",
        "7077",
        "REST submissions",
        "set spark_rest_port",
    ),
    "sshd's port": (
        {"hosts": {"spark84": {"spark_worker_port": 22}}},
        "spark_worker_port and ansible_port",
        "22",
        "sshd",
        "set spark_worker_port to a free port, for example 1034",
    ),
    "two hosts with one address": (
        {"hosts": {"spark83": {"ansible_host": "192.168.88.82"}}},
        "ansible_host",
        "192.168.88.82",
        "spark82 and spark83 have the same address",
        "own ansible_host or cluster_ip",
    ),
    "two hosts with one cluster_ip": (
        {"hosts": {"spark83": {"cluster_ip": "10.0.0.1"}, "spark84": {"cluster_ip": "10.0.0.1"}}},
        "cluster_ip",
        "10.0.0.1",
        "spark83 and spark84 have the same address",
        "own cluster_ip",
    ),
    "loopback address among several": (
        {"hosts": {"spark83": {"ansible_host": "127.0.0.1"}}},
        "cluster_ip",
        "127.0.0.1",
        "the other hosts of the cluster cannot reach",
        "set cluster_ip of spark83",
    ),
    "unsupported line": (
        {"everyone": {"spark_version": "2.1.0"}},
        "spark_version",
        "2.1.0",
        "2.1 of Spark is not supported",
        "for example 4.3.0",
    ),
    "no version": ({"everyone": {"spark_version": "4.3"}}, "spark_version", "4.3", "three numbers", "spark_version: 4.3.0"),
    "Spark 3.5 on Java 21": (
        {"everyone": {"spark_version": "3.5.9", "java_version": 21}},
        "java_version",
        "21",
        "Spark 3.5 does not run on Java 21; it takes 17",
        "java_version: 17",
    ),
    "unknown Java": ({"everyone": {"java_version": 11}}, "java_version", "11", "it can be", "set java_version to one of these"),
    "REST without a filter": (
        {"everyone": {"spark_rest_enabled": "yes"}},
        "spark_rest_enabled",
        "true",
        "spark_rest_filters is empty",
        "spark_rest_enabled: false",
    ),
    "unknown daemons": ({"everyone": {"spark_daemons": "flink"}}, "spark_daemons", "flink", "Unknown value", "spark_daemons"),
    "port out of range": ({"everyone": {"spark_master_port": 70770}}, "spark_master_port", "70770", "between 1 and 65535", "7077"),
    "port that must be chosen": ({"everyone": {"spark_master_port": 0}}, "spark_master_port", "0", "between 1 and 65535", "7077"),
    "port in words": ({"everyone": {"spark_master_port": "default"}}, "spark_master_port", "default", "a whole number", "7077"),
    "memory without a unit": ({"everyone": {"spark_worker_memory": 2}}, "spark_worker_memory", "2", "with a unit", "512m or 2g"),
    "memory with a strange unit": ({"everyone": {"spark_daemon_memory": "1 GiB"}}, "spark_daemon_memory", "1 GiB", "k, m, g or t", "1g"),
    "neither true nor false": (
        {"everyone": {"names_manage_etc_hosts": "maybe"}},
        "names_manage_etc_hosts",
        "maybe",
        "true or false",
        "true or false",
    ),
    "text for a list": (
        {"everyone": {"preflight_other_groups": "a"}},
        "preflight_other_groups",
        "a",
        "It must be a list",
        "preflight_other_groups: [a]",
    ),
    "negative time": ({"everyone": {"spark_worker_timeout_s": -1}}, "spark_worker_timeout_s", "-1", "cannot be negative", "zero or more"),
    "session shorter than two ticks": (
        {"everyone": {"zookeeper_tick_time_ms": 2000, "zookeeper_session_timeout_max_ms": 3000}},
        "zookeeper_session_timeout_max_ms",
        "3000",
        "less than 2 ticks of 2000 ms",
        "to 4000 or more",
    ),
    "longest session below the shortest": (
        {"everyone": {"zookeeper_session_timeout_min_ms": 8000, "zookeeper_session_timeout_max_ms": 6000}},
        "zookeeper_session_timeout_max_ms",
        "6000",
        "less than zookeeper_session_timeout_min_ms (8000)",
        "to 8000 or more",
    ),
    "unknown variable": (
        {"everyone": {"spark_recovery_mod": "ZOOKEEPER"}},
        "spark_recovery_mod",
        "ZOOKEEPER",
        "No role knows a variable of this name",
        "did you mean spark_recovery_mode?",
    ),
    "unknown variable like nothing": ({"everyone": {"lab_qqqqq_xxxxx": 1}}, "lab_qqqqq_xxxxx", "1", "No role knows", "take it out"),
    "hosts that disagree": (
        {"hosts": {"spark84": {"spark_version": "3.5.9"}}},
        "spark_version",
        '"3.5.9" on spark84',
        "must agree",
        "set spark_version once",
    ),
    "a template that names nothing": (
        {"broken": {"spark82": {"spark_log_dir": "'base' is undefined"}}},
        "spark_log_dir",
        "",
        "cannot be worked out: 'base' is undefined",
        "correct the expression",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_inventory_has_exactly_its_problem(name: str) -> None:
    given_inventory, variable, value, problem, fix = BAD[name]
    found = one(preflight_rules.check(inventory(**given_inventory)))
    assert not found.warning
    assert found.variable == variable
    assert value in found.value
    assert problem in found.problem
    assert fix in found.fix
    text = preflight_model.report([found], [], "in the inventory")
    assert text.startswith("1 problem in the inventory; nothing was changed.\n\n1. ")
    assert found.problem in text and found.fix in text


def test_all_problems_are_shown_at_once_and_numbered() -> None:
    bad = inventory(
        groups={**LAB, "zookeeper": ["spark82", "spark83"]},
        everyone={"spark_recovery_mode": "FILESYSTEM", "spark_master_prt": 7078, "zookeeper_heap": "big"},
    )
    found = preflight_rules.check(bad)
    text = preflight_model.report(found, bad.hosts, "in the inventory")
    assert text.startswith("4 problems")
    assert [f"{number}. " in text for number in (1, 2, 3, 4, 5)] == [True, True, True, True, False]
    assert "spark_master_prt: 7078  (all hosts)" in text


@pytest.mark.parametrize(
    ("changes", "variable"),
    [
        ({"groups": {**LAB, "zookeeper": list("abcd")}}, "group zookeeper"),
        ({"groups": {"zookeeper": ["a"], "spark_masters": ["a"]}}, "group spark_workers"),
    ],
)
def test_warnings_do_not_stop(changes: dict[str, Any], variable: str) -> None:
    found = one(preflight_rules.check(inventory(**changes)))
    assert found.warning
    assert found.variable == variable


def test_secrets_are_never_shown() -> None:
    assert preflight_model.show("ssh_trust_first_login_password", "hunter2") == "(not shown)"
    assert preflight_model.show("spark_rest_filters", [{"secretKey": "hunter2"}]) == "(not shown)"
    text = preflight_model.report(preflight_rules.check(inventory(everyone={"ssh_trust_pasword_token": "hunter2"})), [], "")
    assert "hunter2" not in text
    assert "ssh_trust_pasword_token" in text


@given(st.sampled_from(sorted(SPECS)), st.data())
def test_one_slip_of_the_finger_is_understood(name: str, data: st.DataObject) -> None:
    """A name with one letter dropped, doubled or swapped leads back to a known name, mostly to the one that was meant."""
    place = data.draw(st.integers(min_value=0, max_value=len(name) - 2))
    slip = data.draw(
        st.sampled_from(
            [
                name[:place] + name[place + 1 :],
                name[: place + 1] + name[place:],
                name[:place] + name[place + 1] + name[place] + name[place + 2 :],
            ]
        )
    )
    assert preflight_model.nearest(slip, SPECS) is not None


PORTS = [
    "zookeeper_client_port",
    "zookeeper_peer_port",
    "zookeeper_election_port",
    "spark_master_port",
    "spark_master_webui_port",
    "spark_worker_webui_port",
]


@given(st.lists(st.integers(min_value=9000, max_value=9008), min_size=len(PORTS), max_size=len(PORTS)))
def test_ports_clash_exactly_when_two_are_equal(ports: list[int]) -> None:
    everything = {"zookeeper": ["h"], "spark_masters": ["h"], "spark_workers": ["h"]}
    found = preflight_rules.check(inventory(groups=everything, everyone=dict(zip(PORTS, ports, strict=True))))
    shared = {port for port in ports if ports.count(port) > 1}
    assert {int(problem.value) for problem in found} == shared
    for problem in found:
        suggested = int(problem.fix.rsplit(" ", 1)[1].rstrip("."))
        assert suggested not in ports


@given(st.lists(st.integers(min_value=1, max_value=4), min_size=3, max_size=3))
def test_ids_clash_exactly_when_two_are_equal(ids: list[int]) -> None:
    hosts = {host: {"zookeeper_myid": number} for host, number in zip(LAB["zookeeper"], ids, strict=True)}
    found = preflight_rules.check(inventory(hosts=hosts))
    assert bool(found) == (len(set(ids)) < 3)


@pytest.mark.parametrize("text", ["z:2181", "z1:2181,z2:2182,z3:2183/a/b", "[fe80::1]:2181", "10.0.0.1:2181/spark-ha"])
def test_connect_strings_that_are_fine(text: str) -> None:
    assert preflight_rules.parse_connect(text) is None


@pytest.mark.parametrize(
    "text", ["z", "z:", "z:0", "z:65536", "z:2181,", "z:2181/", "z:2181//a", "z:2181/a/", " z:2181", "z:2181,z:2181", "z 1:2181"]
)
def test_connect_strings_that_are_not(text: str) -> None:
    assert preflight_rules.parse_connect(text)


def test_every_role_variable_has_a_prefix_of_the_project() -> None:
    """Otherwise a slip in its name would go unseen."""
    allowed = {"accept_driver_loss"}
    assert not [name for name in SPECS if not name.startswith(preflight_values.PREFIXES) and name not in allowed]


def test_every_default_is_accepted() -> None:
    for name, spec in SPECS.items():
        if name in PLAIN:
            assert preflight_values.check_value(name, PLAIN[name], spec) is None, name


def test_listeners_name_variables_that_exist() -> None:
    for _, port, switch, _, _ in preflight_rules.LISTENERS:
        assert port in SPECS
        assert switch is None or switch in SPECS
