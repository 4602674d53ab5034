"""What a branch said before a file of it was broken: the state of a server that had been there all the time.

A commit made by hand may break a file; what it said before stays, also over a restart, when nothing is in memory any
more. Then the states are read again in which its history shows the broken files, the oldest first.
"""

from __future__ import annotations

from functools import cmp_to_key

from gitstore.context import Context
from gitstore.history import History, TimelineQuery
from gitstore.repository.ancestry import is_ancestor
from gitstore.repository.objects import Oid
from gitstore.repository.repository import Repository
from gitstore.rules import Policy

_FILES = 50  # broken files whose history is read
_COMMITS = 20  # of each, the newest commits


def recall(
    history: History,
    repository: Repository,
    workspace: str,
    *,
    now: int,
    policy: Policy,
    commit: Oid | None = None,
    until: int | None = None,
) -> Context:
    """The context of `main`, with the last good value of everything that cannot be read now.

    With a `commit` it is the context as of that one, whose effective time `until` is (ms).
    """
    tree = repository.tree(commit or repository.kept["main"])
    context = Context.load(tree, previous=None, now=now, policy=policy)
    if not context.problems:
        return context
    before: dict[str, int] = {}
    for path in list(dict.fromkeys(problem.path for problem in context.problems))[:_FILES]:
        page = history.timeline(workspace, TimelineQuery(path=path, until=until, per_page=_COMMITS))
        for entry in page.entries:
            if entry.facts.branch == "main" and entry.facts.parents:
                before[entry.facts.parents[0]] = entry.facts.time
    states = [(time, Oid(bytes.fromhex(parent))) for parent, time in before.items()]
    if commit is not None:
        # Of the same millisecond there may be later states, and a commit beside the line has a past of its own.
        beside = history.commit(workspace, commit.hex()) is None
        states = [
            (time, state)
            for time, state in states
            if not (beside or time == until) or is_ancestor(repository, state, commit)
        ]

    def order(one: tuple[int, Oid], other: tuple[int, Oid]) -> int:
        if one[0] != other[0]:
            return one[0] - other[0]
        return 0 if one == other else -1 if is_ancestor(repository, one[1], other[1]) else 1

    known: Context | None = None
    for _, state in sorted(states, key=cmp_to_key(order)):
        known = Context.load(repository.tree(state), previous=known, now=now, policy=policy)
    return Context.load(tree, previous=known, now=now, policy=policy) if known is not None else context
