"""The live folder, edited with an editor and with plain git: what a person saves or commits is in the store a moment
later, and what is a person's business stays one.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract.conftest import serving

from .living import SETTLE, Living, git, save, sound, until


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Living]:
    made = Living(tmp_path / "data").start()
    yield made
    made.stop()


@pytest.fixture
def shop(living: Living) -> Path:
    folder = living.make(policy={"days": 5, "who": "ada"}, other=1)
    git(folder, "config", "user.name", "Rosa Vidal")
    git(folder, "config", "user.email", "rosa@northgate.example")
    return folder


# -- editing -----------------------------------------------------------------------------------------------------------


def test_a_saved_edit_is_a_commit_of_the_person(living: Living, shop: Path) -> None:
    save(shop / "memory/policy.yaml", "# by hand\ndays: 7   # a week\nwho: 'ada'\n")
    until(lambda: living.memory()["policy"] == {"days": 7, "who": "ada"})
    newest = living.timeline()[0]
    assert (newest.kind, newest.door, newest.name) == ("edit", "disk", "edit memory/policy.yaml")
    assert (newest.actor.type, newest.actor.name) == ("person", "Rosa Vidal")
    assert newest.actor.id == "rosa@northgate.example"
    assert [(one.path, one.op, one.key) for one in newest.changes] == [("memory/policy.yaml", "changed", "policy")]
    living.publish()
    assert git(shop, "log", "-1", "--format=%an <%ae>|%cn|%s") == (
        "Rosa Vidal <rosa@northgate.example>|gitstore|edit memory/policy.yaml"
    )
    assert (shop / "memory/policy.yaml").read_text() == "# by hand\ndays: 7   # a week\nwho: 'ada'\n"
    sound(shop)


def test_new_renamed_and_deleted_files_are_commits(living: Living, shop: Path) -> None:
    save(shop / "files/plans/q3.md", "# the zebra plan\n")
    save(shop / "memory/owner.yaml", "rosa\n")
    until(lambda: "owner" in living.memory())
    assert "files/plans/q3.md" in living.files()
    assert living.workspace().visible.context.files["plans-q3-md"].file_name == "q3.md"
    os.rename(shop / "memory/owner.yaml", shop / "memory/lead.yaml")
    until(lambda: living.memory().get("lead") == "rosa")
    assert "owner" not in living.memory()  # one commit: nobody sees both or neither
    assert len(living.timeline()[0].changes) in (1, 2)
    os.unlink(shop / "memory/lead.yaml")
    until(lambda: "lead" not in living.memory())
    assert living.timeline()[0].name == "delete memory/lead.yaml"
    living.rest()
    sound(shop)


def test_a_renamed_folder_takes_its_files_with_it(living: Living, shop: Path) -> None:
    for number in range(5):
        save(shop / f"files/docs/deep/{number}.md", f"{number}\n")
    until(lambda: "files/docs/deep/4.md" in living.files())
    os.rename(shop / "files/docs", shop / "files/papers")
    until(lambda: "files/papers/deep/4.md" in living.files())
    assert not any(path.startswith("files/docs") for path in living.files())
    save(shop / "files/papers/deep/0.md", "new\n")  # it is watched where it is now
    until(lambda: living.main("files/papers/deep/0.md") == b"new\n")
    os.rename(shop / "files/papers", shop.parent.parent / "papers")
    until(lambda: not any(path.startswith("files/papers") for path in living.files()))
    living.rest()
    sound(shop)


def test_what_was_edited_while_nobody_looked_is_taken_in(living: Living, shop: Path) -> None:
    def away() -> None:
        save(shop / "memory/policy.yaml", "days: 9\n")
        (shop / "memory/other.yaml").unlink()
        save(shop / "memory/new.yaml", "1\n")

    living.restart(away)
    until(lambda: living.memory() == {"new": 1, "policy": {"days": 9}})


def test_the_identity_of_the_user_stands_in_for_that_of_the_repository(
    living: Living, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pwd

    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[user]\n\tname = Tom Reuter\n\temail = tom@northgate.example\n")
    entry = pwd.struct_passwd(("tom", "x", 4711, 4711, "Tom,,,", str(home), "/bin/sh"))
    real = pwd.getpwuid
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: entry if uid == 4711 else real(uid))
    git(shop, "config", "--unset", "user.name")
    save(shop / "memory/mine.yaml", "1\n")
    os.chown(shop / "memory/mine.yaml", 4711, -1)
    until(lambda: "mine" in living.memory())
    actor = living.timeline()[0].actor
    assert (actor.name, actor.id) == ("Tom Reuter", "rosa@northgate.example")  # each from the nearest that says it


# -- how editors save --------------------------------------------------------------------------------------------------


def quiet(living: Living, marker: Path) -> None:
    """Waits until an edit made after everything else is in."""
    save(marker, "1\n")
    until(lambda: "marker" in living.memory())


def test_what_editors_leave_behind_is_never_committed(living: Living, shop: Path) -> None:
    names = [".policy.yaml.swp", ".policy.yaml.swo", "policy.yaml~", "#policy.yaml#", ".#policy.yaml", "4913"]
    names += ["policy.yaml.tmp", "policy.yaml.bak", ".goutputstream-AB12CD", "policy.yaml___jb_tmp___", ".DS_Store"]
    names += ["~$plan.docx", ".~lock.plan.odt#", "Thumbs.db", "plan.md.crdownload", ".nfs00000000012345", "._plan.md"]
    before = living.files()
    for name in names:
        (shop / "files").mkdir(exist_ok=True)
        (shop / "files" / name).write_text("x")
        (shop / "memory" / name).write_text("x: 1\n")
    quiet(living, shop / "memory/marker.yaml")
    assert living.files() - before == {"memory/marker.yaml"}
    assert living.problems() == ()


def test_ignored_files_are_not_committed_and_tracked_ones_are(living: Living, shop: Path) -> None:
    save(shop / ".gitignore", "*.log\n/build/\n!keep.log\nfiles/**/cache\n\\#odd\n")
    save(shop / "files/.gitignore", "*.raw\n!ok.raw\n")
    with (shop / ".git/info/exclude").open("a") as file:
        file.write("private/\n")
    ignored = ("a.log", "files/deep/b.log", "build/x", "private/y", "files/d/cache/z", "#odd", "files/p.raw")
    for path in ignored:
        save(shop / path, "x\n")
    kept = ("keep.log", "files/ok.raw", "files/build/x", "p.raw")
    for path in kept:
        save(shop / path, "x\n")
    quiet(living, shop / "memory/marker.yaml")
    here = living.files()
    assert set(kept) <= here
    assert not set(ignored) & here
    living.rest()
    assert git(shop, "status", "--porcelain") == ""  # git sees it the same way
    save(shop / ".gitignore", "*.log\nmemory/\n")
    save(shop / "memory/policy.yaml", "days: 1\n")  # tracked: it goes on being edited
    until(lambda: living.memory()["policy"] == {"days": 1})


def vim(place: Path, text: str) -> None:
    """backupcopy=no: a probe, a swap file, the old file as backup, a new file, the backup away."""
    swap = place.with_name(f".{place.name}.swp")
    swap.write_bytes(b"b0VIM 9.0")
    probe = place.with_name("4913")
    probe.write_bytes(b"")
    probe.unlink()
    os.rename(place, f"{place}~")
    with place.open("w") as file:
        file.write(text[: len(text) // 2])
        file.flush()
        time.sleep(0.02)
        file.write(text[len(text) // 2 :])
        os.fsync(file.fileno())
    os.unlink(f"{place}~")
    swap.unlink()


def vscode(place: Path, text: str) -> None:
    """Truncated, then written in place."""
    with place.open("r+b") as file:
        file.truncate(0)
        time.sleep(0.02)
        file.write(text.encode())


def sed(place: Path, text: str) -> None:
    """A new file in the folder, renamed over the old one."""
    beside = place.with_name("sedA1b2C3")
    beside.write_text(text)
    os.rename(beside, place)


@pytest.mark.parametrize("how", [vim, vscode, sed])
def test_every_way_of_saving_is_one_edit(living: Living, shop: Path, how: object) -> None:
    assert callable(how)
    before = len(living.timeline())
    for number in range(3):
        how(shop / "memory/policy.yaml", f"# {number}\ndays: {number}\nwho: ada\n")
        until(lambda: living.memory().get("policy", {}).get("days") == number)  # noqa: B023
    living.rest()
    told = living.timeline()[: len(living.timeline()) - before]
    assert [entry.name for entry in told] == ["edit memory/policy.yaml"] * 3
    assert living.problems() == ()
    sound(shop)


def test_sed_itself(living: Living, shop: Path) -> None:
    subprocess.run(["sed", "-i", "s/ada/tom/", "memory/policy.yaml"], cwd=shop, check=True)
    until(lambda: living.memory()["policy"]["who"] == "tom")
    assert len(living.files()) == len(set(git(shop, "ls-files").splitlines()))


def test_a_file_that_is_being_written_is_left_to_settle(living: Living, shop: Path) -> None:
    """Somebody writes for ten settle times and more; half of a file is never a commit, and never a problem."""
    before = living.head()
    end = time.monotonic() + 15 * SETTLE
    lines = 0
    with (shop / "memory/long.yaml").open("w") as file:
        while time.monotonic() < end:
            file.write(f"line{lines}: [1,\n  2]\n")
            file.flush()
            lines += 1
            time.sleep(SETTLE / 8)
            assert living.head() == before
            assert living.problems() == ()
    until(lambda: len(living.memory().get("long", {})) == lines)
    assert living.timeline()[0].name == "add memory/long.yaml"


def test_a_file_that_is_missing_for_a_moment_is_not_a_deletion(tmp_path: Path) -> None:
    """A round looks whenever it wants, also in the middle of a save as vim does it."""
    living = Living(tmp_path / "data", sweep=0.02, settle=0.3).start()
    try:
        shop = living.make()
        before = len(living.timeline())
        place = shop / "memory/policy.yaml"
        for number in range(3):
            text = place.read_text()
            os.rename(place, f"{place}~")
            rounds = living.live.settling.rounds
            until(lambda: living.live.settling.rounds > rounds + 2)  # noqa: B023
            place.write_text(text + f"n{number}: 1\n")
            os.unlink(f"{place}~")
            until(lambda: f"n{number}" in living.memory().get("policy", {}))  # noqa: B023
        assert [one.name for one in living.timeline()[:-before]] == ["edit memory/policy.yaml"] * 3
        place.unlink()
        until(lambda: "policy" not in living.memory())
    finally:
        living.stop()


def test_a_time_stamp_from_the_future_lets_nobody_look_early(living: Living, shop: Path) -> None:
    place = shop / "memory/slow.yaml"
    end = time.monotonic() + 6 * SETTLE
    future = time.time() + 3600
    while time.monotonic() < end:
        with place.open("a") as file:
            file.write("a: [1\n" if place.stat().st_size == 0 else "")
        os.utime(place, (future, future))
        living.live.settling.lost()  # a round looks now
        time.sleep(SETTLE / 5)
        assert living.codes() == {}
    save(place, "1\n")
    until(lambda: living.memory().get("slow") == 1)


def test_edits_are_taken_in_while_the_api_writes_all_the_time(living: Living, shop: Path) -> None:
    """What this store writes into the folder itself does not count as a person being at work there."""
    busy = time.monotonic() + 40 * SETTLE
    waits = []
    for number in range(3):
        save(shop / "memory/policy.yaml", f"days: {number}\n")
        began, count = time.monotonic(), 0
        while living.memory()["policy"] != {"days": number}:
            assert time.monotonic() < busy
            count += 1
            living.set(f"k{count % 5}", time.monotonic())
        waits.append(time.monotonic() - began)
    assert min(waits) < 5 * SETTLE, waits  # ten settle times is what one waited before


# -- manual mode -------------------------------------------------------------------------------------------------------


def test_in_manual_mode_edits_wait_for_a_word(tmp_path: Path) -> None:
    with serving(tmp_path / "data", checkout_mode="manual", checkout_settle=SETTLE) as server, server.client() as admin:
        made = admin.post("/workspaces", {"name": "Shop", "slug": "shop", "memory": {"policy": 1}}).data
        at, folder = f"/workspaces/{made['id']}", server.folder("shop")
        until(lambda: (folder / "memory/policy.yaml").exists() and (folder / ".git/index").exists())
        assert admin.get(f"{at}/checkout").data == {"mode": "manual", "branch": "main", "busy": None, "pending": []}
        save(folder / "memory/policy.yaml", "2\n")
        save(folder / "memory/new.yaml", "3\n")
        save(folder / "memory/bad.yaml", "a: [\n")
        save(folder / "memory/staged.yaml", "4\n")
        git(folder, "add", "memory/staged.yaml")
        until(lambda: len(admin.get(f"{at}/checkout").data["pending"]) == 4)
        time.sleep(3 * SETTLE)
        assert admin.get(f"{at}").data["memory"] == {"policy": 1}
        pending = admin.get(f"{at}/checkout").data["pending"]
        assert [(one["path"], one["op"]) for one in pending] == [
            ("memory/bad.yaml", "added"), ("memory/new.yaml", "added"),
            ("memory/policy.yaml", "changed"), ("memory/staged.yaml", "added"),
        ]  # fmt: skip
        assert admin.post(f"{at}/checkout/commit", {"message": 5}).status == 422
        done = admin.post(f"{at}/checkout/commit", {"message": "The new policy"}).data
        assert done["commit"] == admin.get(at).data["head"]
        assert [one["path"] for one in done["problems"]] == ["memory/bad.yaml"]
        assert admin.get(at).data["memory"] == {"new": 3, "policy": 2, "staged": 4}
        assert admin.get(f"{at}/timeline").data[0]["name"] == "The new policy"
        assert [one["path"] for one in admin.get(f"{at}/checkout").data["pending"]] == ["memory/bad.yaml"]
        (folder / "memory/new.yaml").unlink()
        until(lambda: {"path": "memory/new.yaml", "op": "deleted"}.items()
              <= admin.get(f"{at}/checkout").data["pending"][-1].items())  # fmt: skip
        assert admin.post(f"{at}/checkout/commit").data["commit"] is not None
        again = admin.post(f"{at}/checkout/commit").data
        assert (again["commit"], again["paths"]) == (None, [])
        git(folder, "checkout", "-qb", "side")
        assert admin.get(f"{at}/checkout").data["busy"] == "other_branch"
        assert admin.post(f"{at}/checkout/commit").code == (409, "CONFLICT")


def test_the_settings_of_a_workspace_choose_its_mode(living: Living, shop: Path) -> None:
    save(shop / "settings.yaml", "checkout: {mode: manual}\n")
    until(lambda: living.live.checkouts.mode(living.workspace()) == "manual")
    save(shop / "memory/policy.yaml", "1\n")
    until(lambda: [one.path for one in living.live.checkouts.state(living.workspace()).pending])
    living.set("k", 1)
    assert living.memory()["policy"] == {"days": 5, "who": "ada"}
    assert (shop / "memory/policy.yaml").read_text() == "1\n"


# -- plain git ---------------------------------------------------------------------------------------------------------


def test_what_is_staged_is_left_to_the_person(living: Living, shop: Path) -> None:
    save(shop / "memory/policy.yaml", "days: 8\n")
    save(shop / "memory/new.yaml", "1\n")
    git(shop, "rm", "-q", "memory/other.yaml")
    git(shop, "add", "-A")
    quiet(living, shop / "memory/marker.yaml")
    living.set("more", 1)
    assert living.memory()["policy"] == {"days": 5, "who": "ada"}
    assert "new" not in living.memory()
    assert "other" in living.memory()
    git(shop, "commit", "-qm", "my own words")
    until(lambda: living.memory() == {"marker": 1, "more": 1, "new": 1, "policy": {"days": 8}})
    entry = next(one for one in living.timeline() if one.name == "my own words")
    assert (entry.door, entry.actor.name, len(entry.changes)) == ("disk", "Rosa", 3)
    sound(shop)


def test_a_commit_by_hand_is_taken_as_it_is(living: Living, shop: Path) -> None:
    save(shop / "memory/policy.yaml", "days: 8\n")
    git(shop, "commit", "-qam", "by hand")
    made = git(shop, "rev-parse", "HEAD")
    until(lambda: living.head() == made)
    assert living.memory()["policy"] == {"days": 8}
    assert living.timeline()[0].id == made


def test_stash_and_pop(living: Living, shop: Path) -> None:
    with living.workspace().publishing:  # nobody looks before it is stashed
        save(shop / "memory/policy.yaml", "days: 8\n")
        git(shop, "stash", "-q")
    living.set("meanwhile", 1)
    living.rest()
    assert living.memory()["policy"] == {"days": 5, "who": "ada"}
    git(shop, "stash", "pop", "-q")
    until(lambda: living.memory()["policy"] == {"days": 8})
    assert living.memory()["meanwhile"] == 1
    living.rest()
    sound(shop)


def test_another_branch_is_left_alone_and_main_goes_on(living: Living, shop: Path) -> None:
    git(shop, "checkout", "-qb", "draft")
    save(shop / "memory/policy.yaml", "days: 30\n")
    save(shop / "memory/idea.yaml", "1\n")
    for number in range(5):
        living.set("count", number)
    state = living.live.checkouts.state(living.workspace())
    assert (state.branch, state.busy, state.pending) == ("draft", "other_branch", ())
    assert living.memory() == {"count": 4, "other": 1, "policy": {"days": 5, "who": "ada"}}
    assert not (shop / "memory/count.yaml").exists()
    assert (shop / "memory/policy.yaml").read_text() == "days: 30\n"
    git(shop, "add", "-A")
    git(shop, "commit", "-qm", "an idea")
    assert git(shop, "show", "main:memory/count.yaml").endswith("4")
    git(shop, "checkout", "-q", "main")
    until(lambda: living.live.checkouts.state(living.workspace()).busy is None)
    assert (shop / "memory/count.yaml").read_text().endswith("4\n")
    assert living.memory()["policy"] == {"days": 5, "who": "ada"}
    save(shop / "memory/other.yaml", "2\n")
    until(lambda: living.memory()["other"] == 2)
    living.rest()
    git(shop, "merge", "-q", "--no-edit", "draft")
    until(lambda: living.memory() == {"count": 4, "idea": 1, "other": 2, "policy": {"days": 30}})
    living.rest()
    sound(shop)


def conflicting(living: Living, shop: Path) -> None:
    """`draft` and `main` differ in one line; `main` is checked out and shown."""
    git(shop, "checkout", "-qb", "draft")
    save(shop / "memory/policy.yaml", "days: 30\nwho: ada\n")
    git(shop, "commit", "-qam", "thirty")
    git(shop, "checkout", "-q", "main")
    with living.workspace().publishing:  # nobody looks before it is committed
        save(shop / "memory/policy.yaml", "days: 7\nwho: ada\n")
        git(shop, "commit", "-qam", "seven")
    until(lambda: living.memory()["policy"]["days"] == 7)
    living.rest()


def test_a_merge_with_conflicts_is_left_alone_and_then_taken_in(living: Living, shop: Path) -> None:
    conflicting(living, shop)
    assert git(shop, "merge", "draft", check=False).startswith("1\n")
    before = (shop / "memory/policy.yaml").read_bytes()
    assert b"<<<<<<<" in before
    for number in range(4):
        living.set("count", number)
        living.set("policy", {"days": 7, "who": f"api {number}"})
    assert living.live.checkouts.state(living.workspace()).busy == "merge"
    assert living.memory()["count"] == 3
    assert living.problems() == ()
    assert (shop / "memory/policy.yaml").read_bytes() == before
    assert not (shop / "memory/count.yaml").exists()
    save(shop / "memory/policy.yaml", "days: 14\nwho: ada\n")
    git(shop, "add", "-A")
    git(shop, "commit", "-qm", "fourteen")
    until(lambda: living.memory()["policy"] == {"days": 14, "who": "api 3"})
    living.rest()
    assert (shop / "memory/count.yaml").read_text().endswith("3\n")
    assert living.problems() == ()
    assert git(shop, "rev-list", "--count", "draft..main") != "0"
    assert git(shop, "rev-list", "--count", "main..draft") == "0"
    sound(shop)


def test_a_merge_that_is_given_up_leaves_nothing(living: Living, shop: Path) -> None:
    conflicting(living, shop)
    git(shop, "merge", "draft", check=False)
    living.set("count", 1)
    git(shop, "merge", "--abort")
    until(lambda: (shop / "memory/count.yaml").exists())
    living.rest()
    assert living.memory() == {"count": 1, "other": 1, "policy": {"days": 7, "who": "ada"}}
    sound(shop)


def test_a_rebase_with_conflicts_is_left_alone_and_then_taken_in(living: Living, shop: Path) -> None:
    conflicting(living, shop)
    old = git(shop, "rev-parse", "main")
    assert git(shop, "rebase", "draft", check=False).startswith("1\n")
    assert living.live.checkouts.state(living.workspace()).busy == "rebase"
    for number in range(4):
        living.set("count", number)
    assert living.memory()["policy"]["days"] == 7
    save(shop / "memory/policy.yaml", "days: 14\nwho: ada\n")
    git(shop, "add", "-A")
    git(shop, "rebase", "--continue")
    assert git(shop, "symbolic-ref", "HEAD") == "refs/heads/main"
    until(lambda: living.memory().get("policy") == {"days": 14, "who": "ada"})
    living.rest()
    assert living.memory()["count"] == 3
    assert [one.kind for one in living.problems()] == ["rewrite"]
    for commit in (old, git(shop, "rev-parse", "draft")):
        git(shop, "merge-base", "--is-ancestor", commit, "main")
    sound(shop)


def test_a_rebase_that_is_given_up_leaves_nothing(living: Living, shop: Path) -> None:
    conflicting(living, shop)
    git(shop, "rebase", "draft", check=False)
    living.set("count", 1)
    git(shop, "rebase", "--abort")
    until(lambda: (shop / "memory/count.yaml").exists())
    living.rest()
    assert living.memory() == {"count": 1, "other": 1, "policy": {"days": 7, "who": "ada"}}
    assert living.problems() == ()
    sound(shop)


def test_a_branch_is_rebased_on_main_while_the_api_writes(living: Living, shop: Path) -> None:
    conflicting(living, shop)
    git(shop, "checkout", "-q", "draft")
    git(shop, "rebase", "main", check=False)
    living.set("count", 1)
    save(shop / "memory/policy.yaml", "days: 14\nwho: ada\n")
    git(shop, "add", "-A")
    git(shop, "rebase", "--continue")
    git(shop, "checkout", "-q", "main")
    until(lambda: living.live.checkouts.state(living.workspace()).busy is None)
    living.rest()
    git(shop, "merge", "--no-edit", "draft")
    until(lambda: living.memory() == {"count": 1, "other": 1, "policy": {"days": 14, "who": "ada"}})
    assert living.problems() == ()


def test_cherry_pick_and_revert_with_conflicts(living: Living, shop: Path) -> None:
    conflicting(living, shop)
    git(shop, "cherry-pick", "draft", check=False)
    assert living.live.checkouts.state(living.workspace()).busy == "merge"
    living.set("count", 1)
    save(shop / "memory/policy.yaml", "days: 15\nwho: ada\n")
    git(shop, "add", "-A")
    git(shop, "cherry-pick", "--continue")
    until(lambda: living.memory()["policy"]["days"] == 15)
    assert living.memory()["count"] == 1
    living.rest()
    sound(shop)


def test_a_stale_index_undoes_nothing(living: Living, shop: Path, tmp_path: Path) -> None:
    """A commit from an index that was read before the API wrote says what was there before."""
    stale = tmp_path / "index"
    stale.write_bytes((shop / ".git/index").read_bytes())
    living.set("policy", {"days": 99, "who": "api"})
    living.set("fresh", 1)
    living.delete("other")
    environ = {"GIT_INDEX_FILE": str(stale)}
    save(shop / "memory/mine.yaml", "1\n")
    git(shop, "add", "memory/mine.yaml", environ=environ)
    git(shop, "commit", "-qm", "from a stale index", environ=environ)
    git(shop, "reset", "-q", "--mixed", "HEAD")
    until(lambda: "mine" in living.memory())
    living.rest()
    assert living.memory() == {"fresh": 1, "mine": 1, "policy": {"days": 99, "who": "api"}}
    assert "from a stale index" in {one.name for one in living.timeline()}
    sound(shop)


def test_a_thousand_files_are_checked_out(living: Living, shop: Path) -> None:
    git(shop, "checkout", "-qb", "many")
    for number in range(1000):
        place = shop / f"files/{number % 10}/{number}.txt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{number}\n")
    git(shop, "add", "-A")
    git(shop, "commit", "-qm", "a thousand files")
    made = git(shop, "rev-parse", "HEAD")
    git(shop, "checkout", "-q", "main")
    git(shop, "checkout", "-q", "many", "--", "files")
    git(shop, "reset", "-q")  # nothing is staged: they are new files
    until(lambda: len(living.files()) >= 1000, 60)
    living.rest()
    assert len(living.workspace().visible.context.files) == 1000
    git(shop, "merge", "-q", "--no-edit", "-s", "ours", "many")
    until(lambda: git(shop, "merge-base", "--is-ancestor", made, "main", check=False).startswith("0"))
    living.rest()
    sound(shop)
