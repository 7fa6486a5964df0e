#!/usr/bin/python
"""Put the first public key onto a host that so far takes only a password."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import shlex
import socket
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    import paramiko

    PARAMIKO_ERROR = ""
except ImportError:
    PARAMIKO_ERROR = traceback.format_exc()

DOCUMENTATION = r"""
module: ssh_first_key
short_description: Put the first ssh key onto a host that so far takes only a password
description:
  - Does what C(ssh-copy-id) does, without a prompt and without trusting an unknown host key blindly. Runs on the controller
    (C(delegate_to) localhost) with the library paramiko.
  - The host key is checked before the password is sent. Either I(fingerprint) names the key, or I(host_key_policy) chooses how
    one is trusted; without either of them the module refuses and says so.
  - A key that was accepted is written to I(known_hosts), so that OpenSSH checks the same key from then on.
options:
  host:
    description: Name or address to connect to.
    type: str
    required: true
  port:
    description: Port of sshd.
    type: int
    default: 22
  user:
    description: User to log in as, who also gets the key.
    type: str
    required: true
  password:
    description: The user's password.
    type: str
    required: true
  public_key:
    description: The public key, one line as in C(id_ed25519.pub).
    type: str
    required: true
  private_key_file:
    description: The private key that goes with it. When given, a login with it is tried first, and again at the end.
    type: path
  fingerprint:
    description: Fingerprint of one of the host's keys as C(ssh-keygen -lf) prints it (C(SHA256:...)).
    type: str
    default: ""
  host_key_policy:
    description:
      - C(known_hosts) takes only a key that is already in I(known_hosts).
      - C(accept_new) also takes any key of a host that is not in there yet; a changed key is refused.
    type: str
    choices: [known_hosts, accept_new]
  known_hosts:
    description: The file of known host keys.
    type: path
    default: ~/.ssh/known_hosts
  timeout:
    description: Seconds for each step of the connection.
    type: int
    default: 20
requirements: [paramiko]
author: spark-ha
attributes:
  check_mode: {support: full}
"""

EXAMPLES = r"""
- name: Put the controller's key onto the host
  ssh_first_key:
    host: 192.168.88.82
    user: admin
    password: "{{ vault_password }}"
    public_key: "{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519.pub') }}"
    fingerprint: SHA256:Fb2mJDxLUVUWBl5SO1DjxZoxDWHJsAu6GVz4fGhVpqA
  delegate_to: localhost
"""

RETURN = r"""
fingerprint:
  description: Fingerprint of the host key that was checked.
  returned: success
  type: str
reason:
  description: What was done, or why nothing had to be.
  returned: success
  type: str
"""

#: Host key types in the order in which OpenSSH prefers them; the last one asks for RSA with SHA-2 signatures.
KEY_TYPES = (("ssh-ed25519",), ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"), ("rsa-sha2-512", "rsa-sha2-256"))

#: Appends standard input to authorized_keys. umask first: nothing is ever readable by others, not even for a moment.
APPEND = (
    "umask 077; cd && mkdir -p .ssh && chmod 700 .ssh && touch .ssh/authorized_keys && chmod 600 .ssh/authorized_keys && "
    '{ if [ -s .ssh/authorized_keys ] && [ -n "$(tail -c 1 .ssh/authorized_keys)" ]; then echo; fi; cat; } >> .ssh/authorized_keys'
)
READ = "cd && cat .ssh/authorized_keys 2>/dev/null; exit 0"


class Trouble(Exception):  # noqa: N818 - what it says is for people, not a traceback
    """What went wrong, in a sentence for the user."""


@dataclass(frozen=True)
class Target:
    """Where to log in."""

    host: str
    port: int
    user: str
    timeout: int

    @property
    def entry(self) -> str:
        """The host's name in known_hosts."""
        return self.host if self.port == 22 else f"[{self.host}]:{self.port}"

    def __str__(self) -> str:
        """Return the host and the port as messages name them."""
        return f"{self.host} port {self.port}"


