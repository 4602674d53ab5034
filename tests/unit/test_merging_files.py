"""Merging files: the values are those of the structural merge, the comments of both sides are kept, nothing raises."""

from __future__ import annotations

import hashlib
import random
import re
from typing import Any

import pytest
from handwriting import Hand, changed, documents, values
from hypothesis import given, settings
from hypothesis import strategies as st

from gitstore.documents import MISSING, dump, load
from gitstore.merging import Clash, merge_file
from gitstore.merging.lines import merge_lines
from gitstore.merging.markers import marked, merge_marked
from gitstore.merging.values import alike, merge_values

BASE = b"""\
# Who may release, and when.
owner: platform-team
freeze: [fri, sat]

# How it is done
steps:
  - id: build
    title: Build   # on the farm
  - id: canary
    title: Canary
limits: {cpu: 2, mem: 4Gi}
"""


def edited(*pairs: tuple[bytes, bytes], data: bytes = BASE) -> bytes:
    for old, new in pairs:
        assert data.count(old) == 1, old
        data = data.replace(old, new)
    return data


def merged(ours: bytes, theirs: bytes, *pointers: str, base: bytes | None = BASE, path: str = "a.yaml") -> bytes:
    done = merge_file(path, base, ours, theirs)
    assert [clash.pointer for clash in done.clashes] == list(pointers)
    assert done.data is not None
    return done.data


def test_different_keys_on_adjacent_lines() -> None:
    ours, theirs = edited((b"platform-team", b"core")), edited((b"[fri, sat]", b"[fri]"))
    assert merged(ours, theirs) == edited((b"platform-team", b"core"), (b"[fri, sat]", b"[fri]"))


def test_one_line_with_two_changes() -> None:
    ours, theirs = edited((b"cpu: 2", b"cpu: 8")), edited((b"4Gi", b"16Gi"))
    assert merged(ours, theirs) == edited((b"cpu: 2", b"cpu: 8"), (b"4Gi", b"16Gi"))


def test_the_same_key_keeps_the_preferred_side_and_merges_the_rest() -> None:
    ours = edited((b"platform-team", b"core"), (b"cpu: 2", b"cpu: 8"))
    theirs = edited((b"platform-team", b"release"), (b"title: Canary", b"title: Canaries"))
    done = merge_file("memory/p.yaml", BASE, ours, theirs, prefer="theirs")
    assert done.data == edited(
        (b"platform-team", b"release"), (b"cpu: 2", b"cpu: 8"), (b"title: Canary", b"title: Canaries")
    )
    assert done.clashes == (Clash("memory/p.yaml", "/owner", "platform-team", "core", "release"),)
    assert done.clashes[0].text() == 'memory/p.yaml at /owner: "core" here, "release" there'
    assert done.clashes[0].swapped().ours == "release"


def test_comments_of_both_sides_stay() -> None:
    ours = edited((b"owner: platform-team", b"owner: core"), (b"title: Canary", b"title: Canary\n  - id: all  # mine"))
    theirs = edited(
        (b"owner: platform-team", b"owner: platform-team # ask first"),
        (b"# How", b"# This is how"),
        (b"title: Canary", b"title: Canary\n  # yours\n  - id: half"),
    )
    assert merged(ours, theirs) == edited(
        (b"owner: platform-team", b"owner: core # ask first"),
        (b"# How", b"# This is how"),
        (b"title: Canary", b"title: Canary\n  - id: all  # mine\n  # yours\n  - id: half"),
    )


def test_a_comment_of_one_side_meets_a_value_of_the_other_on_its_line() -> None:
    ours, theirs = edited((b"  # on the farm", b"  # in the cloud")), edited((b"title: Build", b"title: Make"))
    wanted = edited((b"  # on the farm", b"  # in the cloud"), (b"title: Build", b"title: Make"))
    assert merged(ours, theirs) == merged(theirs, ours) == wanted


