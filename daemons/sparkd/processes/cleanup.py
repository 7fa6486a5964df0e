"""Removes directories of processes that ended long ago (spark.worker.cleanup.*). Never one that a worker did not make."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Collection
from pathlib import Path

from ..core.values import ProcessRef
from .files import Layout

log = logging.getLogger(__name__)


def clean(layout: Layout, keep: Collection[ProcessRef], ttl_s: float, now_s: float) -> int:
    """Remove what ended more than ttl_s before now_s (Unix time); return how many. keep: what runs. Errors are logged and skipped.

    The control directories say what is a process's: a work directory that holds other people's files too loses none of them.
    """
    removed = 0
    kept = {layout.attempt(ref) for ref in keep}
    for attempt in sorted(layout.runs.glob("*/[de]*")):
        if attempt in kept:
            continue
        try:
            if now_s - _newest(attempt) < ttl_s:
                continue
            directory = layout.root / attempt.parent.name / attempt.name[1:]
            if directory.is_dir() and not directory.is_symlink():
                if now_s - directory.stat().st_mtime < ttl_s:
                    continue
                shutil.rmtree(directory)
            shutil.rmtree(attempt)
            for parent in (directory.parent, attempt.parent):
                _remove_if_empty(parent)
            removed += 1
            log.info("event=cleaned directory=%s", directory)
        except OSError as error:
            log.warning("event=not_cleaned directory=%s why=%s", attempt, error)
    return removed


def _newest(attempt: Path) -> float:
    """Return when the newest thing in a control directory was written: its exit, at the latest."""
    return max((path.stat().st_mtime for path in (attempt, *attempt.glob("*"), *attempt.glob("*/exit.json"))), default=0.0)


def _remove_if_empty(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.rmdir()
