"""Content that comes and goes in pieces: large bodies up and down, digests, ranges, broken connections, limits."""

from __future__ import annotations

import base64
import contextlib
import errno
import gzip
import hashlib
import http.client
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from contract.client import API, PEM, Answer, Client
from contract.conftest import Errors, Place, Server
from gitstore.repository.disk import Disk

MIB = 1 << 20
BIG = os.urandom(5 * MIB + 12_345)  # over the bound for large objects
SMALL = b"some evidence\n"
KIND = {"Content-Type": "application/octet-stream"}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def chunked(client: Client, target: str, data: bytes, method: str = "POST", **headers: str) -> Answer:
    """The same as a body of unknown length."""

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(data), 700_001):
            yield data[at : at + 700_001]

    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
    sent = {"Authorization": f"Bearer {client.key}", **KIND, **headers}
    connection.request(method, API + target, body=pieces(), headers=sent, encode_chunked=True)
    answer = connection.getresponse()
    found = Answer(answer.status, answer.headers, answer.read())
    connection.close()
    return found


def raw(server: Server, head: str, body: bytes = b"", *, key: str = "agent") -> socket.socket:
    """A socket with the beginning of a request sent."""
    made = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    text = f"{head} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.keys[key]}\r\n"
    made.sendall(text.encode() + body)
    return made


def status(connection: socket.socket) -> int:
    with connection.makefile("rb") as file:
        return int(file.readline().split()[1])


def incoming(server: Server) -> list[str]:
    """What is half-received."""
    folder = Path(server.store.layout.large) / "incoming"
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def held(server: Server) -> list[str]:
    """The large objects that are open; the server is in this process."""
    found = []
    for each in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{each}"))
    return [path for path in found if path.startswith(str(server.store.layout.root)) and "/lfs/objects/" in path]


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("way", ["length", "chunked", "multipart"])
def test_a_large_artifact_comes_back_as_it_was(server: Server, agent: Client, place: Place, way: str) -> None:
    if way == "length":
        made = agent.post(f"{place.at}/artifacts?path=logs/big.bin", BIG, headers=KIND)
    elif way == "chunked":
        made = chunked(agent, f"{place.at}/artifacts?path=logs/big.bin", BIG)
    else:
        body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\nContent-MD5: '
        body += b64(hashlib.md5(BIG).digest()).encode() + b"\r\n\r\n" + BIG + b"\r\n--b\r\n"
        body += b'Content-Disposition: form-data; name="path"\r\n\r\nlogs/big.bin\r\n--b--\r\n'
        made = agent.post(f"{place.at}/artifacts", body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    record = made.data
    digest = hashlib.sha256(BIG)
    assert (record["logical_path"], record["size_bytes"]) == ("logs/big.bin", len(BIG))
    assert record["checksum_sha256"] == digest.hexdigest()
    got = agent.root("GET", record["download_url"])
    assert (got.status, got.body) == (200, BIG)
    assert got.headers["Repr-Digest"] == f"sha-256=:{b64(digest.digest())}:"
    assert got.headers["Content-Length"] == str(len(BIG))
    assert got.headers["Content-Disposition"].startswith('attachment; filename="big.bin"')
    assert "default-src 'none'" in got.headers["Content-Security-Policy"]
    assert not incoming(server)
    # What is kept out of git is not in its packs either.
    objects = place.published() / ".git" / "objects"
    assert sum(each.stat().st_size for each in objects.rglob("*") if each.is_file()) < MIB


def test_ranges_of_large_content(agent: Client, place: Place) -> None:
    made = agent.post(f"{place.at}/artifacts?path=a.bin", BIG, headers=KIND).data
    url = made["download_url"]
    whole = agent.root("HEAD", url)
    assert (whole.status, whole.headers["Content-Length"], whole.body) == (200, str(len(BIG)), b"")
    for asked, start, stop in (
        ("bytes=0-0", 0, 1),
        ("bytes=1000000-2999999", 1_000_000, 3_000_000),
        ("bytes=-7", len(BIG) - 7, len(BIG)),
        (f"bytes={len(BIG) - 3}-", len(BIG) - 3, len(BIG)),
        (f"bytes=5-{len(BIG) * 9}", 5, len(BIG)),
    ):
        got = agent.root("GET", url, headers={"Range": asked})
        assert (got.status, got.body) == (206, BIG[start:stop]), asked
        assert got.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(BIG)}"
        assert got.headers["Repr-Digest"] == whole.headers["Repr-Digest"]  # of the whole, as RFC 9530 has it
    several = agent.root("GET", url, headers={"Range": "bytes=0-1,5-6"})
    assert (several.status, several.body) == (200, BIG)
    assert agent.root("GET", url, headers={"Range": f"bytes={len(BIG)}-"}).status == 416
    tag = whole.headers["ETag"]
    assert agent.root("GET", url, headers={"Range": "bytes=0-1", "If-Range": tag}).body == BIG[:2]
    assert agent.root("GET", url, headers={"Range": "bytes=0-1", "If-Range": '"other"'}).body == BIG
    assert agent.root("GET", url, headers={"Range": "bytes=0-1", "If-Range": f"W/{tag}"}).status == 200
    assert agent.root("GET", url, headers={"If-None-Match": tag}).status == 304
    assert agent.root("GET", url, headers={"If-Match": '"other"'}).code == (412, "PRECONDITION_FAILED")


