"""One SQLite file of derived data: opened, or thrown away and begun again when it is not as it should be.

Nothing here is the only copy of anything, so there is no migration and no repair: another version of the schema or any
damage means an empty file and `opened_empty`, and whoever owns the file fills it again from the repositories.
One thread writes at a time, in explicit transactions; readers never wait for it (write-ahead log), each on a
connection that it borrows for one look-up.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

import msgspec

from gitstore import errors

T = TypeVar("T")
Row = tuple[Any, ...]

# Reading a whole file to prove it sound takes some tenths of a second at this size; larger ones are checked by shape.
CHECK_MAX_BYTES = 64 * 1024 * 1024

LIMIT = 1 << 62
_AT_ONCE = (64, 16, 4, 1)  # rows in one statement; few numbers, so that the statements are soon prepared

# The disk refuses, or the file cannot be reached: deleting it would mend nothing.
_REFUSED = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}
_BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def bind(text: str | None) -> str | bytes | None:
    """`text` as SQLite can hold it: itself, or its bytes when it carries lone surrogates (names of foreign origin)."""
    if text is None or text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def unbind(value: str | bytes) -> str:
    """The text that `bind` was given."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")


def clip(number: int) -> int:
    """`number`, or the nearest to it that SQLite can hold and compute with."""
    return max(-LIMIT, min(LIMIT, number))


def pack(value: Any) -> bytes:
    """`value` (structs, lists, JSON data) as JSON that `Unpacker` reads back exactly, lone surrogates included."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        # A leading space, which the line above never writes, marks the escaped form.
        return b" " + json.dumps(msgspec.to_builtins(value), ensure_ascii=True).encode()


class Unpacker(Generic[T]):
    """Reads what `pack` wrote from a value of the type given."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._decode = msgspec.json.Decoder(kind).decode

    def __call__(self, data: bytes) -> T:
        """The value that was packed into `data`."""
        if data[0] != 0x20:
            value: T = self._decode(data)
        else:
            value = msgspec.convert(json.loads(data), self._kind)
        return value


