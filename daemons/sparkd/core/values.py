"""Values that the core, the wire, the store and the faces share. All immutable, all plain JSON when written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Json = Any  #: str, int, float, bool, None, list and dict of those
Record = dict[str, Json]


@dataclass(frozen=True, slots=True)
class Now:
    """The time as the caller read it: the core has no clock.

    wall_ms: Unix time in ms, for ids and pages only. boot_s: CLOCK_BOOTTIME in s, for everything that is measured; it cannot jump.
    """

    wall_ms: int
    boot_s: float


@dataclass(frozen=True, slots=True)
class Epoch:
    """A term of leadership. Numbers are compared only within one cluster id."""

    cluster_id: str
    number: int


@dataclass(frozen=True, slots=True)
class ProcessRef:
    """One process on a worker. number: a driver's attempt (from 1) or an executor's id (from 0); owner: driver or application id."""

    kind: Literal["driver", "executor"]
    owner: str
    number: int

    def __str__(self) -> str:
        """Short form for logs and directories."""
        return f"{self.owner}/{self.number}"


@dataclass(frozen=True, slots=True)
class ProcessReport:
    """A process as its worker knows it.

    state: a DriverState or ExecutorState by name. seq: number of the journal entry that says so, 0 when it is no journal entry;
    a worker's numbers rise and are acknowledged by AckJournal. exit_code: None unless ended by itself; negative: signal.
    runs: how often supervise started it within this attempt. A driver may also be RELAUNCHING: its worker did not see its end (the host
    restarted) and cannot go on with it; a supervised one gets another attempt, another one is FAILED.
    """

    ref: ProcessRef
    state: str
    cores: int
    memory_mb: int
    seq: int = 0
    started_ms: int = 0
    ended_ms: int = 0
    exit_code: int | None = None
    message: str = ""
    runs: int = 1


@dataclass(frozen=True, slots=True)
class DriverDescription:
    """What a submission asks for. The core looks at name, cores, memory_mb and supervise only.

    kind "command": argv is run as it is. "jvm": main_class from the jar at `resource`, on Spark's class path. "python": the program
    at `resource` with Spark's Python libraries. resource: path or URL, fetched into the driver's directory; empty for none.
    """

    kind: Literal["command", "jvm", "python"]
    name: str = ""
    argv: tuple[str, ...] = ()
    resource: str = ""
    main_class: str = ""
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    java_options: tuple[str, ...] = ()
    class_path: tuple[str, ...] = ()
    library_path: tuple[str, ...] = ()
    cores: int = 1
    memory_mb: int = 1024
    supervise: bool = False


@dataclass(frozen=True, slots=True)
class ResourceProfile:
    """What one executor of a profile needs. cores None: all that a worker has free, one executor per worker and pass."""

    id: int = 0
    cores: int | None = None
    memory_mb: int = 1024


@dataclass(frozen=True, slots=True)
class ApplicationDescription:
    """What an application asks for. payload: bytes of the wire's own description, passed to workers untouched (base64 in records).

    max_cores None: spark.deploy.defaultCores. initial_executors None: no limit. spark_line: "4.3", empty for any.
    """

    name: str
    user: str = ""
    address: str = ""  # host:port of its driver; registrations are de-duplicated by it
    max_cores: int | None = None
    initial_executors: int | None = None
    profile: ResourceProfile = field(default_factory=ResourceProfile)
    web_ui: str = ""
    spark_line: str = ""
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What a worker says of itself when it registers."""

    id: str
    host: str
    port: int
    cores: int
    memory_mb: int
    web_ui: str = ""
    spark_lines: tuple[str, ...] = ()
    decommissioned: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """Keys of spark-standalone.md A1 that decide in the core; the names are Spark's. Times in s."""

    worker_timeout_s: float = 60.0
    dead_worker_persistence: int = 15
    spread_out_apps: bool = True
    spread_out_drivers: bool = True
    worker_selection: Literal["CORES_FREE_DESC", "CORES_FREE_ASC", "MEMORY_FREE_DESC", "MEMORY_FREE_ASC", "WORKER_ID"] = "CORES_FREE_DESC"
    default_cores: int | None = None  # None: unlimited (Int.MaxValue)
    max_drivers: int | None = None
    max_executor_retries: int = 10  # -1: never give up
    retained_applications: int = 200
    retained_drivers: int = 200
    driver_id_pattern: str = "driver-%s-%04d"
    app_id_pattern: str = "app-%s-%04d"
    app_number_modulo: int | None = None
    app_name_as_id: bool = False  # spark.deploy.master.useAppNameAsAppId.enabled
    driver_id_as_app_name: bool = False  # spark.deploy.master.useDriverIdAsAppName.enabled
