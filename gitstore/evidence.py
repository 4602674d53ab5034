"""The documents of the evidence branch: workflows, tasks and artifacts, read from YAML and written back to it.

What the path says wins over what the document says, and what a person left out is filled in; what is there but wrong is
an Invalid that names file and field. Keys that this release does not know stay in the file. Times are ISO-8601 text in
documents and milliseconds everywhere else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeVar, cast, get_args

import msgspec

from gitstore import documents, media, names, values
from gitstore.bounded import Bounded
from gitstore.errors import GitstoreError, Invalid
from gitstore.lfs import attributes
from gitstore.lfs.pointer import decode
from gitstore.model import Artifact, Task, TaskState, Workflow, WorkflowState, WorkItem
from gitstore.rules import fault, mapping, optional, text

if TYPE_CHECKING:
    from gitstore.repository.trees import TreeView

ID_MAX = 255
TITLE_MAX = 1024
LABEL_MAX = 255
BRIEF_MAX = 20_000
ARTIFACT_DOCUMENT = "artifact.yaml"
WORKFLOW_STATES: tuple[str, ...] = get_args(WorkflowState)
TASK_STATES: tuple[str, ...] = get_args(TaskState)

Part = Literal["workflow", "task", "artifact"]
# Artifacts that were added lately, by the ids of their document's and their content's blob.
_added: Final[Bounded[tuple[str | None, str | None], Artifact]] = Bounded("artifacts", 8 << 20)
T = TypeVar("T")
Moment = TypeVar("Moment", int, None)


class Gone(NamedTuple):
    """A record that the branch no longer has."""

    part: Part
    id: str


class Broken(NamedTuple):
    """A record that cannot be read."""

    part: Part
    path: str
    error: GitstoreError


class Content(NamedTuple):
    """The file of an artifact: its name in the tree, its blob id, its size in bytes, its SHA-256 in hexadecimal."""

    name: str
    blob: str
    size: int
    sha256: str


# --- rules ----------------------------------------------------------------------------------------------------------


def check_id(value: object, at: str = "/id") -> str:
    """`value` if it can be the id of a workflow, task or work item: 1..255 characters, printable, not blank."""
    identity = text(value, at, low=1, high=ID_MAX)
    if not identity.isprintable() or not identity.strip():
        raise fault(at, "must not be blank or contain control characters")
    return identity


def check_title(value: object, at: str = "/title") -> str:
    """`value` if it can be a title or name: 1..1024 characters, not blank."""
    title = text(value, at, low=1, high=TITLE_MAX)
    if not title.strip():
        raise fault(at, "must not be blank")
    return title


def check_state(value: object, states: Sequence[str], at: str = "/state") -> str:
    """`value` if it is one of the states."""
    if not isinstance(value, str) or value not in states:
        raise fault(at, f"must be one of {', '.join(states)}")
    return value


def check_label(value: object, at: str) -> str | None:
    """`value` if it is null or a text of at most 255 characters (a stage, a role); blank means none."""
    label = optional(value, at, high=LABEL_MAX)
    return label if label is not None and label.strip() else None


# --- workflows ------------------------------------------------------------------------------------------------------


def parse_workflow(path: str, data: bytes, *, time: int) -> Workflow:
    """The workflow in a file; `time` (ms) stands for times it does not give. Raises Invalid that names the path."""
    return _guard(path, lambda: _workflow(_identity(path, data), _record(path, data), time))


def _workflow(identity: str, record: Mapping[str, Any], time: int) -> Workflow:
    created = _time(record, "created_at", time)
    items = [] if record.get("work_items") is None else record["work_items"]
    if not isinstance(items, list):
        raise fault("/work_items", "must be a list")
    parsed = tuple(_work_item(item, f"/work_items/{number}") for number, item in enumerate(items))
    if len({item.id for item in parsed}) < len(parsed):
        raise fault("/work_items", "must not have two items of one id")
    return Workflow(
        id=identity,
        name=_title(record, "name", identity),
        state=_state(record, WORKFLOW_STATES),
        playbook_id=_loose_id(record.get("playbook_id"), "/playbook_id"),
        parameters=_object(record, "parameters"),
        context=_object(record, "context"),
        metadata=_object(record, "metadata"),
        brief=optional(record.get("brief"), "/brief", high=BRIEF_MAX),
        created_by=optional(record.get("created_by"), "/created_by", high=LABEL_MAX) or "",
        created_at=created,
        updated_at=_time(record, "updated_at", max(created, time)),
        started_at=_time(record, "started_at", None),
        completed_at=_time(record, "completed_at", None),
        work_items=parsed,
    )


def _work_item(value: object, at: str) -> WorkItem:
    if isinstance(value, str):  # a bare word in the list is an item without a title
        value = {"id": value}
    record = mapping(value, at)
    identity = _loose_id(record.get("id"), f"{at}/id")
    if identity is None:
        raise fault(f"{at}/id", "is missing")
    return WorkItem(
        id=identity,
        title=_title(record, "title", identity, at),
        stage_name=check_label(record.get("stage_name"), f"{at}/stage_name"),
        state=check_label(record.get("state"), f"{at}/state") or "pending",
    )


def workflow_document(
    workflow: Workflow, path: str, base: bytes | None = None, before: Workflow | None = None
) -> bytes:
    """The file of a workflow. On `base`, its file so far, which says `before`, only what differs is changed."""
    old = _workflow_fields(before) if before is not None else None
    return _write(path, workflow.id, base, _workflow_fields(workflow), old)


def _workflow_fields(workflow: Workflow) -> dict[str, Any]:
    return {
        "name": workflow.name,
        "state": workflow.state,
        "playbook_id": workflow.playbook_id,
        "brief": workflow.brief,
        "parameters": workflow.parameters,
        "context": workflow.context,
        "metadata": workflow.metadata,
        "created_by": workflow.created_by,
        **_times(workflow, "created_at", "updated_at", "started_at", "completed_at"),
        "work_items": [
            {"id": item.id, "title": item.title, "stage_name": item.stage_name, "state": item.state}
            for item in workflow.work_items
        ],
    }


# --- tasks ----------------------------------------------------------------------------------------------------------


def parse_task(path: str, data: bytes, *, time: int) -> Task:
    """The task in a file; `time` (ms) stands for times it does not give. Raises Invalid that names the path."""
    return _guard(path, lambda: _task(_identity(path, data), _record(path, data), time))


def _task(identity: str, record: Mapping[str, Any], time: int) -> Task:
    created = _time(record, "created_at", time)
    return Task(
        id=identity,
        title=_title(record, "title", identity),
        workflow_id=_loose_id(record.get("workflow_id"), "/workflow_id"),
        work_item_id=_loose_id(record.get("work_item_id"), "/work_item_id"),
        role=check_label(record.get("role"), "/role"),
        stage_name=check_label(record.get("stage_name"), "/stage_name"),
        state=_state(record, TASK_STATES),
        created_at=created,
        updated_at=_time(record, "updated_at", max(created, time)),
    )


def task_document(task: Task, path: str, base: bytes | None = None, before: Task | None = None) -> bytes:
    """The file of a task. On `base`, its file so far, which says `before`, only what differs is changed."""
    return _write(path, task.id, base, _task_fields(task), _task_fields(before) if before is not None else None)


def _task_fields(task: Task) -> dict[str, Any]:
    return {
        "title": task.title,
        "workflow_id": task.workflow_id,
        "work_item_id": task.work_item_id,
        "role": task.role,
        "stage_name": task.stage_name,
        "state": task.state,
        **_times(task, "created_at", "updated_at"),
    }


# --- artifacts ------------------------------------------------------------------------------------------------------


def artifact_id(workspace: str, folder: str) -> str:
    """The id of the artifact in a folder: its name if that is a UUID, else a UUIDv5 of workspace id and name."""
    name = folder.rsplit("/", 1)[-1]
    return name.lower() if names.is_uuid(name) else names.derive_id(workspace, name)


def folder_of(path: str) -> str | None:
    """The artifact folder that a path of the tree lies in, or None: `artifacts/<s>/<t>/<id>/<file>`."""
    parts = path.split("/")
    return "/".join(parts[:4]) if len(parts) == 5 and parts[0] == "artifacts" else None


def parse_artifact(
    workspace: str, folder: str, data: bytes | None, content: Content, *, time: int, commit: str | None = None
) -> Artifact:
    """The artifact in a folder; `data` is its `artifact.yaml`, if any. Raises Invalid that names the path.

    `time` (ms) stands for a missing `created_at`, the file's name for a missing path; a missing type is guessed.
    """
    path = f"{folder}/{ARTIFACT_DOCUMENT}"

    def parse() -> Artifact:
        record = _record(path, data or b"")
        logical = record.get("path")
        if logical is None:
            logical = names.artifact_name(content.name)
        kind = record.get("content_type")
        return Artifact(
            id=artifact_id(workspace, folder),
            path=names.artifact_path(text(logical, "/path", low=1, high=1024)),
            content_type=media.guess(str(logical)) if kind is None else media.check(kind),
            size=content.size,
            sha256=content.sha256,
            blob=content.blob,
            created_at=_time(record, "created_at", time),
            metadata=_object(record, "metadata"),
            workflow_id=_loose_id(record.get("workflow_id"), "/workflow_id"),
            task_id=_loose_id(record.get("task_id"), "/task_id"),
            work_item_id=_loose_id(record.get("work_item_id"), "/work_item_id"),
            stage_name=check_label(record.get("stage_name"), "/stage_name"),
            role=check_label(record.get("role"), "/role"),
            request_id=optional(record.get("request_id"), "/request_id", high=LABEL_MAX),
            request_digest=optional(record.get("request_digest"), "/request_digest", high=64),
            commit=commit,
            pinned=_flag(record, "pinned"),
        )

    return _guard(path, parse)


def artifact_document(artifact: Artifact) -> bytes:
    """The `artifact.yaml` of an artifact. Its times, sizes and sums that git or the content give are left to them."""
    fields = {
        "path": artifact.path,
        "content_type": artifact.content_type,
        "created_at": values.iso(artifact.created_at),
        "workflow_id": artifact.workflow_id,
        "task_id": artifact.task_id,
        "work_item_id": artifact.work_item_id,
        "stage_name": artifact.stage_name,
        "role": artifact.role,
        "metadata": artifact.metadata,
        "request_id": artifact.request_id,
        "request_digest": artifact.request_digest,
        "pinned": artifact.pinned or None,
    }
    return documents.dump({key: value for key, value in fields.items() if not _empty(value)})


def remember(artifact: Artifact, document: str, size: int) -> None:
    """Keeps an artifact that was just written, so that it need not be read back. `document`: the blob that says so, of
    `size` bytes.

    Its content is no pointer to a large object: what such a one means is told elsewhere in the tree.
    """
    _added.put((document, artifact.blob), artifact, 1_000 + 3 * size)


def pinned_document(artifact: Artifact, path: str, base: bytes | None) -> bytes:
    """The `artifact.yaml` of an artifact on `base`, its file so far, with what it says about pinning changed.

    `created_at` is put in where it is missing: the time of the last change would else stand for it, which is now.
    """
    current = documents.load(base, path) if base is not None and base.strip() else None
    if base is None or not isinstance(current, dict):
        return artifact_document(artifact)
    wanted = {"created_at": values.iso(artifact.created_at), **current}
    wanted.pop("pinned", None)
    if artifact.pinned:
        wanted["pinned"] = True
    return documents.edit(base, wanted, current=current)


def is_pinned(tree: TreeView, folder: str) -> bool:
    """Whether the `artifact.yaml` of a folder says that it is kept for good; one that cannot be read counts as such."""
    path = f"{folder}/{ARTIFACT_DOCUMENT}"
    try:
        return _flag(_record(path, tree.read(path) or b""), "pinned")
    except Invalid:
        return True


def read_artifact(
    workspace: str, tree: TreeView, folder: str, *, time: int, commit: str | None = None
) -> Artifact | None:
    """The artifact in a folder of the evidence tree, its content hashed; None if there is no such folder.

    The size and the digest of a large object are what its pointer says.

    Of several content files the one that `path` names counts, else the first. Raises Invalid if there is none.
    """
    files = [entry.name for entry in tree.entries(folder) if not entry.is_tree and entry.mode & 0o170000 == 0o100000]
    if not files:
        return None
    held = [name for name in files if name != ARTIFACT_DOCUMENT]
    if len(files) == 2 and len(held) == 1:
        known = _added.get((tree.blob(f"{folder}/{ARTIFACT_DOCUMENT}"), tree.blob(f"{folder}/{held[0]}")))
        if known is not None and names.artifact_folder(known.id) == folder:
            return msgspec.structs.replace(known, commit=commit)
    data = tree.read(f"{folder}/{ARTIFACT_DOCUMENT}")
    held = [name for name in held if name != attributes.NAME] or held
    if not held:
        raise Invalid(
            f"{folder}: an artifact needs a content file beside {ARTIFACT_DOCUMENT}", details={"path": folder}
        )
    chosen = held[0]
    if len(held) > 1 and data:
        record = documents.load(data, f"{folder}/{ARTIFACT_DOCUMENT}")
        logical = record.get("path") if isinstance(record, dict) else None
        if isinstance(logical, str):
            wanted = names.artifact_file(logical.rsplit("/", 1)[-1])
            chosen = wanted if wanted in held else chosen
    blob, content = tree.blob(f"{folder}/{chosen}"), tree.read(f"{folder}/{chosen}")
    assert blob is not None
    assert content is not None
    found = Content(chosen, blob, *measured(tree, f"{folder}/{chosen}", content))
    return parse_artifact(workspace, folder, data, found, time=time, commit=commit)


def measured(tree: TreeView, path: str, data: bytes) -> tuple[int, str]:
    """Size and SHA-256 (hexadecimal) of what a blob at a path stands for: itself, or the large object it points to."""
    pointer = decode(data)
    if pointer is not None and attributes.Attributes(tree.read).covers(path):
        return pointer.size, pointer.oid
    return len(data), hashlib.sha256(data).hexdigest()


# --- the tree -------------------------------------------------------------------------------------------------------


def changed(
    workspace: str,
    tree: TreeView,
    paths: Iterable[str],
    *,
    time: int,
    commit: str | None = None,
    before: Callable[[str], bytes | None] | None = None,
) -> Iterator[Workflow | Task | Artifact | Gone | Broken]:
    """What became of the records that the changed paths belong to, each once, as `tree` has them now.

    `time` and `commit` are those of the change; `before` gives the content of a file before it, which tells the id of
    a document that is gone where its name does not. Paths that belong to no record are passed over.
    """
    seen: set[str] = set()
    for path in paths:
        part, key = names.classify("evidence", path)
        place = folder_of(path) if part == "artifact" else path
        if key is None or place is None or place in seen:
            continue
        seen.add(place)
        if part == "artifact":
            yield _changed_artifact(workspace, tree, place, time, commit)
        elif part == "workflow" or part == "task":
            if tree.blob(path) is None:
                key = _told_before(path, before) or key
            yield _changed_document(tree, cast("Literal['workflow', 'task']", part), key, path, time)


def _changed_artifact(
    workspace: str, tree: TreeView, folder: str, time: int, commit: str | None
) -> Artifact | Gone | Broken:
    try:
        artifact = read_artifact(workspace, tree, folder, time=time, commit=commit)
    except GitstoreError as error:
        return Broken("artifact", folder, error)
    if artifact is None:
        gone = artifact_id(workspace, folder)
        usual = names.artifact_folder(gone)
        if usual != folder and tree.entries(usual):  # there were two, and one is left
            return _changed_artifact(workspace, tree, usual, time, commit)
        return Gone("artifact", gone)
    return artifact


def _told_before(path: str, before: Callable[[str], bytes | None] | None) -> str | None:
    """The id of a document that is gone, where its name is only a hash of it."""
    if names.id_of_evidence(path) is not None or before is None:
        return None
    try:
        return _identity(path, before(path) or b"")
    except GitstoreError:
        return None  # then there was no record of it


def _changed_document(
    tree: TreeView, part: Literal["workflow", "task"], key: str, path: str, time: int
) -> Workflow | Task | Gone | Broken:
    data = tree.read(path)
    if data is None:
        usual = names.workflow_path(key) if part == "workflow" else names.task_path(key)
        if usual == path or (data := tree.read(usual)) is None:
            return Gone(part, key)
        path = usual  # there were two, and one is left
    try:
        return parse_workflow(path, data, time=time) if part == "workflow" else parse_task(path, data, time=time)
    except GitstoreError as error:
        return Broken(part, path, error)


def locate(tree: TreeView, part: Part, identity: str, workspace: str) -> str | None:
    """Where the tree keeps a record: the file of a workflow or task, the folder of an artifact; None if nowhere.

    Almost always the place the id gives; a person may have put it in another folder, which is then searched for.
    """
    if part == "artifact":
        folder = names.artifact_folder(identity)
        if tree.entries(folder):
            return folder
        for first in _folders(tree, "artifacts"):
            for second in _folders(tree, first):
                for folder in _folders(tree, second):
                    if artifact_id(workspace, folder) == identity:
                        return folder
        return None
    path = names.workflow_path(identity) if part == "workflow" else names.task_path(identity)
    if tree.blob(path) is not None:
        return path
    root = path.split("/", 1)[0]
    for folder in (root, *_folders(tree, root)):
        for entry in tree.entries(folder):
            place = f"{folder}/{entry.name}"
            if not entry.is_tree and names.id_of_evidence(place) == identity:
                return place
    return None


def _folders(tree: TreeView, folder: str) -> list[str]:
    return [f"{folder}/{entry.name}" for entry in tree.entries(folder) if entry.is_tree]


# --- reading and writing fields -------------------------------------------------------------------------------------


def _guard(path: str, parse: Callable[[], T]) -> T:
    """A fault of the content, with the file's path put in front."""
    try:
        return parse()
    except documents.DocumentError:
        raise
    except Invalid as error:
        raise type(error)(f"{path}: {error.message}", details={**(error.details or {}), "path": path}) from None


