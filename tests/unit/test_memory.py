"""Memory: set and delete, the limit to the byte, a person's formatting, secrets, preconditions."""

from __future__ import annotations

from typing import Any

import pytest
from draft import WORKSPACE, MemoryWorkspace
from hypothesis import given, settings
from hypothesis import strategies as st

from gitstore import documents, errors, memory, names, record, values
from gitstore.model import MEMORY_MAX_BYTES
from gitstore.precondition import Precondition

HEADER = f"id: {WORKSPACE}\nname: Payments\nslug: payments\n".encode()
TOKEN = "glpat-" + "Zq7Rk2Vn9Xw4Tb6Lp3Hs"  # in the form of a GitLab token, valid nowhere


@pytest.fixture
def workspace() -> MemoryWorkspace:
    return MemoryWorkspace.of({"workspace.yaml": HEADER})


def shown(workspace: MemoryWorkspace) -> Any:
    return values.decode(workspace.context.memory_json())


def test_set_delete_and_what_the_commits_say(workspace: MemoryWorkspace) -> None:
    assert workspace.apply(memory.set, {"release-policy": {"days": ["mon"]}}) == ["release-policy"]
    assert workspace.files["memory/release-policy.yaml"] == documents.dump({"days": ["mon"]})
    assert sorted(workspace.apply(memory.set, {"b": 1, "a": None, "release-policy": 2})) == ["a", "b", "release-policy"]
    assert workspace.apply(memory.delete, "b")
    assert shown(workspace) == {"a": None, "release-policy": 2}
    assert [(commit.kind, commit.name) for commit in workspace.commits] == [
        ("memory.updated", "memory: set release-policy"),
        ("memory.updated", "memory: set 3 keys"),
        ("memory.deleted", "memory: delete b"),
    ]


def test_nothing_changed_is_no_commit(workspace: MemoryWorkspace) -> None:
    workspace.apply(memory.set, {"a": {"x": 1, "y": 2}, "b": 1})
    assert workspace.apply(memory.set, {"a": {"x": 1, "y": 2}}) == []
    assert workspace.apply(memory.delete, "nothing") is False
    assert len(workspace.commits) == 1
    assert workspace.apply(memory.set, {"a": {"x": 1, "y": 2}, "b": 2}) == ["b"]
    assert workspace.commits[-1].paths == ("memory/b.yaml",)
    assert workspace.commits[-1].name == "memory: set b"


@pytest.mark.parametrize(
    ("old", "new"), [(1, 1.0), (1, True), (0, None), ({"x": 1, "y": 2}, {"y": 2, "x": 1}), ("1", 1)]
)
def test_what_only_looks_the_same_is_a_change(workspace: MemoryWorkspace, old: Any, new: Any) -> None:
    workspace.apply(memory.set, {"a": old})
    assert workspace.apply(memory.set, {"a": new}) == ["a"]
    assert workspace.context.memory["a"].value_json == values.encode(new)


def test_one_subject_is_one_line(workspace: MemoryWorkspace) -> None:
    workspace.apply(memory.set, {"a\nGitstore-Actor: root": 1})
    assert "\n" not in workspace.commits[0].name


@pytest.mark.parametrize("key", ["", "k" * 257])
def test_a_key_has_1_to_256_characters(workspace: MemoryWorkspace, key: str) -> None:
    with pytest.raises(errors.Invalid, match="1 to 256"):
        workspace.apply(memory.set, {key: 1})


@pytest.mark.parametrize("value", ["a\0b", "\ud800", float("nan"), [float("inf")], {"\0": 1}])
def test_what_is_not_json_is_refused(workspace: MemoryWorkspace, value: Any) -> None:
    with pytest.raises(errors.Malformed):
        workspace.apply(memory.set, {"a": value})
    assert workspace.commits == []


def test_keys_of_every_kind_live_side_by_side(workspace: MemoryWorkspace) -> None:
    keys = [
        "a",
        "A",
        "a/b",
        "..",
        ".",
        ".git",
        "CON",
        "a\\b",
        "é",
        "x" * 256,
        "x" * 255 + "X",
        "~",
        "%41",
        "a.yaml",
        " ",
    ]
    keys += ["\u202e", "tab\there", "-", "a:b", "key?", "\U0001f600" * 100]
    for number, key in enumerate(keys):
        workspace.apply(memory.set, {key: number})
    assert shown(workspace) == {key: number for number, key in enumerate(keys)}
    assert workspace.context.problems == ()
    assert len({names.fold(path) for path in workspace.files}) == len(keys) + 1
    for number, key in enumerate(keys):
        workspace.apply(memory.set, {key: -number})
    for key in keys:
        assert workspace.apply(memory.delete, key)
    assert list(workspace.files) == ["workspace.yaml"]


