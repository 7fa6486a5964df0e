"""What pages show, before any template: rows, totals, search, paging, the header."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from ui_world import RECOVERY, SPARK82, SPARK83, FakeMaster, World, busy_world

from sparkd.core import events
from sparkd.core.states import MasterStatus
from sparkd.core.values import ProcessRef, ProcessReport
from sparkd.http import ui_head, ui_views
from sparkd.settings import RecoverySettings


@given(st.integers(0, 1000), st.integers(-5, 50), st.integers(1, 300))
def test_pages_together_are_the_table(total: int, number: int, per_page: int) -> None:
    rows = tuple(range(total))
    page = ui_views.page_of(rows, number, per_page)
    assert 1 <= page.number <= page.pages
    assert len(page.rows) <= per_page
    assert sum((ui_views.page_of(rows, each, per_page).rows for each in range(1, page.pages + 1)), ()) == rows
    assert not page.rows or page.rows[0] == page.first - 1


def test_a_cluster_in_the_order_of_the_page() -> None:
    view = ui_views.cluster_view(busy_world().cluster)
    assert [row.host for row in view.workers] == ["spark85", "spark83", "spark84", "spark86"]  # the one that does not answer first
    assert [driver.description.name for driver in view.queue] == ["big join", "wide scan"]
    assert [driver.number for driver in view.drivers] == [5, 4, 3]
    assert [str(driver.state) for driver in view.completed_drivers] == ["KILLED", "FAILED", "FINISHED"]
    assert [len(view.applications), len(view.completed_applications)] == [1, 1]


def test_totals_count_alive_workers_only() -> None:
    world = busy_world()
    totals = ui_views.totals(ui_views.cluster_view(world.cluster))
    assert (totals.cores, totals.cores_used) == (32, 18)
    assert (totals.drivers_running, totals.drivers_queued, totals.drivers_unknown) == (3, 2, 0)
    assert totals.workers["ALIVE"] == 3
    assert totals.workers["UNKNOWN"] == 1
    assert totals.workers["DEAD"] == 0


def test_find() -> None:
    view = ui_views.cluster_view(busy_world().cluster)
    assert ui_views.find(view, "  ") is view
    found = ui_views.find(view, "SPARK86")
    assert [row.host for row in found.workers] == ["spark86"]
    assert [driver.worker_address for driver in found.drivers] == ["spark86:41000"] * 2
    assert [driver.description.name for driver in ui_views.find(view, "wide").queue] == ["wide scan"]
    assert ui_views.find(view, "no such thing") == ui_views.ClusterView()


def test_nothing_of_the_environment() -> None:
    world = World()
    world.worker("spark84")
    driver_id = world.submit("job", "--password", "hidden-1", environment={"AWS_SECRET_ACCESS_KEY": "hidden-2"})
    row = ui_views.find_driver(world.cluster, driver_id)
    assert row is not None
    assert "hidden" not in repr(dataclasses.asdict(row))


def test_a_driver_through_its_life() -> None:
    world = World(1_700_000_000_000)
    driver_id = world.submit("sleep", "60", supervise=True)
    waiting = ui_views.find_driver(world.cluster, driver_id)
    assert waiting is not None
    assert (waiting.queued, waiting.started_ms, waiting.worker_host) == (True, 0, "")
    assert ui_views.reasons(world.cluster, driver_id) == ("No worker is ALIVE.",)
    world.wall_ms += 5000
    world.worker("spark84")
    running = ui_views.find_driver(world.cluster, driver_id)
    assert running is not None
    assert (running.state, running.worker_host, running.worker_url) == ("RUNNING", "spark84", "http://spark84:8081")
    assert running.started_ms == 1_700_000_005_000
    assert [step.state for step in running.story] == ["RUNNING"]
    world.end(driver_id, "FAILED", -9, "killed")
    ended = ui_views.find_driver(world.cluster, driver_id)
    assert ended is not None
    assert (ended.final, ended.exit_code) == (True, -9)
    assert ui_views.reasons(world.cluster, driver_id) == ()


def test_an_application_with_its_executors() -> None:
    world = World()
    world.worker("spark84")
    row = ui_views.find_application(world.cluster, world.application("report"))
    assert row is not None
    assert (row.cores, row.max_cores) == (4, 4)
    assert [(each.state, each.cores, each.worker_url) for each in row.executors] == [("RUNNING", 2, "http://spark84:8081")] * 2


def test_unknown_ids() -> None:
    world = World()
    assert ui_views.find_driver(world.cluster, "x") is None
    assert ui_views.find_application(world.cluster, "x") is None
    assert ui_views.reasons(world.cluster, "x") == ()


def test_links_are_only_made_of_plain_urls() -> None:
    world = World()
    worker_id = world.worker("spark84")
    worker = world.cluster.workers[worker_id]
    worker.info = dataclasses.replace(worker.info, web_ui="javascript:alert(1)")
    assert ui_views.worker_row(worker).web_ui == ""


def test_header_of_a_leader() -> None:
    head = ui_head.masthead(FakeMaster(World()))
    assert head.status == "ALIVE"
    assert [(link.name, link.role, link.me) for link in head.masters] == [
        ("spark82:7077", "leader", True),
        ("spark83:7077", "standby", False),
    ]
    assert head.all_masters == "spark://spark82:7077,spark83:7077"


def test_header_of_a_standby() -> None:
    head = ui_head.masthead(FakeMaster(World(), says=MasterStatus.STANDBY, led_by=SPARK83))
    assert head.leader is not None
    assert (head.leader.name, head.leader.web_ui) == (SPARK83.host + ":7077", SPARK83.web_ui)
    assert [link.role for link in head.masters] == ["leader", "standby"]
    assert head.all_masters == "spark://spark82:7077,spark83:7077"  # the same on every master


def test_a_suspended_leader_does_not_name_itself() -> None:
    head = ui_head.masthead(FakeMaster(World(), says=MasterStatus.STANDBY, led_by=SPARK82))
    assert head.leader is None
    assert {link.role for link in head.masters} == {"unknown"}


def test_facts() -> None:
    described = {
        "zz_other": "x" * 1000,
        "lease_left_s": -1.0,
        "engine": "ZOOKEEPER",
        "connected": False,
        "last_commit_ms": 0.0,
        "latch": None,
        "server": ("spark82", 2181),
        "epoch": 0,
        "masters": ["spark://spark82:7077"],
    }
    facts = ui_head.facts(described, RECOVERY)
    assert [(fact.name, fact.value) for fact in facts][:-1] == [
        ("Recovery mode", "ZOOKEEPER"),
        ("Votes", "spark82:2181,spark83:2181,spark84:2181"),
        ("Connected", "no"),
        ("Server in use", "spark82:2181"),
        ("Own latch", "none"),
        ("Lease left", "0.0 s"),
        ("Epoch", "none"),
        ("Last write took", "none yet"),
    ]
    assert (facts[-1].name, len(facts[-1].value)) == ("zz other", 300)
    assert [fact.value for fact in ui_head.facts({"last_commit_ms": 2.318}, RecoverySettings("FILESYSTEM", Path("/srv/spark")))] == [
        "/srv/spark",
        "2.3 ms",
    ]


def test_the_secret_of_the_ensemble_is_no_fact() -> None:
    recovery = dataclasses.replace(RECOVERY, zookeeper_secret="hidden")
    assert "hidden" not in repr(ui_head.facts({"engine": "ZOOKEEPER"}, recovery))


def test_a_process_shows_name_and_command_only() -> None:
    report = ProcessReport(ProcessRef("driver", "driver-1", 2), "RUNNING", 1, 1024)
    row = ui_views.process_row(report, {"name": "n", "command": "run --token t0p", "environment": "SECRET=t1p"})
    assert (row.name, row.what) == ("n", "run --token (redacted)")
    assert "t1p" not in repr(row)


def test_neighbours_of_a_slice() -> None:
    assert ui_views.log_page(0, 100, 100, 100) == ui_views.LogPage(0, 100, 100, 100, None, None)
    assert ui_views.log_page(150, 250, 300, 100) == ui_views.LogPage(150, 250, 300, 100, 50, 250)
    assert ui_views.log_page(50, 150, 150, 100).older == 0


def test_a_dead_worker_is_still_named() -> None:
    world = World()
    worker_id = world.worker("spark84")
    driver_id = world.submit("sleep", "1")
    world.end(driver_id, "FINISHED", 0)
    world.handle(events.WorkerDisconnected(worker_id))
    world.boot_s += 10_000
    world.handle(events.Tick())
    row = ui_views.find_driver(world.cluster, driver_id)
    assert row is not None
    assert row.worker_host == "spark84"
