"""Folders are told apart while workspaces are being made, renamed and deleted beside the look at them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from folders import fill

from gitstore import workspaces
from gitstore.changes import Change
from gitstore.errors import NotFound
from gitstore.folders import Folders
from gitstore.model import Actor, Provenance
from gitstore.store import Store

WHO = Provenance(Actor("admin", "kabc1234", "The admin's key"))


def _meanwhile(monkeypatch: pytest.MonkeyPatch, store: Store, happens: object) -> None:
    """Something happens right after the folders were listed."""
    listed = store.homes.all

    def folders() -> list[str]:
        found = listed()
        monkeypatch.setattr(store.homes, "all", listed)
        happens()  # type: ignore[operator]
        return found

    monkeypatch.setattr(store.homes, "all", folders)


def test_a_workspace_that_is_made_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(tmp_path / "data") as store:

        def happens() -> None:
            fill(store, "new")
            assert store.publisher.publish(store.load("new"))

        _meanwhile(monkeypatch, store, happens)
        Folders(store, settle=0.0).reconcile()
        assert store.load("new").visible.context.fields.slug == "new"


def test_a_workspace_that_was_just_listed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(tmp_path / "data") as store:
        apply = store.derived.apply

        def listed(changes: list[Change]) -> None:
            apply(changes)
            Folders(store, settle=0.0).reconcile()

        monkeypatch.setattr(store.derived, "apply", listed)
        identity = fill(store, "new", keys=1)
        assert store.load("new").id == identity


def test_a_workspace_that_is_renamed_meanwhile_keeps_its_new_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_path / "data") as store:
        identity = fill(store, "old")
        assert store.publisher.publish(store.load("old"))

        def happens() -> None:
            change = store.apply(identity, "main", lambda draft: workspaces.update(draft, {"slug": "young"}), WHO)
            change.result(10)
            assert store.publisher.publish(store.load(identity))

        _meanwhile(monkeypatch, store, happens)
        Folders(store, settle=0.0).reconcile()
        assert (store.layout.workspaces / "young/workspace.yaml").exists()
        assert store.load(identity).visible.context.fields.slug == "young"


def test_a_workspace_that_is_renamed_while_the_folders_are_listed_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_path / "data") as store:
        identity = fill(store, "old")
        assert store.publisher.publish(store.load("old"))
        listed, missed = store.homes.all, [True]

        def folders() -> list[str]:
            if missed:
                missed.clear()
                (store.layout.workspaces / "old").rename(store.layout.workspaces / "young")
                return []  # neither name, as readdir(3) allows
            return listed()

        monkeypatch.setattr(store.homes, "all", folders)
        looking = Folders(store, settle=0.0)
        assert looking.reconcile() is not None  # another look is due
        assert store.catalog.find("old") == identity
        looking.reconcile()
        assert store.load("old").visible.context.fields.slug == "young"


def test_a_workspace_whose_folder_is_gone_is_not_listed(tmp_path: Path) -> None:
    with Store.open(tmp_path / "data") as store:
        fill(store, "moved")
        assert store.publisher.publish(store.load("moved"))
        (store.layout.workspaces / "moved").rename(tmp_path / "elsewhere")
        Folders(store, settle=0.0).reconcile()
        with pytest.raises(NotFound):
            store.load("moved")


def test_a_copy_that_was_being_made_when_all_were_looked_at_is_told(tmp_path: Path) -> None:
    with Store.open(tmp_path / "data") as store:
        identity = fill(store, "shop")
        assert store.publisher.publish(store.load("shop"))
        place, folders = store.layout.workspaces, Folders(store, settle=0.0)
        shutil.copytree(place / "shop", place / "copy")
        (place / "copy/.git/gitstore/id").unlink()
        folders.reconcile()
        (place / "copy/.git/gitstore/id").write_text(identity)

        def told() -> list[tuple[str, str]]:
            return [(problem.kind, problem.path) for problem in store.load(identity).visible.problems]

        assert told() == []
        for folder in ("shop", "copy", "copy"):
            assert folders.look(folder) is None
        assert told() == [("duplicate_id", "copy")]
        shutil.rmtree(place / "copy")
        folders.reconcile()
        assert told() == []
