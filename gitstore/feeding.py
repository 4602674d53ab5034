"""What is missing in the search index is put there from git and the catalog, in the background, one workspace a time.

Writers are never waited for and never make to wait: what changes while a workspace is fed is left to them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from gitstore import evidence, findable, names
from gitstore.catalog import Catalog
from gitstore.derived import BRANCHES, Derived
from gitstore.errors import GitstoreError, NotFound
from gitstore.extraction import Waiting
from gitstore.history import History
from gitstore.model import Branch
from gitstore.repository.trees import compare
from gitstore.search import Away, Document, Kind, Search
from gitstore.snapshot import Snapshot

log = logging.getLogger("gitstore.feeding")

_LOOK = 1.0  # seconds between two looks at whether the index was lost
_RETRY = 5.0  # seconds until a workspace that could not be fed is tried again
_WAITING = 20_000  # documents that may wait for the disk before feeding pauses; the rest of the room is the writers'
_BREATH = 64  # documents between two pauses for everybody else
Pair = tuple[Kind, str]
Made = tuple[Document | None, Waiting | None]
_REQUEST = "reindex"


def ask(derived: Path) -> None:
    """Asks whoever has the store of this folder of indexes open for a new search index."""
    (derived / _REQUEST).write_text("")


def answer(derived: Path) -> str | None:
    """How far it is, from 0 to 1; empty where nobody has heard, None where it is done."""
    try:
        return (derived / _REQUEST).read_text()
    except FileNotFoundError:
        return None


def withdraw(derived: Path) -> None:
    """Takes the question back."""
    (derived / _REQUEST).unlink(missing_ok=True)


class Feeder:
    """Feeds the search index of one store. `load` gives the newest visible state of a workspace; `folder` is where
    somebody else's `ask` is looked for."""

    def __init__(
        self,
        catalog: Catalog,
        history: History,
        search: Search,
        derived: Derived,
        load: Callable[[str], Snapshot],
        folder: Path,
    ) -> None:
        self._folder = folder
        self._catalog = catalog
        self._history = history
        self._search = search
        self._derived = derived
        self._load = load
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> None:
        """Begin. Nothing may be written yet, so that what the catalog does not know is there no more."""
        for gone in self._search.workspaces() - set(self._catalog.workspaces()):
            # A kill after its deletion lost what the index was told of it, or somebody removed folder and catalog.
            self._derived.extraction.forget(gone)
        self._thread.start()

    def stop(self) -> None:
        """End, in the midst of a workspace if need be: it is fed after the next start."""
        self._stop.set()
        self._derived.hungry.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._derived.hungry.wait(_LOOK)
            self._derived.hungry.clear()
            try:
                self._turn()
            except Away:
                self._stop.wait(_LOOK)
            except Exception:
                # The index is behind then, and every answer says so; another try may get through.
                log.exception("the search index cannot be fed; it is tried again")
                self._stop.wait(_RETRY)
                self._derived.hungry.set()

    def _turn(self) -> None:
        asked = answer(self._folder)
        if asked == "":
            log.warning("the search index is made anew because somebody asked for it")
            self._search.renew()
            self._tell(heard=True)
        elif asked is not None and self._derived.standing().index == "ready":
            self._search.flush()
            withdraw(self._folder)
        if self._search.rebuild_needed:
            log.warning("the search index was lost; it is being made again from git")
            self._derived.starve(self._catalog.workspaces())
            self._search.claim_rebuild()
        if missing := self._search.missing:
            log.warning("%d workspaces were lost with a part of the search index and are put there again", len(missing))
            self._derived.starve(missing & set(self._catalog.workspaces()))
            self._search.claim(missing)
        for workspace in sorted(self._derived.unfed):
            if self._stop.is_set() or self._search.rebuild_needed:
                return
            try:
                self.feed(workspace)
            except NotFound:
                self._derived.unfed.discard(workspace)  # it was deleted meanwhile
            except (GitstoreError, OSError) as error:  # the others have theirs, whatever becomes of this one
                log.error("workspace %s cannot be fed to the search index: %s", workspace, error)
                self._stop.wait(_LOOK)

    def _tell(self, *, heard: bool = False) -> None:
        """Whoever asked for a new index sees how far it is."""
        if heard or answer(self._folder):
            fresh = self._folder / f"{_REQUEST}.new"
            fresh.write_text(str(self._derived.standing().progress))
            fresh.replace(self._folder / _REQUEST)

    def feed(self, workspace: str) -> None:
        """Brings one workspace wholly into the index. Raises NotFound, Damaged."""
        if workspace in self._derived.stale:
            return  # the catalog does not know all of it yet
        derived, search = self._derived, self._search
        derived.begin_feeding(workspace)
        before: dict[Branch, str | None] | None = None
        try:
            snapshot = self._load(workspace)
            markers: dict[Branch, str | None] = {branch: search.marker(workspace, branch) for branch in BRANCHES}
            for branch in BRANCHES:
                if markers[branch] is not None and not snapshot.has(markers[branch] or ""):
                    derived.extraction.forget(workspace)
            markers = {branch: search.marker(workspace, branch) for branch in BRANCHES}
            if not any(markers.values()):
                derived.extraction.forget(workspace)
            if self._put_all(workspace, snapshot, markers):
                before = markers
        finally:
            derived.end_feeding(workspace, before)
            if self._catalog.workspace(workspace) is None:
                # It was deleted meanwhile, and what was put after that must not stay. One that is back already is fed.
                derived.extraction.forget(workspace)
                derived.starve((workspace,))

    def _put_all(self, workspace: str, snapshot: Snapshot, markers: dict[Branch, str | None]) -> bool:
        documents = [
            *self._context(workspace, snapshot, markers["main"]),
            *self._evidence(workspace, snapshot, markers["evidence"]),
        ]
        self._derived.fed = 0.0
        for number, (pair, made) in enumerate(documents):
            if number % _BREATH == 0:
                self._derived.fed = number / len(documents)
                self._tell()
                while self._search.backlog > _WAITING and not self._stop.is_set():
                    self._search.hasten()
                    self._stop.wait(0.05)
                if self._stop.wait(0.001) or self._search.rebuild_needed or workspace in self._search.missing:
                    return False
                if self._catalog.workspace(workspace) is None:
                    return False
            self._derived.feed(workspace, *pair, *made())
        self._derived.fed = 1.0
        return True

    # -- main -----------------------------------------------------------------------------------------------------

    def _context(
        self, workspace: str, snapshot: Snapshot, marker: str | None
    ) -> Iterator[tuple[Pair, Callable[[], Made]]]:
        context = snapshot.context
        if marker is None:
            pairs = set(findable.all_of(context))
        else:
            then = snapshot.tree_at(marker)
            differences = compare(then.source, then.root, snapshot.tree("main").root)
            pairs = findable.keys(context, (one.path for one in differences), then.read)

        def make(kind: Kind, id_: str) -> Made:
            text = self._derived.extraction.reader(snapshot.beginning)
            time = self._time(workspace, snapshot, kind, id_)
            return findable.of_context(context, kind, id_, time, text), text.waiting

        for kind, id_ in sorted(pairs):
            yield (kind, id_), partial(make, kind, id_)

    def _time(self, workspace: str, snapshot: Snapshot, kind: Kind, id_: str) -> int:
        """When a memory key, spec part or file was changed last."""
        context = snapshot.context
        if kind == "memory":
            path = context.memory[id_].path if id_ in context.memory else ""
        elif kind == "spec":
            path = f"spec/{id_}.yaml"
        else:
            path = context.files[id_].path if id_ in context.files else ""
        touch = self._history.last_touch(workspace, "main", path)
        return touch.time if touch is not None else 0

    # -- evidence -------------------------------------------------------------------------------------------------

    def _evidence(
        self, workspace: str, snapshot: Snapshot, marker: str | None
    ) -> Iterator[tuple[Pair, Callable[[], Made]]]:
        catalog = self._catalog
        if marker is None:
            pairs: set[Pair] = {("workflow", one.id) for one in catalog.workflows(workspace)}
            pairs |= {("task", one.id) for one in catalog.tasks(workspace)}
            pairs |= {("artifact", row.id) for row in catalog.artifact_rows(workspace, now=0)}
        else:
            pairs = set()
            then, now = snapshot.tree_at(marker), snapshot.tree("evidence")
            for one in compare(then.source, then.root, now.root):
                part, key = names.classify("evidence", one.path)
                place = evidence.folder_of(one.path) if part == "artifact" else None
                if place is not None:
                    pairs.add(("artifact", evidence.artifact_id(workspace, place)))
                elif key is not None and (part == "workflow" or part == "task"):
                    known: Kind = "workflow" if part == "workflow" else "task"
                    if names.id_of_evidence(one.path) is not None:
                        pairs.add((known, key))
                    else:  # too long for a name: the file says it
                        said = (findable.said(tree.read(one.path), "id") for tree in (then, now))
                        pairs.update((known, id_) for id_ in said if id_ is not None)
        for kind, id_ in sorted(pairs):
            yield (kind, id_), partial(self._record, workspace, snapshot, kind, id_)

    def _record(self, workspace: str, snapshot: Snapshot, kind: Kind, id_: str) -> Made:
        if kind == "artifact":
            artifact = self._catalog.artifact(workspace, id_, now=0)
            if artifact is None:
                return None, None
            text = self._derived.extraction.reader(snapshot.beginning)
            return findable.of_artifact(artifact, text(artifact.content_type, artifact.blob)), text.waiting
        if kind == "workflow":
            flow = self._catalog.workflow(id_)
            return (findable.of_workflow(flow[1]) if flow is not None and flow[0] == workspace else None), None
        task = self._catalog.task(id_)
        return (findable.of_task(task[1]) if task is not None and task[0] == workspace else None), None
