"""What of the past stays in memory: never a word of it that is out of date, and no more than there is room for."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from folders import WHO, change, fill, git

from gitstore import past as module
from gitstore import settings, snapshots, spec
from gitstore.errors import NotFound
from gitstore.past import Moment, Past, resolve, snapshot_at
from gitstore.store import Store
from gitstore.transport.fetch import publish


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "data") as opened:
        fill(opened, keys=3)
        yield opened


def head(store: Store) -> str:
    return store.load("live").visible.main.head or ""


def evidence_of(store: Store, seconds: int) -> str:
    """A person's git begins the evidence branch with a commit of that time; the commit."""
    workspace = publish(store, "live")
    folder = Path(workspace.repository.root)
    tree = (
        subprocess.run(["git", "mktree"], cwd=folder, input=b"", capture_output=True, check=True)
        .stdout.decode()
        .strip()
    )
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER")
           for what, value in (("NAME", "Ada"), ("EMAIL", "a@x"), ("DATE", f"{seconds} +0000"))}  # fmt: skip
    words = ["git", "commit-tree", tree, "-m", "old"]
    done = subprocess.run(words, cwd=folder, env={**os.environ, **who}, capture_output=True, check=True)
    commit = done.stdout.decode().strip()
    git(folder, "update-ref", "refs/heads/evidence", commit)
    publish(store, "live")
    return commit


def test_what_is_known_is_answered_without_reading(store: Store) -> None:
    past, first = Past(store), head(store)
    workspace = store.load("live")
    assert past.known(workspace, first) is None
    then = past.at(workspace, first)
    again = past.known(workspace, first)
    assert again is not None
    assert (again.moment, again.snapshot) == (then.moment, then.snapshot)
    assert past.known(workspace, first[:12]) is None  # another word for it, asked for the first time
    assert past.known_slot(workspace, first, "key-0") is not None
    assert past.known_slot(workspace, first, "none") == (then.moment, None, None)


def test_a_moment_is_looked_up_again_where_something_could_have_come_into_it(store: Store) -> None:
    past, workspace, first = Past(store), store.load("live"), head(store)
    when = past.at(workspace, first).moment.time
    for at in (first, "now"):
        assert past.at(workspace, at).moment.evidence is None
    commit = evidence_of(store, when // 1000 - 60)  # older than `main`, and come in only now
    assert past.known(workspace, first) is None
    assert past.at(workspace, first).moment == Moment(first, first, commit, when)
    assert past.at(workspace, "now").moment.evidence == commit
    change(store, "live", "key-0", "later")
    assert past.at(workspace, "now").snapshot.context.memory["key-0"].value_json == b'"later"'
    assert past.at(workspace, first).moment.main == first


def test_a_snapshot_is_looked_at_each_time(store: Store) -> None:
    past, workspace, first = Past(store), store.load("live"), head(store)
    made = snapshots.put(store, "live", "v1", who=WHO)
    assert past.at(workspace, "v1").moment.main == first
    change(store, "live", "key-0", "later")
    snapshots.delete(store, "live", "v1")
    with pytest.raises(NotFound):
        past.at(workspace, "v1")
    other = snapshots.put(store, "live", "v1", who=WHO)
    assert past.at(workspace, "v1").moment.main == other.commit != made.commit


def test_what_is_sealed_is_told_as_it_is_now(store: Store) -> None:
    past, workspace, first = Past(store), store.load("live"), head(store)
    before = past.at(workspace, first).snapshot.record()
    store.apply(
        "live", "main", lambda draft: settings.update(draft, {"credentials": {"git_token": "s3cr3t"}}), WHO
    ).result()
    after = past.at(workspace, first).snapshot.record()
    assert b"git_token_configured" in after[0]
    assert before != after
    assert before[1] != after[1]


def test_only_so_much_is_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 2)
    monkeypatch.setattr(module, "_SLOTS", 1)
    past, workspace = Past(store), store.load("live")
    commits = git(Path(publish(store, "live").repository.root), "rev-list", "main").split()
    for commit in commits:
        past.at(workspace, commit)
        past.at(workspace, commit, "spec")
    for commit in commits[:-1]:
        past.slot(workspace, commit, "key-0")
    assert len(past._states) == 2
    assert past._size == sum(state.size for state in past._states.values())
    assert len(past._slots) <= 1
    monkeypatch.setattr(module, "_BYTES", 0)
    past.at(workspace, commits[0])
    assert len(past._states) == 1


def test_a_workspace_that_left_memory_is_read_by_its_new_self(store: Store) -> None:
    past, first = Past(store), head(store)
    old = store.load("live")
    snapshot = past.at(old, first).snapshot
    publish(store, "live")
    end = time.monotonic() + 10
    while not old.close():  # the publisher may be looking at it
        assert time.monotonic() < end
        publish(store, "live")
    new = store.load("live")
    assert new is not old
    again = past.at(new, first).snapshot
    assert again._source is new.repository
    assert again.record() == snapshot.record()


def test_parts_alone_hold_nothing_else(store: Store) -> None:
    store.apply("live", "main", lambda draft: spec.put(draft, {"config": {"n": 1}}), WHO).result()
    past, workspace, first = Past(store), store.load("live"), head(store)
    change(store, "live", "key-0", "later")
    context = past.at(workspace, first, "spec").snapshot.context
    assert context.spec == {"config": {"n": 1}}
    assert (context.memory, context.files, context.settings) == ({}, {}, {})
    whole = past.at(workspace, first).snapshot.context
    assert whole.memory.keys() == {"key-0", "key-1", "key-2"}
    assert past.at(workspace, first, "spec").snapshot.context is whole


def test_without_a_cache(store: Store) -> None:
    workspace, first = store.load("live"), head(store)
    change(store, "live", "key-0", "later")
    moment = resolve(store, workspace, first[:9])
    assert snapshot_at(store, workspace, moment).context.memory["key-0"].value_json == b"0"
    with pytest.raises(NotFound):
        snapshot_at(store, workspace, Moment("x", None, None, 0))
