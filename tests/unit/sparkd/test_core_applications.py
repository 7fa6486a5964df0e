"""Applications and executors, each as one small story."""

from __future__ import annotations

import json

import pytest
from core_world import World, an_app, asked

from sparkd.core import events
from sparkd.core.effects import EndProcess, ForgetApplication, LaunchExecutor, NotifyApplication
from sparkd.core.entities import Application
from sparkd.core.values import Policy, ProcessRef, ProcessReport, ResourceProfile


def app(world: World, app_id: str) -> Application:
    found = world.cluster.application(app_id)
    assert found is not None
    return found


def cores(world: World, app_id: str) -> list[tuple[str, int]]:
    return [(one.worker_id, one.cores) for one in app(world, app_id).executors.values()]


def notices(world: World) -> list[tuple[str, int, str]]:
    return [(notice.notice, notice.executor_id, notice.state) for notice in world.notices]


def two_workers(**policy: object) -> World:
    world = World(Policy(**policy))  # type: ignore[arg-type]
    world.add_worker("w1")
    world.add_worker("w2")
    return world


def tell(world: World, app_id: str, number: int, state: str, code: int | None = None, worker: str = "") -> None:
    ref = ProcessRef("executor", app_id, number)
    where = worker or app(world, app_id).executors[number].worker_id
    world.handle(events.ProcessChanged(where, ProcessReport(ref, state, 1, 512, seq=1, exit_code=code, message="m")))


# --- registration


def test_an_application_gets_executors_at_once_and_everything_is_stored_before() -> None:
    world = two_workers()
    app_id = world.register_app(an_app(cores=2, max_cores=6, address="host:1"))
    kinds = [(write.kind, write.id) for write in world.last.writes]
    assert kinds == [("meta", "counters"), ("application", app_id), *[("executor", f"{app_id}.{number}") for number in range(3)]]
    assert cores(world, app_id) == [("w2", 2), ("w2", 2), ("w1", 2)]  # most free cores first, ties by id, reversed
    assert (app(world, app_id).state, app(world, app_id).cores_granted) == ("RUNNING", 6)
    assert notices(world) == [("registered", -1, ""), *[("executor_added", number, "") for number in range(3)]]
    launches = [effect for effect in world.last.effects if isinstance(effect, LaunchExecutor)]
    assert [launch.ref.number for launch in launches] == [0, 1, 2] and launches[0].description.address == "host:1"


def test_registering_twice_from_one_address_is_one_application() -> None:
    world = World()
    first = world.register_app(an_app(address="host:1"))
    assert world.register_app(an_app(address="host:1")) == first and not world.last.writes
    assert world.register_app(an_app(address="host:2")) != first
    assert world.register_app(an_app()) != world.register_app(an_app())
    world.handle(events.UnregisterApplication(first))
    assert world.register_app(an_app(address="host:1")) != first


@pytest.mark.parametrize(
    "asked_for",
    [an_app(cores=0), an_app(memory_mb=0), an_app(max_cores=0), an_app(initial_executors=-1)],
    ids=lambda value: str(value)[-60:],
)
def test_nonsense_is_refused(asked_for: object) -> None:
    world = World()
    world.handle(events.RegisterApplication(1, asked_for))  # type: ignore[arg-type]
    assert not world.answers[-1].ok and not world.store


def test_default_cores_and_initial_executors() -> None:
    world = two_workers(default_cores=3)
    app_id = world.register_app(an_app(cores=1))
    assert app(world, app_id).cores_granted == 3
    other = world.register_app(an_app(cores=1, max_cores=5, initial_executors=2))
    assert len(app(world, other).executors) == 2


def test_an_executor_without_cores_takes_what_a_worker_has() -> None:
    world = two_workers()
    app_id = world.register_app(an_app(cores=None))
    assert cores(world, app_id) == [("w2", 4), ("w1", 4)]


def test_who_comes_first_is_served_first_and_who_cannot_be_served_holds_nobody_up() -> None:
    world = World()
    ids = [world.register_app(an_app(f"app{size}", cores=size)) for size in (9, 3, 3, 1)]
    assert [waiting.id for waiting in world.cluster.waiting_applications()] == ids
    world.add_worker("w1", cores=4)
    assert [len(app(world, app_id).executors) for app_id in ids] == [0, 1, 0, 1]
    assert "No worker is large enough" in " ".join(world.cluster.explain(ids[0]))
    world.handle(events.UnregisterApplication(ids[1]))
    world.sync()
    assert [len(app(world, app_id).executors) for app_id in ids] == [0, 0, 1, 1]


# --- ends of executors


