"""What differs between two moments of a workspace, as JSON or as a patch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeVar

import msgspec

from gitstore import diff
from gitstore.changes import Workspace
from gitstore.diff import FileDiff, FileName
from gitstore.model import Branch
from gitstore.past import Moment
from gitstore.reading import shown
from gitstore.repository.objects import Oid
from gitstore.repository.trees import TreeView
from server.call import Call
from server.http import API, Answer, Page, Reply, Route, Stream
from server.routes import common
from server.shapes import history as shapes
from server.shapes.history import ReadDiff

_PIECE = 64 << 10  # characters of a patch that are made at once


def _tree(found: Workspace, moment: Moment, branch: Branch) -> TreeView:
    commit = moment.main if branch == "main" else moment.evidence
    return found.repository.tree(Oid(bytes.fromhex(commit)) if commit is not None else None)


File = TypeVar("File", FileName, FileDiff)


def legible(file: File) -> File:
    """The same with names that JSON can hold."""
    if file.path.isascii() and (not file.old_path or file.old_path.isascii()):
        return file
    old = shown(file.old_path) if file.old_path else file.old_path
    return msgspec.structs.replace(file, path=shown(file.path), old_path=old)


def _wants_patch(call: Call) -> bool:
    kinds = (call.header("Accept") or "").split(",")
    return any(kind.split(";")[0].strip().lower() == diff.MEDIA_TYPE for kind in kinds)


def _moments(call: Call, found: Workspace) -> tuple[Moment, Moment]:
    query: ReadDiff = call.query
    past = call.app.past
    return past.moment(found, query.from_), past.moment(found, query.to)


def _files(call: Call, found: Workspace) -> Reply:
    query: ReadDiff = call.query
    from_, to = _moments(call, found)
    before, after = (_tree(found, one, query.branch) for one in (from_, to))
    start = (query.page - 1) * query.per_page
    compare = call.app.compared.names if query.name_status else call.app.compared.some
    some = compare(before, after, query.branch, prefix=query.path or "", start=start, most=query.per_page)
    data: dict[str, Any] = {
        "from": from_.shown(),
        "to": to.shown(),
        "branch": query.branch,
        "files": [legible(file) for file in some.files],
    }
    return Reply(msgspec.json.encode(data), page=Page(query.page, query.per_page, some.total))


def _patch(call: Call, found: Workspace) -> Iterator[str]:
    query: ReadDiff = call.query
    before, after = (_tree(found, one, query.branch) for one in _moments(call, found))
    return diff.unified(before, after, prefix=query.path or "")


async def read(call: Call) -> Answer:
    """The files that differ, and what differs in them."""
    found = await common.workspace(call)
    if not _wants_patch(call):
        return await call.offload(_files, call, found)
    patch = await call.offload(_patch, call, found)
    first = await call.offload(_piece, patch)
    return Stream(_pieces(call, first, patch), f"{diff.MEDIA_TYPE}; charset=utf-8", headers=_SAFE)


async def _pieces(call: Call, first: bytes, patch: Iterator[str]) -> AsyncIterator[bytes]:
    piece = first
    while piece:
        yield piece
        piece = await call.offload(_piece, patch)


def _piece(patch: Iterator[str]) -> bytes:
    texts: list[str] = []
    room = _PIECE
    for text in patch:
        texts.append(text)
        room -= len(text)
        if room <= 0:
            break
    return "".join(texts).encode()


_SAFE = (("X-Content-Type-Options", "nosniff"), ("Cache-Control", "private, no-cache"), ("Vary", "Accept"))
ROUTES = (
    Route("GET", f"{API}/workspaces/{{id}}/diff", "agent", read, "Compare two moments", query=ReadDiff,
          response=shapes.Diff, also=diff.MEDIA_TYPE, paged=True, tag="history"),
)  # fmt: skip
