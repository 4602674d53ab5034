"""The standing context of a workspace: what the files of `main` say, parsed, immutable, and never failing to answer.

A file that cannot be read becomes a Problem, and what it said before stays. `load` reads a whole tree; `after` reads
only what one change touched, and reads nothing at all where a single memory key was set through the API.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from gitstore import credentials, media, names, rules, values
from gitstore.errors import Invalid, Malformed, SecretFound
from gitstore.lfs import attributes
from gitstore.lfs.pointer import Pointer, decode
from gitstore.model import MEMORY_MAX_BYTES, Fields, Problem
from gitstore.parsed import Parsed, cached, parse, text_secrets
from gitstore.reading import Overlay, Reading, Tree, blob_id, shown
from gitstore.repository.objects import Object
from gitstore.repository.trees import Difference, TreeEntry, TreeView, encode_path
from gitstore.repository.worktree import regular
from gitstore.rules import SPEC_PARTS, Policy

WORKSPACE: Final = "workspace.yaml"
SETTINGS: Final = "settings.yaml"
PARTS: Final = ("workspace", "settings", "memory", "spec", "files", "root")
RESERVED: Final = "evidence"
DEPTH_MAX: Final = 32
GOVERNED: Final = frozenset({WORKSPACE, SETTINGS, "memory", "spec", "files"})

_UNKNOWN: Final = Fields("", "", "")


class MemoryEntry(msgspec.Struct, frozen=True):
    """One key of the memory. `item` is `"key":value` in compact JSON; `head` is as in Parsed."""

    key: str
    path: str
    blob: str
    item: bytes
    value_json: bytes
    head: bytes | None


class StoredFile(msgspec.Struct, frozen=True):
    """One file below `files/`: where it is, and what its name and its meta file (if there is one) say of it.

    `large`: the blob is a pointer to this object, and the content is not in git.
    """

    key: str
    path: str
    blob: str
    file_name: str
    content_type: str
    description: str | None = None
    meta_blob: str | None = None
    large: Pointer | None = None


class Context(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The parsed `main` branch. Mappings are shared between versions: never change one."""

    policy: Policy = "refuse"
    fields: Fields = _UNKNOWN
    settings: dict[str, Any] = {}
    settings_json: bytes = b"{}"
    settings_around: tuple[bytes, bytes] = (b"", b"")
    """The members of `settings_json` before and after the place where `credentials` is shown."""
    memory: dict[str, MemoryEntry] = {}
    """By key, in the order of the keys' UTF-8 bytes."""
    memory_size: int = 2
    """Length of `memory_json()` in bytes."""
    memory_names: dict[str, str] = {}
    """File name in `memory/` with its case folded → path, unreadable files included."""
    spec: dict[str, dict[str, Any]] = {}
    files: dict[str, StoredFile] = {}
    """By key, sorted."""
    faults: dict[str, tuple[Problem, ...]] = {}
    """The problems by part (see PARTS)."""
    problems: tuple[Problem, ...] = ()

    @classmethod
    def load(cls, tree: Tree, *, previous: Context | None, now: int, policy: Policy | None = None) -> Context:
        """Reads everything.

        What cannot be read gives a Problem and keeps `previous`'s value of that key, file or part, if there is one.
        The contents of files are searched for secrets only where they differ from `previous`. `now` (ms) dates new
        problems. The policy is `previous`'s unless one is given.
        """
        wanted: Policy = policy or (previous.policy if previous is not None else "refuse")
        base = previous if previous is not None and previous.policy == wanted else cls(policy=wanted)
        return _read(tree, base, previous, now, PARTS)

    def after(self, tree: Tree, edits: Mapping[str, bytes | Object | None], now: int) -> Context:
        """The context after one change of this one's tree: path → new content, None where it was removed.

        `tree` may hold the edits already or not; only what is not among the edits is read from it.
        """
        blobs = {path: blob_id(content) if content is not None else None for path, content in edits.items()}
        if (fast := self._memory_after(blobs)) is not None:
            return fast
        parts = {_part(path) for path in edits}
        if "workspace" in parts:
            parts.add("settings")  # whether storage can be `git_remote` depends on the repository URL
        if any("/" not in path for path in edits):
            parts.add("root")  # a link at the top is told there, whatever its name
        if attributes.NAME in edits:
            parts.add("files")  # what is a large object is another question now
        return _read(Overlay(tree, edits), self, self, now, [part for part in PARTS if part in parts])

    def elsewhere(self, tree: Tree, differences: Iterable[Difference], now: int) -> Context:
        """The context of another tree than this one's, given everything in which the two differ.

        It is what `load` makes of the tree if there are problems neither here nor in what comes out; else what this one
        says is kept for what cannot be read there, and a caller who does not want that loads the tree.
        """
        memory: dict[str, str | None] = {}
        parts: set[str] = set()
        for path, _, new in differences:
            part = _part(path)
            if part == "memory" and (new is None or regular(new)):
                memory[path] = new.id.hex() if new is not None else None
            else:
                parts.add(part)
            if "/" not in path:
                parts.add("root")  # as in `after`
            if path == attributes.NAME:
                parts.add("files")
        if "workspace" in parts:
            parts.add("settings")
        context = self
        if memory and "memory" not in parts:
            for path, blob in memory.items():
                if blob is not None and cached(blob) is None:
                    with contextlib.suppress(Invalid, Malformed):  # told when the folder is read
                        parse(blob, tree.read(path) or b"", path)
            fast = self._memory_after(memory)
            if fast is None:
                parts.add("memory")
            else:
                context = fast
        return _read(tree, context, self, now, [part for part in PARTS if part in parts]) if parts else context

    def memory_json(self) -> bytes:
        """The whole memory object as compact JSON."""
        return b"{" + b",".join([entry.item for entry in self.memory.values()]) + b"}"

    def _memory_after(self, blobs: Mapping[str, str | None]) -> Context | None:
        """The quick way for edits of sound memory files; None where the whole folder must be looked at.

        `blobs`: path → the blob that is there now, None where the file was removed.
        """
        if self.faults.get("memory"):
            return None
        memory, folded, size = self.memory.copy(), self.memory_names, self.memory_size
        added: list[MemoryEntry] = []
        for path, blob in blobs.items():
            folder, _, name = path.partition("/")
            if folder != "memory" or "/" in name:
                return None
            key = names.memory_key(name)
            if blob is None:
                old = memory.get(key) if key is not None else None
                if old is None or old.path != path:
                    return None
                del memory[old.key]
                folded = folded if folded is not self.memory_names else folded.copy()
                folded.pop(names.fold(name), None)  # there are no twins in a sound memory
                size -= len(old.item) + 1
                continue
            found = cached(blob)
            if found is None or (found.secrets and self.policy == "refuse"):
                return None
            try:
                entry = _memory_entry(path, name, blob, found)
            except Invalid:
                return None  # read again with the whole folder, which says what is wrong
            if entry is None:
                return None
            old = memory.get(entry.key)
            if old is not None:
                if old.path != path:
                    return None
                memory[entry.key] = entry
                size += len(entry.item) - len(old.item)
                continue
            if (fold := names.fold(name)) in folded:
                return None
            folded = folded if folded is not self.memory_names else folded.copy()
            folded[fold] = path
            added.append(entry)
            memory[entry.key] = entry
            size += len(entry.item) + 1
        if len(added) == 1 and memory.pop(added[0].key, None) is not None:
            keys, entries = list(memory), list(memory.values())
            at = bisect_left(keys, added[0].key)  # code points sort as their UTF-8 bytes do
            keys.insert(at, added[0].key)
            entries.insert(at, added[0])
            memory = dict(zip(keys, entries, strict=True))
        elif added:
            memory = dict(sorted(memory.items()))
        size = 2 if not memory else size if self.memory else size - 1
        if size > MEMORY_MAX_BYTES:
            return None
        return msgspec.structs.replace(self, memory=memory, memory_size=size, memory_names=folded)


