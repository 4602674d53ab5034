"""A workspace at one moment: its parsed context, where its branches are, and what is told with it. Never changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from gitstore import record, settings
from gitstore.content import beginnings
from gitstore.context import Context
from gitstore.lfs import Objects
from gitstore.model import Branch, Problem
from gitstore.repository.commits import Commit
from gitstore.repository.objects import EMPTY_TREE, Oid
from gitstore.repository.repository import Repository
from gitstore.repository.trees import TreeView


class Line(NamedTuple):
    """The end of a branch: its commit (None: the branch does not exist), its root tree, its effective time (ms)."""

    oid: Oid | None
    root: Oid
    time: int

    @property
    def head(self) -> str | None:
        """The commit id, 40 hexadecimal digits."""
        return self.oid.hex() if self.oid is not None else None


NOWHERE = Line(None, EMPTY_TREE, 0)


class Snapshot:
    """A workspace at one moment; never changes."""

    __slots__ = (
        "_rendered",
        "_source",
        "context",
        "created_at",
        "lines",
        "sealed",
        "sealed_generation",
        "spec_version",
        "told",
        "workspace",
    )

    def __init__(
        self,
        workspace: str,
        context: Context,
        lines: Mapping[str, Line],
        source: Repository,
        *,
        created_at: int,
        spec_version: int,
        sealed: Mapping[str, bytes],
        sealed_generation: int,
        told: tuple[Problem, ...] = (),
    ) -> None:
        self.workspace = workspace
        self.context = context
        self.lines = lines
        self.created_at = created_at
        self.spec_version = spec_version
        self.sealed = sealed
        self.sealed_generation = sealed_generation
        self.told = told
        self._rendered: tuple[bytes, str] | None = None
        self._source = source

    @property
    def main(self) -> Line:
        """The context branch."""
        return self.lines["main"]

    @property
    def evidence(self) -> Line:
        """The evidence branch."""
        return self.lines["evidence"]

    @property
    def updated_at(self) -> int:
        """When the context branch last moved."""
        return self.lines["main"].time

    def tree(self, branch: Branch = "main") -> TreeView:
        """The files of a branch."""
        return TreeView(self._source.database, self.lines[branch].root)

    def blob(self, blob: str) -> bytes:
        """The content of a blob. Raises Damaged where it is missing."""
        return self._source.database.blob(Oid(bytes.fromhex(blob)))

    def beginning(self, blob: str, most: int) -> bytes:
        """The first so many bytes of the content of a blob, which may be a large object. Raises Damaged."""
        return beginnings(self.blob, lambda: self.objects)(blob, most)

    def has(self, commit: str) -> bool:
        """Whether a commit is here."""
        return self._source.database.has(Oid(bytes.fromhex(commit)))

    @property
    def objects(self) -> Objects:
        """The large objects of the workspace; they are those of now, whatever the moment."""
        return self._source.objects

    def commit(self, commit: str) -> Commit:
        """A commit of either branch. Raises Damaged for one that is not here."""
        return self._source.commit(Oid(bytes.fromhex(commit)))

    def tree_at(self, commit: str) -> TreeView:
        """The files of a commit of either branch. Raises Damaged for one that is not here."""
        return self._source.tree(Oid(bytes.fromhex(commit)))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What a person must mend: in the branch's own files, and what was told of the world around it."""
        if not self.told:
            return self.context.problems
        told = {problem.id for problem in self.told}
        return (*(problem for problem in self.context.problems if problem.id not in told), *self.told)

    def telling(self, told: tuple[Problem, ...]) -> Snapshot:
        """The same state with other problems told of the world around it."""
        if told == self.told:
            return self
        return Snapshot(
            self.workspace, self.context, self.lines, self._source,
            created_at=self.created_at, spec_version=self.spec_version,
            sealed=self.sealed, sealed_generation=self.sealed_generation, told=told,
        )  # fmt: skip

    def record(self) -> tuple[bytes, str]:
        """The workspace record as JSON, and its ETag; made once."""
        if self._rendered is None:
            head = self.main.head
            encoded = record.render(
                self.context,
                head=head,
                created_at=self.created_at,
                updated_at=self.updated_at,
                spec_version=self.spec_version,
                secret_configured=settings.GIT_TOKEN in self.sealed,
                webhook_secret_configured=settings.WEBHOOK_SECRET in self.sealed,
                problems=self.problems,
            )
            self._rendered = encoded, self.etag
        return self._rendered

    @property
    def etag(self) -> str:
        """The ETag of the workspace record."""
        return record.etag(self.main.head, self.sealed_generation, self.problems)
