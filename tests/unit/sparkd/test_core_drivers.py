"""Drivers: submission, attempts, ends, kills, lost workers, failovers, each as one small story."""

from __future__ import annotations

import json

import pytest
from core_world import World, asked

from sparkd.core import events
from sparkd.core.effects import AcceptWorker, AckJournal, EndProcess, LaunchDriver, RefuseWorker, ReregisterWorker
from sparkd.core.values import Policy, ProcessRef, ProcessReport


def world(**policy: object) -> World:
    return World(Policy(**policy))  # type: ignore[arg-type]


def started(supervise: bool = False, **more: object) -> tuple[World, str]:
    """A driver that runs on w1, and its worker has said so."""
    made = World()
    made.add_worker("w1")
    driver_id = made.submit(asked(supervise=supervise, **more))  # type: ignore[arg-type]
    made.sync()
    assert made.driver(driver_id).confirmed
    return made, driver_id


def lose(made: World) -> None:
    """w1 is away for longer than its timeout."""
    made.disconnect(made.workers["w1"])
    made.pass_time(61)
    assert made.cluster.workers["w1"].state == "DEAD"


# --- submission


def test_a_submission_is_queued_numbered_and_stored_with_its_counter() -> None:
    made = world()
    first = made.submit()
    assert [(write.kind, write.id) for write in made.last.writes] == [("meta", "counters"), ("driver", first)]
    assert (first, made.submit()) == ("driver-20231114223000-0000", "driver-20231114223000-0001")
    assert made.answers[-1].message == "Driver successfully submitted as driver-20231114223000-0001"
    assert [made.driver(first).state, made.cluster.waiting_count] == ["SUBMITTED", 2]


def test_the_same_request_is_the_same_driver_over_failovers_and_after_history_forgot_it() -> None:
    made = world(retained_drivers=1)
    first = made.submit(request_id="r")
    assert made.submit(asked(2), request_id="r") == first and made.last.writes == ()
    made.failover()
    assert made.submit(request_id="r") == first
    made.kill(first)
    for _ in range(3):
        made.kill(made.submit())
    assert made.cluster.driver(first) is None
    assert made.submit(request_id="r") == first
    made.failover()
    assert made.submit(request_id="r") == first
    assert made.cluster.counters["duplicate_submissions"] == 1


def test_forgotten_requests_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparkd.core.book.FORGOTTEN_SLOTS", 2)
    made = world(retained_drivers=1)
    ids = {}
    for number in range(6):
        ids[number] = made.submit(request_id=f"r{number}")
        made.kill(ids[number])
    assert {key for kind, key in made.store if kind == "meta"} == {"counters", "forgotten-0", "forgotten-1"}
    assert made.submit(request_id="r4") == ids[4] and made.submit(request_id="r3") == ids[3]
    assert made.submit(request_id="r0") not in ids.values()


def test_many_forgotten_requests_are_kept_in_several_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparkd.core.book.FORGOTTEN_REQUESTS", 2)
    made = world()
    ids = [made.submit(request_id=f"r{number}") for number in range(5)]
    made.handle(events.KillAllDrivers(0))
    made.handle(events.ClearCompleted(0))
    assert len([key for key in made.store if key[1].startswith("forgotten-")]) == 3
    made.failover()
    assert [made.submit(request_id=f"r{number}") for number in range(5)] == ids


def test_a_request_id_that_is_no_id_is_refused() -> None:
    made = world()
    made.handle(events.SubmitDriver(1, asked(), "r" * 201))
    assert not made.answers[-1].ok and "201 characters" in made.answers[-1].message and not made.store


def test_ids_go_on_after_a_failover_and_after_history_is_gone() -> None:
    made = world()
    made.kill(made.submit())
    made.token += 1
    made.handle(events.ClearCompleted(made.token))
    made.failover()
    assert made.submit().endswith("-0001")
    made.store.pop(("meta", "counters"))  # set aside as unreadable
    made.failover()
    assert made.submit().endswith("-0002")


def test_an_unstored_submission_never_was() -> None:
    made = world()
    made.handle(events.SubmitDriver(1, asked()), stored=False)
    made.failover()
    assert not made.cluster.drivers and not made.answers


