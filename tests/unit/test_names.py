import string
import unicodedata
import uuid

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gitstore import names
from gitstore.errors import Invalid
from gitstore.paths import RESERVED, check_tree_path

ANY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256)
ODD = st.text(st.sampled_from('aAbBſKßÉe\u0301\u0327.-~ %/\\:*?|"<>\n\x7f\u200d\u2028😀'), min_size=1, max_size=12)
KNOWN = st.sampled_from(
    [
        ".",
        "..",
        "~",
        "%",
        "%2F",
        "/",
        "-x",
        ".hidden",
        "a.",
        "a ",
        " a",
        "a/b",
        "CON",
        "con.txt",
        "NUL.",
        "Com1",
        "\x00x",
        "x.yaml",
        "x.meta.yaml",
        "X.META.YAML",
        "artifact.yaml",
        "Artifact.yaml",
        "~" + "0" * 32,
        "é",
        "e\u0301",
        "|\u0301",
        "😀" * 256,
        "x" * 245 + ".meta.yaml",
        "x" * 250,
        "x" * 251,
        "x" * 256,
    ]
)
KEYS = ANY | ODD | KNOWN
# Few letters, so that many keys differ only in case.
CASES = st.lists(st.text("aAbB.-", min_size=1, max_size=5), unique=True, max_size=40)
patient = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def assert_safe(name):
    """The name can be a file on every common file system, and no shell or git takes it for something else."""
    assert 0 < len(name.encode()) <= 255
    assert not set(name) & set('/\\:*?"<>|')
    assert name.isprintable()
    assert not name.startswith((".", "-", " "))
    assert not name.endswith((".", " "))
    assert not RESERVED.fullmatch(name.split(".")[0].rstrip())
    assert unicodedata.is_normalized("NFC", name)
    check_tree_path(name)


def usable(check, text):
    try:
        return check(text)
    except Invalid:
        return None


# --- memory ---------------------------------------------------------------------------------------------------------


@patient
@given(KEYS)
def test_a_memory_key_survives_its_file_name(key):
    name = names.memory_file(key)
    assert_safe(name)
    assert name.isascii()
    if names.is_long_memory(name):
        assert names.memory_key(name) is None
        assert len(name) == 38
    else:
        assert "~" not in name
        assert names.memory_key(name) == key


@patient
@given(st.lists(KEYS, unique=True, max_size=12) | CASES)
@example(["A", "a"])
@example([".A", ".a", "-A", "-a"])
@example(["Con", "con", "CON"])
@example(["é", "É", "e\u0301"])
@example(["K", "k", "K"])
@example(["A" * 240, "a" * 240, "a" * 239 + "A"])
def test_no_two_keys_share_a_file_on_any_file_system(keys):
    taken = set()
    for key in keys:
        name = names.memory_file(key, taken)
        assert_safe(name)
        assert names.memory_key(name) == (None if names.is_long_memory(name) else key)
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
        assert folded not in taken
        assert folded == names.fold(name)
        taken.add(folded)


def test_memory_files_as_people_see_them():
    assert names.memory_file("release-policy") == "release-policy.yaml"
    assert names.memory_file("Release_Policy.v2") == "Release_Policy.v2.yaml"
    assert names.memory_file("/a") == "%2Fa.yaml"
    assert names.memory_file("a b") == "a%20b.yaml"
    assert names.memory_file("~") == "%7E.yaml"
    assert names.memory_file(".x.") == "%2Ex%2E.yaml"
    assert names.memory_file("con") == "%63on.yaml"
    assert names.memory_file("é") == "%C3%A9.yaml"
    assert names.memory_file("x" * 250) == "x" * 250 + ".yaml"
    assert names.memory_file("x" * 251).startswith("~")
    assert names.memory_file("Policy", {"policy.yaml"}) == "%50olicy.yaml"
    assert names.memory_file("policy", {"policy.yaml"}) == "%70olicy.yaml"


def test_reading_is_always_percent_decoding():
    assert names.memory_key("a%2fb%C3%A9.yaml") == "a/bé"
    assert names.memory_key("%61.yaml") == "a"
    assert names.memory_key("Grüße an alle.yaml") == "Grüße an alle"
    assert names.memory_key("100%.yaml") == "100%"
    assert names.memory_key("a%zz.yaml") == "a%zz"
    assert names.memory_key("a~b.yaml") == "a~b"
    for name in ("README.md", "a.yml", ".yaml", "a", "~" + "0" * 32 + ".yaml"):
        assert names.memory_key(name) is None


