"""What `at` means: a commit of `main` or `evidence` (its id, or 4 digits of it or more), a snapshot, a tag, or a time.

It is a moment of both branches: of the other one, what was there when the commit was made. `now` is the newest state.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from gitstore import facts, names, values
from gitstore.changes import Workspace
from gitstore.errors import Damaged, Invalid, NotFound
from gitstore.history import History
from gitstore.model import Branch, CommitFacts
from gitstore.repository import refs, tags
from gitstore.repository.ancestry import is_ancestor
from gitstore.repository.check import peel
from gitstore.repository.objects import Oid
from gitstore.repository.repository import Repository
from gitstore.repository.tags import Tag
from gitstore.store import Store

NEWEST: Final = frozenset({"now", "HEAD", "main", "evidence"})
EVIDENCE: Final = "Gitstore-Evidence"
"""The trailer in which a snapshot says its commit of the evidence branch."""

ID: Final = re.compile(r"[0-9a-fA-F]{40}")
_BRANCHES: Final[tuple[Branch, Branch]] = ("main", "evidence")
_SOON: Final = (3_600_000, 86_400_000, 30 * 86_400_000)
_SHORT: Final = re.compile(r"[0-9a-fA-F]{4,39}")


class Moment(msgspec.Struct, frozen=True):
    """A state of both branches: a commit of each, None where the branch did not exist. `time` (ms) is when that was."""

    asked: str
    main: str | None
    evidence: str | None
    time: int

    def shown(self) -> dict[str, Any]:
        """`{asked, main, evidence, time}`, for answers."""
        return {"asked": self.asked, "main": self.main, "evidence": self.evidence, "time": values.iso(self.time)}


def resolve(store: Store, workspace: Workspace, at: str) -> Moment:
    """The moment that `at` names.

    An id comes first, then a snapshot, a short id, a time, and any other tag. Raises NotFound that says what was looked
    for, Invalid where a short id fits several commits.
    """
    return look_up(store, workspace, at)[0]


def look_up(store: Store, workspace: Workspace, at: str) -> tuple[Moment, bool]:
    """The moment, and whether it is the same as long as the branches are where they are."""
    history, repository = store.history, workspace.repository
    if at in NEWEST:
        visible = workspace.visible
        main, evidence = visible.main, visible.evidence
        return Moment(at, main.head, evidence.head, max(main.time, evidence.time)), True
    if (made := tags.mark(repository.git, at)) is not None and not ID.fullmatch(at):
        return _of_snapshot(history, repository, workspace.id, at, made), False
    if ID.fullmatch(at) or _SHORT.fullmatch(at):
        commit = _commit(history, repository, workspace.id, at.lower())
        if commit is not None:
            return _of_commit(history, repository, workspace.id, at, commit), True
    if (time := _time(at)) is not None:
        return _of_time(history, workspace.id, at, time), True
    if (commit := _tagged(history, repository, workspace.id, at)) is not None:
        return _of_commit(history, repository, workspace.id, at, commit), False
    raise NotFound(
        f"the workspace has no commit, snapshot or tag `{names.one_line(at, 80)}`, and it is no time such as "
        "2026-11-24T03:00:00.000Z"
    )


def commit_facts(store: Store, workspace: Workspace, digits: str) -> CommitFacts:
    """What is known of the commit of either branch whose id begins so; of one that a merge brought in, what git has.

    Raises NotFound, Invalid where several commits begin so.
    """
    history, repository = store.history, workspace.repository
    if not (ID.fullmatch(digits) or _SHORT.fullmatch(digits)):
        raise NotFound(f"`{names.one_line(digits, 80)}` is no commit: give 4 to 40 digits of its id")
    commit = history.find_commit(workspace.id, digits) or _commit(history, repository, workspace.id, digits.lower())
    known = history.commit(workspace.id, commit) if commit is not None else None
    if known is not None:
        return known
    oid = Oid(bytes.fromhex(commit)) if commit is not None else None
    branch = _reached(history, repository, workspace.id, oid) if oid is not None else None
    if oid is None or branch is None:
        raise NotFound(f"the workspace has no commit {digits.lower()}")
    return next(facts.walk(repository, branch, [(oid, repository.commit(oid))], 0))


def _of_time(history: History, workspace: str, at: str, time: int) -> Moment:
    main, evidence = (history.at_time(workspace, branch, time) for branch in _BRANCHES)
    if main is None and evidence is None:
        began = history.bounds(workspace, "main")
        since = f"; it begins at {values.iso(began.first_time)}" if began is not None else ""
        raise NotFound(f"at `{names.one_line(at, 80)}` the workspace was not there yet{since}")
    return Moment(at, main, evidence, time)


def _of_snapshot(history: History, repository: Repository, workspace: str, at: str, made: Oid) -> Moment:
    """The moment that a snapshot was made of; its evidence is what the snapshot says."""
    tag = tags.read(repository.database, made)
    moment = _of_commit(history, repository, workspace, at, tag.commit.hex())
    evidence = evidence_of(tag)
    known = history.commit(workspace, evidence) if evidence is not None else None
    if known is None:
        return Moment(at, moment.main, None, moment.time)
    return Moment(at, moment.main, evidence, max(moment.time, known.time))


def evidence_of(tag: Tag) -> str | None:
    """The commit of the evidence branch that a snapshot says; None where it says none, or what is no commit's id."""
    said = tag.trailers.get(EVIDENCE, "")
    return said.lower() if ID.fullmatch(said) else None


