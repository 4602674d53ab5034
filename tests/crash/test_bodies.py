"""A server of its own is killed while content arrives, and watched for the memory that content takes."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crash.traffic import ADMIN, API, Server

MIB = 1 << 20
PIECE = "application/offset+octet-stream"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data")
    server.start()
    try:
        client = server.client()
        assert client.ask("POST", f"{API}/workspaces", {"name": "w", "slug": "w"}).status == 201
        client.close()
        yield server
    finally:
        server.close()


def ask(server: Server, method: str, path: str, body: Any = None, **headers: str) -> http.client.HTTPResponse:
    """One request on a connection of its own; the answer is read already (`answer.data`)."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    sent = {name.replace("_", "-"): text for name, text in headers.items()}
    connection.request(method, path, body, {"Authorization": f"Bearer {ADMIN}", "Tus-Resumable": "1.0.0", **sent})
    answer = connection.getresponse()
    answer.data = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end
        time.sleep(0.002)


def begin(server: Server, length: int) -> str:
    path = base64.b64encode(b"big.bin").decode()
    made = ask(server, "POST", f"{API}/workspaces/w/uploads", Upload_Length=str(length), Upload_Metadata=f"path {path}")
    assert made.status == 201
    return made.headers["Location"]


def test_killed_while_an_upload_arrives(server: Server) -> None:
    """Nothing of what was told to be there is lost, and the artifact is made once, whenever it is killed."""
    data, drawn = os.urandom(44 * MIB), random.Random(5)
    url = begin(server, len(data))
    part = server.data / "uploads" / f"{url.rpartition('/')[2]}.part"
    told = 0
    for kill in (2 * MIB, 38 * MIB, len(data)):
        # What is sent in one go and acknowledged is there after the kill, and what arrives then may be.
        step = drawn.randrange(1, MIB)
        answer = ask(server, "PATCH", url, data[told : told + step], Upload_Offset=str(told), Content_Type=PIECE)
        assert answer.status == 204
        told = int(answer.headers["Upload-Offset"])
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as half:
            head = f"PATCH {url} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN}\r\nTus-Resumable: 1.0.0\r\n"
            head += f"Upload-Offset: {told}\r\nContent-Type: {PIECE}\r\nContent-Length: {len(data) - told}\r\n\r\n"
            half.sendall(head.encode() + data[told:kill])
            until(lambda most=kill - MIB: not part.exists() or part.stat().st_size >= most)
            server.kill()
        server.start()
        state = ask(server, "HEAD", url)
        assert state.status == 200
        assert told <= int(state.headers["Upload-Offset"]) <= kill
        told = int(state.headers["Upload-Offset"])
    if "Gitstore-Resource" not in state.headers:
        state = ask(server, "PATCH", url, data[told:], Upload_Offset=str(told), Content_Type=PIECE)
        assert state.status == 204
    got = ask(server, "GET", state.headers["Gitstore-Resource"])
    assert hashlib.sha256(got.data).digest() == hashlib.sha256(data).digest()  # type: ignore[attr-defined]
    client = server.client()
    assert client.read("/workspaces/w/artifacts")[0]["size_bytes"] == len(data)
    assert len(client.read("/workspaces/w/artifacts")) == 1
    client.close()
    assert not part.exists()


def test_the_memory_that_content_takes(server: Server) -> None:
    """Far less than the content has, up and down, in an archive too (proc(5): VmHWM)."""
    size, piece = 96 * MIB, os.urandom(MIB)

    def peak() -> int:
        lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) // 1024

    def drain(path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("GET", path, headers={"Authorization": f"Bearer {ADMIN}"})
        answer = connection.getresponse()
        found = 0
        while data := answer.read(MIB):
            found += len(data)
        connection.close()
        return found

    ask(server, "POST", f"{API}/workspaces/w/artifacts?path=small", piece, Content_Type="a/b")
    idle = peak()
    for length in ({}, {"Content_Length": str(size)}):  # by aiohttp, and into blocks
        body = (piece for _ in range(size // MIB))
        made = ask(server, "POST", f"{API}/workspaces/w/artifacts?path=big", body, Content_Type="a/b", **length)
        assert made.status == 201
    up = peak()
    assert drain(made.headers["Location"]) == size
    assert drain(f"{API}/workspaces/w/artifacts/archive") > size + MIB
    assert up - idle <= 64
    assert peak() - idle <= 64
