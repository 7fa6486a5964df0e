"""What must hold whatever happens: watched at every step, at every transaction, and at the end."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sim_nodes import Sim

from sparkd.coordination.store import Put
from sparkd.core.states import DriverState
from sparkd.core.values import Epoch, ProcessRef
from sparkd.processes.files import State
from sparkd.rpc import messages as msg
from sparkd.worker import Worker

QUEUED = {"SUBMITTED", "RELAUNCHING"}
#: What a record does not say, because it is the usual.
UNSAID = {"state": "SUBMITTED", "attempt": 1, "request_id": "", "worker_id": "", "message": ""}


def final(state: str) -> bool:
    return DriverState(state).final


@dataclass
class Request:
    """A submission as its client knows it."""

    name: str
    request_id: str
    supervise: bool
    driver_id: str = ""  # acknowledged
    open: bool = True  # the client still wants it
    refused: bool = False  # told that it is surely not done, and gave up
    kill_acknowledged: bool = False


@dataclass
class Checks:
    """The store's history, as its transactions tell it."""

    sim: Sim
    requests: dict[str, Request] = field(default_factory=dict)
    drivers: dict[str, dict[str, Any]] = field(default_factory=dict)  # id -> its record
    names: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    states: dict[str, State] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    transactions: int = 0

    def watch(self) -> None:
        """Be called from now on."""
        self.sim.world.after_step = self.step
        self.sim.ensemble.applied = self.applied
        real, checks = Worker._command, self

        async def command(worker: Worker, link: Any, message: Any) -> None:
            checks.command(worker, message)
            await real(worker, link, message)

        self.patched_command = command

    # --- every step

    def step(self) -> None:
        sim = self.sim
        if sum(node.master is not None and node.master._term is not None for node in sim.masters) > 1:
            alive = sim.alive()
            if len(alive) > 1:
                sim.world.fail(f"two masters are ALIVE: {', '.join(node.name for node in alive)}")
        for host in sim.hosts:
            state = host.worker._state if host.worker is not None else None
            if state is None or state is self.states.get(host.name) or not state.worker_id:
                continue
            self.states[host.name] = state
            if state.epoch is not None:
                if state.epoch.number < self.epochs.get(host.name, 0):
                    sim.world.fail(f"{host.name} went back from epoch {self.epochs[host.name]} to {state.epoch.number}")
                self.epochs[host.name] = state.epoch.number

    # --- what workers are told

    def command(self, worker: Worker, message: Any) -> None:
        """A worker obeys: is it in the store already?"""
        fail = self.sim.world.fail
        if isinstance(message, msg.LaunchDriver):
            record = self.drivers.get(message.ref.owner)
            stored = record is not None and (record["attempt"] > message.ref.number or record["state"] not in QUEUED)
            if not stored:
                fail(f"launched before it was stored: {message.ref}, {record}")
        elif isinstance(message, msg.Ack | msg.Accepted):
            upto = message.seq if isinstance(message, msg.Ack) else message.acknowledged
            for entry in worker._journal.unacknowledged():
                record = self.drivers.get(entry.ref.owner)
                if entry.seq > upto or record is None or not final(entry.state.replace("RELAUNCHING", "FAILED")):
                    continue
                there = record["attempt"] == entry.ref.number and record.get("worker_id") == worker.worker_id()
                if there and record["state"] in ("RUNNING", "UNKNOWN"):
                    fail(f"acknowledged before it was stored: {entry}, {record}")

    # --- every transaction

    def applied(self, puts: Sequence[Put], epoch: Epoch) -> None:
        self.transactions += 1
        changed: list[tuple[dict[str, Any] | None, dict[str, Any]]] = []
        before = dict(self.drivers)
        for put in puts:
            if put.key[0] != "driver" or put.raw is None:
                continue
            record = {**UNSAID, **json.loads(put.raw.split(b"\n")[1])}
            changed.append((self.drivers.get(put.key[1]), record))
            self.drivers[put.key[1]] = record
        for old, new in changed:
            self._driver(old, new)
        self._order(before, changed)

    def _driver(self, old: dict[str, Any] | None, new: dict[str, Any]) -> None:
        world, name = self.sim.world, new["description"]["name"]
        self.names[name].add(new["id"])
        if len(self.names[name]) > 1:
            world.fail(f"{name} was submitted twice: {sorted(self.names[name])}")
        if old is None:
            world.note(f"stored {new['id']} {name} {new['state']}")
            if any(new["number"] == other["number"] for other in self.drivers.values() if other is not new):
                world.fail(f"a number twice: {new}")
            return
        if old["state"] != new["state"]:
            world.note(f"stored {new['id']} {old['state']} -> {new['state']} attempt {new['attempt']} {new.get('worker_id', '')}")
        if final(old["state"]) and {**old, "message": ""} != {**new, "message": ""}:
            world.fail(f"changed after its end: {old} -> {new}")
        if new["attempt"] < old["attempt"] and new["state"] != "FINISHED":
            world.fail(f"an attempt back: {old} -> {new}")
        if (old["number"], old["submitted_ms"], old["request_id"]) != (new["number"], new["submitted_ms"], new["request_id"]):
            world.fail(f"not the same submission any more: {old} -> {new}")

    def _order(self, before: dict[str, dict[str, Any]], changed: Sequence[tuple[dict[str, Any] | None, dict[str, Any]]]) -> None:
        """First come, first served, among submissions of one shape."""
        for old, new in changed:
            if new["state"] != "RUNNING" or (old is not None and old["state"] not in QUEUED):
                continue
            for other_id, was in before.items():
                other = self.drivers[other_id]
                waits = was["state"] in QUEUED and other["state"] in QUEUED and was["attempt"] == other["attempt"]
                if waits and other["number"] < new["number"] and shape(other) == shape(new):
                    self.sim.world.fail(f"{new['id']} was served before {other_id}")

    # --- the end

    def settled(self) -> bool:
        """Everybody has an answer, and everything is over."""
        return all(final(record["state"]) for record in self.drivers.values()) and not any(
            request.open for request in self.requests.values()
        )

    def end(self) -> None:
        fail = self.sim.world.fail
        for request in self.requests.values():
            ids = self.names.get(request.name, set())
            if request.refused and ids:
                fail(f"{request.name} was refused for good, and is stored as {ids}")
            if request.driver_id and ids != {request.driver_id}:
                fail(f"{request.name} was acknowledged as {request.driver_id}, and is stored as {ids}")
            if request.driver_id and not final(self.drivers[request.driver_id]["state"]):
                fail(f"{request.name} was acknowledged and never ends: {self.drivers[request.driver_id]}")
            if request.open:
                fail(f"{request.name} never has an answer")
        acknowledged = [request.driver_id for request in self.requests.values() if request.driver_id]
        if len(set(acknowledged)) != len(acknowledged):
            fail(f"an id twice: {sorted(acknowledged)}")
        self._runs()

    def _runs(self) -> None:
        fail = self.sim.world.fail
        places: dict[ProcessRef, set[str]] = defaultdict(set)
        total: Counter[str] = Counter()
        for (ref, run), hosts in self.sim.starts.items():
            places[ref] |= set(hosts)
            total[ref.owner] += len(hosts)
            if len(hosts) > 1:
                fail(f"{ref} run {run} was started {len(hosts)} times, on {hosts}")
        for ref, hosts_of in places.items():
            if len(hosts_of) > 1:
                fail(f"{ref} ran on {sorted(hosts_of)}")
        for running in (running for host in self.sim.hosts for running in host.runs.values() if running.state == "runs"):
            fail(f"{running.ref} still runs on {running.host.name}, and its driver is over")
        ended_well = {running.ref for host in self.sim.hosts for running in host.runs.values() if running.exit.code == 0}
        for driver_id, record in self.drivers.items():
            supervised = record["description"].get("supervise", False)
            if not supervised and total[driver_id] > 1:
                fail(f"{driver_id} is not supervised and was started {total[driver_id]} times")
            if record["state"] == "FINISHED" and not any(ref.owner == driver_id for ref in ended_well):
                fail(f"{driver_id} is FINISHED and never ended well")
        for ref in places:
            if ref.owner not in self.drivers:
                fail(f"{ref} ran and is not in the store")


def shape(record: dict[str, Any]) -> tuple[int, int]:
    return record["description"].get("cores", 1), record["description"].get("memory_mb", 1024)