def test_an_executor_that_ends_is_replaced_under_a_new_number() -> None:
    world = two_workers()
    app_id = world.register_app(an_app(cores=4, max_cores=4))
    tell(world, app_id, 0, "RUNNING")
    tell(world, app_id, 0, "EXITED", 1)
    assert list(app(world, app_id).executors) == [1] and app(world, app_id).failures == 1
    tell(world, app_id, 1, "RUNNING")
    assert app(world, app_id).failures == 0
    assert ("executor_updated", 0, "EXITED") in notices(world)
    ended = app(world, app_id).ended_executors[-1]
    assert (ended.id, ended.state, ended.exit_code, ended.message) == (0, "EXITED", 1, "m")
    assert ("executor", f"{app_id}.0") not in world.store


@pytest.mark.parametrize(("retries", "failing"), [(3, True), (-1, False)])
def test_too_many_failures_in_a_row_end_the_application(retries: int, failing: bool) -> None:
    world = two_workers(max_executor_retries=retries)
    app_id = world.register_app(an_app(cores=1, max_cores=1))
    for number in range(5):
        if number in app(world, app_id).executors:
            tell(world, app_id, number, "FAILED", 1)
    assert (app(world, app_id).state == "FAILED") is failing
    assert app(world, app_id).next_executor == (3 if failing else 6)
    if failing:
        assert notices(world)[-1] == ("removed", -1, "FAILED") and not world.cluster.applications
        assert "3 executors in a row" in app(world, app_id).message
        world.failover()
        assert app(world, app_id).state == "FAILED" and not world.cluster.unreadable


def test_failures_survive_a_failover_and_do_not_count_while_one_runs_or_when_the_exit_was_good() -> None:
    world = two_workers(max_executor_retries=2)
    app_id = world.register_app(an_app(cores=1, max_cores=2))
    tell(world, app_id, 0, "RUNNING")
    for number in (1, 2, 3):
        tell(world, app_id, number, "FAILED", 1)
    tell(world, app_id, 4, "EXITED", 0)
    assert app(world, app_id).failures == 3 and app(world, app_id).state == "RUNNING"
    world.failover()
    assert app(world, app_id).failures == 3


def test_a_report_from_another_worker_counts_for_nothing() -> None:
    world = two_workers()
    app_id = world.register_app(an_app(cores=4, max_cores=4))
    tell(world, app_id, 0, "EXITED", 0, worker="w1")
    assert list(app(world, app_id).executors) == [0]
    tell(world, app_id, 0, "RUNNING", worker="w1")
    assert EndProcess("w1", ProcessRef("executor", app_id, 0), "no longer wanted") in world.last.effects


# --- the application's own wishes


def test_dynamic_allocation_targets_are_obeyed_and_survive() -> None:
    world = two_workers()
    app_id = world.register_app(an_app(cores=1, initial_executors=1))
    world.handle(events.RequestExecutors(7, app_id, ((0, 3),)))
    assert world.answers[-1].ok and len(app(world, app_id).executors) == 3
    world.handle(events.RequestExecutors(7, app_id, ((0, 1),)))  # lowering ends none
    assert len(app(world, app_id).executors) == 3
    tell(world, app_id, 0, "EXITED", 0)
    assert len(app(world, app_id).executors) == 2
    world.failover()
    assert app(world, app_id).targets == {0: 1} and app(world, app_id).next_executor == 3
    world.handle(events.RequestExecutors(7, "app-x", ((0, 1),)))
    assert not world.answers[-1].ok


def test_resource_profiles_by_ascending_id() -> None:
    world = two_workers()
    app_id = world.register_app(an_app(cores=1, initial_executors=0))
    profiles = (ResourceProfile(2, 3, 512), ResourceProfile(1, 2, 512))
    world.handle(events.RequestExecutors(7, app_id, ((2, 9), (1, 1)), profiles))
    found = [(one.profile_id, one.cores) for one in app(world, app_id).executors.values()]
    assert found == [(1, 2), (2, 3)]
    world.handle(events.RequestExecutors(7, app_id, ((5, 1),)))
    assert world.answers[-1].message == "resource profiles 5 are not known"
    world.handle(events.RequestExecutors(7, app_id, ((6, 1),), (ResourceProfile(6, 0, 512),)))
    assert not world.answers[-1].ok and 6 not in app(world, app_id).profiles
    many = tuple(ResourceProfile(number, 1, 1) for number in range(1001))
    world.handle(events.RequestExecutors(7, app_id, (), many))
    assert "1000 resource profiles" in world.answers[-1].message and len(app(world, app_id).profiles) == 3
    world.failover()
    assert app(world, app_id).profiles[2] == profiles[0]


