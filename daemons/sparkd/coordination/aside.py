"""What was set aside before: each leader finds it again and shows it, until a person has taken it away. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from . import records
from .api import SetAside

#: So many are read to tell why; of more only the names are told.
READ_LIMIT = 100


def name(kind: str, node: str, number: int) -> str:
    """Return the name that a record gets; number: epoch of the leader that found it."""
    return f"{kind}~{node}~{number}"


def found(names: Iterable[str], parent: str, contents: Mapping[str, bytes | None], known: Iterable[SetAside]) -> list[SetAside]:
    """Return what stands below `parent` and is not known yet. contents: of the names that were read."""
    told = {item.where for item in known}
    return [
        SetAside(*_what(one), _why(one, contents.get(one)), f"{parent}/{one}") for one in sorted(names) if f"{parent}/{one}" not in told
    ]


def _what(given: str) -> tuple[str, str]:
    kind, _, rest = given.partition("~")
    return kind, records.id_of(rest.rpartition("~")[0] or rest)


def _why(given: str, raw: bytes | None) -> str:
    kind, _, rest = given.partition("~")
    if raw is None or kind == "journal":
        return "set aside by an earlier leader"
    try:
        records.decode(raw, kind, rest.rpartition("~")[0])
    except records.Unreadable as error:
        return str(error)
    return "this version could read it: set aside by another one, or mended since"
