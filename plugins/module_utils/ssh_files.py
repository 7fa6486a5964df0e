"""The project's blocks in authorized_keys, known_hosts and ssh's config. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible.module_utils.marked_block import join, split


@dataclass(frozen=True)
class Peer:
    """A host of the cluster as the others log in to it.

    ``key`` (the cluster user's public key there) and ``host_keys`` (``type base64``) are empty when this run does not know them,
    as for a host that --limit leaves out: its lines of an earlier run then stay.
    """

    host: str
    names: tuple[str, ...]
    port: int
    key: str
    host_keys: tuple[str, ...]


def authorized_keys(text: str, peers: Sequence[Peer]) -> str:
    """Return authorized_keys with one line per peer in the block; lines outside belong to the user and stay.

    The block is exclusive: the key of a host that has left the cluster goes.
    """
    outside, block = split(text)
    kept = {_tag(line): line for line in block if _tag(line)}
    lines = []
    for peer in peers:
        if peer.key:
            kind, blob = peer.key.split()[:2]
            lines.append(f"{kind} {blob} spark-ha:{peer.host}")
        elif peer.host in kept:
            lines.append(kept[peer.host])
    return str(join(outside, lines))


def known_hosts(text: str, peers: Sequence[Peer], me: str) -> str:
    """Return known_hosts with every peer's host keys in the block, the host's own for localhost too.

    Lines outside the block stay, except those for a name in the block: with a stale key of the same name ssh would refuse the host.
    """
    outside, block = split(text)
    kept: dict[str, list[str]] = {}
    for line in block:
        kept.setdefault(_tag(line), []).append(line)
    lines: list[str] = []
    taken: set[str] = set()
    for peer in peers:
        if not peer.host_keys:
            lines += kept.get(peer.host, [])
            continue
        names = [*peer.names, *(("localhost", "127.0.0.1", "::1") if peer.host == me else ())]
        entries = [name if peer.port == 22 else f"[{name}]:{peer.port}" for name in dict.fromkeys(names)]
        taken.update(entries)
        lines += [f"{','.join(entries)} {key} spark-ha:{peer.host}" for key in peer.host_keys]
    outside = [line for line in outside if line.startswith("#") or not taken & set((line.split() or [""])[0].split(","))]
    return str(join(outside, lines))


def client_config(text: str, peers: Sequence[Peer]) -> str:
    """Return ssh's config with the ports of peers whose sshd does not listen on 22."""
    outside, _ = split(text)
    lines = [line for peer in peers if peer.port != 22 for line in (f"Host {' '.join(peer.names)}", f"  Port {peer.port}")]
    return str(join(outside, lines))


def _tag(line: str) -> str:
    """Return the host that a line of the block belongs to."""
    last = line.rpartition(" ")[2]
    return last.removeprefix("spark-ha:") if last.startswith("spark-ha:") else ""


def explain(output: str, code: int | None) -> tuple[str, str]:
    """Return (reason, fix) for what the ssh client said; ``code`` None is a time-out."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    low = output.lower()
    last = lines[-1] if lines else f"ssh ended with {code}"
    if code is None:
        return "no answer in time", "see that the network and any firewall between the hosts let ssh through."
    table: Mapping[str, str] = {
        "host key verification failed": "the host's key is not the one in known_hosts: was it installed anew? Run site.yml for all hosts.",
        "identification has changed": "the host's key is not the one in known_hosts: was it installed anew? Run site.yml for all hosts.",
        "permission denied": "see that the home directory is not writable by others, and AllowUsers in its sshd_config.",
        "could not resolve": "let role names write /etc/hosts (names_manage_etc_hosts: true), or correct the DNS.",
        "connection refused": "sshd does not listen there: set ssh_trust_port to the port it listens on.",
        "no route to host": "see that the network and any firewall between the hosts let ssh through.",
        "timed out": "see that the network and any firewall between the hosts let ssh through.",
        "account is not available": "the cluster user needs a login shell.",
        "nologin": "another user than root may not log in now: is /run/nologin or /etc/nologin there?",
    }
    return last, next((fix for word, fix in table.items() if word in low), "try the same login by hand with ssh -v.")
