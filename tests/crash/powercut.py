"""A disk that remembers every change, and the states in which a power cut may leave it.

The model is what POSIX promises, and ext4 or XFS may use up: a file's data is durable once that file was synced, a name
once its folder was synced (`fsync` of the file is not enough), everything once the file system was. What is not durable
at the cut is there, not there, or there in part: data as nothing, a beginning, zeros, or whole; each change of a name
on its own, except that a name's changes keep their order and a rename is one change.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gitstore.repository.disk import Disk, Folder

Slot = tuple[int, str]  # a folder (its number) and a name in it
OUTSIDE = ("derived", "secrets/key", "secrets/key.tmp", "secrets/.lock", "secrets/lock", "store.lock")


class Data(NamedTuple):
    """The content of a file from here on."""

    file: int
    content: bytes


class Names(NamedTuple):
    """Names set (to a file or folder, by number) or taken away (None), as one change."""

    changes: tuple[tuple[Slot, int | None], ...]


class Synced(NamedTuple):
    """A file or a folder is durable; None: everything is."""

    what: int | None


class Mark(NamedTuple):
    """Something that the test wants to find again at this point."""

    what: Any


Event = Data | Names | Synced | Mark
ROOT = 0


class Recorder(Disk):
    """The real disk below `root`, with a record of what was done to it."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.events: list[Event] = []
        self.folders: dict[int, dict[str, int]] = {ROOT: {}}
        self.files: dict[int, bytearray] = {}
        self.modes: dict[int, int] = {}
        self.lock = threading.RLock()
        self._next = 1

    # -- the record -----------------------------------------------------------------------------------------------

    def mark(self, what: Any) -> None:
        """Puts a mark into the record."""
        with self.lock:
            self.events.append(Mark(what))

    def _slot(self, path: str) -> Slot:
        head, _, name = path.rpartition("/")
        return self._find(head), name

    def _find(self, path: str) -> int:
        here = ROOT
        for part in Path(path).relative_to(self.root).parts:
            here = self.folders[here][part]
        return here

    def _note(self, *changes: tuple[Slot, int | None]) -> None:
        for (folder, name), what in changes:
            if what is None:
                del self.folders[folder][name]
            else:
                self.folders[folder][name] = what
        self.events.append(Names(changes))

    def _new(self, path: str, content: bytes | None, mode: int = 0o644) -> int:
        number = self._next
        self._next += 1
        if content is None:
            self.folders[number] = {}
        else:
            self.files[number] = bytearray(content)
            self.modes[number] = mode
        self._note((self._slot(path), number))
        if content:
            self.events.append(Data(number, content))
        return number

    def learn(self) -> None:
        """Takes over what somebody else did below `root`: unsynced, as by a git that syncs nothing."""
        with self.lock:
            self._learn(self.root, ROOT)

    def _learn(self, path: str, folder: int) -> None:
        there = {entry.name: entry for entry in os.scandir(path)}
        for name in list(self.folders[folder]):
            if name not in there:
                self._note(((folder, name), None))
        for name, entry in sorted(there.items()):
            inside = os.path.relpath(entry.path, self.root)
            if inside in OUTSIDE:
                continue
            known = self.folders[folder].get(name)
            if entry.is_dir(follow_symlinks=False):
                if known is None:
                    known = self._new(entry.path, None)
                self._learn(entry.path, known)
                continue
            content = Path(entry.path).read_bytes()
            if known is None or bytes(self.files[known]) != content:  # git replaces files, it does not write into them
                self._new(entry.path, content, entry.stat().st_mode & 0o777)

    # -- what the store does --------------------------------------------------------------------------------------

    def create(self, path: str, data: bytes, mode: int = 0o644) -> None:
        with self.lock:
            super().create(path, data, mode)
            self._new(path, data, mode)

    def rename(self, source: str, target: str) -> None:
        with self.lock:
            super().rename(source, target)
            self._rename(self._slot(source), self._slot(target))

    def _rename(self, old: Slot, new: Slot) -> None:
        what = self.folders[old[0]][old[1]]
        self._note((new, what), (old, None))

    def link(self, source: str, target: str) -> None:
        with self.lock:
            super().link(source, target)
            self._note((self._slot(target), self._find(source)))

    def unlink(self, path: str) -> None:
        with self.lock:
            super().unlink(path)
            self._note((self._slot(path), None))

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        with self.lock:
            super().mkdir(path, mode)
            self._new(path, None)

    def mkdir_at(self, fd: int, name: str, path: str) -> None:
        with self.lock:
            super().mkdir_at(fd, name, path)
            self._new(path, None)

    def rename_into(self, source: str, folder: Folder, name: str) -> None:
        with self.lock:
            super().rename_into(source, folder, name)
            self._rename(self._slot(source), (self._find(folder.path), name))

    def place(self, source: str, folder: Folder, name: str) -> None:
        with self.lock:
            super().place(source, folder, name)
            slot = self._slot(source)
            self._note(((self._find(folder.path), name), self.folders[slot[0]][slot[1]]))
            self._note((slot, None))

    def exchange(self, source: str, folder: Folder, name: str) -> None:
        with self.lock:
            super().exchange(source, folder, name)
            one, other = self._slot(source), (self._find(folder.path), name)
            self._note((one, self.folders[other[0]][other[1]]), (other, self.folders[one[0]][one[1]]))

    def take_out(self, folder: Folder, name: str, target: str) -> None:
        with self.lock:
            super().take_out(folder, name, target)
            self._rename((self._find(folder.path), name), self._slot(target))

    def rmdir_in(self, folder: Folder, name: str) -> None:
        with self.lock:
            super().rmdir_in(folder, name)
            self._note(((self._find(folder.path), name), None))

    def open_append(self, path: str) -> int:
        with self.lock:
            fd = super().open_append(path)
            self._new(path, b"", 0o600)
            return fd

    def append(self, fd: int, path: str, data: bytes) -> None:
        with self.lock:
            super().append(fd, path, data)
            number = self._find(path)
            self.files[number] += data
            self.events.append(Data(number, bytes(self.files[number])))

    def truncate(self, fd: int, path: str, size: int) -> None:
        with self.lock:
            super().truncate(fd, path, size)
            number = self._find(path)
            del self.files[number][size:]
            self.events.append(Data(number, bytes(self.files[number])))

    # -- what makes it durable; the real disk need not do it ------------------------------------------------------

    def sync_data(self, fd: int, path: str) -> None:
        self.sync_file(path)

    def sync_file(self, path: str) -> None:
        with self.lock:
            self.events.append(Synced(self._find(path)))

    def sync_folder(self, path: str) -> None:
        with self.lock:
            if path == os.path.dirname(self.root):
                return  # the data folder's own name: taken for granted here
            self.events.append(Synced(self._find(path)))

    def sync_all(self, root: str) -> None:
        with self.lock:
            self.events.append(Synced(None))


