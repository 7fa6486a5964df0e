"""Downloads against a real HTTP server, and the two modules as Ansible runs them."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import artifacts

ROOT = Path(__file__).resolve().parents[2]
VERSION = "4.3.0"
NAME = f"spark-{VERSION}-bin-hadoop3.tgz"
JARS = ("scala-library-2.13.18.jar", "zookeeper-3.9.5.jar")


class Mirror:
    """A mirror that may hold back part of a file."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.asked: list[str] = []
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.asked.append(self.path)
                data = mirror.files.get(self.path)
                if data is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: len(data) // 2] if self.path in mirror.cut else data)

            def log_message(self, *words: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def mirrors() -> Iterator[tuple[Mirror, Mirror]]:
    pair = (Mirror(), Mirror())
    yield pair
    for mirror in pair:
        mirror.server.shutdown()
        mirror.server.server_close()


def sha256(data: bytes) -> artifacts.Checksum:
    return artifacts.Checksum("sha256", hashlib.sha256(data).hexdigest())


def test_a_bad_checksum_leaves_no_file_and_names_expected_actual_and_url(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    mirrors[0].files["/a"] = b"damaged"
    with pytest.raises(artifacts.ArtifactError) as error:
        artifacts.fetch_verified([f"{mirrors[0].url}/a"], sha256(b"good"), tmp_path / "a")
    for word in (sha256(b"good").digest, sha256(b"damaged").digest, f"{mirrors[0].url}/a"):
        assert word in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_the_next_mirror_is_taken(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    data = b"x" * 3_000_000
    mirrors[0].files |= {"/cut": data, "/bad": b"other"}
    mirrors[0].cut.add("/cut")
    mirrors[1].files["/good"] = data
    urls = ["http://127.0.0.1:1/gone", *(f"{mirrors[0].url}/{name}" for name in ("missing", "cut", "bad")), f"{mirrors[1].url}/good"]
    took = artifacts.fetch_verified(urls, sha256(data), tmp_path / "a")
    assert took == urls[-1]
    assert (tmp_path / "a").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_when_no_mirror_has_it_each_reason_is_given(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    mirrors[0].files["/cut"] = b"x" * 1000
    mirrors[0].cut.add("/cut")
    with pytest.raises(artifacts.ArtifactError, match=r"cut: .*bytes.*missing: HTTP 404"):
        artifacts.fetch_verified([f"{mirrors[0].url}/cut", f"{mirrors[0].url}/missing"], sha256(b"x" * 1000), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def module(name: str, arguments: dict[str, Any], check: bool = False) -> dict[str, Any]:
    """Run a module as Ansible would and return its result."""
    code = (
        "import sys, runpy, ansible.module_utils as m;"
        f"m.__path__.append({str(ROOT / 'plugins/module_utils')!r});"
        "from ansible.module_utils import basic; basic._ANSIBLE_PROFILE = 'legacy';"
        "basic._ANSIBLE_ARGS = sys.stdin.buffer.read();"
        f"runpy.run_path({str(ROOT / 'plugins/modules' / (name + '.py'))!r}, run_name='__main__')"
    )
    given = json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check, "_ansible_remote_tmp": "/tmp"}})
    done = subprocess.run([sys.executable, "-c", code], input=given, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def release(scala: bytes = b"scala") -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as archive:
        files = {f"jars/{jar}": scala for jar in JARS} | {"python/lib/py4j-0.10.9.9-src.zip": b"zip", "bin/spark-submit": b"#!"}
        for name, data in files.items():
            info = tarfile.TarInfo(f"spark-{VERSION}-bin-hadoop3/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def serve(mirror: Mirror, data: bytes, checksum: str | None = None) -> None:
    base = f"/spark/spark-{VERSION}/{NAME}"
    mirror.files[base] = data
    if checksum is not None:
        mirror.files[f"{base}.sha512"] = checksum.encode()


def test_archive_once_then_from_the_cache_then_again_when_damaged(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    first, origin = mirrors
    data = release()
    digest = hashlib.sha512(data).hexdigest()
    serve(first, release(b"replaced by an evil mirror"), checksum=hashlib.sha512(release(b"replaced by an evil mirror")).hexdigest())
    serve(origin, data, checksum=f"{digest}  {NAME}\n")
    arguments = {"version": VERSION, "source": "archive", "cache_dir": str(tmp_path), "mirrors": [first.url, origin.url]}

    assert module("spark_artifact", arguments, check=True)["changed"] is True
    assert list(tmp_path.iterdir()) == []

    made = module("spark_artifact", arguments)
    assert made["changed"] is True, made
    assert (made["scala_version"], made["zookeeper_version"], made["py4j_version"]) == ("2.13.18", "3.9.5", "0.10.9.9")
    assert origin.url in made["origin"], "the mirror's own checksum must not vouch for its file"
    assert artifacts.digest_of(Path(made["spark"]["path"])) == made["spark"]["sha256"]
    assert not [path.name for path in tmp_path.iterdir() if "part" in path.name or "download" in path.name]

    asked = len(origin.asked)
    again = module("spark_artifact", arguments)
    assert (again["changed"], again["spark"], len(origin.asked)) == (False, made["spark"], asked)

    Path(made["spark"]["path"]).write_bytes(b"damaged")
    mended = module("spark_artifact", arguments)
    assert (mended["changed"], mended["spark"]) == (True, made["spark"])


def test_archive_with_a_bad_checksum_keeps_nothing(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    serve(mirrors[0], release(), checksum="0" * 128)
    failed = module("spark_artifact", {"version": VERSION, "source": "archive", "cache_dir": str(tmp_path), "mirrors": [mirrors[0].url]})
    assert failed["failed"] is True
    assert "expected sha512:000" in failed["msg"]
    assert [path.name for path in tmp_path.iterdir()] == [f".spark-{VERSION}.lock"]


def test_archive_is_unpacked_once_and_replaced_whole(tmp_path: Path) -> None:
    archive = tmp_path / "scala.tgz"
    archive.write_bytes(release())
    digest, dest = artifacts.digest_of(archive), tmp_path / "opt/scala"
    arguments = {"dest": str(dest), "sha256": digest, "candidates": [str(tmp_path / "gone"), str(archive)], "strip_components": 1}
    assert module("artifact_unpack", {**arguments, "candidates": []}) | {"invocation": 0} == {
        "changed": False, "needed": True, "problems": [], "invocation": 0,
    }  # fmt: skip
    assert module("artifact_unpack", arguments, check=True)["changed"] is True
    assert not dest.exists()
    assert module("artifact_unpack", arguments)["source"] == str(archive)
    assert (dest / "bin/spark-submit").read_bytes() == b"#!"
    assert module("artifact_unpack", arguments)["changed"] is False

    (dest / "stray").write_text("of a person")
    archive.write_bytes(release(b"newer"))
    assert module("artifact_unpack", {**arguments, "sha256": artifacts.digest_of(archive)})["changed"] is True
    assert not (dest / "stray").exists()
    assert [path.name for path in dest.parent.iterdir()] == ["scala"]


def test_an_archive_that_is_not_the_expected_one_gets_no_name(tmp_path: Path) -> None:
    archive = tmp_path / "scala.tgz"
    archive.write_bytes(release())
    for damage in (release(b"other"), release()[:-40]):
        archive.write_bytes(damage)
        wanted = "0" * 64
        result = module("artifact_unpack", {"dest": str(tmp_path / "opt/scala"), "sha256": wanted, "candidates": [str(archive)]})
        assert result["needed"] is True
        assert "Bad checksum" in result["problems"][0] or "could not unpack" in result["problems"][0]
        assert list((tmp_path / "opt").iterdir()) == []


def test_an_archive_about_which_tar_has_much_to_say_is_unpacked(tmp_path: Path) -> None:
    """More warnings than a pipe holds: one for every member, as for archives that were made on a Mac."""
    archive = tmp_path / "talkative.tar"
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(1500):
            info = tarfile.TarInfo(f"top/file-{number}")
            info.pax_headers = {"LIBARCHIVE.xattr.com.apple.provenance": "x"}
            tar.addfile(info)
    arguments = {
        "dest": str(tmp_path / "opt/x"),
        "sha256": artifacts.digest_of(archive),
        "candidates": [str(archive)],
        "strip_components": 1,
    }
    assert module("artifact_unpack", arguments)["changed"] is True
    assert (tmp_path / "opt/x/file-1499").exists()


@pytest.mark.parametrize("way", ["dots", "absolute", "symlink", "hard link"])
def test_nothing_is_written_outside_of_the_directory(tmp_path: Path, way: str) -> None:
    """Unpacking comes before the digest is known, so it must stand any archive."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    cases: dict[str, list[tuple[str, str | None, bytes | None]]] = {
        "dots": [("../../../outside/evil", None, b"x")],
        "absolute": [(f"{outside}/evil", None, b"x")],
        "symlink": [("way", str(outside), None), ("way/evil", None, b"x"), ("way/kept", None, b"x")],
        "hard link": [("kept", f"{outside}/kept", b""), ("kept", None, b"changed")],
    }
    archive = tmp_path / "evil.tar"
    with tarfile.open(archive, "w") as tar:
        for name, link, content in cases[way]:
            info = tarfile.TarInfo(name)
            if link:
                info.type, info.linkname = (tarfile.SYMTYPE if content is None else tarfile.LNKTYPE), link
                tar.addfile(info)
            else:
                info.size = len(content or b"")
                tar.addfile(info, io.BytesIO(content or b""))
    module("artifact_unpack", {"dest": str(tmp_path / "opt/x"), "sha256": "0" * 64, "candidates": [str(archive)]})
    assert [path.name for path in outside.iterdir()] == ["kept"]
    assert (outside / "kept").read_text() == "kept"
    assert list((tmp_path / "opt").iterdir()) == []


def test_a_scala_tarball_needs_a_checksum_and_is_fetched_once(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    mirrors[0].files["/scala-2.13.18.tgz"] = b"scala"
    arguments = {"urls": [f"{mirrors[0].url}/scala-2.13.18.tgz"], "cache_dir": str(tmp_path)}
    assert "No checksum of scala-2.13.18.tgz is known" in module("artifact_fetch", arguments)["msg"]
    arguments["checksum"] = str(sha256(b"scala"))
    assert module("artifact_fetch", arguments)["changed"] is True
    assert module("artifact_fetch", arguments)["changed"] is False
    assert len(mirrors[0].asked) == 1


def test_two_runs_at_once_prepare_it_once(tmp_path: Path, mirrors: tuple[Mirror, Mirror]) -> None:
    data = release()
    serve(mirrors[0], data, checksum=hashlib.sha512(data).hexdigest())
    arguments = {"version": VERSION, "source": "archive", "cache_dir": str(tmp_path), "mirrors": [mirrors[0].url]}
    results: list[dict[str, Any]] = []
    runs = [threading.Thread(target=lambda: results.append(module("spark_artifact", arguments))) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert sorted(result["changed"] for result in results) == [False, True]
    assert results[0]["spark"] == results[1]["spark"]
