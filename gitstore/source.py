"""What an import reads: a plain folder, or a git repository with the history that its HEAD has.

Nothing found there is executed, followed or changed: links, submodules and hooks stay what they are to us, bytes.
"""

from __future__ import annotations

import configparser
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from gitstore import names, paths
from gitstore.acceptance import Fault
from gitstore.context import RESERVED
from gitstore.errors import Invalid, NotFound, StorageFailed
from gitstore.parsed import text_secrets
from gitstore.reading import shown
from gitstore.repository import refs
from gitstore.repository.check import walk
from gitstore.repository.database import Database, TreeCache
from gitstore.repository.disk import Disk, Folder
from gitstore.repository.measure import measure
from gitstore.repository.objects import BLOB, Blob, Oid
from gitstore.rules import Policy

FILE_MAX = 64 << 30  # bytes; what is over the bound for large objects is never in memory whole
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class Scan(NamedTuple):
    """The files of a folder, by path in it: those of the context, those below `evidence/`, and what cannot be taken."""

    main: dict[str, str]
    evidence: dict[str, str]
    faults: list[Fault]


def scan(folder: Path) -> Scan:
    """Lists a folder without following a link; `.git` at the top is left out. Raises NotFound, StorageFailed."""
    if not folder.is_dir():
        raise NotFound(f"{folder} is no folder")
    found = Scan({}, {}, [])
    try:
        for path, place in _files(str(folder), "", found.faults):
            top, _, below = path.partition("/")
            if top == RESERVED and below:
                found.evidence[below] = place
            else:
                found.main[path] = place
    except OSError as error:
        raise StorageFailed(f"{error.filename} cannot be read: {error.strerror or error}") from error
    return found


def _files(folder: str, prefix: str, faults: list[Fault]) -> Iterator[tuple[str, str]]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = prefix + entry.name
        if not prefix and entry.name == ".git":
            continue
        if entry.is_symlink():
            faults.append(Fault(shown(path), "is a symbolic link, which is never followed", "Put a plain file there."))
        elif entry.is_dir():
            if paths.means_git(entry.name):
                hint = "Import it by itself, or leave it out."
                faults.append(Fault(shown(path), "is a git repository inside the folder, or looks like one", hint))
            elif path.count("/") > paths.MAX_DEPTH:
                faults.append(Fault(shown(path), "is nested too deep", "Move its files up."))
            else:
                yield from _files(entry.path, path + "/", faults)
        elif not entry.is_file():
            faults.append(Fault(shown(path), "is no ordinary file (a device, pipe or socket)", "Leave it out."))
        elif entry.stat().st_size > FILE_MAX:
            faults.append(Fault(shown(path), f"is larger than {FILE_MAX >> 30} GiB", "Leave it out."))
        else:
            yield path, entry.path


def read(place: str) -> Blob:
    """A file that `scan` found, as an object. Raises StorageFailed."""
    return Blob(content(place))


def content(place: str) -> bytes:
    """The content of a file that `scan` found. Raises StorageFailed, also where it became a link meanwhile."""
    try:
        fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise StorageFailed(f"{place} is no ordinary file any more")
            return file.read()
    except OSError as error:
        raise StorageFailed(f"{place} cannot be read: {error.strerror or error}") from error


def opened(place: str) -> BinaryIO:
    """A file that `scan` found, to be read in pieces. Raises StorageFailed, also where it became a link meanwhile."""
    try:
        file = os.fdopen(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    except OSError as error:
        raise StorageFailed(f"{place} cannot be read: {error.strerror or error}") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise StorageFailed(f"{place} is no ordinary file any more")
    return file


def holds(place: str, oid: Oid, database: Database) -> bool:
    """Whether a file that `scan` found holds a blob, or the large object that it points to. Raises StorageFailed."""
    folder, name = os.path.split(place)
    try:
        with Folder(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), folder) as here:
            return measure(here, name).is_blob(database, oid)
    except OSError as error:
        raise StorageFailed(f"{place} cannot be read: {error.strerror or error}") from error


def placed(path: str) -> str:
    """Where a file of the evidence belongs: an artifact folder right below `artifacts/` goes where its name says."""
    parts = path.split("/")
    return f"{names.artifact_folder(parts[1])}/{parts[2]}" if len(parts) == 3 and parts[0] == "artifacts" else path


