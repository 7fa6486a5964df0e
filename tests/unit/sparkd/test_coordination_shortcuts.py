"""What was made quicker does what the slow way did."""

from __future__ import annotations

import hashlib
import json
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkd.coordination import records
from sparkd.coordination.impatient import _Handler
from sparkd.core.effects import Write


def test_select_tells_who_can_be_read_and_written() -> None:
    """As select.select does, for sockets and numbers."""
    one, other = socket.socketpair()
    with one, other:
        handler = _Handler()
        assert handler.select([one], [], [], 0) == ([], [], [])
        assert handler.select([], [one], [], 5) == ([], [one], [])
        other.send(b"x")
        assert handler.select([one, other.fileno()], [], [], 5) == ([one], [], [])
        assert handler.select([one], [one], [], 5) == ([one], [one], [])


def test_select_wakes_up_for_a_peer_that_is_gone() -> None:
    """A socket that was shut down is readable: kazoo then reads nothing and goes on to another server."""
    one, other = socket.socketpair()
    with one:
        other.close()
        assert _Handler().select([one], [], [], 5)[0] == [one]


def test_select_waits_no_longer_than_asked_and_refuses_closed_files() -> None:
    """The time is in s; a closed socket is a ValueError, as with kazoo's own."""
    one, other = socket.socketpair()
    with one, other:
        began = time.monotonic()
        assert _Handler().select([one], [], [], 0.02) == ([], [], [])
        assert time.monotonic() - began >= 0.02
    with pytest.raises(ValueError, match="Invalid file descriptor"):
        _Handler().select([one], [], [], 0)


@given(st.text(min_size=1, max_size=50), st.integers(1, 2**60), st.dictionaries(st.text(max_size=5), st.text(max_size=20)))
def test_bytes_are_those_of_the_record(record_id: str, order: int, record: dict[str, str]) -> None:
    """A record given as its JSON is stored like the record, and the checksum is over the head as json.dumps writes it."""
    body = Write("driver", record_id, record).body()
    raw = records.encode("driver", record_id, order, body)
    assert raw == records.encode("driver", record_id, order, record)
    assert records.decode(raw, "driver", records.node_name(record_id)).record == record
    head = json.loads(raw.partition(b"\n")[0])
    assert head["sha256"] == hashlib.sha256(json.dumps([1, "driver", record_id, order]).encode() + b"\n" + body).hexdigest()


@given(st.text(max_size=12))
def test_plain_ids_are_their_own_names(record_id: str) -> None:
    """Whatever an id is: its name has no slash, is not hidden, and plain ones stay as they are."""
    name = records.node_name(record_id)
    assert name and "/" not in name and not name.startswith(".")
    if record_id and record_id.isascii() and record_id.replace("-", "a").isalnum():
        assert name == record_id


def test_no_record_has_no_body() -> None:
    """And NaN is no JSON."""
    assert Write("driver", "a", None).body() == b""
    with pytest.raises(ValueError, match="not JSON compliant"):
        Write("driver", "a", {"x": float("nan")}).body()
