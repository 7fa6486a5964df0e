"""Two hundred courses of events, and what must hold in each of them. SPARKD_SIM_SEEDS=5000 (a number) or =17,23 (these) for others.

A failure names its seed and tells its story; the same seed tells the same one again.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sim_story import SUBMISSIONS, Story

DEFAULT = 200
PARTS = 8  # tests that share the seeds
MUST_HAPPEN = (
    *("kill", "stop", "pause", "cut", "quorum", "latch", "expired", "stopped_while_speaking"),
    *("kill worker", "fall", "pause worker", "part", "flap", "full", "kill driver"),
    *("said_accepted", "said_launch_driver", "said_ack"),
    "starts",
)


def seeds() -> list[int]:
    given = os.environ.get("SPARKD_SIM_SEEDS", "")
    return [int(item) for item in given.split(",") if item] if "," in given else list(range(int(given or DEFAULT)))


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A directory in memory where there is one: a disk would take most of the time."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="sparkd-simulation-", dir=shm if os.access(shm, os.W_OK) else None) as name:
        yield Path(name)


def told(story: Story, seed: int) -> str:
    """What to show of a seed that failed."""
    return "\n".join([f"seed {seed}: SPARKD_SIM_SEEDS={seed}, tells it again", *story.world.trace[-60:], *story.world.failures])


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_happens(part: int, memory: Path) -> None:
    happened: Counter[str] = Counter()
    for seed in seeds()[part::PARTS]:
        story = Story(seed, memory / str(seed)).run()
        assert not story.world.failures, told(story, seed)
        happened.update(story.sim.counts)
        happened["acknowledged"] += sum(bool(request.driver_id) for request in story.checks.requests.values())
        happened["starts"] += sum(map(len, story.sim.starts.values()))
    if len(seeds()) >= DEFAULT:  # else a simulation in which nothing happens would pass
        missing = [what for what in MUST_HAPPEN if not happened[what]]
        assert not missing and happened["acknowledged"] > SUBMISSIONS * len(seeds()) / PARTS / 2, happened


def test_a_seed_tells_the_same_story_again(memory: Path) -> None:
    one, other = (Story(7, memory / "again").run().world.trace for _ in range(2))
    assert one == other and len(one) > 50
