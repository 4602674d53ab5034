"""Large documents compared by their differing keys: the same places as by the whole of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitstore import documents
from gitstore.diff import differences
from gitstore.diff.members import NotPlain, apart, heads

LINES = [
    "a: 1", "b: 2", 'b: "x', 'c: y"', "c: [1,", "d: 2]", "  e: 'q'", "- f", "f: {g: 1}", "# h: 1", "", "i: |", "  j: 1",
    '  k: "["', "l: it's", "m: 'it''s'", 'n: "\\""', "o]p: [1", "q: ]r[", "a: 3", "---", 's: ["]"', "t: '[' # ']",
    "  u]v: [1", "w: 2] # [", "x: {", "}", "y: 'z", "  ' '",
]  # fmt: skip
NAMES = st.sampled_from(["a", "b c", "'", "#"])
VALUES = st.recursive(
    st.sampled_from([None, 1, "x", "it's", 'say "x"', "[a", "two\nlines\n", "# no", "", {}, []]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.dictionaries(st.sampled_from([f"key {n}" for n in range(8)] + ['"', "é", "a:b"]), VALUES, max_size=8)


def compared(older: bytes, newer: bytes) -> list[Any]:
    return list(differences(*apart(older, newer)))


@given(DOCUMENTS, DOCUMENTS)
@settings(max_examples=150, deadline=None)
def test_the_places_are_those_of_the_whole(old: Any, new: Any) -> None:
    older, newer = documents.dump(old), documents.dump(new)
    try:
        found = compared(older, newer)
    except NotPlain:
        return
    assert sorted(map(repr, found)) == sorted(map(repr, differences(old, new)))


@given(st.lists(st.sampled_from(LINES), max_size=8), st.lists(st.sampled_from(LINES), max_size=8))
@settings(max_examples=400, deadline=None)
def test_no_lines_whatever_mislead_it(one: list[str], other: list[str]) -> None:
    older, newer = ("".join(f"{line}\n" for line in lines).encode() for lines in (one, other))
    try:
        whole = [documents.load(data) for data in (older, newer)]
        found = compared(older, newer)
    except (NotPlain, documents.DocumentError):
        return
    assert sorted(map(repr, found)) == sorted(map(repr, differences(*whole)))


def test_a_change_of_one_key_of_many_is_seen_alone() -> None:
    value = {f"key-{n}": {"owner": "x", "n": n} for n in range(100)}
    old, new = apart(documents.dump(value), documents.dump({**value, "key-50": 1}))
    assert (list(old), list(new)) == (["key-50"], ["key-50"])


@pytest.mark.parametrize("data", [b"- a\n", b"? a\n", b"a\n", b"a: 1\r\nb: 2\n", b"%YAML 1.2\n", b"{a: 1}\n"])
def test_what_has_something_else_at_the_beginning_of_lines(data: bytes) -> None:
    with pytest.raises(NotPlain):
        heads(data)
