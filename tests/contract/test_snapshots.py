"""Snapshots: named states of both branches, good in every `at`, that stay where they are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from contract.client import PEM, Answer, Client
from contract.conftest import Place, Server
from contract.test_past import at, put


def test_a_snapshot_names_the_newest_state_of_both_branches(admin: Client, agent: Client, place: Place) -> None:
    head = put(admin, place, "a", 1)
    made = admin.post(f"{place.at}/artifacts", {"path": "x.txt", "content_base64": "eA=="}).data
    answer = admin.put(f"{place.at}/snapshots/v1.0", {"message": "Before the audit\n\nGitstore-Evidence: forged"})
    assert answer.data["name"] == "v1.0"
    assert (answer.data["commit"], answer.data["evidence"]) == (head, made["commit"])
    assert answer.data["message"] == "Before the audit\n\nGitstore-Evidence: forged"
    assert answer.data["created_by"]["type"] == "admin"
    put(admin, place, "a", 2)
    admin.delete(f"{place.at}/artifacts/{made['id']}")
    for client in (admin, agent):
        assert at(client, place, "/memory/a", "v1.0").data["value"] == 1
        assert at(client, place, "/memory/a", "v1.0").meta["at"]["evidence"] == made["commit"]
        assert at(client, place, "/artifacts", "v1.0").meta["total"] == 1
        assert at(client, place, f"/artifacts/{made['id']}", "v1.0").body == b"x"
        read = client.get(f"{place.at}/snapshots/v1.0")
        assert (read.data, read.etag) == (answer.data, answer.etag)
        assert client.get(f"{place.at}/snapshots").data == [answer.data]
    assert admin.get(f"{place.at}/snapshots/v1.0", headers={"If-None-Match": answer.etag}).status == 304


def test_a_snapshot_of_an_older_moment(admin: Client, place: Place) -> None:
    first = put(admin, place, "a", 1)
    put(admin, place, "a", 2)
    made = admin.put(f"{place.at}/snapshots/then", {"at": first[:10]}).data
    assert (made["commit"], made["evidence"], made["message"]) == (first, None, None)
    again = admin.put(f"{place.at}/snapshots/copy", {"at": "then"}).data
    assert again["commit"] == first
    assert [one["name"] for one in admin.get(f"{place.at}/snapshots?per_page=1").data] == ["copy"]
    assert admin.get(f"{place.at}/snapshots").meta["total"] == 2
    assert admin.put(f"{place.at}/snapshots/never", {"at": "0" * 40}).code == (404, "NOT_FOUND")


def test_putting_it_again_changes_nothing_and_moving_it_needs_a_precondition(admin: Client, place: Place) -> None:
    first = put(admin, place, "a", 1)
    made = admin.put(f"{place.at}/snapshots/v1", {"message": "m"})
    assert admin.put(f"{place.at}/snapshots/v1").data == made.data
    assert admin.put(f"{place.at}/snapshots/v1", {"at": first, "message": "m"}).data == made.data
    second = put(admin, place, "a", 2)
    refused = admin.put(f"{place.at}/snapshots/v1")
    assert refused.code == (409, "CONFLICT")
    assert refused.error["details"]["commit"] == first
    headers = {"If-Match": '"stale"'}
    assert admin.put(f"{place.at}/snapshots/v1", headers=headers).code == (412, "PRECONDITION_FAILED")
    assert admin.put(f"{place.at}/snapshots/v1", headers={"If-None-Match": "*"}).code == (412, "PRECONDITION_FAILED")
    moved = admin.put(f"{place.at}/snapshots/v1", headers={"If-Match": made.etag})
    assert moved.data["commit"] == second
    assert moved.etag != made.etag
    assert at(admin, place, "/memory", "v1").data == {"a": 2}
    assert admin.delete(f"{place.at}/snapshots/v1", headers={"If-Match": made.etag}).status == 412
    assert admin.delete(f"{place.at}/snapshots/v1", headers={"If-Match": moved.etag}).status == 204
    assert admin.get(f"{place.at}/snapshots/v1").code == (404, "NOT_FOUND")
    assert admin.delete(f"{place.at}/snapshots/v1").code == (404, "NOT_FOUND")
    assert at(admin, place, "/memory", "v1").code == (404, "NOT_FOUND")
    assert admin.put(f"{place.at}/snapshots/v1").data["commit"] == second


def test_of_many_that_want_one_name_at_once_one_has_it(admin: Client, place: Place) -> None:
    heads = [put(admin, place, "a", n) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:

        def ask(head: str) -> Answer:
            with admin.other() as client:
                return client.put(f"{place.at}/snapshots/v1", {"at": head})

        answers = list(pool.map(ask, heads))
    made = [answer.data["commit"] for answer in answers if answer.status == 200]
    assert len(made) == 1
    assert [answer.status for answer in answers].count(409) == 7
    assert admin.get(f"{place.at}/snapshots/v1").data["commit"] == made[0]


@pytest.mark.parametrize(
    "name",
    ["-x", "x-", ".x", "a..b", "a%20b", "a%2Fb", "x.lock", "HEAD", "main", "Now", "evidence", "deadbeef", "2026",
     "a" * 101, "0" * 40, "2026-11-24", "2026-11-24T03", "a%0Ab", "refs%2Ftags%2Fx", "..%2F..%2Fx",
     "%C3%A9", "a~1", "a%5E", "x%3F"],
)  # fmt: skip
def test_what_cannot_be_a_name(admin: Client, place: Place, name: str) -> None:
    assert admin.put(f"{place.at}/snapshots/{name}").code == (400, "VALIDATION_ERROR")
    assert admin.get(f"{place.at}/snapshots/{name}").code == (404, "NOT_FOUND")
    assert admin.delete(f"{place.at}/snapshots/{name}").code == (404, "NOT_FOUND")


def test_names_that_collide(admin: Client, place: Place) -> None:
    put(admin, place, "a", 1)
    place.published()
    admin.put(f"{place.at}/snapshots/Release-1")
    place.git("tag", "plain")
    place.git("tag", "deep/below")
    for name, why in (("release-1", "only in case"), ("plain", "already"), ("PLAIN", "only in case"), ("deep", "way")):
        answer = admin.put(f"{place.at}/snapshots/{name}")
        assert answer.code == (409, "CONFLICT"), name
        assert why in answer.error["message"]


def test_only_admins_write_and_a_credential_is_refused(server: Server, admin: Client, place: Place) -> None:
    for scope in ("agent", "worker"):
        with server.client(scope) as weak:
            assert weak.put(f"{place.at}/snapshots/v1").code == (403, "FORBIDDEN")
            assert weak.delete(f"{place.at}/snapshots/v1").code == (403, "FORBIDDEN")
    assert admin.put(f"{place.at}/snapshots/v1", {"message": PEM}).code == (400, "VALIDATION_ERROR")
    assert admin.put(f"{place.at}/snapshots/v1", {"message": "x" * 2001}).pointers == ["/message"]
    assert admin.put(f"{place.at}/snapshots/v1", {"at": ""}).pointers == ["/at"]


def test_tags_that_a_person_made_are_moments_too(admin: Client, place: Place) -> None:
    first = put(admin, place, "a", 1)
    put(admin, place, "a", 2)
    place.published()
    place.git("tag", "light", first)
    place.git("-c", "user.name=p", "-c", "user.email=p@x", "tag", "-a", "-m", "x\n\nGitstore-Evidence: " + "1" * 40,
              "full", first)  # fmt: skip
    place.git("-c", "user.name=p", "-c", "user.email=p@x", "tag", "-a", "-m", "of a tag", "twice", "full")
    for name in ("light", "full", "twice", "refs/tags/light"):
        answer = at(admin, place, "/memory", name)
        assert answer.data == {"a": 1}
        assert answer.meta["at"]["evidence"] is None
    place.git("tag", "blob", f"{first}:workspace.yaml")
    assert at(admin, place, "/memory", "blob").code == (404, "NOT_FOUND")
    loose = place.git("-c", "user.name=p", "-c", "user.email=p@x", "commit-tree", f"{first}^{{tree}}", "-m", "loose")
    place.git("tag", "elsewhere", loose)
    answer = at(admin, place, "/memory", "elsewhere")
    assert answer.code == (404, "NOT_FOUND")
    assert "neither main nor evidence" in answer.error["message"]
    assert admin.get(f"{place.at}/snapshots").data == []
    place.git("tag", first[:6])  # does not stand in the way of the commit
    place.git("tag", "-f", first[:6], "HEAD")
    assert at(admin, place, "/memory", first[:6]).data == {"a": 1}


def test_a_snapshot_that_somebody_made_by_hand_is_no_failure(server: Server, admin: Client) -> None:
    place = Place(server, admin, memory={"k": 1})
    admin.put(f"{place.at}/snapshots/good")
    place.published()
    head = place.read()["head"]
    place.git("-c", "user.name=a", "-c", "user.email=a@b", "tag", "-a", "odd", head,
              "-m", "by hand\n\nGitstore-Evidence: nonsense\nGitstore-Time: soon")  # fmt: skip
    place.git("update-ref", "refs/gitstore/snapshots/odd", "refs/tags/odd")
    place.git("-c", "user.name=a", "-c", "user.email=a@b", "tag", "-a", "far", head,
              "-m", f"by hand\n\nGitstore-Evidence: {'1' * 40}\nGitstore-Time: {'9' * 5000}")  # fmt: skip
    place.git("update-ref", "refs/gitstore/snapshots/far", "refs/tags/far")
    assert {one["name"] for one in admin.get(f"{place.at}/snapshots").data} == {"good", "odd", "far"}
    for name in ("odd", "far"):
        assert admin.get(f"{place.at}/snapshots/{name}").data["commit"] == head
        for route in ("?", "/artifacts?", "/memory?", "/blame?path=memory/k.yaml&"):
            assert admin.get(f"{place.at}{route}at={name}").status == 200, route
        for branch in ("main", "evidence"):
            assert admin.get(f"{place.at}/diff?from={name}&branch={branch}").data["files"] == []
