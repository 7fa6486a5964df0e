"""The command `sparkd`. Each subcommand's code is imported only when it is run: a daemon is to be ready within a second.

Exit codes: 0 done, 1 failed, 2 asked or configured wrongly. Never a traceback; SPARKD_DEBUG=1 in the environment shows it.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

#: name -> module below commands/, function, one line.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "master": ("daemons", "master", "run a master"),
    "worker": ("daemons", "worker", "run a worker: sparkd worker spark://h1:7077,h2:7077"),
    "up": ("up", "run", "a whole cluster on this host, in this terminal, for trying out"),
    "submit": ("submit", "run", "submit a command, a jar or a Python program to the cluster"),
    "status": ("manage", "status", "state of one driver"),
    "kill": ("manage", "kill", "end a driver"),
    "list": ("manage", "listing", "drivers, workers, applications"),
    "explain": ("manage", "explain", "why a driver, worker or application is as it is"),
    "state": ("state", "run", "who leads, and what the store holds"),
    "config": ("configuration", "run", "every key, its value, where it came from, honoured or not"),
    "proxy": ("proxy", "run", "a local address of the leader's REST that adds the token"),
    "fence": ("daemons", "fence", "after a master's death: remove its latch (for its supervisor)"),
    "epoch": ("epoch", "run", "show the epoch, or carry it into a new recovery mode"),
    "reset-worker": ("reset", "reset_worker", "make a worker forget the cluster it belonged to"),
    "demo": ("demo", "run", "a cluster, a submission, a leader's death, in half a minute"),
}


def usage() -> str:
    """Return the list of subcommands."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name.ljust(width)}  {about}" for name, (_, _, about) in COMMANDS.items()]
    return "\n".join(["usage: sparkd COMMAND ...", "", *lines, "", "sparkd COMMAND --help tells more."])


def run(argv: Sequence[str]) -> int:
    """Run one subcommand; return the exit code. Errors are one line each on stderr."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage(), file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    if argv[0] in ("--version", "-V"):
        from . import __version__

        print(f"sparkd {__version__}")
        return 0
    name = argv[0]
    if name not in COMMANDS:
        print(f"sparkd: {name!r}: no such command; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    module, function, _ = COMMANDS[name]
    try:
        loaded = importlib.import_module(f"sparkd.commands.{module}")
        return int(getattr(loaded, function)(list(argv[1:])))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _drop_output()
        return 1
    except Exception as error:
        if os.environ.get("SPARKD_DEBUG"):
            raise
        code, lines = _told(error)
        for line in lines:
            print(f"sparkd {name}: {line}", file=sys.stderr)
        return code


def _told(error: Exception) -> tuple[int, list[str]]:
    """Return exit code and lines of an error, by its kind. The kinds' modules are imported here: only what failed pays for it."""
    from .client import ClientError
    from .commands.common import Failure, Usage
    from .config_files import FileProblem
    from .config_sources import ConfigError

    if isinstance(error, ConfigError):
        return 2, list(error.problems)
    if isinstance(error, (Usage, FileProblem)):
        return 2, [str(error)]
    if isinstance(error, (Failure, ClientError)):
        return 1, [str(error)]
    if isinstance(error, OSError):
        return 1, [f"{error.filename + ': ' if isinstance(error.filename, str) else ''}{error.strerror or error}"]
    from .coordination.api import CoordinationError, Misconfigured

    if isinstance(error, CoordinationError):
        return 2 if isinstance(error, Misconfigured) else 1, [str(error)]
    return 1, [f"{type(error).__name__}: {error} (SPARKD_DEBUG=1 shows where)"]


def _drop_output() -> None:
    """Nobody reads what we print: let the interpreter's last flush go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def entry() -> None:
    """Run as a program."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    entry()