@pytest.mark.parametrize(("cores", "memory"), [(0, 512), (1, 0), (-1, 512)])
def test_nonsense_is_refused(cores: int, memory: int) -> None:
    made = world()
    made.handle(events.SubmitDriver(1, asked(cores, memory)))
    assert not made.answers[-1].ok and "at least 1 core" in made.answers[-1].message and not made.store


def test_the_drivers_own_id_as_its_application_name() -> None:
    made = world(driver_id_as_app_name=True)
    driver_id = made.submit(asked(properties={"a": "b"}))
    assert made.driver(driver_id).description.properties == {"a": "b", "spark.app.name": driver_id}


# --- ends


@pytest.mark.parametrize(("state", "code"), [("FINISHED", 0), ("FAILED", 3), ("KILLED", None), ("ERROR", None)])
def test_an_end_is_what_the_worker_says(state: str, code: int | None) -> None:
    made, driver_id = started(environment={"SECRET": "x"}, properties={"spark.k": "v"})
    report = ProcessReport(made.driver(driver_id).ref, state, 1, 512, seq=7, started_ms=5, ended_ms=9, exit_code=code, message="why")
    outcome = made.handle(events.ProcessChanged("w1", report))
    driver = made.driver(driver_id)
    assert (driver.state, driver.exit_code, driver.message, driver.ended_ms, driver.worker_id) == (state, code, "why", 9, "w1")
    assert outcome.effects == (AckJournal("w1", 7),)
    assert made.cluster.workers["w1"].cores_used == 0 and not made.cluster.drivers
    assert "SECRET" not in made.store["driver", driver_id] and "spark.k" not in made.store["driver", driver_id]
    assert made.handle(events.ProcessChanged("w1", report)).writes == ()  # said again: nothing changes
    late = ProcessReport(driver.ref, "FINISHED" if code != 0 else "FAILED", 1, 512, seq=8)
    assert made.handle(events.ProcessChanged("w1", late)).writes == () and made.driver(driver_id).state == state


def test_restarts_within_an_attempt_are_noted() -> None:
    made, driver_id = started(supervise=True)
    made.handle(events.ProcessChanged("w1", ProcessReport(made.driver(driver_id).ref, "RUNNING", 1, 512, seq=9, runs=4)))
    made.failover()
    assert made.driver(driver_id).runs == 4
    assert "started it 4 times" in " ".join(made.cluster.explain(driver_id))


def test_a_state_that_nobody_knows_is_refused_and_acknowledged_and_does_no_harm() -> None:
    made, driver_id = started()
    outcome = made.handle(events.ProcessChanged("w1", ProcessReport(made.driver(driver_id).ref, "DANCING", 1, 512, seq=9)))
    assert outcome.effects == (AckJournal("w1", 9),) and made.driver(driver_id).state == "RUNNING"
    assert made.cluster.counters["refused_reports"] == 1 and "DANCING" in outcome.transitions[0].cause


# --- launching


def test_the_attempt_is_stored_before_it_is_launched() -> None:
    made = world()
    driver_id = made.submit()
    made.add_worker("w1", connect=False)
    made.workers["w1"].connected = True
    outcome = made.handle(events.WorkerRegistered(made.workers["w1"].info))
    launch = outcome.effects[-1]
    assert isinstance(outcome.effects[0], AcceptWorker) and isinstance(launch, LaunchDriver)
    record = json.loads(made.store["driver", driver_id])
    assert (record["state"], record["worker_id"], record["attempt"]) == ("RUNNING", "w1", launch.ref.number)


def test_a_launch_that_was_lost_on_the_way_is_repeated_with_the_same_attempt() -> None:
    made = world()
    made.add_worker("w1")
    driver_id = made.submit()
    made.failover()  # the command never left
    made.connect(made.workers["w1"])
    assert next(effect for effect in made.last.effects if isinstance(effect, LaunchDriver)).ref == ProcessRef("driver", driver_id, 1)
    made.sync()
    assert made.starts[ProcessRef("driver", driver_id, 1)] == 1


def test_a_confirmed_attempt_that_its_worker_forgot_is_not_started_again() -> None:
    made, driver_id = started()
    worker = made.workers["w1"]
    worker.running.clear()  # its disk is gone, its id is not
    worker.journal.clear()
    made.connect(worker)
    assert made.driver(driver_id).state == "UNKNOWN" and "does not know attempt 1" in made.driver(driver_id).message
    assert not [effect for effect in made.last.effects if isinstance(effect, LaunchDriver)]
    made.connect(worker)  # again: still so
    assert made.driver(driver_id).state == "UNKNOWN"


