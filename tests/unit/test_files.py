"""Files: keys and names, what is written beside a file, batches, base 64, preconditions."""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Any

import pytest
from draft import WORKSPACE, MemoryWorkspace
from hypothesis import given, settings
from hypothesis import strategies as st

from gitstore import documents, errors, files
from gitstore.context import Context
from gitstore.precondition import Precondition

HEADER = f"id: {WORKSPACE}\nname: Payments\nslug: payments\n".encode()
TOKEN = "glpat-" + "Zq7Rk2Vn9Xw4Tb6Lp3Hs"  # in the form of a GitLab token, valid nowhere


@pytest.fixture
def workspace() -> MemoryWorkspace:
    return MemoryWorkspace.of({"workspace.yaml": HEADER})


def put(workspace: MemoryWorkspace, file_name: str, content: bytes = b"data", **said: Any) -> files.Put:
    (result,) = workspace.apply(files.put, [files.upload(file_name=file_name, content=content, **said)])
    return result


def stored(workspace: MemoryWorkspace) -> list[str]:
    return sorted(path for path in workspace.files if path.startswith("files/"))


def test_a_file_that_says_it_all_needs_nothing_beside_it(workspace: MemoryWorkspace) -> None:
    result = put(workspace, "Release Notes.md", b"# hi")
    assert stored(workspace) == ["files/Release Notes.md"]
    assert workspace.files["files/Release Notes.md"] == b"# hi"
    assert result.file == workspace.context.files["release-notes-md"]
    assert (result.file.file_name, result.file.content_type) == ("Release Notes.md", "text/markdown")
    assert (result.size, result.sha256, result.created) == (4, sha256(b"# hi").hexdigest(), True)
    assert [(commit.kind, commit.name) for commit in workspace.commits] == [
        ("file.added", "files: add Release Notes.md")
    ]


def test_what_cannot_be_derived_stands_beside_the_file(workspace: MemoryWorkspace) -> None:
    put(workspace, "a.bin", key="Data", content_type="application/x-thing; v=1", description="a thing")
    assert documents.load(workspace.files["files/a.bin.meta.yaml"]) == {
        "key": "Data",
        "content_type": "application/x-thing; v=1",
        "description": "a thing",
    }
    held = workspace.context.files["Data"]
    assert (held.content_type, held.description, held.path) == ("application/x-thing; v=1", "a thing", "files/a.bin")
    put(workspace, "b.bin", key="b-bin", content_type="application/octet-stream", description=None)
    assert "files/b.bin.meta.yaml" not in workspace.files


def test_the_same_key_replaces_the_content(workspace: MemoryWorkspace) -> None:
    put(workspace, "a.md", b"one", description="first")
    result = put(workspace, "a.md", b"two")
    assert not result.created
    assert workspace.files["files/a.md"] == b"two"
    assert workspace.context.files["a-md"].description == "first", "what was not said is kept"
    assert put(workspace, "a.md", b"two", description=None).changed
    assert stored(workspace) == ["files/a.md"]
    assert not put(workspace, "a.md", b"two").changed
    assert [commit.kind for commit in workspace.commits] == ["file.added", "file.replaced", "file.replaced"]
    assert workspace.commits[1].name == "files: replace a.md"


def test_the_same_key_under_another_name_moves(workspace: MemoryWorkspace) -> None:
    put(workspace, "a.md", b"one", key="doc", description="d")
    put(workspace, "b.md", b"one", key="doc")
    assert stored(workspace) == ["files/b.md", "files/b.md.meta.yaml"]
    assert workspace.context.files["doc"].description == "d"
    put(workspace, "b.pdf", b"one", key="b-pdf")
    put(workspace, "c.pdf", b"two", key="b-pdf")
    assert workspace.context.files["b-pdf"].file_name == "c.pdf"
    assert workspace.context.problems == ()


