"""docs/seeds.md: every row is numbered, has a status, and names files that exist."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/seeds.md"
STATUSES = {"done", "later", "left out"}
SEEDS = set("ABCDE")
# A backticked word of the fourth column that begins like this is a file of the repository; `/opt/...` and commands are not.
REPOSITORY_FILE = re.compile(
    r"`((?:daemons|docs|examples|inventory|molecule|playbooks|plugins|roles|scripts|templates|tests)/[^`\s]+|site\.yml|Makefile)`"
)


@dataclass(frozen=True)
class Row:
    number: int
    seeds: tuple[str, ...]
    step: str
    how: str
    status: str

    @property
    def files(self) -> list[str]:
        return REPOSITORY_FILE.findall(self.how)


def rows() -> list[Row]:
    found = []
    for line in PAGE.read_text().splitlines():
        if re.match(r"\| *\d+ *\|", line):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            assert len(cells) == 5, f"a row has five columns: {line}"
            number, seeds, step, how, status = cells
            found.append(Row(int(number), tuple(seeds.split(", ")), step, how, status))
    return found


ROWS = rows()


def test_numbering_has_no_gaps_and_covers_the_walkthroughs() -> None:
    assert [row.number for row in ROWS] == list(range(1, len(ROWS) + 1))
    assert len(ROWS) >= 90
    assert {seed for row in ROWS for seed in row.seeds} == SEEDS


def test_every_row_has_a_known_seed_and_status() -> None:
    strange = [row.number for row in ROWS if row.status not in STATUSES or not set(row.seeds) <= SEEDS or not row.step or not row.how]
    assert strange == []


def test_every_file_that_a_row_names_exists() -> None:
    missing = {name: row.number for row in ROWS for name in row.files if not (ROOT / name).is_file()}
    assert missing == {}


def test_rows_that_are_done_name_the_file_that_does_it() -> None:
    assert [row.number for row in ROWS if row.status == "done" and not row.files] == []


def test_rows_for_later_name_the_drill_they_wait_for() -> None:
    drills = {row.number: re.findall(r"Planned: (\w+) drill", row.how) for row in ROWS}
    assert {number for number, names in drills.items() if names} == {row.number for row in ROWS if row.status == "later"}
    written = {number for number, names in drills.items() if any((ROOT / f"playbooks/drills/{name}.yml").exists() for name in names)}
    assert written == set(), "the drills of these rows exist now: complete the rows"


def test_the_counts_in_the_text_are_those_of_the_table() -> None:
    counts = Counter(row.status for row in ROWS)
    stated = re.search(r"(\d+) rows: (\d+) done, (\d+) later, (\d+) left out", PAGE.read_text())
    assert stated is not None
    assert [int(figure) for figure in stated.groups()] == [len(ROWS), counts["done"], counts["later"], counts["left out"]]


@pytest.mark.parametrize("word", ["/work/", "/tmp/", ".txt"])
def test_the_page_names_no_path_of_the_machine_it_was_written_on(word: str) -> None:
    assert word not in PAGE.read_text()
