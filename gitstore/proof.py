"""Whether the search index holds what git holds, document by document: `gitstore verify --search`.

The index is copied first and opened aside, so that a running server may go on writing; each branch is read at the
commit up to which the index says that it has everything.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from gitstore import evidence, findable
from gitstore.context import Context
from gitstore.errors import GitstoreError
from gitstore.extraction.forms import form, plain
from gitstore.lfs.pointer import decode
from gitstore.model import Artifact, Branch, Task, Workflow
from gitstore.repository.objects import Oid
from gitstore.repository.trees import TreeView
from gitstore.search import Document, Kind, Search
from gitstore.search.stamps import proof
from gitstore.search.state import STATE
from gitstore.survey import BRANCHES, Standing, Survey

Note = tuple[Literal["error", "warning"], str, str, str]
_REINDEX = "Run `gitstore reindex`."
_TRIES = 5


def search(survey: Survey) -> Iterator[Note]:
    """Severity, place, message and hint of every document in which index and git differ."""
    folder = survey.layout.derived / "search"
    if not (folder / STATE).exists():
        yield "warning", "derived/search", "nothing is in the index yet", "The next start makes it."
        return
    with tempfile.TemporaryDirectory(prefix="index-", dir=survey.layout.derived) as scratch:
        copy = Path(scratch) / "search"
        for attempt in range(_TRIES):
            try:
                _copied(folder, copy.with_name(f"search{attempt}"))
                break
            except FileNotFoundError:
                continue  # a server was just at work on it
        with Search(copy.with_name(f"search{attempt}"), interval=3600.0) as index:
            index.flush()
            if index.damage is not None:
                yield "error", "derived/search", f"is damaged: {index.damage}", _REINDEX
                return
            held = index.proofs()
            for one in survey:
                yield from _compared(one, held.pop(one.id, {}), index)
            for gone in sorted(held):
                yield "error", "derived/search", f"knows the workspace {gone}, which is not there", _REINDEX


def _copied(folder: Path, target: Path) -> None:
    """The files of an index are never changed, only replaced, so that a second name for each is a copy."""
    target.mkdir()
    for name in sorted(os.listdir(folder), key=lambda name: name != STATE):
        if name != "lock" and not name.endswith(".new"):
            os.link(folder / name, target / name)


def _compared(one: Standing, held: dict[tuple[Kind, str], int | None], index: Search) -> Iterator[Note]:
    wanted: dict[tuple[Kind, str], int | None] = {}
    place = f"derived/search ({one.folder})"
    known: set[Kind] = set()
    for branch in BRANCHES:
        marker = index.marker(one.id, branch)
        if marker is None:
            if one.heads[branch] is not None:
                yield (
                    "warning",
                    place,
                    f"the branch {branch} is not in the index yet",
                    "A running server puts it there.",
                )
            continue
        known.update(findable.CONTEXT if branch == "main" else findable.EVIDENCE)
        try:
            tree = one.repository.tree(Oid(bytes.fromhex(marker)))
            for made, exact in _documents(one, branch, tree):
                wanted[made.kind, made.id] = proof(made) if exact else None
        except GitstoreError as error:
            yield "error", place, f"the commit {marker[:12]} of {branch} cannot be read: {error.message}", _REINDEX
            return
    for key in sorted(wanted.keys() | held.keys()):
        if key[0] not in known:
            continue
        name = f"{key[0]} {key[1]}"
        if key not in held:
            yield "error", place, f"{name} is in git and not in the index", _REINDEX
        elif key not in wanted:
            yield "error", place, f"{name} is in the index and not in git", _REINDEX
        elif held[key] is None:
            yield "error", place, f"the words of {name} contradict each other within the index", _REINDEX
        elif wanted[key] is not None and held[key] != wanted[key]:
            yield "error", place, f"{name} is in the index with other words than in git", _REINDEX


def _documents(one: Standing, branch: Branch, tree: TreeView) -> Iterator[tuple[Document, bool]]:
    """Every document, and whether its words can be told from git alone: not where they were extracted."""

    exact = True

    def text(content_type: str, blob: str) -> str:
        nonlocal exact
        how = form(content_type)
        data = tree.source.blob(Oid(bytes.fromhex(blob))) if how == "text" else b""
        exact = how is None or (how == "text" and decode(data) is None)  # not the content, but a pointer to it
        return plain(content_type, data).text if how == "text" and exact else ""

    if branch == "main":
        context = Context.load(tree, previous=None, now=0)
        for kind, id_ in findable.all_of(context):
            exact = True
            if (made := findable.of_context(context, kind, id_, 0, text)) is not None:
                yield made, exact
        return
    for record in evidence.changed(one.id, tree, (path for path, _ in tree.walk()), time=0):
        if isinstance(record, Artifact):
            said = text(record.content_type, record.blob)
            yield findable.of_artifact(record, said), exact
        elif isinstance(record, Workflow):
            yield findable.of_workflow(record), True
        elif isinstance(record, Task):
            yield findable.of_task(record), True
