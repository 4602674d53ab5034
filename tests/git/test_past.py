"""The past against git: in random histories, with merges and broken files, a read at any commit is what git shows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from git.conftest import git
from git.drawn import Step, histories, make
from gitstore import documents, names, rules, values, workspaces
from gitstore.changes import Workspace
from gitstore.errors import GitstoreError
from gitstore.model import SYSTEM, Provenance
from gitstore.past import Past, Then
from gitstore.recall import recall
from gitstore.repository.objects import Oid
from gitstore.store import Store
from gitstore.transport.fetch import publish

WHO = Provenance(SYSTEM, "api")
NAMES = ["memory/a.yaml", "memory/b.yaml", "memory/c.yaml", "spec/tools.yaml", "spec/config.yaml", "files/a.md",
         "files/sub/b.md", "files/a.md.meta.yaml", "docs/a.md", "settings.yaml"]  # fmt: skip
HERE: dict[str, Store] = {}
count = iter(range(1_000_000))


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("past") / "data") as opened:
        HERE["it"] = opened
        yield opened


def workspace_of(steps: list[Step], *, extends: bool, sound: bool = False) -> Workspace:
    """A workspace of which a person's git made this history: on the line of `main`, or beside it."""
    store, slug = HERE["it"], f"w{next(count)}"
    fields = {"name": slug, "slug": slug, "memory": {"first": 1}}
    made = store.create(slug, lambda draft: workspaces.create(draft, fields), WHO).result()
    workspace = publish(store, made.snapshot.workspace)
    folder = Path(workspace.repository.root)
    head = git(folder, "rev-parse", "main")
    kept = {"workspace.yaml": (0o100644, git(folder, "show", "main:workspace.yaml").encode() + b"\n")}
    steps = [
        Step(step.parents, {**{path: fit(path, what, sound) for path, what in step.files.items()}, **kept})
        for step in steps
    ]
    tip = make(folder, steps, base=head if extends else None)[-1]
    git(folder, "update-ref", "refs/heads/main", tip)
    git(folder, "read-tree", "--reset", "-u", "HEAD")
    workspace = publish(store, workspace.id)
    git(folder, "merge-base", "--is-ancestor", tip, workspace.visible.main.head or "")
    return workspace


def fit(path: str, what: tuple[int, bytes], sound: bool) -> tuple[int, bytes]:
    """What a file system can hold; where all is to be sound, documents that can be read."""
    mode, data = what
    if sound:
        return 0o100644, b"n: %d\n" % len(data) if path.endswith(".yaml") else data
    return (mode, data.replace(b"\0", b"0") or b"x") if mode == 0o120000 else what


def shown(folder: Path, commit: str) -> dict[str, tuple[str, str]]:
    """Every path of a commit: its mode and object, as `git ls-tree` has them."""
    rows = git(folder, "ls-tree", "-r", "-z", commit).split("\0")
    return {row.partition("\t")[2]: (row.split(" ")[0], row.split(" ")[2].partition("\t")[0]) for row in rows if row}


def touched(folder: Path, commit: str) -> list[tuple[str, set[str]]]:
    """The commits of the line up to this one, the newest first, each with the paths that it changed."""
    told = git(folder, "log", "--first-parent", "-m", "--no-renames", "--root", "-z", "--name-only",
               "--format=%x01%H", commit)  # fmt: skip
    rows = [row.split("\0") for row in told.split("\1")[1:]]
    return [(row[0], {path.removeprefix("\n") for path in row[1:] if path}) for row in rows]