def test_a_report_of_something_else_than_the_running_attempt_ends_it() -> None:
    made, driver_id = started()
    ghost = ProcessRef("driver", driver_id, 2)
    outcome = made.handle(events.ProcessChanged("w1", ProcessReport(ghost, "RUNNING", 1, 512, seq=9)))
    assert EndProcess("w1", ghost, "no longer wanted") in outcome.effects
    assert made.cluster.workers["w1"].cores_used == 2  # until its end is reported
    made.handle(events.ProcessChanged("w1", ProcessReport(ghost, "KILLED", 1, 512, seq=10)))
    assert made.cluster.workers["w1"].cores_used == 1 and made.driver(driver_id).state == "RUNNING"


# --- kill


def test_killing_a_queued_driver() -> None:
    made = world()
    driver_id = made.submit()
    answer = made.kill(driver_id)
    assert (answer.ok, answer.message, answer.id) == (True, f"Kill request for {driver_id} submitted", driver_id)
    assert made.driver(driver_id).state == "KILLED" and made.cluster.waiting_count == 0


@pytest.mark.parametrize("give_up", [False, True])
def test_killing_a_running_driver(give_up: bool) -> None:
    made, driver_id = started()
    answer = made.kill(driver_id, give_up)  # its worker answers, so nothing has to be given up
    assert answer.message == f"Kill request for {driver_id} submitted"
    assert made.driver(driver_id).state == "RUNNING"
    made.sync()
    assert made.driver(driver_id).state == "KILLED" and not made.workers["w1"].running


def test_killing_what_is_over_or_unknown() -> None:
    made = world()
    driver_id = made.submit()
    made.kill(driver_id)
    for unknown in (driver_id, "driver-x"):
        answer = made.kill(unknown)
        assert (answer.ok, answer.message) == (False, f"Driver {unknown} has already finished or does not exist")


@pytest.mark.parametrize("failover", [False, True])
def test_a_kill_reaches_a_worker_that_was_away(failover: bool) -> None:
    made, driver_id = started()
    made.disconnect(made.workers["w1"])
    assert "is told when it comes back" in made.kill(driver_id).message
    if failover:
        made.failover()
    assert made.driver(driver_id).state == "RUNNING"
    made.connect(made.workers["w1"])
    made.sync()
    assert made.driver(driver_id).state == "KILLED"


def test_an_end_by_itself_before_the_kill_arrives_counts() -> None:
    made, driver_id = started()
    made.disconnect(made.workers["w1"])
    made.kill(driver_id)
    made.exit(made.workers["w1"], made.driver(driver_id).ref, 0)
    made.connect(made.workers["w1"])
    assert made.driver(driver_id).state == "FINISHED"


def test_a_driver_that_is_to_be_killed_is_not_relaunched() -> None:
    made, driver_id = started(supervise=True)
    made.disconnect(made.workers["w1"])
    made.kill(driver_id)
    lose(made)
    assert made.driver(driver_id).state == "UNKNOWN"
    made.connect(made.workers["w1"])
    made.sync()
    assert made.driver(driver_id).state == "KILLED" and made.starts.total() == 1


def test_a_kill_of_what_its_worker_never_got_is_done_without_starting_it() -> None:
    made = world()
    made.add_worker("w1")
    driver_id = made.submit()
    made.disconnect(made.workers["w1"])
    made.kill(driver_id)
    made.connect(made.workers["w1"])
    made.sync()
    assert made.driver(driver_id).state == "KILLED" and not made.starts


def test_giving_up() -> None:
    made, driver_id = started()
    lose(made)
    assert made.driver(driver_id).state == "UNKNOWN"
    answer = made.kill(driver_id, give_up=True)
    assert answer.ok and "given up" in answer.message
    assert made.driver(driver_id).state == "KILLED"
    made.exit(made.workers["w1"], made.driver(driver_id).ref, 0)
    made.connect(made.workers["w1"])
    assert made.driver(driver_id).state == "KILLED"  # final is final


def test_what_was_given_up_is_ended_when_its_worker_returns() -> None:
    made, driver_id = started()
    lose(made)
    made.kill(driver_id, give_up=True)
    outcome = made.connect(made.workers["w1"])
    accepted = outcome.effects[0]
    assert isinstance(accepted, AcceptWorker) and accepted.drop == (made.driver(driver_id).ref,)
    assert made.cluster.workers["w1"].cores_used == 1
    made.sync()
    assert made.cluster.workers["w1"].cores_used == 0 and not made.workers["w1"].running