def test_one_name_under_several_keys(workspace: MemoryWorkspace) -> None:
    for number, key in enumerate(["one", "two", "a/b", "readme-md", "TWO"]):
        put(workspace, "README.md", b"%d" % number, key=key)
    assert {key: held.file_name for key, held in workspace.context.files.items()} == dict.fromkeys(
        ["TWO", "a/b", "one", "readme-md", "two"], "README.md"
    )
    assert workspace.context.problems == ()
    assert sorted(workspace.files[held.path] for held in workspace.context.files.values()) == [
        b"0",
        b"1",
        b"2",
        b"3",
        b"4",
    ]


NAMES = [
    "a.meta.yaml",
    ".meta.yaml",
    "ÜBER 日本.txt",
    "CON",
    "aux.txt",
    "a%41",
    ".git",
    ".gitignore",
    "x" * 251 + ".txt",
]
NAMES += [
    "~tmp",
    "a:b",
    "a?b*",
    "'quoted\"",
    "\U0001f600.png",
    "-rf",
    "trailing.",
    "trailing ",
    "git~1",
    "A.TXT",
    "a.txt",
]
REFUSED = (".git", "git~1", "CON", "aux.txt")  # git, or some operating system, takes them for something else


@pytest.mark.parametrize("name", NAMES)
def test_names_survive(workspace: MemoryWorkspace, name: str) -> None:
    try:
        result = put(workspace, name, key="k")
    except errors.Invalid:
        assert name in REFUSED
        return
    assert workspace.context.files["k"].file_name == name == result.file.file_name
    assert workspace.context.problems == ()


def test_many_names_side_by_side(workspace: MemoryWorkspace) -> None:
    names = [name for name in NAMES if name not in REFUSED]
    for number, name in enumerate(names):
        put(workspace, name, b"%d" % number, key=f"k{number}")
    assert [
        held.file_name for key, held in sorted(workspace.context.files.items(), key=lambda i: int(i[0][1:]))
    ] == names
    assert workspace.context.problems == ()


@pytest.mark.parametrize(
    ("name", "reduced", "key"),
    [
        ("a/b/Report (final).PDF", "Report (final).PDF", "report-final-pdf"),
        ("--a__b--.md", "--a__b--.md", "a-b-md"),
        ("日本", "日本", None),
        ("a.meta.yaml", "a.meta.yaml", "a-meta-yaml"),
    ],
)
def test_keys_are_derived_from_names(workspace: MemoryWorkspace, name: str, reduced: str, key: str | None) -> None:
    result = put(workspace, name)
    assert result.file.file_name == reduced
    if key is None:
        assert result.file.key.startswith("file-")
        assert len(result.file.key) == len("file-") + 8
    else:
        assert result.file.key == key
    assert workspace.context.files[result.file.key].file_name == reduced
    assert not any(path.endswith(".meta.yaml") and path != result.file.path for path in workspace.files)


@pytest.mark.parametrize("name", ["", ".", "..", "a/", "a/..", "a\nb", "a\0b", "a\x7fb", "x" * 256])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises((errors.Invalid, errors.Malformed)):
        files.upload(file_name=name, content=b"x")


@pytest.mark.parametrize(
    "said",
    [
        {"content": b""},
        {"key": ""},
        {"key": "k" * 121},
        {"key": "a\nb"},
        {"content_type": ""},
        {"content_type": "text"},
        {"content_type": "text/html\r\nX-Evil: 1"},
        {"content_type": "text/" + "x" * 251},
        {"content_type": "text/plain; charset"},
        {"description": "d" * 2001},
        {"description": f"use {TOKEN}"},
        {"content": f"export T={TOKEN}\n".encode()},
    ],
)
def test_what_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(errors.Invalid):
        files.upload(**{"file_name": "a.txt", "content": b"x", **said})


def test_what_is_at_a_limit_passes() -> None:
    one = files.upload(
        file_name="x" * 255, content=b"x" * 8, key="k" * 120, content_type="text/" + "x" * 250, description="d" * 2000,
        max_bytes=8,
    )  # fmt: skip
    assert one.size == 8
    with pytest.raises(errors.TooLarge, match="8 are allowed"):
        files.upload(file_name="a", content=b"x" * 9, max_bytes=8)


