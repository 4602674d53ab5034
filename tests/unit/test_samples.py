"""The sample workspaces are sound, show every part of the format, and are written as a person would write them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gitstore import credentials, documents, evidence, names
from gitstore.context import Context
from gitstore.repository.objects import BLOB, identify
from gitstore.repository.trees import TreeEntry

SAMPLES = Path(__file__).parents[2] / "sample-workspaces"
FOLDERS = sorted(folder for folder in SAMPLES.iterdir() if folder.is_dir())
NOW = 1_795_478_400_000  # 2026-11-24
SPEC = {"resources", "documents", "tools", "config", "instructions"}


class Folder:
    """A folder read as the tree of a commit would be."""

    def __init__(self, root: Path, *without: str) -> None:
        self.root = root
        self.without = without

    def read(self, path: str) -> bytes | None:
        place = self.root / path
        return place.read_bytes() if place.is_file() else None

    def blob(self, path: str) -> str | None:
        data = self.read(path)
        return None if data is None else identify(BLOB, data).hex()

    def entries(self, folder: str = "") -> list[TreeEntry]:
        place = self.root / folder
        if not place.is_dir():
            return []
        found = []
        for child in sorted(place.iterdir()):
            path = f"{folder}/{child.name}".lstrip("/")
            if path in self.without:
                continue
            if child.is_dir():
                found.append(TreeEntry(child.name, "0" * 40, True, 0o40000))
            else:
                found.append(TreeEntry(child.name, self.blob(path) or "", False, 0o100644))
        return found


def _context(folder: Path, without: str = "evidence") -> Context:
    """Read as a change to nothing, so that the contents of files are searched for credentials as well."""
    return Context.load(Folder(folder, without), previous=Context(), now=NOW)


def _paths(folder: Path) -> list[str]:
    """The files of the evidence, as the branch has them."""
    root = folder / "evidence"
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def _records(folder: Path) -> list[Any]:
    workspace = _context(folder).fields.id
    tree: Any = Folder(folder / "evidence")
    return list(evidence.changed(workspace, tree, _paths(folder), time=NOW))


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def test_there_are_at_least_four() -> None:
    assert len(FOLDERS) >= 4
    assert "platform" in {folder.name for folder in FOLDERS}


def test_context_has_no_problem_and_is_called_as_its_folder(folder: Path) -> None:
    context = _context(folder)
    assert context.problems == ()
    assert context.fields.slug == folder.name
    assert context.fields.description
    assert len(context.memory) >= 4
    assert set(context.spec) == SPEC
    assert len(context.files) >= 3
    assert "workspace_brief" in context.settings
    assert (folder / "README.md").read_text().startswith("# ")


def test_evidence_left_in_the_tree_is_noticed(folder: Path) -> None:
    assert [problem.code for problem in _context(folder, without="").problems] == ["reserved"]


def test_memory_files_are_called_as_the_store_would_call_them(folder: Path) -> None:
    for entry in _context(folder).memory.values():
        assert entry.path == f"memory/{names.memory_file(entry.key)}"


def test_evidence_parses_and_stands_where_its_id_says(folder: Path) -> None:
    records = _records(folder)
    assert [record for record in records if isinstance(record, evidence.Broken)] == []
    wanted = set()
    for record in records:
        if isinstance(record, evidence.Workflow):
            wanted.add(names.workflow_path(record.id))
        elif isinstance(record, evidence.Task):
            wanted.add(names.task_path(record.id))
        else:
            assert isinstance(record, evidence.Artifact)
            assert names.is_uuid(record.id)
            place = names.artifact_folder(record.id)
            content = f"{place}/{names.artifact_file(record.path.rsplit('/', 1)[-1])}"
            data = (folder / "evidence" / content).read_bytes()
            assert hashlib.sha256(data).hexdigest() == record.sha256
            wanted |= {f"{place}/artifact.yaml", content}
    assert wanted == set(_paths(folder))


def test_evidence_refers_to_what_is_there(folder: Path) -> None:
    records = _records(folder)
    workflows = {one.id: one for one in records if isinstance(one, evidence.Workflow)}
    tasks = {one.id: one for one in records if isinstance(one, evidence.Task)}
    artifacts = [one for one in records if isinstance(one, evidence.Artifact)]
    assert workflows
    assert tasks
    assert artifacts
    for one in (*tasks.values(), *artifacts):
        assert one.workflow_id is None or one.workflow_id in workflows
        if one.work_item_id is not None:
            assert one.workflow_id is not None
            assert one.work_item_id in {item.id for item in workflows[one.workflow_id].work_items}
    for artifact in artifacts:
        assert artifact.task_id in tasks
        assert 1 <= artifact.size <= 64_000
    for workflow in workflows.values():
        ended = workflow.state in ("completed", "failed", "cancelled")
        assert (workflow.completed_at is not None) == ended
        assert workflow.created_at <= workflow.updated_at <= NOW


def _yaml() -> Iterator[Path]:
    return SAMPLES.rglob("*.yaml")


@pytest.mark.parametrize("path", sorted(_yaml()), ids=lambda path: str(path.relative_to(SAMPLES)))
def test_yaml_that_says_the_same_keeps_every_byte(path: Path) -> None:
    data = path.read_bytes()
    assert documents.edit(data, documents.load(data, path.name)) == data
    assert credentials.find_text(data.decode()) == []


def test_ids_are_unique_in_all_samples() -> None:
    seen: list[str] = []
    for folder in FOLDERS:
        seen.append(_context(folder).fields.id)
        seen += [record.id for record in _records(folder)]
    assert len(seen) == len(set(seen))


def test_together_they_show_every_part() -> None:
    contexts = [_context(folder) for folder in FOLDERS]
    records = [record for folder in FOLDERS for record in _records(folder)]
    workflows = [one for one in records if isinstance(one, evidence.Workflow)]
    tasks = [one for one in records if isinstance(one, evidence.Task)]
    artifacts = [one for one in records if isinstance(one, evidence.Artifact)]

    assert {context.fields.is_active for context in contexts} == {True, False}
    storage = {
        (context.settings.get("storage") or {}).get("type") or context.settings.get("workspace_storage_type")
        for context in contexts
    }
    assert storage == {"git_remote", "host_directory", "workspace_artifacts"}
    assert {entry["type"] for context in contexts for entry in context.spec["resources"].values()} == {
        "repository",
        "search",
        "document_store",
        "cloud_account",
        "artifact_store",
        "api",
    }
    assert all(b"secret:" in b"".join(path.read_bytes() for path in folder.glob("spec/*.yaml")) for folder in FOLDERS)
    assert {context.spec["instructions"]["format"] for context in contexts} == {"text", "markdown"}

    memory = [entry for context in contexts for entry in context.memory.values()]
    assert any("%" in entry.path for entry in memory)
    assert any(names.is_long_memory(entry.path.rpartition("/")[2]) for entry in memory)
    assert any(entry.head is None for entry in memory)

    stored = [one for context in contexts for one in context.files.values()]
    assert {"text/markdown", "text/csv", "image/png", "application/json"} <= {one.content_type for one in stored}
    assert any(one.description for one in stored)
    assert any(one.path.count("/") == 2 for one in stored)
    assert any(one.key != names.key_of_path(one.path.removeprefix("files/")) for one in stored)

    assert {"completed", "active", "failed", "paused", "cancelled"} <= {one.state for one in workflows}
    assert any(one.work_items for one in workflows)
    assert len({one.state for one in tasks}) >= 4
    assert {"text/markdown", "text/csv", "application/json", "image/png", "application/pdf"} <= {
        one.content_type for one in artifacts
    }
    assert any(one.path.endswith("/artifact.yaml") for one in artifacts)


def test_the_documented_example() -> None:
    memory = {key: documents.load(entry.value_json) for key, entry in _context(SAMPLES / "platform").memory.items()}
    assert memory["domain"] == "platform"
    assert memory["release-policy"]["owner"]
    assert memory["release-policy"]["freeze_days"]


def test_pictures_and_papers_are_what_they_say() -> None:
    for path in SAMPLES.rglob("*.png"):
        data = path.read_bytes()
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        assert data.endswith(b"IEND\xaeB`\x82")
        assert len(data) < 20_000
    papers = list(SAMPLES.rglob("*.pdf"))
    assert papers
    for path in papers:
        data = path.read_bytes()
        assert data.startswith(b"%PDF-1.4")
        start = int(data.rsplit(b"startxref\n", 1)[1].split(b"\n", 1)[0])
        assert data[start:].startswith(b"xref")
