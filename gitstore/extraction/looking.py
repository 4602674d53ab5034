"""The kept texts as they are on disk, for whoever holds an index against git beside a running server."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gitstore.extraction.forms import TEXT_MAX, form, key, plain
from gitstore.extraction.kept import FORMS


class Looking:
    """What the file said when this was made; a text may have been added since. Absent or unreadable: nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        kept = set(self._all("SELECT blob, form FROM texts"))
        waiting = self._all("SELECT blob, form, content_type FROM waiting")
        kept -= {(bytes.fromhex(key(content_type, blob.hex())), form) for blob, form, content_type in waiting}
        self._sure: set[tuple[Any, ...]] = kept

    def texts(self, content_type: str, blob: str, read: Callable[[str, int], bytes]) -> set[str]:
        """The texts that a document with this content may stand in the index with."""
        how = form(content_type)
        if how is None:
            return {""}
        if how == "text":
            return {plain(content_type, read(blob, TEXT_MAX + 1)).text}
        place = bytes.fromhex(key(content_type, blob)), FORMS.index(how)
        found = self._all("SELECT text FROM texts WHERE blob = ? AND form = ?", *place)
        texts = {zlib.decompress(row[0]).decode() for row in found}
        return texts if place in self._sure else texts | {""}

    def _all(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        try:
            connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)
        except sqlite3.OperationalError:
            return []
        try:
            return connection.execute(sql, parameters).fetchall()
        except sqlite3.DatabaseError:
            return []
        finally:
            connection.close()
