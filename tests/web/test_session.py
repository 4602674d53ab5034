"""Sessions, forms and headers, without a browser: what a thief, another site or a curious agent would try."""

from __future__ import annotations

import base64
import html
import os
import re
from html.parser import HTMLParser

import pytest
from contract.conftest import ADMIN, Server, serving

from gitstore.keys import Keys
from server.web import links
from server.web.session import MOST, Sessions
from web import story
from web.conftest import SESSION, Site, Visitor, poll

W = "/ui/w/platform"


def test_the_cookie_is_kept_from_scripts_other_sites_and_the_api(site: Site) -> None:
    visitor = site.visitor()
    answer = visitor.sign_in(site.keys["admin"])
    line = answer.cookies[SESSION]
    assert {"Path=/ui", "HttpOnly", "SameSite=Strict"} <= set(line.split("; "))
    assert re.search(r"Max-Age=(\d+)", line)
    assert 0 < int(re.search(r"Max-Age=(\d+)", line)[1]) <= 86_400  # type: ignore[index]
    name = visitor.jar[SESSION]
    assert site.keys["admin"] not in line
    assert not name.startswith("gs_")
    for header in ({"Authorization": f"Bearer {name}"}, {"Cookie": f"{SESSION}={name}"}):
        assert Visitor(site.port).get("/api/v1/auth/me", **header).status == 401
    assert site.keys["admin"] not in visitor.get("/ui/").text


def test_without_a_session_every_page_leads_to_the_form_and_back(site: Site) -> None:
    visitor = site.visitor()
    answer = visitor.get(f"{W}/timeline?door=git")
    assert (answer.status, answer.headers["Location"]) == (
        303,
        "/ui/sign-in?next=%2Fui%2Fw%2Fplatform%2Ftimeline%3Fdoor%3Dgit",
    )
    page = visitor.get(answer.headers["Location"])
    there = visitor.ask("POST", "/ui/sign-in", {"form": page.proof, "key": site.keys["agent"], "next": f"{W}/sync"})
    assert (there.status, there.headers["Location"]) == (303, f"{W}/sync")
    assert site.visitor().get(f"{W}/timeline/new", Sec_Fetch_Dest="empty").status == 401  # a script gets no form


@pytest.mark.parametrize(
    "to", ["https://evil.example/", "//evil.example/", "/api/v1", "/ui\\evil", "javascript:x", "/ui/\r\nX: y"]
)
def test_signing_in_leads_nowhere_else(site: Site, to: str) -> None:
    visitor = site.visitor()
    proof = visitor.get("/ui/sign-in").proof
    answer = visitor.ask("POST", "/ui/sign-in", {"form": proof, "key": site.keys["agent"], "next": to})
    assert (answer.status, answer.headers["Location"]) == (303, "/ui/")
    assert "X" not in answer.headers


def test_signing_out_ends_the_session_on_the_server(site: Site) -> None:
    visitor = site.visitor("admin")
    stolen = visitor.jar[SESSION]
    answer = visitor.send("/ui/sign-out")
    assert answer.headers["Clear-Site-Data"] == '"cache"'
    assert SESSION not in visitor.jar
    thief = site.visitor()
    thief.jar[SESSION] = stolen
    assert thief.get("/ui/").status == 303


def test_wrong_keys_and_tokens_open_nothing(site: Site) -> None:
    visitor = site.visitor()
    for key in ("", "x", "gs_admin_" + "a" * 40, "é" * 300, "\0"):
        assert visitor.sign_in(key).status == 401
    token = site.api("POST", "/auth/token", {"api_key": site.keys["admin"]})["token"]
    assert "the API key itself" in visitor.sign_in(token).text
    assert SESSION not in visitor.jar


def test_revoking_the_key_ends_its_sessions(site: Site) -> None:
    made = site.api("POST", "/api-keys", {"scope": "agent", "name": "short-lived"})
    visitor = site.visitor()
    visitor.sign_in(made["key"])
    assert visitor.get("/ui/").status == 200
    site.api("DELETE", f"/api-keys/{made['id']}")
    assert visitor.get("/ui/").status == 303


