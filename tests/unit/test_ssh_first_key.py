"""The first key onto a host that takes only a password, against an ssh server in this process."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED

from modules import ssh_first_key

Put = Callable[..., dict[str, Any]]
HOST_KEY = paramiko.RSAKey.generate(2048)
OTHER_KEY = paramiko.RSAKey.generate(2048)
ECDSA_KEY = paramiko.ECDSAKey.generate()


class Door(paramiko.ServerInterface):
    """Lets the user in by password, or by a key of authorized_keys."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def get_allowed_auths(self, username: str) -> str:
        return self.server.allowed

    def check_auth_password(self, username: str, password: str) -> int:
        self.server.passwords.append(password)
        right = "password" in self.server.allowed and (username, password) == (self.server.user, self.server.password)
        return AUTH_SUCCESSFUL if right else AUTH_FAILED

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        file = self.server.home / ".ssh" / "authorized_keys"
        known = file.read_text() if file.exists() and self.server.keys_work else ""
        return AUTH_SUCCESSFUL if key.get_base64() in known else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self.execute, args=(channel, command.decode()), daemon=True).start()
        return True

    def execute(self, channel: paramiko.Channel, command: str) -> None:
        data = b""
        while chunk := channel.recv(4096):
            data += chunk
        environment = {**os.environ, "HOME": str(self.server.home)}
        done = subprocess.run(["/bin/sh", "-c", command], input=data, capture_output=True, check=False, env=environment)
        channel.sendall(done.stdout)
        channel.sendall_stderr(done.stderr)
        channel.send_exit_status(done.returncode)
        channel.close()


class Server:
    """Listens on loopback until ``close``."""

    def __init__(self, home: Path, *keys: paramiko.PKey) -> None:
        self.home, self.keys = home, keys
        self.user, self.password = "admin", "right"
        self.allowed = "password,publickey"
        self.keys_work = True
        self.passwords: list[str] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.links: list[paramiko.Transport] = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(client,), daemon=True).start()

    def answer(self, client: socket.socket) -> None:
        link = paramiko.Transport(client)
        self.links.append(link)
        for key in self.keys:
            link.add_server_key(key)
        try:
            link.start_server(server=Door(self))
        except (paramiko.SSHException, EOFError, OSError):
            return  # no key of a type that the client asked for, or it went away

    def close(self) -> None:
        self.socket.close()
        for link in self.links:
            link.close()


@pytest.fixture(scope="module")
def user_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "id"
    key = paramiko.ECDSAKey.generate()
    key.write_private_key_file(str(path))
    path.with_suffix(".pub").write_text(f"{key.get_name()} {key.get_base64()} admin@controller\n")
    return path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    home = tmp_path / "home"
    home.mkdir()
    running = Server(home, HOST_KEY)
    yield running
    running.close()


@pytest.fixture
def put(server: Server, tmp_path: Path, user_key: Path) -> Put:
    def call(check_mode: bool = False, **changes: Any) -> dict[str, Any]:
        params = {
            "host": "127.0.0.1",
            "port": server.port,
            "user": "admin",
            "password": "right",
            "public_key": user_key.with_suffix(".pub").read_text(),
            "private_key_file": None,
            "fingerprint": ssh_first_key.fingerprint(HOST_KEY),
            "host_key_policy": None,
            "known_hosts": str(tmp_path / "ssh" / "known_hosts"),
            "timeout": 10,
            **changes,
        }
        return ssh_first_key.put_key(params, check_mode)

    return call


def authorized(server: Server) -> Path:
    return server.home / ".ssh" / "authorized_keys"


def entry(server: Server, key: paramiko.PKey) -> str:
    return f"[127.0.0.1]:{server.port} {key.get_name()} {key.get_base64()}\n"


def test_the_key_arrives_with_safe_modes_and_the_host_key_is_kept(server: Server, put: Put, user_key: Path, tmp_path: Path) -> None:
    assert put()["changed"]
    assert authorized(server).read_text() == user_key.with_suffix(".pub").read_text()
    assert authorized(server).stat().st_mode & 0o777 == 0o600
    assert authorized(server).parent.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "ssh" / "known_hosts").read_text() == entry(server, HOST_KEY)
    again = put()
    assert not again["changed"]
    assert again["reason"] == "the key was there already"