def _tagged(history: History, repository: Repository, workspace: str, at: str) -> str | None:
    """The commit of a tag that somebody made, if it is on one of the two branches."""
    ref = f"{tags.TAGS}/{at.removeprefix('refs/tags/')}"
    if refs.fault(ref) is not None:
        return None
    try:
        oid = refs.read(repository.git, ref)
        commit = peel(repository.database, oid)[-1] if oid is not None else None
    except (Damaged, OSError):
        return None
    if commit is None:
        return None
    if _reached(history, repository, workspace, commit) is None:
        raise NotFound(f"the tag `{names.one_line(at, 80)}` names a commit that is on neither main nor evidence")
    return commit.hex()


def _time(at: str) -> int | None:
    for text in (at, at.replace(" ", "+")):  # a `+` in a query string is a blank, unless somebody escaped it
        try:
            return values.parse_iso(text)
        except (Invalid, OverflowError):
            continue
    return None


def _commit(history: History, repository: Repository, workspace: str, digits: str) -> str | None:
    """The commit of either branch whose id begins so; those that a merge brought in count too."""
    found = {known} if (known := history.find_commit(workspace, digits)) is not None else set()
    if len(digits) == 40 and found:
        return found.pop()
    for oid in repository.database.commits(digits):
        if oid.hex() not in found and _reached(history, repository, workspace, oid):
            found.add(oid.hex())
    if len(found) > 1:
        raise Invalid(f"more than one commit begins with {digits}: give more digits of the one that is meant")
    return found.pop() if found else None


def _reached(history: History, repository: Repository, workspace: str, oid: Oid) -> Branch | None:
    """The branch that a commit is part of. Other branches and tags do not count: nobody held those to the rules."""
    made = facts.time_of(repository.commit(oid))
    for branch in _BRANCHES:
        # A line is mostly merged soon: from a commit of about that time there is less to walk than from the newest.
        soon = (history.at_time(workspace, branch, made + wait) for wait in _SOON)
        heads = dict.fromkeys(head for head in (*soon, history.head(workspace, branch)) if head is not None)
        if any(is_ancestor(repository, oid, Oid(bytes.fromhex(head))) for head in heads):
            return branch
    return None


def _of_commit(history: History, repository: Repository, workspace: str, at: str, commit: str) -> Moment:
    """The moment of a commit: of the other branch, the state when it was made."""
    known = history.commit(workspace, commit)
    if known is not None:
        branch, time = known.branch, known.time
    else:
        oid = Oid(bytes.fromhex(commit))
        reached = _reached(history, repository, workspace, oid)
        if reached is None:
            raise NotFound(f"the commit {commit} is on neither main nor evidence")
        branch, time = reached, facts.time_of(repository.commit(oid))
    if branch == "main":
        return Moment(at, commit, history.at_time(workspace, "evidence", time), time)
    return Moment(at, history.at_time(workspace, "main", time), commit, time)
