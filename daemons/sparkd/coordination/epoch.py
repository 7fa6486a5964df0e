"""Cluster id and epoch numbers: what is stored beside the records. Pure, but for the one random id.

An epoch is (cluster id, number); numbers are compared only within one cluster id. floor: a number that every epoch of this place is above,
so that a cluster can move to another place and go on counting.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass

FORMAT = 1
LIMIT = 4096
_ID = re.compile(r"[0-9A-Za-z_.-]{1,64}")


class BadCluster(ValueError):
    """Not what encode wrote; the text says why."""


@dataclass(frozen=True, slots=True)
class ClusterMark:
    """Whose records these are."""

    cluster_id: str
    floor: int = 0


def new_mark() -> ClusterMark:
    """Return a mark for a place that has none."""
    return ClusterMark(uuid.uuid4().hex)


def valid_id(cluster_id: str) -> bool:
    """Tell whether it can be a cluster id: 1 to 64 letters, digits, _ . and -."""
    return _ID.fullmatch(cluster_id) is not None


def encode(mark: ClusterMark) -> bytes:
    """Return the mark as it is stored."""
    return json.dumps({"format": FORMAT, "cluster_id": mark.cluster_id, "floor": mark.floor}).encode() + b"\n"


def decode(raw: bytes) -> ClusterMark:
    """Return the mark. Raises BadCluster."""
    try:
        value = json.loads(raw[: LIMIT + 1]) if len(raw) <= LIMIT else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise BadCluster("no cluster mark")
    if value.get("format") != FORMAT:
        raise BadCluster(f"a cluster mark of format {value.get('format')!r}; this version reads {FORMAT}")
    cluster_id, floor = value.get("cluster_id"), value.get("floor")
    if not isinstance(cluster_id, str) or not valid_id(cluster_id):
        raise BadCluster("no cluster id in the cluster mark")
    if isinstance(floor, bool) or not isinstance(floor, int) or floor < 0:
        raise BadCluster("no floor in the cluster mark")
    return ClusterMark(cluster_id, floor)
