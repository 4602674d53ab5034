"""Nineteen ways in which an earlier service of this kind failed its users; each by its number, none of them here."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, unquote

import pytest
from unit.githosts import bare
from unit.githosts import serving as hosting

from contract.client import Client, every, slug
from contract.conftest import Place, Server


def together(count: int, work: Callable[[int], None]) -> None:
    """Runs `work(0)` … at once; raises what any of them raised."""
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count), timeout=30))


def test_01_a_deletion_racing_writes_loses_none(server: Server, place: Place) -> None:
    def write(n: int) -> None:
        with server.client("agent") as client:
            for at in range(10):
                if n == 6:
                    assert client.delete(f"{place.at}/memory/gone").status == 200
                    assert client.patch(f"{place.at}/memory", {"key": "gone", "value": at}).status == 200
                else:
                    assert client.patch(f"{place.at}/memory", {"key": f"k{n}.{at}", "value": at}).status == 200

    together(7, write)
    assert set(place.read()["memory"]) == {f"k{n}.{at}" for n in range(6) for at in range(10)} | {"gone"}


def test_02_a_patch_of_the_name_does_not_undo_one_of_the_settings(server: Server, place: Place) -> None:
    def write(n: int) -> None:
        with server.client() as client:
            for at in range(15):
                body: Any = {"name": f"n{at}"} if n else {"settings": {"at": at}}
                assert client.patch(place.at, body).status == 200

    together(2, write)
    assert (place.read()["name"], place.read()["settings"]) == ("n14", {"at": 14})


def test_03_odd_ids_numbers_and_nul_are_never_500(admin: Client, place: Place) -> None:
    for name in ("not-a-uuid", "1", "%00", "a%00b", "'", "x" * 500, "%F0%9F%92%A5", "-1", "null", "undefined"):
        for path in (
            "",
            "/memory",
            "/spec",
            "/files",
            "/artifacts",
            "/timeline",
            "/workflows",
            "/problems",
            "/delete-impact",
        ):
            assert admin.get(f"/workspaces/{name}{path}").code == (404, "NOT_FOUND")
        assert admin.get(f"/workflows/{name}").status == 404
        assert admin.get(f"/tasks/{name}/artifacts").status == 404
        assert admin.get(f"{place.at}/artifacts/{name}").status == 404
    assert admin.get("/workspaces?page=1.5").status == 422
    assert admin.get("/workspaces?per_page=2.5").status == 422
    assert admin.get(f"{place.at}/spec?version=1.5").status == 422
    assert admin.get("/workspaces?q=a%00b").status == 400
    for body in ({"name": "a\0b", "slug": slug()}, {"name": "n", "slug": slug(), "memory": {"k": "\0"}}):
        assert admin.post("/workspaces", body).code == (400, "MALFORMED_REQUEST")


def test_04_a_file_of_ten_mebibytes_can_be_uploaded(admin: Client, place: Place) -> None:
    data = os.urandom(10 * 1024 * 1024)
    body = {"file_name": "a.bin", "content_base64": base64.b64encode(data).decode()}
    assert admin.post(f"{place.at}/files", body).data["size_bytes"] == len(data)
    assert admin.get(f"{place.at}/files/a-bin/content").body == data


def test_05_eight_uploads_with_request_ids_at_once_do_not_hang(server: Server, admin: Client, place: Place) -> None:
    task = slug()
    admin.post(f"{place.at}/workflows", {"name": "w", "tasks": [{"id": task, "title": "t"}]})
    started = time.monotonic()

    def write(n: int) -> None:
        with server.client("agent") as client:
            body = {"path": f"{n}.txt", "content_base64": "eA==", "request_id": f"r{n}"}
            assert client.post(f"/tasks/{task}/artifacts", body).status == 201

    together(8, write)
    assert time.monotonic() - started < 10
    assert len(admin.get(f"/tasks/{task}/artifacts").data) == 8


def test_06_a_batch_keeps_nothing_when_a_file_of_it_fails(admin: Client, place: Place) -> None:
    files = [{"file_name": "good.md", "content_base64": "eA=="}, {"file_name": "bad.md", "content_base64": "!"}]
    assert admin.post(f"{place.at}/files/batch", {"files": files}).status == 400
    assert admin.get(f"{place.at}/files").data == []
    assert admin.get(f"{place.at}/timeline").meta["total"] == 1


def test_07_a_file_with_a_name_beyond_latin_1_can_be_downloaded(admin: Client, place: Place) -> None:
    for name in ("日本語.txt", "отчёт.md", "🧪.bin", "a\u202eb.txt"):
        made = admin.post(f"{place.at}/files", {"file_name": name, "content_base64": "eA==", "key": "k"})
        assert made.status == 201
        answer = admin.get(f"{place.at}/files/k/content")
        assert (answer.status, answer.body) == (200, b"x")
        assert unquote(answer.headers["Content-Disposition"].split("UTF-8''")[1]) == name
        art = admin.post(f"{place.at}/artifacts", {"path": f"x/{name}", "content_base64": "eA=="}).data
        assert (
            unquote(admin.root("GET", art["download_url"]).headers["Content-Disposition"].split("UTF-8''")[1]) == name
        )


def test_08_a_read_written_back_destroys_nothing(admin: Client, make: Callable[..., Place]) -> None:
    url = "https://git.example.org/a/b"
    place = make(
        repository_url=url, settings={"api_key_name": "x", "credentials": {"git_token": "tok"}, "ref": "secret:A"}
    )
    spec = {"config": {"token": "secret:DEPLOY", "nested": [{"password": "secret:DB"}]},
            "resources": {"r": {"type": "search", "binding": {"provider": "secret:PROVIDER"}}}}  # fmt: skip
    admin.put(f"{place.at}/spec", spec)
    record = place.read()
    assert record["settings"]["ref"] == "secret:A"
    assert admin.patch(place.at, {"settings": record["settings"]}).data == record
    read = admin.get(f"{place.at}/spec").data
    assert read["spec"] == spec
    assert admin.put(f"{place.at}/spec", read["spec"]).data == read
    assert place.read() == record


def test_09_a_null_token_clears_it(admin: Client, make: Callable[..., Place]) -> None:
    place = make(settings={"credentials": {"git_token": "tok"}})
    assert (
        "credentials" not in admin.patch(place.at, {"settings": {"credentials": {"git_token": None}}}).data["settings"]
    )
    assert "credentials" not in place.read()["settings"]


def test_10_every_key_that_can_be_written_can_be_deleted(agent: Client, place: Place) -> None:
    for key in ("k" * 101, "k" * 256, "é" * 256, "a/b" * 80):
        assert agent.patch(f"{place.at}/memory", {"key": key, "value": 1}).status == 200
        assert agent.delete(f"{place.at}/memory/{quote(key, safe='')}").data["memory"] == {}


def test_11_ordinary_text_is_never_redacted(admin: Client, place: Place) -> None:
    value = {"tokenizer": "cl100k", "secretary": "Ada", "max_tokens": 5, "path": "com.example.Service.method",
             "password_policy": "long",
             "api_key": "see the vault", "authorization": "none"}  # fmt: skip
    admin.patch(f"{place.at}/memory", {"key": "token", "value": value})
    assert admin.get(f"{place.at}/memory/token").data["value"] == value
    assert admin.patch(place.at, {"settings": value}).data["settings"] == value
    assert admin.put(f"{place.at}/spec", {"config": value}).data["spec"] == {"config": value}


def test_12_a_credential_in_a_repository_url_is_neither_stored_nor_echoed(
    server: Server, admin: Client, place: Place
) -> None:
    url = "https://x-access-token:Zq81kfXw0v@github.com/a/b.git"
    for answer in (
        admin.patch(place.at, {"repository_url": url}),
        admin.post("/workspaces", {"name": "n", "slug": slug(), "repository_url": url}),
        admin.patch(place.at, {"settings": {"workspace_storage": {"repository_url": url}}}),
        admin.patch(place.at, {"settings": {"sync": {"url": url}}}),
    ):
        assert answer.code == (400, "VALIDATION_ERROR")
        assert b"Zq81kfXw0v" not in answer.body
    assert place.read()["repository_url"] is None


def test_13_the_limit_of_memory_holds_at_creation(admin: Client) -> None:
    answer = admin.post("/workspaces", {"name": "n", "slug": slug(), "memory": {"k": "x" * 1048576}})
    assert answer.code == (400, "VALIDATION_ERROR")
    assert answer.error["details"]["memory_max_bytes"] == 1048576


def test_14_the_timeline_of_an_unknown_workspace_is_404(admin: Client) -> None:
    assert admin.get("/workspaces/00000000-0000-0000-0000-000000000009/timeline").code == (404, "NOT_FOUND")


def test_15_filters_mean_what_they_say_and_pages_do_not_overlap(admin: Client, make: Callable[..., Place]) -> None:
    mark = slug()
    made = [make(name=mark) for _ in range(5)]
    make(name=mark, is_active=False)
    assert {row["id"] for row in admin.get(f"/workspaces?q={mark}&is_active=1").data} == {one.id for one in made}
    assert admin.get(f"/workspaces?q={mark[0]}%25{mark[-1]}").data == []
    for sort in ("name", "newest", "oldest", "updated"):
        rows = [row["id"] for row in every(admin, f"/workspaces?q={mark}&sort={sort}", 2)]
        assert len(set(rows)) == len(rows) == 6


def test_16_evidence_survives_the_end_of_its_run(agent: Client, place: Place) -> None:
    task = slug()
    flow = agent.post(
        f"{place.at}/workflows", {"name": "w", "state": "active", "tasks": [{"id": task, "title": "t"}]}
    ).data["id"]
    made = agent.post(f"/tasks/{task}/artifacts", {"path": "a.md", "content_base64": "eA=="}).data
    agent.patch(f"/workflows/{flow}", {"state": "completed"})
    assert agent.root("GET", made["download_url"]).body == b"x"
    assert len(agent.get(f"{place.at}/artifacts").data) == 1


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [(b" " * (2 * 1024 * 1024 + 1), "application/json", (413, "PAYLOAD_TOO_LARGE")),
     (b"a=b", "application/x-www-form-urlencoded", (415, "UNSUPPORTED_MEDIA_TYPE")),
     (b"{", "application/json", (400, "MALFORMED_REQUEST"))],
    ids=["too large", "form", "half"],
)  # fmt: skip
def test_17_what_a_client_did_wrong_is_told_as_such(
    admin: Client, place: Place, body: bytes, kind: str, code: tuple[int, str]
) -> None:
    answer = admin.patch(f"{place.at}/memory", body, headers={"Content-Type": kind})
    assert answer.code == code
    assert "internal" not in answer.error["message"].lower()


def test_18_a_branch_is_no_pattern_and_the_inside_is_out_of_reach(
    admin: Client, place: Place, second: Callable[..., Any], tmp_path: Any
) -> None:
    for url in ("http://127.0.0.1:1/a", "http://localhost/a", "http://169.254.169.254/latest"):
        found = admin.post(f"{place.at}/verify-git-access", {"repository_url": url}).data
        assert (found["ok"], found["reason"]) == (False, "refused_address")
    folder = bare(tmp_path, "r.git", "main")
    local = admin.post(f"{place.at}/verify-git-access", {"repository_url": f"file://{folder}"})
    assert local.status == 400 or (local.data["ok"], local.data["reason"]) == (False, "refused_scheme")
    with hosting(tmp_path) as host, second(verify_allow=("127.0.0.0/8",)) as near, near.client() as client:
        at = Place(near, client).at
        for branch, ok in (("ma*", False), ("main", True)):
            body = {"repository_url": f"{host.url}/r.git", "default_branch": branch}
            found = client.post(f"{at}/verify-git-access", body).data
            assert (found["ok"], found["branch_verified"]) == (ok, ok)


@pytest.mark.parametrize("text", ["!!!!", "YQ=", "YQ", "Y Q = = =", "YQ==x", "_-", "{}", "aGVsbG8*"])
def test_19_invalid_base64_is_refused(admin: Client, place: Place, text: str) -> None:
    assert admin.post(f"{place.at}/files", {"file_name": "a", "content_base64": text}).code == (400, "VALIDATION_ERROR")
    assert admin.post(f"{place.at}/artifacts", {"path": "a", "content_base64": text}).code == (400, "VALIDATION_ERROR")
    assert admin.get(f"{place.at}/files").data == []
