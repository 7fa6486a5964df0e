"""What people read: Spark's JSON fields, as the project's own strict reader takes them, and sentences."""

from __future__ import annotations

import json

from core_world import World, an_app, asked

from latchkeeper import pages
from sparkd.core import events
from sparkd.core.values import Policy, ProcessReport


def page(world: World) -> pages.MasterPage:
    return pages.parse_master(json.dumps({"url": "spark://h:7077", "status": "ALIVE", **world.cluster.json_state()}).encode())


def test_json_as_spark_writes_it() -> None:
    world = World()
    worker = world.add_worker("w1", cores=4, memory_mb=4096, web_ui="http://host:8081")
    world.add_worker("w2", cores=2)
    done, runs = world.submit(asked(name="first")), world.submit(asked(2, 1024, name="second"))
    waits = world.submit(asked(64, environment={"PASSWORD": "hidden"}))
    app_id = world.register_app(an_app("shell", cores=1, max_cores=1, user="me"))
    world.sync()
    world.exit(worker, world.driver(done).ref, 0)
    world.sync()
    world.disconnect(world.workers["w2"])
    seen = page(world)
    assert [(entry.id, entry.state, entry.cores, entry.web_ui) for entry in seen.workers] == [
        ("w1", "ALIVE", 4, "http://host:8081"),
        ("w2", "UNKNOWN", 2, ""),
    ]
    assert (seen.cores, seen.memory_mb) == (4, 4096)  # ALIVE ones only
    assert [(entry.id, entry.state, entry.main_class) for entry in seen.completed_drivers] == [(done, "FINISHED", "first")]
    assert [(entry.id, entry.state, entry.worker) for entry in seen.active_drivers] == [
        (runs, "RUNNING", "w2"),
        (waits, "SUBMITTED", "None"),
    ]
    assert [(entry.id, entry.name, entry.cores, entry.user) for entry in seen.active_apps] == [(app_id, "shell", 1, "me")]
    state = world.cluster.json_state()
    assert "hidden" not in json.dumps(state) and "PASSWORD" not in json.dumps(state)
    assert state["aliveworkers"] == 1
    driver = state["activedrivers"][0]  # type: ignore[index]
    assert (driver["starttime"], driver["submitdate"]) == ("1700001000000", "Tue Nov 14 22:30:00 UTC 2023")
    fields = {
        "id",
        "starttime",
        "name",
        "cores",
        "user",
        "memoryperexecutor",
        "memoryperslave",
        "resourcesperexecutor",
        "resourcesperslave",
    }
    assert set(state["activeapps"][0]) == fields | {"submitdate", "state", "duration"}  # type: ignore[index]


def test_duration_is_taken_from_the_callers_clock_and_ends_with_the_application() -> None:
    world = World()
    app_id = world.register_app()
    begin = world.now.wall_ms
    assert world.cluster.json_state(begin + 1500)["activeapps"][0]["duration"] == 1500  # type: ignore[index]
    world.time += 10
    world.handle(events.UnregisterApplication(app_id))
    assert world.cluster.json_state(begin + 99_000)["completedapps"][0]["duration"] == 10_000  # type: ignore[index]


def said(world: World, entity_id: str) -> str:
    return " ".join(world.cluster.explain(entity_id))


def test_why_a_driver_waits() -> None:
    world = World()
    first = world.submit(asked(2))
    second = world.submit(asked(2))
    assert "No worker is ALIVE." in said(world, first) and "1 driver(s) that were submitted before it wait too." in said(world, second)
    world.add_worker("w1", cores=1)
    assert "No worker is large enough: the largest have 1 core(s) and 4096 MiB." in said(world, first)
    world.add_worker("w2", cores=3)
    assert "1 of 2 ALIVE worker(s) are large enough and all are busy; w2 has 1 core(s)" in said(world, second)
    assert "was given to worker w2 (host:7001)" in said(world, first) and "has not said yet that it runs" in said(world, first)


def test_the_story_of_a_driver_survives_failovers() -> None:
    world = World()
    world.add_worker("w1")
    driver_id = world.submit(asked(supervise=True))
    world.sync()
    world.disconnect(world.workers["w1"])
    assert "it has 60 s to come back" in said(world, driver_id)
    world.pass_time(61)
    world.failover()
    told = said(world, driver_id)
    assert "attempt 2 waits for 1 core(s)" in told and "It waits again because worker w1 was silent for 60 s." in told
    assert "SUBMITTED -> RUNNING, attempt 1 given to w1." in told and "RUNNING -> RELAUNCHING, attempt 1: worker w1 was silent" in told


def test_an_unknown_driver_says_who_can_end_it() -> None:
    world = World()
    world.add_worker("w1")
    driver_id = world.submit()
    world.kill(driver_id)
    assert "It is to be killed" in said(world, driver_id)
    world.disconnect(world.workers["w1"])
    world.pass_time(61)
    assert "`kill` with give-up" in said(world, driver_id)
    assert f"Only its journal or an operator can tell how these ended: {driver_id}." in said(world, "w1")


def test_ends_workers_and_applications() -> None:
    world = World(Policy(max_executor_retries=1))
    world.add_worker("w1")
    driver_id = world.submit()
    report = ProcessReport(world.driver(driver_id).ref, "FAILED", 1, 512, seq=1, exit_code=3, message="it fell")
    world.handle(events.ProcessChanged("w1", report))
    assert "is FAILED after 1 attempt(s); this is final. Its last process ended with exit code 3. Message: it fell." in said(
        world, driver_id
    )
    app_id = world.register_app(an_app(cores=1, max_cores=2))
    assert "0 core(s) are left of its limit and one executor needs 1" in said(world, app_id)
    world.handle(events.RequestExecutors(1, app_id, ((0, 2),)))
    assert "has the 2 executor(s) that it asked for" in said(world, app_id)
    assert "2 of 4 core(s)" in said(world, "w1")
    world.handle(events.WorkerDecommissioned("w1"))
    assert "It takes no more work" in said(world, "w1")
    world.handle(events.UnregisterApplication(app_id, "KILLED", "by hand"))
    assert "is KILLED; this is final. Reason: by hand." in said(world, app_id)
    assert world.cluster.explain("nobody") == ()


def test_what_recovery_still_waits_for() -> None:
    world = World()
    world.add_worker("w1")
    world.register_app()
    world.failover()
    assert world.cluster.unconfirmed() == (1, 1)
    assert "It has not been heard for 0 s; after 60 s it is given up as DEAD." in said(world, "w1")
    world.connect(world.workers["w1"])
    world.handle(events.ApplicationConfirmed(next(iter(world.cluster.applications))))
    assert world.cluster.unconfirmed() == (0, 0)