@pytest.mark.parametrize("form", [None, "", "x", "é", "a" * 64])
def test_a_form_without_its_proof_does_nothing(site: Site, form: str | None) -> None:
    visitor = site.visitor("admin")
    fields = {"scope": "admin", "name": "smuggled"} | ({"form": form} if form is not None else {})
    assert visitor.ask("POST", "/ui/keys", fields).status == 403
    assert "smuggled" not in visitor.get("/ui/keys").text
    assert visitor.ask("POST", "/ui/sign-out", {"form": form} if form is not None else {}).status == 403
    assert visitor.get("/ui/").status == 200


def test_the_proof_of_one_session_is_worth_nothing_in_another(site: Site) -> None:
    one, other = site.visitor("admin"), site.visitor("admin")
    assert one.ask("POST", "/ui/sign-out", {"form": other.get("/ui/").proof}).status == 403
    stranger = site.visitor()
    proof = stranger.get("/ui/sign-in").proof
    stranger.jar.clear()
    assert stranger.ask("POST", "/ui/sign-in", {"form": proof, "key": site.keys["admin"]}).status == 403


def test_a_form_from_another_site_or_of_another_kind_does_nothing(site: Site) -> None:
    visitor = site.visitor("admin")
    proof = visitor.get("/ui/").proof
    assert visitor.ask("POST", "/ui/sign-out", {"form": proof}, Sec_Fetch_Site="cross-site").status == 403
    assert visitor.ask("POST", "/ui/sign-out", {"form": proof}, Sec_Fetch_Site="same-site").status == 403
    sent = f'{{"form":"{proof}"}}'.encode()
    assert visitor.ask("POST", "/ui/sign-out", sent, Content_Type="application/json").status == 415
    assert visitor.ask("POST", "/ui/sign-out", b"form=" + b"a" * (3 << 20)).status == 413
    assert visitor.ask("POST", "/ui/sign-out", b"&".join(b"a%d=1" % n for n in range(300))).status == 400
    assert visitor.get("/ui/").status == 200


def test_a_scope_is_held_to_on_every_page(site: Site) -> None:
    from server.web.table import PLACES

    agent = site.visitor("agent")
    proof = agent.get("/ui/").proof
    names = {"id": "platform", "key": "x", "problem": "x", "name": "x", "commit": "x", "artifact": "x", "path+": "x"}
    for place in PLACES:
        path = re.sub(r"\{([^}]+)\}", lambda found: names[found[1]], place.path)
        answer = agent.ask(place.method, path, {"form": proof} if place.method == "POST" else None)
        if place.path == "/ui/sign-out":
            agent = site.visitor("agent")
            proof = agent.get("/ui/").proof
        assert (answer.status == 403) == (
            place.scope == "admin" or (place.path == "/ui/sign-in" and place.method == "POST")
        ), path


def _inline(text: str) -> list[str]:
    """The attributes of a page that a strict policy would stop."""
    found: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.extend(f"{tag} {name}" for name, _ in attrs if name.startswith("on") or name == "style")

    Parser().feed(text)
    return found


def test_every_page_forbids_what_it_does_not_need(site: Site) -> None:
    visitor = site.visitor("admin")
    nonces = set()
    for path in ("/ui/", W, f"{W}/timeline", "/ui/keys", f"{W}/nothing", "/ui/sign-in?next=/ui/x"):
        answer = visitor.get(path)
        if answer.status == 303:
            continue
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        nonces.add(policy["script-src"])
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert _inline(answer.text) == [], path
    assert len(nonces) >= 5  # a new one each time


def test_failures_are_pages_too(site: Site) -> None:
    visitor = site.visitor("agent")
    for path, status, word in (
        ("/ui/nothing", 404, "no route"), ("/ui/w/nobody", 404, "nobody"), (f"{W}?at=yesterday", 404, "yesterday"),
        (f"{W}/changes/0000", 404, "0000"), (f"{W}/timeline?door=window", 400, "door"), ("/ui/keys", 403, "admin"),
        (f"{W}/tree/no/such.md", 404, "no/such.md"), (f"{W}/memory/nothing", 404, "nothing"),
        (f"{W}/artifacts?created_from=soon", 422, "YYYY-MM-DD"), ("/ui/?page=x", 400, "page"),
        ("/ui/?q=%FF", 400, "UTF-8"),
        (f"{W}/timeline?cursor=x", 400, "cursor"), (f"{W}/timeline?day=2026-02-30", 400, "2026-02-30"),
    ):  # fmt: skip
        answer = visitor.get(path)
        assert (answer.status, word in answer.text) == (status, True), (path, answer.text)
        assert answer.headers["Content-Type"].startswith("text/html")


