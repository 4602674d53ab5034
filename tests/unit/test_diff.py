import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from gitstore import documents
from gitstore.diff import Limits, ValueDiff, compare, differences, moved, unified
from gitstore.diff.hunks import NO_END, hunks, split
from gitstore.merging.sequences import Steps
from gitstore.repository.objects import BLOB, Object
from gitstore.repository.trees import EMPTY_TREE, Node, Tree, TreeView, rewrite


class Heap:
    """Objects in memory."""

    def __init__(self):
        self.trees, self.blobs = {}, {}

    def tree(self, oid):
        return self.trees[oid] if oid != EMPTY_TREE else Tree([], [], b"")

    def blob(self, oid):
        return self.blobs[oid]

    def view(self, files):
        edits = {}
        for path, data in files.items():
            mode, data = data if isinstance(data, tuple) else (0o100644, data)
            blob = Object(BLOB, data if isinstance(data, bytes) else data.encode())
            self.blobs[blob.id] = blob.data
            edits[path] = Node(mode, blob.id)
        root, made = rewrite(self, EMPTY_TREE, edits)
        self.trees |= {item.id: tree for item, tree in made}
        return TreeView(self, root)


def diff(old, new, **more):
    heap = Heap()
    return compare(heap.view(old), heap.view(new), "main", **more)


def values(old, new):
    return [(one.op, one.pointer, *(v for v in (one.old, one.new) if v is not UNSET)) for one in differences(old, new)]


def test_places_of_objects_are_named_by_their_keys():
    old = {"a": 1, "b": {"c/d": 1, "e~f": 2, "same": [1]}, "gone": None}
    new = {"b": {"same": [1], "c/d": True, "e~f": 2.0}, "a": 1, "new": {"x": 1}}
    assert values(old, new) == [
        ("removed", "/gone", None),
        ("changed", "/b/c~1d", 1, True),
        ("changed", "/b/e~0f", 2, 2.0),
        ("added", "/new", {"x": 1}),
    ]
    assert values({"a": 1, "b": 2}, {"b": 2, "a": 1}) == []
    assert values([1], {"a": 1}) == [("changed", "", [1], {"a": 1})]


def test_items_with_an_id_are_found_wherever_they_are():
    old = [{"id": "x", "n": 1}, {"id": "y", "n": 1}, {"id": "z", "n": 1}]
    new = [{"id": "w", "n": 0}, {"id": "x", "n": 2}, {"id": "z", "n": 1, "more": []}]
    assert values(old, new) == [
        ("added", "/0", {"id": "w", "n": 0}),
        ("changed", "/1/n", 1, 2),
        ("removed", "/1", {"id": "y", "n": 1}),
        ("added", "/2/more", []),
    ]


def test_an_item_that_moved_is_removed_and_added():
    old = [{"id": n} for n in "abcd"]
    assert values(old, [old[1], old[2], old[3], old[0]]) == [
        ("removed", "/0", {"id": "a"}),
        ("added", "/3", {"id": "a"}),
    ]


def test_items_without_an_id_changed_in_place_or_came_and_went():
    assert values([1, 2, 3], [1, 9, 3]) == [("changed", "/1", 2, 9)]
    assert values([1, 2, 3], [1, 3]) == [("removed", "/1", 2)]
    assert values(["a", "b"], ["a", "x", "y", "b"]) == [("added", "/1", "x"), ("added", "/2", "y")]
    assert values([{"a": 1}], [{"a": 2}]) == [("changed", "/0/a", 1, 2)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["a", "b", ""]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "a", "b/c", "~"]), inner, max_size=3)
    ),
    max_leaves=12,
)


def at(value, pointer):
    for part in pointer.split("/")[1:]:
        value = value[int(part) if isinstance(value, list) else part.replace("~1", "/").replace("~0", "~")]
    return value


@given(JSON, JSON)
@settings(max_examples=150, deadline=None)
def test_every_place_says_what_is_there(old, new):
    found = list(differences(old, new))
    assert (json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True)) == (not found)
    for one in found:
        if one.op != "added" and (one.op == "removed"):
            assert json.dumps(at(old, one.pointer)) == json.dumps(one.old)
        if one.op != "removed":
            assert json.dumps(at(new, one.pointer)) == json.dumps(one.new)
        assert (one.old is UNSET, one.new is UNSET) == (one.op == "added", one.op == "removed")


def test_lines_have_three_lines_around_them():
    old = "".join(f"{n}\n" for n in range(1, 21))
    new = old.replace("10\n", "ten\n").replace("1\n2", "2") + "end"
    first, second, third = hunks(old, new)
    assert (first.old_start, first.old_lines, first.new_start, first.new_lines) == (1, 4, 1, 3)
    assert first.lines == ["-1", " 2", " 3", " 4"]
    assert second.lines == [" 7", " 8", " 9", "-10", "+ten", " 11", " 12", " 13"]
    assert third.lines == [" 18", " 19", " 20", "+end", NO_END]
    assert list(hunks(old, old)) == []
    assert [one.lines for one in hunks("a", "a\n")] == [["-a", NO_END, "+a"]]


TEXT = st.lists(st.sampled_from(["a\n", "b\n", "c\r\n", "\n", "\x0b\n", "x"]), max_size=30).map("".join)


