"""The evidence branch in memory: a dict of paths, and a commit for each operation that changed something."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from draft import ACTOR, START, WORKSPACE, MemoryTree

from gitstore.lfs.attributes import Attributes
from gitstore.model import Branch, Kind, Provenance, Touch
from gitstore.repository.objects import Blob, Object

if TYPE_CHECKING:
    from gitstore.changes import Draft

T = TypeVar("T")

__all__ = ["ACTOR", "START", "WORKSPACE", "Branched", "Commit", "EvidenceDraft", "MemoryTree"]


class Commit(NamedTuple):
    """What a commit would say."""

    id: str
    kind: str
    name: str
    state: str
    workflow_id: str | None
    task_id: str | None
    paths: tuple[str, ...]


class EvidenceDraft:
    """One change in the making."""

    branch: Branch = "evidence"

    def __init__(self, owner: Branched) -> None:
        self.workspace = WORKSPACE
        self.now = owner.now
        self.provenance = Provenance(ACTOR)
        self.tree = owner.tree
        self.edits: dict[str, Object | None] = {}
        self.said: tuple[str, str, str, str | None, str | None] = ("changes", "", "completed", None, None)
        self._owner = owner

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

    def describe(
        self,
        kind: Kind,
        name: str,
        *,
        state: str = "completed",
        workflow_id: str | None = None,
        task_id: str | None = None,
    ) -> None:
        self.said = (kind, name, state, workflow_id, task_id)


@dataclass
class Branched:
    """The branch: its newest state, and every commit that led to it."""

    tree: MemoryTree = field(default_factory=lambda: MemoryTree({}))
    now: int = START
    touches: dict[str, Touch] = field(default_factory=dict)
    commits: list[Commit] = field(default_factory=list)

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> Branched:
        return cls(MemoryTree(files))

    @property
    def files(self) -> dict[str, bytes]:
        return self.tree.files

    def apply(self, operation: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Runs `operation(draft, …)` and commits what it wrote. What it raises has changed nothing."""
        draft = EvidenceDraft(self)
        value = operation(cast("Draft", draft), *arguments, **options)
        edits = {p: e for p, e in draft.edits.items() if self.tree.blob(p) != (e.id.hex() if e is not None else None)}
        if edits:
            files = {p: d for p, d in self.files.items() if p not in edits}
            files.update({path: edit.data for path, edit in edits.items() if edit is not None})
            self.tree = MemoryTree(files)
            commit = sha256(str(len(self.commits)).encode()).hexdigest()[:40]
            self.commits.append(Commit(commit, *draft.said, tuple(edits)))
            self.touches.update({path: Touch(commit, draft.now, ACTOR) for path in edits})
        self.now += 1000
        return value
