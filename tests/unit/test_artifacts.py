"""Checksums in all of Apache's formats, the cache's lock and seal."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path

import pytest
from ansible.module_utils import artifacts

HEX = hashlib.sha512(b"spark").hexdigest()
NAME = "spark-4.3.0-bin-hadoop3.tgz"
GROUPS = " ".join(HEX.upper()[i : i + 8] for i in range(0, 128, 8))


@pytest.mark.parametrize(
    "text",
    [
        f"{HEX}  {NAME}\n",
        f"{HEX} *{NAME}\r\n",
        f"{HEX}  ./dist/{NAME}\n",
        f"SHA512 ({NAME}) = {HEX}\n",
        f"SHA512({NAME})= {HEX}\n",
        f"{NAME}: {GROUPS}\n",
        f"{NAME}: {GROUPS[:71]}\n                             {GROUPS[71:]}\n",
        f"{HEX}\n",
        f"{'0' * 128}  other.tgz\n{HEX}  {NAME}\n",
        f"other.tgz: {'0' * 128}\n{NAME}: {HEX}\n",
    ],
)
def test_each_format_of_a_checksum_file(text: str) -> None:
    assert artifacts.parse_checksum_file(text, NAME) == artifacts.Checksum("sha512", HEX)


@pytest.mark.parametrize("text", ["", "<html>404</html>", f"{HEX}  other.tgz", f"{HEX[:100]}  {NAME}", f"other.tgz: {HEX}"])
def test_a_file_without_our_checksum_is_refused(text: str) -> None:
    with pytest.raises(artifacts.ArtifactError, match="No SHA-512"):
        artifacts.parse_checksum_file(text, NAME)


def test_checksums_as_users_write_them() -> None:
    assert str(artifacts.parse_checksum(f"SHA-512:{HEX.upper()}")) == f"sha512:{HEX}"
    assert artifacts.parse_checksum("a" * 64).algorithm == "sha256"


@pytest.mark.parametrize("text", ["", "sha256:", "sha256:" + HEX, "md5:" + "a" * 32, "z" * 64, "sha512:" + "a" * 64])
def test_what_is_no_checksum(text: str) -> None:
    with pytest.raises(artifacts.ArtifactError, match="is not a checksum"):
        artifacts.parse_checksum(text)


def test_seal_is_believed_until_the_file_differs(tmp_path: Path) -> None:
    path = tmp_path / "spark.tar"
    path.write_bytes(b"whole")
    digest = hashlib.sha256(b"whole").hexdigest()
    artifacts.seal(path, digest, {"origin": "here"})
    assert artifacts.sealed(path) == (digest, {"origin": "here"})
    assert (tmp_path / "spark.tar.sha256").read_text() == f"{digest}  spark.tar\n"

    os.utime(path, (1, 1))  # copied elsewhere: the digest decides, and the seal is renewed
    assert artifacts.sealed(path) == (digest, {"origin": "here"})

    path.write_bytes(b"whola")
    assert artifacts.sealed(path) is None
    path.write_bytes(b"who")
    assert artifacts.sealed(path) is None
    path.unlink()
    assert artifacts.sealed(path) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sha256": 1, "size": 2, "mtime_ns": 3, "facts": 4}', "null"])
def test_a_broken_seal_means_make_it_again(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spark.tar"
    path.write_bytes(b"whole")
    (tmp_path / "spark.tar.json").write_text(text)
    assert artifacts.sealed(path) is None


def test_the_second_run_waits_for_the_first_and_clears_what_a_dead_one_left(tmp_path: Path) -> None:
    (tmp_path / "spark.tar.part-1").write_text("half")
    (tmp_path / ".spark.download-x").mkdir()
    (tmp_path / "spark.tar").write_text("whole")
    order: list[str] = []

    def second() -> None:
        with artifacts.cache_lock(tmp_path, "spark"):
            order.append("second")

    with artifacts.cache_lock(tmp_path, "spark"):
        other = threading.Thread(target=second)
        other.start()
        time.sleep(0.3)
        order.append("first")
    other.join(5)
    assert order == ["first", "second"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".spark.lock", "spark.tar"]


def test_waiting_for_the_lock_is_bounded(tmp_path: Path) -> None:
    with (
        artifacts.cache_lock(tmp_path, "spark"),
        pytest.raises(artifacts.ArtifactError, match="Another run has held"),
        artifacts.cache_lock(tmp_path, "spark", timeout=0.1),
    ):
        raise AssertionError("two holders")
