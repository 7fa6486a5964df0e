"""From Spark's flags, options, environment and files to typed settings. The only reader of those.

What counts first: flags; SPARK_MASTER_OPTS or SPARK_WORKER_OPTS; SPARK_DAEMON_JAVA_OPTS; the environment, spark-env.sh included;
spark-defaults.conf or --properties-file; the default. A mistake stops the start: every problem is found and told, one line each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import config_files as files
from . import config_values as v
from .config_keys import JWS_FILTER, JWS_KEY, Role
from .config_sources import ConfigError, Found, Setting, gather, problem, property_file
from .core.values import Policy
from .settings import MasterSettings, Mode, RecoverySettings, RestSettings, WebSettings, WorkerSettings

#: What proves nothing: between daemons on loopback that were given no secret.
LOOPBACK_SECRET = b"loopback, without a secret"


def is_loopback(host: str) -> bool:
    """A host name or address that only this host reaches."""
    import ipaddress

    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _cluster_secret(found: Found, hosts: Sequence[str]) -> bytes:
    path, plain = found.value("spark.sparkd.secretFile"), found.value("SPARKD_SECRET")
    if path:
        try:
            return files.secret(Path(path))
        except files.FileProblem as error:
            found.wrong("spark.sparkd.secretFile", str(error))
            return b""
    if plain:
        return str(plain).encode()
    if all(is_loopback(host) for host in hosts):
        return LOOPBACK_SECRET
    beyond = next(host for host in hosts if not is_loopback(host))
    found.wrong(
        "spark.sparkd.secretFile",
        f"required, since {beyond} is no loopback address: the same secret for all masters and workers. "
        "Make one: (umask 077; openssl rand -base64 32 > FILE)",
    )
    return b""


def _networks(found: Found, key: bytes) -> tuple[Any, ...]:
    import ipaddress

    name = "spark.sparkd.rest.allowed"
    texts = found.value(name) or ()
    if not found.given(name) and not key:
        texts = ("127.0.0.0/8", "::1/128")
    networks = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            found.wrong(name, f"not valid; allowed: networks separated by commas, as in 192.168.7.0/24,10.0.0.5; {text!r} is none")
    return tuple(networks)


def _recovery(found: Found) -> RecoverySettings:
    mode: Mode = found.value("spark.deploy.recoveryMode") or "NONE"
    state_dir = Path(found.value("spark.sparkd.stateDir") or ".")
    needed = {
        "FILESYSTEM": ("spark.deploy.recoveryDirectory", "a directory"),
        "ZOOKEEPER": ("spark.deploy.zookeeper.url", "host:port of each server, as in z1:2181,z2:2181,z3:2181"),
        "CUSTOM": ("spark.deploy.recoveryMode.factory", "a Python factory as module:attribute"),
    }
    if mode in needed and not found.value(needed[mode][0]):
        found.wrong(needed[mode][0], f"required by spark.deploy.recoveryMode {mode}: {needed[mode][1]}")
    url, node = found.value("spark.deploy.zookeeper.url") or "", found.value("spark.deploy.zookeeper.dir") or "/spark"
    servers, slash, chroot = url.partition("/")
    if url and (not all(v.endpoint(item.strip(), 2181) for item in servers.split(",")) or (slash and not chroot)):
        found.wrong(
            "spark.deploy.zookeeper.url",
            "not valid; allowed: host:port of each server, with commas, and perhaps a chroot: z1:2181,z2:2181/spark",
        )
    if not re.fullmatch(r"(/[A-Za-z0-9_.-]+)+", node) or {".", ".."} & set(node.split("/")):
        found.wrong("spark.deploy.zookeeper.dir", "not valid; allowed: a path like /spark")
    factory = found.value("spark.deploy.recoveryMode.factory") or ""
    if mode == "CUSTOM" and factory and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", factory):
        found.wrong(
            "spark.deploy.recoveryMode.factory", "not valid; allowed: a Python factory as module:attribute (Java classes cannot be loaded)"
        )
    secret = ""
    if found.value("spark.sparkd.zookeeper.secretFile"):
        try:
            secret = files.secret(Path(found.value("spark.sparkd.zookeeper.secretFile"))).decode("utf-8", "strict")
        except (files.FileProblem, UnicodeDecodeError) as error:
            found.wrong("spark.sparkd.zookeeper.secretFile", str(error))
    directory, record = found.value("spark.deploy.recoveryDirectory"), found.value("spark.sparkd.latchRecord")
    return RecoverySettings(
        mode=mode,
        directory=Path(directory) if directory else None,
        zookeeper_url=url,
        zookeeper_dir=node,
        session_timeout_s=found.value("spark.sparkd.zookeeper.sessionTimeout") or 4.0,
        zookeeper_secret=secret,
        factory=factory,
        state_dir=state_dir,
        latch_record=Path(record) if record else state_dir / "latch.json",
    )


def _rest(found: Found, host: str) -> RestSettings:
    filters = found.value("spark.master.rest.filters") or ()
    key: bytes = found.value(JWS_KEY) or b""
    if any(name != JWS_FILTER for name in filters):
        found.wrong("spark.master.rest.filters", f"only {JWS_FILTER} is known; other filters are Java classes")
    elif filters and not key and not found.given(JWS_KEY):
        found.wrong("spark.master.rest.filters", f"needs {JWS_KEY}, a key of 32 bytes or more in Base64URL")
    return RestSettings(
        enabled=bool(found.value("spark.master.rest.enabled")),
        host=found.value("spark.master.rest.host") or host,
        port=found.value("spark.master.rest.port") or 0,
        token_key=key,
        allowed=_networks(found, key),
        open_to_all=bool(found.value("spark.sparkd.rest.openToAll")),
        allowed_resources=found.value("spark.master.rest.allowedAppResourcePatterns") or (),
        max_body_bytes=found.value("spark.master.rest.maxRequestBodySize") or 0,
        max_connections=found.value("spark.master.rest.maxThreads") or 200,
    )


def _unbounded(number: int | None) -> int | None:
    return None if number is None or number >= v.INT_MAX else number


def _policy(found: Found) -> Policy:
    return Policy(
        worker_timeout_s=found.value("spark.worker.timeout"),
        dead_worker_persistence=found.value("spark.dead.worker.persistence"),
        spread_out_apps=found.value("spark.deploy.spreadOutApps"),
        spread_out_drivers=found.value("spark.deploy.spreadOutDrivers"),
        worker_selection=found.value("spark.deploy.workerSelectionPolicy"),
        default_cores=_unbounded(found.value("spark.deploy.defaultCores")),
        max_drivers=_unbounded(found.value("spark.deploy.maxDrivers")),
        max_executor_retries=found.value("spark.deploy.maxExecutorRetries"),
        retained_applications=found.value("spark.deploy.retainedApplications"),
        retained_drivers=found.value("spark.deploy.retainedDrivers"),
        driver_id_pattern=found.value("spark.deploy.driverIdPattern"),
        app_id_pattern=found.value("spark.deploy.appIdPattern"),
        app_number_modulo=found.value("spark.deploy.appNumberModulo"),
        app_name_as_id=found.value("spark.master.useAppNameAsAppId.enabled"),
    )


def _web_host(host: str) -> str:
    """Pages of a daemon on loopback are for loopback; otherwise on all interfaces, as Spark's."""
    return host if is_loopback(host) else WebSettings().host


