"""A workspace in memory for unit tests: a dict of paths, drafts on top of it, a commit for each that changed something.

It does what `gitstore.changes` does to a draft, without git: the operations cannot tell the two apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from gitstore import parsed
from gitstore.context import Context
from gitstore.lfs.attributes import Attributes
from gitstore.model import Actor, Branch, Kind, Provenance, Touch
from gitstore.repository.objects import Blob, Object
from gitstore.repository.trees import FILE_MODE, TreeEntry

if TYPE_CHECKING:
    from gitstore.changes import Draft

T = TypeVar("T")

WORKSPACE = "7a3f1c2e-5b7d-4e21-9c38-0d6f5a4b3c21"
START = 1_795_000_000_000
ACTOR = Actor("admin", "k3f09a", "ops key")
TREE_MODE, LINK_MODE, SUBMODULE_MODE = 0o40000, 0o120000, 0o160000


class Drafted(Protocol):
    """What an operation on `main` may use of a draft."""

    workspace: str
    branch: Branch
    now: int
    provenance: Provenance
    context: Context
    spec_version: int

    @property
    def tree(self) -> MemoryTree: ...
    @property
    def sealed(self) -> Mapping[str, bytes]: ...
    def read(self, path: str) -> bytes | None: ...
    def blob(self, path: str) -> str | None: ...
    def last_touch(self, path: str) -> Touch | None: ...
    def write(self, path: str, data: bytes | Object) -> None: ...
    def remove(self, path: str) -> None: ...
    def seal(self, name: str, text: str | None) -> None: ...
    def describe(
        self,
        kind: Kind,
        name: str,
        *,
        state: str = "completed",
        workflow_id: str | None = None,
        task_id: str | None = None,
    ) -> None: ...


class MemoryTree:
    """Paths and bytes, seen as a tree. `modes` says what is not an ordinary file."""

    def __init__(self, files: Mapping[str, bytes], modes: Mapping[str, int] | None = None) -> None:
        self.files = dict(files)
        self.modes = dict(modes or {})

    def read(self, path: str) -> bytes | None:
        return self.files.get(path) if self._regular(path) else None

    def blob(self, path: str) -> str | None:
        return Blob(self.files[path]).id.hex() if path in self.files and self._regular(path) else None

    def entries(self, folder: str = "") -> list[TreeEntry]:
        prefix = folder + "/" if folder else ""
        found: dict[str, TreeEntry] = {}
        for path, data in self.files.items():
            if path.startswith(prefix):
                name, deeper, _ = path[len(prefix) :].partition("/")
                mode = TREE_MODE if deeper else self.modes.get(path, FILE_MODE)
                found[name] = TreeEntry(name, Blob(data).id.hex() if not deeper else "0" * 40, bool(deeper), mode)
        return sorted(found.values(), key=lambda entry: entry.name + "/" * entry.is_tree)

    def _regular(self, path: str) -> bool:
        return self.modes.get(path, FILE_MODE) & 0o170000 == 0o100000


class MemoryDraft:
    """One change in the making."""

    def __init__(self, owner: MemoryWorkspace) -> None:
        self.workspace = WORKSPACE
        self.branch: Branch = "main"
        self.now = owner.now
        self.provenance = Provenance(ACTOR)
        self.tree = owner.tree
        self.context = owner.context
        self.spec_version = owner.spec_version
        self.edits: dict[str, Object | None] = {}
        self.seals: dict[str, str | None] = {}
        self.kind: Kind = "changes"
        self.name = ""
        self._owner = owner

    @property
    def sealed(self) -> Mapping[str, bytes]:
        return self._owner.sealed

    def read(self, path: str) -> bytes | None:
        if path in self.edits:
            edit = self.edits[path]
            return edit.data if edit is not None else None
        return self.tree.read(path)

    def blob(self, path: str) -> str | None:
        if path in self.edits:
            edit = self.edits[path]
            return edit.id.hex() if edit is not None else None
        return self.tree.blob(path)

    def last_touch(self, path: str) -> Touch | None:
        return self._owner.touches.get(path)

    def write(self, path: str, data: bytes | Object) -> None:
        self.edits[path] = data if isinstance(data, Object) else Blob(data)

    def remove(self, path: str) -> None:
        self.edits[path] = None

    large_bytes = 4 << 20

    def covers(self, path: str) -> bool:
        return Attributes(self.read).covers(path)

    def seal(self, name: str, text: str | None) -> None:
        self.seals[name] = text

    def describe(
        self,
        kind: Kind,
        name: str,
        *,
        state: str = "completed",
        workflow_id: str | None = None,
        task_id: str | None = None,
    ) -> None:
        self.kind, self.name = kind, name


@dataclass(frozen=True)
class Commit:
    """What a commit would have held."""

    id: str
    kind: str
    name: str
    paths: tuple[str, ...]


@dataclass
class MemoryWorkspace:
    """The newest state, and every commit that led to it."""

    tree: MemoryTree = field(default_factory=lambda: MemoryTree({}))
    context: Context = field(default_factory=Context)
    sealed: dict[str, bytes] = field(default_factory=dict)
    generation: int = 0
    spec_version: int = 0
    now: int = START
    touches: dict[str, Touch] = field(default_factory=dict)
    commits: list[Commit] = field(default_factory=list)

    @classmethod
    def of(cls, files: Mapping[str, bytes], modes: Mapping[str, int] | None = None) -> MemoryWorkspace:
        """A workspace that starts with these files."""
        tree = MemoryTree(files, modes)
        return cls(tree, Context.load(tree, previous=None, now=START))

    @property
    def files(self) -> dict[str, bytes]:
        return self.tree.files

    def apply(self, operation: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Runs `operation(draft, …)` and commits what it wrote. What it raises has changed nothing."""
        draft = MemoryDraft(self)
        value = operation(cast("Draft", draft), *arguments, **options)
        self.commit(draft)
        return value

    def commit(self, draft: MemoryDraft) -> None:
        for name, text in draft.seals.items():
            if text is None:
                self.sealed.pop(name, None)
            else:
                self.sealed[name] = b"sealed:" + sha256(text.encode()).digest()
        self.generation += bool(draft.seals)
        edits = {path: edit for path, edit in draft.edits.items() if self.tree.blob(path) != _id(edit)}
        if not edits:
            return
        self.now += 1000
        files = dict(self.tree.files)
        for path, edit in edits.items():
            if edit is None:
                files.pop(path, None)
            else:
                files[path] = edit.data
        commit = Commit(sha256(f"{len(self.commits)}".encode()).hexdigest()[:40], draft.kind, draft.name, tuple(edits))
        self.commits.append(commit)
        self.touches.update({path: Touch(commit.id, draft.now, ACTOR) for path in edits})
        self.spec_version += any(path.startswith("spec/") for path in edits)
        before, self.tree = self.tree, MemoryTree(files, self.tree.modes)
        held = self.context
        self.context = held.after(self.tree, edits, draft.now)
        parsed.forget()  # what was remembered while writing must be what reading finds
        assert_same(self.context, Context.load(self.tree, previous=held, now=draft.now))
        assert_same(
            self.context, held.after(before, {path: edit and edit.data for path, edit in edits.items()}, draft.now)
        )

    def edit(self, files: Mapping[str, bytes | None]) -> None:
        """A change by hand: read back whole, against what was known."""
        held = {path: data for path, data in {**self.tree.files, **files}.items() if data is not None}
        self.tree = MemoryTree(held, self.tree.modes)
        self.context = Context.load(self.tree, previous=self.context, now=self.now)


def assert_same(one: Context, other: Context) -> None:
    """Two readings agree in everything that can be asked of them, orders included."""
    assert one.fields == other.fields
    assert one.settings_json == other.settings_json
    assert one.settings_around == other.settings_around
    assert list(one.memory.items()) == list(other.memory.items())
    assert one.memory_size == other.memory_size == len(one.memory_json())
    assert one.memory_names == other.memory_names
    assert list(one.spec.items()) == list(other.spec.items())
    assert list(one.files.items()) == list(other.files.items())
    told = [
        [(problem.id, problem.path, problem.code, problem.since) for problem in context.problems]
        for context in (one, other)
    ]
    assert told[0] == told[1]


def _id(edit: Object | None) -> str | None:
    return edit.id.hex() if edit is not None else None
