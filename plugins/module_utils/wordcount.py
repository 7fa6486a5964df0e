"""Count the words of a text without Spark, and compare.

Another way than examples/wordcount/wordcount.py on purpose: one character at a time, no regular expression.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

APOSTROPHE = "'"


def count_words(text: str) -> dict[str, int]:
    """Return word -> how often. A word is a run of letters, with single apostrophes between letters, in lower case."""
    counts: dict[str, int] = {}
    word = ""
    pending = False  # an apostrophe that belongs to the word only if a letter follows
    for character in text.lower() + "\n":
        if character.isalnum() and not character.isdecimal():
            word += (APOSTROPHE if pending else "") + character
            pending = False
        elif character == APOSTROPHE and word and not pending:
            pending = True
        else:
            if word:
                counts[word] = counts.get(word, 0) + 1
            word, pending = "", False
    return counts


def count_lines(text: str) -> int:
    """Return the number of lines as Hadoop's LineRecordReader sees them: ended by LF, CR or CR LF."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    return plain.count("\n") + (0 if plain.endswith("\n") or not plain else 1)


def differences(expected: Mapping[str, int], counted: Mapping[str, int], limit: int = 10) -> list[str]:
    """Return the first words, in alphabetical order, whose numbers differ; at most ``limit``."""
    words = sorted(word for word in {*expected, *counted} if expected.get(word, 0) != counted.get(word, 0))
    lines = [f"{word!r}: Spark counted {counted.get(word, 0)}, expected {expected.get(word, 0)}" for word in words[:limit]]
    if len(words) > limit:
        lines.append(f"and {len(words) - limit} more words")
    return lines


def top(counts: Mapping[str, int], number: int = 10) -> list[tuple[str, int]]:
    """Return the most frequent words, ties in alphabetical order."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:number]


def judge(text: str, result: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with Spark's result on the text; empty when nothing is. A malformed result is wrong."""
    counts, lines = result.get("counts"), result.get("lines")
    if not isinstance(counts, dict) or not counts:
        return ["the result has no counts"]
    wrong = differences(count_words(text), counts)
    if lines != count_lines(text):
        wrong.append(f"Spark read {lines} lines, the text has {count_lines(text)}")
    if not result.get("hosts"):
        wrong.append("the result does not say where tasks ran")
    return wrong
