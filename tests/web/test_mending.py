"""Changing things from the pages: undoing, restoring, settling a conflict, snapshots, keys; each looked at before."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Page, expect

from web.conftest import Opens, Site, poll


def _agent_wrote(site: Site, slug: str, value: Any, **behalf: str) -> None:
    site.api("PATCH", f"/workspaces/{slug}/memory", {"key": "policy", "value": value}, scope="agent", **behalf)


def _policy(site: Site, slug: str) -> Any:
    return site.api("GET", f"/workspaces/{slug}/memory")["policy"]


def test_everything_one_workflow_wrote_is_undone_after_a_look(site: Site, page: Page) -> None:
    slug = site.workspace(policy={"limit": 2, "owner": "ops"})
    _agent_wrote(site, slug, {"limit": 5, "owner": "ops"}, X_Workflow_Id="wf-7")
    _agent_wrote(site, slug, {"limit": 9, "owner": "ops"}, X_Workflow_Id="wf-7")
    _agent_wrote(site, slug, {"limit": 9, "owner": "ops", "later": True})
    page.goto(f"/ui/w/{slug}/timeline")
    page.locator(".entry", has_text="wf-7").get_by_role("link", name="wf-7").first.click()
    page.get_by_role("link", name="Undo all of this …").click()
    expect(page.get_by_role("heading", name="Undo 2 changes?")).to_be_visible()
    row = page.locator(".places tr", has_text="limit")
    expect(row.locator("td").nth(0)).to_have_text("9")
    expect(row.locator("td").nth(1)).to_have_text("2")
    assert _policy(site, slug)["limit"] == 9  # nothing has happened yet
    page.get_by_label("Message").fill("That agent was wrong")
    page.get_by_role("button", name="Undo 1 file").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("That agent was wrong")
    assert _policy(site, slug) == {"limit": 2, "owner": "ops", "later": True}


def test_a_later_value_in_the_way_is_shown_and_decided(site: Site, page: Page) -> None:
    slug = site.workspace(policy={"limit": 2})
    _agent_wrote(site, slug, {"limit": 5}, X_Workflow_Id="wf-8")
    _agent_wrote(site, slug, {"limit": 7})
    page.goto(f"/ui/w/{slug}/undo?workflow_id=wf-8")
    cells = page.locator(".sides tbody td")
    assert [cells.nth(at).inner_text() for at in range(3)] == ["2", "5", "7"]
    page.get_by_label("Take what there was before").check()
    page.get_by_role("button", name=re.compile("^Undo")).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("revert:")
    assert _policy(site, slug) == {"limit": 2}


def test_one_change_is_reverted_from_its_page(site: Site, page: Page) -> None:
    slug = site.workspace(policy={"limit": 2})
    _agent_wrote(site, slug, {"limit": 5})
    page.goto(f"/ui/w/{slug}/timeline")
    page.locator(".entry .name").first.click()
    page.get_by_role("link", name="Revert …").click()
    page.get_by_role("button", name="Undo 1 file").click()
    expect(page.locator(".facts")).to_contain_text("revert")
    assert _policy(site, slug) == {"limit": 2}


def test_an_earlier_value_is_restored(site: Site, page: Page) -> None:
    slug = site.workspace(policy={"limit": 2})
    for limit in (3, 4):
        _agent_wrote(site, slug, {"limit": limit})
    page.goto(f"/ui/w/{slug}/memory/policy")
    page.get_by_role("link", name="← Older").click()
    page.get_by_role("link", name="Restore this …").click()
    expect(page.locator(".places td").nth(1)).to_have_text("3")
    page.get_by_role("button", name="Restore 1 file").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("restore: memory/policy.yaml")
    assert _policy(site, slug) == {"limit": 3}


def test_a_conflict_is_settled_by_a_side(site: Site, page: Page) -> None:
    slug = site.conflict()
    page.goto("/ui/?q=" + slug)
    page.get_by_role("link", name="1 problem").click()
    cells = page.locator(".places td")
    expect(cells.nth(0)).to_have_text("20")
    expect(cells.nth(1)).to_have_text("10")
    page.get_by_role("button", name="Take the file in the folder").click()
    expect(page.get_by_text("Nothing is wrong.")).to_be_visible()
    assert _policy(site, slug) == {"limit": 10}


def test_a_conflict_is_settled_by_a_value(site: Site, page: Page) -> None:
    slug = site.conflict()
    page.goto(f"/ui/w/{slug}/problems")
    page.get_by_text("Or write what it shall say").click()
    page.get_by_label("Value, as YAML").fill("limit: 15\nwhy: agreed\n")
    page.get_by_role("button", name="Settle with this").click()
    expect(page.get_by_text("Nothing is wrong.")).to_be_visible()
    assert _policy(site, slug) == {"limit": 15, "why": "agreed"}


def test_a_broken_file_is_named_with_its_line(site: Site, page: Page) -> None:
    slug = site.workspace(policy={"limit": 2})
    file = site.data / "workspaces" / slug / "memory" / "policy.yaml"
    poll(file.exists)
    file.write_text("limit: 2\nlimit: 3\n")
    poll(lambda: site.api("GET", f"/workspaces/{slug}/problems"))
    page.goto(f"/ui/w/{slug}")
    expect(page.locator(".card.bad code")).to_have_text("memory/policy.yaml:2")


def test_snapshots_are_taken_looked_at_and_deleted(site: Site, page: Page) -> None:
    slug = site.workspace(policy={"limit": 2})
    page.goto(f"/ui/w/{slug}/snapshots")
    page.get_by_label("Name").fill("before-the-sale")
    page.get_by_role("button", name="Take a snapshot").click()
    _agent_wrote(site, slug, {"limit": 3})
    page.get_by_role("link", name="before-the-sale").click()
    expect(page.locator(".pastbar")).to_be_visible()
    page.goto(f"/ui/w/{slug}/snapshots")
    page.get_by_role("button", name="Delete the snapshot before-the-sale").click()
    expect(page.get_by_text("No snapshot yet.")).to_be_visible()


def test_a_key_is_made_shown_once_and_revoked_with_its_session(site: Site, page: Page, opens: Opens) -> None:
    page.goto("/ui/keys")
    page.get_by_label("Name").fill("a visitor")
    page.get_by_label("Scope").select_option("agent")
    page.get_by_role("button", name="Make a key").click()
    text = page.get_by_label("The new key").input_value()
    page.goto("/ui/keys")
    assert text not in page.content()
    other = opens(None)
    other.goto("/ui/")
    other.get_by_label("API key").fill(text)
    other.get_by_role("button", name="Sign in").click()
    expect(other.get_by_role("heading", name="Workspaces")).to_be_visible()
    page.get_by_role("button", name="Revoke a visitor").click()
    expect(page.get_by_role("button", name="Revoke a visitor")).to_have_count(0)
    other.goto("/ui/")
    expect(other.get_by_label("API key")).to_be_visible()
