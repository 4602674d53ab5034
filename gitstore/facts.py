"""What a commit says to history: its message and trailers written, and read back from any commit whatever.

The subject is one line a person understands; the trailers carry the machine's part. Only commits whose committer is
this store have their trailers believed: anybody can type `Gitstore-Actor: admin` into a message.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import overload

from gitstore import names
from gitstore.documents import DocumentError, load
from gitstore.model import Actor, Branch, ChangedPath, CommitFacts, Op, Provenance
from gitstore.repository import bulk
from gitstore.repository.commits import Commit, Signature
from gitstore.repository.objects import Oid
from gitstore.repository.renames import moves
from gitstore.repository.repository import Repository
from gitstore.repository.trees import Difference, TreeView, compare
from gitstore.repository.worktree import regular

COMMITTER_NAME = "gitstore"
COMMITTER_EMAIL = "gitstore@gitstore.invalid"


@lru_cache(maxsize=1024)
def author(actor: Actor) -> tuple[str, str]:
    """Name and e-mail of a commit's author for whoever asked for the change."""
    if actor.type == "person":
        return names.identity(actor.name), names.identity(actor.id)
    if actor.type == "system":
        return COMMITTER_NAME, COMMITTER_EMAIL
    return names.identity(f"{actor.type} key {actor.id}"), names.identity(f"{actor.id}@keys.gitstore.invalid")


@lru_cache(maxsize=1024)
def shown(actor: Actor) -> Actor:
    """The actor as a trailer can hold it, so that history says the same before and after it is made anew."""
    return Actor(actor.type, names.one_line(actor.id).replace(" ", "_"), names.one_line(actor.name))


def trailer(text: str | None) -> str | None:
    """A value as a trailer can hold it."""
    return names.one_line(text, 300) if text is not None else None


def message(
    kind: str,
    name: str,
    state: str,
    time: int,
    who: Provenance,
    workflow: str | None = None,
    task: str | None = None,
    more: Mapping[str, str] | None = None,
) -> str:
    """The whole commit message. Nothing a user wrote can add a line to it. `more` are further trailers, of ids."""
    lines = [
        f"Gitstore-Kind: {kind}",
        f"Gitstore-State: {state}",
        f"Gitstore-Actor: {who.actor.type} {shown(who.actor).id} {shown(who.actor).name}",
        f"Gitstore-Door: {who.door}",
        f"Gitstore-Time: {time}",
    ]
    for title, text in (
        ("Request", who.request_id),
        ("Workflow", workflow or who.workflow_id),
        ("Task", task or who.task_id),
    ):
        if text is not None:
            lines.append(f"Gitstore-{title}: {trailer(text)}")
    lines += [f"Gitstore-{title}: {text}" for title, text in (more or {}).items()]
    return f"{names.one_line(name)}\n\n" + "\n".join(lines) + "\n"


def time_of(commit: Commit) -> int:
    """The commit's own time in milliseconds: ours carries it exactly, others have whole seconds."""
    if commit.committer.email == COMMITTER_EMAIL and (text := commit.trailers.get("Gitstore-Time", "")).isdecimal():
        return int(text)
    return commit.committer.time * 1000


def facts(
    oid: Oid, commit: Commit, branch: Branch, time: int, changes: Iterable[ChangedPath], *, pushed: bool = False
) -> CommitFacts:
    """The facts of a commit that is already made; `time` is its effective time, `pushed` that it came over the wire."""
    parents = tuple(parent.hex() for parent in commit.parents)
    trailers = commit.trailers if commit.committer.email == COMMITTER_EMAIL else {}
    return CommitFacts(
        id=oid.hex(),
        branch=branch,
        parents=parents,
        time=time,
        kind=trailers.get("Gitstore-Kind", "push" if pushed else "merge" if len(parents) > 1 else "edit"),
        name=names.one_line(subject) if (subject := commit.subject) else "(no message)",
        actor=actor(trailers.get("Gitstore-Actor", ""), commit.author),
        door=trailers.get("Gitstore-Door", "git" if pushed else "disk"),
        changes=tuple(changes),
        state=trailers.get("Gitstore-State", "completed"),
        request_id=trailers.get("Gitstore-Request"),
        workflow_id=trailers.get("Gitstore-Workflow"),
        task_id=trailers.get("Gitstore-Task"),
    )


