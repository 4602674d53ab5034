"""Merging values: the laws of a three-way merge, and what counts as one place."""

from __future__ import annotations

import random
from typing import Any

import pytest
from handwriting import changed, same, values
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gitstore.documents import MISSING
from gitstore.merging.values import Numbers, TooMany, alike, merge_values

# Objects all the way down, and lists of items with an id: every change in them has a name of its own.
_leaves = st.one_of(st.none(), st.integers(0, 2), st.sampled_from(["", "a"]), st.just(1.0), st.just([1, 1]))


def _named(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    items = st.lists(st.sampled_from("pqrs"), unique=True, min_size=1, max_size=4)
    listed = items.flatmap(
        lambda ids: st.tuples(*(inner.map(lambda value, one=one: {"id": one, "v": value}) for one in ids)).map(list)
    )
    return st.one_of(st.dictionaries(st.sampled_from(["k", "l", "m/~", ""]), inner, max_size=4), listed)


named = st.recursive(_leaves, _named, max_leaves=14)


def at(value: Any, pointer: str) -> Any:
    for part in pointer.split("/")[1:]:
        if isinstance(value, list):
            value = value[int(part)] if int(part) < len(value) else MISSING
        else:
            value = value.get(part.replace("~1", "/").replace("~0", "~"), MISSING)
    return value


def told_apart(value: Any) -> bool:
    """Whether all items of all lists have an id."""
    if isinstance(value, list):
        ids = [item["id"] if isinstance(item, dict) and isinstance(item.get("id"), str) else None for item in value]
        return None not in ids and len(set(ids)) == len(ids) and all(map(told_apart, value))
    return not isinstance(value, dict) or all(map(told_apart, value.values()))


def loose(value: Any) -> Any:
    """The value without any order."""
    if isinstance(value, dict):
        return ("object", tuple(sorted((key, repr(loose(item))) for key, item in value.items())))
    if isinstance(value, list):
        return ("list", tuple(sorted(repr(loose(item)) for item in value)))
    return (type(value).__name__, repr(value))


@given(values, values)
def test_a_change_of_one_side_is_the_result(base: Any, side: Any) -> None:
    for one, other in ((base, side), (side, base), (side, side)):
        merged, clashes = merge_values(base, one, other, "ours")
        assert same(merged, side)
        assert clashes == []


@given(values, values, st.randoms(use_true_random=False))
def test_a_change_somewhere_inside_meets_an_unchanged_side(base: Any, fresh: Any, source: random.Random) -> None:
    side = changed(source, base, fresh)
    assert same(merge_values(base, base, side, "ours")[0], side)
    assert same(merge_values(base, side, base, "theirs")[0], side)


@given(named, named, named)
@settings(max_examples=100, deadline=None)
def test_swapping_the_sides_gives_the_same_up_to_order(base: Any, ours: Any, theirs: Any) -> None:
    for prefer, other in (("ours", "theirs"), ("theirs", "ours")):
        one, clashes = merge_values(base, ours, theirs, prefer)  # type: ignore[arg-type]
        two, mirrored = merge_values(base, theirs, ours, other)  # type: ignore[arg-type]
        assert loose(one) == loose(two)
        assert sorted(repr((loose(c.base), loose(c.ours), loose(c.theirs))) for c in clashes) == sorted(
            repr((loose(c.base), loose(c.theirs), loose(c.ours))) for c in mirrored
        )


@given(values, values, values, st.sampled_from(["ours", "theirs"]))
@settings(max_examples=100, deadline=None)
def test_at_every_clash_stands_the_preferred_value(base: Any, ours: Any, theirs: Any, prefer: Any) -> None:
    merged, clashes = merge_values(base, ours, theirs, prefer)
    for clash in clashes:
        wanted = clash.ours if prefer == "ours" else clash.theirs
        if wanted is not MISSING:
            assert same(at(merged, clash.pointer), wanted)
        assert not same(clash.ours, clash.theirs)
        assert not same(clash.base, clash.ours)
        assert not same(clash.base, clash.theirs)


@given(named, st.randoms(use_true_random=False), named, named)
@settings(max_examples=100, deadline=None)
def test_a_result_without_clash_has_every_change_of_both(base: Any, source: random.Random, x: Any, y: Any) -> None:
    ours, theirs = changed(source, base, x), changed(source, base, y)
    assume(all(map(told_apart, (base, ours, theirs))))
    merged, clashes = merge_values(base, ours, theirs, "ours")
    if not clashes:  # then merging either side in again changes nothing
        for side in (ours, theirs):
            again, more = merge_values(base, merged, side, "ours")
            assert more == []
            assert loose(again) == loose(merged)


@given(st.dictionaries(st.text(max_size=2), values, max_size=6), values, values, st.randoms(use_true_random=False))
def test_changes_of_different_keys_are_both_there(base: dict[str, Any], x: Any, y: Any, source: random.Random) -> None:
    keys = [*base, "ours", "theirs"]
    source.shuffle(keys)
    mine, yours = keys[: len(keys) // 2], keys[len(keys) // 2 :]
    a, b = source.choice(mine), source.choice(yours)
    ours = {**base, a: x} if source.random() < 0.7 else {k: v for k, v in base.items() if k != a}
    theirs = {**base, b: y} if source.random() < 0.7 else {k: v for k, v in base.items() if k != b}
    merged, clashes = merge_values(base, ours, theirs, "ours")
    assert clashes == []
    assert same(merged.get(a, MISSING), ours.get(a, MISSING))
    assert same(merged.get(b, MISSING), theirs.get(b, MISSING))
    assert all(same(merged[key], base[key]) for key in base if key not in (a, b))


CASES: list[tuple[str, Any, Any, Any, Any, list[str]]] = [
    # what, base, ours, theirs, merged with ours preferred, pointers of the clashes
    ("both add an object", {}, {"a": {"x": 1}}, {"a": {"y": 2}}, {"a": {"x": 1, "y": 2}}, []),
    ("the same key", {"a": 1}, {"a": 2}, {"a": 3}, {"a": 2}, ["/a"]),
    ("a number's type is a change", {"a": 1}, {"a": 1.0}, {"a": True}, {"a": 1.0}, ["/a"]),
    ("delete and change", {"a": {"b": 1}}, {}, {"a": {"b": 2}}, {}, ["/a"]),
    ("change and delete", {"a": {"b": 1}}, {"a": {"b": 2}}, {}, {"a": {"b": 2}}, ["/a"]),
    ("both delete", {"a": 1, "b": 1}, {"b": 1}, {"b": 1, "c": 1}, {"b": 1, "c": 1}, []),
    ("escaped", {"a/b": {"~": 1}}, {"a/b": {"~": 2}}, {"a/b": {"~": 3}}, {"a/b": {"~": 2}}, ["/a~1b/~0"]),
    (
        "order of keys",
        {"a": 1, "z": 1},
        {"a": 1, "o": 1, "z": 1},
        {"a": 1, "t": 1, "z": 2},
        {"a": 1, "o": 1, "t": 1, "z": 2},
        [],
    ),
    ("both append words", ["a"], ["a", "o"], ["a", "t"], ["a", "o", "t"], []),
    ("both append the same word", ["a"], ["a", "x"], ["a", "x", "y"], ["a", "x", "y"], []),
    ("remove and append words", ["a", "b"], ["b"], ["a", "b", "c"], ["b", "c"], []),
    ("one word replaced by two", ["a", "b"], ["x", "b"], ["y", "b"], ["x", "b"], [""]),
    ("argument replaced twice", ["--env", "dev"], ["--env", "prod"], ["--env", "test"], ["--env", "prod"], [""]),
    ("coordinates", [10, 20], [11, 20], [10, 21], [11, 21], []),
    ("a new list on both sides", MISSING, ["a"], ["b"], ["a", "b"], []),
    ("booleans have no identity", [True, False], [True], [False], [True], [""]),
    ("repeated words, apart", [*"aaba"], [*"xaba"], [*"aabay"], [*"xabay"], []),
    ("repeated words, together", ["a", "a"], ["a", "a", "o"], ["a", "a", "t"], ["a", "a", "o"], [""]),
    (
        "items without a name, changed in place",
        [{"t": 1}, {"t": 2}],
        [{"t": 1}, {"t": 3}],
        [{"t": 4}, {"t": 2}],
        [{"t": 4}, {"t": 3}],
        [],
    ),
    ("one item, two of its keys", [{"t": 1, "u": 1}], [{"t": 2, "u": 1}], [{"t": 1, "u": 2}], [{"t": 2, "u": 2}], []),
    (
        "a moved item is not changed in place",
        [{"t": 1}, {"t": 2}],
        [{"t": 2}, {"t": 1}],
        [{"t": 1, "x": 0}, {"t": 2}],
        [{"t": 2}, {"t": 1}],
        [""],
    ),
    ("lists of two kinds", {"l": [1]}, {"l": {"a": 1}}, {"l": [2]}, {"l": {"a": 1}}, ["/l"]),
    (
        "items by id",
        [{"id": "a", "v": 1}, {"id": "b", "v": 1}],
        [{"id": "a", "v": 2}, {"id": "b", "v": 1}, {"id": "o"}],
        [{"id": "t"}, {"id": "a", "v": 1, "w": 1}],
        [{"id": "t"}, {"id": "a", "v": 2, "w": 1}, {"id": "o"}],
        [],
    ),
    (
        "an item removed and changed",
        [{"name": "a", "v": 1}, {"name": "b"}],
        [{"name": "b"}],
        [{"name": "a", "v": 2}, {"name": "b"}],
        [{"name": "b"}],
        ["/0"],
    ),
    (
        "an id that is not unique is none; a name serves",
        [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}],
        [{"id": 1, "name": "a", "o": 1}, {"id": 1, "name": "b"}],
        [{"id": 1, "name": "b"}],
        [{"id": 1, "name": "a", "o": 1}, {"id": 1, "name": "b"}],
        ["/0"],
    ),
    (
        "an id is a text or a number, and they differ",
        [{"id": 1}],
        [{"id": 1}, {"id": "1"}],
        [{"id": 1, "t": 1}],
        [{"id": 1, "t": 1}, {"id": "1"}],
        [],
    ),
    (
        "the other side's new order, and our new item",
        [{"id": 1}, {"id": 2}, {"id": 3}],
        [{"id": 1}, {"id": 2, "o": 1}, {"id": 9}, {"id": 3}],
        [{"id": 3}, {"id": 1}, {"id": 2}],
        [{"id": 3}, {"id": 1}, {"id": 2, "o": 1}, {"id": 9}],
        [],
    ),
]


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "wanted", "pointers"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_cases(base: Any, ours: Any, theirs: Any, wanted: Any, pointers: list[str]) -> None:
    merged, clashes = merge_values(base, ours, theirs, "ours")
    if wanted == {} and pointers == ["/a"]:
        assert clashes[0].ours is MISSING
    assert same(merged, wanted), merged
    assert [clash.pointer for clash in clashes] == pointers


def test_numbers_tell_apart_what_python_calls_equal() -> None:
    numbers = Numbers()
    different: list[Any] = [1, 1.0, True, "1", [1], [1.0], {"a": 1}, {"a": True}, 0.0, -0.0, {"a": 1, "b": 2}]
    equal: list[Any] = [[{"a": [1]}], [{"a": [1]}]]
    turned = {"b": 2, "a": 1}
    assert len(set(map(numbers.of, [*different, turned]))) == 12
    assert len(set(map(numbers.of, equal))) == 1
    assert alike({"a": 1, "b": [2]}, {"b": [2], "a": 1})
    assert not alike({"a": 1}, {"a": 1.0})


def test_documents_with_nothing_in_common_are_given_up() -> None:
    sides = [{str(key): f"{side} {key}" for key in range(2000)} for side in ("base", "ours", "theirs")]
    with pytest.raises(TooMany):
        merge_values(*sides, "ours")
