"""What lands in /etc/spark, rendered by Ansible from the role's own variables and read by a real bash."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
AWKWARD = """a b'c"d$HOME`id`\\e#;&é"""
CASES: dict[str, dict[str, Any]] = {
    "zookeeper": {},
    "external": {"zookeeper_external": "z1:2181,z2:2181/chroot", "spark_zookeeper_dir": "/other"},
    "filesystem": {"spark_recovery_mode": "FILESYSTEM", "spark_recovery_directory": "/mnt/a b/recovery"},
    "none": {"spark_recovery_mode": "NONE", "spark_version": "3.5.9"},
    "sizes": {"spark_worker_cores": 3, "spark_worker_memory": "1024m", "spark_daemon_memory": "100m", "cluster_address": "10.0.0.5"},
    "awkward": {
        "spark_daemon_properties": {"spark.x": AWKWARD, "spark.empty": "", "spark.flag": True},
        "spark_environment": {"EXTRA": AWKWARD},
        "spark_defaults": {"spark.y": "back\\slash", "spark.flag": False},
        "spark_hadoop_home": "/opt/ha doop",
    },
    "rest": {
        "spark_rest_enabled": True,
        "spark_rest_filters": {"org.apache.spark.ui.JWSFilter": {"secretKey": AWKWARD}},
        "spark_rest_port": 6067,
    },
    "sparkd": {"spark_daemons": "sparkd", "__sparkd_secrets": {"rest": "a2V5", "cluster": "c", "zookeeper": "z"}},
}
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Load the role's variables
      ansible.builtin.include_role: {name: spark, tasks_from: refuse, public: true}
    - name: Write what the role would write
      ansible.builtin.copy:
        content: "{{ lookup('ansible.builtin.template', cluster_templates ~ '/' ~ item ~ '.j2') }}"
        dest: "{{ out_root }}/{{ inventory_hostname }}.{{ item | basename }}"
        mode: "0600"
      loop: [spark-env.sh, spark-defaults.conf, workers, profile.sh, sudoers, sbin/spark-service.sh, log4j2-daemon.properties]
    - name: Note what protects them
      ansible.builtin.copy:
        content: "{{ {'env': _spark_env_secret, 'defaults': _spark_defaults_secret} | to_json }}"
        dest: "{{ out_root }}/{{ inventory_hostname }}.secret"
        mode: "0600"
    - name: Write the options that nobody else may read
      ansible.builtin.copy:
        content: "{{ _spark_secret_properties | java_argument_file }}"
        dest: "{{ out_root }}/{{ inventory_hostname }}.opts"
        mode: "0600"
"""


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rendered")
    groups: dict[str, Any] = {
        name: {"hosts": {host: {} for host in ("h1", "h2", "h3")}} for name in ("zookeeper", "spark_masters", "spark_workers")
    }
    inventory = {
        "all": {
            "hosts": {"h1": {}, "h2": {}, "h3": {}},
            "children": {**groups, "cases": {"hosts": CASES}},
            "vars": {"spark_daemons": "apache"},
        }
    }
    (out / "inventory.json").write_text(json.dumps(inventory))
    (out / "play.yml").write_text(PLAY)
    given = {
        "out_root": str(out),
        "cluster_templates": str(ROOT / "templates"),
        "cluster_java_home": "/usr/lib/jvm/java-17",
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    }
    command = ["ansible-playbook", "-i", str(out / "inventory.json"), "-l", "cases", "-e", json.dumps(given), str(out / "play.yml")]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return out


def environment(rendered: Path, case: str, **given: str) -> dict[str, str]:
    """Return what bash makes of spark-env.sh, sourced as load-spark-env.sh does."""
    path = rendered / f"{case}.spark-env.sh"
    subprocess.run(["bash", "-n", str(path)], check=True)
    script = f"set -a; . {shlex.quote(str(path))}; set +a; env -0"
    done = subprocess.run(["bash", "-euc", script], env={"PATH": os.environ["PATH"], **given}, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return dict(entry.split("=", 1) for entry in done.stdout.split("\0") if "=" in entry)


def options(env: dict[str, str]) -> dict[str, str]:
    """Return the Java options, split as Spark's launcher does: like a shell, see CommandBuilderUtils.parseOptionString."""
    return dict(word.removeprefix("-D").split("=", 1) for word in shlex.split(env["SPARK_DAEMON_JAVA_OPTS"]))


