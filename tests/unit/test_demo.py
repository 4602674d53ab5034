"""What `make demo` shows: a past in which it can be found who changed the release policy, and what was undone."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from gitstore import values
from gitstore.causes import Cause
from gitstore.history import TimelineQuery
from gitstore.model import Actor, Provenance
from gitstore.past import Past
from gitstore.reverting import revert
from gitstore.snapshot import Snapshot
from gitstore.store import Store
from server import demo

SAMPLES = Path(__file__).parents[2] / "sample-workspaces"
WHO = Provenance(Actor("admin", "k1", "ops"))


def policy(snapshot: Snapshot) -> dict[str, object]:
    found: dict[str, object] = msgspec.json.decode(snapshot.context.memory_json())["release-policy"]
    return found


def test_the_past_of_the_platform(tmp_path: Path) -> None:
    with Store.open(tmp_path / "data") as store:
        assert next(iter(demo.fill(SAMPLES, store))).slug == "platform"
        workspace, past = store.load("platform"), Past(store)
        entries = store.history.timeline(workspace.id, TimelineQuery(key="release-policy")).entries
        assert [entry.facts.actor.name for entry in entries] == [
            "housekeeper", "Sana Oduya", "Noor Haddad", "Noor Haddad",
        ]  # fmt: skip
        assert entries[0].facts.workflow_id == "tidy-memory"
        now = int(time.time() * 1000)
        last_week = policy(past.at(workspace, values.iso(now - 7 * 86_400_000)).snapshot)
        assert last_week["approvals"] == {"tier-1": 1, "tier-2": 1, "tier-3": 0}
        assert policy(workspace.visible)["approvals"] == {"tier-1": 1, "tier-2": 0, "tier-3": 0}
        done = revert(store, "platform", Cause(workflow_id="tidy-memory"), WHO).result()
        assert (len(done.commits), done.obstacles) == (3, ())
        for path, node in store.load("platform").visible.tree().walk():
            assert store.load("platform").visible.blob(node.id.hex()) == (SAMPLES / "platform" / path).read_bytes()
