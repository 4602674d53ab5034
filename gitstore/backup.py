"""A whole store in one tar file, and back. The file is taken whole or not at all: every byte is under a SHA-256.

Written beside a running server: of each workspace it has the two branches as they were promised at the beginning, and
the other branches and tags, each with all its history. The keys come along as hashes; sealed secrets and the key that
opens them only if asked for. The journal is part of it in effect, for its changes are in the branches. What nobody
committed, the trash and the derived indexes are not.

File: a tar (POSIX pax) whose first member is `backup.json` (format, time, workspaces and heads), then `keys.yaml`,
`secrets/…`, `large/<sha256>`, `workspaces/<folder>/<pack>`; the last, `sha256`, has the hash of every byte before it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from gitstore import names, values
from gitstore.errors import Conflict, Damaged, FormatUnknown, GitstoreError, NotFound, StorageFailed
from gitstore.layout import Layout
from gitstore.lfs.pointer import is_oid
from gitstore.repository import refs, tags
from gitstore.repository.database import TreeCache
from gitstore.repository.disk import Disk
from gitstore.repository.objects import Oid
from gitstore.repository.packs import write_pack
from gitstore.repository.repository import Repository
from gitstore.repository.transfer import Entry, copy
from gitstore.survey import Standing, Survey

FORMAT = 2
PLAIN = 1  # of a backup without large objects, which older releases read too
_HEADER = "backup.json"
_SCRATCH = "restoring"
_SEAL = "sha256"
_BLOCK = 512
_CHUNK = 1 << 20
_TAIL = 4 * _BLOCK  # the header and content of the seal, and the two blocks of zeros that end a tar

Progress = Callable[[str, int, int | None], None]


class Held(msgspec.Struct, frozen=True):
    """One workspace in a backup; heads are 40 hexadecimal digits."""

    id: str
    folder: str
    main: str
    evidence: str | None = None
    packs: int = 0
    refs: dict[str, str] = {}  # other branches and tags
    pushed: tuple[str, ...] = ()  # the commits that came by a push
    snapshots: tuple[str, ...] = ()  # the names of the tags that are snapshots
    large: tuple[str, ...] = ()  # the large objects that its history has pointers to


class Contents(msgspec.Struct, frozen=True):
    """`backup.json`: what a backup says of itself."""

    format: int
    created_at: str
    secrets: bool
    workspaces: tuple[Held, ...]


def write(data: Path, file: Path, *, with_secrets: bool = False, progress: Progress | None = None) -> Contents:
    """Backs the store in `data` up to `file`, replacing it only once the new one is whole and synced. Mode 0600.

    Raises NotFound, Damaged where a workspace is not sound (nothing is backed up then), StorageFailed.
    """
    tell = progress or (lambda *_: None)
    partial = file.absolute().with_name(f".{file.name}.{names.new_id()[:8]}.partial")
    scratch = partial.with_suffix(".packs")
    with Survey(data) as survey:
        if survey.broken:
            name, error = survey.broken[0]
            raise Damaged(f"workspaces/{name} cannot be backed up: {error.message}")
        try:
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
                contents = _Writer(out, scratch, tell).write(survey, with_secrets)
                out.flush()
                os.fsync(out.fileno())
            partial.rename(file)
            Disk().sync_folder(str(partial.parent))
        except OSError as error:
            raise StorageFailed(f"{file} cannot be written: {error.strerror or error}") from error
        finally:
            partial.unlink(missing_ok=True)
            shutil.rmtree(scratch, ignore_errors=True)
    return contents


class _Writer:
    def __init__(self, out: BinaryIO, scratch: Path, progress: Progress) -> None:
        self.out = out
        self.scratch = scratch
        self.progress = progress
        self.digest = hashlib.sha256()
        self.now = int(time.time())

    def write(self, survey: Survey, with_secrets: bool) -> Contents:
        """Everything, in the order in which restoring wants it."""
        layout = survey.layout
        packs: list[tuple[str, list[Path]]] = []
        large: dict[str, Path] = {}
        held: list[Held] = []
        for number, one in enumerate(survey):
            head = one.head("main")
            if head is None:
                raise Damaged(f"{one.folder} has no main branch")
            tell = self._about(one, number, len(survey.standing))
            wanted, files = _packed(one, self.scratch / one.id, tell)
            objects = tuple(pointer.oid for pointer in one.repository.large(wanted))
            large.update((oid, Path(one.repository.objects.path(oid))) for oid in objects)
            packs.append((one.folder, files))
            others = {ref: oid.hex() for ref, oid in one.others.items()}
            pushed = tuple(oid.hex() for oid in one.repository.all_pushed())
            marks = tags.marked(one.repository.git).items()
            named = tuple(sorted(name for name, oid in marks if others.get(f"{tags.TAGS}/{name}") == oid.hex()))
            held.append(
                Held(one.id, one.folder, head, one.head("evidence"), len(files), others, pushed, named, objects)
            )
        contents = Contents(FORMAT if large else PLAIN, values.iso(self.now * 1000), with_secrets, tuple(held))
        self._member(_HEADER, msgspec.json.format(msgspec.json.encode(contents)))
        if layout.keys.exists():
            self._member("keys.yaml", layout.keys.read_bytes())
        if with_secrets:
            for name, data in _secrets(survey):
                self._member(f"secrets/{name}", data)
        for number, (oid, path) in enumerate(sorted(large.items())):
            self.progress("large objects", number, len(large))
            self._file(f"large/{oid}", path, oid)
        for folder, files in packs:
            for path in files:
                self._file(f"workspaces/{folder}/{path.name}", path)
        self._member(_SEAL, self.digest.hexdigest().encode())
        self._put(bytes(2 * _BLOCK))
        return contents

    def _about(self, one: Standing, number: int, total: int) -> Callable[[int, int], None]:
        return lambda done, of: self.progress(f"{one.folder} ({number + 1} of {total})", done, of)

    def _put(self, data: bytes) -> None:
        self.digest.update(data)
        self.out.write(data)

    def _member(self, name: str, data: bytes) -> None:
        self._put(_header(name, len(data), self.now if name != _SEAL else 0))
        self._put(data + bytes(-len(data) % _BLOCK))

    def _file(self, name: str, path: Path, sha256: str | None = None) -> None:
        size = path.stat().st_size
        own = hashlib.sha256()
        self._put(_header(name, size, self.now))
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                self._put(chunk)
                own.update(chunk)
        if sha256 is not None and own.hexdigest() != sha256:
            raise Damaged(f"the large object {sha256} is damaged: `gitstore verify` says where it is used")
        self._put(bytes(-size % _BLOCK))


def _header(name: str, size: int, when: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, when, 0o600
    return info.tobuf(tarfile.PAX_FORMAT)


def _packed(one: Standing, folder: Path, progress: Callable[[int, int], None]) -> tuple[set[Oid], list[Path]]:
    """Everything a workspace's branches reach, and packs of it in a scratch folder, in the order they were written."""
    (folder / "pack").mkdir(parents=True)
    (folder / "scratch").mkdir()
    disk = Disk()
    written: list[Path] = []

    def store(entries: list[Entry]) -> None:
        index = write_pack(disk, str(folder), f"{folder}/scratch", {oid: entry for oid, _, entry in entries})
        written.extend([Path(index.removesuffix(".idx") + ".pack"), Path(index)])

    wanted = one.reached(lambda done: progress(done, 0))
    copy(one.repository.database, wanted, store, progress)
    return wanted, list(dict.fromkeys(written))


