"""One workspace's repository on disk: made, published to, healed after a crash.

Order of a publication: objects → work files → index → refs. A crash in between looks like an uncommitted edit, never
like somebody's revert, and the journal publishes the same again at the next start.

`refs/gitstore/<branch>` is where this store last left a branch. `refs/heads/<branch>` normally says the same; where it
does not, a person's git moved the branch, and `Foreign` asks the caller to take that in.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from gitstore.errors import Damaged, Invalid
from gitstore.lfs.attributes import Attributes, may_be_large
from gitstore.lfs.objects import Objects
from gitstore.lfs.pointer import Pointer, decode, spellings
from gitstore.repository import bases, filters, refs
from gitstore.repository.commits import Commit, parse
from gitstore.repository.database import Database, TreeCache
from gitstore.repository.disk import Disk
from gitstore.repository.index import Index, IndexForeign
from gitstore.repository.likeness import likest
from gitstore.repository.measure import OURS_MAX, cleaned, measure, work_attributes
from gitstore.repository.objects import BLOB, EMPTY_TREE, Object, Oid, identify
from gitstore.repository.standing import Standing
from gitstore.repository.trees import Node, TreeView, compare, decode_path
from gitstore.repository.worktree import WorkTree, begins, regular

_CONFIG = (
    """\