# --- reading, part by part --------------------------------------------------------------------------------------------


def _read(tree: Tree, base: Context, previous: Context | None, now: int, parts: Iterable[str]) -> Context:
    """`base` with some of its parts read anew."""
    before = previous if previous is not None else base
    faults: dict[str, tuple[Problem, ...]] = dict(base.faults)
    changes: dict[str, Any] = {}
    fields = base.fields
    for part in parts:
        reading = Reading(tree, before.problems, now, base.policy, first=previous is None)
        if part == "settings":
            changes.update(_settings(reading, before, fields))
        else:
            changes.update(_READERS[part](reading, before))
        fields = changes.get("fields", fields)
        faults[part] = tuple(reading.faults)
    changes["faults"] = faults
    changes["problems"] = tuple(problem for part in PARTS for problem in faults.get(part, ()))
    return msgspec.structs.replace(base, **changes)


def _workspace(reading: Reading, before: Context) -> dict[str, Any]:
    known = before.fields
    blob = reading.tree.blob(WORKSPACE)
    if blob is None:
        reading.fault(
            WORKSPACE,
            "missing",
            "`workspace.yaml` is missing; it says which workspace this is",
            "Restore it with `git checkout`.",
        )
        return {"fields": known}
    try:
        found = reading.document(WORKSPACE, blob)
        fields = rules.fields(found.value)
        if known.id and fields.id != known.id:
            raise rules.fault("/id", f"must stay {known.id}: it says which workspace this is")
    except (Invalid, Malformed) as error:
        reading.refused(WORKSPACE, error)
        return {"fields": known}
    try:
        reading.secrets(WORKSPACE, found)
    except SecretFound as error:
        reading.refused(WORKSPACE, error)
        fields = known if known.id else fields
    return {"fields": fields}


