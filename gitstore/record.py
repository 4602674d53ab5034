"""The answers that a context gives, as JSON bytes: the workspace record, one memory entry, one file.

Pieces that never change between two versions of a workspace are encoded once and joined; nothing is decoded here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from gitstore import names, values
from gitstore.context import Context, MemoryEntry, StoredFile
from gitstore.model import MEMORY_MAX_BYTES, SECRET_PLACEHOLDER, TENANT_ID, Problem, Touch

_CREDENTIALS: Final = b'"credentials":{"git_token":"%b","git_token_configured":true}' % SECRET_PLACEHOLDER.encode()
_TENANT: Final = b',"tenant_id":"%b"' % TENANT_ID.encode()
_MAXIMUM: Final = b',"memory_max_bytes":%d' % MEMORY_MAX_BYTES
_BOOLEANS: Final = (b"false", b"true")


def render(
    context: Context,
    *,
    head: str | None,
    created_at: int,
    updated_at: int,
    spec_version: int,
    secret_configured: bool,
    webhook_secret_configured: bool,
    problems: Sequence[Problem] | None = None,
    summary: Mapping[str, Any] | None = None,
) -> bytes:
    """The workspace record as compact JSON, its fields in their documented order.

    `head` is the commit of `main` it reflects; times are in ms. `problems` stands in for the context's own where there
    are others to tell; `summary` is appended (the rows of a list have one). The token itself is never part of it.
    """
    fields = context.fields
    encode = values.encode
    told = context.problems if problems is None else problems
    parts = [
        b'{"id":',
        encode(fields.id),
        _TENANT,
        b',"name":',
        encode(fields.name),
        b',"slug":',
        encode(fields.slug),
        b',"description":',
        encode(fields.description),
        b',"repository_url":',
        encode(fields.repository_url),
        b',"memory_size_bytes":%d' % context.memory_size,
        _MAXIMUM,
        b',"is_active":',
        _BOOLEANS[fields.is_active],
        b',"created_at":"%b","updated_at":"%b"' % (values.iso(created_at).encode(), values.iso(updated_at).encode()),
        b',"current_spec_version":%d' % spec_version,
        b',"git_webhook_provider":',
        encode(fields.git_webhook_provider),
        b',"git_webhook_secret_configured":',
        _BOOLEANS[webhook_secret_configured],
        b',"settings":',
        settings(context.settings_around, secret_configured),
        b',"memory":',
        context.memory_json(),
        b',"head":',
        encode(head),
        b',"problems":',
        msgspec.json.encode([problem_record(problem) for problem in told]) if told else b"[]",
    ]
    if summary is not None:
        parts += (b',"summary":', encode(summary))
    parts.append(b"}")
    return b"".join(parts)


def settings(around: tuple[bytes, bytes], configured: bool) -> bytes:
    """The settings object as it is shown: the members around the place of `credentials`, and that block if any."""
    before, after = around
    return b"{" + b",".join([part for part in (before, _CREDENTIALS if configured else b"", after) if part]) + b"}"


def etag(head: str | None, sealed_generation: int, problems: Sequence[Problem] = ()) -> str:
    """The ETag of the workspace record: of the commit it reflects, the sealed secrets' generation, and the problems."""
    told = ",".join(f"{problem.id}@{problem.since}:{problem.message}" for problem in problems)
    return values.etag(f"workspace\0{head}\0{sealed_generation}\0{told}".encode())


def render_memory_entry(entry: MemoryEntry, touch: Touch | None) -> bytes:
    """`{key, value, commit, updated_at, actor}` as compact JSON; `touch` is what last changed the entry's file."""
    told = (
        {"commit": None, "updated_at": None, "actor": None}
        if touch is None
        else {"commit": touch.commit, "updated_at": values.iso(touch.time), "actor": touch.actor}
    )
    return b'{"key":%b,"value":%b,%b' % (values.encode(entry.key), entry.value_json, msgspec.json.encode(told)[1:])


def file_record(
    stored: StoredFile,
    *,
    workspace: str,
    size: int,
    sha256: str,
    created_at: int,
    updated_at: int,
    version: int,
    prefix: str = "/api/v1",
) -> dict[str, Any]:
    """The record of one file. `size` is in bytes, `version` counts the changes of this key along `main`, from 1."""
    identity = names.derive_id(workspace, stored.key)
    return {
        "id": identity,
        "workspace_id": workspace,
        "key": stored.key,
        "description": stored.description,
        "file_name": stored.file_name,
        "content_type": stored.content_type,
        "size_bytes": size,
        "checksum_sha256": sha256,
        "created_at": values.iso(created_at),
        "updated_at": values.iso(updated_at),
        "version": version,
        "download_url": f"{prefix}/workspaces/{workspace}/files/{identity}/content",
    }


def problem_record(problem: Problem) -> dict[str, Any]:
    """A problem as it is shown; `values` only where there are two to choose from."""
    shown = msgspec.structs.asdict(problem)
    ordered = ("id", "kind", "path", "key", "line", "column", "code", "message", "hint", "since")
    record = {name: shown[name] for name in ordered}
    if problem.values is not None:
        record["values"] = problem.values
    return record
