"""How sparkd is laid out on a host: pinned wheels and its own, unpacked beside each other, one archive per kind of host. Pure.

bin/sparkd      the command; finds the rest by its own place, whatever the environment says (python3 -I)
lib/            the packages, as pip would put them into site-packages

A kind of host is a target, ``3.11-x86_64``: minor version of its Python, machine as the kernel names it. Wheels with compiled parts differ
between kinds; nothing is compiled or downloaded on a host.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Versions of Python that have a place in the lock file: Debian 12, Ubuntu 24.04, Debian 13.
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
#: glibc that wheels may ask for: 2.17 (manylinux2014) to 2.28; the oldest supported host has 2.36.
GLIBC = ("manylinux2014", "manylinux_2_17", "manylinux_2_28")

ENTRY = """\
#!{python} -I
\"\"\"sparkd on this host: nothing but this directory is searched for it.\"\"\"

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lib"))

from {module} import {function}  # noqa: E402

sys.exit({function}())
"""

_PIN = re.compile(r"^(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.!+]+)$")
_HASH = re.compile(r"^--hash=sha256:(?P<digest>[0-9a-f]{64})$")


class TreeError(Exception):
    """The tree cannot be made; the text says what to do."""


@dataclass(frozen=True)
class Target:
    """A kind of host. Raises TreeError for one that no wheels are pinned for."""

    python: str
    machine: str

    def __post_init__(self) -> None:
        """Check both."""
        if self.python not in PYTHONS or self.machine not in MACHINES:
            raise TreeError(
                f"there are no pinned wheels for Python {self.python} on {self.machine}: sparkd runs on Python {', '.join(PYTHONS)} and"
                f" {', '.join(MACHINES)}. Use such a host, set sparkd_python to such a Python on it, or set spark_daemons: apache"
            )

    @classmethod
    def parse(cls, text: str) -> Target:
        """Return the target that is written ``3.11-x86_64``. Raises TreeError."""
        python, _, machine = text.partition("-")
        return cls(python, machine)

    def __str__(self) -> str:
        """Write it."""
        return f"{self.python}-{self.machine}"

    def pip_options(self) -> list[str]:
        """Return what makes pip choose wheels for this target, whatever Python runs it."""
        platforms = [f"--platform={glibc}_{self.machine}" for glibc in GLIBC]
        return ["--only-binary=:all:", "--implementation=cp", f"--python-version={self.python}", *platforms]


@dataclass(frozen=True)
class Pin:
    """One line of the lock file: a version and the digests of the wheels that may stand for it."""

    name: str
    version: str
    digests: frozenset[str]


def parse_lock(text: str) -> list[Pin]:
    """Return the pins of a lock file as pip reads it (``name==version --hash=sha256:...``). Raises TreeError naming the line."""
    pins = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        pin = _PIN.match(words[0])
        hashes = [_HASH.match(word) for word in words[1:]]
        if pin is None or not hashes or not all(hashes):
            raise TreeError(f"the lock file needs name==version and --hash=sha256:... in each line: {line.strip()[:100]!r}")
        pins.append(Pin(pin["name"], pin["version"], frozenset(found["digest"] for found in hashes if found)))
    return pins


def write_lock(wheels: Mapping[str, str], head: str) -> str:
    """Return the text of a lock file; ``wheels`` is file name -> SHA-256. Raises TreeError when a distribution has two versions."""
    found: dict[str, tuple[str, set[str]]] = {}
    for file_name, digest in wheels.items():
        name, version = file_name.split("-")[:2]
        name = name.replace("_", "-").lower()
        known, digests = found.setdefault(name, (version, set()))
        if known != version:
            raise TreeError(f"{name} comes in two versions, {known} and {version}: no one lock file fits all targets")
        digests.add(digest)
    lines = [head]
    for name, (version, digests) in sorted(found.items()):
        lines.append(f"{name}=={version} \\\n" + " \\\n".join(f"    --hash=sha256:{digest}" for digest in sorted(digests)))
    return "\n".join(lines) + "\n"


def check_wheels(target: Target, pins: Sequence[Pin], wheels: Mapping[str, str]) -> None:
    """Raise TreeError unless ``wheels`` (file name -> SHA-256) are exactly the pinned ones."""
    known = {digest for pin in pins for digest in pin.digests}
    strangers = [name for name, digest in wheels.items() if digest not in known]
    if strangers:
        raise TreeError(f"not in the lock file, or damaged: {', '.join(sorted(strangers))} (for {target})")
    missing = [pin.name for pin in pins if not pin.digests & set(wheels.values())]
    if missing:
        raise TreeError(f"no wheel of {', '.join(missing)} for {target}")


def source_digest(files: Mapping[str, bytes]) -> str:
    """Return a digest of a source tree, name -> content."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{len(name)} {name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def source_files(directory: Path) -> dict[str, bytes]:
    """Return what a package is built from, name -> content: no caches, no metadata of earlier builds. Raises OSError."""
    skipped = ("__pycache__", "build", "dist")
    found = {}
    for path in sorted(directory.rglob("*")):
        parts = path.relative_to(directory).parts
        if path.is_file() and not any(part in skipped or part.startswith(".") or part.endswith(".egg-info") for part in parts):
            found["/".join(parts)] = path.read_bytes()
    return found


