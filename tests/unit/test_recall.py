"""What was last good of a file that a commit by hand broke, over restarts."""

from __future__ import annotations

import subprocess
from pathlib import Path

from gitstore import memory, workspaces
from gitstore.model import Actor, Provenance
from gitstore.store import Store

WHO = Provenance(Actor("admin", "k", "k"))


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(folder), "-c", "user.name=p", "-c", "user.email=p@p", *words], check=True)


def broken(data: Path) -> str:
    """A store with a workspace in which a person has committed two broken files, one of them twice."""
    with Store.open(data) as store:
        made = store.create(
            "quay", lambda d: workspaces.create(d, {"name": "Quay", "slug": "quay", "memory": {"a": 1, "b": 1}}), WHO
        ).result()
        one = made.snapshot.workspace
        store.apply(one, "main", lambda d: memory.set(d, {"a": 2}), WHO).result()
        assert store.publisher.publish(store.load(one))
        folder = store.layout.workspaces / "quay"
        (folder / "memory/a.yaml").write_text("x: [\n")
        git(folder, "commit", "-qam", "broken")
        (folder / "memory/a.yaml").write_text("x: {\n")
        (folder / "workspace.yaml").write_text("name: Quay\nname: Pier\n")
        git(folder, "commit", "-qam", "more broken")
        assert store.publisher.publish(store.load(one))
        kept = store.load(one).visible.context
        assert kept.memory["a"].value_json == b"2"
        assert kept.fields.name == "Quay"
    return one


def test_the_last_good_values_stay_over_a_restart(tmp_path: Path) -> None:
    one = broken(tmp_path / "data")
    with Store.open(tmp_path / "data") as store:
        context = store.load("quay").visible.context
        assert {key: entry.value_json for key, entry in context.memory.items()} == {"a": b"2", "b": b"1"}
        assert (context.fields.id, context.fields.name, context.fields.slug) == (one, "Quay", "quay")
        assert sorted(problem.path for problem in context.problems) == ["memory/a.yaml", "workspace.yaml"]
        store.apply(one, "main", lambda d: memory.set(d, {"a": 3, "b": 4}), WHO).result()
        context = store.load(one).visible.context
        assert context.memory["a"].value_json == b"3"
        assert [problem.path for problem in context.problems] == ["workspace.yaml"]


def test_a_workspace_that_never_said_who_it_is_is_told_by_its_folder(tmp_path: Path) -> None:
    one = broken(tmp_path / "data")
    (tmp_path / "data/workspaces/quay").rename(tmp_path / "data/workspaces/pier")
    with Store.open(tmp_path / "data") as store:
        fields = store.load(one).visible.context.fields
        assert (fields.name, fields.slug) == ("Quay", "pier")
        assert store.find("pier") == one
