"""Rewrites of `main` by hand that nobody has decided about yet: an amended, rebased or reset branch leaves out commits,
which stay in its history and are named until somebody brings their content back or lets the rewrite stand.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import msgspec

from gitstore import values
from gitstore.facts import time_of
from gitstore.history import History, TimelineQuery
from gitstore.joining import REWRITE, SETTLES
from gitstore.model import CommitFacts, Problem
from gitstore.repository.ancestry import base
from gitstore.repository.objects import Oid
from gitstore.repository.repository import Repository

SOURCE = "rewrite"  # whose problems these are (Workspace.tell)
_LOOKED_AT = 100  # merges
_NAMED = 10  # commits that a problem names


def standing(history: History, repository: Repository, workspace: str) -> tuple[Problem, ...]:
    """The rewrites that are not settled, oldest first; the id of each is that of the commit that joined it."""
    joined: dict[str, str] = {}
    since = 0
    for merge in islice(_entries(history, workspace, "merge"), _LOOKED_AT):
        shown = repository.commit(_oid(merge.id)).trailers.get(f"Gitstore-{REWRITE}")
        if shown is not None:
            joined[merge.id], since = shown, merge.time
    waiting = set(joined)
    for restore in _entries(history, workspace, "restore", since):
        if not waiting:
            break
        waiting.discard(repository.commit(_oid(restore.id)).trailers.get(f"Gitstore-{SETTLES}", ""))
    return tuple(_problem(repository, entry, joined[entry]) for entry in reversed(joined) if entry in waiting)


def _entries(history: History, workspace: str, kind: str, since: int | None = None) -> Iterator[CommitFacts]:
    """The commits of `main` of a kind, newest first."""
    query = TimelineQuery(kind=kind, since=since, per_page=_LOOKED_AT)
    while True:
        page = history.timeline(workspace, query)
        yield from (entry.facts for entry in page.entries if entry.facts.branch == "main")
        if page.next_cursor is None:
            return
        query = msgspec.structs.replace(query, cursor=page.next_cursor)


def _problem(repository: Repository, join: str, shown: str) -> Problem:
    commit = repository.commit(_oid(join))
    since = base(repository, _oid(shown), commit.parents[1])
    lost: list[str] = []
    here: Oid | None = _oid(shown)
    while here is not None and here != since and len(lost) <= _NAMED:
        found = repository.commit(here)
        lost.append(f"{here.hex()[:12]} ({found.subject or 'no message'})")
        here = found.parents[0] if found.parents else None
    named = ", ".join(lost[:_NAMED]) + (" …" if len(lost) > _NAMED else "")
    return Problem(
        join[:16], "rewrite", "", "rewritten",
        f"`main` was rewritten by hand (amend, rebase or reset). What it left out is kept in its history: {named}",
        'Resolve it with {"take": "main"} to bring that content back, or {"take": "file"} to let the rewrite stand.',
        values.iso(time_of(commit)),
    )  # fmt: skip


def _oid(text: str) -> Oid:
    return Oid(bytes.fromhex(text))
