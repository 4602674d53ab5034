"""Files: uploaded as JSON or as a form, replaced under their key, read back byte for byte and safe to open."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import unquote

import pytest

from contract.client import TIME, UUID, Answer, Client, every, multipart, pages, part
from contract.conftest import Place, Server

RECORD = ["id", "workspace_id", "key", "description", "file_name", "content_type", "size_bytes", "checksum_sha256",
          "created_at", "updated_at", "version", "download_url"]  # fmt: skip
MIB = 1024 * 1024


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def upload(client: Client, place: Place, name: str, data: bytes = b"content", **more: Any) -> Answer:
    return client.post(f"{place.at}/files", {"file_name": name, "content_base64": b64(data), **more})


def content(client: Client, place: Place, key: str, query: str = "", **headers: str) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.get(f"{place.at}/files/{part(key)}/content{query}", headers=sent)


# --- records --------------------------------------------------------------------------------------------------------


def test_a_file_and_its_record(admin: Client, place: Place) -> None:
    data = os.urandom(1000)
    answer = upload(admin, place, "Report (final).bin", data, description="what it is")
    assert answer.status == 201
    record = answer.data
    assert list(record) == RECORD
    assert UUID.fullmatch(record["id"])
    assert record["workspace_id"] == place.id
    assert record["key"] == "report-final-bin"
    assert (record["description"], record["file_name"]) == ("what it is", "Report (final).bin")
    assert record["content_type"] == "application/octet-stream"
    assert record["size_bytes"] == 1000
    assert record["checksum_sha256"] == hashlib.sha256(data).hexdigest()
    assert TIME.fullmatch(record["created_at"])
    assert record["created_at"] == record["updated_at"]
    assert record["version"] == 1
    assert record["download_url"] == f"/api/v1{place.at}/files/{record['id']}/content"
    assert admin.root("GET", record["download_url"]).body == data
    for name in (record["id"], record["id"].upper(), record["key"]):
        read = admin.get(f"{place.at}/files/{name}")
        assert read.data == record
        assert read.etag == answer.etag
    place.published()
    assert (place.folder / "files/Report (final).bin").read_bytes() == data
    assert place.git("status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("name", "key"),
    [("a.md", "a-md"), ("README", "readme"), ("Ünï cödé.txt", "n-c-d-txt"), ("a__b--c.TXT", "a-b-c-txt"),
     ("-x-", "x"), ("dir/sub/x.md", "x-md"), ("a.meta.yaml", "a-meta-yaml"), (".hidden", "hidden")],
)  # fmt: skip
def test_a_key_is_derived_from_the_name(admin: Client, place: Place, name: str, key: str) -> None:
    assert upload(admin, place, name).data["key"] == key
    batch = admin.post(f"{place.at}/files/batch", {"files": [{"file_name": name, "content_base64": "eA=="}]})
    assert batch.data[0]["key"] == key
    assert batch.data[0]["version"] == 2


def test_a_name_without_letters_has_a_key_all_the_same(admin: Client, place: Place) -> None:
    import re

    first, other = upload(admin, place, "日本語").data, upload(admin, place, "中文").data
    assert re.fullmatch("file-[0-9a-f]{8}", first["key"])
    assert first["key"] != other["key"]
    assert upload(admin, place, "日本語", b"new").data["version"] == 2


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.md", "text/markdown"), ("a.json", "application/json"), ("a.txt", "text/plain"), ("a.png", "image/png"),
     ("a.yaml", "application/yaml"), ("a.csv", "text/csv"), ("a.unknown", "application/octet-stream")],
)  # fmt: skip
def test_a_type_is_guessed(admin: Client, place: Place, name: str, kind: str) -> None:
    assert upload(admin, place, name).data["content_type"].split(";")[0] == kind


@pytest.mark.parametrize("name", ["", "x" * 256])
def test_a_name_of_the_wrong_length(admin: Client, place: Place, name: str) -> None:
    assert upload(admin, place, name).pointers == ["/file_name"]


@pytest.mark.parametrize("name", [".", "..", "a/", "a/..", "a\nb", "a\x7fb", "a\tb", "/", "a\\b\x01"])
def test_a_name_that_is_refused(admin: Client, place: Place, name: str) -> None:
    assert upload(admin, place, name).code == (400, "VALIDATION_ERROR")


NAMES = ["x" * 255, "é" * 255, "🧪.md", "a b.txt", 'q"uote.txt', "semi;colon", "per%cent", "back\\slash", "#hash",
         "a'b",
         "con", "nul.txt", "a.", "a ", " a", ".git", ".gitmodules", ".gitattributes", "x.meta.yaml", "-rf", "~",
         "\u202egpj.exe", "e\u0301.txt", "*?.md", "git~1", "a:b", "desktop.ini"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:20])
def test_a_name_is_kept_or_refused_but_never_altered(admin: Client, place: Place, name: str) -> None:
    answer = upload(admin, place, name, b"bytes of it", key="k")
    assert answer.status in (201, 400), answer.body
    if answer.status == 400:
        assert answer.error["code"] == "VALIDATION_ERROR"
        return
    assert answer.data["file_name"] == name
    got = content(admin, place, "k")
    assert got.body == b"bytes of it"
    said = got.headers["Content-Disposition"]
    assert said.startswith('inline; filename="')
    assert said.isascii()
    assert unquote(said.split("filename*=UTF-8''")[1]) == name
    assert admin.delete(f"{place.at}/files/k").status == 204


def test_ordinary_long_and_foreign_names_are_accepted(admin: Client, place: Place) -> None:
    for name in ("x" * 255, "é" * 255, "🧪.md", "a b.txt", 'q"uote.txt', "x.meta.yaml", "日本語.txt"):
        assert upload(admin, place, name).status == 201, name


def test_git_can_read_whatever_name_was_accepted(admin: Client, place: Place) -> None:
    kept = [n for n, name in enumerate(NAMES) if upload(admin, place, name, b"%d" % n, key=f"k{n}").status == 201]
    assert [content(admin, place, f"k{n}").body for n in kept] == [b"%d" % n for n in kept]
    place.published()
    assert place.git("status", "--porcelain") == ""
    assert place.git("fsck", "--strict") == ""
    for n in kept:
        assert admin.delete(f"{place.at}/files/k{n}").status == 204
    place.published()
    assert place.git("status", "--porcelain") == ""
    assert not (place.folder / "files").exists()


@pytest.mark.parametrize(
    "text",
    [
        "====",
        "a",
        "ab",
        "abc",
        "YQ",
        "YQ=",
        "YQ===",
        "Y!==",
        "YQ==YQ==",
        "-_8=",
        "YR==",
        "é",
        "data:;base64,YQ==",
        "YQ==\0",
    ],
)
def test_base64_that_is_none(admin: Client, place: Place, text: str) -> None:
    answer = admin.post(f"{place.at}/files", {"file_name": "a", "content_base64": text})
    assert answer.status == 400
    assert admin.get(f"{place.at}/files").data == []


def test_base64_may_hold_white_space_but_not_nothing(admin: Client, place: Place) -> None:
    answer = admin.post(f"{place.at}/files", {"file_name": "a", "content_base64": " aG\r\nVs\tbG8= \n"})
    assert answer.data["size_bytes"] == 5
    for empty in ("", " ", "\n"):
        assert admin.post(f"{place.at}/files", {"file_name": "a", "content_base64": empty}).code[0] == 400


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({}, "/file_name"), ({"file_name": "a"}, "/content_base64"), ({"content_base64": "eA=="}, "/file_name"),
     ({"file_name": "a", "content_base64": 5}, "/content_base64"),
     ({"file_name": "a", "content_base64": "eA==", "key": ""}, "/key"),
     ({"file_name": "a", "content_base64": "eA==", "key": "x" * 121}, "/key"),
     ({"file_name": "a", "content_base64": "eA==", "description": "x" * 2001}, "/description"),
     ({"file_name": "a", "content_base64": "eA==", "content_type": ""}, "/content_type"),
     ({"file_name": "a", "content_base64": "eA==", "content_type": "x" * 256}, "/content_type")],
)  # fmt: skip
def test_a_body_of_the_wrong_shape(admin: Client, place: Place, body: Any, pointer: str) -> None:
    assert pointer in admin.post(f"{place.at}/files", body).pointers


@pytest.mark.parametrize(
    "kind", ["text", "text/", "/x", "te xt/plain", "text/plain\r\nX: y", "text/plain; charset", "é/x"]
)
def test_a_type_that_is_none(admin: Client, place: Place, kind: str) -> None:
    assert upload(admin, place, "a", content_type=kind).code == (400, "VALIDATION_ERROR")


def test_the_longest_fields(admin: Client, place: Place) -> None:
    kind = "text/" + "x" * 250
    answer = upload(admin, place, "a", key="🧪" * 120, description="é" * 2000, content_type=kind)
    assert answer.status == 201, answer.body
    assert (answer.data["key"], answer.data["description"], answer.data["content_type"]) == (
        "🧪" * 120,
        "é" * 2000,
        kind,
    )
    assert content(admin, place, "🧪" * 120).headers["Content-Type"] == kind


# --- identity and versions ------------------------------------------------------------------------------------------


def test_the_same_key_replaces_the_content(admin: Client, place: Place) -> None:
    first = upload(admin, place, "a.md", b"one", description="d").data
    second = upload(admin, place, "a.md", b"two").data
    assert (second["id"], second["version"], second["description"]) == (first["id"], 2, "d")
    assert second["created_at"] == first["created_at"]
    assert second["updated_at"] >= first["updated_at"]
    third = upload(admin, place, "other.txt", b"three", key="a-md").data
    assert (third["id"], third["version"], third["file_name"]) == (first["id"], 3, "other.txt")
    assert [content(admin, place, "a-md", f"?version={n}").body for n in (1, 2, 3)] == [b"one", b"two", b"three"]
    assert content(admin, place, "a-md").body == b"three"
    for none in ("0", "4", "-1", "99999999999999999999"):
        assert content(admin, place, "a-md", f"?version={none}").code == (404, "NOT_FOUND")
    assert content(admin, place, "a-md", "?version=x").pointers == ["/version"]
    assert len(admin.get(f"{place.at}/files").data) == 1


def test_an_older_state_is_read_by_commit_and_by_time(admin: Client, place: Place) -> None:
    import time

    first = upload(admin, place, "a.md", b"one")
    head = place.read()["head"]
    time.sleep(0.01)
    upload(admin, place, "a.md", b"two")
    assert content(admin, place, "a-md", f"?at={head}").body == b"one"
    assert content(admin, place, "a-md", f"?at={first.data['updated_at']}").body == b"one"
    assert content(admin, place, "a-md", f"?at={'0' * 40}").code == (404, "NOT_FOUND")
    assert content(admin, place, "a-md", "?at=2001-01-01T00:00:00.000Z").code == (404, "NOT_FOUND")
    assert content(admin, place, "a-md", "?at=yesterday").code == (404, "NOT_FOUND")
    assert content(admin, place, "a-md", f"?at={head}&version=1").pointers == ["/at"]
    admin.delete(f"{place.at}/files/a-md")
    assert content(admin, place, first.data["id"], f"?at={head[:12]}").body == b"one"
    flow = admin.post(f"{place.at}/workflows", {"name": "w"}, headers={"X-Request-Id": "evidence"}).data
    entry = admin.get(f"{place.at}/timeline?workflow_id={flow['id']}").data[0]
    assert content(admin, place, "a-md", f"?at={entry['id']}").code == (404, "NOT_FOUND")


def test_nothing_new_makes_no_commit(admin: Client, place: Place) -> None:
    first = upload(admin, place, "a.md", b"one", description="d")
    again = upload(admin, place, "a.md", b"one", description="d")
    assert again.data == first.data
    assert again.etag == first.etag
    assert admin.get(f"{place.at}/timeline").meta["total"] == 2
    assert upload(admin, place, "a.md", b"one", description=None).data["description"] in (None, "d")


def test_a_deleted_file_is_gone_and_its_key_free(admin: Client, place: Place) -> None:
    made = upload(admin, place, "a.md", b"one").data
    upload(admin, place, "b.md", b"one", description="kept")
    assert admin.delete(f"{place.at}/files/{made['id']}").status == 204
    for path in ("", "/content"):
        assert admin.get(f"{place.at}/files/{made['id']}{path}").code == (404, "NOT_FOUND")
    assert admin.delete(f"{place.at}/files/a-md").status == 404
    assert [one["key"] for one in admin.get(f"{place.at}/files").data] == ["b-md"]
    again = upload(admin, place, "a.md", b"new").data
    assert again["id"] == made["id"]
    assert content(admin, place, "a-md").body == b"new"
    place.published()
    assert place.git("status", "--porcelain") == ""


def test_names_that_differ_only_in_case_live_together(admin: Client, place: Place) -> None:
    one, two = upload(admin, place, "A.md", b"1", key="k1").data, upload(admin, place, "a.md", b"2", key="k2").data
    assert (one["file_name"], two["file_name"]) == ("A.md", "a.md")
    assert (content(admin, place, "k1").body, content(admin, place, "k2").body) == (b"1", b"2")


# --- list -----------------------------------------------------------------------------------------------------------


def test_a_list_gives_all_newest_first(admin: Client, place: Place) -> None:
    for n in range(25):
        upload(admin, place, f"f{n:02}.md", f"{n}".encode(), description="Önly this" if n == 7 else None)
    answer = admin.get(f"{place.at}/files")
    assert [one["file_name"] for one in answer.data] == [f"f{n:02}.md" for n in reversed(range(25))]
    assert pages(answer) == (1, 25, 25, 1)
    assert [one["key"] for one in every(admin, f"{place.at}/files", 4)] == [one["key"] for one in answer.data]
    assert pages(admin.get(f"{place.at}/files?per_page=10&page=3")) == (3, 10, 25, 3)
    assert len(admin.get(f"{place.at}/files?page=2").data) == 5
    assert [one["key"] for one in admin.get(f"{place.at}/files?q=F1").data] == [f"f{n}-md" for n in range(19, 9, -1)]
    assert [one["key"] for one in admin.get(f"{place.at}/files?q=%C3%B6nly").data] == ["f07-md"]
    assert admin.get(f"{place.at}/files?q=%25").data == []


def test_a_batch_of_one_moment_is_in_the_order_of_its_keys(admin: Client, place: Place) -> None:
    files = [{"file_name": f"{n}.md", "content_base64": "eA=="} for n in "cab"]
    admin.post(f"{place.at}/files/batch", {"files": files})
    assert [one["key"] for one in admin.get(f"{place.at}/files").data] == ["a-md", "b-md", "c-md"]


# --- batches --------------------------------------------------------------------------------------------------------


def test_a_batch_is_one_commit_in_the_order_of_the_request(admin: Client, place: Place) -> None:
    files = [{"file_name": f"f{n}.md", "content_base64": b64(b"%d" % n), "key": f"k{9 - n}"} for n in range(10)]
    answer = admin.post(f"{place.at}/files/batch", {"files": files})
    assert answer.status == 201
    assert [one["key"] for one in answer.data] == [f"k{9 - n}" for n in range(10)]
    assert [list(one) for one in answer.data] == [RECORD] * 10
    assert admin.get(f"{place.at}/timeline").meta["total"] == 2
    assert admin.get(f"{place.at}/timeline").data[0]["kind"] == "file.added"


@pytest.mark.parametrize(
    "last",
    [{"file_name": "z", "content_base64": "!"}, {"file_name": "..", "content_base64": "eA=="},
     {"file_name": "z", "content_base64": ""}, {"file_name": "z"}, {"file_name": "f0", "content_base64": "eA=="}, "x",
     {"file_name": "z", "content_base64": "eA==", "content_type": "x"}],
)  # fmt: skip
def test_a_batch_is_all_or_nothing(admin: Client, place: Place, last: Any) -> None:
    files = [{"file_name": f"f{n}", "content_base64": "eA=="} for n in range(3)]
    answer = admin.post(f"{place.at}/files/batch", {"files": [*files, last]})
    assert answer.status in (400, 422)
    assert admin.get(f"{place.at}/files").data == []
    place.published()
    assert not (place.folder / "files").exists()


def test_the_size_of_a_batch(admin: Client, place: Place) -> None:
    def files(count: int) -> Any:
        return {"files": [{"file_name": f"f{n}", "content_base64": "eA=="} for n in range(count)]}

    assert admin.post(f"{place.at}/files/batch", files(10)).status == 201
    for count in (0, 11):
        assert admin.post(f"{place.at}/files/batch", files(count)).pointers == ["/files"]
    assert admin.post(f"{place.at}/files/batch", {}).pointers == ["/files"]


# --- sizes ----------------------------------------------------------------------------------------------------------


def test_ten_mebibytes_pass_and_one_byte_more_does_not(admin: Client, place: Place) -> None:
    data = os.urandom(10 * MIB)
    text = base64.encodebytes(data).decode()  # with a line break each 76 characters
    answer = admin.post(f"{place.at}/files", {"file_name": "big.bin", "content_base64": text})
    assert answer.status == 201, answer.body[:300]
    assert content(admin, place, "big-bin").body == data
    over = upload(admin, place, "over.bin", data + b"x")
    assert over.code == (413, "PAYLOAD_TOO_LARGE")
    assert str(10 * MIB) in over.error["message"]
    body, headers = multipart(("file", data, "form.bin", None))
    assert admin.post(f"{place.at}/files", body, headers=headers).status == 201
    body, headers = multipart(("file", data + b"x", "form2.bin", None))
    assert admin.post(f"{place.at}/files", body, headers=headers).code == (413, "PAYLOAD_TOO_LARGE")
    assert (
        admin.post(f"{place.at}/files", b" " * (17 * MIB), headers={"Content-Type": "application/json"}).status == 413
    )


def test_the_limits_are_settings(second: Callable[..., AbstractContextManager[Server]]) -> None:
    with second(max_file_bytes=100, max_batch_files=2) as server, server.client() as admin:
        place = Place(server, admin)
        assert upload(admin, place, "a", b"x" * 100).status == 201
        assert upload(admin, place, "a", b"x" * 101).status == 413
        files = [{"file_name": f"{n}", "content_base64": "eA=="} for n in range(3)]
        assert admin.post(f"{place.at}/files/batch", {"files": files}).status == 422
        assert admin.post(f"{place.at}/files/batch", {"files": files[:2]}).status == 201


PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'


# --- forms ----------------------------------------------------------------------------------------------------------


def test_a_form_is_as_good_as_json(admin: Client, place: Place) -> None:
    data = bytes(range(256)) * 10
    body, headers = multipart(("description", "é d"), ("key", "kéy"), ("file", data, "näme.bin", "application/x-thing"))
    answer = admin.post(f"{place.at}/files", body, headers=headers)
    assert answer.status == 201, answer.body
    assert (answer.data["key"], answer.data["description"]) == ("kéy", "é d")
    assert (answer.data["file_name"], answer.data["content_type"]) == ("näme.bin", "application/x-thing")
    assert content(admin, place, "kéy").body == data
    body, headers = multipart(("file", b"x", "a.md", "application/octet-stream"))
    assert admin.post(f"{place.at}/files", body, headers=headers).data["content_type"] == "text/markdown"


def test_a_form_of_several_files(admin: Client, place: Place) -> None:
    body, headers = multipart(("file", b"1", "b.md", None), ("file", b"2", "a.md", None), ("description", "second"))
    answer = admin.post(f"{place.at}/files/batch", body, headers=headers)
    assert [one["key"] for one in answer.data] == ["b-md", "a-md"]
    assert [one["description"] for one in answer.data] == [None, "second"]
    assert admin.post(f"{place.at}/files", body, headers=headers).status == 422


@pytest.mark.parametrize(
    "parts",
    [[], [("key", "k")], [("file", b"", "a", None)], [("file", b"x", "..", None)], [("key", "k" * 121), ("file",
        b"x", "a", None)],
     [("file", b"x", "a", "nonsense")], [("description", "d" * 2001), ("file", b"x", "a", None)],
     [("key", b"\xff"), ("file", b"x", "a", None)], [("key", "a\0"), ("file", b"x", "a", None)], [("file", "x")],
     [("file", b"x", "n" * 256, None)]],
    ids=range(11),
)  # fmt: skip
def test_a_form_that_makes_no_sense(admin: Client, place: Place, parts: Any) -> None:
    body, headers = multipart(*parts)
    assert admin.post(f"{place.at}/files", body, headers=headers).status in (400, 422)
    assert admin.get(f"{place.at}/files").data == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"x", "multipart/form-data"), (b"x", "multipart/form-data; boundary=b"), (b"--b\r\n\r\nx",
        "multipart/form-data; boundary=b"),
     (b"", "multipart/form-data; boundary=b"), (b"--b--\r\n", "multipart/form-data; boundary=b"),
     (PART + b"\r\nx", "multipart/form-data; boundary=b"),
     (PART + b"Content-Encoding: gzip\r\n\r\nx\r\n--b--", "multipart/form-data; boundary=b"),
     (b"x", "multipart/form-data; boundary=" + "b" * 300)],
    ids=range(8),
)  # fmt: skip
def test_a_form_that_cannot_be_read(admin: Client, place: Place, body: bytes, kind: str) -> None:
    assert admin.post(f"{place.at}/files", body, headers={"Content-Type": kind}).status in (400, 422)
    assert admin.get(f"{place.at}/files").data == []
