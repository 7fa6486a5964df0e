"""`sparkd epoch show|carry`: the cluster id and the number of its last epoch, and how they move to another recovery mode.

A cluster that changes its recovery mode keeps its id, and goes on counting above its last epoch: `show` with the old configuration, then
`carry` with the new one. Both read the configuration that a master on this host would.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from .common import Failure, Usage, count, parser, print_json, seconds

if TYPE_CHECKING:
    from ..coordination.bridge import Bridge
    from ..coordination.counter import Counter
    from ..coordination.epoch import ClusterMark
    from ..coordination.layout import Place
    from ..settings import RecoverySettings

T = TypeVar("T")
EPILOG = """examples:
  sparkd epoch show --json
  sparkd epoch carry --cluster-id 441c4dd8d3c34cd5b59a14b30c7912c8 --above 4294967308

To change spark.deploy.recoveryMode: stop all masters; show with the old configuration; change it; carry; start the masters.
Workers then go on with what they run. Records do not move: what was queued is the old place's."""
NUMBER_MOST = 1 << 62


@dataclass(frozen=True, slots=True)
class Found:
    """What a place says. number: of the last epoch, 0 for none; held: a master holds its latch or its lock."""

    cluster_id: str
    number: int
    held: bool


def run(argv: list[str]) -> int:
    """Show or carry."""
    options = parser("epoch", "The cluster id and the last epoch's number, where this host's configuration says that they are.", EPILOG)
    options.add_argument("what", choices=("show", "carry"))
    options.add_argument("--cluster-id", default="", metavar="ID", help="carry: the id to go on with")
    options.add_argument("--above", type=count(0, NUMBER_MOST), metavar="NUMBER", help="carry: later epochs are above it")
    options.add_argument("--replace", action="store_true", help="carry: even if the place belongs to another cluster")
    options.add_argument("--properties-file", default="", metavar="FILE", help="instead of spark-defaults.conf, as sparkd master's")
    options.add_argument("--patience", type=seconds, default=10.0, metavar="TIME", help="how long to wait for ZooKeeper (10s)")
    options.add_argument("--json", action="store_true", help="JSON for programs")
    chosen = options.parse_args(argv)
    carries = chosen.what == "carry"
    if carries and (not chosen.cluster_id or chosen.above is None):
        raise Usage("carry: needs --cluster-id and --above, as `sparkd epoch show` printed them with the old configuration")
    from ..config import load_recovery
    from ..coordination import epoch

    if chosen.cluster_id and not epoch.valid_id(chosen.cluster_id):
        raise Usage(f"--cluster-id {chosen.cluster_id!r}: 1 to 64 letters, digits, '_', '.' and '-'")
    settings = load_recovery(["--properties-file", chosen.properties_file] if chosen.properties_file else [], os.environ)
    mark = epoch.ClusterMark(chosen.cluster_id, chosen.above) if carries else None
    if settings.mode == "ZOOKEEPER":
        found = asyncio.run(_zookeeper(settings, mark, chosen.replace, chosen.patience))
    elif settings.mode == "CUSTOM":
        raise Failure("spark.deploy.recoveryMode CUSTOM: where its epochs are, its factory knows")
    else:
        found = _counter(settings, mark, chosen.replace)
    if chosen.json:
        print_json({"mode": settings.mode, "cluster_id": found.cluster_id, "number": found.number, "led": found.held})
    elif not found.cluster_id:
        print(f"{settings.mode}: no cluster has been here")
    else:
        word = "epochs go on above" if carries else "last epoch"
        print(f"{settings.mode}: cluster {found.cluster_id}, {word} {found.number}{', led at the moment' if found.held else ''}")
    return 0


def _refuse(mark: ClusterMark, found: Found, replace: bool) -> None:
    """Raise Failure when the mark must not be written there."""
    if found.held:
        raise Failure("a master leads there at the moment: stop all masters first")
    if found.cluster_id and found.cluster_id != mark.cluster_id and not replace:
        raise Failure(
            f"the place belongs to cluster {found.cluster_id}: use another one, or --replace when its records are of no use any more"
        )


def _counter(settings: RecoverySettings, mark: ClusterMark | None, replace: bool) -> Found:
    from ..coordination.counter import Counter
    from ..coordination.epoch import ClusterMark

    directory = settings.directory if settings.mode == "FILESYSTEM" and settings.directory else settings.state_dir
    counter: Counter = Counter(directory)
    if mark is None and not directory.is_dir():
        return Found("", 0, False)
    counter.prepare()
    held = not counter.lock.acquire()
    try:
        there = counter.mark()
        found = Found(there.cluster_id if there else "", max(counter.number(), there.floor if there else 0), held)
        if mark is None:
            return found
        _refuse(mark, found, replace)
        counter.seed(ClusterMark(mark.cluster_id, max(mark.floor, found.number)))
        return Found(mark.cluster_id, max(mark.floor, found.number), False)
    finally:
        counter.lock.release()


async def _zookeeper(settings: RecoverySettings, mark: ClusterMark | None, replace: bool, patience_s: float) -> Found:
    from ..coordination import layout
    from ..coordination.bridge import Bridge, BridgeError, Denied

    place = layout.place(settings.zookeeper_url, settings.zookeeper_dir)
    connected = asyncio.Event()
    bridge = Bridge(
        place.hosts, settings.session_timeout_s, settings.zookeeper_secret, lambda state: connected.set() if state == "CONNECTED" else None
    )
    bridge.start()
    try:
        async with asyncio.timeout(patience_s):
            await connected.wait()
        return await _at(bridge, place, mark, replace)
    except TimeoutError:
        raise Failure(f"ZooKeeper ({place.hosts}) does not answer within {patience_s:g} s") from None
    except Denied:
        raise Failure(f"ZooKeeper denies {place.base}: spark.sparkd.zookeeper.secretFile is not the one that it was made with") from None
    except BridgeError as error:
        raise Failure(f"ZooKeeper ({place.hosts}): {type(error).__name__} {error}") from None
    finally:
        await bridge.close(1.0)


async def _or(work: Awaitable[T], otherwise: T) -> T:
    from ..coordination.bridge import NoNode

    try:
        return await work
    except NoNode:
        return otherwise


async def _at(bridge: Bridge, place: Place, mark: ClusterMark | None, replace: bool) -> Found:
    from ..coordination import epoch, layout
    from ..coordination.bridge import NodeExists

    nothing: tuple[bytes, Any] = (b"", None)
    raw, stat = await _or(bridge.get(place.cluster), nothing)
    try:
        there = epoch.decode(raw) if raw else None
    except epoch.BadCluster as error:
        if not replace:
            raise Failure(f"{place.cluster} in ZooKeeper: {error}; carry --replace writes it anew") from None
        there = None
    last = layout.decode_commit((await _or(bridge.get(place.commit), nothing))[0])[2]
    latches = layout.in_line(await _or(bridge.children(place.election), []))
    found = Found(there.cluster_id if there else "", max(last, there.floor if there else 0), bool(latches))
    if mark is None:
        return found
    _refuse(mark, found, replace)
    fresh = epoch.ClusterMark(mark.cluster_id, max(mark.floor, found.number))
    made: Callable[..., Awaitable[str]] = bridge.create
    for path in [*place.parents, place.base]:
        try:
            await made(path, open_acl=path != place.base)
        except NodeExists:
            continue
    if stat is None:
        await made(place.cluster, epoch.encode(fresh))
    else:
        await bridge.set(place.cluster, epoch.encode(fresh), stat.version)
    return Found(fresh.cluster_id, fresh.floor, False)
