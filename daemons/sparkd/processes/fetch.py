"""Resources (a jar, a program) into a driver's own directory: local paths, file: and http(s): URLs. Bounded in size and time."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import os
import shutil
import ssl
import stat
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

SIZE_LIMIT = 4 * 1024**3  # bytes
TOTAL_S = 600.0
SILENCE_S = 30.0  # without a byte
CHUNK = 1024 * 1024
_threads = ThreadPoolExecutor(4, "fetch")  # of their own: a slow server holds up nothing but other fetches
RESERVED_NAMES = frozenset(("stdout", "stderr"))


class FetchError(Exception):
    """It could not be fetched; the text says what and why, never a password in a URL."""


def target_name(resource: str) -> str:
    """Return the name of the file that a resource becomes. Raises FetchError."""
    path = urllib.parse.unquote(urllib.parse.urlsplit(resource).path) if "://" in resource or resource.startswith("file:") else resource
    name = path.rstrip("/").rpartition("/")[2]
    if not name or name in (".", "..") or name in RESERVED_NAMES or "\0" in name or len(name.encode()) > 200:
        raise FetchError(f"cannot fetch {public(resource)}: it has no usable file name")
    return name


def public(resource: str) -> str:
    """Return a resource without user, password and query, which may hold a signature."""
    if "://" not in resource:
        return resource[:500]
    with contextlib.suppress(ValueError):
        parts = urllib.parse.urlsplit(resource)
        return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))[:500]
    return "a malformed URL"


def local_path(resource: str) -> Path | None:
    """Return the path of a resource on this host, None for a URL elsewhere. Raises FetchError."""
    scheme, colon, rest = resource.partition(":")
    if resource.startswith("/"):
        return Path(resource)
    if not colon or "/" in scheme:
        raise FetchError(f"cannot fetch {resource[:500]}: a local path must be absolute, and there on every worker")
    if scheme.lower() in ("file", "local"):
        parts = urllib.parse.urlsplit(rest)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise FetchError(f"cannot fetch {resource[:500]}: {scheme}: URLs are file:///absolute/path")
        return Path(urllib.parse.unquote(parts.path))
    return None


async def fetch(
    resource: str, directory: Path, *, size_limit: int = SIZE_LIMIT, total_s: float = TOTAL_S, silence_s: float = SILENCE_S
) -> Path:
    """Bring it into the directory and return where it is now. `local:` stays where it is, as in Spark. Raises FetchError.

    Cancelling stops it.
    """
    stop = threading.Event()
    bounds = _Bounds(size_limit, time.monotonic() + total_s, silence_s, stop)
    task = asyncio.get_running_loop().run_in_executor(_threads, _fetch, resource, directory, bounds)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        raise


class _Bounds:
    """How much, until when, and whether anybody still wants it."""

    def __init__(self, size: int, until: float, silence_s: float, stop: threading.Event) -> None:
        self.left, self.until, self.silence_s, self.stop, self.size = size, until, silence_s, stop, size

    def take(self, count: int) -> None:
        """Count bytes. Raises FetchError (its text is only the reason)."""
        self.left -= count
        if self.left < 0:
            raise FetchError(f"it is larger than {self.size} bytes")
        if time.monotonic() > self.until:
            raise FetchError("it took too long")
        if self.stop.is_set():
            raise FetchError("given up")


def _fetch(resource: str, directory: Path, bounds: _Bounds) -> Path:
    source = local_path(resource)
    name = target_name(resource)
    if source is not None and resource.lower().startswith("local:"):
        if not source.is_file():
            raise FetchError(f"cannot fetch {public(resource)}: there is no such file on this worker")
        return source
    if source is None and urllib.parse.urlsplit(resource).scheme.lower() not in ("http", "https"):
        raise FetchError(f"cannot fetch {public(resource)}: only local paths, file:, http: and https: URLs are supported")
    target = directory / name
    temporary = directory / f".{name}.part"
    try:
        try:
            with _open(resource, source, bounds) as stream, temporary.open("wb") as out:
                while chunk := stream.read(CHUNK):
                    bounds.take(len(chunk))
                    out.write(chunk)
            if source is not None:
                shutil.copymode(source, temporary)
            temporary.chmod(stat.S_IMODE(temporary.stat().st_mode) | stat.S_IRUSR | stat.S_IWUSR)
            temporary.rename(target)
        finally:
            temporary.unlink(missing_ok=True)
    except FetchError as error:
        raise FetchError(f"cannot fetch {public(resource)}: {error}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise FetchError(f"cannot fetch {public(resource)}: {_why(error)}") from error
    return target


def _open(resource: str, source: Path | None, bounds: _Bounds) -> IO[bytes] | Any:
    """Open the source for reading. Raises OSError, FetchError."""
    if source is not None:
        # A FIFO would block in open(2).
        fd = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FetchError("it is not a file")
        return os.fdopen(fd, "rb")
    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), _Http(), _Https(), _Redirect(), urllib.request.HTTPErrorProcessor(), _Errors()):
        opener.add_handler(handler)
    url, user = _without_user(resource)
    request = urllib.request.Request(url, headers={"User-Agent": "sparkd"})  # noqa: S310 only http(s) has a handler
    if user:
        request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
    return opener.open(request, timeout=bounds.silence_s)


def _without_user(url: str) -> tuple[str, str]:
    """Return a URL without its user:password@, which urllib would take for part of the host, and those two decoded."""
    parts = urllib.parse.urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return (urllib.parse.urlunsplit(parts._replace(netloc=host)), urllib.parse.unquote(user)) if at else (url, "")


class _Http(urllib.request.HTTPHandler):
    pass


class _Https(urllib.request.HTTPSHandler):
    def __init__(self) -> None:
        super().__init__(context=ssl.create_default_context())


class _Redirect(urllib.request.HTTPRedirectHandler):
    max_redirections = 5


class _Errors(urllib.request.HTTPDefaultErrorHandler):
    pass


def _why(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    if isinstance(error, urllib.error.URLError):
        reason = error.reason
        return str(getattr(reason, "strerror", None) or reason)
    if isinstance(error, FileNotFoundError):
        return "there is no such file on this worker"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return type(error).__name__