def test_new_layout_of_one_side_and_new_value_of_the_other() -> None:
    ours, theirs = edited((b"{cpu: 2, mem: 4Gi}", b"\n  cpu: 2\n  mem: 4Gi")), edited((b"cpu: 2", b"cpu: 3"))
    assert merged(ours, theirs) == edited((b"{cpu: 2, mem: 4Gi}", b"\n  cpu: 3\n  mem: 4Gi"))


def test_both_add_the_file() -> None:
    data = merged(b"a: 1  # one\n", b"# two\nb: 2\n", base=None)
    assert load(data) == {"a": 1, "b": 2}
    assert b"# one" in data
    assert merge_file("x.yml", None, b"a: 1\n", b"a: 2\n").clashes == (Clash("x.yml", "/a", MISSING, 1, 2),)


def test_remove_and_change_is_a_clash_of_the_whole_file() -> None:
    done = merge_file("a.yaml", b"a: 1\n", None, b"a: 2\n")
    assert done.data is None
    assert done.clashes == (Clash("a.yaml", "", {"a": 1}, MISSING, {"a": 2}),)
    assert done.clashes[0].text() == 'a.yaml: removed here, {"a": 2} there'
    assert done.clashes[0].record() == {
        "path": "a.yaml",
        "pointer": "",
        "line": None,
        "base": {"a": 1},
        "theirs": {"a": 2},
    }
    assert merge_file("a.yaml", b"a: 1\n", None, b"a: 2\n", prefer="theirs").data == b"a: 2\n"


def test_a_document_that_cannot_be_read_is_one_place() -> None:
    done = merge_file("a.yaml", b"a: 1\nb: 1\n", b"a: [\nb: 1\n", b"a: 1\nb: 2\n")
    assert done.data == b"a: [\nb: 1\n"
    assert done.clashes == (Clash("a.yaml", "", {"a": 1, "b": 1}, "a: [\nb: 1\n", {"a": 1, "b": 2}),)


def test_text_by_lines() -> None:
    base = b"one\ntwo\nthree\nfour\nfive\n"
    ours, theirs = base.replace(b"one", b"1"), base.replace(b"three", b"3").replace(b"five\n", b"five")
    assert merged(ours, theirs, base=base, path="notes.md") == b"1\ntwo\n3\nfour\nfive"
    done = merge_file("notes.md", base, base.replace(b"two\n", b"a\nx\n"), base.replace(b"two\n", b"a\ny\n"))
    assert done.data == b"one\na\nx\nthree\nfour\nfive\n"
    assert done.clashes == (Clash("notes.md", "", "two\n", "x\n", "y\n", 3),)
    assert done.clashes[0].text("ours", "theirs") == 'notes.md, line 3: "x\\n" ours, "y\\n" theirs'
    touching = merge_file("notes.md", base, base.replace(b"one", b"1"), base.replace(b"two", b"2"))
    assert touching.clashes == (Clash("notes.md", "", "one\ntwo\n", "1\ntwo\n", "one\n2\n", 1),)


def test_bytes_that_are_no_text_are_one_place() -> None:
    done = merge_file("a.bin", b"\0", b"\0\1", b"\xff")
    assert done.data == b"\0\1"
    digest = hashlib.sha256(b"\xff").hexdigest()
    assert done.clashes[0].theirs == {"size_bytes": 1, "sha256": digest}


@given(documents(), documents())
@settings(max_examples=60, deadline=None)
def test_a_change_of_one_side_is_taken_byte_for_byte(one: tuple[str, Any], two: tuple[str, Any]) -> None:
    base, side = one[0].encode(), two[0].encode()
    for ours, theirs in ((base, side), (side, base), (side, side)):
        assert merge_file("a.yaml", base, ours, theirs) == merge_file("a.txt", base, ours, theirs)
        assert merge_file("a.yaml", base, ours, theirs).data == side