def test_killing_all() -> None:
    made = World()
    made.add_worker("w1", cores=1)
    ids = [made.submit() for _ in range(3)]
    made.handle(events.KillAllDrivers(5))
    made.sync()
    assert [made.driver(driver_id).state for driver_id in ids] == ["KILLED"] * 3
    assert made.answers[-1].message == "Kill request for all drivers submitted"


# --- lost workers


def test_a_supervised_driver_is_relaunched_as_a_counted_attempt_and_the_old_one_ends() -> None:
    made, driver_id = started(supervise=True)
    lose(made)
    driver = made.driver(driver_id)
    assert (driver.state, driver.attempt, driver.worker_id, driver.lost_on) == ("RELAUNCHING", 2, "", "w1")
    made.failover()
    made.add_worker("w2")
    made.sync()
    assert (made.driver(driver_id).worker_id, made.driver(driver_id).state) == ("w2", "RUNNING")
    accepted = made.connect(made.workers["w1"]).effects[0]
    assert isinstance(accepted, AcceptWorker) and accepted.drop == (ProcessRef("driver", driver_id, 1),)
    made.sync()
    assert made.driver(driver_id).state == "RUNNING" and list(made.workers["w2"].running) == [ProcessRef("driver", driver_id, 2)]
    assert not made.workers["w1"].running and made.cluster.workers["w1"].cores_used == 0


def test_cores_of_an_old_attempt_stay_taken_until_it_has_ended() -> None:
    made, driver_id = started(supervise=True, cores=3)
    lose(made)
    made.connect(made.workers["w1"])
    assert made.driver(driver_id).state == "RELAUNCHING"  # 1 of 4 cores is free
    made.sync()
    assert made.driver(driver_id).state == "RUNNING" and list(made.workers["w1"].running) == [ProcessRef("driver", driver_id, 2)]


@pytest.mark.parametrize("where", ["w1", "elsewhere"])
def test_a_lost_attempt_that_had_ended_well_is_the_end_unless_the_next_one_began(where: str) -> None:
    made, driver_id = started(supervise=True)
    lose(made)
    if where == "elsewhere":
        made.add_worker("w2")
        made.sync()
    made.exit(made.workers["w1"], ProcessRef("driver", driver_id, 1), 0)
    made.connect(made.workers["w1"])
    made.sync()
    driver = made.driver(driver_id)
    assert (driver.state, driver.attempt) == (("FINISHED", 1) if where == "w1" else ("RUNNING", 2))
    assert made.starts[ProcessRef("driver", driver_id, 2)] == (0 if where == "w1" else 1)


@pytest.mark.parametrize(("code", "state"), [(0, "FINISHED"), (1, "FAILED"), (None, "RUNNING")])
@pytest.mark.parametrize("failover", [False, True])
def test_unsupervised_work_on_a_lost_worker_waits_for_its_journal(code: int | None, state: str, failover: bool) -> None:
    made, driver_id = started()
    lose(made)
    assert made.driver(driver_id).state == "UNKNOWN" and "gives it up" in made.driver(driver_id).message
    if failover:
        made.failover()
    if code is not None:
        made.exit(made.workers["w1"], made.driver(driver_id).ref, code)
    made.pass_time(3600)  # no longer listed
    assert "w1" not in made.cluster.workers and made.driver(driver_id).state == "UNKNOWN"
    made.connect(made.workers["w1"])
    made.sync()
    assert made.driver(driver_id).state == state and made.starts.total() == 1


@pytest.mark.parametrize(("supervise", "state", "attempt"), [(True, "RUNNING", 2), (False, "FAILED", 1)])
def test_a_host_that_restarted_saw_no_end(supervise: bool, state: str, attempt: int) -> None:
    made, driver_id = started(supervise=supervise)
    made.workers["w1"].lose_host()
    made.connect(made.workers["w1"])
    made.sync()
    assert (made.driver(driver_id).state, made.driver(driver_id).attempt) == (state, attempt)


def test_a_killed_driver_whose_worker_stopped_meanwhile_is_killed() -> None:
    made, driver_id = started(supervise=True)
    made.kill(driver_id)
    made.handle(events.ProcessChanged("w1", ProcessReport(made.driver(driver_id).ref, "RELAUNCHING", 1, 512, seq=9)))
    assert made.driver(driver_id).state == "KILLED"


