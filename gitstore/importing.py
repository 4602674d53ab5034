"""Taking a folder in as a workspace: a plain folder, or a git repository with its history.

The new repository is built and checked in `incoming/` below the data folder, synced, and then renamed into
`workspaces/`: a crash before the rename leaves nothing but scratch, which the next import sweeps; after it the
workspace is whole, and a start finds it. What is refused leaves nothing.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from gitstore import copying, documents, names, parsed, schemas, source
from gitstore.acceptance import Fault, Refused, distinct, evidence_faults, main_faults, records
from gitstore.context import RESERVED, WORKSPACE
from gitstore.errors import Conflict, Damaged, Invalid, NotFound
from gitstore.facts import author, line, message, server_signature, time_of, walk
from gitstore.lfs import POINTER_MAX, Objects, Pointer
from gitstore.lfs.attributes import NAME, Attributes, added, may_be_large
from gitstore.lfs.pointer import decode, spellings
from gitstore.model import SYSTEM, Artifact, Branch, Provenance, Task, Workflow
from gitstore.repository.commits import Signature, build
from gitstore.repository.database import TreeCache
from gitstore.repository.disk import Disk
from gitstore.repository.objects import BLOB, EMPTY_TREE, Blob, Object, Oid, identify
from gitstore.repository.repository import Repository
from gitstore.repository.transfer import copy
from gitstore.repository.trees import FILE_MODE, Node, TreeView, rewrite
from gitstore.rules import Policy
from gitstore.store import Store

AHEAD = 10 * 60 * 1000  # ms that a commit may be dated ahead of the clock
_BATCH = 16 << 20  # bytes of file content that are held at once
_CLI = Provenance(SYSTEM, "cli")

Progress = Callable[[str, int, int | None], None]


class Imported(msgspec.Struct, frozen=True):
    """What came of an import; `commits` are those of the two first-parent lines, `notes` what a person should know."""

    id: str
    slug: str
    name: str
    main: str
    evidence: str | None
    commits: int
    workflows: int
    tasks: int
    artifacts: int
    notes: tuple[str, ...] = ()


def import_folder(
    store: Store,
    folder: Path,
    *,
    slug: str | None = None,
    new_id: bool = False,
    who: Provenance = _CLI,
    progress: Progress | None = None,
) -> Imported:
    """Takes `folder` in as a new workspace of an open store, durably; it is listed and searchable on return.

    `slug` replaces the one in `workspace.yaml`; `new_id` gives the workspace and its workflows, tasks and artifacts
    new ids. Raises Refused with every problem at once; Conflict where the id or slug is taken (also the id of a
    workflow or task); NotFound, Invalid, StorageFailed.
    """
    disk = Disk()
    incoming = store.layout.root / "incoming"
    scratch = incoming / names.new_id()
    with store.naming:  # one import at a time: what else is in there was left by a crash
        shutil.rmtree(incoming, ignore_errors=True)
        try:
            scratch.mkdir(parents=True)
            building = Importing(store, disk, folder, scratch, who, progress or (lambda *_: None))
            result = building.run(slug, new_id)
            disk.sync_all(str(store.layout.root))
            store.adopt(scratch, result.slug, result.id)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
    return result


class Importing:
    """One import under way: `run` builds the repository in `scratch`.

    `heads` are then its branches, `read` the blobs of the plain files it read.
    """

    def __init__(
        self,
        store: Store,
        disk: Disk,
        folder: Path,
        scratch: Path,
        who: Provenance,
        progress: Progress = lambda *_: None,
    ) -> None:
        self.store = store
        self.disk = disk
        self.folder = folder.absolute()
        self.scratch = scratch
        self.who = who
        self.progress = progress
        self.policy: Policy = store.options.secrets
        self.now = int(time.time() * 1000)
        self.faults: list[Fault] = []
        self.notes: list[str] = []
        self.repository = Repository(disk, str(scratch), TreeCache())
        self.heads: dict[Branch, Oid | None] = {"main": None, "evidence": None}
        self.times: dict[Branch, int] = {"main": 0, "evidence": 0}
        self.commits = 0
        self.read: set[Oid] = set()

    def run(self, slug: str | None, new_id: bool) -> Imported:
        """Builds the repository in the scratch folder, or raises."""
        for folder in ("gitstore", "objects/pack"):
            self.disk.makedirs(f"{self.repository.git}/{folder}")
        try:
            return self._run(slug, new_id)
        finally:
            self.repository.database.close()

    def _run(self, slug: str | None, new_id: bool) -> Imported:
        git = source.Git.find(self.folder)
        found = source.scan(self.folder) if git is None or git.git != self.folder else source.Scan({}, {}, [])
        if git is not None:
            self._history(git)
            roots = {branch: self.repository.tree(self.heads[branch]).root for branch in ("main", "evidence")}
            self.faults += [fault for fault in found.faults if fault.path.startswith(f"{RESERVED}/")]
            self._uncommitted(found, TreeView(self.repository.database, roots["main"]))
        else:
            self.faults += found.faults
            roots = {"main": self._tree(found.main, EMPTY_TREE, main=True), "evidence": EMPTY_TREE}
        inside = self._reserved(roots["main"])
        if found.evidence or inside:
            # What the folder shows is what counts: also where the branch has something else.
            given = self._tree(found.evidence, inside or EMPTY_TREE, main=False)
            roots["evidence"] = self._edited(given, _placed(TreeView(self.repository.database, given)))
        identity, fields, roots["main"] = self._fields(roots["main"], slug, new_id)
        old, identity = identity, names.new_id() if new_id or identity is None else identity
        if new_id:
            view = TreeView(self.repository.database, roots["evidence"])
            roots["evidence"] = self._edited(roots["evidence"], copying.renumber(view, old, identity, self._touched()))
        if fields.get("id") != identity:
            roots["main"] = self._workspace(roots["main"], {**fields, "id": identity})
        if not new_id and self.store.catalog.workspace(identity) is not None:
            raise Conflict(
                f"the workspace {identity} is in this store already: import with --new-id (and --slug) to get a second "
                "copy, or delete the first one",
                details={"id": identity},
            )
        if not new_id and (self.store.layout.secrets / identity).exists():
            # Its secrets belong to what is in the trash; a folder that only says the same id must not inherit them.
            raise Conflict(
                f"the workspace {identity} was deleted and can still be restored: `gitstore workspace restore` brings "
                "it back, `gitstore workspace purge` removes it for good, --new-id imports a second copy",
                details={"id": identity},
            )
        head = self.heads["main"]
        if head is None or self.repository.commit(head).tree != roots["main"]:
            roots["main"] = self._described(roots["main"])
        counts = self._validate(identity, roots)
        self._free(str(fields["slug"]))
        self._commit("main", roots["main"])
        if roots["evidence"] != EMPTY_TREE:
            self._commit("evidence", roots["evidence"])
        self._put(identity)
        main = self.heads["main"]
        assert main is not None
        return Imported(
            identity,
            str(fields["slug"]),
            str(fields["name"]),
            main.hex(),
            evidence_head.hex() if (evidence_head := self.heads["evidence"]) is not None else None,
            self.commits,
            *counts,
            tuple(self.notes),
        )

    # -- what is there ----------------------------------------------------------------------------------------------

    def _history(self, git: source.Git) -> None:
        """Copies what HEAD and the evidence branch reach; raises Refused where it is not sound."""
        try:
            self.faults += git.examine(self.policy, lambda done: self.progress("reading history", done, None))
            unsound = [fault for fault in self.faults if "git fsck" in fault.hint]
            if unsound:
                raise Refused(f"{self.folder} cannot be imported", self.faults)
            copy(
                git.database,
                git.objects,
                self.repository.database.write_entries,
                lambda done, total: self.progress("copying objects", done, total),
            )
        finally:
            git.database.close()
        self.heads.update({"main": git.main, "evidence": git.evidence})
        if git.left_out:
            self.notes.append(f"{git.left_out} other branches and tags were not imported")
        self._objects(git)
        for branch, head in self.heads.items():
            commits = line(self.repository, head, None)
            self.commits += len(commits)
            self.times[branch] = max((time_of(commit) for _, commit in commits), default=0)
            if self.times[branch] > self.now + AHEAD:
                self.faults.append(
                    Fault(str(git.git), f"has a commit dated more than 10 minutes ahead on {branch}", "Mend the clock.")
                )

    def _objects(self, git: source.Git) -> None:
        """Takes in the large objects that come with a repository; what is missing, or is not what it says, is noted."""
        offered, own = Objects(self.disk, str(git.git)), self.repository.objects
        for done, oid in enumerate(offered.oids()):
            pointer = Pointer(oid, offered.size(oid) or 0)
            if any(identify(BLOB, text) in git.objects for text in spellings(pointer)):
                self.progress("copying large objects", done, None)
                try:
                    with offered.open(oid) as file:
                        own.take(file, pointer)
                except (Invalid, NotFound, Damaged):
                    self.notes.append(f"the large object {oid} is damaged and was not imported")
        heads = (self.heads["main"], self.heads["evidence"])
        every = [one for head in heads for one in self.repository.pointers(head)]
        missing = sorted({path for path, pointer in every if not own.has(*pointer)})
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            self.notes.append(
                f"only pointers of Git LFS came for {', '.join(missing[:3])}{more}: `git lfs fetch --all` in the "
                "folder gets the content before an import, `git lfs push` after it"
            )

    def _touched(self) -> dict[str, int]:
        """When each path of the evidence branch was last changed."""
        commits = line(self.repository, self.heads["evidence"], None)
        facts = walk(self.repository, "evidence", commits, 0)
        return {changed.path: fact.time for fact in facts for changed in fact.changes}

    def _uncommitted(self, found: source.Scan, tree: TreeView) -> None:
        """Notes what of a repository's work tree is not committed, and so does not come along."""
        if not found.main:
            return
        changed = []
        database = self.repository.database
        for path, node in tree.walk():
            place = found.main.get(path)
            if node.mode & 0o170000 == 0o100000 and (place is None or not source.holds(place, node.id, database)):
                changed.append(path)
        governed = ("memory/", "spec/", "files/", "settings.yaml", WORKSPACE)
        changed += [path for path in found.main if path.startswith(governed) and tree.blob(path) is None]
        if changed:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            self.notes.append(
                f"only what is committed was imported; not committed: {', '.join(sorted(changed)[:3])}{more}"
            )

    def _tree(self, files: Mapping[str, str], base: Oid, *, main: bool) -> Oid:
        """The root of a tree with these files on top of `base`; their blobs go to disk as they are read."""
        edits: dict[str, Node | None] = {}
        batch: list[Object] = []
        size = 0
        view = TreeView(self.repository.database, base)

        def said(path: str) -> bytes | None:
            return source.content(files[path]) if path in files else view.read(path)

        attributes = Attributes(said)
        written: dict[str, bytes] = {}
        for done, (path, place) in enumerate(files.items()):
            blob, needs = self._kept(path, place, attributes)
            if needs:
                below = "" if main else path.rpartition("/")[0] + "/"
                name = f"{below}{NAME}"
                written[name] = added(written.get(name, said(name)), path.removeprefix(below))
            self.read.add(blob.id)
            edits[path] = Node(FILE_MODE, blob.id)
            batch.append(blob)
            size += len(blob.data)
            if size > _BATCH:
                self.repository.database.publish(batch)
                batch, size = [], 0
                self.progress("reading files", done, len(files))
        for path, data in written.items():
            blob = Blob(data)
            edits[path] = Node(FILE_MODE, blob.id)
            batch.append(blob)
        self.repository.database.publish(batch)
        return self._edited(base, edits)

    def _kept(self, path: str, place: str, attributes: Attributes) -> tuple[Blob, bool]:
        """A file as git is to keep it, and whether it is a large object of which no attributes say so yet."""
        covered = attributes.covers(path)
        with source.opened(place) as file:
            size = os.fstat(file.fileno()).st_size
            if not covered and (size <= self.store.large_bytes or not may_be_large(path)):
                return Blob(file.read()), False
            head = file.read(POINTER_MAX + 1)
            if not size or (len(head) <= POINTER_MAX and decode(head) is not None):
                return Blob(head), False
            file.seek(0)
            return Blob(self.repository.objects.take(file).encode()), not covered

    def _edited(self, root: Oid, edits: Mapping[str, Node | Blob | None]) -> Oid:
        database = self.repository.database
        blobs = [edit for edit in edits.values() if isinstance(edit, Blob)]
        nodes = {path: Node(FILE_MODE, edit.id) if isinstance(edit, Blob) else edit for path, edit in edits.items()}
        # Removed first: a file may take the place of a folder that goes.
        for part in ({p: n for p, n in nodes.items() if n is None}, {p: n for p, n in nodes.items() if n is not None}):
            root, trees = rewrite(database, root, part)
            database.publish([*blobs, *(item for item, _ in trees)])
            database.close()
            blobs = []
        return root

    def _reserved(self, root: Oid) -> Oid | None:
        """The tree of an `evidence` folder that was committed to the context branch; it does not belong there."""
        node = TreeView(self.repository.database, root).node(RESERVED)
        return node.id if node is not None and node.mode == 0o40000 else None

    # -- who it is --------------------------------------------------------------------------------------------------

    def _fields(self, root: Oid, slug: str | None, new_id: bool) -> tuple[str | None, dict[str, Any], Oid]:
        """The id that `workspace.yaml` gives, what it is to say, and the root without what does not belong there."""
        view = TreeView(self.repository.database, root)
        if self._reserved(root) is not None:
            gone = {f"{RESERVED}/{path}": None for path, _ in TreeView(self.repository.database, self._at(view)).walk()}
            root = self._edited(root, gone)
            view = TreeView(self.repository.database, root)
        data = view.read(WORKSPACE)
        value: Any = {}
        if data is not None:
            try:
                value = documents.load(data, WORKSPACE) or {}
            except documents.DocumentError:
                value = {}  # validation says where it is broken
        if not isinstance(value, dict):
            value = {}  # the same
        document: dict[str, Any] = value
        identity = document.get("id")
        if not isinstance(identity, str) or not names.is_uuid(identity):
            if identity is not None:
                self.notes.append("the id in workspace.yaml is no UUID; the workspace got a new one")
            identity = None
        else:
            identity = identity.lower()
        fields = source.named(document, self.folder)
        if slug is not None:
            names.check_slug(slug)
            fields["slug"] = slug
        if data is None:
            fields["is_active"] = True
        elif value and {**fields, "id": value.get("id")} != value:
            root = self._workspace(root, fields)
        return identity, fields, root

    def _at(self, view: TreeView) -> Oid:
        node = view.node(RESERVED)
        assert node is not None
        return node.id

    def _workspace(self, root: Oid, fields: Mapping[str, Any]) -> Oid:
        """Writes `workspace.yaml`, leaving alone what is said already; one that is broken is left to validation."""
        root = self._described(root)
        view = TreeView(self.repository.database, root)
        data = view.read(WORKSPACE)
        wanted = {key: value for key, value in fields.items() if value is not None}
        try:
            if data is not None and not isinstance(documents.load(data), dict | None):
                return root
            if data is None:
                new, _ = parsed.written(wanted, schemas.head(view, WORKSPACE))
            else:
                new = documents.edit(data, wanted)
        except documents.DocumentError:
            return root
        return self._edited(root, {WORKSPACE: Blob(new)})

    def _described(self, root: Oid) -> Oid:
        """The root with the schemas that it lacks. Only for a root that is to have a commit of its own anyway."""
        lacking = schemas.missing(TreeView(self.repository.database, root))
        return self._edited(root, lacking) if lacking else root

    def _free(self, slug: str) -> None:
        """Raises Conflict where the slug is taken, before any more work is done (`adopt` asks again)."""
        holder = self.store.catalog.find(slug)
        row = self.store.catalog.workspace(holder) if holder is not None else None
        if row is not None and names.fold(row.slug) == names.fold(slug):
            raise Conflict(
                f"the slug `{slug}` is taken in this store: give another one with --slug", details={"slug": slug}
            )

    # -- rules ------------------------------------------------------------------------------------------------------

    def _validate(self, identity: str, roots: Mapping[str, Oid]) -> tuple[int, int, int]:
        """Raises Refused with everything that is wrong, Conflict where a workflow or task is known elsewhere."""
        database = self.repository.database
        self.progress("checking", 0, None)
        view = TreeView(database, roots["evidence"])
        faults = [
            *self.faults,
            *main_faults(TreeView(database, roots["main"]), self.policy, self.now),
            *evidence_faults(identity, view, self.policy, self.now),
        ]
        if faults:
            raise Refused(f"{self.folder} cannot be imported", distinct(faults))
        catalog = self.store.catalog
        counts = {"workflow": 0, "task": 0, "artifact": 0}
        holder: tuple[str, object] | None
        for record, _ in records(identity, view, [path for path, _ in view.walk()], self.now):
            if isinstance(record, Workflow):
                part, holder = "workflow", catalog.workflow(record.id)
            elif isinstance(record, Task):
                part, holder = "task", catalog.task(record.id)
            elif isinstance(record, Artifact):
                part, holder = "artifact", catalog.artifact_by_id(record.id, now=0)
            else:
                continue
            counts[part] += 1
            if holder is not None:
                raise Conflict(
                    f"the {part} id `{names.one_line(record.id, 80)}` is taken by the workspace {holder[0]}: import "
                    "with --new-id",
                    details={"id": record.id},
                )
        return counts["workflow"], counts["task"], counts["artifact"]

    # -- writing ----------------------------------------------------------------------------------------------------

    def _commit(self, branch: Branch, root: Oid) -> None:
        """Adds a commit with this tree, unless the branch's head has it already."""
        head = self.heads[branch]
        if head is not None and self.repository.commit(head).tree == root:
            return
        when = max(self.now, self.times[branch])
        subject = names.one_line(f"import: {self.folder.name or 'folder'}{' (evidence)' * (branch == 'evidence')}")
        commit = build(
            root,
            (head,) if head is not None else (),
            Signature(*author(self.who.actor), when // 1000),
            server_signature(when),
            message("import", subject, "completed", when, self.who, None, None),
        )
        self.repository.database.publish([commit])
        self.heads[branch] = commit.id
        self.commits += 1

    def _put(self, identity: str) -> None:
        """Work tree, index and refs."""
        self.progress("checking out", 0, None)
        Repository.create(self.disk, str(self.scratch), identity)
        repository = self.repository
        repository.database.close()
        repository.kept = {"main": None, "evidence": None}
        repository.shown = {"main": None, "evidence": None}
        repository.check_out(None, self.heads["main"], ())
        repository.move({branch: head for branch, head in self.heads.items() if head is not None}, show=True)


def _placed(tree: TreeView) -> dict[str, Node | Blob | None]:
    """The edits that bring an artifact folder a person put right below `artifacts/` to the place of its name."""
    edits: dict[str, Node | Blob | None] = {}
    for path, node in tree.walk():
        if (place := source.placed(path)) != path:
            edits |= {path: None, place: node}
    return edits
