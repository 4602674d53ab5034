"""What of a workspace can be found: its memory keys, spec parts, files, workflows, tasks and artifacts as documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from gitstore import names
from gitstore.context import Context
from gitstore.documents import DocumentError, load
from gitstore.model import Artifact, Task, Workflow
from gitstore.rows import ArtifactRow
from gitstore.search.documents import Document, Kind, labelled

CONTEXT: Final[tuple[Kind, ...]] = ("memory", "spec", "file")
"""The kinds that the branch `main` feeds."""
EVIDENCE: Final[tuple[Kind, ...]] = ("artifact", "workflow", "task")
"""Those that `evidence` feeds."""
_TEXT_MAX: Final = 256 * 1024

Text = Callable[[str, str], str]
"""The searchable text of a blob, given a content type and the blob's id; empty where it has none."""


def of_artifact(artifact: Artifact | ArtifactRow, text: str) -> Document:
    """An artifact: its path, what it says of itself, its content."""
    return Document(
        "artifact",
        artifact.id,
        artifact.path,
        text,
        labelled(
            (
                ("role", artifact.role),
                ("stage", artifact.stage_name),
                ("type", artifact.content_type),
                ("workflow", artifact.workflow_id),
                ("task", artifact.task_id),
                ("item", artifact.work_item_id),
            )
        ),
        artifact.created_at,
    )


def of_workflow(workflow: Workflow) -> Document:
    """A workflow: its name, its brief, the titles on its board."""
    lines = [workflow.brief or "", *(item.title for item in workflow.work_items)]
    labels = labelled((("state", workflow.state), ("playbook", workflow.playbook_id)))
    return Document("workflow", workflow.id, workflow.name, "\n".join(lines), labels, workflow.updated_at)


def of_task(task: Task) -> Document:
    """A task: its title and who does it."""
    labels = labelled(
        (("state", task.state), ("role", task.role), ("stage", task.stage_name), ("workflow", task.workflow_id))
    )
    return Document("task", task.id, task.title, "", labels, task.updated_at)


def of_context(context: Context, kind: Kind, id_: str, time: int, text: Text) -> Document | None:
    """A memory key, spec part or file as the context has it now; None where it has none."""
    if kind == "memory":
        entry = context.memory.get(id_)
        if entry is None:
            return None
        return Document("memory", id_, id_, flat(msgspec.json.decode(entry.value_json)), (), time)
    if kind == "spec":
        part = context.spec.get(id_)
        return Document("spec", id_, id_, flat(part), (), time) if part is not None else None
    stored = context.files.get(id_)
    if stored is None:
        return None
    content = text(stored.content_type, stored.blob)
    said = f"{stored.description}\n{content}" if stored.description else content
    return Document("file", id_, stored.path, said, labelled((("type", stored.content_type),)), time)


def all_of(context: Context) -> Iterator[tuple[Kind, str]]:
    """Every memory key, spec part and file of a context."""
    yield from (("memory", key) for key in context.memory)
    yield from (("spec", key) for key in context.spec)
    yield from (("file", key) for key in context.files)


def keys(context: Context, paths: Iterable[str], old: Callable[[str], bytes | None]) -> set[tuple[Kind, str]]:
    """What the changed paths of `main` belong to, now and before. `old` reads a file as it was.

    A name does not say everything: the key of a long memory key is inside its file, that of a file may be in another.
    """
    found: set[tuple[Kind, str]] = set()
    for path in paths:
        part, key = names.classify("main", path)
        if key is None:
            continue
        if part == "spec":
            found.add(("spec", key))
        elif part == "memory":
            if names.is_long_memory(path.rsplit("/", 1)[-1]):
                found.update(("memory", entry.key) for entry in context.memory.values() if entry.path == path)
                key = said(old(path), "key")
            if key is not None:
                found.add(("memory", key))
        elif part == "file":
            place = path.removesuffix(names.META_SUFFIX)
            found.add(("file", key))
            found.update(("file", stored.key) for stored in context.files.values() if stored.path == place)
            if (other := said(old(names.meta_path(place)), "key")) is not None:
                found.add(("file", other))
    return found


def said(data: bytes | None, name: str) -> str | None:
    """What a file says under a name, if that is a text."""
    try:
        document = load(data) if data is not None else None
    except DocumentError:
        return None
    value = document.get(name) if isinstance(document, dict) else None
    return value if isinstance(value, str) else None


def flat(value: Any) -> str:
    """Every key, text and number in JSON data, one a line, as far as search takes text."""
    lines: list[str] = []
    left = _TEXT_MAX
    waiting = [value]
    while waiting and left > 0:
        one = waiting.pop()
        if isinstance(one, dict):
            for key, held in reversed(one.items()):
                waiting += (held, str(key))
        elif isinstance(one, list):
            waiting += reversed(one)
        elif one is not None and not isinstance(one, bool):
            lines.append(str(one)[:left])
            left -= len(lines[-1]) + 1
    return "\n".join(lines)
