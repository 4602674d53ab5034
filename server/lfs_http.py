"""Git LFS over HTTP, beside git: which objects are here, their bytes either way, and locks.

Protocol: git-lfs/docs/api (batch.md, basic-transfers.md, locking.md). Who may fetch may download, who may push may
upload and lock. An object is only ever one of the workspace that the address names: knowing its id gives nobody what
another workspace has.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from gitstore import content, errors, values
from gitstore.lfs import Objects, Pointer
from gitstore.lfs.locks import Lock, Locks
from gitstore.lfs.pointer import is_oid
from server import sending
from server.call import Call
from server.config import Settings
from server.http import RANK, Answer, Raw, Route, Stream
from server.pouring import Pour

MEDIA = "application/vnd.git-lfs+json"
_OBJECTS = 1000  # of one request
_PAGE = 100  # locks of one answer


class Wanted(msgspec.Struct):
    """An object that a client names."""

    oid: str
    size: int


class Ref(msgspec.Struct):
    """A ref that a client names; not looked at, for access is to the whole workspace."""

    name: str = ""


class Batch(msgspec.Struct):
    """What a client wants to download or upload."""

    operation: Literal["download", "upload"]
    objects: list[Wanted]
    transfers: tuple[str, ...] = ("basic",)
    hash_algo: str = "sha256"


class Locking(msgspec.Struct):
    """A path to be locked."""

    path: str


class Unlocking(msgspec.Struct):
    """Whether to end a lock of somebody else."""

    force: bool = False


class Listing(msgspec.Struct):
    """Which page of the locks."""

    cursor: str = ""
    limit: int = 0


class Door:
    """The handlers, with what they share."""

    def __init__(self, settings: Settings) -> None:
        self._push_rank = RANK[settings.git_push_scope]
        self._scope = settings.git_push_scope
        self._limit = settings.max_artifact_bytes

    async def batch(self, call: Call) -> Stream:
        """Says of each object where its bytes go or come from, or why not."""
        asked = await _body(call, Batch)
        if asked.hash_algo != "sha256":
            raise errors.Conflict("objects are known here by their SHA-256 only")
        if "basic" not in asked.transfers:
            raise errors.Invalid("this server knows the transfer `basic` only")
        if len(asked.objects) > _OBJECTS:
            raise errors.TooLarge(f"at most {_OBJECTS} objects at a time")
        if asked.operation == "upload":
            self._may_push(call)
        objects = await call.offload(call.app.store.objects, _name(call))
        found = await call.offload(self._found, call, objects, asked)
        return _json({"transfer": "basic", "objects": found, "hash_algo": "sha256"})

    def _found(self, call: Call, objects: Objects, asked: Batch) -> list[dict[str, Any]]:
        base = _base(call)
        # The client's own credentials, for the requests that follow: so it need not ask its user again.
        header = {"Authorization": said} if (said := call.header("Authorization")) is not None else {}
        rows: list[dict[str, Any]] = []
        for one in asked.objects:
            row: dict[str, Any] = {"oid": one.oid, "size": one.size}
            rows.append(row)
            if not is_oid(one.oid) or one.size < 0:
                row["error"] = {"code": 422, "message": "this is no SHA-256 with a size"}
                continue
            size = objects.size(one.oid)
            link = {"href": f"{base}/objects/{one.oid}", "header": header}
            if asked.operation == "download":
                if size is None:
                    row["error"] = {"code": 404, "message": "this workspace has no such object"}
                elif size != one.size:
                    row["error"] = {"code": 422, "message": f"the object has {size} bytes"}
                else:
                    row |= {"authenticated": True, "actions": {"download": link}}
            elif one.size > self._limit:
                row["error"] = {"code": 422, "message": f"{self._limit} bytes are allowed"}
            elif size is None or size != one.size:
                verify = {"href": f"{base}/verify", "header": header}
                row |= {"authenticated": True, "actions": {"upload": link, "verify": verify}}
            else:
                objects.touch(one.oid)  # it is about to be in use
        return rows

    async def download(self, call: Call) -> Raw:
        """The bytes of an object."""
        oid = _oid(call)
        return await call.offload(self._raw, call, oid)

    def _raw(self, call: Call, oid: str) -> Raw:
        objects = call.app.store.objects(_name(call))
        size = objects.size(oid)
        if size is None:
            raise errors.NotFound("this workspace has no such object")
        found = content.Content(objects, Pointer(oid, size), b"")
        return Raw(
            sending.body(call, found),
            "application/octet-stream",
            oid,
            disposition="attachment",
            size=size,
            sha256=oid,
            etag=oid,
        )

    async def upload(self, call: Call) -> Stream:
        """Takes an object in, if its bytes are what its name says."""
        oid, length = _oid(call), call.header("Content-Length")
        if length is None:
            raise errors.Invalid("an object needs a Content-Length: how many bytes it has is part of what is checked")
        if int(length) > self._limit:
            raise errors.TooLarge(f"an object of {length} bytes is too large: {self._limit} are allowed")
        store = call.app.store
        workspace = store.find(_name(call))  # another may have its name by the end
        objects = await call.offload(store.objects, workspace)
        sink = await call.carry(objects.receive, Pointer(oid, int(length)))
        pour = Pour(call, (sink.append, sink.hash), lambda: sink.sync)
        try:
            async with contextlib.aclosing(call.blocks()) as blocks:
                async for block in blocks:
                    await pour.put(block)
            await pour.end()
            await call.carry(lambda: sink.finish(store.objects(workspace)))
            await call.offload(store.received, workspace)
        finally:
            await pour.settle()
            await call.carry(sink.abort)
        return _json({})

    async def verify(self, call: Call) -> Stream:
        """Whether an object came as it was announced."""
        asked = await _body(call, Wanted)
        objects = await call.offload(call.app.store.objects, _name(call))
        if not is_oid(asked.oid) or not objects.has(asked.oid, asked.size):
            raise errors.NotFound("this workspace has no object with this id and size: upload it again")
        return _json({})

    # -- locks --------------------------------------------------------------------------------------------------------

    async def lock(self, call: Call) -> Stream:
        """Locks a path."""
        asked = await _body(call, Locking)
        if not 1 <= len(asked.path) <= 4096:
            raise errors.Invalid("the path of a lock has 1 to 4096 characters")
        locks = await _locks(call)
        try:
            made = await call.offload(locks.create, asked.path, call.actor.name, call.actor.id)
        except errors.Conflict as conflict:
            held = [lock for lock in locks.all() if lock.path == asked.path]
            more = {"lock": _shown(held[0])} if held else {}
            return _json({"message": conflict.message, **more}, status=409)
        return _json({"lock": _shown(made)}, status=201)

    async def locks(self, call: Call) -> Stream:
        """The locks, all or those that the query names."""
        asked = call.request.query
        every = await call.offload((await _locks(call)).all)
        path, identity = asked.get("path"), asked.get("id")
        wanted = [one for one in every if path in (None, one.path) and identity in (None, one.id)]
        limit = asked.get("limit", "")[:9]  # int() takes only so many digits
        page, cursor = _page(wanted, asked.get("cursor", ""), int(limit) if limit.isdecimal() else 0)
        return _json({"locks": [_shown(one) for one in page], **cursor})

    async def locks_to_verify(self, call: Call) -> Stream:
        """The locks of whoever asks, and those of others: what a client looks at before it pushes."""
        asked = await _body(call, Listing)
        every = await call.offload((await _locks(call)).all)
        page, cursor = _page(every, asked.cursor, asked.limit)
        mine = call.actor.id
        ours = [_shown(one) for one in page if one.holder == mine]
        return _json({"ours": ours, "theirs": [_shown(one) for one in page if one.holder != mine], **cursor})

    async def unlock(self, call: Call) -> Stream:
        """Ends a lock."""
        asked = await _body(call, Unlocking)
        locks = await _locks(call)
        try:
            gone = await call.offload(_unlock, locks, call.params["lock"], call.actor.id, asked.force)
        except errors.Conflict as conflict:
            raise errors.Forbidden(conflict.message) from None
        return _json({"lock": _shown(gone)})

    def _may_push(self, call: Call) -> None:
        assert call.grant is not None
        if RANK[call.grant.scope] < self._push_rank:
            raise errors.Forbidden(
                f"uploading and locking need a key of scope {self._scope} or stronger; yours is {call.grant.scope}"
            )


def routes(settings: Settings) -> tuple[Route, ...]:
    """These routes; `{name}` is a workspace's slug or id, with or without `.git`."""
    door = Door(settings)
    at = "/git/{name}/info/lfs"
    shared: dict[str, Any] = {"tag": "git", "basic": True, "plain": True, "hidden": True, "media": MEDIA}
    may_push = settings.git_push_scope
    return (
        Route("POST", f"{at}/objects/batch", "agent", _told(door.batch), "Objects, for Git LFS", **shared),
        Route("GET", f"{at}/objects/{{oid}}", "agent", _told(door.download), "Download an object", **shared),
        Route("PUT", f"{at}/objects/{{oid}}", may_push, _told(door.upload), "Upload an object", limit="none", **shared),
        Route("POST", f"{at}/verify", "agent", _told(door.verify), "Verify an upload", **shared),
        Route("GET", f"{at}/locks", "agent", _told(door.locks), "Locks, for Git LFS", **shared),
        Route("POST", f"{at}/locks", may_push, _told(door.lock), "Lock a path", **shared),
        Route("POST", f"{at}/locks/verify", may_push, _told(door.locks_to_verify), "Locks before a push", **shared),
        Route("POST", f"{at}/locks/{{lock}}/unlock", may_push, _told(door.unlock), "End a lock", **shared),
    )


