"""What keeps masters from using an ensemble that others run."""

from __future__ import annotations

import socket
import threading

from modules.zookeeper_words import ask, judge


def serve(answer: bytes) -> str:
    """Answer one question as a server would; return its endpoint."""
    listener = socket.create_server(("127.0.0.1", 0))

    def once() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(4)
            connection.sendall(answer)

    threading.Thread(target=once, daemon=True).start()
    return f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_server_that_takes_no_cons_is_reached_but_mute() -> None:
    reached, why = ask(serve(b"cons is not executed because it is not in the whitelist.\n"), 5)
    assert reached
    assert "4lw.commands.whitelist" in why


def test_a_server_that_tells() -> None:
    connection = b" /127.0.0.1:40000[0](queued=0,recved=1,sent=0)\n\n"
    assert ask(serve(connection), 5) == (True, "")


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    reached, why = ask(f"127.0.0.1:{port}", 5)
    assert not reached
    assert "no server of it serves this host" in judge({"a:2181": (reached, why)}, sessions=True)


def test_one_that_is_away_is_no_problem_one_that_is_mute_is() -> None:
    assert judge({"a:2181": (False, "refused"), "b:2181": (True, "")}, sessions=True) == ""
    mute = {"a:2181": (True, "not in the whitelist"), "b:2181": (True, "")}
    assert "a:2181 does not take the four-letter word cons" in judge(mute, sessions=True)
    assert judge(mute, sessions=False) == ""
