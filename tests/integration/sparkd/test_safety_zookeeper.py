"""What a human may do to a cluster's directory in ZooKeeper while masters run: they make it anew, and lead again."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "unit" / "sparkd"))

from coordination_suite import contents, until
from coordination_world import ZookeeperWorld
from ensemble import Ensemble
from kazoo.exceptions import NotEmptyError

from sparkd.coordination.api import Interrupted, NotLeader, StoreUnavailable


@pytest.mark.parametrize("what", ["", "election", "commit", "records"])
def test_a_directory_that_was_removed_is_made_again(shared_ensemble: Ensemble, what: str) -> None:
    place = ZookeeperWorld(shared_ensemble)

    async def steps() -> None:
        a = await place.leader("a")
        await a.store("r1", ("driver", "d", {"n": 1}))
        engine = place.engine(a)
        before = engine.describe()["epoch"]
        for name in [what] if what else ["records", "set-aside", "commit", "cluster", "election"]:
            with suppress(NotEmptyError):  # it is being made again already
                await asyncio.to_thread(place.admin.delete, f"{engine.place.base}/{name}", recursive=True)
        if what in ("", "election"):
            await until(lambda: engine.describe()["elections"] == 2, "a new term")
        else:  # it leads on, and finds out when it writes
            with pytest.raises(StoreUnavailable):
                await a.store("r2", ("driver", "lost", {"n": 2}))

        async def served() -> bool:
            try:
                await a.engine.load()
                await a.store("r3", ("driver", "e", {"n": 3}))
            except (StoreUnavailable, NotLeader, Interrupted):
                return False
            return True

        for _ in range(100):
            if await served():
                break
            await asyncio.sleep(0.1)
        kept = [("driver", "d", {"n": 1})] if what in ("election", "commit") else []
        assert contents(await a.engine.load()) == [*kept, ("driver", "e", {"n": 3})]
        assert engine.describe()["epoch"] >= before and engine.lease_left_s() > 0  # type: ignore[operator]

    place.run(steps)