def test_what_is_asked_for_is_escaped_wherever_it_is_told(site: Site) -> None:
    visitor = site.visitor("admin")
    trap = "%22%3E%3Cscript%3Ehacked()%3C/script%3E"
    for path in (f"/ui/?q={trap}", f"{W}?q={trap}", f"{W}/timeline?q={trap}", f"{W}/timeline?actor={trap}&path={trap}",
                 f"{W}/artifacts?q={trap}", f"{W}/artifacts?role={trap}", f"/ui/w/{trap}", f"{W}/memory/{trap}",
                 f"{W}/tree/{trap}", f"{W}?at={trap}", f"{W}/compare?from={trap}", f"{W}/compare?from=now&path={trap}",
                 f"{W}/undo?workflow_id={trap}", f"{W}/undo?commit={trap}", f"{W}/snapshots?of={trap}",
                 f"/ui/sign-in?next={trap}", f"{W}/changes/{trap}", f"{W}/timeline?day={trap}"):  # fmt: skip
        assert "<script>hacked" not in visitor.get(path).text, path


def test_the_json_twin_says_what_the_api_says(site: Site) -> None:
    agent = site.visitor("agent")
    page = agent.get(f"{W}/timeline?door=git")
    twin = re.search(r'href="(/ui/json/[^"]+)"', page.text)
    assert twin is not None
    got = agent.get(twin[1].replace("&amp;", "&"))
    assert got.headers["Content-Type"].startswith("application/json")
    assert got.status == 200
    assert b'"data":[' in got.body
    assert agent.get("/ui/json/workspaces/platform/memory/release-policy").status == 200
    assert agent.get("/ui/json/api-keys").status == 403
    assert agent.get("/ui/json/auth/token").status in (404, 405)
    assert agent.get("/ui/json/../health").status == 404
    assert agent.get("/ui/json/workspaces?page=x").status == 422
    assert agent.ask("PATCH", "/ui/json/workspaces/platform", b"{}").status == 405
    assert site.visitor().get("/ui/json/workspaces").status == 303


def test_every_page_has_a_twin_that_answers(site: Site) -> None:
    admin = site.visitor("admin")
    commit = site.api("GET", "/workspaces/platform/timeline?key=release-policy")[0]["id"]
    artifact = site.api("GET", "/workspaces/platform/artifacts?q=canary.csv")[0]["id"]
    for path in ("/ui/", "/ui/?q=a&state=active", W, f"{W}?at={commit}", f"{W}/timeline?day=2026-11-01&door=api",
                 f"{W}/changes/{commit}", f"{W}/compare?from={commit}", f"{W}/memory/release-policy",
                 f"{W}/memory/release-policy?at={commit}", f"{W}/tree/spec/tools.yaml", f"{W}/tree/README.md",
                 f"{W}/tree/files/pipeline.json", f"{W}/tree/settings.yaml", f"{W}/tree/files",
                 f"{W}/artifacts?q=canary",
        f"{W}/artifacts?at={commit}",
        f"{W}/search?q=rollback", f"{W}/artifacts/{artifact}",
        f"{W}/problems", f"{W}/snapshots", f"{W}/sync", "/ui/keys"):  # fmt: skip
        page = admin.get(path)
        twin = re.search(r'href="(/ui/json/[^"]+)"', page.text)
        assert twin is not None, path
        answer = admin.get(twin[1].replace("&amp;", "&"))
        assert answer.status == 200, (path, twin[1], answer.text)