@given(values, values, values, st.randoms(use_true_random=False), st.sampled_from(["ours", "theirs"]))
@settings(max_examples=100, deadline=None)
def test_the_file_says_what_the_structural_merge_says(
    value: Any, x: Any, y: Any, source: random.Random, prefer: Any
) -> None:
    mine, yours = changed(source, value, x), changed(source, value, y)
    base, ours, theirs = (Hand(source).document(one).encode() for one in (value, mine, yours))
    done = merge_file("a.yaml", base, ours, theirs, prefer=prefer)
    wanted, clashes = merge_values(load(base), load(ours), load(theirs), prefer)
    assert done.data is not None
    if base not in (ours, theirs):
        assert alike(load(done.data), wanted)
        assert [clash.pointer for clash in done.clashes] == [clash.pointer for clash in clashes]


@given(st.lists(st.sampled_from("abcdef"), unique=True, min_size=2), st.data())
@settings(max_examples=60, deadline=None)
def test_remarks_of_both_sides_are_kept(keys: list[str], data: st.DataObject) -> None:
    def line(key: str, value: int, *remarks: str) -> str:
        return "".join(f"# {remark}\n" for remark in remarks) + f"{key}: {value}\n"

    at = st.sampled_from(keys)
    mine, yours, remark, other = (data.draw(at) for _ in range(4))
    base = "".join(line(key, 0) for key in keys)
    ours = "".join(line(key, int(key == mine), *["ours"] * (key == remark)) for key in keys)
    theirs = "".join(line(key, 2 * (key == yours), *["theirs"] * (key == other)) for key in keys)
    done = merge_file("a.yaml", base.encode(), ours.encode(), theirs.encode())
    assert done.data is not None
    assert done.data.count(b"# ours\n") == done.data.count(b"# theirs\n") == 1
    assert [clash.pointer for clash in done.clashes] == ([f"/{mine}"] if mine == yours else [])
    assert load(done.data) == {key: 1 if key == mine else 2 if key == yours else 0 for key in keys}


@given(
    st.sampled_from(["a.yaml", "a.txt", "\udcff.yml"]),
    *(st.one_of(st.none(), st.binary(max_size=12), st.text("ab:- \n#{}[]\r\0é", max_size=14).map(str.encode)),) * 3,
)
@settings(max_examples=200)
def test_no_bytes_make_it_fail(path: str, base: bytes | None, ours: bytes | None, theirs: bytes | None) -> None:
    one = merge_file(path, base, ours, theirs)
    two = merge_file(path, base, theirs, ours, prefer="theirs")
    assert [clash.path for clash in one.clashes] == [path] * len(one.clashes)
    assert all("\n" not in clash.text() for clash in one.clashes)
    assert one == merge_file(path, base, ours, theirs)
    assert len(one.clashes) == len(two.clashes)
    if one.data != two.data:  # the order of what both added
        assert path != "a.txt"


LINES = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "d\n", "e\n"]), max_size=8)


@given(LINES, LINES, LINES)
@settings(max_examples=200)
def test_lines_of_either_side_are_in_the_merge_or_in_a_clash(
    base: list[str], ours: list[str], theirs: list[str]
) -> None:
    done = merge_lines(*("".join(lines).encode() for lines in (base, ours, theirs)), "ours")
    assert done is not None
    text, clashes = done
    for side, part in ((ours, "ours"), (theirs, "theirs")):
        for line in set(side) - set(base):
            shown = text + b"".join(getattr(clash, part) for clash in clashes)
            assert line.encode() in shown
    lines = text.splitlines(keepends=True)
    for clash in clashes:
        here = clash.ours.splitlines(keepends=True)
        assert lines[clash.line - 1 : clash.line - 1 + len(here)] == here


def test_markers_enclose_what_differs() -> None:
    assert marked(b"a\nb\nc\n", b"a\nx\nc\n") == b"a\n<<<<<<< ours\nb\n=======\nx\n>>>>>>> theirs\nc\n"
    assert marked(b"a", b"b") == b"<<<<<<< ours\na\n=======\nb\n>>>>>>> theirs\n"
    assert marked(b"a\r\nb\r\n", b"a\r\n") == b"a\r\n<<<<<<< ours\r\nb\r\n=======\r\n>>>>>>> theirs\r\n"


