"""Editing: the new value is always there, and nothing else in a person's file has moved."""

from __future__ import annotations

import copy
import difflib
import random
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from handwriting import changed, documents, same, texts, values
from hypothesis import assume, given
from hypothesis import strategies as st

from gitstore import errors
from gitstore.documents import DocumentError, dump, edit, load

MEMORY = """\
# Memory of the platform workspace. Edited by humans too.
release-policy:   # who owns releases
  owner: platform-team
  freeze: [fri, sat]   # no deploys

# keep this note 🙂
style: |
  Use short
  sentences.
limits: {cpu: 2, mem: 4Gi}
"""

MIXED = """\
a:
- 1   # one
# about two
- two: 2
  deux: {x: 1,
    y: 2, # why
  }
- - n
  - m

- z
b:
    c: "q"  # quoted
    d: 'single'
    # trailing

# about e
e:
# end"""


def touched(old: str, new: str) -> list[str]:
    """The changed lines, as a diff shows them."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), n=0, lineterm="")
    return [line for line in lines if line[:3] not in ("---", "+++") and line[:2] != "@@"]


def put(*path: Any) -> Callable[[Any], None]:
    """A change that puts the last of `path` in the place of what the others lead to."""

    def change(value: Any) -> None:
        for step in path[:-2]:
            value = value[step]
        value[path[-2]] = path[-1]

    return change


@pytest.mark.parametrize(
    ("text", "change", "lines"),
    [
        (MEMORY, put("limits", "cpu", 3), ["-limits: {cpu: 2, mem: 4Gi}", "+limits: {cpu: 3, mem: 4Gi}"]),
        (
            MEMORY,
            put("limits", "disk", "a, b"),
            ["-limits: {cpu: 2, mem: 4Gi}", '+limits: {cpu: 2, mem: 4Gi, disk: "a, b"}'],
        ),
        (MEMORY, lambda v: v["limits"].pop("cpu"), ["-limits: {cpu: 2, mem: 4Gi}", "+limits: {mem: 4Gi}"]),
        (MEMORY, put("limits", {}), ["-limits: {cpu: 2, mem: 4Gi}", "+limits: {}"]),
        (MEMORY, put("style", "one line"), ["-style: |", "-  Use short", "-  sentences.", "+style: one line"]),
        (MEMORY, put("style", "Use short\nwords.\n"), ["-  sentences.", "+  words."]),
        (MEMORY, put("release-policy", "owner", "x"), ["-  owner: platform-team", "+  owner: x"]),
        (
            MEMORY,
            lambda v: v["release-policy"]["freeze"].append("sun"),
            ["-  freeze: [fri, sat]   # no deploys", "+  freeze: [fri, sat, sun]   # no deploys"],
        ),
        (
            MEMORY,
            put("release-policy", None),
            [
                "-release-policy:   # who owns releases",
                "-  owner: platform-team",
                "-  freeze: [fri, sat]   # no deploys",
                "+release-policy: null   # who owns releases",
            ],
        ),
        (MEMORY, put("release-policy", "max", 3), ["+  max: 3"]),
        (MEMORY, put("new", [1, {"a": "b"}]), ["+new:", "+  - 1", "+  - a: b"]),
        (
            MEMORY,
            lambda v: v.pop("style"),
            ["-", "-# keep this note 🙂", "-style: |", "-  Use short", "-  sentences."],
        ),
        (MIXED, lambda v: v["a"].pop(0), ["-- 1   # one"]),
        (MIXED, put("a", 0, "one"), ["-- 1   # one", "+- one   # one"]),
        (MIXED, lambda v: v["a"].insert(1, {"k": [1]}), ["+- k:", "+  - 1"]),
        (
            MIXED,
            lambda v: v["a"].pop(1),
            ["-# about two", "-- two: 2", "-  deux: {x: 1,", "-    y: 2, # why", "-  }"],
        ),
        (MIXED, put("a", 1, "deux", "z", 3), ["+    z: 3,"]),
        (MIXED, lambda v: v["a"][1]["deux"].pop("y"), ["-    y: 2, # why"]),
        (MIXED, lambda v: v["a"][2].append([1]), ["+  - - 1"]),
        (MIXED, put("b", "c", 1), ['-    c: "q"  # quoted', "+    c: 1  # quoted"]),
        (MIXED, put("b", "c", "NO"), ['-    c: "q"  # quoted', '+    c: "NO"  # quoted']),
        (MIXED, put("b", "d", "it's"), ["-    d: 'single'", "+    d: 'it''s'"]),
        (MIXED, put("b", "c", {"x": 1}), ['-    c: "q"  # quoted', "+    c:  # quoted", "+        x: 1"]),
        (MIXED, put("b", "f", True), ["+    f: true"]),
        (MIXED, put("e", 5), ["-e:", "+e: 5"]),
        (MIXED, put("e", [5]), ["+- 5"]),
        (MIXED, put("f", 1), ["+f: 1"]),
    ],
)
@pytest.mark.parametrize("eol", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_only_what_must_change_changes(text: str, change: Any, lines: list[str], eol: str, mark: str) -> None:
    value = load(text.encode())
    change(value)
    new = edit((mark + text.replace("\n", eol)).encode(), value).decode()
    assert same(load(new.encode()), value)
    assert new.startswith(mark)
    assert not re.search("\n" if eol == "\r" else "(?<!\r)\n" if eol == "\r\n" else "\r", new)
    assert touched(text, new.removeprefix(mark).replace(eol, "\n")) == lines


def test_the_comment_that_heads_a_file_outlives_its_first_key() -> None:
    value = load(MEMORY.encode())
    del value["release-policy"]
    assert edit(MEMORY.encode(), value).decode() == MEMORY.splitlines(keepends=True)[0] + "".join(
        MEMORY.splitlines(keepends=True)[5:]
    )


def test_the_order_of_keys_is_a_part_of_the_value() -> None:
    text = "# head\n\n# one\na: 1 # x\nb: 2\n\n# three\nc: [1, # y\n  2]\n"
    new = edit(text.encode(), {"c": [1, 2], "a": 1, "b": 2})
    assert list(load(new)) == ["c", "a", "b"]
    assert sorted(new.decode().split()) == sorted(text.split())


def test_entries_on_the_line_of_their_dash() -> None:
    text = "- a: 1\n  # about b\n  b: 2\n- - 1 # one\n  - 2\n"
    assert edit(text.encode(), [{"b": 2}, [1, 2]]) == b"- \n  # about b\n  b: 2\n- - 1 # one\n  - 2\n"
    assert edit(text.encode(), [{"c": 0, "a": 1, "b": 2}, [2]]) == b"- c: 0\n  a: 1\n  # about b\n  b: 2\n- - 2\n"


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("3  # why\n", 4, "4  # why\n"),
        ("# head\n'x' # why\n# tail\n", "y z", "# head\n'y z' # why\n# tail\n"),
        ("--- 3\n", 4, "--- 4\n"),
        ("# head\n\nold\n", {"a": 1}, "# head\n\na: 1\n"),
        ("# head\n[1, 2] # c\n", [1, 3], "# head\n[1, 3] # c\n"),
        ("# head\na: 1 # c\n# tail\n", "text", "# head\ntext\n# tail\n"),
        ("# head\n|\n  old\n  text\n# tail\n", "new\ntext\n", "# head\n|\n  new\n  text\n# tail\n"),
        ("# head\na: {}\n", {}, "# head\n{}\n"),
        ("# head\n", {"a": 1}, "# head\na: 1\n"),
        ("# head", {"a": 1}, "# head\na: 1\n"),
        ("", [1], "- 1\n"),
        ("a: 1 #\n", None, "null\n"),
        ("a: |\n  text", {"a": "text", "b": 1}, "a: |-\n  text\nb: 1\n"),
        ("# head\na: 1", {"a": 2}, "# head\na: 2"),
        ("a: 1 # x\n...\n", {"a": 1, "b": 2}, "a: 1 # x\nb: 2\n...\n"),
        ("{? a : 1, b: 2} # c\n", {"a": 2, "b": 2}, "{a: 2, b: 2} # c\n"),
        ("[a: 1, b] # c\n", [{"a": 2}, "b"], "[{a: 2}, b] # c\n"),
        ("{a, b: } # c\n", {"a": 1, "b": 2}, "{a: 1, b: 2 } # c\n"),
        ("[ # x\n  a, # one\n  # two\n  b # three\n] # end\n", ["b"], "[ # x\n  # two\n  b # three\n] # end\n"),
        ("[ # x\n  a, # one\n  b # three\n]\n", ["a"], "[ # x\n  a # one\n]\n"),
        ("[\n  a, # one\n  b # three\n]\n", ["a", "b", "c"], "[\n  a, # one\n  b, # three\n  c\n]\n"),
        ("# h\n[ # x\n  # y\n  a, b]\n", ["b"], "# h\n[ # x\n b]\n"),
        ("a: |\n  x\n\n \n\nb: 1 #\n", {"a": "x\n", "b": 2}, "a: |\n  x\n\n \n\nb: 2 #\n"),
        ("a: |\n  x\n\n \n\nb: 1 #\n", {"a": "z", "b": 1}, "a: z\n\n \n\nb: 1 #\n"),
        ("a: |\n  x\n\n   \n\nb: 1 #\n", {"a": "z", "b": 1}, "a: z\n\nb: 1 #\n"),
        ("a: |+\n  x\n\n\nb: 1 #\n", {"a": "z", "b": 1}, "a: z\nb: 1 #\n"),
        ("a: | # why\n\n\nb: 1\n", {"a": "z", "b": 1}, "a: z # why\n\n\nb: 1\n"),
        ("a: x\n  # deep\nb: 1\n", {"a": "1\n2\n", "b": 1}, 'a: "1\\n2\\n"\n  # deep\nb: 1\n'),
        ("a: 1\n\n# section\n\nb: 2", {"a": 1}, "a: 1\n\n# section\n\n"),
        ("a: 1 #\n\nb: 2\n\nc: 3\n", {"a": 1, "c": 3}, "a: 1 #\n\nc: 3\n"),
        ("a: 1 #\n\nb: 2\n", {"b": 2}, "b: 2\n"),
        ("a: # one\n  # two\n  b: 1\n# c\n", {"a": 1}, "a: 1 # one\n# c\n"),
        ("a: # one\n  x # two\n", {"a": {"b": 1}}, "a: # two\n  b: 1\n"),
        ("a: [1,\n  2] # c\n", {"a": {"b": 1}}, "a: # c\n  b: 1\n"),
        ("a:   1 # c\n", {"a": 2}, "a:   2 # c\n"),
        ("# h\n[a, b, # x\n c]\n", ["a", "b"], "# h\n[a, b # x\n]\n"),
        ("# h\n[a,b,c]\n", ["a", "x", "b", "c"], "# h\n[a, x, b, c]\n"),
        ("# h\n{a: 'x'}\n", {"a": "y\nz"}, '# h\n{a: "y\\nz"}\n'),
        ("# h\n{a: 'x', b: [{c: 1}]}\n", {"a": "NO", "b": [{"c": "a]"}]}, "# h\n{a: 'NO', b: [{c: \"a]\"}]}\n"),
        ("# h\n{a: 1, b: 2}\n", {"b": 2, "a": 1}, "# h\n{b: 2, a: 1}\n"),
        ("? a # k\n: 1\nb: 2\n", {"a": 3, "b": 2}, "a: 3\nb: 2\n"),
    ],
)
def test_whole_documents(text: str, value: Any, expected: str) -> None:
    assert not same(load(text.encode()), value)
    assert edit(text.encode(), value).decode() == expected


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        # moved before a blank line, the block would end in one line break more
        ("# head\n\na: |+\n  x\n\nb: 1\n\n# tail\n", {"b": 1, "a": "x\n\n"}, '# head\n\nb: 1\na: "x\\n\\n"\n'),
        ("# head\r\n--- [1]\r\n", {"a": 1}, "# head\r\na: 1\r\n"),
        ("\n--- [1]\n", {"a": 1}, "a: 1\n"),
    ],
)
def test_a_layout_that_cannot_be_kept_is_written_anew_below_its_head(text: str, value: Any, expected: str) -> None:
    assert edit(text.encode(), value).decode() == expected


def test_a_file_that_would_be_too_large_if_we_had_written_it() -> None:
    text = "# head\nbig: " + "[" * 60 + "1," * 100_000 + "]" * 60 + " # x\n"
    with pytest.raises(errors.TooLarge):
        dump(load(text.encode()))
    assert edit(text.encode(), {"big": 5}) == b"# head\nbig: 5 # x\n"


def test_what_cannot_be_edited() -> None:
    with pytest.raises(DocumentError):
        edit(b"a: [", {})
    for value in ("\0", float("nan"), "\ud800"):
        with pytest.raises(errors.Malformed):
            edit(b"a: 1", value)
    with pytest.raises(errors.TooLarge):
        edit(b"a: 1", "x" * 5_000_000)


def test_the_same_value_is_the_same_file() -> None:
    assert edit(MIXED.encode(), load(MIXED.encode())) == MIXED.encode()
    for old, new in ((1, 1.0), (1, True), (0.0, -0.0)):
        assert same(load(edit(dump({"a": old}), {"a": new})), {"a": new})


@given(documents(), st.randoms(use_true_random=False), values)
def test_the_new_value_is_there(written: tuple[str, Any], source: random.Random, fresh: Any) -> None:
    text, value = written
    for target in (changed(source, value, fresh), changed(source, changed(source, value, fresh), 7), fresh):
        assert same(load(edit(text.encode(), target)), target)


def frame(text: str, key: str) -> tuple[int, int]:
    """From which line to which a top-level entry reaches, told by PyYAML; comments of the next entry not included."""
    lines = text.splitlines(keepends=True)
    pairs = yaml.compose(text, Loader=yaml.CSafeLoader).value
    at = next(index for index, (name, _) in enumerate(pairs) if name.value == key)
    start = pairs[at][0].start_mark.line
    stop = pairs[at + 1][0].start_mark.line if at + 1 < len(pairs) else len(lines)
    while stop > start + 1 and lines[stop - 1].startswith("#"):
        stop -= 1
    return start, stop


@given(documents(st.dictionaries(texts, values, min_size=1, max_size=5)), st.randoms(use_true_random=False), values)
def test_a_change_of_one_key_touches_only_its_lines(
    written: tuple[str, dict[str, Any]], source: random.Random, fresh: Any
) -> None:
    text, value = written
    text = text.removeprefix("\ufeff")
    assume(not re.search("[\x85\u2028\u2029\v\f\x1c-\x1e]", text))  # splitlines and YAML 1.1 would count other lines
    assume(not yaml.compose(text, Loader=yaml.CSafeLoader).flow_style)
    key = source.choice(list(value))
    target = {name: changed(source, item, fresh) if name == key else item for name, item in value.items()}
    new = edit(text.encode(), target).decode()
    assert same(load(new.encode()), target)
    start, stop = frame(text, key)
    old_lines, new_lines = text.splitlines(keepends=True), new.splitlines(keepends=True)
    assert new_lines[:start] == old_lines[:start]
    rest = old_lines[stop:]
    assert new_lines[len(new_lines) - len(rest) :] == rest


@given(st.text("ab:-#?[]{},'\"|> \n\r1", max_size=30), values, st.randoms(use_true_random=False))
def test_any_text_that_can_be_read_can_be_edited(text: str, fresh: Any, source: random.Random) -> None:
    try:
        value = load(text.encode())
    except DocumentError:
        assume(False)
    for target in (fresh, changed(source, value, fresh)):
        assert same(load(edit(text.encode(), target)), target)


@given(values, values, values)
def test_knowing_the_current_value_changes_nothing(old: Any, new: Any, other: Any) -> None:
    data = dump(old)
    assert edit(data, new) == edit(data, new, current=old) == dump(new)
    commented = b"# mine\n" + data
    assert edit(commented, new, current=old) == edit(commented, new) == edit(commented, new, current=other)


def test_a_list_of_thousands_is_edited_in_time() -> None:
    old = [f"item {number}" for number in range(20_000)]
    new = [f"thing {number}" for number in range(15_000)]
    data = b"# mine\n" + dump(old)
    begun = time.process_time()
    assert load(edit(data, new)) == new
    assert load(edit(data, [*old[:9000], "x", *old[9001:]])) == [*old[:9000], "x", *old[9001:]]
    assert time.process_time() - begun < 20


def test_the_value_given_is_not_changed() -> None:
    value = load(MIXED.encode())
    value["b"]["c"] = [1]
    before = copy.deepcopy(value)
    edit(MIXED.encode(), value)
    assert same(value, before)
