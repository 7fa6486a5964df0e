"""What drivers are started with, and what supervise decides."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkd.core.values import ApplicationDescription, DriverDescription, ProcessRef
from sparkd.processes import launch
from sparkd.processes.launch import LaunchError, Place
from sparkd.processes.supervise import Again, Exit, Over, decide

REF = ProcessRef("driver", "driver-2026-0001", 2)
PLACE = Place(
    "w1",
    spark_home="/opt/spark",
    java_home="/opt/java",
    base={"PATH": "/bin", "NOTIFY_SOCKET": "/run/x", "SPARKD_SECRET": "s", "LC_ALL": "C"},
    environment={"SPARK_LOCAL_DIRS": "/fast"},
    py4j="/opt/spark/python/lib/py4j-1-src.zip",
    private="/work/.sparkd/run/d/d2",
    local_dirs="/work/d/2/local",
)


def jvm(**other: object) -> DriverDescription:
    return DriverDescription("jvm", main_class="org.Main", arguments=("a", "{{CORES}}"), memory_mb=512, **other)  # type: ignore[arg-type]


def test_a_commands_placeholders_are_filled() -> None:
    argv = ("run", "{{DRIVER_ID}}", "{{ATTEMPT}}/{{WORKER_HOST}}", "{{CORES}}:{{MEMORY}}", "{{UNKNOWN}}", "{{driver_id}}")
    plan = launch.driver(REF, DriverDescription("command", argv=argv, cores=3, memory_mb=7), PLACE, "")
    assert plan.argv == ("run", "driver-2026-0001", "2/w1", "3:7", "{{UNKNOWN}}", "{{driver_id}}")


def test_the_environment_is_the_submissions_and_sparks_and_not_the_workers() -> None:
    description = DriverDescription("command", argv=("x",), environment={"MINE": "1", "SPARK_HOME": "/wrong", "SPARK_DRIVER_ID": "wrong"})
    environment = launch.driver(REF, description, PLACE, "").environment
    assert environment == {
        "PATH": "/bin",
        "LC_ALL": "C",
        "MINE": "1",
        "SPARK_HOME": "/opt/spark",
        "JAVA_HOME": "/opt/java",
        "SPARK_LOCAL_DIRS": "/fast",
        "SPARK_DRIVER_ID": "driver-2026-0001",
        "SPARKD_ATTEMPT": "2",
    }


def test_a_jvm_driver() -> None:
    properties = {"spark.app.name": "n", "spark.ssl.keyPassword": 'p "q"'}
    plan = launch.driver(REF, jvm(properties=properties, java_options=("-Xss1m",), class_path=("/x.jar",)), PLACE, "/d/app.jar")
    argv = list(plan.argv)
    assert argv[:4] == ["/opt/java/bin/java", "-cp", "/x.jar:/opt/spark/conf:/opt/spark/jars/*:/d/app.jar", "-Xmx512M"]
    assert "-Dspark.app.name=n" in argv and "-Xss1m" in argv
    assert argv[-4:] == ["@/work/.sparkd/run/d/d2/java.options", "org.Main", "a", "1"]
    assert not any("keyPassword" in part for part in argv)
    assert plan.files == {"java.options": '"-Dspark.ssl.keyPassword=p \\"q\\""\n'}


def test_a_jvm_driver_elsewhere() -> None:
    place = dataclasses.replace(PLACE, spark_home="", java_home="")
    plan = launch.driver(REF, jvm(library_path=("/lib1", "/lib2")), place, "/d/app.jar")
    assert plan.argv[:3] == ("java", "-cp", "/d/app.jar")
    assert plan.environment["LD_LIBRARY_PATH"] == "/lib1:/lib2"


def test_a_python_driver_gets_properties_by_a_private_file() -> None:
    properties = {"spark.pyspark.python": "/usr/bin/python3.11", "spark.x": "a=b c\n", "spark.submit.deployMode": "cluster", "other": "no"}
    description = DriverDescription("python", arguments=("1",), properties=properties, memory_mb=300)
    plan = launch.driver(REF, description, PLACE, "/d/job.py")
    assert plan.argv == ("/usr/bin/python3.11", "/d/job.py", "1")
    assert plan.environment["PYTHONPATH"] == "/opt/spark/python:/opt/spark/python/lib/py4j-1-src.zip"
    assert plan.environment["PYSPARK_SUBMIT_ARGS"] == "--properties-file /work/.sparkd/run/d/d2/spark.properties pyspark-shell"
    lines = plan.files["spark.properties"].splitlines()
    assert "spark.driver.memory=300m" in lines and "spark.x=a\\=b\\ c\\n" in lines and "spark.submit.deployMode=client" in lines
    assert not any(line.startswith("other") for line in lines)


def test_java_property_escapes() -> None:
    assert launch.java_property("a:b#c!\\é😀") == "a\\:b\\#c\\!\\\\\\u00e9\\ud83d\\ude00"


@pytest.mark.parametrize(
    ("description", "why"),
    [
        (DriverDescription("command"), "empty"),
        (DriverDescription("command", argv=("a\0b",)), "zero byte"),
        (DriverDescription("command", argv=("a",), environment={"X": "secret\0"}), "'X'"),
        (DriverDescription("jvm"), "no main class"),
        (DriverDescription("python"), "no Python program"),
        (DriverDescription("command", argv=("a",), properties={"spark.driver.resource.gpu.amount": "1"}), "gpu.*not supported"),
    ],
)
def test_what_cannot_be_started(description: DriverDescription, why: str) -> None:
    with pytest.raises(LaunchError, match=why) as caught:
        launch.driver(REF, description, PLACE, "")
    assert "secret" not in str(caught.value)


def test_executors_are_refused_for_now() -> None:
    with pytest.raises(LaunchError, match="cannot run executors"):
        launch.executor(ProcessRef("executor", "app-1", 0), 1, 1, ApplicationDescription("a"), PLACE)


def test_people_see_no_environment_and_no_properties() -> None:
    description = DriverDescription("command", "n", ("echo", "a b"), environment={"S": "secret"}, properties={"p": "secret"})
    assert launch.for_people(description) == {"name": "n", "kind": "command", "command": "echo 'a b'"}
    assert launch.for_people(jvm(resource="http://x/a.jar"))["command"] == "jvm org.Main http://x/a.jar a '{{CORES}}'"
    assert "s3cret" not in launch.for_people(jvm(resource="http://u:s3cret@x/a.jar?sig=s3cret"))["command"]


@pytest.mark.parametrize(
    ("kind", "supervise", "end", "exit_", "expected"),
    [
        ("driver", False, "", Exit(0), Over("FINISHED", "")),
        ("driver", True, "", Exit(0), Over("FINISHED", "")),
        ("driver", False, "", Exit(3), Over("FAILED", "exit code 3")),
        ("driver", False, "", Exit(-9), Over("FAILED", "signal 9")),
        ("driver", True, "asked", Exit(0), Over("KILLED", "asked (exit code 0)")),
        ("driver", True, "asked", Exit(-15, killed=True), Over("KILLED", "asked (signal 15)")),
        ("driver", True, "", Exit(error="cannot run x"), Over("ERROR", "cannot run x")),
        ("driver", False, "", Exit(lost="keeper died"), Over("FAILED", "keeper died")),
        ("driver", True, "", Exit(lost="keeper died"), Again(1.0, 2.0, "keeper died")),
        ("driver", False, "", Exit(0, killed=True), Over("FAILED", "exit code 0")),
        ("executor", False, "", Exit(1), Over("EXITED", "exit code 1")),
        ("executor", False, "", Exit(lost="keeper died"), Over("LOST", "keeper died")),
        ("executor", False, "", Exit(error="cannot run x"), Over("FAILED", "cannot run x")),
    ],
)
def test_what_an_end_means(kind: str, supervise: bool, end: str, exit_: Exit, expected: Over | Again) -> None:
    assert decide(kind, supervise, end, exit_, 0.0) == expected  # type: ignore[arg-type]


def test_the_wait_doubles_and_a_long_run_sets_it_back() -> None:
    waits, wait = [], 1.0
    for ran_ms in (0, 0, 0, 5000, 5001, 0):
        again = decide("driver", True, "", Exit(1, started_ms=1000, ended_ms=1000 + ran_ms), wait)
        assert isinstance(again, Again)
        waits.append(again.after_s)
        wait = again.next_s
    assert waits == [1.0, 2.0, 4.0, 8.0, 1.0, 2.0]


@given(st.integers(0, 60))
def test_the_wait_stays_bounded(times: int) -> None:
    wait = 0.0
    for _ in range(times):
        again = decide("driver", True, "", Exit(1), wait)
        assert isinstance(again, Again)
        wait = again.next_s
    assert wait <= 3600.0
