"""A secret opens for its workspace and name, under its master key, and not otherwise."""

import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitstore import errors
from gitstore.credentials import find_text
from gitstore.secrets import Vault, decode_file, encode_file, exclusive, write_private

WORKSPACE = "0b5ad0c8-3a0d-4d3e-9d5e-0c6e5a0f4f11"
OTHER = "1b5ad0c8-3a0d-4d3e-9d5e-0c6e5a0f4f11"
MASTER = "correct horse battery staple"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def vault(tmp_path):
    return Vault.open(tmp_path / "secrets")


def test_what_was_sealed_opens_again(vault):
    sealed = vault.seal(WORKSPACE, "git_token", "töken")
    assert vault.unseal(WORKSPACE, "git_token", sealed) == "töken"
    assert "töken".encode() not in sealed
    assert vault.seal(WORKSPACE, "git_token", "töken") != sealed


def test_a_text_that_is_not_unicode_is_malformed(vault):
    with pytest.raises(errors.Malformed):
        vault.seal(WORKSPACE, "git_token", "\ud800")


@pytest.mark.parametrize(
    ("workspace", "name"), [(OTHER, "git_token"), (WORKSPACE, "webhook"), (WORKSPACE + "g", "it_token")]
)
def test_it_is_bound_to_its_workspace_and_name(vault, workspace, name):
    sealed = vault.seal(WORKSPACE, "git_token", "x")
    with pytest.raises(errors.Damaged):
        vault.unseal(workspace, name, sealed)


def test_every_altered_byte_is_noticed(vault):
    sealed = vault.seal(WORKSPACE, "git_token", "some text")
    for index in range(len(sealed)):
        wrong = bytearray(sealed)
        wrong[index] ^= 1
        with pytest.raises((errors.Damaged, errors.Unavailable)):
            vault.unseal(WORKSPACE, "git_token", bytes(wrong))
    for length in range(len(sealed)):
        with pytest.raises((errors.Damaged, errors.Unavailable)):
            vault.unseal(WORKSPACE, "git_token", sealed[:length])


def test_a_newer_seal_is_told_as_such(vault):
    sealed = vault.seal(WORKSPACE, "git_token", "x")
    assert not vault.opens(b"\x02" + sealed[1:])
    with pytest.raises(errors.FormatUnknown):
        vault.unseal(WORKSPACE, "git_token", b"\x02" + sealed[1:])


def test_another_master_key_is_told_apart_from_damage(vault, tmp_path):
    sealed = vault.seal(WORKSPACE, "git_token", "x")
    stranger = Vault.open(tmp_path / "elsewhere")
    assert vault.opens(sealed)
    assert not stranger.opens(sealed)
    with pytest.raises(errors.Unavailable, match=r"another master key.*GITSTORE_SECRET_KEY"):
        stranger.unseal(WORKSPACE, "git_token", sealed)


def test_the_key_file_is_private_and_stays(tmp_path):
    folder = tmp_path / "secrets"
    sealed = Vault.open(folder).seal(WORKSPACE, "git_token", "x")
    key = (folder / "key").read_bytes()
    assert (mode(folder), mode(folder / "key")) == (0o700, 0o600)
    assert Vault.open(folder).unseal(WORKSPACE, "git_token", sealed) == "x"
    assert (folder / "key").read_bytes() == key
    assert find_text(key.decode()) != []  # a key that strays into a repository is refused there
    assert sorted(os.listdir(folder)) == ["key", "lock"]


def test_loose_modes_are_tightened(tmp_path):
    folder = tmp_path / "secrets"
    Vault.open(folder)
    folder.chmod(0o755)
    (folder / "key").chmod(0o644)
    Vault.open(folder)
    assert (mode(folder), mode(folder / "key")) == (0o700, 0o600)


def test_a_given_master_key_alone_opens_a_copy_elsewhere(tmp_path):
    sealed = Vault.open(tmp_path / "one", MASTER).seal(WORKSPACE, "git_token", "x")
    assert not (tmp_path / "one" / "key").exists()
    assert Vault.open(tmp_path / "two", MASTER).unseal(WORKSPACE, "git_token", sealed) == "x"
    with pytest.raises(errors.Unavailable):
        Vault.open(tmp_path / "two", MASTER + ".").unseal(WORKSPACE, "git_token", sealed)


def test_the_text_of_the_key_file_is_a_master_key(tmp_path):
    vault = Vault.open(tmp_path / "one")
    text = (tmp_path / "one" / "key").read_text()
    moved = Vault.open(tmp_path / "two", text.strip())
    assert moved.unseal(WORKSPACE, "n", vault.seal(WORKSPACE, "n", "x")) == "x"
    assert moved.derive("tokens") == vault.derive("tokens")


