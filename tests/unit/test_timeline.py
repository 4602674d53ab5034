"""The timeline against a plain list of commits, and cursors while commits arrive."""

from __future__ import annotations

import itertools
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lines import commit, entries, feeds, in_batches, lets_through, memory
from msgspec.structs import replace

from gitstore import errors
from gitstore.history import History, TimelineQuery
from gitstore.model import CommitFacts


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    opened = History(tmp_path / "history.sqlite")
    yield opened
    opened.close()


FILTERS: dict[str, list[Any]] = {
    "kind": ["edit", "push", "none"],
    "actor": ["anna@example.org", "Anna Ünal", "agent", "k3f", "person"],
    "door": ["api", "git"],
    "path": ["memory", "memory/a.yaml", "/docs/", "docs/deep", "docs/deep/er", "docs/de", "odd/\udce9.txt"],
    "key": ["a", "straße", "tools", "none"],
    "workflow_id": ["w1", "wé\udce9"],
    "task_id": ["t1"],
    "since": [0, 1_001, 1_004, 1 << 70],
    "until": [1_000, 1_003, -5],
    "text": ["set", "a_", "straSSe", "%", "É", "\udce9"],
}


@st.composite
def queries(draw: st.DrawFn) -> TimelineQuery:
    """Seldom more than two filters: of three hardly anything is left."""
    chosen = draw(
        st.lists(st.sampled_from(list(FILTERS)), max_size=draw(st.sampled_from([0, 1, 1, 2, 2, 5])), unique=True)
    )
    given = {name: draw(st.sampled_from(FILTERS[name])) for name in chosen}
    return TimelineQuery(per_page=draw(st.sampled_from([1, 2, 5, 100])), **given)


@settings(max_examples=30, deadline=None)
@given(feeds(), st.lists(queries(), min_size=1, max_size=6), st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_the_timeline_is_the_list_of_commits_filtered(
    feed: list[tuple[str, CommitFacts]], asked: list[TimelineQuery], sizes: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder) / "h")
        half = len(feed) // 2
        in_batches(history, feed[:half], sizes)
        for query in asked:  # so that totals are carried on from here
            assert history.timeline("a", query).total == sum(
                lets_through(query, one) for one in entries(feed[:half], "a")
            )
        in_batches(history, feed[half:], sizes)
        for query, workspace in itertools.product(asked, "ab"):
            wanted = [one for one in entries(feed, workspace) if lets_through(query, one)]
            assert history.activity(workspace, query, 3) == Counter((one.time // 3, one.door) for one in wanted)
            size, cursor = query.per_page, None
            for start in range(0, max(len(wanted), 1), size):
                page = history.timeline(workspace, replace(query, page=start // size + 1))
                assert [one.facts for one in page.entries] == wanted[start : start + size]
                assert page.total == len(wanted)
                assert [one.changes_total for one in page.entries] == [len(one.facts.changes) for one in page.entries]
                assert history.timeline(workspace, replace(query, cursor=cursor)) == page
                cursor = page.next_cursor
            assert cursor is None
        history.close()


def test_a_cursor_stays_good_while_commits_arrive(history: History) -> None:
    line = [commit([memory("a")])]
    for _ in range(60):
        line.append(commit([memory("a")], after=line[-1]))
    history.append(("w", one) for one in line)
    seen: list[str] = []
    cursor: str | None = None
    last = line[-1]
    while True:
        page = history.timeline("w", TimelineQuery(path="memory/a.yaml", per_page=7, cursor=cursor))
        seen += [one.facts.id for one in page.entries]
        cursor = page.next_cursor
        if cursor is None:
            break
        last = commit([memory("a")], after=last)
        history.append([("w", last)])
        assert page.total < history.timeline("w", TimelineQuery(key="a")).total
    assert seen == [one.id for one in reversed(line)]


@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "!!!!", "é", "A" * 23, "A" * 1000, "////////////////////////"])
def test_a_cursor_that_no_page_gave_out_is_refused(history: History, cursor: str) -> None:
    history.append([("w", commit([memory("a")]))])
    for workspace in ("w", "unknown"):
        with pytest.raises(errors.Invalid, match="cursor"):
            history.timeline(workspace, TimelineQuery(cursor=cursor))


def test_pages_below_one_are_refused_and_pages_beyond_the_end_are_empty(history: History) -> None:
    history.append([("w", commit([memory("a")]))])
    for bad in (TimelineQuery(page=0), TimelineQuery(per_page=0), TimelineQuery(page=-1)):
        with pytest.raises(errors.Invalid):
            history.timeline("w", bad)
    beyond = history.timeline("w", TimelineQuery(page=10**30))
    assert (beyond.entries, beyond.total, beyond.next_cursor) == ((), 1, None)
