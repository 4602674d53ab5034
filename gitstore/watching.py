"""Watches the folders of a store with one inotify instance, and tells where something happened. Only hints: what is
missed is found by the next round (see `settling`).

Of a repository's own data only HEAD, the branches and what a merge leaves are watched: a commit of this store touches
dozens of files below `.git`. The lower half of watchdog is used, whose observers would watch all of it.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from watchdog.observers.inotify_c import CallbackId, InotifyConstants, InotifyEvent, InotifyFD, Mask, WatchDescriptor

from gitstore.repository.lives import ASIDE
from gitstore.settling import ANYWHERE

_MASK = Mask(
    InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_CREATE
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_MOVED_FROM
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_DONT_FOLLOW
    | InotifyConstants.IN_EXCL_UNLINK
)
_GIT_FILES = frozenset(
    (b"HEAD", b"MERGE_HEAD", b"CHERRY_PICK_HEAD", b"REVERT_HEAD", b"rebase-merge", b"rebase-apply", b"packed-refs")
)
_GIT_FOLDERS = frozenset((b".git", b".git/refs", b".git/refs/heads"))
BRANCHES = ".git/refs/heads"  # the path that stands for a branch having moved
_LIMIT = Path("/proc/sys/fs/inotify/max_user_watches")

log = logging.getLogger("gitstore.watching")

# A folder that was moved unseen has its watch under its old path: `_add` knows that, and watchdog need not warn of it.
_TWICE = "Callback with id '.*' already exists"
warnings.filterwarnings("ignore", _TWICE, RuntimeWarning)


class Watching:
    """Watches `root`, the folder of the workspaces.

    `touched(folder, path)` is told of what happens in one of its folders (path "": anywhere in it), `moved()` that
    folders came or went, `lost()` that events were lost. All are called from the watching thread.
    """

    def __init__(
        self,
        root: Path,
        touched: Callable[[str, str], None],
        moved: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        self._root = os.fsencode(root)
        self._touched = touched
        self._moved = moved
        self._lost = lost
        self._lock = threading.Lock()
        self._places: dict[WatchDescriptor, bytes] = {}  # path below the root, "" for itself
        self._watches: dict[bytes, WatchDescriptor] = {}
        self._id = CallbackId(id(self))
        self._inotify: InotifyFD | None = None
        self._full = False
        self.most = _most()
        self.overflows = 0

    @property
    def watched(self) -> int:
        """How many folders are watched."""
        return len(self._places)

    def start(self) -> None:
        """Begins to watch. Where the system gives no instance or too few watches, rounds alone find what happens."""
        try:
            self._inotify = InotifyFD()
        except OSError as error:
            log.warning("the folders cannot be watched (%s): edits are found by the periodic round", error)
            return
        self._inotify.start()
        self._watch(b"")

    def stop(self) -> None:
        """Ends."""
        if self._inotify is not None:
            self._inotify.stop()
            self._inotify.join()

    # -- watches --------------------------------------------------------------------------------------------------

    def _watch(self, place: bytes) -> None:
        """Watches a folder and what is below it."""
        with self._lock:
            for path in _below(self._root, place):
                self._add(path)

    def _add(self, path: bytes) -> None:
        inotify = self._inotify
        if inotify is None or self._full or path in self._watches:
            return
        try:
            if len(self._places) >= self.most:
                raise OSError(errno.ENOSPC, "half of the watches of the system are in use")
            wd = inotify.add_callback(os.path.join(self._root, path) if path else self._root, _MASK, self, self._id)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.ENOMEM):
                self._full = True
                log.warning(
                    "no more folders can be watched (%s): edits in others are found by the periodic round; a larger "
                    "fs.inotify.max_user_watches helps (sysctl)",
                    error.strerror,
                )
            return  # else: gone meanwhile, or no folder
        old = self._places.get(wd)
        if old is not None:
            self._watches.pop(old, None)  # the folder was moved here
        self._places[wd] = path
        self._watches[path] = wd

    def _unwatch(self, place: bytes) -> None:
        """Forgets a folder that was moved away ("": the root), and what is below it."""
        with self._lock:
            gone = [path for path in self._watches if not place or path == place or path.startswith(place + b"/")]
            wds = [self._watches.pop(path) for path in gone]
            for wd in wds:
                self._places.pop(wd, None)
            if self._inotify is not None and wds:
                self._inotify.remove_callbacks([(wd, self._id) for wd in wds])
                self._full = False

    # -- called by watchdog -----------------------------------------------------------------------------------------

    def on_event(self, event: InotifyEvent) -> None:
        """One event of one folder."""
        place = self._places.get(event.wd)
        if place is None or not event.name:
            return
        path = os.path.join(place, event.name) if place else event.name
        folder, _, inside = path.partition(b"/")
        if event.is_directory and event.is_moved_from:
            self._unwatch(path)  # of a folder that is deleted the kernel says so itself
        if event.is_directory and (event.is_create or event.is_moved_to) and _worth(inside):
            self._watch(path)
        name = os.fsdecode(folder)
        if name.startswith(ASIDE):
            return
        if not inside:
            self._moved()
            if event.is_directory and not event.is_moved_from and not event.is_delete:
                self._touched(name, ANYWHERE)
            return
        if inside == b".git":
            self._moved()
            self._touched(name, ANYWHERE)
        elif not inside.startswith(b".git/"):
            self._touched(name, os.fsdecode(inside))
        elif inside.startswith(b".git/refs/heads/"):
            if not inside.endswith(b".lock"):
                self._touched(name, BRANCHES)
        elif inside[5:] in _GIT_FILES:
            self._touched(name, ANYWHERE)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """A folder is gone."""
        with self._lock:
            path = self._places.pop(wd, None)
            if path is not None and self._watches.get(path) == wd:
                del self._watches[path]

    def on_queue_overflow(self) -> None:
        """The kernel dropped events: what was made meanwhile is not watched, what was done not known."""
        self.overflows += 1
        log.warning("events of the folders were lost (fs.inotify.max_queued_events): everything is looked at")
        self._unwatch(b"")  # folders may have been moved unseen, and their watches with them
        self._watch(b"")
        self._moved()
        self._lost()


def _worth(inside: bytes) -> bool:
    """Whether a folder inside a workspace is watched ("" is the workspace itself)."""
    return (inside != b".git" and not inside.startswith(b".git/")) or inside in _GIT_FOLDERS


def _below(root: bytes, place: bytes) -> Iterator[bytes]:
    """The folders to watch at and below a place, links not followed."""
    waiting = [place]
    while waiting:
        path = waiting.pop()
        yield path
        try:
            with os.scandir(os.path.join(root, path) if path else root) as entries:
                names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue  # gone, or not for us: what cannot be listed cannot be watched
        for name in names:
            inner = os.path.join(path, name) if path else name
            if _worth(inner.partition(b"/")[2]):
                waiting.append(inner)


def _most() -> int:
    """Half of the watches that this user may have: others live on the machine too."""
    try:
        return int(_LIMIT.read_text("ascii")) // 2
    except (OSError, ValueError):
        return 4096
