"""Downloads that are verified before anyone sees them, and a cache that survives interruption and two runs at once.

Nothing here knows about Spark; `spark_layout` does.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

CHUNK = 1 << 20
_DIGEST_LENGTHS = {64: "sha256", 128: "sha512"}
_HEX = re.compile(r"[0-9a-fA-F]+")


class ArtifactError(Exception):
    """What went wrong, on what, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """An expected digest."""

    algorithm: str
    digest: str

    def __str__(self) -> str:
        """Return ``algorithm:digest``."""
        return f"{self.algorithm}:{self.digest}"


def parse_checksum(text: str) -> Checksum:
    """Return the checksum that a user wrote: ``sha512:<hex>``, ``sha256:<hex>`` or the bare hex digits.

    Raises ArtifactError when it is neither.
    """
    algorithm, _, digest = text.strip().rpartition(":")
    digest = digest.strip().lower()
    known = _DIGEST_LENGTHS.get(len(digest)) if _HEX.fullmatch(digest) else None
    if known is None or (algorithm and algorithm.strip().lower().replace("-", "") != known):
        raise ArtifactError(f"'{text}' is not a checksum. Write sha512:<128 hex digits> or sha256:<64 hex digits>.")
    return Checksum(known, digest)


def parse_checksum_file(text: str, filename: str) -> Checksum:
    """Return the checksum of `filename` from the text of a .sha512 or .sha256 file.

    Apache's releases use all of these: ``<hex>  <file>`` and ``<hex> *<file>`` (sha512sum), ``SHA512 (<file>) = <hex>``
    (BSD, openssl), ``<file>: ABCD EF01 ...`` in groups over several lines (gpg --print-md), and the bare digits.
    Raises ArtifactError when no digest of that file is in there.
    """
    body = text.replace("\r", "")
    for line in body.splitlines():
        coreutils = re.fullmatch(r"\\?([0-9a-fA-F]{128}|[0-9a-fA-F]{64})[ \t]+[ *]?(\S.*)", line.strip())
        bsd = re.fullmatch(r"SHA-?(?:256|512) ?\((.+)\) ?= ?([0-9a-fA-F]+)", line.strip(), re.IGNORECASE)
        named = (coreutils[2], coreutils[1]) if coreutils else (bsd[1], bsd[2]) if bsd else None
        if named and named[0].strip().rsplit("/", 1)[-1] == filename:
            return parse_checksum(named[1])
    # gpg: the name, a colon, then groups of digits until something else comes.
    start = body.find(f"{filename}:")
    grouped = body[start + len(filename) + 1 :] if start >= 0 else body
    digits = re.match(r"[\s0-9a-fA-F]+", grouped)
    compact = re.sub(r"\s+", "", digits[0]) if digits else ""
    rest = grouped[digits.end() :].strip() if digits else grouped
    if len(compact) in _DIGEST_LENGTHS and (start >= 0 or not rest):
        return parse_checksum(compact)
    raise ArtifactError(f"No SHA-512 or SHA-256 of {filename} in: {body.strip()[:200]!r}")


