"""Records, leases, epochs, layout, journal, latch record and factory: bytes and numbers, no ensemble."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkd.coordination import epoch, journal, latchrecord, layout, lease, records
from sparkd.coordination.api import RECORD_LIMIT, MasterAddress, Misconfigured, RecordTooLarge
from sparkd.coordination.factory import make_engine
from sparkd.coordination.filesystem import FilesystemEngine
from sparkd.coordination.inspect import HIDDEN, hide
from sparkd.coordination.memory import MemoryEngine
from sparkd.coordination.none import NoneEngine
from sparkd.coordination.store import Known, Put, split
from sparkd.coordination.zookeeper import ZookeeperEngine
from sparkd.core.effects import Write
from sparkd.core.values import Record
from sparkd.settings import RecoverySettings

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
RECORD = st.dictionaries(st.text(), JSON, max_size=4)
TEXT = st.text()


# --- records ----------------------------------------------------------------------------------------------------------


@given(kind=st.sampled_from(layout.KINDS), record_id=TEXT, order=st.integers(1, 2**40), record=RECORD)
def test_a_record_comes_back(kind: str, record_id: str, order: int, record: Record) -> None:
    raw = records.encode(kind, record_id, order, record)
    assert records.decode(raw, kind, records.node_name(record_id)) == records.Decoded(kind, record_id, order, record)


@given(at=st.integers(0, 10_000), byte=st.integers(1, 255))
def test_any_changed_byte_is_noticed(at: int, byte: int) -> None:
    raw = bytearray(records.encode("driver", "d-1", 7, {"state": "RUNNING", "n": [1, 2, {"x": None}]}))
    at %= len(raw) - 1  # the newline at the end says nothing
    raw[at] ^= byte
    try:
        found = records.decode(bytes(raw), "driver", "d-1")
    except records.Unreadable:
        return
    # White space of the first line may change; what it says may not.
    assert found == records.Decoded("driver", "d-1", 7, {"state": "RUNNING", "n": [1, 2, {"x": None}]})


@given(length=st.integers(0, 200))
def test_any_truncation_is_noticed(length: int) -> None:
    raw = records.encode("driver", "d-1", 7, {"state": "RUNNING", "text": "x" * 100})
    with pytest.raises(records.Unreadable):
        records.decode(raw[: min(length, len(raw) - 2)], "driver", "d-1")


@given(st.binary(max_size=300))
def test_noise_is_unreadable_and_nothing_else(raw: bytes) -> None:
    with pytest.raises(records.Unreadable):
        records.decode(raw, "driver", "d")


def test_a_record_in_another_place_is_refused() -> None:
    raw = records.encode("driver", "d-1", 7, {})
    with pytest.raises(records.Unreadable, match="place"):
        records.decode(raw, "worker", "d-1")
    with pytest.raises(records.Unreadable, match="another name"):
        records.decode(raw, "driver", "d-2")


@pytest.mark.parametrize("nested", ["[" * 100_000, '{"a":' * 50_000])
def test_deep_nesting_is_unreadable(nested: str) -> None:
    with pytest.raises(records.Unreadable):
        records.decode(nested.encode() + b"\n", "driver", "d")
    body = nested.encode()
    head = {"format": 1, "kind": "driver", "id": "d", "order": 1, "sha256": records._sum("driver", "d", 1, body)}
    with pytest.raises(records.Unreadable, match="not an object"):
        records.decode(json.dumps(head).encode() + b"\n" + body, "driver", "d")


def test_the_limit_is_on_the_whole_record() -> None:
    overhead = len(records.encode("driver", "d", 1, {"t": ""}))
    assert len(records.encode("driver", "d", 1, {"t": "x" * (RECORD_LIMIT - overhead)})) == RECORD_LIMIT
    with pytest.raises(RecordTooLarge, match="driver d"):
        records.encode("driver", "d", 1, {"t": "x" * (RECORD_LIMIT - overhead + 1)})


@given(TEXT, TEXT)
def test_names_are_safe_and_different(one: str, other: str) -> None:
    name = records.node_name(one)
    assert name
    assert "/" not in name
    assert "\x00" not in name
    assert not name.startswith(".")
    assert len(name.encode()) <= records.NAME_LIMIT
    assert (name == records.node_name(other)) == (one == other)


# --- store ------------------------------------------------------------------------------------------------------------


def test_of_several_writes_to_a_record_the_last_counts() -> None:
    known = Known({("driver", "a"): 3}, 3)
    batch = [Write("driver", "b", {"n": 1}), Write("driver", "a", {"n": 2}), Write("driver", "b", None), Write("driver", "c", {})]
    puts = known.encode(batch)
    assert [(put.key[1], put.raw is None, put.order) for put in puts] == [("a", False, 3), ("b", True, 0), ("c", False, 4)]
    assert known.last == 3, "nothing is stored yet"
    known.stored(puts)
    assert known.orders == {("driver", "a"): 3, ("driver", "c"): 4}
    assert known.last == 4


@given(st.lists(st.integers(0, 500), max_size=30))
def test_runs_keep_order_and_limit(sizes: list[int]) -> None:
    puts = [Put(("driver", str(index)), b"x" * size) for index, size in enumerate(sizes)]
    runs = split(puts, 600, 100)
    assert [put for run in runs for put in run] == puts
    assert all(sum(100 + len(put.raw or b"") for put in run) <= 600 for run in runs)
    assert all(runs) or runs == [[]]


# --- lease and epoch --------------------------------------------------------------------------------------------------


def test_a_lease_counts_from_the_sending() -> None:
    held = lease.NO_LEASE.renewed(100.0, 4.0)
    assert held.left(100.0) == pytest.approx(3.0)
    assert held.left(102.9) == pytest.approx(0.1)
    assert held.left(103.0) == 0.0
    assert held.left(1e9) == 0.0
    assert lease.NO_LEASE.left(0.0) == 0.0
    assert held.renewed(99.0, 4.0) == held, "an answer that comes late does not shorten it"
    assert lease.LEASE_SHARE + 0.25 <= 1.0, "half a tick, a tick being half a session at most, may be missing"


def test_the_cluster_mark_comes_back() -> None:
    mark = epoch.ClusterMark("a.b-c_1", 2**40)
    assert epoch.decode(epoch.encode(mark)) == mark
    assert epoch.new_mark() != epoch.new_mark()


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "no cluster mark"),
        (b"[]", "no cluster mark"),
        (b"[" * 4000, "no cluster mark"),
        (b'{"format":2,"cluster_id":"a","floor":0}', "format 2"),
        (b'{"format":1,"cluster_id":"a/b","floor":0}', "no cluster id"),
        (b'{"format":1,"cluster_id":"a","floor":-1}', "no floor"),
        (b'{"format":1,"cluster_id":"a","floor":true}', "no floor"),
    ],
)
def test_no_cluster_mark(raw: bytes, why: str) -> None:
    with pytest.raises(epoch.BadCluster, match=why):
        epoch.decode(raw)


# --- layout -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "directory", "hosts", "base"),
    [
        ("h1:2181,h2:2182", "/spark", "h1:2181,h2:2182", "/spark"),
        ("h1, h2:2182/chroot/x", "spark/a/", "h1:2181,h2:2182", "/chroot/x/spark/a"),
        ("[::1]:2181,[fe80::2]", "/s", "[::1]:2181,[fe80::2]:2181", "/s"),
    ],
)
def test_places(url: str, directory: str, hosts: str, base: str) -> None:
    assert layout.place(url, directory) == layout.Place(hosts, base)


@pytest.mark.parametrize(
    ("url", "directory", "named"),
    [
        ("", "/spark", "zookeeper.url"),
        ("h1:port", "/spark", "h1:port"),
        ("h1:0", "/spark", "h1:0"),
        ("h1:2181", "/", "zookeeper.dir"),
        ("h1:2181", "/zookeeper", "zookeeper.dir"),
        ("h1:2181", "/a/../b", "zookeeper.dir"),
    ],
)
def test_no_places(url: str, directory: str, named: str) -> None:
    with pytest.raises(Misconfigured, match=named):
        layout.place(url, directory)


def test_the_lowest_latch_is_first_whoever_made_it() -> None:
    first, second = f"{'f' * 32}-latch-0000000002", f"{'0' * 32}-latch-0000000010"
    assert layout.in_line([second, "something", first, "_c_x-latch-0000000001"]) == [first, second]


def test_a_latch_names_its_master() -> None:
    me = MasterAddress("h1", 7077, "http://h1:8080", "http://h1:6066")
    assert layout.decode_latch(layout.encode_latch(me, 1, 2, "boot")) == me
    for raw in (b"", b"[]", b"{}", b"[" * 20_000, b'{"host": 1, "port": "x", "web_ui": "", "rest": ""}'):
        assert layout.decode_latch(raw) is None


def test_parents_are_the_chroots() -> None:
    assert layout.place("h:1/a/b", "/spark").parents == ["/a", "/a/b"]
    assert layout.place("h:1", "/spark").parents == []


# --- journal ----------------------------------------------------------------------------------------------------------


def put(name: str, raw: bytes | None, order: int = 1) -> Put:
    return Put(("driver", name), raw, order)


def test_a_journal_comes_back() -> None:
    one = [put("a", b"1\n2"), put("b", None)]
    raw = journal.encode(one, "r1") + journal.encode([], "r2") + journal.encode([put("c", b"", 9)], "r3")
    batches, why = journal.decode(raw)
    assert why == ""
    assert [batch.request_id for batch in batches] == ["r1", "r2", "r3"]
    assert batches[0].puts == (put("a", b"1\n2"), Put(("driver", "b"), None))
    assert batches[2].puts == (put("c", b"", 9),)


@given(st.integers(0, 400))
def test_a_journal_that_is_cut_off_keeps_its_whole_batches(length: int) -> None:
    whole = [journal.encode([put(str(number), b"x" * 20)], f"r{number}") for number in range(3)]
    raw = b"".join(whole)
    batches, why = journal.decode(raw[:length])
    ends = [0, len(whole[0]), len(whole[0] + whole[1]), len(raw)]
    complete = max(number for number, end in enumerate(ends) if end <= length)
    assert len(batches) == complete
    assert bool(why) == (min(length, len(raw)) not in ends)


def test_a_journal_of_a_newer_version_says_so() -> None:
    _, why = journal.decode(b'{"format": 2}\n')
    assert "newer version (format 2" in why


@given(st.binary(max_size=200))
def test_noise_is_no_journal(raw: bytes) -> None:
    batches, why = journal.decode(raw)
    assert batches == []
    assert bool(why) == bool(raw)


# --- latch record -----------------------------------------------------------------------------------------------------


def test_the_latch_record_names_this_process(tmp_path: Path) -> None:
    written = latchrecord.LatchRecord.of_this_process(-5, "/spark/election/x-latch-0000000001", "h:1")
    latchrecord.save(tmp_path / "latch.json", written)
    read = latchrecord.load(tmp_path / "latch.json")
    assert (read.session, read.latch, read.zookeeper, read.pid) == (-5, "/spark/election/x-latch-0000000001", "h:1", os.getpid())
    assert latchrecord.start_of(read.pid) == read.start
    assert read.boot == latchrecord.boot_id()
    assert latchrecord.start_of(2**22 + 1) is None
    assert (tmp_path / "latch.json").stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["latch.json"]


GOOD = {"session": "0x1", "latch": "/s/election/x-latch-1", "zookeeper": "h:1", "pid": 10, "start": 1, "boot": "b"}


@pytest.mark.parametrize(
    "change",
    [
        {"session": "0x0"},
        {"session": 1},
        {"session": "?"},
        {"pid": 1},
        {"pid": True},
        {"pid": "10"},
        {"start": 0},
        {"boot": ""},
        {"zookeeper": ""},
        {"latch": "/spark"},
        {"latch": "x-latch-1"},
        {"latch": None},
    ],
)
def test_no_latch_record(change: dict[str, object]) -> None:
    latchrecord.parse(json.dumps(GOOD).encode())
    with pytest.raises(latchrecord.BadRecord):
        latchrecord.parse(json.dumps(GOOD | change).encode())


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"{}", b"[" * 10_000])
def test_no_latch_record_at_all(raw: bytes) -> None:
    with pytest.raises(latchrecord.BadRecord):
        latchrecord.parse(raw)


# --- factory ----------------------------------------------------------------------------------------------------------


def test_the_factory_makes_what_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(make_engine(RecoverySettings(mode="ZOOKEEPER", zookeeper_url="h:1")), ZookeeperEngine)
    assert isinstance(make_engine(RecoverySettings(mode="FILESYSTEM", directory=tmp_path)), FilesystemEngine)
    assert isinstance(make_engine(RecoverySettings(mode="NONE", state_dir=tmp_path)), NoneEngine)
    module = ModuleType("site_engine")
    module.make = lambda settings: MemoryEngine() if settings.mode == "CUSTOM" else None  # type: ignore[attr-defined]
    module.wrong = lambda settings: object()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "site_engine", module)
    assert isinstance(make_engine(RecoverySettings(mode="CUSTOM", factory="site_engine:make")), MemoryEngine)
    for factory in ("", "site_engine", "site_engine:", ":make", "site_engine:none", "no_such_module_at_all:x", "site_engine:wrong"):
        with pytest.raises(Misconfigured, match=r"spark\.deploy\.recoveryMode\.factory"):
            make_engine(RecoverySettings(mode="CUSTOM", factory=factory))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (RecoverySettings(mode="ZOOKEEPER"), "spark.deploy.zookeeper.url"),
        (RecoverySettings(mode="ZOOKEEPER", zookeeper_url="h:1", session_timeout_s=0.1), "sessionTimeout"),
        (RecoverySettings(mode="FILESYSTEM"), "recoveryDirectory"),
        (RecoverySettings(mode="FILESYSTEM", directory=Path("relative")), "recoveryDirectory"),
    ],
)
def test_the_factory_names_what_is_wrong(settings: RecoverySettings, named: str) -> None:
    with pytest.raises(Misconfigured, match=named):
        make_engine(settings)


def test_what_must_not_be_shown_is_hidden() -> None:
    shown = hide(
        {
            "name": "d",
            "environment": {"HOME": "/root"},
            "properties": {"spark.my.password": "x", "spark.app.name": "n"},
            "inner": [{"accessKey": "k", "cores": 1}],
        }
    )
    assert shown == {
        "name": "d",
        "environment": {"HOME": HIDDEN},
        "properties": {"spark.my.password": HIDDEN, "spark.app.name": "n"},
        "inner": [{"accessKey": HIDDEN, "cores": 1}],
    }
