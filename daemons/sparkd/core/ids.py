"""Ids of drivers and applications, from a number that is never used twice.

Source: org.apache.spark.deploy.master.Master.newDriverId, newApplicationId, createApplication (useAppNameAsAppId). The date is UTC here:
masters of one cluster may be in different time zones.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import UTC, datetime

from .values import Policy

_UNSAFE = re.compile(r"[^a-z0-9._-]+")


def stamp(wall_ms: int) -> str:
    """Return yyyyMMddHHmmss of a Unix time in ms."""
    return _stamp(wall_ms // 1000)


@functools.lru_cache(1)  # many ids are of the same second
def _stamp(wall_s: int) -> str:
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y%m%d%H%M%S")


def driver_id(policy: Policy, wall_ms: int, number: int, taken: Callable[[str], bool]) -> str:
    """Return the id of the driver `number`. A pattern without a number may repeat itself: a suffix then keeps ids apart."""
    return _apart(policy.driver_id_pattern % (stamp(wall_ms), number), number, taken)


def application_id(policy: Policy, wall_ms: int, number: int, name: str, taken: Callable[[str], bool]) -> str:
    """Return the id of the application `number`: from the pattern, or from its name when the policy says so."""
    if policy.app_name_as_id:
        # Spark removes white space only; an id is a directory and a record's key here, so nothing else that is special stays.
        plain = _UNSAFE.sub("-", re.sub(r"\s+", "", name.lower())).strip(".-")[:100]
        if plain:
            return _apart(plain, number, taken)
    shown = number % policy.app_number_modulo if policy.app_number_modulo else number
    return _apart(policy.app_id_pattern % (stamp(wall_ms), shown), number, taken)


def _apart(candidate: str, number: int, taken: Callable[[str], bool]) -> str:
    if not taken(candidate):
        return candidate
    candidate = f"{candidate}-{number}"
    while taken(candidate):
        candidate += "x"
    return candidate