def test_secrets_are_looked_for_in_text_up_to_1_mib_only() -> None:
    secret = f" {TOKEN}".encode()
    files.upload(file_name="a.bin", content=b"\0" + secret)
    files.upload(file_name="a.bin", content=b"\xff" + secret)
    files.upload(file_name="a.txt", content=b"x" * (1 << 20) + secret)
    files.upload(file_name="a.txt", content=secret, policy="allow")
    with pytest.raises(errors.SecretFound, match="line 2"):
        files.upload(file_name="a.txt", content=b"x" * 1000 + b"\n" + secret)


def test_a_batch_is_all_or_nothing(workspace: MemoryWorkspace) -> None:
    put(workspace, "b.md", b"old")
    batch = [files.upload(file_name=name, content=b"new") for name in ("c.md", "b.md", "a.md")]
    results = workspace.apply(files.put, batch)
    assert [(result.file.key, result.created) for result in results] == [
        ("c-md", True),
        ("b-md", False),
        ("a-md", True),
    ]
    assert workspace.commits[-1].kind == "changes"
    assert workspace.commits[-1].name == "files: put 3 files"
    assert len(workspace.commits) == 2
    workspace.apply(files.put, [files.upload(file_name=name, content=b"x") for name in ("d.md", "e.md")])
    assert (workspace.commits[-1].kind, workspace.commits[-1].name) == ("file.added", "files: add 2 files")
    with pytest.raises(errors.Invalid, match="f-md"):
        workspace.apply(files.put, [files.upload(file_name=name, content=b"x") for name in ("f.md", "F.md")])
    with pytest.raises(errors.WrongShape):
        workspace.apply(files.put, [files.upload(file_name=f"{n}.md", content=b"x") for n in range(11)])
    with pytest.raises(errors.WrongShape):
        workspace.apply(files.put, [])
    assert len(workspace.commits) == 3


def test_two_of_a_batch_with_one_name(workspace: MemoryWorkspace) -> None:
    batch = [files.upload(file_name="a.md", content=b"%d" % n, key=f"k{n}") for n in range(3)]
    workspace.apply(files.put, batch)
    assert [workspace.files[workspace.context.files[f"k{n}"].path] for n in range(3)] == [b"0", b"1", b"2"]


def test_files_that_a_person_added(workspace: MemoryWorkspace) -> None:
    workspace.edit({"files/sub/a.md": b"by hand", "files/docs": b"a file", "files/b.md": b"b"})
    assert workspace.context.files["sub-a-md"].file_name == "a.md"
    result = put(workspace, "a.md", b"through the door", key="sub-a-md")
    assert result.file.path == "files/sub/a.md"
    assert put(workspace, "sub", b"a name that is a folder").file.path != "files/sub"
    assert put(workspace, "a.md", key="other").file.path == "files/a.md"
    moved = put(workspace, "b.md", key="docs").file
    assert moved.path not in ("files/b.md", "files/docs/b.md"), "a file cannot become a folder in one change"
    assert "files/docs" not in workspace.files
    assert workspace.context.problems == ()


def test_what_a_person_wrote_beside_a_file_is_kept(workspace: MemoryWorkspace) -> None:
    workspace.edit({"files/a.md": b"1", "files/a.md.meta.yaml": b"# mine\nowner: me  # really\ndescription: d\n"})
    put(workspace, "a.md", b"2", description="e")
    assert workspace.files["files/a.md.meta.yaml"] == b"# mine\nowner: me  # really\ndescription: e\n"
    put(workspace, "a.md", b"2", description=None)
    assert documents.load(workspace.files["files/a.md.meta.yaml"]) == {"owner": "me"}
    workspace.edit({"files/a.md.meta.yaml": b"[broken\n"})
    put(workspace, "a.md", b"3", description="f")
    assert documents.load(workspace.files["files/a.md.meta.yaml"]) == {"description": "f"}
    assert workspace.context.problems == ()