@pytest.mark.parametrize("state", ["RELAUNCHING", "FAILED"])
def test_an_unsupervised_driver_is_never_relaunched(state: str) -> None:
    made, driver_id = started()
    made.handle(events.ProcessChanged("w1", ProcessReport(made.driver(driver_id).ref, state, 1, 512, seq=9)))
    assert made.driver(driver_id).state == "FAILED"


def test_exits_during_an_outage_of_the_leader_are_what_they_were() -> None:
    made = World()
    made.add_worker("w1", cores=9, memory_mb=9999)
    ids = [made.submit(asked(supervise=supervise)) for supervise in (False, True, False)]
    made.sync()
    made.failover()
    for driver_id, code in zip(ids, (0, 0, 1), strict=True):
        made.exit(made.workers["w1"], ProcessRef("driver", driver_id, 1), code)
    made.connect(made.workers["w1"])
    assert [made.driver(driver_id).state for driver_id in ids] == ["FINISHED", "FINISHED", "FAILED"]
    assert made.starts.total() == 3


def test_a_relaunched_driver_is_older_than_what_was_submitted_after_it() -> None:
    made, driver_id = started(supervise=True, cores=4)
    later = made.submit(asked(4))
    lose(made)
    assert [driver.id for driver in made.cluster.waiting_drivers()] == [driver_id, later]


def test_killing_what_waits_to_be_relaunched() -> None:
    made, driver_id = started(supervise=True)
    lose(made)
    made.kill(driver_id)
    assert made.driver(driver_id).state == "KILLED"
    made.connect(made.workers["w1"])
    made.sync()
    assert not made.workers["w1"].running and made.starts.total() == 1


def test_a_launch_of_the_next_attempt_that_was_lost_is_repeated_too() -> None:
    made, driver_id = started(supervise=True)
    lose(made)
    worker = made.add_worker("w2")
    made.disconnect(worker)
    made.connect(worker)
    made.sync()
    assert made.starts[ProcessRef("driver", driver_id, 2)] == 1 and made.driver(driver_id).worker_id == "w2"


def test_only_the_worker_that_had_it_can_say_how_a_lost_attempt_ended() -> None:
    made, driver_id = started(supervise=True, cores=3)
    made.add_worker("w2", cores=1)
    lose(made)
    made.handle(events.ProcessChanged("w2", ProcessReport(ProcessRef("driver", driver_id, 1), "FINISHED", 3, 512, seq=1, exit_code=0)))
    assert made.driver(driver_id).state == "RELAUNCHING" and made.cluster.counters["stale_reports"] == 1


def test_what_a_worker_holds_is_shown_before_it_reports_and_gone_when_it_is_dead() -> None:
    made, _ = started()
    made.failover()
    assert made.cluster.workers["w1"].cores_used == 1
    made.pass_time(61)
    assert made.cluster.workers["w1"].cores_used == 0


def test_a_long_message_is_cut() -> None:
    made, driver_id = started()
    report = ProcessReport(made.driver(driver_id).ref, "ERROR", 1, 512, seq=7, message="x" * 100_000)
    made.handle(events.ProcessChanged("w1", report))
    assert len(made.store["driver", driver_id]) < 5_000 and made.driver(driver_id).message.endswith("x...")


# --- order and history


def test_the_queue_keeps_its_order_through_failovers_and_each_runs_once() -> None:
    made = World()
    ids = [made.submit(asked(1 + number % 2)) for number in range(20)]
    for _ in range(20):
        made.failover()
        assert [driver.id for driver in made.cluster.waiting_drivers()] == ids
    worker = made.add_worker("w1", cores=1)
    begun = []
    for _ in range(10):
        made.sync()
        begun += [ref.owner for ref in worker.running]
        made.exit(worker, next(iter(worker.running)), 0)
    assert begun == ids[::2]  # the others need two cores
    made.sync()
    assert set(made.starts.values()) == {1}


def test_history_is_trimmed_a_tenth_at_a_time_and_survives() -> None:
    made = world(retained_drivers=20)
    ids = []
    for _ in range(21):
        ids.append(made.submit())
        made.kill(ids[-1])
    assert list(made.cluster.completed_drivers) == ids[2:]
    made.failover()
    assert list(made.cluster.completed_drivers) == ids[2:]
    made.handle(events.ClearCompleted(1))
    assert not made.cluster.completed_drivers and not [key for key in made.store if key[0] == "driver"]


