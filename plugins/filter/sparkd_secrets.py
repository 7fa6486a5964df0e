"""Filter that decides which secrets a cluster of sparkd has."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

#: Each is 32 random bytes in Base64URL without padding: what Spark's JWSFilter takes as a key, and text that no file or option damages.
NAMES = ("cluster", "rest", "zookeeper")
LENGTH_BYTES = 32


def sparkd_secrets(known: Sequence[Mapping[str, str]], given: Mapping[str, str], rotate: Sequence[str] = ()) -> dict[str, str]:
    """Return each secret: the given one, else the first that a host has, else a new one.

    known: what each host has, the host to believe first. rotate: those to make anew although hosts have one.
    """
    result = {}
    for name in NAMES:
        had = [] if name in rotate else [host[name] for host in known if host.get(name)]
        result[name] = str(given.get(name) or (had[0] if had else "") or secrets.token_urlsafe(LENGTH_BYTES))
    return result


class FilterModule:
    """The filter, by the name that roles use."""

    def filters(self) -> dict[str, Any]:
        """Return name -> function."""
        return {"sparkd_secrets": sparkd_secrets}
