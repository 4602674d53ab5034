"""What history tells of one file or key: every commit that changed it, and who last set each part of it.

All of it is read from the index and from git; only what blame found lately is kept in memory.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final, Literal, NamedTuple

from msgspec import UNSET, UnsetType

from gitstore import names
from gitstore.blame import Leaf, Line, Version, blame_leaves, blame_lines
from gitstore.changes import Workspace
from gitstore.documents import DocumentError, load
from gitstore.errors import Invalid, Malformed, NotFound
from gitstore.facts import walk
from gitstore.model import Branch, Stamp
from gitstore.parsed import cached
from gitstore.past import Moment, Past, story
from gitstore.repository.objects import Oid
from gitstore.store import Store
from gitstore.story import Story, Turn

_DOCUMENTS: Final = (".yaml", ".yml")
_VALUES_MAX: Final = 4 << 20  # bytes of documents whose values are told in one page
_KEPT: Final = 200_000  # leaves and lines whose blame is kept


class Told(NamedTuple):
    """One commit of a story. `value` is a key's; `size` a file's, in bytes. `cut`: there is one, too large to tell."""

    stamp: Stamp
    turn: Turn
    value: Any | UnsetType = UNSET
    size: int | None = None
    cut: bool = False


class Page(NamedTuple):
    """A page of a story, `total` commits long; `next_cursor` is None on the last one."""

    rows: list[Told]
    total: int
    next_cursor: str | None


class Row(NamedTuple):
    """A leaf (with its pointer) or a line (with its number), and who set it; None: longer ago than is looked back."""

    place: str | int
    value: Any
    stamp: Stamp | None


class Blame(NamedTuple):
    """The leaves of a document, or the lines of a text."""

    type: Literal["values", "text"]
    rows: list[Row]


class _Found(NamedTuple):
    """What blame came to, of the version that a commit made."""

    commit: str
    blame: Blame
    by: dict[str, str | None]  # of a document: who set each leaf

    @property
    def size(self) -> int:
        """How much of it there is."""
        return 1 + len(self.blame.rows)


class Retrospect:
    """What history tells of the files of one store's workspaces. Every method may be called from any thread."""

    def __init__(self, store: Store, past: Past) -> None:
        self._store = store
        self._past = past
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, Branch, str, str], _Found] = OrderedDict()
        self._size = 0

    # -- stories ------------------------------------------------------------------------------------------------------

    def key_history(
        self, workspace: Workspace, key: str, *, page: int = 1, per_page: int = 20, cursor: str | None = None
    ) -> Page:
        """Every value that a key of the memory had, newest first. Raises NotFound for one that never was, Invalid."""
        path = self.path_of_key(workspace, key)
        found = self._page(workspace, "main", path, page, per_page, cursor)
        room = _VALUES_MAX
        rows = []
        for one in found.rows:
            told = self._valued(workspace, one, room)
            room -= told.size or 0
            rows.append(told)
        return Page(rows, found.total, found.next_cursor)

    def path_history(
        self,
        workspace: Workspace,
        path: str,
        *,
        branch: Branch = "main",
        page: int = 1,
        per_page: int = 20,
        cursor: str | None = None,
    ) -> Page:
        """Every commit that changed a file, newest first. Raises NotFound for a path that never was a file, Invalid."""
        found = self._page(workspace, branch, path, page, per_page, cursor)
        return Page(
            [one._replace(size=self._size_of(workspace, one.turn)) for one in found.rows],
            found.total,
            found.next_cursor,
        )

    def path_of_key(self, workspace: Workspace, key: str) -> str:
        """Where a key of the memory is, or was last. Raises NotFound for one that never was."""
        entry = workspace.visible.context.memory.get(key)
        if entry is not None:
            return entry.path
        path = self._store.history.path_of_key(workspace.id, "memory", key)
        if path is None:
            raise NotFound(f"the memory never had a key `{names.one_line(key, 80)}`")
        return path

    def _page(
        self, workspace: Workspace, branch: Branch, path: str, page: int, per_page: int, cursor: str | None
    ) -> Page:
        history = self._store.history
        told = history.story(workspace.id, branch, path)
        total = told.length if told is not None else 0
        if told is None or not total:
            raise NotFound(f"`{names.one_line(path, 200)}` was never a file of {branch}")
        before = history.place(workspace.id, cursor) if cursor is not None else None
        skip = (page - 1) * per_page if before is None else 0
        turns = list(islice(told.turns(skip=min(skip, total), before=before), per_page + 1))
        shown = turns[:per_page]
        stamps = self._stamps(workspace, branch, (turn.commit for turn in shown))
        rows = [Told(stamps[turn.commit], turn) for turn in shown]
        last = shown[-1].place if len(turns) > per_page else None
        return Page(rows, total, history.cursor(workspace.id, last) if last is not None else None)

    def _valued(self, workspace: Workspace, one: Told, room: int) -> Told:
        if one.turn.blob is None:
            return one
        known = cached(one.turn.blob)
        data = workspace.read_blob(one.turn.blob)
        if len(data) > room:
            return one._replace(cut=True)
        try:
            value = known.value if known is not None else load(data)
        except (DocumentError, Malformed):
            return one
        if names.is_long_memory(one.turn.path.rsplit("/", 1)[-1]):
            value = value.get("value", UNSET) if isinstance(value, dict) else UNSET
        return one._replace(value=value, size=len(data))

    def _size_of(self, workspace: Workspace, turn: Turn) -> int | None:
        return len(workspace.read_blob(turn.blob)) if turn.blob is not None else None

    # -- blame --------------------------------------------------------------------------------------------------------

    def key_blame(self, workspace: Workspace, key: str, pointer: str = "", moment: Moment | None = None) -> list[Row]:
        """Who set each leaf of a key's value, or of the part of it that a JSON pointer leads to, now or at a moment.

        Raises NotFound for a key or a part that is not there, Invalid for what is no pointer.
        """
        if pointer and not pointer.startswith("/"):
            raise Invalid(f"`{names.one_line(pointer, 80)}` is no JSON pointer: it begins with `/` (RFC 6901)")
        path = self._path_at(workspace, key, moment)
        above = "/value" if names.is_long_memory(path.rsplit("/", 1)[-1]) else ""
        place = above + pointer
        rows = [
            row._replace(place=str(row.place)[len(above) :])
            for row in self.blame(workspace, path, moment=moment).rows
            if row.place == place or str(row.place).startswith(place + "/")
        ]
        if not rows:
            raise NotFound(f"the value of `{names.one_line(key, 80)}` has nothing at `{names.one_line(pointer, 80)}`")
        return rows

    def _path_at(self, workspace: Workspace, key: str, moment: Moment | None) -> str:
        entry = workspace.visible.context.memory.get(key)
        if moment is not None and moment.main is not None:
            tree = workspace.visible.tree_at(moment.main)
            if entry is None or tree.blob(entry.path) is None:
                entry = self._past.then(workspace, moment).snapshot.context.memory.get(key)
        if entry is None:
            has = "had then" if moment is not None else "has"
            raise NotFound(f"the memory {has} no key `{names.one_line(key, 80)}`")
        return entry.path

    def blame(self, workspace: Workspace, path: str, *, branch: Branch = "main", moment: Moment | None = None) -> Blame:
        """Who set each leaf of a YAML file, or each line of another text, now or at a moment.

        Raises NotFound where there is no such file, Invalid for one that is neither.
        """
        found_story = self._story(workspace, branch, path, moment)
        turns = found_story.turns() if found_story is not None else iter(())
        first = next(turns, None)
        if first is None or first.blob is None:
            when = " then" if moment is not None else ""
            raise NotFound(f"`{names.one_line(path, 200)}` is no file of {branch}{when}")
        return self._blame(workspace, branch, path, first, turns).blame

    def _story(self, workspace: Workspace, branch: Branch, path: str, moment: Moment | None) -> Story | None:
        history = self._store.history
        if moment is None:
            return history.story(workspace.id, branch, path)
        commit = moment.main if branch == "main" else moment.evidence
        if commit is None:
            return None
        return story(history, workspace.repository, workspace.id, branch, commit).story(path)

    def _blame(self, workspace: Workspace, branch: Branch, path: str, first: Turn, turns: Iterator[Turn]) -> _Found:
        place = (workspace.id, branch, path, first.commit)
        held = self._known.get(place)
        if held is None:
            with self._lock:
                before = [one for key, one in self._known.items() if key[:3] == place[:3]]
            held = self._work_out(workspace, branch, path, first, turns, before)
            with self._lock:
                if place not in self._known:
                    self._known[place] = held
                    self._size += held.size
                while self._size > _KEPT and len(self._known) > 1:
                    self._size -= self._known.popitem(last=False)[1].size
        return held

    def _work_out(
        self,
        workspace: Workspace,
        branch: Branch,
        path: str,
        first: Turn,
        turns: Iterator[Turn],
        before: list[_Found],
    ) -> _Found:
        known = {one.commit: one.by for one in before}

        def versions() -> Iterator[Version]:
            yield Version(first.commit, newest)
            for turn in turns:
                if turn.path != path:
                    known.clear()  # the same commit may have changed another file that was here before this one
                yield Version(turn.commit, workspace.read_blob(turn.blob) if turn.blob is not None else None)

        newest = workspace.read_blob(first.blob or "")
        if path.lower().endswith(_DOCUMENTS):
            try:
                held = cached(first.blob or "")
                leaves = blame_leaves(versions(), known, held.value if held is not None else UNSET)
            except (DocumentError, Malformed):
                pass  # then it is a text
            else:
                stamp = self._stamped(workspace, branch, leaves)
                rows = [Row(leaf.pointer, leaf.value, stamp[leaf.commit]) for leaf in leaves]
                return _Found(first.commit, Blame("values", rows), {leaf.pointer: leaf.commit for leaf in leaves})
        try:
            if b"\0" not in newest:
                lines = blame_lines(versions())
                stamp = self._stamped(workspace, branch, lines)
                rows = [Row(number, line.text, stamp[line.commit]) for number, line in enumerate(lines, 1)]
                return _Found(first.commit, Blame("text", rows), {})
        except UnicodeDecodeError:
            pass
        raise Invalid(f"`{names.one_line(path, 200)}` is no text, so it has no lines to tell of")

    def _stamped(
        self, workspace: Workspace, branch: Branch, parts: Iterable[Leaf | Line]
    ) -> dict[str | None, Stamp | None]:
        commits = {part.commit for part in parts}
        found: dict[str | None, Stamp | None] = {None: None}
        found.update(self._stamps(workspace, branch, (commit for commit in commits if commit is not None)))
        return found

    def _stamps(self, workspace: Workspace, branch: Branch, commits: Iterable[str]) -> dict[str, Stamp]:
        wanted = list(commits)
        found = self._store.history.stamps(workspace.id, wanted)
        repository = workspace.repository
        for commit in wanted:
            if commit not in found:  # a merge brought it in
                oid = Oid(bytes.fromhex(commit))
                found[commit] = Stamp.of(next(walk(repository, branch, [(oid, repository.commit(oid))], 0)))
        return found
