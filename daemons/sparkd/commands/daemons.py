"""`sparkd master`, `sparkd worker`, `sparkd fence`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

MASTER_HELP = """usage: sparkd master [-h HOST] [-p PORT] [--webui-port PORT] [--properties-file FILE]

Runs a master until SIGTERM, which hands over. Reads spark-env.sh and spark-defaults.conf of SPARK_CONF_DIR, SPARK_MASTER_OPTS and
SPARK_DAEMON_JAVA_OPTS as Spark's does; `sparkd config master` shows what comes of it."""

WORKER_HELP = """usage: sparkd worker [-c CORES] [-m MEMORY] [-d DIR] [-h HOST] [-p PORT] [--webui-port PORT] [--properties-file FILE] [spark://h1:7077,h2:7077]

Runs a worker until SIGTERM, which ends its processes. Without masters: those of spark.master in spark-defaults.conf. Reads the same files
as a master, and SPARK_WORKER_OPTS; `sparkd config worker` shows what comes of it."""


def _log() -> None:
    """One line per record on stderr: the journal, or whoever started us, adds what it wants."""
    logging.basicConfig(
        level=os.environ.get("SPARKD_LOG_LEVEL", "INFO").upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    # No line shows these, and looking them up for each of a thousand lines a second costs.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.getLogger("kazoo").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


def _to_its_end(daemon: Any) -> NoReturn:
    """Run a daemon's coroutine and end with its exit code."""
    import asyncio

    code = int(asyncio.run(daemon) or 0)
    # All is closed and durable here. Taking the interpreter down takes a tenth of a second more, of a hand-over's half.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def master(argv: Sequence[str]) -> int:
    """Run a master."""
    if "--help" in argv:
        print(MASTER_HELP)
        return 0
    from ..config import gather, master_settings

    found = gather("master", argv, os.environ)
    settings = master_settings(found)
    _log()
    for note in found.notes:
        logging.getLogger("sparkd").warning("configuration note=%r", note)
    from ..master import run_master

    _to_its_end(run_master(settings))


def worker(argv: Sequence[str]) -> int:
    """Run a worker."""
    if "--help" in argv:
        print(WORKER_HELP)
        return 0
    from ..config import gather, worker_settings

    found = gather("worker", argv, os.environ)
    settings = worker_settings(found)
    _log()
    for note in found.notes:
        logging.getLogger("sparkd").warning("configuration note=%r", note)
    from ..worker import run_worker

    _to_its_end(run_worker(settings))


def fence(argv: Sequence[str]) -> int:
    """Remove a dead master's latch."""
    from .. import fence as work

    return int(work.main(list(argv)))
