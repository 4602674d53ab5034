"""What was extracted, by content, and what waits for it: one SQLite file of derived data.

A text is kept by the key of the blob it came from (`forms.key`) and the form it was read in, so that the same content
is read once. What waits
is durable before anybody is told that it was put: a document is never left without its text by a kill.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, get_args

import msgspec

from gitstore.database import Database, Unpacker, bind, pack, unbind
from gitstore.extraction.forms import Extracted, Form, Indexed
from gitstore.search.documents import Document, Kind

VERSION: Final = 2
"""Counted up whenever a document may give another text than before: then everything is read again."""
_SCHEMA: Final = """
CREATE TABLE texts (
  blob BLOB NOT NULL, form INTEGER NOT NULL, indexed INTEGER NOT NULL, text BLOB NOT NULL, PRIMARY KEY (blob, form)
) WITHOUT ROWID;
CREATE TABLE waiting (
  number INTEGER PRIMARY KEY AUTOINCREMENT, workspace TEXT NOT NULL, kind TEXT NOT NULL, id NOT NULL,
  blob BLOB NOT NULL, form INTEGER NOT NULL, content_type TEXT NOT NULL, document BLOB NOT NULL,
  UNIQUE (workspace, kind, id)
);
CREATE INDEX waiting_blob ON waiting (blob);
"""
_AT_ONCE: Final = 500
FORMS: Final[tuple[Form, ...]] = get_args(Form)
_INDEXED: Final[tuple[Indexed, ...]] = get_args(Indexed)
_document: Unpacker[Document] = Unpacker(Document)


class Waiting(msgspec.Struct, frozen=True):
    """Content whose text a document waits for. `blob` is its id, in hexadecimal."""

    blob: str
    form: Form
    content_type: str


class Entry(msgspec.Struct, frozen=True):
    """A document that waits, as it is without the text."""

    number: int
    workspace: str
    waiting: Waiting
    document: Document


class Kept:
    """The file. `opened_empty`: nothing of it is left, so everything that was put has to be put again."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _SCHEMA, version=VERSION, cache_kib=2_048, durable=True)
        self.opened_empty = self._database.opened_empty
        row = self._database.row("SELECT count(*) FROM waiting")
        self._waiting = row[0] if row is not None else 0

    def text(self, key: str, form: Form) -> Extracted | None:
        """What was extracted under a key; None if nothing was yet."""
        row = self._database.row(
            "SELECT indexed, text FROM texts WHERE blob = ? AND form = ?", (bytes.fromhex(key), FORMS.index(form))
        )
        return Extracted(zlib.decompress(row[1]).decode(), _INDEXED[row[0]]) if row is not None else None

    def indexed(self, keys: Sequence[str]) -> dict[tuple[str, Form], Indexed]:
        """How far what was extracted under these keys reaches, by key and form."""
        found: dict[tuple[str, Form], Indexed] = {}
        for at in range(0, len(keys), _AT_ONCE):
            asked = [bytes.fromhex(key) for key in keys[at : at + _AT_ONCE]]
            marks = ",".join("?" * len(asked))
            sql = f"SELECT blob, form, indexed FROM texts WHERE blob IN ({marks})"  # noqa: S608
            found.update(((row[0].hex(), FORMS[row[1]]), _INDEXED[row[2]]) for row in self._database.rows(sql, asked))
        return found

    def keep(self, key: str, form: Form, found: Extracted) -> None:
        """Keeps what was extracted."""
        packed = zlib.compress(found.text.encode("utf-8", "replace"), 6)
        with self._database.write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO texts VALUES (?, ?, ?, ?)",
                (bytes.fromhex(key), FORMS.index(form), _INDEXED.index(found.indexed), packed),
            )

    def known(self) -> list[str]:
        """The keys under which anything is kept."""
        return [row[0].hex() for row in self._database.rows("SELECT DISTINCT blob FROM texts")]

    def lose(self, keys: Iterable[str]) -> None:
        """Keeps nothing under these keys."""
        with self._database.write() as connection:
            connection.executemany("DELETE FROM texts WHERE blob = ?", [(bytes.fromhex(key),) for key in keys])

    def wait(self, workspace: str, document: Document, waiting: Waiting) -> None:
        """A document waits, in place of what waited under its kind and id."""
        with self._database.write() as connection:
            self._drop(workspace, document.kind, document.id)
            connection.execute(
                "INSERT INTO waiting (workspace, kind, id, blob, form, content_type, document)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    workspace,
                    document.kind,
                    bind(document.id),
                    bytes.fromhex(waiting.blob),
                    FORMS.index(waiting.form),
                    waiting.content_type,
                    pack(document),
                ),
            )
        self._waiting += 1

    def drop(self, workspace: str, kind: Kind, id_: str) -> None:
        """It waits no more."""
        if self._waiting:
            with self._database.write():
                self._drop(workspace, kind, id_)

    def forget(self, workspace: str) -> None:
        """Nothing of a workspace waits any more."""
        if self._waiting:
            with self._database.write() as connection:
                self._waiting -= connection.execute("DELETE FROM waiting WHERE workspace = ?", (workspace,)).rowcount

    def waits(self, number: int) -> bool:
        """Whether an entry is there still, and nothing took its place."""
        return self._database.row("SELECT 1 FROM waiting WHERE number = ?", (number,)) is not None

    def done(self, number: int) -> None:
        """Ends the waiting of the entries up to this one."""
        with self._database.write() as connection:
            self._waiting -= connection.execute("DELETE FROM waiting WHERE number <= ?", (number,)).rowcount

    def next(self, number: int) -> Entry | None:
        """The entry after this number that has waited longest."""
        row = self._database.row(
            "SELECT number, workspace, blob, form, content_type, document FROM waiting WHERE number > ?"
            " ORDER BY number LIMIT 1",
            (number,),
        )
        if row is None:
            return None
        number, workspace, blob, form, content_type, document = row
        return Entry(number, unbind(workspace), Waiting(blob.hex(), FORMS[form], content_type), _document(document))

    def count(self, number: int) -> int:
        """How many entries there are after this number."""
        row = self._database.row("SELECT count(*) FROM waiting WHERE number > ?", (number,)) if self._waiting else None
        return row[0] if row is not None else 0

    def close(self) -> None:
        """Lets go of the file."""
        self._database.close()

    def _drop(self, workspace: str, kind: Kind, id_: str) -> None:
        with self._database.write() as connection:
            self._waiting -= connection.execute(
                "DELETE FROM waiting WHERE workspace = ? AND kind = ? AND id = ?", (workspace, kind, bind(id_))
            ).rowcount