@given(TEXT, TEXT)
@settings(max_examples=150, deadline=None)
def test_hunks_make_the_new_text_of_the_old(old, new):
    out, done, lines = [], 0, split(old)
    for hunk in hunks(old, new):
        start = hunk.old_start - (1 if hunk.old_lines else 0)
        out += lines[done:start]
        assert len(out) == hunk.new_start - (1 if hunk.new_lines else 0)
        kept = [index for index, line in enumerate(hunk.lines) if line == NO_END]
        for index, line in enumerate(hunk.lines):
            if line != NO_END and line[0] in " +":
                out.append(line[1:] + ("" if index + 1 in kept else "\n"))
        done = start + hunk.old_lines
    assert "".join(out + lines[done:]) == new


def test_a_document_is_compared_by_key_and_by_line():
    old, new = documents.dump({"a": 1, "b": 2}), documents.dump({"a": 1, "b": 3})
    (found,) = diff({"memory/x%2Fy.yaml": old}, {"memory/x%2Fy.yaml": new})
    assert (found.op, found.part, found.key, found.type) == ("changed", "memory", "x/y", "values")
    assert found.values == [ValueDiff("changed", "/b", 2, 3)]
    assert [hunk.lines for hunk in found.hunks] == [[" a: 1", "-b: 2", "+b: 3"]]
    assert (found.old.size, found.new.digest[:7], found.truncated) == (len(old), "sha256:", False)


def test_a_document_that_came_or_went_is_one_place():
    data = documents.dump([1])
    (came,), (gone,) = diff({}, {"a.yaml": data}), diff({"a.yaml": data}, {})
    assert came.values == [ValueDiff("added", "", UNSET, [1])]
    assert (came.old, came.op) == (None, "added")
    assert gone.values == [ValueDiff("removed", "", [1])]
    assert (gone.new, gone.op) == (None, "deleted")


def test_what_is_no_document_is_text_and_what_is_no_text_is_binary():
    (broken,) = diff({"a.yaml": "a: 1\n"}, {"a.yaml": "a: [\n"})
    assert (broken.type, broken.values) == ("text", UNSET)
    (latin,) = diff({"a.txt": b"caf\xe9"}, {"a.txt": "café"})
    assert (latin.type, latin.hunks, latin.truncated) == ("binary", UNSET, False)
    (nul,) = diff({}, {"a.txt": b"\0"})
    assert nul.type == "binary"


def test_the_same_content_elsewhere_is_a_rename_by_gits_choice():
    found = diff(
        {"a/one.md": "x", "b/two.md": "x", "memory/k.yaml": "v\n"},
        {"c/two.md": "x", "c/zzz.md": "x", "d.md": "x", "memory/l.yaml": "v\n"},
    )
    assert [(one.op, one.old_path, one.path) for one in found] == [
        ("renamed", "b/two.md", "c/two.md"),
        ("renamed", "a/one.md", "c/zzz.md"),
        ("added", UNSET, "d.md"),
        ("renamed", "memory/k.yaml", "memory/l.yaml"),
    ]
    assert found[3].key == "l"
    assert found[3].hunks == []


def test_a_prefix_is_a_path_or_a_folder_and_sees_both_ends_of_a_rename():
    heap = Heap()
    before = heap.view({"docs/a": "1", "docs2/b": "2", "x": "3"})
    after = heap.view({"docs/a": "9", "docs2/b": "8", "docs/x": "3"})
    assert [one.path for one in moved(before, after, prefix="docs")] == ["docs/a", "docs/x"]
    assert [one.path for one in moved(before, after, prefix="x")] == ["docs/x"]
    assert [one.path for one in moved(before, after, prefix="/docs2/")] == ["docs2/b"]
    assert [one.path for one in moved(before, after, prefix="doc")] == []


def test_links_and_modes():
    heap = Heap()
    before = heap.view({"l": (0o120000, "there"), "run": "x"})
    after = heap.view({"l": (0o120000, "elsewhere"), "run": (0o100755, "x")})
    link, run = compare(before, after, "main")
    assert link.hunks[0].lines == ["-there", NO_END, "+elsewhere", NO_END]
    assert (run.op, run.hunks) == ("changed", [])
    assert "old mode 100644\nnew mode 100755\n" in "".join(unified(before, after))


@pytest.mark.parametrize(
    ("limits", "type_", "shown"),
    [
        (Limits(text=100), "binary", None),
        (Limits(document=100), "text", None),
        (Limits(values=3), "values", 3),
        (Limits(shown=50), "values", 0),
    ],
)
def test_what_is_beyond_a_limit_is_told(limits, type_, shown):
    old = documents.dump({f"k{n}": n for n in range(50)})
    new = documents.dump({f"k{n}": -n for n in range(1, 50)})
    (found,) = diff({"a.yaml": old}, {"a.yaml": new}, limits=limits)
    assert (found.type, found.truncated) == (type_, True)
    if shown:
        assert len(found.values) == shown
    if found.hunks is not UNSET:
        assert sum(len(line) for hunk in found.hunks for line in hunk.lines) <= limits.shown


def test_hostile_contents_have_a_bound():
    steps = Steps(200_000)
    old = "".join(f"{n * n % 7}\n" for n in range(40_000))
    new = "".join(f"{n * n * n % 11}\n" for n in range(40_000))
    found = list(hunks(old, new, steps))
    assert found
    many = [[(n * k) % 5 for k in range(400)] for n in range(200)]
    others = [[(n * k * k) % 3 for k in range(400)] for n in range(200)]
    assert list(differences(many, others, steps))
    # What one search may overrun its share by is one round of it.
    assert steps.left > -10_000