def _settings(reading: Reading, before: Context, fields: Fields) -> dict[str, Any]:
    settings = before.settings
    blob = reading.tree.blob(SETTINGS)
    if blob is None:
        if not any(entry.name == SETTINGS for entry in reading.tree.entries("")):
            settings = {}
    else:
        try:
            found = reading.document(SETTINGS, blob)
            checked = rules.settings_file(found.value if found.value is not None else {})
            if reading.first or not (found.secrets and reading.policy == "refuse"):
                settings = checked
            reading.secrets(SETTINGS, found)
        except (Invalid, Malformed) as error:
            reading.refused(SETTINGS, error)
    try:
        rules.storage_needs(settings, fields.repository_url)
    except Invalid as error:
        reading.fault(
            SETTINGS, "storage", error.message, "Set repository_url in workspace.yaml, or another storage type."
        )
    return {
        "settings": settings,
        "settings_json": values.encode(settings),
        "settings_around": around_credentials(settings),
    }


def around_credentials(settings: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """The members of the settings as JSON, before and after the place of `credentials` (the end, if it has none)."""
    before: list[bytes] = []
    after: list[bytes] = []
    members = before
    for key, value in settings.items():
        if key == "credentials":
            members = after
        else:
            members.append(values.encode(key) + b":" + values.encode(value))
    return b",".join(before), b",".join(after)


# --- memory ---------------------------------------------------------------------------------------------------------


def _memory(reading: Reading, before: Context) -> dict[str, Any]:
    known = {entry.path: entry for entry in before.memory.values()}
    listed = sorted(reading.tree.entries("memory"))
    memory: dict[str, MemoryEntry] = {}
    for item in listed:
        path = f"memory/{item.name}"
        if item.is_tree:
            if not item.name.startswith(".") and reading.tree.entries(path):
                reading.fault(
                    path,
                    "folder",
                    f"`{shown(path)}` is a folder; memory keys are files right below `memory/`",
                    "Move its files up; a `/` in a key is written `%2F` in the file name.",
                )
            continue
        if not reading.regular(path, item):
            if (entry := known.get(path)) is not None:
                memory.setdefault(entry.key, entry)
            continue
        if item.name.endswith(".yml"):
            reading.fault(path, "extension", f"`{shown(path)}` is not read as a memory key", "Rename it to `.yaml`.")
            continue
        key: str | None = None
        try:
            key = names.memory_key(item.name)
            found = reading.document(path, item.id) if key is not None or names.is_long_memory(item.name) else None
            entry = _memory_entry(path, item.name, item.id, found) if found is not None else None
        except (Invalid, Malformed) as error:
            reading.refused(path, error, key=key)
            entry, found = known.get(path), None
        if entry is not None and found is not None:
            try:
                reading.secrets(path, found)
            except SecretFound as error:
                reading.refused(path, error, key=entry.key)
                entry = known.get(path, entry)
        if entry is None:
            continue
        other = memory.get(entry.key)
        if other is not None:
            held = before.memory.get(entry.key)
            winner, loser = (entry, other) if held is not None and held.path == path else (other, entry)
            _two_files(reading, loser.path, winner.path, entry.key)
            entry = winner
        memory[entry.key] = entry
    size = 2 + sum(len(entry.item) + 1 for entry in memory.values()) - bool(memory)
    if size > MEMORY_MAX_BYTES:
        changed = [entry for entry in memory.values() if known.get(entry.path) != entry] or list(memory.values())
        largest = max(changed, key=lambda entry: len(entry.item))
        reading.fault(
            largest.path,
            "memory_too_large",
            f"the memory has {size} bytes as JSON; {MEMORY_MAX_BYTES} are allowed",
            "Shorten this value or delete keys that are no longer needed.",
            key=largest.key,
        )
    return {
        "memory": dict(sorted(memory.items())),
        "memory_size": size,
        "memory_names": reading.twins("memory/", listed),
    }


def _memory_entry(path: str, name: str, blob: str, found: Parsed) -> MemoryEntry | None:
    """The key and value in a memory file; None where the file's name is not that of one. Raises Invalid."""
    key = names.memory_key(name)
    value_json = found.json
    if key is None:
        if not names.is_long_memory(name):
            return None
        document = found.value
        if not isinstance(document, dict) or document.keys() != {"key", "value"}:
            raise rules.fault("", "must have exactly `key` and `value`: the file's name is too short to hold the key")
        key = rules.memory_key(document["key"])
        value_json = values.encode(document["value"])
        if names.fold(names.memory_file(key)) != names.fold(name):
            raise rules.fault("/key", f"belongs in a file called `{names.memory_file(key)}`")
    else:
        rules.memory_key(key, "the key in the file's name")
        if "\ufffd" in key and "\ufffd" not in name and "%EF%BF%BD" not in name.upper():
            raise Invalid("the file's name is not UTF-8; a memory key is text")
    item = values.encode(key) + b":" + value_json
    return MemoryEntry(key, path, blob, item, value_json, found.head)


def memory_entry(tree: TreeView, key: str, policy: Policy) -> MemoryEntry | None:
    """One key, read by itself; None where the whole folder has to be looked at for it, or there is no such key."""
    name = names.memory_file(key)
    path = f"memory/{name}"
    blob, own = tree.blob(path), encode_path(name)
    # Only a name that is percent-encoded can mean the same key as another one.
    if blob is None or any(b"%" in other and other != own for other in tree.names("memory")):
        return None
    try:
        found = cached(blob) or parse(blob, tree.read(path) or b"", path)
        made = _memory_entry(path, name, blob, found)
    except (Invalid, Malformed):
        return None
    return made if made is not None and made.key == key and not (found.secrets and policy == "refuse") else None


# --- spec and files -------------------------------------------------------------------------------------------------


def _spec(reading: Reading, before: Context) -> dict[str, Any]:
    listed = {entry.name: entry for entry in reading.tree.entries("spec")}
    reading.twins("spec/", listed.values())
    spec: dict[str, dict[str, Any]] = {}
    for part in SPEC_PARTS:
        path = f"spec/{part}.yaml"
        if f"{part}.yml" in listed:
            reading.fault(f"spec/{part}.yml", "extension", f"`spec/{part}.yml` is not read", "Rename it to `.yaml`.")
        entry = listed.get(f"{part}.yaml")
        if entry is None:
            continue
        value = before.spec.get(part)
        if reading.regular(path, entry):
            try:
                found = reading.document(path, entry.id)
                checked = rules.spec_part(part, found.value if found.value is not None else {}, "")
                if value is None or not (found.secrets and reading.policy == "refuse"):
                    value = checked
                reading.secrets(path, found)
            except (Invalid, Malformed) as error:
                reading.refused(path, error, key=part)
        if value is not None:
            spec[part] = value
    return {"spec": spec}


def _files(reading: Reading, before: Context) -> dict[str, Any]:
    known = {stored.path: stored for stored in before.files.values()}
    files: dict[str, StoredFile] = {}
    large = attributes.Attributes(reading.tree.read)
    for stored in _files_below(reading, "files", known, large):
        other = files.get(stored.key)
        if other is not None:
            held = before.files.get(stored.key)
            winner, loser = (stored, other) if held is not None and held.path == stored.path else (other, stored)
            _two_files(reading, loser.path, winner.path, stored.key)
            files[stored.key] = winner
        else:
            files[stored.key] = stored
    return {"files": dict(sorted(files.items()))}


def _files_below(
    reading: Reading, folder: str, known: Mapping[str, StoredFile], large: attributes.Attributes
) -> Iterable[StoredFile]:
    listed = {entry.name: entry for entry in sorted(reading.tree.entries(folder))}
    reading.twins(folder + "/", listed.values())
    for name, entry in listed.items():
        path = f"{folder}/{name}"
        if entry.is_tree:
            if path.count("/") < DEPTH_MAX:
                yield from _files_below(reading, path, known, large)
            else:
                reading.fault(path, "depth", f"`{shown(path)}` is nested too deep", "Move its files up.")
        elif not reading.regular(path, entry):
            if path in known:
                yield known[path]
        elif name.endswith(names.META_SUFFIX):
            owner = listed.get(name.removesuffix(names.META_SUFFIX))
            if owner is None or owner.is_tree:
                reading.fault(
                    path,
                    "orphan_meta",
                    f"`{shown(path)}` describes a file that is not there",
                    "Delete it, or put the file back.",
                )
        else:
            meta = listed.get(name + names.META_SUFFIX)
            yield _stored_file(reading, path, entry, meta, known.get(path), large)


def _stored_file(
    reading: Reading,
    path: str,
    entry: TreeEntry,
    meta: TreeEntry | None,
    old: StoredFile | None,
    large: attributes.Attributes,
) -> StoredFile:
    try:
        reading_path = path.encode("utf-8").decode()
    except UnicodeEncodeError:
        reading.fault(path, "name", f"the name of `{shown(path)}` is not UTF-8", "Rename the file.")
        reading_path = shown(path)
    below = reading_path.removeprefix("files/")
    said = rules.Meta()
    if meta is not None and reading.regular(path + names.META_SUFFIX, meta):
        try:
            found = reading.document(path + names.META_SUFFIX, meta.id)
            said = rules.meta(found.value if found.value is not None else {})
            reading.secrets(path + names.META_SUFFIX, found)
        except (Invalid, Malformed) as error:
            reading.refused(path + names.META_SUFFIX, error)
            if old is not None:
                said = rules.Meta(old.key, old.content_type, old.description, old.file_name)
    blob = entry.id
    # What is already committed was looked at when it came; at a start nothing is read.
    if not reading.first and reading.policy == "refuse" and (old is None or old.blob != blob):
        try:
            credentials.refuse(text_secrets(blob, reading.tree.read(path) or b""), path)
        except SecretFound as error:
            reading.refused(path, error)
            blob = old.blob if old is not None else blob
    name = said.file_name or names.file_name(reading_path)
    pointer = None
    if large.covers(path):
        known = old is not None and old.blob == blob and old.large is not None
        pointer = old.large if known and old is not None else decode(reading.tree.read(path) or b"")
    return StoredFile(
        key=said.key or names.key_of_path(below),
        path=path,
        blob=blob,
        file_name=name,
        content_type=said.content_type or media.guess(name),
        description=said.description,
        meta_blob=meta.id if meta is not None else None,
        large=pointer,
    )


# --- the top of the tree --------------------------------------------------------------------------------------------


def _root(reading: Reading, before: Context) -> dict[str, Any]:
    """Links and submodules at the top, the reserved name, and names that some machine takes for one of ours."""
    for entry in sorted(reading.tree.entries("")):
        fold = names.fold(entry.name)
        if not reading.regular(entry.name, entry) and not entry.is_tree:
            continue
        if fold == RESERVED:
            reading.fault(
                entry.name,
                "reserved",
                f"`{shown(entry.name)}` is the name under which exports carry the evidence branch; `main` has none",
                "Take it out of the commit; evidence is added through the API, by an import, or on its own branch.",
            )
        elif entry.name in GOVERNED:
            if entry.is_tree == entry.name.endswith(".yaml"):
                what = "a folder, but must be a file" if entry.is_tree else "a file, but must be a folder"
                reading.fault(entry.name, "shape", f"`{entry.name}` is {what}", "Rename it.")
        elif fold in GOVERNED:
            reading.fault(
                entry.name,
                "case_twins",
                f"`{shown(entry.name)}` differs from `{fold}` only in case; macOS and Windows take it for the same",
                f"Rename it to `{fold}`, or to something else.",
            )
        elif fold in ("workspace.yml", "settings.yml"):
            reading.fault(entry.name, "extension", f"`{entry.name}` is not read", "Rename it to `.yaml`.")
    return {}


_READERS: Final = {"workspace": _workspace, "memory": _memory, "spec": _spec, "files": _files, "root": _root}


def _two_files(reading: Reading, path: str, winner: str, key: str) -> None:
    reading.fault(
        path,
        "two_files_one_key",
        f"`{shown(path)}` and `{shown(winner)}` both hold the key `{shown(key)}`; the second one counts",
        "Delete or rename one of them.",
        key=key,
    )


def _part(path: str) -> str:
    if path == WORKSPACE:
        return "workspace"
    if path == SETTINGS:
        return "settings"
    folder, below, _ = path.partition("/")
    return folder if below and folder in ("memory", "spec", "files") else "root"
