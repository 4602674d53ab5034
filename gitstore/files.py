"""Files: bytes under a key. The key is the identity: the same one again replaces the content, history keeps the old.

What a file's name says (key, content type) is not written down; only what it does not say goes into
`<file>.meta.yaml` beside it.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from gitstore import credentials, documents, media, names, parsed, rules, schemas, values
from gitstore.context import Context, StoredFile
from gitstore.errors import Conflict, Invalid, NotFound, TooLarge, WrongShape
from gitstore.lfs import Pointer, attributes
from gitstore.lfs.pointer import decode
from gitstore.model import Kind, Touch
from gitstore.parsed import text_secrets
from gitstore.precondition import NONE, Precondition
from gitstore.repository.objects import Blob
from gitstore.rules import Policy

if TYPE_CHECKING:
    from gitstore.changes import Draft

FILE_MAX_BYTES: Final = 10 * 1024 * 1024
BATCH_MAX: Final = 10

_WHITESPACE: Final = b" \t\r\n\x0b\x0c"


class Upload(msgspec.Struct, frozen=True):
    """One file to be stored, checked and hashed. Made by `upload`, which needs no lock.

    `large`: the content is this large object, and `content` its pointer.
    """

    key: str
    file_name: str
    content: Blob
    size: int
    sha256: str
    content_type: str
    description: str | UnsetType | None = UNSET
    large: Pointer | None = None


class Put(NamedTuple):
    """What became of one upload: the file as it is stored now, and what the record needs besides."""

    file: StoredFile
    size: int
    sha256: str
    created: bool
    changed: bool


def upload(
    *,
    file_name: str,
    content: bytes | Pointer,
    key: str | None = None,
    content_type: str | None = None,
    description: str | UnsetType | None = UNSET,
    policy: Policy = "refuse",
    max_bytes: int = FILE_MAX_BYTES,
    at: str = "",
) -> Upload:
    """Checks everything about a file that does not depend on the workspace.

    `file_name` is reduced to its last `/` segment; no `key` is derived from it; no `content_type` is guessed from it.
    `content` may be a large object that the workspace has received already (Objects.receive).
    `at` is the JSON pointer of the file in the request. Raises Invalid, SecretFound, and TooLarge over `max_bytes`.
    """
    name = names.check_file_name(file_name)
    size = content.size if isinstance(content, Pointer) else len(content)
    if not size:
        raise rules.fault(f"{at}/content_base64", "must not be empty")
    if size > max_bytes:
        raise TooLarge(f"the file {name} has {size} bytes; {max_bytes} are allowed", details={"max_bytes": max_bytes})
    known = rules.file_key(key, f"{at}/key") if key is not None else names.file_key(name)
    kind = media.check(content_type, f"{at}/content_type") if content_type is not None else media.guess(name)
    if isinstance(description, str):
        rules.text(description, f"{at}/description", high=rules.DESCRIPTION_MAX)
    said = {"file_name": name, "key": known, "description": None if description is UNSET else description}
    values.check(said)
    rules.no_secret(said, f"file {name}", policy)
    if isinstance(content, Pointer):
        return Upload(known, name, Blob(content.encode()), size, content.oid, kind, description, content)
    blob = Blob(content)
    if policy == "refuse":
        credentials.refuse(text_secrets(blob.id.hex(), content), f"file {name}")
    return Upload(known, name, blob, size, sha256(content).hexdigest(), kind, description)


def decode_base64(text: str, at: str = "/content_base64") -> bytes:
    """The bytes behind strict base 64 (RFC 4648, section 4): its alphabet, full padding, no stray bits.

    White space is allowed anywhere. Raises Invalid for anything else; empty text gives no bytes.
    """
    try:
        packed = text.encode("ascii").translate(None, _WHITESPACE)
        data = binascii.a2b_base64(packed, strict_mode=True)
    except (UnicodeEncodeError, binascii.Error):
        raise rules.fault(at, "is not base 64 as RFC 4648 has it (A-Z a-z 0-9 + / and = padding)") from None
    if binascii.b2a_base64(data[len(data) // 3 * 3 :], newline=False) != packed[len(data) // 3 * 4 :]:
        raise rules.fault(at, "is not base 64 as RFC 4648 has it: the padding is wrong")
    return data


def put(
    draft: Draft,
    uploads: Sequence[Upload],
    *,
    precondition: Precondition = NONE,
    batch_max: int = BATCH_MAX,
) -> list[Put]:
    """Stores one file or several, all or nothing, in one change; the answers are in the order of `uploads`.

    A key that exists gets the new content, name and type, and keeps its description unless one is given.
    Raises PreconditionFailed (held against the entry of each key), Invalid where two uploads have one key, WrongShape
    for no upload or more than `batch_max`, Conflict where something that cannot be read is in the way.
    """
    if not 1 <= len(uploads) <= batch_max:
        raise WrongShape([("/files", f"must have 1 to {batch_max} files, not {len(uploads)}")])
    first: dict[str, Upload] = {}
    for one in uploads:
        if (other := first.setdefault(one.key, one)) is not one:
            raise Invalid(
                f"{other.file_name} and {one.file_name} would both have the key {one.key}; give one another `key`"
            )
        if precondition != NONE:
            precondition.check(entry_etag(draft, one.key))
    taken = _taken(draft.context)
    results = [_put(draft, one, taken) for one in uploads]
    changed = [result for result in results if result.changed]
    if changed:
        added = [result for result in changed if result.created]
        kind: Kind = "file.replaced" if not added else "file.added" if len(added) == len(changed) else "changes"
        verb = {"file.added": "add", "file.replaced": "replace", "changes": "put"}[kind]
        what = changed[0].file.file_name if len(changed) == 1 else f"{len(changed)} files"
        draft.describe(kind, names.one_line(f"files: {verb} {what}"))
    return results


def delete(draft: Draft, reference: str, *, precondition: Precondition = NONE) -> StoredFile:
    """Removes the file with this id or key, and says which one it was. Raises NotFound, PreconditionFailed."""
    stored = find(draft.context, draft.workspace, reference)
    if stored is None:
        precondition.check(None)
        raise NotFound(f"the workspace has no file with the id or key {reference}")
    if precondition != NONE:
        precondition.check(entry_etag(draft, stored.key))
    _remove(draft, stored.path)
    draft.describe("file.deleted", names.one_line(f"files: delete {stored.file_name}"))
    return stored


def find(context: Context, workspace: str, reference: str) -> StoredFile | None:
    """The file with this key or, if no file has such a key, with this id (a UUID in any case)."""
    stored = context.files.get(reference)
    if stored is not None or not names.is_uuid(reference):
        return stored
    wanted = reference.lower()
    return next((held for key, held in context.files.items() if identity(workspace, key) == wanted), None)


@lru_cache(maxsize=65_536)
def identity(workspace: str, key: str) -> str:
    """The id of a file: it follows from workspace and key, so a file added with an editor has a stable one too."""
    return names.derive_id(workspace, key)


def entry_etag(draft: Draft, key: str) -> str | None:
    """The ETag of the record of one file; None where there is no such key."""
    stored = draft.context.files.get(key)
    return None if stored is None else etag(stored, touched(stored, draft.last_touch))


def touched(stored: StoredFile, last_touch: Callable[[str], Touch | None]) -> Touch | None:
    """The commit that last changed the file or what is said of it."""
    paths = [stored.path] if stored.meta_blob is None else [stored.path, stored.path + names.META_SUFFIX]
    found = [touch for path in paths if (touch := last_touch(path)) is not None]
    return max(found, key=lambda touch: touch.time, default=None)


def etag(stored: StoredFile, touch: Touch | None) -> str:
    """The ETag of a file's record: its version and times follow from the commit that last touched it."""
    said = (stored.key, stored.path, stored.blob, stored.content_type, stored.description)
    return values.etag(repr((*said, touch.commit if touch else None)).encode("utf-8", "surrogateescape"))