def wheel_files(path: Path) -> dict[str, bytes]:
    """Return what a wheel brings into site-packages, tests and the record of its installation left out. Raises TreeError."""
    found: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                parts = Path(name).parts
                if name.startswith("/") or ".." in parts:
                    raise TreeError(f"{path.name}: {name} leads out of the archive")
                if name.endswith("/") or "tests" in parts[:-1] or parts[0].endswith(".data"):
                    continue
                # METADATA stays, for who asks for a version; WHEEL and RECORD tell of the tool that built it.
                if parts[0].endswith(".dist-info") and parts[-1] not in ("METADATA", "entry_points.txt", "LICENSE"):
                    continue
                found[name] = archive.read(name)
    except zipfile.BadZipFile as error:
        raise TreeError(f"{path} is damaged ({error}); remove it and run again") from None
    return found


def entry_point(files: Mapping[str, bytes], command: str) -> tuple[str, str]:
    """Return module and function of a console script from a wheel's entry_points.txt. Raises TreeError."""
    for name, content in files.items():
        if name.endswith(".dist-info/entry_points.txt"):
            match = re.search(rf"(?m)^{re.escape(command)} *= *([\w.]+):(\w+) *$", content.decode())
            if match:
                return match[1], match[2]
    raise TreeError(f"the wheel has no command {command}")


def check_complete(source: Mapping[str, bytes], wheel: Mapping[str, bytes], package: str) -> None:
    """Raise TreeError when a module or data file of the source is not in the wheel: pyproject.toml forgot it."""
    wanted = [name for name in source if name.endswith((".py", ".j2", ".html", ".css", ".js", ".svg"))]
    missing = [name for name in wanted if f"{package}/{name}" not in wheel]
    if missing:
        raise TreeError(f"pyproject.toml of {package} leaves out {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}")


@dataclass(frozen=True)
class Tree:
    """A finished archive."""

    name: str
    sha256: str
    content: bytes


def pack(target: Target, version: str, entry: tuple[str, str], wheels: Iterable[Mapping[str, bytes]], python: str) -> Tree:
    """Return the archive of all ``wheels``' files; the same input gives the same bytes. Raises TreeError on a file of two wheels."""
    files: dict[str, bytes] = {"bin/sparkd": ENTRY.format(python=python, module=entry[0], function=entry[1]).encode()}
    for wheel in wheels:
        for name, content in wheel.items():
            if files.setdefault(f"lib/{name}", content) != content:
                raise TreeError(f"two wheels bring {name}")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mode = 0o755 if name.startswith("bin/") or name.endswith(".so") else 0o644
            tar.addfile(info, io.BytesIO(content))
    raw = buffer.getvalue()
    digest = hashlib.sha256(raw).hexdigest()
    return Tree(f"sparkd-{version}-{target}-{digest[:12]}.tar", digest, raw)
