"""What people and agents upload is looked at and does nothing: no script runs, and nothing is asked of anybody."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from web import story
from web.conftest import Site, Trap


@pytest.fixture(scope="module")
def artifacts(site: Site) -> dict[str, str]:
    """Ids by path."""
    rows = site.api("GET", "/workspaces/platform/artifacts?per_page=100")
    return {row["logical_path"]: row["id"] for row in rows}


@pytest.mark.parametrize("path", sorted(story.HOSTILE))
def test_nothing_runs_and_nothing_leaves(page: Page, artifacts: dict[str, str], trap: Trap, path: str) -> None:
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.goto("/ui/w/platform/artifacts?q=hostile")
    expect(page.locator(".artifact").first).to_be_visible()
    page.goto(f"/ui/w/platform/artifacts/{artifacts[path]}")
    page.wait_for_load_state("networkidle")
    for frame in page.frames:
        # A script that ran in any of them would have left this behind.
        assert frame.evaluate("() => window.hacked") is None
    assert not dialogs
    watch = page.watch  # type: ignore[attr-defined]
    assert watch.strange == []
    assert trap.visits == 0
    blocked = ("Blocked script execution", "Content Security Policy")
    assert [one for one in watch.errors if not any(word in one for word in blocked)] == []
    watch.errors.clear()


def test_markdown_is_drawn_without_its_traps(page: Page, artifacts: dict[str, str], trap: Trap) -> None:
    page.goto(f"/ui/w/platform/artifacts/{artifacts['hostile/report.md']}")
    inside = page.frame_locator("iframe.sheet")
    expect(inside.get_by_role("heading", name="Report")).to_be_visible()
    expect(inside.get_by_role("cell", name="<b>")).to_be_visible()
    assert inside.locator("a, img, script, iframe, style:not(head style), form").count() == 0
    expect(inside.get_by_text(f"(http://{trap.address}/out)")).to_be_visible()
    assert page.locator("iframe.sheet").get_attribute("sandbox") == ""


def test_html_is_shown_as_its_text(page: Page, artifacts: dict[str, str]) -> None:
    page.goto(f"/ui/w/platform/artifacts/{artifacts['hostile/report.html']}")
    expect(page.locator(".lines .line").first).to_contain_text("<!doctype html>")
    assert page.locator("iframe").count() == 0


def test_svg_is_a_picture_that_runs_nothing(page: Page, artifacts: dict[str, str], trap: Trap) -> None:
    page.goto(f"/ui/w/platform/artifacts/{artifacts['hostile/picture.svg']}")
    assert page.locator(".picture-of img").evaluate("image => image.complete && image.naturalWidth") == 120
    page.goto(f"/ui/w/platform/artifacts/{artifacts['hostile/picture.svg']}/frame")  # opened by itself
    assert page.evaluate("() => window.hacked") is None
    assert trap.visits == 0
    page.watch.errors.clear()  # type: ignore[attr-defined]  # Chromium tells what the policy kept from running


def test_csv_is_a_table(page: Page, artifacts: dict[str, str]) -> None:
    page.goto(f"/ui/w/platform/artifacts/{artifacts['hostile/numbers.csv']}")
    expect(page.locator(".grid th").first).to_have_text("route")
    expect(page.locator(".grid td").nth(5)).to_have_text("<script>window.hacked=1</script>")


def test_what_agents_write_in_memory_is_text_on_every_page(site: Site, page: Page) -> None:
    trap = '"><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
    slug = site.workspace()
    site.api("PATCH", f"/workspaces/{slug}", {"name": trap[:200], "description": trap})
    value = {trap: [trap, {"deep": trap}], "n": 1}
    site.api("PATCH", f"/workspaces/{slug}/memory", {"key": "trap", "value": value}, X_Workflow_Id=trap[:100])
    site.api("PATCH", f"/workspaces/{slug}/memory", {"key": trap, "value": trap})
    commit = site.api("GET", f"/workspaces/{slug}/timeline")[0]["id"]
    at = f"/ui/w/{slug}"
    page.goto(f"{at}?q=trap")
    page.get_by_role("link", name="Story of trap").click()
    key_page = page.url
    for address in ("/ui/", at, f"{at}?at={commit}", f"{at}/timeline", f"{at}/changes/{commit}", key_page,
                    f"{at}/undo?commit={commit}", f"{at}/compare?from={commit}", f"{at}/problems"):  # fmt: skip
        page.goto(address)
        assert page.evaluate("() => window.hacked") is None, address
        assert page.locator("main img").count() == 0, address
        assert page.locator("body script").count() == 0, address
