"""Resumable uploads as tus 1.0.0 has them: begun, sent in pieces, taken up again, checked, ended, finished."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urlsplit

import pytest

from contract.client import API, Answer, Client
from contract.conftest import Errors, Place, Server
from gitstore.errors import StorageFailed
from gitstore.repository.disk import Disk
from gitstore.uploads import Uploads
from server.wire import Clock

MIB = 1 << 20
BIG = os.urandom(6 * MIB + 321)
TUS = {"Tus-Resumable": "1.0.0"}
PIECE = "application/offset+octet-stream"


def metadata(**fields: str) -> str:
    return ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in fields.items())


class Tus:
    """A client of the protocol, as it is written: nothing of ours but the header with the address of the result."""

    def __init__(self, client: Client, place: Place) -> None:
        self.client = client
        self.at = f"{API}{place.at}/uploads"
        self.url = ""

    def create(
        self, length: int, data: bytes | None = None, headers: dict[str, Any] | None = None, **fields: str
    ) -> Answer:
        sent = TUS | {"Upload-Length": str(length), "Upload-Metadata": metadata(**fields)} | (headers or {})
        if data is not None:
            sent["Content-Type"] = PIECE
        answer = self.client.root("POST", self.at, data, headers=sent)
        if answer.status == 201:
            assert answer.headers["Tus-Resumable"] == "1.0.0"
            self.url = urlsplit(answer.headers["Location"]).path
        return answer

    def head(self) -> Answer:
        return self.client.root("HEAD", self.url, headers=TUS)

    @property
    def offset(self) -> int:
        answer = self.head()
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-store"
        return int(answer.headers["Upload-Offset"])

    def patch(self, offset: int, data: bytes, **headers: Any) -> Answer:
        sent = TUS | {"Upload-Offset": str(offset), "Content-Type": PIECE}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.root("PATCH", self.url, data, headers=sent)

    def end(self) -> Answer:
        return self.client.root("DELETE", self.url, headers=TUS)


@pytest.fixture
def tus(agent: Client, place: Place) -> Tus:
    return Tus(agent, place)


def test_what_the_server_offers(agent: Client, place: Place) -> None:
    answer = agent.root("OPTIONS", f"{API}{place.at}/uploads", key=None)
    assert answer.status == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    offered = set(answer.headers["Tus-Extension"].split(","))
    assert offered == {"creation", "creation-with-upload", "termination", "checksum", "expiration"}
    assert answer.headers["Tus-Max-Size"] == str(16 << 30)
    assert "sha1" in answer.headers["Tus-Checksum-Algorithm"].split(",")


def test_pieces_become_an_artifact(tus: Tus, agent: Client, place: Place) -> None:
    made = tus.create(len(BIG), path="logs/big.bin", role="builder", metadata='{"k": [1]}')
    assert made.data["offset"] == 0
    assert made.headers["Upload-Expires"].endswith(" GMT")
    told = tus.head()
    assert (told.headers["Upload-Length"], told.headers["Upload-Offset"]) == (str(len(BIG)), "0")
    assert told.headers["Upload-Metadata"].startswith("path ")
    at = 0
    for size in (1, 2 * MIB, 3 * MIB + 7, len(BIG)):
        answer = tus.patch(at, BIG[at : at + size])
        at = min(at + size, len(BIG))
        assert (answer.status, answer.headers["Upload-Offset"]) == (204, str(at))
        assert answer.headers["Tus-Resumable"] == "1.0.0"
    record = agent.get(f"{place.at}/artifacts").data[0]
    url = answer.headers["Gitstore-Resource"]
    assert url == record["download_url"]
    assert (record["logical_path"], record["role"], record["metadata"]) == ("logs/big.bin", "builder", {"k": [1]})
    got = agent.root("GET", url)
    assert hashlib.sha256(got.body).digest() == hashlib.sha256(BIG).digest()
    # Whoever lost the answer gets it again, and nothing is made twice.
    assert tus.head().headers["Gitstore-Resource"] == url
    assert tus.patch(len(BIG), b"").headers["Gitstore-Resource"] == url
    assert tus.patch(0, BIG).code == (409, "CONFLICT")
    assert agent.get(f"{place.at}/artifacts").meta["total"] == 1
    assert agent.root("GET", tus.url).data["resource"] == url


def test_the_first_piece_comes_along(tus: Tus, agent: Client) -> None:
    answer = tus.create(5, b"hello", filename="a.txt", filetype="text/x-mine")
    assert answer.headers["Upload-Offset"] == "5"
    got = agent.root("GET", answer.headers["Gitstore-Resource"])
    assert (got.body, got.headers["Content-Type"]) == (b"hello", "text/x-mine")
    half = tus.create(5, b"hel", path="b.txt")
    assert (half.headers["Upload-Offset"], tus.offset) == ("3", 3)
    assert "Gitstore-Resource" not in half.headers
    assert tus.patch(3, b"lo").headers["Gitstore-Resource"]


def test_a_file(agent: Client, admin: Client, place: Place) -> None:
    fields = {"kind": "file", "file_name": "notes.md", "key": "notes", "description": "mine"}
    assert Tus(agent, place).create(2, **fields).code == (403, "FORBIDDEN")
    tus = Tus(admin, place)
    assert tus.create(2, **fields).status == 201
    other = Tus(agent, place)
    other.url = tus.url  # a weaker key sees nothing of it
    assert other.head().status == 404
    assert other.patch(0, b"hi").code == (404, "NOT_FOUND")
    url = tus.patch(0, b"hi").headers["Gitstore-Resource"]
    record = agent.root("GET", url).data
    assert (record["key"], record["file_name"], record["description"]) == ("notes", "notes.md", "mine")
    assert agent.get(f"{place.at}/files/notes/content").body == b"hi"
    assert tus.create(11 * MIB, kind="file", file_name="a").code == (413, "PAYLOAD_TOO_LARGE")


def test_other_versions_are_refused(tus: Tus, agent: Client) -> None:
    for said in ({"Tus-Resumable": "0.2.2"}, {"Tus-Resumable": None}):
        answer = tus.create(3, headers=said, path="a")
        assert answer.code == (412, "PRECONDITION_FAILED")
        assert answer.headers["Tus-Version"] == "1.0.0"
    tus.create(3, path="a")
    assert tus.patch(0, b"abc", Tus_Resumable="2.0.0").status == 412
    assert agent.root("HEAD", tus.url, headers={"Tus-Resumable": "0.2.2"}).status == 412
    assert agent.root("HEAD", tus.url).status == 200  # whoever does not say which one is told all the same
    assert agent.root("DELETE", tus.url).status == 412
    assert tus.offset == 0


def test_what_is_wrong_is_said_before_anything_is_sent(tus: Tus, place: Place) -> None:
    long = "k " + "QUJD" * 3000
    for header, text, status, said in (
        ("Upload-Metadata", "päth YQ==".encode().decode("latin-1"), 400, "pair 1"),
        ("Upload-Metadata", "path", 422, "empty"),
        ("Upload-Metadata", "role YQ==", 422, "required"),
        ("Upload-Metadata", "path YQ==,path YQ==", 400, "twice"),
        ("Upload-Metadata", "path Y", 400, "base64"),
        ("Upload-Metadata", "path YQ==, b c d", 400, "'b'"),
        ("Upload-Metadata", "path /////w==", 400, "UTF-8"),
        ("Upload-Metadata", "path YQA=", 400, "U+0000"),
        ("Upload-Metadata", ",", 400, "pair 1"),
        ("Upload-Metadata", long, 400, "8192"),
        ("Upload-Metadata", metadata(kind="x", path="a"), 400, "kind"),
        ("Upload-Metadata", metadata(path="../../etc/passwd"), 400, "`..`"),
        ("Upload-Metadata", metadata(path="/etc/passwd"), 400, ""),
        ("Upload-Metadata", metadata(path="a", metadata="[1"), 400, ""),
        ("Upload-Metadata", metadata(path="a", metadata="[1]"), 422, "object"),
        ("Upload-Metadata", metadata(path="a", content_type="x"), 400, "media type"),
        ("Upload-Length", "-1", 400, "Upload-Length"),
        ("Upload-Length", "1.5", 400, "Upload-Length"),
        ("Upload-Length", "9" * 20, 400, "Upload-Length"),
        ("Upload-Length", None, 400, "Upload-Length"),
        ("Upload-Length", str(1 << 62), 413, str(16 << 30)),
        ("Upload-Length", "0", 400, "empty"),
        ("Upload-Defer-Length", "1", 400, "Upload-Length"),
    ):
        fields = {"Upload-Length": "3", "Upload-Metadata": metadata(path="a"), header: text}
        answer = tus.create(3, headers=fields)
        assert answer.status == status, (header, text, answer.body)
        assert said in answer.error["message"] + str(answer.error.get("details")), (header, text, answer.body)
        assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert tus.create(3, path="a", headers={"Upload-Checksum": "crc9 AA=="}).code == (400, "VALIDATION_ERROR")
    nowhere = Tus(tus.client, place)
    nowhere.at = f"{API}/workspaces/nowhere/uploads"
    assert nowhere.create(3, path="a").code == (404, "NOT_FOUND")


def test_offsets_that_do_not_fit(tus: Tus) -> None:
    tus.create(10, path="a")
    assert tus.patch(0, b"abc").status == 204
    for offset in (0, 2, 4, 10):
        answer = tus.patch(offset, b"def")
        assert answer.code == (409, "CONFLICT")
        assert answer.error["details"]["offset"] == 3
    for text in ("-1", "x", "", "1e3", "+3", "9" * 20, str(1 << 70), None):
        assert tus.patch(3, b"def", Upload_Offset=text).code == (400, "MALFORMED_REQUEST"), text
    assert tus.patch(3, b"12345678").code == (409, "CONFLICT")  # one byte more than was announced
    assert tus.offset == 3
    assert tus.patch(3, b"defghij", Content_Type="application/octet-stream").status == 415
    assert tus.patch(3, b"defghij").headers["Gitstore-Resource"]


def test_checksums(tus: Tus) -> None:
    data = b"some piece"

    def said(algorithm: str, of: bytes) -> str:
        return f"{algorithm} {base64.b64encode(hashlib.new(algorithm, of).digest()).decode()}"

    tus.create(len(data) * 4, path="a")
    for at, algorithm in enumerate(("sha1", "sha256", "sha512", "md5")):
        wrong = tus.patch(at * len(data), data, Upload_Checksum=said(algorithm, b"other"))
        assert wrong.code == (460, "CHECKSUM_MISMATCH")
        assert tus.offset == at * len(data)  # nothing of it counts
        assert tus.patch(at * len(data), data, Upload_Checksum=said(algorithm, data)).status == 204
    assert tus.patch(0, data, Upload_Checksum="sha1 x").code == (400, "MALFORMED_REQUEST")
    assert tus.client.root("GET", tus.head().headers["Gitstore-Resource"]).body == data * 4


def test_the_last_piece_again_makes_what_could_not_be_made(
    tus: Tus, agent: Client, monkeypatch: pytest.MonkeyPatch, quiet: Errors
) -> None:
    def full(*_: Any) -> None:
        raise StorageFailed("the disk is full")

    def closed(_: Disk, path: str) -> int:
        raise PermissionError(13, "Permission denied", path)  # what whoever is not root gets for an object

    tus.create(len(BIG), path="a.bin")
    with monkeypatch.context() as patched:
        patched.setattr(Uploads, "complete", full)
        assert tus.patch(0, BIG).status == 503
    quiet.found.clear()
    monkeypatch.setattr(Disk, "reopen_append", closed)
    assert tus.patch(len(BIG), b"x").code == (409, "CONFLICT")
    assert tus.patch(0, BIG).code == (409, "CONFLICT")
    done = tus.patch(len(BIG), b"")
    assert done.status == 204, done.body
    assert agent.root("GET", done.headers["Gitstore-Resource"]).body == BIG


def test_an_upload_is_ended(tus: Tus, agent: Client, make: Callable[..., Place]) -> None:
    tus.create(10, b"abc", path="a")
    elsewhere = Tus(agent, make())
    elsewhere.url = tus.url.replace(tus.at, elsewhere.at)
    assert elsewhere.head().status == 404
    assert elsewhere.end().code == (404, "NOT_FOUND")
    assert tus.end().status == 204
    assert tus.head().status == 404
    assert tus.patch(3, b"defghij").code == (404, "NOT_FOUND")
    assert tus.end().status == 404


def test_methods_that_a_client_cannot_send(tus: Tus, agent: Client) -> None:
    tus.create(3, path="a")
    sent = TUS | {"X-HTTP-Method-Override": "PATCH", "Upload-Offset": "0", "Content-Type": PIECE}
    assert agent.root("POST", tus.url, b"ab", headers=sent).headers["Upload-Offset"] == "2"
    assert agent.root("POST", tus.url, headers=TUS).code == (405, "METHOD_NOT_ALLOWED")
    assert agent.root("POST", tus.url, headers=TUS | {"X-HTTP-Method-Override": "DELETE"}).status == 204
    assert tus.head().status == 404


def _begun(server: Server, tus: Tus, announced: int, data: bytes, more: str = "") -> socket.socket:
    """A PATCH of which only so much was sent."""
    made = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    head = f"PATCH {tus.url} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {tus.client.key}\r\nTus-Resumable: 1.0.0\r\n"
    head += f"Upload-Offset: 0\r\nContent-Type: {PIECE}\r\nContent-Length: {announced}\r\n{more}\r\n"
    made.sendall(head.encode() + data)
    return made


def _until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("times", [1, 7], ids=["by aiohttp", "into blocks"])
def test_one_at_a_time_and_what_came_before_a_break_is_kept(server: Server, tus: Tus, times: int) -> None:
    data = BIG * times
    tus.create(len(data), path="a.bin")
    busy = _begun(server, tus, len(data), data[: len(data) // 2])
    part = server.store.layout.uploads / f"{tus.url.rpartition('/')[2]}.part"
    _until(lambda: part.stat().st_size >= MIB)  # not by asking: that would be another one at it
    assert tus.patch(1, b"x").code == (423, "LOCKED")
    assert tus.end().code == (423, "LOCKED")
    busy.close()
    _until(lambda: tus.patch(0, b"x").status == 409)  # 423 until what came is kept, and then too little
    at = tus.offset
    assert MIB <= at <= len(data) // 2
    answer = tus.patch(at, data[at:])
    assert answer.status == 204, answer
    assert tus.client.root("GET", answer.headers["Gitstore-Resource"]).body == data


@pytest.mark.parametrize("length", [len(BIG), len(BIG) * 7], ids=["by aiohttp", "into blocks"])
def test_of_a_piece_with_a_checksum_that_breaks_off_nothing_is_kept(server: Server, tus: Tus, length: int) -> None:
    tus.create(length, path="a.bin")
    said = f"Upload-Checksum: sha1 {base64.b64encode(bytes(20)).decode()}\r\n"
    with _begun(server, tus, length, BIG[: 3 * MIB], said) as busy:
        part = server.store.layout.uploads / f"{tus.url.rpartition('/')[2]}.part"
        _until(lambda: part.stat().st_size >= MIB)
        busy.shutdown(socket.SHUT_RDWR)
    _until(lambda: tus.patch(1, b"x").status == 409)
    assert tus.offset == 0


def test_a_disk_that_refuses_to_sync_ends_the_piece_where_it_was_synced_last(
    server: Server, tus: Tus, monkeypatch: pytest.MonkeyPatch, quiet: Errors
) -> None:
    syncs: list[int] = []
    real = Disk.sync_data

    def sync(self: Disk, fd: int, path: str) -> None:
        if path.endswith(".part"):
            syncs.append(1)
            if len(syncs) == 2:
                raise OSError(5, "Input/output error", path)
        real(self, fd, path)

    data = BIG * 14
    monkeypatch.setattr(Disk, "sync_data", sync)
    tus.create(len(data), path="a.bin")
    assert tus.patch(0, data).code == (503, "SERVICE_UNAVAILABLE")
    assert "Input/output error" in quiet.found[0]
    quiet.found.clear()
    assert 32 * MIB <= tus.offset < 64 * MIB
    answer = tus.patch(tus.offset, data[tus.offset :])
    assert tus.client.root("GET", answer.headers["Gitstore-Resource"]).body == data


def test_two_clients_at_once(server: Server, tus: Tus, agent: Client, place: Place) -> None:
    tus.create(len(BIG), path="a.bin")
    answers: list[Answer] = []

    def send() -> None:
        with agent.other() as client:
            mine = Tus(client, place)
            mine.url = tus.url
            at = 0
            while at < len(BIG):
                answer = mine.patch(at, BIG[at : at + MIB])
                answers.append(answer)
                told = mine.head()  # 423 while the last piece is made into the artifact
                at = int(told.headers["Upload-Offset"]) if told.status == 200 else at

    threads = [threading.Thread(target=send) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert {each.status for each in answers} <= {204, 409, 423}
    found = agent.get(f"{place.at}/artifacts").data
    assert len(found) == 1
    assert agent.root("GET", found[0]["download_url"]).body == BIG


def test_bounds_and_the_end_of_time(
    second: Callable[..., AbstractContextManager[Server]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds: dict[str, Any] = {"max_uploads": 2, "max_uploads_bytes": 100, "upload_hours": 0.5}
    with second(**bounds) as server, server.client("worker") as client, server.client() as admin:
        place = Place(server, admin)
        first, other = Tus(client, place), Tus(client, place)
        first.create(60, b"abc", path="a")
        over = other.create(41, path="b")
        assert over.code == (429, "RATE_LIMITED")
        assert "100 bytes" in over.error["message"]
        assert over.headers["Retry-After"] == "60"
        other.create(40, b"x", path="b")
        assert Tus(client, place).create(1, path="c").code == (429, "RATE_LIMITED")
        server.app.uploads.sweep(int(time.time() * 1000) + 1_799_000)
        assert (first.offset, other.offset) == (3, 1)
        monkeypatch.setattr(Clock, "now", staticmethod(lambda: int(time.time() * 1000) + 1_801_000))
        assert first.patch(3, b"def").code == (410, "GONE")
        assert first.head().status == 410
        assert other.create(100, path="d").status == 201  # what nobody can finish any more holds up nobody
        assert first.head().status == 404
        names = os.listdir(server.store.layout.uploads)
        assert len(names) == 2
        assert all(re.fullmatch(r"[0-9a-f]{32}\.(json|part)", name) for name in names)
