"""`sparkd proxy`: see sparkd/proxy.py."""

from __future__ import annotations

import asyncio
import signal

from .common import Usage, client_of, parser, say, seconds

EPILOG = """example:
  sparkd proxy --masters h1:6066,h2:6066 --token-file ~/.spark-token &
  spark-submit --master spark://127.0.0.1:6066 --deploy-mode cluster --conf spark.master.rest.enabled=true --class Main app.jar

Whoever may connect to loopback on this host acts with the token. It listens nowhere else."""


def run(argv: list[str]) -> int:
    """Listen until SIGINT or SIGTERM."""
    options = parser("proxy", "A local address of the leader's REST, for clients that can send no token.", EPILOG)
    options.add_argument("--listen", default="127.0.0.1:6066", metavar="HOST:PORT", help="a loopback address (127.0.0.1:6066)")
    options.add_argument("--masters", "--master", default="", metavar="H1:6066,H2:6066", help="as sparkd submit's")
    options.add_argument("--token-file", default="", metavar="FILE", help="as sparkd submit's")
    options.add_argument("--patience", type=seconds, default=30.0, metavar="TIME", help="how long a request waits for a leader (30s)")
    chosen = options.parse_args(argv)
    from ..config import is_loopback
    from ..config_values import endpoint

    listen = endpoint(chosen.listen, 6066)
    if listen is None or not is_loopback(listen[0]):
        raise Usage(f"--listen {chosen.listen!r}: allowed is an address of loopback and a port, as in 127.0.0.1:6066")
    client = client_of(chosen)
    if listen in client.masters:
        raise Usage(f"--listen {chosen.listen}: this is a master's own address; name the masters with --masters, or listen on another port")
    from ..proxy import Proxy, serve

    async def main() -> None:
        stop, ready = asyncio.Event(), asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        work = asyncio.ensure_future(serve(Proxy(client.masters, client.token, chosen.patience), *listen, ready, stop))
        started = asyncio.ensure_future(ready.wait())
        await asyncio.wait({work, started}, return_when=asyncio.FIRST_COMPLETED)
        if ready.is_set():
            names = ", ".join(f"{host}:{port}" for host, port in client.masters)
            say(f"listening on {listen[0]}:{listen[1]} for {names}{'' if client.token.header() else ', without a token'}")
        started.cancel()
        await work

    asyncio.run(main())
    return 0