def master_settings(found: Found) -> MasterSettings:
    """Make a master's settings. Raises ConfigError."""
    from socket import getfqdn

    host = found.value("SPARK_MASTER_HOST") or getfqdn()
    rest = _rest(found, host)
    recovery = _recovery(found)
    secret = _cluster_secret(found, [host])
    ports = {"SPARK_MASTER_PORT": found.value("SPARK_MASTER_PORT"), "spark.master.ui.port": found.value("spark.master.ui.port")}
    if rest.enabled:
        ports["spark.master.rest.port"] = rest.port
    for first, number in ports.items():
        for second in list(ports)[list(ports).index(first) + 1 :]:
            if number and number == ports[second]:
                found.wrong(second, f"{first} is {number} as well: each needs a port of its own")
    found.check()
    return MasterSettings(
        host=host,
        port=ports["SPARK_MASTER_PORT"],
        web=WebSettings(
            host=_web_host(host),
            port=ports["spark.master.ui.port"],
            public_host=found.value("SPARK_PUBLIC_DNS") or host,
            title=found.value("spark.master.ui.title") or "",
            kill_enabled=found.value("spark.ui.killEnabled"),
            decommission_allowed=found.value("spark.master.ui.decommission.allow.mode"),
        ),
        rest=rest,
        recovery=recovery,
        policy=_policy(found),
        cluster_secret=secret,
        cluster_name=found.value("spark.sparkd.clusterName"),
        source=found.sources(),
    )


def offered_cores() -> int:
    """Return the processors that this process may use."""
    import os

    return len(os.sched_getaffinity(0))


