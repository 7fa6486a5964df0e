"""ssh_peers works in a home that belongs to somebody who may plant links there."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from modules import ssh_peers

NOBODY = pwd.getpwnam("nobody")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


def test_a_file_is_private_and_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / ".ssh" / "authorized_keys"
    ssh_peers.write(file, "one\n")
    ssh_peers.write(file, "two\n")
    assert ssh_peers.read(file) == "two\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert list(file.parent.iterdir()) == [file]
    assert ssh_peers.read(tmp_path / "none") == ""


@as_root
def test_a_planted_link_leads_root_nowhere(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.getbasetemp()
    for folder in (base, base.parent):
        folder.chmod(0o711)
    secret, home = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("home")
    secret.chmod(0o700)
    (secret / "shadow").write_text("secret")
    (secret / "shadow").chmod(0o600)
    os.chown(home, NOBODY.pw_uid, NOBODY.pw_gid)
    (home / ".ssh").symlink_to(secret)
    (home / "known_hosts").symlink_to(secret / "shadow")
    with ssh_peers.acting_as(NOBODY):
        with pytest.raises(PermissionError):
            ssh_peers.write(home / ".ssh" / "authorized_keys", "x")
        with pytest.raises(PermissionError):
            ssh_peers.read(home / "known_hosts")
    assert (os.geteuid(), os.getegid()) == (0, 0)
    assert [path.name for path in secret.iterdir()] == ["shadow"]
    assert secret.stat().st_uid == 0
