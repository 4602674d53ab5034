"""The parsed context: what each file gives, what is said of those that cannot be read, and what a change costs."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from draft import (
    LINK_MODE,
    START,
    SUBMODULE_MODE,
    WORKSPACE,
    MemoryTree,
    MemoryWorkspace,
    assert_same,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gitstore import documents, memory, names, parsed, values
from gitstore.context import Context
from gitstore.model import MEMORY_MAX_BYTES
from gitstore.repository.objects import Blob
from gitstore.repository.trees import Difference, Node, TreeEntry

HEADER = f"id: {WORKSPACE}\nname: Payments\nslug: payments\n".encode()
TOKEN = "glpat-" + "Zq7Rk2Vn9Xw4Tb6Lp3Hs"  # in the form of a GitLab token, valid nowhere


def load(files: dict[str, bytes], previous: Context | None = None, **modes: int) -> Context:
    tree = MemoryTree({"workspace.yaml": HEADER, **files}, modes)
    return Context.load(tree, previous=previous, now=START)


def only(context: Context) -> tuple[str, str]:
    (problem,) = context.problems
    return problem.path, problem.code


def test_a_whole_workspace() -> None:
    context = load(
        {
            "settings.yaml": b"# by hand\nzone: eu\nalpha: [1, 2]\n",
            "memory/b.yaml": b"true\n",
            "memory/a%2Fb.yaml": b"x: 1\n",
            "spec/tools.yaml": b"available: [git]\n",
            "spec/resources.yaml": b"{}\n",
            "files/notes.md": b"# hello",
            "files/sub/a.bin": b"\0",
            "files/sub/a.bin.meta.yaml": b"key: data\ncontent_type: application/x-thing\ndescription: a thing\n",
            "README.md": b"mine",
            "docs/any.txt": b"mine",
        }
    )
    assert context.problems == ()
    assert (context.fields.id, context.fields.name, context.fields.slug) == (WORKSPACE, "Payments", "payments")
    assert context.fields.is_active
    assert context.settings_json == b'{"zone":"eu","alpha":[1,2]}'
    assert context.memory_json() == b'{"a/b":{"x":1},"b":true}'
    assert context.memory_size == len(b'{"a/b":{"x":1},"b":true}')
    assert list(context.spec.items()) == [("resources", {}), ("tools", {"available": ["git"]})]
    assert list(context.files) == ["data", "notes-md"]
    thing = context.files["data"]
    assert (thing.file_name, thing.content_type, thing.description) == ("a.bin", "application/x-thing", "a thing")
    assert context.files["notes-md"].content_type == "text/markdown"


def test_an_empty_tree_has_one_problem_and_answers() -> None:
    context = Context.load(MemoryTree({}), previous=None, now=START)
    assert only(context) == ("workspace.yaml", "missing")
    assert context.memory_json() == b"{}"
    assert context.memory_size == 2
    assert context.settings_json == b"{}"


def test_keys_are_in_the_order_of_their_bytes() -> None:
    keys = ["é", "z", "B", "a", "\U0001f600", "\uffee", "a.b", "a-b", "10", "9"]
    context = load({f"memory/{names.memory_file(key)}": b"1\n" for key in keys})
    assert context.problems == ()
    assert list(context.memory) == sorted(keys, key=lambda key: key.encode())


def test_a_long_key_is_kept_inside_its_file() -> None:
    key = "k" * 256
    name = names.memory_file(key)
    assert name.startswith("~")
    context = load({f"memory/{name}": documents.dump({"key": key, "value": [1.5]})})
    assert context.problems == ()
    assert context.memory_json() == b'{"%b":[1.5]}' % key.encode()
    wrong = load({f"memory/{name}": documents.dump({"key": "j" * 256, "value": 1})})
    assert only(wrong) == (f"memory/{name}", "shape")
    assert only(load({f"memory/{name}": b"just: a value\n"})) == (f"memory/{name}", "shape")


def test_bad_yaml_keeps_the_last_good_value_and_says_where() -> None:
    good = load({"memory/a.yaml": b"first\n", "memory/b.yaml": b"2\n"})
    bad = load({"memory/a.yaml": b"one: 1\none: 2\n", "memory/b.yaml": b"3\n"}, good)
    (problem,) = bad.problems
    assert (problem.kind, problem.path, problem.code, problem.key) == ("invalid", "memory/a.yaml", "yaml", "a")
    assert (problem.line, problem.column) == (2, 1)
    assert bad.memory_json() == b'{"a":"first","b":3}'
    fresh = load({"memory/a.yaml": b"one: 1\none: 2\n", "memory/b.yaml": b"3\n"})
    assert fresh.memory_json() == b'{"b":3}'
    mended = load({"memory/a.yaml": b"one: 1\n", "memory/b.yaml": b"3\n"}, bad)
    assert mended.problems == ()
    assert mended.memory_json() == b'{"a":{"one":1},"b":3}'


def test_a_problem_keeps_its_id_and_the_time_it_was_first_seen() -> None:
    first = load({"memory/a.yaml": b"*x\n"})
    tree = MemoryTree({"workspace.yaml": HEADER, "memory/a.yaml": b"[1\n"})
    later = Context.load(tree, previous=first, now=START + 60_000)
    assert [problem.id for problem in later.problems] == [problem.id for problem in first.problems]
    assert later.problems[0].since == first.problems[0].since == values.iso(START)
    assert later.problems[0].message != first.problems[0].message


@pytest.mark.parametrize(
    ("path", "data", "code"),
    [
        ("settings.yaml", b"- a\n", "shape"),
        ("settings.yaml", b"storage: {type: floppy}\n", "shape"),
        ("settings.yaml", b"workspace_storage_type: git_remote\n", "storage"),
        ("settings.yaml", b"credentials: {git_token: abc}\n", "secret"),
        ("spec/resources.yaml", b"db: {type: ship, binding: {}}\n", "shape"),
        ("spec/tools.yml", b"{}\n", "extension"),
        ("spec/instructions.yaml", b'content: "{{ name }}"\n', "shape"),
        ("files/a.txt.meta.yaml", b"key: b\n", "orphan_meta"),
        ("memory/a.yml", b"1\n", "extension"),
        ("memory/sub/a.yaml", b"1\n", "folder"),
        ("Settings.yaml", b"{}\n", "case_twins"),
        ("evidence/a.yaml", b"{}\n", "reserved"),
        ("workspace.yml", b"{}\n", "extension"),
        ("memory", b"a file\n", "shape"),
    ],
)
def test_what_a_file_may_not_be(path: str, data: bytes, code: str) -> None:
    context = load({path: data})
    assert [problem.code for problem in context.problems] == [code]
    assert context.problems[0].kind == ("secret" if code == "secret" else "invalid")


@pytest.mark.parametrize(
    "header",
    [
        b"name: x\nslug: x\n",
        f"id: {WORKSPACE}\nslug: x\n".encode(),
        f"id: {WORKSPACE}\nname: x\nslug: -x\n".encode(),
        f"id: {WORKSPACE}\nname: x\nslug: x\nis_active: 'yes'\n".encode(),
        f"id: {WORKSPACE}\nname: x\nslug: x\nrepository_url: 'file:///etc'\n".encode(),
        f"id: {WORKSPACE}\nname: x\nslug: x\ndescription: {'d' * 2001}\n".encode(),
        b"id: 11111111-2222-4333-8444-555555555555\nname: x\nslug: x\n",
        b"just text\n",
    ],
)
def test_a_bad_header_keeps_the_last_one(header: bytes) -> None:
    before = load({})
    after = load({"workspace.yaml": header}, before)
    assert [problem.path for problem in after.problems] == ["workspace.yaml"]
    assert after.fields == before.fields


def test_settings_whose_repository_url_went_away() -> None:
    before = load(
        {
            "workspace.yaml": HEADER + b"repository_url: https://git.example/x\n",
            "settings.yaml": b"storage: {type: git_remote}\n",
        }
    )
    assert before.problems == ()
    tree = MemoryTree({"workspace.yaml": HEADER, "settings.yaml": b"storage: {type: git_remote}\n"})
    after = before.after(tree, {"workspace.yaml": HEADER}, START)
    assert only(after) == ("settings.yaml", "storage")
    assert after.settings == before.settings


def test_links_and_submodules_are_never_followed() -> None:
    modes = {
        "memory/link.yaml": LINK_MODE,
        "files/link": LINK_MODE,
        "spec/config.yaml": LINK_MODE,
        "vendor": SUBMODULE_MODE,
        "out": LINK_MODE,
    }
    context = load(dict.fromkeys(modes, b"/etc/passwd"), None, **modes)
    assert sorted(problem.path for problem in context.problems) == sorted(modes)
    assert {problem.code for problem in context.problems} == {"not_a_file"}
    assert context.memory_json() == b"{}"
    assert context.files == {}
    assert context.spec == {}


def test_a_file_that_became_a_link_keeps_what_it_said() -> None:
    files = {"settings.yaml": b"a: 1\n", "memory/a.yaml": b"1\n", "spec/tools.yaml": b"{}\n", "files/a.md": b"1"}
    good = load(files)
    linked = load(dict.fromkeys(files, b"/etc/passwd"), good, **dict.fromkeys(files, LINK_MODE))
    assert {(problem.path, problem.code) for problem in linked.problems} == {(path, "not_a_file") for path in files}
    assert (linked.settings, linked.memory, linked.spec, linked.files) == (
        good.settings,
        good.memory,
        good.spec,
        good.files,
    )


def test_folders_without_end() -> None:
    context = load({"files/" + "d/" * 2000 + "a.md": b"1", "files/b.md": b"1"})
    assert [problem.code for problem in context.problems] == ["depth"]
    assert list(context.files) == ["b-md"]


def test_names_that_differ_only_in_case() -> None:
    context = load({"memory/Key.yaml": b"1\n", "memory/key.yaml": b"2\n", "files/A.md": b"1", "files/a.md": b"2"})
    assert sorted((problem.path, problem.code) for problem in context.problems) == [
        ("files/a.md", "case_twins"),
        ("files/a.md", "two_files_one_key"),
        ("memory/key.yaml", "case_twins"),
    ]
    assert context.memory_json() == b'{"Key":1,"key":2}'


def test_two_files_for_one_key() -> None:
    before = load({"memory/a%62.yaml": b"1\n", "files/x.md": b"1", "files/y.md": b"2"})
    assert before.memory_json() == b'{"ab":1}'
    after = load(
        {
            "memory/a%62.yaml": b"1\n",
            "memory/ab.yaml": b"2\n",
            "files/x.md": b"1",
            "files/y.md": b"2",
            "files/y.md.meta.yaml": b"key: x-md\n",
        },
        before,
    )
    assert sorted((problem.path, problem.code) for problem in after.problems) == [
        ("files/y.md", "two_files_one_key"),
        ("memory/ab.yaml", "two_files_one_key"),
    ]
    assert after.memory_json() == b'{"ab":1}'
    assert after.files["x-md"].path == "files/x.md"


def test_a_secret_keeps_the_last_good_value() -> None:
    files = {
        "memory/a.yaml": b"clean\n",
        "settings.yaml": b"a: clean\n",
        "spec/config.yaml": b"a: clean\n",
        "files/a.txt": b"clean",
    }
    good = load(files)
    found = load(
        {
            "workspace.yaml": HEADER + f"description: {TOKEN}\n".encode(),
            "memory/a.yaml": f"{TOKEN}\n".encode(),
            "settings.yaml": f"a: {TOKEN}\n".encode(),
            "spec/config.yaml": f"a: {TOKEN}\n".encode(),
            "files/a.txt": f"token = {TOKEN}\n".encode(),
        },
        good,
    )
    assert sorted(problem.path for problem in found.problems) == sorted(["workspace.yaml", *files])
    assert {problem.kind for problem in found.problems} == {"secret"}
    assert not any(TOKEN in problem.message + problem.hint for problem in found.problems)
    assert (found.memory_json(), found.settings_json, found.spec) == (good.memory_json(), good.settings_json, good.spec)
    assert found.files == good.files
    assert found.fields == good.fields


def test_a_secret_that_was_committed_is_told_but_read() -> None:
    context = load({"memory/a.yaml": f"{TOKEN}\n".encode()})
    assert only(context) == ("memory/a.yaml", "secret")
    assert list(context.memory) == ["a"]
    tree = MemoryTree({"workspace.yaml": HEADER, "memory/a.yaml": f"{TOKEN}\n".encode()})
    assert Context.load(tree, previous=None, now=START, policy="allow").problems == ()


def test_the_policy_travels_with_the_context() -> None:
    tree = MemoryTree({"workspace.yaml": HEADER})
    first = Context.load(tree, previous=None, now=START, policy="allow")
    assert Context.load(tree, previous=first, now=START).policy == "allow"
    assert first.after(tree, {"settings.yaml": b"a: 1\n"}, START).policy == "allow"


def test_a_memory_that_a_person_made_too_large() -> None:
    before = load({"memory/a.yaml": b"1\n"})
    after = load({"memory/a.yaml": b"1\n", "memory/b.yaml": b"x" * MEMORY_MAX_BYTES + b"\n"}, before)
    assert only(after) == ("memory/b.yaml", "memory_too_large")


def test_foreign_bytes_in_names_are_told_not_raised() -> None:
    context = load({"memory/\udcff.yaml": b"1\n", "files/\udcfe.md": b"1"})
    assert sorted(problem.code for problem in context.problems) == ["name", "shape"]
    assert "\ufffd" in context.problems[0].path
    values.encode([problem.message for problem in context.problems])


def test_what_is_said_of_a_file_stays_while_its_meta_cannot_be_read() -> None:
    good = load({"files/a.md": b"1", "files/a.md.meta.yaml": b"key: k\ndescription: d\n"})
    bad = load({"files/a.md": b"1", "files/a.md.meta.yaml": b"key: [\n"}, good)
    assert only(bad) == ("files/a.md.meta.yaml", "yaml")
    assert (bad.files["k"].description, bad.files["k"].file_name) == ("d", "a.md")


# --- after ----------------------------------------------------------------------------------------------------------

PATHS = [
    "memory/a.yaml",
    "memory/A.yaml",
    "memory/b.yaml",
    "memory/%62.yaml",
    "memory/c%2Fd.yaml",
    "settings.yaml",
    "spec/resources.yaml",
    "spec/config.yaml",
    "files/a.md",
    "files/b.md",
    "files/sub/a.md",
    "files/a.md.meta.yaml",
    "README.md",
]
CONTENTS = [b"1\n", b"a: 1\n", b"key: b-md\n", b"[broken\n", b"'text'\n", b"", None]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(PATHS), st.sampled_from(CONTENTS), min_size=1, max_size=3), max_size=8))
def test_after_says_what_load_says(changes: list[dict[str, bytes | None]]) -> None:
    tree = MemoryTree({"workspace.yaml": HEADER})
    context = Context.load(tree, previous=None, now=START)
    for number, edits in enumerate(changes):
        before = tree
        held = {path: data for path, data in {**tree.files, **edits}.items() if data is not None}
        tree = MemoryTree(held)
        full = Context.load(tree, previous=context, now=START + number)
        assert_same(context.after(tree, edits, START + number), full)
        assert_same(context.after(before, edits, START + number), full)
        context = full


def two_hundred() -> MemoryWorkspace:
    files = {f"memory/key-{n:03}.yaml": documents.dump({"text": f"value {n} " * 8, "n": n}) for n in range(200)}
    return MemoryWorkspace.of({"workspace.yaml": HEADER, **files})


def test_a_write_through_the_api_reads_nothing() -> None:
    class Untouchable(MemoryTree):
        def read(self, path: str) -> bytes | None:
            raise AssertionError(f"{path} was read")

        def entries(self, folder: str = "") -> list[TreeEntry]:
            raise AssertionError(f"{folder} was listed")

    workspace = two_hundred()
    workspace.apply(memory.set, {"key-100": {"text": "changed"}})
    blob = Blob(documents.dump({"text": "new"}))
    parsed.remember(blob.id.hex(), {"text": "new"}, b'{"text":"new"}', head=b"", checked=True)
    after = workspace.context.after(Untouchable({}), {"memory/key-101.yaml": blob}, START)
    assert after.memory["key-101"].value_json == b'{"text":"new"}'
    assert workspace.context.memory["key-101"].value_json != b'{"text":"new"}'
    assert after.memory_size == len(after.memory_json())


def test_one_key_of_two_hundred_is_quick() -> None:
    context = two_hundred().context
    blob = Blob(documents.dump({"text": "new"}))
    parsed.remember(blob.id.hex(), {"text": "new"}, b'{"text":"new"}', head=b"", checked=True)
    tree = MemoryTree({})
    best = min(_seconds(lambda: context.after(tree, {"memory/key-100.yaml": blob}, START)) for _ in range(20))
    assert best < 60e-6  # 30 µs is what it must not exceed on a quiet machine


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    for _ in range(50):
        call()
    return (time.perf_counter() - start) / 50


def test_a_link_in_the_place_of_the_settings_is_told_where_only_that_differs() -> None:
    sound = MemoryTree({"workspace.yaml": HEADER})
    link = MemoryTree({"workspace.yaml": HEADER, "settings.yaml": b"/etc/passwd"}, {"settings.yaml": LINK_MODE})
    before = Context.load(sound, previous=None, now=START)
    there = Node(LINK_MODE, Blob(b"/etc/passwd").id)
    after = before.elsewhere(link, [Difference("settings.yaml", None, there)], START)
    assert only(after) == ("settings.yaml", "not_a_file")
    assert only(after) == only(Context.load(link, previous=before, now=START))
    assert after.after(link, {"settings.yaml": b"zone: eu\n"}, START).problems == ()
