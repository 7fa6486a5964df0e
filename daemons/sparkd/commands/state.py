"""`sparkd state`: who leads, and what the store holds. Needs no leader: each master is asked for itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .common import Failure, Usage, add_client, client_of, parser, plain, print_json, table


def _leader_pid(path: Path) -> int:
    """Return the PID of the leader of a `sparkd up`. Raises Usage, Failure."""
    from ..client import Client, addresses

    try:
        described: dict[str, Any] = json.loads(path.read_text())
        masters = described["masters"]
    except (OSError, ValueError, KeyError) as error:
        raise Usage(f"--leader-pid {path}: not a cluster.json of sparkd up ({error})") from None
    for master in masters:
        for answer in Client(addresses(master["rest"]), patience_s=2).each("/leader").values():
            if not isinstance(answer, str) and isinstance(answer.body, dict) and answer.body.get("status") == "ALIVE":
                return int(master["pid"])
    raise Failure("no leader at the moment: ask again")


def run(argv: list[str]) -> int:
    """Show it."""
    options = parser("state", "Who leads, and what the store holds. Every master is asked for itself; no leader is needed.")
    options.add_argument("--leader-pid", default="", metavar="CLUSTER.JSON", help="of a `sparkd up`: print the leader's PID, nothing else")
    options.add_argument("--store", action="store_true", help="read the store itself, with the master's configuration of this host")
    options.add_argument("--properties-file", default="", metavar="FILE", help="with --store: instead of spark-defaults.conf")
    add_client(options)
    chosen = options.parse_args(argv)
    if chosen.leader_pid:
        print(_leader_pid(Path(chosen.leader_pid)))
        return 0
    if chosen.store:
        return _store(chosen.json, chosen.properties_file)
    client = client_of(chosen)
    found = client.each("/state")
    if chosen.json:
        print_json(
            {f"{host}:{port}": {"error": answer} if isinstance(answer, str) else answer.body for (host, port), answer in found.items()}
        )
    else:
        _show(found)
    return 0 if any(not isinstance(answer, str) and answer.status == 200 for answer in found.values()) else 1


def _show(found: Any) -> None:
    rows: list[tuple[object, ...]] = []
    leading = None
    for (host, port), answer in found.items():
        if isinstance(answer, str):
            rows.append((f"{host}:{port}", "no answer", "", "", answer))
            continue
        body = answer.body if isinstance(answer.body, dict) else {}
        if answer.status != 200:
            rows.append((f"{host}:{port}", f"HTTP {answer.status}", "", "", str(body.get("error", ""))))
            continue
        epoch, leader = body.get("epoch") or {}, body.get("leader") or {}
        coordination = body.get("coordination") or {}
        connected = coordination.get("connected")
        note = "" if connected is None else "store reached" if connected else "store not reached"
        rows.append((f"{host}:{port}", body.get("status"), epoch.get("number", ""), leader.get("url", "none known"), note))
        if body.get("status") == "ALIVE":
            leading = body
    print(table(("MASTER", "STATUS", "EPOCH", "LEADER", "NOTE"), rows))
    if leading is None:
        print("\nno master says ALIVE")
        return
    counts = leading.get("cluster") or {}
    print()
    for kind in ("workers", "drivers", "applications"):
        states = counts.get(kind) or {}
        print(f"{kind.ljust(13)}{', '.join(f'{number} {plain(state)}' for state, number in states.items()) or 'none'}")
    print(f"{'cores'.ljust(13)}{counts.get('cores_used', 0)} of {counts.get('cores', 0)} used")
    print(f"{'memory'.ljust(13)}{counts.get('memory_used_mb', 0)} of {counts.get('memory_mb', 0)} MiB used")
    for item in leading.get("set_aside") or []:
        print(plain(f"set aside: {item.get('kind')} {item.get('id')}: {item.get('why')} ({item.get('where')})"))


def _store(as_json: bool, properties_file: str) -> int:
    import os

    from ..config import load_recovery
    from ..coordination import inspect

    state = inspect.read(load_recovery(["--properties-file", properties_file] if properties_file else [], os.environ))
    print_json(state) if as_json else print(inspect.render(state))
    return 0