def test_other_keys_stay_even_without_a_last_newline(server: Server, put: Put, user_key: Path) -> None:
    authorized(server).parent.mkdir()
    authorized(server).write_text("ssh-rsa OLD somebody")
    assert put()["changed"]
    assert authorized(server).read_text() == "ssh-rsa OLD somebody\n" + user_key.with_suffix(".pub").read_text()


def test_a_key_that_opens_the_host_already_needs_no_password(server: Server, put: Put, user_key: Path) -> None:
    put(private_key_file=str(user_key))
    server.passwords.clear()
    assert not put(private_key_file=str(user_key), password="wrong")["changed"]
    assert server.passwords == []


def test_check_mode_writes_nothing(server: Server, put: Put, tmp_path: Path) -> None:
    assert put(check_mode=True)["changed"]
    assert not authorized(server).exists()
    assert not (tmp_path / "ssh").exists()


def test_without_fingerprint_or_policy_it_is_refused_before_anything_is_sent(server: Server, put: Put) -> None:
    with pytest.raises(ssh_first_key.Trouble, match=r"ssh_trust_first_login_fingerprint: SHA256.*known_hosts .*accept_new") as raised:
        put(fingerprint="")
    assert "right" not in str(raised.value)
    assert server.links == []


def test_another_fingerprint_names_both_and_sends_no_password(server: Server, put: Put) -> None:
    wanted = ssh_first_key.fingerprint(OTHER_KEY)
    with pytest.raises(ssh_first_key.Trouble) as raised:
        put(fingerprint=wanted)
    assert wanted in str(raised.value)
    assert ssh_first_key.fingerprint(HOST_KEY) in str(raised.value)
    assert server.passwords == []


@pytest.mark.parametrize("policy", ["known_hosts", "accept_new", None])
def test_a_changed_host_key_names_both_and_sends_no_password(server: Server, put: Put, tmp_path: Path, policy: str | None) -> None:
    known = tmp_path / "known"
    known.write_text(entry(server, OTHER_KEY))
    fingerprint = "" if policy else ssh_first_key.fingerprint(HOST_KEY)
    with pytest.raises(ssh_first_key.Trouble, match="has changed") as raised:
        put(fingerprint=fingerprint, host_key_policy=policy, known_hosts=str(known))
    assert ssh_first_key.fingerprint(OTHER_KEY) in str(raised.value)
    assert ssh_first_key.fingerprint(HOST_KEY) in str(raised.value)
    assert "ssh-keygen -f" in str(raised.value)
    assert server.passwords == []
    assert known.read_text() == entry(server, OTHER_KEY)


def test_lines_of_known_hosts_that_ssh_understands_or_passes_over_are_no_trouble(server: Server, put: Put, tmp_path: Path) -> None:
    known = tmp_path / "known"
    hashed = paramiko.HostKeys.hash_host(f"[127.0.0.1]:{server.port}")
    strange = [
        f"@cert-authority *.example.org {OTHER_KEY.get_name()} {OTHER_KEY.get_base64()}",
        "# a comment",
        "",
        "host ssh-rsa not-base64!",
        "host ssh-new AAAA",
        f"*.example.org {OTHER_KEY.get_name()} {OTHER_KEY.get_base64()}",
        f"{hashed} {HOST_KEY.get_name()} {HOST_KEY.get_base64()}",
    ]
    known.write_text("\n".join(strange) + "\n")
    assert put(fingerprint="", host_key_policy="known_hosts", known_hosts=str(known))["changed"]
    assert known.read_text() == "\n".join(strange) + "\n"


@pytest.mark.parametrize("trust", [{"fingerprint": "", "host_key_policy": "accept_new"}, {}])
def test_a_revoked_host_key_is_never_taken(server: Server, put: Put, tmp_path: Path, trust: dict[str, str]) -> None:
    known = tmp_path / "known"
    known.write_text(f"@revoked * {HOST_KEY.get_name()} {HOST_KEY.get_base64()}\n")
    with pytest.raises(ssh_first_key.Trouble, match="is revoked"):
        put(known_hosts=str(known), **trust)
    assert server.passwords == []


