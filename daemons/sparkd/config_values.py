"""Values as Spark writes them: times, sizes, booleans, numbers. Pure; each parser raises ValueError saying what is allowed.

Source: org.apache.spark.network.util.JavaUtils (timeStringAs, byteStringAs), ConfigHelpers (toBoolean, toNumber).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass

_TIME = re.compile(r"(-?[0-9]+)([a-z]+)?")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"([0-9]+)([a-z]+)?")
_BYTES = {"b": 1, "k": 1 << 10, "kb": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "g": 1 << 30, "gb": 1 << 30}
_BYTES |= {"t": 1 << 40, "tb": 1 << 40, "p": 1 << 50, "pb": 1 << 50}
INT_MAX = 2**31 - 1

#: JWSFilter refuses shorter keys (jjwt: HS256 needs 256 bits).
TOKEN_KEY_BYTES = 32


def seconds(text: str, unit: str = "s") -> float:
    """Return a time in s. unit: what a number without one means."""
    match = _TIME.fullmatch(text.strip().lower())
    suffix = (match.group(2) or unit) if match else ""
    if match is None or suffix not in _SECONDS:
        raise ValueError("a whole number and a unit: us, ms, s, m, min, h or d, as in 60s or 2min")
    return int(match.group(1)) * _SECONDS[suffix]


def size(text: str, unit: str = "b") -> int:
    """Return a size in bytes. unit: what a number without one means."""
    match = _SIZE.fullmatch(text.strip().lower())
    suffix = (match.group(2) or unit) if match else ""
    if match is None or suffix not in _BYTES:
        raise ValueError("a whole number and a unit: b, k, m, g, t or p (kb, mb, ... mean the same), as in 512m or 2g")
    return int(match.group(1)) * _BYTES[suffix]


def memory_mb(text: str) -> int:
    """Return a daemon's memory in MiB; a bare number is bytes, which is hardly ever meant (WorkerArguments.checkWorkerMemory)."""
    found = size(text) >> 20
    if found <= 0:
        raise ValueError("at least 1m; a bare number is bytes, so give the unit: 512m or 2g")
    return found


def boolean(text: str) -> bool:
    """Return true or false, in any case."""
    found = {"true": True, "false": False}.get(text.strip().lower())
    if found is None:
        raise ValueError("true or false")
    return found


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number within bounds."""

    least: int = 0
    most: int = INT_MAX

    def __call__(self, text: str) -> int:
        """Parse."""
        try:
            found = int(text.strip()) if re.fullmatch(r"[+-]?[0-9]{1,12}", text.strip()) else None
        except ValueError:
            found = None
        if found is None or not self.least <= found <= self.most:
            raise ValueError(f"a whole number from {self.least} to {self.most}")
        return found


port = Whole(0, 65535)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words, in any case; returned as they are spelled here."""

    words: tuple[str, ...]

    def __call__(self, text: str) -> str:
        """Parse."""
        for word in self.words:
            if text.strip().lower() == word.lower():
                return word
        raise ValueError("one of " + ", ".join(self.words))


@dataclass(frozen=True, slots=True)
class Seconds:
    """A time within bounds, in s."""

    least: float = 0.0
    unit: str = "s"

    def __call__(self, text: str) -> float:
        """Parse."""
        found = seconds(text, self.unit)
        if found < self.least:
            raise ValueError(f"a time of at least {self.least:g} s, as in 60s or 2min")
        return found


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern of java.util.Formatter for ids: as many %s and %d (with width) as `fields` says, in that order."""

    fields: str  # "sd", "ssd"

    def __call__(self, text: str) -> str:
        """Parse. Ids become names of znodes, directories and parts of URLs."""
        found = "".join(re.findall(r"%0?[0-9]*([a-zA-Z%])", text))
        rest = re.sub(r"%0?[0-9]*[sd]", "", text)
        if found != self.fields or not re.fullmatch(r"[A-Za-z0-9_.-]*", rest):
            wanted = ", ".join(f"%{letter}" for letter in self.fields)
            raise ValueError(f"letters, digits, '-', '_' and '.' around {wanted}, in this order")
        return text


def regexes(text: str) -> tuple[str, ...]:
    """Return regular expressions, separated by commas."""
    found = words(text)
    for item in found:
        try:
            re.compile(item)
        except re.error as error:
            raise ValueError(f"regular expressions separated by commas; {item!r} is none ({error})") from None
    return found


def words(text: str) -> tuple[str, ...]:
    """Return what commas separate, blanks around it removed."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def line(text: str) -> str:
    """Return any text of one line."""
    if "\n" in text or "\0" in text:
        raise ValueError("text of one line")
    return text.strip()


def token_key(text: str) -> bytes:
    """Return a JWS key given in Base64URL (org.apache.spark.ui.JWSFilter, parameter secretKey)."""
    plain = text.strip().rstrip("=")
    try:
        key = base64.urlsafe_b64decode(plain + "=" * (-len(plain) % 4)) if re.fullmatch(r"[A-Za-z0-9_-]+", plain) else b""
    except (ValueError, binascii.Error):
        key = b""
    if len(key) < TOKEN_KEY_BYTES:
        raise ValueError(f"at least {TOKEN_KEY_BYTES} bytes in Base64URL, as from: openssl rand -base64 48 | tr '+/' '-_'")
    return key


def master_url(text: str) -> tuple[tuple[str, int], ...]:
    """Return host and port of each master of spark://h1:7077,h2:7077 (Utils.parseStandaloneMasterUrls)."""
    allowed = "spark://host:port, more of them after commas: spark://h1:7077,h2:7077"
    if not text.startswith("spark://"):
        raise ValueError(allowed)
    found = []
    for item in text.removeprefix("spark://").split(","):
        address = endpoint(item.strip(), 0)
        if address is None or address[1] == 0:
            raise ValueError(f"{allowed}; {item!r} is no host:port")
        found.append(address)
    return tuple(dict.fromkeys(found))


def endpoint(text: str, default_port: int) -> tuple[str, int] | None:
    """Return host and port of host, host:port or [address]:port; None when it is none of these."""
    match = re.fullmatch(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?", text)
    if match is None:
        return None
    number = int(match["port"]) if match["port"] else default_port
    return (match["host"].strip("[]"), number) if number <= 65535 else None


def host(text: str) -> str:
    """Return a host name or address."""
    plain = text.strip()
    if not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+|\[[0-9A-Fa-f:.]+\]", plain):
        raise ValueError("a host name or an address")
    return plain.strip("[]")


Parser = Callable[[str], object]
