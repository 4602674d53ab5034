"""Change sets: several operations in one commit, all or none."""

from __future__ import annotations

import hashlib
from typing import assert_never

import msgspec
from msgspec import UNSET

from gitstore import changeset, files, operations, precondition, values
from gitstore.changes import Workspace
from gitstore.changeset import Changed
from gitstore.errors import Forbidden, WrongShape
from gitstore.operations import Operation
from gitstore.pending import Pending
from gitstore.precondition import NONE, Precondition
from server.call import Call
from server.http import API, RANK, Reply, Route
from server.routes import common
from server.shapes import changes as shapes
from server.shapes.changes import ChangeSet


def _precondition(one: shapes.Operation) -> Precondition:
    match = one.if_match
    if match is None and one.if_none_match is None:
        return NONE
    if match is not None and match != "*" and not match.startswith(('"', "W/")):
        match = f'"{match}"'
    return precondition.parse(match, one.if_none_match)


def _upload(call: Call, one: shapes.PutFile, at: str) -> files.Upload:
    settings = call.app.settings
    if one.content is not UNSET:
        content = one.content.encode()
    else:
        assert one.content_base64 is not UNSET
        content = files.decode_base64(one.content_base64, f"{at}/content_base64")
    return files.upload(
        file_name=one.file_name,
        content=content,
        key=one.key,
        content_type=one.content_type,
        description=one.description if one.description is not None else UNSET,
        policy=settings.secret_policy,
        max_bytes=settings.max_file_bytes,
        at=at,
    )


def _operations(call: Call, body: ChangeSet) -> list[Operation]:
    made = []
    for at, one in enumerate(body.operations):
        with changeset.placed(at, str(one.__struct_config__.tag)):
            made.append(_operation(call, one, f"/operations/{at}"))
    return made


def _operation(call: Call, one: shapes.AnyOperation, at: str) -> Operation:
    held = _precondition(one)
    match one:
        case shapes.SetKey():
            return operations.set_memory(one.key, one.value, held)
        case shapes.DeleteKey():
            return operations.delete_memory(one.key, held)
        case shapes.ReplaceSpec():
            return operations.put_spec(common.given(one.value), held)
        case shapes.PatchSpec():
            return operations.patch_spec(one.value, held)
        case shapes.PutFile():
            return operations.put_file(_upload(call, one, at), held)
        case shapes.DeleteFile():
            return operations.delete_file(one.key, held)
        case shapes.PatchSettings():
            return operations.patch_settings(one.value, held)
        case shapes.PatchWorkspace():
            return operations.patch_workspace(common.given(one.value), held)
        case _:
            assert_never(one)


def _allowed(call: Call, body: ChangeSet) -> None:
    """Memory is for every scope; the rest is for admins, and files are counted as in a batch."""
    grant = call.grant
    for at, one in enumerate(body.operations):
        if not isinstance(one, shapes.SetKey | shapes.DeleteKey) and (
            grant is None or RANK[grant.scope] < RANK["admin"]
        ):
            raise Forbidden(
                f"/operations/{at}: the key's scope allows memory.set and memory.delete; this needs the scope admin",
                details={"pointer": f"/operations/{at}"},
            )
    most = call.app.settings.max_batch_files
    stored = [at for at, one in enumerate(body.operations) if isinstance(one, shapes.PutFile)]
    if len(stored) > most:
        raise WrongShape([(f"/operations/{stored[most]}", f"at most {most} files can be stored at once")])


def _submit(call: Call, found: Workspace) -> Pending[Changed]:
    body: ChangeSet = call.body
    asked = msgspec.to_builtins(body)
    asked.pop("request_id")
    wanted = changeset.ChangeSet(
        body.message,
        _operations(call, body),
        body.expect_head,
        call.precondition,
        body.request_id,
        hashlib.sha256(values.encode(asked)).hexdigest(),
    )
    return changeset.submit(call.app.store, found.id, wanted, call.provenance)


async def submit(call: Call) -> Reply:
    """Makes all the changes in one commit, or none of them; says of each what became of it."""
    _allowed(call, call.body)
    found = await common.workspace(call)
    done = await call.settle(await call.offload(_submit, call, found))
    data = {"head": done.head, "commit": done.commit, "results": msgspec.to_builtins(done.results)}
    return Reply(data, meta={"repeated": True} if done.repeated else None)


ROUTES = (
    Route("POST", f"{API}/workspaces/{{id}}/changes", "agent", submit, "Make several changes at once", body=ChangeSet,
          limit="batch", response=shapes.Changed, tag="changes"),
)  # fmt: skip
