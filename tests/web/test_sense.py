"""The pages make sense to everybody: contrast, labels, landmarks, focus, phone width, dark; without an outside tool."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from playwright.sync_api import Page

from web import story
from web.conftest import Opens, Site

W = "/ui/w/platform"

# WCAG 2.2, 1.4.3: the contrast of each visible text with what lies behind it, colours as the browser computed them.
CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const seen = new Map();
  const rgba = colour => {
    if (!seen.has(colour)) {
      canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; seen.set(colour, [r, g, b, a / 255]);
    }
    return seen.get(colour);
  };
  const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3])).concat(1);
  const behind = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const layer = rgba(getComputedStyle(e).backgroundColor);
      if (layer[3] > 0) layers.push(layer);
      if (layer[3] === 1) break;
    }
    return layers.reverse().reduce((under, top) => over(top, under), rgba('Canvas'));
  };
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const faults = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
    const box = element.getBoundingClientRect();
    if (box.width <= 1 || box.height <= 1 || element.closest('svg, .hidden, .skip')) continue;
    const style = getComputedStyle(element), ground = behind(element), ink = over(rgba(style.color), ground);
    const [high, low] = [light(ink), light(ground)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) faults.push(`${element.className || element.tagName} ${ratio.toFixed(2)}: ${walker.currentNode.textContent.trim().slice(0, 40)}`);
  }
  return faults;
}"""  # noqa: E501

# What a screen reader needs: names, one h1, headings without gaps, landmarks, unique ids (HTML; WAI-ARIA 1.2).
SENSE = """() => {
  const faults = [], all = selector => [...document.querySelectorAll(selector)];
  const named = e => (e.getAttribute('aria-label') || '').trim() || [...(e.labels || [])].some(l => l.textContent.trim())
    || (e.getAttribute('aria-labelledby') || '').split(' ').some(id => document.getElementById(id)?.textContent.trim());
  for (const e of all('input:not([type=hidden]), select, textarea')) if (!named(e)) faults.push('no label: ' + e.outerHTML);
  for (const e of all('a[href], button, summary'))
    if (!named(e) && !e.textContent.trim() && ![...e.querySelectorAll('img[alt]')].some(i => i.alt)) faults.push('no name: ' + e.outerHTML.slice(0, 120));
  for (const e of all('img')) if (!e.hasAttribute('alt')) faults.push('no alt: ' + e.outerHTML);
  for (const e of all('iframe')) if (!e.title) faults.push('no title: ' + e.outerHTML);
  for (const e of all('svg')) if (!e.getAttribute('aria-label')) faults.push('a picture without words');
  for (const e of all('table')) if (!e.querySelector('th, caption')) faults.push('a table without heads');
  for (const e of all('section[aria-labelledby], form[aria-labelledby]')) if (!named(e)) faults.push('lost label: ' + e.outerHTML.slice(0, 80));
  const levels = all('h1, h2, h3, h4').filter(e => e.checkVisibility()).map(e => +e.tagName[1]);
  if (levels.filter(l => l === 1).length !== 1) faults.push('h1: ' + levels);
  levels.forEach((l, i) => { if (i && l > levels[i - 1] + 1) faults.push('a gap in the headings: ' + levels); });
  if (all('main').length !== 1 || all('header').length !== 1 || all('footer').length !== 1) faults.push('landmarks');
  for (const e of all('nav')) if (!named(e)) faults.push('a nav without a name');
  const ids = all('[id]').map(e => e.id);
  if (new Set(ids).size !== ids.length) faults.push('an id twice: ' + ids.filter((id, i) => ids.indexOf(id) !== i));
  if (!document.documentElement.lang || !document.title) faults.push('no language or title');
  if (document.querySelector('[style], [onclick], body script, style')) faults.push('something inline');
  return faults;
}"""  # noqa: E501

# What can be scrolled must be reached by the keyboard (WCAG 2.2, 2.1.1), not in Chromium alone, and have a name then.
REACH = """() => [...document.querySelectorAll('main *')].filter(e => {
  const style = getComputedStyle(e), scrolls = [style.overflowX, style.overflowY].some(o => o === 'auto' || o === 'scroll');
  if (!scrolls || !e.checkVisibility() || e.matches('textarea, select, iframe')) return false;
  if (e.scrollWidth <= e.clientWidth + 1 && e.scrollHeight <= e.clientHeight + 1) return false;
  if (e.hasAttribute('tabindex')) return !e.getAttribute('aria-label') && !e.getAttribute('aria-labelledby');
  return !e.querySelector('a[href], button, summary, input');
}).map(e => e.outerHTML.slice(0, 90))"""  # noqa: E501