def _secrets(survey: Survey) -> Iterator[tuple[str, bytes]]:
    """The sealed secrets of the workspaces that are there, and the key, unless it comes from the environment."""
    folder = survey.layout.secrets
    if (folder / "key").exists():
        yield "key", (folder / "key").read_bytes()
    for one in survey:
        if one.sealed is not None:
            yield one.id, one.sealed
        elif (folder / one.id).exists():
            yield one.id, (folder / one.id).read_bytes()


# --- and back ---------------------------------------------------------------------------------------------------------


def check(file: Path, progress: Progress | None = None) -> None:
    """Reads all of a backup. Raises NotFound, Damaged where it is not exactly what was written, StorageFailed."""
    tell = progress or (lambda *_: None)
    digest = hashlib.sha256()
    try:
        with file.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            if not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
                raise Damaged(f"{file} is no file")
            if size < _TAIL or size % _BLOCK:
                raise Damaged(f"{file} is no gitstore backup, or was cut short")
            left = size - _TAIL
            while left:
                chunk = source.read(min(left, _CHUNK))
                if not chunk:
                    raise Damaged(f"{file} became shorter while it was read")
                digest.update(chunk)
                left -= len(chunk)
                tell("checking the backup", size - _TAIL - left, size)
            tail = source.read()
    except FileNotFoundError:
        raise NotFound(f"there is no file {file}") from None
    except OSError as error:
        raise StorageFailed(f"{file} cannot be read: {error.strerror or error}") from error
    seal = _header(_SEAL, 64, 0) + digest.hexdigest().encode()
    if tail != seal + bytes(_TAIL - len(seal)):
        raise Damaged(f"{file} is no gitstore backup, or was cut short or altered: its checksum does not hold")