def test_history_is_in_order_of_ends_whatever_the_clock_does() -> None:
    made = world()
    first, second = made.submit(), made.submit()
    made.kill(second)
    made.time -= 500
    made.kill(first)
    made.failover()
    assert list(made.cluster.completed_drivers) == [second, first]


# --- workers that are not known


def test_who_is_not_registered_is_asked_to_register() -> None:
    made, driver_id = started()
    lose(made)
    report = ProcessReport(made.driver(driver_id).ref, "FINISHED", 1, 512, seq=9)
    for event in (events.WorkerHeartbeat("w1"), events.ProcessChanged("w1", report), events.WorkerDecommissioned("w1")):
        outcome = made.handle(event)
        assert outcome.effects == (ReregisterWorker("w1", "declared dead meanwhile"),) and not outcome.writes
    assert made.handle(events.WorkerHeartbeat("x")).effects == (ReregisterWorker("x", "not registered with this leader"),)
    assert not made.handle(events.WorkerDisconnected("x")).effects


def test_an_idle_heartbeat_writes_nothing_and_keeps_a_worker() -> None:
    made = world()
    made.add_worker("w1")
    for _ in range(30):
        made.time += 15
        outcome = made.handle(events.WorkerHeartbeat("w1"))
        assert (outcome.writes, outcome.effects, outcome.transitions) == ((), (), ())
        made.settle()
    assert made.cluster.workers["w1"].state == "ALIVE"


def test_a_silent_worker_is_dead_after_its_timeout_and_unlisted_later() -> None:
    made = world(worker_timeout_s=10.0, dead_worker_persistence=2)
    made.add_worker("w1")
    assert made.cluster.next_deadline() == made.time + 10
    made.pass_time(9.9, heartbeats=False)
    assert made.cluster.workers["w1"].state == "ALIVE"
    made.pass_time(0.2, heartbeats=False)
    assert made.cluster.workers["w1"].state == "DEAD" and json.loads(made.store["worker", "w1"])["state"] == "DEAD"
    made.pass_time(19, heartbeats=False)
    assert "w1" in made.cluster.workers
    made.pass_time(2, heartbeats=False)
    assert "w1" not in made.cluster.workers and ("worker", "w1") not in made.store and made.cluster.next_deadline() is None


def test_a_worker_that_comes_back_in_time_loses_nothing() -> None:
    made, driver_id = started()
    made.disconnect(made.workers["w1"])
    assert made.cluster.workers["w1"].state == "UNKNOWN" and not made.last.writes
    made.pass_time(50)
    made.connect(made.workers["w1"])
    assert made.last.writes == () and made.driver(driver_id).state == "RUNNING"
    made.pass_time(600)
    assert made.cluster.workers["w1"].state == "ALIVE"


def test_nothing_new_goes_to_a_worker_that_is_not_connected() -> None:
    made = world()
    made.add_worker("w1")
    made.disconnect(made.workers["w1"])
    driver_id = made.submit()
    assert made.driver(driver_id).state == "SUBMITTED"
    assert "No worker is ALIVE (w1 UNKNOWN)." in made.cluster.explain(driver_id)


@pytest.mark.parametrize("supervise", [True, False])
def test_another_worker_at_the_same_address(supervise: bool) -> None:
    made, driver_id = started(supervise=supervise)
    made.add_worker("w2", port=7000)
    assert made.refused == [RefuseWorker("w2", "Attempted to re-register worker at same address: host:7000, which w1 has and uses")]
    assert "w2" not in made.cluster.workers
    made.disconnect(made.workers["w1"])
    made.connect(made.workers["w2"])
    made.sync()
    assert list(made.cluster.workers) == ["w2"] and ("worker", "w1") not in made.store
    driver = made.driver(driver_id)
    assert (driver.state, driver.worker_id, driver.attempt) == (("RUNNING", "w2", 2) if supervise else ("UNKNOWN", "w1", 1))


