"""The latchkeeper's configuration file, written by the role spark_master."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

DEFAULT_PATH = "/etc/spark/latchkeeper.json"
SIZE_LIMIT = 1024 * 1024


class ConfigError(Exception):
    """The file is missing, not JSON, or a value in it is of another kind; the text names it."""


@dataclass(frozen=True)
class Config:
    """Where things are and how long they may take; times in seconds."""

    recovery_mode: str
    page: str  # host:port of this host's master's page
    zookeeper: str = ""  # connect string, chroot included
    zookeeper_dir: str = "/spark"
    masters: tuple[str, ...] = ()  # host:port of every master's page
    pid_file: str = "/run/spark-master/pid"  # written by the unit as the process starts
    record: str = "/run/spark-latchkeeper/master.json"
    fence_delay_s: float = 2.0
    fence_timeout_s: float = 6.0
    handover_timeout_s: float = 8.0
    stop_timeout_s: float = 10.0

    @property
    def elects(self) -> bool:
        """Masters elect through ZooKeeper. The other modes elect each master by itself (MonarchyLeaderAgent)."""
        return self.recovery_mode == "ZOOKEEPER"

    @property
    def others(self) -> tuple[str, ...]:
        """The pages of the other masters."""
        return tuple(endpoint for endpoint in self.masters if endpoint != self.page)


def parse(raw: bytes) -> Config:
    """Return the configuration; raise ConfigError. Unknown keys are refused: they would be silently without effect."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError("not a JSON object")
    known = {field.name: field.type for field in fields(Config)}
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise ConfigError(f"unknown key {unknown[0]!r}; known are {', '.join(known)}")
    checked: dict[str, Any] = {}
    for name, given in value.items():
        if known[name] == "float":
            if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= 3600:
                raise ConfigError(f"{name}={given!r} is not a number of seconds from 0 to 3600")
            checked[name] = float(given)
        elif name == "masters":
            if not isinstance(given, list) or not all(isinstance(entry, str) for entry in given):
                raise ConfigError(f"{name}={given!r} is not a list of host:port")
            checked[name] = tuple(given)
        elif not isinstance(given, str):
            raise ConfigError(f"{name}={given!r} is not a string")
        else:
            checked[name] = given
    try:
        config = Config(**checked)
    except TypeError as error:
        raise ConfigError(f"a key is missing: {error}") from None
    if config.elects and not config.zookeeper:
        raise ConfigError("recovery_mode=ZOOKEEPER needs the connect string in zookeeper")
    if config.zookeeper:
        servers(config.zookeeper)
    return config


def load(path: str = DEFAULT_PATH) -> Config:
    """Read and parse the file; raise ConfigError, which names it."""
    try:
        with Path(path).open("rb") as file:
            return parse(file.read(SIZE_LIMIT))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def servers(connect: str) -> tuple[tuple[str, int], ...]:
    """Return host and client port of each server of a connect string; the chroot is dropped, 2181 the default port."""
    result = []
    for part in connect.partition("/")[0].split(","):
        host, colon, port = part.strip().rpartition(":")
        if not colon or port.endswith("]"):
            host, port = part.strip(), "2181"
        if not host or not port.isascii() or not port.isdigit():
            raise ConfigError(f"zookeeper={connect!r}: {part!r} is not host:port")
        result.append((host.strip("[]"), int(port)))
    return tuple(result)