@pytest.mark.parametrize("data", [SMALL, BIG], ids=["small", "big"])
def test_digests_are_held_against_what_arrives(server: Server, agent: Client, place: Place, data: bytes) -> None:
    target = f"{place.at}/artifacts?path=a.bin"
    right = {
        "Repr-Digest": f"sha-512=:{b64(hashlib.sha512(data).digest())}:;x=1 , a=:YQ==:",
        "Content-Digest": f"unixsum=:AAA=:,sha-256=:{b64(hashlib.sha256(data).digest())}:",
        "Digest": f"SHA-256={b64(hashlib.sha256(data).digest())},md5={b64(hashlib.md5(data).digest())}",
        "Content-MD5": b64(hashlib.md5(data).digest()),
    }
    assert agent.post(target, data, headers=KIND | right).status == 201
    before = agent.get(f"{place.at}/artifacts").meta["total"]
    other = b"another"
    wrong = {
        "Repr-Digest": ("sha-512", hashlib.sha512(other).digest(), "sha-512=:{}:"),
        "Content-Digest": ("sha-256", hashlib.sha256(other).digest(), "sha-256=:{}:"),
        "Digest": ("sha", hashlib.sha1(other).digest(), "sha={}"),
        "Content-MD5": ("md5", hashlib.md5(other).digest(), "{}"),
    }
    for header, (algorithm, digest, form) in wrong.items():
        answer = agent.post(target, data, headers=KIND | {header: form.format(b64(digest))})
        assert answer.code == (400, "VALIDATION_ERROR"), header
        assert answer.error["details"]["sent"] == b64(digest)
        found = hashlib.new(algorithm.replace("sha-", "sha").replace("sha", "sha1") if algorithm == "sha" else
                            algorithm.replace("-", ""), data).digest()  # fmt: skip
        assert answer.error["details"]["received"] == b64(found)
        assert b64(digest) in answer.error["message"]
        assert b64(found) in answer.error["message"]
    for header, text in (
        ("Repr-Digest", "sha-256=abc"),
        ("Repr-Digest", "sha-256=:abc:"),
        ("Content-MD5", "x"),
        ("Digest", "sha-256"),
        ("Content-Digest", ""),
        ("Content-Digest", "sha-256=:YWJj:"),
    ):
        assert agent.post(target, data, headers=KIND | {header: text}).code == (400, "MALFORMED_REQUEST"), header
    # Digests of a coded body are those of the bytes on the way, which nobody has any more when it is read.
    coded = gzip.compress(data)
    sent = {"Content-Encoding": "gzip", "Content-Digest": f"sha-256=:{b64(hashlib.sha256(coded).digest())}:"}
    answer = agent.post(target, coded, headers=KIND | sent)
    assert answer.code == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert "sent as gzip" in answer.error["message"]
    assert agent.get(f"{place.at}/artifacts").meta["total"] == before
    assert not incoming(server)


