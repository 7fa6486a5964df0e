from __future__ import annotations

from modules import cluster_probe


def test_units_of_systemctl_show() -> None:
    text = "Id=a.service\nLoadState=loaded\nActiveState=active\nSubState=running\nNRestarts=2\nUnitFileState=enabled\nResult=success\n\n"
    text += "Id=b.service\nLoadState=not-found\nActiveState=inactive\nSubState=dead\nNRestarts=[not set]\n"
    units = cluster_probe.parse_units(text)
    assert units["a.service"] == {
        "load": "loaded",
        "active": "active",
        "sub": "running",
        "enabled": "enabled",
        "result": "success",
        "restarts": 2,
        "daemons": "",
    }
    assert units["b.service"]["load"] == "not-found" and units["b.service"]["restarts"] == 0


def test_the_kind_of_daemon_behind_a_unit() -> None:
    lines = {
        7: [b"/usr/lib/jvm/bin/java", b"-Xmx1g", b"org.apache.spark.deploy.master.Master"],
        8: [b"/usr/bin/python3", b"-I", b"/opt/sparkd/current/bin/sparkd", b"worker"],
        9: [b"/usr/bin/java", b"org.apache.zookeeper.server.quorum.QuorumPeerMain"],
    }
    text = "".join(f"Id={pid}.service\nMainPID={pid}\n\n" for pid in (7, 8, 9, 0))
    units = cluster_probe.parse_units(text, lambda pid: lines.get(pid, []))
    assert [unit["daemons"] for unit in units.values()] == ["apache", "sparkd", "", ""]


def test_silent_services_are_answers_not_errors() -> None:
    for answer in (
        cluster_probe.ask_master("127.0.0.1", 9, 0.5),
        cluster_probe.ask_worker("127.0.0.1", 9, 0.5),
        cluster_probe.ask_zookeeper("127.0.0.1", 9, 0.5),
    ):
        assert answer["error"]
