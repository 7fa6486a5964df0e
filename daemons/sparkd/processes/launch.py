"""What a driver or executor is started with: argv, environment, private files. Pure.

jvm      java -cp CLASS_PATH -XmxMEMORYM OPTIONS MAIN_CLASS ARGUMENTS, as Spark's WorkerCommandBuilder, but without DriverWrapper, which
         needs Spark's RPC. Properties are -D options (Utils.sparkJavaOpts); those that look secret go into a private argument file.
python   PYTHON PROGRAM ARGUMENTS with Spark's Python libraries. Properties reach a SparkContext by a private properties file in
         PYSPARK_SUBMIT_ARGS: with --conf there, PySpark would put them on a command line that every user of the host can read.
command  argv as it is.
In argv and arguments {{DRIVER_ID}}, {{APP_ID}}, {{EXECUTOR_ID}}, {{ATTEMPT}}, {{WORKER_HOST}}, {{CORES}} and {{MEMORY}} (MiB) are replaced.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..core.values import ApplicationDescription, DriverDescription, ProcessRef
from . import fetch

#: Of the worker's own environment; everything else, NOTIFY_SOCKET and secrets of the unit among it, stays with the worker.
INHERITED = frozenset(
    (
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "JAVA_HOME", "SCALA_HOME"),
        *("HADOOP_HOME", "HADOOP_CONF_DIR", "YARN_CONF_DIR", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON", "PYTHONHASHSEED"),
        *("SPARK_CONF_DIR", "SPARK_LOCAL_DIRS", "SPARK_SCALA_VERSION", "KRB5CCNAME", "KRB5_CONFIG"),
    )
)
INHERITED_PREFIXES = ("LC_",)
#: Spark's spark.redaction.regex.
SECRET = re.compile(r"secret|password|token|access[.]?key", re.IGNORECASE)
RESOURCE = re.compile(r"spark\.(driver|executor)\.resource\.([^.]+)\.amount")
#: org.apache.spark.launcher.JavaModuleOptions: what Spark needs to run on Java 17 and later; older ones ignore it by the first option.
MODULE_OPTIONS = (
    "-XX:+IgnoreUnrecognizedVMOptions",
    *(
        f"--add-opens={package}=ALL-UNNAMED"
        for package in (
            *(
                "java.base/java.lang",
                "java.base/java.lang.invoke",
                "java.base/java.lang.reflect",
                "java.base/java.io",
                "java.base/java.net",
            ),
            *("java.base/java.nio", "java.base/java.util", "java.base/java.util.concurrent", "java.base/java.util.concurrent.atomic"),
            *("java.base/jdk.internal.ref", "java.base/sun.nio.ch", "java.base/sun.nio.cs", "java.base/sun.security.action"),
            *("java.base/sun.util.calendar", "java.security.jgss/sun.security.krb5"),
        )
    ),
    "-Djdk.reflect.useDirectMethodHandle=false",
)


class LaunchError(Exception):
    """It cannot be started; the text says why, and is reported."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a worker knows of itself and its host. Paths as text."""

    host: str
    spark_home: str = ""
    java_home: str = ""
    base: Mapping[str, str] = field(default_factory=dict)  # the worker's own environment
    environment: Mapping[str, str] = field(default_factory=dict)  # spark-env.sh
    py4j: str = ""  # SPARK_HOME/python/lib/py4j-*-src.zip
    private: str = ""  # the control directory of the attempt, where `files` go
    local_dirs: str = ""  # when neither settings nor environment name SPARK_LOCAL_DIRS


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start. files: name -> text, to be written to Place.private, for this user only."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)


def driver(ref: ProcessRef, description: DriverDescription, place: Place, resource: str) -> Launch:
    """Return how to start a driver's attempt. resource: path of what was fetched, "" for none. Raises LaunchError."""
    refuse_resources(description.properties)
    values = {"DRIVER_ID": ref.owner, "ATTEMPT": str(ref.number), "WORKER_HOST": place.host}
    values |= {"CORES": str(description.cores), "MEMORY": str(description.memory_mb)}
    environment = surroundings(place, description.environment)
    environment |= {"SPARK_DRIVER_ID": ref.owner, "SPARKD_ATTEMPT": str(ref.number)}
    arguments = fill(description.arguments, values)
    files: dict[str, str] = {}
    if description.kind == "command":
        argv = fill(description.argv, values) + arguments
        if not argv or not argv[0]:
            raise LaunchError("the command is empty")
    elif description.kind == "jvm":
        argv, files = _jvm(description, place, environment, resource, arguments)
    elif description.kind == "python":
        argv, files = _python(description, place, environment, resource, arguments)
    else:
        raise LaunchError(f"a driver of kind {description.kind!r} is not known here")
    check(argv, environment)
    return Launch(tuple(argv), environment, files)


def executor(
    ref: ProcessRef,
    cores: int,  # noqa: ARG001 what it will need
    memory_mb: int,  # noqa: ARG001
    description: ApplicationDescription,  # noqa: ARG001
    place: Place,  # noqa: ARG001
) -> Launch:
    """Return how to start an executor. Raises LaunchError: Spark's own executors need Spark's RPC, which this worker does not speak yet."""
    raise LaunchError(f"executor {ref}: this worker cannot run executors of Spark applications yet (no Spark RPC on this worker)")