@pytest.fixture(scope="module")
def addresses(site: Site) -> list[str]:
    """One of each page."""
    commit = next(
        one["id"] for one in site.api("GET", "/workspaces/platform/timeline?key=release-policy") if one["door"] == "api"
    )
    old = site.api("GET", "/workspaces/platform/timeline?key=release-policy")[-2]["id"]
    artifacts = {one["logical_path"]: one["id"] for one in site.api("GET", "/workspaces/platform/artifacts")}
    slug = site.conflict()
    return [
        "/ui/", W, f"{W}?at={old}", f"{W}/timeline", f"{W}/timeline?workflow_id={story.WORKFLOW}",
        f"{W}/changes/{commit}", f"{W}/compare?from={old}", f"{W}/memory/release-policy",
        f"{W}/memory/release-policy?at={old}&view=plain", f"{W}/tree/files", f"{W}/tree/files/runbooks/rollback.md",
        f"{W}/undo?workflow_id={story.WORKFLOW}", f"{W}/restore?at={old}", f"{W}/artifacts?q=canary",
        f"{W}/artifacts?at={old}", f"{W}/search?q=rollback", "/ui/search?q=canary", "/ui/search?q=%22x&kind=task",
        f"{W}/artifacts/{artifacts['trains/2026-11-19/canary.csv']}",
        f"{W}/artifacts/{artifacts['trains/2026-11-26/canary.md']}", f"/ui/w/{slug}/problems", f"/ui/w/{slug}",
        f"{W}/snapshots", f"{W}/sync", "/ui/keys", "/ui/health",
    ]  # fmt: skip


def _faults(page: Page, addresses: list[str], *looks: str) -> dict[str, Any]:
    found = {}
    for address in addresses:
        answer = page.goto(address)
        assert answer is not None
        assert answer.status == 200, address
        if faults := [fault for look in looks for fault in page.evaluate(look)]:
            found[address] = faults
    return found


def test_every_text_can_be_read_and_everything_has_a_name_and_a_place(page: Page, addresses: list[str]) -> None:
    assert _faults(page, addresses, CONTRAST, SENSE) == {}


def test_every_text_can_be_read_in_the_dark(opens: Opens, addresses: list[str]) -> None:
    assert _faults(opens(color_scheme="dark"), addresses, CONTRAST) == {}


def test_a_phone_never_scrolls_sideways(opens: Opens, site: Site, addresses: list[str]) -> None:
    slug = site.workspace()
    table = base64.b64encode(b",".join(b"column-%d" % number for number in range(40)) + b"\n").decode()
    site.api("POST", f"/workspaces/{slug}/files", {"file_name": "wide.csv", "content_base64": table})
    page = opens(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    wide = "() => document.documentElement.scrollWidth > 360 ? [document.documentElement.scrollWidth] : []"
    assert _faults(page, [*addresses, f"/ui/w/{slug}/tree/files/wide.csv"], wide, REACH) == {}


def test_the_keyboard_gets_everywhere_and_shows_where_it_is(page: Page) -> None:
    page.goto(f"{W}/timeline")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "Skip to the content"
    assert page.locator(".skip").bounding_box()["x"] >= 0  # type: ignore[index]  # it is on the page
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    ring = "() => getComputedStyle(document.activeElement).outlineStyle + document.activeElement.closest('main').id"
    assert page.evaluate(ring) == "solidmain"


def test_the_sign_in_form_makes_sense_too(opens: Opens) -> None:
    for scheme in ("light", "dark"):
        page = opens(None, color_scheme=scheme)
        assert _faults(page, ["/ui/sign-in"], CONTRAST) == {}
        assert _faults(page, ["/ui/sign-in"], SENSE) == {}


BAD = """<!doctype html><html><head><title>t</title></head><body style="background:#fff">
<p style="color:#999">too pale</p><p style="color:#666">dark enough</p><input><a href="/ui/"></a><img src="data:,">
<h1>a</h1><h3>b</h3><div id="x" style="width:2000px">wide</div><p id="x"></p><nav></nav></body></html>"""


def test_the_checks_see_what_is_wrong(opens: Opens) -> None:
    page = opens(None)
    page.set_content(BAD)
    assert [fault for fault in page.evaluate(CONTRAST) if "too pale" in fault]
    assert not [fault for fault in page.evaluate(CONTRAST) if "dark enough" in fault]
    told = "\n".join(page.evaluate(SENSE))
    for word in (
        "no label",
        "no name",
        "no alt",
        "a gap",
        "an id twice",
        "landmarks",
        "a nav",
        "no language",
        "inline",
    ):
        assert word in told, word
    assert page.evaluate("() => document.documentElement.scrollWidth") >= 2000
    page.watch.requests.clear()  # type: ignore[attr-defined]
