"""Problems of a workspace's files, and the calls of git hosts."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contract.client import TIME, Answer, Client, pages, slug
from contract.conftest import Place, Server

PROBLEM = ["id", "kind", "path", "key", "line", "column", "code", "message", "hint", "since"]


def test_a_sound_workspace_has_none(agent: Client, place: Place) -> None:
    answer = agent.get(f"{place.at}/problems")
    assert answer.data == []
    assert pages(answer)[2] == 0


def commit(folder: Path, files: dict[str, str | None]) -> None:
    """A commit by hand, with plain git."""
    for name, text in files.items():
        if text is None:
            (folder / name).unlink()
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True, capture_output=True)
    subprocess.run(["git", *who, "commit", "-q", "-m", "by hand"], cwd=folder, check=True, capture_output=True)


def wait(ready: Callable[[], bool]) -> None:
    """The promise is two seconds; a busy machine gets five."""
    end = time.monotonic() + 5
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_broken_files_are_told_and_the_rest_goes_on(admin: Client, make: Callable[..., Place]) -> None:
    place = make(memory={"good": 1, "bad": 2})
    folder = place.published()
    tag = admin.get(place.at).etag
    commit(folder, {"memory/bad.yaml": "a: [1\n", "memory/new.yaml": "key: {", "spec/tools.yaml": "- no\n- object\n"})
    wait(lambda: len(place.read()["problems"]) == 3)
    answer = admin.get(place.at)
    record = answer.data
    assert answer.etag != tag
    listed = admin.get(f"{place.at}/problems")
    assert listed.data == record["problems"]
    assert pages(listed)[2] == 3
    found = {one["path"]: one for one in listed.data}
    assert set(found) == {"memory/bad.yaml", "memory/new.yaml", "spec/tools.yaml"}
    for one in listed.data:
        assert list(one)[: len(PROBLEM)] == PROBLEM
        assert one["kind"] == "invalid"
        assert one["message"]
        assert one["hint"]
        assert TIME.fullmatch(one["since"])
    assert found["memory/bad.yaml"]["key"] == "bad"
    assert isinstance(found["memory/bad.yaml"]["line"], int)
    assert record["memory"] == {"good": 1, "bad": 2}  # the last good value
    assert admin.get(f"{place.at}/spec").status == 200
    assert admin.get(f"{place.at}/tools").data == {"available": [], "blocked": []}
    entry = admin.get(f"{place.at}/timeline").data[0]
    assert (entry["actor"]["type"], entry["actor"]["name"]) == ("person", "Ada")
    assert admin.patch(f"{place.at}/memory", {"key": "good", "value": 3}).data["memory"]["good"] == 3
    mended = admin.patch(f"{place.at}/memory", {"key": "bad", "value": "mended"}).data
    assert {one["path"] for one in mended["problems"]} == {"memory/new.yaml", "spec/tools.yaml"}
    assert admin.put(f"{place.at}/spec", {"tools": {}}).status == 200
    assert [one["path"] for one in admin.get(f"{place.at}/problems").data] == ["memory/new.yaml"]
    place.published()
    commit(folder, {"memory/new.yaml": None})
    wait(lambda: place.read()["problems"] == [])
    assert admin.get(f"{place.at}/problems").data == []
    assert admin.get(place.at).data["memory"] == {"bad": "mended", "good": 3}


# --- webhooks -------------------------------------------------------------------------------------------------------

SECRET = "the-secret-of-the-hook"


def hooked(admin: Client, make: Callable[..., Place], provider: str, secret: str = SECRET) -> tuple[Place, str]:
    url = f"https://git.example.org/{slug()}/repo.git"
    place = make(repository_url=url)
    answer = admin.put(f"{place.at}/git-webhook", {"provider": provider, "secret": secret})
    assert answer.status == 200
    return place, url


def call(client: Client, provider: str, url: str, secret: str = SECRET, **more: Any) -> Answer:
    where = {"gitlab": {"project": {"git_http_url": url}}}.get(provider, {"repository": {"clone_url": url}})
    body = json.dumps({"ref": "refs/heads/main", **where, **more}).encode()
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "github": {"X-Hub-Signature-256": f"sha256={digest}", "X-GitHub-Event": "push"},
        "gitea": {"X-Gitea-Signature": digest, "X-Gitea-Event": "push"},
        "gitlab": {"X-Gitlab-Token": secret, "X-Gitlab-Event": "Push Hook"},
    }[provider]
    return client.post("/webhooks/git", body, key=None, headers={"Content-Type": "application/json", **headers})


@pytest.mark.parametrize("provider", ["github", "gitea", "gitlab"])
def test_a_signed_call_is_accepted(admin: Client, make: Callable[..., Place], provider: str) -> None:
    _, url = hooked(admin, make, provider)
    answer = call(admin, provider, url)
    assert answer.status == 202
    assert answer.data == {"accepted": True}
    assert call(admin, provider, url.removesuffix(".git")).status == 202


@pytest.mark.parametrize("provider", ["github", "gitea", "gitlab"])
def test_another_call_is_401_with_one_text(admin: Client, make: Callable[..., Place], provider: str) -> None:
    place, url = hooked(admin, make, provider)
    bare = make(repository_url=f"https://git.example.org/{slug()}/bare")
    answers = [
        call(admin, provider, url, "another-secret"),
        call(admin, provider, "https://git.example.org/nobody/nothing"),
        call(admin, provider, bare.record["repository_url"]),
        admin.post("/webhooks/git", b"{", key=None, headers={"Content-Type": "application/json"}),
        admin.post("/webhooks/git", b"\xff\x00", key=None, headers={"Content-Type": "application/octet-stream"}),
        admin.post("/webhooks/git", json.dumps({"repository": {"clone_url": url}}).encode(), key=None,
                   headers={"Content-Type": "application/json"}),
        call(admin, "gitea" if provider == "github" else "github", url),
    ]  # fmt: skip
    assert {answer.code for answer in answers} == {(401, "UNAUTHORIZED")}
    assert len({answer.error["message"] for answer in answers}) == 1
    assert admin.delete(f"{place.at}/git-webhook").status == 204
    assert call(admin, provider, url).status == 401


def test_a_call_without_a_body(admin: Client) -> None:
    assert admin.post("/webhooks/git", key=None).status in (401, 422)


def test_the_webhook_of_a_workspace(server: Server, admin: Client, place: Place) -> None:
    answer = admin.put(f"{place.at}/git-webhook", {"provider": "gitea", "secret": SECRET})
    assert list(answer.data) == ["id", "name", "slug", "git_webhook_provider", "is_active", "updated_at",
                                 "git_webhook_secret_configured"]  # fmt: skip
    record = place.read()
    for name in answer.data:
        assert answer.data[name] == record[name]
    assert (record["git_webhook_provider"], record["git_webhook_secret_configured"]) == ("gitea", True)
    assert answer.etag == admin.get(place.at).etag
    place.published()
    assert "git_webhook_provider: gitea" in place.git("show", "main:workspace.yaml")
    found = subprocess.run(
        ["grep", "-rlF", SECRET, str(server.store.layout.root)], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""
    assert admin.delete(f"{place.at}/git-webhook").status == 204
    record = place.read()
    assert (record["git_webhook_provider"], record["git_webhook_secret_configured"]) == (None, False)
    assert admin.delete(f"{place.at}/git-webhook").status == 204


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({}, "/provider"), ({"provider": "github"}, "/secret"), ({"provider": "svn", "secret": SECRET}, "/provider"),
     ({"provider": "github", "secret": "1234567"}, "/secret"), ({"provider": "github", "secret": "x" * 20001},
                                                                "/secret"),
     ({"provider": None, "secret": SECRET}, "/provider")],
)  # fmt: skip
def test_a_webhook_of_the_wrong_shape(admin: Client, place: Place, body: Any, pointer: str) -> None:
    assert pointer in admin.put(f"{place.at}/git-webhook", body).pointers


def test_the_shortest_secret(admin: Client, place: Place) -> None:
    assert admin.put(f"{place.at}/git-webhook", {"provider": "github", "secret": "12345678"}).status == 200
