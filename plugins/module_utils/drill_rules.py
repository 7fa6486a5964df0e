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
from ansible.module_utils.drill_submissions import Submission, Submissions

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
    submissions: Submissions = field(default_factory=Submissions)
    new_submission: Submission | None = None
    before: Mapping[str, Any] = field(default_factory=dict)

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
    last_job = max([*(job.end for job in facts.load.jobs), *(one.end for one in facts.submissions.made)], default=0.0)
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


def _few(names: list[str]) -> str:
    return f"{', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"


def submissions_failed(facts: Facts) -> Check:
    """Every submission was acknowledged, and there were some before and after the fault."""
    at, made = facts.fault_at, facts.submissions.made
    failed = [one for one in made if not one.driver]
    text = f"submissions without an answer, of {len(made)}"
    if failed:
        return _equal("submissions_failed", text, len(failed), 0, "", f"{len(failed)} failed, the first: {failed[0].error}")
    if at is None or not any(one.end <= at for one in made) or not any(one.begin > at for one in made):
        return _equal("submissions_failed", text, None, 0, "", "no submissions both before and after the fault")
    return _equal("submissions_failed", text, 0, 0, "")


def _of_acknowledged(facts: Facts, name: str, text: str, wrong: list[str], known: bool = True) -> Check:
    """Judge a list that must be empty, over acknowledged submissions, of which there must be some."""
    count = len(facts.submissions.acknowledged)
    value = len(wrong) if count and known else None
    why = _few(wrong) if wrong else "none was acknowledged" if not count else "nobody could be asked"
    return _equal(name, f"{text}, of {count}", value, 0, "", why)


def submissions_lost(facts: Facts) -> Check:
    """Whatever was acknowledged ran."""
    return _of_acknowledged(facts, "submissions_lost", "acknowledged and never ran", facts.submissions.lost())


def submissions_twice(facts: Facts) -> Check:
    """Nothing ran twice."""
    return _of_acknowledged(facts, "submissions_twice", "ran more than once", facts.submissions.twice())


def submissions_unfinished(facts: Facts) -> Check:
    """Whatever ran, ran to its end."""
    return _of_acknowledged(facts, "submissions_unfinished", "began and did not end", facts.submissions.unfinished())


def states_wrong(facts: Facts) -> Check:
    """Ask the cluster, which must call them FINISHED."""
    of = facts.submissions
    return _of_acknowledged(facts, "states_wrong", "in another state than FINISHED", of.wrong_states(), of.states is not None)


def first_submission(facts: Facts) -> Check:
    """How long after the old leader's last word the new one accepted a submission; an upper bound, as they are a second apart."""
    change, value = facts.change, None
    if change:
        ends = [one.end for one in facts.submissions.acknowledged if one.end > change.first.begin]
        value = min(ends) - change.last.begin if ends else None
    return _at_most(facts, "max_first_submission_s", "until a submission was accepted", value, "s", "none was accepted by the new leader")


def new_submission(facts: Facts) -> Check:
    """How long a new submission takes to be accepted, from the start of its program; it must run once, to its end."""
    one = facts.new_submission
    ran = one is not None and facts.submissions.started[one.key] == 1 and facts.submissions.ended[one.key] == 1
    why = "it was not made" if one is None else one.error or "it did not run once to its end"
    value = one.end - one.begin if one is not None and one.driver and ran else None
    return _at_most(facts, "max_new_submission_s", "until a new submission was accepted", value, "s", why)


def _free_again(facts: Facts, what: str, text: str, unit: str) -> Check:
    """Compare what the leader says is in use when all submissions have ended with what was in use before the drill."""
    last = facts.history.all_alive()[-1:]
    value = getattr(last[0], what) if last else None
    return _equal(f"{what}_same", text, value, facts.before.get(what), unit)


def cores_free(facts: Facts) -> Check:
    """No core is held by something that has ended."""
    return _free_again(facts, "cores_used", "cores in use at the end, as before", "")


def memory_free(facts: Facts) -> Check:
    """No memory is held by something that has ended."""
    return _free_again(facts, "memory_used_mb", "memory in use at the end, as before", "MiB")


#: Drill -> its checks where the load is submissions (sparkd), in the order of the report. A drill that is not here has no load.
SUBMISSION_DRILLS: Mapping[str, tuple[Callable[[Facts], Check], ...]] = {
    "leader_kill": (
        watched,
        one_leader,
        failover,
        first_submission,
        workers_back,
        standby_back,
        submissions_failed,
        submissions_lost,
        submissions_twice,
        submissions_unfinished,
        states_wrong,
        cores_free,
        memory_free,
        new_submission,
    ),
}

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


def judge(drill: str, facts: Facts, daemons: str = "apache") -> list[Check]:
    """Return the checks of the drill for a kind of daemon. Raises KeyError for an unknown drill or a missing bound."""
    checks = DRILLS[drill]
    if daemons == "sparkd":
        checks = SUBMISSION_DRILLS.get(drill, checks)
    return [check(facts) for check in checks]


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
        **_counted(facts),
        "jobs": len(facts.load.jobs),
        "job_median_s": round(sorted(jobs)[len(jobs) // 2], 3) if jobs else None,
        "new_application_registered_s": facts.newcomer.registered_s and round(facts.newcomer.registered_s, 3),
    }


def _counted(facts: Facts) -> dict[str, Any]:
    """Return figures of submissions, nothing where there were none."""
    of = facts.submissions
    if not of.made:
        return {}
    took = sorted(one.end - one.begin for one in of.acknowledged)
    return {
        "submissions": len(of.made),
        "acknowledged": len(took),
        "ran_unacknowledged": len(set(of.unknown()) - {facts.new_submission.key if facts.new_submission else ""}),
        "acknowledged_median_s": round(took[len(took) // 2], 3) if took else None,
        "acknowledged_max_s": round(took[-1], 3) if took else None,
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
    refused = [one for one in facts.submissions.made if not one.driver]
    events += [{"at_s": round(one.end - zero, 3), "master": None, "event": f"submission failed: {one.error}"} for one in refused]
    failed = [job for job in facts.load.jobs if not job.ok]
    events += [{"at_s": round(job.end - zero, 3), "master": None, "event": f"job failed: {job.error}"} for job in failed]
    return sorted(events, key=lambda event: event["at_s"])