def actor(told: str, author: Signature) -> Actor:
    """Who it was, as the trailer Gitstore-Actor tells; else the person who is the author."""
    words = told.split(" ", 2)
    if len(words) == 3 and words[0] in ("agent", "worker", "admin", "service", "person", "system"):
        return Actor(words[0], words[1], words[2])  # type: ignore[arg-type]  # checked in the line above
    return Actor("person", author.email, author.name)


def changed_paths(
    branch: Branch, differences: Iterable[Difference], before: TreeView, after: TreeView
) -> list[ChangedPath]:
    """What a commit changed, with the resource that each path belongs to. What moved unchanged is `renamed`."""
    found = []
    for path, old, new, came_from in moves(differences):
        op: Op = "added" if old is None else "deleted" if new is None else "changed"
        part, key = names.classify(branch, path)
        key = key_at(path, part, key, before if new is None else after)
        blob = new.id.hex() if new is not None and regular(new) else None
        if came_from is None:
            found.append(ChangedPath(path, op, part, key, blob=blob))
        else:
            was, old_key = names.classify(branch, came_from)
            old_key = key_at(came_from, was, old_key, before)
            found.append(ChangedPath(path, "renamed", part, key, came_from, was, old_key, blob))
    return found


def key_at(path: str, part: str, key: str | None, view: TreeView) -> str | None:
    """The key of a file in `view`, given what `names.classify` says of its path.

    A key that the path alone does not tell: a very long memory key, or a file's key from its meta file."""
    if part == "memory" and names.is_long_memory(path.rsplit("/", 1)[-1]):
        field, document = "key", view.read(path)
    elif part == "file":
        meta = path if path.endswith(names.META_SUFFIX) else names.meta_path(path)
        field, document = "key", view.read(meta)
    else:
        return key
    if document is None:
        return key
    try:
        value = load(document)
    except DocumentError:
        return key
    named = value.get(field) if isinstance(value, dict) else None
    return named if isinstance(named, str) else key


@overload
def line(repository: Repository, new: Oid | None, old: Oid | None) -> list[tuple[Oid, Commit]]: ...
@overload
def line(repository: Repository, new: Oid | None, old: Oid | None, *, most: int) -> list[tuple[Oid, Commit]] | None: ...
def line(
    repository: Repository, new: Oid | None, old: Oid | None, *, most: int | None = None
) -> list[tuple[Oid, Commit]] | None:
    """The first-parent commits from `old` (left out; None: from the beginning) to `new`, oldest first.

    Where `old` is not on the line, the whole line is given. None if there are more than `most`.
    """
    found: list[tuple[Oid, Commit]] = []
    here = new
    while here is not None and here != old:
        if most is not None and len(found) >= most:
            return None
        commit = repository.commit(here)
        found.append((here, commit))
        here = commit.parents[0] if commit.parents else None
    return found[::-1]


def walk(
    repository: Repository, branch: Branch, commits: Sequence[tuple[Oid, Commit]], before: int
) -> Iterator[CommitFacts]:
    """The facts of consecutive first-parent commits; `before` is the effective time of what came before them."""
    for oid, commit in commits:
        before = max(before, time_of(commit))
        old = repository.tree(commit.parents[0] if commit.parents else None)
        new = TreeView(repository.database, commit.tree)
        differences = compare(repository.database, old.root, new.root)
        changes = changed_paths(branch, differences, old, new)
        yield facts(oid, commit, branch, before, changes, pushed=repository.pushed(oid))


def catch_up(
    repository: Repository, branch: Branch, head: Oid, since: Oid | None, before: int
) -> Iterator[CommitFacts]:
    """The facts of the first-parent commits from `since` (left out; None: from the beginning) to `head`, oldest first.

    `before` is the effective time of what came before them. Where they are many, the git program reads them. Where
    `since` is not on the line, the first commit given is not one on top of it.
    """
    commits = line(repository, head, since, most=bulk.WORTH_IT)
    if commits is None:
        try:
            for oid, commit, root, differences in bulk.read(repository.database.objects, head, since):
                before = max(before, time_of(commit))
                old, new = (TreeView(repository.database, tree) for tree in (root, commit.tree))
                changes = changed_paths(branch, differences, old, new)
                yield facts(oid, commit, branch, before, changes, pushed=repository.pushed(oid))
                since = oid
            return
        except bulk.Unread:
            commits = line(repository, head, since)
    yield from walk(repository, branch, commits, before)


def server_signature(time: int) -> Signature:
    """The committer of the store's own commits."""
    return Signature(COMMITTER_NAME, COMMITTER_EMAIL, time // 1000)