def test_executors_that_are_given_back_are_ended_and_their_cores_come_back_with_their_end() -> None:
    world = two_workers()
    app_id = world.register_app(an_app(cores=4, max_cores=8))
    world.handle(events.RequestExecutors(7, app_id, ((0, 1),)))
    world.handle(events.KillExecutors(7, app_id, (0, 99)))
    assert (
        world.answers[-1].ok and EndProcess("w2", ProcessRef("executor", app_id, 0), "given back by its application") in world.last.effects
    )
    assert list(app(world, app_id).executors) == [1] and world.cluster.workers["w2"].cores_used == 4
    tell(world, app_id, 0, "KILLED", 143, worker="w2")
    assert world.cluster.workers["w2"].cores_used == 0 and app(world, app_id).failures == 0
    world.handle(events.KillExecutors(7, "app-x", (0,)))
    assert not world.answers[-1].ok


@pytest.mark.parametrize(("state", "told"), [("FINISHED", []), ("KILLED", ["KILLED"]), ("FAILED", ["FAILED"])])
def test_the_end_of_an_application(state: str, told: list[str]) -> None:
    world = two_workers()
    app_id = world.register_app(an_app(cores=4, payload=b"secret"))
    world.handle(events.UnregisterApplication(app_id, state, "because"))
    assert (app(world, app_id).state, app(world, app_id).message, app(world, app_id).description.payload) == (state, "because", b"")
    ended = [effect for effect in world.last.effects if isinstance(effect, EndProcess)]
    forgotten = [effect.worker_id for effect in world.last.effects if isinstance(effect, ForgetApplication)]
    assert len(ended) == 2 and forgotten == ["w1", "w2"]
    assert [notice.state for notice in world.notices if notice.notice == "removed"] == told
    assert not [key for key in world.store if key[0] == "executor"]
    world.sync()
    assert all(worker.cores_used == 0 for worker in world.cluster.workers.values())
    assert not world.handle(events.UnregisterApplication(app_id)).writes


def test_history_of_applications_is_trimmed_and_survives() -> None:
    world = World(Policy(retained_applications=10))
    ids = []
    for _ in range(11):
        ids.append(world.register_app())
        world.handle(events.UnregisterApplication(ids[-1]))
    assert list(world.cluster.completed_applications) == ids[1:]
    world.failover()
    assert list(world.cluster.completed_applications) == ids[1:]
    assert world.register_app() not in ids


# --- failovers


def running(world: World, **more: object) -> str:
    app_id = world.register_app(an_app(cores=4, address="host:1", **more))  # type: ignore[arg-type]
    world.sync()
    assert {one.state for one in app(world, app_id).executors.values()} == {"RUNNING"}
    return app_id


@pytest.mark.parametrize("answers_first", [True, False])
def test_a_failover_keeps_all_executors_and_launches_none(answers_first: bool) -> None:
    world = two_workers()
    app_id = running(world)
    outcome = world.failover()
    assert outcome.effects == (NotifyApplication(app_id, "master_changed"),) and not outcome.writes
    assert app(world, app_id).state == "UNKNOWN"
    if answers_first:
        world.handle(events.ApplicationConfirmed(app_id))
        assert app(world, app_id).state == "RUNNING"
    for worker in world.workers.values():
        world.connect(worker)
    if not answers_first:
        world.handle(events.ApplicationConfirmed(app_id))
    world.sync()
    assert (app(world, app_id).state, cores(world, app_id)) == ("RUNNING", [("w2", 4), ("w1", 4)])
    assert world.starts.total() == 2 and app(world, app_id).next_executor == 2


def test_an_application_without_executors_waits_again() -> None:
    world = World()
    app_id = world.register_app()
    world.failover()
    world.add_worker("w1")
    assert app(world, app_id).state == "UNKNOWN" and not app(world, app_id).executors
    assert "has not answered this leader" in " ".join(world.cluster.explain(app_id))
    world.handle(events.ApplicationConfirmed(app_id))
    assert app(world, app_id).state == "RUNNING" and len(app(world, app_id).executors) == 4


def test_a_driver_that_does_not_answer_ends_its_application_and_is_told_when_it_does() -> None:
    world = two_workers()
    app_id = running(world)
    world.failover()
    for worker in world.workers.values():
        world.connect(worker)
    world.pass_time(59)
    assert app(world, app_id).state == "UNKNOWN"
    world.pass_time(2)
    assert app(world, app_id).state == "FINISHED" and "did not answer" in app(world, app_id).message
    world.sync()
    assert not any(worker.running for worker in world.workers.values())
    for late in (app_id, "app-x"):
        world.handle(events.ApplicationConfirmed(late))
        assert (world.notices[-1].app_id, world.notices[-1].notice, world.notices[-1].state) == (late, "removed", "FINISHED")