def test_content_in_frames_is_kept_in_a_sandbox(site: Site) -> None:
    visitor = site.visitor("agent")
    rows = {one["logical_path"]: one["id"] for one in site.api("GET", "/workspaces/platform/artifacts?per_page=100")}
    for path in story.HOSTILE:
        at = f"{W}/artifacts/{rows[path]}"
        frame, saved = visitor.get(f"{at}/frame"), visitor.get(f"{at}/download")
        assert saved.headers["Content-Disposition"].startswith("attachment")
        assert saved.headers["X-Content-Type-Options"] == "nosniff"
        if path.endswith((".html", ".csv", ".txt")):
            assert frame.status == 400  # shown as text on the page, never by itself
            continue
        policy = frame.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert frame.headers["X-Content-Type-Options"] == "nosniff"
        assert ("sandbox" in policy) == (not path.endswith(".pdf"))
        assert "script-src" not in policy


def test_a_file_that_lies_about_its_type_is_not_shown_as_it(site: Site) -> None:
    slug = site.workspace()
    site.api("POST", f"/workspaces/{slug}/files", {"file_name": "a.pdf", "content_base64": "PHNjcmlwdD4="})
    visitor = site.visitor("agent")
    assert visitor.get(f"/ui/w/{slug}/frame/files/a.pdf").status == 400
    assert "&lt;script&gt;" in visitor.get(f"/ui/w/{slug}/tree/files/a.pdf").text


def test_a_download_answers_ranges_and_says_its_name(site: Site) -> None:
    visitor = site.visitor("agent")
    answer = visitor.get(f"{W}/download/files/runbooks/rollback.md", Range="bytes=0-3")
    assert (answer.status, answer.body) == (206, b"# Ro")
    assert 'filename="rollback.md"' in answer.headers["Content-Disposition"]


def test_browsers_find_the_pages_and_programs_do_not(site: Site) -> None:
    visitor = site.visitor()
    assert visitor.get("/", Accept="text/html,*/*").headers["Location"] == "/ui/"
    assert visitor.get("/").status == 404
    assert visitor.get("/ui").headers["Location"] == "/ui/"


def test_parts_of_the_pages_are_kept_for_good_by_their_content(site: Site) -> None:
    visitor = site.visitor()
    page = visitor.get("/ui/sign-in").text
    for address in re.findall(r'(?:href|src)="(/ui/static/[^"]+)"', page):
        assert "immutable" in visitor.get(address).headers["Cache-Control"]
        assert "immutable" not in visitor.get(address + "x").headers["Cache-Control"]
    assert visitor.get("/ui/static/nothing.css").status == 404
    assert visitor.get("/ui/static/..%2fvisit.py").status == 404


@pytest.fixture
def strict(tmp_path_factory: pytest.TempPathFactory) -> object:
    data = tmp_path_factory.mktemp("strict") / "data"
    with serving(data, rate_limit_per_minute=4, public_url="https://store.example") as server:
        yield server


def test_guessing_is_limited_and_cookies_are_for_https_alone(strict: Server) -> None:
    visitor = Visitor(strict.port)
    first = visitor.get("/ui/sign-in")
    assert all(line.endswith("; Secure") for line in first.cookies.values())
    for _ in range(3):
        assert visitor.ask("POST", "/ui/sign-in", {"form": first.proof, "key": "x"}).status == 401
    answer = visitor.ask("POST", "/ui/sign-in", {"form": first.proof, "key": strict.keys["admin"]})
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["Content-Type"].startswith("text/html")


def test_a_key_has_a_bounded_number_of_sessions_each_with_a_bounded_life(tmp_path: object) -> None:
    keys = Keys.open(tmp_path / "keys.yaml", token_key=b"k" * 32)  # type: ignore[operator]
    keys.bootstrap(ADMIN)
    sessions = Sessions(keys, life=60_000)
    names = [sessions.begin(ADMIN, 1_000_000)[0] for _ in range(MOST + 3)]
    assert [sessions.find(name, 1_000_001) is not None for name in names] == [False] * 3 + [True] * MOST
    assert sessions.find(names[-1], 1_060_000) is None


