"""The block in /etc/hosts, and the loopback line that would shadow it."""

from __future__ import annotations

from ansible.module_utils.etc_hosts import Entry, conflicts, render
from hypothesis import given
from hypothesis import strategies as st

DEBIAN = "127.0.0.1\tlocalhost\n127.0.1.1\tspark82.example.org\tspark82\n\n::1 localhost ip6-localhost\n"
ENTRIES = [Entry("192.168.88.82", ("spark82", "spark82.example.org")), Entry("192.168.88.83", ("spark83",))]
OWN = ["spark82", "spark82.example.org"]


def test_own_name_leaves_loopback_and_the_block_comes() -> None:
    text = render(DEBIAN, ENTRIES, OWN)
    assert text == (
        "127.0.0.1\tlocalhost\n# spark-ha off: 127.0.1.1\tspark82.example.org\tspark82\n\n::1 localhost ip6-localhost\n"
        "# BEGIN spark-ha\n192.168.88.82 spark82.example.org spark82\n192.168.88.83 spark83\n# END spark-ha\n"
    )


def test_a_name_seen_only_on_the_loopback_line_moves_along() -> None:
    text = render(DEBIAN, [Entry("192.168.88.82", ("spark82",))], ["spark82"])
    assert "\n192.168.88.82 spark82.example.org spark82\n" in text
    assert render(text, [Entry("192.168.88.82", ("spark82",))], ["spark82"]) == text


def test_second_time_changes_nothing_and_no_entries_takes_all_back() -> None:
    text = render(DEBIAN, ENTRIES, OWN)
    assert render(text, ENTRIES, OWN) == text
    assert render(text, [], OWN) == DEBIAN


def test_localhost_stays_where_the_own_name_shares_its_line() -> None:
    text = render("127.0.0.1 localhost spark82\n", ENTRIES, OWN)
    assert "# spark-ha off: 127.0.0.1 localhost spark82\n127.0.0.1 localhost  # spark-ha rest\n" in text
    assert render(text, ENTRIES, OWN) == text
    assert render(text, [], OWN) == "127.0.0.1 localhost spark82\n"


def test_a_host_called_localhost_keeps_it() -> None:
    assert render("127.0.0.1 localhost\n", [Entry("10.0.0.1", ("a",))], ["localhost", "localhost.localdomain"]).startswith(
        "127.0.0.1 localhost\n"
    )


def test_unknown_addresses_keep_their_line_and_hosts_that_left_lose_it() -> None:
    text = render(DEBIAN, ENTRIES, OWN)
    limited = render(text, [Entry("192.168.88.82", ("spark82",)), Entry(None, ("spark83",)), Entry(None, ("spark85",))], OWN)
    assert "\n192.168.88.83 spark83\n" in limited
    assert "spark85" not in limited
    assert "spark83" not in render(text, ENTRIES[:1], OWN)


def test_lines_with_another_address_are_named() -> None:
    assert conflicts("10.9.9.9 spark83 # old\n192.168.88.83 spark83\n127.0.1.1 spark82\n", ENTRIES) == ["10.9.9.9 spark83 # old"]


WORDS = st.lists(st.sampled_from(["localhost", "spark82", "SPARK82", "other", "spark82.example.org"]), min_size=1, max_size=4).map(" ".join)
LINES = st.builds(lambda address, names: f"{address} {names}", st.sampled_from(["127.0.0.1", "127.0.1.1", "::1", "10.1.1.1"]), WORDS)


@given(st.lists(st.one_of(LINES, st.just("# a comment"), st.just("")), max_size=6))
def test_any_file_is_stable_restorable_and_free_of_the_shadow(lines: list[str]) -> None:
    before = "\n".join(lines).rstrip("\n") + "\n"
    text = render(before, ENTRIES, OWN)
    assert render(text, ENTRIES, OWN) == text
    assert render(text, [], OWN).rstrip() == before.rstrip()
    for line in text.splitlines():
        fields = line.split("#")[0].split()
        if fields and (fields[0].startswith("127.") or fields[0] == "::1"):
            assert not {name.lower() for name in fields[1:]} & set(OWN)
