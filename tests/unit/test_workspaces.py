"""Workspaces: one commit makes one, a PATCH changes what it names, URLs never carry a credential."""

from __future__ import annotations

from typing import Any

import pytest
from draft import WORKSPACE, MemoryWorkspace

from gitstore import documents, errors, memory, schemas, settings, values, workspaces
from gitstore.model import MEMORY_MAX_BYTES
from gitstore.precondition import Precondition

TOKEN = "glpat-" + "Zq7Rk2Vn9Xw4Tb6Lp3Hs"  # in the form of a GitLab token, valid nowhere


@pytest.fixture
def empty() -> MemoryWorkspace:
    return MemoryWorkspace()


@pytest.fixture
def workspace() -> MemoryWorkspace:
    made = MemoryWorkspace()
    made.apply(workspaces.create, {"name": "Payments", "slug": "payments", "settings": {"a": 1}})
    return made


def test_one_commit_makes_it_all(empty: MemoryWorkspace) -> None:
    empty.apply(
        workspaces.create,
        {
            "slug": "Payments-2",
            "name": "Payments",
            "description": "d",
            "repository_url": "https://git.example/x.git",
            "settings": {"storage": {"type": "git_remote"}, "credentials": {"git_token": "s3cr3t"}},
            "memory": {"b": 1, "a": [None]},
            "ignored": 1,
        },
    )
    assert [(commit.kind, commit.name) for commit in empty.commits] == [
        ("workspace.created", "workspace: create Payments-2")
    ]
    assert list(documents.load(empty.files["workspace.yaml"])) == [
        *("id", "name", "slug", "description", "repository_url", "is_active"),
    ]
    assert empty.context.fields.id == WORKSPACE
    assert empty.context.fields.slug == "Payments-2"
    assert empty.context.memory_json() == b'{"a":[null],"b":1}'
    assert empty.context.settings == {"storage": {"type": "git_remote"}}
    assert list(empty.sealed) == ["git_token", "git_token_server"]
    assert empty.context.problems == ()


def test_the_least_that_makes_one(empty: MemoryWorkspace) -> None:
    fields = empty.apply(
        workspaces.create, {"slug": "x", "name": "X", "description": None, "settings": {}, "memory": {}}
    )
    assert fields == empty.context.fields
    assert list(empty.files) == [*schemas.files(), "workspace.yaml"]


@pytest.mark.parametrize(
    "record",
    [
        {"slug": "x"},
        {"name": "x"},
        {"name": "", "slug": "x"},
        {"name": "n" * 256, "slug": "x"},
        {"name": None, "slug": "x"},
        {"name": "x", "slug": ""},
        {"name": "x", "slug": "s" * 101},
        {"name": "x", "slug": "-x"},
        {"name": "x", "slug": "a b"},
        {"name": "x", "slug": "x.git"},
        {"name": "x", "slug": WORKSPACE},
        {"name": "x", "slug": "x", "description": "d" * 2001},
        {"name": "x", "slug": "x", "is_active": 1},
        {"name": "x", "slug": "x", "settings": []},
        {"name": "x", "slug": "x", "memory": []},
        {"name": "x", "slug": "x", "memory": {"": 1}},
        {"name": "x", "slug": "x", "memory": {"a": "x" * MEMORY_MAX_BYTES}},
        {"name": "x", "slug": "x", "settings": {"storage": {"type": "git_remote"}}},
        {"name": "x", "slug": "x", "repository_url": "https://u:p@git.example/x"},
        {"name": "x", "slug": "x", "memory": {"a": TOKEN}},
        {"name": "x", "slug": "x", "settings": {"a": TOKEN}},
        {"name": TOKEN, "slug": "x"},
        {"name": "x", "slug": "x", "description": f"see {TOKEN}"},
    ],
)
def test_what_cannot_be_made(empty: MemoryWorkspace, record: dict[str, Any]) -> None:
    with pytest.raises(errors.Invalid) as caught:
        empty.apply(workspaces.create, record)
    assert TOKEN not in caught.value.message
    assert empty.commits == []
    assert empty.sealed == {}


def test_text_that_cannot_be_stored(empty: MemoryWorkspace) -> None:
    with pytest.raises(errors.Malformed):
        empty.apply(workspaces.create, {"name": "a\0", "slug": "x"})