def digest_of(path: Path, algorithm: str = "sha256") -> str:
    """Return the hex digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def verify_file(path: Path, expected: Checksum, origin: str) -> None:
    """Raise ArtifactError, naming expected, actual and origin, when the file is not the expected one."""
    actual = digest_of(path, expected.algorithm)
    if not hmac.compare_digest(actual, expected.digest):
        raise ArtifactError(
            f"Bad checksum of {origin}: expected {expected}, actual {expected.algorithm}:{actual}. "
            "Either the file was damaged or replaced on its way, or the checksum given belongs to another file."
        )


def open_url(url: str, timeout: float) -> http.client.HTTPResponse:
    """Open an http(s) or file URL; timeout in seconds, per read.

    Raises ArtifactError on any other scheme, OSError (of which urllib's errors are) when it does not answer.
    """
    if urllib.parse.urlsplit(url).scheme not in {"http", "https", "file"}:
        raise ArtifactError(f"'{url}' is not an http, https or file URL.")
    request = urllib.request.Request(url, headers={"User-Agent": "spark-ha"})  # noqa: S310 - scheme checked above
    response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout)  # noqa: S310 - scheme checked above
    return response


def reason_of(error: Exception) -> str:
    """Return a short reason for a failed transfer."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__


def fetch_text(urls: Sequence[str], timeout: float = 15.0) -> tuple[str, str]:
    """Return (text, url) of the first URL that answers; for checksum files, so at most 1 MiB.

    Raises ArtifactError with the reason per URL when none does.
    """
    reasons = []
    for url in urls:
        try:
            with contextlib.closing(open_url(url, timeout)) as response:
                return response.read(CHUNK).decode("utf-8", "replace"), url
        except (OSError, http.client.HTTPException) as error:
            reasons.append(f"{url}: {reason_of(error)}")
    raise ArtifactError("No checksum could be fetched. " + "; ".join(reasons))


def origin_checksum(urls: Sequence[str], suffix: str = ".sha512", timeout: float = 15.0) -> Checksum:
    """Return the checksum that stands beside the file, from the last URL that answers.

    A list of mirrors ends with the origin, which is asked first: a mirror must not vouch for itself. Raises ArtifactError.
    """
    name = urls[0].rsplit("/", 1)[-1]
    text, _ = fetch_text([f"{url}{suffix}" for url in reversed(urls)], timeout)
    return parse_checksum_file(text, name)


def _transfer(response: http.client.HTTPResponse, sink: IO[bytes], url: str) -> None:
    length = response.headers.get("Content-Length")
    total = int(length) if length and length.isdigit() else None
    done = 0
    while chunk := response.read(CHUNK):
        sink.write(chunk)
        done += len(chunk)
    if total is not None and done != total:
        raise ArtifactError(f"{url}: the connection ended after {done} of {total} bytes")


def fetch_verified(
    urls: Sequence[str],
    checksum: Checksum,
    dest: Path,
    timeout: float = 60.0,
) -> str:
    """Fetch the first of `urls` that gives the expected file to `dest` and return that URL.

    The file appears under its name only once verified; whatever fails the check is removed. A mirror that does not answer,
    breaks off or holds another file is passed over. Timeout in seconds, per read. Raises ArtifactError with the reason per URL.
    """
    if not urls:
        raise ArtifactError(f"No URL to fetch {dest.name} from: the list of mirrors is empty.")
    part = dest.with_name(f"{dest.name}.part-{os.getpid()}")
    reasons = []
    dest.parent.mkdir(parents=True, exist_ok=True)
    for url in urls:
        try:
            with contextlib.closing(open_url(url, timeout)) as response, part.open("wb") as sink:
                _transfer(response, sink, url)
            verify_file(part, checksum, url)
            part.replace(dest)
            return url
        except (OSError, http.client.HTTPException, ArtifactError) as error:
            reason = reason_of(error)
            reasons.append(reason if url in reason else f"{url}: {reason}")
        finally:
            part.unlink(missing_ok=True)
    raise ArtifactError(f"{dest.name} could not be fetched. " + "; ".join(reasons))


@contextlib.contextmanager
def cache_lock(directory: Path, name: str, timeout: float = 1800.0) -> Iterator[None]:
    """Hold the cache's lock for one artifact: the second of two runs waits for the first and finds its work done.

    The kernel releases it with the process, however that ends. Timeout in seconds; raises ArtifactError after it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f".{name}.lock"
    deadline = time.monotonic() + timeout
    with path.open("w", encoding="utf-8") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise ArtifactError(f"Another run has held {path} for {timeout:.0f} s. See who: fuser {path}") from error
                time.sleep(0.2)
        # Of a run that was cut off: nobody else writes these while we hold the lock.
        for leftover in [*directory.glob(f"{name}.*part-*"), *directory.glob(f".{name}.download-*")]:
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)
        yield


def fetch_into_cache(cache: Path, urls: Sequence[str], checksum: str, suffix: str = "", timeout: float = 60.0) -> tuple[bool, Path, str]:
    """Have one file in the cache and return (whether it was fetched now, path, sha256).

    `checksum` as the user wrote it; empty takes the file with `suffix` beside it. Raises ArtifactError.
    """
    path = cache / urls[0].rsplit("/", 1)[-1]
    if not (checksum or suffix):
        raise ArtifactError(f"No checksum of {path.name} is known. Give it, as sha256:<digest> or sha512:<digest>.")
    # What a mirror gave without the user's checksum does not stand for another mirror's.
    recipe = str(parse_checksum(checksum)) if checksum else " ".join(urls)
    with cache_lock(cache, path.name):
        found = sealed(path)
        if found and found[1].get("recipe") == recipe:
            return False, path, found[0]
        expected = parse_checksum(checksum) if checksum else origin_checksum(urls, suffix, min(15.0, timeout))
        origin = fetch_verified(urls, expected, path, timeout)
        sha256 = expected.digest if expected.algorithm == "sha256" else digest_of(path)
        seal(path, sha256, {"origin": f"{origin} {expected}", "recipe": recipe})
    return True, path, sha256


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old or the new text, never a part."""
    part = path.with_name(f"{path.name}.part-{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def seal(path: Path, sha256: str, facts: dict[str, str]) -> None:
    """Record a finished file: its digest in sha256sum's format beside it, and size and time by which to trust it later."""
    stat = path.stat()
    write_atomically(path.with_name(f"{path.name}.sha256"), f"{sha256}  {path.name}\n")
    record = {"sha256": sha256, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "facts": facts}
    write_atomically(path.with_name(f"{path.name}.json"), json.dumps(record, indent=1, sort_keys=True) + "\n")


def sealed(path: Path) -> tuple[str, dict[str, str]] | None:
    """Return (sha256, facts) of a finished file, or None when it is missing or damaged and must be made again.

    Size and modification time as recorded are believed without reading half a gigabyte; when they differ (a copied cache, or a
    damaged one) the digest decides. The hosts verify the digest while they unpack in any case.
    """
    try:
        record = json.loads(path.with_name(f"{path.name}.json").read_text(encoding="utf-8"))
        stat = path.stat()
        sha256, facts = str(record["sha256"]), {str(k): str(v) for k, v in record["facts"].items()}
        if (record["size"], record["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns):
            return sha256, facts
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if digest_of(path) != sha256:
        return None
    with contextlib.suppress(OSError):  # a read-only cache stays usable, only slower
        seal(path, sha256, facts)
    return sha256, facts
