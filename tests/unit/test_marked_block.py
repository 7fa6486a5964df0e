"""The block in files that others write too."""

from __future__ import annotations

from ansible.module_utils.marked_block import BEGIN, END, join, split
from hypothesis import given
from hypothesis import strategies as st

LINES = st.lists(st.sampled_from(["ssh-rsa A me", "", "  x", BEGIN, END]))


def test_a_block_that_lost_its_end_takes_nobodys_lines_with_it() -> None:
    assert split(f"mine\n{BEGIN}\nours\nalso mine\n") == (["mine", "ours", "also mine"], [])
    assert split(f"{BEGIN}\nmine\n{BEGIN}\nours\n{END}\nlast\n") == (["mine", "last"], ["ours"])


@given(LINES)
def test_no_line_is_ever_lost(lines: list[str]) -> None:
    outside, block = split("\n".join(lines))
    kept = [line for line in "\n".join(lines).splitlines() if line.strip() not in (BEGIN, END)]
    assert sorted(outside + block) == sorted(kept)
    again = split(join(outside, block))
    assert again == (outside, block) or not block