def read(file: Path) -> Contents:
    """What a backup says of itself. Raises Damaged, FormatUnknown."""
    with _opened(file) as tar:
        return _contents(file, tar)


def restore(file: Path, data: Path, *, progress: Progress | None = None) -> Contents:
    """Makes the store of a backup in `data`, which must not exist or be empty; all of it or nothing.

    The derived indexes are made when the store is opened next. Raises NotFound, Conflict, Damaged for a backup that is
    not whole, FormatUnknown, StorageFailed.
    """
    tell = progress or (lambda *_: None)
    target = Layout(data.absolute())
    try:
        # What an interrupted restore left may go; before its end nothing of it counts.
        if target.root.exists() and (not target.root.is_dir() or set(os.listdir(target.root)) - {_SCRATCH}):
            raise Conflict(f"{target.root} is not empty: a backup is restored into an empty folder")
        made = not target.root.exists()
        check(file, tell)
        target.root.mkdir(parents=True, exist_ok=True)
        scratch = Layout(target.root / _SCRATCH)
        shutil.rmtree(scratch.root, ignore_errors=True)
        try:
            contents = _restored(file, scratch, tell)
            Disk().sync_all(str(target.root))
            # The workspaces come last but one: before them this is no store, and after them nothing is missing.
            for name in ("secrets", "keys.yaml", "large", "workspaces", "store.yaml"):
                if (scratch.root / name).exists():
                    (scratch.root / name).rename(target.root / name)
            scratch.root.rmdir()
            Disk().sync_folder(str(target.root))
        except BaseException:
            for entry in target.root.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            if made:
                target.root.rmdir()
            raise
    except OSError as error:
        raise StorageFailed(f"{target.root} cannot be written: {error.strerror or error}") from error
    return contents


