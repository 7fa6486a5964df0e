"""Settings of the daemons as typed values. `config.py` makes them from Spark's files, options and flags; nothing else reads those."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

from .core.values import Policy

Mode = Literal["NONE", "FILESYSTEM", "ZOOKEEPER", "CUSTOM"]


@dataclass(frozen=True, slots=True)
class RecoverySettings:
    """spark.deploy.recoveryMode and what belongs to it. Times in s."""

    mode: Mode = "NONE"
    directory: Path | None = None  # FILESYSTEM: spark.deploy.recoveryDirectory
    zookeeper_url: str = ""  # spark.deploy.zookeeper.url, chroot included
    zookeeper_dir: str = "/spark"  # spark.deploy.zookeeper.dir
    session_timeout_s: float = 4.0  # sparkd's own: spark.sparkd.zookeeper.sessionTimeout
    zookeeper_secret: str = field(default="", repr=False)  # digest ACLs when not empty: spark.sparkd.zookeeper.secretFile
    factory: str = ""  # CUSTOM: spark.deploy.recoveryMode.factory, module:attribute, called with these settings and state_dir
    state_dir: Path = Path("/var/lib/spark/sparkd")  # NONE: its locked epoch file; every mode: cluster id carried over
    latch_record: Path | None = None  # where the live process notes its session and latch, for `sparkd fence`


@dataclass(frozen=True, slots=True)
class RestSettings:
    """REST submissions (spark.master.rest.*) and sparkd's own API on the same port."""

    enabled: bool = True
    host: str = ""  # empty: the master's host
    port: int = 6066
    token_key: bytes = field(default=b"", repr=False)  # JWS HS256 key (JWSFilter's secretKey); empty: no tokens
    allowed: tuple[IPv4Network | IPv6Network, ...] = ()  # sources that need no token
    open_to_all: bool = False  # neither: explicit, for loopback trials only
    allowed_resources: tuple[str, ...] = ()  # spark.master.rest.allowedAppResourcePatterns, regular expressions
    max_body_bytes: int = 100 * 1024 * 1024
    max_connections: int = 200


@dataclass(frozen=True, slots=True)
class WebSettings:
    """The web UI of a daemon."""

    host: str = "0.0.0.0"  # noqa: S104 as Spark: all interfaces, behind the site's own walls
    port: int = 8080
    public_host: str = ""  # SPARK_PUBLIC_DNS or the daemon's host: what links are made of
    title: str = ""
    kill_enabled: bool = True  # spark.ui.killEnabled
    decommission_allowed: Literal["DENY", "LOCAL", "ALLOW"] = "LOCAL"


@dataclass(frozen=True, slots=True)
class MasterSettings:
    """All that a master needs."""

    host: str
    port: int = 7077
    web: WebSettings = field(default_factory=WebSettings)
    rest: RestSettings = field(default_factory=RestSettings)
    recovery: RecoverySettings = field(default_factory=RecoverySettings)
    policy: Policy = field(default_factory=Policy)
    cluster_secret: bytes = field(default=b"", repr=False)  # masters and workers prove it to each other; required
    cluster_name: str = "spark"
    source: Mapping[str, str] = field(default_factory=dict, repr=False)  # key -> where it came from


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """All that a worker needs. Times in s, memory in MiB."""

    host: str
    masters: tuple[tuple[str, int], ...]
    port: int = 0
    web: WebSettings = field(default_factory=lambda: WebSettings(port=8081))
    cores: int = 1
    memory_mb: int = 1024
    work_dir: Path = Path("work")
    id_pattern: str = "worker-%s-%s-%d"
    cluster_secret: bytes = field(default=b"", repr=False)
    spark_home: Path | None = None
    java_home: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)  # SPARK_* of spark-env.sh that processes inherit
    heartbeat_s: float = 15.0  # a quarter of spark.worker.timeout
    worker_timeout_s: float = 60.0
    driver_terminate_timeout_s: float = 10.0
    retained_executors: int = 1000
    retained_drivers: int = 1000
    cleanup_enabled: bool = True
    cleanup_interval_s: float = 1800.0
    cleanup_ttl_s: float = 7 * 24 * 3600.0
    decommission_signal: str = "PWR"
    log_max_bytes: int = 16 * 1024 * 1024  # stdout and stderr of a process are rotated at this size
    log_keep: int = 4
    source: Mapping[str, str] = field(default_factory=dict, repr=False)