def test_markers_stand_around_the_clash_in_the_merged_document() -> None:
    ours = edited((b"platform-team", b"core"), (b"cpu: 2", b"cpu: 8"))
    theirs = edited((b"platform-team", b"release"), (b"[fri, sat]", b"[fri]"), (b"4Gi", b"16Gi"))
    block = b"<<<<<<< ours\nowner: core\n=======\nowner: release\n>>>>>>> theirs"
    wanted = ((b"[fri, sat]", b"[fri]"), (b"cpu: 2", b"cpu: 8"), (b"4Gi", b"16Gi"), (b"owner: platform-team", block))
    assert merge_marked("a.yaml", BASE, ours, theirs).data == edited(*wanted)
    done = merge_marked("a.yaml", BASE, edited((b"sat]", b"sat")), theirs)  # cannot be read: by lines
    assert done.data is not None
    assert done.data.startswith(
        b"# Who may release, and when.\n<<<<<<< ours\nowner: platform-team\nfreeze: [fri, sat\n"
    )
    assert done.data.endswith(b"limits: {cpu: 2, mem: 16Gi}\n")
    assert merge_marked("a.bin", b"\0", b"\0\1", b"\0\2").data == b"\0\1"
    clean = merge_marked("a.yaml", BASE, ours, BASE)
    assert (clean.data, clean.clashes) == (ours, ())


@given(
    st.sampled_from(["a.yaml", "a.txt"]),
    *(st.one_of(st.binary(max_size=12), st.text("ab:- \n#{}[]\r\0é", max_size=14).map(str.encode)),) * 3,
)
@settings(max_examples=150, deadline=None)
def test_markers_show_both_sides(path: str, base: bytes, ours: bytes, theirs: bytes) -> None:
    done = merge_marked(path, base, ours, theirs)
    assert done.data is not None
    text = not any(b"\0" in side or side.decode(errors="replace").encode() != side for side in (ours, theirs))
    assert (b">>>>>>> theirs" in done.data) == (bool(done.clashes) and text)


HOSTILE = {
    "two large texts": ("a.txt", b"x\n" * 100_000, b"x\ny\n" * 60_000, b"y\nx\nx\n" * 50_000),
    "no line breaks": ("a.txt", b"x" * (4 << 20), b"y" * (4 << 20), b"z" * (4 << 20)),
    "shuffled lines": (
        "a.txt",
        *(b"".join(b"%d\n" % (n * step % 50_021) for n in range(50_021)) for step in (1, 7919, 104_729)),
    ),
    "a repetitive list": ("a.yaml", b"- [a]\n" * 30_000, b"- [a]\n- [b]\n" * 15_000, b"- [b]\n- [a]\n- [a]\n" * 12_000),
    "keys without end": (
        "a.yaml",
        *(b"".join(b"k%d: %d\n" % (n, n % step) for n in range(40_000)) for step in (40_000, 17, 19)),
    ),
    "nested deep": (
        "a.yaml",
        *(b"{a: " * 60 + b"[" + b"%d," % n * 30_000 + b"]" + b"}" * 60 for n in (1, 2, 3)),
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.timeout(60)
def test_hostile_input_ends(name: str) -> None:
    path, base, ours, theirs = HOSTILE[name]
    done = merge_file(path, base, ours, theirs)
    assert done.clashes
    assert all(re.fullmatch(r"[^\n]{1,1000}", clash.text()) for clash in done.clashes)
    assert merge_file(path, base, base, theirs).data == theirs


def test_a_merged_document_over_the_limits_is_one_place() -> None:
    base = dump({"n": 0})
    ours = dump({"n": 0, "o": "x" * (3 << 20)})
    theirs = dump({"n": 0, "t": "x" * (3 << 20)})
    done = merge_file("a.yaml", base, ours, theirs)
    assert done.data == ours
    assert [clash.pointer for clash in done.clashes] == [""]
