"""Memory: one file a key. Writers of different keys never touch the same file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gitstore import names, parsed, record, rules, schemas, values
from gitstore.context import Context, MemoryEntry
from gitstore.errors import Invalid
from gitstore.model import MEMORY_MAX_BYTES
from gitstore.precondition import NONE, Precondition
from gitstore.repository.objects import Blob

if TYPE_CHECKING:
    from gitstore.changes import Draft


def set(
    draft: Draft, updates: Mapping[str, Any], *, precondition: Precondition = NONE, key_etag: bool = False
) -> list[str]:
    """Sets each key to its value, all or nothing; returns the keys whose value changed.

    `precondition` is held against the entry of the one key if `key_etag`, else against the whole memory object.
    Raises PreconditionFailed; Invalid for a key that is empty or too long, and for a memory that would grow past
    1,048,576 bytes (`details`: memory_size_bytes, memory_max_bytes, key); SecretFound; Malformed for what is not JSON.
    """
    if precondition != NONE:
        if key_etag:
            (key,) = updates
            precondition.check(entry_etag(draft, key))
        else:
            precondition.check(etag(draft.context))
    changed = write(draft, updates)
    if changed:
        what = changed[0] if len(changed) == 1 else f"{len(changed)} keys"
        draft.describe("memory.updated", names.one_line(f"memory: set {what}"))
    return changed


def delete(draft: Draft, key: str, *, precondition: Precondition = NONE) -> bool:
    """Removes a key; False where there is none, which changes nothing. Raises PreconditionFailed."""
    if precondition != NONE:
        precondition.check(entry_etag(draft, key))
    entry = draft.context.memory.get(key)
    if entry is None:
        return False
    draft.remove(entry.path)
    draft.describe("memory.deleted", names.one_line(f"memory: delete {key}"))
    return True


def etag(context: Context) -> str:
    """The ETag of the memory object, from its content alone."""
    return values.etag(context.memory_json())


def entry_etag(draft: Draft, key: str) -> str | None:
    """The ETag of one key's entry as a GET of it shows it; None where there is no such key."""
    entry = draft.context.memory.get(key)
    return None if entry is None else values.etag(record.render_memory_entry(entry, draft.last_touch(entry.path)))


def write(draft: Draft, updates: Mapping[str, Any]) -> list[str]:
    """`set` without precondition and without naming the commit, for changes that do more than this."""
    context = draft.context
    size, count = context.memory_size, len(context.memory)
    changed: list[str] = []
    largest = (0, "")
    for key, value in updates.items():
        rules.memory_key(key)
        values.check(key)
        values.check(value)
        value_json = values.encode(value)
        old = context.memory.get(key)
        if old is not None and old.value_json == value_json and _sound(draft, old):
            continue
        rules.no_secret({key: value}, "memory", context.policy)
        item = len(values.encode(key)) + 1 + len(value_json)
        largest = max(largest, (item, key))
        if old is not None:
            size += item - len(old.item)
        else:
            size += item + (count > 0)
            count += 1
        changed.append(key)
    # A memory that a person made too large may still be made smaller.
    if size > MEMORY_MAX_BYTES and size > context.memory_size:
        raise Invalid(
            f"the memory would have {size} bytes as JSON; {MEMORY_MAX_BYTES} are allowed. "
            "Shorten the value, or delete keys that are no longer needed",
            details={"memory_size_bytes": size, "memory_max_bytes": MEMORY_MAX_BYTES, "key": largest[1]},
        )
    taken = dict(context.memory_names)
    for key in changed:
        _write(draft, key, updates[key], taken)
    return changed


def _write(draft: Draft, key: str, value: Any, taken: dict[str, str]) -> None:
    context = draft.context
    old = context.memory.get(key)
    path = old.path if old is not None else f"memory/{_file_name(key, taken)}"
    name = path.removeprefix("memory/")
    taken[names.fold(name)] = path
    document = {"key": key, "value": value} if names.memory_key(name) is None else value
    head = old.head if old is not None else schemas.head(draft, path)
    if head is not None and not context.faults.get("memory"):
        data, head = parsed.written(document, head)
    else:
        data = parsed.rewritten(draft.read(path), document, head or b"")
        head = parsed.head(data, document)
    blob = Blob(data)
    parsed.remember(blob.id.hex(), document, values.encode(document), head=head, checked=context.policy == "refuse")
    draft.write(path, blob)


def _file_name(key: str, taken: Mapping[str, str]) -> str:
    """The file for a new key: the plain one, unless another key holds it or one that differs only in case."""
    plain = names.memory_file(key)
    if taken.get(names.fold(plain)) in (None, f"memory/{plain}"):
        return plain  # free, or a file that cannot be read and is now mended
    return names.memory_file(key, taken)


def _sound(draft: Draft, entry: MemoryEntry) -> bool:
    """Whether the entry is what its file says, and not what it said before somebody broke the file."""
    return not draft.context.faults.get("memory") or draft.blob(entry.path) == entry.blob
