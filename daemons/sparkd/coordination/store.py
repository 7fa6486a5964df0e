"""What a batch of writes becomes in a store that holds one encoded record per key. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..core.effects import Write
from . import records

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Put:
    """One record to store (raw None: to remove), with the place in order that it has."""

    key: Key
    raw: bytes | None
    order: int = 0


@dataclass
class Known:
    """Which records exist, and their places in order; as loaded and as committed since."""

    orders: dict[Key, int] = field(default_factory=dict)
    last: int = 0

    def encode(self, batch: Sequence[Write]) -> list[Put]:
        """Return what to store: of several writes to one record the last. Raises RecordTooLarge, ValueError, TypeError."""
        latest: dict[Key, Write] = {}
        for write in batch:
            key = (write.kind, write.id)
            latest.pop(key, None)
            latest[key] = write
        puts, last = [], self.last
        for key, write in latest.items():
            if write.record is None:
                puts.append(Put(key, None))
                continue
            order = self.orders.get(key, 0)
            if not order:
                last += 1
                order = last
            puts.append(Put(key, records.encode(*key, order, write.body()), order))
        return puts

    def stored(self, puts: Iterable[Put]) -> None:
        """Note what is durable now."""
        for put in puts:
            if put.raw is None:
                self.orders.pop(put.key, None)
            else:
                self.orders[put.key] = put.order
                self.last = max(self.last, put.order)


def split(puts: Sequence[Put], limit: int, overhead: int) -> list[list[Put]]:
    """Return the puts in runs of at most `limit` bytes each, `overhead` counted for each record. One empty run for none."""
    runs: list[list[Put]] = [[]]
    size = 0
    for put in puts:
        bytes_ = overhead + len(put.raw or b"")
        if runs[-1] and size + bytes_ > limit:
            runs.append([])
            size = 0
        runs[-1].append(put)
        size += bytes_
    return runs