def _opened(file: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(file, "r:")
    except (tarfile.TarError, OSError) as error:
        raise Damaged(f"{file} cannot be read as a backup: {error}") from error


def _contents(file: Path, tar: tarfile.TarFile) -> Contents:
    try:
        member = tar.next()
        source = tar.extractfile(member) if member is not None and member.name == _HEADER else None
        if source is None:
            raise Damaged(f"{file} is no gitstore backup")
        data = source.read()
        found = msgspec.json.decode(data).get("format")
        if isinstance(found, int) and found > FORMAT:
            raise FormatUnknown(f"{file} has format {found} and this release knows {FORMAT}")
        return msgspec.json.decode(data, type=Contents)
    except (tarfile.TarError, msgspec.MsgspecError, AttributeError, UnicodeDecodeError) as error:
        raise Damaged(f"{file} is no gitstore backup: {error}") from error


def _restored(file: Path, layout: Layout, progress: Progress) -> Contents:
    disk = Disk()
    layout.root.mkdir()
    layout.make(disk)
    with _opened(file) as tar:
        contents = _contents(file, tar)
        homes = {one.folder: one for one in contents.workspaces}
        if len({names.fold(folder) for folder in homes}) < len(contents.workspaces):
            raise Damaged(f"{file} has two workspaces of one name")
        for one in contents.workspaces:
            names.check_slug(one.folder)
            Repository.create(disk, str(layout.workspaces / one.folder), one.id)
        for number, member in enumerate(tar):
            place = _place(layout, member.name, homes)
            source = tar.extractfile(member)
            if place is None or source is None:
                if member.name not in (_HEADER, _SEAL):
                    raise Damaged(f"{file} has the member {member.name!r}, which no backup has")
                continue
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = 0o444 if place.suffix in (".pack", ".idx") or layout.large in place.parents else 0o600
            with open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as out:
                shutil.copyfileobj(source, out, _CHUNK)
            progress("unpacking", number, None)
    for number, one in enumerate(contents.workspaces):
        progress("checking out", number, len(contents.workspaces))
        _checked_out(disk, layout, one)
    for folder in (layout.journal, layout.derived, layout.trash):
        folder.rmdir()  # a start makes them
    return contents


def _place(layout: Layout, name: str, homes: dict[str, Held]) -> Path | None:
    """Where a member goes; None for the header, the seal, and what has no business here."""
    parts = name.split("/")
    if name == "keys.yaml":
        return layout.keys
    if len(parts) == 2 and parts[0] == "secrets" and (parts[1] == "key" or names.is_uuid(parts[1])):
        return layout.secrets / parts[1]
    if len(parts) == 2 and parts[0] == "large" and is_oid(parts[1]):
        return layout.large / parts[1][:2] / parts[1][2:4] / parts[1]
    if len(parts) == 3 and parts[0] == "workspaces" and parts[1] in homes and parts[2].startswith("pack-"):
        stem, _, suffix = parts[2].removeprefix("pack-").partition(".")
        if stem.isalnum() and suffix in ("pack", "idx"):
            return layout.workspaces / parts[1] / ".git/objects/pack" / parts[2]
    return None


def _checked_out(disk: Disk, layout: Layout, one: Held) -> None:
    repository = Repository(disk, str(layout.workspaces / one.folder), TreeCache())
    try:
        repository.kept.update({"main": None, "evidence": None})
        repository.shown.update({"main": None, "evidence": None})
        heads = {"main": one.main} | ({"evidence": one.evidence} if one.evidence is not None else {})
        moved = {branch: Oid(bytes.fromhex(head)) for branch, head in heads.items()}
        for oid in one.large:
            repository.objects.link(str(layout.large / oid[:2] / oid[2:4] / oid), oid)
        repository.check_out(None, moved["main"], ())
        repository.mark_pushed(Oid(bytes.fromhex(commit)) for commit in one.pushed)
        repository.move(moved, show=True)
        for ref, oid in one.refs.items():
            if refs.fault(ref) is not None or not ref.startswith(("refs/heads/", "refs/tags/")):
                raise Damaged(f"{ref!r} cannot be the name of a branch or tag")
            refs.swap(disk, repository.git, repository.database.scratch, ref, None, Oid(bytes.fromhex(oid)))
        for name in one.snapshots:
            made = Oid(bytes.fromhex(one.refs[f"{tags.TAGS}/{name}"]))
            refs.swap(disk, repository.git, repository.database.scratch, f"{tags.MARKS}/{name}", None, made)
    except (GitstoreError, ValueError, KeyError, FileNotFoundError) as error:
        raise Damaged(f"workspace {one.folder} of the backup cannot be restored: {error}") from error
    finally:
        repository.database.close()
