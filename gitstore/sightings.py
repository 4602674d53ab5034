"""When a file of `main` held a text: from which commit until which, newest first.

The commits are looked through from the newest on, so many at a time; a look goes on where the one before stopped.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Final, NamedTuple

from gitstore import documents, names, schemas, values
from gitstore.blame.leaves import leaves
from gitstore.changes import Workspace
from gitstore.documents import DocumentError
from gitstore.errors import Invalid, Malformed
from gitstore.history import Entry, History, TimelineQuery
from gitstore.model import ChangedPath, Stamp
from gitstore.store import Store
from gitstore.story import Place

_COMMITS: Final = 200  # read from the index at once
_LOOKED_AT: Final = 3_000  # changed files in one look
_READ: Final = 64 << 20  # bytes of them in one look
_ONWARD: Final = 20_000  # later versions in one look, to find when a text went
_LARGEST: Final = 1 << 20  # bytes of a file that is looked into
_REMEMBERED: Final = 50_000  # blobs of which is kept whether they hold a text
_AROUND: Final = 60  # characters of an excerpt on either side
_DOCUMENTS: Final = (".yaml", ".yml")
_CURSOR: Final = re.compile(r"([A-Za-z0-9_-]+)\.([0-9]{1,7})")


class Wanted(NamedTuple):
    """What is looked for: a text, ignoring case, in one part, path (or folder) or key, if they are given."""

    text: str
    part: str | None = None
    path: str | None = None
    key: str | None = None

    def concerns(self, one: ChangedPath) -> bool:
        """Whether a change may have brought the text to where it is looked for."""
        if one.blob is None or one.op not in ("added", "changed"):
            return False
        if (self.part is not None and one.part != self.part) or (self.key is not None and one.key != self.key):
            return False
        place = (self.path or "").strip("/")
        if not place and one.path.startswith(schemas.FOLDER + "/"):
            return False  # nobody wrote those here
        return not place or one.path == place or one.path.startswith(place + "/")


class Sighting(NamedTuple):
    """A file held the text since one commit, and until another (None: still).

    `pointer` names a value or a key of a YAML document, `line` (from 1) a line of anything else: the first that had it.
    `cut`: it went after more versions than are looked at, so nothing is told of that.
    """

    path: str
    key: str | None
    part: str
    pointer: str | None
    line: int | None
    excerpt: str
    since: Stamp
    until: Stamp | None
    cut: bool = False


class Look(NamedTuple):
    """What one look found. `next_cursor` goes on from there, None at the beginning of history; `reached` is how far
    back it went (ms)."""

    rows: list[Sighting]
    next_cursor: str | None
    reached: int | None


class Sightings:
    """Searches through the history of one store's workspaces. Every method may be called from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: OrderedDict[tuple[str, str], bool] = OrderedDict()

    def look(self, workspace: Workspace, wanted: Wanted, *, cursor: str | None = None, most: int = 20) -> Look:
        """Up to `most` sightings, fewer where history is long. Raises Invalid for a cursor that no look gave out."""
        return _Search(self._store.history, workspace, wanted, self._held).run(cursor, most)


