"""The journal of a worker: starts, exits and intents, on disk before anything is done or told; starts and exits kept until acknowledged.

One line per record: CRC-32 of the JSON in hex, a space, the JSON. Records:
  {"k": "entry", "r": ProcessReport, "w": seconds}  a start or an exit, r.seq rises; w: what supervise waits before the next start
  {"k": "known", "r": ProcessReport, "w": seconds}  the last report of a process whose entries are acknowledged (compaction)
  {"k": "ack", "seq": n}                            entries up to n are the leader's
  {"k": "end", "ref": ProcessRef, "why": text}      it is to be ended: written before it is signalled
  {"k": "forget", "ref": ProcessRef}                an ended process is not remembered any more
  {"k": "next", "seq": n}                           numbers start here (compaction)
A line that was torn by a crash is cut off. A bad line in the middle is skipped, and the file is set aside as journal.bad-N first.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import time
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core import codec
from ..core.values import Json, ProcessRef, ProcessReport

log = logging.getLogger(__name__)

COMPACT_BYTES = 1024 * 1024  # not before the file is this large, and four times what it would be
LINE_LIMIT = 256 * 1024  # bytes
ACKNOWLEDGE_S = 1.0  # an acknowledgement waits this long for a write that it can go with


@dataclass(slots=True)
class Known:
    """A process as the journal tells of it. end: why it was to be ended, "" if nobody asked."""

    report: ProcessReport
    wait_s: float = 0.0
    end: str = ""


@dataclass(slots=True)
class Contents:
    """What a journal says, all in all."""

    known: dict[ProcessRef, Known] = field(default_factory=dict)
    entries: dict[int, ProcessReport] = field(default_factory=dict)  # not acknowledged, by rising seq
    next_seq: int = 1
    acknowledged: int = 0
    intents: dict[ProcessRef, str] = field(default_factory=dict)  # ends of processes that were never known here

    def apply(self, record: dict[str, Any]) -> None:
        """Take one record. Raises ValueError, KeyError, TypeError."""
        kind = record["k"]
        if kind in ("entry", "known"):
            report = codec.decode(ProcessReport, record["r"])
            before = self.known.get(report.ref)
            end = before.end if before else self.intents.pop(report.ref, "")
            self.known[report.ref] = Known(report, float(record.get("w", 0.0)), end)
            if kind == "entry" and report.seq > self.acknowledged:
                self.entries[report.seq] = report
                self.next_seq = max(self.next_seq, report.seq + 1)
        elif kind == "ack":
            self.acknowledged = max(self.acknowledged, int(record["seq"]))
            self.next_seq = max(self.next_seq, self.acknowledged + 1)
            self.entries = {seq: report for seq, report in self.entries.items() if seq > self.acknowledged}
        elif kind == "end":
            ref = codec.decode(ProcessRef, record["ref"])
            known = self.known.get(ref)
            if known is not None:
                known.end = known.end or str(record["why"])
            else:
                self.intents[ref] = str(record["why"])
        elif kind == "forget":
            ref = codec.decode(ProcessRef, record["ref"])
            if all(entry.ref != ref for entry in self.entries.values()):  # never before the leader knows
                self.known.pop(ref, None)
        elif kind == "next":
            self.next_seq = max(self.next_seq, int(record["seq"]))
        else:
            raise ValueError("a record of an unknown kind")

    def compacted(self) -> list[dict[str, Json]]:
        """Return the fewest records that say the same."""
        records: list[dict[str, Json]] = [{"k": "next", "seq": self.next_seq}, {"k": "ack", "seq": self.acknowledged}]
        last = {known.report.seq for known in self.known.values()}
        records += [{"k": "entry", "r": codec.encode(report)} for seq, report in self.entries.items() if seq not in last]
        for ref, known in self.known.items():
            kind = "entry" if known.report.seq in self.entries else "known"
            records.append({"k": kind, "r": codec.encode(known.report), "w": known.wait_s})
            if known.end:
                records.append({"k": "end", "ref": codec.encode(ref), "why": known.end})
        records += [{"k": "end", "ref": codec.encode(ref), "why": why} for ref, why in self.intents.items()]
        return records


def to_line(record: dict[str, Json]) -> bytes:
    """Return the line of a record."""
    body = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def from_line(line: bytes) -> dict[str, Any] | None:
    """Return the record of a line, None if it is damaged."""
    if len(line) < 10 or len(line) > LINE_LIMIT or line[8:9] != b" ":
        return None
    try:
        if int(line[:8], 16) != zlib.crc32(line[9:]):
            return None
        record = json.loads(line[9:])
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def parse(raw: bytes) -> tuple[Contents, int, int]:
    """Return what the bytes say, how many of them are good lines from the start, and how many damaged lines stand before a good one."""
    contents, good, bad, pending, position = Contents(), 0, 0, 0, 0
    for line in raw.split(b"\n")[:-1]:
        position += len(line) + 1
        record = from_line(line)
        try:
            if record is None:
                raise ValueError("damaged")
            contents.apply(record)
        except (KeyError, TypeError, ValueError):
            pending += 1
            continue
        bad, pending = bad + pending, 0
        good = position
    return contents, good, bad


class Journal:
    """The file. `add` returns when its records are durable; records of one moment share one fsync."""

    def __init__(self, path: Path) -> None:
        """Read it, mend it. Raises OSError."""
        self.path = path
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            raw = b""
        self.contents, good, bad = parse(raw)
        #: Sentences about what was wrong with the file, for the log and the page.
        self.problems: list[str] = []
        if bad:
            aside = path.with_name(f"{path.name}.bad-{int(time.time() * 1000)}")
            aside.write_bytes(raw)
            self.problems.append(f"{bad} damaged records of the journal were skipped, the file as it was is {aside}")
        elif good < len(raw):
            self.problems.append(f"the journal's last {len(raw) - good} bytes were torn by a crash and are cut off")
        for problem in self.problems:
            log.warning("event=journal_mended file=%s why=%s", path, problem)
        self._size = good
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if bad:
            self._rewrite(self.contents.compacted())
        else:
            os.ftruncate(self._fd, good)
        _sync_directory(path.parent)
        self._seq = self.contents.next_seq
        self._waiting: list[tuple[list[dict[str, Json]], asyncio.Future[None]]] = []
        self._flusher: asyncio.Task[None] | None = None
        self._acknowledgement: dict[str, Json] | None = None
        self._later: asyncio.TimerHandle | None = None
        self._thread = ThreadPoolExecutor(1, "journal")  # its own: nothing slow may stand before an fsync
        self._closed = False

    async def entry(self, report: ProcessReport, wait_s: float = 0.0) -> ProcessReport:
        """Store a start or an exit and return it with its number. Raises OSError; then nothing is stored."""
        numbered = dataclasses.replace(report, seq=self._seq)
        self._seq += 1
        await self._add([{"k": "entry", "r": codec.encode(numbered), "w": wait_s}])
        return numbered

    async def end(self, ref: ProcessRef, why: str) -> None:
        """Store that a process is to be ended. Raises OSError."""
        await self._add([{"k": "end", "ref": codec.encode(ref), "why": why[:1000]}])

    def acknowledge(self, seq: int) -> None:
        """Note that the leader has everything up to seq. Written soon: until then a crash costs no more than a replay."""
        if seq > self.contents.acknowledged:
            record: dict[str, Json] = {"k": "ack", "seq": min(seq, self._seq - 1)}
            self.contents.apply(record)
            self._acknowledgement = record
            if self._later is None and not self._closed:
                self._later = asyncio.get_running_loop().call_later(ACKNOWLEDGE_S, self._flush_soon)

    def _flush_soon(self) -> None:
        self._later = None
        if self._flusher is None and not self._closed:
            self._flusher = asyncio.create_task(self._flush())

    async def forget(self, refs: Iterable[ProcessRef]) -> None:
        """Remember ended processes no longer. Raises OSError."""
        await self._add([{"k": "forget", "ref": codec.encode(ref)} for ref in refs])

    async def renumber(self, above: int) -> None:
        """Number what is not acknowledged above this: the leader knows higher numbers than a journal that was lost. Raises OSError."""
        if self._seq > above:
            return
        old = self.unacknowledged()
        self._seq = above + 1
        await self._add([{"k": "ack", "seq": above}])
        for report in old:
            known = self.contents.known.get(report.ref)
            await self.entry(report, known.wait_s if known else 0.0)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._size

    def unacknowledged(self) -> tuple[ProcessReport, ...]:
        """Entries that the leader may not have, oldest first."""
        return tuple(report for _, report in sorted(self.contents.entries.items()))

    async def _add(self, records: list[dict[str, Json]]) -> None:
        if self._closed:
            raise OSError("the journal is closed")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((records, future))
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush())
        await asyncio.shield(future)

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting or self._acknowledgement:
                batch, self._waiting = self._waiting, []
                records = [record for records, _ in batch for record in records]
                extra, self._acknowledgement = self._acknowledgement, None
                try:
                    await loop.run_in_executor(self._thread, self._write, records + ([extra] if extra else []))
                except OSError as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(OSError(error.errno, error.strerror, str(self.path)))
                            future.exception()  # whoever waited may be gone
                    continue
                for record in records:
                    self.contents.apply(record)
                for _, future in batch:
                    if not future.done():
                        future.set_result(None)
                await self._compact()
        finally:
            self._flusher = None

    def _write(self, records: list[dict[str, Json]]) -> None:
        """Append, all or nothing. Raises OSError."""
        data = b"".join(map(to_line, records))
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(self._fd, data[done:], self._size + done)
            os.fdatasync(self._fd)
        except OSError:
            # If this fails too, the torn line is overwritten by the next write, or cut off at the next start.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)

    async def _compact(self) -> None:
        if self._size < COMPACT_BYTES:
            return
        records = self.contents.compacted()
        if self._size < 4 * sum(len(to_line(record)) for record in records):
            return
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._rewrite, records)
        except OSError as error:
            log.warning("event=journal_not_compacted file=%s why=%s", self.path, error.strerror)

    def _rewrite(self, records: list[dict[str, Json]]) -> None:
        """Replace the file. Raises OSError; then the old one goes on."""
        temporary = self.path.with_name(self.path.name + ".tmp")
        data = b"".join(map(to_line, records))
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(fd, data[done:], done)
            os.fsync(fd)
            temporary.rename(self.path)
        except OSError:
            os.close(fd)
            raise
        _sync_directory(self.path.parent)
        os.close(self._fd)
        self._fd, self._size = fd, len(data)

    async def close(self) -> None:
        """Write what waits, and close."""
        self._closed = True
        if self._later is not None:
            self._later.cancel()
        if self._flusher is None and self._acknowledgement:
            self._flusher = asyncio.create_task(self._flush())
        if self._flusher is not None:
            await asyncio.wait([self._flusher])
        self._thread.shutdown()
        os.close(self._fd)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
