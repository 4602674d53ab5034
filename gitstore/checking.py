"""Looking at a folder as it is on disk, before it is imported or pushed: no store, no lock, nothing written.

What is found is told in the words of an import and a push, because the same rules find it.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from gitstore import documents, names, source
from gitstore.acceptance import Fault, distinct, evidence_faults, main_faults
from gitstore.context import RESERVED, WORKSPACE
from gitstore.errors import Invalid, StorageFailed
from gitstore.reading import shown
from gitstore.repository.objects import BLOB, EMPTY_TREE, Oid, identify
from gitstore.repository.trees import FILE_MODE, Node, Tree, TreeView, rewrite
from gitstore.rules import Policy


class Checked(msgspec.Struct, frozen=True):
    """What was found in a folder: `faults` in the order of their paths, none where it is `sound`."""

    folder: str
    sound: bool
    files: int
    faults: tuple[Fault, ...]


def check_folder(folder: Path, *, policy: Policy = "refuse") -> Checked:
    """Checks a plain folder, a clone or the live folder of a workspace, `evidence/` in it included.

    A plain folder is held to what an import asks of it. In a git repository the files count that would be committed,
    as they are on disk, and `workspace.yaml` must be complete, as a push asks. Raises NotFound, StorageFailed, Invalid
    for a bare repository, which has no files.
    """
    root = folder.absolute()
    repository = os.path.lexists(root / ".git")
    if not repository and all((root / name).exists() for name in ("HEAD", "objects", "refs")):
        raise Invalid(f"{folder} is a bare repository, which has no files to check: check a clone of it")
    found = source.scan(root)
    if repository and (kept := _committed(root, "-co")) is not None:
        found = _without_ignored(root, found, kept, _committed(root, "-c") or set())
    now = int(time.time() * 1000)
    main = _Folder(found.main)
    document = _workspace(main.view.read(WORKSPACE))
    identity = str((document or {}).get("id"))
    if not names.is_uuid(identity):
        identity = names.new_id()
    if not repository and document is not None:
        said = documents.edit(main.view.read(WORKSPACE) or b"", source.named(document, root) | {"id": identity})
        main = _Folder(found.main, {WORKSPACE: said})
    evidence = _Folder({source.placed(path): place for path, place in found.evidence.items()})
    of_main, of_evidence = main_faults(main.view, policy, now), evidence_faults(identity, evidence.view, policy, now)
    faults = distinct([*found.faults, *of_main, *of_evidence])
    faults.sort(key=lambda fault: (fault.path, fault.line or 0, fault.column or 0))
    return Checked(str(folder), not faults, len(found.main) + len(found.evidence), tuple(faults))


def _workspace(data: bytes | None) -> dict[str, Any] | None:
    """What `workspace.yaml` says; None where it cannot be read, which validation will say."""
    try:
        value = documents.load(data or b"", WORKSPACE)
    except documents.DocumentError:
        return None
    return {} if value is None else value if isinstance(value, dict) else None


# --- what git would commit --------------------------------------------------------------------------------------------


def _committed(root: Path, which: str) -> set[str] | None:
    """The paths that `git ls-files` gives; None where there is no git, or it cannot read the repository.

    It is the person's own git, with their own ignore files; of what the repository's configuration may start, nothing
    is started.
    """
    command = ["git", f"--git-dir={root}/.git", f"--work-tree={root}", "-c", "core.fsmonitor=false"]
    command += ["-c", "core.hooksPath=/dev/null", "ls-files", "-z", which, "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError:
        return None
    return {os.fsdecode(path) for path in done.stdout.split(b"\0") if path} if done.returncode == 0 else None


def _without_ignored(root: Path, found: source.Scan, kept: set[str], tracked: set[str]) -> source.Scan:
    """What of a scan would be committed. `evidence/` is no part of `main`, unless somebody had git track it."""
    main = {path: place for path, place in found.main.items() if path in kept}
    main |= {
        f"{RESERVED}/{below}": place for below, place in found.evidence.items() if f"{RESERVED}/{below}" in tracked
    }
    others = [path for path in sorted(tracked) if path not in main]
    modules = [path for path in others if (root / path).is_dir() and not (root / path).is_symlink()]
    inside = {shown(path.rstrip("/")) for path in kept} - {shown(path) for path in modules}
    inside |= {folder for path in inside for folder in _parents(path)}
    faults = [
        fault
        for fault in found.faults
        if fault.path.startswith(f"{RESERVED}/") or fault.path in inside or fault.path.removesuffix("/.git") in inside
    ]
    faults += [
        Fault(shown(path), "is a submodule, which is never followed", "Put its files there, or leave it out.")
        for path in modules
    ]
    return source.Scan(main, found.evidence, faults)


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


# --- files as a tree --------------------------------------------------------------------------------------------------


class _Folder:
    """Files on disk seen as the tree they would be; their content is read anew whenever it is asked for."""

    def __init__(self, files: Mapping[str, str], instead: Mapping[str, bytes] | None = None) -> None:
        self._trees: dict[Oid, Tree] = {EMPTY_TREE: Tree([], [], b"")}
        self._places: dict[Oid, str] = {}
        self._given: dict[Oid, bytes] = {}
        nodes: dict[str, Node | None] = {}
        for path, place in files.items():
            oid = identify(BLOB, source.content(place))
            self._places[oid] = place
            nodes[path] = Node(FILE_MODE, oid)
        for path, data in (instead or {}).items():
            oid = identify(BLOB, data)
            self._given[oid] = data
            nodes[path] = Node(FILE_MODE, oid)
        root, made = rewrite(self, EMPTY_TREE, nodes)
        self._trees |= {item.id: tree for item, tree in made}
        self.view = TreeView(self, root)

    def tree(self, oid: Oid) -> Tree:
        """A tree."""
        return self._trees[oid]

    def blob(self, oid: Oid) -> bytes:
        """The content of a file. Raises StorageFailed where it is another one meanwhile."""
        if oid in self._given:
            return self._given[oid]
        place = self._places[oid]
        data = source.content(place)
        if identify(BLOB, data) != oid:
            raise StorageFailed(f"{place} changed while it was being checked: check again")
        return data
