"""Words for people: times, sizes, states, safe links, command lines without their secrets. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

#: Names of arguments whose value is not shown: Spark's (spark.redaction.regex), and some more that are usual elsewhere.
_NAMES: Final = r"secret|password|passwd|pwd|token|access[._-]?key|api[._-]?key|credential|authorization|signature"
_SECRET: Final = re.compile(_NAMES, re.IGNORECASE)
#: A parameter named like a secret in a URL's query.
_PARAMETER: Final = re.compile(rf"([?&;][^?&;=\s]*(?:{_NAMES})[^?&;=\s]*=)[^&;#\s]*", re.IGNORECASE)
_USERINFO: Final = re.compile(r"(?<=://)[^/@\s]+@")
REDACTED: Final = "(redacted)"

#: What a state looks like: good, calm (over, as wanted), wait, bad, off. Every place shows the word too.
_TONES: Final = {
    "ALIVE": "good",
    "RUNNING": "good",
    "FINISHED": "calm",
    "EXITED": "calm",
    "STANDBY": "calm",
    "RECOVERING": "wait",
    "COMPLETING_RECOVERY": "wait",
    "SUBMITTED": "wait",
    "WAITING": "wait",
    "RELAUNCHING": "wait",
    "LAUNCHING": "wait",
    "UNKNOWN": "wait",
    "DISCONNECTED": "wait",
    "DECOMMISSIONED": "off",
    "KILLED": "off",
    "DEAD": "bad",
    "LOST": "bad",
    "FAILED": "bad",
    "ERROR": "bad",
}

_ANSI: Final = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def tone(state: str) -> str:
    """Return the tone of a state's colour."""
    return _TONES.get(state, "off")


def span(ms: int) -> str:
    """Return a duration in two units at most: 4 s, 3 min 5 s, 2 h 10 min, 5 d 3 h; under one second 250 ms."""
    if ms < 1000:
        return f"{max(ms, 0)} ms"
    seconds = ms // 1000
    for size, name, low, low_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            rest = seconds % size // low
            return f"{seconds // size} {name}" + (f" {rest} {low_name}" if rest else "")
    return f"{seconds} s"


def ago(ms: int, now_ms: int) -> str:
    """Return how long ago it was, in one unit: now, 12 s ago, 3 min ago; a time to come (two clocks) is now."""
    seconds = max(now_ms - ms, 0) // 1000
    if seconds < 2:
        return "now"
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {name} ago"
    return f"{seconds} s ago"


def exact(ms: int) -> str:
    """Return the time in UTC to the second; a time that no calendar has is shown as its number."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms"


def iso(ms: int) -> str:
    """Return the time as HTML's datetime attribute wants it, empty when there is none."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return ""


def memory(mebibytes: int) -> str:
    """Return MiB as people read them: 512 MiB, 1.5 GiB, 2 TiB."""
    value, unit = float(mebibytes), "MiB"
    for bigger in ("GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, bigger
    return f"{value:.1f}".removesuffix(".0") + f" {unit}"


def size(count: int) -> str:
    """Return bytes as people read them."""
    value, unit = float(count), "B"
    for bigger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, bigger
    return f"{value:.1f}".removesuffix(".0") + f" {unit}"


def percent(used: float, total: float) -> float:
    """Return used of total in percent with one decimal, within 0 and 100; nothing of nothing is 0."""
    return round(min(max(100.0 * used / total, 0.0), 100.0), 1) if total > 0 else 0.0


def safe_url(url: str) -> str:
    """Return the URL if it is a plain http(s) one, else nothing: links are made of what workers and latches say."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None or port == 0:
        return ""
    return url.rstrip("/") if re.fullmatch(r"[A-Za-z0-9:/._~\[\]%-]+", url) else ""


def origin(url: str) -> str:
    """Return scheme://host:port of a safe URL, nothing of any other."""
    if not safe_url(url):
        return ""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def shown_arguments(arguments: Iterable[str]) -> tuple[str, ...]:
    """Return a command line as it may be shown: without values of arguments and URLs' parameters named like secrets, nor user:password@."""
    shown: list[str] = []
    hide_next = False
    for given in arguments:
        argument = given
        if "://" in given:
            argument = _PARAMETER.sub(rf"\g<1>{REDACTED}", _USERINFO.sub(f"{REDACTED}@", given))
        name, equals, _ = argument.partition("=")
        if hide_next and not argument.startswith("-"):
            shown.append(REDACTED)
            hide_next = False
            continue
        hide_next = False
        if equals and "?" not in name and _SECRET.search(name):
            shown.append(f"{name}={REDACTED}")
        else:
            hide_next = not equals and argument.startswith("-") and _SECRET.search(argument) is not None
            shown.append(argument)
    return tuple(shown)


def words(command: str) -> list[str]:
    """Return the words of a line that shlex.join made; of one that was cut off, what stands between blanks."""
    try:
        return shlex.split(command)
    except ValueError:
        return command.split(" ")


def command_line(arguments: Sequence[str], limit: int = 2000) -> str:
    """Return arguments as a shell would take them, shortened to `limit` characters."""
    quoted = (
        word if re.fullmatch(r"[\w@%+=:,./()-]+", word) else "'" + word.replace("'", "'\\''") + "'" for word in shown_arguments(arguments)
    )
    return shorten(" ".join(quoted), limit)


def shorten(text: str, limit: int) -> str:
    """Return the text, or its beginning and an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def log_text(text: bytes) -> str:
    """Return a slice of a log as text: colours and other control sequences taken out, characters cut at the slice's edges left out."""
    begin = 0
    while begin < min(3, len(text)) and text[begin] & 0xC0 == 0x80:  # the rest of a UTF-8 character that began before the slice
        begin += 1
    return (
        _CONTROL.sub("\N{REPLACEMENT CHARACTER}", _ANSI.sub("", text[begin:].decode("utf-8", "replace")))
        .replace("\r\n", "\n")
        .replace("\r", "\n")
    )