def test_names_that_are_no_utf8_break_no_page(site: Site) -> None:
    slug = site.workspace(a=1)
    folder = site.data / "workspaces" / slug
    poll((folder / "memory/a.yaml").exists)
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text("one\ntwo\n")
    (folder / "deep").mkdir()
    (folder / "deep" / os.fsdecode(b"\xff<b>.yaml")).write_text("a: 1\n")
    story.git(folder, "add", "-A")
    story.git(folder, "commit", "-qm", os.fsdecode(b"caf\xe9 <b>"), when=None)
    head = poll(lambda: _head_named(site, slug, "caf"))
    visitor = site.visitor("admin")
    for path in (f"/ui/w/{slug}", f"/ui/w/{slug}/timeline", f"/ui/w/{slug}/changes/{head}", f"/ui/w/{slug}/tree/deep",
                 f"/ui/w/{slug}/compare?from={head}", f"/ui/w/{slug}/undo?commit={head}", "/ui/"):  # fmt: skip
        answer = visitor.get(path)
        assert answer.status == 200, path
        assert "<b>" not in answer.text
        for address in set(re.findall(r'href="(/ui/w/[^"]+)"', answer.text)):
            assert visitor.get(address.replace("&amp;", "&")).status in (200, 404), address


def _head_named(site: Site, slug: str, word: str) -> str | None:
    rows = site.api("GET", f"/workspaces/{slug}/timeline")
    return next((one["id"] for one in rows if word in one["name"]), None)


def test_every_link_of_every_page_leads_somewhere(site: Site) -> None:
    visitor = site.visitor("admin")
    waiting, seen = ["/ui/", W, f"{W}/timeline", f"{W}/artifacts", "/ui/w/harbour-museum"], set[str]()
    while waiting and len(seen) < 250:
        address = waiting.pop(0)
        if address in seen:
            continue
        seen.add(address)
        answer = visitor.get(address)
        assert answer.status == 200, address
        if answer.headers["Content-Type"].startswith("text/html") and "/frame" not in address:
            found = re.findall(r'(?:href|src)="(/[^"#]+)', answer.text)
            waiting += [one for one in map(html.unescape, found) if "try-" not in one]
    assert len(seen) > 150


def test_a_key_too_long_for_a_file_name_and_one_that_is_gone_have_their_pages(site: Site) -> None:
    long = "k" * 250 + "é"
    slug = site.workspace(**{long: 1, "gone": {"was": "here"}})
    site.api("DELETE", f"/workspaces/{slug}/memory/gone")
    visitor = site.visitor("agent")
    page = visitor.get(links.key(slug, long))
    assert page.status == 200
    assert f"<h1>{long}</h1>" in page.text
    page = visitor.get(f"/ui/w/{slug}/memory/gone")
    assert page.status == 200
    assert "It is not there any more" in page.text
    older = re.search(r'rel="prev" class="button quiet" href="([^"]+)"', page.text)
    assert older is not None
    assert "here" in visitor.get(older[1].replace("&amp;", "&")).text


def test_a_large_text_is_shown_without_names(site: Site) -> None:
    slug = site.workspace()
    content = base64.b64encode(b"a line of text\n" * 30_000).decode()
    site.api("POST", f"/workspaces/{slug}/files", {"file_name": "long.txt", "content_base64": content})
    page = site.visitor("agent").get(f"/ui/w/{slug}/tree/files/long.txt")
    assert page.status == 200
    assert 'class="blame' not in page.text
    assert "26,000 more lines" in page.text


def test_what_is_new_on_the_timeline(site: Site) -> None:
    slug = site.workspace(a=1)
    at, visitor = f"/ui/w/{slug}/timeline/new", site.visitor("agent")
    first = site.api("GET", f"/workspaces/{slug}/timeline")[0]["id"]
    assert visitor.get(f"{at}?after={first}").body == b""
    for value in (1, 2):
        site.api("PATCH", f"/workspaces/{slug}/memory", {"key": "b", "value": value})
    answer = visitor.get(f"{at}?after={first}")
    assert answer.text.count('class="entry') == 2
    newest = answer.headers["X-Gitstore-Newest"]
    assert newest == site.api("GET", f"/workspaces/{slug}/timeline")[0]["id"]
    assert visitor.get(f"{at}?after={newest}").body == b""
    assert visitor.get(f"{at}?after={newest}").headers["X-Gitstore-Newest"] == newest
    assert visitor.get(f"{at}?after={first}&door=git").body == b""
    assert visitor.get(f"{at}?after=").text.count('<li class="entry') == 3
