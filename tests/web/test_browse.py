"""Finding one's way with a real browser: sign in, search, unfold, filter, click a day, see what comes, look back."""

from __future__ import annotations

import asyncio
import re

from playwright.sync_api import Page, expect

from web import story
from web.conftest import Chromium, Opens, Site

W = "/ui/w/platform"


def test_signing_in_and_out(site: Site, opens: Opens) -> None:
    page = opens(None)
    page.goto(f"{W}/timeline?door=git")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_label("API key").fill(site.keys["admin"])
    page.get_by_role("button", name="Sign in").click()
    assert page.url.endswith(f"{W}/timeline?door=git")  # where one wanted to go
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    page.goto(W)
    expect(page.get_by_label("API key")).to_be_visible()


def test_a_link_on_another_site_leads_in_without_signing_in_again(site: Site, page: Page) -> None:
    away = f"http://localhost:{site.port}"  # another site than 127.0.0.1, to a browser
    page.route(f"{away}/chat", lambda route: route.fulfill(
        content_type="text/html", body=f'<a href="{site.base}{W}/timeline">look</a>'))  # fmt: skip
    page.goto(f"{away}/chat")
    page.get_by_role("link", name="look").click()
    expect(page.get_by_role("heading", name="Timeline")).to_be_visible()
    watch = page.watch  # type: ignore[attr-defined]
    watch.requests = [url for url in watch.requests if not url.startswith(away)]


def test_a_wrong_key_is_told_beside_the_form(site: Site, opens: Opens) -> None:
    page = opens(None)
    page.goto("/ui/")
    page.get_by_label("API key").fill("gs_admin_nothing")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not valid")
    page.watch.errors.clear()  # type: ignore[attr-defined]  # Chromium tells of the 401 itself


def test_the_list_finds_a_workspace_and_leads_to_it(page: Page) -> None:
    page.goto("/ui/")
    page.get_by_role("searchbox", name="Search workspaces").fill("maritime")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("li.row")).to_have_count(1)
    page.get_by_role("link", name="Harbour Museum catalogue").first.click()
    expect(page.get_by_role("heading", name="Memory")).to_be_visible()
    expect(page.locator("svg.spark")).to_have_count(0)


def test_a_workspace_unfolds_what_it_knows(page: Page) -> None:
    page.goto(W)
    slot = page.locator("li.slot", has_text="release-policy").first
    value = slot.get_by_text("every Tuesday and Thursday, 09:30")
    if not value.is_visible():
        slot.locator("summary").first.click()
    expect(value).to_be_visible()
    assert "git clone http://127.0.0.1" in page.get_by_label(re.compile("Clone it")).input_value()


def test_the_timeline_is_filtered_by_forms_chips_and_a_click_on_the_picture(page: Page) -> None:
    page.goto(f"{W}/timeline")
    page.get_by_role("link", name="through folder").click()
    expect(page.locator(".entry .door").first).to_have_text("folder")
    expect(page.locator(".entry.door-api")).to_have_count(0)
    page.get_by_role("link", name=re.compile("through folder.*remove", re.DOTALL)).click()
    page.get_by_text("Filter", exact=True).first.click()
    page.get_by_label("Saying").fill("two percent")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator(".entry")).to_have_count(1)
    expect(page.locator(".entry .name")).to_have_text("Roll back at two percent of errors, not at five")
    page.goto(f"{W}/timeline")
    page.locator("svg.bars a").first.click()
    assert "day=" in page.url
    expect(page.locator(".entry .name").last).to_have_text("The platform team's context")


def test_new_changes_come_by_themselves(site: Site, page: Page) -> None:
    slug = site.workspace(a=1)
    page.goto(f"/ui/w/{slug}/timeline")
    expect(page.locator(".entry")).to_have_count(1)
    site.api("PATCH", f"/workspaces/{slug}/memory", {"key": "fresh", "value": "<b>bold</b>"})
    expect(page.locator(".entry.new .name")).to_have_text("memory: set fresh")
    expect(page.get_by_role("status")).to_have_text("1 new change")
    expect(page.locator(".entry")).to_have_count(2)


def test_a_change_shows_its_difference_by_key_and_by_line(page: Page) -> None:
    page.goto(f"{W}/timeline?q=two+percent")
    page.locator(".entry .name").click()
    row = page.locator(".places tr", has_text="error_rate_above")
    expect(row.locator("td").nth(0)).to_have_text("0.05")
    expect(row.locator("td").nth(1)).to_have_text("0.02")
    page.get_by_text("By line").click()
    expect(page.locator(".lines .add")).to_contain_text("error_rate_above: 0.02")
    expect(page.locator(".facts")).to_contain_text("rosa@northgate.example")


