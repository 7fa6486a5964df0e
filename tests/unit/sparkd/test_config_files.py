"""spark-env.sh, options of Java, properties files, secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkd import config_files as files


def env_file(folder: Path, text: str) -> dict[str, str]:
    (folder / "spark-env.sh").write_text(text)
    return {"SPARK_CONF_DIR": str(folder), "PATH": "/usr/bin:/bin"}


def test_spark_env_is_sourced_and_exported(tmp_path: Path) -> None:
    environ = env_file(
        tmp_path,
        "echo noise\nA=1\nexport B='two words'\nC=$A$B\nD=${D:-default}\nE=$'line\\nline'\nf() { :; }\n"
        "[ -w /nowhere ] || unset GONE\nfalse\n",
    )
    found = files.environment({**environ, "D": "given", "GONE": "x"})
    assert (found["A"], found["B"], found["C"], found["D"], found["E"]) == ("1", "two words", "1two words", "given", "line\nline")
    assert "GONE" not in found
    assert found["SPARK_ENV_LOADED"] == "1"


def test_spark_env_is_read_once_and_may_be_absent(tmp_path: Path) -> None:
    environ = env_file(tmp_path, "A=1\n")
    assert "A" not in files.environment({**environ, "SPARK_ENV_LOADED": "1"})
    (tmp_path / "spark-env.sh").unlink()
    assert files.environment(environ) == environ
    assert files.environment({}) == {}


def test_spark_home_has_a_conf(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    env_file(tmp_path / "conf", "A=1\n")
    assert files.environment({"SPARK_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})["A"] == "1"


@pytest.mark.parametrize(("text", "why"), [("if true; then\n", "syntax error"), ("echo sorry >&2; exit 4\n", "sorry")])
def test_a_spark_env_that_fails_says_so(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(files.FileProblem, match=rf"spark-env\.sh fails .*{why}"):
        files.environment(env_file(tmp_path, text))


def test_a_spark_env_that_does_not_end_is_ended(tmp_path: Path) -> None:
    with pytest.raises(files.FileProblem, match=r"did not end within 0\.3 s"):
        files.environment(env_file(tmp_path, "sleep 60\n"), timeout_s=0.3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-Da=1 -Db=2", ["-Da=1", "-Db=2"]),
        ("  -Da='x y'  \"-Db=p q\" ", ["-Da=x y", "-Db=p q"]),
        (r"-Da=\"q\" 'b\c' \ d", ['-Da="q"', r"b\c", " d"]),
        ("'' \"\"", ["", ""]),
        ("", []),
        ("a'b'c\"d\"", ["abcd"]),
    ],
)
def test_options_are_split_as_the_launcher_does(text: str, expected: list[str]) -> None:
    assert files.options(text) == expected


@pytest.mark.parametrize("text", ["'a", '"a', "a\\"])
def test_options_that_do_not_end(text: str) -> None:
    with pytest.raises(files.FileProblem, match="OPTS cannot be read"):
        files.java_options(text, "OPTS")


def test_argument_files_are_read_as_java_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "daemon-secrets.opts"
    path.write_text('# comment\n"-Dspark.a=p\\"q\\\\r\\ts"\n-Dspark.b=\'x y\'   -Xmx1g\n"-Dspark.c=one\\\n   two"\n')
    properties, others = files.java_options(f"-Dspark.d=1 @{path} @@literal -XX:+UseG1GC", "OPTS")
    where = f"{path} (named in OPTS)"
    assert properties == {
        "spark.d": ("1", "OPTS"),
        "spark.a": ('p"q\\r\ts', where),
        "spark.b": ("x y", where),
        "spark.c": ("onetwo", where),
    }
    assert others == ["-Xmx1g", "@@literal", "-XX:+UseG1GC"]


def test_what_the_role_writes_is_read_back(tmp_path: Path) -> None:
    from filter.java_options import java_argument_file

    value = "a\"b\\c\nd\te f#'g"
    path = tmp_path / "opts"
    path.write_text(java_argument_file({"spark.secret": value, "spark.flag": True}))
    found, _ = files.java_options(f"@{path}", "OPTS")
    assert found["spark.secret"][0] == value
    assert found["spark.flag"][0] == "true"


def test_an_argument_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(files.FileProblem, match=r"SPARK_DAEMON_JAVA_OPTS names an argument file: .*/gone cannot be read: No such file"):
        files.java_options(f"@{tmp_path}/gone", "SPARK_DAEMON_JAVA_OPTS")


def test_properties_files() -> None:
    text = (
        "# c\n! c\n\nspark.a 1\nspark.b=2\nspark.c : 3\nspark.d\t x y \nspark.e = on\\\n   e\nspark.f \\u0041\\tB\n"
        "spark\\ g=h\nempty\nspark.p=C:\\\\x\\\\\nspark.a 9\r\nlast=\\"
    )
    assert files.properties(text) == {
        **{"spark.a": "9", "spark.b": "2", "spark.c": "3", "spark.d": "x y", "spark.e": "one", "spark.f": "A\tB"},
        **{"spark g": "h", "empty": "", "spark.p": "C:\\x\\", "last": ""},
    }
    with pytest.raises(ValueError, match="line 2"):
        files.properties("a=b\nc=\\u00zz\n")


@given(st.text(max_size=200))
def test_no_text_breaks_a_reader(text: str) -> None:
    for read in (files.properties, files.options, files.argument_file):
        try:
            read(text)
        except ValueError as refusal:
            assert str(refusal)


def test_secrets_are_for_few(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("  0123456789abcdef\n")
    path.chmod(0o640)
    assert files.secret(path) == b"0123456789abcdef"
    path.chmod(0o644)
    with pytest.raises(files.FileProblem, match="chmod 0640"):
        files.secret(path)
    path.chmod(0o600)
    path.write_text("short")
    with pytest.raises(files.FileProblem, match="16 or more"):
        files.secret(path)
    with pytest.raises(files.FileProblem, match="cannot be read"):
        files.secret(tmp_path / "gone")
    with pytest.raises(files.FileProblem):
        files.secret(tmp_path)


def test_a_file_that_is_too_large_or_no_text(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (files.FILE_LIMIT + 1))
    with pytest.raises(files.FileProblem, match="larger"):
        files.read(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(files.FileProblem, match="UTF-8"):
        files.read(path)
