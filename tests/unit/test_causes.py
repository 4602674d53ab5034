from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from lines import Feed, feeds, in_batches

from gitstore.causes import Cause
from gitstore.history import History
from gitstore.model import CommitFacts

WORDS = st.sampled_from([None, None, None, "w1", "wé\udce9", "t1", "r", "k3f", "anna@example.org", "agent", "zz"])


def has(cause: Cause, facts: CommitFacts) -> bool:
    return (
        cause.actor in (None, facts.actor.id, facts.actor.name, facts.actor.type)
        and cause.workflow_id in (None, facts.workflow_id)
        and cause.task_id in (None, facts.task_id)
        and cause.request_id in (None, facts.request_id)
        and (cause.since is None or facts.time >= cause.since)
        and (cause.until is None or facts.time <= cause.until)
    )


@settings(deadline=None, max_examples=30)
@given(
    feeds(),
    st.builds(
        Cause,
        actor=WORDS,
        workflow_id=WORDS.filter(lambda word: word is None or word.isprintable()),
        task_id=WORDS.filter(lambda word: word is None or word.isprintable()),
        request_id=st.sampled_from([None, None, "r", "s"]),
        since=st.sampled_from([None, None, 1_003, 1_010]),
        until=st.sampled_from([None, None, 1_005, 1_012]),
    ),
)
def test_a_cause_is_what_a_plain_list_says(feed: Feed, cause: Cause) -> None:
    with TemporaryDirectory() as folder:
        history = History(Path(folder) / "history.sqlite")
        in_batches(history, feed, [3, 1])
        for workspace in "ab":
            line = [facts for owner, facts in feed if owner == workspace and facts.branch == "main"]
            positions = {facts.id: history.position(workspace, facts.id) for facts in line}
            assert list(positions.values()) == sorted(positions.values())
            for facts in (facts for owner, facts in feed if owner == workspace and facts.branch == "evidence"):
                assert history.position(workspace, facts.id) is None
            for end in {len(line), len(line) // 2} - {0}:
                until = positions[line[end - 1].id]
                found = list(history.caused(workspace, cause, until))
                assert [facts for _, facts in found] == [facts for facts in line[:end] if has(cause, facts)]
                assert [place for place, _ in found] == [positions[facts.id] for _, facts in found]
                paths = {path for facts in line for one in facts.changes for path in one.paths}
                for path in paths:
                    assert history.touches(workspace, path, until) == [
                        positions[facts.id] for facts in line[:end] if any(path in one.paths for one in facts.changes)
                    ]
        assert list(history.caused("c", cause, 1 << 60)) == []
        assert history.touches("c", "memory/a.yaml", 1 << 60) == []
        history.close()


def test_a_cause_in_words() -> None:
    assert Cause(actor="a", workflow_id="w", task_id="t").text() == "workflow w, task t, actor a"
    assert not Cause(since=1).named
