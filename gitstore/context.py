"""The standing context of a workspace: what the files of `main` say, parsed, immutable, and never failing to answer.

A file that cannot be read becomes a Problem, and what it said before stays. `load` reads a whole tree; `after` reads
only what one change touched, and reads nothing at all where a single memory key was set through the API.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Final, Protocol

import msgspec

from gitstore import credentials, documents, media, names, rules, values
from gitstore.errors import GitstoreError, Invalid, Malformed, SecretFound
from gitstore.model import MEMORY_MAX_BYTES, Fields, Problem
from gitstore.parsed import Parsed, cached, parse, text_secrets
from gitstore.repository.objects import BLOB, Object, identify
from gitstore.repository.trees import FILE_MODE, TreeEntry
from gitstore.rules import SPEC_PARTS, Policy

WORKSPACE: Final = "workspace.yaml"
SETTINGS: Final = "settings.yaml"
PARTS: Final = ("workspace", "settings", "memory", "spec", "files", "root")
GOVERNED: Final = frozenset({WORKSPACE, SETTINGS, "memory", "spec", "files"})

_LINK, _SUBMODULE = 0o120000, 0o160000
_UNKNOWN: Final = Fields("", "", "")


class Tree(Protocol):
    """The files of a commit, read by path (repository.trees.TreeView)."""

    def read(self, path: str) -> bytes | None:
        """The content of the file at `path`, or None."""

    def blob(self, path: str) -> str | None:
        """The id of the file at `path`, or None."""

    def entries(self, folder: str = "") -> list[TreeEntry]:
        """What a folder holds; empty where there is none."""


class MemoryEntry(msgspec.Struct, frozen=True):
    """One key of the memory. `item` is `"key":value` in compact JSON; `machine`: no person formatted the file."""

    key: str
    path: str
    blob: str
    item: bytes
    value_json: bytes
    machine: bool


class StoredFile(msgspec.Struct, frozen=True):
    """One file below `files/`: where it is, and what its name and its meta file (if there is one) say of it."""

    key: str
    path: str
    blob: str
    file_name: str
    content_type: str
    description: str | None = None
    meta_blob: str | None = None


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
        if (fast := self._memory_after(edits)) is not None:
            return fast
        parts = {_part(path) for path in edits}
        if "workspace" in parts:
            parts.add("settings")  # whether storage can be `git_remote` depends on the repository URL
        return _read(_Overlay(tree, edits), self, self, now, [part for part in PARTS if part in parts])

    def memory_json(self) -> bytes:
        """The whole memory object as compact JSON."""
        return b"{" + b",".join([entry.item for entry in self.memory.values()]) + b"}"

    def _memory_after(self, edits: Mapping[str, bytes | Object | None]) -> Context | None:
        """The quick way for edits of sound memory files; None where the whole folder must be looked at."""
        if self.faults.get("memory"):
            return None
        memory, folded, size = self.memory.copy(), self.memory_names, self.memory_size
        for path, content in edits.items():
            folder, _, name = path.partition("/")
            if folder != "memory" or "/" in name:
                return None
            key = names.memory_key(name)
            if content is None:
                old = memory.get(key) if key is not None else None
                if old is None or old.path != path:
                    return None
                del memory[old.key]
                folded = {fold: held for fold, held in folded.items() if held != path}
                size -= len(old.item) + 1
                continue
            blob = _blob_id(content)
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
            folded = {**folded, fold: path}
            keys, entries = list(memory), list(memory.values())
            at = bisect_left(keys, entry.key)  # code points sort as their UTF-8 bytes do
            keys.insert(at, entry.key)
            entries.insert(at, entry)
            memory = dict(zip(keys, entries, strict=True))
            size += len(entry.item) + 1
        size = 2 if not memory else size if self.memory else size - 1
        if size > MEMORY_MAX_BYTES:
            return None
        return msgspec.structs.replace(self, memory=memory, memory_size=size, memory_names=folded)


# --- reading --------------------------------------------------------------------------------------------------------


class _Reading:
    """One reading of a tree: where from, what was known before, and the problems met on the way."""

    def __init__(self, tree: Tree, previous: Context | None, now: int, policy: Policy) -> None:
        self.tree = tree
        self.previous = previous
        self.policy = policy
        self.faults: list[Problem] = []
        self._now = values.iso(now)
        self._since = {problem.id: problem.since for problem in previous.problems} if previous else {}

    def fault(
        self, path: str, code: str, message: str, hint: str, *, key: str | None = None, error: Exception | None = None
    ) -> None:
        """Notes a problem; one that was there before keeps its id and the time it was first seen."""
        identity = sha256(f"{path}\0{code}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self.faults.append(
            Problem(
                id=identity,
                kind="secret" if isinstance(error, SecretFound) else "invalid",
                path=_shown(path),
                code=code,
                message=message,
                hint=hint,
                since=self._since.get(identity, self._now),
                key=key,
                line=getattr(error, "line", None),
                column=getattr(error, "column", None),
            )
        )

    def refused(self, path: str, error: GitstoreError, *, key: str | None = None) -> None:
        """Notes what a rule or the YAML reader refused."""
        secret = isinstance(error, SecretFound)
        code = "secret" if secret else "yaml" if isinstance(error, documents.DocumentError) else "shape"
        hint = getattr(error, "hint", None) or (
            credentials.HINT if secret else f"Mend `{_shown(path)}`, or restore it with `git checkout`."
        )
        self.fault(path, code, error.message, hint, key=key, error=error)

    def regular(self, path: str, entry: TreeEntry) -> bool:
        """Whether the entry is an ordinary file; a link or submodule is a problem, a folder is not one here."""
        kind = entry.mode & 0o170000
        if kind in (_LINK, _SUBMODULE):
            what = "a symbolic link" if kind == _LINK else "a submodule"
            self.fault(
                path, "not_a_file", f"`{_shown(path)}` is {what}, which is never followed", "Put a plain file there."
            )
        return kind == 0o100000

    def document(self, path: str, blob: str) -> Parsed:
        """The YAML document at `path`. Raises DocumentError or Malformed where it cannot be read."""
        found = cached(blob)
        if found is None:
            found = parse(blob, self.tree.read(path) or b"", path)
        return found

    def secrets(self, path: str, found: Parsed) -> None:
        """Raises SecretFound if the policy refuses what stands in the document."""
        if self.policy == "refuse":
            credentials.refuse(found.secrets, path)

    def twins(self, folder: str, entries: Iterable[TreeEntry]) -> dict[str, str]:
        """Folded name → path; two names that differ only in case are a problem: half of all machines keep only one."""
        seen: dict[str, str] = {}
        for entry in entries:
            path = folder + entry.name
            other = seen.setdefault(names.fold(entry.name), path)
            if other != path:
                self.fault(
                    path,
                    "case_twins",
                    f"`{_shown(path)}` and `{_shown(other)}` differ only in case; macOS and Windows keep only one",
                    "Rename one of them.",
                )
        return seen


def _read(tree: Tree, base: Context, previous: Context | None, now: int, parts: Iterable[str]) -> Context:
    """`base` with some of its parts read anew."""
    faults, changes = dict(base.faults), {}
    fields = base.fields
    for part in parts:
        reading = _Reading(tree, previous, now, base.policy)
        if part == "settings":
            changes.update(_settings(reading, fields))
        else:
            changes.update(_READERS[part](reading))
        fields = changes.get("fields", fields)
        faults[part] = tuple(reading.faults)
    changes["faults"] = faults
    changes["problems"] = tuple(problem for part in PARTS for problem in faults.get(part, ()))
    return msgspec.structs.replace(base, **changes)


def _workspace(reading: _Reading) -> dict[str, Any]:
    before = reading.previous.fields if reading.previous else _UNKNOWN
    blob = reading.tree.blob(WORKSPACE)
    if blob is None:
        reading.fault(
            WORKSPACE,
            "missing",
            "`workspace.yaml` is missing; it says which workspace this is",
            "Restore it with `git checkout`.",
        )
        return {"fields": before}
    try:
        found = reading.document(WORKSPACE, blob)
        fields = rules.fields(found.value)
        if before.id and fields.id != before.id:
            raise rules.fault("/id", f"must stay {before.id}: it says which workspace this is")
    except (Invalid, Malformed) as error:
        reading.refused(WORKSPACE, error)
        return {"fields": before}
    try:
        reading.secrets(WORKSPACE, found)
    except SecretFound as error:
        reading.refused(WORKSPACE, error)
        fields = before if before.id else fields
    return {"fields": fields}


def _settings(reading: _Reading, fields: Fields) -> dict[str, Any]:
    previous = reading.previous
    settings = previous.settings if previous else {}
    blob = reading.tree.blob(SETTINGS)
    if blob is None:
        settings = {}
    else:
        try:
            found = reading.document(SETTINGS, blob)
            checked = rules.settings_file(found.value if found.value is not None else {})
            if previous is None or not (found.secrets and reading.policy == "refuse"):
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


def _memory(reading: _Reading) -> dict[str, Any]:
    previous = reading.previous.memory if reading.previous else {}
    before = {entry.path: entry for entry in previous.values()}
    listed = sorted(reading.tree.entries("memory"))
    memory: dict[str, MemoryEntry] = {}
    for item in listed:
        path = f"memory/{item.name}"
        if item.is_tree:
            if not item.name.startswith(".") and reading.tree.entries(path):
                reading.fault(
                    path,
                    "folder",
                    f"`{_shown(path)}` is a folder; memory keys are files right below `memory/`",
                    "Move its files up; a `/` in a key is written `%2F` in the file name.",
                )
            continue
        if not reading.regular(path, item):
            continue
        if item.name.endswith(".yml"):
            reading.fault(path, "extension", f"`{_shown(path)}` is not read as a memory key", "Rename it to `.yaml`.")
            continue
        key: str | None = None
        try:
            key = names.memory_key(item.name)
            found = reading.document(path, item.id) if key is not None or names.is_long_memory(item.name) else None
            entry = _memory_entry(path, item.name, item.id, found) if found is not None else None
        except (Invalid, Malformed) as error:
            reading.refused(path, error, key=key)
            entry, found = before.get(path), None
        if entry is not None and found is not None:
            try:
                reading.secrets(path, found)
            except SecretFound as error:
                reading.refused(path, error, key=entry.key)
                entry = before.get(path, entry)
        if entry is None:
            continue
        other = memory.get(entry.key)
        if other is not None:
            held = previous.get(entry.key)
            winner, loser = (entry, other) if held is not None and held.path == path else (other, entry)
            _two_files(reading, loser.path, winner.path, entry.key)
            entry = winner
        memory[entry.key] = entry
    size = 2 + sum(len(entry.item) + 1 for entry in memory.values()) - bool(memory)
    if size > MEMORY_MAX_BYTES:
        changed = [entry for entry in memory.values() if before.get(entry.path) != entry] or list(memory.values())
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
    try:
        item = values.encode(key) + b":" + value_json
    except (UnicodeEncodeError, Malformed):
        raise Invalid("the file's name is not UTF-8; a memory key is text") from None
    return MemoryEntry(key, path, blob, item, value_json, found.machine)


# --- spec and files -------------------------------------------------------------------------------------------------


def _spec(reading: _Reading) -> dict[str, Any]:
    before = reading.previous.spec if reading.previous else {}
    listed = {entry.name: entry for entry in reading.tree.entries("spec")}
    reading.twins("spec/", listed.values())
    spec: dict[str, dict[str, Any]] = {}
    for part in SPEC_PARTS:
        path = f"spec/{part}.yaml"
        if f"{part}.yml" in listed:
            reading.fault(f"spec/{part}.yml", "extension", f"`spec/{part}.yml` is not read", "Rename it to `.yaml`.")
        entry = listed.get(f"{part}.yaml")
        if entry is None or not reading.regular(path, entry):
            continue
        try:
            found = reading.document(path, entry.id)
            checked = rules.spec_part(part, found.value if found.value is not None else {}, "")
            spec[part] = before.get(part, checked) if found.secrets and reading.policy == "refuse" else checked
            reading.secrets(path, found)
        except (Invalid, Malformed) as error:
            reading.refused(path, error, key=part)
            if part not in spec and part in before:
                spec[part] = before[part]
    return {"spec": spec}


def _files(reading: _Reading) -> dict[str, Any]:
    before = {stored.path: stored for stored in reading.previous.files.values()} if reading.previous else {}
    held = {key: stored.path for key, stored in reading.previous.files.items()} if reading.previous else {}
    files: dict[str, StoredFile] = {}
    for stored in _files_below(reading, "files", before):
        other = files.get(stored.key)
        if other is not None:
            winner, loser = (stored, other) if held.get(stored.key) == stored.path else (other, stored)
            _two_files(reading, loser.path, winner.path, stored.key)
            files[stored.key] = winner
        else:
            files[stored.key] = stored
    return {"files": dict(sorted(files.items()))}


def _files_below(reading: _Reading, folder: str, before: Mapping[str, StoredFile]) -> Iterable[StoredFile]:
    listed = {entry.name: entry for entry in sorted(reading.tree.entries(folder))}
    reading.twins(folder + "/", listed.values())
    for name, entry in listed.items():
        path = f"{folder}/{name}"
        if entry.is_tree:
            yield from _files_below(reading, path, before)
        elif not reading.regular(path, entry):
            continue
        elif name.endswith(names.META_SUFFIX):
            owner = listed.get(name.removesuffix(names.META_SUFFIX))
            if owner is None or owner.is_tree:
                reading.fault(
                    path,
                    "orphan_meta",
                    f"`{_shown(path)}` describes a file that is not there",
                    "Delete it, or put the file back.",
                )
        else:
            meta = listed.get(name + names.META_SUFFIX)
            yield _stored_file(reading, path, entry, meta, before.get(path))


def _stored_file(
    reading: _Reading, path: str, entry: TreeEntry, meta: TreeEntry | None, old: StoredFile | None
) -> StoredFile:
    try:
        reading_path = path.encode("utf-8").decode()
    except UnicodeEncodeError:
        reading.fault(path, "name", f"the name of `{_shown(path)}` is not UTF-8", "Rename the file.")
        reading_path = _shown(path)
    below = reading_path.removeprefix("files/")
    name = names.file_name(reading_path)
    said = rules.Meta()
    if meta is not None and reading.regular(path + names.META_SUFFIX, meta):
        try:
            found = reading.document(path + names.META_SUFFIX, meta.id)
            said = rules.meta(found.value if found.value is not None else {})
            reading.secrets(path + names.META_SUFFIX, found)
        except (Invalid, Malformed) as error:
            reading.refused(path + names.META_SUFFIX, error)
            if old is not None:
                said = rules.Meta(old.key, old.content_type, old.description)
    blob = entry.id
    # What is already committed was looked at when it came; at a start nothing is read.
    if reading.previous is not None and reading.policy == "refuse" and (old is None or old.blob != blob):
        try:
            credentials.refuse(text_secrets(blob, reading.tree.read(path) or b""), path)
        except SecretFound as error:
            reading.refused(path, error)
            blob = old.blob if old is not None else blob
    return StoredFile(
        key=said.key or names.key_of_path(below),
        path=path,
        blob=blob,
        file_name=name,
        content_type=said.content_type or media.guess(name),
        description=said.description,
        meta_blob=meta.id if meta is not None else None,
    )


# --- the top of the tree --------------------------------------------------------------------------------------------


def _root(reading: _Reading) -> dict[str, Any]:
    """Links and submodules at the top, and names that some machine takes for one of ours."""
    for entry in sorted(reading.tree.entries("")):
        fold = names.fold(entry.name)
        if not reading.regular(entry.name, entry) and not entry.is_tree:
            continue
        if entry.name in GOVERNED:
            if entry.is_tree == entry.name.endswith(".yaml"):
                what = "a folder, but must be a file" if entry.is_tree else "a file, but must be a folder"
                reading.fault(entry.name, "shape", f"`{entry.name}` is {what}", "Rename it.")
        elif fold in GOVERNED:
            reading.fault(
                entry.name,
                "case_twins",
                f"`{_shown(entry.name)}` differs from `{fold}` only in case; macOS and Windows take it for the same",
                f"Rename it to `{fold}`, or to something else.",
            )
        elif fold in ("workspace.yml", "settings.yml"):
            reading.fault(entry.name, "extension", f"`{entry.name}` is not read", "Rename it to `.yaml`.")
    return {}


_READERS: Final = {"workspace": _workspace, "memory": _memory, "spec": _spec, "files": _files, "root": _root}


def _two_files(reading: _Reading, path: str, winner: str, key: str) -> None:
    reading.fault(
        path,
        "two_files_one_key",
        f"`{_shown(path)}` and `{_shown(winner)}` both hold the key `{_shown(key)}`; the second one counts",
        "Delete or rename one of them.",
        key=key,
    )


class _Overlay:
    """A tree with some files replaced or removed."""

    def __init__(self, tree: Tree, edits: Mapping[str, bytes | Object | None]) -> None:
        self._tree = tree
        self._edits = edits

    def read(self, path: str) -> bytes | None:
        if path in self._edits:
            content = self._edits[path]
            return content.data if isinstance(content, Object) else content
        return self._tree.read(path)

    def blob(self, path: str) -> str | None:
        if path in self._edits:
            content = self._edits[path]
            return None if content is None else _blob_id(content)
        return self._tree.blob(path)

    def entries(self, folder: str = "") -> list[TreeEntry]:
        held = {entry.name: entry for entry in self._tree.entries(folder)}
        prefix = folder + "/" if folder else ""
        for path, content in self._edits.items():
            if not path.startswith(prefix):
                continue
            name, deeper, _ = path[len(prefix) :].partition("/")
            old = held.get(name)
            if deeper:
                if content is not None and (old is None or not old.is_tree):
                    held[name] = TreeEntry(name, "", True, 0o40000)
            elif content is not None:
                held[name] = TreeEntry(name, _blob_id(content), False, FILE_MODE)
            elif old is not None and not old.is_tree:
                del held[name]
        return list(held.values())


def _blob_id(content: bytes | Object) -> str:
    return (content.id if isinstance(content, Object) else identify(BLOB, content)).hex()


def _part(path: str) -> str:
    if path == WORKSPACE:
        return "workspace"
    if path == SETTINGS:
        return "settings"
    folder, below, _ = path.partition("/")
    return folder if below and folder in ("memory", "spec", "files") else "root"


def _shown(path: str) -> str:
    """A path or key for JSON: bytes that are not UTF-8 become U+FFFD."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
