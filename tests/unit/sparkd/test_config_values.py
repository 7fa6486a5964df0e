"""Values as Spark writes them: what is taken, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkd import config_values as v


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        *[("60", "s", 60.0), ("60s", "ms", 60.0), ("2min", "s", 120.0), ("2m", "s", 120.0), ("500ms", "s", 0.5), ("10", "ms", 0.01)],
        *[("1h", "s", 3600.0), ("1D", "s", 86400.0), (" 5S ", "s", 5.0), ("7us", "s", 7e-6), ("-1s", "s", -1.0)],
    ],
)
def test_times(text: str, unit: str, expected: float) -> None:
    assert v.seconds(text, unit) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "s", "1.5s", "60x", "1 s", "2 min", "0x10", "\u0661s"])
def test_no_times(text: str) -> None:
    with pytest.raises(ValueError, match="60s or 2min"):
        v.seconds(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("512m", 512 << 20), ("2g", 2 << 30), ("2GB", 2 << 30), ("1t", 1 << 40), ("3kb", 3072), ("7b", 7), ("1p", 1 << 50)],
)
def test_sizes(text: str, expected: int) -> None:
    assert v.size(text) == expected


@pytest.mark.parametrize("text", ["", "-1m", "1.5g", "1x", "1 g"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="512m or 2g"):
        v.size(text)


@pytest.mark.parametrize("text", ["2", "1024", "1000000"])
def test_memory_without_a_unit_is_bytes_and_too_little(text: str) -> None:
    with pytest.raises(ValueError, match="give the unit"):
        v.memory_mb(text)


def test_booleans() -> None:
    assert [v.boolean(text) for text in ("true", "FALSE", " True ")] == [True, False, True]
    with pytest.raises(ValueError, match="true or false"):
        v.boolean("yes")


@given(st.integers(-(10**13), 10**13))
def test_whole_numbers_are_taken_within_their_bounds_only(number: int) -> None:
    parse = v.Whole(-1, 65535)
    if -1 <= number <= 65535:
        assert parse(str(number)) == number
    else:
        with pytest.raises(ValueError, match="from -1 to 65535"):
            parse(str(number))


@pytest.mark.parametrize(
    ("fields", "text", "good"),
    [
        ("sd", "driver-%s-%04d", True),
        ("sd", "app.%s_%d", True),
        ("ssd", "worker-%s-%s-%d", True),
        ("sd", "driver-%s", False),
        ("sd", "driver-%d-%s", False),
        ("sd", "a/%s-%d", False),
        ("sd", "%s-%d-%n", False),
        ("sd", "%s %d", False),
    ],
)
def test_patterns_of_ids(fields: str, text: str, good: bool) -> None:
    if good:
        assert v.Pattern(fields)(text) == text
    else:
        with pytest.raises(ValueError, match="in this order"):
            v.Pattern(fields)(text)


def test_master_urls() -> None:
    assert v.master_url("spark://h1:7077,h2:7078, h1:7077") == (("h1", 7077), ("h2", 7078))
    assert v.master_url("spark://[::1]:7077") == (("::1", 7077),)
    for wrong in ("h1:7077", "spark://h1", "spark://", "spark://h1:7077,", "spark://h1:70777", "spark://h 1:7077"):
        with pytest.raises(ValueError, match="spark://"):
            v.master_url(wrong)


def test_keys_of_tokens() -> None:
    assert v.token_key("A" * 43) == bytes(32)
    for wrong in ("A" * 42, "not base64!" * 9, "", "A" * 45):
        with pytest.raises(ValueError, match="Base64URL"):
            v.token_key(wrong)


@given(st.text(max_size=40))
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    parsers: tuple[Callable[[str], object], ...] = (
        *(v.seconds, v.size, v.memory_mb, v.boolean, v.Whole(), v.port, v.Choice(("A", "B")), v.Seconds(1.0), v.Pattern("sd")),
        *(v.regexes, v.words, v.line, v.token_key, v.master_url, v.host),
    )
    for parse in parsers:
        try:
            parse(text)
        except ValueError as refusal:
            assert str(refusal)
    v.endpoint(text, 1)
