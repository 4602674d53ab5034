"""Pages of moments that are hard to reach: far back in a long story, and commits that a merge brought in."""

from __future__ import annotations

import re

from web import story
from web.conftest import Site, poll


def _ways(text: str) -> dict[str, str]:
    """Where the buttons through time lead to."""
    return dict(re.findall(r'rel="(prev|next)" class="button quiet" href="([^"]+)"', text))


def test_a_document_far_back_in_a_long_story_has_its_number_and_its_neighbours(site: Site) -> None:
    slug = site.workspace(a=0)
    for value in range(1, 203):
        site.api("PATCH", f"/workspaces/{slug}/memory", {"key": "a", "value": value})
    told = [
        one["commit"]
        for page in (1, 2, 3)
        for one in site.api("GET", f"/workspaces/{slug}/memory/a/history?per_page=100&page={page}")
    ]
    assert len(told) == 203
    visitor = site.visitor("agent")
    for at in (0, 1, 199, 200, 202):
        page = visitor.get(f"/ui/w/{slug}/memory/a?at={told[at]}")
        assert f"version {203 - at} of 203" in page.text, at
        ways = _ways(page.text)
        assert ways.get("prev", "").endswith(f"?at={told[at + 1]}" if at < 202 else ""), at
        assert ways.get("next", "").endswith(f"?at={told[at - 1]}" if at > 1 else ""), at
        assert ("next" in ways) == (at > 0), at
        assert re.search(rf'aria-current="true">\s*<div><a href="[^"]+at={told[at]}"', page.text), at


def test_a_commit_that_a_merge_brought_in_has_its_page(site: Site) -> None:
    slug = site.workspace(a=1)
    folder = site.data / "workspaces" / slug
    poll((folder / "memory/a.yaml").exists)
    story.git(folder, "checkout", "-qb", "side")
    (folder / "notes.txt").write_text("one\ntwo\n")
    story.git(folder, "add", "-A")
    story.git(folder, "commit", "-qm", "On the side")
    story.git(folder, "checkout", "-q", "main")
    story.git(folder, "merge", "-q", "--no-ff", "-m", "Brought in", "side")
    rows = poll(lambda: [
        one for one in site.api("GET", f"/workspaces/{slug}/timeline") if one["name"] == "Brought in"
    ])  # fmt: skip
    merge = site.api("GET", f"/workspaces/{slug}/timeline/{rows[0]['id']}")
    side = merge["parents"][1]
    visitor = site.visitor("admin")
    assert f"/ui/w/{slug}/changes/{side}" in visitor.get(f"/ui/w/{slug}/changes/{merge['id']}").text
    page = visitor.get(f"/ui/w/{slug}/changes/{side}")
    assert page.status == 200
    assert "On the side" in page.text
    assert "notes.txt" in page.text
    assert "Revert" not in page.text  # it is undone by the commit that merged it
    assert site.visitor("agent").get(f"/ui/w/{slug}/changes/{'f' * 40}").status == 404