def _told(handler: Callable[[Call], Awaitable[Answer]]) -> Callable[[Call], Awaitable[Answer]]:
    """The handler, whose failures are in the form in which a client of Git LFS shows them."""

    async def told(call: Call) -> Answer:
        try:
            return await handler(call)
        except (errors.Unauthorized, errors.Unavailable):
            raise  # with the headers that a client goes by
        except errors.GitstoreError as error:
            status = 422 if isinstance(error, errors.Invalid) else error.status_hint
            return _json({"message": error.message, "request_id": call.request_id}, status=status)

    return told


def _json(data: Any, *, status: int = 200) -> Stream:
    return Stream(msgspec.json.encode(data), MEDIA, status=status, headers=(("Cache-Control", "no-store"),))


async def _body(call: Call, kind: type[Any]) -> Any:
    """The body of a request. A browser of another origin cannot send these media types unasked."""
    if call.media_type not in (MEDIA, "application/json"):
        raise errors.UnsupportedType(f"the body must be {MEDIA}")
    try:
        return msgspec.json.decode(await call.content(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.Invalid(f"the request cannot be read: {error}") from None


def _name(call: Call) -> str:
    return call.params["name"].removesuffix(".git")


def _oid(call: Call) -> str:
    if not is_oid(call.params["oid"]):
        raise errors.Invalid("an object is named by its SHA-256: 64 hexadecimal digits in lower case")
    return call.params["oid"]


def _base(call: Call) -> str:
    """The address of these routes as the client reaches it: where the settings say, else where it said it is."""
    host = (call.app.settings.public_url or f"http://{call.header('Host') or ''}").rstrip("/")
    return f"{host}/git/{call.params['name']}/info/lfs"


async def _locks(call: Call) -> Locks:
    return await call.offload(call.app.store.locks, _name(call))


def _unlock(locks: Locks, identity: str, holder: str, force: bool) -> Lock:
    return locks.delete(identity, holder, force=force)


def _shown(lock: Lock) -> dict[str, Any]:
    when = values.iso(lock.locked_at)
    return {"id": lock.id, "path": lock.path, "locked_at": when, "owner": {"name": lock.owner}}


def _page(locks: list[Lock], cursor: str, limit: int) -> tuple[list[Lock], dict[str, str]]:
    """One page and, if there is more, where the next one begins."""
    start = next((at for at, lock in enumerate(locks) if lock.id == cursor), 0)
    end = start + min(max(limit, 0) or _PAGE, _PAGE)
    return locks[start:end], {"next_cursor": locks[end].id} if end < len(locks) else {}
