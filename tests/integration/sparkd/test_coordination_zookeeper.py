"""The suite of all engines on a real three-server ensemble, and what only ZooKeeper has: ACLs, late writes, Apache's state, the fence."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "unit" / "sparkd"))

from coordination_suite import *  # noqa: F403
from coordination_suite import Master, World, contents, refuses
from coordination_world import ZookeeperWorld
from ensemble import Ensemble, free_ports

from sparkd.coordination.api import Misconfigured, StoreUnavailable
from sparkd.coordination.bridge import Op
from sparkd.coordination.zookeeper import ZookeeperEngine
from sparkd.core.effects import Write
from sparkd.settings import RecoverySettings

CHILD = Path(__file__).resolve().parent / "coordination_child.py"


@pytest.fixture
def world(shared_ensemble: Ensemble) -> Iterator[World]:
    yield ZookeeperWorld(shared_ensemble)


@pytest.fixture
def place(shared_ensemble: Ensemble) -> ZookeeperWorld:
    return ZookeeperWorld(shared_ensemble)


def test_a_write_that_arrives_late_changes_nothing(place: ZookeeperWorld) -> None:
    """What was given up for lost may still be carried out (a queue, a slow server); by then its version is of yesterday."""

    async def steps() -> None:
        a = await place.leader("a")
        bridge = place.bridge(a)
        original, late = bridge.transaction, []

        async def recorded(ops: list[Op], timeout_s: float | None = None) -> None:
            late.append(list(ops))
            await original(ops, timeout_s)

        bridge.transaction = recorded  # type: ignore[assignment, method-assign]
        await a.store("r1", ("driver", "d", {"n": 1}))
        await a.store("r2", ("driver", "d", {"n": 2}))
        with pytest.raises(Exception, match="BadVersion"):
            await original(late[-2])
        with pytest.raises(Exception, match="BadVersion"):
            await original(late[-1])
        await a.store("r3", ("driver", "e", {"n": 3}))
        assert contents(await a.engine.load()) == [("driver", "d", {"n": 2}), ("driver", "e", {"n": 3})]

    place.run(steps)


def test_a_late_write_between_two_is_found(place: ZookeeperWorld) -> None:
    """It is carried out after the look-up said that it is not, and before the retry."""

    async def steps() -> None:
        a = await place.leader("a")
        bridge = place.bridge(a)
        original = bridge.transaction
        calls = []

        async def late(ops: list[Op], timeout_s: float | None = None) -> None:
            calls.append(ops)
            if len(calls) == 1:
                from sparkd.coordination.bridge import Unanswered

                raise Unanswered("test")
            if len(calls) == 2:
                await original(calls[0], timeout_s)
            await original(ops, timeout_s)

        bridge.transaction = late  # type: ignore[assignment, method-assign]
        await a.store("r1", ("driver", "d", {"n": 1}))
        assert len(calls) == 2
        bridge.transaction = original  # type: ignore[method-assign]
        await a.store("r2", ("driver", "d", None))
        assert contents(await a.engine.load()) == []

    place.run(steps)


@pytest.mark.parametrize("answered", [False, True])
def test_a_latch_whose_reply_is_lost_is_found(place: ZookeeperWorld, monkeypatch: pytest.MonkeyPatch, answered: bool) -> None:
    """Or whose connection breaks just after it: there must not be a second latch behind it, waiting for nobody."""
    from sparkd.coordination.bridge import Bridge, Unanswered

    original = Bridge.create
    lost: list[str] = []

    async def create(bridge: Bridge, path: str, data: bytes = b"", **options: bool) -> str:
        made = await original(bridge, path, data, **options)
        if options.get("sequence") and not lost:
            lost.append(made)
            bridge.drop("test")
            if not answered:
                raise Unanswered("test")
            while bridge.connected:
                await asyncio.sleep(0.001)
        return made

    monkeypatch.setattr(Bridge, "create", create)

    async def steps() -> None:
        a = await place.join("a")
        await a.hears("elected")
        assert place.engine(a)._latch == lost[0]
        assert await asyncio.to_thread(place.admin.get_children, f"{place.directory}/election") == [lost[0].rpartition("/")[2]]

    place.run(steps)


def test_a_store_that_was_changed_by_hand_is_learnt_anew(place: ZookeeperWorld) -> None:
    async def steps() -> None:
        a = await place.leader("a")
        await a.store("r1", ("driver", "d", {"n": 1}), ("driver", "e", {"n": 1}))
        await asyncio.to_thread(place.admin.delete, f"{place.directory}/records/driver/d")
        await asyncio.to_thread(place.admin.create, f"{place.directory}/records/driver/f", b"?")
        await a.store("r2", ("driver", "d", {"n": 2}), ("driver", "e", None), ("driver", "f", {"n": 2}))
        await a.store("r3", ("queue", "q", {"n": 3}))
        assert contents(await a.engine.load()) == [("driver", "d", {"n": 2}), ("driver", "f", {"n": 2}), ("queue", "q", {"n": 3})]

    place.run(steps)


def test_the_latch_names_its_master_and_the_record_names_the_latch(place: ZookeeperWorld, tmp_path: Path) -> None:
    place.extra["latch_record"] = tmp_path / "latch.json"

    async def steps() -> None:
        a = await place.leader("a")
        latch = place.engine(a)._latch
        data, stat = await asyncio.to_thread(place.admin.get, latch)
        named = json.loads(data)
        assert (named["host"], named["port"], named["web_ui"]) == ("a", 7077, "http://a:8080")
        record = json.loads((tmp_path / "latch.json").read_text())
        assert record["latch"] == latch
        assert int(record["session"], 16) == stat.ephemeralOwner
        assert (tmp_path / "latch.json").stat().st_mode & 0o777 == 0o640
        assert a.last("elected").number == stat.czxid

    place.run(steps)


def test_apaches_state_is_refused(place: ZookeeperWorld) -> None:
    async def steps() -> None:
        await asyncio.to_thread(place.admin.ensure_path, f"{place.directory}/leader_election")
        await asyncio.to_thread(place.admin.ensure_path, f"{place.directory}/master_status/worker_worker-1")
        a = await place.join("a")
        error = await a.hears("misconfigured")
        assert place.directory in str(error)
        assert "master_status" in str(error)
        assert "spark.deploy.zookeeper.dir" in str(error)
        assert a.names() == ["misconfigured"]

    place.run(steps)


def test_a_secret_keeps_others_out(shared_ensemble: Ensemble) -> None:
    place = ZookeeperWorld(shared_ensemble, secret="s3:cret")

    async def steps() -> None:
        a = await place.leader("a")
        await a.store("r1", ("driver", "d", {"n": 1}))
        for path in ("", "/records/driver/d", "/election", "/cluster", "/commit", place.engine(a)._latch[len(place.directory) :]):
            acls, _ = await asyncio.to_thread(place.admin.get_acls, place.directory + path)
            assert [acl.id.scheme for acl in acls] == ["digest"], path
        for secret in ("", "another"):
            place.secret = secret
            other = await place.join(f"with-{secret}")
            error = await other.hears("misconfigured")
            assert isinstance(error, Misconfigured)
            assert "spark.sparkd.zookeeper.secretFile" in str(error)
            assert "s3:cret" not in str(error)
        assert a.names() == ["elected"]

    place.run(steps)


def test_a_secret_that_is_new_secures_what_is_there(place: ZookeeperWorld) -> None:
    async def steps() -> None:
        a = await place.leader("a")
        await a.store("r1", *(("driver", f"d{number}", {"n": number}) for number in range(150)))
        await a.engine.close()
        place.secret = "s3cret"
        b = await place.leader("b")
        assert len((await b.engine.load()).records) == 150
        await b.store("r2", ("driver", "d7", None))
        await asyncio.to_thread(place.admin.add_auth, "digest", "sparkd:s3cret")
        for path in ("", "/records", "/records/driver", "/records/driver/d149", "/election", "/cluster", "/commit", "/set-aside"):
            acls, _ = await asyncio.to_thread(place.admin.get_acls, place.directory + path)
            assert [acl.id.scheme for acl in acls] == ["digest"], path
        place.secret = ""
        c = await place.join("c")
        await c.hears("misconfigured")

    place.run(steps)


def test_records_that_others_may_not_touch_are_no_success(place: ZookeeperWorld) -> None:
    async def steps() -> None:
        from kazoo.security import make_digest_acl

        a = await place.leader("a")
        await a.store("r1", ("driver", "d", {"n": 1}))
        acl = [make_digest_acl("somebody", "else", all=True)]
        await asyncio.to_thread(place.admin.set_acls, f"{place.directory}/records/driver/d", acl)
        assert "secretFile" in await refuses(a.engine.commit([Write("driver", "d", {"n": 2})], "r2"), StoreUnavailable)
        await a.store("r3", ("driver", "e", {"n": 1}))
        assert a.names() == ["elected"]

    place.run(steps)


def test_a_rebuilt_ensemble_goes_on_counting(place: ZookeeperWorld) -> None:
    """Copied into a new ensemble, zxids are low again: the floor rises by itself."""

    async def steps() -> None:
        a = await place.leader("a")
        first = a.last("elected")
        await a.engine.close()
        far = first.number + 10**12
        commit = json.dumps({"request": "r", "part": 0, "number": far}).encode()
        await asyncio.to_thread(place.admin.set, f"{place.directory}/commit", commit)
        b = await place.leader("b")
        second = b.last("elected")
        assert second.number > far
        await b.store("r", ("driver", "d", {}))
        await b.engine.close()
        c = await place.leader("c")
        assert c.last("elected").number > second.number
        assert c.last("elected").cluster_id == first.cluster_id

    place.run(steps)


def test_an_ensemble_that_is_not_there_is_waited_for(zookeeper_jars: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    servers = Ensemble(zookeeper_jars, tmp_path / "late", size=1)

    async def steps() -> None:
        master = Master("a")
        engine = ZookeeperEngine(RecoverySettings(mode="ZOOKEEPER", zookeeper_url=servers.connect, session_timeout_s=2.0))
        master.engine = engine
        began = time.monotonic()
        await engine.start(master.address, master)
        assert time.monotonic() - began < 1
        await asyncio.sleep(2.5)
        assert master.heard == []
        assert [record.getMessage() for record in caplog.records if "waiting_for_zookeeper" in record.getMessage()]
        servers.start()
        await master.hears("elected")
        await engine.close()

    try:
        asyncio.run(steps())
    finally:
        servers.kill()


def test_nobody_there_at_all_closes_quickly() -> None:
    async def steps() -> None:
        master = Master("a")
        url = ",".join(f"127.0.0.1:{port}" for port in free_ports(3))
        engine = ZookeeperEngine(RecoverySettings(mode="ZOOKEEPER", zookeeper_url=url))
        master.engine = engine
        await engine.start(master.address, master)
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await engine.close()
        assert time.monotonic() - began < 2.5

    asyncio.run(steps())


# --- processes --------------------------------------------------------------------------------------------------------


class Child:
    """A master's engine in a process of its own: prints what it hears, and its lease all the time."""

    def __init__(self, place: ZookeeperWorld, record: Path) -> None:
        self.record = record
        arguments = [place.ensemble.connect, place.directory, str(place.session_s), str(record)]
        self.process = subprocess.Popen([sys.executable, str(CHILD), *arguments], stdout=subprocess.PIPE, text=True)
        self.lines: list[list[str]] = []

    async def says(self, word: str) -> list[str]:
        assert self.process.stdout is not None
        while True:
            line = await asyncio.to_thread(self.process.stdout.readline)
            assert line, "the child ended"
            self.lines.append(line.split())
            if self.lines[-1][1] == word:
                return self.lines[-1]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def run_fence(record: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "sparkd.fence", str(record), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


def test_fence(place: ZookeeperWorld, tmp_path: Path) -> None:
    place.session_s = 4.0
    took = []

    async def steps() -> None:
        for number in range(5):
            child = Child(place, tmp_path / "latch.json")
            try:
                await child.says("elected")
                b = await place.join(f"b{number}")
                await b.hears("leader")
                assert "process alive" in await asyncio.to_thread(run_fence, child.record)
                assert b.names() == []
                began = time.monotonic()
            finally:
                child.end()
            said = await asyncio.to_thread(run_fence, child.record)
            whole = time.monotonic() - began
            assert "'fenced'" in said
            await b.hears("elected")
            took.append((whole, time.monotonic() - began))
            assert "already gone" in await asyncio.to_thread(run_fence, child.record)
            assert b.names() == ["elected"], "nobody else's latch"
            # A record of another session, or of another boot, is nobody's to act on.
            record = json.loads(child.record.read_text())
            own = place.engine(b)._latch
            child.record.write_text(json.dumps(record | {"latch": own}))
            assert "already gone" in await asyncio.to_thread(run_fence, child.record)
            child.record.write_text(json.dumps(record | {"boot": "another"}))
            assert "another boot" in await asyncio.to_thread(run_fence, child.record)
            child.record.write_text("{}")
            assert "nothing recorded" in await asyncio.to_thread(run_fence, child.record)
            assert b.names() == ["elected"]
            await b.engine.close()

    place.run(steps)
    print(
        f"\nfence as a whole process, s: {[round(whole, 3) for whole, _ in took]}; kill to elected: {[round(till, 3) for _, till in took]}"
    )


def test_fence_with_a_secret_and_without_an_ensemble(shared_ensemble: Ensemble, tmp_path: Path) -> None:
    place = ZookeeperWorld(shared_ensemble, secret="s3cret")
    place.extra["latch_record"] = tmp_path / "latch.json"
    (tmp_path / "secret").write_text("s3cret\n")

    async def steps() -> None:
        a = await place.leader("a")
        record = json.loads((tmp_path / "latch.json").read_text())
        (tmp_path / "dead.json").write_text(json.dumps(record | {"start": record["start"] + 1}))
        assert "denied" in await asyncio.to_thread(run_fence, tmp_path / "dead.json")
        assert a.names() == ["elected"]
        assert "'fenced'" in await asyncio.to_thread(run_fence, tmp_path / "dead.json", "--secret-file", str(tmp_path / "secret"))
        await a.hears("deposed")
        gone = record | {"start": record["start"] + 1, "zookeeper": f"127.0.0.1:{free_ports(1)[0]}"}
        (tmp_path / "dead.json").write_text(json.dumps(gone))
        began = time.monotonic()
        assert "given up" in await asyncio.to_thread(run_fence, tmp_path / "dead.json")
        assert time.monotonic() - began < 5

    place.run(steps)


def test_a_paused_leader_is_none_with_its_first_word(place: ZookeeperWorld, tmp_path: Path) -> None:
    import os
    import signal

    async def steps() -> None:
        child = Child(place, tmp_path / "latch.json")
        try:
            await child.says("elected")
            b = await place.join("b")
            await b.hears("leader")
            os.kill(child.process.pid, signal.SIGSTOP)
            await b.hears("elected")
            led = b.clock()
            await asyncio.sleep(0.2)
            os.kill(child.process.pid, signal.SIGCONT)
            await child.says("deposed")
            words = [line for line in child.lines if float(line[0]) > led]
            assert words
            assert [line for line in words if line[1] == "lease" and float(line[2]) > 0] == []
        finally:
            child.end()

    place.run(steps)
