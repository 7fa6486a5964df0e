"""What subcommands share: options, errors of one line, tables."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from ..client import Client

FAILED = 1
USAGE = 2


class Failure(Exception):
    """It did not work: one line, exit code 1."""


class Usage(Exception):
    """It was asked wrongly: one line, exit code 2."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and how to get help."""

    def error(self, message: str) -> NoReturn:
        """Raise Usage."""
        raise Usage(f"{message} (see {self.prog} --help)")


def parser(name: str, about: str, epilog: str = "") -> Parser:
    """Return the parser of a subcommand."""
    return Parser(
        prog=f"sparkd {name}", description=about, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )


def add_client(options: argparse.ArgumentParser) -> None:
    """Add the options of everything that asks the leader."""
    group = options.add_argument_group("the masters")
    group.add_argument(
        "--masters",
        "--master",
        default="",
        metavar="H1:6066,H2:6066",
        help="REST addresses, or spark://... (then port 6066); else SPARKD_MASTERS, spark.master, this host",
    )
    group.add_argument(
        "--token-file", default="", metavar="FILE", help="a bearer token, or the JWS key to make tokens of; else SPARKD_TOKEN_FILE"
    )
    group.add_argument("--patience", type=seconds, default=60.0, metavar="TIME", help="how long to look for a leader (60s)")
    options.add_argument("--json", action="store_true", help="JSON for programs")


def seconds(text: str) -> float:
    """Parse a time for argparse."""
    from ..config_values import seconds as parse

    try:
        found = parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    if found < 0:
        raise argparse.ArgumentTypeError(f"{text!r}: not below 0")
    return found


def count(least: int, most: int = 1_000_000) -> Any:
    """Return a parser of whole numbers for argparse."""
    from ..config_values import Whole

    def parse(text: str) -> int:
        try:
            return Whole(least, most)(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None

    return parse


def client_of(chosen: argparse.Namespace) -> Client:
    """Return the client that the options ask for. Raises Usage."""
    import os

    from ..client import ClientError, connect

    try:
        return connect(chosen.masters, os.environ, chosen.token_file, chosen.patience)
    except ClientError as error:
        raise Usage(str(error)) from None


def print_json(value: object) -> None:
    """Print a value for programs."""
    print(json.dumps(value, indent=1, ensure_ascii=False))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return columns under their names; numbers to the right."""
    texts = [[_cell(cell) for cell in row] for row in rows]
    widths = [max([len(name), *(len(row[column]) for row in texts)]) for column, name in enumerate(head)]
    right = [bool(rows) and all(isinstance(row[column], (int, float)) for row in rows) for column in range(len(head))]

    def lined(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.rjust(width) if flag else cell.ljust(width) for cell, width, flag in zip(cells, widths, right, strict=True)
        ).rstrip()

    return "\n".join([lined(head), *map(lined, texts)])


def _cell(value: object) -> str:
    """Return text without control characters: names come from whoever submitted."""
    text = "" if value is None else str(value)
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def plain(text: str) -> str:
    """Return text that a terminal shows and does not obey."""
    return _cell(text)


def say(text: str) -> None:
    """Say something to people, beside the output."""
    print(text, file=sys.stderr, flush=True)


def program() -> str:
    """Return what to type to run sparkd here: its name where that is on PATH, else the way it was started."""
    import os
    import shutil

    if shutil.which("sparkd"):
        return "sparkd"
    started = sys.argv[0]
    if started.endswith("/sparkd"):
        return os.path.relpath(started) if started.startswith(os.getcwd() + "/") else started  # noqa: PTH109
    return f"{sys.executable} -m sparkd.cli"
