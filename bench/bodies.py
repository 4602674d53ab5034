"""Large content up and down against `cp` with a sync, and the memory that takes; small artifacts, as many as can be.

`BENCH_MIB` is the size of the large content in MiB, 1024 by default.
"""

from __future__ import annotations

import base64
import os
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.place import KEY, ROUNDS, SECONDS, Row, Server, folder, make_workspaces, serving

_MIB = int(os.environ.get("BENCH_MIB", "1024"))
_PIECE = 1 << 20


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", str(source), str(target)], check=True)
    subprocess.run(["sync", str(target)], check=True)


def _request(server: Server, head: str) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", server.port), timeout=600)
    text = f"{head}\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"
    link.sendall(text.encode())
    return link


def _answered(link: socket.socket, want: bytes) -> bytes:
    """The address in the answer, or what came of the body with the head."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = link.recv(65536)
        if not data:
            raise RuntimeError(f"the server broke off after {head!r}")
        head += data
    first, _, rest = head.partition(b"\r\n\r\n")
    if not first.startswith(b"HTTP/1.1 " + want):
        raise RuntimeError(f"the answer is {first[:100]!r}")
    if want == b"200":
        return rest
    return next(line[10:] for line in first.split(b"\r\n") if line.lower().startswith(b"location: "))


def _up(server: Server, source: Path) -> str:
    size = source.stat().st_size
    with open(source, "rb") as file, _request(server, "POST /api/v1/workspaces/w0/artifacts?path=big HTTP/1.1") as link:
        link.sendall(f"Content-Type: application/octet-stream\r\nContent-Length: {size}\r\n\r\n".encode())
        link.sendfile(file)
        return _answered(link, b"201").decode()


def _resumable(server: Server, source: Path) -> str:
    """The same by tus: begun, then one piece."""
    size = source.stat().st_size
    name = base64.b64encode(b"big").decode()
    tus = f"Tus-Resumable: 1.0.0\r\nUpload-Length: {size}\r\nUpload-Metadata: path {name}\r\nContent-Length: 0\r\n\r\n"
    with _request(server, "POST /api/v1/workspaces/w0/uploads HTTP/1.1") as link:
        link.sendall(tus.encode())
        url = _answered(link, b"201").decode()
    with open(source, "rb") as file, _request(server, f"PATCH {url} HTTP/1.1") as link:
        kind = "Content-Type: application/offset+octet-stream"
        link.sendall(f"Tus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n{kind}\r\nContent-Length: {size}\r\n\r\n".encode())
        link.sendfile(file)
        if not link.recv(65536).startswith(b"HTTP/1.1 204"):
            raise RuntimeError("the piece was not taken")
    return url


def _down(server: Server, url: str, target: Path) -> None:
    room = memoryview(bytearray(_PIECE // 4))  # as much as stays in the processor's cache on its way to the file
    with open(target, "wb", buffering=0) as file, _request(server, f"GET {url} HTTP/1.1") as link:
        link.sendall(b"\r\n")
        file.write(_answered(link, b"200"))
        while size := link.recv_into(room):
            file.write(room[:size])
        os.fsync(file.fileno())


def _free(*paths: Path) -> None:
    """Gives up the memory that these synced files take. On a virtual machine pages that nobody has used yet may cost
    more than the disk, so what is compared has to find the same free ones.
    """
    for path in paths:
        if path.is_file():
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def large() -> Iterator[Row]:
    """One body up, by tus, and down, each round with another content, beside a copy of the same file."""
    with folder() as where:
        make_workspaces(where / "data", 1)
        source, copy, got = where / "source", where / "copy", where / "got"
        seen: dict[str, list[tuple[float, float, float]]] = {"up": [], "up by tus": [], "down": []}
        with serving(where / "data") as server:
            server.ask("/api/v1/workspaces/w0")
            idle = server.resident
            for _ in range(ROUNDS):
                url = ""
                for name in seen:
                    if name != "down":
                        with open(source, "wb") as file:
                            for _ in range(_MIB):
                                file.write(os.urandom(_PIECE))
                    copy.unlink(missing_ok=True)
                    os.sync()
                    if name != "down":  # which reads the last of them
                        _free(*(where / "data" / "large").rglob("*"))
                    reference = _timed(lambda: _copy(source, copy))
                    os.sync()
                    _free(copy)
                    server.forget_peak()
                    begun = time.perf_counter()
                    if name == "up":
                        _up(server, source)
                    elif name == "up by tus":
                        _resumable(server, source)
                    else:
                        _down(server, url, got)
                    taken = time.perf_counter() - begun
                    seen[name].append((taken, reference, server.peak - idle))
                    if name == "up by tus":
                        url = _up(server, source)  # what is there already is not kept twice; the last step reads it
                if got.read_bytes() != source.read_bytes():
                    raise RuntimeError("what came down is not what went up")
                got.unlink()
        for name, rounds in seen.items():
            taken, reference, _ = (statistics.median(column) for column in zip(*rounds, strict=True))
            yield (
                f"{_MIB} MiB {name}",
                f"{_MIB / taken:.0f} MiB/s, {max(one[2] for one in rounds):.0f} MiB above idle",
                f"cp and sync {_MIB / reference:.0f} MiB/s",
                f"{statistics.median(two / one for one, two, _ in rounds):.2f} ×",
                "≥ 0.5 ×, ≤ 64 MiB",
            )  # fmt: skip


def ingest() -> Iterator[Row]:
    """Artifacts of 1 KiB into one workspace, 32 connections."""
    with folder() as where:
        make_workspaces(where / "data", 1)
        content = base64.b64encode(b"a line of a log, as agents write it\n" * 28).decode()
        body = {"path": "logs/TURN.txt", "content_base64": content, "metadata": {"turn": "TURN"}}
        with serving(where / "data") as server:
            requests = [("POST", "/api/v1/workspaces/w0/artifacts", body)]
            server.load(32, 1, requests)
            rounds = [server.load(32, SECONDS, requests) for _ in range(ROUNDS)]
        rate, p50, p99 = (statistics.median(one[name] for one in rounds) for name in ("rate", "p50", "p99"))
        yield ("artifacts of 1 KiB, 32 connections, 1 workspace", f"{rate:.0f}/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms",
               "–", "–", "≥ 800/s")  # fmt: skip


ALL = {"large": large, "ingest": ingest}
