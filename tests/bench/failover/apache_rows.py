"""What is measured of Apache's daemons. Each function returns seconds (or what its name says), one value per run."""

from __future__ import annotations

import concurrent.futures
import signal
import time
from pathlib import Path

from apache import NEVER_FITS, Apache, create, driver_state
from ensemble import Ensemble, Server


def rss_mb(pid: int) -> float:
    """Resident memory of a process in MB (VmRSS)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def kill_fenced(apache: Apache) -> float:
    """SIGKILL of the leader; its latch removed 2 s later, as spark-ha's unit does."""
    leader, _ = apache.settle()
    began = time.monotonic()
    leader.end()
    apache.fence()
    return apache.until_submission(began)


def kill(apache: Apache) -> float:
    """SIGKILL of the leader, as Spark comes: the session expires."""
    leader, _ = apache.settle()
    began = time.monotonic()
    leader.end()
    return apache.until_submission(began)


def term(apache: Apache) -> float:
    """SIGTERM of the leader: what stop-master.sh does."""
    leader, _ = apache.settle()
    began = time.monotonic()
    leader.send(signal.SIGTERM)
    value = until_other(apache, leader, began)
    leader.end()
    return value


def freeze(apache: Apache) -> float:
    """Stop the leader from saying anything, as a host that went silent: SIGSTOP, and never a word again."""
    leader, _ = apache.settle()
    began = time.monotonic()
    leader.send(signal.SIGSTOP)
    value = until_other(apache, leader, began)
    leader.end()
    return value


def until_other(apache: Apache, gone: object, since: float, timeout_s: float = 240.0) -> float:
    """Seconds until another master than the one that is gone takes a submission."""
    others = [master for master in apache.masters if master is not gone]
    while time.monotonic() - since < timeout_s:
        if any(create(master.rest_port, {"spark.driver.memory": NEVER_FITS}) for master in others):
            return time.monotonic() - since
        time.sleep(0.02)
    return float("inf")


def leader_and_worker(apache: Apache) -> float:
    """SIGKILL of the leader and of a worker at once, as Spark comes."""
    leader, _ = apache.settle()
    began = time.monotonic()
    apache.workers[0].end()
    leader.end()
    return apache.until_submission(began)


def servers_of(apache: Apache, ensemble: Ensemble) -> Server:
    """The ZooKeeper server that the leader's latch session talks to."""
    from latchkeeper import fourletter

    session = apache.latches()[0][0]
    for server in ensemble.servers:
        connections = fourletter.cons("127.0.0.1", server.client_port, 2.0)
        if any(connection.sid == session for connection in connections):
            return server
    return ensemble.leader()


def lose_server(apache: Apache, ensemble: Ensemble, how: str) -> tuple[float, bool]:
    """Kill, or stop from answering, the ZooKeeper server of the leader's latch client. Returns (seconds without a leader, it exited)."""
    leader, _ = apache.settle()
    server = servers_of(apache, ensemble)
    began = time.monotonic()
    server.kill() if how == "kill" else server.pause()
    try:
        last, worst = began, 0.0
        while time.monotonic() - began < 90.0:
            if apache.leader() is not None:
                worst = max(worst, time.monotonic() - last)
                last = time.monotonic()
                if worst > 5.0 or (leader.running and time.monotonic() - began > 12.0):
                    break
            time.sleep(0.05)
        else:
            worst = max(worst, time.monotonic() - last)
    finally:
        server.start() if how == "kill" else server.resume()
        ensemble.wait_for_quorum(members=len(ensemble.servers))
    return worst, not leader.running


def quorum_lost(apache: Apache, ensemble: Ensemble, seconds: float = 30.0) -> tuple[float, bool]:
    """Two of three servers away for a while. Returns (seconds from an independent client's first write to a leader, it exited)."""
    leader, _ = apache.settle()
    for server in ensemble.servers[:2]:
        server.kill()
    time.sleep(seconds)
    for server in ensemble.servers[:2]:
        server.start()
    first_write(ensemble.connect)
    began = time.monotonic()
    exited = not leader.running
    for master in apache.masters:
        if not master.running:
            master.start()  # as its unit does
    while apache.leader() is None and time.monotonic() - began < 240.0:
        time.sleep(0.05)
    return time.monotonic() - began, exited


def first_write(connect: str) -> None:
    """Return when an independent client's first write has succeeded."""
    from kazoo.client import KazooClient
    from kazoo.exceptions import KazooException
    from kazoo.handlers.threading import KazooTimeoutError

    end = time.monotonic() + 120
    while time.monotonic() < end:
        client = KazooClient(connect, timeout=4.0)
        try:
            client.start(2)
            client.create("/bench-", b"", sequence=True, ephemeral=True)
        except (KazooException, KazooTimeoutError):
            time.sleep(0.05)
        else:
            return
        finally:
            client.stop()
            client.close()
    raise TimeoutError("the ensemble takes no write")


def queued_through_failover(apache: Apache, count: int = 10) -> tuple[int, int]:
    """Queue drivers, kill the leader (fenced): how many are still queued under their id, of how many."""
    leader, standby = apache.settle()
    ids = [create(leader.rest_port, {"spark.driver.memory": NEVER_FITS}) for _ in range(count)]
    leader.end()
    apache.fence()
    apache.until_submission(time.monotonic())
    kept = sum(driver_state(standby.rest_port, driver) == "SUBMITTED" for driver in ids if driver)
    return kept, count


def submissions(apache: Apache, clients: int, count: int) -> float:
    """Durable submissions per second, so many clients at once."""
    leader, _ = apache.settle()

    def one(_: int) -> bool:
        return create(leader.rest_port, {"spark.driver.memory": NEVER_FITS}) is not None

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        taken = sum(pool.map(one, range(count)))
    return taken / (time.monotonic() - began)


def start_time(apache: Apache) -> float:
    """From exec of a Master to its first page: the standby, killed and started."""
    _, standby = apache.settle()
    standby.end()
    began = time.monotonic()
    standby.start()
    while apache.status(standby) == "down":
        time.sleep(0.02)
    return time.monotonic() - began
