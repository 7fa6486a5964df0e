"""What the latchkeeper reads: /proc, its record, its configuration. All of it may be damaged or somebody else's."""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_latch_rules import RECORD

from latchkeeper import config, proc, record

STAT = "4242 (a (b) c) S 1 4242 4242 0 -1 4194560 1 0 0 0 5 3 0 0 20 0 51 0 987654 1 1"


def test_stat() -> None:
    assert proc.parse_stat(STAT) == proc.Stat("S", 51, 987654)
    for broken in ("", "1 (x", "1 (x) S 1"):
        with pytest.raises(ValueError):
            proc.parse_stat(broken)


def test_a_zombie_with_threads_is_alive() -> None:
    assert proc.Stat("Z", 1, 1).dead
    assert not proc.Stat("Z", 7, 1).dead
    assert not proc.Stat("T", 7, 1).dead


@pytest.mark.skipif(sys.byteorder != "little", reason="the samples are of a little-endian machine")
def test_tcp() -> None:
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    four = "   0: 0100007F:9C40 5258A8C0:0885 01 00000000:00000000 00:00000000 00000000  1000        0 111 1 x\n"
    listening = "   1: 00000000:0885 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 112 1 x\n"
    mapped = "   0: 0000000000000000FFFF0000 0100007F:9C41\n"
    six = (
        "   0: 0000000000000000FFFF00000100007F:9C41 0000000000000000FFFF00005258A8C0:0885 01 0:0 00:0 0 1000 0 113 1 x\n"
        "   1: 00000000000000000000000001000000:9C42 00000000000000000000000001000000:0885 01 0:0 00:0 0 1000 0 114 1 x\n"
    )
    assert proc.parse_tcp(head + four + listening) == [proc.Socket("127.0.0.1", 40000, "192.168.88.82", 2181, 111)]
    assert [(s.local_ip, s.local_port, s.inode) for s in proc.parse_tcp(head + six + mapped)] == [
        ("127.0.0.1", 40001, 113),
        ("::1", 40002, 114),
    ]
    assert proc.parse_tcp("") == []


def test_inodes() -> None:
    assert proc.parse_inodes(["socket:[12]", "/dev/null", "pipe:[13]", "socket:[x]"]) == {12}


def test_this_process() -> None:
    me = proc.read_stat(os.getpid())
    assert me is not None
    assert not me.dead
    assert proc.read_stat(2**22 + 1) is None
    assert len(proc.boot_id()) == 36
    assert 0 < proc.own_age() < 36000
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        (found,) = proc.sockets_of(os.getpid(), [server.getsockname()[1]])
        assert (found.local_ip, found.local_port) == client.getsockname()
        assert proc.sockets_of(os.getpid(), [1]) == []


def test_record_is_private_whole_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "master.json"
    assert record.load(str(path)) is None
    record.save(str(path), RECORD)
    record.save(str(path), replace(RECORD, session=-5))
    assert record.load(str(path)) == replace(RECORD, session=-5)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "change",
    [
        {"pid": "50"},
        {"pid": True},
        {"pid": 1},
        {"session": 0},
        {"node": "../../zookeeper/quota"},
        {"node": "x" * 500},
        {"extra": 1},
        {"url": None},
    ],
)
def test_a_damaged_record_is_no_record(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "master.json"
    path.write_text(json.dumps(json.loads(record.dump(RECORD)) | change))
    assert record.load(str(path)) is None


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"{}", b"[" * 60000, b"\xff"])
def test_no_record_at_all(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "master.json"
    path.write_bytes(raw)
    assert record.load(str(path)) is None


def test_config() -> None:
    given = {"recovery_mode": "ZOOKEEPER", "page": "h1:8080", "zookeeper": "h1:2181", "masters": ["h1:8080", "h2:8080"], "fence_delay_s": 1}
    read = config.parse(json.dumps(given).encode())
    assert read.elects
    assert read.others == ("h2:8080",)
    assert read.fence_delay_s == 1.0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"page": "h:1"}', "a key is missing"),
        ('{"recovery_mode": "NONE", "page": "h:1", "fence_dely_s": 1}', "unknown key 'fence_dely_s'"),
        ('{"recovery_mode": "NONE", "page": "h:1", "fence_delay_s": true}', "fence_delay_s=True"),
        ('{"recovery_mode": "NONE", "page": "h:1", "fence_delay_s": -1}', "fence_delay_s=-1"),
        ('{"recovery_mode": "NONE", "page": "h:1", "fence_delay_s": NaN}', "fence_delay_s=nan"),
        ('{"recovery_mode": "NONE", "page": 3}', "page=3"),
        ('{"recovery_mode": "NONE", "page": "h:1", "masters": "h:1"}', "masters='h:1'"),
        ('{"recovery_mode": "ZOOKEEPER", "page": "h:1"}', "needs the connect string"),
        ('{"recovery_mode": "ZOOKEEPER", "page": "h:1", "zookeeper": "h:1,:2"}', "':2' is not host:port"),
    ],
)
def test_config_refuses(text: str, reason: str) -> None:
    with pytest.raises(config.ConfigError, match=reason):
        config.parse(text.encode())


def test_servers_of_a_connect_string() -> None:
    assert config.servers("h1:2181,h2,[::1]:2182/some/where") == (("h1", 2181), ("h2", 2181), ("::1", 2182))
    assert config.servers("[::1]") == (("::1", 2181),)
    for broken in ("", "h1:x", ":2181,h"):
        with pytest.raises(config.ConfigError):
            config.servers(broken)
