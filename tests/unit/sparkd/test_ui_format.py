"""Words for people: times, sizes, command lines without secrets, links that are links."""

from __future__ import annotations

import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkd.http import ui_format, ui_views


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (-5, "0 ms"),
        (250, "250 ms"),
        (4_999, "4 s"),
        (60_000, "1 min"),
        (185_000, "3 min 5 s"),
        (7_800_000, "2 h 10 min"),
        (86_400_000 * 5 + 3 * 3_600_000, "5 d 3 h"),
    ],
)
def test_span(ms: int, words: str) -> None:
    assert ui_format.span(ms) == words


@pytest.mark.parametrize(
    ("before_ms", "words"), [(-60_000, "now"), (1_900, "now"), (12_000, "12 s ago"), (180_000, "3 min ago"), (7_300_000, "2 h ago")]
)
def test_ago(before_ms: int, words: str) -> None:
    assert ui_format.ago(1_700_000_000_000 - before_ms, 1_700_000_000_000) == words


@given(st.integers())
def test_any_number_is_a_time(ms: int) -> None:
    assert ui_format.exact(ms)
    assert isinstance(ui_format.iso(ms), str)


def test_exact() -> None:
    assert ui_format.exact(1_700_000_000_123) == "2023-11-14 22:13:20 UTC"
    assert ui_format.iso(1_700_000_000_123) == "2023-11-14T22:13:20Z"


@pytest.mark.parametrize(
    ("mebibytes", "words"), [(0, "0 MiB"), (512, "512 MiB"), (1536, "1.5 GiB"), (15360, "15 GiB"), (2 * 1024 * 1024, "2 TiB")]
)
def test_memory(mebibytes: int, words: str) -> None:
    assert ui_format.memory(mebibytes) == words


def test_percent() -> None:
    assert [ui_format.percent(*pair) for pair in ((0, 0), (1, 3), (5, 4), (-1, 4))] == [0.0, 33.3, 100.0, 0.0]


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("http://spark82:8080", "http://spark82:8080"),
        ("https://[::1]:8080/", "https://[::1]:8080"),
        ("javascript:alert(1)", ""),
        ("//evil", ""),
        ("http://user:secret@host/", ""),
        ('http://host/"onclick="x', ""),
        ("http://host:99999", ""),
        ("http://host; script-src *", ""),
        ("http://", ""),
        ("", ""),
    ],
)
def test_only_plain_links(url: str, safe: str) -> None:
    assert ui_format.safe_url(url) == safe
    assert ui_format.origin(url) == safe


@given(st.text())
def test_no_url_breaks_the_security_policy(url: str) -> None:
    assert not set(ui_format.origin(url)) & set(" ;,'\"\n\r\t")


def test_secrets_of_a_command_line() -> None:
    arguments = [
        "run",
        "--password",
        "p1",
        "--token=t1",
        "spark.x.secret=s1",
        "jdbc://u:p2@db/x",
        "--api-key",
        "-v",
        "key=plain",
        "http://u:p3@h/x.jar?token=t2&a=plain2",
        "http://u:p4@h/x.jar?a=1&X-Amz-Signature=t3#end",
        "--url=http://h/?password=t4",
        "password",
    ]
    shown = ui_format.command_line(arguments)
    assert not {"p1", "t1", "s1", "p2", "p3", "t2", "p4", "t3", "t4"} & set(re.split(r"[\s='/&#:@]", shown))
    assert "a=plain2" in shown
    assert "key=plain" in shown
    assert " -v " in shown
    assert "@db/x" in shown


def test_a_workers_line_is_taken_apart_as_it_was_joined() -> None:
    line = shlex.join(["run", "--password", "two words", "http://u:p@h/x"])
    assert ui_format.command_line(ui_format.words(line)) == "run --password (redacted) http://(redacted)@h/x"
    assert ui_format.words("cut 'off in") == ["cut", "'off", "in"]


def test_a_command_line_is_quoted_and_bounded() -> None:
    assert ui_format.command_line(["sh", "-c", "echo it's"]) == "sh -c 'echo it'\\''s'"
    assert len(ui_format.command_line(["x" * 10_000], 50)) == 50


@given(st.binary(max_size=300))
def test_any_bytes_are_a_log(text: bytes) -> None:
    assert not any(ord(char) < 32 and char not in "\n\t" for char in ui_format.log_text(text))


def test_log_text() -> None:
    assert ui_format.log_text(b"\x1b[31mred\x1b[0m\r\nnext\x00") == "red\nnext\N{REPLACEMENT CHARACTER}"
    assert ui_format.log_text("ä end".encode()[1:]) == " end"


@pytest.mark.parametrize(("code", "words"), [(None, ""), (0, "0"), (143, "143"), (-9, "SIGKILL"), (-200, "signal 200")])
def test_exit_words(code: int | None, words: str) -> None:
    assert ui_views.exit_words(code) == words