def test_a_master_key_given_later_still_opens_what_the_file_sealed(tmp_path):
    old = Vault.open(tmp_path)
    new = Vault.open(tmp_path, MASTER)
    assert new.unseal(WORKSPACE, "n", old.seal(WORKSPACE, "n", "x")) == "x"
    sealed = new.seal(WORKSPACE, "n", "y")
    assert Vault.open(tmp_path, MASTER).unseal(WORKSPACE, "n", sealed) == "y"
    with pytest.raises(errors.Unavailable):
        old.unseal(WORKSPACE, "n", sealed)


@pytest.mark.parametrize("master", ["", " \n"])
def test_an_empty_master_key_is_refused(tmp_path, master):
    with pytest.raises(errors.Invalid, match="empty"):
        Vault.open(tmp_path, master)


@pytest.mark.parametrize("content", [b"", b"gitstore-key-1-short\n", b"\xff" * 60, b"gitstore-key-1-" + b"*" * 43])
def test_a_damaged_key_file_is_named_and_left_alone(tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(errors.Damaged, match="key"):
        Vault.open(tmp_path)
    assert (tmp_path / "key").read_bytes() == content


def test_a_folder_that_cannot_be_made_is_a_failure_of_storage(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.StorageFailed):
        Vault.open(tmp_path / "file" / "secrets")


def _open_and_seal(folder, barrier, results):
    barrier.wait()
    results.put(Vault.open(folder).seal(WORKSPACE, "n", "x"))


def test_processes_that_start_together_make_one_key(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # the processes begin together, not one import after the other
    for round_ in range(3):
        folder = tmp_path / str(round_)
        barrier, results = context.Barrier(4), context.Queue()
        workers = [context.Process(target=_open_and_seal, args=(folder, barrier, results)) for _ in range(4)]
        for worker in workers:
            worker.start()
        sealed = [results.get(timeout=60) for _ in workers]
        for worker in workers:
            worker.join()
        vault = Vault.open(folder)
        assert [vault.unseal(WORKSPACE, "n", one) for one in sealed] == ["x"] * 4


def test_derived_keys_differ_by_purpose_and_by_master(tmp_path):
    vault = Vault.open(tmp_path / "a")
    assert len(vault.derive("tokens")) == 32
    assert vault.derive("tokens") == Vault.open(tmp_path / "a").derive("tokens")
    assert len({vault.derive("tokens"), vault.derive("links"), Vault.open(tmp_path / "b").derive("tokens")}) == 3


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.binary()), st.integers(0, 2**60))
@settings(deadline=None)
def test_the_secrets_file_comes_back(sealed, generation):
    data = encode_file(sealed, generation)
    assert data.endswith(b"\n")
    assert decode_file(data) == (sealed, generation)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"format":1,"generation":1}',
        b'{"format":1,"generation":-1,"secrets":{}}',
        b'{"format":0,"generation":1,"secrets":{}}',
        b'{"format":1,"generation":"1","secrets":{}}',
        b'{"format":1,"generation":1,"secrets":{"a":"%%%"}}',
        b'{"format":1,"generation":1,"secrets":{"\xff":""}}',
        b'{"format":1,"generation":1,"secrets":{},"more":1}',
        encode_file({"a": b"x"}, 1)[:-5],
    ],
)
def test_a_damaged_secrets_file_is_told(data):
    with pytest.raises(errors.Damaged) as caught:
        decode_file(data)
    assert not isinstance(caught.value, errors.FormatUnknown)


def test_a_newer_secrets_file_is_told():
    with pytest.raises(errors.FormatUnknown):
        decode_file(b'{"format":2,"anything":[]}')


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_give_a_clear_error(data):
    with pytest.raises(errors.Damaged):
        decode_file(data)


def test_a_private_file_is_replaced_whole_and_stays_private(tmp_path):
    path = tmp_path / "file"
    for left in (path, tmp_path / "file.tmp"):  # the second as a crash would leave it
        left.write_text("old")
        left.chmod(0o644)
    write_private(path, b"new")
    assert (path.read_bytes(), mode(path), os.listdir(tmp_path)) == (b"new", 0o600, ["file"])


def test_a_kill_between_write_and_rename_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    code = """
        import os, pathlib, signal, sys
        from gitstore.secrets import write_private
        os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        write_private(pathlib.Path(sys.argv[1]), b"new and longer")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    write_private(path, b"n2")
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"n2", ["file"])


def test_a_planted_link_is_not_followed(tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "file.tmp").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        write_private(tmp_path / "file", b"x")
    assert (tmp_path / "victim").read_text() == "mine"


def test_the_lock_keeps_others_out(tmp_path):
    held = []

    def hold(number):
        with exclusive(tmp_path / "lock"):
            held.append(number)
            assert len(held) == 1
            held.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, range(200)))
    assert mode(tmp_path / "lock") == 0o600
