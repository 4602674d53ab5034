"""Files: stored one by one or in batches, listed, read in any version, deleted."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from gitstore import content as contents
from gitstore import files, media, names, values
from gitstore.changes import Draft, Outcome, Workspace
from gitstore.context import StoredFile
from gitstore.errors import Invalid, NotFound, WrongShape
from gitstore.files import Put, Upload
from gitstore.history import FileStat
from gitstore.lfs import Pointer
from gitstore.model import CommitFacts
from gitstore.past import Then
from gitstore.record import file_record
from gitstore.snapshot import Snapshot
from server import receiving, sending
from server.call import Call, Part
from server.http import API, Page, Raw, Reply, Route
from server.receiving import Receipt
from server.routes import common
from server.shapes.common import ReadAt
from server.shapes.files import File, FileFields, ListFiles, ReadFile, UploadFile, UploadFiles, WriteFile

_FORM = ("multipart/form-data",)


# --- records --------------------------------------------------------------------------------------------------------


def _sizes(call: Call, snapshot: Snapshot, wanted: Sequence[StoredFile]) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of contents by blob: known, or worked out and then known."""
    catalog = call.app.store.catalog
    known = {stored.blob: (stored.large.size, stored.large.oid) for stored in wanted if stored.large is not None}
    blobs = list({stored.blob for stored in wanted} - known.keys())
    for at in range(0, len(blobs), 500):
        known.update(catalog.blobs(blobs[at : at + 500]))
    fresh = []
    for blob in blobs:
        if blob not in known:
            data = snapshot.blob(blob)
            known[blob] = (len(data), hashlib.sha256(data).hexdigest())
            fresh.append((blob, *known[blob]))
    if fresh:
        catalog.put_blobs(fresh)
    return known


def _record(snapshot: Snapshot, stored: StoredFile, size: tuple[int, str], stat: FileStat) -> dict[str, Any]:
    return file_record(
        stored,
        workspace=snapshot.workspace,
        size=size[0],
        sha256=size[1],
        created_at=stat.created_at,
        updated_at=stat.updated_at,
        version=stat.version,
    )


def stats(call: Call, snapshot: Snapshot, then: Then | None, wanted: Iterable[StoredFile]) -> dict[str, FileStat]:
    """Versions and times of files by key, now or at a moment; one that has no history is missing."""
    if then is not None:
        return then.story.files(stored.key for stored in wanted)
    return call.app.store.history.file_stats(snapshot.workspace)


def _stat(call: Call, snapshot: Snapshot, then: Then | None, stored: StoredFile) -> FileStat:
    found = stats(call, snapshot, then, (stored,)).get(stored.key)
    # A file adopted with a problem may have no history under its key yet.
    return found or FileStat(1, snapshot.created_at, snapshot.updated_at, snapshot.main.head or "")


def _etag(call: Call, snapshot: Snapshot, stored: StoredFile, then: Then | None = None) -> str:
    if then is not None:
        return files.etag(stored, files.touched(stored, then.story.touch))
    store = call.app.store
    return files.etag(stored, files.touched(stored, lambda path: store.last_touch(snapshot.workspace, "main", path)))


def _find(call: Call, snapshot: Snapshot, then: Then | None) -> StoredFile:
    reference = call.params["file"]
    stored = files.find(snapshot.context, snapshot.workspace, reference)
    if stored is None:
        has = "has" if then is None else "had then"
        raise NotFound(f"the workspace {has} no file with the id or key `{names.one_line(reference, 80)}`")
    return stored


def _list(call: Call, snapshot: Snapshot, then: Then | None) -> Reply:
    query: ListFiles = call.query
    wanted = list(snapshot.context.files.values())
    if query.q:
        text = query.q.casefold()
        wanted = [one for one in wanted if text in f"{one.key}\0{one.file_name}\0{one.description or ''}".casefold()]
    told = stats(call, snapshot, then, wanted)
    nowhere = FileStat(1, snapshot.created_at, snapshot.updated_at, "")
    wanted.sort(key=lambda one: (-told.get(one.key, nowhere).created_at, one.key))
    total = len(wanted)
    number, size = query.page or 1, query.per_page or (20 if query.page is not None else max(total, 1))
    shown = wanted[(number - 1) * size : number * size]
    sizes = _sizes(call, snapshot, shown)
    rows = [_record(snapshot, one, sizes[one.blob], told.get(one.key, nowhere)) for one in shown]
    return common.dated(Reply(rows, page=Page(number, size, total)), then)


async def list_all(call: Call) -> Reply:
    """The files, newest first; all of them unless a page is asked for."""
    return await call.offload(_list, call, *await common.state(call, "files"))


def _read(call: Call, snapshot: Snapshot, then: Then | None) -> Reply:
    stored = _find(call, snapshot, then)
    sizes = _sizes(call, snapshot, (stored,))
    data = _record(snapshot, stored, sizes[stored.blob], _stat(call, snapshot, then, stored))
    return common.dated(Reply(data, etag=_etag(call, snapshot, stored, then)), then)


