"""Resumable uploads (tus 1.0.0): begun, sent in pieces, asked for, ended. The last piece makes the artifact or file."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

from gitstore import values
from gitstore.errors import ChecksumMismatch, Conflict, Forbidden, Invalid, Malformed, NotFound, TooLarge
from gitstore.lfs import Pointer
from gitstore.uploads import Upload
from server import tus
from server.call import Call
from server.config import Settings
from server.http import API, RANK, MethodNotAllowed, Reply, Route
from server.pouring import Pour
from server.routes import artifacts, common, files
from server.shapes.uploads import ResumableUpload
from server.tus import Sum

#: What clients of tus call these by themselves, where the fields of ours are not given.
_ALIASES = {"artifact": {"filename": "path", "filetype": "content_type"}}
_ALIASES["file"] = {"filename": "file_name", "filetype": "content_type"}
_NEEDS = {"artifact": "agent", "file": "admin"}


def _told(call: Call, upload: Upload) -> tuple[tuple[str, str], ...]:
    headers = [
        ("Upload-Offset", str(upload.offset)),
        ("Upload-Expires", tus.date(call.app.uploads.expires(upload))),
        ("Cache-Control", "no-store"),
    ]
    if upload.resource is not None:
        headers.append(("Gitstore-Resource", upload.resource))
    return tuple(headers)


def _shown(call: Call, upload: Upload) -> ResumableUpload:
    return ResumableUpload(
        id=upload.id,
        workspace_id=upload.workspace,
        kind=upload.kind,
        length=upload.length,
        offset=upload.offset,
        created_at=values.iso(upload.created_at),
        expires_at=values.iso(call.app.uploads.expires(upload)),
        resource=upload.resource,
    )


def _address(upload: Upload) -> str:
    return f"{API}/workspaces/{upload.workspace}/uploads/{upload.id}"


# --- what is made of it ---------------------------------------------------------------------------------------------


def _fields(call: Call, sent: str) -> tuple[Any, dict[str, str]]:
    """The kind and the fields that Upload-Metadata tells. Raises Malformed, Invalid, Forbidden."""
    pairs = tus.metadata(sent)
    kind = pairs.pop("kind", "artifact")
    if kind not in _NEEDS:
        raise Invalid("Upload-Metadata: `kind` must be artifact or file", details={"header": "Upload-Metadata"})
    for alias, name in _ALIASES[kind].items():
        value = pairs.pop(alias, None)
        if value:
            pairs.setdefault(name, value)
    assert call.grant is not None
    if RANK[call.grant.scope] < RANK[_NEEDS[kind]]:
        raise Forbidden(f"a {kind} needs a key of scope {_NEEDS[kind]} or stronger; yours has scope {call.grant.scope}")
    return kind, pairs


def _made(call: Call, upload: Upload, content: bytes | Pointer) -> Any:
    """What the fields and the content make: an artifact to be added, or a file to be stored."""
    if upload.kind == "file":
        return files.from_fields(call, upload.fields, content)
    fields = dict(upload.fields)
    # A kill between the artifact and the note of it here must not make a second one.
    fields.setdefault("request_id", f"upload:{upload.id}")
    return artifacts.from_fields(call, fields, content)


async def _finished(call: Call, upload: Upload) -> Upload:
    """Makes what the upload is for, once; the caller holds it alone."""
    uploads = call.app.uploads
    objects = await call.offload(call.app.store.objects, upload.workspace)
    content = await call.carry(uploads.content, upload, objects, call.app.store.large_bytes)
    made = await call.offload(_made, call, upload, content)
    if upload.kind == "file":
        resource = await files.stored(call, upload.workspace, made)
    else:
        _, resource = await artifacts.added(call, upload.workspace, made, task_required=False)
    await call.carry(uploads.complete, upload, resource, call.app.clock.now())
    return uploads.find(upload.workspace, upload.id, call.app.clock.now())


# --- pieces ---------------------------------------------------------------------------------------------------------


async def _send(call: Call, upload: Upload, offset: int, check: Sum | None) -> Upload:
    """Takes in the next piece, and makes what the upload is for where it is the last; the caller holds it alone.

    What arrived before a connection broke is kept, unless it has a checksum that cannot hold any more.
    """
    uploads, now = call.app.uploads, call.app.clock.now
    upload = uploads.find(upload.workspace, upload.id, now())  # as it is, now that nobody else is at it
    if upload.resource is not None:
        if offset == upload.length and call.headers.get("Content-Length") == "0":
            return upload  # the same last piece again
        raise Conflict("the upload is finished", details={"offset": upload.length, "resource": upload.resource})
    if upload.offset == upload.length:  # what it is for could not be made; its file may be an object already
        if offset != upload.length or call.headers.get("Content-Length") != "0":
            raise Conflict("all of the upload is here", details={"offset": upload.length, "upload_offset": offset})
        return await _finished(call, upload)
    running = check.running if check is not None else None
    piece = await call.carry(uploads.append, upload, offset, running)
    # Of a piece that has to be whole, nothing counts before its end.
    sync = None if check is not None else lambda: partial(piece.sync, piece.reached(), now())
    pour = Pour(call, (piece.append, piece.hash), sync)
    try:
        try:
            async with contextlib.aclosing(call.blocks()) as blocks:
                async for block in blocks:
                    await pour.put(block)
        except (Malformed, ConnectionError, asyncio.CancelledError):  # it broke off
            if check is None:
                await pour.end()
                await call.carry(piece.finish, now())
            raise
        await pour.end()
        if check is not None and check.running.digest() != check.digest:
            sent, got = (base64.b64encode(one).decode() for one in (check.digest, check.running.digest()))
            raise ChecksumMismatch(
                f"the piece is not what Upload-Checksum says: its {check.algorithm} is {got}, sent was {sent}",
                details={"algorithm": check.algorithm, "sent": sent, "received": got, "offset": upload.offset},
            )
        upload = await call.carry(piece.finish, now())
    finally:
        await pour.settle()
        if not piece.ended:
            await call.carry(piece.abort)
    if upload.offset == upload.length and upload.resource is None:
        upload = await _finished(call, upload)
    return upload


async def _asked(call: Call) -> str:
    """The id of the workspace, for a client that speaks this version. Raises NotFound, PreconditionFailed."""
    workspace = (await common.workspace(call)).id
    if call.request.method not in ("GET", "HEAD") or "Tus-Resumable" in call.headers:
        tus.version(call.headers)
    return workspace


async def _find(call: Call) -> Upload:
    """The upload that the path names, for a key that is no weaker than the one that began it. Raises NotFound, Gone."""
    workspace = await _asked(call)
    found = call.app.uploads.find(workspace, call.params["upload"], call.app.clock.now())
    assert call.grant is not None
    if RANK[call.grant.scope] < RANK[found.scope]:
        raise NotFound("the workspace has no such upload: it never had, or it was ended")
    return found


# --- handlers -------------------------------------------------------------------------------------------------------


async def create(call: Call) -> Reply:
    """Begins an upload; its first piece may come with it."""
    workspace = await _asked(call)
    if "Upload-Defer-Length" in call.headers:
        raise Invalid("the length must be known when an upload begins: send Upload-Length")
    length = tus.number(call.headers, "Upload-Length")
    check = tus.checksum(call.headers)
    sent = call.header("Upload-Metadata") or ""
    kind, fields = _fields(call, sent)
    settings = call.app.settings
    limit = settings.max_file_bytes if kind == "file" else settings.max_artifact_bytes
    if length > limit:
        raise TooLarge(f"the {kind} would have {length} bytes; {limit} are allowed", details={"limit": limit})
    assert call.grant is not None
    now = call.app.clock.now()
    draft = Upload("", workspace, kind, call.grant.scope, length, fields, sent, now, now)
    # Held against the rules now, with a byte in place of the content, so that no gigabyte is sent for nothing.
    await call.offload(_made, call, draft, b"-" if length else b"")
    upload = await call.carry(call.app.uploads.create, workspace, kind, draft.scope, length, fields, sent, now)
    if call.media_type == tus.TYPE:
        with call.app.uploads.alone(upload):
            upload = await _send(call, upload, 0, check)
    headers = (("Location", (settings.public_url or "") + _address(upload)), *_told(call, upload))
    return Reply(_shown(call, upload), status=201, headers=headers)


async def state(call: Call) -> Reply:
    """How far an upload is."""
    upload = await _find(call)
    if upload.offset == upload.length and upload.resource is None:
        with call.app.uploads.alone(upload):  # the server was killed right before it made what this is for
            upload = call.app.uploads.find(upload.workspace, upload.id, call.app.clock.now())
            if upload.resource is None:
                upload = await _finished(call, upload)
    headers = [("Upload-Length", str(upload.length)), *_told(call, upload)]
    if upload.sent:
        headers.append(("Upload-Metadata", upload.sent))
    return Reply(_shown(call, upload), headers=tuple(headers))


async def append(call: Call) -> Reply:
    """Adds the next piece, at the offset where the upload stands."""
    upload = await _find(call)
    offset = tus.number(call.headers, "Upload-Offset")
    check = tus.checksum(call.headers)
    with call.app.uploads.alone(upload):
        upload = await _send(call, upload, offset, check)
    return Reply(status=204, headers=_told(call, upload))


async def end(call: Call) -> Reply:
    """Ends an upload and gives up what came of it; what was made of a finished one stays."""
    upload = await _find(call)
    with call.app.uploads.alone(upload):
        await call.carry(call.app.uploads.end, upload)
    return Reply(status=204)


async def other(call: Call) -> Reply:
    """For clients that cannot send every method: what `X-HTTP-Method-Override` names."""
    methods: dict[str, Callable[[Call], Any]] = {"PATCH": append, "DELETE": end, "HEAD": state}
    chosen = methods.get((call.header("X-HTTP-Method-Override") or "").strip().upper())
    if chosen is None:
        raise MethodNotAllowed(("DELETE", "GET", "HEAD", "OPTIONS", "PATCH"))
    if chosen is append and call.media_type != tus.TYPE:
        raise Invalid(f"the body must be {tus.TYPE}")
    reply: Reply = await chosen(call)
    return reply


def routes(settings: Settings) -> tuple[Route, ...]:
    """These routes."""
    base = f"{API}/workspaces/{{id}}/uploads"
    one = f"{base}/{{upload}}"
    shared: dict[str, Any] = {
        "tag": "uploads", "always": tus.ALWAYS, "options": tus.offered(settings.max_artifact_bytes),
    }  # fmt: skip
    body: dict[str, Any] = {"uploads": (tus.TYPE,), "limit": "artifact"}
    return (
        Route("POST", base, "agent", create, "Begin an upload", body_optional=True, status=201,
              response=ResumableUpload, **body, **shared),
        Route("GET", one, "agent", state, "How far an upload is", response=ResumableUpload, **shared),
        Route("PATCH", one, "agent", append, "Send the next piece", body_optional=True, status=204, **body, **shared),
        Route("DELETE", one, "agent", end, "End an upload", status=204, **shared),
        Route("POST", one, "agent", other, "Another method", body_optional=True, hidden=True, status=204, **body,
              **shared),
    )  # fmt: skip
