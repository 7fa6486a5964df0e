"""An epoch counter in a directory, raised under a lock. What FILESYSTEM and NONE have in common. Everything here blocks."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ..core.values import Epoch
from . import epoch as marks
from . import files
from .api import Misconfigured

LIMIT = 4096


class Counter:
    """Files `lock`, `cluster` and `epoch` of a directory."""

    def __init__(self, directory: Path, key: str = "spark.sparkd.stateDir") -> None:
        """key: what names the directory, for messages."""
        self.key = key
        self.directory = directory
        self.lock = files.Lock(directory / "lock")

    def prepare(self) -> None:
        """Make the directory. Raises Misconfigured, which names it and its key."""
        fix = f"name another directory with {self.key}, or let this user write there"
        try:
            self.directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        except OSError as error:
            raise Misconfigured(f"{self.directory} cannot be made: {error.strerror}; {fix}") from None
        if not os.access(self.directory, os.R_OK | os.W_OK | os.X_OK):
            raise Misconfigured(f"{self.directory} is not this user's to write in; {fix}")

    def mark(self) -> marks.ClusterMark | None:
        """Return the cluster mark. Raises Misconfigured, OSError."""
        raw = files.read(self.directory / "cluster", LIMIT)
        if raw is None:
            return None
        try:
            return marks.decode(raw)
        except marks.BadCluster as error:
            raise Misconfigured(f"{self.directory / 'cluster'}: {error}. Use the version that wrote it, or another directory") from None

    def number(self) -> int:
        """Return the last epoch number, 0 for none. Raises Misconfigured, OSError."""
        path = self.directory / "epoch"
        raw = files.read(path, LIMIT)
        if raw is None:
            return 0
        try:
            number = json.loads(raw)["number"]
        except (ValueError, TypeError, KeyError):
            number = None
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise Misconfigured(f"{path} holds no number. Write the last one into it, or remove it when no worker knows this cluster")
        return number

    def raise_it(self) -> Epoch:
        """Count one further, durably, with the lock held. Raises Misconfigured, OSError."""
        mark = self.mark()
        if mark is None:
            mark = marks.new_mark()
            files.replace(self.directory / "cluster", marks.encode(mark))
        number = max(self.number(), mark.floor) + 1
        files.replace(self.directory / "epoch", json.dumps({"number": number}).encode() + b"\n")
        return Epoch(mark.cluster_id, number)

    def seed(self, mark: marks.ClusterMark) -> None:
        """Write a cluster mark, with the lock held. Raises OSError."""
        files.replace(self.directory / "cluster", marks.encode(mark))

    def still(self, epoch: Epoch) -> bool:
        """Tell whether the lock and the counter are still this epoch's. Raises OSError, Misconfigured."""
        return self.lock.holds() and self.number() == epoch.number