# --- paths and meta files -------------------------------------------------------------------------------------------


def _put(draft: Draft, one: Upload, taken: dict[str, str]) -> Put:
    context = draft.context
    old = context.files.get(one.key)
    description = one.description
    if isinstance(description, UnsetType):
        description = old.description if old is not None else None
    if old is not None and old.file_name == one.file_name:
        path = old.path
    else:
        path = _free_path(draft, one, taken)
    taken[names.fold(path)] = one.key
    for folder in _folders(path):
        taken.setdefault(names.fold(folder), "")
    before = (draft.blob(path), draft.blob(path + names.META_SUFFIX))
    one = _kept(draft, path, one)
    draft.write(path, one.content)
    _write_meta(draft, path, one, description)
    moved = old is not None and old.path != path
    if old is not None and moved:
        _remove(draft, old.path)
    meta_blob = draft.blob(path + names.META_SUFFIX)
    after = (draft.blob(path), meta_blob)
    stored = StoredFile(
        one.key, path, one.content.id.hex(), one.file_name, one.content_type, description, meta_blob,
        one.large,
    )  # fmt: skip
    return Put(stored, one.size, one.sha256, old is None, moved or before != after)


def _write_meta(draft: Draft, path: str, one: Upload, description: str | None) -> None:
    """Writes down what the path does not say, and removes a meta file that has nothing left to say."""
    said: dict[str, Any] = {}
    if one.file_name != names.file_name(path):
        said["file_name"] = one.file_name  # too long for a path, or changed by normalisation
    if one.key != names.key_of_path(path.removeprefix("files/")):
        said["key"] = one.key
    if one.content_type != media.guess(one.file_name):
        said["content_type"] = one.content_type
    if description is not None:
        said["description"] = description
    meta = path + names.META_SUFFIX
    data = draft.read(meta)
    document = _with_others(data, said) if data is not None else said
    if document:
        draft.write(meta, parsed.rewritten(data, document, schemas.head(draft, meta)))
    elif data is not None:
        draft.remove(meta)


