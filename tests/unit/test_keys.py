"""Keys are recognised while they are in force and not a moment longer, whichever process made or revoked them."""

import multiprocessing
import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitstore import documents, errors, keys
from gitstore.credentials import find_text
from gitstore.keys import Keys, allows, is_token

SIGNING = bytes(range(32))
HOUR = 3_600_000


def now():
    return time.time_ns() // 1_000_000


def open_keys(path, **more):
    return Keys.open(path, token_key=SIGNING, **more)


def let_it_look(store):
    """As if half a second had passed since the file was last looked at."""
    store._look_at = 0.0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys.yaml"


@pytest.fixture
def store(path):
    return open_keys(path)


def refused(store, text, at=None):
    with pytest.raises(errors.Unauthorized) as caught:
        store.authenticate(text, at or now())
    return caught.value.message


def test_a_key_is_made_and_recognised(store, path):
    record, text = store.create("worker", "build runner")
    assert re.fullmatch(r"gs_worker_[0-9A-Za-z]{44}", text)
    assert re.fullmatch(r"k[0-9a-z]{7}", record.prefix)
    assert text.removeprefix("gs_worker_").startswith(record.prefix)
    assert (record.scope, record.name, record.expires_at, record.revoked_at) == ("worker", "build runner", None, None)
    assert abs(record.created_at - now()) < 5000
    assert store.authenticate(text, now()).id == record.id
    assert open_keys(path).authenticate(text, now()) == record
    assert find_text(text)[0].what == "a gitstore key"


def test_nothing_secret_is_written(store, path):
    record, text = store.create("admin", "me")
    data = path.read_text()
    secret = text.removeprefix(f"gs_admin_{record.prefix}")
    assert len(secret) == 36
    assert secret not in data
    assert not find_text(data)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert documents.load(path.read_bytes())["keys"][0]["prefix"] == record.prefix


def test_texts_and_prefixes_are_all_different(store):
    made = [store.create("agent", f"n{i}") for i in range(30)]
    assert len({text for _, text in made}) == len({record.prefix for record, _ in made}) == 30
    assert [record.id for record in store.list()] == [record.id for record, _ in made] or len(
        {record.created_at for record, _ in made}
    ) < 30


@pytest.mark.parametrize("name", ["", "  ", "x" * 256, "a\nb", "a\0", "\ud800", "\x1b[31m"])
def test_a_name_that_cannot_stand_in_a_list_is_refused(store, path, name):
    with pytest.raises(errors.Invalid):
        store.create("agent", name)
    assert not path.exists()


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=255).filter(str.strip))
@settings(max_examples=40, deadline=None)
def test_any_other_name_comes_back(tmp_path_factory, name):
    path = tmp_path_factory.mktemp("names") / "keys.yaml"
    open_keys(path).create("agent", name)
    assert [record.name for record in open_keys(path).list()] == [name]


@pytest.mark.parametrize("scope", ["root", "", "Admin", "token"])
def test_an_unknown_scope_is_refused(store, scope):
    with pytest.raises(errors.Invalid, match="agent, worker, admin, service"):
        store.create(scope, "x")
    with pytest.raises(errors.Invalid):
        store.bootstrap("boot", scope)


def test_an_expiry_must_lie_ahead(store):
    for expires_at in (now() - 1, 0, 10**15):
        with pytest.raises(errors.Invalid):
            store.create("agent", "x", expires_at)


def test_a_key_expires_to_the_millisecond(store, path):
    end = now() + HOUR
    record, text = store.create("agent", "x", end)
    assert record.expires_at == end
    for one in (store, open_keys(path)):
        assert one.authenticate(text, end - 1).id == record.id
        refused(one, text, end)


