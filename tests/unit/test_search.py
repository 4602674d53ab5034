import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gitstore.errors import StorageFailed
from gitstore.search import Search, segments, terms, text_of

ONE, TWO = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "search"


def wait_for(condition, seconds=20.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


def test_found_at_once_and_after_a_flush_and_after_a_restart(folder):
    with Search(folder, interval=60) as search:
        search.put(ONE, "a", "The quick brown fox")
        search.put(ONE, "b", "the lazy dog")
        search.put(TWO, "c", "another quick one")
        assert search.match(ONE, "quick") == {"a"}
        assert search.backlog == 3
        search.flush()
        assert search.backlog == 0
        assert search.match(ONE, "quick") == {"a"}
        assert search.match(ONE, "the") == {"a", "b"}
        assert search.match(TWO, "quick") == {"c"}
    with Search(folder) as search:
        assert search.match(ONE, "the") == {"a", "b"}
        assert search.match(ONE, "absent") == set()
        assert search.damage is None


def test_a_new_text_replaces_the_old_one_and_removing_ends_it(folder):
    with Search(folder, interval=60) as search:
        for text, word, gone in (("first", "first", "x"), ("second", "second", "first"), ("third", "third", "second")):
            search.put(ONE, "a", text)
            assert search.match(ONE, word) == {"a"}
            assert search.match(ONE, gone) == set()
            search.flush()
            assert search.match(ONE, word) == {"a"}
            assert search.match(ONE, gone) == set()
        search.remove(ONE, "a")
        assert search.match(ONE, "third") == set()
        search.flush()
        assert search.match(ONE, "third") == set()
    with Search(folder) as search:
        assert search.match(ONE, "third") == set()


def test_flushing_happens_by_itself_after_a_while_or_a_batch(folder):
    with Search(folder, interval=0.05) as search:
        search.put(ONE, "a", "one")
        wait_for(lambda: search.backlog == 0)
    with Search(folder, interval=3600, batch=3) as search:
        for name in "bcd":
            search.put(ONE, name, "one")
        wait_for(lambda: search.backlog == 0)
        assert search.match(ONE, "one") == {"a", "b", "c", "d"}


def test_forgetting_a_workspace_leaves_the_others(folder):
    with Search(folder, interval=60) as search:
        search.put(ONE, "a", "word")
        search.put(TWO, "a", "word")
        assert search.mark(ONE, "c1", None)
        assert search.mark(TWO, "c1", None)
        search.flush()
        search.put(ONE, "b", "word")
        search.forget(ONE)
        assert search.match(ONE, "word") == set()
        assert search.marker(ONE) is None
        assert search.workspaces() == {TWO}
        search.put(ONE, "c", "word")
        assert search.match(ONE, "word") == {"c"}
        search.flush()
        assert search.match(ONE, "word") == {"c"}
        assert search.match(TWO, "word") == {"a"}
    with Search(folder) as search:
        assert search.match(ONE, "word") == {"c"}
        assert search.marker(ONE) is None
        assert search.marker(TWO) == "c1"


def test_a_marker_moves_only_from_what_it_was(folder):
    with Search(folder) as search:
        assert not search.mark(ONE, "c2", "c1")
        assert search.mark(ONE, "c1", None)
        assert search.mark(ONE, "c2", "c1")
        assert not search.mark(ONE, "c3", "c1")
        assert search.marker(ONE) == "c2"
    with Search(folder) as search:
        assert search.marker(ONE) == "c2"


def test_a_marker_alone_is_stored_too(folder):
    with Search(folder, interval=60) as search:
        search.put(ONE, "a", "word")
        search.flush()
        search.mark(ONE, "c1", None)
        search.flush()
        assert json.loads((folder / segments.STATE).read_bytes())["markers"] == {ONE: "c1"}


def fill(folder, documents=40):
    with Search(folder, interval=60) as search:
        for number in range(documents):
            search.put(ONE, str(uuid.uuid4()), f"word number{number} " + " ".join(f"t{n}" for n in range(200)))
        search.mark(ONE, "c1", None)


def segment(folder):
    (path,) = folder.glob("*.seg")
    return path


def truncate(folder):
    path = segment(folder)
    path.write_bytes(path.read_bytes()[:-200])


def flip(folder):
    path = segment(folder)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def vanish(folder):
    segment(folder).unlink()


def tear_contents(folder):
    (path,) = folder.glob("*.toc")
    path.write_bytes(path.read_bytes()[:20])


def tear_state(folder):
    (folder / segments.STATE).write_bytes(b'{"format":')


def age_state(folder):
    state = json.loads((folder / segments.STATE).read_bytes())
    (folder / segments.STATE).write_text(json.dumps({**state, "format": "0 something older"}))


@pytest.mark.parametrize("damage", [truncate, flip, vanish, tear_contents, tear_state, age_state])
def test_a_damaged_index_is_thrown_away_and_asks_to_be_fed(folder, damage):
    fill(folder)
    damage(folder)
    with Search(folder, interval=60) as search:
        wait_for(lambda: search.rebuild_needed)
        assert search.damage
        assert search.marker(ONE) is None
        assert search.match(ONE, "word") == set()
        # Until the caller knows, nothing can be claimed: it would be without what was put before.
        search.put(ONE, "late", "word")
        assert not search.mark(ONE, "c2", None)
        assert search.claim_rebuild()
        assert not search.claim_rebuild()
        assert not search.mark(ONE, "c2", "c1")
        search.forget(ONE)
        search.put(ONE, "a", "word")
        assert search.mark(ONE, "c2", None)
        search.flush()
        assert search.match(ONE, "word") == {"a"}
    with Search(folder) as search:
        assert search.match(ONE, "word") == {"a"}
        assert search.marker(ONE) == "c2"
        time.sleep(0.05)
        assert not search.rebuild_needed


def test_damage_met_while_running_loses_nothing_that_was_put_after(folder):
    fill(folder)
    with Search(folder, interval=60) as search:
        search.flush()
        for leaf in search._segments.leaves:
            leaf._reader = None
        search.put(ONE, "new", "word")
        assert search.match(ONE, "word") == {"new"}
        assert search.rebuild_needed
        search.flush()
        assert search.match(ONE, "word") == {"new"}
        assert search.match(ONE, "number3") == set()


def test_files_that_belong_to_nothing_are_swept_at_the_start(folder):
    fill(folder)
    (folder / "MAIN_0123456789abcdef.trm").write_bytes(b"left behind")
    (folder / "MAIN.tmp").mkdir()
    (folder / "MAIN.tmp" / "x.run").write_bytes(b"left behind")
    with Search(folder) as search:
        assert len(search.match(ONE, "word")) == 40
        assert search.damage is None
    assert {path.suffix for path in folder.iterdir()} == {".seg", ".toc", ".json"}


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.exists("/dev/full"), reason="needs a device that is full")
def test_a_full_disk_is_an_error_and_nothing_is_forgotten(folder, monkeypatch):
    with Search(folder, interval=60) as search:
        search.put(ONE, "a", "word")
        # The state file leads to a device that is always full.
        (folder / "state.json.new").symlink_to("/dev/full")
        with pytest.raises(StorageFailed, match="No space left"):
            search.flush()
        assert search.match(ONE, "word") == {"a"}
        assert search.damage is None
        (folder / "state.json.new").unlink()
        search.flush()
        assert search.match(ONE, "word") == {"a"}


