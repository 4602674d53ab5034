"""Artifacts: adding, pinning and deleting them, and how the API tells of them.

An artifact never changes: the same path again is a new one beside the old.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from gitstore import evidence, media, names, retention, showing, values
from gitstore.errors import Conflict, Invalid, NotFound
from gitstore.lfs import Pointer, attributes
from gitstore.lfs.pointer import decode
from gitstore.model import Artifact, Task
from gitstore.precondition import NONE, Precondition
from gitstore.repository.objects import Blob
from gitstore.rules import Policy, fault, mapping, no_secret, text
from gitstore.workflows import find_task

if TYPE_CHECKING:
    from gitstore.changes import Draft


class New(msgspec.Struct, frozen=True):
    """An artifact to add. `content` may be a blob hashed before, or a large object that the workspace has received
    already (Objects.receive); `sha256` is the content's, in hexadecimal, if known.

    What is left out of the last five is taken from the task, where the workspace has that task.
    """

    path: str
    content: bytes | Blob | Pointer
    content_type: str | None = None
    metadata: dict[str, Any] = {}
    request_id: str | None = None
    sha256: str | None = None
    task_id: str | None = None
    workflow_id: str | None = None
    work_item_id: str | None = None
    stage_name: str | None = None
    role: str | None = None


def check(new: New, policy: Policy = "refuse") -> New:
    """The artifact with every field normalised: path, media type, SHA-256, blanks. Raises Invalid (SecretFound).

    It asks nothing of the workspace, so it can be done before the lock is taken; `add` accepts what it returns.
    """
    path = names.artifact_path(new.path)
    if not size_of(new):
        raise fault("/content_base64", "must not be empty")
    metadata = mapping(new.metadata, "/metadata")
    no_secret(metadata, "metadata", policy)
    request_id = None if new.request_id is None else text(new.request_id, "/request_id", low=1, high=evidence.LABEL_MAX)

    def identity(value: str | None, at: str) -> str | None:
        return None if value is None else evidence.check_id(value, at)

    return New(
        path=path,
        content=Blob(new.content) if isinstance(new.content, bytes) else new.content,
        content_type=media.guess(path) if new.content_type is None else media.check(new.content_type),
        metadata=metadata,
        request_id=request_id,
        sha256=_digest(new),
        task_id=identity(new.task_id, "/task_id"),
        workflow_id=identity(new.workflow_id, "/workflow_id"),
        work_item_id=identity(new.work_item_id, "/work_item_id"),
        stage_name=evidence.check_label(new.stage_name, "/stage_name"),
        role=evidence.check_label(new.role, "/role"),
    )


def add(draft: Draft, new: New, *, task_required: bool = False) -> Artifact:
    """Add an artifact; `new` comes from `check`. Its `commit` is the change's, which is not known here yet.

    A request id that was used before, within the workflow, else the task, else the workspace, writes nothing: the
    artifact it made is returned, `commit` included. That needs no look-up, because such an artifact's id is derived.
    Raises NotFound if the task must exist and does not, Invalid if it belongs to another workflow than the one given,
    Conflict for a request id that was used for something else.
    """
    task = find_task(draft, new.task_id)[1] if new.task_id is not None else None
    if task is None and task_required:
        raise NotFound(f"there is no task {new.task_id!r}")
    if task is not None and None not in (task.workflow_id, new.workflow_id) and task.workflow_id != new.workflow_id:
        raise Invalid(
            f"/workflow_id: the task {task.id!r} belongs to the workflow {task.workflow_id!r}",
            details={"pointer": "/workflow_id"},
        )
    workflow_id = new.workflow_id or (task.workflow_id if task else None)
    artifact_id = names.new_id()
    if new.request_id is not None:
        scope = request_scope(draft.workspace, workflow_id, new.task_id)
        artifact_id = names.derive_id(draft.workspace, f"{scope}\n{new.request_id}")
        if (first := _known(draft, artifact_id)) is not None:
            if first.request_digest == request_digest(new):
                return first
            raise Conflict(
                f"the request id {new.request_id!r} was used before, for something else",
                details={"request_id": new.request_id, "artifact_id": artifact_id},
            )
    folder = names.artifact_folder(artifact_id)
    place = f"{folder}/{names.artifact_file(new.path.rsplit('/', 1)[-1])}"
    draft.write(place, _kept(draft, folder, place, new))
    blob = draft.blob(place)
    assert blob is not None
    artifact = Artifact(
        id=artifact_id,
        path=new.path,
        content_type=new.content_type or media.guess(new.path),
        size=size_of(new),
        sha256=new.sha256 or "",
        blob=blob,
        created_at=draft.now,
        metadata=new.metadata,
        workflow_id=workflow_id,
        task_id=new.task_id,
        work_item_id=new.work_item_id or (task.work_item_id if task else None),
        stage_name=new.stage_name or (task.stage_name if task else None),
        role=new.role or (task.role if task else None),
        request_id=new.request_id,
        request_digest=request_digest(new) if new.request_id is not None else None,
    )
    document = evidence.artifact_document(artifact)
    draft.write(f"{folder}/{evidence.ARTIFACT_DOCUMENT}", document)
    said = draft.blob(f"{folder}/{evidence.ARTIFACT_DOCUMENT}")
    if said is not None and isinstance(new.content, Blob) and decode(new.content.data) is None:
        evidence.remember(artifact, said, len(document))
    draft.describe(
        "artifact.added",
        f"artifact: add {names.one_line(artifact.path, 120)}",
        workflow_id=artifact.workflow_id,
        task_id=artifact.task_id,
    )
    return artifact


def size_of(new: New) -> int:
    """How many bytes an artifact to be added has."""
    if isinstance(new.content, Pointer):
        return new.content.size
    return len(new.content if isinstance(new.content, bytes) else new.content.data)


def _digest(new: New) -> str:
    if isinstance(new.content, Pointer):
        return new.content.oid
    data = new.content if isinstance(new.content, bytes) else new.content.data
    return new.sha256 or hashlib.sha256(data).hexdigest()


def _kept(draft: Draft, folder: str, place: str, new: New) -> bytes | Blob:
    """What is stored at a place: the content or, where it is a large object, its pointer; the folder says so then."""
    pointer = new.content if isinstance(new.content, Pointer) else None
    if pointer is not None:
        draft.holds(pointer)
    covered = draft.covers(place)
    if pointer is None and (covered or size_of(new) > draft.large_bytes):
        assert not isinstance(new.content, Pointer)
        data = new.content if isinstance(new.content, bytes) else new.content.data
        if decode(data) is not None:
            raise Invalid(
                "the content is a pointer of Git LFS, and the `.gitattributes` of the evidence branch say that such a "
                "pointer stands for a large object there: send the content itself"
            )
        pointer = draft.keep(data)
    if pointer is None:
        assert not isinstance(new.content, Pointer)
        return new.content
    if not covered:
        name = place.rpartition("/")[2]
        draft.write(f"{folder}/{attributes.NAME}", f"{attributes.line(name)}\n".encode())
    return Blob(pointer.encode())


def _known(draft: Draft, artifact_id: str) -> Artifact | None:
    """The artifact in the folder that its id gives."""
    folder = names.artifact_folder(artifact_id)
    touch = draft.last_touch(f"{folder}/{evidence.ARTIFACT_DOCUMENT}")
    return evidence.read_artifact(
        draft.workspace,
        draft.tree,
        folder,
        time=touch.time if touch is not None else draft.now,
        commit=touch.commit if touch is not None else None,
    )


def delete(draft: Draft, artifact: Artifact, *, precondition: Precondition = NONE, etag: str | None = None) -> None:
    """Take an artifact off the branch; its history stays. `etag` is the artifact's current one, for the precondition.

    Raises NotFound if it is not there (any more), PreconditionFailed.
    """
    folder = evidence.locate(draft.tree, "artifact", artifact.id, draft.workspace)
    if folder is None:
        raise NotFound(f"there is no artifact {artifact.id!r}")
    precondition.check(etag)
    pending = [folder]
    while pending:  # a push may have put folders into it
        here = pending.pop()
        for entry in draft.tree.entries(here):
            if entry.is_tree:
                pending.append(f"{here}/{entry.name}")
            else:
                draft.remove(f"{here}/{entry.name}")
    draft.describe(
        "artifact.deleted",
        f"artifact: delete {names.one_line(artifact.path, 120)}",
        workflow_id=artifact.workflow_id,
        task_id=artifact.task_id,
    )


def pin(draft: Draft, artifact: Artifact, pinned: bool) -> Artifact:
    """Keep an artifact whatever its workflow's retention says, or no longer. One that is so already changes nothing.

    Raises NotFound if it is not there (any more).
    """
    folder = evidence.locate(draft.tree, "artifact", artifact.id, draft.workspace)
    if folder is None:
        raise NotFound(f"there is no artifact {artifact.id!r}")
    if artifact.pinned == pinned:
        return artifact
    changed = msgspec.structs.replace(artifact, pinned=pinned)
    place = f"{folder}/{evidence.ARTIFACT_DOCUMENT}"
    draft.write(place, evidence.pinned_document(changed, place, draft.tree.read(place)))
    draft.describe(
        "artifact.updated",
        f"artifact: {'pin' if pinned else 'unpin'} {names.one_line(artifact.path, 120)}",
        workflow_id=artifact.workflow_id,
        task_id=artifact.task_id,
    )
    return changed


def request_scope(workspace: str, workflow_id: str | None, task_id: str | None) -> str:
    """Within what a request id is unique: the workflow, else the task, else the workspace."""
    if workflow_id is not None:
        return f"workflow {workflow_id}"
    return f"workspace {workspace}" if task_id is None else f"task {task_id}"


def request_digest(new: New) -> str:
    """What makes two requests with one `request_id` the same: SHA-256 over all that the client sent, in hexadecimal.

    `new` comes from `check`, so it does not matter how the content was encoded or how the path was spelled.
    """
    sent = [
        new.path,
        new.sha256,
        new.content_type,
        _sorted(new.metadata),
        new.task_id,
        new.workflow_id,
        new.work_item_id,
        new.stage_name,
        new.role,
    ]
    return hashlib.sha256(values.encode(sent)).hexdigest()


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def artifact_json(artifact: Artifact, workspace_id: str, task: Task | None = None) -> dict[str, Any]:
    """An artifact (`retained`) as the API shows it.

    `task` is the one that the artifact names, if its workspace has it: it fills in a workflow that the artifact does
    not name itself, and the addresses go by it. Otherwise they go by the workspace, because they have to answer.
    """
    eligible = showing.preview_eligible(artifact.content_type, artifact.size)
    download = showing.url(workspace_id, artifact.id, artifact.task_id if task is not None else None)
    return {
        "id": artifact.id,
        "workflow_id": artifact.workflow_id or (task.workflow_id if task is not None else None),
        "workspace_id": workspace_id,
        "task_id": artifact.task_id,
        "logical_path": artifact.path,
        "content_type": artifact.content_type,
        "size_bytes": artifact.size,
        "checksum_sha256": artifact.sha256,
        "metadata": artifact.metadata,
        "retention_policy": artifact.retention,
        "expires_at": retention.expiry(artifact),
        "created_at": values.iso(artifact.created_at),
        "download_url": download,
        "preview_url": f"{download}/preview" if eligible else None,
        "permalink_url": f"{download}/permalink" if eligible else None,
        "preview_eligible": eligible,
        "preview_mode": showing.preview_mode(artifact.content_type),
        "storage_backend": "git",
        "commit": artifact.commit,
        "pinned": artifact.pinned,
    }
