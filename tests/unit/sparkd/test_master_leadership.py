"""A master through elections, hand-overs, suspensions and lost leadership, with workers connected over loopback."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest
from master_world import TRUE, World, alive, engine_of, run, settings, until

from sparkd import master as master_module
from sparkd import pipeline
from sparkd.coordination import records
from sparkd.coordination.api import Interrupted, Loaded, Misconfigured, StoreUnavailable
from sparkd.coordination.memory import MemoryEngine
from sparkd.core.effects import Write
from sparkd.core.states import DriverState, MasterStatus, WorkerState
from sparkd.core.values import DriverDescription, Epoch
from sparkd.http.faces import NotAlive, NotDurable
from sparkd.master import Master, run_master
from sparkd.rpc import messages as msg
from sparkd.settings import MasterSettings, RestSettings, WebSettings

ALIVE, RECOVERING, STANDBY = MasterStatus.ALIVE, MasterStatus.RECOVERING, MasterStatus.STANDBY


def states(master: Master) -> dict[str, str]:
    cluster = master.cluster()
    assert cluster is not None
    return {driver.id: str(driver.state) for driver in (*cluster.drivers.values(), *cluster.completed_drivers.values())}


def test_a_driver_from_submission_to_its_end(caplog: pytest.LogCaptureFixture) -> None:
    async def test(world: World) -> None:
        leader = await world.leading()
        worker = await world.worker(leader)
        accepted = await worker.register()
        assert accepted.epoch == leader.epoch()
        version = leader.version()
        answer = await leader.submit(DriverDescription("command", "n", argv=("true",), environment={"PASSWORD": "hunter2"}))
        assert answer.ok
        launch = await worker.next(msg.LaunchDriver)
        assert (launch.epoch, launch.ref.owner, launch.description.argv) == (leader.epoch(), answer.id, ("true",))
        assert (await worker.tell(launch.ref, "RUNNING")).seq == 1
        assert (await worker.tell(launch.ref, "FINISHED", exit_code=0)).seq == 2
        assert states(leader) == {answer.id: "FINISHED"}
        assert leader.version() > version
        figures = leader.figures()
        assert figures["elections_total"] == 1 and figures["commits_total"] >= 3 and figures["workers_alive"] == 1
        assert figures["recovery_total_seconds"] > 0 and figures["persist_seconds_sum"] > 0

    caplog.set_level(logging.DEBUG)
    run(test)
    assert "hunter2" not in caplog.text, "a driver's environment is in the log"
    assert "to=FINISHED" in caplog.text and 'from=STANDBY to=RECOVERING cause="elected"' in caplog.text


def test_a_standby_refuses_and_names_the_leader() -> None:
    async def test(world: World) -> None:
        leader = await world.leading()
        standby = await world.master()
        await until(lambda: standby.leader() == leader.address(), "the leader's address")
        assert standby.status() is STANDBY and standby.cluster() is None
        for call in (standby.submit(TRUE), standby.kill_driver("d"), standby.kill_all(), standby.clear(), standby.decommission(["h"])):
            with pytest.raises(NotAlive) as refusal:
                await call
            assert refusal.value.leader == leader.address() and str(refusal.value) == "Current state is not alive: STANDBY"
        worker = await world.worker(standby)
        assert await worker.next(msg.Standby) == msg.Standby(leader.address())
        worker.links[0].send(msg.Register(worker.info))
        assert await worker.next(msg.Standby) == msg.Standby(leader.address())
        assert standby.masters()[0] == leader.address() and set(standby.masters()) == {leader.address(), standby.address()}

    run(test)


def test_hand_over_steps_down_before_the_latch_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World) -> None:
        leader, standby = await world.leading(), await world.master()
        worker = await world.worker(leader, standby)
        await worker.next(msg.Standby, 1)
        await worker.register()
        answer = await leader.submit(TRUE)
        ref = (await worker.next(msg.LaunchDriver)).ref
        seen: list[tuple[MasterStatus, bool]] = []
        remove = world.ensemble.remove

        def watched(engine: MemoryEngine) -> None:
            seen.append((leader.status(), leader.cluster() is None))
            remove(engine)

        monkeypatch.setattr(world.ensemble, "remove", watched)
        await leader.stop()
        assert seen == [(STANDBY, True)], "it must say STANDBY before its latch is released"
        await alive(standby)
        accepted = await worker.register(1, worker.report(ref, "RUNNING"), seen=leader.epoch())
        assert accepted.drop == ()
        assert states(standby) == {answer.id: "RUNNING"}
        with pytest.raises(NotAlive):
            await leader.submit(TRUE)

    run(test)


def test_requests_under_way_are_not_acknowledged_by_who_hands_over_and_run_once() -> None:
    async def test(world: World) -> None:
        leader = await world.leading()
        asked = [asyncio.create_task(leader.submit(TRUE, f"request-{number}")) for number in range(20)]
        await asyncio.sleep(0)
        await leader.stop()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(answer, NotAlive) for answer in answers)
        following = await world.leading()
        again = [await following.submit(TRUE, f"request-{number}") for number in range(20)]
        assert len({answer.id for answer in again if answer.ok}) == 20
        assert len(states(following)) == 20

    run(test)


def test_after_a_crash_the_next_leader_has_everything() -> None:
    async def test(world: World) -> None:
        leader, standby = await world.leading(), await world.master()
        worker = await world.worker(leader, standby)
        await worker.next(msg.Standby, 1)
        await worker.register()
        done, running = await leader.submit(TRUE), await leader.submit(TRUE)
        queued = await leader.submit(DriverDescription("command", argv=("true",), cores=64))
        refs = {launch.ref.owner: launch.ref for launch in [await worker.next(msg.LaunchDriver) for _ in range(2)]}
        await worker.tell(refs[done.id], "FINISHED", exit_code=0)
        engine_of(leader).cut = True
        world.ensemble.expire(engine_of(leader))
        await alive(standby)
        first = leader.epoch()
        assert first is not None
        late = worker.report(refs[running.id], "FINISHED", exit_code=0)
        accepted = await worker.register(1, late, seen=first)
        assert accepted.epoch.number > first.number and accepted.acknowledged == late.seq
        assert states(standby) == {queued.id: "SUBMITTED", done.id: "FINISHED", running.id: "FINISHED"}

    run(test)


def test_suspended_says_standby_and_resumes_with_everything() -> None:
    async def test(world: World) -> None:
        leader = await world.leading()
        worker = await world.worker(leader)
        await worker.register()
        core = leader.cluster()
        world.ensemble.suspend(engine_of(leader))
        await until(lambda: leader.status() is STANDBY, "STANDBY")
        assert leader.cluster() is None and leader.epoch() is not None
        with pytest.raises(NotAlive):
            await leader.submit(TRUE)
        newcomer = await world.worker(leader, id="w2")
        await newcomer.next(msg.Standby)
        world.ensemble.resume(engine_of(leader))
        await alive(leader)
        assert leader.cluster() is core, "memory is kept"
        await newcomer.register()
        assert (await leader.submit(TRUE)).ok
        await worker.next(msg.LaunchDriver) if core and core.workers["w1"].cores_used else await newcomer.next(msg.LaunchDriver)

    run(test)


def test_what_waits_when_leadership_is_suspended_goes_on_after_it() -> None:
    """Quorum is gone while a submission is under way, and comes back in time: it is answered, once, and only then."""

    async def test(world: World) -> None:
        leader = await world.leading()
        worker = await world.worker(leader)
        await worker.register()
        world.ensemble.quorum = False
        asked = asyncio.create_task(leader.submit(TRUE))
        await until(lambda: leader.status() is STANDBY, "STANDBY")
        assert not asked.done() and await worker.quiet()
        world.ensemble.quorum = True
        answer = await asked
        assert (await worker.next(msg.LaunchDriver)).ref.owner == answer.id
        assert list(states(leader)) == [answer.id]

    run(test)


def test_who_waits_too_long_is_refused_and_what_was_refused_does_not_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "SUSPENDED_WAIT_S", 0.05)

    async def test(world: World) -> None:
        leader = await world.leading()
        worker = await world.worker(leader)
        await worker.register()
        world.ensemble.quorum = False
        with pytest.raises(NotAlive):
            await leader.submit(TRUE)
        world.ensemble.quorum = True
        await worker.register()  # the cluster was read back: everybody is asked again
        await alive(leader)
        assert states(leader) == {}
        assert leader.figures()["reloads_total"] == 1 and leader.figures()["elections_total"] == 1

    run(test)


def test_leadership_lost_during_a_commit_is_never_acknowledged() -> None:
    async def test(world: World) -> None:
        leader, standby = await world.leading(), await world.master()
        worker = await world.worker(leader)
        await worker.register()
        world.ensemble.quorum = False
        asked = asyncio.create_task(leader.submit(TRUE, "request-1"))
        await asyncio.sleep(0.05)
        world.ensemble.quorum = True
        world.ensemble.expire(engine_of(leader))
        with pytest.raises(NotAlive):
            await asked
        assert leader.status() is STANDBY
        await worker.next(msg.Standby)  # and not LaunchDriver
        await alive(standby)
        assert states(standby) == {}
        assert (await standby.submit(TRUE, "request-1")).ok

    run(test)


def test_a_lost_reply_is_no_second_submission() -> None:
    """The transaction was carried out, then the leader died before it could say so. The client asks the next one with its id."""

    class Deaf(MemoryEngine):
        async def commit(self, batch: Sequence[Write], request_id: str) -> None:
            await super().commit(batch, request_id)
            if any(write.kind == "driver" for write in batch):
                self.ensemble.expire(self)
                await asyncio.sleep(0.05)

    async def test(world: World) -> None:
        leader = await world.leading(Deaf(world.ensemble))
        standby = await world.master()
        with pytest.raises(NotAlive):
            await leader.submit(TRUE, "request-1")
        await alive(standby)
        (found,) = states(standby)
        answer = await standby.submit(TRUE, "request-1")
        assert answer.ok and answer.id == found and len(states(standby)) == 1

    run(test)


def test_a_fenced_leader_joins_again_and_can_lead_again() -> None:
    async def test(world: World) -> None:
        leader = await world.leading()
        worker = await world.worker(leader)
        await worker.register()
        answer = await leader.submit(TRUE)
        ref = (await worker.next(msg.LaunchDriver)).ref
        first = leader.epoch()
        world.ensemble.delete_latch(engine_of(leader))
        assert leader.status() is STANDBY and leader.cluster() is None
        await worker.next(msg.Standby)
        await alive(leader)
        second = (await worker.register(0, worker.report(ref, "RUNNING"), seen=first)).epoch
        assert first is not None and second.number > first.number
        assert states(leader) == {answer.id: "RUNNING"}

    run(test)


def test_a_full_disk_refuses_and_forgets_then_goes_on() -> None:
    async def test(world: World) -> None:
        leader = await world.leading()
        worker = await world.worker(leader)
        await worker.register()
        world.ensemble.refuse = "No space left on device"
        with pytest.raises(NotDurable, match="No space left"):
            await leader.submit(TRUE)
        await until(lambda: leader.status() is RECOVERING, "RECOVERING")
        with pytest.raises(NotDurable, match="No space left"):
            await leader.submit(TRUE)
        world.ensemble.refuse = ""
        await worker.register()
        await alive(leader)
        assert states(leader) == {} and leader.figures()["elections_total"] == 1
        assert (await leader.submit(TRUE)).ok
        await worker.next(msg.LaunchDriver)

    run(test)


def test_a_submission_that_no_record_holds_is_refused_before_it_is_taken() -> None:
    async def test(world: World) -> None:
        leader = await world.leading()
        answer = await leader.submit(DriverDescription("command", argv=("x" * 600_000,)))
        assert not answer.ok and "allowed" in answer.message
        assert states(leader) == {} and leader.figures()["reloads_total"] == 0

    run(test)


def test_a_worker_of_another_cluster_or_of_a_newer_leader_is_refused() -> None:
    async def test(world: World) -> None:
        leader = await world.leading()
        epoch = leader.epoch()
        assert epoch is not None
        for seen, words in ((Epoch("other", 1), "reset-worker"), (Epoch(epoch.cluster_id, epoch.number + 1), "newer leader")):
            worker = await world.worker(leader)
            await worker.next(msg.Leading)
            worker.links[0].send(msg.Register(worker.info, seen))
            assert words in (await worker.next(msg.Refused)).why
        assert leader.figures()["workers_alive"] == 0

    run(test)


def test_a_worker_that_comes_back_replaces_its_old_connection() -> None:
    async def test(world: World) -> None:
        leader = await world.leading()
        old = await world.worker(leader)
        await old.register()
        new = await world.worker(leader)
        await new.register()
        await until(lambda: old.links[0]._reader.at_eof() or leader.figures()["connections"] == 1, "the old one closed")
        core = leader.cluster()
        assert core is not None and core.workers["w1"].state is WorkerState.ALIVE, "the old one's end is not the worker's"
        await leader.submit(TRUE)
        await new.next(msg.LaunchDriver)
        new.links[0].close()
        await until(lambda: str(core.workers["w1"].state) == "UNKNOWN", "UNKNOWN")

    run(test)


def test_what_a_worker_says_before_it_registered_is_not_heard() -> None:
    async def test(world: World) -> None:
        leader = await world.leading()
        worker = await world.worker(leader)
        await worker.next(msg.Leading)
        worker.links[0].send(msg.Heartbeat())
        worker.links[0].send(msg.Decommissioned())
        worker.links[0].send(msg.Register(worker.info))
        await worker.next(msg.Accepted)
        core = leader.cluster()
        assert core is not None and core.workers["w1"].state is WorkerState.ALIVE

    run(test)


def test_decommission_is_stored_and_told() -> None:
    async def test(world: World) -> None:
        leader = await world.leading()
        worker = await world.worker(leader)
        await worker.register()
        assert (await leader.decommission(["elsewhere"])).id == "0"
        assert (await leader.decommission(["127.0.0.1"])).id == "1"
        assert (await worker.next(msg.Decommission)).epoch == leader.epoch()
        core = leader.cluster()
        assert core is not None and core.workers["w1"].state is WorkerState.DECOMMISSIONED

    run(test)


def test_kill_goes_to_the_worker() -> None:
    async def test(world: World) -> None:
        leader = await world.leading()
        worker = await world.worker(leader)
        await worker.register()
        answer = await leader.submit(TRUE)
        ref = (await worker.next(msg.LaunchDriver)).ref
        assert (await leader.kill_driver(answer.id)).ok
        assert (await worker.next(msg.End)).ref == ref
        await worker.tell(ref, "KILLED")
        assert states(leader) == {answer.id: DriverState.KILLED}
        assert not (await leader.kill_driver("driver-nobody")).ok
        assert not (await leader.kill_application("app-nobody")).ok

    run(test)


def test_changed_wakes_on_a_change_and_ends_in_time() -> None:
    async def test(world: World) -> None:
        leader = await world.leading()
        await asyncio.sleep(0.02)
        version = leader.version()
        assert await leader.changed(version, 0.02) == version
        waiting = asyncio.create_task(leader.changed(version, 10))
        await asyncio.sleep(0)
        await leader.submit(TRUE)
        assert await waiting > version
        assert await leader.changed(version, 10) > version

    run(test)


def test_set_aside_records_are_told(caplog: pytest.LogCaptureFixture) -> None:
    async def test(world: World) -> None:
        first = await world.leading()
        kept, damaged = await first.submit(TRUE), await first.submit(TRUE)
        await first.stop()
        key = next(key for key in world.ensemble.records if key[1] == damaged.id)
        world.ensemble.records[key] = world.ensemble.records[key][:-20]
        odd = records.encode("driver", "driver-odd", 99, {"id": "driver-odd", "state": "HIBERNATING"})  # sound, and of no version known
        world.ensemble.records["driver", "driver-odd"] = odd
        for _ in range(2):
            second = await world.leading()
            assert {item.id for item in second.set_aside()} == {damaged.id, "driver-odd"} and list(states(second)) == [kept.id]
            await second.stop()
        assert world.ensemble.records["driver", "driver-odd"] == odd

    run(test)
    assert caplog.text.count("event=set_aside") == 4
    assert "left where it is" in caplog.text


def test_what_has_to_be_configured_otherwise_ends_with_2(caplog: pytest.LogCaptureFixture) -> None:
    class Wrong(MemoryEngine):
        async def start(self, me: object, listener: object) -> None:
            raise Misconfigured("Apache's own state is in /spark: choose another spark.deploy.zookeeper.dir")

    class LaterWrong(MemoryEngine):
        async def start(self, me: object, listener: master_module.Master) -> None:  # type: ignore[override]
            listener.on_misconfigured(Misconfigured("the directory is not shared"))

    assert asyncio.run(run_master(settings(), Wrong())) == 2
    assert "choose another spark.deploy.zookeeper.dir" in caplog.text
    assert asyncio.run(run_master(settings(), LaterWrong())) == 2
    assert "not shared" in caplog.text
    assert asyncio.run(run_master(settings(secret=b""), MemoryEngine())) == 2
    assert "spark.sparkd.secretFile" in caplog.text


def test_a_taken_port_ends_with_1_and_says_how_to_choose_another(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        taken = MasterSettings("127.0.0.1", port, web=WebSettings("127.0.0.1", 0), rest=RestSettings(enabled=False), cluster_secret=b"x")
        assert await run_master(taken, MemoryEngine()) == 1
        server.close()

    asyncio.run(test())
    assert "SPARK_MASTER_PORT" in caplog.text


def test_an_address_of_another_host_is_told_as_that(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        foreign = MasterSettings("192.0.2.1", 0, web=WebSettings("127.0.0.1", 0), rest=RestSettings(enabled=False), cluster_secret=b"x")
        assert await run_master(foreign, MemoryEngine()) == 1  # RFC 5737: an address that nobody has

    asyncio.run(test())
    assert "SPARK_MASTER_HOST" in caplog.text
    assert "another master" not in caplog.text


@pytest.mark.parametrize("error", [StoreUnavailable("access denied"), Interrupted("suspended"), KeyError("a defect")])
def test_a_store_that_cannot_be_read_is_read_again(error: Exception) -> None:
    class Failing(MemoryEngine):
        failures = 2

        async def load(self) -> Loaded:
            if self.failures:
                self.failures -= 1
                raise error
            return await super().load()

    async def test(world: World) -> None:
        leader = await world.master(Failing(world.ensemble))
        await until(lambda: leader.status() is RECOVERING, "RECOVERING")
        expected = NotAlive if isinstance(error, Interrupted) else NotDurable
        with pytest.raises(expected, match=r"RECOVERING|access denied|cannot be read"):
            await leader.submit(TRUE)
        await alive(leader)
        assert (await leader.submit(TRUE)).ok

    run(test)


def test_who_was_told_standby_in_a_short_loss_of_the_lease_is_invited_again() -> None:
    """The lease ends and comes back before the engine says a word of it."""

    class Moody(MemoryEngine):
        over = False

        def lease_left_s(self) -> float:
            return 0.0 if self.over else super().lease_left_s()

    async def test(world: World) -> None:
        engine = Moody(world.ensemble)
        leader = await world.leading(engine)
        known = await world.worker(leader)
        await known.register()
        engine.over = True
        assert leader.status() is STANDBY and leader.leader() is None
        late = await world.worker(leader, id="w2")
        await late.next(msg.Standby)
        engine.over = False
        await late.register()
        assert await known.quiet(), "who is registered is left in peace"

    run(test)
