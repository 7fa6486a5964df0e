"""The cluster's hosts as their peers see them, from the inventory and from what facts there are."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

GROUPS = ("zookeeper", "spark_masters", "spark_workers", "spark_clients")


def cluster_peers(groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one entry per host of the known groups, in the inventory's order.

    ``host``, ``address`` (cluster_address), ``ip`` (cluster_ip, else ansible_host where that is an address, else the default
    IPv4 address of the facts; empty when none of them is known, as for a host left out by --limit), ``names`` (what
    /etc/hosts gives it), ``port`` (of sshd) and ``host_keys`` (public host keys from the facts, ``type key``).
    """
    members = {host for group in GROUPS for host in groups.get(group, ())}
    peers = []
    for host in groups.get("all", ()):
        if host not in members:
            continue
        variables = hostvars[host]
        facts = variables.get("ansible_facts") or {}
        address = str(variables.get("cluster_address") or host)
        ip = next((text for text in _candidates(variables, facts) if _is_ip(text)), "")
        names = [name for name in dict.fromkeys([address, host, host.split(".")[0]]) if not _is_ip(name)]
        keys = []
        for kind in ("ed25519", "ecdsa", "rsa"):
            key = facts.get(f"ssh_host_key_{kind}_public")
            if key:
                keys.append(f"{facts.get(f'ssh_host_key_{kind}_public_keytype', f'ssh-{kind}')} {key}")
        port = int(variables.get("ssh_trust_port") or variables.get("ansible_port") or 22)
        peers.append({"host": host, "address": address, "ip": ip, "names": names, "port": port, "host_keys": keys})
    return peers


def _candidates(variables: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    default = facts.get("default_ipv4") or {}
    return [str(variables.get("cluster_ip") or ""), str(variables.get("ansible_host") or ""), str(default.get("address") or "")]


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class FilterModule:
    """The project's filters, by the names templates use."""

    def filters(self) -> dict[str, Any]:
        """Return name -> function."""
        return {"cluster_peers": cluster_peers}
