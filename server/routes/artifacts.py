"""Artifacts: uploaded to a task or a workspace, explored, looked at, downloaded, deleted."""

from __future__ import annotations

import contextlib
import time
from typing import Any, TypeVar

import msgspec

from gitstore import artifacts, explorer, files, names, showing, values
from gitstore import content as contents
from gitstore.changes import Outcome, Workspace
from gitstore.errors import Invalid, NotFound, TooLarge, WrongShape
from gitstore.lfs import Pointer
from gitstore.model import Artifact, Task
from gitstore.past import Moment
from server import receiving, sending
from server.call import Call
from server.http import API, Page, Raw, Reply, Route
from server.receiving import Receipt
from server.routes import common
from server.shapes import artifacts as shapes
from server.shapes.artifacts import (
    ArtifactFields,
    ExploreArtifacts,
    ListTaskArtifacts,
    Permalink,
    UploadArtifact,
    UploadTaskArtifact,
)
from server.shapes.common import ReadAt

_ANY = ("*/*",)
T = TypeVar("T", bound=msgspec.Struct)


# --- uploads --------------------------------------------------------------------------------------------------------


def _new(call: Call, body: UploadTaskArtifact, content: bytes | Pointer, **more: Any) -> artifacts.New:
    limit = call.app.settings.max_artifact_bytes
    fields = {name: value for name, value in common.given(body).items() if name != "content_base64"}
    new = artifacts.New(**(fields | more), content=content)
    if (size := artifacts.size_of(new)) > limit:
        raise TooLarge(f"the artifact has {size} bytes; {limit} are allowed", details={"limit": limit})
    return artifacts.check(new, call.app.settings.secret_policy)


def _from_json(call: Call, body: UploadTaskArtifact, task: str | None) -> artifacts.New:
    more = {"task_id": task} if task is not None else {}
    return _new(call, body, files.decode_base64(body.content_base64), **more)


def from_fields(call: Call, fields: dict[str, Any], content: bytes | Pointer) -> artifacts.New:
    """The artifact whose fields were sent as texts, checked. Raises WrongShape, Invalid, TooLarge."""
    fields = dict(fields)
    metadata = fields.pop("metadata", None)
    said = call.convert(fields, ArtifactFields)
    if said.path is None:
        raise WrongShape([("/path", "is required")])
    if metadata:
        decoded = values.decode(metadata.encode()) if isinstance(metadata, str) else metadata
        if not isinstance(decoded, dict):
            raise WrongShape([("/metadata", "must be a JSON object")])
    else:
        decoded = {}
    fields = {name: value for name, value in common.given(said).items() if value is not None}
    body = UploadArtifact(content_base64="", **(fields | {"metadata": decoded}))
    return _new(call, body, content)


async def _uploaded(call: Call, workspace: str, task: str | None) -> artifacts.New:
    """The artifact of a multipart body (part `file`, the rest as fields), or of a raw one (fields in the query)."""
    limit = call.app.settings.max_artifact_bytes
    owner = {"task_id": task} if task is not None else {}
    if call.media_type != "multipart/form-data":
        fields = {name: value for name, value in common.given(call.query).items() if value is not None} | owner
        fields.setdefault("content_type", call.media_type or None)
        await call.offload(from_fields, call, fields, b"-")  # what is wrong with them is told before a gigabyte is sent
        async with Receipt(call, workspace, limit, call.headers) as receipt:
            await receipt.take(call.blocks())
            return await call.offload(from_fields, call, fields, await receipt.keep())
    receiving.whole(call)
    fields, found = {}, None
    async with contextlib.AsyncExitStack() as stack:
        async for part in call.parts():
            if part.name == "file":
                if found is not None:
                    raise WrongShape([("/file", "one file at a time")])
                found = await stack.enter_async_context(Receipt(call, workspace, limit, part.headers))
                await found.take(part.blocks())
                if part.content_type not in (None, "application/octet-stream"):
                    fields.setdefault("content_type", part.content_type)
                if part.file_name:
                    fields.setdefault("path", part.file_name)
            else:
                fields[part.name] = await part.text()
        if found is None:
            raise WrongShape([("/file", "is required: send the content as a part called `file`")])
        fields |= owner
        if found.large:
            await call.offload(from_fields, call, fields, b"-")  # and before it has its place in the workspace
        return await call.offload(from_fields, call, fields, await found.keep())


def _url(call: Call, workspace: str, artifact: Artifact) -> str:
    task = call.app.work.task_of(workspace, artifact)
    return showing.url(workspace, artifact.id, task.id if task is not None else None)