[core]
\trepositoryformatversion = 0
\tfilemode = false
\tbare = false
\tlogallrefupdates = true
[receive]
\tdenyCurrentBranch = refuse
"""
    + filters.INCLUDE
)
_EXCLUDE = "# The evidence branch travels in a folder of this name; it is never part of main.\n/evidence/\n"


class Foreign(Exception):
    """Somebody else moved a branch: it was left at `shown` and is at `found` (None: deleted)."""

    def __init__(self, branch: str, shown: Oid | None, found: Oid | None) -> None:
        super().__init__(f"{branch}: {found.hex() if found else 'deleted'}")
        self.branch = branch
        self.shown = shown
        self.found = found


class Repository:
    """The repository of the workspace folder `root`."""

    def __init__(self, disk: Disk, root: str, cache: TreeCache, *, workspace: str = "") -> None:
        self._disk = disk
        self.workspace = workspace
        self.root = root
        self.git = f"{root}/.git"
        self.database = Database(disk, self.git, cache)
        self.kept: dict[str, Oid | None] = {}
        self.shown: dict[str, Oid | None] = {}
        # The files that were looked at for a head that is not shown yet, and what was written into each, one after the
        # other. The first may be what somebody's edit began from that the next has in it.
        self._begun: dict[str, list[Oid | None]] = {}
        self.bases: dict[str, Oid | None] = {}  # where a person's uncommitted edits began (repository.bases)
        self.taken: dict[str, Oid | None] = {}  # what was taken in from files, and is not shown yet
        self._held: dict[str, Oid | None] = {}  # files to keep in the next publication (hold)
        self._pushed: set[bytes] | None = None
        self.left_alone: list[str] = []  # paths with a person's uncommitted edits at the last publication

    @staticmethod
    def create(disk: Disk, root: str, workspace: str) -> None:
        """Makes an empty repository at `root`; what a crash left half-made is completed."""
        git = f"{root}/.git"
        for folder in ("objects/pack", "objects/info", "refs/heads", "refs/tags", "refs/gitstore", "info", "gitstore"):
            disk.makedirs(f"{git}/{folder}")
        files = {
            "info/exclude": _EXCLUDE,
            "gitstore/config": filters.text(),
            "config": _CONFIG,
            "gitstore/id": workspace + "\n",
            "HEAD": f"ref: {refs.MAIN}\n",
        }
        for name, text in files.items():
            if _changed(f"{git}/{name}", text.encode()):
                continue  # by a person, whose settings these are by now
            disk.overwrite(f"{git}/gitstore/new", text.encode())
            disk.rename(f"{git}/gitstore/new", f"{git}/{name}")

    def open(self) -> None:
        """Reads where the branches are. Raises Damaged where that cannot be told."""
        if not os.path.isdir(self.git) or self._led_away():
            raise Damaged(f"{self.root} is not there, or is no git repository any more")
        self._disk.makedirs(f"{self.git}/gitstore", below=self.git)
        self._disk.makedirs(f"{self.git}/refs/gitstore", below=self.git)
        for branch in refs.HEADS:
            self.kept[branch] = refs.read(self.git, refs.KEPT[branch])
        self.shown = dict(self.kept)
        self.bases = bases.read(self.database.scratch)
        self.taken = bases.read(self.database.scratch, "taken")
        for branch, ref in refs.SHOWN.items():
            if (held := refs.read(self.git, ref)) is not None:
                self.shown[branch] = held

    def furnish(self) -> None:
        """Lets a person's git find the filter for large objects, wherever this store and its program are by now."""
        filters.furnish(self._disk, self.git)

    @property
    def objects(self) -> Objects:
        """The large objects, where the folder is now."""
        return Objects(self._disk, self.git)

    def belongs_to(self) -> str | None:
        """The id of the workspace whose folder this is on disk; None where there is none."""
        if self._led_away():
            return None
        try:
            with open(f"{self.git}/gitstore/id", encoding="utf-8") as file:
                return file.read().strip()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _led_away(self) -> bool:
        """Whether the folder or its `.git` is a link: what is elsewhere is not in this store."""
        return os.path.islink(self.root) or os.path.islink(self.git)

    def relocate(self, root: str) -> None:
        """The folder was renamed."""
        self.root = root
        self.git = f"{root}/.git"
        self.database.relocate(self.git)

    def commit(self, oid: Oid) -> Commit:
        """A commit, read."""
        return parse(self.database.commit(oid))

    def tree(self, commit: Oid | None) -> TreeView:
        """The files of a commit; of None, no files."""
        return TreeView(self.database, self.commit(commit).tree if commit is not None else EMPTY_TREE)

    def pushed(self, commit: Oid) -> bool:
        """Whether a commit came over the wire; else a person made it in the checkout."""
        return bytes(commit) in self._marked()

    def all_pushed(self) -> list[Oid]:
        """The commits that came over the wire."""
        return [Oid(commit) for commit in sorted(self._marked())]

    def _marked(self) -> set[bytes]:
        if self._pushed is None:
            try:
                with open(f"{self.database.scratch}/pushed", "rb") as file:
                    data = file.read()
            except FileNotFoundError:
                data = b""
            self._pushed = {data[at : at + 20] for at in range(0, len(data) - 19, 20)}
        return self._pushed

    def mark_pushed(self, commits: Iterable[Oid]) -> None:
        """Notes, durably, that these commits came over the wire: nothing in a commit of somebody's git says so."""
        marked = self._marked() | {bytes(oid) for oid in commits}
        if marked == self._pushed:
            return
        temporary, place = f"{self.database.scratch}/pushed.new", f"{self.database.scratch}/pushed"
        self._disk.overwrite(temporary, b"".join(sorted(marked)))
        self._disk.sync_file(temporary)
        self._disk.rename(temporary, place)
        self._disk.sync_folder(self.database.scratch)
        self._pushed = marked

    def work_file(self, path: str) -> bytes | None:
        """What the checkout has at a path, as git keeps it: of what is a large object, the pointer.

        None where there is no plain file, or none that can be read, or a huge one that is no large object.
        """
        *folders, name = path.split("/")
        try:
            folder = self._disk.folder(self.root, folders)
            if folder is None:
                return None
            covered = self._covers(path)
            with folder:
                state = folder.stat(name)
                if state is None or (state.st_size > OURS_MAX and not covered):
                    return None
                held = measure(folder, name)
        except OSError:
            return None  # a link, a device, a folder in the way
        return cleaned(held, covered=covered)

    def receive(self, path: str, pointer: Pointer) -> bool:
        """Makes what a file of the checkout holds an object of the workspace; False where it is not this any more.

        Raises StorageFailed.
        """
        if self.objects.adopt(pointer.oid):
            return True
        *folders, name = path.split("/")
        try:
            folder = self._disk.folder(self.root, folders)
            if folder is None:
                return False
            with folder:
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder.fd)
        except OSError:
            return False  # gone, or something else by now
        with os.fdopen(fd, "rb") as file:
            try:
                self.objects.take(file, pointer)
            except Invalid:
                return False  # a person is at it
        return True

    def work_attributes(self) -> Attributes:
        """What the checkout's own files say of which paths are large objects."""
        return work_attributes(lambda folders: self._disk.folder(self.root, folders))

    def large(self, blobs: Collection[Oid]) -> list[Pointer]:
        """The large objects of the workspace to which one of these blobs is a pointer, sorted."""
        objects, found = self.objects, []
        for oid in objects.oids():
            pointer = Pointer(oid, objects.size(oid) or 0)
            if any(identify(BLOB, text) in blobs for text in spellings(pointer)):
                found.append(pointer)
        return found

    def pointers(self, commit: Oid | None) -> Iterator[tuple[str, Pointer]]:
        """The files of a commit that are large objects, here or not, by path."""
        tree = self.tree(commit)
        attributes = Attributes(tree.read)
        for path, node in tree.walk():
            if regular(node) and attributes.covers(path):
                pointer = decode(self.database.blob(node.id))
                if pointer is not None:
                    yield path, pointer

    def adopt(self, old: Oid | None, new: Oid | None) -> None:
        """Makes the large objects that somebody's git or git-lfs put into the folder ones of the store's, as far as a
        commit has pointers to them that another has not.
        """
        before, after = self.tree(old), self.tree(new)
        attributes = Attributes(after.read)
        for path, _, node in compare(self.database, before.root, after.root):
            if node is not None and regular(node) and attributes.covers(path):
                pointer = decode(self.database.blob(node.id))
                if pointer is not None:
                    self.objects.adopt(pointer.oid)

    def _covers(self, path: str) -> bool:
        """Whether a path is one of large objects: in the checkout or, while that is not written yet, in the branch."""
        if not may_be_large(path):
            return False
        heads = {self.shown.get("main"), self.kept.get("main")}
        trees = (Attributes(self.tree(head).read) for head in heads if head is not None)
        return self.work_attributes().covers(path) or any(tree.covers(path) for tree in trees)

    # -- publishing -----------------------------------------------------------------------------------------------

    def foreign(self) -> Foreign | None:
        """Whether somebody else moved a branch since this store last wrote it."""
        for branch, ref in refs.HEADS.items():
            found = refs.read(self.git, ref)
            if found != self.shown[branch]:
                return Foreign(branch, self.shown[branch], found)
        return None

    def publish(
        self,
        objects: Sequence[Object],
        heads: Mapping[str, Oid],
        *,
        keep: Mapping[str, Oid | None] | None = None,
        taken: Mapping[str, Oid | None] | None = None,
    ) -> Standing:
        """Puts objects, the work tree and the branches' new heads on disk, unsynced. Returns where the objects are.

        `keep` are files that stay as they are, each with the blob that the edit in it began from: a person's side of a
        conflict. `taken` are files whose content, or absence, the heads have in them already: one that still is so is
        replaced, and whatever else it says by now is an edit that began from that.

        Raises Foreign (nothing was moved), RefLocked or IndexLocked (come again: all of it can be repeated).
        """
        if self._led_away():
            raise NotADirectoryError(errno.ENOTDIR, "the workspace's folder or its .git is a link now", self.root)
        if not os.path.exists(f"{self.git}/HEAD"):  # which is written last
            if self.kept["main"] is not None:
                raise FileNotFoundError(errno.ENOENT, "the workspace's folder is gone", self.root)
            self.create(self._disk, self.root, self.workspace)
        placed = self.database.publish(objects)
        self.taken.update(taken or {})
        foreign = self.foreign()
        if foreign is not None:
            raise foreign
        head = heads.get("main") or self.kept["main"]
        busy = self.busy()
        show = head is not None and head != self.shown["main"] and not busy
        if show and self.on_main():
            try:
                ours = {item.id for item in objects}
                held = {path: base for path, base in self._held.items() if path not in (taken or {})}
                self.check_out(self.shown["main"], head, ours, keep={**held, **(keep or {})}, taken=taken or {})
            except IndexForeign:
                show = False  # the branch goes on, the checkout and refs/heads/main wait for an index we can write
        self.move(heads, show=show)
        if show:
            self._held = {}
        return placed

    def on_main(self) -> bool:
        """Whether `main` is what is checked out."""
        return refs.checked_out(self.git) == refs.MAIN

    def busy(self) -> bool:
        """Whether a person is in the middle of a merge or the like on `main`, or of a rebase of it.

        A rebase moves the branch at its end, if it is then where it was at the beginning.
        """
        return refs.under_way(self.git) and refs.MAIN in (refs.checked_out(self.git), refs.rebased(self.git))

    def occupied(self) -> Literal["merge", "rebase", "other_branch"] | None:
        """Why the checkout is not one of `main` that can be written to, if so."""
        doing = refs.doing(self.git)
        return doing if doing is not None else None if self.on_main() else "other_branch"

    def branch(self) -> str | None:
        """The branch that is checked out; None for a detached HEAD."""
        ref = refs.checked_out(self.git)
        return ref.removeprefix("refs/heads/") if ref is not None else None

    def index_held(self) -> bool:
        """Whether a git is at work on the index right now."""
        return os.path.lexists(f"{self.git}/index.lock")

    def restore(self, path: str, ours: Oid | None) -> None:
        """Brings one file of the checkout back to what is shown, if it is still `ours` (None: not there).

        Raises IndexLocked.
        """
        shown = self.shown["main"]
        self.check_out(shown, shown, {ours} if ours is not None else (), also=(path,))
        self._begun = {}  # what is missing from now on was removed by a person

    def settle(self, taken: Mapping[str, Oid | None]) -> None:
        """Brings files of the checkout to what is shown, which has what they said in it; `taken`: see `publish`.

        Raises IndexLocked.
        """
        shown = self.shown["main"]
        self.check_out(shown, shown, (), taken=taken)

    def move(self, heads: Mapping[str, Oid], *, show: bool, foreign: Foreign | None = None) -> None:
        """Moves the branches' refs. Without `show`, `refs/heads/main` stays: a person is in the middle of a merge.

        A branch that is `foreign` stays where somebody put it, until that is taken in.

        In this order a crash in between leaves nothing that looks like a person's move: `refs/heads/*` is never behind
        `refs/gitstore/*` unless a ref says where it was left.
        """
        for branch in refs.HEADS:
            new = heads.get(branch) or self.kept[branch]
            if new is None:
                continue
            stays = not show if branch == "main" else False
            if foreign is not None and refs.read(self.git, refs.HEADS[branch]) != self.shown[branch]:
                stays = True
            if not stays and self.shown[branch] != new:
                try:
                    self._show(branch, new)
                except refs.RefLocked:
                    if show:
                        raise  # else it stays where it was too, until it is published
            held, left = refs.SHOWN[branch], self.shown[branch]
            if left is not None and left != new:
                self._swap(held, refs.read(self.git, held), left)
            self._swap(refs.KEPT[branch], self.kept[branch], new)
            self.kept[branch] = new
            if left == new:
                if (stale := refs.read(self.git, held)) is not None:
                    refs.delete(self._disk, self.git, self.database.scratch, held, stale)
                if branch == "main":
                    self._begun = {}
                    self._forget_taken()

    def _show(self, branch: str, new: Oid) -> None:
        try:
            self._swap(refs.HEADS[branch], self.shown[branch], new)
        except refs.RefMoved as moved:
            raise Foreign(branch, self.shown[branch], moved.found) from None
        self.shown[branch] = new

    def _swap(self, ref: str, old: Oid | None, new: Oid) -> None:
        if old != new:
            refs.swap(self._disk, self.git, self.database.scratch, ref, old, new)

    def check_out(
        self,
        old: Oid | None,
        new: Oid | None,
        ours: Collection[Oid],
        *,
        torn: bool = False,
        also: Iterable[str] = (),
        removed: Collection[str] | None = None,
        keep: Mapping[str, Oid | None] | None = None,
        taken: Mapping[str, Oid | None] | None = None,
        synced: bool = False,
    ) -> None:
        """Brings the work tree and the index from one commit to another; `ours` and `torn`: see WorkTree.update.

        `also`: paths that are the same in both, but were something else on the way, which an attempt that was broken
        off may have checked out. `removed`: those of them that it may have removed (None: any). `keep` and `taken`: see
        `publish`. `synced`: no power cut leaves a file torn, though no journal has it.
        """
        keep, taken = keep or {}, taken or {}
        before, after = self.tree(old), self.tree(new)
        also = {*also, *self._begun}
        begun = {*(also if removed is None else removed), *(path for path, blob in taken.items() if blob is None)}
        paths = {*also, *begun, *keep, *taken}
        ours = {*ours, *(blob for blob in taken.values() if blob is not None)}
        paths.update(found.path for found in compare(self.database, before.root, after.root))
        index = Index.read(self.git)
        if index.changed or (not index.paths() and before.root != EMPTY_TREE):
            # It was damaged, or never got to the disk: every entry is made again.
            paths.update(path for path, _ in after.walk())
            paths.update(decode_path(path) for path in index.paths())
            paths.update(path for path, _ in before.walk())
        wanted: dict[str, Node | None] = {}
        known: dict[str, Node | None] = {}
        for path in sorted(paths):
            node = after.node(path)
            if node is not None and stat.S_ISDIR(node.mode):
                node = None  # a folder in the place of the file
            if node is None or regular(node):
                wanted[path] = node
                known[path] = was if (was := before.node(path)) is not None and regular(was) else None
                self._begun.setdefault(path, [])
        large = Attributes(after.read)
        work = WorkTree(self._disk, self.root, self.database.scratch, self.database, self.objects, large, synced=synced)
        # What an edit began from was there: a file that is not there now was removed by a person, if not by ourselves.
        there = {**{path: base for path, base in self.bases.items() if path not in begun}, **taken}
        self.left_alone = work.update(
            index, known, wanted, ours, begun=begun, keep=keep, there=there, torn=torn, written=self._wrote
        )
        self._remember(known, wanted, keep, taken)
        if index.changed:
            index.write(self._disk, self.database.scratch)

    def _wrote(self, path: str, blob: Oid | None) -> None:
        """A file was written, or removed (None), which is not shown yet."""
        if path in self.bases:
            self._begun[path].append(self.bases[path])
        self._begun[path].append(blob)

    def _remember(
        self,
        known: Mapping[str, Node | None],
        wanted: Mapping[str, Node | None],
        keep: Mapping[str, Oid | None],
        taken: Mapping[str, Oid | None],
    ) -> None:
        """Notes what the edits that were left alone began from, and forgets those that are gone."""
        left = set(self.left_alone)
        now = {path: base for path, base in self.bases.items() if path in left or path not in wanted}
        for path in left:
            was = known[path]
            if path in keep:
                now.setdefault(path, keep[path])
            elif path in taken:
                now[path] = self.origin(path, taken[path], self.work_file(path))
            elif path not in now:
                now[path] = self.origin(path, was.id if was is not None else None, self.work_file(path))
        self._set_bases(now)

    def begun(self) -> set[str]:
        """The files in which an edit may begin from something else than what is shown."""
        return {*self._begun, *self.bases, *self.taken}

    def origin(self, path: str, usual: Oid | None, data: bytes | None) -> Oid | None:
        """What `data`, made of a file, began from: the `usual`, or what was written there for a head not shown yet."""
        written = self._begun.get(path)
        if path in self.bases or not written:
            return usual
        if data is None:
            return written[-1]
        return likest(self.database, data, [usual, *written])[0]

    def likest(self, path: str, usual: Oid | None, data: bytes) -> Oid | None:
        """What `data`, made of a file at some time, was made of: the `usual`, what the edit that is in the file by now
        began from, what was written there for a head not shown yet, or what was taken in from there.
        """
        blobs = [usual, *self._begun.get(path, ())]
        blobs += [known[path] for known in (self.bases, self.taken) if path in known]
        return likest(self.database, data, blobs)[0]

    def written(self, paths: Iterable[str], ours: Collection[Oid], removed: Collection[str]) -> dict[str, Oid | None]:
        """The files among these that are not as shown and hold one of our own blobs, or (`removed`) are not there."""
        shown = self.tree(self.shown["main"])
        found: dict[str, Oid | None] = {}
        for path in paths:
            data, node = self.work_file(path), shown.node(path)
            blob = identify(BLOB, data) if data is not None else None
            if blob != (node.id if node is not None else None) and (blob in ours or (data is None and path in removed)):
                found[path] = blob
        return found

    def mend(self, paths: Iterable[str], ours: Collection[Oid]) -> None:
        """Brings files back to what is shown that hold, after a power cut, only the beginning of one of our own blobs.

        The index is left as it is. Raises OSError.
        """
        shown = self.tree(self.shown["main"])
        found = ((path, self.work_file(path)) for path in paths)
        texts = ((path, data) for path, data in found if data is not None and identify(BLOB, data) not in ours)
        torn = {path: shown.node(path) for path, data in texts if begins(self.database, data, ours)}
        large = Attributes(shown.read)
        work = WorkTree(self._disk, self.root, self.database.scratch, self.database, self.objects, large)
        work.update(Index(f"{self.git}/index"), torn, torn, ours, torn=True)

    def hold(self, commit: Oid) -> None:
        """A commit of a person's was joined by a process that ended before it could show that: the files which clashed
        stay as they are in the next publication, which the bases tell from those that are in the branch.
        """
        tree = self.tree(commit)
        for path, base in self.bases.items():
            node, data = tree.node(path), self.work_file(path)
            if node is not None and node.id != base and data is not None and identify(BLOB, data) == node.id:
                self._held[path] = base

    def note(self, keep: Mapping[str, Oid | None], taken: Mapping[str, Oid | None]) -> None:
        """Notes what the edits in these files began from, before any of them is checked out; see `publish`."""
        self._set_bases({**keep, **self.bases, **taken})

    def forget(self, paths: Collection[str]) -> None:
        """The files at these paths are no edits any more: what the next edit of one begins from is what is shown."""
        self._set_bases({path: base for path, base in self.bases.items() if path not in paths})

    def note_taken(self, taken: Mapping[str, Oid | None]) -> None:
        """Notes what was taken in from these files, for somebody's commit that may have it too waits to be joined."""
        self.taken = {**bases.read(self.database.scratch, "taken"), **taken}
        if self.taken:
            bases.write(self._disk, self.database.scratch, self.taken, "taken")

    def _forget_taken(self) -> None:
        if self.taken:
            self.taken = {}
            if os.path.exists(place := f"{self.database.scratch}/taken"):
                self._disk.unlink(place)

    def _set_bases(self, now: dict[str, Oid | None]) -> None:
        if now != self.bases:
            bases.write(self._disk, self.database.scratch, now)
            self.bases = now


def _changed(path: str, text: bytes) -> bool:
    """Whether a file says something else than the text or a torn beginning of it."""
    try:
        with open(path, "rb") as file:
            return not text.startswith(file.read().rstrip(b"\0"))
    except FileNotFoundError:
        return False
