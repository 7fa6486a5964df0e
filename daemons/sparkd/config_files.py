"""Reading what configuration is made of: spark-env.sh, options of Java, properties files, secrets. Each error names the file."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

#: spark-env.sh is a program: it gets this long.
ENV_TIMEOUT_S = 10.0
#: No configuration file is larger than this.
FILE_LIMIT = 1 << 20

# $1: the file. Its own output goes to stderr, so that only the environment comes on stdout.
_SOURCE = 'bash -n -- "$1" || exit 3; exec 3>&1 1>&2; set -a; . "$1"; set +a; exec env -0 >&3'


class FileProblem(Exception):
    """A file cannot be used; the text says which and why."""


def read(path: Path) -> str:
    """Return a configuration file's text. Raises FileProblem."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT + 1)
    except OSError as error:
        raise FileProblem(f"{path} cannot be read: {error.strerror or error}") from None
    if len(data) > FILE_LIMIT:
        raise FileProblem(f"{path} is larger than {FILE_LIMIT >> 20} MiB: this is no configuration file")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileProblem(f"{path} is not UTF-8 (byte {error.start})") from None


def conf_dir(environ: Mapping[str, str]) -> Path | None:
    """Return SPARK_CONF_DIR, or conf/ of SPARK_HOME (bin/load-spark-env.sh)."""
    if environ.get("SPARK_CONF_DIR"):
        return Path(environ["SPARK_CONF_DIR"])
    return Path(environ["SPARK_HOME"]) / "conf" if environ.get("SPARK_HOME") else None


