"""How the project's tools are laid out on a host, and the archive that brings them there.

bin/latchkeeper      the command; finds the rest by its own place, whatever the environment says (python3 -I)
latchkeeper/         the package
kazoo/               what it needs, from a wheel of pure Python
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

ENTRY = """\
#!/usr/bin/python3 -I
\"\"\"{package} on this host: nothing but this directory is searched for it.\"\"\"

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from {package}.__main__ import leave, main  # noqa: E402

leave(main())
"""


class BundleError(Exception):
    """The archive cannot be made; the text says what to do."""


@dataclass(frozen=True)
class Wheel:
    """A wheel by its file name and digest. Raises BundleError when it is not pure Python."""

    file_name: str
    sha256: str

    def __post_init__(self) -> None:
        """Check both."""
        if not re.fullmatch(r"[\w.]+-[\w.]+-[\w.]*py3-none-any\.whl", self.file_name):
            raise BundleError(f"{self.file_name} is no wheel of pure Python (NAME-VERSION-py3-none-any.whl)")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise BundleError(f"{self.sha256!r} is no SHA-256 of {self.file_name}")

    @property
    def name(self) -> str:
        """Name of the distribution."""
        return self.file_name.split("-")[0]

    @property
    def version(self) -> str:
        """Its version."""
        return self.file_name.split("-")[1]


@dataclass(frozen=True)
class Bundle:
    """A finished archive."""

    name: str
    sha256: str
    content: bytes


def members(package: Path, wheel: Path) -> dict[str, bytes]:
    """Return name -> content of what goes into the archive, tests and metadata left out. Raises BundleError."""
    result = {f"bin/{package.name}": ENTRY.format(package=package.name).encode()}
    for source in sorted(package.rglob("*.py")):
        result[f"{package.name}/{source.relative_to(package).as_posix()}"] = source.read_bytes()
    if f"{package.name}/__main__.py" not in result:
        raise BundleError(f"{package} is no package with a __main__.py")
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith(".py") and ".dist-info/" not in name and "/tests/" not in name:
                    if name.startswith("/") or ".." in Path(name).parts:
                        raise BundleError(f"{wheel}: {name} leads out of the archive")
                    result[name] = archive.read(name)
    except zipfile.BadZipFile as error:
        raise BundleError(f"{wheel} is damaged ({error}); remove it and run again") from None
    return result


def pack(package: Path, wheel: Path) -> Bundle:
    """Return the archive; the same input gives the same bytes. Raises BundleError, OSError."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(members(package, wheel).items()):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mode = 0o755 if name.startswith("bin/") else 0o644
            tar.addfile(info, io.BytesIO(content))
    raw = buffer.getvalue()
    digest = hashlib.sha256(raw).hexdigest()
    return Bundle(f"spark-ha-tools-{digest[:12]}.tar", digest, raw)