def test_a_revoked_key_ends_at_once_and_for_good(store, path):
    record, text = store.create("agent", "x")
    store.authenticate(text, now())
    revoked = store.revoke(record.id)
    assert revoked.revoked_at is not None
    refused(store, text)
    refused(open_keys(path), text)
    assert [one.revoked_at for one in open_keys(path).list()] == [revoked.revoked_at]
    before = path.read_bytes()
    assert store.revoke(record.id.upper()).revoked_at == revoked.revoked_at
    assert store.revoke(record.prefix).id == record.id
    assert path.read_bytes() == before


def test_revoking_what_is_not_there(store, path):
    store.create("agent", "x")
    before = path.read_bytes()
    for key_id in ("", "00000000-0000-0000-0000-000000000000", "nothing"):
        with pytest.raises(errors.NotFound):
            store.revoke(key_id)
    assert path.read_bytes() == before


def test_one_text_for_every_refusal(store):
    dead, dead_text = store.create("agent", "dead")
    store.revoke(dead.id)
    _, old_text = store.create("agent", "old", now() + 1000)
    live, live_text = store.create("agent", "live")
    token, end = store.issue_token(live, HOUR, now())
    texts = {
        refused(store, dead_text),
        refused(store, old_text, now() + 2000),
        refused(store, token, end),
        *(
            refused(store, presented)
            for presented in (
                "",
                "x",
                live_text[:-1],
                live_text + " ",
                live_text.swapcase(),
                "ä" * 50,
                "\ud800",
                "\0",
                token[:-1],
                token[:-7] + ("A" if token[-7] != "A" else "B") + token[-6:],
                "gs_token_",
                "gs_token_" + "A" * 78,
                "gs_token_" + "!" * 78,
                "gs_token_" + "ä" * 78,
            )
        ),
    }
    assert texts == {"the key is not valid: it is unknown, revoked or expired"}


@given(st.text(max_size=120))
@settings(deadline=None)
def test_any_text_may_be_presented(text):
    with pytest.raises(errors.Unauthorized):
        STRANGER.authenticate(text, now())


STRANGER = open_keys(Path("no-such-folder/keys.yaml"))


# --- tokens ---


def test_a_token_stands_for_its_key_until_its_time(store, path):
    record, text = store.create("worker", "x")
    at = now()
    token, end = store.issue_token(record, HOUR, at)
    assert end == at + HOUR
    assert is_token(token)
    assert not is_token(text)
    assert find_text(token)[0].what == "a gitstore token"
    for one in (store, open_keys(path)):
        assert one.authenticate(token, end - 1).id == record.id
        assert one.authenticate(token, at).scope == "worker"
        refused(one, token, end)
        assert one.authenticate(token, end - 1).id == record.id


def test_a_token_dies_with_its_key(store, path):
    record, _ = store.create("worker", "x")
    token, _ = store.issue_token(record, HOUR, now())
    store.authenticate(token, now())
    store.revoke(record.id)
    refused(store, token)
    with pytest.raises(errors.Unauthorized):
        store.issue_token(record, HOUR, now())
    brief, _ = store.create("worker", "brief", now() + HOUR)
    token, end = store.issue_token(brief, 10 * HOUR, now())
    assert end == brief.expires_at
    refused(store, token, end)


def test_a_token_is_signed_with_the_store_s_key(store, path):
    record, _ = store.create("worker", "x")
    token, _ = store.issue_token(record, HOUR, now())
    refused(Keys.open(path, token_key=b"another" * 5), token)
    for index in range(len("gs_token_"), len(token) - 6):
        wrong = token[:index] + ("A" if token[index] != "A" else "B") + token[index + 1 :]
        refused(store, wrong)


def test_a_token_s_time_is_positive_and_bounded(store):
    record, _ = store.create("worker", "x")
    with pytest.raises(errors.Invalid):
        store.issue_token(record, 0, now())
    token, end = store.issue_token(record, 10**18, now())
    assert store.authenticate(token, end - 1).id == record.id