def offered_memory_mb(proc: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup/memory.max")) -> int:
    """Return the memory in MiB less 1 GiB, at least 512 (WorkerArguments.inferDefaultMemory); a container's limit counts."""
    total = 0
    for text in proc.read_text().splitlines():
        if text.startswith("MemTotal:"):
            total = int(text.split()[1]) // 1024
    try:
        limit = cgroup.read_text().strip()
    except OSError:
        limit = "max"
    if limit.isdigit():
        total = min(total, int(limit) >> 20)
    return max(total - 1024, 512)


def _worker_host(found: Found, masters: Sequence[tuple[str, int]]) -> str:
    """Return what the worker is called by when nobody says: its address towards the first master."""
    named = found.environ.get("SPARK_LOCAL_HOSTNAME") or found.environ.get("SPARK_LOCAL_IP")
    if named:
        return named
    import socket

    try:
        family, kind, protocol, _, address = socket.getaddrinfo(*masters[0], type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:  # nothing is sent
            probe.connect(address)
            return str(probe.getsockname()[0])
    except (OSError, IndexError):
        return socket.getfqdn()


def _masters(found: Found) -> tuple[tuple[str, int], ...]:
    """Return the masters: from the argument, or from spark.master of spark-defaults.conf."""
    words, source = found.arguments, "argument"
    if not words:
        try:
            defaults, source = property_file("", found.environ)
        except files.FileProblem:
            defaults = {}
        words = [defaults["spark.master"]] if defaults.get("spark.master", "").startswith("spark://") else []
    if len(words) != 1:
        found.problems.append("masters: give one argument, spark://host:port, more of them after commas: spark://h1:7077,h2:7077")
        return ()
    try:
        return v.master_url(words[0])
    except ValueError as error:
        found.problems.append(problem("masters", words[0], source, f"not valid; allowed: {error}"))
        return ()


def worker_settings(found: Found) -> WorkerSettings:
    """Make a worker's settings. Raises ConfigError."""
    masters = _masters(found)
    host = found.value("SPARK_WORKER_HOST") or (_worker_host(found, masters) if masters else "localhost")
    secret = _cluster_secret(found, [host, *(name for name, _ in masters)])
    found.check()
    home, java = found.value("SPARK_HOME"), found.value("JAVA_HOME")
    work = found.value("SPARK_WORKER_DIR")
    timeout = found.value("spark.worker.timeout")
    return WorkerSettings(
        host=host,
        masters=masters,
        port=found.value("SPARK_WORKER_PORT"),
        web=WebSettings(
            host=_web_host(host),
            port=found.value("spark.worker.ui.port"),
            public_host=found.value("SPARK_PUBLIC_DNS") or host,
        ),
        cores=found.value("SPARK_WORKER_CORES") or offered_cores(),
        memory_mb=found.value("SPARK_WORKER_MEMORY") or offered_memory_mb(),
        work_dir=Path(work).absolute() if work else (Path(home) / "work" if home else Path("work").absolute()),
        id_pattern=found.value("spark.worker.idPattern"),
        cluster_secret=secret,
        spark_home=Path(home) if home else None,
        java_home=Path(java) if java else None,
        environment=inherited(found.environ),
        heartbeat_s=timeout / 4,
        worker_timeout_s=timeout,
        driver_terminate_timeout_s=found.value("spark.worker.driverTerminateTimeout"),
        retained_executors=found.value("spark.worker.ui.retainedExecutors"),
        retained_drivers=found.value("spark.worker.ui.retainedDrivers"),
        cleanup_enabled=found.value("spark.worker.cleanup.enabled"),
        cleanup_interval_s=found.value("spark.worker.cleanup.interval"),
        cleanup_ttl_s=found.value("spark.worker.cleanup.appDataTtl"),
        decommission_signal=found.value("spark.worker.decommission.signal"),
        log_max_bytes=found.value("spark.sparkd.log.maxBytes"),
        log_keep=found.value("spark.sparkd.log.keep"),
        source=found.sources(),
    )


_INHERITED = re.compile(r"SPARK_.*|PYSPARK_.*|HADOOP_.*|JAVA_HOME|SCALA_HOME|YARN_CONF_DIR|PYTHONPATH|LD_LIBRARY_PATH")
_NOT_INHERITED = re.compile(r"SPARK_(MASTER|WORKER|DAEMON)_.*|SPARK_ENV_LOADED|.*(SECRET|PASSWORD|TOKEN).*", re.IGNORECASE)


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what processes inherit of the environment: Spark's, Java's and Hadoop's variables; none of the daemons' own, no secret."""
    return {name: text for name, text in environ.items() if _INHERITED.fullmatch(name) and not _NOT_INHERITED.fullmatch(name)}


def load_master(argv: Sequence[str], environ: Mapping[str, str]) -> MasterSettings:
    """Return a master's settings. argv: flags without the command's name. Raises ConfigError."""
    return master_settings(gather("master", argv, environ))


def load_recovery(argv: Sequence[str], environ: Mapping[str, str]) -> RecoverySettings:
    """Return where a master on this host would store, for tools that need no more. Raises ConfigError."""
    found = gather("master", argv, environ)
    recovery = _recovery(found)
    found.check()
    return recovery


def load_worker(argv: Sequence[str], environ: Mapping[str, str]) -> WorkerSettings:
    """Return a worker's settings. argv: flags and the masters, without the command's name. Raises ConfigError."""
    return worker_settings(gather("worker", argv, environ))


def spark_master(environ: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    """Return the masters that spark.master of spark-defaults.conf names, for clients; none when it names none. Raises ConfigError."""
    try:
        defaults, source = property_file("", environ)
    except files.FileProblem as error:
        raise ConfigError([str(error)]) from None
    text = defaults.get("spark.master", "")
    try:
        return v.master_url(text) if text.startswith("spark://") else ()
    except ValueError as error:
        raise ConfigError([problem("spark.master", text, source, f"not valid; allowed: {error}")]) from None


__all__ = [
    "ConfigError",
    "Found",
    "Role",
    "Setting",
    "gather",
    "load_master",
    "load_recovery",
    "load_worker",
    "master_settings",
    "spark_master",
    "worker_settings",
]