class Quick(Disk):
    """The real disk without waiting for it: a test's power does not go."""

    def sync_data(self, fd: int, path: str) -> None: ...

    def sync_file(self, path: str) -> None: ...

    def sync_folder(self, path: str) -> None: ...

    def sync_all(self, root: str) -> None: ...


class File:
    """A file at the cut: what it holds, and what of that is durable."""

    __slots__ = ("content", "safe")

    def __init__(self) -> None:
        self.content = b""
        self.safe = b""


Content = Callable[[File], bytes]


def whole(file: File) -> bytes:
    """All data arrived."""
    return file.content


def nothing(file: File) -> bytes:
    """No data arrived that was not synced."""
    return file.safe


def zeros(file: File) -> bytes:
    """The length arrived, the data did not."""
    kept = _common(file)
    return file.safe[:kept] + bytes(len(file.content) - kept)


def torn(rng: random.Random) -> Content:
    """A beginning of the data arrived; what follows is missing or zero."""

    def content(file: File) -> bytes:
        kept = rng.randint(_common(file), len(file.content)) if len(file.content) > _common(file) else _common(file)
        rest = len(file.content) - kept
        return file.content[:kept] + bytes(rng.choice((0, rest, rest // 2)))

    return content


def mixed(rng: random.Random) -> Content:
    """Each file in its own way."""

    def content(file: File) -> bytes:
        return rng.choice((whole, nothing, zeros, torn(rng)))(file)

    return content


def _common(file: File) -> int:
    """How much of the durable content is the beginning of the newest."""
    return len(file.safe) if file.content.startswith(file.safe) else 0


class State:
    """The disk at one point of a record."""

    def __init__(self, modes: dict[int, int]) -> None:
        self.files: dict[int, File] = {}
        self.safe: dict[Slot, int] = {}
        self.pending: list[Names] = []
        self._modes = modes

    def take(self, event: Event) -> None:
        """One event further."""
        if isinstance(event, Data):
            self.files.setdefault(event.file, File()).content = event.content
        elif isinstance(event, Names):
            self.pending.append(event)
        elif isinstance(event, Synced):
            if event.what is None:
                for file in self.files.values():
                    file.safe = file.content
                chosen = set(range(len(self.pending)))
            else:
                if (file_ := self.files.get(event.what)) is not None:
                    file_.safe = file_.content
                chosen = {
                    at
                    for at, names in enumerate(self.pending)
                    if any(slot[0] == event.what for slot, _ in names.changes)
                }
            self._settle(self._closed(chosen))

    def _closed(self, chosen: set[int]) -> set[int]:
        """The chosen changes, and those of the same names before them."""
        slots: set[Slot] = set()
        closed = set()
        for at in range(len(self.pending) - 1, -1, -1):
            mine = {slot for slot, _ in self.pending[at].changes}
            if at in chosen or mine & slots:
                closed.add(at)
                slots |= mine
        return closed

    def _settle(self, chosen: set[int]) -> None:
        self.safe = self._names(chosen)
        self.pending = [names for at, names in enumerate(self.pending) if at not in chosen]

    def _names(self, chosen: set[int]) -> dict[Slot, int]:
        found = dict(self.safe)
        for at in sorted(chosen):
            for slot, what in self.pending[at].changes:
                if what is None:
                    found.pop(slot, None)
                else:
                    found[slot] = what
        return found

    def build(self, target: Path, *, names: Callable[[int], bool], content: Content) -> int:
        """Makes a folder as the disk is after the cut; a number that tells it from others.

        `names`: which of the pending changes of names arrived.
        """
        found = self._names(self._closed({at for at in range(len(self.pending)) if names(at)}))
        below: dict[int, list[tuple[str, int]]] = {}
        for (folder, name), what in found.items():
            below.setdefault(folder, []).append((name, what))
        target.mkdir(parents=True)
        made: dict[int, Path] = {}
        tell: list[object] = []
        self._fill(target, ROOT, below, made, content, tell)
        return hash(tuple(tell))

    def _fill(
        self,
        path: Path,
        folder: int,
        below: dict[int, list[tuple[str, int]]],
        made: dict[int, Path],
        content: Content,
        tell: list[object],
    ) -> None:
        for name, what in sorted(below.get(folder, ())):
            inner = path / name
            tell += (name, what)
            if what not in self._modes:
                inner.mkdir()
                self._fill(inner, what, below, made, content, tell)
                tell.append(None)
            elif what in made:
                os.link(made[what], inner)
            else:
                data = content(self.files.get(what) or File())
                fd = os.open(inner, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self._modes[what])
                with os.fdopen(fd, "wb") as file:
                    file.write(data)
                made[what] = inner
                tell.append(data)


class Cut(NamedTuple):
    """One state to recover from. `restarted`: the machine went down, else only the process."""

    at: int
    name: str
    restarted: bool
    names: Callable[[int], bool]
    content: Content


def cuts(at: int, rng: random.Random, depth: int, *, often: float = 0.5) -> Iterator[Cut]:
    """The states worth a look after `at` events: one (the end of the process, an extreme, or a random one), and that
    only so `often`; with a `depth`, all extremes and as many random ones.
    """
    kind = rng.randrange(3) if rng.random() < often else None
    extremes: Sequence[tuple[str, Callable[[int], bool], Content]] = (
        ("nothing that was not synced", lambda _: False, nothing),
        ("names without data", lambda _: True, nothing),
        ("names and zeros", lambda _: True, zeros),
        ("data without names", lambda _: False, whole),
        ("names and torn data", lambda _: True, torn(rng)),
        ("everything", lambda _: True, whole),
    )
    if depth or kind == 0:
        yield Cut(at, "killed", False, lambda _: True, whole)
    for name, names, content in extremes if depth else (extremes[rng.randrange(5)],) if kind == 2 else ():
        yield Cut(at, name, True, names, content)
    for number in range(depth or kind == 1):
        part = rng.choice((0.2, 0.5, 0.8))
        picks: dict[int, bool] = {}

        def some(which: int, picks: dict[int, bool] = picks, part: float = part) -> bool:
            return picks.setdefault(which, rng.random() < part)

        yield Cut(at, f"some, {number}", True, some, mixed(rng))


def copy_outside(source: Path, target: Path, *, derived: bool) -> None:
    """What is not in the record: the master key, and the derived indexes if they are to be there."""
    for name in OUTSIDE:
        there = source / name
        if name == "derived":
            if derived and there.is_dir():
                shutil.copytree(there, target / name, dirs_exist_ok=True)
        elif there.is_file() and name != "store.lock":
            (target / name).parent.mkdir(mode=0o700, exist_ok=True)
            shutil.copy2(there, target / name)
