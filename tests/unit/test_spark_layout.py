"""Both forms of a distribution become the same SPARK_HOME."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from ansible.module_utils import spark_layout
from ansible.module_utils.artifacts import ArtifactError

JARS = ["scala-library-2.13.18.jar", "zookeeper-3.9.5.jar", "zookeeper-jute-3.9.5.jar", "slf4j-api-2.0.17.jar", "hive-exec-2.3.10.jar"]
PYPI = {
    "pyspark-4.3.0/LICENSE": b"L",
    "pyspark-4.3.0/setup.py": b"no",
    "pyspark-4.3.0/deps/bin/spark-submit": b"#!",
    "pyspark-4.3.0/deps/examples/pi.py": b"pi",
    "pyspark-4.3.0/lib/py4j-0.10.9.9-src.zip": b"zip",
    "pyspark-4.3.0/lib/pyspark.zip": b"zip",
    "pyspark-4.3.0/pyspark/__init__.py": b"",
    **{f"pyspark-4.3.0/deps/jars/{jar}": jar.encode() for jar in JARS},
}
APACHE = {
    "spark-4.3.0-bin-hadoop3/LICENSE": b"L",
    "spark-4.3.0-bin-hadoop3/RELEASE": b"Spark 4.3.0 (git revision) built for Hadoop 3",
    "spark-4.3.0-bin-hadoop3/conf/spark-env.sh.template": b"no",
    "spark-4.3.0-bin-hadoop3/bin/spark-submit": b"#!",
    "spark-4.3.0-bin-hadoop3/examples/src/main/python/pi.py": b"pi",
    "spark-4.3.0-bin-hadoop3/python/lib/py4j-0.10.9.9-src.zip": b"zip",
    "spark-4.3.0-bin-hadoop3/python/lib/pyspark.zip": b"zip",
    "spark-4.3.0-bin-hadoop3/python/pyspark/__init__.py": b"",
    **{f"spark-4.3.0-bin-hadoop3/jars/{jar}": jar.encode() for jar in JARS},
}


def pack(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uid, info.uname, info.mtime = len(data), 0o664, 1001, "someone", 1_700_000_000
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("members", [PYPI, APACHE])
def test_both_forms_give_one_layout(tmp_path: Path, members: dict[str, bytes]) -> None:
    sha256, facts = spark_layout.repack(pack(tmp_path / "in.tgz", members), tmp_path / "out.tar", "4.3.0", "a test")
    assert facts == {"scala_version": "2.13.18", "zookeeper_version": "3.9.5", "py4j_version": "0.10.9.9"}
    assert sha256 == hashlib.sha256((tmp_path / "out.tar").read_bytes()).hexdigest()
    with tarfile.open(tmp_path / "out.tar") as archive:
        names = archive.getnames()
        assert sorted(names) == sorted(
            [
                *("LICENSE", "RELEASE", "bin/spark-submit", "examples/src/main/python/pi.py", "python/pyspark/__init__.py"),
                *("python/lib/py4j-0.10.9.9-src.zip", "python/lib/pyspark.zip"),
                *(f"jars/{jar}" for jar in JARS),
            ]
        )
        assert archive.getmember("bin/spark-submit").mode == 0o755
        assert {(member.uid, member.uname) for member in archive} == {(0, "root")}
        release = archive.extractfile("RELEASE")
        assert release and release.read() == b"Spark 4.3.0 built for Hadoop 3\nSource: a test\n"


def test_the_same_source_gives_the_same_tar(tmp_path: Path) -> None:
    source = pack(tmp_path / "in.tgz", PYPI)
    first = spark_layout.repack(source, tmp_path / "a.tar", "4.3.0", "x")
    assert spark_layout.repack(source, tmp_path / "b.tar", "4.3.0", "x") == first


def test_the_tar_of_zookeeper_has_what_it_loads_and_no_more(tmp_path: Path) -> None:
    _, facts = spark_layout.repack(pack(tmp_path / "in.tgz", PYPI), tmp_path / "out.tar", "4.3.0", "x")
    spark_layout.zookeeper_tar(tmp_path / "out.tar", tmp_path / "zk.tar", facts)
    with tarfile.open(tmp_path / "zk.tar") as archive:
        assert archive.getnames() == ["lib/zookeeper-3.9.5.jar", "lib/zookeeper-jute-3.9.5.jar", "lib/slf4j-api-2.0.17.jar", "RELEASE"]


def test_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"spark_version is 4\.2\.0, but the distribution's directory is 'pyspark-4\.3\.0'"):
        spark_layout.repack(pack(tmp_path / "in.tgz", PYPI), tmp_path / "out.tar", "4.2.0", "x")


def test_what_is_no_distribution_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a whole distribution"):
        spark_layout.repack(pack(tmp_path / "in.tgz", {"pyspark-4.3.0/setup.py": b""}), tmp_path / "out.tar", "4.3.0", "x")
    (tmp_path / "page.html").write_text("<html>not found</html>")
    with pytest.raises(ArtifactError, match="cannot be read as a tar archive"):
        spark_layout.repack(tmp_path / "page.html", tmp_path / "out.tar", "4.3.0", "x")


@pytest.mark.parametrize("name", ["/etc/passwd", "pyspark-4.3.0/../../etc/passwd"])
def test_members_that_leave_the_directory_are_refused(name: str) -> None:
    with pytest.raises(ArtifactError, match="leaves its directory"):
        spark_layout.member_target(name)


def test_a_full_disk_is_not_taken_for_a_damaged_archive(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.is_char_device():
        pytest.skip("no /dev/full")
    with pytest.raises(ArtifactError, match="/dev has no room"):
        spark_layout.repack(pack(tmp_path / "in.tgz", PYPI), full, "4.3.0", "x")
