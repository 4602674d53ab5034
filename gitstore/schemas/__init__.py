"""The JSON Schemas of the documents, and the line on top of a file that tells an editor which of them is its own.

A workspace carries those of `main` in a folder of `main`, where editors find them without a network: in the live
folder and in every clone. They are a help for people. Nothing in a store depends on them, and people may change or
delete them. Evidence is written by programs: its documents have schemas, and no line.
The line is that of yaml-language-server (its README, "Using inlined schema"); the schemas are of draft 7, which it
understands best.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files as resources
from types import MappingProxyType
from typing import Final, Protocol

from gitstore import names
from gitstore.repository.objects import BLOB, Blob, deflate, entry_header
from gitstore.repository.trees import TreeEntry
from gitstore.rules import SPEC_PARTS

FOLDER: Final = ".gitstore/schemas"
MAIN: Final = ("workspace", "settings", "memory", *SPEC_PARTS, "meta")
EVIDENCE: Final = ("workflow", "task", "artifact")

_SHARED: Final = {"memory": "memory", "files": "meta"}  # folders whose documents all have one schema
_MARK: Final = b"# yaml-language-server: $schema="
_heads: dict[bytes, bytes] = {}  # heads seen lately, so that a thousand files with one line hold it once


class Holding(Protocol):
    """What can say whether a file is there: a tree, or a change in the making."""

    def blob(self, path: str) -> str | None:
        """The id of the file at `path`, or None."""


class Listed(Protocol):
    """What can say what a folder holds."""

    def entries(self, folder: str = "") -> list[TreeEntry]:
        """What a folder holds; empty where there is none."""


def read(name: str) -> bytes:
    """The schema of one kind of document (MAIN, EVIDENCE), as JSON."""
    return resources(__name__).joinpath(f"{name}.json").read_bytes()


@cache
def files() -> Mapping[str, Blob]:
    """The schemas that `main` carries, by path. All workspaces share the objects: hashed and compressed once."""
    found = {}
    for name in MAIN:
        data = read(name)
        blob = Blob(data)
        blob.ready = entry_header(BLOB, len(data)) + deflate(data)
        found[f"{FOLDER}/{name}.json"] = blob
    return MappingProxyType(found)


def missing(tree: Listed) -> dict[str, Blob]:
    """The schemas that a tree does not have; none where somebody has a file, or a name too like it, in their place."""
    for parent, name in (("", ".gitstore"), (".gitstore", "schemas")):
        for entry in tree.entries(parent):
            if names.fold(entry.name) == name and not (entry.name == name and entry.is_tree):
                return {}
    held = {names.fold(entry.name) for entry in tree.entries(FOLDER)}
    return {path: blob for path, blob in files().items() if path.rpartition("/")[2] not in held}


def head(tree: Holding, path: str) -> bytes:
    """What a new document at `path` of `main` begins with: the schema line, or nothing where `tree` has no schema."""
    folder, _, rest = path.partition("/")
    name = _SHARED.get(folder) or (rest or folder).removesuffix(".yaml")
    return _line(name, path.count("/")) if tree.blob(f"{FOLDER}/{name}.json") is not None else b""


@cache
def _line(name: str, depth: int) -> bytes:
    return _MARK + f"{'../' * depth}{FOLDER}/{name}.json\n".encode()


def split(data: bytes) -> tuple[bytes, bytes]:
    """The schema line that a document begins with, whoever wrote it (nothing, if there is none), and the rest."""
    if not data.startswith(_MARK):
        return b"", data
    end = data.find(b"\n") + 1
    line = data[:end]
    if line not in _heads:
        try:
            # What YAML takes for the end of a line is not printable: this is one comment, and no more than that.
            if not line or not line.decode().removesuffix("\n").removesuffix("\r").isprintable():
                return b"", data
        except UnicodeDecodeError:
            return b"", data
        if len(_heads) > 200:
            _heads.clear()
        _heads[line] = line
    return _heads[line], data[end:]
