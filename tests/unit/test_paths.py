import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitstore.errors import Invalid
from gitstore.paths import check_component, check_tree_path

# Each is `.git`, or leads into it, for some git on some file system.
DISGUISES = [
    ".git",
    ".GIT",
    ".gIt",
    ".git.",
    ".git ",
    ".git. . ",
    ".git:",
    ".git:stream",
    ".git::$INDEX_ALLOCATION",
    ".GIT ::$DATA",
    "git~1",
    "GIT~1",
    "git~1.",
    "git~2",
    "git~1::$INDEX_ALLOCATION",
    ".gi\u200ct",
    "\u200d.git",
    ".g\ufeffit",
    ".git\u200f",
    "\u202e.git",
    ".\u206agit",
    ".gi\u200ct ",
    ".gi\u200ct::$INDEX_ALLOCATION",
    "．git",
    ".ｇｉｔ",
]
IGNORED_BY_HFS = [*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF]  # git's utf8.c


@pytest.mark.parametrize("place", ["{}", "{}/config", "a/{}", "a/b/{}/hooks/post-commit"])
@pytest.mark.parametrize("name", DISGUISES)
def test_git_is_found_in_every_disguise(name, place):
    with pytest.raises(Invalid):
        check_tree_path(place.format(name))


@given(
    st.tuples(*[st.sampled_from([letter, letter.upper()]) for letter in ".git"]),
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from(IGNORED_BY_HFS)), max_size=4),
    st.text(". ", max_size=3),
    st.sampled_from(["", ":", ":x", "::$INDEX_ALLOCATION"]),
)
def test_git_is_found_in_disguises_on_top_of_each_other(letters, ignored, trail, stream):
    name = list(letters)
    for at, code in ignored:
        name.insert(at, chr(code))
    with pytest.raises(Invalid):
        check_tree_path("a/" + "".join(name) + trail + stream)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/etc/passwd",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/..",
        "a/../b",
        "a/./b",
        "a/...",
        ". .",
        "a\\b",
        "..\\a",
        "a\0b",
        "a\nb",
        "a\x1bb",
        "a\x7fb",
        "a\x85b",
        "C:/a",
        "c:a",
        "x" * 256,
        "é" * 128,
        "/".join("a" * 33),
        "\ud800",
        "a\udcff",
        ".gitmodules",
        "a/.GitModules",
        "gitmod~1",
    ],
)
def test_unsafe_paths_are_refused(path):
    with pytest.raises(Invalid) as caught:
        check_tree_path(path)
    caught.value.message.encode()
    assert caught.value.message.isprintable(), "it goes to a terminal"


@pytest.mark.parametrize(
    "path",
    [
        "README.md",
        "a b/ü.md",
        "日本語/メモ.txt",
        "👩‍👧/😀.md",
        ".gitignore",
        ".gitattributes",
        ".github/workflows/ci.yml",
        ".gitkeep",
        "git",
        "digit",
        "a.git",
        ".gitx",
        "legit~1",
        "notes: today.md",
        "foo.",
        "-rf",
        "a..b",
        "x" * 255,
        "é" * 127,
        "/".join("a" * 32),
    ],
)
def test_a_persons_paths_are_left_alone(path):
    check_tree_path(path)


def test_devices_of_windows_are_refused():
    for name in ("CON", "nul.txt", "aux.c", "Com1", "lpt9.md", "con .txt", "COM¹", "CONIN$"):
        with pytest.raises(Invalid):
            check_component(name)
    for name in ("console", "com", "com10", "auxiliary.md", "lpt"):
        check_component(name)
