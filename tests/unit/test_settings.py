"""Settings: echoed as sent, the token never in the repository, both spellings of storage understood."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from draft import WORKSPACE, MemoryWorkspace

from gitstore import documents, errors, record, rules, settings, values, workspaces

HEADER = f"id: {WORKSPACE}\nname: Payments\nslug: payments\nrepository_url: https://git.example/x.git\n".encode()
REMOTE = "https://git.example/w.git"
PLACEHOLDER = "redacted://workspace-settings-secret"
BLOCK = {"git_token": PLACEHOLDER, "git_token_configured": True}
TOKEN = "glpat-" + "Zq7Rk2Vn9Xw4Tb6Lp3Hs"  # in the form of a GitLab token, valid nowhere


@pytest.fixture
def workspace() -> MemoryWorkspace:
    return MemoryWorkspace.of({"workspace.yaml": HEADER})


@pytest.fixture
def alone() -> MemoryWorkspace:
    """A workspace without a repository URL."""
    return MemoryWorkspace.of({"workspace.yaml": HEADER.replace(b"repository_url: https://git.example/x.git\n", b"")})


def told(workspace: MemoryWorkspace) -> bytes | None:
    """Which URL the token is noted to be for."""
    return workspace.sealed.get(settings.TOKEN_SERVER)


def noted(url: str) -> bytes:
    return b"sealed:" + sha256(url.encode()).digest()


def shown(workspace: MemoryWorkspace) -> Any:
    return values.decode(record.settings(workspace.context.settings_around, settings.GIT_TOKEN in workspace.sealed))


def test_settings_come_back_as_they_were_sent(workspace: MemoryWorkspace) -> None:
    sent = {
        "z": 1,
        "default_branch": "main",
        "a": {"y": [1.5, None], "b": {}},
        "é": "x",
        "workspace_brief": "b" * 20_000,
    }
    assert workspace.apply(settings.update, sent)
    assert shown(workspace) == sent
    assert list(shown(workspace)) == list(sent)
    assert workspace.files["settings.yaml"] == documents.dump(sent)
    assert [(commit.kind, commit.name) for commit in workspace.commits] == [("settings.updated", "settings: update")]
    assert not workspace.apply(settings.update, sent)
    assert len(workspace.commits) == 1
    assert workspace.apply(settings.update, {"a": 1})
    assert shown(workspace) == {"a": 1}


def test_the_order_of_members_counts(workspace: MemoryWorkspace) -> None:
    workspace.apply(settings.update, {"a": 1, "b": 2})
    workspace.apply(settings.update, {"b": 2, "a": 1})
    assert list(shown(workspace)) == ["b", "a"]


def test_the_token_is_sealed_and_shown_as_a_placeholder(workspace: MemoryWorkspace) -> None:
    workspace.apply(settings.update, {"a": 1, "credentials": {"git_token": "s3cr3t-t0ken"}, "b": 2})
    assert "git_token" in workspace.sealed
    assert list(shown(workspace).items()) == [("a", 1), ("credentials", BLOCK), ("b", 2)]
    assert not any(b"s3cr3t" in data for data in workspace.files.values())
    assert workspace.context.problems == ()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_get_then_patch_changes_nothing(workspace: MemoryWorkspace, place: int) -> None:
    members: list[tuple[str, Any]] = [("a", 1), ("b", {"c": None})]
    members.insert(place, ("credentials", {"git_token": "s3cr3t"}))
    workspace.apply(settings.update, dict(members))
    before = (len(workspace.commits), workspace.generation)
    assert list(shown(workspace)) == [name for name, _ in members]
    assert not workspace.apply(settings.update, shown(workspace))
    assert (len(workspace.commits), workspace.generation) == before


def test_a_token_that_is_known_to_be_one_is_sealed_too(workspace: MemoryWorkspace) -> None:
    workspace.apply(settings.update, {"credentials": {"git_token": TOKEN}})
    assert shown(workspace) == {"credentials": BLOCK}


@pytest.mark.parametrize(
    "kept", [{"b": 2}, {"credentials": None, "b": 2}, {"credentials": {}, "b": 2}, {"credentials": BLOCK, "b": 2}]
)
def test_leaving_the_token_out_keeps_it(workspace: MemoryWorkspace, kept: dict[str, Any]) -> None:
    workspace.apply(settings.update, {"a": 1, "credentials": {"git_token": "s3cr3t"}})
    sealed = dict(workspace.sealed)
    workspace.apply(settings.update, kept)
    assert workspace.sealed == sealed
    assert shown(workspace) == {"b": 2, "credentials": BLOCK}


@pytest.mark.parametrize("clear", [{"git_token": None}, {"git_token": ""}, {"git_token_configured": False}])
def test_the_token_can_be_cleared(workspace: MemoryWorkspace, clear: dict[str, Any]) -> None:
    workspace.apply(settings.update, {"a": 1, "credentials": {"git_token": "s3cr3t"}})
    assert workspace.apply(settings.update, {"a": 1, "credentials": clear})
    assert workspace.sealed == {}
    assert shown(workspace) == {"a": 1}
    assert not workspace.apply(settings.update, {"a": 1, "credentials": clear})


def test_a_token_alone_is_a_change_without_a_commit(workspace: MemoryWorkspace) -> None:
    workspace.apply(settings.update, {"a": 1})
    assert workspace.apply(settings.update, {"a": 1, "credentials": {"git_token": "s3cr3t"}})
    assert len(workspace.commits) == 1
    assert workspace.generation == 1


def test_the_placeholder_where_there_is_no_token(workspace: MemoryWorkspace) -> None:
    assert not workspace.apply(settings.update, {"credentials": BLOCK})
    assert shown(workspace) == {}


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ([], "/settings"),
        ({"default_branch": 1}, "/settings/default_branch"),
        ({"default_branch": "b" * 256}, "/settings/default_branch"),
        ({"workspace_brief": "b" * 20_001}, "/settings/workspace_brief"),
        ({"planning_playbook_id": 7}, "/settings/planning_playbook_id"),
        ({"storage": "git_remote"}, "/settings/storage"),
        ({"storage": {"type": "floppy"}}, "/settings/storage/type"),
        ({"storage": {"type": ["git_remote"]}}, "/settings/storage/type"),
        ({"workspace_storage_type": "floppy"}, "/settings/workspace_storage_type"),
        ({"workspace_storage": []}, "/settings/workspace_storage"),
        ({"workspace_storage_type": "git_remote", "storage": {"type": "host_directory"}}, "/settings/storage/type"),
        ({"credentials": "x"}, "/settings/credentials"),
        ({"credentials": {"git_token": 1}}, "/settings/credentials/git_token"),
        ({"credentials": {"git_token": "a b"}}, "/settings/credentials/git_token"),
        ({"credentials": {"git_token": "a\n"}}, "/settings/credentials/git_token"),
        ({"credentials": {"git_token": "t" * 20_001}}, "/settings/credentials/git_token"),
        ({"credentials": {"git_token_configured": "yes"}}, "/settings/credentials/git_token_configured"),
        ({"credentials": {"npm_token": "x"}}, "/settings/credentials/npm_token"),
        ({"sync": {"direction": "up"}}, "/settings/sync/direction"),
        ({"sync": {"on_conflict": "panic"}}, "/settings/sync/on_conflict"),
        ({"sync": {"url": "file:///x"}}, "/settings/sync/url"),
        ({"sync": {"url": "https://u:p@git.example/x"}}, "/settings/sync/url"),
        ({"sync": []}, "/settings/sync"),
        *(
            ({"sync": {"url": REMOTE, "interval": wrong}}, "/settings/sync/interval")
            for wrong in (9, 604_801, 60.0, True, "60")
        ),
        *(
            ({"sync": {"url": REMOTE, "branch": wrong}}, "/settings/sync/branch")
            for wrong in (
                7,
                "-d",
                "a b",
                "a..b",
                "a.lock",
                "a.lock/b",
                ".a",
                "a/.b",
                "a/",
                "/a",
                "a//b",
                "@",
                "a@{1}",
                "ma*",
                "a:b",
                "a~1",
                "a^",
                "a?",
                "a[b",
                "a\\b",
                "a\n",
                "a.",
                "b" * 256,
            )
        ),
        (
            {"workspace_storage": {"repository_url": "https://u:p@git.example/x"}},
            "/settings/workspace_storage/repository_url",
        ),
    ],
)
def test_what_is_refused(workspace: MemoryWorkspace, wrong: Any, pointer: str) -> None:
    with pytest.raises(errors.Invalid) as caught:
        workspace.apply(settings.update, wrong)
    assert caught.value.details is not None
    assert caught.value.details["pointer"] == pointer
    assert pointer in caught.value.message
    assert workspace.commits == []
    assert workspace.sealed == {}


@pytest.mark.parametrize("brief", [None, "", "b" * 20_000])
def test_what_is_at_a_limit_passes(workspace: MemoryWorkspace, brief: str | None) -> None:
    token = "t" * 20_000
    workspace.apply(settings.update, {"workspace_brief": brief, "credentials": {"git_token": token}, "storage": None})
    assert shown(workspace)["workspace_brief"] == brief


@pytest.mark.parametrize(
    "spelling",
    [
        {"storage": {"type": "git_remote"}},
        {"workspace_storage_type": "git_remote"},
        {"workspace_storage_type": "git_remote", "workspace_storage": {"default_branch": "main"}},
    ],
)
def test_git_remote_needs_a_repository_url(workspace: MemoryWorkspace, spelling: dict[str, Any]) -> None:
    workspace.apply(settings.update, spelling)
    assert shown(workspace) == spelling
    bare = MemoryWorkspace.of({"workspace.yaml": f"id: {WORKSPACE}\nname: x\nslug: x\n".encode()})
    with pytest.raises(errors.Invalid, match="repository_url"):
        bare.apply(settings.update, spelling)
    inside = {"workspace_storage_type": "git_remote", "workspace_storage": {"repository_url": "https://git.example/x"}}
    bare.apply(settings.update, inside)
    assert shown(bare) == inside


def test_a_credential_elsewhere_in_the_settings_is_refused(workspace: MemoryWorkspace) -> None:
    with pytest.raises(errors.SecretFound, match="/model/key"):
        workspace.apply(settings.update, {"model": {"key": TOKEN}})


def test_a_persons_formatting_is_kept(workspace: MemoryWorkspace) -> None:
    workspace.edit({"settings.yaml": b"# ours\ndefault_branch: main  # always\nzone: eu\n"})
    workspace.apply(settings.update, {"default_branch": "main", "zone": "us"})
    assert workspace.files["settings.yaml"] == b"# ours\ndefault_branch: main  # always\nzone: us\n"


def test_a_broken_file_is_mended_even_by_the_last_good_value(workspace: MemoryWorkspace) -> None:
    workspace.apply(settings.update, {"a": 1})
    workspace.edit({"settings.yaml": b"a: [\n"})
    assert shown(workspace) == {"a": 1}
    assert workspace.apply(settings.update, {"a": 1})
    assert workspace.files["settings.yaml"] == b"a: 1\n"
    assert workspace.context.problems == ()


def test_a_place_for_credentials_that_are_gone_is_no_change(workspace: MemoryWorkspace) -> None:
    workspace.apply(settings.update, {"credentials": {"git_token": "s3cr3t"}, "b": 2})
    workspace.sealed.clear()
    assert shown(workspace) == {"b": 2}
    assert not workspace.apply(settings.update, shown(workspace))


REMOTES = [
    ({"sync": {"url": "https://a.example/w"}}, None, "https://a.example/w"),
    ({"sync": {"url": "https://a.example/w"}}, "https://b.example/code", "https://a.example/w"),
    ({}, "https://b.example/code", "https://b.example/code"),
    ({}, None, None),
]


@pytest.mark.parametrize(("value", "url", "expected"), REMOTES)
def test_a_token_is_for_the_remote_that_was_named_when_it_came(
    alone: MemoryWorkspace, value: Any, url: str | None, expected: str | None
) -> None:
    if url is not None:
        alone.apply(workspaces.update, {"repository_url": url})
    alone.apply(settings.update, {**value, "credentials": {"git_token": "t0k"}})
    assert told(alone) == (noted(expected) if expected is not None else None)


def test_only_a_change_of_the_remote_through_the_api_moves_the_token(alone: MemoryWorkspace) -> None:
    first, second = ({"sync": {"url": f"https://{name}.example/w"}} for name in "ab")
    alone.apply(settings.update, {**first, "credentials": {"git_token": "t0k"}})
    alone.edit({"settings.yaml": b"sync:\n  url: https://evil.example/w\n"})
    assert told(alone) == noted("https://a.example/w")
    alone.apply(settings.update, {"sync": {"url": "https://evil.example/w"}, "seen": True, "credentials": BLOCK})
    assert told(alone) == noted("https://a.example/w")
    alone.apply(settings.update, {**second, "credentials": BLOCK})
    assert told(alone) == noted("https://b.example/w")
    alone.apply(workspaces.update, {"repository_url": "https://c.example/w"})
    assert told(alone) == noted("https://b.example/w")
    alone.apply(settings.update, {"credentials": BLOCK})
    assert told(alone) == noted("https://c.example/w")
    alone.apply(workspaces.update, {"repository_url": "https://d.example/w"})
    assert told(alone) == noted("https://d.example/w")
    alone.apply(settings.update, {"credentials": {"git_token": ""}})
    assert alone.sealed == {}


def test_a_remote_to_follow_is_named(alone: MemoryWorkspace, workspace: MemoryWorkspace) -> None:
    with pytest.raises(errors.Invalid, match="/settings/sync/url"):
        alone.apply(settings.update, {"sync": {"direction": "pull"}})
    alone.apply(settings.update, {"sync": {"direction": None, "url": ""}})
    workspace.apply(settings.update, {"sync": {"direction": "pull"}})
    with pytest.raises(errors.Invalid, match="/settings/sync/url"):
        workspace.apply(workspaces.update, {"repository_url": None})


def test_what_is_left_out_of_sync(workspace: MemoryWorkspace) -> None:
    assert rules.sync({}, REMOTE) is None
    assert rules.sync({"sync": {}}, REMOTE) is None
    assert rules.sync({"sync": {"url": "", "branch": None}}, REMOTE) is None
    assert rules.sync({"sync": {"url": REMOTE}}, None) == (REMOTE, "main", "pull", 300, "stop")
    given = {"direction": "both", "branch": "refs/heads/w", "interval": 10, "on_conflict": "keep"}
    assert rules.sync({"sync": given}, REMOTE) == (REMOTE, "w", "both", 10, "keep")
    assert rules.sync({"sync": {"direction": "push"}, "default_branch": "trunk"}, REMOTE) == (
        REMOTE, "trunk", "push", 300, "stop",
    )  # fmt: skip
    for odd in ("a:b", "*", "--upload-pack=x"):
        found = rules.sync({"sync": {"direction": "push"}, "default_branch": odd}, REMOTE)
        assert found is not None
        assert found.branch == "main"
    for name in ("w", "a/b", "a.b", "feature/x-1", "ü", "a@b", "lock"):
        workspace.apply(settings.update, {"sync": {"url": REMOTE, "branch": name}})
