"""What dpkg-query says is installed."""

from __future__ import annotations

from action.host_packages import installed


def test_only_what_is_configured_counts() -> None:
    text = "ii |sudo\nhi |procps\nrc |openssh-client\nun |scala\niU |half\n"
    assert installed(text) == {"sudo", "procps"}


def test_nothing_known() -> None:
    assert installed("") == set()