def test_the_state_that_is_stored_is_never_unknown() -> None:
    world = two_workers()
    app_id = running(world)
    world.failover()
    world.connect(world.workers["w1"])
    world.handle(events.WorkerDecommissioned("w1"))
    tell(world, app_id, 1, "EXITED", 0)
    assert app(world, app_id).state == "UNKNOWN" and json.loads(world.store["application", app_id])["state"] == "RUNNING"


def test_a_launch_that_was_lost_is_repeated_and_what_a_worker_lost_is_lost() -> None:
    world = two_workers()
    app_id = world.register_app(an_app(cores=4))
    world.deliver(world.workers["w2"])
    world.send_journal(world.workers["w2"])
    world.failover()
    world.handle(events.ApplicationConfirmed(app_id))
    world.connect(world.workers["w1"])  # it had never got it
    world.workers["w2"].running.clear()
    world.workers["w2"].journal.clear()
    world.connect(world.workers["w2"])  # it has lost it
    world.sync()
    assert world.starts == {ProcessRef("executor", app_id, number): 1 for number in (0, 1, 2)}
    assert [one.id for one in app(world, app_id).executors.values()] == [1, 2]
    assert ("executor_updated", 0, "LOST") in notices(world)


def test_executors_of_a_dead_worker_are_lost_and_others_take_over() -> None:
    world = two_workers()
    app_id = running(world, max_cores=4)
    world.disconnect(world.workers["w2"])
    world.pass_time(61)
    assert cores(world, app_id) == [("w1", 4)] and app(world, app_id).failures == 0
    assert ("executor_updated", 0, "LOST") in notices(world) and ("worker_removed", -1, "") in notices(world)
    drop = world.connect(world.workers["w2"]).effects[0]
    assert drop.drop == (ProcessRef("executor", app_id, 0),)  # type: ignore[union-attr]
    world.sync()
    assert not world.workers["w2"].running


def test_executors_of_a_worker_that_no_record_tells_of() -> None:
    world = two_workers()
    app_id = running(world)
    del world.store["worker", "w2"]
    world.failover()
    world.handle(events.ApplicationConfirmed(app_id))
    world.connect(world.workers["w1"])
    world.pass_time(61)
    assert cores(world, app_id) == [("w1", 4)]


def test_a_record_of_an_executor_without_its_application_is_left_alone() -> None:
    world = two_workers()
    app_id = running(world)
    del world.store["application", app_id]
    world.failover()
    assert [found.id for found in world.cluster.unreadable] == [f"{app_id}.0", f"{app_id}.1"]


# --- decommissioning


@pytest.mark.parametrize("failover", [False, True])
def test_a_decommissioned_worker_keeps_its_executors_while_others_take_over(failover: bool) -> None:
    world = two_workers()
    app_id = running(world, max_cores=4)
    world.handle(events.WorkerDecommissioned("w2"))
    assert [(one.worker_id, one.state) for one in app(world, app_id).executors.values()] == [("w2", "DECOMMISSIONED"), ("w1", "LAUNCHING")]
    assert app(world, app_id).cores_granted == 4 and ("executor_updated", 0, "DECOMMISSIONED") in notices(world)
    assert not world.handle(events.WorkerDecommissioned("w2")).writes
    if failover:
        world.failover()
        world.workers["w2"].info = type(world.workers["w2"].info)("w2", "host", 7001, 4, 4096, decommissioned=True)
        world.handle(events.ApplicationConfirmed(app_id))
        for worker in world.workers.values():
            world.connect(worker)
    world.sync()
    assert world.cluster.workers["w2"].state == "DECOMMISSIONED" and len(app(world, app_id).executors) == 2
    assert list(world.workers["w2"].running) == [ProcessRef("executor", app_id, 0)]
    world.exit(world.workers["w2"], ProcessRef("executor", app_id, 0), 1)
    world.sync()
    assert app(world, app_id).failures == 0 and app(world, app_id).cores_granted == 4
    assert cores(world, app_id) == [("w1", 4)]


def test_a_worker_that_registers_as_decommissioned_gets_nothing() -> None:
    world = World()
    world.add_worker("w1", decommissioned=True)
    driver_id = world.submit(asked())
    assert world.driver(driver_id).state == "SUBMITTED"
    worker = world.workers["w1"]
    worker.info = type(worker.info)("w1", "host", 7000, 4, 4096)
    world.connect(worker)  # restarted: it is back in service
    assert world.driver(driver_id).state == "RUNNING"
