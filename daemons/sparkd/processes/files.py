"""Where a worker keeps what, and how it gets to disk.

WORK_DIR/OWNER/NUMBER/          a process's own directory: stdout, stderr (and .1, .2 ...), what was fetched. As Spark's
WORK_DIR/.sparkd/lock           held by the worker that uses the directory
WORK_DIR/.sparkd/state.json     worker id, cluster id and highest epoch obeyed, port
WORK_DIR/.sparkd/journal        starts, exits, intents: journal.py
WORK_DIR/.sparkd/run/OWNER/NUMBER/launch.json   the command as it was given, secrets included: mode 0600, removed at the end
WORK_DIR/.sparkd/run/OWNER/NUMBER/RUN/          one keeper's control directory: keeper.py

.sparkd is mode 0700 and out of the processes' own directories, so that a command that tidies up loses nothing of the worker's.
"""

from __future__ import annotations

import fcntl
import json
import os
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from ..core import codec
from ..core.values import Epoch, Json, ProcessRef
from .keeper import write_json

JSON_LIMIT = 8 * 1024 * 1024  # bytes


class WorkDirError(Exception):
    """The work directory cannot be used; the text says what to do."""


def directory_name(owner: str) -> str:
    """Return an id as the name of a directory: one component, never hidden, whatever the id holds."""
    name = urllib.parse.quote(owner, safe=" +=,@")
    return "%2E" + name[1:] if name.startswith(".") else name or "%"


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below one work directory."""

    root: Path

    @property
    def control(self) -> Path:
        """The worker's own."""
        return self.root / ".sparkd"

    @property
    def runs(self) -> Path:
        """Control directories of all processes."""
        return self.control / "run"

    @property
    def journal(self) -> Path:
        """See journal.py."""
        return self.control / "journal"

    @property
    def state(self) -> Path:
        """See State."""
        return self.control / "state.json"

    def process(self, owner: str, number: int) -> Path:
        """Return the directory that a process runs in."""
        return self.root / directory_name(owner) / str(number)

    def attempt(self, ref: ProcessRef) -> Path:
        """Return the directory of launch.json."""
        return self.runs / directory_name(ref.owner) / f"{ref.kind[0]}{ref.number}"

    def make(self) -> None:
        """Make the worker's own directories. Raises WorkDirError."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            for path in (self.control, self.runs):
                path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise WorkDirError(f"cannot use the work directory {self.root}: {error.strerror} ({error.filename})") from error


class Lock:
    """A work directory belongs to one worker at a time; the kernel lets go of it when that worker dies."""

    def __init__(self, layout: Layout) -> None:
        """Take it. Raises WorkDirError."""
        path = layout.control / "lock"
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise WorkDirError(f"cannot write {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 20, 0).decode(errors="replace").strip()
            os.close(self._fd)
            raise WorkDirError(
                f"another worker (pid {holder or 'unknown'}) uses the work directory {layout.root}: give each its own (-d DIR)"
            ) from error
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            pass  # a full disk: the lock is held all the same

    def release(self) -> None:
        """Let go."""
        os.close(self._fd)


@dataclass(frozen=True, slots=True)
class State:
    """What a worker must not forget: who it is, and the highest epoch it has obeyed."""

    worker_id: str
    epoch: Epoch | None = None
    port: int = 0  # the one it had, taken again when none is configured


def load_state(layout: Layout) -> State | None:
    """Return what is stored, None for a new directory. Raises WorkDirError: a worker that forgot its epoch would obey a deposed leader."""
    try:
        return codec.decode(State, read_json(layout.state))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise WorkDirError(
            f"{layout.state} cannot be read ({error}); if the worker may forget its cluster and its processes: "
            f"sparkd reset-worker --work-dir {layout.root}"
        ) from error


def save_state(layout: Layout, state: State) -> None:
    """Store it, atomically and durably. Raises OSError."""
    write_json(str(layout.control), layout.state.name, codec.encode(state))


def read_json(path: Path) -> Json:
    """Return what a file holds. Raises OSError, ValueError."""
    with path.open("rb") as file:
        raw = file.read(JSON_LIMIT + 1)
    if len(raw) > JSON_LIMIT:
        raise ValueError(f"{path} is over {JSON_LIMIT} bytes")
    try:
        return json.loads(raw)
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deep") from error


def write_private(path: Path, value: Json) -> None:
    """Write a file that only this user reads (its directory is 0700), atomically and durably. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.parent / (path.name + ".tmp")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o600))
    write_json(str(path.parent), path.name, value)
