"""The derived indexes of a store, kept in step: history, catalog and search follow the branches and never lead them.

Everything here can be thrown away while the store is closed; `catch_up` makes it again from the branches.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterable

from gitstore import evidence
from gitstore.catalog import Catalog, Heads
from gitstore.changes import Change
from gitstore.context import WORKSPACE
from gitstore.directory import OldSlug, WorkspaceRow
from gitstore.documents import DocumentError, load
from gitstore.errors import Damaged
from gitstore.facts import catch_up
from gitstore.history import History, TimelineQuery
from gitstore.model import Artifact, Branch, Task, Touch, Workflow
from gitstore.repository.objects import Oid
from gitstore.repository.repository import Repository
from gitstore.repository.trees import TreeView, compare
from gitstore.search import Search, text_of
from gitstore.snapshot import Snapshot

BRANCHES: tuple[Branch, Branch] = ("main", "evidence")
_LONG = 50  # records that a catch-up read, from where on it is worth keeping soon
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

    def __init__(self, history: History, catalog: Catalog, search: Search) -> None:
        self._history = history
        self._catalog = catalog
        self._search = search
        self._lock = threading.RLock()
        self._waiting: list[Change] = []
        self._flushing = False
        self.stale: set[str] = set()  # workspaces whose indexes missed a change and must catch up

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
            with self._catalog.batch():
                last: dict[str, Snapshot] = {}
                for change in changes:
                    self._evidence(change)
                    last[change.owner.id] = change.snapshot.telling(change.owner.visible.told)
                for snapshot in last.values():
                    self._workspace(snapshot)
        except Exception:
            # The changes are durable in git whatever happens here, and whoever made them must be told so. What the
            # indexes missed is made good by a catch-up from the branches.
            log.exception("the derived indexes missed a change; they will catch up from git")
            self.stale.update(change.owner.id for change in changes)
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

    def _evidence(self, change: Change) -> None:
        workspace = change.owner.id
        for fact in change.facts:
            if fact.branch != "evidence":
                continue
            tree = change.snapshot.tree("evidence")
            paths = [path for changed in fact.changes for path in changed.paths]
            self.records(workspace, tree, paths, time=fact.time, commit=fact.id)
            before = fact.parents[0] if fact.parents else None
            self._search.mark(workspace, fact.id, before)
            self._catalog.mark_indexed(workspace, Heads(None, fact.id))

    def records(self, workspace: str, tree: TreeView, paths: Iterable[str], *, time: int, commit: str | None) -> None:
        """Brings the rows of the records that these paths of the evidence branch belong to, up to `tree`."""
        for found in evidence.changed(workspace, tree, paths, time=time, commit=commit):
            if isinstance(found, Workflow):
                self._catalog.put_workflow(workspace, found)
            elif isinstance(found, Task):
                self._catalog.put_task(workspace, found)
            elif isinstance(found, Artifact):
                self._catalog.put_artifact(workspace, found)
                self._search.put(workspace, found.id, self._text(tree, found))
            elif isinstance(found, evidence.Gone):
                if found.part == "artifact":
                    self._search.remove(workspace, found.id)
                    self._catalog.remove_artifact(workspace, found.id)
                elif found.part == "task":
                    self._catalog.remove_task(workspace, found.id)
                else:
                    self._catalog.remove_workflow(workspace, found.id)
            else:
                log.warning("workspace %s: %s cannot be read: %s", workspace, found.path, found.error)

    @staticmethod
    def _text(tree: TreeView, artifact: Artifact) -> str:
        data = tree.source.blob(Oid(bytes.fromhex(artifact.blob)))
        if len(data) != artifact.size:
            return ""  # a pointer, and what is as large is no text to be searched
        return text_of(artifact.content_type, data) or ""

    # -- catching up ----------------------------------------------------------------------------------------------

    def behind(self, workspace: str, heads: dict[Branch, str | None]) -> bool:
        """Whether any index reflects other heads than these."""
        wanted = Heads(heads["main"], heads["evidence"])
        return (
            workspace in self.stale
            or any(self._history.head(workspace, branch) != heads[branch] for branch in BRANCHES)
            or self._catalog.heads(workspace) != wanted
            or self._catalog.indexed(workspace).evidence != wanted.evidence
            or (heads["evidence"] is not None and self._search.marker(workspace) != heads["evidence"])
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
        marker = self._search.marker(workspace)
        if indexed == wanted and (marker == wanted or wanted is None):
            return
        # Catalog and search reach the disk at different times: after a kill one may reflect more than the other. What
        # is different from either is read again, and put into both.
        reflected = {indexed, marker}
        if None in reflected or not all(repository.database.has(Oid(bytes.fromhex(one))) for one in reflected if one):
            self._catalog.clear_workspace(workspace)
            self._search.forget(workspace)
            marker, reflected = None, {None}
        new = repository.tree(head)
        places: dict[str, Touch] = {}
        differences = {
            difference.path
            for one in reflected
            for difference in compare(
                repository.database, repository.tree(Oid(bytes.fromhex(one)) if one else None).root, new.root
            )
        }
        for path in sorted(differences):
            touch = self._history.last_touch(workspace, "evidence", path)
            if touch is None:
                raise Damaged(f"history does not know {path} of workspace {workspace}")
            place = evidence.folder_of(path) or path
            if place not in places or places[place].time <= touch.time:
                places[place] = touch  # of a record with several files the last change of any counts
        waiting = list(places.items())
        for at in range(0, len(waiting), _BATCH):
            with self._catalog.batch():
                for place, touch in waiting[at : at + _BATCH]:
                    path = place if place.endswith(".yaml") else f"{place}/{evidence.ARTIFACT_DOCUMENT}"
                    self.records(workspace, new, [path], time=touch.time, commit=touch.commit)
            if self._search.backlog > 20_000:
                self._search.flush()
        with self._catalog.batch():
            self._catalog.mark_indexed(workspace, Heads(None, wanted))
        if wanted is not None:
            self._search.mark(workspace, wanted, marker)
        if len(waiting) > _LONG:
            self._search.hasten()  # so that it is not done once more, should the process end soon

    def forget(self, workspace: str) -> None:
        """A workspace was deleted."""
        with self._lock:
            self._flush()
            self._history.forget(workspace)
            self._catalog.remove_workspace(workspace)
            self._search.forget(workspace)
            self.stale.discard(workspace)