def named(document: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What the `workspace.yaml` of a folder is to say: `id` first, name and slug after the folder where it has none."""
    stem = folder.name.removesuffix(".git") or "workspace"
    fields = {"id": document.get("id"), **{key: value for key, value in document.items() if key != "id"}}
    fields["name"] = fields.get("name") if fields.get("name") is not None else names.one_line(stem)
    fields["slug"] = fields.get("slug") if fields.get("slug") is not None else _slug(stem)
    return fields


def _slug(stem: str) -> str:
    slug = _UNSAFE.sub("-", stem).strip("-._")[:100].strip("-._") or "workspace"
    try:
        names.check_slug(slug)
    except Invalid:
        slug = f"workspace-{slug[:80]}".removesuffix(".git").removesuffix(".lock")
    return slug


class Git:
    """A git repository to import: its heads, and everything they reach, read and found sound."""

    def __init__(self, git: Path, main: Oid, evidence: Oid | None, left_out: int) -> None:
        self.git = git
        self.main = main
        self.evidence = evidence
        self.left_out = left_out  # other branches and tags
        self.database = Database(Disk(), str(git), TreeCache())
        self.objects: set[Oid] = set()

    @classmethod
    def find(cls, folder: Path) -> Git | None:
        """The repository of a folder (or the folder itself, if it is a bare one); None for a plain folder.

        A repository without a commit counts as a plain folder. Raises Invalid for one of a kind that is not read.
        """
        git = folder / ".git"
        if git.is_symlink() or git.is_file():
            raise Invalid(
                f"{git} leads to a repository elsewhere (a worktree or submodule): import a clone of it, which "
                f"`git clone {folder} COPY` makes"
            )
        if not git.is_dir():
            git = folder
            if not all((git / name).exists() for name in ("HEAD", "objects", "refs")):
                return None
        for name, why in (
            ("shallow", "is a shallow clone; fetch the rest with `git fetch --unshallow`"),
            ("objects/info/alternates", "borrows objects from another repository; clone it with `--no-local` first"),
            ("reftable", "keeps its refs in a reftable; clone it with `--ref-format=files` first"),
        ):
            if (git / name).exists():
                raise Invalid(f"{git} {why}")
        if _object_format(git) != "sha1":
            raise Invalid(f"{git} has {_object_format(git)} object ids; only SHA-1 repositories can be imported")
        main = head(git)
        if main is None:
            return None
        evidence = refs.read(str(git), refs.EVIDENCE) or refs.read(str(git), "refs/remotes/origin/evidence")
        taken = {refs.EVIDENCE, "refs/remotes/origin/evidence", refs.checked_out(str(git))}
        others = {ref for ref in _refs(git) if ref.startswith(("refs/heads/", "refs/tags/"))} - taken
        return cls(git, main, evidence, len(others))

    def examine(self, policy: Policy, progress: Callable[[int], None]) -> list[Fault]:
        """Reads all history: ids, form, completeness, and credentials in every text the context branch ever had."""
        faults: list[Fault] = []

        def seen(oid: Oid, kind: int, path: str, data: bytes) -> None:
            if len(self.objects) % 500 == 0:
                progress(len(self.objects))
            if looking and kind == BLOB and policy == "refuse" and (found := text_secrets(oid.hex(), data)):
                faults.append(
                    Fault(
                        shown(path),
                        f"holds {found[0].what}, now or earlier in its history",
                        "Revoke it; then take it out of the history, or import the folder without its .git.",
                        found[0].line,
                        found[0].column,
                    )
                )

        for tip in (self.main, self.evidence):
            looking = tip == self.main
            if tip is not None:
                for fault in walk(self.database, [tip], kept=self.objects, seen=seen):
                    faults.append(Fault(fault.path or str(self.git), fault.text, "`git fsck` says more."))
        return faults


def head(git: Path) -> Oid | None:
    """The commit that HEAD of the repository `git` is at."""
    ref = refs.checked_out(str(git))
    if ref is not None:
        return refs.read(str(git), ref)
    text = (git / "HEAD").read_text("ascii", "replace").strip()
    try:
        return Oid(bytes.fromhex(text)) if len(text) == 40 else None
    except ValueError:
        return None


def _refs(git: Path) -> set[str]:
    found = set()
    for folder in ("refs/heads", "refs/tags"):
        for root, _, files in os.walk(git / folder):
            found |= {f"{os.path.relpath(root, git)}/{name}" for name in files if not name.endswith(".lock")}
    if (git / "packed-refs").exists():
        lines = (git / "packed-refs").read_text("utf-8", "surrogateescape").splitlines()
        found |= {line.split(" ", 1)[1] for line in lines if " " in line and line[0] not in "#^"}
    return found


def _object_format(git: Path) -> str:
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True, delimiters=("=",))
    try:
        lines = (git / "config").read_text("utf-8", "replace").splitlines()
        parser.read_string("\n".join(line.strip() for line in lines))
        return parser.get("extensions", "objectformat", fallback="sha1") or "sha1"
    except (FileNotFoundError, configparser.Error):
        return "sha1"  # a config in a form that this reader does not know; ids of another length are found later
