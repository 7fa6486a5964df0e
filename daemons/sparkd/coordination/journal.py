"""The journal of a recovery directory: batches appended, each as a whole or not at all. Pure: bytes in, bytes out.

A batch is a line of JSON, then the encoded records that it names, one after the other, then a newline. A batch that is cut off or does not
fit its checksum at the end of a journal was never acknowledged, and counts for nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .store import Put

FORMAT = 1
HEAD_LIMIT = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch as it was read."""

    request_id: str
    puts: tuple[Put, ...]


def encode(puts: Sequence[Put], request_id: str) -> bytes:
    """Return a batch's bytes."""
    body = b"".join(put.raw or b"" for put in puts)
    entries = [[*put.key, put.order, -1 if put.raw is None else len(put.raw)] for put in puts]
    head: dict[str, Any] = {"format": FORMAT, "request": request_id, "entries": entries}
    head["sha256"] = _sum(head, body)
    return json.dumps(head, separators=(",", ":")).encode() + b"\n" + body + b"\n"


def _sum(head: dict[str, Any], body: bytes) -> str:
    return hashlib.sha256(json.dumps([head["format"], head["request"], head["entries"]]).encode() + b"\n" + body).hexdigest()


def decode(raw: bytes) -> tuple[list[Batch], str]:
    """Return the batches, and why the rest cannot be read ("" when all can)."""
    batches: list[Batch] = []
    at = 0
    while at < len(raw):
        end = raw.find(b"\n", at, at + HEAD_LIMIT)
        try:
            head: Any = json.loads(raw[at:end]) if end >= 0 else None
            if isinstance(head, dict) and isinstance(head.get("format"), int) and head["format"] > FORMAT:
                return batches, f"written by a newer version (format {head['format']}; this one reads {FORMAT})"
            puts, after = _puts(head, raw, end + 1)
        except (ValueError, TypeError, KeyError, RecursionError):
            return batches, f"cut off or damaged at byte {at}"
        batches.append(Batch(str(head["request"]), puts))
        at = after
    return batches, ""


def _puts(head: Any, raw: bytes, at: int) -> tuple[tuple[Put, ...], int]:
    puts, begin = [], at
    for kind, record_id, order, length in head["entries"]:
        if not isinstance(kind, str) or not isinstance(record_id, str) or not isinstance(order, int) or not isinstance(length, int):
            raise ValueError("no entry")
        if length < 0:
            puts.append(Put((kind, record_id), None))
        else:
            puts.append(Put((kind, record_id), raw[at : at + length], order))
            at += length
    if raw[at : at + 1] != b"\n" or head["sha256"] != _sum(head, raw[begin:at]):
        raise ValueError("wrong checksum")
    return tuple(puts), at + 1
