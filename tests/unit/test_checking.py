"""Checking a folder says what an import says, writes nothing, and minds what git would leave out."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from folders import ARTIFACT, ID, TOKEN, fill, git, plain, write

from gitstore.acceptance import Refused
from gitstore.checking import check_folder
from gitstore.errors import Invalid, NotFound
from gitstore.importing import import_folder
from gitstore.store import Store

SAMPLES = sorted((Path(__file__).parents[2] / "sample-workspaces").iterdir())


def told(folder: Path) -> list[str]:
    done = check_folder(folder)
    assert done.sound == (not done.faults)
    return [str(fault) for fault in done.faults]


def refused(tmp_path: Path, folder: Path) -> list[str]:
    with Store.open(tmp_path / "data") as store, pytest.raises(Refused) as caught:
        import_folder(store, folder)
    return sorted(str(fault) for fault in caught.value.faults)


@pytest.mark.parametrize("folder", SAMPLES, ids=lambda folder: folder.name)
def test_the_samples_are_sound(folder: Path) -> None:
    assert told(folder) == []


BROKEN = {
    "memory/a.yaml": "x: 1\ny: 2\nx: 3\n",
    "memory/b.yml": "1\n",
    "memory/token.yaml": "".join(f"{line}\n" for line in ["|", *(f"  {line}" for line in TOKEN.splitlines())]),
    "settings.yaml": "storage: {type: s3}\n",
    "spec/tools.yaml": "[]\n",
    "spec/config.yaml": "a: &x 1\n",
    "files/none.md.meta.yaml": "description: d\n",
    "files/notes.md.meta.yaml": "content_type: nonsense\n",
    "notes/KEY": TOKEN,
    "aux.txt": "a device\n",
    "evidence/tasks/build.yaml": "state: done\n",
    f"evidence/artifacts/{ARTIFACT}/artifact.yaml": "path: /abs\n",
    "evidence/artifacts/alone/artifact.yaml": "path: x\n",
}


def test_every_fault_is_told_at_once_in_the_words_of_an_import(tmp_path: Path) -> None:
    folder = plain(tmp_path / "shop", **BROKEN)
    os.symlink("README.md", folder / "link.md")
    write(folder / "sub/.git", {"HEAD": "x"})
    found = told(folder)
    assert sorted(found) == refused(tmp_path, folder)
    assert len(found) == len({line.split(":")[0] for line in found}) == len(BROKEN) + 2
    assert any(line.startswith("memory/a.yaml:3:1: ") for line in found)
    assert any(line.startswith("settings.yaml: /storage/type must be one of git_remote, ") for line in found)
    assert TOKEN.splitlines()[1] not in "".join(found)


def test_the_documented_example(tmp_path: Path) -> None:
    folder = tmp_path / "platform"
    shutil.copytree(SAMPLES[-1], folder)
    write(folder, {"memory/release-policy.yaml": "owner: a\nfreeze_days: []\nowner: b\n"})
    settings = folder / "settings.yaml"
    settings.write_text(settings.read_text().replace("type: git_remote", "type: s3"))
    page = (Path(__file__).parents[2] / "docs/editing.md").read_text()
    assert "".join(f"{line}\n" for line in told(folder)) + "2 problems\n" in page


def test_nothing_is_written(tmp_path: Path) -> None:
    folder = plain(tmp_path / "shop")
    git(tmp_path, "init", "-q", "shop")
    git(folder, "add", "memory", "workspace.yaml")

    def state() -> list[tuple[str, int]]:
        return sorted((str(path), path.lstat().st_mtime_ns) for path in tmp_path.rglob("*"))

    before = state()
    assert told(folder) == []
    assert state() == before


def test_a_plain_folder_need_not_say_what_an_import_fills_in(tmp_path: Path) -> None:
    assert told(write(tmp_path / "Zoë's notes!", {"memory/a.yaml": "1\n"})) == []
    assert told(write(tmp_path / "b", {"workspace.yaml": "# none yet\n"})) == []
    assert told(write(tmp_path / "c", {"workspace.yaml": "id: mine\ndescription: d\n"})) == []
    (found,) = told(write(tmp_path / "d", {"workspace.yaml": "slug: no.git\n"}))
    assert found.startswith("workspace.yaml: `no.git` cannot be a slug")
    (found,) = told(write(tmp_path / "e", {"workspace.yaml": "[\n"}))
    assert found.startswith("workspace.yaml:2:1: ")


def test_a_clone_must_say_which_workspace_it_is(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", {"memory/a.yaml": "1\n"})
    git(tmp_path, "init", "-q", "x")
    (found,) = told(folder)
    assert found.startswith("workspace.yaml: `workspace.yaml` is missing")
    write(folder, {"workspace.yaml": "name: N\nslug: x\n"})
    (found,) = told(folder)
    assert found.startswith("workspace.yaml: /id must be the workspace's UUID")


def test_in_a_repository_the_work_tree_counts_and_what_git_ignores_does_not(tmp_path: Path) -> None:
    folder = plain(tmp_path / "shop")
    git(tmp_path, "init", "-q", "shop")
    write(folder, {".git/info/exclude": "/evidence/\n", ".gitignore": "*.tmp\nbuild/\n"})
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "all")
    write(folder, {"build/con": "x", "memory/x.yml.tmp": "x", "build/KEY": TOKEN})
    os.symlink("README.md", folder / "build/link")
    assert told(folder) == []
    write(folder, {"memory/new.yaml": "a: [\n", "settings.yaml": "a: 1\na: 2\n"})
    (folder / "spec/instructions.yaml").unlink()
    os.symlink("README.md", folder / "link")
    assert [line.split(": ")[0] for line in told(folder)] == ["link", "memory/new.yaml:2:1", "settings.yaml:2:1"]
    git(folder, "add", "-A")
    assert len(told(folder)) == 3
    write(folder, {"settings.yaml": "a: 1\n", "memory/new.yaml": "1\n", "evidence/tasks/t.yaml": "state: x\n"})
    (folder / "link").unlink()
    assert [line.split(": ")[0] for line in told(folder)] == ["evidence/tasks/t.yaml"]


def test_evidence_that_git_tracks_and_repositories_inside_are_faults(tmp_path: Path) -> None:
    folder = plain(tmp_path / "shop")
    git(tmp_path, "init", "-q", "shop")
    git(folder, "add", "evidence/tasks/build.yaml")
    (found,) = told(folder)
    assert found.startswith("evidence: `evidence` is the name under which exports carry the evidence branch")
    git(folder, "rm", "-q", "--cached", "-r", "evidence")
    write(tmp_path / "inner", {"a": "x"})
    git(tmp_path, "init", "-q", "inner")
    git(tmp_path / "inner", "add", ".")
    git(tmp_path / "inner", "commit", "-q", "-m", "x")
    shutil.copytree(tmp_path / "inner", folder / "inner")
    (found,) = told(folder)
    assert found.startswith("inner/.git: is a git repository inside the folder")
    git(folder, "add", "inner")
    (found,) = told(folder)
    assert found.startswith("inner: is a submodule")


def test_a_live_folder_is_checked_beside_the_store_that_has_it_open(tmp_path: Path) -> None:
    with Store.open(tmp_path / "data") as store:
        fill(store, "live", settings={"a": 1})
        store.publisher.publish(store.load("live"))
        folder = store.layout.workspaces / "live"
        assert told(folder) == []
        (folder / "memory/key-0.yaml").write_text("a: b: c\n")
        (found,) = told(folder)
        assert found.startswith("memory/key-0.yaml:1:")
        git(tmp_path, "clone", "-q", str(folder), "clone")
    assert told(tmp_path / "clone") == []


def test_nothing_that_the_repository_asks_for_is_started(tmp_path: Path) -> None:
    folder = plain(tmp_path / "shop")
    git(tmp_path, "init", "-q", "shop")
    hook = write(tmp_path, {"hook": f"#!/bin/sh\ntouch {tmp_path}/ran\n"}) / "hook"
    hook.chmod(0o755)
    for place in (folder / ".git/hooks", tmp_path / "hooks"):
        place.mkdir(exist_ok=True)
        for name in ("post-index-change", "fsmonitor-watchman"):
            shutil.copy(hook, place / name)
    git(folder, "config", "core.fsmonitor", str(hook))
    git(folder, "config", "core.hooksPath", str(tmp_path / "hooks"))
    assert told(folder) == []
    assert not (tmp_path / "ran").exists()


def test_without_a_git_binary_every_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = plain(tmp_path / "shop")
    git(tmp_path, "init", "-q", "shop")
    write(folder, {"memory/x.yml": "x", ".gitignore": "*.yml\n"})
    assert told(folder) == []
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [line.split(": ")[0] for line in told(folder)] == ["memory/x.yml"]


def test_policy_allow_lets_credentials_pass(tmp_path: Path) -> None:
    folder = plain(tmp_path / "shop", **{"notes/KEY": TOKEN})
    assert not check_folder(folder).sound
    assert check_folder(folder, policy="allow").sound


def test_what_is_no_folder_of_files(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        check_folder(tmp_path / "none")
    git(tmp_path, "init", "-q", "--bare", "x.git")
    with pytest.raises(Invalid, match="bare repository"):
        check_folder(tmp_path / "x.git")
    (tmp_path / "empty").mkdir()
    assert check_folder(tmp_path / "empty").files == 0
    assert ID not in str(check_folder(tmp_path / "empty"))
