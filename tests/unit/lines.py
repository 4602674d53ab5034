"""Commits made for tests, and what a plain list of them says."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

from hypothesis import strategies as st
from msgspec.structs import replace

from gitstore.history import History, TimelineQuery
from gitstore.model import Actor, Branch, ChangedPath, CommitFacts

BRANCHES: tuple[Branch, ...] = ("evidence", "main")
Feed = Sequence[tuple[str, CommitFacts]]

ANNA = Actor("person", "anna@example.org", "Anna Ünal")
BOT = Actor("agent", "k3f", "builder")
numbers = itertools.count(1)


def commit(
    changes: Sequence[ChangedPath] = (), *, after: CommitFacts | None = None, branch: Branch = "main", **more: Any
) -> CommitFacts:
    given = {
        "id": f"{next(numbers) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 160):040x}",
        "branch": branch,
        "parents": (after.id,) if after else (),
        "time": after.time + 1000 if after else 1_700_000_000_000,
        "kind": "changes",
        "name": "a change",
        "actor": BOT,
        "door": "api",
        "changes": tuple(changes),
    }
    return CommitFacts(**{**given, **more})


def memory(key: str, op: Literal["added", "changed", "deleted"] = "changed") -> ChangedPath:
    return ChangedPath(f"memory/{key}.yaml", op, "memory", key)


def entries(feed: Feed, workspace: str) -> list[CommitFacts]:
    """All commits of a workspace, newest first."""
    places: dict[Branch, int] = {"main": 0, "evidence": 0}
    found = []
    for owner, facts in feed:
        if owner == workspace:
            places[facts.branch] += 1
            found.append(((facts.time, facts.branch, places[facts.branch]), facts))
    return [facts for _, facts in sorted(found, key=lambda one: one[0], reverse=True)]


def lets_through(query: TimelineQuery, facts: CommitFacts) -> bool:
    def on(path: str | None) -> bool:
        wanted = (query.path or "").strip("/")
        return path is not None and (path == wanted or path.startswith(wanted + "/"))

    return (
        query.kind in (None, facts.kind)
        and query.actor in (None, facts.actor.id, facts.actor.name, facts.actor.type)
        and query.door in (None, facts.door)
        and (query.path is None or any(on(path) for one in facts.changes for path in one.paths))
        and (query.key is None or any(query.key in one.keys for one in facts.changes))
        and query.workflow_id in (None, facts.workflow_id)
        and query.task_id in (None, facts.task_id)
        and (query.since is None or facts.time >= query.since)
        and (query.until is None or facts.time <= query.until)
        and (query.text is None or query.text.casefold() in facts.name.casefold())
    )


PATHS = [
    ("memory/a.yaml", "memory", "a"),
    ("memory/b.yaml", "memory", "b"),
    ("memory/straße.yaml", "memory", "straße"),
    ("memory", "other", None),
    ("spec/tools.yaml", "spec", "tools"),
    ("docs/deep/er/x.md", "other", None),
    ("docs/deep/y.md", "other", None),
    ("docs/deep", "other", None),
    ("docs/deep-sea.md", "other", None),
    ("README.md", "other", None),
    ("odd/\udce9.txt", "other", None),
]


@st.composite
def changes(draw: st.DrawFn) -> tuple[ChangedPath, ...]:
    found = []
    for path, part, key in draw(st.lists(st.sampled_from(PATHS), max_size=3, unique=True)):
        op = draw(st.sampled_from(["added", "changed", "deleted", "renamed"]))
        old = draw(st.sampled_from(PATHS)) if op == "renamed" else (path,)
        came_from = old if old[0] != path else (None, None, None)
        blob = draw(st.sampled_from([None, "ab" * 20])) if op != "deleted" else None
        found.append(ChangedPath(path, op, part, key, *came_from, blob))
    return tuple(found)


@st.composite
def feeds(draw: st.DrawFn) -> list[tuple[str, CommitFacts]]:
    found: list[tuple[str, CommitFacts]] = []
    last: dict[tuple[str, str], CommitFacts] = {}
    for _ in range(draw(st.integers(1, 25))):
        workspace, branch = draw(st.sampled_from("ab")), draw(st.sampled_from(BRANCHES))
        before = last.get((workspace, branch))
        facts = commit(
            draw(changes()),
            after=before,
            branch=branch,
            time=(before.time if before else 1_000) + draw(st.integers(0, 2)),
            kind=draw(st.sampled_from(["edit", "push", "memory.updated"])),
            name=draw(st.sampled_from(["Set A_b", "STRASSE 100%", "Straße", "été \udce9", "x"])),
            actor=draw(st.sampled_from([ANNA, BOT, Actor("agent", "anna@example.org", "k3f")])),
            door=draw(st.sampled_from(["api", "git"])),
            workflow_id=draw(st.sampled_from([None, "w1", "wé\udce9"])),
            task_id=draw(st.sampled_from([None, "t1"])),
            request_id=draw(st.sampled_from([None, "r"])),
            state=draw(st.sampled_from(["completed", "paused"])),
        )
        if before and draw(st.booleans()):
            facts = replace(facts, parents=(before.id, "ab" * 20))
        last[workspace, branch] = facts
        found.append((workspace, facts))
    return found


def in_batches(history: History, feed: Feed, sizes: Sequence[int]) -> None:
    start = 0
    for size in itertools.cycle(sizes):
        if start >= len(feed):
            return
        history.append(feed[start : start + size])
        start += size
