"""What a drill recorded, in order: masters as the observer saw them, jobs as the load ran them. Pure; seconds on one clock.

Observer and load run on the same host, so their monotonic clocks are one (CLOCK_MONOTONIC). A master said what it said at some
moment between ``begin`` and ``end`` of a sample; nothing finer is known, and every rule here keeps to that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any


class HistoryError(Exception):
    """The recorded lines are not what observer and load write; the text names the line."""


@dataclass(frozen=True)
class Sample:
    """One answer of a master; ``status`` None when there was none."""

    name: str
    begin: float
    end: float
    status: str | None
    alive_workers: int = 0
    cores_used: int = 0
    memory_used_mb: int = 0
    apps: frozenset[str] = frozenset()

    @property
    def alive(self) -> bool:
        """Whether the master said that it leads."""
        return self.status == "ALIVE"


@dataclass(frozen=True)
class Job:
    """One job of the load; ``executors`` None when Spark's interface did not answer."""

    begin: float
    end: float
    ok: bool
    error: str | None
    executors: frozenset[str] | None


@dataclass
class History:
    """All that was seen of the masters; samples of each in the order in which they began."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)

    @property
    def begin(self) -> float:
        """When the observer asked first."""
        return min((samples[0].begin for samples in self.samples.values() if samples), default=0.0)

    @property
    def end(self) -> float:
        """When the observer saw something last."""
        return max((sample.end for samples in self.samples.values() for sample in samples), default=0.0)

    def all_alive(self) -> list[Sample]:
        """Return every ALIVE answer, by the time of its beginning."""
        return sorted((sample for samples in self.samples.values() for sample in samples if sample.alive), key=lambda sample: sample.begin)


@dataclass
class Load:
    """What an application did."""

    app: str | None = None
    registered_s: float | None = None
    ready: bool = False
    jobs: list[Job] = field(default_factory=list)


def entries(lines: Iterable[str], what: str) -> list[dict[str, Any]]:
    """Return the lines as objects; raise HistoryError. The last line may be cut off: its writer was stopped."""
    kept = [line for line in lines if line.strip()]
    found = []
    for number, line in enumerate(kept, 1):
        try:
            entry = json.loads(line)
        except ValueError as error:
            if number == len(kept):
                break
            raise HistoryError(f"line {number} of the {what} is not JSON: {error}") from None
        if not isinstance(entry, dict):
            raise HistoryError(f"line {number} of the {what} is no object")
        found.append(entry)
    return found


def parse_history(lines: Iterable[str], names: Sequence[str]) -> History:
    """Return the observer's history; masters without a sample have an empty list. Raises HistoryError."""
    history = History({name: [] for name in names})
    for entry in entries(lines, "observer's file"):
        if entry.get("kind") != "master":
            continue
        try:
            sample = Sample(
                name=entry["name"],
                begin=float(entry["begin"]),
                end=float(entry["end"]),
                status=entry["status"],
                alive_workers=entry.get("alive_workers", 0),
                cores_used=entry.get("cores_used", 0),
                memory_used_mb=entry.get("memory_used_mb", 0),
                apps=frozenset(entry.get("apps", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise HistoryError(f"a line of the observer's file lacks something: {error!r}") from None
        history.samples.setdefault(sample.name, []).append(sample)
    for samples in history.samples.values():
        samples.sort(key=lambda sample: sample.begin)
    return history


def parse_load(lines: Iterable[str]) -> Load:
    """Return what the load wrote. Raises HistoryError."""
    load = Load()
    for entry in entries(lines, "load's file"):
        kind = entry.get("kind")
        try:
            if kind == "registered":
                load.app, load.registered_s = entry["app"], float(entry["seconds"])
            elif kind == "ready":
                load.ready = True
            elif kind == "job":
                listed = entry["executors"]
                executors = None if listed is None else frozenset(listed)
                load.jobs.append(Job(float(entry["begin"]), float(entry["end"]), entry["ok"] is True, entry["error"], executors))
        except (KeyError, TypeError, ValueError) as error:
            raise HistoryError(f"a line of the load's file lacks something: {error!r}") from None
    return load


def _reigns(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Return the runs of ALIVE answers that no other answer of this master interrupts."""
    runs: list[list[Sample]] = []
    led = False
    for sample in samples:
        if sample.alive and led:
            runs[-1].append(sample)
        elif sample.alive:
            runs.append([sample])
        led = sample.alive
    return runs


def overlaps(history: History) -> list[tuple[Sample, Sample]]:
    """Return proven moments with two leaders, as pairs of answers, one per pair of uninterrupted reigns.

    A master that says ALIVE twice in a row led from the end of the first answer to the beginning of the last: Apache's Master never
    leads twice in one process and takes seconds to start. Two such spans that intersect are proof, and so is a single ALIVE
    answer that lies wholly inside another's span. An answer that only touches a span proves nothing: a paused master's answer
    may be as old as its question.
    """
    reigns = [(name, run) for name, samples in history.samples.items() for run in _reigns(samples)]
    found = []
    for number, (name, one) in enumerate(reigns):
        for other_name, other in reigns[number + 1 :]:
            if name != other_name and (proof := _overlap(one, other)):
                found.append(proof)
    return sorted(found, key=lambda pair: pair[0].begin)


def _overlap(one: Sequence[Sample], other: Sequence[Sample]) -> tuple[Sample, Sample] | None:
    begin, end = max(one[0].end, other[0].end), min(one[-1].begin, other[-1].begin)
    if begin < end:
        return (one[0], other[0]) if one[0].end <= other[0].end else (other[0], one[0])
    for few, many in ((one, other), (other, one)):
        for sample in few:
            if many[0].end < sample.begin and sample.end < many[-1].begin:
                return many[0], sample
    return None


@dataclass(frozen=True)
class Change:
    """A change of leader: the last ALIVE answer of the old one, the first of the new one."""

    last: Sample
    first: Sample

    @property
    def without_leader_s(self) -> float:
        """Return an upper bound: the old one may have died as soon as its last answer began."""
        return self.first.end - self.last.begin


def change_of_leader(history: History, old: str) -> Change | None:
    """Return the first change away from ``old``; None when no other master ever said ALIVE after it."""
    first_of_others = next((sample for sample in history.all_alive() if sample.name != old), None)
    if first_of_others is None:
        return None
    before = [sample for sample in history.samples.get(old, []) if sample.alive and sample.begin <= first_of_others.begin]
    return Change(before[-1], first_of_others) if before else None


def longest_without_leader_s(history: History, old: str) -> float | None:
    """Return the longest time without a leader from ``old``'s last reign on, an upper bound; None when nobody else ever led.

    Counts every change until the end: the new leader may fall too. An unanswered question alone ends no reign, but another status
    in between does.
    """
    change = change_of_leader(history, old)
    if change is None:
        return None
    longest = change.without_leader_s
    for last, first in pairwise(sample for sample in history.all_alive() if sample.begin >= change.first.begin):
        between = (sample.status for sample in history.samples[first.name] if last.end <= sample.begin < first.begin)
        if last.name != first.name or any(between):
            longest = max(longest, first.end - last.begin)
    return longest


def longest_blindness_s(history: History, until: float = 0.0) -> float:
    """Return the longest time in which some master was not asked, from the first answer of any to the last, or to ``until``."""
    end = max(history.end, until)
    marks = ([history.begin, *(sample.begin for sample in samples), end] for samples in history.samples.values())
    return max((b - a for line in marks for a, b in pairwise(line)), default=0.0)


def longest_stall_s(jobs: Sequence[Job], since: float, until: float) -> float | None:
    """Return the longest time between the ends of good jobs from ``since`` to ``until``; None when there was none before."""
    ends = [job.end for job in jobs if job.ok]
    before = [end for end in ends if end <= since]
    if not before:
        return None
    marks = [before[-1], *(end for end in ends if since < end <= until), max(until, before[-1])]
    return max(b - a for a, b in pairwise(marks))


def transitions(samples: Sequence[Sample]) -> list[tuple[float, str | None]]:
    """Return when the master's status changed, and to what; the first answer counts as a change."""
    changes: list[tuple[float, str | None]] = []
    for sample in samples:
        if not changes or changes[-1][1] != sample.status:
            changes.append((sample.end, sample.status))
    return changes
