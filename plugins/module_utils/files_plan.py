"""Bring a list of directories, files and links to what is wanted, in one go and each atomically.

One call for everything that a role puts on a host, because each task of a play costs more than all these files together.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class PlanError(Exception):
    """Which path could not be brought to the wanted state, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One path and what it should be."""

    path: Path
    state: str = "file"
    content: str | None = None
    secret: bool = False
    target: str = ""
    owner: str = "root"
    group: str = "root"
    mode: int | None = None
    validate: str = ""


@dataclass(slots=True)
class Outcome:
    """What a run did, or in check mode would do."""

    changed: list[str] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)


def wanted_from(entry: Mapping[str, Any]) -> Wanted:
    """Return the entry that a task wrote. Raises PlanError naming the path and what is missing or contradictory."""
    path, state = Path(entry["path"]), entry.get("state") or "file"
    secret = entry.get("secret_content") is not None
    content = entry.get("secret_content") if secret else entry.get("content")
    if not path.is_absolute():
        raise PlanError(f"{path} is not an absolute path.")
    if state == "file" and content is None:
        raise PlanError(f"{path} is to be a file, but neither content nor secret_content is given.")
    if state == "link" and not entry.get("target"):
        raise PlanError(f"{path} is to be a link, but no target is given.")
    mode = entry.get("mode")
    try:
        bits = int(str(mode), 8) if mode not in (None, "") else {"file": 0o644, "directory": 0o755}.get(state)
    except ValueError as error:
        raise PlanError(f"{path}: mode '{mode}' is not octal; write it as a string like '0644'.") from error
    return Wanted(
        path=path,
        state=state,
        content=content,
        secret=secret,
        target=entry.get("target") or "",
        owner=entry.get("owner") or "root",
        group=entry.get("group") or "root",
        mode=bits,
        validate=entry.get("validate") or "",
    )


def _ids(wanted: Wanted, check: bool) -> tuple[int, int]:
    """Return uid and gid; -1 in check mode for users that an earlier task would have made."""
    try:
        uid = pwd.getpwnam(wanted.owner).pw_uid
        gid = grp.getgrnam(wanted.group).gr_gid
    except KeyError as error:
        if check:
            return -1, -1
        raise PlanError(f"{wanted.path}: {error.args[0]}") from error
    return uid, gid


def _attributes(path: Path, wanted: Wanted, check: bool) -> bool:
    """Set owner and mode where they differ; return whether they did."""
    uid, gid = _ids(wanted, check)
    now = path.lstat()
    wrong_owner = uid >= 0 and (now.st_uid, now.st_gid) != (uid, gid)
    wrong_mode = wanted.mode is not None and stat.S_IMODE(now.st_mode) != wanted.mode
    if not check:
        if wrong_owner:
            os.chown(path, uid, gid)
        if wanted.mode is not None and (wrong_owner or wrong_mode):
            path.chmod(wanted.mode)  # after chown, which clears set-id bits
    return wrong_owner or wrong_mode


def _refuse_planted_links(wanted: Wanted) -> None:
    """Raise PlanError when the way to a path leads over a link that another user than root has made: it may lead anywhere."""
    ways = [*reversed(wanted.path.parents), *([wanted.path] if wanted.state == "directory" else [])]
    for way in ways:
        if os.geteuid() == 0 and way.is_symlink() and way.lstat().st_uid != 0:
            raise PlanError(
                f"{wanted.path}: {way} is a link to {way.readlink()} that user {way.lstat().st_uid} has made, and root does not follow it. "
                f"If it is right: chown -h root {way}; else remove it."
            )


def _validate(command: str, candidate: Path, path: Path) -> None:
    words = [word.replace("%s", str(candidate)) for word in command.split()]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    except OSError as error:
        raise PlanError(f"{path} was not written: its check '{command}' cannot run ({error}).") from error
    if done.returncode:
        raise PlanError(f"{path} was not written: '{command}' refuses it: {(done.stderr or done.stdout).strip()}")


def _file(wanted: Wanted, check: bool) -> tuple[bool, str]:
    path, content = wanted.path, (wanted.content or "")
    if path.is_dir() and not path.is_symlink():
        raise PlanError(f"{path} is a directory, but a file belongs there: move it away.")
    before = path.read_text(encoding="utf-8", errors="replace") if path.is_file() and not path.is_symlink() else None
    if before == content:
        return _attributes(path, wanted, check), before
    if not check:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        candidate = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(content)
            if wanted.validate:
                _validate(wanted.validate, candidate, path)
            _attributes(candidate, wanted, check)
            candidate.replace(path)
        finally:
            candidate.unlink(missing_ok=True)
    return True, before or ""


def _directory(wanted: Wanted, check: bool) -> tuple[bool, str]:
    path = wanted.path
    if path.is_dir():
        return _attributes(path.resolve(), wanted, check), "directory\n"
    if path.exists():
        raise PlanError(f"{path} is no directory: move it away.")
    if not check:
        path.mkdir(mode=0o755, parents=True)
        _attributes(path, wanted, check)
    return True, "absent\n"


def _link(wanted: Wanted, check: bool) -> tuple[bool, str]:
    path = wanted.path
    if path.is_symlink() and str(path.readlink()) == wanted.target:
        return False, ""
    if path.is_dir() and not path.is_symlink():
        raise PlanError(f"{path} is a directory, but a link to {wanted.target} belongs there: move it away.")
    before = f"link {path.readlink()}\n" if path.is_symlink() else "file\n" if path.exists() else "absent\n"
    if not check:
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(wanted.target)
        fresh.replace(path)
    return True, before


def _absent(wanted: Wanted, check: bool) -> tuple[bool, str]:
    path = wanted.path
    if not (path.exists() or path.is_symlink()):
        return False, ""
    if not check:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return True, "present\n"


_STATES = {"file": _file, "directory": _directory, "link": _link, "absent": _absent}


def apply(plan: Sequence[Wanted], check: bool) -> Outcome:
    """Bring every path to its state, in order; in check mode only say what would change. Raises PlanError, OSError."""
    outcome = Outcome()
    for wanted in plan:
        _refuse_planted_links(wanted)
        if check and wanted.state != "absent" and not wanted.path.parent.is_dir():
            changed, before = True, ""  # an earlier entry or task would have made the directory
        else:
            changed, before = _STATES[wanted.state](wanted, check)
        if changed:
            outcome.changed.append(str(wanted.path))
            after = wanted.content or "" if wanted.state == "file" else f"{wanted.state} {wanted.target}".strip() + "\n"
            if wanted.secret:
                before, after = "(secret)\n", "(secret, not shown)\n"
            elif before == after:
                attributes = f"{wanted.owner}:{wanted.group} {wanted.mode or 0:04o}\n"
                before, after = "(other owner or mode)\n", attributes
            header = str(wanted.path)
            outcome.diff.append({"before_header": header, "after_header": header, "before": before, "after": after})
    return outcome
