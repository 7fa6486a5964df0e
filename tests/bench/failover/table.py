"""The printed table: n, median and maximum of each contender, the ratio, the bound and whether it held."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field


@dataclass
class Row:
    """One line. values in `unit`; bound on sparkd's median and maximum (or minimum, when more is better)."""

    name: str
    unit: str = "s"
    apache: list[float] = field(default_factory=list)
    sparkd: list[float] = field(default_factory=list)
    median_bound: float | None = None
    max_bound: float | None = None
    min_bound: float | None = None
    note: str = ""
    failed: str = ""

    @property
    def holds(self) -> bool:
        """Every bound holds; a row without figures holds none."""
        if self.failed or not self.sparkd:
            return False
        median, worst = statistics.median(self.sparkd), max(self.sparkd)
        return (
            (self.median_bound is None or median < self.median_bound)
            and (self.max_bound is None or worst < self.max_bound)
            and (self.min_bound is None or median >= self.min_bound)
        )

    @property
    def bounded(self) -> bool:
        """It has a bound, or something went wrong."""
        return bool(self.failed) or any(bound is not None for bound in (self.median_bound, self.max_bound, self.min_bound))

    @property
    def ratio(self) -> float | None:
        """How many times better sparkd's median is."""
        if not self.apache or not self.sparkd:
            return None
        ours, theirs = statistics.median(self.sparkd), statistics.median(self.apache)
        if self.min_bound is not None or self.unit == "/s":  # more is better
            return ours / theirs if theirs else None
        return theirs / ours if ours else None


def show(values: list[float], unit: str) -> str:
    """n, median, maximum."""
    if not values:
        return "-"
    digits = 2 if unit == "s" else 0
    return f"{statistics.median(values):.{digits}f} / {max(values):.{digits}f} ({len(values)})"


def bound(row: Row) -> str:
    """The bound in words."""
    parts = []
    if row.median_bound is not None:
        parts.append(f"median < {row.median_bound:g}")
    if row.max_bound is not None:
        parts.append(f"max < {row.max_bound:g}")
    if row.min_bound is not None:
        parts.append(f">= {row.min_bound:g}")
    return ", ".join(parts) or "-"


def text(rows: list[Row]) -> str:
    """Markdown, so that it can go into docs/performance.md as it is."""
    lines = [
        "| what | unit | Apache: median / max (n) | sparkd: median / max (n) | times better | bound | |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = row.ratio
        verdict = row.failed or ("-" if not row.bounded else "holds" if row.holds else "MISSED")
        lines.append(
            f"| {row.name}{f' ({row.note})' if row.note else ''} | {row.unit} | {show(row.apache, row.unit)} "
            f"| {show(row.sparkd, row.unit)} | {f'{ratio:.1f}' if ratio else '-'} | {bound(row)} | {verdict} |"
        )
    return "\n".join(lines)