def test_a_closed_index_cannot_be_flushed(folder):
    search = Search(folder)
    search.close()
    with pytest.raises(StorageFailed, match="closed"):
        search.flush()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailed):
        Search(tmp_path / "file" / "search")


def test_small_segments_are_merged_and_dead_ones_go(folder):
    with Search(folder, interval=60) as search:
        for number in range(40):
            search.put(ONE, f"id{number}", f"word n{number}")
            search.flush()
        wait_for(lambda: len(search._segments.leaves) < segments.FAN)
        assert len(search.match(ONE, "word")) == 40
        assert search.match(ONE, "n17") == {"id17"}
        for number in range(40):
            search.remove(ONE, f"id{number}")
        search.flush()
        assert search.match(ONE, "word") == set()
        wait_for(lambda: not search._segments.leaves)
    with Search(folder) as search:
        assert search.match(ONE, "word") == set()
        assert search.damage is None


def test_a_stop_does_not_wait_for_a_merge(folder, monkeypatch):
    started = threading.Event()
    plain = segments._Writer._process_posts

    def slow(self, items, startdoc, docmap):
        for item in plain(self, items, startdoc, docmap):
            started.set()
            time.sleep(0.001)
            yield item

    with Search(folder, interval=60) as search:
        for number in range(segments.FAN - 1):
            search.put(ONE, f"id{number}", " ".join(f"w{number}x{n}" for n in range(3000)))
            search.flush()
        monkeypatch.setattr(segments._Writer, "_process_posts", slow)  # 21,000 postings: half a minute
        search.put(ONE, "last", "last")
        search.flush()
        assert started.wait(20)
        before = time.monotonic()
        search.close()
        assert time.monotonic() - before < 8
    monkeypatch.undo()
    with Search(folder) as search:
        assert search.damage is None
        assert search.match(ONE, "w3x2999") == {"id3"}
        assert search.match(ONE, "last") == {"last"}


