"""Reading a tree that people write: what is in the way becomes a Problem, and a document is parsed only once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final, Protocol

from gitstore import credentials, documents, names, values
from gitstore.errors import GitstoreError, Malformed, SecretFound
from gitstore.lfs.pointer import decode
from gitstore.model import Problem
from gitstore.parsed import Parsed, cached, parse
from gitstore.repository.objects import BLOB, Object, identify
from gitstore.repository.trees import FILE_MODE, TreeEntry
from gitstore.rules import Policy

_LINK: Final = 0o120000
_SUBMODULE: Final = 0o160000


class Tree(Protocol):
    """The files of a commit, read by path (repository.trees.TreeView)."""

    def read(self, path: str) -> bytes | None:
        """The content of the file at `path`, or None."""

    def blob(self, path: str) -> str | None:
        """The id of the file at `path`, or None."""

    def entries(self, folder: str = "") -> list[TreeEntry]:
        """What a folder holds; empty where there is none."""


class Reading:
    """One reading of a part of a tree: where from, and the problems met on the way.

    `known` are the problems there were before: one that is still there keeps the time it was first seen. `first` says
    that nothing was known before.
    """

    def __init__(self, tree: Tree, known: Iterable[Problem], now: int, policy: Policy, *, first: bool) -> None:
        self.tree = tree
        self.policy = policy
        self.first = first
        self.faults: list[Problem] = []
        self._now = values.iso(now)
        self._since = {problem.id: problem.since for problem in known}

    def fault(
        self, path: str, code: str, message: str, hint: str, *, key: str | None = None, error: Exception | None = None
    ) -> None:
        """Notes a problem; one that was there before keeps its id and the time it was first seen."""
        identity = sha256(f"{path}\0{code}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self.faults.append(
            Problem(
                id=identity,
                kind="secret" if isinstance(error, SecretFound) else "invalid",
                path=shown(path),
                code=code,
                message=message,
                hint=hint,
                since=self._since.get(identity, self._now),
                key=key,
                line=getattr(error, "line", None),
                column=getattr(error, "column", None),
            )
        )

    def refused(self, path: str, error: GitstoreError, *, key: str | None = None) -> None:
        """Notes what a rule or the YAML reader refused."""
        secret = isinstance(error, SecretFound)
        code = "secret" if secret else "yaml" if isinstance(error, documents.DocumentError) else "shape"
        hint = getattr(error, "hint", None) or (
            credentials.HINT if secret else f"Mend `{shown(path)}`, or restore it with `git checkout`."
        )
        self.fault(path, code, error.message, hint, key=key, error=error)

    def regular(self, path: str, entry: TreeEntry) -> bool:
        """Whether the entry is an ordinary file; a link or submodule is a problem, a folder is not one here."""
        kind = entry.mode & 0o170000
        if kind in (_LINK, _SUBMODULE):
            what = "a symbolic link" if kind == _LINK else "a submodule"
            self.fault(
                path, "not_a_file", f"`{shown(path)}` is {what}, which is never followed", "Put a plain file there."
            )
        return kind == 0o100000

    def document(self, path: str, blob: str) -> Parsed:
        """The YAML document at `path`. Raises DocumentError or Malformed where it cannot be read."""
        found = cached(blob)
        if found is None:
            data = self.tree.read(path) or b""
            if decode(data) is not None:
                raise Malformed(f"`{shown(path)}` is a pointer of Git LFS; documents are never kept as large objects")
            found = parse(blob, data, path)
        return found

    def secrets(self, path: str, found: Parsed) -> None:
        """Raises SecretFound if the policy refuses what stands in the document."""
        if self.policy == "refuse":
            credentials.refuse(found.secrets, path)

    def twins(self, folder: str, entries: Iterable[TreeEntry]) -> dict[str, str]:
        """Folded name → path; two names that differ only in case are a problem: half of all machines keep only one."""
        seen: dict[str, str] = {}
        for entry in entries:
            path = folder + entry.name
            other = seen.setdefault(names.fold(entry.name), path)
            if other != path:
                self.fault(
                    path,
                    "case_twins",
                    f"`{shown(path)}` and `{shown(other)}` differ only in case; macOS and Windows keep only one",
                    "Rename one of them.",
                )
        return seen


class Overlay:
    """A tree with some files replaced or removed."""

    def __init__(self, tree: Tree, edits: Mapping[str, bytes | Object | None]) -> None:
        self._tree = tree
        self._edits = edits

    def read(self, path: str) -> bytes | None:
        """The content of the file at `path`, as edited."""
        if path in self._edits:
            content = self._edits[path]
            return content.data if isinstance(content, Object) else content
        return self._tree.read(path)

    def blob(self, path: str) -> str | None:
        """The id of the file at `path`, as edited."""
        if path in self._edits:
            content = self._edits[path]
            return None if content is None else blob_id(content)
        return self._tree.blob(path)

    def entries(self, folder: str = "") -> list[TreeEntry]:
        """What a folder holds, edits included."""
        held = {entry.name: entry for entry in self._tree.entries(folder)}
        prefix = folder + "/" if folder else ""
        for path, content in self._edits.items():
            if not path.startswith(prefix):
                continue
            name, deeper, _ = path[len(prefix) :].partition("/")
            old = held.get(name)
            if deeper:
                if content is not None and (old is None or not old.is_tree):
                    held[name] = TreeEntry(name, "", True, 0o40000)
            elif content is not None:
                held[name] = TreeEntry(name, blob_id(content), False, FILE_MODE)
            elif old is not None and not old.is_tree:
                del held[name]
        return list(held.values())


def blob_id(content: bytes | Object) -> str:
    """The id of a file with this content; an object knows its own."""
    return (content.id if isinstance(content, Object) else identify(BLOB, content)).hex()


def shown(path: str) -> str:
    """A path or key for JSON: bytes that are not UTF-8 become U+FFFD."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
