"""What a CreateSubmissionRequest becomes (StandaloneSubmitRequestServlet.buildDriverDescription)."""

from __future__ import annotations

from typing import Any

import pytest
from http_faces import FakeMaster, master_settings

from sparkd.core.values import DriverDescription
from sparkd.http.rest import BadRequest, Submission, describe, split_command

BODY: dict[str, Any] = {
    "action": "CreateSubmissionRequest",
    "clientSparkVersion": "4.3.0",
    "appResource": "file:/app.jar",
    "mainClass": "org.example.Main",
    "appArgs": ["a", "{{HOME_OF_MASTER}}"],
    "sparkProperties": {"spark.app.name": "an application"},
    "environmentVariables": {},
}
ENVIRON = {"HOME_OF_MASTER": "/home/master", "EMPTY": ""}


def made(properties: dict[str, str] | None = None, port: int = 6066, **changes: Any) -> DriverDescription:
    body = {**BODY, **changes}
    if properties is not None:
        body["sparkProperties"] = {**BODY["sparkProperties"], **properties}
    return describe(Submission(body), FakeMaster(settings=master_settings(port=port)), ENVIRON)


def test_defaults() -> None:
    assert made() == DriverDescription(
        kind="jvm",
        name="an application",
        resource="file:/app.jar",
        main_class="org.example.Main",
        arguments=("a", "{{HOME_OF_MASTER}}"),  # arguments are not substituted
        properties={"spark.app.name": "an application", "spark.master": "spark://127.0.0.1:7077"},
        cores=1,
        memory_mb=1024,
        supervise=False,
    )


def test_everything() -> None:
    found = made(
        {
            "spark.driver.memory": "2G",
            "spark.driver.cores": "3",
            "spark.driver.supervise": "TRUE",
            "spark.driver.defaultJavaOptions": "-Dd=1",
            "spark.driver.extraJavaOptions": "-Da='b c' -XX:+UseG1GC",
            "spark.driver.extraClassPath": "/a.jar:/b/*",
            "spark.driver.extraLibraryPath": "/lib::/lib2",
        },
        environmentVariables={"A": "b", "SPARK_LOCAL_IP": "10.0.0.1", "SPARK_LOCAL_HOSTNAME": "h", "SPARK_SCALA_VERSION": "2.13"},
    )
    assert (found.memory_mb, found.cores, found.supervise) == (2048, 3, True)
    assert found.java_options == ("-Dd=1", "-Da=b c", "-XX:+UseG1GC")
    assert (found.class_path, found.library_path) == (("/a.jar", "/b/*"), ("/lib", "/lib2"))
    assert found.environment == {"A": "b", "SPARK_SCALA_VERSION": "2.13"}


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("{{HOME_OF_MASTER}}", "/home/master"),
        ("{{EMPTY}}", ""),
        ("{{NOT_THERE}}", "{{NOT_THERE}}"),
        ("x{{HOME_OF_MASTER}}", "x{{HOME_OF_MASTER}}"),
        ("{{HOME_OF_MASTER}}/x", "{{HOME_OF_MASTER}}/x"),
        ("{{}}", "{{}}"),
        ("plain", "plain"),
    ],
)
def test_placeholders_are_the_masters_environment(value: str, result: str) -> None:
    found = made({"spark.x": value}, environmentVariables={"X": value})
    assert (found.properties["spark.x"], found.environment["X"]) == (result, result)


def test_the_masters_url_is_the_one_for_drivers() -> None:
    assert made({"spark.master": "spark://h1:6066,h2:6066"}).properties["spark.master"] == "spark://h1:7077,h2:7077"
    assert made({"spark.master": "spark://h1:16066"}, port=16066).properties["spark.master"] == "spark://h1:7077"


def test_spark_submit_as_the_main_class_gets_the_name() -> None:
    found = made(mainClass="org.apache.spark.deploy.SparkSubmit", appResource="", appArgs=["/pi.py", "10"])
    assert (found.resource, found.arguments) == ("", ("-c", "spark.app.name=an application", "/pi.py", "10"))


@pytest.mark.parametrize(
    ("properties", "names"),
    [
        ({"spark.driver.cores": "0"}, "spark.driver.cores"),
        ({"spark.driver.cores": "1.5"}, "spark.driver.cores"),
        ({"spark.driver.cores": "-1"}, "spark.driver.cores"),
        ({"spark.driver.memory": "4096"}, "give the unit"),
        ({"spark.driver.memory": "1.5g"}, "spark.driver.memory"),
        ({"spark.driver.supervise": "1"}, "spark.driver.supervise"),
    ],
)
def test_values_that_cannot_be(properties: dict[str, str], names: str) -> None:
    with pytest.raises(BadRequest, match=names):
        made(properties)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  ", []),
        ("a b\tc\nd", ["a", "b", "c", "d"]),
        ('a "b c" d', ["a", "b c", "d"]),
        ("'a \"b\" \\ c'", ['a "b" \\ c']),
        ('"a \\"b\\" \\\\ c"', ['a "b" \\ c']),
        (r"-Dp=\d+", [r"-Dp=\d+"]),
        ("''", [""]),
        ("a''b\"\"c", ["abc"]),
        ('"open', ["open"]),
        ('"open\\', ["open"]),
    ],
)
def test_options_are_split_as_spark_splits_them(text: str, words: list[str]) -> None:
    assert split_command(text) == words
