from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from module_utils.wordcount import count_lines, count_words, differences, judge, top

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "wordcount"
spec = importlib.util.spec_from_file_location("wordcount_example", EXAMPLE / "wordcount.py")
assert spec and spec.loader
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)


def test_words() -> None:
    assert count_words("Nature's God, 'tis self-evident -- 1776 Ä_b don''t") == {
        "nature's": 1,
        "god": 1,
        "tis": 1,
        "self": 1,
        "evident": 1,
        "ä": 1,
        "b": 1,
        "don": 1,
        "t": 1,
    }


@given(st.text(alphabet=st.one_of(st.sampled_from("ab'_1 -\u0130\u00b2"), st.characters(codec="utf-8"))))
@example("a'b' 'c ''d e''f")
def test_the_program_and_the_independent_count_agree(text: str) -> None:
    line = text.replace("\n", " ")
    assert Counter(program.words(line)) == count_words(line)


def test_the_text_that_is_shipped() -> None:
    text = (EXAMPLE / "declaration_of_independence.txt").read_text(encoding="utf-8")
    counts = count_words(text)
    assert sum(counts.values()) > 1000
    assert top(counts, 3) == [("of", 78), ("the", 78), ("to", 65)]
    assert counts == Counter(word for line in text.split("\n") for word in program.words(line))


def test_lines() -> None:
    assert [count_lines(text) for text in ("", "a", "a\n", "a\r\nb", "\n\n", "a\rb")] == [0, 1, 1, 2, 2, 2]


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 9)), st.dictionaries(st.text(max_size=3), st.integers(1, 9)))
def test_differences_are_none_only_for_equals(one: dict[str, int], other: dict[str, int]) -> None:
    assert (differences(one, other) == []) == (one == other)


def test_judge_names_the_first_words() -> None:
    good = {"counts": {"a": 2, "b": 1}, "lines": 1, "hosts": {"h": 1}}
    assert judge("a b a\n", good) == []
    assert judge("a b a\n", {**good, "counts": {"a": 1, "c": 1}})[0] == "'a': Spark counted 1, expected 2"
    assert "lines" in judge("a b a\n", {**good, "lines": 2})[0]
    assert "where" in judge("a b a\n", {**good, "hosts": {}})[0]
    assert judge("a b a\n", {}) == ["the result has no counts"]
    assert len(differences({str(number): 1 for number in range(50)}, {}, 3)) == 4
