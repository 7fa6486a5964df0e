"""The cluster's entities as the APIs show them: everything that the HTTP faces read of the core. No environment, no secrets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.cluster import Cluster
from ..core.values import Json


def rows(cluster: Cluster, *names: str) -> list[Mapping[str, Any]]:
    """Return the entries of these lists of the cluster's /json/ fields, in their order."""
    state: Mapping[str, Any] = cluster.json_state()
    found: list[Mapping[str, Any]] = []
    for name in names:
        part = state.get(name, ())
        if isinstance(part, Sequence):
            found.extend(part)
    return found


def drivers(cluster: Cluster) -> list[Mapping[str, Json]]:
    """Return all drivers that are remembered, the active ones first."""
    return rows(cluster, "activedrivers", "completeddrivers")


def driver(cluster: Cluster, driver_id: str) -> Mapping[str, Json] | None:
    """Return one driver, None when it is not known."""
    return next((row for row in drivers(cluster) if row.get("id") == driver_id), None)


def counts(cluster: Cluster) -> dict[str, Json]:
    """Return how many there are of everything, by state, and cores and memory (MiB) of the workers that live."""
    state: Mapping[str, Any] = cluster.json_state()

    def by_state(*names: str) -> dict[str, int]:
        return dict(Counter(str(row.get("state")) for name in names for row in state.get(name, ())))

    return {
        "workers": by_state("workers"),
        "applications": by_state("activeapps", "completedapps"),
        "drivers": by_state("activedrivers", "completeddrivers"),
        **{name: state.get(name, 0) for name in ("cores", "coresused", "memory", "memoryused")},
    }


@dataclass(frozen=True, slots=True)
class DriverStatus:
    """What Spark's protocol tells of a driver. worker_address: host:port; message: why it failed."""

    state: str
    worker_id: str = ""
    worker_address: str = ""
    message: str = ""


def driver_status(cluster: Cluster, driver_id: str) -> DriverStatus | None:
    """Return the status of one driver, None when it is not known."""
    found = driver(cluster, driver_id)
    if found is None:
        return None
    worker_id = "" if found.get("worker") in (None, "None") else str(found["worker"])
    address = next((f"{row['host']}:{row['port']}" for row in rows(cluster, "workers") if row.get("id") == worker_id), "")
    return DriverStatus(str(found["state"]), worker_id, address, str(found.get("message") or ""))
