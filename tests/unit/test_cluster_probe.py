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
    }
    assert units["b.service"]["load"] == "not-found" and units["b.service"]["restarts"] == 0


def test_silent_services_are_answers_not_errors() -> None:
    for answer in (
        cluster_probe.ask_master("127.0.0.1", 9, 0.5),
        cluster_probe.ask_worker("127.0.0.1", 9, 0.5),
        cluster_probe.ask_zookeeper("127.0.0.1", 9, 0.5),
    ):
        assert answer["error"]
