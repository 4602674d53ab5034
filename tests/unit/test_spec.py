"""The spec: its rules, full replacement, versions, and the views of it."""

from __future__ import annotations

from typing import Any

import pytest
from draft import ACTOR, START, WORKSPACE, MemoryWorkspace

from gitstore import documents, errors, spec, values
from gitstore.model import Touch
from gitstore.precondition import Precondition

HEADER = f"id: {WORKSPACE}\nname: Payments\nslug: payments\n".encode()
TOKEN = "glpat-" + "Zq7Rk2Vn9Xw4Tb6Lp3Hs"  # in the form of a GitLab token, valid nowhere
WHOLE: dict[str, Any] = {
    "resources": {
        "code": {"type": "repository", "binding": {"url": "https://git.example/x.git"}, "notes": "ours"},
        "crm": {"type": "api", "binding": {"base_url": "https://crm.example", "auth": "secret:CRM_TOKEN"}},
        "find": {"type": "search", "binding": {"provider": "elastic"}, "notes": 7},
    },
    "documents": {
        "adr": {"path": "docs/adr.md"},
        "plan": {"source": "artifact", "logical_path": "plan.md"},
        "site": {"url": "https://x.example", "title": "t"},
    },
    "tools": {"available": ["git", "grep", "git", 3, " "], "blocked": ["rm"]},
    "config": {"api_key": "secret:KEY", "nested": {"token": "secret:T"}},
    "instructions": {"content": "Be kind to { and }.", "format": "markdown"},
}


@pytest.fixture
def workspace() -> MemoryWorkspace:
    return MemoryWorkspace.of({"workspace.yaml": HEADER})


def test_a_put_is_a_version_and_comes_back_as_written(workspace: MemoryWorkspace) -> None:
    assert workspace.apply(spec.put, WHOLE)
    assert workspace.spec_version == 1
    assert workspace.context.spec == WHOLE
    assert values.encode(workspace.context.spec) == values.encode(WHOLE), "orders and secret: references too"
    assert sorted(path for path in workspace.files if path.startswith("spec/")) == [
        f"spec/{part}.yaml" for part in ("config", "documents", "instructions", "resources", "tools")
    ]
    assert [(commit.kind, commit.name) for commit in workspace.commits] == [("spec.updated", "spec: version 1")]


def test_a_part_whose_file_says_nothing_is_an_empty_one_in_every_version(workspace: MemoryWorkspace) -> None:
    workspace.edit({"spec/tools.yaml": b"# nothing yet\n"})
    assert spec.read(workspace.tree) == workspace.context.spec == {"tools": {}}  # type: ignore[arg-type]


def test_an_identical_put_is_no_version(workspace: MemoryWorkspace) -> None:
    workspace.apply(spec.put, WHOLE)
    assert not workspace.apply(spec.put, {**WHOLE, "unknown": 1})
    assert (workspace.spec_version, len(workspace.commits)) == (1, 1)


def test_a_put_replaces_everything(workspace: MemoryWorkspace) -> None:
    workspace.apply(spec.put, WHOLE)
    assert workspace.apply(spec.put, {"tools": {}, "config": WHOLE["config"]})
    assert workspace.context.spec == {"tools": {}, "config": WHOLE["config"]}
    assert workspace.commits[-1].name == "spec: version 2"
    assert sorted(workspace.commits[-1].paths) == [
        "spec/documents.yaml",
        "spec/instructions.yaml",
        "spec/resources.yaml",
        "spec/tools.yaml",
    ]
    assert workspace.apply(spec.put, {})
    assert workspace.context.spec == {}
    assert workspace.spec_version == 3
    assert not workspace.apply(spec.put, {})


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"resources": []}, "/resources"),
        ({"config": None}, "/config"),
        ({"tools": "git"}, "/tools"),
        ({"resources": {"a": 1}}, "/resources/a"),
        ({"resources": {"a": {"type": "boat", "binding": {}}}}, "/resources/a/type"),
        ({"resources": {"a": {"type": ["api"], "binding": {}}}}, "/resources/a/type"),
        ({"resources": {"a/b": {"type": "api"}}}, "/resources/a~1b/binding"),
        ({"resources": {"a": {"type": "api", "binding": {"url": "x"}}}}, "/resources/a/binding/base_url"),
        ({"resources": {"a": {"type": "repository", "binding": {"url": " "}}}}, "/resources/a/binding/url"),
        ({"resources": {"a": {"type": "search", "binding": {"provider": 1}}}}, "/resources/a/binding/provider"),
        ({"resources": {" ": {"type": "search", "binding": {"provider": "x"}}}}, "/resources/ "),
        *(
            (
                {"resources": {"a": {"type": "search", "binding": {"provider": "x", key: "secret:X"}}}},
                f"/resources/a/binding/{key}",
            )
            for key in ("token", "API-Key", "apikey", "client_secret", "dbPassword", "credentials")
        ),
        (
            {"resources": {"a": {"type": "repository", "binding": {"url": "https://u:p@git.example/x"}}}},
            "/resources/a/binding/url",
        ),
        ({"documents": {"a": {}}}, "/documents/a"),
        ({"documents": {"a": []}}, "/documents/a"),
        ({"documents": {"a": {"source": "web", "url": "x"}}}, "/documents/a/source"),
        ({"documents": {"a": {"source": "external", "path": "x"}}}, "/documents/a/url"),
        ({"documents": {"a": {"source": "repository"}}}, "/documents/a/path"),
        ({"documents": {"a": {"source": "artifact", "logical_path": ""}}}, "/documents/a/logical_path"),
        ({"documents": {"": {"path": "x"}}}, "/documents/"),
        ({"instructions": {"content": 1}}, "/instructions/content"),
        ({"instructions": {"content": "hello {{ name"}}, "/instructions/content"),
        ({"instructions": {"content": "}}"}}, "/instructions/content"),
        ({"instructions": {"format": "html"}}, "/instructions/format"),
    ],
)
def test_rules(workspace: MemoryWorkspace, body: dict[str, Any], pointer: str) -> None:
    with pytest.raises(errors.Invalid) as caught:
        workspace.apply(spec.put, body)
    assert caught.value.details is not None
    assert caught.value.details["pointer"] == pointer
    assert workspace.commits == []