def test_delete_by_key_and_by_id(workspace: MemoryWorkspace) -> None:
    put(workspace, "a.md", description="d")
    put(workspace, "b.md")
    assert workspace.apply(files.delete, "a-md").file_name == "a.md"
    identity = files.identity(WORKSPACE, "b-md")
    assert workspace.apply(files.delete, identity.upper()).key == "b-md"
    assert stored(workspace) == []
    assert [commit.name for commit in workspace.commits[2:]] == ["files: delete a.md", "files: delete b.md"]
    assert {commit.kind for commit in workspace.commits[2:]} == {"file.deleted"}
    with pytest.raises(errors.NotFound):
        workspace.apply(files.delete, identity)


def test_an_id_stays_over_replacement_and_return(workspace: MemoryWorkspace) -> None:
    put(workspace, "a.md", b"1", key="k")
    found = files.find(workspace.context, WORKSPACE, files.identity(WORKSPACE, "k"))
    put(workspace, "b.md", b"2", key="k")
    again = files.find(workspace.context, WORKSPACE, files.identity(WORKSPACE, "k"))
    assert found is not None
    assert again is not None
    assert (found.key, again.key) == ("k", "k")
    assert files.find(workspace.context, WORKSPACE, "nothing") is None
    assert files.find(workspace.context, WORKSPACE, WORKSPACE) is None


def etag(workspace: MemoryWorkspace, key: str) -> str:
    held = workspace.context.files[key]
    return files.etag(held, files.touched(held, workspace.touches.get))


def test_preconditions(workspace: MemoryWorkspace) -> None:
    create = Precondition(if_none_match=("*",))
    one = files.upload(file_name="a.md", content=b"1")
    workspace.apply(files.put, [one], precondition=create)
    with pytest.raises(errors.PreconditionFailed):
        workspace.apply(files.put, [one], precondition=create)
    first = etag(workspace, "a-md")
    put(workspace, "b.md")
    assert etag(workspace, "a-md") == first
    workspace.apply(
        files.put, [files.upload(file_name="a.md", content=b"2")], precondition=Precondition(if_match=(first,))
    )
    with pytest.raises(errors.PreconditionFailed) as caught:
        workspace.apply(files.delete, "a-md", precondition=Precondition(if_match=(first,)))
    assert caught.value.current == etag(workspace, "a-md")
    second = etag(workspace, "a-md")
    put(workspace, "a.md", b"2", description="only said")
    assert etag(workspace, "a-md") != second
    put(workspace, "a.md", b"1", description=None)
    assert etag(workspace, "a-md") not in (first, second), "the same bytes again are another version"


@given(st.binary(max_size=60), st.sampled_from(["", "\n", " ", "\t\r\n"]), st.integers(0, 80))
@settings(max_examples=200)
def test_base64_comes_back(data: bytes, space: str, at: int) -> None:
    text = base64.b64encode(data).decode()
    assert files.decode_base64(text[:at] + space + text[at:]) == data


@pytest.mark.parametrize(
    "text",
    [
        *("a", "ab", "abc", "YQ", "YQ=", "YQ===", "YR==", "YWJ=", "YW=I", "=", "====", "YQ==YQ==", "YWJj=", "YWJj=="),
        *("Y-_Q", "é", "YQ==!", "Y\0Q=", "\ud800", "YQ==\xa0"),
    ],
)
def test_base64_is_strict(text: str) -> None:
    with pytest.raises(errors.Invalid, match="content_base64"):
        files.decode_base64(text)


def test_what_is_stored_is_what_a_fresh_reading_finds(workspace: MemoryWorkspace) -> None:
    put(workspace, "a.bin", key="Data", content_type="text/x-y", description="d")
    put(workspace, "b.md")
    fresh = Context.load(workspace.tree, previous=None, now=workspace.now)
    assert fresh.files == workspace.context.files