def _identity(path: str, data: bytes) -> str:
    """The id a path stands for; where the name is only a hash of it, the document says it."""
    identity = names.id_of_evidence(path)
    if identity is None:
        identity = _record(path, data).get("id")
    return check_id(identity)


def _record(path: str, data: bytes) -> dict[str, Any]:
    """The object in a document; one that holds nothing, or only comments, is empty."""
    value = documents.load(data, path) if data.strip() else None
    return {} if value is None else mapping(value, "")


def _loose_id(value: object, at: str) -> str | None:
    """An id as a person may have written it: a whole number counts as its digits, blank as none."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return check_id(value, at)


def _title(record: Mapping[str, Any], key: str, default: str, at: str = "") -> str:
    value = record.get(key)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        return default
    return check_title(value, f"{at}/{key}")


def _state(record: Mapping[str, Any], states: Sequence[str]) -> str:
    state = record.get("state")
    return "pending" if state is None else check_state(state, states)


def _object(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = record.get(key)
    return {} if value is None else mapping(value, f"/{key}")


def _flag(record: Mapping[str, Any], key: str) -> bool:
    value = record.get(key)
    if value is not None and not isinstance(value, bool):
        raise fault(f"/{key}", "must be true or false")
    return bool(value)


def _time(record: Mapping[str, Any], key: str, default: Moment) -> int | Moment:
    """A time in any ISO-8601 form; without a zone it is UTC, a day is its midnight."""
    value = record.get(key)
    if value is None:
        return default
    try:
        return values.parse_iso(value if isinstance(value, str) else str(value))
    except Invalid:
        raise fault(f"/{key}", "must be a time such as 2026-11-24T03:00:00.000Z") from None


def _times(record: Workflow | Task, *keys: str) -> dict[str, str | None]:
    return {key: None if (ms := getattr(record, key)) is None else values.iso(ms) for key in keys}


def _empty(value: object) -> bool:
    return value is None or value in ("", {}, [])


def _write(path: str, identity: str, base: bytes | None, fields: dict[str, Any], old: dict[str, Any] | None) -> bytes:
    if names.id_of_evidence(path) != identity:
        fields = {"id": identity, **fields}
    current = documents.load(base, path) if base is not None and base.strip() else None
    if base is None:
        return documents.dump(_pruned(fields))
    if old is None or not isinstance(current, dict):
        return documents.edit(base, _pruned(fields))  # what is there says nothing, but a person's comments stay
    result = dict(current)
    for key, value in fields.items():
        if key == "created_at":
            # Without it the time of the last change would stand for it, and that is now another one.
            result.setdefault(key, value)
        elif value == old.get(key, value):
            continue
        elif key == "work_items":
            result[key] = _items(current.get(key) or [], value, old[key])
        elif not _empty(value):
            result[key] = value
        else:
            result.pop(key, None)
    return documents.edit(base, result, current=current)


def _items(current: list[Any], items: list[dict[str, Any]], old: list[dict[str, Any]]) -> list[Any]:
    """The list of work items in which those that did not change stand as they were written."""
    written = {item["id"]: (entry, item) for entry, item in zip(current, old, strict=True)}
    result: list[Any] = []
    for item in items:
        entry, before = written.get(item["id"], ({}, {}))
        if item == before:
            result.append(entry)
            continue
        kept = dict(entry) if isinstance(entry, dict) else {}
        for key, value in item.items():
            if value is None:
                kept.pop(key, None)
            elif key not in before or value != before[key] or key == "id":
                kept[key] = value
        result.append(kept)
    return result


def _pruned(fields: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in fields.items() if not _empty(value)}
    if "work_items" in kept:
        kept["work_items"] = [{k: v for k, v in item.items() if v is not None} for item in kept["work_items"]]
    return kept