def fingerprint(key: paramiko.PKey) -> str:
    """Return a key's fingerprint as ssh-keygen prints it: SHA256 in base64 without padding."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


def key_blob(line: str) -> tuple[str, str]:
    """Return (type, base64) of a public key line; raises Trouble when it is none."""
    fields = line.split()
    if len(fields) < 2 or not fields[0].startswith(("ssh-", "ecdsa-", "sk-")):
        raise Trouble("public_key is not a public key: one line like 'ssh-ed25519 AAAA... comment' is needed (the .pub file).")
    try:
        base64.b64decode(fields[1], validate=True)
    except ValueError as error:
        raise Trouble("public_key is damaged: its second word is not base64. Give the content of the .pub file unchanged.") from error
    return fields[0], fields[1]


def dial(target: Target) -> socket.socket:
    """Return a TCP connection; raises Trouble."""
    try:
        return socket.create_connection((target.host, target.port), timeout=target.timeout)
    except socket.gaierror as error:
        raise Trouble(f"{target.host} does not resolve ({error.strerror}). Correct ansible_host, or set it to an address.") from error
    except OSError as error:
        raise Trouble(
            f"{target} is unreachable: {error.strerror or error}. Check that it is up and runs sshd, and ansible_host and ansible_port."
        ) from error


@contextlib.contextmanager
def transport(target: Target, types: tuple[str, ...] | None = None) -> Iterator[paramiko.Transport | None]:
    """Yield an encrypted connection whose host key nobody has judged yet, or None when the host has no key of these types."""
    link = paramiko.Transport(dial(target))
    try:
        link.banner_timeout = link.auth_timeout = target.timeout
        if types:
            link.get_security_options().key_types = types
        try:
            link.start_client(timeout=target.timeout)
        except paramiko.ssh_exception.IncompatiblePeer:
            yield None
            return
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise Trouble(
                f"{target} does not speak ssh: {error or 'connection closed'}. Check that ansible_port is sshd's. "
                "After wrong passwords OpenSSH 9.8 and newer hang up on an address for a while (PerSourcePenalties): try again in a minute."
            ) from error
        if not link.is_active() or not link.initial_kex_done:
            raise Trouble(f"{target} does not speak ssh: no answer within {target.timeout} s. Check that ansible_port is sshd's.")
        yield link
    finally:
        link.close()


def lines_of(path: str) -> list[str]:
    """Return the lines of known_hosts that say something, none when there is no such file. Raises Trouble when it cannot be read."""
    try:
        return [line.strip() for line in Path(path).read_text(errors="replace").splitlines() if line.strip()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Trouble(f"known_hosts file {path} cannot be read: {error}.") from error


def load_known(path: str, target: Target) -> dict[str, paramiko.PKey]:
    """Return the keys of the host that known_hosts has, by type; raises Trouble when the file cannot be read."""
    store = paramiko.HostKeys()
    for line in lines_of(path):
        if line.startswith(("#", "@")):
            continue
        try:
            entry = paramiko.hostkeys.HostKeyEntry.from_line(line)
        except (paramiko.hostkeys.InvalidHostKey, paramiko.SSHException):
            continue  # a line that ssh passes over, too
        if entry and entry.key:
            for name in entry.hostnames or ():
                store.add(name, entry.key.get_name(), entry.key)
    found = store.lookup(target.entry)
    return dict(found) if found else {}


def revoked(path: str) -> set[str]:
    """Return the keys, in base64, that known_hosts marks as revoked. Raises Trouble."""
    return {fields[3] for line in lines_of(path) if len(fields := line.split()) > 3 and fields[0] == "@revoked"}


def choose_key(target: Target, wanted: str, policy: str | None, known: dict[str, paramiko.PKey], path: str) -> tuple[paramiko.PKey, bool]:
    """Return the host key to insist on, and whether it is new to known_hosts; raises Trouble when none may be trusted."""
    offered: list[paramiko.PKey] = []
    for types in KEY_TYPES:
        with transport(target, types) as link:
            if link is None:
                continue
            offered.append(link.get_remote_server_key())
        if offered and not wanted and not known:
            break
    if not offered:
        raise Trouble(f"{target} has no host key of a type that is still safe (ed25519, ecdsa, rsa with SHA-2).")
    shown = ", ".join(f"{fingerprint(key)} ({key.get_name()})" for key in offered)
    if any(key.get_base64() in revoked(path) for key in offered):
        raise Trouble(f"{path} says that the host key of {target} is revoked ({shown}). Nothing was sent to it: give the host a new key.")
    if wanted:
        for key in offered:
            if fingerprint(key) == wanted:
                if known.get(key.get_name(), key) != key:
                    raise Trouble(_changed(target, known, shown, path))
                return key, key.get_name() not in known
        raise Trouble(
            f"The host key of {target} is not the expected one: expected {wanted}, the host has {shown}. Nothing was sent to it. "
            "Either the fingerprint is of another host (compare with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on its console), "
            "or somebody is in between."
        )
    if known:
        for key in offered:
            if known.get(key.get_name()) == key:
                return key, False
        raise Trouble(_changed(target, known, shown, path))
    if policy == "known_hosts":
        raise Trouble(
            f"{target.entry} is not in {path}, and host_key_policy is known_hosts. The host has {shown}: if that is right, set "
            f"ssh_trust_first_login_fingerprint: {fingerprint(offered[0])}, or add its key to {path}."
        )
    return offered[0], True


def _changed(target: Target, known: dict[str, paramiko.PKey], shown: str, path: str) -> str:
    expected = ", ".join(f"{fingerprint(key)} ({kind})" for kind, key in known.items())
    return (
        f"The host key of {target} has changed: {path} has {expected}, the host now has {shown}. Nothing was sent to it. "
        f"If the host was installed anew, take the old key out with `ssh-keygen -f {shlex.quote(path)} -R {shlex.quote(target.entry)}`; "
        "otherwise somebody is in between."
    )


def log_in(link: paramiko.Transport, target: Target, password: str) -> None:
    """Log in with the password; raises Trouble."""
    try:
        link.auth_password(target.user, password, fallback=True)
    except paramiko.BadAuthenticationType as error:
        allowed = ", ".join(error.allowed_types)
        raise Trouble(
            f"{target} takes no passwords for {target.user}, only {allowed}. Put the key there by another way (console, cloud image), "
            "or allow PasswordAuthentication in its sshd for the time being."
        ) from error
    except paramiko.AuthenticationException as error:
        raise Trouble(f"Wrong password for {target.user} at {target}. Correct ssh_trust_first_login_password or ansible_user.") from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise Trouble(f"{target} broke off during the login of {target.user}: {error or 'connection closed'}.") from error
    if not link.is_authenticated():
        raise Trouble(f"{target} wants more than a password from {target.user}.")


def key_opens(link: paramiko.Transport, target: Target, private_key_file: str) -> bool:
    """Return whether the private key logs in. A key that cannot be read (with a passphrase, in an agent) opens nothing here."""
    try:
        link.auth_publickey(target.user, paramiko.PKey.from_path(private_key_file))
    except (paramiko.SSHException, EOFError, OSError, ValueError, TypeError):
        return False
    return bool(link.is_authenticated())


def run(link: paramiko.Transport, target: Target, command: str, stdin: str = "") -> str:
    """Run a POSIX shell script on the host and return what it says; raises Trouble when it fails."""
    output: str
    try:
        channel = link.open_session(timeout=target.timeout)
        channel.settimeout(target.timeout)
        channel.exec_command(f"exec sh -c {shlex.quote(command)}")
        if stdin:
            channel.sendall(stdin.encode())
        channel.shutdown_write()
        output = channel.makefile("rb").read().decode(errors="replace")
        errors = channel.makefile_stderr("rb").read().decode(errors="replace")
        status = channel.recv_exit_status()
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise Trouble(f"{target} broke off while authorized_keys was looked at: {error or 'timed out'}.") from error
    if status:
        raise Trouble(f"~/.ssh/authorized_keys of {target.user} at {target} cannot be written: {errors.strip() or f'exit {status}'}.")
    return output


def remember(path: str, target: Target, key: paramiko.PKey) -> None:
    """Append a host key to known_hosts, which is made with its directory when missing."""
    file = Path(path)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    line = f"{target.entry} {key.get_name()} {key.get_base64()}\n"
    before = file.read_bytes() if file.exists() else b""
    # One short write in append mode: parallel runs for other hosts do not tear each other's lines.
    with file.open("ab") as out:
        out.write((b"" if not before or before.endswith(b"\n") else b"\n") + line.encode())
    if not before:
        file.chmod(0o600)


def put_key(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Do the work and return changed, reason and fingerprint; raises Trouble."""
    target = Target(params["host"], params["port"], params["user"], params["timeout"])
    kind, blob = key_blob(params["public_key"])
    wanted, policy, path = params["fingerprint"].strip(), params["host_key_policy"], params["known_hosts"]
    if wanted and not wanted.startswith("SHA256:"):
        raise Trouble(f"fingerprint {wanted!r} is not of the form SHA256:...; take the second word of `ssh-keygen -lf KEY.pub`.")
    if not wanted and not policy:
        raise Trouble(
            f"How is the host key of {target} to be trusted? Set ssh_trust_first_login_fingerprint: SHA256:... (the second word of "
            "`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the host's console), or choose ssh_trust_first_login_host_key_policy: "
            "known_hosts (only keys that you have checked before) or accept_new (the first key that it shows)."
        )
    known = load_known(path, target)
    key, new = choose_key(target, wanted, policy, known, path)
    families = next((types for types in KEY_TYPES if key.get_name() in types), ("rsa-sha2-512", "rsa-sha2-256"))
    done = {"changed": False, "fingerprint": fingerprint(key)}
    private = params["private_key_file"]

    if private:
        with checked(target, families, key) as link:
            if key_opens(link, target, private):
                if new and not check_mode:
                    remember(path, target, key)
                return {**done, "changed": new, "reason": "the key already opens the host"}
    with checked(target, families, key) as link:
        log_in(link, target, params["password"])
        present = any(blob in line.split() for line in run(link, target, READ).splitlines() if not line.lstrip().startswith("#"))
        if not present and not check_mode:
            run(link, target, APPEND, params["public_key"].strip() + "\n")
    if new and not check_mode:
        remember(path, target, key)
    if private and not check_mode:
        with checked(target, families, key) as link:
            if not key_opens(link, target, private):
                raise Trouble(
                    f"The {kind} key is in ~/.ssh/authorized_keys of {target.user} at {target}, but a login with {private} is refused. "
                    "Check that both halves belong together, that the private key has no passphrase, and sshd's PubkeyAuthentication "
                    "and AuthorizedKeysFile."
                )
    return {**done, "changed": new or not present, "reason": "the key was there already" if present else "the key was added"}


