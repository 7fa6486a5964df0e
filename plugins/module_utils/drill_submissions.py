"""What became of a drill's submissions: what was acknowledged, what ran by the workers' own files, and what the cluster says. Pure.

Three sources, none of which knows the others: the submitter's lines (drill/files/submitter.py), what the commands themselves appended on
the workers (run.sh), and the drivers that the leader lists at the end.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.drill_history import HistoryError, entries


@dataclass(frozen=True)
class Submission:
    """One submission; ``driver`` is the id that was acknowledged, None when none was. Times of the seat's monotonic clock, in s."""

    key: str
    begin: float
    end: float
    driver: str | None
    error: str | None


@dataclass
class Submissions:
    """All submissions, and what became of them. Counts of runs by key; states by driver id."""

    made: list[Submission] = field(default_factory=list)
    started: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    states: Mapping[str, str] | None = None

    @property
    def acknowledged(self) -> list[Submission]:
        """Those that somebody promised to run."""
        return [one for one in self.made if one.driver]

    def lost(self) -> list[str]:
        """Return what was acknowledged and never ran."""
        return [one.key for one in self.acknowledged if not self.started[one.key]]

    def unfinished(self) -> list[str]:
        """Return what was acknowledged and ran, but not to its end."""
        return [one.key for one in self.acknowledged if self.started[one.key] and not self.ended[one.key]]

    def twice(self) -> list[str]:
        """Return what ran more than once, acknowledged or not."""
        return sorted(key for key, count in self.started.items() if count > 1)

    def unknown(self) -> list[str]:
        """Return what ran although nobody acknowledged it."""
        return sorted(set(self.started) - {one.key for one in self.acknowledged})

    def wrong_states(self) -> list[str]:
        """Return acknowledged ones that the cluster does not call FINISHED, with what it says. Empty when it was not asked."""
        if self.states is None:
            return []
        said = {one.key: self.states.get(str(one.driver), "not listed") for one in self.acknowledged}
        return [f"{key} {state}" for key, state in said.items() if state != "FINISHED"]


def parse_submissions(lines: Iterable[str]) -> list[Submission]:
    """Return what the submitter wrote. Raises HistoryError."""
    made = []
    for entry in entries(lines, "submitter's file"):
        if entry.get("kind") != "submission":
            continue
        try:
            driver, error = entry["driver"], entry["error"]
            made.append(Submission(str(entry["key"]), float(entry["begin"]), float(entry["end"]), driver and str(driver), error))
        except (KeyError, TypeError, ValueError) as problem:
            raise HistoryError(f"a line of the submitter's file lacks something: {problem!r}") from None
    return made


def parse_ran(files: Mapping[str, Iterable[str]], prefix: str) -> tuple[Counter[str], Counter[str]]:
    """Return how often each key began and ended, over all workers' files, by name of the host. Keys of other drills are left out.

    Raises HistoryError.
    """
    started: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    for host, lines in files.items():
        for entry in entries(lines, f"file of {host}"):
            key = str(entry.get("id", ""))
            if key.startswith(prefix) and entry.get("event") in ("start", "end"):
                (started if entry["event"] == "start" else ended)[key] += 1
    return started, ended


def parse_states(text: str) -> dict[str, str] | None:
    """Return id -> state of the drivers that ``sparkd list drivers --json`` printed; None when it printed nothing of the kind."""
    try:
        listed: Any = json.loads(text)
        return {str(row["id"]): str(row["state"]) for row in listed}
    except (ValueError, TypeError, KeyError):
        return None
