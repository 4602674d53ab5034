import contextlib
import errno
import json
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import types
import uuid

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from whoosh.index import TOC

from gitstore.errors import Invalid, StorageFailed, TooSlow
from gitstore.search import Document, Search, lock, messages, text_of
from gitstore.search.lock import hold
from gitstore.search.messages import Ask
from gitstore.search.postings import TermReader, TermWriter
from gitstore.search.query import And, Field, Literal, Not, Phrase, Prefix, Word
from gitstore.search.ranking import Clock, Late, query
from gitstore.search.segments import Broken, Segments
from gitstore.search.state import STATE, damaged, read
from gitstore.search.tail import Tail
from gitstore.search.words import terms
from gitstore.search.worker import Options, Worker

ONE, TWO = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "search"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with Search(tmp_path_factory.mktemp("shared") / "search", interval=3600, limit=20.0) as search:
        yield search


@pytest.fixture
def search(shared):
    for workspace in (ONE, TWO):
        shared.forget(workspace)
    return shared


def opened(folder, **options):
    return Search(folder, **{"interval": 60, "limit": 20.0, **options})


def put(search, workspace, name, text, **more):
    search.put(workspace, Document("artifact", name, more.pop("title", ""), text, **more))


def match(search, workspace, word):
    return search.having(workspace, Word(word))


