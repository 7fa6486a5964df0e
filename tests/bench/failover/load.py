"""Many clients at once that submit over REST, a connection each: load.py PORT CLIENTS SECONDS. Prints submissions per second."""

from __future__ import annotations

import asyncio
import json
import sys
import time

MESSAGE = json.dumps(
    {
        "action": "CreateSubmissionRequest",
        "appArgs": [],
        "appResource": "file:/dev/null",
        "clientSparkVersion": "4.3.0",
        "environmentVariables": {"BENCH": "1"},
        "mainClass": "Nothing",
        "sparkProperties": {"spark.app.name": "bench", "spark.submit.deployMode": "cluster", "spark.driver.memory": "900g"},
    }
).encode()


async def client(port: int, until: float, took: list[float]) -> None:
    """Submit one after the other until the time is over; every taken one is a latency in s."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/submissions/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(MESSAGE)}\r\n\r\n"
    while time.monotonic() < until:
        began = time.monotonic()
        writer.write(head.encode() + MESSAGE)
        await writer.drain()
        length = 0
        while (line := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        answer = json.loads(await reader.readexactly(length))
        if answer.get("success"):
            took.append(time.monotonic() - began)
    writer.close()


async def main() -> None:
    """Run the clients."""
    port, clients, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    took: list[float] = []
    began = time.monotonic()
    await asyncio.gather(*(client(port, began + seconds, took) for _ in range(clients)))
    elapsed = time.monotonic() - began
    took.sort()
    if took:
        print(f"p50 {took[len(took) // 2] * 1000:.1f} ms, p99 {took[int(len(took) * 0.99)] * 1000:.1f} ms")
    print(len(took) / elapsed)


if __name__ == "__main__":
    asyncio.run(main())
