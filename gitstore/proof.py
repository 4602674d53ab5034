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
from gitstore.content import beginnings
from gitstore.context import Context
from gitstore.errors import GitstoreError
from gitstore.extraction.looking import Looking
from gitstore.model import Artifact, Branch, Task, Workflow
from gitstore.repository.objects import Oid
from gitstore.repository.repository import Repository
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
    texts = Looking(survey.layout.derived / "texts.sqlite")  # before the index is copied, which may have more of them
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
                yield from _compared(one, held.pop(one.id, {}), index, texts)
            for gone in sorted(held):
                yield "error", "derived/search", f"knows the workspace {gone}, which is not there", _REINDEX


def _copied(folder: Path, target: Path) -> None:
    """The files of an index are never changed, only replaced, so that a second name for each is a copy."""
    target.mkdir()
    for name in sorted(os.listdir(folder), key=lambda name: name != STATE):
        if name != "lock" and not name.endswith(".new"):
            os.link(folder / name, target / name)


def _compared(one: Standing, held: dict[tuple[Kind, str], int | None], index: Search, texts: Looking) -> Iterator[Note]:
    wanted: dict[tuple[Kind, str], set[int]] = {}
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
            for made in _documents(one, branch, tree, texts):
                wanted.setdefault((made.kind, made.id), set()).add(proof(made))
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
        elif held[key] not in wanted[key]:
            yield "error", place, f"{name} is in the index with other words than in git", _REINDEX


class _Reading:
    """Gives the text of one document's content; `others` are those that it may have in the index instead."""

    def __init__(self, texts: Looking, repository: Repository) -> None:
        self._texts = texts
        self._read = beginnings(
            lambda id_: repository.database.blob(Oid(bytes.fromhex(id_))), lambda: repository.objects
        )
        self.others: list[str] = []

    def __call__(self, content_type: str, blob: str) -> str:
        found = self._texts.texts(content_type, blob, self._read)
        first, *self.others = sorted(found, key=len, reverse=True)
        return first


def _documents(one: Standing, branch: Branch, tree: TreeView, texts: Looking) -> Iterator[Document]:
    """Every document, in every form that it may have while texts are extracted."""
    if branch == "main":
        context = Context.load(tree, previous=None, now=0)
        for kind, id_ in findable.all_of(context):
            text = _Reading(texts, one.repository)
            if (made := findable.of_context(context, kind, id_, 0, text)) is not None:
                yield made
            for other in text.others:
                if (made := findable.of_context(context, kind, id_, 0, lambda *_, other=other: other)) is not None:
                    yield made
        return
    for record in evidence.changed(one.id, tree, (path for path, _ in tree.walk()), time=0):
        if isinstance(record, Artifact):
            text = _Reading(texts, one.repository)
            yield findable.of_artifact(record, text(record.content_type, record.blob))
            yield from (findable.of_artifact(record, other) for other in text.others)
        elif isinstance(record, Workflow):
            yield findable.of_workflow(record)
        elif isinstance(record, Task):
            yield findable.of_task(record)
