"""The derived indexes of a store, kept in step: history, catalog and search follow the branches and never lead them.

Everything here can be thrown away while the store is closed; `catch_up` makes it again from the branches.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator

import msgspec

from gitstore import evidence, findable
from gitstore.catalog import Catalog, Heads
from gitstore.changes import Change
from gitstore.content import beginnings
from gitstore.context import WORKSPACE
from gitstore.directory import OldSlug, WorkspaceRow
from gitstore.documents import DocumentError, load
from gitstore.errors import Damaged
from gitstore.extraction import Extraction, Read, Waiting
from gitstore.facts import catch_up
from gitstore.history import History, TimelineQuery
from gitstore.model import Artifact, Branch, CommitFacts, Task, Touch, Workflow
from gitstore.repository.objects import Oid
from gitstore.repository.repository import Repository
from gitstore.repository.trees import TreeView, compare
from gitstore.search import Document, Kind, Search
from gitstore.search.documents import Standing
from gitstore.snapshot import Snapshot

BRANCHES: tuple[Branch, Branch] = ("main", "evidence")
_BATCH = 500  # artifacts between two transactions of a catch-up
_COMMITS = 2000  # and commits

_WAITING = 200  # changes that may wait for a query; taking them in then takes some milliseconds
_QUIET = frozenset({"memory.updated", "memory.deleted", "spec.updated", "settings.updated"})

log = logging.getLogger("gitstore.derived")


def _urgent(change: Change) -> bool:
    """Whether a look-up that does not ask first could miss the change: names, ids, and what the explorer shows."""
    return any(fact.kind not in _QUIET or fact.branch != "main" for fact in change.facts)


class Derived:
    """History, catalog and search of one store. `apply` and `catch_up` are called by one thread at a time."""

    def __init__(self, history: History, catalog: Catalog, search: Search, extraction: Extraction) -> None:
        self._history = history
        self._catalog = catalog
        self._search = search
        self.extraction = extraction
        self._lock = threading.RLock()
        self._waiting: list[Change] = []
        self._flushing = False
        self.stale: set[str] = set()  # workspaces whose indexes missed a change and must catch up
        self.unfed: set[str] = set()  # workspaces that are not wholly in the search index; the feeder mends that
        self.hungry = threading.Event()  # set when there is a new one
        self.fed = 1.0  # how much of the workspace that is being fed is in
        self._handing = threading.Lock()
        self._since: dict[str, set[tuple[Kind, str]]] = {}  # what changed in the workspaces that are being fed
        self._touched: dict[str, list[tuple[str, str]]] = {}  # records of the batch that is under way

    def apply(self, changes: list[Change]) -> None:
        """Takes in a group of changes that just became durable, before anybody is told of them.

        What can only be seen through a query waits for one, or for company: `flush` comes before every answer.
        """
        with self._lock:
            self._waiting += changes
            if len(self._waiting) >= _WAITING or any(map(_urgent, changes)):
                self._flush()

    def refresh(self, snapshot: Snapshot) -> None:
        """What is told of a workspace changed, without a commit."""
        with self._lock:
            self._flush()
            if self._catalog.workspace(snapshot.workspace) is not None:
                with self._catalog.batch():
                    self._workspace(snapshot)

    def flush(self) -> None:
        """Brings the indexes up to everything that is durable. Costs nothing where they are."""
        if self._waiting or self._flushing:  # by another thread, which is waited for
            with self._lock:
                self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        self._flushing = True  # before the list is empty: whoever sees that must see this
        changes, self._waiting = self._waiting, []
        try:
            self._history.append((change.owner.id, fact) for change in changes for fact in change.facts)
            with self._search.together():
                with self._told(), self._catalog.batch():
                    self._evidence(changes)
                    last = {change.owner.id: change for change in changes}
                    for change in last.values():
                        self._workspace(change.snapshot.telling(change.owner.visible.told))
                self._context(changes)
        except Exception:
            # The changes are durable in git whatever happens here, and whoever made them must be told so. What the
            # indexes missed is made good by a catch-up from the branches.
            log.exception("the derived indexes missed a change; they will catch up from git")
            missed = {change.owner.id for change in changes}
            self.stale.update(missed)
            self.starve(missed)
        finally:
            self._flushing = False

    def _workspace(self, snapshot: Snapshot) -> None:
        encoded, _ = snapshot.record()
        fields = snapshot.context.fields
        old = self._catalog.workspace(snapshot.workspace)
        slugs = old.old_slugs if old is not None else self._old_slugs(snapshot)
        if old is not None and old.slug != fields.slug:
            slugs = (*slugs, OldSlug(old.slug, snapshot.updated_at))
        row = WorkspaceRow(
            id=snapshot.workspace,
            slug=fields.slug,
            name=fields.name,
            created_at=snapshot.created_at,
            updated_at=snapshot.updated_at,
            description=fields.description,
            is_active=fields.is_active,
            main=snapshot.main.head,
            evidence=snapshot.evidence.head,
            old_slugs=slugs,
            repository_url=fields.repository_url,
        )
        self._catalog.put_workspace(row, encoded)

    def _old_slugs(self, snapshot: Snapshot) -> tuple[OldSlug, ...]:
        """The slugs a workspace had before, from the history of its `workspace.yaml`."""
        query = TimelineQuery(path=WORKSPACE, per_page=10_000)
        slugs: list[tuple[str, int]] = []
        for entry in reversed(self._history.timeline(snapshot.workspace, query).entries):
            document = snapshot.tree_at(entry.facts.id).read(WORKSPACE)
            try:
                value = load(document or b"", WORKSPACE)
            except DocumentError:
                continue  # what could not be read then named nothing
            slug = value.get("slug") if isinstance(value, dict) else None
            if isinstance(slug, str) and (not slugs or slugs[-1][0] != slug):
                slugs.append((slug, entry.facts.time))
        return tuple(OldSlug(slug, until) for (slug, _), (_, until) in itertools.pairwise(slugs))

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Around a batch: the explorer is told which records to read again, once they can be read."""
        self._touched = {}
        try:
            yield
        finally:
            touched, self._touched = self._touched, {}
            for workspace, records in touched.items():
                self._search.tell("touched", msgspec.msgpack.encode((workspace, records)))

    def _evidence(self, changes: list[Change]) -> None:
        """What became of workflows, tasks and artifacts."""
        for change in changes:
            for fact in change.facts:
                if fact.branch == "evidence":
                    tree = change.snapshot.tree("evidence")
                    paths = [path for changed in fact.changes for path in changed.paths]
                    old, read = _before(change.snapshot, fact), change.snapshot.beginning
                    self.records(change.owner.id, tree, paths, old, read, time=fact.time, commit=fact.id)
        for workspace, last in self._marked(changes, "evidence"):
            self._catalog.mark_indexed(workspace, Heads(None, last.id))

    def records(
        self,
        workspace: str,
        tree: TreeView,
        paths: Iterable[str],
        before: Callable[[str], bytes | None],
        read: Read,
        *,
        time: int,
        commit: str | None,
    ) -> None:
        """Brings the rows of the records that these paths of the evidence branch belong to, up to `tree`.

        `before` gives the content of a file as it was before.
        """
        for found in evidence.changed(workspace, tree, paths, time=time, commit=commit, before=before):
            if isinstance(found, Workflow):
                self._catalog.put_workflow(workspace, found)
                self._put(workspace, findable.of_workflow(found))
            elif isinstance(found, Task):
                self._catalog.put_task(workspace, found)
                self._put(workspace, findable.of_task(found))
            elif isinstance(found, Artifact):
                self._catalog.put_artifact(workspace, found)
                text = self.extraction.reader(read)
                document = findable.of_artifact(found, text(found.content_type, found.blob))
                self._put(workspace, document, text.waiting)
            elif isinstance(found, evidence.Gone):
                if found.part == "artifact":
                    self._catalog.remove_artifact(workspace, found.id)
                elif found.part == "task":
                    self._catalog.remove_task(workspace, found.id)
                else:
                    self._catalog.remove_workflow(workspace, found.id)
                self._remove(workspace, found.part, found.id)
            else:
                log.warning("workspace %s: %s cannot be read: %s", workspace, found.path, found.error)

    # -- search ---------------------------------------------------------------------------------------------------

    def _put(self, workspace: str, document: Document, waiting: Waiting | None = None) -> None:
        self._noted(workspace, document.kind, document.id)
        self.extraction.put(workspace, document, waiting)

    def _remove(self, workspace: str, kind: Kind, id_: str) -> None:
        self._noted(workspace, kind, id_)
        self.extraction.remove(workspace, kind, id_)

    def _noted(self, workspace: str, kind: Kind, id_: str) -> None:
        if kind in findable.EVIDENCE:
            self._touched.setdefault(workspace, []).append((kind, id_))
        with self._handing:
            if (since := self._since.get(workspace)) is not None:
                since.add((kind, id_))

    def _marked(self, changes: list[Change], branch: Branch) -> list[tuple[str, CommitFacts]]:
        """Tells the search index that all of these changes of a branch were put; the last commit of each workspace."""
        spans: dict[str, tuple[CommitFacts, CommitFacts]] = {}
        for change in changes:
            for fact in change.facts:
                if fact.branch == branch:
                    first, _ = spans.get(change.owner.id, (fact, fact))
                    spans[change.owner.id] = first, fact
        for workspace, (first, last) in spans.items():
            before = first.parents[0] if first.parents else None
            if not self._search.mark(workspace, branch, last.id, before):
                self.starve((workspace,))
        return [(workspace, last) for workspace, (_, last) in spans.items()]

    def _context(self, changes: list[Change]) -> None:
        """What became of memory, spec and files; of what changed several times, the last alone."""
        newest: dict[tuple[str, Kind, str], tuple[Change, int]] = {}
        for change in changes:
            workspace = change.owner.id
            for fact in change.facts:
                if fact.branch != "main":
                    continue
                paths = [path for changed in fact.changes for path in changed.paths]
                old = _before(change.snapshot, fact)
                for kind, id_ in findable.keys(change.snapshot.context, paths, old):
                    newest[workspace, kind, id_] = (change, fact.time)
        for (workspace, kind, id_), (change, time) in newest.items():
            text = self.extraction.reader(change.snapshot.beginning)
            found = findable.of_context(change.snapshot.context, kind, id_, time, text)
            if found is not None:
                self._put(workspace, found, text.waiting)
            else:
                self._remove(workspace, kind, id_)
        self._marked(changes, "main")

    def starve(self, workspaces: Iterable[str]) -> None:
        """These are not wholly in the search index."""
        self.unfed.update(workspaces)
        self.hungry.set()

    def begin_feeding(self, workspace: str) -> None:
        """From now on `feed` leaves alone what changes."""
        with self._lock:
            self._flush()
            with self._handing:
                self._since[workspace] = set()

    def feed(
        self, workspace: str, kind: Kind, id_: str, document: Document | None, waiting: Waiting | None = None
    ) -> None:
        """Puts a document as it was when feeding began (None: removes it), unless it has changed since."""
        with self._handing:
            since = self._since.get(workspace)
            if since is None or (kind, id_) in since:  # None: it was deleted meanwhile
                return
            if document is not None:
                self.extraction.put(workspace, document, waiting)
            else:
                self.extraction.remove(workspace, kind, id_)

    def end_feeding(self, workspace: str, before: dict[Branch, str | None] | None) -> None:
        """Everything was fed, given that the markers were these; None: it was not."""
        with self._lock:
            self._flush()
            with self._handing:
                forgotten = self._since.pop(workspace, None) is None
            if before is None or forgotten:
                return
            heads = {"main": self._catalog.heads(workspace).main, "evidence": self._catalog.indexed(workspace).evidence}
            done = all(
                head is None or head == before[branch] or self._search.mark(workspace, branch, head, before[branch])
                for branch in BRANCHES
                for head in (heads[branch],)
            )
            if done:
                self.unfed.discard(workspace)

    def standing(self, workspace: str | None = None) -> Standing:
        """How far the search index is, for one workspace or all."""
        missing = self._search.missing
        if self._search.rebuild_needed or (missing if workspace is None else workspace in missing):
            return Standing("rebuilding", 0.0)
        waiting = len(self.unfed)
        if not waiting or (workspace is not None and workspace not in self.unfed):
            return Standing()
        every = max(1, len(self._catalog.workspaces()))
        done = self.fed if workspace is not None and waiting == 1 else (every - waiting + self.fed) / every
        return Standing("rebuilding", round(min(max(done, 0.0), 0.999), 3))

    # -- catching up ----------------------------------------------------------------------------------------------

    def behind(self, workspace: str, heads: dict[Branch, str | None]) -> bool:
        """Whether any index reflects other heads than these."""
        wanted = Heads(heads["main"], heads["evidence"])
        return (
            workspace in self.stale
            or any(self._history.head(workspace, branch) != heads[branch] for branch in BRANCHES)
            or self._catalog.heads(workspace) != wanted
            or self._catalog.indexed(workspace).evidence != wanted.evidence
        )

    def hungers(self, workspace: str, heads: dict[Branch, str | None]) -> bool:
        """Whether the search index reflects other heads than these."""
        return any(
            head is not None and self._search.marker(workspace, branch) != head for branch, head in heads.items()
        )

    def catch_up(self, workspace: str, repository: Repository, snapshot: Callable[[], Snapshot]) -> None:
        """Brings every index of a workspace up to its branches. `snapshot` is asked for when history is up to date."""
        with self._lock:
            self._flush()
            for branch in BRANCHES:
                self._history_of(workspace, branch, repository)
            state = snapshot()
            self._evidence_of(workspace, repository)
            with self._catalog.batch():
                self._workspace(state)
            self.stale.discard(workspace)
            self._search.tell("touched", msgspec.msgpack.encode((workspace, None)))
            if self.hungers(workspace, _heads(repository)):
                self.starve((workspace,))

    def _history_of(self, workspace: str, branch: Branch, repository: Repository) -> None:
        head = repository.kept[branch]
        known = self._history.head(workspace, branch)
        if head is None:
            if known is not None:
                self._history.forget_branch(workspace, branch)
            return
        if known == head.hex():
            return
        bounds = self._history.bounds(workspace, branch)
        before = bounds.last_time if bounds is not None else 0
        since = Oid(bytes.fromhex(known)) if known is not None else None
        found = catch_up(repository, branch, head, since, before)
        first = next(found, None)
        if known is not None and (first is None or first.parents[:1] != (known,)):
            self._history.forget_branch(workspace, branch)  # it reflects something that is not on the line
            found = catch_up(repository, branch, head, None, 0)
            first = next(found, None)
        batch = [(workspace, first)] if first is not None else []
        for fact in found:
            batch.append((workspace, fact))
            if len(batch) >= _COMMITS:
                self._history.append(batch)
                batch = []
        self._history.append(batch)

    def _evidence_of(self, workspace: str, repository: Repository) -> None:
        head = repository.kept["evidence"]
        wanted = head.hex() if head is not None else None
        indexed = self._catalog.indexed(workspace).evidence
        if indexed == wanted:
            return
        if indexed is not None and not repository.database.has(Oid(bytes.fromhex(indexed))):
            indexed = None
        if indexed is None:
            self._catalog.clear_workspace(workspace)
        new = repository.tree(head)
        read = beginnings(lambda blob: repository.database.blob(Oid(bytes.fromhex(blob))), lambda: repository.objects)
        old = repository.tree(Oid(bytes.fromhex(indexed)) if indexed else None)
        places: dict[str, Touch] = {}
        for path in sorted({difference.path for difference in compare(repository.database, old.root, new.root)}):
            touch = self._history.last_touch(workspace, "evidence", path)
            if touch is None:
                raise Damaged(f"history does not know {path} of workspace {workspace}")
            place = evidence.folder_of(path) or path
            if place not in places or places[place].time <= touch.time:
                places[place] = touch  # of a record with several files the last change of any counts
        waiting = list(places.items())
        for at in range(0, len(waiting), _BATCH):
            with self._told(), self._catalog.batch():
                for place, touch in waiting[at : at + _BATCH]:
                    path = place if place.endswith(".yaml") else f"{place}/{evidence.ARTIFACT_DOCUMENT}"
                    self.records(workspace, new, [path], old.read, read, time=touch.time, commit=touch.commit)
        with self._catalog.batch():
            self._catalog.mark_indexed(workspace, Heads(None, wanted))
        if wanted is not None:
            self._search.mark(workspace, "evidence", wanted, indexed)

    def forget(self, workspace: str) -> None:
        """A workspace was deleted."""
        with self._lock:
            self._flush()
            self._history.forget(workspace)
            self._catalog.remove_workspace(workspace)
            with self._handing:
                self._since.pop(workspace, None)  # whoever feeds it puts nothing more
                self.extraction.forget(workspace)
            self._search.tell("touched", msgspec.msgpack.encode((workspace, None)))
            self.stale.discard(workspace)
            self.unfed.discard(workspace)


def _before(snapshot: Snapshot, fact: CommitFacts) -> Callable[[str], bytes | None]:
    """What reads a file as it was before a commit."""
    if not fact.parents:
        return lambda _: None
    parent = fact.parents[0]
    return lambda path: snapshot.tree_at(parent).read(path)


def _heads(repository: Repository) -> dict[Branch, str | None]:
    found: dict[Branch, str | None] = {}
    for branch in BRANCHES:
        head = repository.kept[branch]
        found[branch] = head.hex() if head is not None else None
    return found
