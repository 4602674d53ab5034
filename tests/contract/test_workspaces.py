"""Workspaces: made, listed, read, changed, deleted; the record and its limits."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import pytest

from contract.client import API, OID, TIME, UUID, Answer, Client, every, pages, slug
from contract.conftest import Place, Server

RECORD = [
    "id", "tenant_id", "name", "slug", "description", "repository_url", "memory_size_bytes", "memory_max_bytes",
    "is_active", "created_at", "updated_at", "current_spec_version", "git_webhook_provider",
    "git_webhook_secret_configured", "settings", "memory", "head", "problems",
]  # fmt: skip
SUMMARY = {"workflow_count", "open_workflow_count", "total_workflow_count", "active_workflow_count",
           "completed_workflow_count", "attention_workflow_count", "last_workflow_activity_at"}  # fmt: skip


def create(admin: Client, **fields: Any) -> Answer:
    return admin.post("/workspaces", {"name": "n", "slug": slug(), **fields})


# --- create ---------------------------------------------------------------------------------------------------------


def test_the_record_of_a_bare_workspace(admin: Client) -> None:
    name = slug()
    answer = admin.post("/workspaces", {"name": "Näme 🧪", "slug": name})
    assert answer.status == 201
    record = answer.data
    assert list(record) == RECORD
    assert UUID.fullmatch(record["id"])
    assert record["tenant_id"] == "00000000-0000-0000-0000-000000000001"
    assert (record["name"], record["slug"]) == ("Näme 🧪", name)
    assert record["description"] is record["repository_url"] is record["git_webhook_provider"] is None
    assert (record["memory_size_bytes"], record["memory_max_bytes"]) == (2, 1048576)
    assert record["is_active"] is True
    assert record["git_webhook_secret_configured"] is False
    assert record["current_spec_version"] == 0
    assert (record["settings"], record["memory"], record["problems"]) == ({}, {}, [])
    assert record["created_at"] == record["updated_at"]
    assert OID.fullmatch(record["head"])
    assert answer.headers["Location"] == f"{API}/workspaces/{record['id']}"
    assert answer.etag == admin.get(f"/workspaces/{record['id']}").etag


def test_everything_is_made_in_one_commit_that_git_can_read(admin: Client, make: Callable[..., Place]) -> None:
    place = make(
        name="Whole", description="what it is for", repository_url="https://example.org/a/b.git",
        settings={"default_branch": "main", "credentials": {"git_token": "s3cr3t-of-mine"}}, memory={"a": 1,
            "b": [True]},
    )  # fmt: skip
    assert place.record["memory"] == {"a": 1, "b": [True]}
    folder = place.published()
    assert place.git("log", "--format=%H", "main").split() == [place.record["head"]]
    assert place.git("status", "--porcelain") == ""
    assert place.git("fsck", "--strict", "--full") == ""
    assert "memory/a.yaml" in place.git("show", "--stat", "--format=", "HEAD")
    assert sorted(path.name for path in (folder / "memory").iterdir()) == ["a.yaml", "b.yaml"]
    assert "s3cr3t-of-mine" not in place.git("log", "-p", "--all")
    found = subprocess.run(["grep", "-r", "s3cr3t-of-mine", str(folder)], capture_output=True, check=False)
    assert found.returncode == 1


GOOD_SLUGS = ["a", "A", "7", "a.b", "a_b", "a-b", "x" * 100, "1.2.3", "a--b", "git", "a.git.b", "con-1"]
BAD_SLUGS = [
    "-a", "a-", ".a", "a.", "_a", "a_", "a b", "a/b", "é", "a.git", "a.LOCK", "a.lock", "A.Git", "..", "a\nb", "a\x7f",
    "9a7b4316-b55c-445e-a970-1e41ac74a7a1", "AB08840B-2B4F-46DC-B074-B779692EFAB7", "a\\b", "a:b", "💥",
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD_SLUGS)
def test_a_good_slug(admin: Client, text: str) -> None:
    text = text if len(text) == 100 else f"{text}-{slug()}" if len(text) < 3 else f"{text}.{slug()}"
    text = ("x" * 86 + slug()[2:])[:100] if text == "x" * 100 else text
    answer = create(admin, slug=text)
    assert answer.status == 201, answer.body
    assert answer.data["slug"] == text
    assert admin.get(f"/workspaces/{text.swapcase()}").data["id"] == answer.data["id"]


@pytest.mark.parametrize("text", BAD_SLUGS)
def test_a_bad_slug(admin: Client, text: str) -> None:
    assert create(admin, slug=text).code == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize("text", ["", "x" * 101, None, 5, ["a"]])
def test_a_slug_of_the_wrong_shape(admin: Client, text: object) -> None:
    assert create(admin, slug=text).pointers == ["/slug"]


def test_a_taken_slug_is_409_ignoring_case(admin: Client, place: Place) -> None:
    for text in (place.slug, place.slug.upper()):
        assert create(admin, slug=text).code == (409, "CONFLICT")


def test_ten_at_once_make_one(server: Server) -> None:
    name, statuses = slug(), []

    def one(n: int) -> None:
        with server.client() as client:
            statuses.append(create(client, slug=name if n % 2 else name.upper()).status)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(10)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(statuses) == [201] + [409] * 9


@pytest.mark.parametrize(
    ("field", "low", "high"), [("name", 1, 255), ("description", 0, 2000), ("repository_url", 0, 2048)]
)
def test_the_limits_of_texts(admin: Client, field: str, low: int, high: int) -> None:
    longest = "https://example.org/" + "a" * (2048 - 20) if field == "repository_url" else "é" * high
    assert create(admin, **{field: longest}).status == 201
    assert create(admin, **{field: longest + "a"}).pointers == [f"/{field}"]
    if low:
        assert create(admin, **{field: ""}).pointers == [f"/{field}"]
    for wrong in (5, [], {}, True):
        assert create(admin, **{field: wrong}).pointers == [f"/{field}"]


GOOD_URLS = ["https://github.com/a/b", "http://h/a.git", "ssh://git@h:22/a", "git://h/a", "git@github.com:a/b.git",
             "https://user@h/a", "HTTPS://H/a", "https://[::1]/a", "https://h:8443/a%20b"]  # fmt: skip
BAD_URLS = ["", "file:///etc", "/etc/passwd", "ftp://h/a", "javascript:alert(1)", "https://", "h/a", "../a", "https:///a",
            "ext::sh -c x", "https://h/a b", "https://h/a\nb", "-oProxyCommand=x:y", "ssh://-oX/a", "https://h:99999/a",
            "data:text/plain,x", "C:\\a"]  # fmt: skip
SECRET_URLS = ["https://user:password@h/a", "https://ghp_x8Kq2ZtV5mWc9RbY3nLd7PfH4sJg6TaQ1uEo@github.com/a",
               "https://x-access-token:abc@h/a", "https://:tok@h/a", "https://h/a?private_token=abc",
               "ssh://git:pw@h/a"]  # fmt: skip


@pytest.mark.parametrize("url", GOOD_URLS)
def test_a_good_repository_url(admin: Client, url: str) -> None:
    assert create(admin, repository_url=url).data["repository_url"] == url


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_bad_repository_url(admin: Client, place: Place, url: str) -> None:
    assert create(admin, repository_url=url).code == (400, "VALIDATION_ERROR")
    assert admin.patch(place.at, {"repository_url": url}).code == (400, "VALIDATION_ERROR")


@pytest.mark.parametrize("url", SECRET_URLS)
def test_a_credential_in_a_url_is_refused_and_told_where_to_go(admin: Client, place: Place, url: str) -> None:
    for answer in (create(admin, repository_url=url), admin.patch(place.at, {"repository_url": url})):
        assert answer.code == (400, "VALIDATION_ERROR")
        assert "git_token" in answer.error["message"]
        assert not re.search(r"password@|ghp_x8|:tok|=abc|:pw@", answer.body.decode())


def test_memory_on_create_keeps_the_rules_of_memory(admin: Client) -> None:
    for key in ("", "x" * 257):
        assert create(admin, memory={key: 1}).status in (400, 422)
    answer = create(admin, memory={"k": "x" * 1048576})
    assert answer.code == (400, "VALIDATION_ERROR")
    assert set(answer.error["details"]) == {"memory_size_bytes", "memory_max_bytes", "key"}
    assert create(admin, memory={"k": "x" * (1048576 - len('{"k":""}'))}).data["memory_size_bytes"] == 1048576
    assert create(admin, memory={"x" * 256: 1}).status == 201


def test_a_refused_creation_leaves_the_slug_free(admin: Client) -> None:
    name = slug()
    assert create(admin, slug=name, settings={"storage": {"type": "git_remote"}}).status == 400
    assert create(admin, slug=name).status == 201


# --- read -----------------------------------------------------------------------------------------------------------


def test_id_in_any_case_and_slug_name_the_same(admin: Client, place: Place) -> None:
    answers = [
        admin.get(f"/workspaces/{name}") for name in (place.id, place.id.upper(), place.slug, place.slug.upper())
    ]
    assert len({answer.body.split(b',"meta"')[0] for answer in answers}) == 1


# --- list -----------------------------------------------------------------------------------------------------------


def test_rows_are_whole_records_with_a_summary(admin: Client, place: Place) -> None:
    admin.patch(f"{place.at}/memory", {"key": "k", "value": 1})
    states = ["pending", "active", "completed", "failed", "cancelled", "paused"]
    made = [admin.post(f"{place.at}/workflows", {"name": s, "state": s}).data for s in states]
    (row,) = admin.get(f"/workspaces?q={place.slug}").data
    assert list(row) == [*RECORD, "summary"]
    summary = row.pop("summary")
    assert row == place.read()
    assert set(summary) == SUMMARY
    assert summary["workflow_count"] == summary["total_workflow_count"] == 6
    assert summary["open_workflow_count"] == 3
    assert summary["active_workflow_count"] == 1
    assert summary["completed_workflow_count"] == 1
    assert summary["attention_workflow_count"] == 2
    assert summary["last_workflow_activity_at"] == max(one["updated_at"] for one in made)


def test_the_summary_of_no_workflows(admin: Client, place: Place) -> None:
    (row,) = admin.get(f"/workspaces?q={place.slug}").data
    assert row["summary"].pop("last_workflow_activity_at") is None
    assert set(row["summary"].values()) == {0}


def test_a_list_is_searched_literally_and_ignoring_case(admin: Client, make: Callable[..., Place]) -> None:
    mark = slug()
    by_name, by_slug, by_text = make(name=f"X{mark.upper()}y"), make(slug=f"{mark}.q"), make(description=f"100%_{mark}")
    none = make()
    found = {row["id"] for row in every(admin, f"/workspaces?q={mark}")}
    assert found == {by_name.id, by_slug.id, by_text.id}
    assert none.id not in found
    for wild in ("100%25_", "0%25_w", "%25_" + mark):
        assert [row["id"] for row in admin.get(f"/workspaces?q={wild}").data].count(by_text.id) == 1
    for wild in (f"%25{mark}%25", f"{mark}%25q", f"{mark[:-1]}_", f"{mark}*", f"%5C{mark}", f"%27{mark}"):
        assert admin.get(f"/workspaces?q={wild}").data == [], wild
    cyrillic = make(name=f"ПРИВЕТ {mark} Straße")
    assert [row["id"] for row in admin.get(f"/workspaces?q=%D0%BF%D1%80%D0%B8%D0%B2%D0%B5%D1%82+{mark}").data] == [
        cyrillic.id
    ]


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_a_list_of_active_ones(admin: Client, make: Callable[..., Place], text: str, value: bool) -> None:
    mark = slug()
    places = [make(name=mark), make(name=mark, is_active=False)]
    assert places[1].record["is_active"] is False
    rows = admin.get(f"/workspaces?q={mark}&is_active={text}").data
    assert [row["is_active"] for row in rows] == [value]


@pytest.mark.parametrize("text", ["yes", "TRUE", "2", "", "null"])
def test_a_filter_that_is_no_boolean(admin: Client, text: str) -> None:
    assert admin.get(f"/workspaces?is_active={text}").pointers == ["/is_active"]


def test_the_orders_of_a_list(admin: Client, make: Callable[..., Place]) -> None:
    mark = slug()
    a, b, c = make(name=f"{mark} b"), make(name=f"{mark} A"), make(name=f"{mark} c")
    admin.patch(a.at, {"description": "later"})

    def order(sort: str) -> list[str]:
        return [row["id"] for row in every(admin, f"/workspaces?q={mark}&sort={sort}", per_page=1)]

    assert order("newest") == [c.id, b.id, a.id]
    assert order("oldest") == [a.id, b.id, c.id]
    assert order("name") == [b.id, a.id, c.id]
    assert order("updated") == [a.id, c.id, b.id]
    assert [row["id"] for row in admin.get(f"/workspaces?q={mark}").data] == order("newest")
    assert admin.get("/workspaces?sort=size").pointers == ["/sort"]


def test_pages_of_equal_names_never_overlap(admin: Client, make: Callable[..., Place]) -> None:
    mark = slug()
    made = {make(name=mark).id for _ in range(7)}
    for sort in ("name", "newest", "oldest", "updated"):
        rows = [row["id"] for row in every(admin, f"/workspaces?q={mark}&sort={sort}", per_page=2)]
        assert len(rows) == 7
        assert set(rows) == made
    assert pages(admin.get(f"/workspaces?q={mark}&per_page=2"))[2:] == (7, 4)


# --- change ---------------------------------------------------------------------------------------------------------


def test_a_patch_changes_what_it_names(admin: Client, place: Place) -> None:
    answer = admin.patch(place.at, {"name": "New", "description": "D", "is_active": False,
                                    "repository_url": "https://h/a", "settings": {"b": 1, "a": 2}})  # fmt: skip
    assert answer.status == 200
    record = answer.data
    assert (record["name"], record["description"], record["is_active"]) == ("New", "D", False)
    assert record["repository_url"] == "https://h/a"
    assert list(record["settings"].items()) == [("b", 1), ("a", 2)]
    assert record["slug"] == place.slug
    assert record == place.read()
    assert answer.etag == admin.get(place.at).etag
    cleared = admin.patch(place.at, {"description": None, "repository_url": None}).data
    assert cleared["description"] is cleared["repository_url"] is None
    assert cleared["name"] == "New"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({}, ""), ({"name": None}, "/name"), ({"slug": None}, "/slug"), ({"settings": None}, "/settings"),
     ({"is_active": "true"}, "/is_active"), ({"is_active": None}, "/is_active"), ({"is_active": 1}, "/is_active"),
     ({"memory": {}}, ""), ({"id": "x"}, ""), ({"settings": []}, "/settings")],
)  # fmt: skip
def test_a_patch_of_the_wrong_shape(admin: Client, place: Place, body: object, pointer: str) -> None:
    assert admin.patch(place.at, body).pointers == [pointer]


def test_nothing_different_makes_no_commit(admin: Client, place: Place) -> None:
    before = place.read()
    for body in ({"name": before["name"]}, {"description": None}, {"settings": {}}, {"is_active": True},
                 {"slug": place.slug}):  # fmt: skip
        assert admin.patch(place.at, body).data == before
    assert len(admin.get(f"{place.at}/timeline").data) == 1


def test_patches_of_different_fields_never_undo_each_other(server: Server, place: Place) -> None:
    def many(field: str) -> None:
        with server.client() as client:
            for n in range(10):
                value: Any = {"n": n} if field == "settings" else f"{field} {n}"
                assert client.patch(place.at, {field: value}).status == 200

    threads = [threading.Thread(target=many, args=(field,)) for field in ("name", "description", "settings")]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    record = place.read()
    assert (record["name"], record["description"], record["settings"]) == ("name 9", "description 9", {"n": 9})


def test_a_renamed_slug_keeps_answering_until_somebody_takes_it(
    admin: Client, place: Place, make: Callable[..., Place]
) -> None:
    new = slug()
    assert admin.patch(place.at, {"slug": new}).data["slug"] == new
    for name in (new, place.slug, place.id):
        assert admin.get(f"/workspaces/{name}").data["id"] == place.id
    other = make(slug=place.slug)
    assert admin.get(f"/workspaces/{place.slug}").data["id"] == other.id
    assert admin.get(f"/workspaces/{new}").data["id"] == place.id
    assert admin.patch(other.at, {"slug": new.upper()}).code == (409, "CONFLICT")
    assert admin.patch(place.at, {"slug": new.upper()}).data["slug"] == new.upper()  # its own, in another case


def test_a_bad_slug_cannot_be_patched_in(admin: Client, place: Place) -> None:
    assert admin.patch(place.at, {"slug": "a.git"}).code == (400, "VALIDATION_ERROR")
    assert admin.patch(place.at, {"slug": "../x"}).code == (400, "VALIDATION_ERROR")
    assert place.read()["slug"] == place.slug


def test_the_folder_follows_the_slug(server: Server, admin: Client, place: Place) -> None:
    place.published()
    new = slug()
    admin.patch(place.at, {"slug": new})
    place.folder = server.folder(new)
    place.published()
    assert not server.folder(place.slug).exists()
    assert place.git("fsck", "--strict") == ""
    assert place.git("status", "--porcelain") == ""


# --- delete ---------------------------------------------------------------------------------------------------------


def test_deletion_frees_the_slug_at_once(server: Server, admin: Client, place: Place) -> None:
    for _ in range(3):
        answer = admin.delete(f"/workspaces/{place.slug}")
        assert answer.status == 200
        assert admin.get(f"/workspaces/{place.slug}").status == 404
        again = create(admin, slug=place.slug)
        assert again.status == 201
        assert again.data["id"] != place.id
    assert answer.data["deleted"] is True
    assert list(answer.data) == ["id", "deleted"]
    assert admin.get(place.at).status == 404
    assert len([one for one in server.store.layout.trash.iterdir() if place.slug in one.name]) == 3


def test_everything_of_a_deleted_workspace_is_404(admin: Client, place: Place) -> None:
    flow = admin.post(f"{place.at}/workflows", {"name": "w", "tasks": [{"id": slug(), "title": "t"}]}).data
    task = flow["tasks"][0]["id"]
    art = admin.post(f"/tasks/{task}/artifacts", {"path": "a", "content_base64": "eA=="}).data
    admin.delete(f"{place.at}?cascade=true")
    for path in (place.at, f"{place.at}/memory", f"{place.at}/timeline", f"{place.at}/artifacts",
                 f"{place.at}/problems",
                 f"/workflows/{flow['id']}", f"/tasks/{task}/artifacts",
                 f"/tasks/{task}/artifacts/{art['id']}"):  # fmt: skip
        assert admin.get(path).code == (404, "NOT_FOUND"), path
    assert admin.delete(place.at).status == 404
    assert admin.patch(f"{place.at}/memory", {"key": "k", "value": 1}).status == 404


def test_what_depends_on_a_workspace_keeps_it(admin: Client, place: Place) -> None:
    empty = admin.get(f"{place.at}/delete-impact").data
    assert empty == dict.fromkeys(
        ("workflows", "active_workflows", "tasks", "active_tasks", "work_items", "files", "artifacts"), 0
    )
    tasks = [{"title": "t", "state": state} for state in ("pending", "completed", "in_progress")]
    items = [{"title": "i"}, {"title": "j"}]
    admin.post(f"{place.at}/workflows", {"name": "w", "state": "active", "tasks": tasks, "work_items": items})
    admin.post(f"{place.at}/workflows", {"name": "v", "state": "failed"})
    admin.post(f"{place.at}/files", {"file_name": "a", "content_base64": "eA=="})
    admin.post(f"{place.at}/artifacts", {"path": "a", "content_base64": "eA=="})
    impact = admin.get(f"{place.at}/delete-impact").data
    assert impact == {"workflows": 2, "active_workflows": 1, "tasks": 3, "active_tasks": 2, "work_items": 2, "files": 1,
                      "artifacts": 1}  # fmt: skip
    refused = admin.delete(place.at)
    assert refused.code == (409, "CONFLICT")
    for no in ("cascade=false", "cascade=0"):
        assert admin.delete(f"{place.at}?{no}").status == 409
    assert admin.delete(f"{place.at}?cascade=maybe").pointers == ["/cascade"]
    answer = admin.delete(f"{place.at}?cascade=true")
    assert answer.data == {"id": place.id, "deleted": True, "deleted_workflow_count": 2, "deleted_task_count": 3}


def test_the_folder_goes_to_the_trash(server: Server, admin: Client, place: Place) -> None:
    place.published()
    admin.delete(place.at)
    assert not place.folder.exists()
    (kept,) = (one for one in server.store.layout.trash.iterdir() if place.slug in one.name)
    place.folder = kept
    assert place.git("log", "-1", "--format=%H", "main") == place.record["head"]


def test_created_and_updated_are_of_the_context(admin: Client, place: Place) -> None:
    before = place.read()
    admin.post(f"{place.at}/workflows", {"name": "w"})
    assert place.read()["updated_at"] == before["updated_at"]
    changed = admin.patch(f"{place.at}/memory", {"key": "k", "value": 1}).data
    assert changed["updated_at"] > before["updated_at"]
    assert changed["created_at"] == before["created_at"]
    assert TIME.fullmatch(changed["updated_at"])
    assert admin.get(f"{place.at}/timeline").data[-1]["created_at"] == before["created_at"]
