"""zoo.cfg and the unit, rendered by Ansible's own engine from the role's defaults and two invented hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from filter.zookeeper import zookeeper_ids, zookeeper_restarts, zookeeper_servers
from module_utils.zookeeper_rules import parse_servers

ROOT = Path(__file__).resolve().parent.parent.parent


def role_defaults() -> dict[str, Any]:
    values: dict[str, Any] = {}
    for role in ("cluster", "zookeeper"):
        values |= yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text())
    return values


def render(**more: Any) -> dict[str, str]:
    """Return the settings of zoo.cfg, key -> value."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOT / "templates" / "zookeeper"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        autoescape=False,  # noqa: S701 - a configuration file
    )
    hostvars: dict[str, dict[str, Any]] = {
        "h1": {},
        "h2": {"zookeeper_peer_port": 2889, "zookeeper_election_port": "3889"},
        "h3": {"cluster_address": "h3.x"},
    }
    servers = zookeeper_servers({"h1": 1, "h3": 3, "h2": 2}, hostvars)
    variables = {"ansible_managed": "x", **role_defaults(), "_zookeeper_servers": servers, **more}
    text = environment.get_template("zoo.cfg.j2").render(**variables)
    assert parse_servers(text) == servers
    pairs = [line.partition("=")[::2] for line in text.splitlines() if line and not line.startswith("#")]
    assert len({key for key, _ in pairs}) == len(pairs), "no key twice"
    return dict(pairs)


def test_defaults() -> None:
    settings = render()
    assert settings["4lw.commands.whitelist"] == "cons,mntr,ruok,srvr"
    assert settings["maxSessionTimeout"] == "6000"
    assert (settings["admin.enableServer"], settings["reconfigEnabled"], settings["quorumListenOnAllIPs"]) == ("false", "false", "false")
    assert not {"dataLogDir", "clientPortAddress", "minSessionTimeout", "admin.serverPort"} & set(settings)


def test_each_member_has_its_own_ports_and_address() -> None:
    settings = render()
    assert [settings[f"server.{number}"] for number in (1, 2, 3)] == ["h1:2888:3888", "h2:2889:3889", "h3.x:2888:3888"]


def test_options() -> None:
    settings = render(
        zookeeper_data_log_dir="/log",
        zookeeper_client_address="10.0.0.1",
        zookeeper_session_timeout_min_ms=3000,
        zookeeper_admin_enabled=True,
    )
    assert (settings["dataLogDir"], settings["clientPortAddress"], settings["minSessionTimeout"]) == ("/log", "10.0.0.1", "3000")
    assert (settings["admin.enableServer"], settings["admin.serverPort"]) == ("true", "8087")


def test_the_admin_server_is_never_on_the_masters_page_by_default() -> None:
    assert role_defaults()["zookeeper_admin_port"] not in (8080, 8081)


def test_ids_of_a_host_that_failed_come_from_the_others() -> None:
    servers = {"1": "h1:2888:3888", "2": "h2:2888:3888"}
    hostvars = {
        "h1": {"__zookeeper_state": {"myid": 1, "servers": servers}},
        "h2": {"__zookeeper_state": {"unreachable": True}},
        "h3": {"__zookeeper_state": {"myid": 0, "servers": {}}},
    }
    assert zookeeper_ids(["h3", "h2", "h1"], hostvars) == {"h3": 3, "h2": 2, "h1": 1}


@pytest.mark.parametrize(("leader", "order"), [("h1", ["h2", "h3", "h1"]), ("h3", ["h1", "h2", "h3"]), (None, ["h1", "h2", "h3"])])
def test_the_leader_restarts_last(leader: str | None, order: list[str]) -> None:
    hostvars = {host: {"__zookeeper_turn": {"needs_restart": True, "is_leader": host == leader}} for host in ("h1", "h2", "h3")}
    hostvars["h4"] = {"__zookeeper_turn": {"needs_restart": False, "is_leader": False}}
    assert zookeeper_restarts(["h1", "h2", "h3", "h4"], hostvars) == order
