"""The reference of reads: a bare aiohttp handler in a process of its own, answering with bytes it was given."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop
from aiohttp import web

from bench.place import ROOT, free_port


@contextmanager
def serving(port: int, key: str) -> Iterator[int]:
    """Serves what the server at `port` answers; its port."""
    own = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.bare", str(own), str(port), key], cwd=ROOT)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{own}/api/v1/workspaces/w0").read()
                break
            except OSError:
                time.sleep(0.02)
        yield own
    finally:
        process.terminate()
        process.wait(10)


def main() -> None:
    own, port, key = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v1/workspaces/w0", headers={"Authorization": f"Bearer {key}"}
    )
    with urllib.request.urlopen(asked) as answer:
        body = answer.read()

    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    async def run() -> None:
        app = web.Application()
        app.router.add_get("/api/v1/workspaces/{id}", handler)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", own).start()
        while True:
            await asyncio.sleep(3600)

    uvloop.run(run())


if __name__ == "__main__":
    main()