async def read(call: Call) -> Reply:
    """One file's record."""
    return await call.offload(_read, call, *await common.state(call, "files"))


def _version(call: Call, found: Workspace, number: int) -> tuple[StoredFile, int]:
    """A version of a file, and when it was made."""
    stored = _find(call, found.visible, None)
    wanted = call.app.store.history.version(found.id, "file", number, stored.key)
    if wanted is None:
        raise NotFound(f"the file {stored.key} has no version {names.one_line(str(number), 30)}")
    older = call.app.past.at(found, wanted.commit, "files").snapshot.context.files.get(stored.key)
    if older is None:
        raise NotFound(f"version {number} of the file {stored.key} cannot be read")
    return older, wanted.time


def _content(call: Call, found: Workspace, then: Then | None) -> Raw:
    query: ReadFile = call.query
    snapshot = found.visible if then is None else then.snapshot
    if query.version is not None:
        stored, modified = _version(call, found, query.version)
    else:
        stored = _find(call, snapshot, then)
        modified = _stat(call, snapshot, then, stored).updated_at
    held = contents.of(snapshot, stored)
    answer = Raw(
        sending.body(call, held),
        stored.content_type,
        stored.file_name,
        size=held.size,
        sha256=held.sha256,
        etag=values.etag(f"{stored.blob}\0{stored.content_type}\0{stored.file_name}".encode()),
        modified=modified,
    )
    return common.dated(answer, then)


async def content(call: Call) -> Raw:
    """The bytes of a file, now, in an earlier version, or at a moment."""
    found = await common.workspace(call)
    return await call.offload(_content, call, found, await common.then(call, found, "files"))


# --- uploads --------------------------------------------------------------------------------------------------------


def _upload(call: Call, one: UploadFile, at: str) -> Upload:
    return _checked(
        call,
        file_name=one.file_name,
        content=files.decode_base64(one.content_base64, f"{at}/content_base64"),
        key=one.key,
        content_type=one.content_type,
        description=one.description if one.description is not None else UNSET,
        at=at,
    )


def _checked(call: Call, **fields: Any) -> Upload:
    settings = call.app.settings
    return files.upload(**fields, policy=settings.secret_policy, max_bytes=settings.max_file_bytes)


async def _form(call: Call, workspace: str, most: int) -> list[Upload]:
    """The files of a multipart body. A `key` or `description` belongs to the file that comes before it, or to the
    first one where it comes ahead of any."""
    receiving.whole(call)
    found: list[tuple[dict[str, Any], Receipt]] = []
    ahead: dict[str, Any] = {}
    async with contextlib.AsyncExitStack() as stack:
        async for part in call.parts():
            if part.name == "file":
                if len(found) == most:
                    raise WrongShape([("/file", f"at most {most} files are allowed here")])
                receipt = Receipt(call, workspace, call.app.settings.max_file_bytes, part.headers)
                await stack.enter_async_context(receipt)
                found.append(({**ahead, **_named(part)}, receipt))
                await receipt.take(part.blocks())
                ahead = {}
            elif part.name in ("key", "description"):
                (found[-1][0] if found else ahead)[part.name] = await part.text()
        if not found:
            raise WrongShape([("/file", "is required: send the content as a part called `file`")])
        for fields, receipt in found:  # first all of them, so that none has its place where another is wrong
            if receipt.large:
                await call.offload(_from_form, call, fields, b"-")
        return [await call.offload(_from_form, call, fields, await receipt.keep()) for fields, receipt in found]


def _named(part: Part) -> dict[str, Any]:
    if not part.file_name:
        raise Invalid("the part `file` needs a file name in its Content-Disposition")
    named: dict[str, Any] = {"file_name": part.file_name}
    if part.content_type not in (None, "application/octet-stream"):
        named["content_type"] = part.content_type
    return named


def _from_form(call: Call, fields: dict[str, Any], content: bytes | Pointer) -> Upload:
    return _checked(call, **fields, content=content)


def from_fields(call: Call, fields: Mapping[str, str], content: bytes | Pointer) -> Upload:
    """The file whose fields were sent as texts, checked. Raises WrongShape, Invalid, SecretFound, TooLarge."""
    said = call.convert(dict(fields), FileFields)
    if said.file_name is None:
        raise WrongShape([("/file_name", "is required")])
    given = {name: value for name, value in common.given(said).items() if value is not None}
    return _checked(call, **given, content=content)


def _stored(call: Call, outcome: Outcome[list[Put]]) -> list[dict[str, Any]]:
    snapshot = outcome.snapshot
    call.app.store.catalog.put_blobs(
        (put.file.blob, put.size, put.sha256) for put in outcome.value if put.file.large is None
    )
    stats = call.app.store.history.file_stats(snapshot.workspace)
    return [
        _record(snapshot, put.file, (put.size, put.sha256), _just(stats.get(put.file.key), snapshot, outcome.commit))
        for put in outcome.value
    ]