# --- files ----------------------------------------------------------------------------------------------------------


def put(taken, file_name, key):
    """Stores a file as the store does, and says where."""
    path = names.file_path(file_name, key, taken)
    taken[names.fold(path)] = key
    folder = path.rpartition("/")[0]
    while folder != "files":
        taken.setdefault(names.fold(folder), "")
        folder = folder.rpartition("/")[0]
    return path


@patient
@given(st.lists(st.tuples(KEYS, st.text("aAb.-é", min_size=1, max_size=4) | KNOWN), unique_by=lambda pair: pair[1]))
@example([("x.md", "one"), ("X.md", "A"), ("x.md", "a"), ("a", "two"), ("x.md", "three")])
@example([("x", "one"), ("x.meta.yaml", "two"), ("x", "x.meta.yaml"), ("x.meta.yaml", "X.meta.yaml")])
@example([("e\u0301.md", "one"), ("é.md", "two")])
def test_no_two_files_share_a_path_on_any_file_system(pairs):
    taken = {}
    for raw, key in pairs:
        file_name = usable(names.check_file_name, raw)
        if file_name is None:
            continue
        before = dict(taken)
        path = put(taken, file_name, key)
        check_tree_path(path)
        for part in path.split("/"):
            assert_safe(part)
        folded = names.fold(path)
        assert not folded.endswith(names.META_SUFFIX), "it would be taken for what is said of another file"
        assert len(names.meta_path(path).rsplit("/", 1)[-1].encode()) <= 255
        for other in before:
            assert other != folded
            assert not other.startswith(folded + "/")
            assert before[other] == "" or not folded.startswith(other + "/")
        if "~" not in path:
            assert names.file_name(path) == unicodedata.normalize("NFC", file_name)


def test_files_as_people_see_them():
    def stored(file_name):
        return names.file_path(file_name, "k", {})

    assert stored("Release Notes (final).md") == "files/Release Notes (final).md"
    assert stored("Grüße 日本語 😀.md") == "files/Grüße 日本語 😀.md"
    assert stored("100%.md") == "files/100%25.md"
    assert stored(".env") == "files/%2Eenv"
    assert stored("-rf") == "files/%2Drf"
    assert stored("a\\b:c.md") == "files/a%5Cb%3Ac.md"
    assert stored("a~1.md") == "files/a%7E1.md"
    assert stored("a\u200db.md") == "files/a%E2%80%8Db.md"
    assert stored("x.meta.yaml") == "files/x%2Emeta.yaml"
    assert stored("X.META.YAML") == "files/X%2EMETA.YAML"


def test_a_name_too_long_for_a_file_keeps_its_type():
    for name, suffix in (("x" * 245 + ".meta.yaml", ".yaml"), ("x" * 252 + ".md", ".md"), ("ü" * 255, "")):
        path = names.file_path(name, "k", {})
        stem = path.removeprefix("files/~").removesuffix(suffix)
        assert len(stem) == 32
        assert set(stem) <= set(string.hexdigits.lower())
    assert names.file_path("x" * 300 + "1", "k", {}) != names.file_path("x" * 300 + "2", "k", {})


def test_another_keys_name_is_left_alone():
    taken = {}
    assert put(taken, "a.md", "one") == "files/a.md"
    assert put(taken, "a.md", "one") == "files/a.md"
    assert put(taken, "A.md", "two") == "files/two/A.md"
    assert put(taken, "a.md", "Two") == "files/%54wo/a.md", "another folder even where case does not count"
    assert put(taken, "b.md", "two") == "files/b.md"
    assert put(taken, "two", "three") == "files/three/two", "a folder is in the way"


@pytest.mark.parametrize("stored", ["a%2Fb", "a%5Cb%0A", "%0Ab", "%2E%2E", "%00", "a%ED%A0%80", "a\udcff", "%20"])
def test_a_stored_name_never_stands_for_an_unsafe_one(stored):
    for found in (names.file_name(f"files/{stored}"), names.artifact_name(stored)):
        found.encode()
        assert "/" not in found
        assert found.isprintable()
        assert found.strip(". ")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "a/",
        ".",
        "..",
        "a/..",
        "...",
        " ",
        "a\nb",
        "a\0",
        "\x7f",
        "x" * 256,
        ".git",
        "git~1",
        "CON",
        "nul.txt",
        "a\\b",
    ],
)
def test_file_names_that_are_refused(name):
    with pytest.raises(Invalid):
        names.check_file_name(name)