def test_many_tokens_do_not_fill_the_memory(store, monkeypatch):
    monkeypatch.setattr(keys, "_TOKENS_KEPT", 10)
    record, _ = store.create("worker", "x")
    tokens = [store.issue_token(record, HOUR + i, now())[0] for i in range(50)]
    assert [store.authenticate(token, now()).id for token in tokens] == [record.id] * 50
    assert len(store._state.tokens) <= 10


# --- keys from the configuration ---


def test_a_bootstrap_key_works_as_it_is_and_is_never_written(store, path, tmp_path):
    record = store.bootstrap("dev-admin")
    assert store.authenticate("dev-admin", now()) == record
    assert record.scope == "admin"
    other, _ = store.create("agent", "x")
    assert store.authenticate("dev-admin", now()).id == record.id
    assert [one.id for one in store.list()] == [other.id]
    assert b"dev-admin" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    refused(open_keys(path), "dev-admin")
    with pytest.raises(errors.Conflict, match="configuration"):
        store.revoke(record.id)
    assert store.bootstrap("svc", "service").scope == "service"
    assert store.authenticate("dev-admin", now()).id == record.id


def test_a_bootstrap_key_has_the_same_names_at_every_start(store, path):
    first, second = store.bootstrap("dev-admin"), open_keys(path).bootstrap("dev-admin")
    assert (first.id, first.prefix) == (second.id, second.prefix)
    assert re.fullmatch(r"k[0-9a-z]{7}", first.prefix)
    strange = Keys.open(path, token_key=b"x" * 32).bootstrap("dev-admin")
    assert (strange.id, strange.prefix) != (first.id, first.prefix)


def test_a_bootstrap_key_s_tokens_live_as_long_as_it_is_configured(store, path):
    token, _ = store.issue_token(store.bootstrap("dev-admin"), HOUR, now())
    assert store.authenticate(token, now()).name == "bootstrap"
    later = open_keys(path)
    refused(later, token)
    later.bootstrap("dev-admin")
    assert later.authenticate(token, now()).name == "bootstrap"


@pytest.mark.parametrize("text", ["", " ", "two words", "end\n", "a\0"])
def test_a_bootstrap_key_that_no_request_could_carry_is_refused(store, text):
    with pytest.raises(errors.Invalid):
        store.bootstrap(text)


# --- last use ---


def test_last_use_is_kept_and_handed_over_once(path):
    told = []
    store = open_keys(path, last_used=lambda changed: told.append(dict(changed)))
    record, text = store.create("agent", "x")
    assert store.list()[0].last_used_at is None
    store.flush()
    at = now()
    store.authenticate(text, at)
    store.authenticate(text, at + 5)
    assert store.list()[0].last_used_at == at + 5
    store.flush()
    store.flush()
    assert told == [{record.id: at + 5}]
    assert b"last_used" not in path.read_bytes()
    again = open_keys(path, used=told[0])
    assert again.list()[0].last_used_at == at + 5
    assert again.revoke(record.id).last_used_at == at + 5


def test_last_use_is_handed_over_again_if_the_callback_fails(path):
    def fail(_):
        raise OSError("full")

    store = open_keys(path, last_used=fail)
    record, text = store.create("agent", "x")
    store.authenticate(text, now())
    with pytest.raises(OSError, match="full"):
        store.flush()
    told = []
    store._callback = told.append
    store.flush()
    assert list(told[0]) == [record.id]


# --- other processes ---


def test_what_another_process_does_is_seen(path):
    here, there = open_keys(path), open_keys(path)
    record, text = there.create("agent", "x")
    let_it_look(here)
    assert here.authenticate(text, now()).id == record.id
    token, _ = here.issue_token(record, HOUR, now())
    here.authenticate(token, now())
    there.revoke(record.id)
    let_it_look(here)
    refused(here, text)
    refused(here, token)


def test_it_is_seen_within_half_a_second(path):
    here, there = open_keys(path), open_keys(path)
    record, text = there.create("agent", "x")
    let_it_look(here)
    here.authenticate(text, now())
    there.revoke(record.id)
    time.sleep(keys._LOOK_EVERY + 0.05)
    refused(here, text)


