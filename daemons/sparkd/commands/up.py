"""`sparkd up`: a whole cluster on loopback in this terminal, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from .common import Failure, Usage, count, parser, program, seconds, table

EPILOG = """Ports are the usual ones (7077, 8080, 6066, 2181, ...) when they are free, others otherwise, or those from --base-port on.
DIR/cluster.json says what runs where; DIR/*/*.log is what each process says. Kill any of them: it is started again as its unit would."""
EVERY_S = 0.1


if TYPE_CHECKING:
    from ..up import Recovery, Shape


def _shape(chosen: Any) -> Shape:
    from ..config_values import memory_mb
    from ..up import Shape, UpError

    recovery: Recovery = chosen.recovery or ("zookeeper" if chosen.masters > 1 or chosen.zookeeper else "none")
    if chosen.zookeeper and recovery != "zookeeper":
        raise Usage(f"--zookeeper {chosen.zookeeper} and --recovery {recovery}: give one of them")
    try:
        memory = memory_mb(chosen.worker_memory)
    except ValueError as error:
        raise Usage(f"--worker-memory {chosen.worker_memory!r}: {error}") from None
    properties = {}
    for item in chosen.conf:
        name, equals, value = item.partition("=")
        if not name or not equals:
            raise Usage(f"--conf {item}: allowed is KEY=VALUE")
        properties[name] = value
    shape = Shape(
        masters=chosen.masters,
        workers=chosen.workers,
        recovery=recovery,
        zookeeper=chosen.zookeeper or 3,
        cores=chosen.worker_cores,
        memory_mb=memory,
        tokens=chosen.tokens,
        properties=properties,
    )
    try:
        shape.check()
    except UpError as error:
        raise Usage(str(error)) from None
    return shape


def _directory(text: str) -> Path:
    if text:
        return Path(text)
    import tempfile

    return Path(tempfile.mkdtemp(prefix="sparkd-up-"))


def describe(cluster: Any, own_directory: bool) -> str:
    """Return what is where, and what to try."""
    rows = [
        (m.name, f"spark://127.0.0.1:{m.port}", f"http://127.0.0.1:{m.web}", f"http://127.0.0.1:{m.rest}") for m in cluster.ports.masters
    ]
    rows += [(w.name, "", f"http://127.0.0.1:{w.web}", "") for w in cluster.ports.workers]
    sparkd = program()
    rest = ",".join(f"{host}:{port}" for host, port in cluster.rest)
    lines = [table(("", "APPLICATIONS", "WEB UI", "REST"), rows), ""]
    if cluster.zookeeper:
        lines.append(f"ZooKeeper  {cluster.zookeeper}")
    lines.append(f"files      {cluster.directory}{'  (removed at the end)' if own_directory else ''}")
    lines += ["", "Try in another terminal:", f"  export SPARKD_MASTERS={rest}"]
    if cluster.shape.tokens:
        lines.append(f"  export SPARKD_TOKEN_FILE={cluster.token_key_file}")
    lines += [
        f"  {sparkd} submit --supervise -- sh -c 'while sleep 1; do date; done'",
        f"  {sparkd} list",
        f"  kill -9 $({sparkd} state --leader-pid {cluster.directory}/cluster.json)    # then watch who leads, here and on the pages",
        "",
        "Ctrl-C ends all of it.",
    ]
    return "\n".join(lines)


class Events:
    """Prints one line per event, with the time; who leads is read from every master's own word."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began = time.monotonic()

    def tell(self, text: str) -> None:
        """Print."""
        with self._lock:
            print(f"[{time.monotonic() - self._began:7.2f} s] {text}", flush=True)


def watch(cluster: Any, tell: Any, stop: threading.Event) -> None:
    """Tell each change of leadership until stopped."""
    before: dict[str, str] = {}
    while not stop.wait(EVERY_S):
        for master in cluster.ports.masters:
            status = cluster.status(master, 0.5)
            if status == before.get(master.name):
                continue
            if before or status == "ALIVE":
                word = {"ALIVE": "leads", "STANDBY": "is standby", "RECOVERING": "is recovering", "down": "does not answer"}.get(
                    status, status
                )
                tell(f"{master.name} {word}")
            before[master.name] = status


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def run(argv: list[str]) -> int:
    """Run the cluster until SIGINT or SIGTERM."""
    options = parser(
        "up", "A whole cluster on loopback, without root: real ZooKeeper servers, masters, workers. Ctrl-C ends all of it.", EPILOG
    )
    options.add_argument("--masters", type=count(1, 9), default=2)
    options.add_argument("--workers", type=count(0, 64), default=2)
    options.add_argument("--zookeeper", type=count(1, 7), default=0, metavar="SERVERS", help="3 when nothing else is said")
    options.add_argument(
        "--recovery", choices=("zookeeper", "filesystem", "none"), default="", help="filesystem needs neither ZooKeeper nor Java"
    )
    options.add_argument("--dir", default="", help="kept at the end, and used again with the same DIR; else a new one that is removed")
    options.add_argument("--base-port", type=count(1024, 65000), metavar="N")
    options.add_argument("--worker-cores", type=count(1), default=max(2, os.cpu_count() or 1), metavar="N", help="what each worker offers")
    options.add_argument("--worker-memory", default="2g", metavar="SIZE", help="what each worker offers (2g)")
    options.add_argument("--tokens", action="store_true", help="REST wants a bearer token, as in a deployment")
    options.add_argument("--conf", action="append", default=[], metavar="K=V", help="a property for masters and workers")
    options.add_argument("--run-for", type=seconds, default=0.0, metavar="TIME", help="end after this time")
    chosen = options.parse_args(argv)
    from ..up import LocalCluster, Ports, UpError
    from ..up_zookeeper import Lacking

    shape = _shape(chosen)
    events = Events()
    stop = threading.Event()
    own = not chosen.dir

    def asked(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        if starting:
            raise KeyboardInterrupt

    starting = True
    signal.signal(signal.SIGINT, asked)
    signal.signal(signal.SIGTERM, asked)
    try:
        ports = Ports(shape, chosen.base_port, usual=chosen.base_port is None)
    except UpError as error:
        raise Usage(str(error)) from None
    directory = _directory(chosen.dir)
    cluster = LocalCluster(directory, shape, ports=ports, told=events.tell)
    failed = ""
    try:
        if ports.moved:
            events.tell("a usual port is taken: using others")
        parts = (
            [_counted(shape.zookeeper, "ZooKeeper server")]
            if shape.recovery == "zookeeper"
            else [f"recovery mode {shape.recovery.upper()}"]
        )
        parts += [_counted(shape.masters, "master"), _counted(shape.workers, "worker")]
        events.tell(f"starting {', '.join(parts)}")
        cluster.start()
        starting = False
        events.tell(f"up: {cluster.leader()} leads")
        print(f"\n{describe(cluster, own)}\n", flush=True)
        watching = threading.Thread(target=watch, args=(cluster, events.tell, stop), daemon=True)
        watching.start()
        stop.wait(chosen.run_for or None)
        stop.set()
        watching.join(3.0)
        events.tell("ending")
        cluster.stop()
    except KeyboardInterrupt:
        events.tell("ending at once")
    except (UpError, Lacking) as error:
        failed = str(error)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        starting = False
        cluster.end_now()
        if own and not failed:
            import shutil

            shutil.rmtree(directory, ignore_errors=True)
    if failed:
        raise Failure(f"{failed}\nthe logs stay in {directory}" if own else failed)
    events.tell("all of it has ended")
    sys.stdout.flush()
    return 0
