"""The small parts of which pages are made, each by itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import escape

from gitstore import errors
from gitstore.model import Actor, ChangedPath, Touch
from server.web import chart, difference, links, markdown, people, preview, tree, words
from server.web.paging import numbered
from server.web.session import cookie, cookies

TRAP = "<script>alert(1)</script>\"'&"
NOW = 1_795_478_400_000  # 2026-11-24
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(json_values)
def test_every_value_is_drawn_and_none_becomes_markup(value: Any) -> None:
    drawn = str(tree.draw({TRAP: value, "after": TRAP}))
    assert "<script" not in drawn
    assert str(escape(TRAP)) in drawn
    assert drawn.count("<ul") == drawn.count("</ul>")
    assert drawn.count("<details") == drawn.count("</details>")
    assert drawn.count("<li") == drawn.count("</li>")


def test_a_budget_bounds_what_is_drawn() -> None:
    drawn = str(tree.draw([{"a": n, "b": [n]} for n in range(10_000)], tree.Budget(50)))
    assert drawn.count("<li") < 120
    assert "more" in drawn
    assert "9,9" in drawn
    long = str(tree.draw({"text": "x" * 100_000}))
    assert len(long) < 6_000
    assert "more characters" in long


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "null"), (True, "true"), (0, "0"), (1.5, "1.5"), ([], "empty list"), ([1], "1 item"), ({}, "empty"),
     ({"a": 1, "b": 2}, "a, b"), ("a\n b", "a b"), ("x" * 100, "x" * 71 + "…")],
)  # fmt: skip
def test_an_excerpt_is_one_short_line(value: Any, told: str) -> None:
    assert tree.excerpt(value) == told


@settings(deadline=None)
@given(st.text(), st.text(), st.text())
def test_addresses_come_back_as_they_were(slug: str, key: str, query: str) -> None:
    address = links.key(slug, key, q=query)
    assert address.isascii()
    assert address.startswith("/ui/w/")
    assert links.local(address) == address


@pytest.mark.parametrize(
    "away", [None, "", "/", "/api/v1", "//evil", "https://evil", "/ui", "/ui/\\x", "/ui/\n", "ui/"]
)
def test_only_pages_are_local(away: str | None) -> None:
    assert links.local(away) == "/ui/"


def test_twins_of_addresses_of_the_api() -> None:
    assert links.twin("/api/v1/workspaces?q=a") == "/ui/json/workspaces?q=a"
    assert links.twin("/health") == "/health"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "just now"), (59, "just now"), (60, "1 minute ago"), (7200, "2 hours ago"), (86_400, "1 day ago"),
     (15 * 86_400, "2 weeks ago"), (400 * 86_400, "1 year ago"), (-3600, "in 1 hour")],
)  # fmt: skip
def test_how_long_ago(seconds: int, told: str) -> None:
    assert words.ago(NOW - seconds * 1000, NOW) == told


def test_times_sizes_and_counts() -> None:
    assert words.exact(NOW) == "24 Nov 2026, 00:00:00 UTC"
    assert words.day(NOW) == "Tue 24 Nov 2026"
    assert words.date(1 << 62) == "9999-12-31"  # whatever a commit claims
    assert [words.size(n) for n in (1, 1023, 1024, 5 << 20)] == ["1 byte", "1023 bytes", "1.0 KiB", "5.0 MiB"]
    assert [words.count(n, "key") for n in (0, 1, 1234)] == ["0 keys", "1 key", "1,234 keys"]
    assert words.coded("a `b<` c") == "a <code>b&lt;</code> c"
    assert words.coded("a ` b<") == "a ` b&lt;"


def test_what_a_commit_touched_is_told_once_by_its_name() -> None:
    changes = [
        ChangedPath("artifacts/0f/d1/122a/artifact.yaml", "added", "artifact", "122a"),
        ChangedPath("artifacts/0f/d1/122a/steps.csv", "added", "artifact", "122a"),
        ChangedPath("memory/a%2Fb.yaml", "changed", "memory", "a/b"),
        ChangedPath("files/x.md", "deleted", "file", "x-md"),
    ]
    assert words.touched(changes) == [("added", "steps.csv"), ("changed", "a/b"), ("deleted", "files/x.md")]


def test_who_is_escaped() -> None:
    touch = Touch("a" * 40, NOW, Actor("person", TRAP, TRAP))
    told = str(people.touched(TRAP, touch))
    assert "<script" not in told
    assert "/ui/w/%3Cscript" in told
    assert people.touched("a", None) == ""


def test_every_day_has_a_place_in_the_picture_and_only_days_with_changes_are_links() -> None:
    found = chart.days(
        {(20_000, "api"): 3, (20_000, "git"): 1, (20_002, "disk"): 8, (19_999, "api"): 5}, 20_000, 20_003
    )
    assert [day.total for day in found] == [4, 0, 8, 0]
    drawn = str(chart.bars(found, lambda day: f"/x?day={day}&{TRAP}", "2024-10-06"))
    assert drawn.count("<a ") == 2
    assert drawn.count('class="none"') == 2
    assert "<script" not in drawn
    assert "4 changes (3 API, 1 git push)" in drawn
    assert "NaN" not in str(chart.sparkline([0, 0, 0], TRAP))
    assert "<script" not in str(chart.sparkline([1, 2], TRAP))


@settings(deadline=None)
@given(st.text())
def test_markdown_never_acts(text: str) -> None:
    made = markdown.clean(f"{text}\n\n[a](javascript:x) ![b](http://x/y) <img src=x onerror=y>\n\n{text}")
    for word in ("<a ", "<img", "<script", "<iframe", "<form", "<input", "<style", "href=", "src="):
        assert word not in made.replace("&lt;", "").replace("src=x onerror", "")


def test_markdown_is_drawn() -> None:
    made = markdown.clean(
        "# T\n\n* *a* **b** ~~c~~ `d`\n\n[e](https://f.example/g) <https://h.example>\n\n|x|y|\n|-|-|\n|1|2|\n"
    )
    for piece in ("<h1>T</h1>", "<em>a</em>", "<strong>b</strong>", "<s>c</s>", "<code>d</code>", "<td>2</td>",
                  "(https://f.example/g)"):  # fmt: skip
        assert piece in made
    assert made.count("https://h.example") == 1


@pytest.mark.parametrize(
    ("content_type", "data", "kind"),
    [("application/yaml", b"a: 1\n", "values"), ("application/yaml", b"a: [\n", "text"),
     ("application/json", b"{", "text"), ("application/json; charset=utf-8", b"[1]", "values"),
     ("text/markdown", b"# x", "markdown"),
     ("text/csv", b"a,b\n1,2\n", "table"), ("text/csv", b"", "text"), ("text/html", b"<b>", "text"),
     ("image/png", b"\x89PNG", "image"), ("image/svg+xml", b"<svg/>", "image"), ("image/tiff", b"\0\0", "none"),
     ("application/pdf", b"%PDF-1.4", "pdf"), ("application/pdf", b"<script>", "text"), ("text/plain", b"\xff", "none"),
     ("application/octet-stream", b"plain words", "text"), ("text/javascript", b"alert(1)", "text")],
)  # fmt: skip
def test_what_content_is_shown_as(content_type: str, data: bytes, kind: str) -> None:
    assert preview.look(content_type, data).kind == kind


@settings(deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from(["text/csv", "text/markdown", "application/yaml", "application/json", "text/plain"]),
)
def test_any_bytes_can_be_looked_at(data: bytes, content_type: str) -> None:
    look = preview.look(content_type, data + TRAP.encode(), "x")
    assert "<script" not in str(look.drawn) + str(look.source)


def test_large_content_is_cut() -> None:
    assert preview.look("text/plain", b"line\n" * 200_000).note == "Only the beginning is shown."
    assert "more lines" in str(preview.look("text/plain", b"line\n" * 5_000).drawn)
    table = preview.look("text/csv", b"a,b\n" * 2_000)
    assert str(table.drawn).count("<tr>") == 501
    assert table.note == "The first 500 rows are shown."


def test_what_is_only_downloaded_has_no_frame() -> None:
    with pytest.raises(errors.Invalid):
        preview.frame("text/html", b"<b>", "x.html")
    assert preview.download("text/html", b"<b>", "x.html").disposition == "attachment"


def test_pointers_are_readable() -> None:
    assert difference.readable("") == "the whole document"
    assert difference.readable("/a~1b/0/c~0d") == "a/b › 0 › c~d"


def test_pages_of_a_list() -> None:
    link = str
    assert numbered(1, 20, 5, "key", link).told == "5 keys"
    assert numbered(1, 20, 1, "key", link).told == "1 key"
    middle = numbered(2, 20, 50, "key", link)
    assert (middle.told, middle.before, middle.after) == ("21 to 40 of 50 keys", "1", "3")
    beyond = numbered(9, 20, 50, "key", link)
    assert (beyond.before, beyond.after) == ("3", None)


def test_cookies_are_written_and_read() -> None:
    assert cookie("a", "b", seconds=5, secure=True)[1] == "a=b; Path=/ui; Max-Age=5; HttpOnly; SameSite=Strict; Secure"
    assert cookies('a=1; b="2"; a=3; c; =x; d=e=f') == {"a": "1", "b": "2", "": "x", "d": "e=f"}
    assert cookies(None) == {}


def test_hostile_markdown_takes_no_long_time() -> None:
    text = b"![" * (markdown.LONGEST // 2)  # seconds of work for a parser, minutes at the length of other texts
    assert preview.look("text/markdown", text).kind == "markdown"
    long = preview.look("text/markdown", text + b"!")
    assert (long.kind, long.note) == ("text", "Too long to be laid out: shown as it is written.")
    with pytest.raises(errors.Invalid):
        preview.frame("text/markdown", text + b"!", "x.md")


def test_a_table_says_which_columns_and_rows_it_leaves_out() -> None:
    wide = preview.look("text/csv", b",".join(b"c%d" % number for number in range(99)) + b"\n1\n")
    assert wide.kind == "table"
    assert wide.note == "The first 60 of 99 columns are shown."
    assert preview.look("text/csv", b"a\n" * 501).note is None
    assert preview.look("text/csv", b"a\n" * 502).note == "The first 500 rows are shown."
    both = preview.look("text/csv", (b"," * 60 + b"\n") * 502).note
    assert both == "The first 500 rows are shown. The first 60 of 61 columns are shown."
