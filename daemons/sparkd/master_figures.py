"""A master's figures by metric name, without the prefix sparkd_. Times in s.

..._total, ..._count and ..._sum are counters, the others gauges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from .core.cluster import Cluster
from .core.states import WorkerState
from .pipeline import Figures
from .rpc.control import Counts
from .rpc.server import WorkerSessions
from .term import RecoveryTimes


def of_pipelines(counts: Figures) -> dict[str, float]:
    """Events and the store, over all terms. event_seconds: what the core took for each of the last events, scheduling passes among them."""
    return {
        "reloads_total": counts.reloads,
        "events_total": counts.events,
        "refused_events_total": counts.failed_events,
        "refused_requests_total": counts.refused,
        "commits_total": counts.commits,
        "commits_failed_total": counts.failed_commits,
        "commit_writes_total": counts.writes,
        "commit_batch_max": counts.batch_max,
        "persist_seconds_count": counts.commits,
        "persist_seconds_sum": counts.persist_sum_s,
        "persist_seconds_max": counts.persist_max_s,
        "event_seconds_p99": _quantile(counts.handle_s, 0.99),
        "event_seconds_worst": max(counts.handle_s, default=0.0),
    }


def _quantile(values: Iterable[float], share: float) -> float:
    """Return the value that this share of them does not exceed, 0.0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def of_recovery(times: RecoveryTimes) -> dict[str, float]:
    """How long the last term's beginning took: total is from election to the first submission possible."""
    return {
        "recovery_load_seconds": times.load_s,
        "recovery_rebuild_seconds": times.rebuild_s,
        "recovery_total_seconds": times.total_s,
        "recovery_records": times.records,
    }


def of_connections(sessions: WorkerSessions, control: Counts) -> dict[str, float]:
    """Workers' connections; rejected ones are whoever else came."""
    return {
        "undelivered_commands_total": sessions.undelivered,
        "connections": len(sessions),
        "connections_registered": sessions.registered(),
        "connections_accepted_total": control.accepted,
        "connections_rejected_total": control.rejected,
        "connections_wrong_secret_total": control.wrong_secret,
    }


def of_cluster(cluster: Cluster | None) -> dict[str, float]:
    """Workers by state, and cores and memory (MiB) of those that live; all 0 for who does not lead."""
    workers = list(cluster.workers.values()) if cluster is not None else []
    states = Counter(worker.state for worker in workers)
    alive = [worker for worker in workers if worker.state is WorkerState.ALIVE]
    return {
        **{f"workers_{state.lower()}": states[state] for state in WorkerState},
        "cores": sum(worker.info.cores for worker in alive),
        "cores_used": sum(worker.cores_used for worker in alive),
        "memory_mb": sum(worker.info.memory_mb for worker in alive),
        "memory_used_mb": sum(worker.memory_used for worker in alive),
        "drivers_waiting": cluster.waiting_count if cluster is not None else 0,
    }
