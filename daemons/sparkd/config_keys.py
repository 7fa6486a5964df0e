"""Every key of Spark's standalone mode, and sparkd's own: default, whether it is honoured, and why. docs/configuration.md is made of this.

Source: org.apache.spark.internal.config.{Deploy, Worker, UI, package}, MasterArguments, WorkerArguments of Spark 4.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from . import config_values as v

Role = Literal["master", "worker"]
State = Literal["honoured", "refused", "not applicable"]

#: A key with one of these beginnings that is not in the table stops the start: it is a mistake, and mistakes in these decide about work.
OURS = ("spark.deploy.", "spark.master.", "spark.worker.", "spark.sparkd.", "spark.dead.worker.")
JWS_FILTER = "org.apache.spark.ui.JWSFilter"
JWS_KEY = f"spark.{JWS_FILTER}.param.secretKey"


@dataclass(frozen=True, slots=True)
class Key:
    """One key. name: of a property, or of an environment variable where there is no property for it.

    default: as it would be written; `shown` instead when it is computed. env and flags: other ways to say it. old: earlier names.
    harmless: values of a refused key that ask for nothing. A name that ends in * stands for all that begin so.
    """

    name: str
    why: str
    default: str = ""
    parse: v.Parser = v.line
    roles: tuple[Role, ...] = ("master", "worker")
    state: State = "honoured"
    env: str = ""
    flags: tuple[str, ...] = ()
    old: tuple[str, ...] = ()
    harmless: tuple[str, ...] = ()
    shown: str = ""
    secret: bool = False

    @property
    def is_environment(self) -> bool:
        """It is a variable of the environment, not a property."""
        return not self.name.startswith("spark.")

    def names(self) -> tuple[str, ...]:
        """The names of properties it is read from, the present one first."""
        return () if self.is_environment else (self.name, *self.old)

    def variable(self) -> str:
        """The variable of the environment it is read from, or an empty string."""
        return self.name if self.is_environment else self.env


M: tuple[Role, ...] = ("master",)
W: tuple[Role, ...] = ("worker",)


def _idle(name: str, why: str, default: str = "", roles: tuple[Role, ...] = ("master", "worker")) -> Key:
    return Key(name, why, default, roles=roles, state="not applicable")


def _no(
    name: str, why: str, default: str = "", harmless: tuple[str, ...] = ("", "false"), roles: tuple[Role, ...] = ("master", "worker")
) -> Key:
    return Key(name, why, default, roles=roles, state="refused", harmless=harmless)


MASTER = (
    Key(
        "SPARK_MASTER_HOST",
        "what the master binds to and is called by",
        parse=v.host,
        roles=M,
        flags=("-h", "--host", "-i", "--ip"),
        shown="this host's name",
    ),
    Key("SPARK_MASTER_PORT", "workers and applications connect here", "7077", v.port, M, flags=("-p", "--port")),
    Key(
        "spark.master.ui.port",
        "web UI, /json/, health and metrics",
        "8080",
        v.port,
        M,
        env="SPARK_MASTER_WEBUI_PORT",
        flags=("--webui-port",),
    ),
    Key("spark.master.ui.title", "title of the web UI", roles=M),
    _idle("spark.master.ui.visibleEnvVarPrefixes", "no page shows any variable of an environment", roles=M),
    Key("spark.master.ui.decommission.allow.mode", "who may POST /workers/kill", "LOCAL", v.Choice(("DENY", "LOCAL", "ALLOW")), M),
    _idle("spark.master.ui.historyServerUrl", "the pages do not link to a history server", roles=M),
    Key("spark.ui.killEnabled", "kill buttons of the web UI", "true", v.boolean, M),
    Key("spark.master.rest.enabled", "REST submissions, and sparkd's own API on the same port", "true", v.boolean, M),
    Key("spark.master.rest.host", "what the REST server binds to", parse=v.host, roles=M, shown="SPARK_MASTER_HOST"),
    Key("spark.master.rest.port", "REST submissions", "6066", v.port, M),
    Key("spark.master.rest.maxThreads", "connections at a time: an asyncio server has no threads to count", "200", v.Whole(1, 100000), M),
    Key("spark.master.rest.filters", f"only {JWS_FILTER}: bearer tokens, JWS HS256", parse=v.words, roles=M),
    Key(JWS_KEY, "Base64URL key of the bearer tokens, 32 bytes or more", parse=v.token_key, roles=M, secret=True),
    _idle("spark.master.rest.virtualThread.enabled", "no threads", "true", M),
    Key(
        "spark.master.rest.allowedAppResourcePatterns",
        "regular expressions; a submission's jar or program must match one",
        parse=v.regexes,
        roles=M,
    ),
    Key("spark.master.rest.maxRequestBodySize", "larger requests are refused", "100m", v.size, M),
    Key("spark.master.useAppNameAsAppId.enabled", "an application's name is its id", "false", v.boolean, M),
    _no("spark.master.useDriverIdAsAppName.enabled", "names of applications are theirs", "false", roles=M),
)

RECOVERY = (
    Key(
        "spark.deploy.recoveryMode",
        "ROCKSDB is refused: use FILESYSTEM, or ZOOKEEPER for several hosts",
        "NONE",
        v.Choice(("NONE", "FILESYSTEM", "ZOOKEEPER", "CUSTOM")),
        M,
    ),
    Key("spark.deploy.recoveryMode.factory", "CUSTOM: a Python factory, module:attribute", roles=M),
    Key("spark.deploy.recoveryDirectory", "FILESYSTEM: where records are; required there; several masters share it", roles=M),
    Key("spark.deploy.zookeeper.url", "ZOOKEEPER: host:port of each server, and a chroot; required there", roles=M),
    Key("spark.deploy.zookeeper.dir", "ZOOKEEPER: below which node; not one that Apache's masters use", "/spark", roles=M),
    _idle(
        "spark.deploy.recoveryTimeout",
        "nothing waits for recovery as a whole: each worker, driver and application is confirmed on its own",
        roles=M,
    ),
    _idle("spark.deploy.recoveryCompressionCodec", "records are small JSON texts", roles=M),
    _idle("spark.deploy.recoverySerializationFilter", "records are JSON: nothing is deserialized as Java does", roles=M),
)

SCHEDULING = (
    Key(
        "spark.worker.timeout", "a worker that is silent for so long is DEAD; a worker's heartbeat is a quarter of it", "60", v.Seconds(1.0)
    ),
    Key("spark.dead.worker.persistence", "a dead worker stays listed for so many timeouts", "15", v.Whole(0), M),
    Key("spark.deploy.spreadOutApps", "over many workers rather than few", "true", v.boolean, M, old=("spark.deploy.spreadOut",)),
    Key("spark.deploy.spreadOutDrivers", "over many workers rather than few", "true", v.boolean, M),
    Key(
        "spark.deploy.workerSelectionPolicy",
        "which worker comes first",
        "CORES_FREE_DESC",
        v.Choice(("CORES_FREE_DESC", "CORES_FREE_ASC", "MEMORY_FREE_DESC", "MEMORY_FREE_ASC", "WORKER_ID")),
        M,
    ),
    Key("spark.deploy.defaultCores", "of an application that asks for none", str(v.INT_MAX), v.Whole(1), M, shown="no limit"),
    Key("spark.deploy.maxDrivers", "running at a time", str(v.INT_MAX), v.Whole(0), M, shown="no limit"),
    Key("spark.deploy.maxExecutorRetries", "failures in a row that end an application; -1: never", "10", v.Whole(-1), M),
    Key("spark.deploy.retainedApplications", "completed ones that are kept", "200", v.Whole(0), M),
    Key("spark.deploy.retainedDrivers", "completed ones that are kept", "200", v.Whole(0), M),
    Key("spark.deploy.driverIdPattern", "time, number", "driver-%s-%04d", v.Pattern("sd"), M),
    Key("spark.deploy.appIdPattern", "time, number", "app-%s-%04d", v.Pattern("sd"), M),
    Key("spark.deploy.appNumberModulo", "numbers start again there; times keep ids apart", parse=v.Whole(1000), roles=M, shown="never"),
)

WORKER = (
    Key(
        "SPARK_WORKER_HOST",
        "what the worker binds to and is called by",
        parse=v.host,
        roles=W,
        flags=("-h", "--host", "-i", "--ip"),
        shown="SPARK_LOCAL_HOSTNAME, SPARK_LOCAL_IP, or this host's address towards the masters",
    ),
    Key("SPARK_WORKER_PORT", "0: any", "0", v.port, W, flags=("-p", "--port")),
    Key("SPARK_WORKER_CORES", "what the worker offers", parse=v.Whole(1), roles=W, flags=("-c", "--cores"), shown="all"),
    Key("SPARK_WORKER_MEMORY", "what the worker offers: 2g", parse=v.memory_mb, roles=W, flags=("-m", "--memory"), shown="all but 1 GiB"),
    Key(
        "SPARK_WORKER_DIR",
        "a directory per process, and the worker's journal",
        parse=v.line,
        roles=W,
        flags=("-d", "--work-dir"),
        shown="work in SPARK_HOME",
    ),
    Key("spark.worker.ui.port", "web UI and logs", "8081", v.port, W, env="SPARK_WORKER_WEBUI_PORT", flags=("--webui-port",)),
    Key("spark.worker.ui.retainedExecutors", "ended ones that are listed", "1000", v.Whole(0), W),
    Key("spark.worker.ui.retainedDrivers", "ended ones that are listed", "1000", v.Whole(0), W),
    _idle("spark.worker.ui.compressedLogFileLengthCacheSize", "rotated logs are not compressed", "100", W),
    Key("spark.worker.idPattern", "time, host, port", "worker-%s-%s-%d", v.Pattern("ssd"), W),
    Key("spark.worker.driverTerminateTimeout", "from SIGTERM to SIGKILL; a bare number is milliseconds", "10s", v.Seconds(0.0, "ms"), W),
    Key("spark.worker.cleanup.enabled", "directories of what ended are removed", "true", v.boolean, W),
    Key("spark.worker.cleanup.interval", "how often", "1800", v.Seconds(1.0), W),
    Key("spark.worker.cleanup.appDataTtl", "how long they are kept", "604800", v.Seconds(0.0), W),
    Key("spark.worker.decommission.signal", "makes the worker take no more work", "PWR", v.Choice(("PWR", "USR1", "USR2", "HUP")), W),
    _idle("spark.decommission.enabled", "the signal always decommissions", "false"),
    _idle("spark.worker.initialRegistrationRetries", "a worker never gives up, and waits no longer than a capped backoff", "6", W),
    _idle("spark.worker.maxRegistrationRetries", "a worker never gives up", "16", W),
    _idle("spark.worker.executorStateSync.maxAttempts", "states come from a journal that is replayed until it is acknowledged", "5", W),
    _idle("spark.worker.preferConfiguredMasterAddress", "a worker only uses the addresses it was given", "false", W),
    _no(
        "spark.worker.resource.*",
        "custom resources (GPUs) are not handed out yet; remove the key, or run Apache's daemons",
        harmless=(),
        roles=W,
    ),
    _no(
        "spark.worker.resourcesFile",
        "custom resources (GPUs) are not handed out yet; remove the key, or run Apache's daemons",
        harmless=("",),
        roles=W,
    ),
    _no(
        "spark.shuffle.service.enabled",
        "the worker has no shuffle service inside; run org.apache.spark.deploy.ExternalShuffleService beside it, "
        "and give the worker -Dspark.shuffle.service.enabled=false in SPARK_WORKER_OPTS",
        "false",
        roles=W,
    ),
    _idle("spark.shuffle.service.db.enabled", "of the shuffle service", "true", W),
    _idle("spark.shuffle.service.db.backend", "of the shuffle service", "ROCKSDB", W),
    _idle("spark.storage.cleanupFilesAfterExecutorExit", "of the shuffle service", "true", W),
)

SPARKD = (
    Key("spark.sparkd.secretFile", "the cluster secret, which masters and workers prove to each other; required beyond loopback"),
    Key("SPARKD_SECRET", "the cluster secret itself, for trials; the file comes first", secret=True),
    Key("spark.sparkd.clusterName", "in logs and pages", "spark", roles=M),
    Key(
        "spark.sparkd.stateDir", "NONE: the epoch's file; every mode: the cluster id that is carried over", "/var/lib/spark/sparkd", roles=M
    ),
    Key(
        "spark.sparkd.latchRecord",
        "where the running master notes its latch, for `sparkd fence`",
        roles=M,
        shown="latch.json in spark.sparkd.stateDir",
    ),
    Key("spark.sparkd.zookeeper.sessionTimeout", "asked of ZooKeeper; the ensemble's own bounds apply", "4s", v.Seconds(1.0), M),
    Key(
        "spark.sparkd.zookeeper.secretFile",
        "a secret for digest ACLs on all nodes; none: nodes are open to whoever reaches the ensemble",
        roles=M,
    ),
    Key(
        "spark.sparkd.rest.allowed",
        "networks whose requests need no token",
        parse=v.words,
        roles=M,
        shown="this host's loopback when there is no token key",
    ),
    Key("spark.sparkd.rest.openToAll", "no token from anyone: for trials", "false", v.boolean, M),
    Key("spark.sparkd.log.maxBytes", "a process's stdout and stderr are rotated at this size", "16m", v.size, W),
    Key("spark.sparkd.log.keep", "rotated files that are kept", "4", v.Whole(0, 1000), W),
)

SECURITY = (
    _no(
        "spark.authenticate",
        "masters and workers prove spark.sparkd.secretFile to each other; Spark's own RPC authentication comes with Spark's RPC",
        "false",
    ),
    _no("spark.network.crypto.enabled", "comes with Spark's RPC", "false"),
    _no("spark.ssl.enabled", "the pages speak HTTP: put a TLS proxy before them", "false"),
    _no("spark.ssl.standalone.enabled", "the pages speak HTTP: put a TLS proxy before them", "false"),
    _no(
        "spark.ui.filters", "filters are Java classes; a proxy before the pages can do the same", roles=("master", "worker"), harmless=("",)
    ),
    _no("spark.ui.reverseProxy", "put a proxy before each page instead; /leader tells it which master to use", "false"),
    _no("spark.acls.enable", "the pages have no users: bind them to a private network or put a proxy before them", "false"),
    _idle("spark.ui.reverseProxyUrl", "see spark.ui.reverseProxy"),
)

PROCESSES = (
    Key("SPARK_PUBLIC_DNS", "the host that links of the web UI name", parse=v.host, shown="the daemon's host"),
    Key("SPARK_LOCAL_DIRS", "scratch space; processes inherit it", roles=W),
    _idle("SPARK_LOG_DIR", "the daemons write to stderr: the journal, or whoever started them, keeps that"),
    Key("JAVA_HOME", "the Java of drivers and executors", roles=W, shown="java on PATH"),
    Key("SPARK_HOME", "the Spark of drivers and executors", roles=W, shown="none: commands only"),
    _idle("SPARK_DAEMON_MEMORY", "a heap size; the daemons are Python", "1g"),
    _idle("SPARK_DAEMON_CLASSPATH", "the daemons are Python"),
    _idle("SPARK_SCALA_VERSION", "processes inherit it"),
    _idle("spark.metrics.*", "/metrics speaks Prometheus's format, there are no sinks"),
    _idle("spark.standalone.submit.waitAppCompletion", "spark-submit's own; here: sparkd submit --wait", "false"),
    _idle("spark.standalone.submit.filterEnvironment", "spark-submit's own", "true"),
    _idle("spark.standalone.executorRemoveDelayOnDisconnection", "the application's own", "5s"),
)

SECTIONS: tuple[tuple[str, tuple[Key, ...]], ...] = (
    ("Master", MASTER),
    ("Recovery and leadership", RECOVERY),
    ("Liveness, scheduling, history", SCHEDULING),
    ("Worker", WORKER),
    ("sparkd's own", SPARKD),
    ("Authentication and encryption", SECURITY),
    ("Around the daemons", PROCESSES),
)
KEYS: tuple[Key, ...] = tuple(key for _, keys in SECTIONS for key in keys)
BY_NAME: dict[str, Key] = {name: key for key in KEYS for name in (key.name, *key.old)}


def find(name: str) -> Key | None:
    """Return the key that a property's name belongs to."""
    found = BY_NAME.get(name)
    if found is None:
        for key in KEYS:
            if key.name.endswith("*") and name.startswith(key.name[:-1]):
                return key
    return found


def of_role(role: Role) -> Iterator[Key]:
    """Yield the keys that a daemon reads."""
    return (key for key in KEYS if role in key.roles)