def environment(environ: Mapping[str, str], timeout_s: float = ENV_TIMEOUT_S) -> dict[str, str]:
    """Return the environment as spark-env.sh leaves it: `set -a; . spark-env.sh`, unless SPARK_ENV_LOADED is set. Raises FileProblem."""
    folder = conf_dir(environ)
    path = folder / "spark-env.sh" if folder else None
    if path is None or environ.get("SPARK_ENV_LOADED") or not path.is_file():
        return dict(environ)
    given = {**environ, "SPARK_ENV_LOADED": "1", "SPARK_CONF_DIR": str(folder)}
    try:
        child = subprocess.Popen(
            ["bash", "-c", _SOURCE, "spark-env.sh", str(path)],
            env=given,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise FileProblem(f"{path} cannot be read: bash does not start: {error}") from None
    try:
        out, err = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        raise FileProblem(f"{path} did not end within {timeout_s:g} s") from None
    if child.returncode != 0 or b"\0" not in out:
        said = err.decode(errors="replace").strip().splitlines()
        raise FileProblem(f"{path} fails (exit code {child.returncode}): {said[-1][:300] if said else 'it says nothing'}")
    found = {}
    for item in out.decode(errors="surrogateescape").split("\0"):
        name, equals, value = item.partition("=")
        if equals and name not in ("_", "SHLVL", "PWD", "OLDPWD") and not name.startswith("BASH_FUNC_"):
            found[name] = value
    return found


def options(text: str) -> list[str]:
    """Split a string of options as Spark's launcher does. Raises ValueError (CommandBuilderUtils.parseOptionString)."""
    found: list[str] = []
    word: list[str] | None = None
    quote = ""
    escaped = False
    for letter in text:
        if escaped:
            word = [*(word or []), letter]
            escaped = False
        elif letter == "\\" and quote != "'":
            word, escaped = word or [], True
        elif letter in "'\"" and quote in ("", letter):
            word, quote = word or [], "" if quote else letter
        elif letter.isspace() and not quote:
            if word is not None:
                found.append("".join(word))
            word = None
        else:
            word = word or []
            word.append(letter)
    if quote or escaped:
        raise ValueError("a quote is not closed" if quote else "it ends in a backslash")
    if word is not None:
        found.append("".join(word))
    return found


def argument_file(text: str) -> list[str]:
    """Split the text of a java @file: quotes, escapes within quotes, # comments (manual of java, Command-Line Argument Files)."""
    found: list[str] = []
    word: list[str] | None = None
    quote = ""
    letters = iter(text)
    for letter in letters:
        if quote:
            if letter == quote:
                quote = ""
            elif letter == "\\":
                word = [*(word or []), _escape(letters)]
            else:
                word = word or []
                word.append(letter)
        elif letter in "'\"":
            word, quote = word or [], letter
        elif letter == "#" and word is None:
            for skipped in letters:
                if skipped == "\n":
                    break
        elif letter.isspace():
            if word is not None:
                found.append("".join(word))
            word = None
        else:
            word = word or []
            word.append(letter)
    if word is not None:
        found.append("".join(word))
    return found


def _escape(letters: Iterator[str]) -> str:
    letter = next(letters, "")
    if letter == "\n":  # the line goes on, blanks at its beginning do not count
        for following in letters:
            if following not in " \t":
                return following
        return ""
    return {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}.get(letter, letter)


def java_options(text: str, name: str) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Return the -D properties of a string of Java options, with where each stands, and the other options. Raises FileProblem.

    name: the variable they come from. @file is read, as the java launcher does; a file names no further file.
    """
    try:
        words = options(text)
    except ValueError as error:
        raise FileProblem(f"{name} cannot be read: {error}") from None
    properties: dict[str, tuple[str, str]] = {}
    others: list[str] = []
    for word in words:
        inside, where = [word], name
        if word.startswith("@") and not word.startswith("@@"):
            where = f"{word[1:]} (named in {name})"
            try:
                inside = argument_file(read(Path(word[1:])))
            except FileProblem as error:
                raise FileProblem(f"{name} names an argument file: {error}") from None
        for option in inside:
            if option.startswith("-D"):
                key, _, value = option[2:].partition("=")
                properties[key] = (value, where)
            else:
                others.append(option)
    return properties, others


def properties(text: str) -> dict[str, str]:
    """Return what a properties file says (java.util.Properties.load), values trimmed as Spark does. Raises ValueError."""
    found: dict[str, str] = {}
    for number, logical in _logical_lines(text):
        end = 0
        while end < len(logical) and logical[end] not in "=: \t\f":
            end += 2 if logical[end] == "\\" else 1
        value = logical[end:].lstrip(" \t\f")
        if value[:1] in ("=", ":"):
            value = value[1:].lstrip(" \t\f")
        try:
            found[_unescape(logical[:end])] = _unescape(value).strip()
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return found


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    pending, first = "", 0
    for number, natural in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        part = natural.lstrip(" \t\f")
        if not pending and (not part or part[0] in "#!"):
            continue
        first = first if pending else number
        if (len(part) - len(part.rstrip("\\"))) % 2:
            pending += part[:-1]
            continue
        if pending + part:
            yield first, pending + part
        pending = ""
    if pending:
        yield first, pending


def _unescape(text: str) -> str:
    out: list[str] = []
    letters = iter(text)
    for letter in letters:
        if letter != "\\":
            out.append(letter)
            continue
        escaped = next(letters, "")
        if escaped == "u":
            digits = "".join(next(letters, "") for _ in range(4))
            try:
                out.append(chr(int(digits, 16)))
            except ValueError:
                raise ValueError(f"\\u{digits} is no character") from None
        else:
            out.append({"n": "\n", "r": "\r", "t": "\t", "f": "\f"}.get(escaped, escaped))
    return "".join(out)


def secret(path: Path) -> bytes:
    """Return a secret: the file's bytes without blanks at its ends. Raises FileProblem when others may read it, or it is too short."""
    try:
        found = path.stat()
        data = path.read_bytes()[: FILE_LIMIT + 1].strip()
    except OSError as error:
        raise FileProblem(f"{path} cannot be read: {error.strerror or error}") from None
    if not stat.S_ISREG(found.st_mode):
        raise FileProblem(f"{path} is no regular file")
    if found.st_mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
        raise FileProblem(
            f"{path} holds a secret that others may read or change (mode {stat.S_IMODE(found.st_mode):04o}): chmod 0640 {path}"
        )
    if len(data) < 16:
        raise FileProblem(f"{path} holds {len(data)} bytes: a secret has 16 or more, as from: openssl rand -base64 32")
    return data