def test_changes_within_one_tick_of_the_clock_are_seen(path, monkeypatch):
    """On a disk with a coarse clock two writes in a row leave the same times, size and inode."""
    stat_of = os.stat

    def coarse(file, **more):
        about = stat_of(file, **more)
        if Path(file) != path:
            return about
        second = int(time.time()) * 10**9
        return SimpleNamespace(st_mtime_ns=second, st_ctime_ns=second, st_ino=1, st_size=about.st_size)

    maker = open_keys(path)
    record, text = maker.create("agent", "x")
    good = path.read_bytes()
    digest = documents.load(good)["keys"][0]["hash"]
    monkeypatch.setattr(os, "stat", coarse)
    here = open_keys(path)
    for _ in range(5):
        path.write_bytes(good.replace(digest.encode(), ("f" + digest[:-1]).encode()))
        let_it_look(here)
        refused(here, text)
        path.write_bytes(good)
        let_it_look(here)
        assert here.authenticate(text, now()).id == record.id


def test_a_file_that_is_taken_away_takes_its_keys_along(store, path):
    _, text = store.create("agent", "x")
    path.unlink()
    let_it_look(store)
    refused(store, text)


def _create_and_revoke(path, number, results):
    store = open_keys(path)
    kept, dropped = [], []
    for i in range(15):
        record, text = store.create("agent", f"{number}.{i}")
        if i % 3 == 0:
            store.revoke(record.id)
            dropped.append(text)
        else:
            kept.append(text)
    results.put((kept, dropped))