def test_zookeeper(rendered: Path) -> None:
    env = environment(rendered, "zookeeper")
    assert options(env) == {
        "log4j2.configurationFile": "/etc/spark/log4j2-daemon.properties",
        "spark.deploy.recoveryMode": "ZOOKEEPER",
        "spark.deploy.zookeeper.url": "h1:2181,h2:2181,h3:2181",
        "spark.deploy.zookeeper.dir": "/spark",
        "spark.worker.timeout": "15",
        "spark.deploy.recoveryTimeout": "10s",
        "spark.master.rest.enabled": "false",
    }
    expected = {
        "JAVA_HOME": "/usr/lib/jvm/java-17",
        "SCALA_HOME": "/opt/scala/current",
        "SPARK_SCALA_VERSION": "2.13",
        "SPARK_MASTER_HOST": "zookeeper",
        "SPARK_MASTER_PORT": "7077",
        "SPARK_MASTER_WEBUI_PORT": "8080",
        "SPARK_WORKER_DIR": "/var/lib/spark/work",
        "SPARK_LOG_DIR": "/var/log/spark",
        "SPARK_DAEMON_MEMORY": "1g",
        "SPARK_DAEMON_NAME": "spark-daemon",
    }
    assert {name: env.get(name) for name in expected} == expected
    assert not {"SPARK_WORKER_CORES", "SPARK_WORKER_MEMORY", "HADOOP_HOME", "SPARK_PUBLIC_DNS"} & set(env)


def test_an_external_ensemble_with_a_chroot(rendered: Path) -> None:
    found = options(environment(rendered, "external"))
    assert found["spark.deploy.zookeeper.url"] == "z1:2181,z2:2181/chroot"
    assert found["spark.deploy.zookeeper.dir"] == "/other"


def test_filesystem(rendered: Path) -> None:
    found = options(environment(rendered, "filesystem"))
    assert found["spark.deploy.recoveryMode"] == "FILESYSTEM"
    assert found["spark.deploy.recoveryDirectory"] == "/mnt/a b/recovery"
    assert not [key for key in found if "zookeeper" in key]


def test_none_on_spark_3(rendered: Path) -> None:
    env = environment(rendered, "none")
    assert options(env)["spark.deploy.recoveryMode"] == "NONE"
    assert "spark.deploy.recoveryTimeout" not in options(env), "Spark 3.5 does not know it"
    assert env["SPARK_SCALA_VERSION"] == "2.12"


def test_sizes_and_address(rendered: Path) -> None:
    env = environment(rendered, "sizes")
    assert (env["SPARK_WORKER_CORES"], env["SPARK_WORKER_MEMORY"], env["SPARK_DAEMON_MEMORY"]) == ("3", "1024m", "100m")
    assert env["SPARK_MASTER_HOST"] == "10.0.0.5"


def test_awkward_values_arrive_as_they_were_written(rendered: Path) -> None:
    env = environment(rendered, "awkward")
    assert env["EXTRA"] == AWKWARD
    assert env["HADOOP_HOME"] == "/opt/ha doop"
    found = options(env)
    assert (found["spark.x"], found["spark.empty"], found["spark.flag"]) == (AWKWARD, "", "true")
    lines = (rendered / "awkward.spark-defaults.conf").read_text().splitlines()
    assert lines[2:] == ["spark.master spark://h1:7077,h2:7077,h3:7077", "spark.y back\\\\slash", "spark.flag false"]


def test_rest_with_its_filter_and_the_secret_in_a_file_that_java_reads(rendered: Path) -> None:
    env = environment(rendered, "rest")
    words = shlex.split(env["SPARK_DAEMON_JAVA_OPTS"])
    assert words.pop() == "@/etc/spark/daemon-secrets.opts"
    found = dict(word.removeprefix("-D").split("=", 1) for word in words)
    assert found["spark.master.rest.enabled"] == "true"
    assert found["spark.master.rest.port"] == "6067"
    assert found["spark.master.rest.filters"] == "org.apache.spark.ui.JWSFilter"
    assert "secretKey" not in (rendered / "rest.spark-env.sh").read_text()
    assert json.loads((rendered / "rest.secret").read_text()) == {"env": False, "defaults": False}

    key = "spark.org.apache.spark.ui.JWSFilter.param.secretKey"
    java = shutil.which("java")
    assert java is not None, "scripts/bootstrap --dev installs one"
    command = [java, "-Dstderr.encoding=UTF-8", f"@{rendered / 'rest.opts'}", "-XshowSettings:properties", "-version"]
    done = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert f"    {key} = {AWKWARD}" in done.stderr.decode().splitlines()