class _Search:
    """One look."""

    def __init__(
        self, history: History, workspace: Workspace, wanted: Wanted, held: OrderedDict[tuple[str, str], bool]
    ) -> None:
        self._history = history
        self._workspace = workspace
        self._wanted = wanted
        self._pattern = re.compile(re.escape(wanted.text), re.IGNORECASE)
        self._plain = wanted.text.lower().encode() if wanted.text.isascii() else None
        self._held = held
        self._files = _LOOKED_AT
        self._bytes = _READ
        self._onward = _ONWARD

    def run(self, cursor: str | None, most: int) -> Look:
        """Looks through history from where a look before stopped."""
        identity = self._workspace.id
        query = TimelineQuery(path=self._wanted.path, key=self._wanted.key)
        place, skip = self._read(cursor)
        before = (place[0], place[1] + 1) if place is not None else None
        rows: list[Sighting] = []
        reached: int | None = None
        while True:
            commits = self._history.entries(identity, query, before, _COMMITS)
            for place, entry in commits:
                before = place
                for number, one in enumerate(self._changes(entry)[skip:], skip):
                    if len(rows) == most or self._files <= 0 or self._bytes <= 0:
                        return Look(rows, f"{self._history.cursor(identity, place)}.{number}", reached)
                    if self._wanted.concerns(one) and (found := self._begins(entry, one, place)) is not None:
                        rows.append(found)
                skip, reached = 0, entry.facts.time
                self._files -= 1  # a commit without anything to look at is work too
            if len(commits) < _COMMITS:
                return Look(rows, None, reached)

    def _read(self, cursor: str | None) -> tuple[Place | None, int]:
        if cursor is None:
            return None, 0
        found = _CURSOR.fullmatch(cursor)
        if found is None:
            raise Invalid("the cursor is not one that this list gave out")
        return self._history.place(self._workspace.id, found[1]), int(found[2])

    def _changes(self, entry: Entry) -> tuple[ChangedPath, ...]:
        if entry.facts.branch != "main":
            return ()
        if entry.changes_total > len(entry.facts.changes):
            whole = self._history.commit(self._workspace.id, entry.facts.id)
            return whole.changes if whole is not None else ()
        return entry.facts.changes

    # -- one file of one commit ---------------------------------------------------------------------------------------

    def _begins(self, entry: Entry, one: ChangedPath, place: Place) -> Sighting | None:
        """The sighting that begins with a commit's change of a file, if one does."""
        self._files -= 1
        if not self._holds(one.path, one.blob):
            return None
        if one.op == "changed":
            story = self._history.story(self._workspace.id, "main", one.path, beyond=place)
            old = next(story.turns(), None) if story is not None else None
            if old is not None and self._holds(old.path, old.blob):
                return None
        until, cut = self._ends(one.path, place)
        pointer, line, excerpt = self._where(one.path, one.blob or "")
        return Sighting(one.path, one.key, one.part, pointer, line, excerpt, Stamp.of(entry.facts), until, cut)

    def _ends(self, path: str, place: Place) -> tuple[Stamp | None, bool]:
        """The first later commit after which the file does not hold the text, and whether that was given up."""
        for turn in self._history.onward(self._workspace.id, "main", path, place):
            if self._onward <= 0:
                return None, True
            self._onward -= 1
            if not self._holds(turn.path, turn.blob):
                return self._history.stamps(self._workspace.id, [turn.commit]).get(turn.commit), False
        return None, False

    def _holds(self, path: str, blob: str | None) -> bool:
        if blob is None:
            return False
        key = (self._wanted.text, blob)
        known = self._held.get(key)
        if known is None:
            data = self._workspace.read_blob(blob)
            self._bytes -= len(data)
            known = self._held[key] = len(data) <= _LARGEST and self._is_in(path, data)
            while len(self._held) > _REMEMBERED:
                try:
                    self._held.popitem(last=False)
                except KeyError:
                    break  # another look emptied it
        return known

    def _is_in(self, path: str, data: bytes) -> bool:
        if b"\0" in data[:8000]:
            return False
        if self._plain is not None:
            if self._plain in data.lower():
                return True
        elif self._pattern.search(data.decode("utf-8", "replace")):
            return True
        # What is escaped in a document does not stand there as it is.
        return b"\\" in data and self._leaf(path, data) is not None

    def _leaf(self, path: str, data: bytes) -> tuple[str, str] | None:
        """The first value of a document that has the text, or key: its pointer, and the text around."""
        if not path.lower().endswith(_DOCUMENTS):
            return None
        try:
            value = documents.load(data)
        except (DocumentError, Malformed):
            return None
        for pointer, leaf in leaves(value):
            text = leaf if isinstance(leaf, str) else values.encode(leaf).decode()
            if found := self._pattern.search(text):
                return pointer, _excerpt(text, *found.span())
        for pointer, _ in leaves(value):
            text = pointer.replace("~1", "/").replace("~0", "~")
            if found := self._pattern.search(text):
                return pointer, _excerpt(text, *found.span())
        return None

    def _where(self, path: str, blob: str) -> tuple[str | None, int | None, str]:
        data = self._workspace.read_blob(blob)
        leaf = self._leaf(path, data)
        if leaf is not None:
            return leaf[0], None, leaf[1]
        text = data.decode("utf-8", "replace")
        found = self._pattern.search(text)
        if found is None:
            return None, None, ""
        return None, text.count("\n", 0, found.start()) + 1, _excerpt(text, *found.span())


def _excerpt(text: str, start: int, end: int) -> str:
    """One line with what was found, and some of what is around it."""
    low, high = max(start - _AROUND, 0), min(end + _AROUND, len(text))
    shown = names.one_line(text[low:high], 2 * _AROUND + 200)
    return f"{'…' if low else ''}{shown}{'…' if high < len(text) else ''}"