def test_two_processes_at_once_lose_nothing(path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    results = context.Queue()
    workers = [context.Process(target=_create_and_revoke, args=(path, n, results)) for n in range(2)]
    for worker in workers:
        worker.start()
    made = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    store = open_keys(path)
    assert len(store.list()) == 30
    for kept, dropped in made:
        for text in kept:
            store.authenticate(text, now())
        for text in dropped:
            refused(store, text)


def test_threads_at_once_lose_nothing_and_never_see_half(path):
    store = open_keys(path)
    first, text = store.create("agent", "first")
    stop = threading.Event()
    faults = []

    def read():
        while not stop.is_set():
            try:
                assert store.authenticate(text, now()).id == first.id
                time.sleep(0.001)
            except (errors.GitstoreError, AssertionError, RuntimeError, KeyError) as fault:
                faults.append(fault)
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    writers = [threading.Thread(target=lambda: [store.create("agent", "x") for _ in range(8)]) for _ in range(4)]
    for thread in readers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in readers:
        thread.join()
    assert faults == []
    assert len(open_keys(path).list()) == 33


# --- crashes and damage ---


@pytest.mark.parametrize("moment", ["os.replace", "os.fsync"])
def test_a_kill_in_the_midst_of_a_write_leaves_the_old_keys(store, path, moment):
    record, text = store.create("agent", "x")
    before = path.read_bytes()
    code = f"""
        import os, pathlib, signal, sys
        from gitstore.keys import Keys
        {moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        Keys.open(pathlib.Path(sys.argv[1]), token_key=bytes(32)).revoke(sys.argv[2])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path), record.id], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    after = open_keys(path)
    assert after.authenticate(text, now()).id == record.id
    after.revoke(record.id)
    refused(open_keys(path), text)
    assert sorted(os.listdir(path.parent)) == ["keys.yaml", "keys.yaml.lock"]


def damaged(text):
    good = (
        "format: 1\nkeys:\n- id: 0b5ad0c8-3a0d-4d3e-9d5e-0c6e5a0f4f11\n  name: x\n  scope: agent\n  prefix: k0000000\n"
        f"  hash: '{'ab' * 32}'\n  created_at: '2026-11-24T03:00:00.000Z'\n"
    )
    return text(good).encode()


DAMAGE = {
    "not YAML": lambda good: good + "  ]",
    "empty": lambda good: "",
    "cut": lambda good: good[:60],
    "a list": lambda good: "[]",
    "no format": lambda good: good.replace("format: 1\n", ""),
    "unknown scope": lambda good: good.replace("agent", "root"),
    "unknown field": lambda good: good + "  more: 1\n",
    "short hash": lambda good: good.replace("ab" * 32, "ab" * 31),
    "no hash": lambda good: good.replace("ab" * 32, "zz" * 32),
    "no id": lambda good: good.replace("0b5ad0c8-", ""),
    "bad time": lambda good: good.replace("T03:00", "T99:00"),
    "a key twice": lambda good: good + good.partition("keys:\n")[2],
    "duplicate field": lambda good: good + "  name: y\n",
}


def test_the_sound_form_of_the_damaged_files_is_read(path):
    path.write_bytes(damaged(str))
    assert [record.prefix for record in open_keys(path).list()] == ["k0000000"]


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_told_and_never_overwritten(path, kind):
    data = damaged(DAMAGE[kind])
    path.write_bytes(data)
    with pytest.raises(errors.Damaged, match=r"keys\.yaml cannot be read: .*it was not changed"):
        open_keys(path)
    assert path.read_bytes() == data


def test_a_file_damaged_later_keeps_the_keys_that_were_in_force(store, path):
    record, text = store.create("agent", "x")
    good = path.read_bytes()
    path.write_bytes(b"format: [")
    let_it_look(store)
    assert store.authenticate(text, now()).id == record.id
    assert isinstance(store.problem, errors.Damaged)
    for change in (lambda: store.create("agent", "y"), lambda: store.revoke(record.id)):
        with pytest.raises(errors.Damaged):
            change()
    assert path.read_bytes() == b"format: ["
    path.write_bytes(good)
    let_it_look(store)
    assert [one.id for one in store.list()] == [record.id]
    assert store.problem is None


def test_a_newer_format_is_told_and_left_alone(path):
    path.write_bytes(b"format: 2\nanything: else\n")
    with pytest.raises(errors.FormatUnknown):
        open_keys(path)
    assert path.read_bytes() == b"format: 2\nanything: else\n"


def test_a_person_s_remarks_stay(store, path):
    record, _ = store.create("agent", "x")
    path.write_bytes(b"# the keys of the build farm; ask Anna\n" + path.read_bytes())
    store.create("agent", "y")
    store.revoke(record.id)
    assert path.read_bytes().startswith(b"# the keys of the build farm; ask Anna\n")
    assert len(open_keys(path).list()) == 2


def test_a_disk_that_refuses_makes_no_key(store, path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    record, text = store.create("agent", "x")
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(errors.StorageFailed, match="No space left"):
        store.create("agent", "y")
    with pytest.raises(errors.StorageFailed):
        store.revoke(record.id)
    assert path.read_bytes() == before
    assert store.authenticate(text, now()).id == record.id
    assert len(store.list()) == 1


def test_a_folder_that_is_not_there(tmp_path):
    store = open_keys(tmp_path / "gone" / "keys.yaml")
    with pytest.raises(errors.StorageFailed):
        store.create("agent", "x")


def test_scopes_have_an_order():
    order = ["agent", "worker", "admin", "service"]
    for have in order:
        for need in order:
            assert allows(have, need) == (order.index(have) >= order.index(need))


def test_the_hot_path_takes_microseconds(store):
    record, text = store.create("agent", "x")
    for _ in range(20):
        store.create("agent", "other")
    token, _ = store.issue_token(record, HOUR, now())
    at = now()
    for presented in (text, token):
        best = 1.0
        for _ in range(20):
            start = time.perf_counter()
            for _ in range(500):
                store.authenticate(presented, at)
            best = min(best, (time.perf_counter() - start) / 500)
        assert best < 20e-6  # about 1 µs; the margin is for a busy machine
