"""Filters that turn inventory hosts into what goes on a configuration line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def endpoints(hosts: Iterable[str], hostvars: Mapping[str, Any], port_variable: str, default_port: int) -> list[str]:
    """Return ``address:port`` per host, in the order given.

    The address is the host's ``cluster_address`` (its inventory name by default); the port its ``port_variable``.
    """
    result = []
    for host in hosts:
        variables = hostvars[host]
        address = variables.get("cluster_address", host)
        result.append(f"{address}:{int(variables.get(port_variable, default_port))}")
    return result


class FilterModule:
    """The project's filters, by the names templates use."""

    def filters(self) -> dict[str, Any]:
        """Return name -> function."""
        return {"endpoints": endpoints}
