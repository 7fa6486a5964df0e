"""One record as bytes, with format, checksum and place in order. Pure.

Two lines of JSON: what it is, then the record itself:

    {"format": 1, "kind": "driver", "id": "driver-20260101-0001", "order": 7, "sha256": "..."}
    {"state": "RUNNING", ...}

The checksum covers both. order: records are loaded in the order in which they were first stored.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as _quoted
from urllib.parse import quote, unquote

from ..core.values import Record
from .api import RECORD_LIMIT, RecordTooLarge

FORMAT = 1
HEAD_LIMIT = 4096
NAME_LIMIT = 200  # a file name has 255 bytes
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")  # most ids: they are names as they are


class Unreadable(ValueError):
    """A record that cannot be used; the text says why. It is set aside, never deleted."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A record as it was read."""

    kind: str
    id: str
    order: int
    record: Record


def _sum(kind: str, record_id: str, order: int, body: bytes) -> str:
    # As json.dumps([FORMAT, kind, record_id, order]) writes it.
    return hashlib.sha256(f"[{FORMAT}, {_quoted(kind)}, {_quoted(record_id)}, {order}]\n".encode() + body).hexdigest()


def encode(kind: str, record_id: str, order: int, record: Record | bytes) -> bytes:
    """Return the record's bytes. record: itself, or its JSON. Raises RecordTooLarge, and ValueError or TypeError for what is not JSON."""
    body = record if isinstance(record, bytes) else json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
    head = {"format": FORMAT, "kind": kind, "id": record_id, "order": order, "sha256": _sum(kind, record_id, order, body)}
    raw = json.dumps(head, separators=(",", ":")).encode() + b"\n" + body + b"\n"
    if len(raw) - len(body) > HEAD_LIMIT:
        raise RecordTooLarge(f"an id of {len(record_id)} characters")
    if len(raw) > RECORD_LIMIT:
        raise RecordTooLarge(f"the record of {kind} {record_id} has {len(raw)} bytes; {RECORD_LIMIT} are allowed")
    return raw


def decode(raw: bytes, kind: str, name: str) -> Decoded:
    """Return what the bytes under this kind and node or file name hold. Raises Unreadable."""
    if not raw:
        raise Unreadable("empty")
    if len(raw) > RECORD_LIMIT:
        raise Unreadable(f"{len(raw)} bytes; {RECORD_LIMIT} are allowed")
    first, newline, rest = raw.partition(b"\n")
    if len(first) > HEAD_LIMIT or not newline:
        raise Unreadable("no record")
    head = _object(first, "no record")
    version = head.get("format")
    if version != FORMAT:
        newer = isinstance(version, int) and not isinstance(version, bool) and version > FORMAT
        raise Unreadable(f"written by a newer version (format {version}; this one reads {FORMAT})" if newer else "no format")
    record_id, order = head.get("id"), head.get("order")
    if head.get("kind") != kind or not isinstance(record_id, str) or isinstance(order, bool) or not isinstance(order, int):
        raise Unreadable("its first line does not fit its place")
    body = rest.removesuffix(b"\n")
    if head.get("sha256") != _sum(kind, record_id, order, body):
        raise Unreadable("wrong checksum: truncated or changed")
    if node_name(record_id) != name:
        raise Unreadable("stored under another name")
    return Decoded(kind, record_id, order, _object(body, "not an object"))


def _object(raw: bytes, otherwise: str) -> Record:
    try:
        value = json.loads(str(raw, "utf-8"))
    except (ValueError, RecursionError):
        raise Unreadable(otherwise) from None
    if not isinstance(value, dict):
        raise Unreadable(otherwise)
    return value


def node_name(record_id: str) -> str:
    """Return a name for a node or a file: the id itself wherever it can be, never '.', '..', hidden or with a slash in it."""
    if len(record_id) <= NAME_LIMIT and _PLAIN.fullmatch(record_id):
        return record_id
    name = quote(record_id, safe="-_:+@ ,()")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if not name or len(name) > NAME_LIMIT:
        return "=" + hashlib.sha256(record_id.encode()).hexdigest()
    return name


def id_of(name: str) -> str:
    """Return the id that a name stands for, as far as it can be told without its bytes."""
    return unquote(name)
