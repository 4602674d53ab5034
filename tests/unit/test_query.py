"""The query language: any text is a query of the explorer, and a strict one says what is wrong and where."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitstore.errors import WrongShape
from gitstore.search.query import (
    NODES_MAX,
    And,
    Field,
    Literal,
    Not,
    Phrase,
    Prefix,
    Query,
    parse,
    parse_strict,
    wanted,
)  # fmt: skip

PIECES = st.lists(
    st.sampled_from([*'abé東京-":*/ .\t', "role:", "kind:", "kind:memory", 'x"y', "-", "ab*"]) | st.text()
)


@pytest.mark.parametrize(
    ("q", "nodes"),
    [
        ("", ()),
        ("release  plan", (Literal("release"), Literal("plan"))),
        ('"Release Plan"', (Phrase(("release", "plan")),)),
        ("deploy*", (Prefix("deploy"),)),
        ("Über*", (Prefix("uber"),)),
        ("-draft plan", (Not(Literal("draft")), Literal("plan"))),
        ("role:writer", (Field("role", Literal("writer")),)),
        ('-Path:"a b"', (Not(Field("path", Phrase(("a", "b")))),)),
        ("type:text/markdown", (Field("type", Literal("text/markdown")),)),
        ("kind:memory", (Field("kind", Literal("memory")),)),
        ("東京*", (Prefix("東京"),)),
        ("a-b c_d 7.5", (Literal("a-b"), Literal("c_d"), Literal("7.5"))),
        ("?!", (Literal("?!"),)),
    ],
)
def test_both_read_what_is_syntax(q: str, nodes: tuple[Query, ...]) -> None:
    assert parse(q) == And(nodes)
    if any(not isinstance(node, Not) for node in nodes):
        assert parse_strict(q) == And(nodes)


@pytest.mark.parametrize(
    ("q", "nodes", "says", "at"),
    [
        ('say "hello', ("say", '"hello'), "not closed", 5),
        ('a"b c', ('a"b', "c"), "not closed", 1),
        ("d*", ("d*",), "2 characters or more", 1),
        ("* x", ("*", "x"), "end of one word", 1),
        ("de*oy", ("de*oy",), "end of one word", 1),
        ("a/b*", ("a/b*",), "end of one word", 1),
        ("see http://x/y", ("see", "http://x/y"), "no field `http`", 5),
        ("10:30 --x", ("10:30", "--x"), "only one `-`", 7),
        ("x role:-", ("x", "role:-"), "a letter or a digit", 3),
        ("kind:thing", ("kind:thing",), "one of artifact, memory", 1),
        ('x "…"', ("x", '"…"'), "a phrase needs", 3),
    ],
)
def test_what_is_no_syntax_is_text_or_a_fault(q: str, nodes: tuple[str, ...], says: str, at: int) -> None:
    assert parse(q) == And(tuple(map(Literal, nodes)))
    with pytest.raises(WrongShape) as caught:
        parse_strict(q)
    (fault,) = details(caught.value)
    assert fault["pointer"] == "/q"
    assert f"character {at}," in fault["message"]
    assert says in fault["message"]


def details(error: WrongShape) -> list[dict[str, str]]:
    assert error.details is not None
    found: Any = error.details["errors"]
    return list(found)


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(WrongShape) as caught:
        parse_strict('a* role:? "b')
    assert len(details(caught.value)) == 3


@pytest.mark.parametrize("q", ["", "  ", "-a", '-"a b" -role:x'])
def test_something_must_be_looked_for(q: str) -> None:
    with pytest.raises(WrongShape, match="cannot be read") as caught:
        parse_strict(q)
    assert "at least one word" in details(caught.value)[0]["message"]


def test_how_many_parts_there_may_be() -> None:
    many = " ".join(["word"] * (NODES_MAX + 1))
    assert parse(many) == And((Literal("word"),) * (NODES_MAX + 1))  # each of them must match
    with pytest.raises(WrongShape):
        parse_strict(many)


@given(PIECES.map("".join))
def test_any_text_is_a_query(q: str) -> None:
    found = parse(q)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(msgspec.to_builtins(found))) is not None
    with contextlib.suppress(WrongShape):
        assert parse_strict(q) == found


@given(st.lists(st.sampled_from(["release", "plan", '"a b"', "-x", "role:w", "de*"]), max_size=6))
def test_the_words_that_a_hit_is_shown_by(parts: list[str]) -> None:
    words = {"release": {"release"}, "plan": {"plan"}, '"a b"': {"a", "b"}, "-x": set(), "role:w": {"w"}, "de*": set()}
    assert wanted(parse(" ".join(parts))) == set().union(*(words[part] for part in parts))