def test_a_host_known_by_another_type_of_key_is_no_new_host(server: Server, put: Put, tmp_path: Path) -> None:
    known = tmp_path / "known"
    known.write_text(entry(server, ECDSA_KEY))
    with pytest.raises(ssh_first_key.Trouble, match="has changed"):
        put(fingerprint="", host_key_policy="accept_new", known_hosts=str(known))


def test_policy_known_hosts_takes_only_known_ones(server: Server, put: Put, tmp_path: Path) -> None:
    with pytest.raises(ssh_first_key.Trouble, match=r"is not in .*known_hosts.*SHA256"):
        put(fingerprint="", host_key_policy="known_hosts")
    known = tmp_path / "known"
    known.write_text(entry(server, HOST_KEY))
    assert put(fingerprint="", host_key_policy="known_hosts", known_hosts=str(known))["changed"]
    assert known.read_text() == entry(server, HOST_KEY)


def test_policy_accept_new_keeps_what_it_accepted(server: Server, put: Put, tmp_path: Path) -> None:
    assert put(fingerprint="", host_key_policy="accept_new")["changed"]
    assert (tmp_path / "ssh" / "known_hosts").read_text() == entry(server, HOST_KEY)


def test_the_fingerprint_may_be_of_any_of_the_hosts_keys(tmp_path: Path, put: Put) -> None:
    home = tmp_path / "two"
    home.mkdir()
    both = Server(home, HOST_KEY, ECDSA_KEY)
    try:
        for key in (HOST_KEY, ECDSA_KEY):
            assert put(port=both.port, fingerprint=ssh_first_key.fingerprint(key))["changed"]
    finally:
        both.close()


def test_wrong_password(server: Server, put: Put, tmp_path: Path) -> None:
    with pytest.raises(ssh_first_key.Trouble, match=r"Wrong password for admin at 127\.0\.0\.1") as raised:
        put(password="wr0ng")
    assert "wr0ng" not in str(raised.value)
    assert not authorized(server).exists()
    assert not (tmp_path / "ssh").exists()


def test_a_host_that_takes_no_passwords(server: Server, put: Put) -> None:
    server.allowed = "publickey"
    with pytest.raises(ssh_first_key.Trouble, match=r"takes no passwords for admin, only publickey"):
        put()


def test_a_key_that_is_written_but_refused(server: Server, put: Put, user_key: Path) -> None:
    server.keys_work = False
    with pytest.raises(ssh_first_key.Trouble, match="AuthorizedKeysFile"):
        put(private_key_file=str(user_key))


def test_a_home_that_cannot_be_written(server: Server, put: Put) -> None:
    (server.home / ".ssh").write_text("a file")
    with pytest.raises(ssh_first_key.Trouble, match=r"authorized_keys of admin .* cannot be written"):
        put()


def test_nobody_there_and_no_such_name(put: Put) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ssh_first_key.Trouble, match=f"127.0.0.1 port {port} is unreachable: Connection refused"):
        put(port=port)
    with pytest.raises(ssh_first_key.Trouble, match=r"no-such-host.invalid does not resolve"):
        put(host="no-such-host.invalid")


def test_something_that_is_no_sshd(put: Put) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(ssh_first_key.Trouble, match="does not speak ssh"):
        put(port=mute.getsockname()[1], timeout=1)


@pytest.mark.parametrize("key", ["", "hello", "ssh-ed25519 ###", "-----BEGIN OPENSSH PRIVATE KEY-----"])
def test_what_is_no_public_key(server: Server, put: Put, key: str) -> None:
    with pytest.raises(ssh_first_key.Trouble, match="public_key"):
        put(public_key=key)
    assert server.links == []


def test_a_fingerprint_of_the_old_form(put: Put) -> None:
    with pytest.raises(ssh_first_key.Trouble, match="not of the form SHA256"):
        put(fingerprint="MD5:aa:bb")