def test_a_worker_that_moved_keeps_its_work() -> None:
    made, driver_id = started()
    worker = made.workers["w1"]
    made.disconnect(worker)
    worker.info = type(worker.info)("w1", "other", 7999, 8, 9000)
    made.connect(worker)
    assert made.driver(driver_id).state == "RUNNING" and json.loads(made.store["worker", "w1"])["info"]["port"] == 7999
    made.add_worker("w2", port=7000)
    assert made.cluster.workers["w2"].state == "ALIVE"  # the old address is free


def test_a_worker_without_cores_is_refused() -> None:
    made = world()
    made.add_worker("w1", cores=0)
    assert made.refused and "at least 1 core" in made.refused[0].why


def test_a_decommissioned_worker_keeps_its_drivers_and_takes_no_more() -> None:
    made, driver_id = started()
    made.handle(events.WorkerDecommissioned("w1"))
    queued = made.submit()
    assert (made.driver(driver_id).state, made.driver(queued).state) == ("RUNNING", "SUBMITTED")
    assert json.loads(made.store["worker", "w1"])["state"] == "DECOMMISSIONED"
    made.exit(made.workers["w1"], made.driver(driver_id).ref, 0)
    made.sync()
    assert made.driver(driver_id).state == "FINISHED" and made.driver(queued).state == "SUBMITTED"


def test_work_on_a_worker_that_no_record_tells_of() -> None:
    made = World()
    made.add_worker("w1")
    ids = [made.submit(asked(supervise=supervise)) for supervise in (True, False)]
    del made.store["worker", "w1"]  # set aside
    made.failover()
    made.pass_time(61)
    assert [made.driver(driver_id).state for driver_id in ids] == ["RELAUNCHING", "UNKNOWN"]


def test_records_that_mean_nothing_are_left_alone() -> None:
    made = World()
    good = made.submit()
    made.store["driver", "bad"] = json.dumps({"id": "bad", "state": "GONE"})
    made.store["driver", "other"] = made.store["driver", good]
    made.store["tree", "x"] = "{}"
    made.store["meta", "forgotten-x"] = "{}"
    before = dict(made.store)
    made.failover()
    why = {(found.kind, found.id): found.why for found in made.cluster.unreadable}
    assert set(why) == {("driver", "bad"), ("driver", "other"), ("tree", "x"), ("meta", "forgotten-x")}
    assert "missing" in why["driver", "bad"] and "not of 'other'" in why["driver", "other"]
    assert list(made.cluster.drivers) == [good] and made.store == before


def refuses(made: World, worker_id: str, driver_id: str) -> None:
    """A worker says that it cannot start what it was given: its disk is full."""
    ref = made.driver(driver_id).ref
    made.workers[worker_id].inbox.clear()
    made.handle(events.ProcessChanged(worker_id, ProcessReport(ref, "SUBMITTED", 1, 512, message="cannot write: No space left on device")))


@pytest.mark.parametrize("supervise", [False, True])
def test_what_a_worker_cannot_start_is_queued_again_and_runs_elsewhere(supervise: bool) -> None:
    made = world(spread_out_drivers=False)
    full, other = made.add_worker("w1"), made.add_worker("w2")
    driver_id = made.submit(asked(supervise=supervise))
    first = made.driver(driver_id).worker_id
    refuses(made, first, driver_id)
    driver = made.driver(driver_id)
    assert driver.worker_id != first and driver.attempt == 2 and driver.state == "RUNNING"
    assert made.cluster.workers[first].cores_used == 0
    made.sync()
    assert sum(len(worker.running) for worker in (full, other)) == 1


def test_a_worker_that_cannot_start_anything_rests_and_is_tried_again() -> None:
    made = world()
    made.add_worker("w1")
    driver_id = made.submit()
    refuses(made, "w1", driver_id)
    made.settle()
    assert made.driver(driver_id).state == "RELAUNCHING" and "No space left" in made.driver(driver_id).message
    due = made.cluster.next_deadline()
    assert due is not None and made.time < due <= made.time + 5
    made.time = due - 0.01
    made.settle()
    assert made.driver(driver_id).state == "RELAUNCHING"
    made.time = due
    made.settle()
    made.sync()
    assert made.driver(driver_id).state == "RUNNING" and made.driver(driver_id).attempt == 2


def test_what_cannot_be_started_and_is_to_be_killed_is_killed() -> None:
    made = world()
    made.add_worker("w1")
    driver_id = made.submit()
    made.kill(driver_id)
    refuses(made, "w1", driver_id)
    assert made.driver(driver_id).state == "KILLED"
