"""Zip archives of artifacts and files, made while they are sent."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from gitstore import content as contents
from gitstore import explorer, names
from gitstore.archive import Entry, zipped
from gitstore.changes import Workspace
from gitstore.errors import TooLarge
from gitstore.explorer import ExplorerPage, ExplorerQuery
from gitstore.model import Artifact
from gitstore.past import Then
from gitstore.snapshot import Snapshot
from server import sending
from server.call import Call
from server.content import SAFETY, disposition
from server.http import API, Answer, Route, Stream
from server.routes import common, files
from server.shapes.archives import ArchiveArtifacts, ArchiveChosen, ArchiveFiles
from server.shapes.artifacts import ListTaskArtifacts

_ZIP = "application/zip"


def _bounded(call: Call, count: int, size: int) -> None:
    """Raises TooLarge where an archive would have too many entries or bytes; asked before anything is sent."""
    settings = call.app.settings
    for found, most, what in (
        (count, settings.max_archive_entries, "entries"),
        (size, settings.max_archive_bytes, "bytes"),
    ):
        if found > most:
            raise TooLarge(
                f"the archive would have {found} {what}; {most} are allowed: choose fewer", details={"limit": most}
            )


def _packed(call: Call, entries: Sequence[Entry], name: str, at: str | None = None) -> Stream:
    _bounded(call, len(entries), sum(entry.size for entry in entries))
    headers = [("Content-Disposition", disposition("attachment", f"{name}.zip")), *SAFETY]
    if at is not None:
        headers.append(("Gitstore-At", at))
    return Stream(sending.pieces(call, zipped(entries)), _ZIP, headers=tuple(headers))


def _entries(found: Workspace, artifacts: Sequence[Artifact]) -> list[Entry]:
    snapshot = found.visible
    return [
        Entry(one.path, one.created_at, one.size, lambda one=one: contents.of(snapshot, one).chunks())  # type: ignore[misc]
        for one in artifacts
    ]


# --- artifacts ------------------------------------------------------------------------------------------------------


def _chosen(call: Call, found: Workspace, ids: Sequence[str], at: str | None) -> Stream:
    _bounded(call, len(ids), 0)
    unique = list(dict.fromkeys(one.strip().lower() for one in ids))
    if at is None:
        artifacts, commit = [call.app.work.artifact(found.id, one) for one in unique], None
    else:
        moment = call.app.past.moment(found, at)
        artifacts = [call.app.evidence.artifact(found, moment, one) for one in unique]
        commit = moment.evidence
    return _packed(call, _entries(found, artifacts), found.visible.context.fields.slug, commit)


def _explored(call: Call, found: Workspace, query: ExplorerQuery, at: str | None) -> ExplorerPage:
    now = int(time.time() * 1000)
    if at is None:
        return call.app.explorer.explore(found.id, query, now)
    return call.app.evidence.explore(found, call.app.past.moment(found, at), query, now)


def _filtered(call: Call, found: Workspace, query: ExplorerQuery, at: str | None) -> Stream:
    first = _explored(call, found, msgspec.structs.replace(query, page=1, per_page=1), at)
    _bounded(call, first.total, first.summary["total_bytes"])
    rows: list[str] = []
    if first.total:
        whole = _explored(call, found, msgspec.structs.replace(query, page=1, per_page=first.total), at)
        rows = [row["id"] for row in whole.rows]
    return _chosen(call, found, rows, at)


async def of_artifacts(call: Call) -> Answer:
    """The artifacts that the explorer finds with these filters, or those with these ids, as a zip archive."""
    asked: ArchiveArtifacts = call.query
    found = await common.workspace(call)
    if asked.ids is not None:
        return await call.offload(_chosen, call, found, asked.ids.split(","), asked.at)
    texts = {
        name: str(value)
        for name, value in common.given(asked).items()
        if value is not None and name not in ("page", "per_page", "ids")
    }
    return await call.offload(_filtered, call, found, explorer.parse_query(texts), asked.at)


async def of_chosen(call: Call) -> Answer:
    """The artifacts with these ids as a zip archive."""
    body: ArchiveChosen = call.body
    return await call.offload(_chosen, call, await common.workspace(call), body.ids, body.at)


def _of_task(call: Call) -> Stream:
    query: ListTaskArtifacts = call.query
    workspace, task = call.app.work.task(call.params["id"])
    artifacts = call.app.work.task_artifacts(workspace, task.id, query.prefix or "")
    return _packed(
        call, _entries(call.app.store.load(workspace), artifacts), names.one_line(task.title or task.id, 100)
    )


async def of_task(call: Call) -> Answer:
    """A task's artifacts as a zip archive."""
    return await call.offload(_of_task, call)


# --- files ----------------------------------------------------------------------------------------------------------


def _of_files(call: Call, snapshot: Snapshot, then: Then | None) -> Stream:
    entries = []
    held = snapshot.context.files.values()
    stats = files.stats(call, snapshot, then, held)
    for stored in sorted(held, key=lambda one: one.path):
        stat = stats.get(stored.key)
        content = contents.of(snapshot, stored)
        when = stat.created_at if stat is not None else snapshot.updated_at
        path = stored.path.removeprefix("files/")
        if stored.file_name != path.rpartition("/")[2]:
            path = f"{path.rpartition('/')[0]}/{stored.file_name}"
        entries.append(Entry(path, when, content.size, lambda one=stored: contents.of(snapshot, one).chunks()))  # type: ignore[misc]
    at = then.moment.main if then is not None else None
    return _packed(call, entries, snapshot.context.fields.slug, at)


async def of_files(call: Call) -> Answer:
    """All files as a zip archive. A file with the key `archive` is meant, unless Accept names `application/zip`."""
    snapshot, then = await common.state(call, "files")
    if "archive" in snapshot.context.files and _ZIP not in (call.header("Accept") or ""):
        call.params = {**call.params, "file": "archive"}
        return await files.read(call)
    return await call.offload(_of_files, call, snapshot, then)


_ARTIFACTS = f"{API}/workspaces/{{id}}/artifacts/archive"
ROUTES = (
    Route("GET", _ARTIFACTS, "agent", of_artifacts, "Download artifacts", query=ArchiveArtifacts, media=_ZIP,
          tag="artifacts"),
    Route("POST", _ARTIFACTS, "agent", of_chosen, "Download chosen artifacts", body=ArchiveChosen, media=_ZIP,
          tag="artifacts"),
    Route("GET", f"{API}/tasks/{{id}}/artifacts/archive", "agent", of_task, "Download a task's artifacts",
          query=ListTaskArtifacts, media=_ZIP, tag="artifacts"),
    Route("GET", f"{API}/workspaces/{{id}}/files/archive", "agent", of_files, "Download the files", query=ArchiveFiles,
          media=_ZIP, tag="files"),
)  # fmt: skip
