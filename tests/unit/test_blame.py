"""Blame against a replay of every version, forwards, each parsed as a whole."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitstore import documents
from gitstore.blame import Leaf, Line, Version, blame_leaves, blame_lines
from gitstore.blame import leaves as leaves_module
from gitstore.blame import versions as versions_module
from gitstore.blame.leaves import leaves
from gitstore.diff import members as members_module

KEYS = ["a", "b", "c/d", "1:2", "é", "it's", '"', "null", "long key with words"]


def carried(old: Any, new: Any, was: str, now: str, out: dict[str, str]) -> None:
    """Which leaves of the newer value are as they were. Lists hold texts that are there once, in one order."""
    if type(old) is dict and type(new) is dict and old and new:
        for key in new.keys() & old.keys():
            part = "/" + key.replace("~", "~0").replace("/", "~1")
            carried(old[key], new[key], was + part, now + part, out)
    elif type(old) is list and type(new) is list and old and new:
        for index, item in enumerate(new):
            if item in old:
                out[f"{now}/{index}"] = f"{was}/{old.index(item)}"
    elif type(old) is type(new) and old == new:
        out[now] = was


def replayed(versions: list[tuple[str, Any]]) -> dict[str, str]:
    """By leaf of the last value, who set it; `versions` oldest first, None: there was no file."""
    by: dict[str, str] = {}
    before: Any = None
    there = False
    for commit, value in versions:
        if value is None:
            there = False
            continue
        same: dict[str, str] = {}
        if there:
            carried(before[0], value[0], "", "", same)
        by = {pointer: by[same[pointer]] if pointer in same else commit for pointer, _ in leaves(value[0])}
        before, there = value, True
    return by


SCALARS = st.sampled_from([None, True, 0, 1, 1.0, "", "x", "two\nlines\n", "- dash", "a: b", "# no comment", {}, []])
WORDS = st.lists(st.sampled_from("pqrstuv"), unique=True, max_size=5).map(sorted)
VALUES = st.recursive(
    SCALARS | WORDS, lambda inner: st.dictionaries(st.sampled_from(KEYS), inner, max_size=5), max_leaves=15
)
DOCUMENTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6) | VALUES


@st.composite
def stories(draw: st.DrawFn) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    value = draw(DOCUMENTS)
    for number in range(draw(st.integers(1, 10))):
        act = draw(st.sampled_from(["key", "key", "key", "key", "anew", "gone"]))
        if act == "key" and type(value) is dict:
            value = dict(value)
            key = draw(st.sampled_from(KEYS))
            if draw(st.booleans()):
                value[key] = draw(VALUES)
            else:
                value.pop(key, None)
        elif act == "anew":
            value = draw(DOCUMENTS)
        found.append((f"c{number}", None if act == "gone" else (value,)))
    return [*found, ("last", (value,))]


def versions(story: list[tuple[str, Any]]) -> list[Version]:
    return [Version(commit, documents.dump(value[0]) if value else None) for commit, value in reversed(story)]


@given(stories(), st.integers(0, 10))
@settings(max_examples=60, deadline=None)
def test_leaves_are_those_of_a_replay(story: list[tuple[str, Any]], middle: int) -> None:
    wanted = replayed(story)
    every = versions(story)
    found = blame_leaves(every)
    assert {leaf.pointer: leaf.commit for leaf in found} == wanted
    assert [(leaf.pointer, leaf.value) for leaf in found] == list(leaves(story[-1][1][0]))
    older = every[min(middle, len(every) - 1) :]
    if older[0].data is not None:  # what came out for an older version serves the newer ones
        known = {older[0].commit: {leaf.pointer: leaf.commit for leaf in blame_leaves(older)}}
        upto = every[: len(every) - len(older) + 1]
        assert blame_leaves([*upto, Version("never", b"must not be read: [")], known) == found


def parsed_whole(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    sizes: list[int] = []
    real = documents.load

    def load(data: bytes) -> Any:
        sizes.append(len(data))
        return real(data)

    monkeypatch.setattr(leaves_module, "load", load)
    monkeypatch.setattr(members_module, "load", load)
    return sizes


def test_a_change_of_one_key_costs_that_key(monkeypatch: pytest.MonkeyPatch) -> None:
    value = {f"key {n}": {"a": n, "b": ["x"]} for n in range(200)}
    story: list[tuple[str, Any]] = [("c0", (value,))]
    chance = random.Random(1)
    for number in range(1, 60):
        value = {**value, f"key {chance.randrange(200)}": {"a": number, "b": ["x", "y"]}}
        story.append((f"c{number}", (value,)))
    every = versions(story)
    sizes = parsed_whole(monkeypatch)
    found = blame_leaves(every)
    assert {leaf.pointer: leaf.commit for leaf in found} == replayed(story)
    assert max(sizes[1:]) < 300 < sizes[0]


@pytest.mark.parametrize(
    "older",
    [
        b'a: 1\nb: "x\nc: y"\nd: 4\n',  # a key that is none: the quotes are closed on the next line
        b"a: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\n",
        b"{a: 1, b: 2, c: 3, d: 4}\n",
        b"# first\na: 1\n# second\nb: 2\n\nc: 3\n# third\nd: 4\n",
        b"a: 1\nb:\n- 2\nc: 3\nd: 4\n",
        b"a: 1\n'b': 2\nc: 3\nd: 4",
        b'a: 1\n"\\x62": 2\nc: 3\nd: 4\n',
        b"---\na: 1\nb: |+\n  2\n\nc: 3\nd: 4\n",
        b"a: 1\nb: >\n  2\n\n\n\nc: 3\nd: 4\n",
    ],
)
def test_documents_that_people_lay_out(older: bytes) -> None:
    newest = b"a: 1\nb: 2\nc: 3\nd: 4\n"
    for new, old in ((newest, older), (older, newest)):
        found = blame_leaves([Version("new", new), Version("old", old)])
        values = [(f"c{n}", (documents.load(data),)) for n, data in enumerate((old, new))]
        names = {"c0": "old", "c1": "new"}
        assert {leaf.pointer: leaf.commit for leaf in found} == {k: names[v] for k, v in replayed(values).items()}


def test_items_are_known_by_their_id_and_a_broken_version_is_passed_over() -> None:
    every = [
        Version("c4", documents.dump([{"id": "z", "n": 0}, {"id": "y", "n": 1}, {"id": "x", "n": 3}])),
        Version("broken", b"[:"),
        Version("c3", documents.dump([{"id": "y", "n": 1}, {"id": "x", "n": 3}])),
        Version("c2", documents.dump([{"id": "y", "n": 1}, {"id": "x", "n": 2}])),
        Version("c1", documents.dump([{"id": "x", "n": 2}])),
    ]
    assert [(leaf.pointer, leaf.commit) for leaf in blame_leaves(every)] == [
        ("/0/id", "c4"), ("/0/n", "c4"), ("/1/id", "c2"), ("/1/n", "c2"), ("/2/id", "c1"), ("/2/n", "c3"),
    ]  # fmt: skip


def test_what_is_older_than_was_read_names_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions_module, "VERSIONS_MAX", 2)
    every = [Version(f"c{n}", documents.dump({"a": 1, "b": n})) for n in range(5, 0, -1)]
    assert blame_leaves(every) == [Leaf("/a", 1, None), Leaf("/b", 5, "c5")]
    assert blame_leaves(every[:2]) == [Leaf("/a", 1, "c4"), Leaf("/b", 5, "c5")]  # all of them were read
    assert blame_lines(every) == [Line("a: 1", None), Line("b: 5", "c5")]


def test_versions_are_read_up_to_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = [Version(f"c{n}", b"{a: 1, b: %d}\n" % n) for n in range(5, 0, -1)]
    block = [Version(f"c{n}", b"a: 1\nb: {c: 1, d: %d}\n" % n) for n in range(5, 0, -1)]
    assert [leaf.commit for leaf in blame_leaves(flow)] == ["c1", "c5"]
    assert [leaf.commit for leaf in blame_leaves(block)] == ["c1", "c1", "c5"]
    with monkeypatch.context() as patch:
        patch.setattr(leaves_module, "_PARSED", 40)  # two of each
        assert [leaf.commit for leaf in blame_leaves(flow)] == [None, "c5"]
        assert [leaf.commit for leaf in blame_leaves(block)] == [None, None, "c5"]
    monkeypatch.setattr(versions_module, "BYTES_MAX", 50)
    for every in (flow, block):
        assert next(iter(blame_leaves(every))).commit is None
        assert blame_lines(every)[-1].commit == "c5"
    assert blame_lines(block)[0] == Line("a: 1", None)
    monkeypatch.setattr(versions_module, "BYTES_MAX", 1)
    assert blame_lines(block)[0] == Line("a: 1", None)  # the newest one is read whatever its size


def test_nothing_is_told_of_no_file_and_of_no_document() -> None:
    assert blame_leaves([]) == blame_leaves([Version("c", None)]) == []
    with pytest.raises(documents.DocumentError):
        blame_leaves([Version("c", b"[")])
    assert blame_lines([]) == blame_lines([Version("c", None)]) == blame_lines([Version("c", b"")]) == []
    with pytest.raises(UnicodeDecodeError):
        blame_lines([Version("c", b"\xff")])


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3), st.integers(0, 3)), max_size=12))
@settings(max_examples=50, deadline=None)
def test_lines_are_those_of_a_replay(edits: list[tuple[int, int, int]]) -> None:
    numbers = iter(range(10_000))
    lines = [(f"line {next(numbers)}", "c0") for _ in range(6)]
    every = [Version("c0", "".join(f"{text}\n" for text, _ in lines).encode())]
    for number, (at, gone, come) in enumerate(edits, 1):
        new = [(f"line {next(numbers)}", f"c{number}") for _ in range(come)]
        lines[at : at + gone] = new
        every.insert(0, Version(f"c{number}", "".join(f"{text}\n" for text, _ in lines).encode()))
    assert blame_lines(every) == [Line(*line) for line in lines]


def test_a_version_that_is_no_text_or_was_no_file_is_the_beginning() -> None:
    assert blame_lines([Version("c2", b"a\nb"), Version("gone", None), Version("c1", b"a\n")]) == [
        Line("a", "c2"),
        Line("b", "c2"),
    ]
    assert blame_lines([Version("c2", b"a\n"), Version("c1", b"\xff\n")]) == [Line("a", "c2")]
