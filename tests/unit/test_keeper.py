"""keeper: from a process and what ZooKeeper lists to the record, and no more questions than needed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from latchkeeper import config, keeper, pages, proc, record, zk
from latchkeeper.fourletter import Connection, parse_cons
from latchkeeper.rules import Latch

CONS = " /10.0.0.1:{port}[1](queued=0,recved=3,sent=3,sid=0x{sid:x},lop=PING,est=1,to=6000,lcxid=0x1,lzxid=0x2,lresp=1,llat=0)\n"
OWN = Latch("_c_1-latch-0000000004", owner=0x111, czxid=7, version=0)
OTHER = Latch("_c_2-latch-0000000003", owner=0x222, czxid=6, version=0)


class World:
    """What the keeper sees; this test's own process plays the master."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
        self.sockets = [proc.Socket("10.0.0.1", 40000, "10.0.0.9", 2181, 1)]
        self.latches = [OTHER, OWN]
        self.cons = {"10.0.0.9": CONS.format(port=40000, sid=0x111) + CONS.format(port=40001, sid=0x222)}
        self.asked = 0
        (directory / "pid").write_text(f"{os.getpid()}\n")
        self.config = config.Config(
            recovery_mode="ZOOKEEPER",
            page="h1:8080",
            zookeeper="h1:2181",
            record=str(directory / "master.json"),
            pid_file=str(directory / "pid"),
        )
        monkeypatch.setattr(proc, "sockets_of", lambda pid, ports: self.sockets)
        monkeypatch.setattr(zk, "clients", self.clients)
        monkeypatch.setattr(keeper.Keeper, "latches", lambda _: self.latches)
        monkeypatch.setattr(pages, "read_master", self.page)
        self.url = "spark://h1:7077"

    def clients(self, servers: list[tuple[str, int]]) -> dict[tuple[str, int], list[Connection]]:
        self.asked += 1
        return {server: parse_cons(self.cons[server[0]]) for server in servers}

    def page(self, endpoint: str, timeout_s: float) -> pages.MasterPage:
        if not self.url:
            raise pages.PageError("not yet")
        return pages.MasterPage(self.url, "ALIVE", (), 0, 0, 0, 0, (), (), (), ())


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    return World(monkeypatch, tmp_path)


def test_it_records_the_own_latch_and_then_only_looks(world: World) -> None:
    subject = keeper.Keeper(world.config)
    assert subject.look() == keeper.CHECK_S
    held = record.load(world.config.record)
    assert held is not None
    assert (held.pid, held.session, held.node, held.czxid, held.url) == (os.getpid(), 0x111, OWN.name, 7, "spark://h1:7077")
    for _ in range(3):
        assert subject.look() == keeper.CHECK_S
    assert world.asked == 1
    # Started again, it knows the record but believes it only after a look of its own.
    assert keeper.Keeper(world.config).look() == keeper.CHECK_S
    assert world.asked == 2


def test_a_new_session_is_recorded(world: World) -> None:
    subject = keeper.Keeper(world.config)
    subject.look()
    world.sockets = [proc.Socket("10.0.0.1", 40007, "10.0.0.9", 2181, 2)]
    world.cons["10.0.0.9"] = CONS.format(port=40007, sid=0x333)
    world.latches = [Latch("_c_3-latch-0000000005", owner=0x333, czxid=9, version=0)]
    subject.look()
    held = record.load(world.config.record)
    assert held is not None
    assert held.session == 0x333


def test_a_twin_of_the_connection_at_another_server_is_not_taken_for_it(world: World) -> None:
    """Two hosts that reach their own servers by loopback may both come from 127.0.0.1:40000."""
    loopback = CONS.replace("10.0.0.1", "127.0.0.1")
    world.cons = {"127.0.1.1": loopback.format(port=40000, sid=0x111), "10.0.0.8": loopback.format(port=40000, sid=0x222)}
    newer = Latch("_c_2-latch-0000000005", owner=0x222, czxid=8, version=0)
    world.latches = [OWN, newer]
    world.sockets = [proc.Socket("127.0.0.1", 40000, "127.0.1.1", 2181, 1), proc.Socket("10.0.0.1", 40003, "10.0.0.8", 2181, 2)]
    keeper.Keeper(world.config).look()
    held = record.load(world.config.record)
    assert held is not None
    assert held.session == 0x111


def test_a_latch_made_anew_on_the_same_connection_is_noticed(world: World) -> None:
    subject = keeper.Keeper(world.config)
    subject.look()
    world.latches = [OTHER, Latch("_c_1-latch-0000000009", owner=0x111, czxid=12, version=0)]
    subject.look()
    held = record.load(world.config.record)
    assert held is not None
    assert held.node.endswith("0009")


def test_while_there_is_nothing_to_record_it_looks_soon_again(world: World) -> None:
    subject = keeper.Keeper(world.config)
    world.sockets = []
    assert subject.look() == keeper.SOON_S
    world.sockets = [proc.Socket("10.0.0.1", 50000, "10.0.0.9", 2181, 1)]
    assert subject.look() == keeper.SOON_S, "connected, but under an address that no server lists"
    assert record.load(world.config.record) is None
    Path(world.config.pid_file).unlink()
    subject.pid = 0
    assert subject.look() == keeper.IDLE_S


def test_the_record_of_a_dead_process_stays_for_the_fence(world: World) -> None:
    subject = keeper.Keeper(world.config)
    subject.look()
    before = Path(world.config.record).read_bytes()
    Path(world.config.pid_file).write_text("0\n")
    subject.pid = 2**22 + 5
    assert subject.look() == keeper.IDLE_S
    assert Path(world.config.record).read_bytes() == before


def test_the_address_of_the_master_may_come_later(world: World) -> None:
    world.url = ""
    subject = keeper.Keeper(world.config)
    subject.look()
    world.url = "spark://h1:7077"
    subject.look()
    held = record.load(world.config.record)
    assert held is not None
    assert held.url == "spark://h1:7077"


@pytest.mark.parametrize("text", ["", "x", "-5", "12 13", "9" * 40])
def test_a_damaged_pid_file_is_no_process(tmp_path: Path, text: str) -> None:
    (tmp_path / "pid").write_text(text)
    assert proc.read_stat(keeper.main_pid(str(tmp_path / "pid"))) is None
