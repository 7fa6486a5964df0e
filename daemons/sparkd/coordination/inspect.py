"""What a store holds, read without taking part in its election: for `sparkd state --store`. Changes nothing."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any

from ..core.values import Record
from ..settings import RecoverySettings
from . import directory, epoch, filesystem, layout, records
from .api import CoordinationError, Misconfigured, StoreUnavailable
from .counter import Counter

PATIENCE_S = 10.0
WINDOW = 100
#: Spark's own spark.redaction.regex, more or less.
SECRET = re.compile(r"secret|password|passwd|token|credential|access[._-]?key", re.IGNORECASE)
HIDDEN = "*********(redacted)"

State = dict[str, Any]


def read(settings: RecoverySettings) -> State:
    """Return what is stored: plain JSON. Environments and secrets of drivers are hidden. Raises CoordinationError."""
    match settings.mode:
        case "ZOOKEEPER":
            return asyncio.run(_zookeeper(settings))
        case "FILESYSTEM":
            if settings.directory is None:
                raise Misconfigured("spark.deploy.recoveryDirectory is not set")
            return _filesystem(settings.directory)
        case "NONE":
            return _none(settings.state_dir)
        case _:
            raise Misconfigured(f"recoveryMode {settings.mode}: what is stored, its factory knows")


def render(state: State) -> str:
    """Return it for people: a line per record."""
    lines = [f"{state['mode']} {state['place']}"]
    lines.append(f"cluster {state['cluster_id'] or '-'}, epoch {state['epoch']}, leader {state['leader'] or 'none'}")
    if len(state["masters"]) > 1:
        lines.append(f"in line: {', '.join(state['masters'])}")
    for item in state["records"]:
        record = item["record"]
        shown = " ".join(f"{key}={record[key]}" for key in ("state", "name", "worker", "host") if isinstance(record.get(key), str | int))
        lines.append(f"{item['kind']:<12} {item['id']:<40} {shown}".rstrip())
    for item in state["unreadable"]:
        lines.append(f"unreadable   {item['kind']} {item['id']}: {item['why']}")
    lines += [f"set aside    {where}" for where in state["set_aside"]]
    if not state["records"]:
        lines.append("no records")
    return "\n".join(re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "?", line) for line in lines)


def hide(value: Any, key: str = "") -> Any:
    """Return a record's value without what must not be shown."""
    if key == "environment" and isinstance(value, dict):
        return dict.fromkeys(value, HIDDEN)
    if isinstance(value, str | int | float) and SECRET.search(key):
        return HIDDEN
    if isinstance(value, dict):
        return {name: hide(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [hide(inner, key) for inner in value]
    return value


def _state(mode: str, place: str) -> State:
    return {
        "mode": mode,
        "place": place,
        "cluster_id": "",
        "epoch": 0,
        "leader": "",
        "masters": [],
        "records": [],
        "unreadable": [],
        "set_aside": [],
    }


def _row(kind: str, record_id: str, order: int, record: Record) -> State:
    return {"kind": kind, "id": record_id, "order": order, "record": hide(record)}


async def _zookeeper(settings: RecoverySettings) -> State:
    from .bridge import Bridge, BridgeError, Denied

    place = layout.place(settings.zookeeper_url, settings.zookeeper_dir)
    connected = asyncio.Event()
    bridge = Bridge(place.hosts, settings.session_timeout_s, settings.zookeeper_secret, lambda _state: connected.set())
    bridge.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            await connected.wait()
        return await _from_zookeeper(bridge, place)
    except TimeoutError:
        raise StoreUnavailable(f"ZooKeeper ({place.hosts}) does not answer within {PATIENCE_S:g} s") from None
    except Denied:
        raise Misconfigured(f"ZooKeeper denies {place.base}: spark.sparkd.zookeeper.secretFile is not the one it was made with") from None
    except BridgeError as error:
        raise StoreUnavailable(f"ZooKeeper ({place.hosts}): {type(error).__name__} {error}") from None
    finally:
        await bridge.close(1.0)


async def _from_zookeeper(bridge: Any, place: layout.Place) -> State:
    from .bridge import NoNode

    state = _state("ZOOKEEPER", f"{place.hosts}{place.base}")

    async def below(path: str) -> list[str]:
        try:
            return sorted(await bridge.children(path))
        except NoNode:
            return []

    if await bridge.exists(place.base) is None:
        return state
    await bridge.sync(place.base)
    mark, commit = await bridge.read([place.cluster, place.commit])
    if mark:
        try:
            state["cluster_id"] = epoch.decode(mark).cluster_id
        except epoch.BadCluster as error:
            state["unreadable"].append({"kind": "cluster", "id": place.cluster, "why": str(error)})
    state["epoch"] = layout.decode_commit(commit or b"")[2]
    line = layout.in_line(await below(place.election))
    found = [layout.decode_latch(raw) for raw in await bridge.read([f"{place.election}/{name}" for name in line]) if raw]
    state["masters"] = [address.url for address in found if address]
    state["leader"] = state["masters"][0] if state["masters"] else ""
    state["set_aside"] = [f"{place.set_aside}/{name}" for name in await below(place.set_aside)]
    for kind in await below(place.records):
        names = await below(place.kind(kind))
        for first in range(0, len(names), WINDOW):
            window = names[first : first + WINDOW]
            raws = await bridge.read([f"{place.kind(kind)}/{name}" for name in window])
            for name, raw in zip(window, raws, strict=True):
                if raw is None:
                    continue  # removed meanwhile
                try:
                    record = records.decode(raw, kind, name)
                except records.Unreadable as error:
                    state["unreadable"].append({"kind": kind, "id": records.id_of(name), "why": str(error)})
                else:
                    state["records"].append(_row(record.kind, record.id, record.order, record.record))
    state["records"].sort(key=lambda row: (row["kind"], row["order"]))
    return state


def _filesystem(path: Path) -> State:
    state = _state("FILESYSTEM", str(path))
    if not path.is_dir():
        return state
    try:
        _counted(state, path)
        # Journals first: what disappears from them while this reads is in files by then, never the other way round.
        replayed = [(journal, *directory.replay(journal)) for journal in directory.journals(path)]
        found, unreadable = directory.read_records(path)
        for journal, puts, why in replayed:
            for put in puts:
                directory.apply(found, put)
            if why:
                state["unreadable"].append({"kind": "journal", "id": journal.name, "why": why})
        state["unreadable"] += [{"kind": kind, "id": records.id_of(name), "why": why} for kind, name, why in unreadable]
        aside = path / "set-aside"
        state["set_aside"] = sorted(str(entry) for entry in aside.iterdir()) if aside.is_dir() else []
        leader = filesystem.read_leader(path)
    except OSError as error:
        raise StoreUnavailable(f"{error.filename or path}: {error.strerror}") from None
    inside = sorted(found.values(), key=lambda record: (record.kind, record.order))
    state["records"] = [_row(record.kind, record.id, record.order, record.record) for record in inside]
    if leader is not None:
        state["leader"] = leader[0].url
        state["masters"] = [leader[0].url]
    return state


def _none(path: Path) -> State:
    state = _state("NONE", str(path))
    if path.is_dir() and os.access(path, os.R_OK | os.X_OK):
        _counted(state, path)
    return state


def _counted(state: State, path: Path) -> None:
    counter = Counter(path)
    mark = counter.mark()
    state["cluster_id"] = mark.cluster_id if mark else ""
    state["epoch"] = counter.number()


__all__ = ["CoordinationError", "State", "hide", "read", "render"]