def test_a_file_name_is_the_last_segment():
    assert names.check_file_name("../../etc/passwd") == "passwd"
    assert names.check_file_name("C:/notes/a b.md") == "a b.md"
    assert names.check_file_name("😀" * 255) == "😀" * 255


def test_keys_are_derived_from_names():
    assert names.file_key("Release Notes (v2).MD") == "release-notes-v2-md"
    assert names.file_key("--a__b--") == "a-b"
    assert names.file_key("日本語") == "file-77710aed"
    assert names.file_key("日本") != names.file_key("日本語")
    assert names.key_of_path("sub/a.md") == "sub-a-md"
    assert names.key_of_path("a%20b.md") == names.file_key("a b.md") == "a-b-md"
    assert names.file_key("x" * 120) == "x" * 120


@patient
@given(KEYS)
def test_a_derived_key_is_short_and_follows_from_the_path(raw):
    name = usable(names.check_file_name, raw)
    if name is None:
        return
    key = names.file_key(name)
    assert 1 <= len(key) <= 120
    assert set(key) <= set(string.ascii_lowercase + string.digits + "-")
    assert key == key.strip("-")
    path = names.file_path(name, key, {})
    if "~" not in path and unicodedata.is_normalized("NFC", name):
        assert names.key_of_path(path.removeprefix("files/")) == key


def test_two_long_names_have_two_keys():
    assert names.file_key("x" * 200 + "1.md") != names.file_key("x" * 200 + "2.md")
    assert names.file_key("x-" * 100).startswith("x-x-")


# --- evidence -------------------------------------------------------------------------------------------------------


@patient
@given(KEYS)
def test_an_id_survives_its_path(identity):
    for part, place in (("workflow", names.workflow_path), ("task", names.task_path)):
        path = place(identity)
        check_tree_path(path)
        assert_safe(path.rsplit("/", 1)[-1])
        long = "~" in path
        assert names.id_of_evidence(path) == (None if long else identity)
        stem = path.rsplit("/", 1)[-1].removesuffix(".yaml")
        assert names.classify("evidence", path) == (part, stem if long else identity)


def test_evidence_is_spread_over_folders():
    assert names.workflow_path("run-1") == "workflows/4e/run-1.yaml"
    assert names.task_path("run-1") == "tasks/4e/run-1.yaml"
    assert names.artifact_folder("run-1") == "artifacts/4e/65/run-1"
    assert names.artifact_folder("../x").rsplit("/", 1)[-1] == "%2E.%2Fx"


@patient
@given(KEYS)
def test_an_artifacts_name_survives_beside_its_document(raw):
    path = usable(names.artifact_path, raw)
    if path is None:
        return
    assert names.artifact_path(path) == path
    name = path.rsplit("/", 1)[-1]
    stored = names.artifact_file(name)
    assert_safe(stored)
    assert names.fold(stored) != names.ARTIFACT_DOCUMENT
    if "~" not in stored:
        assert names.artifact_name(stored) == unicodedata.normalize("NFC", name)


def test_the_artifacts_document_is_not_overwritten():
    assert names.artifact_file("artifact.yaml") == "%61rtifact.yaml"
    assert names.artifact_file("Artifact.YAML") == "%41rtifact.YAML"
    assert names.artifact_name("%61rtifact.yaml") == "artifact.yaml"
    assert names.artifact_file("x" * 1000 + ".pdf").endswith(".pdf")


def test_artifact_paths():
    assert names.artifact_path("./out//report v1.md") == "out/report v1.md"
    assert names.artifact_path("x" * 1024) == "x" * 1024
    assert names.artifact_path("a/.github/ci.yml") == "a/.github/ci.yml"


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "/",
        "/a",
        "../a",
        "a/../../b",
        "a/..",
        "a/",
        "a\\b",
        "C:/a",
        "a\nb",
        "a/.git/config",
        "a/git~1",
        " ",
        "x" * 1025,
    ],
)
def test_unsafe_artifact_paths_are_refused(path):
    with pytest.raises(Invalid):
        names.artifact_path(path)


