"""Zip archives: what goes in, under which names, when; and that a wrong one never looks like a whole one."""

from __future__ import annotations

import http.client
import io
import os
import stat
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import quote

import pytest

from contract.client import API, Answer, Client
from contract.conftest import Errors, Place, Server
from gitstore import content
from gitstore.errors import Damaged

BIG = os.urandom((5 << 20) + 3)
KIND = {"Content-Type": "application/octet-stream"}


def opened(answer: Answer) -> zipfile.ZipFile:
    assert answer.status == 200, answer.body[:300]
    assert answer.headers["Content-Type"] == "application/zip"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    packed = zipfile.ZipFile(io.BytesIO(answer.body))
    assert packed.testzip() is None
    return packed


def fill(agent: Client, place: Place) -> dict[str, str]:
    """Path → id of some artifacts, oldest first."""
    made = {}
    for path, data in (("logs/a.txt", b"one"), ("logs/b.txt", b"two"), ("big.bin", BIG), ("ключ/π.md", b"three")):
        made[path] = agent.post(
            f"{place.at}/artifacts?role={_quoted(path[0])}&path=" + _quoted(path), data, headers=KIND
        ).data["id"]
    return made


def _quoted(path: str) -> str:
    return quote(path)


def test_artifacts_by_filters_and_by_ids(agent: Client, place: Place) -> None:
    ids = fill(agent, place)
    answer = agent.get(f"{place.at}/artifacts/archive?sort=oldest")
    packed = opened(answer)
    assert packed.namelist() == list(ids)
    assert packed.read("logs/a.txt") == b"one"
    assert packed.read("big.bin") == BIG
    assert f'filename="{place.slug}.zip"' in answer.headers["Content-Disposition"]
    assert "Content-Length" not in answer.headers
    row = agent.get(f"{place.at}/artifacts?q=big").data[0]
    year, month, day, hour, minute, second = packed.getinfo("big.bin").date_time
    shown = f"{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:"
    assert row["created_at"].startswith(shown)
    assert abs(int(row["created_at"][17:19]) - second) <= 1  # a DOS time counts in twos
    assert stat.S_IMODE(packed.getinfo("big.bin").external_attr >> 16) == 0o644
    assert opened(agent.get(f"{place.at}/artifacts/archive?q=logs&role=l&sort=name")).namelist() == [
        "logs/a.txt", "logs/b.txt",
    ]  # fmt: skip
    chosen = {"ids": [ids["ключ/π.md"], ids["logs/a.txt"], ids["ключ/π.md"].upper()]}
    assert opened(agent.post(f"{place.at}/artifacts/archive", chosen)).namelist() == ["ключ/π.md", "logs/a.txt"]
    got = agent.get(f"{place.at}/artifacts/archive?ids={ids['big.bin']},{ids['logs/b.txt']}")
    assert opened(got).namelist() == ["big.bin", "logs/b.txt"]
    assert opened(agent.get(f"{place.at}/artifacts/archive?q=nothing-like-it")).namelist() == []
    assert agent.root("HEAD", f"{API}{place.at}/artifacts/archive").headers["Content-Type"] == "application/zip"
    # What is wrong is told as everywhere.
    assert agent.post(f"{place.at}/artifacts/archive", {"ids": ["nobody"]}).code == (404, "NOT_FOUND")
    assert agent.post(f"{place.at}/artifacts/archive", {"ids": []}).pointers == ["/ids"]
    assert agent.get(f"{place.at}/artifacts/archive?created_from=2026-02-30").code == (400, "VALIDATION_ERROR")
    assert agent.get(f"{place.at}/artifacts/archive?sort=up").code == (422, "SCHEMA_VALIDATION_FAILED")


def test_a_task_and_the_past(agent: Client, place: Place) -> None:
    flow = agent.post(f"{place.at}/workflows", {"name": "w"}).data["id"]
    agent.put(f"/workflows/{flow}/tasks/{flow}-t", {"title": "Build: π"})
    at = f"/tasks/{flow}-t/artifacts"
    first = agent.post(f"{at}?path=a/1", b"one", headers=KIND).data
    agent.post(f"{at}?path=b/2", b"two", headers=KIND)
    assert opened(agent.get(f"{at}/archive")).namelist() == ["a/1", "b/2"]
    assert opened(agent.get(f"{at}/archive?prefix=b/")).namelist() == ["b/2"]
    then = agent.get(f"{place.at}/artifacts/archive?at={first['commit']}")
    assert opened(then).namelist() == ["a/1"]
    assert then.headers["Gitstore-At"] == first["commit"]