def test_segments_have_names_of_their_own_whatever_is_done_to_the_random_module(folder):
    with Search(folder, interval=60) as search:
        for number in range(4):
            random.seed(1)
            before = random.getstate()
            search.put(ONE, f"id{number}", "word")
            search.flush()
            assert random.getstate() == before
        assert len(search.match(ONE, "word")) == 4


def test_readers_and_writers_in_many_threads_agree(folder):
    failures = []
    with Search(folder, batch=20, interval=0.01) as search:

        def work(workspace):
            try:
                for number in range(150):
                    search.put(workspace, f"id{number}", f"word n{number}")
                    assert search.match(workspace, f"n{number}") == {f"id{number}"}
                    assert len(search.match(workspace, "word")) == number + 1
            except Exception as error:  # noqa: BLE001  handed to the test's own thread
                failures.append(error)

        threads = [threading.Thread(target=work, args=(str(uuid.uuid4()),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert search.damage is None


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
        self.search = Search(self.folder, interval=60)
        self.held = {ONE: {}, TWO: {}}
        self.marks = {}

    @rule(workspace=workspaces, name=names, text=st.lists(words))
    def put(self, workspace, name, text):
        self.search.put(workspace, name, " ".join(text))
        self.held[workspace][name] = terms(" ".join(text))

    @rule(workspace=workspaces, name=names)
    def remove(self, workspace, name):
        self.search.remove(workspace, name)
        self.held[workspace].pop(name, None)

    @rule(workspace=workspaces)
    def forget(self, workspace):
        self.search.forget(workspace)
        self.held[workspace].clear()
        self.marks.pop(workspace, None)

    @rule(workspace=workspaces, commit=st.uuids())
    def mark(self, workspace, commit):
        assert self.search.mark(workspace, str(commit), self.marks.get(workspace))
        self.marks[workspace] = str(commit)

    @rule()
    def flush(self):
        self.search.flush()

    @rule()
    def restart(self):
        self.search.close()
        self.search = Search(self.folder, interval=60)

    @invariant()
    def same(self):
        if not hasattr(self, "search"):
            return
        for workspace, held in self.held.items():
            assert self.search.marker(workspace) == self.marks.get(workspace)
            for word in ("alpha", "beta", "gamma", "delta", "epsilon"):
                assert self.search.match(workspace, word) == {name for name, found in held.items() if word in found}
        assert self.search.damage is None

    def teardown(self):
        if hasattr(self, "search"):
            self.search.close()
            self.home.cleanup()


TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)

WRITER = textwrap.dedent(
    """
    import sys
    import time
    from pathlib import Path
    from gitstore.search import Search

    one, two = sys.argv[2:4]
    search = Search(Path(sys.argv[1]), batch=7, interval=0.01)
    if search.claim_rebuild():
        print("lost", search.damage, flush=True)
    number = int(search.marker(one) or 0)
    print("start", number, flush=True)
    while True:
        number += 1
        search.put(one, f"id{number}", f"word n{number}")
        if number % 11 == 0:
            search.remove(one, f"id{number - 5}")
        if number % 3 == 0:
            assert search.mark(one, str(number), search.marker(one))
        if number % 40 == 0:
            search.forget(two)
        if number % 5 == 0:
            time.sleep(0.001)
        search.put(two, f"id{number}", "word")
        assert search.mark(two, str(number), search.marker(two))
    """
)


@pytest.mark.timeout(300)
def test_killed_at_any_moment_the_marker_is_never_ahead_of_the_index(folder):
    rounds = int(os.environ.get("GITSTORE_KILLS", "8"))
    until = time.monotonic() + 60
    dice = random.Random(7)
    reached = 0
    while rounds > 0 or (reached == 0 and time.monotonic() < until):
        rounds -= 1
        writer = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", WRITER, str(folder), ONE, TWO], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout.readline().split()[0] == "start", "a kill cost the index"
        time.sleep(dice.uniform(0.0, 0.5))
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        with Search(folder, interval=3600) as search:
            assert search.damage is None
            held = int(search.marker(ONE) or 0)
            assert held >= reached
            reached = held
            found = search.match(ONE, "word")
            removed = {f"id{n - 5}" for n in range(11, held + 1, 11)}
            assert {f"id{n}" for n in range(1, held + 1)} - removed <= found | {
                f"id{n}" for n in range(held - 5, held + 1)
            }
            assert not removed & found
            last = int(search.marker(TWO) or 0)
            first = last // 40 * 40
            assert {f"id{n}" for n in range(max(first, 1), last + 1)} <= search.match(TWO, "word")
            search._segments.check()
    assert reached > 0