@contextlib.contextmanager
def checked(target: Target, families: tuple[str, ...], key: paramiko.PKey) -> Iterator[paramiko.Transport]:
    """Yield a connection to the very host that has ``key``; raises Trouble when another one answers."""
    with transport(target, families) as link:
        if link is None or link.get_remote_server_key() != key:
            raise Trouble(f"{target} showed another host key at the second connection. Nothing was sent: do two hosts share this address?")
        yield link


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "default": 22},
            "user": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "public_key": {"type": "str", "required": True},
            "private_key_file": {"type": "path"},
            "fingerprint": {"type": "str", "default": ""},
            "host_key_policy": {"type": "str", "choices": ["known_hosts", "accept_new"]},
            "known_hosts": {"type": "path", "default": "~/.ssh/known_hosts"},
            "timeout": {"type": "int", "default": 20},
        },
        supports_check_mode=True,
    )
    # What goes wrong is said once, by this module.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    if PARAMIKO_ERROR:
        module.fail_json(msg=missing_required_lib("paramiko", reason="on the controller"), exception=PARAMIKO_ERROR)
    try:
        module.exit_json(**put_key(module.params, module.check_mode))
    except Trouble as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"known_hosts file {module.params['known_hosts']} cannot be written: {error.strerror or error}.")


if __name__ == "__main__":
    main()