def test_a_credential_is_refused_wherever_it_stands(workspace: MemoryWorkspace) -> None:
    with pytest.raises(errors.SecretFound, match="/config/deep/0"):
        workspace.apply(spec.put, {"config": {"deep": [f"key {TOKEN}"]}})


def test_what_is_not_json_is_refused(workspace: MemoryWorkspace) -> None:
    with pytest.raises(errors.Malformed):
        workspace.apply(spec.put, {"config": {"a": "\0"}})


def test_the_precondition_is_held_against_the_version(workspace: MemoryWorkspace) -> None:
    create = Precondition(if_none_match=("*",))
    MemoryWorkspace.of({"workspace.yaml": HEADER}).apply(spec.put, WHOLE, precondition=create)
    first = spec.etag(0, {})
    workspace.apply(spec.put, {"tools": {}}, precondition=Precondition(if_match=(first,)))
    with pytest.raises(errors.PreconditionFailed) as caught:
        workspace.apply(spec.put, WHOLE, precondition=Precondition(if_match=(first,)))
    assert caught.value.current == spec.etag(1, {"tools": {}}) != first
    with pytest.raises(errors.PreconditionFailed):
        workspace.apply(spec.put, WHOLE, precondition=create)


def test_a_persons_formatting_is_kept(workspace: MemoryWorkspace) -> None:
    workspace.edit({"spec/config.yaml": b"# knobs\nspeed: 1  # slow\nsize: 2\n"})
    workspace.apply(spec.put, {"config": {"speed": 5, "size": 2}})
    assert workspace.files["spec/config.yaml"] == b"# knobs\nspeed: 5  # slow\nsize: 2\n"


def test_a_broken_file_is_mended_or_removed(workspace: MemoryWorkspace) -> None:
    workspace.apply(spec.put, {"config": {"a": 1}, "tools": {}})
    workspace.edit({"spec/config.yaml": b"a: [\n", "spec/tools.yaml": b"- x\n"})
    assert workspace.context.spec == {"config": {"a": 1}, "tools": {}}
    assert workspace.apply(spec.put, {"config": {"a": 1}})
    assert workspace.context.problems == ()
    assert workspace.context.spec == {"config": {"a": 1}}


def test_the_answer(workspace: MemoryWorkspace) -> None:
    assert spec.answer(WORKSPACE, 0, {}, None) == {
        "workspace_id": WORKSPACE,
        "version": 0,
        "spec": {},
        "created_at": None,
        "created_by_type": None,
        "created_by_id": None,
        "commit": None,
    }
    shown = spec.answer(WORKSPACE, 2, {"tools": {}}, Touch("c" * 40, START, ACTOR))
    assert list(shown.values()) == [WORKSPACE, 2, {"tools": {}}, values.iso(START), "admin", "k3f09a", "c" * 40]


def test_views() -> None:
    assert spec.resources(WHOLE) == [
        {
            "logical_name": "code",
            "type": "repository",
            "binding": {"url": "https://git.example/x.git"},
            "notes": "ours",
        },
        {
            "logical_name": "crm",
            "type": "api",
            "binding": {"base_url": "https://crm.example", "auth": "secret:CRM_TOKEN"},
        },
        {"logical_name": "find", "type": "search", "binding": {"provider": "elastic"}},
    ]
    assert [row["logical_name"] for row in spec.resources(WHOLE, "api")] == ["crm"]
    assert spec.resources(WHOLE, "boat") == []
    assert spec.resources({}) == []
    assert spec.tools(WHOLE) == {"available": ["git", "grep"], "blocked": ["rm"]}
    assert spec.tools({"tools": {"available": "git"}}) == {"available": [], "blocked": []}


def test_every_part_has_its_own_document(workspace: MemoryWorkspace) -> None:
    workspace.apply(spec.put, WHOLE)
    assert {part: documents.load(workspace.files[f"spec/{part}.yaml"]) for part in WHOLE} == WHOLE
