"""Blocks in authorized_keys, known_hosts and ssh's config; what ssh's messages mean; peers from the inventory."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible.module_utils.ssh_files import Peer, authorized_keys, client_config, explain, known_hosts

from filter.cluster_peers import cluster_peers

A = Peer("a", ("a", "10.0.0.1"), 22, "ssh-ed25519 KEYA spark@a", ("ssh-ed25519 HOSTA", "ssh-rsa HOSTA2"))
B = Peer("b", ("b", "10.0.0.2"), 2222, "ssh-ed25519 KEYB", ("ssh-ed25519 HOSTB",))
MINE = "ssh-rsa PERSONAL me@home\n"


def test_keys_of_all_peers_are_authorised_and_the_users_own_stay() -> None:
    text = authorized_keys(MINE, [A, B])
    assert text == f"{MINE}# BEGIN spark-ha\nssh-ed25519 KEYA spark-ha:a\nssh-ed25519 KEYB spark-ha:b\n# END spark-ha\n"
    assert authorized_keys(text, [A, B]) == text


def test_keys_of_hosts_that_left_go_and_those_not_seen_in_this_run_stay() -> None:
    text = authorized_keys(MINE, [A, B])
    assert "KEYB" not in authorized_keys(text, [A])
    assert authorized_keys(text, [A, replace(B, key="")]) == text
    assert authorized_keys(text, []) == MINE
    assert authorized_keys("", []) == ""


def test_known_hosts_by_name_and_address_and_port() -> None:
    text = known_hosts("", [A, B], "a")
    assert text.splitlines() == [
        "# BEGIN spark-ha",
        "a,10.0.0.1,localhost,127.0.0.1,::1 ssh-ed25519 HOSTA spark-ha:a",
        "a,10.0.0.1,localhost,127.0.0.1,::1 ssh-rsa HOSTA2 spark-ha:a",
        "[b]:2222,[10.0.0.2]:2222 ssh-ed25519 HOSTB spark-ha:b",
        "# END spark-ha",
    ]
    assert known_hosts(text, [A, replace(B, host_keys=())], "a") == text
    assert "HOSTB" not in known_hosts(text, [A], "a")


def test_stale_lines_of_the_same_names_go_and_strangers_stay() -> None:
    text = known_hosts("a ssh-ed25519 OLD\ngithub.com ssh-ed25519 G\n", [A], "b")
    assert "OLD" not in text
    assert text.startswith("github.com ssh-ed25519 G\n")


def test_config_only_for_other_ports() -> None:
    assert client_config("", [A]) == ""
    text = client_config("Host x\n", [A, B])
    assert text == "Host x\n# BEGIN spark-ha\nHost b 10.0.0.2\n  Port 2222\n# END spark-ha\n"
    assert client_config(text, [A]) == "Host x\n"


@pytest.mark.parametrize(
    ("said", "code", "fix"),
    [
        ("Host key verification failed.", 255, "installed anew"),
        ("spark@b: Permission denied (publickey).", 255, "home directory"),
        ("ssh: Could not resolve hostname b: Name or service not known", 255, "names_manage_etc_hosts"),
        ("ssh: connect to host b port 22: Connection refused", 255, "ssh_trust_port"),
        ("", None, "firewall"),
        ("odd", 1, "ssh -v"),
    ],
)
def test_messages_of_ssh_are_explained(said: str, code: int | None, fix: str) -> None:
    reason, advice = explain(said, code)
    assert reason
    assert fix in advice


def test_peers_come_from_the_inventory_and_from_facts_where_there_are_some() -> None:
    groups = {"all": ["a.example.org", "b", "c", "d", "stranger"], "spark_masters": ["a.example.org", "b"], "zookeeper": ["c", "d"]}
    hostvars = {
        "a.example.org": {"ansible_host": "10.0.0.1", "cluster_ip": "10.1.0.1"},
        "b": {
            "ansible_host": "b.example.org",
            "ansible_facts": {"default_ipv4": {"address": "10.0.0.2"}, "ssh_host_key_ed25519_public": "K"},
        },
        "c": {"ansible_host": "c.example.org", "ansible_port": 2222},
        "d": {"cluster_address": "10.0.0.4", "ansible_host": "10.0.0.4"},
        "stranger": {},
    }
    peers = cluster_peers(groups, hostvars)
    assert [(peer["host"], peer["ip"], peer["names"], peer["port"]) for peer in peers] == [
        ("a.example.org", "10.1.0.1", ["a.example.org", "a"], 22),
        ("b", "10.0.0.2", ["b"], 22),
        ("c", "", ["c"], 2222),
        ("d", "10.0.0.4", ["d"], 22),
    ]
    assert peers[1]["host_keys"] == ["ssh-ed25519 K"]
