"""The store: one data folder, many workspaces, one process that writes.

Starting replays the journal, brings the derived indexes up to the branches, and opens nothing else: a workspace comes
into memory when somebody asks for it.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from gitstore import absent, documents, names, rewrites, values, workspaces
from gitstore.catalog import Catalog
from gitstore.changes import Change, Closed, Draft, Outcome, Workspace, all_told
from gitstore.context import WORKSPACE, Context
from gitstore.derived import BRANCHES, Derived
from gitstore.errors import Conflict, Damaged, GitstoreError, NotFound, StorageFailed, StoreBusy
from gitstore.extraction import Extraction
from gitstore.feeding import Feeder
from gitstore.history import History
from gitstore.homes import Homes
from gitstore.layout import Layout
from gitstore.lfs import Objects
from gitstore.lfs.locks import Locks
from gitstore.lfs.objects import sweep
from gitstore.model import SYSTEM, Branch, Fields, Problem, Provenance, Touch
from gitstore.pending import Pending
from gitstore.publisher import Publisher
from gitstore.recall import recall
from gitstore.repository import journal, replay
from gitstore.repository.database import TreeCache
from gitstore.repository.disk import Disk, Hold
from gitstore.repository.lives import ASIDE, Places
from gitstore.repository.recovery import recover
from gitstore.repository.repository import Repository
from gitstore.repository.status import status
from gitstore.rules import Policy
from gitstore.search import Search
from gitstore.secrets import Vault, decode_file
from gitstore.snapshot import NOWHERE, Line, Snapshot

T = TypeVar("T")
LARGE_BYTES = 4 << 20
log = logging.getLogger("gitstore.store")


class Options(msgspec.Struct, frozen=True):
    """What a store is told when it is opened. `secrets` is what happens to text that is certainly a
    credential, `hot` how many workspaces stay in memory, `large_bytes` the bytes over which content is a large object,
    `search_limit` the seconds that a search may take.
    """

    secret_key: str | None = None
    secrets: Policy = "refuse"
    hot: int = 512
    large_bytes: int = LARGE_BYTES
    search_limit: float = 2.0


class Store:
    """An open store. Every method may be called from any thread; those that read a cold workspace touch the disk."""

    def __init__(self, data: Path, options: Options, disk: Disk) -> None:
        self.layout = Layout(data.absolute())
        self.options = options
        self.disk = disk
        self.layout.root.mkdir(parents=True, exist_ok=True)
        try:
            self._hold = Hold(self.layout.lock)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise StorageFailed(f"{self.layout.lock} cannot be locked: {error.strerror or error}") from error
            raise StoreBusy(
                f"another process has the store {self.layout.root} open (probably `gitstore serve`): stop it first, "
                "or use the HTTP API"
            ) from None
        with ExitStack() as ends:
            ends.callback(self._hold.release)
            try:
                self._start(ends)
            except OSError as error:
                where = f" at {error.filename}" if error.filename else ""
                raise StorageFailed(
                    f"the store {self.layout.root} cannot be opened: {error.strerror or error}{where}; what was "
                    "promised stays in its journal for the next start"
                ) from error
            self._ends = ends.pop_all()

    @classmethod
    def open(cls, data: Path, options: Options | None = None, *, disk: Disk | None = None) -> Store:
        """Opens the store in `data`, making one where there is none.

        Raises StoreBusy where another process has it open, FormatUnknown, Damaged, StorageFailed.
        """
        return cls(data, options or Options(), disk or Disk())

    # -- starting and stopping ------------------------------------------------------------------------------------

    def _start(self, ends: ExitStack) -> None:
        """Opens all there is; `ends` is told of what has to be let go of, whether the start succeeds or not."""
        layout = self.layout
        layout.make(self.disk)
        layout.check()
        self.vault = Vault.open(layout.secrets, self.options.secret_key)
        self._trees = TreeCache()
        #: The folders of the workspaces, as the disk has them.
        self.homes = Homes(self.disk, layout.workspaces, self._trees)
        self._hot: OrderedDict[str, Workspace] = OrderedDict()
        ends.callback(self._close_repositories)
        self._opening = threading.Lock()
        self.naming = threading.RLock()
        self._taken: set[str] = set()
        self._moved: dict[str, str] = {}  # folders that were renamed by hand while their workspace was not in memory
        self._sources: dict[str, dict[str, tuple[Problem, ...]]] = {}  # what is told of each workspace, by who tells it
        self._history = History(layout.derived / "history.sqlite")
        ends.callback(self._history.close)
        self._catalog = Catalog(layout.derived / "catalog.sqlite")
        ends.callback(self._catalog.close)
        self._search = Search(
            layout.derived / "search", catalog=layout.derived / "catalog.sqlite", limit=self.options.search_limit
        )
        ends.callback(self._search.close)
        self.extraction = Extraction(
            layout.derived / "texts.sqlite",
            self._search,
            lambda identity, blob, most: self.load(identity).beginning(blob, most),
        )
        ends.callback(self.extraction.stop)
        if self.extraction.opened_empty:  # what waited for a text is not known any more
            for identity in self._search.workspaces():
                self._search.forget(identity)
        self.derived = Derived(self._history, self._catalog, self._search, self.extraction)
        sweep(self.disk, str(layout.large))
        recover(self.disk, Places(layout.root), self._trees)
        self._find_workspaces()
        self.journal = journal.Journal(self.disk, str(layout.journal), self._settled)
        self.publisher = Publisher(
            self.disk,
            str(layout.root),
            self.journal,
            str(layout.secrets),
            self.all_hot,
            self._tidy,
            self._joined,
        )
        self.journal.start()
        self.publisher.start()
        self.feeder = Feeder(
            self._catalog,
            self._history,
            self._search,
            self.derived,
            lambda identity: self.load(identity).visible,
            layout.derived,
        )
        self.feeder.start()
        self.extraction.start()

    def close(self) -> None:
        """Finishes what was promised, then lets go of the folder."""
        with self._ends:  # each of them comes, whatever becomes of the others; the last one first
            self.feeder.stop()
            self.extraction.pause()
            self.journal.stop()
            self.publisher.stop()
            self.derived.flush()
            try:
                self._follow()
            except (GitstoreError, OSError) as error:
                log.warning("the indexes catch up at the next start: %s", error)
            try:
                self.journal.checkpoint(str(self.layout.root))
            except OSError as error:
                log.warning("the journal keeps what it has for the next start: %s", error)

    def _close_repositories(self) -> None:
        for workspace in self._hot.values():
            workspace.repository.database.close()

    @property
    def history(self) -> History:
        """The history index, up to everything that is durable."""
        self.derived.flush()
        return self._history

    @property
    def catalog(self) -> Catalog:
        """The catalog, up to everything that is durable."""
        self.derived.flush()
        return self._catalog

    @property
    def search(self) -> Search:
        """The search index, told of everything that is durable."""
        self.derived.flush()
        return self._search

    # -- folders --------------------------------------------------------------------------------------------------

    def stranger(self, folder: str) -> bool:
        """Whether a folder is that of no workspace of this store, and none is about to be made there."""
        path = self.layout.workspaces / folder
        if folder.startswith(".") or path.is_symlink() or not path.is_dir():
            return False
        if self._holder(names.fold(folder)) is not None or names.fold(folder) in self._taken:
            return False
        owner = self.homes.owner(folder)
        return owner is None or self._catalog.workspace(owner) is None

    def admit(self, folder: str) -> str:
        """Lists the workspace in a folder that is whole; its id. Raises Conflict where the id is taken, Damaged."""
        repository = self.homes.at(folder)
        try:
            repository.open()
            replay.heal(self.disk, repository, replay.booted())
            identity = self._identity(folder, repository)
            if self._catalog.workspace(identity) is not None:
                raise Conflict(f"there is a workspace with the id {identity} already", details={"id": identity})
            self._catch_up(identity, repository)
        finally:
            repository.database.close()
        self.load(identity)  # so that what it says of its name follows the folder's
        return identity

    def folder_of(self, identity: str) -> str | None:
        """Where a workspace's folder should be; None while it is being made, renamed or deleted."""
        workspace = self._hot.get(identity)
        if workspace is None:
            row = self._catalog.workspace(identity)
            return self._moved.get(identity, row.slug) if row is not None else None
        with workspace.publishing:
            if workspace.deleting or workspace.repository.kept["main"] is None:
                return None
            name = os.path.basename(workspace.repository.root)
            return None if name.startswith(ASIDE) else name

    def relocated(self, identity: str, folder: str, who: Provenance) -> None:
        """Somebody renamed a workspace's folder: that is its slug now. Raises Conflict where it is another's."""
        with self.claim(folder, identity):
            pass  # only whether it could be had
        workspace = self._hot.get(identity)
        if workspace is None:
            self._moved[identity] = folder
            workspace = self.load(identity)
        else:
            with workspace.publishing:
                workspace.repository.relocate(str(self.layout.workspaces / folder))
        self.apply(identity, "main", lambda draft: workspaces.name_after_folder(draft, folder), who).result()

    def leave(self, identity: str) -> bool:
        """The folder of a workspace is gone: it is not listed until it is back. False while it is in use."""
        with self._opening:
            workspace = self._hot.get(identity)
            if workspace is not None:
                self.publisher.settle(workspace)
                if not workspace.close():
                    return False
                self._hot.pop(identity).repository.database.close()
        self._moved.pop(identity, None)
        self._sources.pop(identity, None)
        self.derived.forget(identity)
        return True

    def in_folder(self, folder: str) -> Workspace | None:
        """The workspace whose folder this is; None for a folder of something else. Raises Damaged."""
        identity = self.homes.at(folder).belongs_to()
        row = self._catalog.workspace(identity) if identity is not None else None
        if row is None:
            return None
        workspace = self.load(row.id)
        return workspace if os.path.basename(workspace.repository.root) == folder else None

    def edited(self, folder: str, limit: int) -> bool:
        """Whether a folder has edits, or a branch that somebody's git moved, found without reading it into memory."""
        repository = self.homes.at(folder)
        identity = repository.belongs_to()
        if identity is None or self._catalog.workspace(identity) is None:
            return False
        hot = self._hot.get(identity)
        if hot is not None and hot.unpublished:
            return False  # it is about to be written to; the events of that say to look
        try:
            repository.open()
            if repository.foreign() is not None:
                return True
            if repository.occupied() is not None:
                return False
            found = status(self.disk, repository, limit=limit, large_bytes=self.large_bytes)
            return bool(found.edits or found.troubles or repository.bases)
        finally:
            repository.database.close()

    @property
    def in_memory(self) -> int:
        """How many workspaces are in memory."""
        return len(self._hot)

    def last_touch(self, workspace: str, branch: Branch, path: str) -> Touch | None:
        """The durable commit that last changed a path."""
        return self.history.last_touch(workspace, branch, path)

    def told(self, workspace: Workspace) -> None:
        """The problems that are told of a workspace are others now: lists show them too."""
        try:
            self.derived.refresh(workspace.visible)
        except StorageFailed as error:
            # What is told is true all the same, and whoever tells of a full disk must not stumble over it.
            log.warning("the lists do not show what is wrong with %s yet: %s", workspace.id, error)
            self.derived.stale.add(workspace.id)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _find_workspaces(self) -> None:
        """Reads where every branch is, and brings the indexes of those that moved up to date."""
        alive = set()
        since = replay.booted()
        for folder in self.homes.at_start():
            path = str(self.layout.workspaces / folder)
            repository = self.homes.at(folder)
            try:
                repository.open()
                if repository.kept["main"] is not None:
                    replay.heal(self.disk, repository, since)
                    repository.furnish()
                if repository.kept["main"] is None:
                    log.warning("%s is not a workspace of this store: gitstore import takes it in", path)
                    continue
                workspace = self._identity(folder, repository)
                if workspace in alive:
                    log.warning("%s has the id of another workspace (%s); it is left out", path, workspace)
                    continue
                alive.add(workspace)
                heads: dict[Branch, str | None] = {}
                for branch in BRANCHES:
                    head = repository.kept[branch]
                    heads[branch] = head.hex() if head is not None else None
                moved = repository.foreign() is not None or repository.shown != repository.kept
                row = self.catalog.workspace(workspace)
                if row is not None and row.slug != folder:
                    moved = True  # the folder was renamed, and its name is the slug
                if moved or self.derived.behind(workspace, heads):
                    self._catch_up(workspace, repository)
                elif self.derived.hungers(workspace, heads):
                    self.derived.starve((workspace,))
            except Damaged as error:
                log.error("%s cannot be opened: %s", path, error)
            finally:
                repository.database.close()
        for gone in set(self.catalog.workspaces()) - alive:
            self.derived.forget(gone)

    def _identity(self, folder: str, repository: Repository) -> str:
        known = self.catalog.find(folder)
        if known is not None and self.catalog.heads(known).main == (repository.kept["main"] or b"").hex():
            return known
        return self.homes.identity(folder, repository)

    def _catch_up(self, workspace: str, repository: Repository) -> None:
        self.derived.catch_up(workspace, repository, lambda: self._snapshot(workspace, repository))

    # -- workspaces in memory -------------------------------------------------------------------------------------

    def _snapshot(self, workspace: str, repository: Repository) -> Snapshot:
        lines: dict[str, Line] = {}
        for branch in BRANCHES:
            head = repository.kept[branch]
            bounds = self.history.bounds(workspace, branch)
            lines[branch] = (
                Line(head, repository.commit(head).tree, bounds.last_time if bounds is not None else 0)
                if head is not None
                else NOWHERE
            )
        bounds = self.history.bounds(workspace, "main")
        try:
            sealed, generation = decode_file((self.layout.secrets / workspace).read_bytes())
        except FileNotFoundError:
            sealed, generation = {}, 0
        now = int(time.time() * 1000)
        context = recall(self.history, repository, workspace, now=now, policy=self.options.secrets)
        context = self._named(context, workspace, os.path.basename(repository.root))
        return Snapshot(
            workspace,
            context,
            lines,
            repository,
            created_at=bounds.first_time if bounds is not None else 0,
            spec_version=self.history.version_count(workspace, "spec"),
            sealed=sealed,
            sealed_generation=generation,
            told=all_told(self._sources.get(workspace, {})),
        )

    def _named(self, context: Context, workspace: str, folder: str) -> Context:
        """The context with the slug that its folder says, and with fields where none could be read."""
        fields = context.fields if context.fields.id else Fields(workspace, folder, folder)
        if not folder.startswith("."):  # on its way from one name to another
            fields = msgspec.structs.replace(fields, slug=folder)
        return context if fields == context.fields else msgspec.structs.replace(context, fields=fields)

    def find(self, reference: str) -> str:
        """The id of a workspace, given its id in any case, its slug, or a slug it had. Raises NotFound."""
        found = self._catalog.find(reference)
        if found is None:
            raise NotFound(f"there is no workspace `{names.one_line(reference)}`")
        return found

    def hot(self, reference: str) -> Workspace | None:
        """The workspace if it is in memory: then asking costs nothing."""
        found = self._catalog.find(reference)
        workspace = self._hot.get(found) if found is not None else None
        return workspace if workspace is not None and not workspace.closed else None

    def all_hot(self) -> list[Workspace]:
        """The workspaces in memory."""
        return list(self._hot.values())

    def load(self, reference: str) -> Workspace:
        """The workspace, read from disk if need be. Raises NotFound, Damaged."""
        identity = self.find(reference)
        with self._opening:
            workspace = self._hot.get(identity)
            if workspace is not None and workspace.deleting:
                # Its folder must not be read again: not all of it is there yet, or any more.
                raise NotFound(f"there is no workspace `{names.one_line(reference)}`")
            if workspace is not None and not workspace.closed:
                self._hot.move_to_end(identity)
                return workspace
            row = self.catalog.workspace(identity)
            if row is None:
                raise NotFound(f"there is no workspace `{names.one_line(reference)}`")
            folder = self._moved.get(identity, row.slug)
            repository = self.homes.at(folder)
            repository.open()
            if repository.kept["main"] is None:
                raise Damaged(f"the folder of the workspace `{row.slug}` is gone: bring it back, or restore a backup")
            repository.furnish()
            sources = self._sources.setdefault(identity, {})
            sources[rewrites.SOURCE] = rewrites.standing(self.history, repository, identity)
            now, known = int(time.time() * 1000), sources.get(absent.SOURCE, ())
            sources[absent.SOURCE] = absent.standing(repository, repository.kept["main"], now, known)
            workspace = Workspace(
                self._snapshot(identity, repository), repository, folder, self._submit, self, self.vault,
                sources,
            )  # fmt: skip
            self._hot[identity] = workspace
            self._make_room()
        self._moved.pop(identity, None)
        if workspace.visible.context.fields.slug != _said(workspace.visible):
            # The folder was renamed while nobody looked, and wins.
            who = Provenance(SYSTEM, "disk")
            workspace.apply("main", lambda draft: workspaces.name_after_folder(draft, folder), who)
        return workspace

    @property
    def large_bytes(self) -> int:
        """Content of more bytes than this is kept out of git, as a large object."""
        return self.options.large_bytes

    def objects(self, reference: str) -> Objects:
        """The large objects of a workspace. Raises NotFound, Damaged."""
        workspace = self.hot(reference) or self.load(reference)
        if not os.path.exists(f"{workspace.repository.git}/HEAD"):
            self.publisher.publish(workspace)  # it was made a moment ago, and its folder follows
        return workspace.repository.objects

    def locks(self, reference: str) -> Locks:
        """The locks of a workspace's files. Raises NotFound, Damaged."""
        self.objects(reference)  # so that it has its folder
        workspace = self.hot(reference) or self.load(reference)
        return Locks(self.disk, workspace.repository.git)

    def _joined(self, workspace: Workspace) -> None:
        """A branch was taken in that somebody's git had moved."""
        workspace.tell(rewrites.SOURCE, rewrites.standing(self.history, workspace.repository, workspace.id))
        self._missed(workspace)

    def received(self, reference: str) -> None:
        """Large objects came: what is told of those that were missing is told anew."""
        workspace = self.hot(reference)
        if workspace is not None and workspace.sources.get(absent.SOURCE):
            self._missed(workspace)

    def _missed(self, workspace: Workspace) -> None:
        known, head = workspace.sources.get(absent.SOURCE, ()), workspace.visible.main.oid
        workspace.tell(absent.SOURCE, absent.standing(workspace.repository, head, int(time.time() * 1000), known))

    def _tidy(self) -> None:
        """What is done every second: the indexes follow, those that missed something catch up, memory is given back."""
        self.derived.flush()
        self._follow()
        for workspace in self.all_hot():
            if workspace.sources.get(absent.SOURCE) and not workspace.closed:
                self._missed(workspace)
        self.make_room()

    def _follow(self) -> None:
        """Indexes that missed a change, on a full disk say, catch up from git."""
        for identity in list(self.derived.stale):
            workspace = self._hot.get(identity)
            if workspace is None or not workspace.unpublished:
                row = self._catalog.workspace(identity)
                loaded = workspace if workspace is not None else self.load(identity) if row is not None else None
                if loaded is not None:
                    with loaded.publishing:
                        self._catch_up(identity, loaded.repository)

    def make_room(self) -> None:
        """Lets the workspaces that were not asked for lately leave memory, as far as nothing is under way in them."""
        with self._opening:
            self._make_room()

    def _make_room(self) -> None:
        for identity in list(self._hot)[:-1]:  # never the one that was asked for just now
            if len(self._hot) <= self.options.hot:
                return
            if self._hot[identity].close():
                self._hot.pop(identity).repository.database.close()

    def _submit(self, entry: journal.Entry) -> None:
        self.journal.submit(entry)

    def _settled(self, group: list[journal.Entry]) -> None:
        """The journal has a group on disk: the indexes learn of it, then whoever waits."""
        changes = [entry for entry in group if isinstance(entry, Change)]
        for change in changes:
            change.owner.begin()  # what is listed and not in memory would be looked for in its folder
        self.derived.apply(changes)
        owned: dict[Workspace, list[Change]] = {}
        for change in changes:
            owned.setdefault(change.owner, []).append(change)
        for owner, its in owned.items():
            owner.durable(its)
        for entry in group:
            try:
                entry.done()
            except Exception:
                # One waiter's callback must not keep the others of the group, or the next groups, from their answers.
                log.exception("a durable change could not be told to whoever waits for it")
        for change in changes:
            self.publisher.changed(change.owner)

    def apply(
        self, reference: str, branch: Branch, operation: Callable[[Draft], T], who: Provenance
    ) -> Pending[Outcome[T]]:
        """Hands a change to its workspace. What the operation raises is raised here; then nothing has happened."""
        while True:
            workspace = self.hot(reference) or self.load(reference)
            try:
                return workspace.apply(branch, operation, who)
            except Closed:
                continue  # it left memory between the look-up and the change

    # -- creating, renaming, deleting -----------------------------------------------------------------------------

    def holder(self, slug: str) -> str | None:
        """The id of the workspace that has this slug now, ignoring case."""
        return self._holder(names.fold(slug))

    def _holder(self, folded: str) -> str | None:
        """The workspace that has this slug now (one that had it before gives it up)."""
        found = self._catalog.find(folded)
        row = self._catalog.workspace(found) if found is not None else None
        return found if row is not None and names.fold(row.slug) == folded else None

    def _stranger(self, folded: str) -> bool:
        """Whether a folder with this name is there that is none of ours (one of ours is about to leave it)."""
        name = self.homes.like(folded)
        known = self.homes.at(name).belongs_to() if name is not None else None
        return name is not None and (known is None or self._catalog.workspace(known) is None)

    @contextmanager
    def claim(self, slug: str, owner: str | None = None) -> Iterator[Callable[[Pending[Any]], None]]:
        """Holds a slug until the change that takes it is settled; what is yielded is told of that change."""
        folded = names.fold(slug)
        with self.naming:
            taken = folded in self._taken  # asked first: what ends meanwhile is in the catalog by then
            holder = self._holder(folded)
            if taken or (holder is not None and holder != owner):
                raise Conflict(f"the slug `{slug}` is taken: choose another", details={"slug": slug})
            if holder is None and self._stranger(folded):
                raise Conflict(
                    f"the folder `workspaces/{slug}` is there already and is no workspace of this store",
                    details={"slug": slug},
                )
            self._taken.add(folded)
        handed: list[Pending[Any]] = []
        try:
            yield handed.append
        finally:
            if handed:
                handed[0].add_done_callback(lambda _: self._taken.discard(folded))
            else:
                self._taken.discard(folded)

    def create(
        self, slug: str, operation: Callable[[Draft], T], who: Provenance, *, identity: str | None = None
    ) -> Pending[Outcome[T]]:
        """Makes a workspace with its first commit. Raises Conflict where the slug or the id is taken."""
        identity = identity or names.new_id()
        if self._catalog.workspace(identity) is not None:
            raise Conflict(f"there is a workspace with the id {identity} already")
        with self.claim(slug) as claimed:
            repository = Repository(self.disk, str(self.layout.workspaces / slug), self._trees, workspace=identity)
            repository.kept = {"main": None, "evidence": None}
            repository.shown = dict(repository.kept)
            empty = Snapshot(
                identity, Context(policy=self.options.secrets), {"main": NOWHERE, "evidence": NOWHERE}, repository,
                created_at=0, spec_version=0, sealed={}, sealed_generation=0,
            )  # fmt: skip
            workspace = Workspace(
                empty, repository, slug, self._submit, self, self.vault, self._sources.setdefault(identity, {})
            )
            workspace.on_first = self._admit
            pending = workspace.apply("main", operation, who)
            claimed(pending)
            return pending

    def _admit(self, workspace: Workspace) -> None:
        with self._opening:
            self._hot[workspace.id] = workspace
            self._make_room()

    def adopt(self, folder: Path, slug: str, identity: str) -> None:
        """Takes in a whole workspace folder of the same file system, already synced: it is moved to its place, durably,
        then listed. Where the indexes fail, a start makes them good.

        Raises Conflict where the id or slug is taken, StorageFailed; then the folder is where it was.
        """
        with self.naming, self.claim(slug):
            if self._catalog.workspace(identity) is not None:
                raise Conflict(f"there is a workspace with the id {identity} already", details={"id": identity})
            target = self.layout.workspaces / slug
            try:
                self.disk.rename(str(folder), str(target))
            except OSError as error:
                raise StorageFailed(f"{folder} cannot be moved to {target}: {error.strerror or error}") from error
            self.disk.sync_folder(str(self.layout.workspaces))
            self.disk.sync_folder(str(folder.parent))
            repository = self.homes.at(slug)
            try:
                repository.open()
                self._catch_up(identity, repository)
            finally:
                repository.database.close()

    def delete(self, reference: str, check: Callable[[Snapshot], T]) -> Pending[T]:
        """Moves a workspace to the trash. `check` sees its newest state and may object by raising."""
        while True:
            workspace = self.load(reference)
            with workspace.lock:
                if not workspace.closed:
                    return self._delete(workspace, check(workspace.tip))
            # It left memory between the look-up and the lock; if it is being deleted, there is none to load.

    def _delete(self, workspace: Workspace, value: T) -> Pending[T]:
        trashed = f"{values.iso(int(time.time() * 1000)).replace(':', '')[:17]}Z-{workspace.folder}-{workspace.id[:8]}"
        pending: Pending[T] = Pending()
        record = journal.Record(workspace.id, workspace.folder, trashed=trashed)

        def done() -> None:
            self.derived.forget(workspace.id)
            self._sources.pop(workspace.id, None)
            with self._opening:
                self._hot.pop(workspace.id, None)
            self.publisher.trash(workspace, str(self.layout.trash / trashed), entry, lambda: pending.settle(value))

        def stay() -> None:
            workspace.closed = workspace.deleting = False

        def failed(error: BaseException) -> None:
            stay()
            pending.fail(error)

        entry = journal.Entry(journal.encode(record), done, failed)
        workspace.closed = workspace.deleting = True
        try:
            self._submit(entry)
        except BaseException:
            stay()
            raise
        return pending


def _said(snapshot: Snapshot) -> object:
    """The slug that the file says; that of the workspace where it cannot be read."""
    try:
        document = documents.load(snapshot.tree().read(WORKSPACE) or b"", WORKSPACE)
    except documents.DocumentError:
        document = None
    return document.get("slug") if isinstance(document, dict) else snapshot.context.fields.slug