def test_a_secret_that_changes_changes_spark_env(rendered: Path) -> None:
    assert "digest" in (rendered / "rest.spark-env.sh").read_text(), "the daemons restart when spark-env.sh changes"
    assert "daemon-secrets" not in (rendered / "zookeeper.spark-env.sh").read_text()


def test_daemons_log_under_the_name_of_their_unit(rendered: Path) -> None:
    assert environment(rendered, "zookeeper", RUNTIME_DIRECTORY="/run/spark-master")["SPARK_DAEMON_NAME"] == "spark-master"
    assert environment(rendered, "zookeeper", RUNTIME_DIRECTORY="/run/spark-worker:/run/b")["SPARK_DAEMON_NAME"] == "spark-worker"


def test_sparkd_reads_the_same_file(rendered: Path) -> None:
    """Files of secrets are named, the key itself is only in the file that nobody else may read."""
    env = environment(rendered, "sparkd")
    given = dict(word.removeprefix("-D").split("=", 1) for word in shlex.split(env["SPARK_DAEMON_JAVA_OPTS"]) if word.startswith("-D"))
    assert given["spark.deploy.zookeeper.dir"] == "/sparkd"
    assert given["spark.sparkd.secretFile"] == "/var/lib/spark/secrets/cluster.secret"
    assert given["spark.sparkd.latchRecord"] == "/run/spark-master/latch.json"
    assert given["spark.master.rest.filters"] == "org.apache.spark.ui.JWSFilter"
    assert "log4j2.configurationFile" not in given and "spark.deploy.recoveryTimeout" not in given
    assert "a2V5" not in env["SPARK_DAEMON_JAVA_OPTS"]
    assert (rendered / "sparkd.opts").read_text() == '"-Dspark.org.apache.spark.ui.JWSFilter.param.secretKey=a2V5"\n'
    assert json.loads((rendered / "sparkd.secret").read_text()) == {"env": False, "defaults": False}


def test_the_list_of_masters_is_not_in_spark_env(rendered: Path) -> None:
    assert "7077,h2" not in (rendered / "zookeeper.spark-env.sh").read_text(), "a new master must not restart the others"
    assert (rendered / "zookeeper.workers").read_text().splitlines()[1:] == ["h1", "h2", "h3"]


def test_profile_adds_to_the_path_once(rendered: Path) -> None:
    script = f'. {rendered / "zookeeper.profile.sh"}; . {rendered / "zookeeper.profile.sh"}; echo "$PATH"'
    for shell in ("bash", "sh"):
        done = subprocess.run([shell, "-euc", script], env={"PATH": "/my/bin:/usr/bin:/bin"}, capture_output=True, text=True, check=True)
        words = done.stdout.strip().split(":")
        assert words[:3] == ["/my/bin", "/usr/bin", "/bin"]
        assert words[3:6] == ["/opt/spark/current/bin", "/opt/spark/current/sbin", "/opt/scala/current/bin"]
        assert len(words) == len(set(words))


def test_sudoers_name_exactly_the_units_and_verbs(rendered: Path) -> None:
    text = (rendered / "zookeeper.sudoers").read_text()
    rules = [word.strip() for word in text.split("SPARK_HA = ")[1].splitlines()[0].split(",")]
    units = ("spark-master.service", "spark-worker.service")
    assert rules == [f"/usr/bin/systemctl {verb} {unit}" for unit in units for verb in ("start", "stop", "restart")]
    if shutil.which("visudo"):
        subprocess.run(["visudo", "-cf", str(rendered / "zookeeper.sudoers")], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("start-all.sh", ["--help"], 0),
        ("start-slave.sh", ["-h"], 0),
        ("start-master.sh", ["--port", "1"], 2),
        ("start-worker.sh", ["spark://a:1", "spark://b:2"], 2),
        ("start-worker.sh", ["http://a"], 2),
        ("spark-service.sh", [], 2),
    ],
)
def test_usage_of_the_sbin_commands(rendered: Path, tmp_path: Path, name: str, arguments: list[str], code: int) -> None:
    script = rendered / "zookeeper.spark-service.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    command = tmp_path / name
    command.symlink_to(script)
    done = subprocess.run(["bash", str(command), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert name in done.stdout + done.stderr or name == "spark-service.sh"