def _shown(call: Call, workspace: str, artifact: Artifact) -> bytes:
    return values.encode(call.app.work.shown(workspace, artifact))


async def added(call: Call, workspace: str, new: artifacts.New, *, task_required: bool) -> tuple[bytes, str]:
    """Adds an artifact, durably; its record as JSON, and its address."""
    await call.turn()
    pending = call.app.work.add_artifact(workspace, new, call.provenance, task_required=task_required)
    outcome: Outcome[Artifact] = await call.settle(pending)
    artifact = outcome.value
    if artifact.commit is None and outcome.commit is not None:
        artifact = msgspec.structs.replace(artifact, commit=outcome.commit.id)
    return _shown(call, workspace, artifact), _url(call, workspace, artifact)


async def _add(call: Call, workspace: str, new: artifacts.New, *, task_required: bool) -> Reply:
    data, url = await added(call, workspace, new, task_required=task_required)
    return Reply(data, status=201, etag=values.etag(data), headers=(("Location", url),))


async def upload(call: Call) -> Reply:
    """Adds an artifact to the workspace, whatever it belongs to."""
    found = await common.workspace(call)
    if call.body is not None:
        new = await call.offload(_from_json, call, call.body, None)
    else:
        new = await _uploaded(call, found.id, None)
    return await _add(call, found.id, new, task_required=False)


async def upload_to_task(call: Call) -> Reply:
    """Adds an artifact to a task."""
    identity = call.params["id"]
    if call.body is not None:
        new = await call.offload(_from_json, call, call.body, identity)
        workspace, _ = call.app.work.task(identity)
    else:
        workspace, _ = call.app.work.task(identity)
        new = await _uploaded(call, workspace, identity)
    return await _add(call, workspace, new, task_required=True)


# --- one artifact ---------------------------------------------------------------------------------------------------


async def _of(call: Call) -> tuple[str, Artifact, Moment | None]:
    """The workspace and the artifact that the path names, by workspace or by task; as it was, where that is asked."""
    identity = call.params["artifact"]
    at: str | None = call.query.at if call.query is not None else None
    if call.route.path.startswith(f"{API}/tasks/"):
        workspace, task = call.app.work.task(call.params["id"])
        artifact, moment = await _one(call, workspace, identity, at)
        if artifact.task_id != task.id:
            raise NotFound(f"the task has no artifact `{names.one_line(identity, 80)}`")
        return workspace, artifact, moment
    workspace = (await common.workspace(call)).id
    return workspace, *await _one(call, workspace, identity, at)


async def _one(call: Call, workspace: str, identity: str, at: str | None) -> tuple[Artifact, Moment | None]:
    if at is None:
        return call.app.work.artifact(workspace, identity), None
    return await call.offload(_once, call, workspace, identity, at)


def _once(call: Call, workspace: str, identity: str, at: str) -> tuple[Artifact, Moment]:
    found = call.app.store.load(workspace)
    moment = call.app.past.moment(found, at)
    return call.app.evidence.artifact(found, moment, identity), moment


def _raw(call: Call, workspace: str, artifact: Artifact, shown: bool, moment: Moment | None) -> Raw:
    held = contents.of(call.app.store.load(workspace).visible, artifact)
    answer = Raw(
        sending.body(call, held),
        artifact.content_type,
        artifact.path.rsplit("/", 1)[-1],
        size=held.size,
        sha256=held.sha256,
        disposition="inline" if shown else "attachment",
        etag=values.etag(f"{artifact.id}\0{artifact.sha256}".encode()),
        modified=artifact.created_at,
    )
    return common.dated(answer, moment)


async def download(call: Call) -> Raw:
    """The artifact's content, as an attachment."""
    workspace, artifact, moment = await _of(call)
    return await call.offload(_raw, call, workspace, artifact, False, moment)


async def preview(call: Call) -> Raw:
    """The artifact's content to look at, where that is safe and small enough."""
    workspace, artifact, moment = await _of(call)
    if not showing.preview_eligible(artifact.content_type, artifact.size):
        raise Invalid(
            f"{artifact.path} ({artifact.content_type}, {artifact.size} bytes) has no preview: download it instead",
            details={"download_url": _url(call, workspace, artifact)},
        )
    return await call.offload(_raw, call, workspace, artifact, True, moment)


