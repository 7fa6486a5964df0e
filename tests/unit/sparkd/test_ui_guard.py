"""Who may press a button."""

from __future__ import annotations

from typing import Literal

import pytest

from sparkd.http.ui_guard import may_decommission, refused_as_foreign

HOST = {"Host": "spark82:8080"}


@pytest.mark.parametrize(
    "headers",
    [
        {},  # curl
        {"Origin": "http://spark82:8080"},
        {"Origin": "http://SPARK82:8080", "Sec-Fetch-Site": "same-origin"},
        {"Referer": "http://spark82:8080/driver/?driverId=x"},
        {"Origin": "https://ui.example.com", "X-Forwarded-Host": "ui.example.com"},
    ],
)
def test_own(headers: dict[str, str]) -> None:
    assert refused_as_foreign(HOST | headers) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://spark82:9999"},
        {"Origin": "http://spark82"},
        {"Origin": "null"},
        {"Origin": "http://[broken"},
        {"Origin": "http://spark82:8080", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Referer": "http://evil.example/spark82:8080"},
        {"Origin": "http://spark82:8080@evil.example"},
    ],
)
def test_foreign(headers: dict[str, str]) -> None:
    why = refused_as_foreign(HOST | headers)
    assert why is not None
    assert "another site" in why


@pytest.mark.parametrize(
    ("rule", "remote", "headers", "may"),
    [
        ("ALLOW", "10.0.0.1", {}, True),
        ("DENY", "127.0.0.1", {}, False),
        ("LOCAL", "127.0.0.1", {}, True),
        ("LOCAL", "127.9.9.9", {}, True),
        ("LOCAL", "::1", {}, True),
        ("LOCAL", "::ffff:127.0.0.1", {}, True),
        ("LOCAL", "10.0.0.1", {}, False),
        ("LOCAL", "::ffff:10.0.0.1", {}, False),
        ("LOCAL", "127.0.0.1", {"X-Forwarded-For": "10.0.0.1"}, False),
        ("LOCAL", None, {}, False),
        ("LOCAL", "localhost", {}, False),
    ],
)
def test_decommission(rule: Literal["DENY", "LOCAL", "ALLOW"], remote: str | None, headers: dict[str, str], may: bool) -> None:
    assert may_decommission(rule, remote, headers) is may