def test_two_new_keys_that_differ_only_in_case_in_one_change(workspace: MemoryWorkspace) -> None:
    workspace.apply(memory.set, {"Key": 1, "key": 2, "KEY": 3})
    assert shown(workspace) == {"KEY": 3, "Key": 1, "key": 2}
    assert workspace.context.problems == ()


def test_the_limit_is_exact(workspace: MemoryWorkspace) -> None:
    workspace.apply(memory.set, {"é": 1})
    room = MEMORY_MAX_BYTES - workspace.context.memory_size - len(',"b":""')
    with pytest.raises(errors.Invalid) as caught:
        workspace.apply(memory.set, {"b": "x" * (room + 1)})
    assert caught.value.details == {
        "memory_size_bytes": MEMORY_MAX_BYTES + 1,
        "memory_max_bytes": MEMORY_MAX_BYTES,
        "key": "b",
    }
    workspace.apply(memory.set, {"b": "x" * room})
    assert workspace.context.memory_size == MEMORY_MAX_BYTES == len(workspace.context.memory_json())
    with pytest.raises(errors.Invalid):
        workspace.apply(memory.set, {"é": 11})
    workspace.apply(memory.set, {"é": 2})
    workspace.apply(memory.set, {"b": "x" * (room - 1), "é": 11})
    assert workspace.context.memory_size == MEMORY_MAX_BYTES


def test_the_first_key_alone_may_fill_the_limit(workspace: MemoryWorkspace) -> None:
    value = "x" * (MEMORY_MAX_BYTES - len('{"a":""}'))
    with pytest.raises(errors.Invalid):
        workspace.apply(memory.set, {"a": value + "x"})
    workspace.apply(memory.set, {"a": value})
    assert workspace.context.memory_size == MEMORY_MAX_BYTES


def test_a_memory_over_the_limit_can_be_made_smaller(workspace: MemoryWorkspace) -> None:
    workspace.edit({"memory/a.yaml": b"x" * MEMORY_MAX_BYTES + b"\n", "memory/b.yaml": b"1\n"})
    workspace.now += 1
    workspace.apply(memory.set, {"a": "x" * (MEMORY_MAX_BYTES - 2)})
    with pytest.raises(errors.Invalid):
        workspace.apply(memory.set, {"b": 22})
    workspace.apply(memory.set, {"a": "small"})
    assert workspace.context.problems == ()


def test_all_or_nothing(workspace: MemoryWorkspace) -> None:
    with pytest.raises(errors.Invalid):
        workspace.apply(memory.set, {"a": 1, "": 2})
    assert workspace.commits == []


def test_a_persons_formatting_is_kept(workspace: MemoryWorkspace) -> None:
    workspace.edit({"memory/policy.yaml": b"# who may release\nwho: 'ops'   # for now\nwhen:\n    - monday\n"})
    workspace.apply(memory.set, {"policy": {"who": "dev", "when": ["monday"]}})
    data = workspace.files["memory/policy.yaml"]
    assert documents.load(data) == {"who": "dev", "when": ["monday"]}
    assert data.startswith(b"# who may release\nwho: ")
    assert data.endswith(b"   # for now\nwhen:\n    - monday\n")
    workspace.apply(memory.set, {"policy": {"who": "all", "when": ["monday"]}})
    assert b"# who may release" in workspace.files["memory/policy.yaml"]


def test_a_broken_file_is_mended_by_a_write(workspace: MemoryWorkspace) -> None:
    workspace.apply(memory.set, {"a": 1, "b": 1})
    workspace.edit({"memory/a.yaml": b"[1\n", "memory/new.yaml": b"{\n"})
    assert [problem.path for problem in workspace.context.problems] == ["memory/a.yaml", "memory/new.yaml"]
    workspace.apply(memory.set, {"b": 2})
    assert shown(workspace) == {"a": 1, "b": 2}
    assert [problem.path for problem in workspace.context.problems] == ["memory/a.yaml", "memory/new.yaml"]
    assert workspace.apply(memory.set, {"a": 1}) == ["a"], "the value is the last good one, the file is not"
    assert workspace.files["memory/a.yaml"] == b"1\n"
    workspace.apply(memory.set, {"new": 3})
    assert workspace.files["memory/new.yaml"] == b"3\n"
    assert workspace.context.problems == ()


