"""From flags, options, environment and files to settings: what counts first, and what stops the start."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sparkd import cli, config
from sparkd.config import ConfigError, load_master, load_worker
from sparkd.config_keys import KEYS, find
from sparkd.core.values import Policy

ROOT = Path(__file__).resolve().parents[3]
LOCAL = ["-h", "127.0.0.1"]
URL = "spark://127.0.0.1:7077,127.0.0.1:7078"


def problems(role: str, argv: list[str], environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_master(argv, environ) if role == "master" else load_worker(argv, environ)
    return caught.value.problems


def opts(**properties: object) -> dict[str, str]:
    return {"SPARK_DAEMON_JAVA_OPTS": " ".join(f"'-Dspark.{name.replace('__', '.')}={value}'" for name, value in properties.items())}


def test_each_source_counts_before_the_next(tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    conf.mkdir()
    sources: list[tuple[str, dict[str, str], list[str]]] = [("default", {}, [])]
    (conf / "spark-defaults.conf").write_text("spark.master.ui.port 1001\n")
    environ = {"SPARK_CONF_DIR": str(conf), "PATH": "/usr/bin:/bin"}
    sources.append(("file", environ, []))
    environ = {**environ, "SPARK_MASTER_WEBUI_PORT": "1002"}
    sources.append(("environment", environ, []))
    environ = {**environ, "SPARK_DAEMON_JAVA_OPTS": "-Dspark.master.ui.port=1003"}
    sources.append(("daemon options", environ, []))
    environ = {**environ, "SPARK_MASTER_OPTS": "-Dspark.master.ui.port=1004"}
    sources.append(("master options", environ, []))
    sources.append(("flag", environ, ["--webui-port", "1005"]))
    found = [load_master([*LOCAL, *argv], env).web.port for _, env, argv in sources]
    assert found == [8080, 1001, 1002, 1003, 1004, 1005]
    (conf / "spark-env.sh").write_text("SPARK_MASTER_WEBUI_PORT=1006\nunset SPARK_MASTER_OPTS SPARK_DAEMON_JAVA_OPTS\n")
    settings = load_master(LOCAL, environ)
    assert settings.web.port == 1006
    assert settings.source["spark.master.ui.port"] == "environment"


def test_a_properties_file_replaces_spark_defaults(tmp_path: Path) -> None:
    (tmp_path / "spark-defaults.conf").write_text("spark.deploy.retainedDrivers 7\nspark.worker.timeout 33\n")
    other = tmp_path / "other.conf"
    other.write_text("spark.worker.timeout 2min\nnot.ours x\n")
    settings = load_master([*LOCAL, "--properties-file", str(other)], {"SPARK_CONF_DIR": str(tmp_path)})
    assert (settings.policy.worker_timeout_s, settings.policy.retained_drivers) == (120.0, 200)
    assert settings.source["spark.worker.timeout"] == str(other)
    assert "gone" in problems("master", [*LOCAL, "--properties-file", str(tmp_path / "gone")], {})[0]


def test_defaults_of_a_master_are_sparks() -> None:
    master = load_master(LOCAL, {})
    assert (master.port, master.web.port, master.rest.port, master.rest.enabled) == (7077, 8080, 6066, True)
    assert master.recovery.mode == "NONE"
    assert master.policy == Policy()
    assert master.recovery.latch_record == Path("/var/lib/spark/sparkd/latch.json")


def test_defaults_of_a_worker_are_sparks() -> None:
    worker = load_worker([URL], {})
    assert worker.masters == (("127.0.0.1", 7077), ("127.0.0.1", 7078))
    assert (worker.host, worker.port, worker.web.port) == ("127.0.0.1", 0, 8081)
    assert worker.cores == config.offered_cores()
    assert worker.memory_mb == config.offered_memory_mb()
    assert (worker.heartbeat_s, worker.worker_timeout_s, worker.cleanup_enabled, worker.cleanup_ttl_s) == (15.0, 60.0, True, 604800.0)


def test_everything_of_a_worker_can_be_said(tmp_path: Path) -> None:
    environ = {
        **{"SPARK_WORKER_CORES": "3", "SPARK_WORKER_MEMORY": "2g", "SPARK_WORKER_DIR": str(tmp_path), "SPARK_WORKER_PORT": "7001"},
        **{"SPARK_WORKER_WEBUI_PORT": "7002", "SPARK_PUBLIC_DNS": "w1.example.org", "SPARK_HOME": "/opt/spark", "JAVA_HOME": "/opt/java"},
        **{"SPARK_LOCAL_DIRS": "/scratch", "SPARKD_SECRET": "x" * 20, "SPARK_WORKER_OPTS": "-Dspark.worker.cleanup.enabled=false -Xmx1g"},
    }
    worker = load_worker(["-h", "w1", "-c", "4", URL], environ)
    assert (worker.host, worker.cores, worker.memory_mb, worker.port, worker.web.port) == ("w1", 4, 2048, 7001, 7002)
    assert (worker.web.public_host, worker.cleanup_enabled, worker.cluster_secret) == ("w1.example.org", False, b"x" * 20)
    assert worker.environment == {"SPARK_PUBLIC_DNS": "w1.example.org", "SPARK_HOME": "/opt/spark", "JAVA_HOME": "/opt/java"} | {
        "SPARK_LOCAL_DIRS": "/scratch"
    }
    assert load_worker(["-m", "1g", URL], {**environ, "SPARK_WORKER_HOST": "w2"}).memory_mb == 1024


def test_a_worker_without_masters_takes_spark_master(tmp_path: Path) -> None:
    (tmp_path / "spark-defaults.conf").write_text("spark.master spark://127.0.0.1:7999\n")
    assert load_worker([], {"SPARK_CONF_DIR": str(tmp_path)}).masters == (("127.0.0.1", 7999),)
    assert problems("worker", [], {}) == problems("worker", [URL, URL], {})
    assert "spark://h1:7077,h2:7077" in problems("worker", ["h1:7077"], {})[0]


@pytest.mark.parametrize(
    ("properties", "key", "told"),
    [
        ({"worker__timeout": "60x"}, "spark.worker.timeout = '60x' (from SPARK_DAEMON_JAVA_OPTS)", "us, ms, s, m, min, h or d"),
        ({"worker__timeout": "0"}, "spark.worker.timeout", "at least 1 s"),
        ({"deploy__recoveryMode": "ROCKSDB"}, "spark.deploy.recoveryMode", "use FILESYSTEM"),
        ({"deploy__recoveryMode": "raft"}, "spark.deploy.recoveryMode", "NONE, FILESYSTEM, ZOOKEEPER, CUSTOM"),
        ({"deploy__recoveryMode": "FILESYSTEM"}, "spark.deploy.recoveryDirectory", "required by spark.deploy.recoveryMode FILESYSTEM"),
        ({"deploy__recoveryMode": "CUSTOM"}, "spark.deploy.recoveryMode.factory", "module:attribute"),
        ({"deploy__recoveryMode": "ZOOKEEPER"}, "spark.deploy.zookeeper.url", "z1:2181,z2:2181"),
        ({"deploy__zookeeper__url": "z1:2181;z2"}, "spark.deploy.zookeeper.url", "with commas"),
        ({"deploy__zookeeper__dir": "spark"}, "spark.deploy.zookeeper.dir", "a path like /spark"),
        ({"deploy__zookeper__url": "z1"}, "spark.deploy.zookeper.url", "did you mean spark.deploy.zookeeper.url?"),
        ({"sparkd__xyzzy": "1"}, "spark.sparkd.xyzzy", "no such key"),
        ({"worker__resource__gpu__amount": "2"}, "spark.worker.resource.gpu.amount", "refused: custom resources"),
        ({"authenticate": "true"}, "spark.authenticate", "refused"),
        ({"ssl__enabled": "true"}, "spark.ssl.enabled", "TLS proxy"),
        ({"ui__filters": "org.example.Filter"}, "spark.ui.filters", "refused"),
        ({"master__rest__filters": "org.example.Filter"}, "spark.master.rest.filters", "only org.apache.spark.ui.JWSFilter"),
        ({"master__rest__filters": "org.apache.spark.ui.JWSFilter"}, "spark.master.rest.filters", "secretKey"),
        ({"sparkd__rest__allowed": "10.0.0.0/99"}, "spark.sparkd.rest.allowed", "192.168.7.0/24"),
        ({"master__rest__port": "8080"}, "spark.master.rest.port", "spark.master.ui.port is 8080 as well"),
        ({"deploy__driverIdPattern": "d-%s"}, "spark.deploy.driverIdPattern", "in this order"),
        ({"deploy__appNumberModulo": "10"}, "spark.deploy.appNumberModulo", "from 1000"),
        ({"deploy__workerSelectionPolicy": "RANDOM"}, "spark.deploy.workerSelectionPolicy", "CORES_FREE_DESC"),
        ({"master__rest__allowedAppResourcePatterns": "a("}, "spark.master.rest.allowedAppResourcePatterns", "regular expressions"),
    ],
)
def test_what_stops_a_start_is_told_with_key_value_source_and_fix(properties: dict[str, str], key: str, told: str) -> None:
    role = "worker" if "resource" in str(properties) else "master"
    found = problems(role, LOCAL if role == "master" else [URL], opts(**properties))
    assert len(found) == 1
    assert found[0].startswith(key)
    assert told in found[0]
    assert "(from " in found[0]
    assert "\n" not in found[0]


def test_all_problems_are_told_at_once() -> None:
    found = problems("master", [*LOCAL, "-p", "seven"], opts(worker__timeout="x", deploy__maxDrivers="-1"))
    assert [line.split(" ")[0] for line in found] == ["SPARK_MASTER_PORT", "spark.worker.timeout", "spark.deploy.maxDrivers"]


@pytest.mark.parametrize(
    "properties",
    [
        {"authenticate": "false", "shuffle__service__enabled": "false", "ui__filters": ""},
        {"deploy__recoveryTimeout": "15s", "deploy__recoveryCompressionCodec": "zstd", "deploy__recoverySerializationFilter": "!*"},
        {"master__rest__virtualThread__enabled": "false", "metrics__conf": "x", "executor__memory": "1g", "driver__cores": "many"},
        {"worker__ui__port": "not ours to judge"},
    ],
)
def test_what_does_not_matter_to_a_master_does_not_stop_it(properties: dict[str, str]) -> None:
    assert load_master(LOCAL, {**opts(**properties), "SPARK_DAEMON_MEMORY": "2g"}).port == 7077


def test_old_names_count_and_yield_to_new_ones() -> None:
    assert load_master(LOCAL, opts(deploy__spreadOut="false")).policy.spread_out_apps is False
    assert load_master(LOCAL, opts(deploy__spreadOut="false", deploy__spreadOutApps="true")).policy.spread_out_apps is True


def test_variables_are_put_in() -> None:
    environ = {
        **opts(master__ui__title="${env:WHERE} ${spark.sparkd.clusterName} ${env:GONE}", sparkd__clusterName="blue"),
        "WHERE": "here",
    }
    assert load_master(LOCAL, environ).web.title == "here blue ${env:GONE}"


def test_the_secret_is_required_beyond_loopback(tmp_path: Path) -> None:
    assert load_master(LOCAL, {}).cluster_secret == config.LOOPBACK_SECRET
    found = problems("master", ["-h", "m1.example.org"], {})
    assert found[0].startswith("spark.sparkd.secretFile")
    assert "openssl rand" in found[0]
    assert "m1.example.org" in problems("worker", ["spark://m1.example.org:7077", "-h", "127.0.0.1"], {})[0]
    secret = tmp_path / "secret"
    secret.write_text("s" * 32)
    secret.chmod(0o600)
    assert load_master(["-h", "m1"], {**opts(sparkd__secretFile=secret), "SPARKD_SECRET": "other"}).cluster_secret == b"s" * 32
    secret.chmod(0o644)
    found = problems("master", LOCAL, opts(sparkd__secretFile=secret))
    assert "chmod 0640" in found[0]


def test_no_secret_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    key = "Zm9vYmFy" * 8
    environ = {
        **opts(**{"org.apache.spark.ui.JWSFilter.param.secretKey": key}),
        "SPARKD_SECRET": "hush hush hush hush",
        "PATH": "/usr/bin:/bin",
    }
    settings = load_master(LOCAL, environ)
    assert settings.rest.token_key
    assert key not in repr(settings) and "hush" not in repr(settings)
    found = problems("master", LOCAL, opts(**{"org.apache.spark.ui.JWSFilter.param.secretKey": "Zm9v"}))
    assert "Zm9v" not in found[0]
    for name in list(os.environ):
        if name.startswith(("SPARK", "SPARKD")):
            monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert cli.run(["config", "master", "-h", "127.0.0.1", "--json"]) == 0
    out = capsys.readouterr().out
    assert key not in out and "hush" not in out
    shown = {row["key"]: row for row in json.loads(out)["keys"]}
    assert shown["SPARKD_SECRET"]["value"] == "(secret)"
    assert shown["spark.deploy.recoveryTimeout"]["state"] == "not applicable"


def test_rest_takes_loopback_or_tokens_unless_told_otherwise() -> None:
    assert [str(network) for network in load_master(LOCAL, {}).rest.allowed] == ["127.0.0.0/8", "::1/128"]
    key = {"org.apache.spark.ui.JWSFilter.param.secretKey": "A" * 43}
    assert load_master(LOCAL, opts(**key)).rest.allowed == ()
    rest = load_master(LOCAL, opts(**key, sparkd__rest__allowed="10.0.0.0/8, 192.168.7.5")).rest
    assert [str(network) for network in rest.allowed] == ["10.0.0.0/8", "192.168.7.5/32"]
    assert rest.token_key == bytes(32)


def test_zookeeper_settings() -> None:
    found = load_master(
        LOCAL,
        opts(deploy__recoveryMode="zookeeper", deploy__zookeeper__url="z1:2181,z2/root", deploy__zookeeper__dir="/a/b")
        | {"SPARK_MASTER_OPTS": "-Dspark.sparkd.zookeeper.sessionTimeout=4000ms"},
    ).recovery
    assert (found.mode, found.zookeeper_url, found.zookeeper_dir, found.session_timeout_s) == ("ZOOKEEPER", "z1:2181,z2/root", "/a/b", 4.0)


@pytest.mark.parametrize(
    ("argv", "told"), [(["--web-port", "1"], "no such flag"), (["-p"], "a value must follow"), (["extra"], "flags only")]
)
def test_flags(argv: list[str], told: str) -> None:
    assert told in problems("master", [*LOCAL, *argv], {})[0]
    assert load_master(["--host=127.0.0.1", "--port=7001"], {}).port == 7001


def test_memory_is_what_is_there_less_one_gib(tmp_path: Path) -> None:
    meminfo, cgroup = tmp_path / "meminfo", tmp_path / "memory.max"
    meminfo.write_text("MemTotal:        8388608 kB\nMemFree: 1 kB\n")
    assert config.offered_memory_mb(meminfo, cgroup) == 7168
    cgroup.write_text("max\n")
    assert config.offered_memory_mb(meminfo, cgroup) == 7168
    cgroup.write_text(f"{4 << 30}\n")
    assert config.offered_memory_mb(meminfo, cgroup) == 3072
    cgroup.write_text(f"{1 << 30}\n")
    assert config.offered_memory_mb(meminfo, cgroup) == 512


def test_every_default_is_one_that_is_allowed() -> None:
    for key in KEYS:
        assert key.why and not key.why.endswith(".")
        if key.default and key.state == "honoured":
            key.parse(key.default)
    assert len({key.name for key in KEYS}) == len(KEYS)


def test_every_key_that_the_facts_list_is_known() -> None:
    """Keys of Spark's standalone mode (its documentation and class files, 4.3.0)."""
    for name in (
        *("recoveryMode", "recoveryMode.factory", "recoveryDirectory", "recoveryCompressionCodec", "recoveryTimeout", "zookeeper.url"),
        *(
            "zookeeper.dir",
            "recoverySerializationFilter",
            "driverIdPattern",
            "appIdPattern",
            "appNumberModulo",
            "spreadOutApps",
            "spreadOut",
        ),
        *("spreadOutDrivers", "workerSelectionPolicy", "defaultCores", "maxDrivers", "maxExecutorRetries", "retainedApplications"),
        "retainedDrivers",
    ):
        assert find(f"spark.deploy.{name}"), name
    for name in (
        *("worker.idPattern", "master.useAppNameAsAppId.enabled", "master.useDriverIdAsAppName.enabled", "worker.timeout"),
        *("dead.worker.persistence", "worker.initialRegistrationRetries", "worker.maxRegistrationRetries", "worker.resourcesFile"),
        *("worker.preferConfiguredMasterAddress", "worker.executorStateSync.maxAttempts", "standalone.executorRemoveDelayOnDisconnection"),
        *("worker.driverTerminateTimeout", "standalone.submit.waitAppCompletion", "standalone.submit.filterEnvironment"),
        *("worker.decommission.signal", "decommission.enabled", "master.ui.decommission.allow.mode", "master.rest.enabled"),
        *("master.rest.host", "master.rest.port", "master.rest.maxThreads", "master.rest.filters", "master.rest.virtualThread.enabled"),
        *("master.rest.allowedAppResourcePatterns", "master.rest.maxRequestBodySize", "master.ui.port", "master.ui.title"),
        *("master.ui.historyServerUrl", "master.ui.visibleEnvVarPrefixes", "ui.reverseProxy", "ui.reverseProxyUrl", "worker.ui.port"),
        *("worker.ui.retainedExecutors", "worker.ui.retainedDrivers", "worker.ui.compressedLogFileLengthCacheSize"),
        *("worker.cleanup.enabled", "worker.cleanup.interval", "worker.cleanup.appDataTtl", "shuffle.service.db.enabled"),
        *("shuffle.service.db.backend", "storage.cleanupFilesAfterExecutorExit", "worker.resource.gpu.amount"),
    ):
        assert find(f"spark.{name}"), name


def _script() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("configuration_script", str(ROOT / "scripts/configuration"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module: Any = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module  # type: ignore[no-any-return]


def test_the_page_is_what_the_script_writes() -> None:
    assert (ROOT / "docs/configuration.md").read_text() == _script().render(), "run scripts/configuration"
