"""Did the cluster survive? Checks over a drill's history, each a figure beside its bound. Pure.

A check that has nothing to look at fails: no samples is not a pass. ``DRILLS`` says which checks a drill needs; a new drill is a
new line there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ansible.module_utils.drill_history import (
    Change,
    History,
    Load,
    change_of_leader,
    longest_blindness_s,
    longest_stall_s,
    longest_without_leader_s,
    overlaps,
    transitions,
)

SCHEMA = "spark-ha/drill/1"


@dataclass(frozen=True)
class Check:
    """One figure and its judgement; ``bound`` is what the value must not exceed, or must equal when ``exact``."""

    name: str
    text: str
    value: float | int | str | None
    bound: float | int | str | None
    unit: str
    ok: bool
    why: str = ""


@dataclass
class Facts:
    """All that is judged. ``victim`` is the master that led when the fault came."""

    victim: str
    workers: int
    history: History
    load: Load = field(default_factory=Load)
    newcomer: Load = field(default_factory=Load)
    bounds: Mapping[str, float] = field(default_factory=dict)

    @property
    def change(self) -> Change | None:
        """The change of leader."""
        return change_of_leader(self.history, self.victim)

    @property
    def fault_at(self) -> float | None:
        """When the victim led last, as far as anyone saw."""
        return self.change.last.begin if self.change else None


def _at_most(facts: Facts, name: str, text: str, value: float | None, unit: str, why: str) -> Check:
    """Judge a figure that must not exceed the bound of its name; a figure that could not be had fails."""
    bound = facts.bounds[name]
    rounded = None if value is None else round(value, 3)
    ok = rounded is not None and rounded <= bound
    if rounded is not None:
        why = "" if ok else f"{rounded:g} {unit}, at most {bound:g} allowed"
    return Check(name, text, rounded, bound, unit, ok, why)


def _equal(name: str, text: str, value: float | str | None, wanted: float | str | None, unit: str, why: str = "") -> Check:
    ok = value is not None and value == wanted
    return Check(name, text, value, wanted, unit, ok, "" if ok else why or f"{value}, {wanted} expected")


def watched(facts: Facts) -> Check:
    """Tell whether the observer saw every master, without long pauses of its own."""
    unseen = [name for name, samples in facts.history.samples.items() if len(samples) < 2]
    # An observer that ended before the load has not seen the rest.
    last_job = max((job.end for job in facts.load.jobs), default=0.0)
    value = None if unseen or not facts.history.samples else longest_blindness_s(facts.history, last_job)
    return _at_most(facts, "max_blindness_s", "longest pause of the observer", value, "s", f"never saw {', '.join(unseen) or 'any master'}")


def one_leader(facts: Facts) -> Check:
    """At most one leader at any time: no proven overlap."""
    seen = any(facts.history.samples.values())
    pairs = overlaps(facts.history)
    why = "" if seen else "no samples"
    if pairs:
        one, other = pairs[0]
        why = f"{one.name} and {other.name} led at the same time, {other.end - one.end:.2f} s after the first answer of {one.name}"
    return _equal("two_leaders", "moments with two leaders", len(pairs) if seen else None, 0, "", why)


def failover(facts: Facts) -> Check:
    """Time without a leader, the longest one if there were several changes."""
    value = longest_without_leader_s(facts.history, facts.victim)
    return _at_most(facts, "max_failover_s", "without a leader", value, "s", f"no other master than {facts.victim} ever said ALIVE")


def workers_back(facts: Facts) -> Check:
    """Every worker is ALIVE at the leader, first with the new one and at the end with whoever leads then."""
    change = facts.change
    value = None
    if change:
        led = [s for s in facts.history.all_alive() if s.begin >= change.first.begin]
        value = next((s.end - change.last.begin for s in led if s.alive_workers >= facts.workers), None)
        if led[-1].alive_workers < facts.workers:
            value = None
    why = f"never all {facts.workers}, or not to the end"
    return _at_most(facts, "max_workers_back_s", f"until all {facts.workers} workers were back", value, "s", why)


def standby_back(facts: Facts) -> Check:
    """Measure until the old leader answers again, as STANDBY, and has not led since."""
    value = None
    change = facts.change
    if change:
        later = [s for s in facts.history.samples[facts.victim] if s.begin > change.last.end]
        value = next((s.end - change.last.begin for s in later if s.status == "STANDBY"), None)
        if later and later[-1].status != "STANDBY":
            value = None
    return _at_most(facts, "max_standby_back_s", f"until {facts.victim} was back as STANDBY", value, "s", "never, or not to the end")


def jobs_failed(facts: Facts) -> Check:
    """No job failed, and there were jobs before and after the fault."""
    at = facts.fault_at
    failed = [job for job in facts.load.jobs if not job.ok]
    if failed:
        return _equal("jobs_failed", "jobs failed", len(failed), 0, "", f"{len(failed)} failed, the first: {failed[0].error}")
    if at is None or not any(job.end <= at for job in facts.load.jobs) or not any(job.begin > at for job in facts.load.jobs):
        return _equal("jobs_failed", "jobs failed", None, 0, "", "no jobs both before and after the fault")
    return _equal("jobs_failed", f"jobs failed of {len(facts.load.jobs)}", 0, 0, "")


def job_stall(facts: Facts) -> Check:
    """How long no job ended."""
    at = facts.fault_at
    # Load and observer are stopped together: a job that hung to the end shows as the time from the last good one.
    value = None if at is None else longest_stall_s(facts.load.jobs, at, facts.history.end)
    return _at_most(facts, "max_job_stall_s", "longest time without a finished job", value, "s", "no job before the fault")


def executors_lost(facts: Facts) -> Check:
    """Tell whether the executors of the load are the same, by id, from the fault to the end."""
    at = facts.fault_at
    seen = [job for job in facts.load.jobs if job.executors is not None]
    before = next((job.executors for job in reversed(seen) if at is not None and job.end <= at), None)
    after = [job.executors for job in seen if at is not None and job.begin > at]
    if not before or not after:
        return _equal("executors_lost", "executors lost", None, 0, "", "executors not seen before and after the fault")
    lost: set[str] = set()
    for alive in after:
        lost |= before - (alive or frozenset())
    return _equal("executors_lost", f"executors lost of {len(before)}", len(lost), 0, "", f"lost: {', '.join(sorted(lost))}")


def _in_use(facts: Facts, what: str, text: str, unit: str) -> Check:
    """Compare a leader's figure before the fault with the new leader's last one with the same applications."""
    change = facts.change
    if change is None or facts.load.app not in change.last.apps:
        return _equal(f"{what}_same", text, None, None, unit, "not known before the fault")
    led = [s for s in facts.history.samples[change.first.name] if s.alive and s.begin >= change.first.begin]
    same = [s for s in led if s.apps == change.last.apps]
    return _equal(f"{what}_same", text, getattr(same[-1], what) if same else None, getattr(change.last, what), unit)


def cores_same(facts: Facts) -> Check:
    """Cores in use are as before."""
    return _in_use(facts, "cores_used", "cores in use after, as before", "")


def memory_same(facts: Facts) -> Check:
    """Memory in use is as before."""
    return _in_use(facts, "memory_used_mb", "memory in use after, as before", "MiB")


def newcomer(facts: Facts) -> Check:
    """Measure until a new application is accepted, and tell whether its jobs run."""
    right = [job for job in facts.newcomer.jobs if job.ok]
    wrong = [job for job in facts.newcomer.jobs if not job.ok]
    value = facts.newcomer.registered_s if right and not wrong else None
    why = f"its job failed: {wrong[0].error}" if wrong else "it was not accepted or ran no job"
    return _at_most(facts, "max_new_application_s", "until a new application was accepted", value, "s", why)


#: Drill -> its checks, in the order of the report.
DRILLS: Mapping[str, tuple[Callable[[Facts], Check], ...]] = {
    "leader_kill": (
        watched,
        one_leader,
        failover,
        workers_back,
        standby_back,
        jobs_failed,
        executors_lost,
        job_stall,
        cores_same,
        memory_same,
        newcomer,
    ),
    "handover": (watched, one_leader, failover, workers_back, standby_back),
}


def judge(drill: str, facts: Facts) -> list[Check]:
    """Return the checks of the drill. Raises KeyError for an unknown drill or a missing bound."""
    return [check(facts) for check in DRILLS[drill]]


def measured(facts: Facts) -> dict[str, Any]:
    """Return what is worth comparing between runs, bounds or not."""
    change = facts.change
    gap = longest_without_leader_s(facts.history, facts.victim)
    jobs = [job.end - job.begin for job in facts.load.jobs if job.ok]
    return {
        "without_leader_s": None if gap is None else round(gap, 3),
        "old_leader": facts.victim,
        "new_leader": change.first.name if change else None,
        "samples": sum(map(len, facts.history.samples.values())),
        "jobs": len(facts.load.jobs),
        "job_median_s": round(sorted(jobs)[len(jobs) // 2], 3) if jobs else None,
        "new_application_registered_s": facts.newcomer.registered_s and round(facts.newcomer.registered_s, 3),
    }


def timeline(facts: Facts) -> list[dict[str, Any]]:
    """Return what happened, in seconds since the victim led last (negative: before)."""
    zero = facts.fault_at
    if zero is None:
        zero = facts.history.end
    events = []
    for name, samples in facts.history.samples.items():
        for at, status in transitions(samples):
            events.append({"at_s": round(at - zero, 3), "master": name, "event": status or "no answer"})
        counts = [(s.end, s.alive_workers) for s in samples if s.alive]
        for (_, before), (at, after) in pairwise(counts):
            if before != after:
                events.append({"at_s": round(at - zero, 3), "master": name, "event": f"{after} workers alive"})
    failed = [job for job in facts.load.jobs if not job.ok]
    events += [{"at_s": round(job.end - zero, 3), "master": None, "event": f"job failed: {job.error}"} for job in failed]
    return sorted(events, key=lambda event: event["at_s"])