def test_the_same_path_again_is_numbered(agent: Client, place: Place) -> None:
    for path in ("log.txt", "log.txt", "LOG.txt", "log.txt/inner", "log (2).txt"):
        agent.post(f"{place.at}/artifacts?path={_quoted(path)}", path.encode(), headers=KIND)
    packed = opened(agent.get(f"{place.at}/artifacts/archive?sort=oldest"))
    names = packed.namelist()
    assert names == ["log.txt", "log (2).txt", "LOG (3).txt", "log (4).txt/inner", "log (2) (2).txt"]
    assert len({name.casefold() for name in names}) == 5
    # Each can be unpacked beside the others: none is a file where another needs a folder.
    lower = {name.casefold() for name in names}
    assert not any("/".join(name.split("/")[:end]) in lower for name in lower for end in range(1, name.count("/") + 1))
    assert sorted(packed.read(name) for name in names) == sorted(
        path.encode() for path in ("log.txt", "log.txt", "LOG.txt", "log.txt/inner", "log (2).txt")
    )


def test_files(agent: Client, admin: Client, place: Place) -> None:
    admin.put(f"{place.at}/files/one/content?file_name=one.md", b"first", headers=KIND)
    commit = place.read()["head"]
    admin.put(f"{place.at}/files/two/content?file_name=two.bin", BIG, headers=KIND)
    packed = opened(agent.get(f"{place.at}/files/archive"))
    assert {name: packed.read(name) for name in packed.namelist()} == {"one.md": b"first", "two.bin": BIG}
    assert opened(agent.get(f"{place.at}/files/archive?at={commit}")).namelist() == ["one.md"]
    # A file may be called `archive`; then that is what its path names.
    record = admin.put(f"{place.at}/files/archive/content", b"mine", headers=KIND).data
    assert agent.get(f"{place.at}/files/archive").data == record
    assert len(opened(agent.get(f"{place.at}/files/archive", headers={"Accept": "application/zip"})).namelist()) == 3


def test_bounds_are_told_before_anything_is_sent(second: Callable[..., AbstractContextManager[Server]]) -> None:
    with second(max_archive_entries=2, max_archive_bytes=10) as server, server.client() as admin:
        place = Place(server, admin)
        ids = [admin.post(f"{place.at}/artifacts?path={n}", b"1234", headers=KIND).data["id"] for n in "abc"]
        answer = admin.get(f"{place.at}/artifacts/archive")
        assert answer.code == (413, "PAYLOAD_TOO_LARGE")
        assert "2" in answer.error["message"]
        assert admin.post(f"{place.at}/artifacts/archive", {"ids": ids}).code == (413, "PAYLOAD_TOO_LARGE")
        assert len(opened(admin.post(f"{place.at}/artifacts/archive", {"ids": ids[:2]})).namelist()) == 2
        large = admin.post(f"{place.at}/artifacts?path=d", b"1234567", headers=KIND).data["id"]
        over = admin.post(f"{place.at}/artifacts/archive", {"ids": [ids[0], large]})
        assert over.code == (413, "PAYLOAD_TOO_LARGE")
        assert "10" in over.error["message"]


class Broken(content.Content):
    """Content whose end cannot be read."""

    def chunks(self, chunk: int = 1 << 18) -> Iterator[bytes]:
        yield bytes(1 << 20)
        raise Damaged("the disk says no")


def test_a_failure_half_way_breaks_the_connection(
    agent: Client, place: Place, monkeypatch: pytest.MonkeyPatch, quiet: Errors
) -> None:
    fill(agent, place)
    real = content.of

    def of(source: Any, held: Any) -> content.Content:
        found = real(source, held)
        return Broken(source.objects, found.pointer, b"") if found.pointer is not None else found

    monkeypatch.setattr(content, "of", of)
    connection = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=20)
    headers = {"Authorization": f"Bearer {agent.key}"}
    connection.request("GET", f"{API}{place.at}/artifacts/archive?sort=smallest", headers=headers)
    answer = connection.getresponse()
    assert answer.status == 200
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()
    connection.close()
    end = time.monotonic() + 10
    while len(quiet.found) < 2 and time.monotonic() < end:  # two loggers are watched, and one passes on to the other
        time.sleep(0.01)
    assert all("broken off" in each for each in quiet.found)
    quiet.found.clear()