def same_as_git(workspace: Workspace, folder: Path, commit: str, then: Then) -> None:
    tree = shown(folder, commit)
    context, view = then.snapshot.context, then.snapshot.tree()
    assert then.snapshot.main.head == commit
    broken = {one.path for one in context.problems}
    for path, (mode, oid) in tree.items():
        if mode.startswith("100"):
            data = view.read(path)
            assert data is not None
            assert view.blob(path) == oid
            if path.startswith("memory/") and path not in broken:
                key = names.memory_key(path.removeprefix("memory/"))
                assert key is not None
                value = documents.load(data)
                assert context.memory[key].value_json == values.encode(value), (commit, path)
                assert context.memory[key].blob == oid
            if path.startswith("spec/") and path not in broken:
                part = path.removeprefix("spec/").removesuffix(".yaml")
                assert context.spec[part] == rules.spec_part(part, documents.load(data) or {}, "")
            if path.startswith("files/") and not path.endswith(names.META_SUFFIX) and path not in broken:
                assert [one.blob for one in context.files.values() if one.path == path] == [oid]
    held = {one.path for one in context.memory.values()} | {one.path for one in context.files.values()}
    assert held <= tree.keys()
    line = touched(folder, commit)
    for path in NAMES:
        last = next((one for one, paths in line if path in paths), "")
        touch = then.story.touch(path)
        assert (touch.commit if touch is not None else "") == last, (commit, path)
    parts = {f"spec/{part}.yaml" for part in rules.SPEC_PARTS}
    changes = [one for one, paths in line if parts & paths]
    version, made = then.story.spec()
    assert (version, made.commit if made is not None else None) == (len(changes), changes[0] if changes else None)
    for stored in context.files.values():
        if stored.path not in broken:
            stat = then.story.file(stored.key)
            assert stat is not None, (commit, stored)


def reads(workspace: Workspace, seed: int) -> None:
    folder, store = Path(workspace.repository.root), HERE["it"]
    past, chance = Past(store), random.Random(seed)
    commits = git(folder, "rev-list", "main").split()
    for commit in chance.sample(commits, len(commits)):
        then = past.at(workspace, chance.choice((commit, commit[:16])))
        same_as_git(workspace, folder, commit, then)
        for part in ("spec", "files"):
            alone = Past(store).at(workspace, commit, part).snapshot.context
            assert getattr(alone, part) == getattr(then.snapshot.context, part), (commit, part)
        again = past.at(workspace, commit)
        assert again.snapshot.record() == then.snapshot.record()
        known = recall(store.history, workspace.repository, workspace.id, now=then.snapshot.main.time,
                       policy="refuse", commit=Oid(bytes.fromhex(commit)), until=then.snapshot.main.time)  # fmt: skip
        for part in ("memory", "memory_size", "memory_names", "settings", "spec", "files", "problems", "fields"):
            assert getattr(known, part) == getattr(then.snapshot.context, part), (commit, part)


@given(histories(names=NAMES, most=8), st.integers(0, 99), st.booleans())
@settings(max_examples=10, deadline=None)
def test_reads_at_any_commit_of_the_line_are_what_git_shows(steps: list[Step], seed: int, sound: bool) -> None:
    reads(workspace_of(steps, extends=True, sound=sound), seed)


@given(histories(names=NAMES, most=4), st.integers(0, 99), st.booleans())
@settings(max_examples=6, deadline=None)
def test_and_at_commits_that_only_a_merge_brought_in(steps: list[Step], seed: int, sound: bool) -> None:
    reads(workspace_of(steps, extends=False, sound=sound), seed)


def test_a_moment_that_is_nowhere_is_never_an_accident(store: Store) -> None:
    workspace = workspace_of([Step((), {})], extends=True)
    past = Past(store)
    for at in (
        "..",
        "../main",
        "/",
        "a" * 200,
        "refs/heads/main",
        "HEAD~1",
        "main^",
        "\x7f",
        "-1",
        "0x1",
        "é",
        "@{1}",
        "1" * 41,
        "9999-99-99",
        "24:00",
        "10000-01-01",
        " ",
        "*",
        "main:workspace.yaml",
        "refs/gitstore/main",
    ):
        with pytest.raises(GitstoreError) as caught:
            past.at(workspace, at)
        assert caught.value.code == "NOT_FOUND", at