@pytest.mark.parametrize("data", [BIG * 2, BIG * 5], ids=["by aiohttp", "into blocks"])
@pytest.mark.parametrize("taken", [False, True], ids=["renamed", "its name taken"])
@pytest.mark.parametrize("door", ["artifacts", "lfs"])
def test_a_workspace_that_is_renamed_meanwhile_gets_what_comes(
    server: Server, admin: Client, make: Callable[..., Place], door: str, taken: bool, data: bytes
) -> None:
    place = make()
    old, new = place.slug, f"{place.slug}-new"
    place.published()
    oid = hashlib.sha256(data).hexdigest()
    head = f"POST {API}/workspaces/{place.id}/artifacts?path=a.bin"
    if door == "lfs":
        head = f"PUT /git/{old}.git/info/lfs/objects/{oid}"
    kind = f"Content-Type: application/octet-stream\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    with raw(server, head, kind + data[: -MIB // 2], key="admin") as connection:
        end = time.monotonic() + 10
        while not incoming(server):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert admin.patch(f"/workspaces/{place.id}", {"slug": new}).status == 200
        server.store.publisher.publish(server.store.load(place.id))
        if taken:
            other = admin.post("/workspaces", {"name": "other", "slug": old}).data["id"]
            server.store.publisher.publish(server.store.load(other))
        connection.sendall(data[-MIB // 2 :])
        assert status(connection) == (201 if door == "artifacts" else 200)
    assert server.store.objects(place.id).has(oid, len(data))
    if taken:
        assert not server.store.objects(other).has(oid)
    if door == "artifacts":
        (one,) = admin.get(f"/workspaces/{place.id}/artifacts").data
        assert admin.root("GET", one["download_url"]).body == data
    assert not incoming(server)


def test_digests_in_several_lines_are_all_held_against_what_arrives(server: Server, place: Place) -> None:
    good, bad = (f"sha-256=:{b64(hashlib.sha256(each).digest())}:" for each in (SMALL, b"other"))
    for lines, wanted in ((("unixsum=:AAA=:", good), 201), (("unixsum=:AAA=:", bad), 400), ((good, "x"), 400)):
        head = "".join(f"Repr-Digest: {line}\r\n" for line in lines) + f"Content-Length: {len(SMALL)}\r\n"
        with raw(
            server, f"POST {API}{place.at}/artifacts?path=a.bin",
            f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + SMALL,
        ) as connection:  # fmt: skip
            assert status(connection) == wanted, lines


def test_digests_of_other_bodies(admin: Client, place: Place) -> None:
    body = b'{"file_name": "a.txt", "content_base64": "eA=="}'
    kind = {"Content-Type": "application/json"}
    good, bad = (f"sha-256=:{b64(hashlib.sha256(each).digest())}:" for each in (body, SMALL))
    assert admin.post(f"{place.at}/files", body, headers=kind | {"Content-Digest": good}).status == 201
    assert admin.post(f"{place.at}/files", body, headers=kind | {"Content-Digest": bad}).status == 400
    form = {"Content-Type": "multipart/form-data; boundary=b", "Content-Digest": good}
    assert admin.post(f"{place.at}/files", b"--b--\r\n", headers=form).status == 415


def test_a_raw_body_for_a_task(agent: Client, admin: Client, place: Place) -> None:
    flow = agent.post(f"{place.at}/workflows", {"name": "w"}).data["id"]
    task = f"{flow}-t"
    agent.put(f"/workflows/{flow}/tasks/{task}", {"title": "t"})
    made = chunked(agent, f"/tasks/{task}/artifacts?path=a/b.log", SMALL, **{"Content-Type": "text/plain"})
    assert made.status == 201
    assert (made.data["task_id"], made.data["workflow_id"], made.data["content_type"]) == (task, flow, "text/plain")
    assert agent.root("GET", made.data["download_url"]).body == SMALL
    assert agent.post(f"/tasks/none-{task}/artifacts?path=a", SMALL, headers=KIND).status == 404


def test_a_body_that_breaks_off_leaves_nothing(server: Server, agent: Client, place: Place) -> None:
    head = f"POST {API}{place.at}/artifacts?path=a.bin"
    half = raw(server, head, f"Content-Type: a/b\r\nContent-Length: {2 * len(BIG)}\r\n\r\n".encode() + BIG + BIG[1:])
    until(lambda: bool(incoming(server)))  # it is on its way to the disk
    half.close()
    until(lambda: not incoming(server))
    chunk = f"{2 * len(BIG):x}\r\n".encode() + BIG + BIG
    cut = raw(server, head, b"Content-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
    until(lambda: bool(incoming(server)))
    cut.sendall(b"no chunk\r\n")
    assert status(cut) == 400
    cut.close()
    until(lambda: not incoming(server))
    assert agent.get(f"{place.at}/artifacts").data == []


def test_a_body_that_stands_still_is_given_up(second: Callable[..., AbstractContextManager[Server]]) -> None:
    with second(body_timeout=1.0) as server, server.client() as admin:
        place = Place(server, admin)
        head = f"POST {API}{place.at}/artifacts?path=a.bin"
        slow = raw(server, head, f"Content-Type: a/b\r\nContent-Length: {2 * len(BIG)}\r\n\r\n".encode() + BIG)
        assert status(slow) == 400
        slow.close()
        assert not incoming(server)
        # A client that takes nothing of its answer is cut off.
        url = admin.post(f"{place.at}/artifacts?path=a.bin", BIG * 3, headers=KIND).data["download_url"]
        lazy = raw(server, f"GET {url}", b"\r\n", key="admin")
        until(lambda: bool(held(server)))
        until(lambda: not held(server))
        received = 0
        with contextlib.suppress(ConnectionError):
            while data := lazy.recv(MIB):
                received += len(data)
        assert received < len(BIG) * 3
        lazy.close()


# -- bodies so large that they are taken from aiohttp ------------------------------------------------------------------

HUGE = BIG * 5  # some 25 MiB


def sent(client: Client, target: str, length: int, *pieces: bytes, pause: float = 0.0, more: str = "") -> Answer:
    """A POST in pieces, and what comes before the server closes the connection."""
    made = socket.create_connection(("127.0.0.1", client.port), timeout=30)
    head = f"POST {API}{target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {client.key}\r\nContent-Type: a/b\r\n"
    made.sendall(f"{head}Content-Length: {length}\r\n{more}\r\n".encode())
    for piece in pieces:
        made.sendall(piece)
        time.sleep(pause)
    answer = http.client.HTTPResponse(made)
    answer.begin()
    found = Answer(answer.status, answer.headers, answer.read())
    assert made.recv(1) == b""
    made.close()
    return found


def test_a_huge_body_is_the_last_of_its_connection(server: Server, agent: Client, place: Place) -> None:
    target = f"{place.at}/artifacts?path=huge.bin"
    # What the client sends after it, a request it did not wait with, is no part of it and is not answered.
    found = sent(agent, target, len(HUGE), HUGE, b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (found.status, found.headers["Connection"]) == (201, "close")
    assert found.data["checksum_sha256"] == hashlib.sha256(HUGE).hexdigest()
    assert agent.root("GET", found.data["download_url"]).body == HUGE
    assert not incoming(server)


def test_huge_bodies_at_once_each_become_what_was_sent(agent: Client, place: Place) -> None:
    small = agent.post(f"{place.at}/artifacts?path=small.bin", BIG, headers=KIND).data["download_url"]
    bodies = [bytes([number]) + HUGE for number in range(6)]  # more than there are threads for bodies

    def send(number: int) -> Answer:
        return sent(agent, f"{place.at}/artifacts?path={number}.bin", len(bodies[number]), bodies[number])

    with ThreadPoolExecutor(len(bodies)) as pool:
        sending = [pool.submit(send, number) for number in range(len(bodies))]
        with agent.other() as reader:
            while not all(each.done() for each in sending):
                assert reader.root("GET", small).body == BIG
    for body, each in zip(bodies, sending, strict=True):
        assert each.result().data["checksum_sha256"] == hashlib.sha256(body).hexdigest()
        assert agent.root("GET", each.result().data["download_url"]).body == body


def test_a_client_may_ask_whether_to_send_a_huge_body(agent: Client, place: Place) -> None:
    made = socket.create_connection(("127.0.0.1", agent.port), timeout=30)
    head = f"POST {API}{place.at}/artifacts?path=a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {agent.key}\r\n"
    made.sendall(f"{head}Expect: 100-continue\r\nContent-Type: a/b\r\nContent-Length: {len(HUGE)}\r\n\r\n".encode())
    assert made.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    made.sendall(HUGE)
    assert status(made) == 201
    made.close()


def test_a_huge_body_with_a_coding_is_still_decoded(agent: Client, place: Place) -> None:
    packed = gzip.compress(HUGE, 0)
    made = agent.post(f"{place.at}/artifacts?path=a", packed, headers={**KIND, "Content-Encoding": "gzip"})
    assert (made.status, made.data["checksum_sha256"]) == (201, hashlib.sha256(HUGE).hexdigest())


@pytest.mark.parametrize("kept", [3, 5 * MIB, 17 * MIB], ids=lambda kept: str(kept))
def test_a_huge_body_that_breaks_off_leaves_nothing(server: Server, agent: Client, place: Place, kept: int) -> None:
    head = f"POST {API}{place.at}/artifacts?path=a.bin"
    half = raw(server, head, f"Content-Type: a/b\r\nContent-Length: {len(HUGE)}\r\n\r\n".encode() + HUGE[:kept])
    half.shutdown(socket.SHUT_WR)  # no more will come, and it would still take an answer
    half.settimeout(10)
    assert half.recv(100) == b""
    half.close()
    until(lambda: not incoming(server))
    assert agent.get(f"{place.at}/artifacts").data == []


def test_who_is_slow_with_a_huge_body_is_waited_for(second: Callable[..., AbstractContextManager[Server]]) -> None:
    with second(body_timeout=0.5) as server, server.client() as admin:
        place = Place(server, admin)
        target = f"{place.at}/artifacts?path=a.bin"
        pieces = [HUGE[:MIB], *(bytes([byte]) for byte in HUGE[MIB : MIB + 10]), HUGE[MIB + 10 :]]
        assert sent(admin, target, len(HUGE), *pieces, pause=0.1).data["size_bytes"] == len(HUGE)
        still = raw(
            server, f"POST {API}{target}", b"Content-Type: a/b\r\nContent-Length: %d\r\n\r\n" % len(HUGE), key="admin"
        )
        still.sendall(HUGE[: 9 * MIB])
        assert status(still) == 400
        still.close()
        until(lambda: not incoming(server))


def test_a_full_disk_in_a_huge_body_is_told_to_who_still_sends(
    server: Server, agent: Client, place: Place, monkeypatch: pytest.MonkeyPatch, quiet: Errors
) -> None:
    whole = Disk.append

    def full(self: Disk, fd: int, path: str, data: bytes) -> None:
        if os.fstat(fd).st_size > 6 * MIB:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        whole(self, fd, path, data)

    monkeypatch.setattr(Disk, "append", full)
    found = sent(agent, f"{place.at}/artifacts?path=a.bin", len(HUGE), HUGE)
    assert found.code == (503, "SERVICE_UNAVAILABLE")
    assert "No space left" in found.error["message"]
    assert "No space left" in quiet.found[0]
    quiet.found.clear()
    assert not incoming(server)


def test_limits_are_told_before_the_body_comes(second: Callable[..., AbstractContextManager[Server]]) -> None:
    limits = {"max_artifact_bytes": 9_000, "max_json_upload_bytes": 2_048, "max_file_bytes": 5_000}
    with second(**limits) as server, server.client() as admin:
        place = Place(server, admin)
        for method, target, kind, limit in (
            ("POST", f"{place.at}/artifacts?path=a", "a/b", "9000"),
            ("POST", f"{place.at}/artifacts", "application/json", "2048"),
            ("PUT", f"{place.at}/files/a/content", "a/b", "5000"),
        ):
            head = f"Content-Type: {kind}\r\nContent-Length: 9001\r\nExpect: 100-continue\r\n\r\n".encode()
            with raw(server, f"{method} {API}{target}", head, key="admin") as waiting:
                answer = waiting.recv(65536)
            assert answer.startswith(b"HTTP/1.1 413 "), answer
            assert limit.encode() in answer
        assert chunked(admin, f"{place.at}/artifacts?path=a", b"x" * 9_001).code == (413, "PAYLOAD_TOO_LARGE")
        made = admin.post(f"{place.at}/artifacts?path=a", b"x" * 9_000, headers=KIND)
        assert (made.status, made.data["size_bytes"]) == (201, 9_000)
        # A client that asks first is told to go on.
        head = b"Content-Type: a/b\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        with raw(server, f"POST {API}{place.at}/artifacts?path=a", head) as asking:
            assert asking.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
            asking.sendall(b"abc")
            assert status(asking) == 201


def test_a_packed_body_unpacks_to_no_more_than_json_may_have(agent: Client, place: Place) -> None:
    bomb = gzip.compress(bytes(40 * MIB), 1)
    kind = KIND | {"Content-Encoding": "gzip"}
    assert agent.post(f"{place.at}/artifacts?path=a", bomb, headers=kind).status == 413
    assert agent.post(f"{place.at}/artifacts?path=a", gzip.compress(SMALL), headers=kind).data["size_bytes"] == 14


def test_the_content_of_a_file_is_put(admin: Client, agent: Client, place: Place) -> None:
    at = f"{place.at}/files"
    assert agent.put(f"{at}/notes/content", SMALL, headers=KIND).status == 403
    made = admin.put(f"{at}/notes/content?file_name=notes.md", SMALL, headers=KIND)
    assert made.status == 200
    first = made.data
    assert (first["key"], first["file_name"], first["content_type"]) == ("notes", "notes.md", "text/markdown")
    assert (first["size_bytes"], first["version"]) == (len(SMALL), 1)
    assert admin.get(f"{at}/notes").etag == made.etag
    # What is not said stays as it is; the id names it as well as the key.
    again = admin.put(f"{at}/{first['id']}/content", b"more", headers=KIND | {"If-Match": made.etag})
    assert again.data | {"updated_at": 0} == first | {
        "size_bytes": 4, "checksum_sha256": hashlib.sha256(b"more").hexdigest(), "version": 2, "updated_at": 0,
    }  # fmt: skip
    stale = admin.put(f"{at}/notes/content", b"other", headers=KIND | {"If-Match": made.etag})
    assert stale.code == (412, "PRECONDITION_FAILED")
    new = KIND | {"If-None-Match": "*"}
    assert admin.put(f"{at}/notes/content", b"other", headers=new).code == (412, "PRECONDITION_FAILED")
    assert admin.put(f"{at}/fresh.txt/content", b"other", headers=new).data["content_type"] == "text/plain"
    assert admin.put(f"{at}/notes/content", b"", headers=KIND).code == (400, "VALIDATION_ERROR")
    assert admin.put(f"{at}/notes/content?file_name=..", b"x", headers=KIND).code == (400, "VALIDATION_ERROR")
    json = admin.put(f"{at}/j/content", b"{}", headers={"Content-Type": "application/json"})
    assert json.data["content_type"] == "application/json"
    assert agent.get(f"{at}/notes/content").body == b"more"
    # Text is looked through for credentials at this door too.
    assert admin.put(f"{at}/k/content", PEM.encode(), headers=KIND).code == (400, "VALIDATION_ERROR")
    # Without a type, as curl sends it.
    bare = http.client.HTTPConnection("127.0.0.1", admin.port, timeout=20)
    bare.request("PUT", f"{API}{at}/bare/content", body=b"abc", headers={"Authorization": f"Bearer {admin.key}"})
    assert bare.getresponse().status == 200
    bare.close()
    big = chunked(admin, f"{at}/big.bin/content", BIG, method="PUT")
    assert big.data["checksum_sha256"] == hashlib.sha256(BIG).hexdigest()
    assert agent.get(f"{at}/big-bin/content").status == 404
    got: Any = agent.get(f"{at}/big.bin/content", headers={"Range": "bytes=100-199"})
    assert got.body == BIG[100:200]
    assert next(row for row in agent.get(at).data if row["key"] == "big.bin")["size_bytes"] == len(BIG)
