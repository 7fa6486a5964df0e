"""The cluster as a leader knows it: `handle` takes events and returns what to store and to do. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..coordination.api import StoredRecord
from .effects import Outcome
from .events import Event
from .values import Now, Policy


class Cluster:
    """Stub of the contract; owned by the core's author."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    @classmethod
    def recover(cls, policy: Policy, records: Iterable[StoredRecord], now: Now) -> tuple[Cluster, Outcome]:
        """Return the cluster that the records tell of, every worker UNKNOWN until it reports."""
        raise NotImplementedError

    def handle(self, event: Event, now: Now) -> Outcome:
        """Take one event."""
        raise NotImplementedError

    def next_deadline(self) -> float | None:
        """Return when a Tick is due (Now.boot_s), None for never."""
        raise NotImplementedError

    def explain(self, entity_id: str) -> tuple[str, ...]:
        """Sentences: why a driver, application or worker is as it is, and what it waits for."""
        raise NotImplementedError

    def json_state(self) -> Mapping[str, object]:
        """Fields of Spark's /json/ that are the core's (JsonProtocol.writeMasterState)."""
        raise NotImplementedError
