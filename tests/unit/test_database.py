"""A derived file is either as it was left, or empty and says so."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitstore import database, errors
from gitstore.database import Database, Unpacker, bind, pack, unbind

SCHEMA = "CREATE TABLE things(id INTEGER PRIMARY KEY, text TEXT);"


def fill(path: Path, count: int = 2_000, *, schema: str = SCHEMA, version: int = 1) -> None:
    opened = Database(path, schema, version=version)
    with opened.write() as connection:
        connection.executemany("INSERT INTO things VALUES(?,?)", [(n, f"thing {n} " * 10) for n in range(count)])
    opened.close()


def count(opened: Database) -> int:
    return int(opened.rows("SELECT count(*) FROM things")[0][0])


def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "derived" / "a.sqlite"
    fill(path)
    assert [one.name for one in path.parent.iterdir()] == ["a.sqlite"]
    opened = Database(path, SCHEMA, version=1)
    assert not opened.opened_empty
    assert count(opened) == 2_000
    opened.close()
    opened.close()


def test_the_journal_mode_and_the_syncing_are_as_promised(tmp_path: Path) -> None:
    opened = Database(tmp_path / "a.sqlite", SCHEMA, version=1)
    with opened.write() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (1,)
    opened.close()


def garbage(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 500)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4096])


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def scribbled(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4096] = b"\xa5" * 4096
    path.write_bytes(bytes(data))


def grown(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * 4096)


def newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=2")
    connection.close()


def foreign(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE things(id)")
    connection.close()


@pytest.mark.parametrize("harm", [garbage, truncated, cut_short, emptied, scribbled, grown, newer, foreign])
def test_a_file_that_cannot_be_trusted_is_begun_again(tmp_path: Path, harm: Any) -> None:
    path = tmp_path / "a.sqlite"
    fill(path)
    harm(path)
    opened = Database(path, SCHEMA, version=1)
    assert opened.opened_empty
    assert count(opened) == 0
    opened.close()
    fill(path, 10)
    again = Database(path, SCHEMA, version=1)
    assert not again.opened_empty
    assert count(again) == 10
    again.close()


def test_a_schema_that_was_edited_without_a_new_version_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    fill(path)
    opened = Database(path, SCHEMA + "CREATE TABLE more(id);", version=1)
    assert opened.opened_empty
    opened.close()


def test_a_log_that_was_left_behind_by_a_kill_is_taken_in(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    fill(path)
    running = Database(path, SCHEMA, version=1)
    with running.write() as connection:
        connection.execute("INSERT INTO things VALUES(-1, 'late')")
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in ("a.sqlite", "a.sqlite-wal"):
        (killed / name).write_bytes((tmp_path / name).read_bytes())
    running.close()
    opened = Database(killed / "a.sqlite", SCHEMA, version=1)
    assert not opened.opened_empty
    assert opened.row("SELECT text FROM things WHERE id=-1") == ("late",)
    opened.close()


def test_damage_found_while_in_use_is_named_and_mended_at_the_next_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.sqlite"
    fill(path, 20_000)
    scribbled(path)
    monkeypatch.setattr(database, "CHECK_MAX_BYTES", 0)
    opened = Database(path, SCHEMA, version=1)
    assert not opened.opened_empty
    with pytest.raises(errors.Damaged, match="next start"):
        opened.rows("SELECT * FROM things")
    opened.close()
    again = Database(path, SCHEMA, version=1)
    assert again.opened_empty
    assert [one.name for one in tmp_path.iterdir() if "damaged" in one.name] == []
    again.close()


def test_a_place_that_cannot_be_written_is_not_taken_for_damage(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(errors.StorageFailed):
        Database(blocked / "a.sqlite", SCHEMA, version=1)
    (tmp_path / "b.sqlite").mkdir()
    with pytest.raises(errors.StorageFailed):
        Database(tmp_path / "b.sqlite", SCHEMA, version=1)
    assert blocked.read_text() == "in the way"


def test_a_failed_transaction_leaves_nothing_and_the_next_one_works(tmp_path: Path) -> None:
    opened = Database(tmp_path / "a.sqlite", SCHEMA, version=1)

    def fail(sql: str) -> None:
        with opened.write() as connection, opened.write():
            connection.execute("INSERT INTO things VALUES(1, 'x')")
            connection.execute(sql)

    with pytest.raises(sqlite3.OperationalError):
        fail("INSERT INTO nowhere VALUES(2)")
    with pytest.raises(sqlite3.IntegrityError):
        fail("INSERT INTO things VALUES(1, 'again')")
    assert count(opened) == 0
    with opened.write() as connection:
        connection.execute("INSERT INTO things VALUES(3, 'x')")
    assert count(opened) == 1
    opened.close()


def test_a_reader_sees_one_state_and_never_waits_for_the_writer(tmp_path: Path) -> None:
    opened = Database(tmp_path / "a.sqlite", SCHEMA, version=1)
    with opened.read() as reader:
        assert reader.execute("SELECT count(*) FROM things").fetchone() == (0,)
        with opened.write() as connection:
            connection.execute("INSERT INTO things VALUES(1, 'x')")
            seen: list[int] = []
            other = threading.Thread(target=lambda: seen.append(count(opened)))
            other.start()
            other.join(5)
            assert seen == [0]
        assert reader.execute("SELECT count(*) FROM things").fetchone() == (0,)
    assert count(opened) == 1
    opened.close()


def test_a_closed_file_says_so(tmp_path: Path) -> None:
    opened = Database(tmp_path / "a.sqlite", SCHEMA, version=1)
    with opened.read() as connection:
        opened.close()
        assert connection.execute("SELECT count(*) FROM things").fetchone() == (0,)
    with pytest.raises(errors.Unavailable, match="closed"):
        opened.rows("SELECT 1")
    with pytest.raises(errors.Unavailable, match="closed"), opened.write():
        pass


text = st.text(st.characters(codec=None, exclude_categories=()))
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=10,
)


class Thing(msgspec.Struct, frozen=True):
    name: str
    data: dict[str, Any]


@given(text, st.dictionaries(text, json_values, max_size=3))
def test_packed_values_come_back_exactly(name: str, data: dict[str, Any]) -> None:
    read: Unpacker[Thing] = Unpacker(Thing)
    thing = read(pack(Thing(name, data)))
    assert thing.name == name
    assert repr(thing.data) == repr(data)


@given(text)
def test_bound_text_comes_back_exactly(value: str) -> None:
    connection = sqlite3.connect(":memory:")
    assert unbind(connection.execute("SELECT ?", (bind(value),)).fetchone()[0]) == value
    connection.close()