def _just(stat: FileStat | None, snapshot: Snapshot, commit: CommitFacts | None) -> FileStat:
    if stat is not None:
        return stat
    when = commit.time if commit is not None else snapshot.updated_at
    return FileStat(1, when, when, snapshot.main.head or "")


async def _put(call: Call, uploads: list[Upload], most: int) -> tuple[Outcome[list[Put]], list[dict[str, Any]]]:
    precondition = call.precondition

    def operation(draft: Draft) -> list[Put]:
        return files.put(draft, uploads, precondition=precondition, batch_max=most)

    outcome = await common.change(call, "main", operation)
    return outcome, await call.offload(_stored, call, outcome)


async def stored(call: Call, workspace: str, one: Upload) -> str:
    """Stores a file, durably; the address of its record."""
    pending = call.app.store.apply(workspace, "main", lambda draft: files.put(draft, [one]), call.provenance)
    outcome = await call.settle(pending)
    await call.offload(_stored, call, outcome)
    return f"{API}/workspaces/{workspace}/files/{files.identity(workspace, one.key)}"


async def upload(call: Call) -> Reply:
    """Stores a file; the same key again replaces its content."""
    if call.body is not None:
        uploads = [await call.offload(_upload, call, call.body, "")]
    else:
        uploads = await _form(call, (await common.workspace(call)).id, 1)
    outcome, (data,) = await _put(call, uploads, 1)
    return Reply(data, status=201, etag=_etag(call, outcome.snapshot, outcome.value[0].file))


async def batch(call: Call) -> Reply:
    """Stores several files in one commit, all or none; answers in their order."""
    most = call.app.settings.max_batch_files
    if call.body is not None:
        body: UploadFiles = call.body
        if len(body.files) > most:
            raise WrongShape([("/files", f"must have 1 to {most} files, not {len(body.files)}")])
        uploads = [await call.offload(_upload, call, one, f"/files/{at}") for at, one in enumerate(body.files)]
    else:
        uploads = await _form(call, (await common.workspace(call)).id, most)
    _, rows = await _put(call, uploads, most)
    encoded = msgspec.json.encode(rows)
    return Reply(encoded, status=201, etag=values.etag(encoded))


async def put_content(call: Call) -> Reply:
    """Stores the body as the content of a file, a new one where there is none of this key."""
    found = await common.workspace(call)
    reference = call.params["file"]
    old = files.find(found.visible.context, found.id, reference)
    fields = {name: value for name, value in common.given(call.query).items() if value is not None}
    fields["key"] = old.key if old is not None else reference
    fields.setdefault("file_name", old.file_name if old is not None else reference)
    if call.media_type not in ("", media.DEFAULT):
        fields.setdefault("content_type", call.header("Content-Type") or "")
    elif old is not None and old.file_name == fields["file_name"]:
        fields.setdefault("content_type", old.content_type)
    await call.offload(from_fields, call, fields, b"-")
    async with Receipt(call, found.id, call.app.settings.max_file_bytes, call.headers) as receipt:
        await receipt.take(call.blocks())
        one = await call.offload(from_fields, call, fields, await receipt.keep())
        outcome, (data,) = await _put(call, [one], 1)
    return Reply(data, etag=_etag(call, outcome.snapshot, outcome.value[0].file))


async def delete(call: Call) -> Reply:
    """Deletes a file; its versions stay in history."""
    reference, precondition = call.params["file"], call.precondition
    await common.change(call, "main", lambda draft: files.delete(draft, reference, precondition=precondition))
    return Reply(status=204)


_ALL = f"{API}/workspaces/{{id}}/files"
_ONE = f"{_ALL}/{{file}}"
ROUTES = (
    Route("GET", _ALL, "agent", list_all, "List files", query=ListFiles, response=list[File], paged=True, tag="files"),
    Route("POST", _ALL, "admin", upload, "Store a file", body=UploadFile, uploads=_FORM, limit="upload",
          response=File, status=201, tag="files"),
    Route("POST", f"{_ALL}/batch", "admin", batch, "Store several files", body=UploadFiles, uploads=_FORM,
          limit="batch", response=list[File], status=201, tag="files"),
    Route("GET", _ONE, "agent", read, "Read a file's record", query=ReadAt, response=File, tag="files"),
    Route("GET", f"{_ONE}/content", "agent", content, "Read a file", query=ReadFile, media="*/*", tag="files"),
    Route("PUT", f"{_ONE}/content", "admin", put_content, "Store a file's content", query=WriteFile, uploads=("*/*",),
          limit="file", response=File, tag="files"),
    Route("DELETE", _ONE, "admin", delete, "Delete a file", status=204, tag="files"),
)  # fmt: skip