def test_the_memory_limit_holds_at_creation(empty: MemoryWorkspace) -> None:
    room = MEMORY_MAX_BYTES - len('{"a":""}')
    with pytest.raises(errors.Invalid) as caught:
        empty.apply(workspaces.create, {"name": "x", "slug": "x", "memory": {"a": "x" * (room + 1)}})
    assert caught.value.details is not None
    assert caught.value.details["memory_size_bytes"] == MEMORY_MAX_BYTES + 1
    empty.apply(workspaces.create, {"name": "x", "slug": "x", "memory": {"a": "x" * room}})
    assert empty.context.memory_size == MEMORY_MAX_BYTES


def test_a_patch_changes_what_it_names(workspace: MemoryWorkspace) -> None:
    assert workspace.apply(workspaces.update, {"name": "New"}) == ["name"]
    assert workspace.context.fields.name == "New"
    assert workspace.context.settings == {"a": 1}
    assert workspace.apply(workspaces.update, {"description": "d", "is_active": False}) == ["description", "is_active"]
    assert workspace.apply(workspaces.update, {"settings": {"b": 1}}) == ["settings"]
    assert workspace.apply(workspaces.update, {"slug": "other", "settings": {"c": 1}}) == ["slug", "settings"]
    assert [(commit.kind, commit.name) for commit in workspace.commits[1:]] == [
        ("workspace.updated", "workspace: update name"),
        ("workspace.updated", "workspace: update description, is_active"),
        ("settings.updated", "settings: update"),
        ("changes", "workspace: update slug, settings"),
    ]
    assert len(workspace.commits[-2].paths) == 1
    fields = workspace.context.fields
    assert (fields.name, fields.slug, fields.description, fields.is_active) == ("New", "other", "d", False)


def test_null_clears_description_and_repository_url_only(workspace: MemoryWorkspace) -> None:
    workspace.apply(workspaces.update, {"description": "d", "repository_url": "git@git.example:a/b.git"})
    workspace.apply(workspaces.update, {"description": None, "repository_url": None})
    assert workspace.context.fields.description is workspace.context.fields.repository_url is None
    assert list(documents.load(workspace.files["workspace.yaml"])) == ["id", "name", "slug", "is_active"]
    for name in ("name", "slug", "is_active", "settings"):
        with pytest.raises(errors.Invalid):
            workspace.apply(workspaces.update, {name: None})


def test_nothing_changed_is_no_commit(workspace: MemoryWorkspace) -> None:
    same = {"name": "Payments", "slug": "payments", "description": None, "is_active": True, "settings": {"a": 1}}
    assert workspace.apply(workspaces.update, same) == []
    assert len(workspace.commits) == 1


def test_nothing_known_is_the_wrong_shape(workspace: MemoryWorkspace) -> None:
    bodies: list[dict[str, Any]] = [{}, {"memory": {}}, {"id": "x"}]
    for body in bodies:
        with pytest.raises(errors.WrongShape):
            workspace.apply(workspaces.update, body)


def test_git_remote_and_its_url_go_together(workspace: MemoryWorkspace) -> None:
    remote = {"storage": {"type": "git_remote"}}
    with pytest.raises(errors.Invalid, match="repository_url"):
        workspace.apply(workspaces.update, {"settings": remote})
    workspace.apply(workspaces.update, {"settings": remote, "repository_url": "https://git.example/x"})
    with pytest.raises(errors.Invalid, match="repository_url"):
        workspace.apply(workspaces.update, {"repository_url": None})
    workspace.apply(workspaces.update, {"repository_url": None, "settings": {}})
    assert workspace.context.problems == ()


def test_a_precondition_is_held_against_the_record(workspace: MemoryWorkspace) -> None:
    with pytest.raises(errors.PreconditionFailed) as caught:
        workspace.apply(workspaces.update, {"name": "x"}, precondition=Precondition(if_match=("old",)), current="new")
    assert caught.value.current == "new"
    workspace.apply(workspaces.update, {"name": "x"}, precondition=Precondition(if_match=("new",)), current="new")


def test_what_a_person_keeps_in_the_file_stays(workspace: MemoryWorkspace) -> None:
    data = f"# ours\nteam: blue\nid: {WORKSPACE.upper()}\nslug: payments # short\ndescription:\nname: 'Pay'\n".encode()
    workspace.edit({"workspace.yaml": data})
    assert workspace.context.problems == ()
    workspace.apply(workspaces.update, {"slug": "pay"})
    assert workspace.files["workspace.yaml"] == data.replace(b"slug: payments", b"slug: pay")