@pytest.mark.parametrize(
    ("branch", "path", "part", "key"),
    [
        ("main", "workspace.yaml", "workspace", None),
        ("main", "settings.yaml", "settings", None),
        ("main", "memory/a%2Fb.yaml", "memory", "a/b"),
        ("main", f"memory/~{'0' * 32}.yaml", "memory", "~" + "0" * 32),
        ("main", "memory/README.md", "other", None),
        ("main", "memory/sub/a.yaml", "other", None),
        ("main", "spec/tools.yaml", "spec", "tools"),
        ("main", "spec/other.yaml", "other", None),
        ("main", "files/sub/a.md", "file", "sub-a-md"),
        ("main", "files/a.md.meta.yaml", "file", "a-md"),
        ("main", "README.md", "other", None),
        ("main", "workflows/aa/x.yaml", "other", None),
        ("main", "a/workspace.yaml", "other", None),
        ("evidence", "workflows/aa/x%20y.yaml", "workflow", "x y"),
        ("evidence", "tasks/aa/x.yaml", "task", "x"),
        ("evidence", "artifacts/aa/bb/some-id/artifact.yaml", "artifact", "some-id"),
        ("evidence", "artifacts/aa/bb/some-id/report.md", "artifact", "some-id"),
        ("evidence", "artifacts/aa/bb/file", "other", None),
        ("evidence", "workspace.yaml", "other", None),
        ("evidence", "memory/a.yaml", "other", None),
    ],
)
def test_what_a_path_is(branch, path, part, key):
    assert names.classify(branch, path) == (part, key)


# --- slugs and ids --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slug", ["a", "A9", "my-agent_2.0", "a..b", "x" * 100, "git", "1234", "deadbeef"])
def test_slugs(slug):
    names.check_slug(slug)


@pytest.mark.parametrize(
    "slug",
    [
        "",
        "-a",
        "a-",
        ".a",
        "a.",
        "_a",
        "a b",
        "a/b",
        "..",
        "é",
        "a\n",
        "x" * 101,
        "a.git",
        "a.GIT",
        "a.lock",
        "0f8fad5b-d9cb-469f-a165-70867728950e",
        "0F8FAD5B-D9CB-469F-A165-70867728950E",
        "0f8fad5bd9cb469fa16570867728950e",
    ],
)
def test_what_is_no_slug(slug):
    with pytest.raises(Invalid):
        names.check_slug(slug)


def test_ids():
    workspace = names.new_id()
    assert names.is_uuid(workspace)
    assert names.is_uuid(workspace.upper())
    assert not names.is_uuid(workspace.replace("-", ""))
    assert not names.is_uuid(workspace + "\n")
    assert names.new_id() != workspace


@given(st.uuids(), st.text(st.characters(exclude_categories=["Cs"])))
def test_a_derived_id_is_a_uuid_of_version_5(workspace, key):
    assert names.derive_id(str(workspace), key) == str(uuid.uuid5(workspace, key))


def test_an_id_can_be_derived_from_foreign_bytes():
    workspace = names.new_id()
    assert names.is_uuid(names.derive_id(workspace, "a\udcff"))


@given(ANY | ODD)
def test_folding_twice_changes_nothing(text):
    folded = names.fold(text)
    assert names.fold(unicodedata.normalize("NFC", text)) == folded
    assert names.fold(unicodedata.normalize("NFD", text)) == folded
    assert names.fold(folded) == folded


# --- text in commits ------------------------------------------------------------------------------------------------


@given(st.text())
@example("a\nGitstore-Actor: admin root")
@example("a\u2028b\x85c\rd")
@example("<>")
@example("a\ud800b")
@example("x" * 500)
def test_no_text_can_add_a_line_to_a_commit(text):
    for line in (names.one_line(text), names.identity(text)):
        line.encode()
        assert 0 < len(line) <= 200
        assert line.splitlines() == [line]
        assert line == line.strip()
    assert not set("<>") & set(names.identity(text))


def test_lines_as_people_see_them():
    assert names.one_line("  memory:\tset\n a  ") == "memory: set a"
    assert names.one_line("x" * 300, 10) == "x" * 9 + "…"
    assert names.one_line("") == names.one_line("\n") == "-"
    assert names.identity("Ada <ada@example.org>") == "Ada ada@example.org"
    assert names.identity("<>") == "-"