class Database:
    """The file at `path` with the tables of `schema`.

    `opened_empty` is true when there was nothing, or nothing to be trusted, at `path`. With `durable` a finished
    transaction survives a power cut; without, the last ones may be lost together.
    Raises errors.StorageFailed when the disk refuses, errors.Damaged when the file turns out to be damaged while in
    use (the next opening then begins with an empty file), errors.Unavailable after `close`.
    """

    def __init__(
        self, path: Path, schema: str, *, version: int, cache_kib: int = 16_384, durable: bool = False
    ) -> None:
        self.path = Path(path)
        self._synchronous = "FULL" if durable else "NORMAL"
        self.lock = threading.RLock()
        self._marker = self.path.with_name(self.path.name + ".damaged")
        self._idle: list[sqlite3.Connection] = []
        self.closed = False
        self._depth = 0
        # The checksum catches an edit of the schema that forgot to count the version up.
        stamp = zlib.crc32(schema.encode()) & 0x7FFFFFFF
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            sound = self._trusted(version, stamp, cache_kib)
            self.opened_empty = sound is None
            if sound is None:
                self._discard()
                sound = self._connect(cache_kib)
                sound.executescript(
                    f"BEGIN;{schema};PRAGMA application_id={stamp};PRAGMA user_version={int(version)};COMMIT"
                )
            self._writer = sound
        except OSError as error:
            raise errors.StorageFailed(f"cannot open {self.path.name}: {error}") from error
        except sqlite3.DatabaseError as error:
            self._fail(error)

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """All rows of one look-up, as of the last finished transaction."""
        connection = self._borrow()
        try:
            return connection.execute(sql, parameters).fetchall()
        except sqlite3.DatabaseError as error:
            self._fail(error)
        finally:
            self._give_back(connection)

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> Row | None:
        """The first row of one look-up, as of the last finished transaction."""
        found = self.rows(sql, parameters)
        return found[0] if found else None

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection whose look-ups all see one and the same state."""
        connection = self._borrow()
        try:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            self._fail(error)
        finally:
            self._give_back(connection)

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """The writing connection inside a transaction: all of it happens, or after an exception none of it.

        Inside another `write` of the same thread it is part of that transaction. Other writers wait.
        """
        with self.lock:
            if self.closed:
                raise errors.Unavailable(f"{self.path.name} is closed")
            if self._depth:
                yield self._writer
                return
            self._depth = 1
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                try:
                    yield self._writer
                    self._writer.execute("COMMIT")
                except BaseException:
                    # SQLite has already rolled back by itself after some errors of the disk.
                    if self._writer.in_transaction:
                        self._writer.execute("ROLLBACK")
                    raise
            except sqlite3.DatabaseError as error:
                self._fail(error)
            finally:
                self._depth = 0

    def close(self) -> None:
        """Let go of the file, with everything in it and nothing left beside it. May be called twice."""
        with self.lock:
            if self.closed:
                return
            self.closed = True
            while self._idle:
                self._idle.pop().close()
            self._writer.close()

    def _borrow(self) -> sqlite3.Connection:
        if self.closed:
            raise errors.Unavailable(f"{self.path.name} is closed")
        try:
            return self._idle.pop()
        except IndexError:
            pass
        try:
            return self._connect(4_096)
        except sqlite3.DatabaseError as error:
            self._fail(error)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            connection.close()  # its last look-up failed half-way
            return
        self._idle.append(connection)
        if self.closed:
            # Closed while this one was out: nobody else will come for it.
            with contextlib.suppress(IndexError):
                self._idle.pop().close()

    def _connect(self, cache_kib: int) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=5.0, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            connection.execute("PRAGMA temp_store=MEMORY")
            connection.execute(f"PRAGMA cache_size=-{int(cache_kib)}")
            connection.execute("PRAGMA journal_size_limit=67108864")
            connection.execute("PRAGMA wal_autocheckpoint=4000")
        except BaseException:
            connection.close()
            raise
        return connection

    def _trusted(self, version: int, stamp: int, cache_kib: int) -> sqlite3.Connection | None:
        """A connection to the file, if that can be trusted as it is."""
        if self._marker.exists() or not self.path.exists():
            return None
        with contextlib.ExitStack() as ends:
            try:
                connection = self._connect(cache_kib)
                ends.callback(connection.close)
                if not _sound(connection, self.path, version, stamp):
                    return None
            except sqlite3.DatabaseError as error:
                # Whatever else SQLite says about a file it could reach, the file is not one that we wrote.
                if _primary(error) in _REFUSED:
                    raise
                return None
            ends.pop_all()
            return connection

    def _discard(self) -> None:
        # The marker goes last: a crash in between must not leave half of a damaged file to be trusted.
        for suffix in ("", "-wal", "-shm", "-journal"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self._marker.unlink(missing_ok=True)

    def _fail(self, error: sqlite3.DatabaseError) -> NoReturn:
        code = _primary(error)
        if code in _BROKEN:
            with contextlib.suppress(OSError):
                self._marker.touch()
            raise errors.Damaged(f"{self.path.name} is damaged; it is rebuilt at the next start ({error})") from error
        if code in _REFUSED:
            raise errors.StorageFailed(f"{self.path.name} cannot be read or written: {error}") from error
        raise error


def insert(connection: sqlite3.Connection, into: str, rows: Sequence[Row]) -> None:
    """Inserts rows of equal length, many with each statement. `into`: `INSERT INTO table`.

    `executemany` runs a statement a row, and every one that is run lets go of the interpreter's lock.
    """
    at = 0
    while at < len(rows):
        some = rows[at : at + next(count for count in _AT_ONCE if count <= len(rows) - at)]
        at += len(some)
        row = f"({','.join('?' * len(some[0]))})"
        connection.execute(f"{into} VALUES {','.join([row] * len(some))}", [value for one in some for value in one])


def _sound(connection: sqlite3.Connection, path: Path, version: int, stamp: int) -> bool:
    """Whether the file is one that this version wrote, and whole."""

    def pragma(name: str) -> Any:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]

    if pragma("user_version") != version or pragma("application_id") != stamp:
        return False
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = os.path.getsize(path)
    if size != pragma("page_count") * pragma("page_size"):
        return False
    return size > CHECK_MAX_BYTES or pragma("quick_check(1)") == "ok"


def _primary(error: sqlite3.DatabaseError) -> int:
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