def test_who_changed_the_release_policy_and_what_it_was_before(page: Page) -> None:
    """What somebody who has never seen the product wants first."""
    page.goto(W)
    page.get_by_role("link", name="Story of release-policy").click()
    set_by = page.locator(".blame tr", has_text="error_rate_above")
    expect(set_by).to_contain_text("planner")
    expect(page.locator(".blame tr", has_text="keep_images")).to_contain_text("Ada Okafor")
    page.get_by_role("link", name="← Older").click()
    page.get_by_role("link", name="← Older").click()
    expect(page.get_by_text("This is the past.")).to_be_visible()
    expect(page.locator(".blame tr", has_text="error_rate_above")).to_contain_text("0.02")
    page.get_by_role("link", name="Newer →").click()
    page.get_by_role("link", name="Newer →").click()
    expect(page.get_by_text("This is the past.")).to_have_count(0)


def test_the_whole_workspace_as_it_was(page: Page) -> None:
    page.goto(f"{W}/timeline?q=Thursdays")
    page.locator(".entry .name").click()
    page.get_by_role("link", name="As it was then").click()
    expect(page.get_by_role("heading", name="As it was", level=1)).to_be_visible()
    expect(page.locator(".pastbar")).to_contain_text("This is the past.")
    expect(page.get_by_text("train/2026-11-26")).to_have_count(0)
    page.get_by_role("link", name="Back to now").click()
    expect(page.get_by_text("train/2026-11-26").first).to_be_visible()


def test_two_moments_are_compared(page: Page) -> None:
    page.goto(f"{W}/timeline?q=Thursdays")
    page.locator(".entry .name").click()
    page.get_by_role("link", name="Compare with now").click()
    expect(page.locator(".places tr", has_text="error_rate_above")).to_contain_text("0.1")


def test_artifacts_are_searched_and_narrowed_down(page: Page) -> None:
    page.goto(f"{W}/artifacts")
    page.get_by_role("main").get_by_role("searchbox").fill("percent of the traffic")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".artifact mark").first).to_be_visible()
    page.goto(f"{W}/artifacts")
    page.get_by_role("link", name="image/png").click()
    expect(page.locator(".artifact")).to_have_count(1)
    page.get_by_role("link", name="canary.png").click()
    picture = page.locator(".picture-of img")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 0


def test_without_javascript_everything_is_still_there(opens: Opens) -> None:
    page = opens(java_script_enabled=False)
    page.goto(W)
    page.locator("li.slot summary", has_text="on-call/rotation").click()
    expect(page.get_by_text("time_zone").last).to_be_visible()
    page.get_by_role("link", name="Timeline", exact=True).first.click()
    page.get_by_role("link", name="through git push").click()
    expect(page.get_by_text("Nothing matches.")).to_be_visible()
    page.goto(f"{W}/undo?workflow_id={story.WORKFLOW}")
    expect(page.get_by_role("heading", name="Undo 4 changes?")).to_be_visible()


def test_an_agent_sees_no_form_of_an_admin(opens: Opens) -> None:
    page = opens("agent")
    for path in (W, f"{W}/timeline?workflow_id={story.WORKFLOW}", f"{W}/problems", f"{W}/snapshots", f"{W}/sync"):
        page.goto(path)
        assert page.locator("form[method=post]").count() == 1, path  # signing out
        assert page.get_by_role("link", name="Keys").count() == 0
        assert page.get_by_role("link", name=re.compile("Undo|Revert|Restore")).count() == 0, path


def test_history_is_searched_for_what_a_file_once_said(page: Page) -> None:
    page.goto(f"{W}/timeline")
    page.get_by_role("link", name="Search through history …").click()
    page.get_by_role("main").get_by_role("searchbox").fill("keep_images: 5")
    page.get_by_role("button", name="Search").click()
    row = page.locator("li.artifact", has_text="release-policy")
    expect(row.locator("mark")).to_have_text("keep_images: 5")
    expect(row).to_contain_text("Ada Okafor")  # who ended it
    row.get_by_role("link").first.click()
    expect(page.locator(".pastbar")).to_be_visible()
    expect(page.locator(".blame tr", has_text="keep_images")).to_contain_text("5")


def test_the_evidence_as_it_was(site: Site, page: Page) -> None:
    made = site.api("GET", "/workspaces/platform/timeline?kind=import")[0]["id"]
    page.goto(f"{W}?at={made}")
    page.get_by_role("link", name="Artifacts of then").click()
    expect(page.locator(".pastbar")).to_be_visible()
    expect(page.locator(".artifact", has_text="hostile")).to_have_count(0)
    page.get_by_role("link", name="comparison.json").click()
    expect(page.locator(".pastbar")).to_be_visible()


def test_the_browser_leaves_other_tests_their_event_loops(chromium: Chromium) -> None:
    async def nothing() -> int:
        return 1

    assert chromium.browser.is_connected()
    assert asyncio.run(nothing()) == 1


def test_everything_is_searched_from_any_page(page: Page) -> None:
    page.goto("/ui/health")
    page.get_by_label("Search everything").fill("canary")
    page.keyboard.press("Enter")
    expect(page.locator("mark").first).to_contain_text("canary", ignore_case=True)
    page.get_by_role("complementary").get_by_role("link", name="task").click()
    expect(page.locator(".rows .tag").first).to_have_text("task")
    page.get_by_label("What to look for").fill('"canary')
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator("#f-faults")).to_contain_text("not closed")