def fill(texts: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """Replace placeholders; what is not known stays as it is."""
    return [re.sub(r"\{\{([A-Z_]+)\}\}", lambda match: values.get(match[1], match[0]), text) for text in texts]


def surroundings(place: Place, own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that all kinds share; `own` is the submission's."""
    environment = {name: value for name, value in place.base.items() if name in INHERITED or name.startswith(INHERITED_PREFIXES)}
    environment |= place.environment
    environment |= own
    environment.setdefault("PATH", "/usr/local/bin:/usr/bin:/bin")
    for name, value in (("SPARK_HOME", place.spark_home), ("JAVA_HOME", place.java_home)):
        if value:
            environment[name] = value
    if place.local_dirs:
        environment.setdefault("SPARK_LOCAL_DIRS", place.local_dirs)
    return environment


def refuse_resources(properties: Mapping[str, str]) -> None:
    """Refuse a request for GPUs and the like. Raises LaunchError."""
    for key, value in properties.items():
        match = RESOURCE.fullmatch(key)
        if match and match[1] == "driver" and value.strip() not in ("", "0"):
            raise LaunchError(f"{key}={value}: custom resources ({match[2]}) are not supported by this cluster's workers")


def check(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """Refuse what execve(2) cannot take. Raises LaunchError, which never tells a value."""
    if any("\0" in text for text in argv):
        raise LaunchError("an argument holds a zero byte")
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise LaunchError(f"the environment variable {name!r} cannot be passed on")


def _jvm(
    description: DriverDescription, place: Place, environment: dict[str, str], resource: str, arguments: list[str]
) -> tuple[list[str], dict[str, str]]:
    if not description.main_class:
        raise LaunchError("no main class")
    java_home = environment.get("JAVA_HOME", "")
    class_path = [*description.class_path]
    spark_home = environment.get("SPARK_HOME", "")
    if spark_home:
        class_path += [environment.get("SPARK_CONF_DIR") or f"{spark_home}/conf", f"{spark_home}/jars/*"]
    class_path += [resource] if resource else []
    if description.library_path:
        paths = [*description.library_path, environment.get("LD_LIBRARY_PATH", "")]
        environment["LD_LIBRARY_PATH"] = ":".join(path for path in paths if path)
    public = [f"-D{key}={value}" for key, value in description.properties.items() if not SECRET.search(key)]
    secret = [f"-D{key}={value}" for key, value in description.properties.items() if SECRET.search(key)]
    argv = [f"{java_home}/bin/java" if java_home else "java"]
    if class_path:
        argv += ["-cp", ":".join(class_path)]
    argv += [f"-Xmx{description.memory_mb}M", *MODULE_OPTIONS, *public, *description.java_options]
    files = {}
    if secret:
        files["java.options"] = "".join(java_argument(option) + "\n" for option in secret)
        argv.append(f"@{place.private}/java.options")
    return [*argv, description.main_class, *arguments], files


def _python(
    description: DriverDescription, place: Place, environment: dict[str, str], resource: str, arguments: list[str]
) -> tuple[list[str], dict[str, str]]:
    if not resource:
        raise LaunchError("no Python program")
    properties = description.properties
    python = properties.get("spark.pyspark.driver.python") or properties.get("spark.pyspark.python")
    python = python or environment.get("PYSPARK_DRIVER_PYTHON") or environment.get("PYSPARK_PYTHON") or "python3"
    environment.setdefault("PYSPARK_PYTHON", properties.get("spark.pyspark.python") or python)
    environment.setdefault("PYTHONUNBUFFERED", "1")  # as Spark's PythonRunner: output is there when it is looked at
    spark_home = environment.get("SPARK_HOME", "")
    paths = [*description.class_path]
    if spark_home:
        paths += [f"{spark_home}/python"] + ([place.py4j] if place.py4j else [])
    paths.append(environment.get("PYTHONPATH", ""))
    joined = ":".join(path for path in paths if path)
    if joined:
        environment["PYTHONPATH"] = joined
    # The program itself is the driver: for the SparkContext in it the deploy mode is client, and the heap is its JVM's.
    own = {"spark.driver.memory": f"{description.memory_mb}m"} | dict(properties) | {"spark.submit.deployMode": "client"}
    text = "".join(f"{java_property(key)}={java_property(value)}\n" for key, value in own.items() if key.startswith("spark."))
    environment["PYSPARK_SUBMIT_ARGS"] = shlex.join(["--properties-file", f"{place.private}/spark.properties", "pyspark-shell"])
    return [python, resource, *arguments], {"spark.properties": text}


def java_argument(text: str) -> str:
    """Quote for a java @file (the java command, "Command-Line Argument Files")."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r") + '"'


def java_property(text: str) -> str:
    """Quote for java.util.Properties.load."""
    out = []
    for character in text:
        if character in "\\=: #!\t\n\r\f":
            out.append({"\t": "\\t", "\n": "\\n", "\r": "\\r", "\f": "\\f"}.get(character, "\\" + character))
        elif " " <= character <= "~":
            out.append(character)
        else:
            units = character.encode("utf-16-be")
            out += [f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2)]
    return "".join(out)


def for_people(description: DriverDescription) -> dict[str, str]:
    """Return what a page may show: no environment, no properties."""
    if description.kind == "command":
        command = shlex.join([*description.argv, *description.arguments])
    else:
        what = [description.main_class if description.kind == "jvm" else "", fetch.public(description.resource)]
        command = shlex.join([description.kind, *(part for part in what if part), *description.arguments])
    return {"name": description.name, "kind": description.kind, "command": command[:4000]}