def wait_for(condition, seconds=20.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


def test_found_at_once_and_after_a_flush_and_after_a_restart(folder):
    with opened(folder) as search:
        put(search, ONE, "a", "The quick brown fox")
        put(search, ONE, "b", "the lazy dog")
        put(search, TWO, "c", "another quick one")
        assert match(search, ONE, "quick") == {"a"}
        assert search.backlog == 3
        search.flush()
        assert search.backlog == 0
        assert match(search, ONE, "quick") == {"a"}
        assert match(search, ONE, "the") == {"a", "b"}
        assert match(search, TWO, "quick") == {"c"}
    with opened(folder) as search:
        assert match(search, ONE, "the") == {"a", "b"}
        assert match(search, ONE, "absent") == set()
        assert search.damage is None


def test_the_process_of_the_store_loads_neither_whoosh_nor_numpy():
    code = (
        "import sys; import gitstore.live, gitstore.search, server.app; print({'whoosh', 'numpy'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_a_new_text_replaces_the_old_one_and_removing_ends_it(search):
    for text, word, gone in (("first", "first", "x"), ("second", "second", "first"), ("third", "third", "second")):
        put(search, ONE, "a", text)
        assert match(search, ONE, word) == {"a"}
        assert match(search, ONE, gone) == set()
        search.flush()
        assert match(search, ONE, word) == {"a"}
        assert match(search, ONE, gone) == set()
    search.remove(ONE, "artifact", "a")
    assert match(search, ONE, "third") == set()
    search.flush()
    assert match(search, ONE, "third") == set()


def test_flushing_happens_by_itself_after_a_while_or_a_batch(folder):
    with opened(folder, interval=0.05) as search:
        put(search, ONE, "a", "one")
        search.start()
        wait_for(lambda: search.backlog == 0)
    with opened(folder, interval=3600, batch=3) as search:
        for name in "bcd":
            put(search, ONE, name, "one")
        wait_for(lambda: search.backlog == 0)
        assert match(search, ONE, "one") == {"a", "b", "c", "d"}
    with opened(folder, interval=3600, batch=1000) as search:
        for number in range(40):  # few, but of many words
            put(search, TWO, str(number), "word " * 30_000)
        search.start()
        wait_for(lambda: search.backlog < 40)


def test_beyond_the_bound_a_change_waits_for_the_disk(folder):
    with opened(folder, batch=10, waiting_max=50) as search:
        most = 0
        for number in range(400):
            put(search, ONE, f"id{number}", f"word n{number}")
            most = max(most, search.backlog)
        assert most <= 50
        assert len(match(search, ONE, "word")) == 400


def test_forgetting_a_workspace_leaves_the_others(folder):
    with opened(folder) as search:
        put(search, ONE, "a", "word")
        put(search, TWO, "a", "word")
        assert search.mark(ONE, "evidence", "c1", None)
        assert search.mark(TWO, "evidence", "c1", None)
        search.flush()
        put(search, ONE, "b", "word")
        search.forget(ONE)
        assert match(search, ONE, "word") == set()
        assert search.marker(ONE, "evidence") is None
        assert search.workspaces() == {TWO}
        put(search, ONE, "c", "word")
        assert match(search, ONE, "word") == {"c"}
        search.flush()
        assert match(search, ONE, "word") == {"c"}
        assert match(search, TWO, "word") == {"a"}
    with opened(folder) as search:
        assert match(search, ONE, "word") == {"c"}
        assert search.marker(ONE, "evidence") is None
        assert search.marker(TWO, "evidence") == "c1"


def test_a_marker_moves_only_from_what_it_was_and_is_stored(folder):
    with opened(folder) as search:
        assert not search.mark(ONE, "main", "c2", "c1")
        assert search.mark(ONE, "main", "c1", None)
        assert search.mark(ONE, "main", "c2", "c1")
        assert not search.mark(ONE, "main", "c3", "c1")
        assert search.mark(ONE, "evidence", "e1", None)
        assert search.marker(ONE, "main") == "c2"
        search.flush()
        assert json.loads((folder / STATE).read_bytes())["markers"] == {f"{ONE} main": "c2", f"{ONE} evidence": "e1"}
    with opened(folder) as search:
        assert search.marker(ONE, "main") == "c2"


# --- queries --------------------------------------------------------------------------------------------------------


CHIEF = (("role", "chief writer"),)


@pytest.fixture
def library(search):
    put(search, ONE, "a", "the release plan for the engine", title="docs/plan.md", time=1)
    put(search, ONE, "b", "an engine, and another engine", title="docs/engine.md", labels=CHIEF, time=2)
    search.put(TWO, Document("memory", "m", "policy", "releases go out on friday", (("state", "open"),), 3))
    search.put(TWO, Document("spec", "s", "resources", "東京都の計画 release", (), 4))
    return search


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize(
    ("query", "found"),
    [
        (Word("engine"), ["b", "a"]),
        (Word("release"), ["s", "a"]),
        (Prefix("releas"), ["s", "m", "a"]),
        (Phrase(("release", "plan")), ["a"]),
        (Phrase(("plan", "release")), []),
        (Phrase(("engine", "docs")), []),  # no phrase reaches from the content into the title
        (Phrase(("京都", "都の")), ["s"]),
        (Word("京"), ["s"]),
        (Phrase(("京",)), ["s"]),
        (Field("text", Phrase(("京",))), ["s"]),
        (Field("path", Phrase(("京",))), []),
        (Field("text", Phrase(("engine",))), ["b", "a"]),
        (And((Word("engine"), Not(Word("release")))), ["b"]),
        (Not(Word("engine")), ["s", "m"]),
        (Field("role", Word("writer")), ["b"]),
        (Field("role", Phrase(("writer",))), ["b"]),
        (Field("role", Phrase(("chief", "writer"))), ["b"]),
        (Field("stage", Phrase(("chief", "writer"))), []),
        (Phrase(("chief", "writer")), ["b"]),
        (Phrase(("engine", "writer")), []),
        (Field("state", Phrase(("open",))), ["m"]),
        (Field("state", Word("writer")), []),
        (Field("path", Word("engine")), ["b"]),
        (Field("text", Word("policy")), []),
        (Field("kind", Literal("memory")), ["m"]),
        (Literal("Engine, docs"), ["b", "a"]),
        (Literal("/"), ["b", "a"]),
        (Word("nothing"), []),
    ],
)
def test_a_query_over_everything(library, query, found, flushed):
    if flushed:
        library.flush()
    hits = library.query(None, query)
    assert [hit.id for hit in hits.rows] == found
    assert hits.total == len(found) == sum(hits.kinds.values()) == sum(hits.workspaces.values())
    only = library.query([TWO], query)
    assert {hit.id for hit in only.rows} == {name for name in found if name in "ms"}
    assert library.query([], query).total == 0


def test_kinds_pages_and_order(library):
    everything = And(())
    assert [hit.id for hit in library.query(None, everything, sort="newest").rows] == ["s", "m", "b", "a"]
    hits = library.query(None, everything, kinds=["memory", "spec"], sort="newest", offset=1, limit=1)
    assert ([hit.id for hit in hits.rows], hits.total) == (["m"], 2)
    assert hits.kinds == {"artifact": 2, "memory": 1, "spec": 1}
    assert hits.workspaces == {TWO: 2}
    for number in range(100):
        search_time = number // 9
        library.put(ONE, Document("file", f"f{number:03}", "same", "same", (), search_time))
        if number % 30 == 29:
            library.flush()
    seen = [
        hit.id for offset in range(0, 100, 7) for hit in library.query(None, Word("same"), offset=offset, limit=7).rows
    ]
    assert seen == [f"f{number:03}" for number in sorted(range(100), key=lambda n: (-(n // 9), n))]


def test_a_query_has_a_deadline_and_a_prefix_a_bound(search, monkeypatch):
    put(search, ONE, "a", "word")
    assert match(search, ONE, "word") == {"a"}
    with pytest.raises(TooSlow):
        search.query(None, Word("word"), deadline=0.0)
    for number in range(6):
        put(search, ONE, f"p{number}", " ".join(f"zz{number}x{n}" for n in range(2000)))
    with pytest.raises(Invalid, match="more than"):
        search.query(None, Prefix("zz"))
    assert search.query(None, Prefix("zz3x")).total == 1


def test_a_deadline_is_kept_among_very_many_equals(folder):
    class Looks(Clock):
        def __init__(self, most):
            self.left = most

        def check(self):
            self.left -= 1
            if self.left < 0:
                raise Late

    tail = Tail()
    for number in range(4096):  # imported at once, so that all have the same time and score
        tail.put((ONE, "artifact", str(number)), 0, Document("artifact", str(number), "a", "word", (), 7))
    index = types.SimpleNamespace(parts=[tail], code=lambda _: 0, names=[ONE])
    assert query(index, None, Word("word"), None, "relevance", 0, 5, Looks(9)).total == 4096
    with pytest.raises(Late):
        query(index, None, Word("word"), None, "relevance", 0, 5, Looks(3))


# --- damage ---------------------------------------------------------------------------------------------------------


def fill(folder, documents=40):
    with opened(folder) as search:
        for number in range(documents):
            put(search, ONE, str(uuid.uuid4()), f"word number{number} " + " ".join(f"t{n}" for n in range(200)))
        search.mark(ONE, "evidence", "c1", None)
        search.flush()


def file(folder, suffix):
    return max(folder.glob(f"*{suffix}"), key=lambda path: path.stat().st_size)  # of the segment with most words


def truncate(folder):
    path = file(folder, ".trm")
    path.write_bytes(path.read_bytes()[:-200])


def flip(suffix):
    def damage(folder):
        path = file(folder, suffix)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)

    return damage


def test_a_loss_before_the_store_has_said_a_word_is_counted_by_both(folder):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker = Worker(theirs, Options(str(folder), None, 10, 60.0))
        worker.index.spoil("damaged")
        worker._handle(messages.Begin(0, 3))
        worker._handle(messages.Mark(ONE, "main", "c1", 3))  # of before the loss
        assert not worker.index.tail.marks
        worker._handle(messages.Mark(ONE, "main", "c2", 4))
        assert worker.index.tail.marks == {f"{ONE} main": "c2"}


def test_a_merge_and_an_answer_read_the_same_terms_at_once(folder):
    folder.mkdir()
    writer = TermWriter(folder, "one")
    for number in range(2000):
        writer.one(b"c%04d" % number, number, 1)
    writer.close()
    reader = TermReader(folder, "one")
    child = os.fork()
    if not child:
        wrong = True
        try:
            for _ in range(20):
                wrong = any(reader.posting(value)[0].tolist() != [int(term[1:])] for term, value in reader.items())
                if wrong:
                    break
        finally:
            os._exit(wrong)
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        for number in range(0, 2000, 7):
            assert reader.get(b"c%04d" % number)[0].tolist() == [number]
    assert ended[1] == 0


def vanish(folder):
    file(folder, ".doc").unlink()


def tear_contents(folder):
    path = file(folder, ".toc")
    path.write_bytes(path.read_bytes()[:20])


def tear_state(folder):
    (folder / STATE).write_bytes(b'{"format":')


def age_state(folder):
    state = json.loads((folder / STATE).read_bytes())
    (folder / STATE).write_text(json.dumps({**state, "format": "0 something older"}))


def both(folder):
    vanish(folder)
    file(folder, ".own").write_bytes(b"[]")


@pytest.mark.parametrize("damage", [both, flip(".own"), tear_contents, tear_state, age_state])
def test_a_damaged_index_is_thrown_away_and_asks_to_be_fed(folder, damage):
    fill(folder)
    damage(folder)
    with opened(folder) as search:
        search.start()
        wait_for(lambda: search.rebuild_needed)
        assert search.damage
        assert search.marker(ONE, "evidence") is None
        assert match(search, ONE, "word") == set()
        # Until the caller knows, nothing can be claimed: it would be without what was put before.
        put(search, ONE, "late", "word")
        assert not search.mark(ONE, "evidence", "c2", None)
        assert search.claim_rebuild()
        assert not search.claim_rebuild()
        assert not search.mark(ONE, "evidence", "c2", "c1")
        search.forget(ONE)
        put(search, ONE, "a", "word")
        assert search.mark(ONE, "evidence", "c2", None)
        search.flush()
        assert match(search, ONE, "word") == {"a"}
        os.kill(search.process, signal.SIGKILL)
        assert match(search, ONE, "word") == {"a"}
        assert not search.rebuild_needed
    assert damaged(folder, read(folder)) == []
    assert read(folder).markers == {f"{ONE} evidence": "c2"}


@pytest.mark.parametrize("kills", [False, True], ids=["", "and the process dies"])
@pytest.mark.parametrize("damage", [truncate, flip(".trm"), flip(".pst"), flip(".doc"), vanish])
def test_of_a_damaged_part_only_its_workspaces_are_to_be_fed_again(folder, damage, kills):
    fill(folder)
    with opened(folder) as search:
        put(search, ONE, "too", "word")
        put(search, TWO, "other", "word")
        search.mark(TWO, "evidence", "c1", None)
        search.flush()
    damage(folder)
    with opened(folder) as search:
        search.start()
        wait_for(lambda: search.missing)
        assert search.missing == {ONE}
        assert search.damage
        assert not search.rebuild_needed
        if kills:
            os.kill(search.process, signal.SIGKILL)
        assert search.marker(ONE, "evidence") is None
        assert match(search, ONE, "word") == set()
        assert match(search, TWO, "word") == {"other"}
        # Until the caller knows, nothing can be claimed of that one; of the others it can.
        put(search, ONE, "late", "word")
        assert not search.mark(ONE, "evidence", "c2", None)
        put(search, TWO, "more", "word")
        assert search.mark(TWO, "evidence", "c2", "c1")
        search.claim(search.missing)
        assert not search.missing
        search.forget(ONE)
        put(search, ONE, "a", "word")
        assert search.mark(ONE, "evidence", "c2", None)
        search.flush()
        assert match(search, ONE, "word") == {"a"}
        assert match(search, TWO, "word") == {"other", "more"}
    assert damaged(folder, read(folder)) == []
    with opened(folder) as search:
        assert match(search, ONE, "word") == {"a"}
        assert match(search, TWO, "word") == {"other", "more"}
        assert not search.missing
        assert {name: search.marker(name, "evidence") for name in (ONE, TWO)} == {ONE: "c2", TWO: "c2"}


def test_a_kill_while_a_damaged_part_is_dropped_leaves_no_marker_without_its_documents(folder, monkeypatch):
    fill(folder)
    flip(".doc")(folder)
    segments = Segments(folder, lambda _: 0)
    segments.open()
    with pytest.raises(Broken) as caught:
        segments.check()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(segments, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        segments.drop(caught.value.segments)
    assert read(folder).markers == {}
    with opened(folder) as search:
        search.start()
        wait_for(lambda: search.missing == {ONE})


def drop_it(folder):
    """What a process does that finds damage; and then it dies before it could say so."""
    flip(".doc")(folder)
    segments = Segments(folder, lambda _: 0)
    segments.open()
    with pytest.raises(Broken) as caught:
        segments.check()
    assert segments.drop(caught.value.segments) == {ONE}


@contextlib.contextmanager
def stopped(search):
    """Its process is held, and killed at the end."""
    search.start()
    wait_for(lambda: search.ready)
    process = search.process
    os.kill(process, signal.SIGSTOP)
    yield
    os.kill(process, signal.SIGKILL)
    wait_for(lambda: search.process not in (None, process) and search.ready)


@pytest.mark.parametrize("when", ["before the start", "with a mark under way", "while it is fed"])
def test_damage_of_which_a_process_could_not_tell_any_more_is_seen_by_the_next(folder, when):
    if when == "while it is fed":
        with opened(folder) as search:
            for number in range(40):
                put(search, ONE, f"a{number}", "word")
            search.flush()  # half of it is on disk, and has no marker
            with stopped(search):
                drop_it(folder)
            assert search.rebuild_needed
            assert not search.mark(ONE, "evidence", "c1", None)
        return
    fill(folder)
    with opened(folder) as search:  # which has read the markers
        if when == "before the start":
            drop_it(folder)
            search.start()
            wait_for(lambda: search.rebuild_needed)
        else:
            put(search, ONE, "live", "word")
            assert search.mark(ONE, "evidence", "c9", "c1")
            with stopped(search):
                drop_it(folder)
            assert search.rebuild_needed
            search.flush()
        assert search.marker(ONE, "evidence") is None
    assert read(folder).markers == {}


def test_what_the_process_of_a_killed_store_still_flushes_is_waited_for(folder):
    """Taken for the markers, those of before would hide that a workspace was forgotten and fed again meanwhile."""
    fill(folder)
    ends = hold(folder)

    def flush():
        time.sleep(0.3)
        (folder / STATE).write_bytes(msgspec.json.encode(msgspec.structs.replace(read(folder), markers={})))
        os.close(ends)

    flushing = threading.Thread(target=flush)
    flushing.start()
    with opened(folder) as search:
        assert search.workspaces() == set()
    flushing.join()


def test_a_folder_that_another_process_keeps_is_an_error(folder, monkeypatch):
    monkeypatch.setattr(lock, "_WAIT", 0.1)
    held = hold(folder)
    with pytest.raises(StorageFailed, match="has not let go"):
        opened(folder)
    os.close(held)
    opened(folder).close()


def test_marks_of_what_was_dropped_come_to_no_disk(folder):
    fill(folder)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        index = Worker(theirs, Options(str(folder), None, 10, 60.0)).index
        index.mark(ONE, "evidence", "c2")
        index.mark(TWO, "evidence", "c2")
        index._lose("damaged", [leaf.name for leaf in index.segments.leaves])
        assert index.tail.marks == {f"{TWO} evidence": "c2"}
        assert read(folder).markers == {}


def test_what_was_forgotten_is_not_left_with_a_marker_when_a_part_is_dropped(folder):
    fill(folder)
    with opened(folder) as search:
        put(search, TWO, "other", "word")
        search.mark(TWO, "evidence", "c1", None)
        search.flush()
    flip(".doc")(folder)
    with opened(folder) as search:
        search.forget(TWO)
        search.start()
        wait_for(lambda: search.missing)
        assert read(folder).markers == {}


def test_damage_that_is_met_before_it_is_looked_for_ends_no_process(folder):
    with opened(folder) as search:
        for number in range(40):
            put(search, ONE, f"a{number}", "word")
        search.mark(ONE, "evidence", "c1", None)
        search.flush()
    path = file(folder, ".doc")
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[:8], "little")
    head = msgspec.msgpack.decode(data[8 : 8 + size])
    _, at, length = head["arrays"]["kinds"]
    begin = 8 + size + -size % 8 + at
    data[begin : begin + length] = b"\xff" * length  # kinds that there are not: a look at a key fails
    path.write_bytes(data)
    with opened(folder) as search:
        for number in range(40):
            put(search, ONE, f"a{number}", "word again")
        search.forget(TWO)
        search.start()
        wait_for(lambda: search.missing or search.rebuild_needed)
        assert search.restarts == 0


def test_an_index_that_cannot_be_begun_anew_at_once_claims_nothing_later(folder, monkeypatch):
    fill(folder)
    segments = Segments(folder, lambda _: 0)
    segments.open()
    assert segments.state.markers == {f"{ONE} evidence": "c1"}

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TOC, "create", full)
    with pytest.raises(OSError, match="No space"):
        segments.renew()
    tail = Tail()  # later there is room again, and something is flushed
    tail.put((ONE, "artifact", "a"), 0, Document("artifact", "a", "a", "word"))
    segments.flush(tail, lambda: None)
    assert read(folder).markers == {}


@pytest.mark.parametrize(
    ("error", "spoilt"), [(MemoryError(), False), (OSError(errno.EMFILE, "too many"), False), (ValueError("x"), True)]
)
def test_an_answer_that_fails_for_want_of_memory_says_nothing_of_the_index(folder, error, spoilt):
    def fail(*_):
        raise error

    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker = Worker(theirs, Options(str(folder), None, 1000, 3600.0))
        worker.answers["x"] = fail
        worker._answer(Ask(1, "x", time.monotonic() + 9, b""))
        assert (worker.index.damage is not None) is spoilt


def test_files_that_belong_to_nothing_are_swept_at_the_start(folder):
    fill(folder)
    (folder / "MAIN_0123456789abcdef.trm").write_bytes(b"left behind")
    (folder / "MAIN.tmp").mkdir()
    (folder / "MAIN.tmp" / "x.run").write_bytes(b"left behind")
    with opened(folder) as search:
        assert len(match(search, ONE, "word")) == 40
        assert search.damage is None
    assert {path.suffix for path in folder.iterdir()} == {".trm", ".pst", ".doc", ".own", ".toc", ".json", ""}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")
def test_a_full_disk_is_an_error_and_nothing_is_forgotten(folder):
    with opened(folder, interval=0.1) as search:
        put(search, ONE, "old", "word")
        search.flush()
        # The state file leads to a device that is always full.
        (folder / "state.json.new").symlink_to("/dev/full")
        put(search, ONE, "a", "word")
        search.remove(ONE, "artifact", "old")
        with pytest.raises(StorageFailed, match="No space left"):
            search.flush()
        put(search, ONE, "b", "word")
        assert match(search, ONE, "word") == {"a", "b"}
        assert search.damage is None
        (folder / "state.json.new").unlink()
        search.flush()
        assert match(search, ONE, "word") == {"a", "b"}
        assert all(proof is not None for proof in search.proofs()[ONE].values())


def test_a_closed_index_cannot_be_flushed(folder):
    search = opened(folder)
    search.close()
    with pytest.raises(StorageFailed):
        search.flush()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailed):
        Search(tmp_path / "file" / "search")


def test_small_segments_are_merged_and_dead_ones_go(folder):
    with opened(folder) as search:
        for number in range(20):
            put(search, ONE, f"id{number}", f"word n{number} 京都")
            search.flush()
        wait_for(lambda: len(list(folder.glob("*.doc"))) < 8)
        assert len(match(search, ONE, "word")) == 20
        assert match(search, ONE, "n17") == {"id17"}
        assert len(search.query([ONE], Phrase(("word", "n7"))).rows) == 1
        assert all(proof is not None for proof in search.proofs()[ONE].values())
        for number in range(20):
            search.remove(ONE, "artifact", f"id{number}")
        search.flush()
        assert match(search, ONE, "word") == set()
        wait_for(lambda: not list(folder.glob("*.doc")))


def test_readers_and_writers_in_many_threads_agree(folder):
    failures = []
    with opened(folder, batch=20, interval=0.01) as search:

        def work(workspace):
            try:
                for number in range(80):
                    put(search, workspace, f"id{number}", f"word n{number}")
                    assert match(search, workspace, f"n{number}") == {f"id{number}"}
                    assert len(match(search, workspace, "word")) == number + 1
            except Exception as error:  # noqa: BLE001  handed to the test's own thread
                failures.append(error)

        threads = [threading.Thread(target=work, args=(str(uuid.uuid4()),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert search.damage is None


def test_killed_at_any_moment_the_process_of_the_index_costs_no_answer(folder):
    dice = random.Random(11)
    held = {}
    with opened(folder, batch=15, interval=0.02) as search:
        for number in range(5):
            for _ in range(dice.randrange(10, 60)):
                name = f"id{dice.randrange(200)}"
                if dice.random() < 0.2:
                    search.remove(ONE, "artifact", name)
                    held.pop(name, None)
                else:
                    put(search, ONE, name, f"word n{dice.randrange(9)}")
                    held[name] = None
            search.mark(ONE, "evidence", str(number), search.marker(ONE, "evidence"))
            assert match(search, ONE, "word") == set(held)
            time.sleep(dice.uniform(0.0, 0.1))
            os.kill(search.process, signal.SIGKILL)
        assert match(search, ONE, "word") == set(held)
        assert search.damage is None
        search.flush()
        assert set(search.proofs()[ONE]) == {("artifact", name) for name in held}


@pytest.mark.parametrize(
    ("content_type", "data", "text"),
    [
        ("text/plain", b"hello", "hello"),
        ("Text/Markdown; charset=utf-8", "\ufeffgrüß".encode(), "grüß"),
        ("application/ld+json", b"{}", "{}"),
        ("application/x-yaml", b"a: 1", "a: 1"),
        ("image/svg+xml", b"<svg/>", "<svg/>"),
        ("image/png", b"text", None),
        ("application/octet-stream", b"text", None),
        ("text/plain", b"\xff\xfe\x00", None),
        ("text/plain", "é".encode()[:1], None),
        ("text/plain", b"a" + "é".encode() * 200_000, "a" + "é" * 131_071),
    ],
)
def test_which_content_is_text(content_type, data, text):
    assert text_of(content_type, data) == text


class Model(RuleBasedStateMachine):
    """Any order of puts, removals, forgettings, flushes and restarts answers like a dict of sets."""

    words = st.sampled_from(["alpha", "beta", "gamma", "delta", "Épsilon"])
    names = st.sampled_from(["a", "b", "c", "d"])
    workspaces = st.sampled_from([ONE, TWO])

    @initialize(folder=st.uuids())
    def start(self, folder):
        import tempfile
        from pathlib import Path

        self.home = tempfile.TemporaryDirectory()
        self.folder = Path(self.home.name) / str(folder)
        self.search = opened(self.folder)
        self.held = {ONE: {}, TWO: {}}
        self.marks = {}

    @rule(workspace=workspaces, name=names, text=st.lists(words))
    def put(self, workspace, name, text):
        put(self.search, workspace, name, " ".join(text))
        self.held[workspace][name] = terms(" ".join(text))

    @rule(workspace=workspaces, name=names)
    def remove(self, workspace, name):
        self.search.remove(workspace, "artifact", name)
        self.held[workspace].pop(name, None)

    @rule(workspace=workspaces)
    def forget(self, workspace):
        self.search.forget(workspace)
        self.held[workspace].clear()
        self.marks.pop(workspace, None)

    @rule(workspace=workspaces, commit=st.uuids())
    def mark(self, workspace, commit):
        assert self.search.mark(workspace, "main", str(commit), self.marks.get(workspace))
        self.marks[workspace] = str(commit)

    @rule()
    def flush(self):
        self.search.flush()

    @rule()
    def kill(self):
        if self.search.process is not None:
            os.kill(self.search.process, signal.SIGKILL)

    @invariant()
    def same(self):
        if not hasattr(self, "search"):
            return
        for workspace, held in self.held.items():
            assert self.search.marker(workspace, "main") == self.marks.get(workspace)
            for word in ("alpha", "beta", "gamma", "delta", "epsilon"):
                assert match(self.search, workspace, word) == {name for name, found in held.items() if word in found}
        assert self.search.damage is None

    def teardown(self):
        if hasattr(self, "search"):
            self.search.close()
            self.home.cleanup()


TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=3, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)

WRITER = textwrap.dedent(
    """
    import sys
    import time
    from pathlib import Path
    from gitstore.search import Document, Search

    one, two = sys.argv[2:4]
    search = Search(Path(sys.argv[1]), batch=7, interval=0.01)
    search.flush()
    if search.claim_rebuild():
        print("lost", search.damage, flush=True)
    number = int(search.marker(one, "main") or 0)
    print("start", number, flush=True)  # whose document the other may not have got
    while True:
        number += 1
        search.put(one, Document("artifact", f"id{number}", "", f"word n{number}"))
        if number % 11 == 0:
            search.remove(one, "artifact", f"id{number - 5}")
        if number % 3 == 0:
            assert search.mark(one, "main", str(number), search.marker(one, "main"))
        if number % 40 == 0:
            search.forget(two)
        if number % 5 == 0:
            time.sleep(0.001)
        search.put(two, Document("artifact", f"id{number}", "", "word"))
        assert search.mark(two, "main", str(number), search.marker(two, "main"))
    """
)


@pytest.mark.timeout(300)
def test_killed_at_any_moment_the_marker_is_never_ahead_of_the_index(folder):
    rounds = int(os.environ.get("GITSTORE_KILLS", "2"))
    until = time.monotonic() + 60
    dice = random.Random(7)
    reached, started = 0, set()
    while rounds > 0 or (reached == 0 and time.monotonic() < until):
        rounds -= 1
        writer = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", WRITER, str(folder), ONE, TWO], stdout=subprocess.PIPE, text=True
        )
        said, number = writer.stdout.readline().split()
        assert said == "start", "a kill cost the index"
        started.add(int(number))
        time.sleep(dice.uniform(0.0, 0.5))
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        with opened(folder, interval=3600) as search:
            search.flush()
            assert search.damage is None
            held = int(search.marker(ONE, "main") or 0)
            assert held >= reached
            reached = held
            found = match(search, ONE, "word")
            removed = {f"id{n - 5}" for n in range(11, held + 1, 11)}
            assert {f"id{n}" for n in range(1, held + 1)} - removed <= found | {
                f"id{n}" for n in range(held - 5, held + 1)
            }
            assert not removed & found
            last = int(search.marker(TWO, "main") or 0)
            first = last // 40 * 40
            wanted = {f"id{n}" for n in range(max(first, 1), last + 1) if n not in started}
            assert wanted <= match(search, TWO, "word")
        assert damaged(folder, read(folder)) == []
    assert reached > 0
