"""The first key onto a real OpenSSH server that takes only a password: in a throw-away container of the lab's image."""

from __future__ import annotations

import json
import os
import resource
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible.module_utils.lab_podman import ulimit
from missing import missing

ROOT = Path(__file__).resolve().parent.parent.parent
START = """
useradd -m -s /bin/bash kim && echo kim:$PASSWORD | chpasswd && ssh-keygen -A >/dev/null && mkdir -p /run/sshd &&
exec /usr/sbin/sshd -D -e -o PasswordAuthentication=yes -o UsePAM=yes
"""


@dataclass(frozen=True)
class Sshd:
    """A running sshd and the user who may log in."""

    name: str
    address: str
    password: str

    def run(self, *command: str) -> str:
        return podman("exec", self.name, *command)

    def fingerprint(self, kind: str = "ed25519") -> str:
        return self.run("ssh-keygen", "-lf", f"/etc/ssh/ssh_host_{kind}_key.pub").split()[1]


def podman(*command: str) -> str:
    return subprocess.run(["podman", *command], capture_output=True, text=True, check=True, timeout=60).stdout.strip()


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    if os.geteuid() != 0 or not shutil.which("podman"):
        missing("needs root and podman for a throw-away host")
    # Debian 12's sshd: newer ones hang up on an address for a while after the test's wrong passwords (PerSourcePenalties).
    images = podman("images", "--filter", "reference=localhost/spark-ha-host:debian-12-*", "--format", "{{.ID}}").split()
    if not images:
        missing("no image of a lab host: `make lab` or `make molecule` builds one")
    limits = [
        f"--ulimit={ulimit(name, resource.getrlimit(kind)[1], wanted)}"
        for name, kind, wanted in (("nofile", resource.RLIMIT_NOFILE, 524288), ("nproc", resource.RLIMIT_NPROC, 32768))
    ]
    password = secrets.token_urlsafe(12)
    container = podman(
        "run", "--detach", "--rm", "--env", f"PASSWORD={password}", *limits, "--entrypoint", "/bin/sh", images[0], "-ec", START
    )
    try:
        address = podman("inspect", "--format", "{{.NetworkSettings.IPAddress}}", container)
        wait(address)
        yield Sshd(container, address, password)
    finally:
        podman("rm", "--force", "--time", "0", container)


def wait(address: str) -> None:
    """Wait until sshd says who it is; an open port alone may still be slow to answer."""
    until = time.monotonic() + 30
    while True:
        try:
            with socket.create_connection((address, 22), timeout=5) as connection:
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            if time.monotonic() > until:
                raise
        assert time.monotonic() < until, f"no sshd answers at {address}"
        time.sleep(0.1)


@dataclass(frozen=True)
class Controller:
    """Keys and known_hosts of somebody who runs the role on the server."""

    folder: Path
    server: Sshd

    @property
    def key(self) -> Path:
        return self.folder / "id_ed25519"

    @property
    def known(self) -> Path:
        return self.folder / "known_hosts"

    def play(self, **variables: str) -> tuple[int, str]:
        """Run the role's first_key as site.yml does; return the exit code and what was said."""
        given = {
            "ansible_host": self.server.address,
            "ansible_user": "kim",
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.known} -o ControlPath=none -o StrictHostKeyChecking=yes",
            "ssh_trust_first_login_known_hosts": str(self.known),
            "ssh_trust_first_login_password": self.server.password,
            **variables,
        }
        inventory = self.folder / "hosts.yml"
        inventory.write_text(json.dumps({"spark_masters": {"hosts": {"new": given}}}))
        playbook = self.folder / "play.yml"
        playbook.write_text(
            json.dumps(
                [
                    {
                        "hosts": "all",
                        "gather_facts": False,
                        "tasks": [
                            {"ansible.builtin.include_role": {"name": "ssh_trust", "tasks_from": "first_key"}},
                            {"ansible.builtin.meta": "reset_connection"},
                            {"ansible.builtin.ping": {}},
                        ],
                    }
                ]
            )
        )
        environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "ansible", "playbook", "-i", str(inventory), str(playbook), "-v"],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env=environment,
            cwd=ROOT,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def controller(sshd: Sshd, tmp_path: Path) -> Controller:
    sshd.run("rm", "-rf", "/home/kim/.ssh")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "id_ed25519")], check=True)
    return Controller(tmp_path, sshd)


def test_password_only_host_takes_the_key_and_ansible_goes_on_with_it(controller: Controller, sshd: Sshd) -> None:
    code, said = controller.play(ssh_trust_first_login_fingerprint=sshd.fingerprint())
    assert code == 0, said
    assert "changed=1" in said
    assert sshd.run("stat", "-c", "%a %U", "/home/kim/.ssh", "/home/kim/.ssh/authorized_keys").splitlines() == ["700 kim", "600 kim"]
    assert sshd.password not in said
    code, said = controller.play(ssh_trust_first_login_fingerprint=sshd.fingerprint())
    assert code == 0, said
    assert "changed=0" in said


def test_the_fingerprint_of_any_of_its_keys_will_do(controller: Controller, sshd: Sshd) -> None:
    code, said = controller.play(ssh_trust_first_login_fingerprint=sshd.fingerprint("rsa"))
    assert code == 0, said


def test_accept_new_writes_what_openssh_then_checks(controller: Controller, sshd: Sshd) -> None:
    code, said = controller.play(ssh_trust_first_login_host_key_policy="accept_new")
    assert code == 0, said
    assert sshd.run("cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()[1] in controller.known.read_text()


def refused(controller: Controller, words: str, **variables: str) -> str:
    code, said = controller.play(**variables)
    assert code != 0
    assert words in said
    assert controller.server.password not in said
    assert controller.server.run("ls", "-A", "/home/kim").split().count(".ssh") == 0
    return said


def test_trust_must_be_chosen(controller: Controller) -> None:
    refused(controller, "How is the host key of")
    assert not controller.known.exists()


def test_wrong_password(controller: Controller, sshd: Sshd) -> None:
    refused(
        controller, "Wrong password for kim", ssh_trust_first_login_password="wrong", ssh_trust_first_login_fingerprint=sshd.fingerprint()
    )


def test_changed_host_key(controller: Controller, sshd: Sshd) -> None:
    controller.play(ssh_trust_first_login_host_key_policy="accept_new")
    before = sshd.fingerprint()
    sshd.run("sh", "-ec", "cd /etc/ssh; mkdir old; mv ssh_host_ed25519_key* old; ssh-keygen -A; rm -r /home/kim/.ssh; kill -HUP 1")
    time.sleep(0.5)
    wait(sshd.address)
    try:
        said = refused(controller, "has changed", ssh_trust_first_login_host_key_policy="accept_new")
        assert before in said
        assert sshd.fingerprint() in said
    finally:
        sshd.run("sh", "-ec", "cd /etc/ssh; mv -f old/* .; rmdir old; kill -HUP 1")
        time.sleep(0.5)
        wait(sshd.address)


def test_unreachable(controller: Controller) -> None:
    refused(controller, "is unreachable", ansible_port="1", ssh_trust_first_login_host_key_policy="accept_new")
