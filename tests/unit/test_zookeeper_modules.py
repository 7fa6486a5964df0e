"""What zookeeper_state reads from a host's files, and what zookeeper_set_aside moves."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from modules import zookeeper_set_aside, zookeeper_state


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(zookeeper_state, "unit_states", lambda unit: {"LoadState": "loaded", "ActiveState": "active"})
    (tmp_path / "data" / "version-2").mkdir(parents=True)
    return tmp_path


def look(host: Path, **more: object) -> dict[str, object]:
    params = {
        "data_dir": str(host / "data"),
        "config": str(host / "zoo.cfg"),
        "running_config": str(host / "running.cfg"),
        "unit": "zookeeper.service",
        "addresses": [],
        **more,
    }
    return zookeeper_state.look(params)


def test_an_empty_host(host: Path) -> None:
    seen = look(host)
    assert (seen["myid"], seen["has_data"], seen["servers"], seen["old_data_dir"]) == (0, False, {}, "")


def test_what_runs_decides_not_what_is_on_disk(host: Path) -> None:
    (host / "zoo.cfg").write_text(f"dataDir={host}/data\nserver.1=a:2888:3888\nserver.2=b:2888:3888\n")
    (host / "running.cfg").write_text(f"dataDir={host}/data\nserver.1=a:2888:3888\n")
    (host / "data" / "version-2" / "snapshot.0").touch()
    (host / "data" / "myid").write_text("1\n")
    seen = look(host)
    assert (seen["myid"], seen["has_data"], seen["servers"]) == (1, True, {"1": "a:2888:3888"})


@pytest.mark.parametrize("text", ["one", "0", "256", "²"])
def test_a_broken_myid_is_named(host: Path, text: str) -> None:
    (host / "data" / "myid").write_text(text)
    with pytest.raises(zookeeper_state.StateError, match="is no server id"):
        look(host)


def test_data_in_the_former_directory(host: Path) -> None:
    (host / "zoo.cfg").write_text(f"dataDir={host}/data\n")
    (host / "data" / "version-2" / "log.1").touch()
    assert look(host, data_dir=str(host / "new"))["old_data_dir"] == str(host / "data")


def test_a_server_of_others_is_not_ours(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = host / "zookeeper.service"
    states = {"LoadState": "loaded", "ActiveState": "active", "FragmentPath": str(unit)}
    monkeypatch.setattr(zookeeper_state, "unit_states", lambda _: states)
    unit.write_text("[Service]\nExecStart=/usr/share/zookeeper/bin/zkServer.sh start-foreground\n")
    assert not look(host)["ours"]
    unit.write_text(
        (Path(__file__).resolve().parents[2] / "templates/zookeeper/zookeeper.service.j2")
        .read_text()
        .replace("{{ _zookeeper_stamp }}", "/run/zookeeper/started-with")
    )
    assert look(host)["ours"]
    states["FragmentPath"] = ""
    assert not look(host)["ours"]


def test_only_those_that_still_answer_are_strangers(host: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        (host / "zoo.cfg").write_text(f"server.1=me:1:2\nserver.2=127.0.0.1:1:{port}\nserver.3=localhost:1:1\n")
        assert look(host, addresses=["me"])["strangers"] == ["127.0.0.1"]
        assert look(host, addresses=["me", "127.0.0.1"])["strangers"] == []


def test_set_aside_keeps_everything(host: Path) -> None:
    (host / "data" / "version-2" / "log.1").write_text("x")
    (host / "data" / "myid").write_text("1")
    directories = [str(host / "data"), str(host / "none")]
    assert zookeeper_set_aside.set_aside(directories, check_mode=True)["changed"]
    assert (host / "data" / "myid").exists()
    (kept,) = zookeeper_set_aside.set_aside(directories, check_mode=False)["kept"]
    assert (Path(kept) / "version-2" / "log.1").read_text() == "x"
    assert (Path(kept) / "myid").read_text() == "1"
    assert not zookeeper_set_aside.set_aside(directories, check_mode=False)["changed"]
