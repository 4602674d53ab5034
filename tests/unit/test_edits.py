"""Several edits of a checkout as one change: who is to blame for what, and what a commit of them is called."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from git.living import API, Living

from gitstore import edits
from gitstore.changes import Outcome
from gitstore.checkout import _PATIENCE
from gitstore.errors import Invalid
from gitstore.repository.objects import Blob, Oid
from gitstore.repository.status import Edit, Status


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    made = Living(tmp_path / "data", watch=False)  # not started: nobody looks but the test
    made.make(policy={"days": 5, "who": "ada"}, other=1)
    yield made
    made.store.close()


def edit(living: Living, path: str, text: bytes | None, base: Oid | str | None = "shown", when: float = 0.0) -> Edit:
    held = living.main(path)
    shown = Blob(held).id if held is not None else None
    began = shown if isinstance(base, str) else base
    return Edit(path, began, shown, Blob(text) if text is not None else None, False, when)


def take(living: Living, *all_: Edit, message: str | None = None) -> Outcome[edits.Taken]:
    return living.store.apply("shop", "main", lambda draft: edits.take(draft, all_, message, {}), API).result()


def codes(outcome: Outcome[edits.Taken]) -> dict[str, str]:
    return {problem.path: problem.code for problem in outcome.value.problems}


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"memory/new.yaml": b"1\n"}, "add memory/new.yaml"),
        ({"memory/other.yaml": b"2\n"}, "edit memory/other.yaml"),
        ({"memory/other.yaml": None}, "delete memory/other.yaml"),
        ({"a": b"1", "b": b"2"}, "add 2 files: a, b"),
        ({"a": b"1", "memory/other.yaml": None}, "edit 2 files: a, memory/other.yaml"),
        (dict.fromkeys("abcde", b"1"), "add 5 files: a, b, c …"),
    ],
)
def test_names(living: Living, files: dict[str, bytes | None], name: str) -> None:
    outcome = take(living, *(edit(living, path, text) for path, text in files.items()))
    assert outcome.commit is not None
    assert outcome.commit.name == name
    assert outcome.value == edits.Taken(tuple(sorted(files)), (), ())


def test_an_edit_is_blamed_for_what_it_does_to_another_file(living: Living) -> None:
    """A meta file gives its file a key that another file has: the meta file is what has to be mended."""
    take(living, edit(living, "files/a.md", b"a"), edit(living, "files/b.md", b"b"))
    outcome = take(
        living,
        edit(living, "files/b.md.meta.yaml", b"key: a-md\n"),
        edit(living, "files/c.md", b"c"),
    )
    assert set(codes(outcome).values()) == {"two_files_one_key"}
    assert list(codes(outcome)) == ["files/b.md.meta.yaml"]
    assert outcome.value.paths == ("files/c.md",)


def test_of_two_that_only_clash_together_one_goes_on(living: Living) -> None:
    outcome = take(living, edit(living, "files/a/b.md", b"1"), edit(living, "files/a-b.md", b"2"))
    assert len(outcome.value.paths) == 1
    assert len(outcome.value.problems) == 1
    assert set(outcome.value.paths) | set(codes(outcome)) == {"files/a/b.md", "files/a-b.md"}


def test_a_problem_that_was_there_before_blames_nobody(living: Living) -> None:
    living.store.apply("shop", "main", lambda draft: draft.write("memory/bad.yml", b"1"), API).result()
    assert [one.path for one in living.problems()] == ["memory/bad.yml"]
    outcome = take(living, edit(living, "memory/new.yaml", b"1\n"))
    assert outcome.value == edits.Taken(("memory/new.yaml",), (), ())
    assert take(living, edit(living, "memory/bad.yml", None)).snapshot.problems == ()


def test_what_main_has_already_is_no_commit(living: Living) -> None:
    base = Blob(b"days: 5\nwho: ada\n").id
    living.workspace().repository.database.keep([Blob(b"days: 5\nwho: ada\n")])
    living.set("policy", {"days": 7, "who": "ada", "more": 1})
    outcome = take(living, edit(living, "memory/policy.yaml", b"days: 7\nwho: ada\n", base))
    assert outcome.commit is None
    assert outcome.value == edits.Taken((), (), ("memory/policy.yaml",))


def test_a_whole_folder_that_goes_is_one_problem(living: Living) -> None:
    gone = [edit(living, path, None) for path in living.files()]
    outcome = take(living, *gone, edit(living, "memory/new.yaml", b"1\n"))
    assert codes(outcome) == {"workspace.yaml": "missing"}
    assert outcome.value.paths == ("memory/new.yaml",)


@pytest.mark.parametrize("value", [5, None, {"a": 1}])
def test_a_text_is_settled_with_a_text(living: Living, value: Any) -> None:
    take(living, edit(living, "notes.md", b"x\n"))
    one = edit(living, "notes.md", b"y\n")
    with pytest.raises(Invalid, match="must be a text"):
        living.store.apply("shop", "main", lambda draft: edits.settle(draft, one, take=None, value=value), API)
    living.store.apply("shop", "main", lambda draft: edits.settle(draft, one, take=None, value="z\n"), API).result()
    assert living.main("notes.md") == b"z\n"


# -- coming to rest ----------------------------------------------------------------------------------------------------


def test_edits_that_come_shortly_after_one_another_wait_for_each_other(
    living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("gitstore.checkout.time.time", lambda: now[0])
    checkouts, workspace = living.live.checkouts, living.workspace()
    settle = checkouts._settle

    def rested(*all_: Edit) -> tuple[list[str], float | None]:
        seen = checkouts._seen.setdefault(workspace.id, {})
        for one in all_:
            seen.setdefault((one.path, one.blob is None), now[0])
        ready, wait = checkouts._rested(workspace, Status(list(all_), [], set()))
        return [one.path for one in ready], wait

    old = edit(living, "a", b"1", when=1000.0 - 2 * settle)
    assert rested(old) == (["a"], None)
    young = edit(living, "b", b"1", when=1000.0 - settle / 2)
    ready, wait = rested(old, young)
    assert ready == []
    assert wait == pytest.approx(settle / 2)
    now[0] += _PATIENCE * settle + 0.001
    writing = edit(living, "b", b"2", when=now[0])  # somebody goes on and on
    assert rested(old, writing)[0] == ["a"]
    now[0] += settle + 0.001
    assert rested(old, writing) == (["a", "b"], None)
    staged = young._replace(path="c", staged=True)
    ready, wait = rested(old, staged)
    assert ready == ["a"]
    assert wait is not None
    gone = edit(living, "memory/other.yaml", None, when=now[0])
    assert rested(gone)[0] == []
    now[0] += settle + 0.001
    assert rested(gone._replace(time=now[0]))[0] == ["memory/other.yaml"]  # others come and go in its folder
    ahead = edit(living, "d", b"1", when=now[0] + 3600)  # the clock was set back: nobody waits for an hour
    assert rested(ahead)[0] == ["d"]