async def permalink(call: Call) -> Reply:
    """The address at which the artifact stays."""
    workspace, artifact, _ = await _of(call)
    base = (call.app.settings.public_url or "").rstrip("/")
    data = Permalink(base + _url(call, workspace, artifact))
    return Reply(data, etag=values.etag(msgspec.json.encode(data)))


async def delete(call: Call) -> Reply:
    """Takes the artifact off the evidence branch; its history stays."""
    workspace, artifact, _ = await _of(call)
    etag = values.etag(f"{artifact.id}\0{artifact.sha256}".encode())
    pending = call.app.work.delete_artifact(workspace, artifact, call.provenance, call.precondition, etag)
    await call.settle(pending)
    return Reply(status=204)


# --- lists ----------------------------------------------------------------------------------------------------------


def _task_list(call: Call, workspace: str, task: Task) -> Reply:
    query: ListTaskArtifacts = call.query
    found = call.app.work.task_artifacts(workspace, task.id, query.prefix or "")
    rows = [
        values.encode(artifacts.artifact_json(one, workspace, task) | {"content_indexed": indexed})
        for one, indexed in zip(found, call.app.work.indexed(found), strict=True)
    ]
    return Reply(b"[" + b",".join(rows) + b"]", page=Page(1, max(len(rows), 1), len(rows)))


async def list_of_task(call: Call) -> Reply:
    """A task's artifacts, oldest first."""
    workspace, task = call.app.work.task(call.params["id"])
    return await call.offload(_task_list, call, workspace, task)


def _explore(call: Call, workspace: str, query: explorer.ExplorerQuery) -> Reply:
    text = call.app.work.text(workspace)
    found = call.app.explorer.explore(workspace, query, int(time.time() * 1000), text)
    call.app.work.tell_indexed(found)
    return _explored(found, query)


def _explored(found: explorer.ExplorerPage, query: explorer.ExplorerQuery) -> Reply:
    return Reply(
        values.encode(found.rows),
        page=Page(query.page, query.per_page, found.total),
        meta={
            "summary": found.summary,
            "filters": found.filters,
            "index": found.standing.index,
            **({"progress": found.standing.progress} if found.standing.index == "rebuilding" else {}),
        },
    )


def _explore_then(call: Call, found: Workspace, query: explorer.ExplorerQuery, at: str) -> Reply:
    moment = call.app.past.moment(found, at)
    page = call.app.evidence.explore(found, moment, query, int(time.time() * 1000))
    return common.dated(_explored(page, query), moment)


async def explore(call: Call) -> Reply:
    """The workspace's artifacts: filtered, searched, sorted, counted."""
    asked = {name: str(value) for name, value in common.given(call.query).items() if value is not None}
    query = explorer.parse_query(asked)
    found = await common.workspace(call)
    if call.query.at is not None:
        return await call.offload(_explore_then, call, found, query, call.query.at)
    return await call.offload(_explore, call, found.id, query)


_ALL = f"{API}/workspaces/{{id}}/artifacts"
_TASK = f"{API}/tasks/{{id}}/artifacts"


def _single(base: str) -> tuple[Route, ...]:
    one = f"{base}/{{artifact}}"
    return (
        Route("GET", one, "agent", download, "Download an artifact", query=ReadAt, media="*/*", tag="artifacts"),
        Route("GET", f"{one}/preview", "agent", preview, "Look at an artifact", query=ReadAt, media="*/*",
              tag="artifacts"),
        Route("GET", f"{one}/permalink", "agent", permalink, "Where an artifact stays", response=Permalink,
              tag="artifacts"),
        Route("DELETE", one, "agent", delete, "Delete an artifact", status=204, tag="artifacts"),
    )  # fmt: skip


ROUTES = (
    Route("GET", _ALL, "agent", explore, "Explore artifacts", query=ExploreArtifacts,
          response=list[shapes.ArtifactRow], paged=True, tag="artifacts"),
    Route("POST", _ALL, "agent", upload, "Add an artifact", body=UploadArtifact, query=ArtifactFields, uploads=_ANY,
          limit="artifact", response=shapes.Artifact, status=201, tag="artifacts"),
    Route("GET", _TASK, "agent", list_of_task, "List a task's artifacts", query=ListTaskArtifacts,
          response=list[shapes.Artifact], paged=True, tag="artifacts"),
    Route("POST", _TASK, "agent", upload_to_task, "Add an artifact to a task", body=UploadTaskArtifact,
          query=ArtifactFields, uploads=_ANY, limit="artifact", response=shapes.Artifact, status=201, tag="artifacts"),
    *_single(_ALL),
    *_single(_TASK),
)  # fmt: skip
