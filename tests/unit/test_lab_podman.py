"""Decisions of the lab's modules: what to do with a container, which networks are in the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import lab_podman as lab


def container(status: str = "running", name: str = "lab", spec: str = "abc") -> dict[str, Any]:
    return {"Config": {"Labels": {lab.LABEL_LAB: name, lab.LABEL_SPEC: spec}}, "State": {"Status": status}}


@pytest.mark.parametrize(
    ("found", "action"),
    [
        (None, "create"),
        (container(), "probe"),
        (container("paused"), "unpause"),
        (container("exited"), "start"),
        (container("created"), "start"),
        (container("removing"), "recreate"),
        (container(spec="another image"), "recreate"),
        (container("exited", spec="another image"), "recreate"),
    ],
)
def test_judge(found: dict[str, Any] | None, action: str) -> None:
    assert lab.judge(found, "spark82", "lab", "abc")[0] == action


def test_a_container_of_another_lab_is_refused_with_its_name() -> None:
    with pytest.raises(lab.LabError, match=r"spark82.*belongs to the lab 'molecule'.*Rename the host"):
        lab.judge(container(name="molecule"), "spark82", "lab", "abc")


def test_a_foreign_container_is_refused() -> None:
    with pytest.raises(lab.LabError, match="something else"):
        lab.judge({"Config": {"Labels": None}, "State": {"Status": "running"}}, "spark82", "lab", "abc")


def test_ulimit_stays_below_the_callers_own() -> None:
    assert lab.ulimit("nofile", 20000, 524288) == "nofile=20000:20000"
    assert lab.ulimit("nofile", -1, 524288) == "nofile=524288:524288"
    assert lab.ulimit("nproc", 96365, 32768) == "nproc=32768:32768"


@pytest.mark.parametrize(("version", "runc", "expected"), [("v1", True, ["--runtime", "runc"]), ("v1", False, []), ("v2", True, [])])
def test_runtime(version: str, runc: bool, expected: list[str]) -> None:
    assert lab.runtime_args(version, runc) == expected


NETWORKS = [
    {"name": "podman", "subnets": [{"subnet": "10.88.0.0/16"}]},
    {"name": "spark-ha-lab", "subnets": [{"subnet": "192.168.88.0/24"}]},
    {"name": "six", "subnets": [{"subnet": "fd00::/64"}]},
    {"name": "none", "subnets": None},
]


@pytest.mark.parametrize(
    ("name", "subnet", "expected"),
    [
        ("spark-ha-lab", "192.168.88.0/24", []),
        ("spark-ha-other", "192.168.88.128/25", ["spark-ha-lab"]),
        ("spark-ha-other", "192.168.0.0/16", ["spark-ha-lab"]),
        ("spark-ha-other", "192.168.89.0/24", []),
    ],
)
def test_overlapping(name: str, subnet: str, expected: list[str]) -> None:
    assert [n["name"] for n in lab.overlapping(NETWORKS, name, subnet)] == expected


def test_only_bridges_that_no_network_uses_are_stale() -> None:
    address = {"addr_info": [{"local": "192.168.88.1"}]}
    interfaces = [
        {"ifname": "podman1", **address},
        {"ifname": "podman2", **address},
        {"ifname": "eth0", **address},
        {"ifname": "podman3", "addr_info": [{"local": "10.1.0.1"}]},
        {"ifname": "podman4"},
    ]
    assert lab.stale_bridges(interfaces, "192.168.88.0/24", ["podman1"]) == ["podman2"]


def test_the_images_tag_follows_its_inputs(tmp_path: Path) -> None:
    (tmp_path / "Containerfile").write_text("FROM scratch\n")
    before = lab.directory_digest(tmp_path)
    assert before == lab.directory_digest(tmp_path)
    (tmp_path / "Containerfile").chmod(0o755)
    executable = lab.directory_digest(tmp_path)
    (tmp_path / "rootfs").mkdir()
    (tmp_path / "rootfs" / "hosts").write_text("127.0.0.1 localhost\n")
    assert len({before, executable, lab.directory_digest(tmp_path)}) == 3
    assert lab.fingerprint("bookworm", ["a"]) != lab.fingerprint("trixie", ["a"])


def test_a_failure_carries_podmans_last_words() -> None:
    podman = lab.Podman(lambda argv: (125, "", "warning\nError: no space left on device\n"))
    with pytest.raises(lab.LabError, match=r"starting host spark82 failed: Error: no space left"):
        podman("run", "image", what="starting host spark82")
    assert podman.inspect("container", "spark82") is None
    assert not podman.ok("exec", "spark82", "true")
