#!/usr/bin/python
# Copyright: spark-ha contributors
# Apache License 2.0 (see LICENSE)
"""Unpack a verified archive into a directory of its own."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: artifact_unpack
short_description: Unpack a verified archive into a directory of its own
description:
  - Unpacks the first of I(candidates) that exists into I(dest), owned by root. The digest is taken while unpacking and decides
    whether the directory gets its name, so a damaged archive never appears under it.
  - A marker file in I(dest) holds the digest; with the wanted one there nothing is read and nothing changes.
  - When none of the candidates is there the module changes nothing and returns C(needed=true); the role C(artifact) then
    pushes the file and calls again.
options:
  dest:
    description: Directory that will hold the archive's content. What was there before is replaced.
    type: path
    required: true
  sha256:
    description: Digest of the archive, 64 hex digits.
    type: str
    required: true
  candidates:
    description: Paths on this host at which the archive may be, in order of preference.
    type: list
    elements: path
    default: []
  strip_components:
    description: Leading directories to drop from names in the archive.
    type: int
    default: 0
author: [spark-ha]
"""

EXAMPLES = r"""
- name: Unpack ZooKeeper's jars
  artifact_unpack:
    dest: /opt/zookeeper/3.9.5-spark
    sha256: "{{ spark_artifact.zookeeper.sha256 }}"
    candidates: [/var/cache/spark-ha/zookeeper-3.9.5-spark-4.3.0.tar]
"""

RETURN = r"""
needed:
  description: Whether the archive is still to be brought to this host.
  returned: success
  type: bool
source:
  description: The candidate that was unpacked.
  returned: when changed
  type: str
"""

MARKER = ".artifact.sha256"
#: Bytes of tar's complaints that are shown.
WORDS_LIMIT = 2000
_DECOMPRESS = {b"\x1f\x8b": ["--gzip"], b"BZ": ["--bzip2"], b"\xfd7": ["--xz"], b"\x28\xb5": ["--zstd"]}


class UnpackError(Exception):
    """Why an archive was not unpacked."""


def said(errors: IO[bytes]) -> str:
    """Return the end of what tar said, where the reason is."""
    size = errors.seek(0, 2)
    errors.seek(max(0, size - WORDS_LIMIT))
    return errors.read().decode("utf-8", "replace").strip()


def unpack(source: Path, into: Path, strip: int) -> str:
    """Unpack with the host's tar, owned by root, and return the archive's sha256, in one reading.

    Raises UnpackError with tar's own words.
    """
    digest = hashlib.sha256()
    with source.open("rb") as stream:
        head = stream.read(2)
        stream.seek(0)
        command = ["tar", "--extract", "--file=-", f"--directory={into}", f"--strip-components={strip}", *_DECOMPRESS.get(head, [])]
        command += ["--no-same-owner", "--no-same-permissions", "--delay-directory-restore"]
        # Into a file: tar may warn about every member (times in the future, unknown headers), and a full pipe would stop both.
        with (
            tempfile.TemporaryFile() as errors,
            subprocess.Popen(command, stdin=subprocess.PIPE, stderr=errors, umask=0o022) as tar,
        ):
            assert tar.stdin  # noqa: S101 - for the type checker
            try:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
                    tar.stdin.write(chunk)
                tar.stdin.close()
            except BrokenPipeError:
                # tar stops reading at the archive's end mark or on an error; the digest still wants the rest.
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
            if tar.wait():
                words = said(errors)
                raise UnpackError(f"tar could not unpack {source}: {words or f'exit code {tar.returncode}'}")
    return digest.hexdigest()


def present(dest: Path) -> str:
    """Return the digest of what was unpacked there, or an empty string."""
    try:
        return (dest / MARKER).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def place(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Bring `dest` to the wanted archive and return the module's result. Raises UnpackError, OSError."""
    dest, wanted = Path(params["dest"]), params["sha256"].strip().lower()
    if present(dest) == wanted:
        return {"changed": False, "needed": False}
    if check_mode:
        return {"changed": True, "needed": False, "msg": f"would unpack {wanted[:12]} into {dest}"}
    problems = []
    dest.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    for leftover in dest.parent.glob(f".{dest.name}.unpack-*"):
        shutil.rmtree(leftover, ignore_errors=True)  # of a run that was cut off
    for source in (Path(candidate) for candidate in params["candidates"]):
        if not source.is_file():
            continue
        scratch = Path(tempfile.mkdtemp(prefix=f".{dest.name}.unpack-", dir=dest.parent))
        try:
            new = scratch / "new"
            new.mkdir(mode=0o755)
            try:
                actual = unpack(source, new, params["strip_components"])
            except UnpackError as error:
                problems.append(str(error))
                continue
            if actual != wanted:
                problems.append(f"Bad checksum of {source}: expected sha256:{wanted}, actual sha256:{actual}")
                continue
            (new / MARKER).write_text(f"{wanted}\n", encoding="utf-8")
            if dest.exists() or dest.is_symlink():
                dest.rename(scratch / "old")
            new.rename(dest)
            return {"changed": True, "needed": False, "source": str(source)}
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return {"changed": False, "needed": True, "problems": problems}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "sha256": {"type": "str", "required": True},
            "candidates": {"type": "list", "elements": "path", "default": []},
            "strip_components": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**place(module.params, module.check_mode))
    except (UnpackError, OSError) as error:
        module.fail_json(msg=f"{module.params['dest']} was not unpacked: {error}")


if __name__ == "__main__":
    main()
