"""Whether what a push brings may become part of `main` or `evidence`. Everything that is wrong is found at once.

Judged is what the push changes: a fault that was there before, in the same place of the same file, refuses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from gitstore import acceptance, context, documents, names
from gitstore.acceptance import Fault
from gitstore.credentials import HINT
from gitstore.documents import DocumentError
from gitstore.errors import Damaged
from gitstore.facts import COMMITTER_EMAIL
from gitstore.lfs import POINTER_MAX, Objects
from gitstore.lfs.attributes import Attributes, may_be_large
from gitstore.lfs.pointer import decode
from gitstore.model import Branch
from gitstore.parsed import TEXT_MAX, text_secrets
from gitstore.reading import shown
from gitstore.repository.commits import parse
from gitstore.repository.database import Database
from gitstore.repository.objects import BLOB, COMMIT, EMPTY_TREE, TREE, Oid
from gitstore.repository.trees import Node, Source, TreeEntry, TreeView, compare, decode_path
from gitstore.rules import Policy
from gitstore.transport.attributes import drivers, is_attributes

_AHEAD = 600  # seconds that a commit may be dated into the future
_MOST = 200  # faults that are looked for
_EXECUTABLE = 0o100755


class Item(NamedTuple):
    """An object that a push brings: its kind, its size in bytes, and a path at which a commit has it ("" for roots)."""

    oid: Oid
    kind: int
    size: int
    path: str


class Judge:
    """Judges what is pushed to one branch of one workspace. `now` is in milliseconds, `file_bytes` a file's limit.

    `objects`: the large objects that the workspace has; without them a pointer is taken for granted.
    """

    def __init__(
        self, workspace: str, branch: Branch, policy: Policy, now: int, file_bytes: int, objects: Objects | None = None
    ) -> None:
        self._held = objects
        self._workspace = workspace
        self._branch: Branch = branch
        self._policy: Policy = policy
        self._now = now
        self._limit = file_bytes
        self._prefix = "evidence/" if branch == "evidence" else ""

    def objects(self, database: Database, before: TreeView, after: TreeView, items: Iterable[Item]) -> list[Fault]:
        """What is wrong with any of the commits, folders and files that are new, the intermediate ones too."""
        return list(dict.fromkeys(islice(self._objects(database, before, after, items), _MOST)))

    def _objects(self, database: Database, before: TreeView, after: TreeView, items: Iterable[Item]) -> Iterator[Fault]:
        large = Attributes(after.read)
        for item in items:
            path = shown(self._prefix + item.path)
            if item.kind == BLOB and item.size <= POINTER_MAX:
                yield from self._pointer(database.blob(item.oid), item.path, large, after)
            if item.kind == COMMIT:
                yield from self._commit(item.oid, database.commit(item.oid))
            elif item.kind == TREE:
                yield from self._folder(database, before, item.oid, item.path)
            elif item.kind == BLOB and item.size > self._limit:
                yield Fault(path, f"is larger than the {self._limit} bytes a file may have", "leave it out")
            elif item.kind == BLOB and self._branch == "main" and self._policy == "refuse" and item.size <= TEXT_MAX:
                if after.blob(item.path) == item.oid.hex():
                    continue  # the newest state is judged as a whole
                for found in text_secrets(item.oid.hex(), database.blob(item.oid))[:1]:
                    yield Fault(path, f"an earlier commit of this push holds {found.what}", HINT, found.line)

    def _commit(self, oid: Oid, data: bytes) -> Iterator[Fault]:
        place = f"commit {oid.hex()[:12]}"
        try:
            commit = parse(data)
        except (Damaged, ValueError):
            yield Fault(place, "cannot be read")
            return
        if commit.committer.time > self._now // 1000 + _AHEAD:
            yield Fault(place, "is dated more than 10 minutes ahead", "set your clock, then git commit --amend")
        if commit.committer.email == COMMITTER_EMAIL:
            hint = "make it yours: git rebase --force-rebase"
            yield Fault(place, "says that this store made it, and it did not", hint)

    def _pointer(self, data: bytes, path: str, large: Attributes, after: TreeView) -> Iterator[Fault]:
        """A pointer, at a path of large objects, to what the workspace has not: a clone would get nothing for it."""
        pointer = decode(data)
        if pointer is None or self._held is None:
            return
        self._held.touch(pointer.oid)  # before the look: what a push names may not be taken away while it is judged
        if self._held.has(*pointer):
            return
        # Of a path that an earlier commit had the attributes may be gone by now, and the content is as much needed.
        if large.covers(path) or (after.node(path) is None and may_be_large(path)):
            yield Fault(
                shown(self._prefix + path),
                f"points to a large object of {pointer.size} bytes that is not here ({pointer.oid[:12]}…)",
                "git lfs push --all origin, then push again; `git lfs install` makes git do it by itself",
            )

    def _folder(self, database: Database, before: TreeView, oid: Oid, folder: str) -> Iterator[Fault]:
        here = before.node(folder)
        known = dict(_entries(before.source, here.id)) if here is not None and here.mode == 0o40000 else {}
        entries = [
            TreeEntry(name, node.id.hex(), node.mode == 0o40000, node.mode) for name, node in _entries(database, oid)
        ]
        for fault in acceptance.level(entries, self._prefix, folder):
            name = fault.path.rsplit("/", 1)[-1]
            old = known.get(name)
            same = next((one for one in entries if one.name == name), None)
            if old is None or same is None or (old.mode, old.id.hex()) != (same.mode, same.id):
                yield fault
        for entry in entries:
            if is_attributes(entry.name) and not entry.is_tree:
                inside = f"{folder}/{entry.name}" if folder else entry.name
                old = known.get(entry.name)
                if old is None or old.id.hex() != entry.id:
                    yield from self._attributes(database, entry, inside)
            if not folder and entry.name == "evidence" and self._branch == "main" and "evidence" not in known:
                yield Fault("evidence", "is the place of the branch `evidence`", "push it to that branch")

    def _attributes(self, database: Database, entry: TreeEntry, path: str) -> Iterator[Fault]:
        if entry.mode & 0o170000 != 0o100000:
            return
        for driver in drivers(database.blob(Oid(bytes.fromhex(entry.id)))):
            allowed = "filter=lfs, diff=lfs, merge=lfs and merge=gitstore are allowed"
            text = f"names a program to run: {driver.attribute}={names.one_line(driver.name, 60)}"
            yield Fault(shown(self._prefix + path), text, allowed, driver.line)

    def state(self, before: TreeView, after: TreeView) -> list[Fault]:
        """What is wrong with the files as the push leaves them."""
        if before.root == after.root:
            return []
        if (missing := list(islice(self._placed(before, after), _MOST))) != []:
            return missing
        if self._branch == "evidence":
            return list(dict.fromkeys(islice(self._records(before, after), _MOST)))
        found = [*self._identity(after), *acceptance.main_faults(after, self._policy, self._now, before=before)]
        if found:
            old = set(acceptance.main_faults(before, self._policy, self._now)) if before.root != EMPTY_TREE else set()
            found = [one for one in found if one not in old or before.node(one.path) != after.node(one.path)]
        return list(dict.fromkeys(found))

    def _placed(self, before: TreeView, after: TreeView) -> Iterator[Fault]:
        """Pointers that are known already, at a place where they stand for a large object."""
        if self._held is None:
            return
        large = Attributes(after.read)
        for path, _, node in compare(after.source, before.root, after.root):
            if node is not None and node.mode & 0o170000 == 0o100000 and large.covers(path):
                yield from self._pointer(after.source.blob(node.id), path, large, after)

    def _identity(self, after: TreeView) -> Iterator[Fault]:
        try:
            value = documents.load(after.read(context.WORKSPACE) or b"", context.WORKSPACE)
        except DocumentError:
            return  # which is a fault of its own
        identity = value.get("id") if isinstance(value, dict) else None
        if not isinstance(identity, str) or identity.lower() != self._workspace:
            yield Fault(context.WORKSPACE, "the id of a workspace never changes", f"put back `id: {self._workspace}`")

    def _records(self, before: TreeView, after: TreeView) -> Iterator[Fault]:
        changed = [found.path for found in compare(after.source, before.root, after.root)]
        yield from acceptance.record_faults(self._workspace, after, changed, self._policy, self._now)


def notes(before: TreeView, after: TreeView) -> list[str]:
    """What whoever pushes should know although it refuses nothing."""
    found = []
    for path, old, new in compare(after.source, before.root, after.root):
        if new is not None and new.mode == _EXECUTABLE and (old is None or old.mode != _EXECUTABLE):
            found.append(f"note: {shown(path)} is executable; the store shows it as an ordinary file")
    return found[:20] + ([f"note: … and {len(found) - 20} more executable files"] if len(found) > 20 else [])


def told(fault: Fault) -> str:
    """A fault as one line in the terminal of whoever pushes."""
    place = ":".join(str(part) for part in (fault.path, fault.line, fault.column) if part is not None)
    hint = fault.hint.rstrip(".")
    more = f" — {hint[0].lower()}{hint[1:]}" if hint and hint not in fault.message else ""
    return f"{place}: {fault.message}{more}"


def _entries(source: Source, oid: Oid) -> Iterator[tuple[str, Node]]:
    return ((decode_path(name), node) for name, node in source.tree(oid).nodes())
