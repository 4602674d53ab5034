from __future__ import annotations

from typing import Any

import pytest
from draft import MemoryWorkspace

from gitstore import files, operations, settings
from gitstore.errors import Invalid, NotFound
from gitstore.operations import Operation, merge_patch


@pytest.fixture
def place() -> MemoryWorkspace:
    return MemoryWorkspace.of({"workspace.yaml": b"id: 7a3f1c2e-5b7d-4e21-9c38-0d6f5a4b3c21\nname: N\nslug: s\n"})


def do(place: MemoryWorkspace, operation: Operation) -> bool:
    return place.apply(operation.run)


@pytest.mark.parametrize(
    ("target", "patch", "wanted"),
    [  # RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: Any, patch: Any, wanted: Any) -> None:
    before = repr(target)
    assert merge_patch(target, patch) == wanted
    assert repr(target) == before


def test_a_patch_keeps_the_order() -> None:
    assert list(merge_patch({"b": 1, "a": {"y": 1, "x": 2}}, {"c": 1, "a": {"x": 3, "w": 4}})) == ["b", "a", "c"]
    assert list(merge_patch({"a": {"y": 1, "x": 2}}, {"a": {"x": 3, "w": 4}})["a"]) == ["y", "x", "w"]


def test_memory(place: MemoryWorkspace) -> None:
    assert do(place, operations.set_memory("a", 1))
    assert not do(place, operations.set_memory("a", 1))
    assert do(place, operations.delete_memory("a"))
    assert not do(place, operations.delete_memory("a"))


def test_spec(place: MemoryWorkspace) -> None:
    assert do(place, operations.put_spec({"tools": {"available": ["a"]}, "config": {"x": 1}}))
    assert do(place, operations.patch_spec({"config": None, "tools": {"blocked": ["b"]}}))
    assert place.context.spec == {"tools": {"available": ["a"], "blocked": ["b"]}}
    assert not do(place, operations.patch_spec({"tools": {"none": None}}))
    with pytest.raises(Invalid):
        do(place, operations.patch_spec({"tools": []}))


def test_settings_keep_their_token_and_its_place(place: MemoryWorkspace) -> None:
    assert do(place, operations.patch_settings({"a": 1, "credentials": {"git_token": "t0ken"}, "b": 2}))
    assert settings.GIT_TOKEN in place.sealed
    around = place.context.settings_around
    assert do(place, operations.patch_settings({"b": 3}))
    assert settings.GIT_TOKEN in place.sealed
    assert [around[0], place.context.settings_around[0]] == [b'"a":1'] * 2
    assert place.context.settings_around[1] == b'"b":3'
    assert not do(place, operations.patch_settings({"b": 3}))
    assert do(place, operations.patch_settings({"credentials": None}))
    assert settings.GIT_TOKEN not in place.sealed
    with pytest.raises(Invalid):
        do(place, operations.patch_settings({"credentials": {"other": "x"}}))


def test_files_and_fields(place: MemoryWorkspace) -> None:
    put = operations.put_file(files.upload(file_name="a.md", content=b"x"))
    assert (put.part, put.key) == ("file", "a-md")
    assert do(place, put)
    assert not do(place, put)
    assert do(place, operations.delete_file("a-md"))
    with pytest.raises(NotFound):
        do(place, operations.delete_file("a-md"))
    assert do(place, operations.patch_workspace({"name": "M"}))
    assert not do(place, operations.patch_workspace({"name": "M"}))
