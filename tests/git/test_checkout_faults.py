"""Edits that break a rule: reads go on with the last good value, other edits go on, the problem says where, and it is
gone when the file is mended, be the server started again in between or not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract.client import PEM

from gitstore.model import Problem

from .living import SETTLE, Living, git, save, sound, until

POLICY = {"days": 5, "who": "ada"}


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    made = Living(tmp_path / "data").start()
    yield made
    made.stop()


@pytest.fixture
def shop(living: Living) -> Path:
    folder = living.make(policy=POLICY, other=1)
    living.make("taken")
    return folder


def problem(living: Living, path: str) -> Problem:
    return until(lambda: next((one for one in living.problems() if one.path == path), None), what=living.problems)


MARKED = "<<<<<<< a\ndays: 1\n=======\ndays: 2\n>>>>>>> b\n"
INNER = PEM.replace("\n", "\n  ")
OTHER = "id: 11111111-2222-4333-8444-555555555555\nname: Shop\nslug: shop\n"
BROKEN = {
    "bad YAML": ("memory/policy.yaml", "days: 6\nwho: [ada\n", "invalid", "yaml", 3, 1),
    "a duplicate key": ("memory/policy.yaml", "days: 6\nwho: x\ndays: 7\n", "invalid", "yaml", 3, 1),
    "an anchor": ("memory/policy.yaml", "a: &x 1\nb: *x\n", "invalid", "yaml", 1, 4),
    "a tag": ("memory/policy.yaml", "a: !!python/object/apply:os.system [x]\n", "invalid", "yaml", 1, 4),
    "no UTF-8": ("memory/policy.yaml", b"a: \xff\xfe\n", "invalid", "yaml", None, None),
    "conflict markers": ("memory/policy.yaml", MARKED, "invalid", "yaml", None, None),
    "a wrong shape": ("spec/tools.yaml", "- a\n- b\n", "invalid", "shape", None, None),
    "wrong settings": ("settings.yaml", "default_branch: [x]\n", "invalid", "shape", None, None),
    "a secret in YAML": ("memory/policy.yaml", f"days: 6\nkey: |\n  {INNER}\n", "secret", "secret", None, None),
    "a secret in a file": ("files/id_rsa.txt", f"\n\n{PEM}", "secret", "secret", None, None),
    "a secret elsewhere in the repository": ("docs/key.txt", PEM, "secret", "secret", None, None),
    "a key that is there already": ("files/a/b.md", "x", "invalid", "two_files_one_key", None, None),
    "a case twin": ("memory/POLICY.yaml", "1\n", "invalid", "case_twins", None, None),
    "another extension": ("memory/more.yml", "1\n", "invalid", "extension", None, None),
    "a folder in the memory": ("memory/deep/more.yaml", "1\n", "invalid", "folder", None, None),
    "another id": ("workspace.yaml", OTHER, "invalid", "shape", None, None),
    "no id": ("workspace.yaml", "name: Shop\nslug: shop\n", "invalid", "shape", None, None),
    "a taken slug": ("workspace.yaml", "slug: taken", "invalid", "slug", None, None),
    "a slug that differs in case from a taken one": ("workspace.yaml", "slug: TAKEN", "invalid", "slug", None, None),
    "an invalid slug": ("workspace.yaml", "slug: '../up'", "invalid", "shape", None, None),
    "no workspace.yaml": ("workspace.yaml", None, "invalid", "missing", None, None),
    "a name no system can hold": ("files/nul.txt", "x", "invalid", "name", None, None),
    "a name with a line break": ("files/a\nb.txt", "x", "invalid", "name", None, None),
    "the reserved folder as a file": ("Evidence", "x", "invalid", "reserved", None, None),
}  # fmt: skip


def spoil(living: Living, shop: Path, path: str, text: str | bytes | None) -> bytes | None:
    """Makes the edit; what was there before."""
    place = shop / path
    before = place.read_bytes() if place.exists() else None
    if path == "files/a/b.md":
        save(shop / "files/a-b.md", "the first\n")
        until(lambda: "a-b-md" in living.workspace().visible.context.files)
    if text is None:
        place.unlink()
    elif isinstance(text, str) and text.startswith("slug:"):
        save(place, "\n".join([text if line.startswith("slug:") else line for line in place.read_text().splitlines()]))
    else:
        save(place, text)
    return before


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_edit_harms_nothing_else(living: Living, shop: Path, what: str) -> None:
    path, text, kind, code, line, column = BROKEN[what]
    told = path
    before = spoil(living, shop, path, text)  # type: ignore[arg-type]
    save(shop / "memory/beside.yaml", "1\n")  # in the same save
    until(lambda: "beside" in living.memory())
    found = until(lambda: next((one for one in living.problems() if one.path == told), None), what=living.problems)
    assert (found.kind, found.code) == (kind, code)
    if line is not None:
        assert (found.line, found.column) == (line, column)
    assert found.hint
    assert found.message
    if kind == "secret":
        assert "MIIE" not in repr(found)
    memory = {"beside": 1, "other": 1, "policy": POLICY}
    assert living.memory() == memory
    assert "shop" in living.slugs()
    living.set("other", 2)
    living.restart()
    again = until(lambda: next((one for one in living.problems() if one.id == found.id), None), what=living.problems)
    assert again.message == found.message
    assert living.memory() == {**memory, "other": 2}
    assert living.main(path) == before or (before is None and living.main(path) is None)
    place = shop / path
    if text is not None:
        assert place.exists()
    if before is None:
        place.unlink()
    else:
        save(place, before)
    until(lambda: not living.problems(), what=living.problems)
    living.rest()
    sound(shop)


def test_mending_takes_the_edit_in(living: Living, shop: Path) -> None:
    save(shop / "memory/policy.yaml", "days: 6\nwho: [ada\n")
    since = problem(living, "memory/policy.yaml").since
    save(shop / "memory/policy.yaml", "days: 6\nwho: [ada\nmore: 1\n")
    time.sleep(3 * SETTLE)
    assert problem(living, "memory/policy.yaml").since == since
    save(shop / "memory/policy.yaml", "days: 6\nwho: [ada]\n")
    until(lambda: living.memory()["policy"] == {"days": 6, "who": ["ada"]})
    until(lambda: not living.problems())


def test_the_api_writes_the_key_of_a_file_that_cannot_be_read(living: Living, shop: Path) -> None:
    save(shop / "memory/policy.yaml", "days: [\n")
    problem(living, "memory/policy.yaml")
    living.set("policy", {"days": 8, "who": "api"})
    assert living.memory()["policy"] == {"days": 8, "who": "api"}
    assert (shop / "memory/policy.yaml").read_text() == "days: [\n"
    save(shop / "memory/policy.yaml", "days: 5\nwho: tom\n")  # from the version that it began with
    told = until(lambda: next((one for one in living.problems() if one.kind == "conflict"), None), what=living.problems)
    assert "/who" in told.message
    assert "/days" not in told.message


def test_a_broken_file_is_settled_by_main_or_with_a_value(living: Living, shop: Path) -> None:
    save(shop / "memory/policy.yaml", "# mine\ndays: [\n")
    living.resolve(problem(living, "memory/policy.yaml"), value={"days": 9})
    assert living.memory()["policy"] == {"days": 9}
    living.rest()
    assert "days: 9" in (shop / "memory/policy.yaml").read_text()
    save(shop / "memory/policy.yaml", "days: [\n")
    mine = git(shop, "hash-object", "memory/policy.yaml")
    told = problem(living, "memory/policy.yaml")
    with pytest.raises(Exception, match="cannot be taken as it is"):
        living.resolve(told, take="file")
    living.resolve(told, take="main")
    until(lambda: not living.problems())
    assert "days: 9" in (shop / "memory/policy.yaml").read_text()
    assert git(shop, "cat-file", "blob", mine) == "days: ["
    living.rest()
    sound(shop)


def test_a_whole_folder_that_is_emptied_loses_nothing(living: Living, shop: Path) -> None:
    """`rm -r *`: what is missing is no decision about each file, and git brings it all back."""
    files = living.files()
    for place in sorted(shop.rglob("*"), reverse=True):
        if ".git" not in place.relative_to(shop).parts:
            place.unlink() if place.is_file() else place.rmdir()
    problem(living, "workspace.yaml")
    assert living.files() == files
    assert living.memory() == {"other": 1, "policy": POLICY}
    git(shop, "checkout", "--", ".")
    until(lambda: not living.problems())
    assert living.files() == files


def test_a_file_takes_the_place_of_a_folder_and_back(living: Living, shop: Path) -> None:
    save(shop / "docs/a.md", "1\n")
    save(shop / "docs/deep/b.md", "2\n")
    save(shop / "plan", "3\n")
    until(lambda: {"docs/a.md", "docs/deep/b.md", "plan"} <= living.files())
    living.rest()
    os.rename(shop / "docs", shop.parent.parent / "docs")
    save(shop / "docs", "a file\n")
    (shop / "plan").unlink()
    save(shop / "plan/first.md", "4\n")
    until(lambda: {"docs", "plan/first.md"} <= living.files(), what=living.problems)
    living.rest()
    assert not {"docs/a.md", "docs/deep/b.md", "plan"} & living.files()
    sound(shop)
    (shop / "docs").unlink()
    os.rename(shop.parent.parent / "docs", shop / "docs")
    until(lambda: {"docs/a.md", "docs/deep/b.md"} <= living.files(), what=living.problems)
    living.rest()
    sound(shop)


# -- rewriting by hand -------------------------------------------------------------------------------------------------


@pytest.fixture
def long(living: Living, shop: Path) -> list[str]:
    """The heads after each of four commits by hand."""
    heads = []
    for number in range(4):
        save(shop / f"memory/n{number}.yaml", f"{number}\n")
        git(shop, "add", "-A")
        git(shop, "commit", "-qm", f"number {number}")
        heads.append(git(shop, "rev-parse", "HEAD"))
        until(lambda: living.head() == heads[-1])
    living.rest()
    return heads


def rewritten(living: Living) -> Problem:
    return until(lambda: next((one for one in living.problems() if one.kind == "rewrite"), None), what=living.problems)


@pytest.mark.parametrize("take", ["main", "file"])
def test_reset_hard_keeps_what_it_left_out(living: Living, shop: Path, long: list[str], take: str) -> None:
    living.set("api", 1)
    git(shop, "reset", "-q", "--hard", long[1])
    told = rewritten(living)
    assert "number 2" in told.message
    assert "number 3" in told.message
    assert "number 1" not in told.message
    living.rest()
    assert living.memory() == {"n0": 0, "n1": 1, "other": 1, "policy": POLICY}
    for head in long:
        git(shop, "merge-base", "--is-ancestor", head, "main")
    assert any(one.kind == "merge" and "rewritten" in one.name for one in living.timeline())
    living.restart()
    assert rewritten(living).id == told.id
    living.resolve(told, take=take)
    until(lambda: not living.problems())
    living.rest()
    back = {"api": 1, "n2": 2, "n3": 3} if take == "main" else {}
    assert living.memory() == {"n0": 0, "n1": 1, "other": 1, "policy": POLICY, **back}
    sound(shop)
    living.restart()
    living.rest()
    assert living.problems() == ()
    sound(shop)


def test_amend_and_reorder_are_rewrites(living: Living, shop: Path, long: list[str]) -> None:
    save(shop / "memory/n3.yaml", "33\n")
    git(shop, "commit", "-qa", "--amend", "-m", "number three")
    told = rewritten(living)
    assert "number 3" in told.message
    assert living.memory()["n3"] == 33
    living.resolve(told, take="file")
    living.rest()
    assert living.problems() == ()
    swap = "import sys; f = sys.argv[1]; l = open(f).read().splitlines(); l[0], l[1] = l[1], l[0]; "
    swap += "open(f, 'w').write('\\n'.join(l) + '\\n')"
    before = git(shop, "rev-parse", "HEAD")
    # What the store made is a merge; the person's own line below it is put in another order.
    git(shop, "reset", "-q", "--hard", long[3])
    rewritten(living)
    living.rest()
    for one in living.problems():
        living.resolve(one, take="file")
    living.rest()
    head = git(shop, "rev-parse", "HEAD")
    for number in range(2):
        save(shop / f"memory/m{number}.yaml", "1\n")
        git(shop, "add", "-A")
        git(shop, "commit", "-qm", f"m {number}")
    until(lambda: "m1" in living.memory())
    living.rest()
    mine = git(shop, "rev-parse", "HEAD")
    git(shop, "rebase", "-qi", head, environ={"GIT_SEQUENCE_EDITOR": f'python3 -c "{swap}"'})
    assert git(shop, "log", "-2", "--format=%s") == "m 0\nm 1"
    told = rewritten(living)
    living.rest()
    assert living.memory()["m0"] == living.memory()["m1"] == 1
    for each in (mine, head, before, *long):
        git(shop, "merge-base", "--is-ancestor", each, "main")
    living.resolve(told, take="main")  # both say the same: nothing comes back, and it is settled
    until(lambda: not living.problems())
    living.rest()
    sound(shop)


def test_main_is_reset_to_another_history(living: Living, shop: Path, long: list[str]) -> None:
    git(shop, "checkout", "-q", "--orphan", "fresh")
    git(shop, "commit", "-qm", "all anew")
    made = git(shop, "rev-parse", "HEAD")
    git(shop, "branch", "-qf", "main", "fresh")
    git(shop, "checkout", "-q", "main")
    rewritten(living)
    living.rest()
    for head in (*long, made):
        git(shop, "merge-base", "--is-ancestor", head, "main")
    assert living.memory()["n3"] == 3
    sound(shop)


def test_a_deleted_branch_comes_back(living: Living, shop: Path, long: list[str]) -> None:
    git(shop, "checkout", "-q", "--detach")
    git(shop, "branch", "-qD", "main")
    until(lambda: git(shop, "rev-parse", "main", check=False).startswith("0\n"))
    assert git(shop, "rev-parse", "main") == long[3]
    assert living.memory()["n3"] == 3


@pytest.mark.parametrize("how", ["commit", "amend"])
def test_a_commit_that_takes_anothers_slug_does_not_get_it(
    living: Living, shop: Path, long: list[str], how: str
) -> None:
    text = (shop / "workspace.yaml").read_text().replace("slug: shop", "slug: taken")
    save(shop / "workspace.yaml", text)
    git(shop, "commit", "-qam", "mine", *(["--amend"] if how == "amend" else []))
    made = git(shop, "rev-parse", "HEAD")
    until(lambda: git(shop, "merge-base", "--is-ancestor", made, living.head(), check=False).startswith("0"))
    living.set("after", 1)
    assert living.memory()["after"] == 1
    assert set(living.slugs()) == {"shop", "taken"}
    living.rest()
    assert "slug: shop" in (shop / "workspace.yaml").read_text()
    sound(shop)
