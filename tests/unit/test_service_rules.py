"""service_rules: from facts about a unit to what to do and why."""

from __future__ import annotations

import pytest

from module_utils.service_rules import Unit, Wish, daemon_kind, decide, loses_drivers, parse_show, parse_stamp, stale_reason

UP = Unit("loaded", "active", "running", "enabled", main_pid=7)
DOWN = Unit("loaded", "inactive", "dead", "enabled")
ABSENT = Unit()
WAITS = Unit("loaded", "activating", "auto-restart", "enabled", restarts=3)


@pytest.mark.parametrize(
    ("unit", "stale", "wish", "action", "enable", "reason"),
    [
        (UP, "", Wish("started"), "none", None, "it runs what is on disk"),
        (UP, "changed since its start: /etc/x", Wish("started"), "restart", None, "changed since its start: /etc/x"),
        (UP, "changed", Wish("started", only_if_stopped=True), "none", None, "it runs"),
        (UP, "", Wish("restarted"), "restart", None, "a restart was asked for"),
        (UP, "", Wish("stopped", enabled=None), "stop", None, "it runs"),
        (UP, "", Wish("stopped", enabled=False), "stop", False, "it runs"),
        (DOWN, "", Wish("started"), "start", None, "it is inactive"),
        (DOWN, "", Wish("restarted"), "start", None, "it is inactive"),
        (DOWN, "", Wish("started", only_if_stopped=True), "start", None, "it is inactive"),
        (DOWN, "", Wish("stopped"), "none", None, "it is stopped"),
        (Unit("loaded", "failed", "failed", "disabled"), "", Wish("started"), "start", True, "it is failed"),
        (Unit("loaded", "failed", "failed", "enabled"), "", Wish("stopped"), "none", None, "it is stopped"),
        (WAITS, "", Wish("started"), "start", None, "it is activating"),
        (WAITS, "", Wish("stopped"), "stop", None, "it runs"),
        (ABSENT, "", Wish("started"), "start", None, "it is not installed yet"),
        (ABSENT, "", Wish("stopped", enabled=False), "none", None, "it is stopped"),
        (Unit("loaded", "active", "running", "static"), "", Wish("started"), "none", None, "it runs what is on disk"),
    ],
)
def test_decide(unit: Unit, stale: str, wish: Wish, action: str, enable: bool | None, reason: str) -> None:
    plan = decide(unit, stale, wish)
    assert (plan.action, plan.enable, plan.reason) == (action, enable, reason)
    assert plan.changes == (action != "none" or enable is not None)


def test_a_reload_alone_is_no_change() -> None:
    plan = decide(Unit("loaded", "inactive", "dead", "enabled", need_reload=True), "", Wish("stopped"))
    assert plan.reload
    assert not plan.changes


def test_parse_show() -> None:
    lines = ("LoadState=loaded", "ActiveState=active", "SubState=running", "UnitFileState=enabled", "NeedDaemonReload=yes", "MainPID=812")
    text = "\n".join((*lines, "NRestarts=2", "Result=success"))
    assert parse_show(text) == Unit("loaded", "active", "running", "enabled", True, 812, 2, "success")
    assert parse_show("") == Unit()
    assert parse_show("MainPID=-1\nbroken\n").main_pid == 0


A, B = "a" * 64, "b" * 64


def test_stamp() -> None:
    assert parse_stamp(f"{A}  /etc/spark/spark-env.sh\n{B} */etc/x y\n") == {"/etc/spark/spark-env.sh": A, "/etc/x y": B}
    for broken in ("x", f"{A}  relative/path\n", f"{A[1:]}  /etc/x\n"):
        with pytest.raises(ValueError, match="no line of sha256sum"):
            parse_stamp(broken)


def test_stale_reason() -> None:
    assert stale_reason(UP, {"/x": A}, {"/x": A}) == ""
    assert stale_reason(UP, {"/x": A, "/y": A}, {"/x": B, "/y": None}) == "changed since its start: /x; gone since its start: /y"
    assert stale_reason(UP, None, {}) == "there is no record of what it was started with"
    assert stale_reason(UP, {}, {}) == "there is no record of what it was started with"
    assert stale_reason(Unit("loaded", "active", need_reload=True), {"/x": A}, {"/x": A}) == "its unit file changed"


def test_kinds_of_daemons_and_what_their_stop_loses() -> None:
    assert daemon_kind([b"/usr/lib/jvm/bin/java", b"-Xmx1g", b"org.apache.spark.deploy.worker.Worker", b"spark://h:7077"]) == "apache"
    assert daemon_kind([b"/usr/bin/python3", b"-I", b"/opt/sparkd/current/bin/sparkd", b"master", b""]) == "sparkd"
    assert daemon_kind([b"/usr/bin/java", b"org.apache.zookeeper.server.quorum.QuorumPeerMain"]) == daemon_kind([]) == ""
    assert [
        loses_drivers(*kinds) for kinds in (("sparkd", "sparkd"), ("sparkd", "apache"), ("apache", "sparkd"), ("apache", "apache"))
    ] == [
        False,
        True,
        True,
        True,
    ]