def test_a_broken_file_can_be_deleted(workspace: MemoryWorkspace) -> None:
    workspace.apply(memory.set, {"a": 1})
    workspace.edit({"memory/a.yaml": b"[1\n"})
    assert workspace.apply(memory.delete, "a")
    assert "memory/a.yaml" not in workspace.files
    assert workspace.context.problems == ()


@pytest.mark.parametrize("value", [TOKEN, {"deep": [{"er": f"token={TOKEN}"}]}, {TOKEN: 1}])
def test_a_credential_is_refused(workspace: MemoryWorkspace, value: Any) -> None:
    with pytest.raises(errors.SecretFound) as caught:
        workspace.apply(memory.set, {"ok": 1, "my-key": value})
    assert TOKEN not in str(caught.value)
    assert "secret:" in caught.value.message
    assert "/my-key" in caught.value.message
    assert workspace.commits == []


def test_ordinary_text_and_references_are_kept(workspace: MemoryWorkspace) -> None:
    value = {"tokenizer": "cl100k", "password": "secret:DB_PASSWORD", "host": "a.b.c.d.example.com", "token": "x"}
    workspace.apply(memory.set, {"config": value})
    assert shown(workspace) == {"config": value}


def test_the_policy_may_allow_credentials(workspace: MemoryWorkspace) -> None:
    workspace.context = type(workspace.context).load(workspace.tree, previous=None, now=workspace.now, policy="allow")
    workspace.apply(memory.set, {"a": TOKEN})
    assert shown(workspace) == {"a": TOKEN}


def etag(workspace: MemoryWorkspace, key: str) -> str:
    entry = workspace.context.memory[key]
    return values.etag(record.render_memory_entry(entry, workspace.touches.get(entry.path)))


def test_preconditions_for_one_key(workspace: MemoryWorkspace) -> None:
    create = Precondition(if_none_match=("*",))
    workspace.apply(memory.set, {"a": 1}, precondition=create, key_etag=True)
    with pytest.raises(errors.PreconditionFailed) as caught:
        workspace.apply(memory.set, {"a": 2}, precondition=create, key_etag=True)
    assert caught.value.current == etag(workspace, "a")
    first = Precondition(if_match=(etag(workspace, "a"),))
    workspace.apply(memory.set, {"b": 1})
    workspace.apply(memory.set, {"a": 2}, precondition=first, key_etag=True)
    with pytest.raises(errors.PreconditionFailed):
        workspace.apply(memory.set, {"a": 3}, precondition=first, key_etag=True)
    with pytest.raises(errors.PreconditionFailed):
        workspace.apply(memory.delete, "a", precondition=first)
    with pytest.raises(errors.PreconditionFailed) as caught:
        workspace.apply(memory.delete, "unknown", precondition=first)
    assert caught.value.current is None
    assert workspace.apply(memory.delete, "a", precondition=Precondition(if_match=(etag(workspace, "a"),)))


def test_preconditions_for_the_whole(workspace: MemoryWorkspace) -> None:
    workspace.apply(memory.set, {"a": 1})
    before = memory.etag(workspace.context)
    workspace.apply(memory.set, {"b": 1}, precondition=Precondition(if_match=(before,)))
    with pytest.raises(errors.PreconditionFailed) as caught:
        workspace.apply(memory.set, {"c": 1}, precondition=Precondition(if_match=(before,)))
    assert caught.value.current == memory.etag(workspace.context) != before
    workspace.apply(memory.delete, "b")
    assert memory.etag(workspace.context) == before


keys = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6) | st.sampled_from(
    ["a", "A"]
)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
anything = st.recursive(
    leaves | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(keys, anything, min_size=1, max_size=3) | keys, max_size=6))
def test_whatever_is_written_is_read(changes: list[dict[str, Any] | str]) -> None:
    workspace = MemoryWorkspace.of({"workspace.yaml": HEADER})
    expected: dict[str, Any] = {}
    for change in changes:
        if isinstance(change, str):
            workspace.apply(memory.delete, change)
            expected.pop(change, None)
        else:
            workspace.apply(memory.set, change)
            expected |= change
    ordered = dict(sorted(expected.items(), key=lambda item: item[0].encode()))
    assert workspace.context.memory_json() == values.encode(ordered)
    assert workspace.context.problems == ()
