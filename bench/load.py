"""A load client in a process of its own: keep-alive connections, one request after the other on each.

`python -m bench.load PORT CONNECTIONS SECONDS KEY < requests` reads one JSON array [method, path, body] a line and goes
round them; prints one JSON line with what it saw. `TURN` in a body becomes a number that is never the same again: to
set what is set already would be no write.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop


def request(method: str, path: str, body: object, key: str) -> bytes:
    data = b"" if body is None else json.dumps(body).encode()
    size = len(data) + 6 * data.count(b"TURN")
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
    if data:
        head += f"Content-Type: application/json\r\nContent-Length: {size}\r\n"
    return head.encode() + b"\r\n" + data


async def connection(port: int, requests: list[bytes], turn: list[int], until: float, seen: list[float]) -> int:
    first = int(time.time() * 100) % 5_000_000_000
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    failed = 0
    while (start := time.perf_counter()) < until:
        turn[0] += 1
        writer.write(requests[turn[0] % len(requests)].replace(b"TURN", b"%010d" % (turn[0] + first)))
        head = await reader.readuntil(b"\r\n\r\n")
        lower = head.lower()
        at = lower.index(b"content-length: ") + 16
        await reader.readexactly(int(head[at : head.index(b"\r", at)]))
        failed += not head.startswith(b"HTTP/1.1 2")
        seen.append(time.perf_counter() - start)
    writer.close()
    return failed


async def main() -> None:
    port, connections, seconds, key = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    requests = [request(*json.loads(line), key) for line in sys.stdin]
    seen: list[float] = []
    turn = [0]
    start = time.perf_counter()
    failed = await asyncio.gather(
        *(connection(port, requests, turn, start + seconds, seen) for _ in range(connections))
    )
    took = time.perf_counter() - start
    seen.sort()
    print(json.dumps({
        "rate": len(seen) / took, "p50": seen[len(seen) // 2] * 1e3, "p99": seen[int(len(seen) * 0.99)] * 1e3,
        "failed": sum(failed), "count": len(seen),
    }))  # fmt: skip


if __name__ == "__main__":
    uvloop.run(main())
