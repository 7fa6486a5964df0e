"""The durable part of a recovery directory: records in files, and a journal in front of them. Everything here blocks.

A commit is one append to the journal and one fdatasync. The files of the records, one each, are written later by a thread of its own (when
the journal has grown, when it is quiet), each by atomic rename, with fsync of file and directory; only then are the journals removed that
say the same. Who leads next reads files and journals. Journals are named after the epoch that wrote them, so that a former leader, if its
lock was lost without its knowledge (NFS), appends to what nobody reads any more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from . import aside as asides
from . import files, journal, records
from .api import RECORD_LIMIT, Loaded, SetAside, StoredRecord
from .store import Key, Known, Put

log = logging.getLogger(__name__)
JOURNAL = re.compile(r"journal-(\d{1,19})-(\d{1,9})")
JOURNAL_LIMIT = 64 * 1024 * 1024
#: Bytes of journal after which the records' files are written.
CHECKPOINT_BYTES = 4 * 1024 * 1024
KIND = re.compile(r"[a-z][a-z_-]{0,31}")


class RecoveryDirectory:
    """What one leader reads and writes, with the lock held. One thread calls all methods but `write_files`, which another one does."""

    def __init__(self, path: Path, number: int, still: Callable[[], bool] = lambda: True) -> None:
        """still: whether this leader's lock and epoch number hold; asked before each change of a record's file."""
        self.path = path
        self.number = number
        self.still = still
        self.part = 0  # number of the last journal of this epoch
        self.in_files = self.beginning = 0  # up to which number they are in files, and will be
        self.handle = -1
        self.size = 0
        self.dirty: dict[Key, Put] = {}  # not in files yet
        self.pending: dict[Key, Put] = {}  # being written into files
        self.covered: list[tuple[Path, str]] = []  # journals that say what `pending` says, and why they cannot be read to their end
        self.old: list[tuple[Path, str]] = []  # journals of earlier epochs
        self.stopping = threading.Event()
        self.known = Known()

    # --- reading ------------------------------------------------------------------------------------------------------

    def load(self) -> Loaded:
        """Read files, then journals. Raises OSError."""
        (self.path / "records").mkdir(mode=0o750, exist_ok=True)
        (self.path / "set-aside").mkdir(mode=0o750, exist_ok=True)
        aside: list[SetAside] = []
        found, unreadable = read_records(self.path)
        for kind, name, why in unreadable:
            aside.append(self._put_aside(kind, name, self.path / "records" / kind / name, why))
        for path in journals(self.path):
            puts, why = replay(path)
            self.old.append((path, why))
            match = JOURNAL.fullmatch(path.name)
            if match and int(match[1]) == self.number:  # read again within a term
                self.part = self.in_files = self.beginning = int(match[2])
            for put in puts:
                self.dirty[put.key] = put
                apply(found, put)
            if why:  # the end of an append that a crash cut off, as a rule; but who knows
                log.error("event=journal_unreadable journal=%s why=%r", path.name, why)
                aside.append(SetAside("journal", path.name, why, str(self.path / "set-aside" / f"journal~{path.name}~{self.number}")))
        parent = self.path / "set-aside"
        names = sorted(entry.name for entry in parent.iterdir())
        few = [name for name in names if not any(item.where == f"{parent}/{name}" for item in aside)][: asides.READ_LIMIT]
        contents: dict[str, bytes | None] = {}
        for name in few:
            with contextlib.suppress(OSError):  # a name is enough
                contents[name] = files.read(parent / name, RECORD_LIMIT)
        aside += asides.found(names, str(parent), contents, aside)
        inside = sorted(found.values(), key=lambda record: (record.order, record.kind, record.id))
        self.known = Known(
            {(record.kind, record.id): record.order for record in inside}, max((record.order for record in inside), default=0)
        )
        return Loaded(tuple(StoredRecord(record.kind, record.id, record.record) for record in inside), tuple(aside))

    def _put_aside(self, kind: str, name: str, path: Path, why: str) -> SetAside:
        target = self.path / "set-aside" / asides.name(kind, name, self.number)
        try:
            path.rename(target)
            files.sync_directory(target.parent)
        except OSError as error:
            log.error("event=not_set_aside path=%s why=%r", path, error.strerror)
            target = path
        log.error("event=record_set_aside kind=%s id=%s where=%s why=%r", kind, records.id_of(name), target, why)
        return SetAside(kind, records.id_of(name), why, str(target))

    # --- writing ------------------------------------------------------------------------------------------------------

    def append(self, puts: Sequence[Put], request_id: str) -> None:
        """Make a batch durable. Raises OSError, and then nothing of it counts."""
        raw = journal.encode(puts, request_id)
        if self.handle < 0:
            self._begin()
        try:
            view = memoryview(raw)
            while view:
                view = view[os.write(self.handle, view) :]
            os.fdatasync(self.handle)
        except OSError:
            self._undo()
            raise
        self.size += len(raw)
        for put in puts:
            self.dirty[put.key] = put
        self.known.stored(puts)
        if self.size > CHECKPOINT_BYTES:
            self._close()  # the next append begins another journal

    def _begin(self) -> None:
        """Start the next journal of this epoch."""
        self.part += 1
        path = self.path / f"journal-{self.number}-{self.part}"
        self.handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL | os.O_CLOEXEC, 0o640)
        self.size = 0
        try:
            files.sync_directory(self.path)
        except OSError:
            os.close(self.handle)
            self.handle = -1
            raise

    def _undo(self) -> None:
        """Take back a failed append. After a failed fsync nothing is known of the pages written: go on in another file in any case."""
        with contextlib.suppress(OSError):
            os.ftruncate(self.handle, self.size)
            os.fsync(self.handle)
        with contextlib.suppress(OSError):
            self._close()

    def _close(self) -> None:
        handle, self.handle = self.handle, -1
        if handle >= 0:
            os.close(handle)

    def due(self, quiet: bool) -> bool:
        """Tell whether files should be written: there is a journal to get rid of, and nobody is at it."""
        full = self.part - self.in_files > (self.handle >= 0)  # a journal that has grown is closed
        return not self.covered and bool(self.dirty or self.old) and (quiet or full or bool(self.old))

    def begin_files(self) -> None:
        """Hand what has gathered to `write_files`."""
        self._close()
        self.pending, self.dirty = self.dirty, {}
        self.covered = [*self.old, *((self.path / f"journal-{self.number}-{part}", "") for part in range(self.in_files + 1, self.part + 1))]
        self.beginning = self.part

    def write_files(self) -> None:
        """On another thread: write the files of `pending`, then remove the journals. Raises OSError; stops early when told to."""
        directories = set()
        for put in list(self.pending.values()):
            if self.stopping.is_set() or not self.still():
                raise InterruptedError("stopped")
            target = self.path / "records" / put.key[0] / records.node_name(put.key[1])
            if put.raw is None:
                target.unlink(missing_ok=True)
            else:
                if not target.parent.is_dir():
                    target.parent.mkdir(mode=0o750)
                    files.sync_directory(target.parent.parent)
                files.replace(target, put.raw, directory_too=False)
            if target.parent.is_dir():
                directories.add(target.parent)
        for directory in directories:
            files.sync_directory(directory)
        if self.stopping.is_set() or not self.still():
            raise InterruptedError("stopped")
        for path, why in self.covered:
            if why:
                path.rename(self.path / "set-aside" / f"journal~{path.name}~{self.number}")
            else:
                path.unlink(missing_ok=True)

    def end_files(self, written: bool) -> None:
        """After write_files: forget what is in files, or keep it for another time."""
        if written:
            self.old = []
            self.in_files = self.beginning
        else:
            self.dirty = {**self.pending, **self.dirty}
        self.pending, self.covered = {}, []

    def end(self) -> None:
        """Close the journal. What is in no file yet is in there."""
        self._close()


def journals(path: Path) -> list[Path]:
    """Return the journals, the oldest first. Raises OSError."""
    found = [(int(match[1]), int(match[2]), entry) for entry in path.iterdir() if (match := JOURNAL.fullmatch(entry.name))]
    return [entry for _, _, entry in sorted(found)]


def replay(path: Path) -> tuple[list[Put], str]:
    """Return what a journal says, in order, and why its rest cannot be read. Raises OSError."""
    raw = files.read(path, JOURNAL_LIMIT) or b""
    batches, why = journal.decode(raw)
    return [put for batch in batches for put in batch.puts], why


def apply(found: dict[Key, records.Decoded], put: Put) -> None:
    """Change the records found by what a journal says."""
    found.pop(put.key, None)
    if put.raw is not None:
        with contextlib.suppress(records.Unreadable):  # the batch's checksum fits, so this cannot be
            found[put.key] = records.decode(put.raw, put.key[0], records.node_name(put.key[1]))


def read_records(path: Path) -> tuple[dict[Key, records.Decoded], list[tuple[str, str, str]]]:
    """Return the readable records, and (kind, name, why) of the others. Raises OSError."""
    found: dict[Key, records.Decoded] = {}
    unreadable: list[tuple[str, str, str]] = []
    top = path / "records"
    for directory in sorted(top.iterdir()) if top.is_dir() else []:
        if not directory.is_dir() or not KIND.fullmatch(directory.name):
            continue
        for entry in sorted(directory.iterdir()):
            if entry.name.startswith("."):
                continue  # a replacement that was not completed
            try:
                record = records.decode(files.read(entry, RECORD_LIMIT) or b"", directory.name, entry.name)
            except IsADirectoryError:
                unreadable.append((directory.name, entry.name, "a directory"))
            except records.Unreadable as error:
                unreadable.append((directory.name, entry.name, str(error)))
            else:
                found[(record.kind, record.id)] = record
    return found, unreadable
