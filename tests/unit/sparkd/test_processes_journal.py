"""The journal: what it says after crashes, damage, acknowledgements, compaction, and on a disk that cannot be written."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkd.core.values import ProcessRef, ProcessReport
from sparkd.processes import journal as module
from sparkd.processes.journal import Contents, Journal, from_line, parse, to_line


def report(number: int, state: str = "RUNNING") -> ProcessReport:
    return ProcessReport(ProcessRef("driver", f"driver-{number}", 1), state, 1, 64)


async def filled(path: Path, count: int) -> Journal:
    journal = Journal(path)
    for number in range(count):
        await journal.entry(report(number), wait_s=2.0)
    return journal


def reopened(path: Path) -> Journal:
    return Journal(path)


def test_numbers_rise_and_survive(tmp_path: Path) -> None:
    async def story() -> None:
        journal = await filled(tmp_path / "j", 3)
        await journal.close()
        again = reopened(tmp_path / "j")
        assert [entry.seq for entry in again.unacknowledged()] == [1, 2, 3]
        assert (await again.entry(report(9))).seq == 4
        assert again.contents.known[report(1).ref].wait_s == 2.0
        await again.close()

    asyncio.run(story())


def test_acknowledged_entries_are_gone_but_their_processes_are_known(tmp_path: Path) -> None:
    async def story() -> None:
        journal = await filled(tmp_path / "j", 3)
        journal.acknowledge(2)
        assert [entry.seq for entry in journal.unacknowledged()] == [3]
        await journal.close()  # writes the acknowledgement that waited
        again = reopened(tmp_path / "j")
        assert [entry.seq for entry in again.unacknowledged()] == [3]
        assert len(again.contents.known) == 3
        journal = again
        journal.acknowledge(99)  # a leader cannot acknowledge what was never written
        assert (await journal.entry(report(4))).seq == 4
        assert [entry.seq for entry in journal.unacknowledged()] == [4]
        await journal.close()

    asyncio.run(story())


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_tail_is_cut_off(tmp_path: Path, cut: int) -> None:
    async def story() -> None:
        await (await filled(tmp_path / "j", 3)).close()
        raw = (tmp_path / "j").read_bytes()
        (tmp_path / "j").write_bytes(raw[:-cut])
        again = reopened(tmp_path / "j")
        assert [entry.seq for entry in again.unacknowledged()] == [1, 2]
        assert "torn" in again.problems[0]
        await again.entry(report(7))
        await again.close()
        third = reopened(tmp_path / "j")
        assert [entry.ref.owner for entry in third.unacknowledged()] == ["driver-0", "driver-1", "driver-7"]
        assert not third.problems
        await third.close()

    asyncio.run(story())


def test_damage_in_the_middle_is_skipped_and_the_file_set_aside(tmp_path: Path) -> None:
    async def story() -> None:
        await (await filled(tmp_path / "j", 3)).close()
        lines = (tmp_path / "j").read_bytes().split(b"\n")
        lines[1] = lines[1].replace(b"driver-1", b"driver-x")
        (tmp_path / "j").write_bytes(b"\n".join(lines))
        again = reopened(tmp_path / "j")
        assert [entry.seq for entry in again.unacknowledged()] == [1, 3]
        aside = list(tmp_path.glob("j.bad-*"))
        assert len(aside) == 1 and b"driver-x" in aside[0].read_bytes()
        assert "1 damaged" in again.problems[0]
        await again.close()
        clean = reopened(tmp_path / "j")
        assert not clean.problems
        await clean.close()

    asyncio.run(story())


@given(st.binary(max_size=400), st.integers(0, 300))
def test_random_bytes_never_break_the_reading(noise: bytes, at: int) -> None:
    line = to_line({"k": "ack", "seq": 5})
    raw = line + noise[: at % 50] + b"\n" + noise + b"\n" + line
    contents, good, _ = parse(raw)
    assert contents.acknowledged == 5 and good == len(raw)


def test_intents_outlive_a_crash_and_stay_with_their_process(tmp_path: Path) -> None:
    async def story() -> None:
        journal = await filled(tmp_path / "j", 1)
        await journal.end(report(0).ref, "killed by request")
        await journal.end(report(5).ref, "not here yet")
        await journal.close()
        again = reopened(tmp_path / "j")
        assert again.contents.known[report(0).ref].end == "killed by request"
        await again.entry(report(5))
        await again.entry(report(0))
        assert again.contents.known[report(5).ref].end == "not here yet"
        assert again.contents.known[report(0).ref].end == "killed by request"
        await again.close()

    asyncio.run(story())


def test_compaction_keeps_the_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPACT_BYTES", 4096)

    async def story() -> None:
        journal = await filled(tmp_path / "j", 3)
        await journal.end(report(1).ref, "why")
        for _ in range(100):
            last = await journal.entry(report(2), wait_s=8.0)
            journal.acknowledge(last.seq - 1)
        await journal.entry(report(2, "FINISHED"))
        before = journal.contents
        assert (tmp_path / "j").stat().st_size < 6000
        await journal.close()
        again = reopened(tmp_path / "j")
        assert again.contents == before
        await again.close()

    asyncio.run(story())


@given(st.lists(st.tuples(st.sampled_from(["entry", "ack", "end", "forget"]), st.integers(0, 4)), max_size=40))
def test_compacted_records_say_the_same(steps: list[tuple[str, int]]) -> None:
    contents = Contents()
    for kind, number in steps:
        told = report(number)
        ref = {"kind": "driver", "owner": told.ref.owner, "number": 1}
        body = {"ref": ref, "state": "RUNNING", "cores": 1, "memory_mb": 64, "seq": contents.next_seq}
        records: dict[str, dict[str, object]] = {
            "entry": {"k": "entry", "r": body, "w": 1.0},
            "ack": {"k": "ack", "seq": min(number, contents.next_seq - 1)},
            "end": {"k": "end", "ref": ref, "why": "w"},
            "forget": {"k": "forget", "ref": ref},
        }
        contents.apply(records[kind])
    again, _, bad = parse(b"".join(map(to_line, contents.compacted())))
    assert not bad
    assert (again.known, again.entries, again.next_seq, again.intents) == (
        contents.known,
        contents.entries,
        contents.next_seq,
        contents.intents,
    )


def test_a_lost_journal_gets_numbers_above_the_leaders(tmp_path: Path) -> None:
    async def story() -> None:
        journal = await filled(tmp_path / "j", 2)
        await journal.renumber(50)
        assert [(entry.seq, entry.ref.owner) for entry in journal.unacknowledged()] == [(51, "driver-0"), (52, "driver-1")]
        await journal.renumber(50)
        assert len(journal.unacknowledged()) == 2
        await journal.close()

    asyncio.run(story())


def test_a_full_disk_stores_nothing_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite

    def full(fd: int, data: bytes, offset: int) -> int:
        if offset == 0 or len(data) < 20:
            return real(fd, data, offset)
        real(fd, data[:20], offset)  # a torn line is on disk
        raise OSError(errno.ENOSPC, "No space left on device")

    async def story() -> None:
        journal = await filled(tmp_path / "j", 1)
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left"):
            await journal.entry(report(1))
        monkeypatch.setattr(os, "pwrite", real)
        stored = await journal.entry(report(2))
        assert [entry.ref.owner for entry in journal.unacknowledged()] == ["driver-0", "driver-2"]
        await journal.close()
        again = reopened(tmp_path / "j")
        assert [entry.seq for entry in again.unacknowledged()] == [1, stored.seq] and not again.problems
        await again.close()

    asyncio.run(story())


def test_many_at_once_share_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = os.fdatasync

    def counted(fd: int) -> None:
        calls.append(fd)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", counted)

    async def story() -> None:
        journal = Journal(tmp_path / "j")
        stored = await asyncio.gather(*(journal.entry(report(number)) for number in range(100)))
        assert [entry.seq for entry in stored] == list(range(1, 101))
        await journal.close()

    asyncio.run(story())
    assert len(calls) < 10


def test_lines_of_other_shapes_are_damaged() -> None:
    for line in (b"", b"xx", b"zzzzzzzz {}", b"00000000 {}", b"00000000 " + b"x" * 300_000):
        assert from_line(line) is None
