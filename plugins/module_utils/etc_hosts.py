"""The project's block in /etc/hosts, and loopback lines that would shadow it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ansible.module_utils.marked_block import join, split

#: Put before a loopback line that is switched off, so that it can be restored.
OFF = "# spark-ha off: "
#: Put after what is left of such a line.
REST = "  # spark-ha rest"


@dataclass(frozen=True)
class Entry:
    """A host's line: ``ip`` None means not known in this run, and the line of an earlier run stays."""

    ip: str | None
    names: tuple[str, ...]


def render(text: str, entries: Sequence[Entry], own_names: Iterable[str]) -> str:
    """Return /etc/hosts with the block as wanted and no own name on a loopback line; no entries takes everything back.

    Debian writes ``127.0.1.1 <own name>``. With it Java's InetAddress.getLocalHost, and so Spark, binds and advertises
    loopback. glibc returns all matching lines (``multi on`` in Debian's host.conf), so a better line in front does not help.
    """
    outside, block = split(text)
    outside = _restore(outside)
    kept = {name: line for line in block for name in _names(line)}
    shadowed = _shadowed(outside, {name.lower() for name in own_names if not _is_localhost(name)})
    own = {name.lower() for name in (*own_names, *shadowed)}
    lines: list[str] = []
    for entry in entries:
        if entry.ip is None:
            lines += [line for line in dict.fromkeys(kept.get(name, "") for name in entry.names) if line]
            continue
        # What the host called itself on loopback comes first on its own line: `hostname -f` stays what it was.
        mine = shadowed if own & {name.lower() for name in entry.names} else []
        lines.append(f"{entry.ip} {' '.join(dict.fromkeys([*mine, *entry.names]))}")
    if lines:
        outside = [new for line in outside for new in _without(line, own)]
    while outside and not outside[-1].strip():
        outside.pop()
    return str(join(outside, lines)) or "\n"


def conflicts(text: str, entries: Sequence[Entry]) -> list[str]:
    """Return lines outside the block that give one of the block's names another address."""
    outside, _ = split(text)
    wanted: Mapping[str, str] = {name.lower(): entry.ip for entry in entries if entry.ip for name in entry.names}
    found = []
    for line in outside:
        fields = line.split("#")[0].split()
        if len(fields) > 1 and not _loopback(fields[0]) and any(wanted.get(name.lower(), fields[0]) != fields[0] for name in fields[1:]):
            found.append(line.strip())
    return found


def _restore(lines: Iterable[str]) -> list[str]:
    """Return the lines as they were before this project touched them."""
    return [line.removeprefix(OFF) for line in lines if not line.endswith(REST)]


def _names(line: str) -> list[str]:
    """Return the names on a line of /etc/hosts."""
    return line.split("#")[0].split()[1:]


def _is_localhost(name: str) -> bool:
    return name.lower().startswith(("localhost", "ip6-"))


def _shadowed(lines: Iterable[str], own: set[str]) -> list[str]:
    """Return the names, other than localhost, on loopback lines with one of the host's own names: all of them are its own."""
    found = [_names(line) for line in lines if _loopback((line.split() or [""])[0]) and own & {name.lower() for name in _names(line)}]
    return list(dict.fromkeys(name for names in found for name in names if not _is_localhost(name)))


def _loopback(address: str) -> bool:
    return bool(re.match(r"127\.", address)) or address == "::1"


def _without(line: str, own: set[str]) -> list[str]:
    """Return a line without the host's own names where it is a loopback line."""
    fields = line.split("#")[0].split()
    own = {name for name in own if not _is_localhost(name)}
    if len(fields) < 2 or not _loopback(fields[0]) or not own & {name.lower() for name in fields[1:]}:
        return [line]
    rest = [name for name in fields[1:] if name.lower() not in own]
    return [f"{OFF}{line}", *([f"{fields[0]} {' '.join(rest)}{REST}"] if rest else [])]
