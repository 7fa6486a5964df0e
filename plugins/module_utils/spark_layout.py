"""How a distribution of Spark becomes one plain tar laid out as SPARK_HOME, and the small tars made from it.

Two forms are read: the pyspark package of PyPI (``pyspark-<v>/deps/...``, ``lib/``, ``pyspark/``), which carries the whole
distribution, and Apache's tarball (``spark-<v>-bin-hadoop3/...``).
"""

from __future__ import annotations

import errno
import hashlib
import io
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from ansible.module_utils.artifacts import CHUNK, ArtifactError

# The jars of Spark that ZooKeeper's server and command line load, found by running both of ZooKeeper 3.6.3 and 3.9.5 with
# -verbose:class. Netty (without its native libraries) is for TLS, snappy for compressed snapshots.
ZOOKEEPER_JARS = (
    r"zookeeper(-jute)?-\d",
    r"audience-annotations-\d",
    r"commons-(cli|io)-\d",
    r"jline-[23]",
    r"log4j-(api|core|slf4j2-impl)-\d",
    r"metrics-core-\d",
    r"netty-(buffer|codec|codec-base|codec-compression|common|handler|resolver|transport|transport-native-unix-common"
    r"|transport-classes-epoll)-\d",
    r"slf4j-api-\d",
    r"snappy-java-\d",
)
_ZOOKEEPER_JAR = re.compile(r"(?:.*/)?jars/((?:" + "|".join(ZOOKEEPER_JARS) + r")[^/]*\.jar)")
# Raise it when repack or zookeeper_tar would make other files of the same source: caches are then made anew.
LAYOUT = 2
_ROOT_FILES = {"LICENSE", "NOTICE", "README.md", "RELEASE"}


class HashingWriter(io.RawIOBase):
    """A sink that hashes what goes through it, so that half a gigabyte is not read again for its digest."""

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink
        self._hash = hashlib.sha256()

    def writable(self) -> bool:
        """Tell io that this is for writing."""
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Write and hash."""
        self._hash.update(data)
        return self._sink.write(data)

    @property
    def sha256(self) -> str:
        """Hex digest of all that was written."""
        return self._hash.hexdigest()


def member_target(name: str) -> str | None:
    """Return where a member of either form goes under SPARK_HOME, or None when it stays out.

    conf/ stays out: the configuration outlives versions. Raises ArtifactError on a name that leaves the directory.
    """
    parts = name.split("/")
    if name.startswith("/") or ".." in parts:
        raise ArtifactError(f"The distribution holds a member that leaves its directory: {name}")
    top, rest = parts[0], [part for part in parts[1:] if part]
    if not rest:
        return None
    if top.startswith("pyspark-"):
        if rest[0] == "deps" and len(rest) > 2 and rest[1] == "examples":
            return "/".join(["examples", "src", "main", "python", *rest[2:]])
        if rest[0] == "deps" and len(rest) > 1:
            return "/".join(rest[1:])
        if rest[0] == "lib" and len(rest) > 1:
            return "/".join(["python", *rest])
        if rest[0] == "pyspark":
            return "/".join(["python", *rest])
        return rest[0] if len(rest) == 1 and rest[0] in _ROOT_FILES else None
    return None if rest[0] == "conf" else "/".join(rest)


def check_version(top: str, version: str) -> None:
    """Raise ArtifactError when the distribution's top directory is not of that version."""
    if not re.fullmatch(rf"(pyspark-{re.escape(version)}|spark-{re.escape(version)}-bin-.*|spark-{re.escape(version)})", top):
        raise ArtifactError(
            f"spark_version is {version}, but the distribution's directory is '{top}'. "
            f"Expected pyspark-{version} or spark-{version}-bin-*: give the file of that version, or set spark_version."
        )


