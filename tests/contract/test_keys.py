"""Keys: made, shown once, listed, exchanged for tokens, expired, revoked at once."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

import pytest

from contract.client import TIME, UUID, Client, pages
from contract.conftest import ADMIN, Place, Server

RECORD = ["id", "name", "scope", "prefix", "created_at", "expires_at", "last_used_at", "revoked_at"]


def ahead(**much: float) -> str:
    return (datetime.now(UTC) + timedelta(**much)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def basic(name: str, key: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{key}".encode()).decode()}


def test_a_new_key_is_shown_once(admin: Client) -> None:
    answer = admin.post("/api-keys", {"scope": "worker", "name": "a worker", "expires_at": None})
    assert answer.status == 201
    made = answer.data
    assert {"id", "name", "scope", "prefix", "key", "created_at", "expires_at"} <= set(made)
    assert UUID.fullmatch(made["id"])
    assert re.fullmatch(r"gs_worker_[A-Za-z0-9_-]{20,}", made["key"])
    assert TIME.fullmatch(made["created_at"])
    assert made["expires_at"] is None
    assert answer.headers["Cache-Control"] == "no-store"
    listed = admin.get("/api-keys?per_page=100")
    row = next(one for one in listed.data if one["id"] == made["id"])
    assert list(row) == RECORD
    assert made["key"].encode() not in listed.body
    assert admin.get("/auth/me", key=made["key"]).data == {
        "id": made["id"], "name": "a worker", "scope": "worker", "prefix": made["prefix"], "expires_at": None,
    }  # fmt: skip


def test_the_key_is_stored_as_a_hash(server: Server, admin: Client) -> None:
    made = admin.post("/api-keys", {"scope": "agent", "name": "hashed"}).data
    stored = server.store.layout.keys.read_bytes()
    assert made["prefix"].encode() in stored
    assert made["key"].encode() not in stored
    assert made["key"].rsplit("_", 1)[-1].encode() not in stored


def test_keys_are_listed_in_pages(admin: Client) -> None:
    for n in range(3):
        admin.post("/api-keys", {"scope": "agent", "name": f"n{n}"})
    answer = admin.get("/api-keys?per_page=2")
    page, per_page, total, _ = pages(answer)
    assert (page, per_page, len(answer.data)) == (1, 2, 2)
    assert total >= 5
    assert [one["name"] for one in answer.data] == ["n2", "n1"]


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({}, 422, "/scope"),
        ({"scope": "root", "name": "n"}, 422, "/scope"),
        ({"scope": "agent"}, 422, "/name"),
        ({"scope": "agent", "name": ""}, 422, "/name"),
        ({"scope": "agent", "name": "x" * 256}, 422, "/name"),
        ({"scope": "agent", "name": 5}, 422, "/name"),
        ({"scope": "agent", "name": "n", "expires_at": 5}, 422, "/expires_at"),
        ({"scope": "agent", "name": "n", "expires_at": "tomorrow"}, 400, None),
        ({"scope": "agent", "name": "n", "expires_at": "2001-01-01T00:00:00.000Z"}, 400, None),
        ({"scope": "agent", "name": "n", "expires_at": "99999-01-01T00:00:00Z"}, 400, None),
    ],
)
def test_a_key_that_makes_no_sense(admin: Client, body: object, status: int, pointer: str | None) -> None:
    answer = admin.post("/api-keys", body)
    assert answer.status == status
    if pointer is not None:
        assert pointer in answer.pointers


def test_the_longest_name(admin: Client) -> None:
    assert admin.post("/api-keys", {"scope": "agent", "name": "é" * 255}).status == 201


def test_every_way_to_present_a_key(server: Server, admin: Client) -> None:
    key = server.keys["agent"]
    for header in (f"Bearer {key}", f"bearer {key}", f"BEARER  {key}"):
        assert admin.get("/auth/me", key=None, headers={"Authorization": header}).status == 200
    for name in ("", "git", "x-access-token", "é"):
        assert admin.get("/auth/me", key=None, headers=basic(name, key)).status == 200
    assert admin.get("/auth/me", key=ADMIN).data["scope"] == "admin"  # the bootstrap key


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic", "Basic !!!", "Basic " + base64.b64encode(b"no-colon").decode(), "Digest x",
     "Token abc", "Bearer gs_admin_", "Bearer gs_admin_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "Bearer " + "x" * 8000,
     "Bearer a b", "Bearer \xff"],
)  # fmt: skip
def test_what_is_no_key_is_401(admin: Client, header: str) -> None:
    answer = admin.get("/auth/me", key=None, headers={"Authorization": header})
    assert answer.code == (401, "UNAUTHORIZED")
    assert "details" not in answer.error


def test_unknown_revoked_and_expired_read_alike(admin: Client) -> None:
    revoked = admin.post("/api-keys", {"scope": "agent", "name": "r"}).data
    expiring = admin.post("/api-keys", {"scope": "agent", "name": "e", "expires_at": ahead(seconds=0.4)}).data
    assert admin.get("/auth/me", key=expiring["key"]).data["expires_at"] == expiring["expires_at"]
    assert admin.get("/auth/me", key=revoked["key"]).status == 200
    answer = admin.delete(f"/api-keys/{revoked['id']}")
    assert answer.status == 200
    assert TIME.fullmatch(answer.data["revoked_at"])
    refused = [admin.get("/auth/me", key=revoked["key"])]  # at once
    time.sleep(0.5)
    refused.append(admin.get("/auth/me", key=expiring["key"]))
    refused.append(admin.get("/auth/me", key="gs_agent_" + "A" * 32))
    assert {one.code for one in refused} == {(401, "UNAUTHORIZED")}
    assert len({one.error["message"] for one in refused}) == 1
    rows = {one["id"]: one for one in admin.get("/api-keys?per_page=100").data}
    assert rows[revoked["id"]]["revoked_at"] is not None
    assert admin.delete(f"/api-keys/{revoked['id']}").data["revoked_at"] == rows[revoked["id"]]["revoked_at"]


def test_an_unknown_key_cannot_be_revoked(admin: Client) -> None:
    for name in ("00000000-0000-0000-0000-000000000001", "x", "%00", "%2F"):
        assert admin.delete(f"/api-keys/{name}").code == (404, "NOT_FOUND")


def test_the_last_use_is_noted(admin: Client) -> None:
    made = admin.post("/api-keys", {"scope": "agent", "name": "used"}).data

    def row() -> object:
        return next(one for one in admin.get("/api-keys?per_page=100").data if one["id"] == made["id"])["last_used_at"]

    assert row() is None
    admin.get("/auth/me", key=made["key"])
    assert TIME.fullmatch(str(row()))


def test_a_token_stands_for_its_key(admin: Client) -> None:
    key = admin.post("/api-keys", {"scope": "agent", "name": "t"}).data
    answer = admin.post("/auth/token", {"api_key": key["key"]}, key=None)
    assert answer.status == 200
    assert list(answer.data) == ["token", "expires_at", "scope"]
    assert answer.data["scope"] == "agent"
    assert answer.data["expires_at"] > answer.meta["timestamp"]
    assert answer.headers["Cache-Control"] == "no-store"
    token = answer.data["token"]
    assert admin.get("/auth/me", key=token).data["id"] == key["id"]
    assert admin.post("/api-keys", {}, key=token).status == 403
    assert admin.post("/auth/token", {"api_key": token}, key=None).status == 401
    for broken in (
        token[:-1],
        token + "x",
        token[:40] + ("B" if token[40] != "B" else "C") + token[41:],
        token.upper(),
    ):
        assert admin.get("/auth/me", key=broken).status == 401
    admin.delete(f"/api-keys/{key['id']}")
    assert admin.get("/auth/me", key=token).status == 401  # with its key


def test_a_token_for_what_is_no_key(admin: Client) -> None:
    assert admin.post("/auth/token", {"api_key": "nobody"}, key=None).code == (401, "UNAUTHORIZED")
    assert admin.post("/auth/token", {}, key=None).pointers == ["/api_key"]
    assert admin.post("/auth/token", {"api_key": ""}, key=None).pointers == ["/api_key"]


def test_a_token_expires(second: Callable[..., AbstractContextManager[Server]]) -> None:
    with second(token_hours=0.01) as server, server.client() as admin:
        answer = admin.post("/auth/token", {"api_key": ADMIN}, key=None).data
        ends = datetime.fromisoformat(answer["expires_at"]) - datetime.now(UTC)
        assert timedelta(seconds=30) < ends <= timedelta(seconds=36)


def test_the_actor_of_a_change_is_its_key(server: Server, admin: Client, place: Place) -> None:
    key = admin.post("/api-keys", {"scope": "worker", "name": "The Worker"}).data
    admin.patch(f"{place.at}/memory", {"key": "k", "value": 1}, key=key["key"])
    actor = {"type": "worker", "id": key["prefix"], "name": "The Worker"}
    assert admin.get(f"{place.at}/memory/k").data["actor"] == actor
    assert admin.get(f"{place.at}/timeline").data[0]["actor"] == actor
    place.published()
    assert place.git("log", "-1", "--format=%an") == f"worker key {key['prefix']}"
    assert key["key"] not in place.git("log", "-1", "--format=raw")


def test_keys_survive_a_restart(second: Callable[..., AbstractContextManager[Server]], server: Server) -> None:
    from contract.conftest import serving

    with second() as first, first.client() as admin:
        made = admin.post("/api-keys", {"scope": "agent", "name": "kept"}).data
        data = first.store.layout.root
    with serving(data) as again, again.client() as admin:
        assert admin.get("/auth/me", key=made["key"]).data["name"] == "kept"
