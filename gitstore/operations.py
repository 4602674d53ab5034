"""What a change set is made of: operations on one draft, each a call of the operation that a route of its own has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET

from gitstore import files, memory, record, rules, settings, spec, values, workspaces
from gitstore.files import Upload
from gitstore.precondition import NONE, Precondition

if TYPE_CHECKING:
    from gitstore.changes import Draft

Part = Literal["memory", "file", "spec", "workspace"]


class Operation(msgspec.Struct, frozen=True):
    """One operation: `run` does it and says whether anything is different.

    `part` and `key` name the resource whose ETag it has: one memory key, one file (by its key or id), the spec or the
    workspace. `precondition` is held against that resource as it was before the change set. `inside`: the member of the
    request to which the pointers of its errors are relative.
    """

    op: str
    part: Part
    run: Callable[[Draft], bool]
    key: str = ""
    precondition: Precondition = NONE
    inside: str = ""
    value: Any = UNSET


def set_memory(key: str, value: Any, precondition: Precondition = NONE) -> Operation:
    """Sets one key of the memory."""

    def run(draft: Draft) -> bool:
        return bool(memory.set(draft, {key: value}))

    return Operation("memory.set", "memory", run, key, precondition, value=value)


def together(operations: Sequence[Operation]) -> int:
    """How many of the first operations set keys of the memory, each another one: `set_together` does them at once."""
    keys: set[str] = set()
    for operation in operations:
        if operation.value is UNSET or operation.key in keys:
            break
        keys.add(operation.key)
    return len(keys)


def set_together(draft: Draft, operations: Sequence[Operation]) -> list[bool]:
    """Sets the keys; of each whether it is different. What it raises does not say which of them was wrong."""
    changed = set(memory.set(draft, {operation.key: operation.value for operation in operations}))
    return [operation.key in changed for operation in operations]


def delete_memory(key: str, precondition: Precondition = NONE) -> Operation:
    """Deletes one key of the memory; one that is not there is no error."""
    return Operation("memory.delete", "memory", lambda draft: memory.delete(draft, key), key, precondition)


def put_spec(value: Mapping[str, Any], precondition: Precondition = NONE) -> Operation:
    """Replaces the whole spec."""
    return Operation("spec.put", "spec", lambda draft: spec.put(draft, value), "", precondition, "/value")


def patch_spec(patch: Mapping[str, Any], precondition: Precondition = NONE) -> Operation:
    """Merges a patch into the spec."""

    def run(draft: Draft) -> bool:
        return spec.put(draft, rules.mapping(merge_patch(dict(draft.context.spec), patch), ""))

    return Operation("spec.patch", "spec", run, "", precondition, "/value")


def put_file(upload: Upload, precondition: Precondition = NONE) -> Operation:
    """Stores a file; `upload` comes from `files.upload`."""

    def run(draft: Draft) -> bool:
        return any(put.changed for put in files.put(draft, [upload]))

    return Operation("file.put", "file", run, upload.key, precondition)


def delete_file(reference: str, precondition: Precondition = NONE) -> Operation:
    """Deletes the file with this key or id."""

    def run(draft: Draft) -> bool:
        files.delete(draft, reference)
        return True

    return Operation("file.delete", "file", run, reference, precondition)


def patch_settings(patch: Mapping[str, Any], precondition: Precondition = NONE) -> Operation:
    """Merges a patch into the settings. `credentials` is taken as it stands, as in settings that are sent whole: left
    out, or with the placeholder, it keeps the token; null clears it.
    """

    def run(draft: Draft) -> bool:
        shown = record.settings(draft.context.settings_around, settings.GIT_TOKEN in draft.sealed)
        merged = merge_patch(values.decode(shown), patch)
        if "credentials" in patch:
            merged["credentials"] = {"git_token": None} if patch["credentials"] is None else patch["credentials"]
        changed = settings.replace(draft, merged, repository_url=draft.context.fields.repository_url, at="")
        if changed:
            draft.describe("settings.updated", "settings: update")
        return changed

    return Operation("settings.patch", "workspace", run, "", precondition, "/value")


def patch_workspace(fields: Mapping[str, Any], precondition: Precondition = NONE) -> Operation:
    """Changes the fields of the workspace that are named."""
    return Operation(
        "workspace.patch", "workspace", lambda draft: bool(workspaces.update(draft, fields)), "", precondition, "/value"
    )


def merge_patch(target: Any, patch: Any) -> Any:
    """The value with a JSON merge patch applied (RFC 7396, section 2); neither is changed."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged
