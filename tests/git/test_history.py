"""What is told of the past, of histories that the real git made: renames, merges, patches, blame."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from contract.client import Client
from contract.conftest import Place

from git.conftest import Clone, git

Make = Callable[..., Clone]


def history(admin: Client, place: Place, path: str, **query: Any) -> list[tuple[str, str, str, str | None]]:
    more = "".join(f"&{name}={value}" for name, value in query.items())
    rows = admin.get(f"{place.at}/history?path={quote(path, safe='')}&per_page=100{more}").data
    return [(row["commit"], row["op"], row["path"], row.get("old_path")) for row in rows]


def test_a_renamed_key_keeps_its_story(place: Place, admin: Client, clone: Make) -> None:
    first = admin.patch(f"{place.at}/memory", {"key": "policy", "value": {"days": 5}}).data["head"]
    second = admin.patch(
        f"{place.at}/memory", {"key": "policy", "value": {"days": 7}}, headers={"X-Workflow-Id": "run-7"}
    ).data["head"]
    copy = clone()
    copy.git("mv", "memory/policy.yaml", "memory/release%2Fpolicy.yaml")
    moved = copy.commit()
    assert copy.push().code == 0
    third = admin.patch(f"{place.at}/memory", {"key": "release/policy", "value": {"days": 7, "who": "ada"}}).data[
        "head"
    ]
    again = admin.patch(f"{place.at}/memory", {"key": "policy", "value": "another"}).data["head"]
    rows = admin.get(f"{place.at}/memory/release%2Fpolicy/history").data
    assert [(row["commit"], row["op"], row["key"], row["path"]) for row in rows] == [
        (third, "changed", "release/policy", "memory/release%2Fpolicy.yaml"),
        (moved, "renamed", "release/policy", "memory/release%2Fpolicy.yaml"),
        (second, "changed", "policy", "memory/policy.yaml"),
        (first, "added", "policy", "memory/policy.yaml"),
    ]
    assert [row["value"] for row in rows] == [{"days": 7, "who": "ada"}, {"days": 7}, {"days": 7}, {"days": 5}]
    assert rows[1]["old_path"] == "memory/policy.yaml"
    assert (rows[2]["workflow_id"], rows[1]["door"], rows[0]["actor"]["type"]) == ("run-7", "git", "admin")
    assert [(row["commit"], row["op"]) for row in admin.get(f"{place.at}/memory/policy/history").data] == [
        (again, "added"), (moved, "deleted"), (second, "changed"), (first, "added"),
    ]  # fmt: skip
    blame = admin.get(f"{place.at}/memory/release%2Fpolicy/blame").data
    assert [(row["pointer"], row["value"], row["commit"]) for row in blame] == [
        ("/days", 7, second),
        ("/who", "ada", third),
    ]
    assert admin.get(f"{place.at}/memory/policy/blame?at={second}").data[0]["commit"] == second
    entry = admin.get(f"{place.at}/timeline/{moved[:9]}").data
    assert [(one["op"], one["path"], one["old_path"], one["key"]) for one in entry["changes"]] == [
        ("renamed", "memory/release%2Fpolicy.yaml", "memory/policy.yaml", "release/policy")
    ]
    assert [(one["op"], one["old_path"], one["hunks"]) for one in entry["diff"]] == [
        ("renamed", "memory/policy.yaml", [])
    ]
    for asked in ("path=memory/policy.yaml", "path=memory/release%252Fpolicy.yaml", "key=policy", "key=release/policy"):
        assert moved in [one["id"] for one in admin.get(f"{place.at}/timeline?{asked}").data], asked


def test_the_history_of_a_path_is_that_of_git_followed(place: Place, admin: Client, clone: Make) -> None:
    copy = clone()
    copy.commit("files/guide.md", "one\ntwo\n")
    copy.commit("files/guide.md", "one\n2\n")
    copy.git("mv", "files/guide.md", "files/manual.md")
    copy.commit()
    copy.git("mv", "files/manual.md", "docs-manual.md")
    copy.commit("other.txt", "x")
    copy.commit("docs-manual.md", "one\n2\nthree\n")
    assert copy.push().code == 0
    out = copy.git(
        "log", "--follow", "-M100%", "--first-parent", "--name-status", "--format=:%H", "--", "docs-manual.md"
    )
    wanted = [block.split() for block in out.split(":")[1:]]
    found = history(admin, place, "docs-manual.md")
    letters = {"changed": "M", "renamed": "R100", "added": "A"}
    assert [
        [commit, letters[op], *([old_path] if old_path else []), path] for commit, op, path, old_path in found
    ] == wanted
    sizes = [row["size"] for row in admin.get(f"{place.at}/history?path=docs-manual.md").data]
    assert sizes == [12, 6, 6, 6, 8]
    first = admin.get(f"{place.at}/history?path=docs-manual.md&per_page=2")
    rest = admin.get(f"{place.at}/history?path=docs-manual.md&per_page=3&cursor={first.meta['next_cursor']}")
    assert [row["commit"] for row in first.data + rest.data] == [one[0] for one in wanted]
    assert (first.meta["total"], rest.meta["next_cursor"]) == (5, None)
    assert admin.get(f"{place.at}/history?path=docs-manual.md&per_page=2&page=3").data[0]["commit"] == wanted[-1][0]
    blame = admin.get(f"{place.at}/blame?path=docs-manual.md").data
    assert blame["type"] == "text"
    told = git(copy.folder, "blame", "-l", "-s", "-f", "docs-manual.md").splitlines()
    assert [(row["commit"], row["line"], row["text"]) for row in blame["rows"]] == [
        (line.lstrip("^").split()[0], number, line.split(") ", 1)[1]) for number, line in enumerate(told, 1)
    ]


def test_a_merge_is_a_commit_of_the_line_and_what_it_brought_can_be_looked_at(
    place: Place, admin: Client, clone: Make
) -> None:
    copy = clone()
    base = copy.commit("memory/plan.yaml", "a: 1\nb: 1\nc: 1\n")
    copy.git("switch", "-qc", "side")
    side = copy.commit("memory/plan.yaml", "a: 2\nb: 1\nc: 1\n")
    copy.git("switch", "-q", "main")
    line = copy.commit("memory/plan.yaml", "a: 1\nb: 1\nc: 3\n")
    copy.git("merge", "-q", "--no-ff", "-m", "joined", "side")
    assert copy.push().code == 0
    assert [one[:2] for one in history(admin, place, "memory/plan.yaml")] == [
        (copy.head, "changed"), (line, "changed"), (base, "added"),
    ]  # fmt: skip
    blame = admin.get(f"{place.at}/memory/plan/blame").data
    assert [(row["pointer"], row["commit"]) for row in blame] == [("/a", copy.head), ("/b", base), ("/c", line)]
    entry = admin.get(f"{place.at}/timeline/{side}").data
    assert (entry["id"], entry["parents"]) == (side, [base])
    assert [one["values"] for one in entry["diff"]] == [[{"op": "changed", "pointer": "/a", "old": 1, "new": 2}]]
    merged = admin.get(f"{place.at}/timeline/{copy.head}").data
    assert merged["parents"] == [line, side]
    assert [one["values"][0]["pointer"] for one in merged["diff"]] == ["/a"]
    aside = admin.get(f"{place.at}/blame?path=memory/plan.yaml&at={side}").data["rows"]
    assert [(row["pointer"], row["commit"]) for row in aside] == [("/a", side), ("/b", base), ("/c", base)]


def test_git_applies_the_patch_of_two_moments(place: Place, admin: Client, clone: Make) -> None:
    copy = clone()
    before = copy.commit("notes/naïve plan.md", "one\ntwo")
    copy.write("memory/a.yaml", "a: 1\n")
    copy.write("logo.bin", bytes(range(256)) * 9)
    copy.git("mv", "notes/naïve plan.md", "notes/plan.md")
    copy.commit("more.txt", "x\n" * 30)
    after = copy.commit("more.txt", "x\n" * 14 + "y\n" + "x\n" * 15)
    assert copy.push().code == 0
    answer = admin.get(f"{place.at}/diff?from={before}", headers={"Accept": "text/x-diff"})
    assert answer.headers["Content-Type"] == "text/x-diff; charset=utf-8"
    copy.git("checkout", "-q", before)
    git(copy.folder, "apply", "--index", "-", data=answer.body)
    assert copy.git("write-tree") == copy.git("rev-parse", f"{after}^{{tree}}")
    back = admin.get(f"{place.at}/diff?from={after}&to={before}&path=more.txt", headers={"Accept": "text/x-diff"})
    git(copy.folder, "apply", "--index", "-", data=back.body)
    assert not (copy.folder / "more.txt").exists()
    found = admin.get(f"{place.at}/diff?from={before}&to={after[:8]}").data
    assert [(one["op"], one["path"], one["type"]) for one in found["files"]] == [
        ("added", "logo.bin", "binary"),
        ("added", "memory/a.yaml", "values"),
        ("added", "more.txt", "text"),
        ("renamed", "notes/plan.md", "text"),
    ]
    assert (found["from"]["main"], found["to"]["main"], found["branch"]) == (before, after, "main")
    assert found["files"][0]["new"]["size"] == 2304
    assert re.fullmatch("sha256:[0-9a-f]{64}", found["files"][0]["new"]["digest"])


def test_names_that_are_no_utf8_are_told_all_the_same(place: Place, admin: Client) -> None:
    place.published()
    (place.folder / "seen.txt").write_text("x")
    bad = place.folder / "caf\udce9.txt"
    bad.write_text("y")
    git(place.folder, "add", "-A", "--force")
    git(place.folder, "commit", "-qm", "by hand")
    commit = git(place.folder, "rev-parse", "HEAD")

    def arrived() -> bool:
        return bool(admin.get(f"{place.at}/timeline?q=by hand".replace(" ", "%20")).data)

    until = time.monotonic() + 20
    while not arrived():
        assert time.monotonic() < until
        time.sleep(0.05)
    entry = admin.get(f"{place.at}/timeline/{commit}").data
    assert {one["path"] for one in entry["diff"]} == {"seen.txt", "caf\ufffd.txt"}
    assert {one["path"] for one in entry["changes"]} == {"seen.txt", "caf\ufffd.txt"}