def _with_others(data: bytes, said: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of a file, and what a person wrote beyond that: theirs, and kept, in their order."""
    try:
        held = documents.load(data)
    except documents.DocumentError:
        held = None  # the new document replaces it, and git has the old bytes
    if not isinstance(held, dict):
        return dict(said)
    kept = {key: said.get(key, value) for key, value in held.items() if key in said or key not in rules.Meta._fields}
    return {**kept, **said}


def _kept(draft: Draft, path: str, one: Upload) -> Upload:
    """The upload as it is stored at a path: as a large object if it is one, or too long, or the path is one of theirs.

    The attributes of the branch say of every such path that it is one. Raises Invalid, StorageFailed.
    """
    covered = draft.covers(path)
    if one.large is not None:
        draft.holds(one.large)
    if one.large is None and (covered or one.size > draft.large_bytes):
        if decode(one.content.data) is not None:
            raise Invalid(
                f"the content of {one.file_name} is a pointer of Git LFS, and `.gitattributes` says that there it "
                "stands for a large object: send the content itself"
            )
        pointer = draft.keep(one.content.data)
        one = msgspec.structs.replace(one, content=Blob(pointer.encode()), large=pointer)
    if one.large is not None and not covered:
        draft.write(attributes.NAME, attributes.added(draft.read(attributes.NAME), path))
        if not draft.covers(path):
            raise Conflict(
                f"`.gitattributes` cannot make {path} a large object: a file of that name nearer to it says otherwise, "
                "or it is too long",
                details={"path": attributes.NAME},
            )
    return one


def _remove(draft: Draft, path: str) -> None:
    draft.remove(path)
    said = draft.read(attributes.NAME)
    if said is not None and (left := attributes.removed(said, path)) != said:
        if left.strip():
            draft.write(attributes.NAME, left)
        else:
            draft.remove(attributes.NAME)
    if draft.blob(path + names.META_SUFFIX) is not None:
        draft.remove(path + names.META_SUFFIX)


def _taken(context: Context) -> dict[str, str]:
    """Folded path → key of what is there: files, and the folders that lead to them (under no key)."""
    taken: dict[str, str] = {}
    for stored in context.files.values():
        taken[names.fold(stored.path)] = stored.key
        for folder in _folders(stored.path):
            taken.setdefault(names.fold(folder), "")
    return taken


def _folders(path: str) -> list[str]:
    """The folders between `files` and the file."""
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(2, len(parts))]


def _free_path(draft: Draft, one: Upload, taken: Mapping[str, str]) -> str:
    """Where a new file goes. Raises Conflict where something that is no sound file stands in the way."""
    path = names.file_path(one.file_name, one.key, taken)
    if not _open(draft, path, taken):
        aside = f"{one.key[:40]}-{sha256(one.key.encode()).hexdigest()[:8]}"
        path = names.file_path(one.file_name, aside, {**taken, names.fold(path): ""})
    if not _open(draft, path, taken):
        raise Conflict(
            f"{path} is in the way of {one.file_name} with the key {one.key}; choose another key or file name",
            details={"path": path},
        )
    return path


def _open(draft: Draft, path: str, taken: Mapping[str, str]) -> bool:
    """Whether a file may be written at `path`: nothing is there, and no file where a folder is needed."""
    if any(taken.get(names.fold(folder)) or draft.tree.blob(folder) is not None for folder in _folders(path)):
        return False
    return names.fold(path) not in taken and draft.blob(path) is None and not draft.tree.entries(path)