def facts_from(targets: list[str]) -> dict[str, str]:
    """Return the versions that a laid-out distribution carries: scala, zookeeper, py4j, hadoop.

    Raises ArtifactError when it has no scala-library, that is, is no distribution.
    """
    patterns = {
        "scala_version": r"jars/scala-library-(\d[\d.]*)\.jar",
        "zookeeper_version": r"jars/zookeeper-(\d[\w.]*)\.jar",
        "py4j_version": r"python/lib/py4j-(\d[\d.]*)-src\.zip",
        "hadoop_version": r"jars/hadoop-client-api-(\d[\w.]*)\.jar",
    }
    found = {}
    for target in targets:
        for key, pattern in patterns.items():
            match = re.fullmatch(pattern, target)
            if match:
                found[key] = match[1]
    missing = {"scala_version", "py4j_version", "zookeeper_version"} - set(found)
    if missing:
        raise ArtifactError(f"This is not a whole distribution of Spark: no {', '.join(sorted(missing))} could be read from its files.")
    return found


def _plain(name: str, size: int, mode: int, mtime: float) -> tarfile.TarInfo:
    """Return a member that depends on its content only: owned by root, no user names."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, mode, int(mtime)
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    return info


def repack(source: Path, dest: Path, version: str, origin: str) -> tuple[str, dict[str, str]]:
    """Write `source` (either form, any compression) to `dest`, a plain tar laid out as SPARK_HOME; return (sha256, facts).

    The same source always gives the same tar. Plain, because hosts then unpack it at the speed of their disk. Raises
    ArtifactError when the file is no distribution of that version, or broken.
    """
    targets: list[str] = []
    try:
        with (
            tarfile.open(source, "r|*") as reader,
            dest.open("wb") as sink,
            tarfile.open(fileobj=(hashing := HashingWriter(sink)), mode="w|", format=tarfile.PAX_FORMAT, bufsize=CHUNK) as writer,
        ):
            checked = False
            newest = 0.0
            for member in reader:
                if not checked:
                    check_version(member.name.split("/")[0], version)
                    checked = True
                target = member_target(member.name)
                if target is None or not (member.isfile() or member.issym() or member.islnk()):
                    continue
                if member.issym() or member.islnk():
                    raise ArtifactError(f"The distribution holds a link ({member.name} -> {member.linkname}): not expected in a release.")
                executable = bool(member.mode & 0o100) or target.split("/")[0] in {"bin", "sbin"}
                newest = max(newest, member.mtime)
                if target != "RELEASE":
                    writer.addfile(_plain(target, member.size, 0o755 if executable else 0o644, member.mtime), reader.extractfile(member))
                targets.append(target)
            facts = facts_from(targets)
            # Apache's tarball has a RELEASE file, the package has not; both get one that says where the files came from.
            release = f"Spark {version} built for Hadoop {facts.get('hadoop_version', '3')}\nSource: {origin}\n".encode()
            writer.addfile(_plain("RELEASE", len(release), 0o644, newest), io.BytesIO(release))
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ArtifactError(f"{dest.parent} has no room for Spark's distribution: {error.strerror}. It takes about 1 GiB.") from error
        raise ArtifactError(f"{source} cannot be read as a tar archive: {error}") from error
    return hashing.sha256, facts


def zookeeper_tar(spark_tar: Path, dest: Path, facts: Mapping[str, str]) -> str:
    """Write the tar of ZooKeeper's jars (lib/*.jar and a RELEASE file) made from a laid-out Spark; return its sha256."""
    with (
        tarfile.open(spark_tar, "r:") as reader,
        dest.open("wb") as sink,
        tarfile.open(fileobj=(hashing := HashingWriter(sink)), mode="w|", format=tarfile.PAX_FORMAT, bufsize=CHUNK) as writer,
    ):
        newest = 0.0
        for member in reader:
            match = _ZOOKEEPER_JAR.fullmatch(member.name)
            newest = max(newest, member.mtime)
            if match:
                writer.addfile(_plain(f"lib/{match[1]}", member.size, 0o644, member.mtime), reader.extractfile(member))
        release = f"ZooKeeper {facts['zookeeper_version']} from Spark's jars\n".encode()
        writer.addfile(_plain("RELEASE", len(release), 0o644, newest), io.BytesIO(release))
    return hashing.sha256