def test_a_broken_file_is_mended_by_a_patch(workspace: MemoryWorkspace) -> None:
    workspace.edit({"workspace.yaml": b"id: [\n"})
    assert workspace.context.fields.name == "Payments"
    workspace.apply(memory.set, {"a": 1})
    assert [problem.path for problem in workspace.context.problems] == ["workspace.yaml"]
    workspace.apply(workspaces.update, {"name": "New"})
    assert workspace.context.problems == ()
    assert (workspace.context.fields.id, workspace.context.fields.slug) == (WORKSPACE, "payments")


GOOD = [
    "https://github.com/org/repo.git",
    "http://git.example:8080/x",
    "https://alice@bitbucket.org/org/repo.git",
    "ssh://git@git.example:22/x.git",
    "git://git.example/x",
    "git@github.com:org/repo.git",
    "github.com:org/repo",
    "https://[2001:db8::1]/x",
    "https://xn--bcher-kva.example/~x?y=1",
]
BAD = [
    "",
    "x",
    "/etc/passwd",
    "./x",
    "file:///etc/passwd",
    "file:/etc/passwd",
    "javascript:alert(1)",
    "ftp://x.example/y",
    "ext::sh -c id",
    "https://",
    "https:///x",
    "https://a b.example/x",
    "https://git.example/x\n",
    "ssh://-oProxyCommand=id/x",
    "-oProxyCommand=id:x",
    "git@-x.example:y",
    "ssh://-l@git.example/x",
    "https://git.example:99999/x",
    "C:\\repo",
    "https://git.example\\@evil.example/x",
    "https://[::1/x",
    "https://git.example/" + "x" * 2048,
]
SECRET = [
    "https://user:password@git.example/x",
    "https://:password@git.example/x",
    f"https://{TOKEN}@git.example/x",
    "https://x:y%40z@git.example/x",
    "ssh://git:password@git.example/x",
    "https://git.example/x?access_token=abc",
    "https://git.example/x?private_token=abc",
    f"https://git.example/{TOKEN}/x",
]


@pytest.mark.parametrize("url", GOOD)
def test_urls_that_are_kept_as_they_are(workspace: MemoryWorkspace, url: str) -> None:
    workspace.apply(workspaces.update, {"repository_url": url})
    assert workspace.context.fields.repository_url == url


@pytest.mark.parametrize("url", BAD)
def test_urls_that_are_none(workspace: MemoryWorkspace, url: str) -> None:
    with pytest.raises(errors.Invalid) as caught:
        workspace.apply(workspaces.update, {"repository_url": url})
    assert not isinstance(caught.value, errors.SecretFound)
    assert "/repository_url" in caught.value.message


@pytest.mark.parametrize("url", SECRET)
def test_urls_with_a_credential_inside(workspace: MemoryWorkspace, url: str) -> None:
    with pytest.raises(errors.SecretFound, match="git_token") as caught:
        workspace.apply(workspaces.update, {"repository_url": url})
    assert "password@" not in caught.value.message
    assert TOKEN not in caught.value.message
    assert workspace.context.fields.repository_url is None


def test_webhooks(workspace: MemoryWorkspace) -> None:
    workspace.apply(workspaces.set_webhook, "github", "s3cr3t-8")
    assert documents.load(workspace.files["workspace.yaml"])["git_webhook_provider"] == "github"
    assert list(workspace.sealed) == [settings.WEBHOOK_SECRET]
    assert not any(b"s3cr3t" in data for data in workspace.files.values())
    before = len(workspace.commits)
    workspace.apply(workspaces.set_webhook, "github", "another-one")
    assert (len(workspace.commits), workspace.generation) == (before, 2)
    for provider, secret in (("svn", "s3cr3t-8"), ("github", "short"), ("github", None), (None, "s3cr3t-8")):
        with pytest.raises(errors.Invalid):
            workspace.apply(workspaces.set_webhook, provider, secret)
    assert workspace.apply(workspaces.clear_webhook)
    assert workspace.sealed == {}
    assert workspace.context.fields.git_webhook_provider is None
    assert not workspace.apply(workspaces.clear_webhook)
    assert workspace.commits[-1].kind == "workspace.updated"


def test_different_keys_never_touch_the_same_file(workspace: MemoryWorkspace) -> None:
    workspace.apply(memory.set, {"a": 1})
    workspace.apply(workspaces.update, {"name": "x", "settings": {"z": 1}})
    workspace.apply(memory.set, {"b": 1})
    touched = [set(commit.paths) for commit in workspace.commits[1:]]
    assert touched == [{"memory/a.yaml"}, {"workspace.yaml", "settings.yaml"}, {"memory/b.yaml"}]
    assert values.decode(workspace.context.memory_json()) == {"a": 1, "b": 1}
