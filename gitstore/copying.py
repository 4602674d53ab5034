"""The evidence of a workspace under new ids, for a second copy of it in one store.

Workflows, tasks and artifacts get ids that are derived from the new workspace's id and their old ones, so that every
reference is mapped alike, whether what it names is in the copy or not. Work items keep theirs: they live inside their
workflow. An artifact folder that is named by no UUID keeps its name, for its id follows from it and the workspace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gitstore import documents, names, values
from gitstore.evidence import ARTIFACT_DOCUMENT
from gitstore.repository.objects import Blob
from gitstore.repository.trees import Node, TreeView

_REFERENCES = {"workflow_id": "workflow", "task_id": "task"}


def new_identity(workspace: str, part: str, old: str) -> str:
    """The id that a record of `part` (workflow, task or artifact) has in the copy `workspace`."""
    return names.derive_id(workspace, f"{part}\0{old}")


def renumber(tree: TreeView, old: str | None, new: str, times: Mapping[str, int]) -> dict[str, Node | Blob | None]:
    """The edits that make the evidence in `tree` of workspace `old` that of workspace `new`.

    `times` tells when a path was last changed (ms): a document that does not say when it began gets it written in, for
    the commit that renames it says something else.

    Documents that cannot be read stay as they are; whoever validates the result finds them. Besides the fields that
    refer to a workflow or task, any text in a document that is exactly an old id (a UUID) becomes the new one.
    """
    records: list[tuple[str, str, str, Node]] = []
    known: dict[str, str] = {old.lower(): new} if old is not None else {}
    for path, node in tree.walk():
        part, key = names.classify("evidence", path)
        if node.mode & 0o170000 != 0o100000 or key is None:
            continue
        if part in ("workflow", "task"):
            key = names.id_of_evidence(path) or str(_value(tree.read(path)).get("id") or "")
        elif part != "artifact":
            continue
        if key:
            records.append((path, part, key, node))
            if names.is_uuid(key):
                known[key.lower()] = new_identity(new, part, key.lower() if part == "artifact" else key)
    edits: dict[str, Node | Blob | None] = {}
    for path, part, key, node in records:
        if part == "artifact":
            folder, _, name = path.rpartition("/")
            place = f"{names.artifact_folder(known[key.lower()])}/{name}" if names.is_uuid(key) else f"{folder}/{name}"
            document = name == ARTIFACT_DOCUMENT
        else:
            identity = new_identity(new, part, key)
            place = names.workflow_path(identity) if part == "workflow" else names.task_path(identity)
            document = True
        content: Node | Blob = node
        if document and (data := tree.read(path)) is not None:
            mapped = _mapped(data, known, new, part, times.get(path))
            content = Blob(mapped) if mapped != data else node
        if place != path:
            edits.setdefault(path, None)
        edits[place] = content
    return edits


def _value(data: bytes | None) -> dict[str, Any]:
    try:
        value = documents.load(data or b"")
    except documents.DocumentError:
        return {}
    return value if isinstance(value, dict) else {}


def _mapped(data: bytes, known: Mapping[str, str], new: str, part: str, time: int | None) -> bytes:
    value = _value(data)
    if not value:
        return data
    result = _replaced(value, lambda text: known.get(text.lower(), text) if names.is_uuid(text) else text)
    for field, part in _REFERENCES.items():
        held = value.get(field)
        if isinstance(held, (str, int)) and not isinstance(held, bool) and str(held).strip():
            result[field] = new_identity(new, part, str(held))
    if part != "artifact":
        result.pop("id", None)  # the file's new name says it
    if time is not None:
        for field in ("created_at",) if part == "artifact" else ("created_at", "updated_at"):
            if value.get(field) is None:
                result[field] = values.iso(time)
    return data if result == value else documents.edit(data, result)


def _replaced(value: Any, text: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {key: _replaced(held, text) for key, held in value.items()}
    if isinstance(value, list):
        return [_replaced(held, text) for held in value]
    return value
