import datetime
import gc
import re
import socket
import time
import unicodedata
import weakref

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitstore import showing
from gitstore.catalog import Catalog
from gitstore.errors import Away, Invalid, TooSlow, WrongShape
from gitstore.explorer import Explorer, ExplorerQuery, Scan, answering, explore, parse_query
from gitstore.explorer.columns import Columns
from gitstore.explorer.contents import Contents
from gitstore.explorer.joined import artifact_row
from gitstore.explorer.scan import Reading
from gitstore.model import Artifact, Task, Workflow, WorkItem
from gitstore.rows import Heads, artifact_columns
from gitstore.search import Document, Search
from gitstore.search.index import Index
from gitstore.search.query import Word
from gitstore.search.ranking import Clock, Matcher
from gitstore.search.worker import Options, Worker

WS = "7a3f1c2e-5b7d-4e21-9c38-0d6f5a4b3c21"
OTHER = "8a3f1c2e-5b7d-4e21-9c38-0d6f5a4b3c22"
NOW = 1_795_000_000_000
DAY = 86_400_000


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    catalog = Catalog(folder / "catalog.sqlite")
    with Search(folder / "search", catalog=folder / "catalog.sqlite", interval=3600, limit=20.0) as search:
        search.flush()  # it is there
        yield catalog, search
    catalog.close()


@pytest.fixture
def home(shared):
    clear(shared)
    return shared


def identity(number):
    return f"{number:08x}-0000-4000-8000-000000000000"


def artifact(number, path="a.txt", content="", **fields):
    values = {"content_type": "text/plain", "size": 10, "created_at": NOW - DAY, **fields}
    return Artifact(id=identity(number), path=path, sha256="s", blob="b", **values), content


def fill(home, *made, workflows=(), tasks=()):
    catalog, search = home
    changed = [("workflow", one.id) for one in workflows] + [("task", one.id) for one in tasks]
    changed += [("artifact", one.id) for one, _ in made]
    with catalog.batch():
        for one in workflows:
            catalog.put_workflow(WS, one)
        for one in tasks:
            catalog.put_task(WS, one)
        for one, content in made:
            catalog.put_artifact(WS, one)
            search.put(WS, Document("artifact", one.id, one.path, content))
    tell(home, *changed)


def tell(home, *changed):
    home[1].tell("touched", msgspec.msgpack.encode((WS, changed)))


def clear(home):
    catalog, search = home
    for workspace in (WS, OTHER):
        catalog.clear_workspace(workspace)
        search.forget(workspace)
        search.tell("touched", msgspec.msgpack.encode((workspace, None)))


def ids(home, now=NOW, **query):
    asked = ExplorerQuery(**{"per_page": 100, **query})
    page = explore(*home, WS, asked, now)
    assert Explorer(*home).explore(WS, asked, now) == page
    assert page.total == len(page.rows)
    return [int(row["id"][:8], 16) for row in page.rows]


# --- what words find ------------------------------------------------------------------------------------------------


@pytest.fixture
def described(home):
    return describe(home)


def describe(home):
    workflow = Workflow(
        "w", "Release Café", "paused", created_at=1, updated_at=1,
        work_items=(WorkItem("i", "Checklist", "planning", "blocked"),),
    )  # fmt: skip
    task = Task("t", "Write notes", "w", "i", "writer", None, "in_progress")
    fill(
        home,
        artifact(1, "docs/Überblick_final.md", "The quick brown fox", content_type="text/markdown", task_id="t"),
        artifact(2, "data/table.csv", "a,b\nübermut 100%", content_type="text/csv", role="analyst", stage_name="build"),
        workflows=[workflow],
        tasks=[task],
    )
    return home


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("quick", [1]),  # content
        ("QUICK fox", [1]),
        ("quick table", []),  # every word, in one artifact
        ("uberblick", [1]),  # file name, folded
        ("docs", [1]),  # path
        ("blick_fin", [1]),  # inside the path
        ("cs/über", [1]),
        ("able.cs", [2]),
        ("cafe", [1]),  # workflow
        ("release brown docs", [1]),  # each somewhere else
        ("checklist", [1]),  # work item
        ("blocked", [1]),  # its state
        ("planning", [1]),  # its stage
        ("notes", [1]),  # task
        ("progress", [1]),  # its state
        ("paused", [1]),  # the workflow's
        ("writer", [1]),
        ("analyst", [2]),
        ("build", [2]),
        ("csv", [2]),
        ("text", [1, 2]),  # type
        ("ubermut", [2]),
        ("uick", []),  # a part of a word of the content is no word
        ("unscoped", []),  # a stand-in is no title
        ("unknown", []),
        # What looks like syntax is text.
        ("quick AND fox", []),
        ("(quick", [1]),
        ("(analyst)", [2]),
        ("rule:analyst", []),
        ("q*", []),
        ("100%", [2]),
        ("%", []),
        ("_", [1]),
        ("*", []),
        ("\x00", []),
        ("😀", []),
    ],
)
def test_every_word_must_be_somewhere(described, q, found):
    assert sorted(ids(described, q=q)) == found


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ('"quick brown"', [1]),
        ('"quick fox"', []),
        ('"release cafe"', [1]),
        ('"uberblick final"', [1]),
        ("qui*", [1]),
        ("überm*", [2]),
        ("check*", [1]),
        ("-quick", [2]),
        ("text -quick", [2]),
        ("role:analyst", [2]),
        ("-role:analyst", [1]),
        ("state:paused", [1]),
        ("path:docs", [1]),
        ("path:quick", []),
        ("text:docs", []),
        ('text:"quick brown"', [1]),
        ("kind:artifact", [1, 2]),
        ("kind:memory", []),
    ],
)
def test_the_query_language(described, q, found):
    assert sorted(ids(described, q=q)) == found


def test_a_sign_in_a_title_does_not_hide_it(home):
    fill(home, artifact(1, workflow_id="w"), workflows=[Workflow("w", "Research & Development")])
    assert ids(home, q="research & development") == [1]


def test_every_word_of_many_must_match(home):
    many = [letter + other for letter in "abcdefghij" for other in "0123456"]
    fill(home, artifact(1, content=" ".join(many)))
    assert ids(home, q=" ".join(many[:65])) == [1]
    assert ids(home, q=" ".join([*many[:65], "zz"])) == []


def test_a_prefix_of_very_many_words_is_no_error(home):
    fill(home, *(artifact(one, content=" ".join(f"zz{one}x{number}" for number in range(6000))) for one in (1, 2)))
    assert sorted(ids(home, q="zz*")) == [1, 2]


def test_a_task_that_no_artifact_is_of_for_a_while_changes(home):
    fill(home, artifact(1, task_id="t"))
    assert ids(home, stage_name="build") == []
    fill(home, artifact(1, task_id="other"))
    assert ids(home, stage_name="build") == []
    fill(home, tasks=[Task("t", "Title", stage_name="build")])
    assert ids(home, stage_name="build") == []
    fill(home, artifact(2, task_id="t"))
    assert ids(home, stage_name="build") == [2]


def test_titles_and_states_are_those_of_now(home):
    catalog, search = home
    explorer = Explorer(catalog, search)
    fill(home, artifact(1, workflow_id="w", task_id="t"), workflows=[Workflow("w", "Old")])
    catalog.mark_indexed(WS, Heads("m", "e1"))

    def shown():
        return explorer.explore(WS, ExplorerQuery(), NOW).rows[0]

    assert (shown()["workflow_name"], shown()["task_title"], shown()["task_state"]) == ("Old", "t", "unknown")
    with catalog.batch():
        catalog.put_workflow(WS, Workflow("w", "New", "completed"))
        catalog.put_task(WS, Task("t", "Title", "w", state="ready"))
        catalog.mark_indexed(WS, Heads("m", "e2"))
    tell(home, ("workflow", "w"), ("task", "t"))
    assert (shown()["workflow_name"], shown()["workflow_state"]) == ("New", "completed")
    assert (shown()["task_title"], shown()["task_state"]) == ("Title", "ready")
    assert explorer.explore(WS, ExplorerQuery(q="old"), NOW).total == 0
    assert explorer.explore(WS, ExplorerQuery(q="new title"), NOW).total == 1


def test_a_damaged_record_of_the_catalog_is_no_damage_of_the_index(home):
    catalog, search = home
    fill(home, artifact(1, workflow_id="w"), workflows=[Workflow("w", "Flow")])
    with catalog._database.write() as connection:
        connection.execute("UPDATE workflows SET doc=x'7b'")
    search.tell("touched", msgspec.msgpack.encode((WS, None)))
    with pytest.raises(Away):
        Explorer(catalog, search)._ask(WS, ExplorerQuery(), NOW)
    assert search.damage is None
    assert not search.rebuild_needed


def test_what_is_remembered_stays_within_bounds_and_apart(home):
    catalog, search = home
    explorer = Scan(catalog, search, keep=1)
    for workspace, number in ((WS, 1), (OTHER, 2), (WS, 1)):
        with catalog.batch():
            catalog.put_artifact(workspace, artifact(number)[0])
            catalog.mark_indexed(workspace, Heads("m", "e"))
        (row,) = explorer.explore(workspace, ExplorerQuery(), NOW).rows
        assert row["id"] == identity(number)
        assert len(explorer._known) == 1


class Quiet:
    def flushed(self, number): ...

    def failed(self, text): ...

    def lost(self, damage): ...


@pytest.fixture
def inside(tmp_path):
    """An index as the search process has it, and what says which of the artifacts `a0` to `a4` have a word."""
    index = Index(tmp_path / "index", Quiet(), batch=1000, interval=3600)
    rows = [artifact_row(msgspec.structs.replace(artifact(0)[0], id=f"a{number}")) for number in range(5)]
    contents = Contents(WS, Columns([], [], artifact_columns([msgspec.structs.astuple(row) for row in rows])))

    def put():
        for number in range(5):
            index.put(WS, Document("artifact", f"a{number}", "a.txt", "zebra"))

    def found():
        return int(contents.having(Word("zebra"), Matcher(index, Clock(time.monotonic() + 9))).sum())

    def flush():
        index.flush()
        while index.job is not None or index.wait() == 0.0:
            index.turn() if index.job is None else index.ended()

    return index, put, found, flush


def test_what_is_put_again_after_all_was_forgotten_is_found(inside):
    index, put, found, _ = inside
    put()
    assert found() == 5
    index.forget(WS)
    put()
    assert found() == 5


def test_a_part_of_the_index_that_is_no_more_is_let_go_of(inside):
    index, put, found, flush = inside
    put()
    assert found() == 5
    tail = weakref.ref(index.tail)
    flush()
    gc.collect()
    assert tail() is None  # though nobody asked since
    assert found() == 5
    (leaf,) = map(weakref.ref, index.segments.leaves)
    put()
    flush()
    gc.collect()
    assert leaf() is None
    assert found() == 5


# --- rows -----------------------------------------------------------------------------------------------------------


def test_a_row_has_everything_and_falls_back(described):
    fill(
        described,
        artifact(3, "x.bin", content_type="application/pdf", size=2_000_000, workflow_id="gone", metadata={"a": 1}),
    )
    rows = {row["logical_path"]: row for row in explore(*described, WS, ExplorerQuery(), NOW).rows}
    assert rows["docs/Überblick_final.md"] == {
        "id": identity(1),
        "workflow_id": "w",
        "task_id": "t",
        "logical_path": "docs/Überblick_final.md",
        "content_type": "text/markdown",
        "size_bytes": 10,
        "created_at": "2026-11-17T11:06:40.000Z",
        "download_url": f"/api/v1/tasks/t/artifacts/{identity(1)}",
        "metadata": {},
        "workflow_name": "Release Café",
        "workflow_state": "paused",
        "work_item_id": "i",
        "work_item_title": "Checklist",
        "stage_name": "planning",
        "role": "writer",
        "task_title": "Write notes",
        "task_state": "in_progress",
        "preview_eligible": True,
        "preview_mode": "text",
    }
    alone = rows["data/table.csv"]
    assert (alone["workflow_name"], alone["workflow_id"]) == ("Unscoped workflow", None)
    assert (alone["task_title"], alone["task_state"], alone["work_item_title"]) == (None, "unknown", None)
    gone = rows["x.bin"]
    assert (gone["workflow_name"], gone["workflow_state"], gone["metadata"]) == ("gone", None, {"a": 1})
    assert (gone["preview_eligible"], gone["preview_mode"]) == (False, "pdf")


def test_summary_and_filters_are_of_all_that_matched(described):
    page = explore(*described, WS, ExplorerQuery(per_page=1), NOW)
    assert (len(page.rows), page.total) == (1, 2)
    assert page.summary == {
        "total_artifacts": 2,
        "previewable_artifacts": 2,
        "total_bytes": 20,
        "workflow_count": 1,
        "work_item_count": 1,
        "task_count": 1,
        "role_count": 2,
    }
    assert page.filters == {
        "workflows": [{"id": "w", "name": "Release Café"}],
        "work_items": [{"id": "i", "title": "Checklist", "workflow_id": "w", "stage_name": "planning"}],
        "tasks": [
            {"id": "t", "title": "Write notes", "workflow_id": "w", "work_item_id": "i", "stage_name": None}
        ],
        "stages": ["build", "planning"],
        "roles": ["analyst", "writer"],
        "content_types": ["text/csv", "text/markdown"],
    }  # fmt: skip
    assert explore(*described, WS, ExplorerQuery(role="analyst"), NOW).filters["roles"] == ["analyst"]


def test_filters_show_at_most_a_hundred(home):
    fill(home, *(artifact(n, role=f"r{n:03}") for n in range(150)))
    page = explore(*home, WS, ExplorerQuery(), NOW)
    assert page.filters["roles"] == [f"r{n:03}" for n in range(100)]
    assert page.summary["role_count"] == 150


def test_expired_artifacts_do_not_exist(home):
    fill(
        home,
        artifact(1, workflow_id="days", created_at=NOW - DAY),
        artifact(2, workflow_id="ended"),
        artifact(3, workflow_id="open"),
        artifact(4),
        workflows=[
            Workflow("days", "D", metadata={"artifact_retention": {"mode": "days", "days": 1}}),
            Workflow("ended", "E", "failed", metadata={"artifact_retention": {"mode": "ephemeral"}}, completed_at=NOW),
            Workflow("open", "O", "active", metadata={"artifact_retention": {"mode": "ephemeral"}}),
        ],
    )
    assert sorted(ids(home, now=NOW - 1)) == [1, 2, 3, 4]
    assert sorted(ids(home, now=NOW)) == [3, 4]
    assert explore(*home, WS, ExplorerQuery(), NOW).summary["workflow_count"] == 1


def test_another_workspace_is_another_world(home):
    catalog, search = home
    one, _ = artifact(1, "secret.txt")
    catalog.put_artifact(OTHER, one)
    search.put(OTHER, Document("artifact", one.id, one.path, "word"))
    fill(home, artifact(2, "mine.txt", "word"))
    assert ids(home, q="word") == [2]
    assert ids(home) == [2]


# --- order ----------------------------------------------------------------------------------------------------------


def test_sorts_end_with_the_id(home):
    fill(
        home,
        artifact(3, "z/Beta.txt", size=5, created_at=30),
        artifact(1, "a/alpha.txt", size=5, created_at=30),
        artifact(2, "m/ALPHA.txt", size=9, created_at=10),
    )
    assert ids(home) == [1, 3, 2]
    assert ids(home, sort="oldest") == [2, 1, 3]
    assert ids(home, sort="largest") == [2, 1, 3]
    assert ids(home, sort="smallest") == [1, 3, 2]
    assert ids(home, sort="name") == [1, 2, 3]


def test_relevance_prefers_the_name_then_the_path_then_titles_then_content(home):
    fill(
        home,
        artifact(1, "a.txt", "budget", created_at=50),
        artifact(2, "b.txt", workflow_id="w", created_at=40),
        artifact(3, "budget/c.txt", created_at=30),
        artifact(4, "x/budget-2026.txt", created_at=20),
        artifact(5, "x/budget.txt", created_at=25),
        workflows=[Workflow("w", "Budget")],
    )
    assert ids(home, q="budget", sort="relevance") == [5, 4, 3, 2, 1]
    assert ids(home, q="budget") == [1, 2, 3, 5, 4]


def test_pages_never_overlap(home):
    fill(home, *(artifact(n, created_at=n // 7) for n in range(50)))
    seen = []
    for page in range(1, 8):
        found = explore(*home, WS, ExplorerQuery(page=page, per_page=9), NOW)
        assert found.total == 50
        seen += [row["id"] for row in found.rows]
    assert sorted(seen) == sorted({identity(n) for n in range(50)})


# --- highlight ------------------------------------------------------------------------------------------------------


def test_highlights_come_from_the_content_then_the_path_then_labels(home):
    fill(
        home,
        artifact(1, "fox.txt", "<i>The fox & the hound</i>"),
        artifact(2, "foxes/café.txt", "", created_at=1),
        artifact(3, "c.txt", "", created_at=0, workflow_id="w"),
        workflows=[Workflow("w", "Fox hunt")],
    )
    texts = {identity(1): "<i>The fox & the hound</i>"}
    page = explore(*home, WS, ExplorerQuery(q="fox"), NOW, lambda one: texts.get(one.id))
    assert [row["highlight"] for row in page.rows] == [
        "&lt;i&gt;The <mark>fox</mark> &amp; the hound&lt;/i&gt;",
        "<mark>fox</mark>es/café.txt",
        "<mark>Fox</mark> hunt",
    ]
    assert "highlight" not in explore(*home, WS, ExplorerQuery(), NOW).rows[0]
    # The content is in the index but cannot be read now.
    assert explore(*home, WS, ExplorerQuery(q="hound"), NOW).rows[0]["highlight"] == "fox.txt"


# --- the query ------------------------------------------------------------------------------------------------------


def test_a_page_of_long_contents_is_shown_in_time(home, monkeypatch):
    fill(home, *(artifact(number, f"{number}.txt", "lazy dog") for number in range(5)))
    asked = []

    def text(one):
        asked.append(one.id)
        time.sleep(0.1)
        return "lazy dog"

    monkeypatch.setattr(home[1], "limit", 0.15)
    page = Explorer(*home).explore(WS, ExplorerQuery(q="dog"), NOW, text)
    assert [row["highlight"] for row in page.rows][:2] == ["lazy <mark>dog</mark>"] * 2
    assert len(page.rows) == page.total == 5
    assert len(asked) < 4


def test_words_are_looked_for_in_time_where_contents_are_read(home):
    fill(home, *(artifact(number, f"{number}.txt") for number in range(3)))
    reading = Reading(home[0], lambda _: "lazy dog", time.monotonic() + 0.2)
    assert len(reading.having(WS, Word("dog"))) == 3
    time.sleep(0.2)
    with pytest.raises(TooSlow):  # also when all of them were read in time
        reading.having(WS, Word("lazy"))


def test_a_query_is_read_from_the_url():
    assert parse_query({}) == ExplorerQuery()
    assert parse_query(
        {"q": "  a b ", "role": "", "page": "10000", "per_page": "100", "sort": "relevance", "x": "y"}
    ) == (ExplorerQuery(q="a b", page=10_000, per_page=100, sort="relevance"))
    query = parse_query({"created_from": "2026-11-24", "created_to": "2026-11-24", "preview_mode": "inline"})
    assert query.created_to - query.created_from == DAY
    start = datetime.datetime.fromtimestamp(query.created_from / 1000, datetime.UTC)
    assert start.isoformat() == "2026-11-24T00:00:00+00:00"


@pytest.mark.parametrize(
    "given_query",
    [
        {"page": "0"},
        {"page": "10001"},
        {"page": "1.5"},
        {"page": ""},
        {"page": "１"},
        {"page": "-1"},
        {"per_page": "101"},
        {"per_page": "x"},
        {"sort": "best"},
        {"sort": "relevance"},
        {"sort": "relevance", "q": "  "},
        {"preview_mode": "text"},
        {"q": "x" * 201},
        {"created_from": "yesterday"},
        {"created_from": "2026-1-1"},
        {"created_to": "2026-01-01T00:00:00Z"},
        {"created_to": "٢٠٢٦-01-01"},
    ],
)
def test_a_query_of_the_wrong_shape_is_422(given_query):
    with pytest.raises(WrongShape) as caught:
        parse_query(given_query)
    assert caught.value.faults[0][0].lstrip("/") in given_query


def test_all_faults_of_a_query_are_told_at_once():
    with pytest.raises(WrongShape) as caught:
        parse_query({"page": "0", "per_page": "0", "sort": "x", "q": "x" * 300})
    assert [pointer for pointer, _ in caught.value.faults] == ["/q", "/sort", "/page", "/per_page"]


@pytest.mark.parametrize(
    "given_query",
    [
        {"created_from": "2026-02-30"},
        {"created_to": "2026-13-01"},
        {"created_to": "0000-01-01"},
        {"created_from": "2026-01-02", "created_to": "2026-01-01"},
    ],
)
def test_a_day_that_is_none_is_400(given_query):
    with pytest.raises(Invalid):
        parse_query(given_query)


# --- against a model ------------------------------------------------------------------------------------------------

VOCABULARY = ["alpha", "Beta", "Gämma", "delta-one", "Ω", "東京都", "x_y", "42"]
SOUGHT = [*VOCABULARY, "ALPHA", "gamma", "京", "lph", "a/b", "one", "open", "*", "md", "pdf"]
labels = st.none() | st.sampled_from(VOCABULARY)
phrase = st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=3).map(" ".join)
flow_ids, task_ids, item_ids = ["w1", "w2", "w3"], ["t1", "t2", "t3"], ["i1", "i2"]
maybe = lambda values: st.none() | st.sampled_from(values)  # noqa: E731
worlds = st.fixed_dictionaries(
    {
        "workflows": st.lists(
            st.builds(
                Workflow,
                id=st.sampled_from(flow_ids[:2]),
                name=phrase,
                state=st.sampled_from(["active", "failed"]),
                completed_at=st.sampled_from([None, 500]),
                metadata=st.sampled_from(
                    [
                        {},
                        {"artifact_retention": {"mode": "ephemeral"}},
                        {"artifact_retention": {"mode": "days", "days": 1}},
                    ]
                ),
                work_items=st.lists(
                    st.builds(WorkItem, st.sampled_from(item_ids), phrase, labels, st.sampled_from(["open", "done"])),
                    max_size=2,
                    unique_by=lambda one: one.id,
                ).map(tuple),
            ),
            max_size=2,
            unique_by=lambda one: one.id,
        ),
        "tasks": st.lists(
            st.builds(
                Task,
                id=st.sampled_from(task_ids[:2]),
                title=phrase,
                workflow_id=maybe(flow_ids),
                work_item_id=maybe(item_ids),
                role=labels,
                stage_name=labels,
                state=st.sampled_from(["ready", "failed"]),
            ),
            max_size=2,
            unique_by=lambda one: one.id,
        ),
        "artifacts": st.lists(
            st.builds(
                Artifact,
                id=st.integers(0, 40).map(identity),
                path=st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=3).map(lambda p: "/".join(p) + ".md"),
                content_type=st.sampled_from(["text/plain", "application/pdf", "video/mp4"]),
                size=st.sampled_from([1, 7, 1_048_576, 1_048_577]),
                sha256=st.just("s"),
                blob=st.just("b"),
                created_at=st.sampled_from([0, 1, DAY - 1, DAY, 3 * DAY]),
                workflow_id=maybe(flow_ids),
                task_id=maybe(task_ids),
                work_item_id=maybe(item_ids),
                stage_name=labels,
                role=labels,
            ),
            max_size=12,
            unique_by=lambda one: one.id,
        ),
        "contents": st.lists(phrase | st.just(""), min_size=41, max_size=41),
    }
)


queries = st.builds(
    ExplorerQuery,
    q=st.none() | st.lists(st.sampled_from(SOUGHT), min_size=1, max_size=2).map(" ".join),
    workflow_id=maybe(flow_ids),
    work_item_id=maybe(item_ids),
    task_id=maybe(task_ids),
    stage_name=labels,
    role=labels,
    content_type=maybe(["text/plain", "video/mp4"]),
    preview_mode=maybe(["inline", "download"]),
    created_from=maybe([0, DAY]),
    created_to=maybe([DAY, 2 * DAY]),
    sort=st.sampled_from(["newest", "oldest", "largest", "smallest", "name"]),
    page=st.integers(1, 3),
    per_page=st.integers(1, 5),
)  # fmt: skip
sparse = st.builds(
    lambda query, kept: ExplorerQuery(
        **{name: getattr(query, name) for name in ("q", "sort", "page", "per_page", *kept)}
    ),
    queries,
    st.lists(st.sampled_from(["workflow_id", "task_id", "role", "preview_mode", "created_from"]), max_size=2),
)


def plain(text):
    """Folding, said in another way than the code under test says it."""
    return "".join(c for c in unicodedata.normalize("NFD", text.casefold()) if not unicodedata.combining(c))


def plain_words(text):
    found = set()
    for word in re.findall(r"[^\W_]+", plain(text)):
        found.add(word)
        found.update(word[i:j] for i in range(len(word)) for j in range(i, len(word) + 1) if word[0] >= "\u4e00")
    return found


def expected(world, query, now):
    flows = {one.id: one for one in world["workflows"]}
    tasks = {one.id: one for one in world["tasks"]}
    kept = []
    for one in world["artifacts"]:
        task = tasks.get(one.task_id)
        flow_id = one.workflow_id or (task.workflow_id if task else None)
        flow = flows.get(flow_id)
        item_id = one.work_item_id or (task.work_item_id if task else None)
        item = next((i for i in flow.work_items if i.id == item_id), None) if flow else None
        stage = one.stage_name or (task.stage_name if task else None) or (item.stage_name if item else None)
        role = one.role or (task.role if task else None)
        wish = (flow.metadata if flow else {}).get("artifact_retention", {})
        if wish.get("mode") == "days" and one.created_at + DAY <= now:
            continue
        if wish.get("mode") == "ephemeral" and flow.state == "failed" and (flow.completed_at or flow.updated_at) <= now:
            continue
        inline = one.size <= 1_048_576 and one.content_type != "video/mp4"
        if query.preview_mode and inline != (query.preview_mode == "inline"):
            continue
        wanted = {
            "workflow_id": flow_id,
            "work_item_id": item_id,
            "task_id": one.task_id,
            "stage_name": stage,
            "role": role,
            "content_type": one.content_type,
        }
        if any(getattr(query, name) not in (None, value) for name, value in wanted.items()):
            continue
        if query.created_from is not None and one.created_at < query.created_from:
            continue
        if query.created_to is not None and one.created_at >= query.created_to:
            continue
        texts = [one.path, one.content_type, world["contents"][int(one.id[:8], 16)], stage or "", role or ""]
        texts += [flow.name, flow.state] if flow else [flow_id or ""]
        texts += [item.title, item.state] if item else [item_id or ""]
        texts += [task.title, task.state] if task else [one.task_id or "", "unknown" if one.task_id else ""]
        held = set().union(*map(plain_words, texts))
        # Content is left out: what is only signs is looked for in names.
        names = [text for at, text in enumerate(texts) if at != 2]
        chunks = (query.q or "").split()
        if not all(
            plain(chunk) in plain(one.path)
            or (
                set(re.findall(r"[^\W_]+", plain(chunk))) <= held
                if re.search(r"[^\W_]", chunk)
                else any(chunk in text for text in names)
            )
            for chunk in chunks
        ):
            continue
        kept.append((one, flow_id, item_id, role, stage, inline))
    order = {
        "newest": lambda row: (-row[0].created_at, row[0].id),
        "oldest": lambda row: (row[0].created_at, row[0].id),
        "largest": lambda row: (-row[0].size, row[0].id),
        "smallest": lambda row: (row[0].size, row[0].id),
        "name": lambda row: (row[0].path.split("/")[-1].casefold(), row[0].id),
    }
    return sorted(kept, key=order[query.sort])


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    world=worlds,
    asked=st.lists(st.one_of(queries, sparse), min_size=1, max_size=4),
    now=st.sampled_from([0, 600, 2 * DAY]),
    flushed=st.booleans(),
)
def test_the_explorer_answers_like_a_plain_loop(world, asked, now, flushed, shared):
    catalog, search = shared
    clear(shared)
    fill(
        shared,
        *((one, world["contents"][int(one.id[:8], 16)]) for one in world["artifacts"]),
        workflows=world["workflows"],
        tasks=world["tasks"],
    )
    if flushed:
        search.flush()
    for query in asked:
        page = explore(catalog, search, WS, query, now)
        assert Explorer(catalog, search).explore(WS, query, now) == page
        rows = expected(world, query, now)
        start = (query.page - 1) * query.per_page
        assert [row["id"] for row in page.rows] == [row[0].id for row in rows[start : start + query.per_page]]
        assert page.total == len(rows)
        assert page.summary == {
            "total_artifacts": len(rows),
            "previewable_artifacts": sum(row[5] for row in rows),
            "total_bytes": sum(row[0].size for row in rows),
            "workflow_count": len({row[1] for row in rows if row[1]}),
            "work_item_count": len({(row[1], row[2]) for row in rows if row[2]}),
            "task_count": len({row[0].task_id for row in rows if row[0].task_id}),
            "role_count": len({row[3] for row in rows if row[3]}),
        }
        filters = page.filters
        assert {one["id"] for one in filters["workflows"]} == {row[1] for row in rows if row[1]}
        assert {(one["workflow_id"], one["id"]) for one in filters["work_items"]} == {
            (row[1], row[2]) for row in rows if row[2]
        }
        assert {one["id"] for one in filters["tasks"]} == {row[0].task_id for row in rows if row[0].task_id}
        assert set(filters["stages"]) == {row[4] for row in rows if row[4]}
        assert set(filters["roles"]) == {row[3] for row in rows if row[3]}
        assert set(filters["content_types"]) == {row[0].content_type for row in rows}
        for row in page.rows:
            assert ("highlight" in row) == (query.q is not None)
            assert row["preview_mode"] == showing.preview_mode(row["content_type"])


syntax = st.sampled_from(
    [*SOUGHT, '"alpha Beta"', "-alpha", "alp*", "role:beta", "path:md", 'text:"delta one"', "-state:failed", "東京*"]
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    first=worlds,
    second=worlds,
    asked=st.lists(st.tuples(st.one_of(queries, sparse), st.lists(syntax, max_size=2)), min_size=1, max_size=4),
    ranked=st.booleans(),
    now=st.sampled_from([0, 600, 2 * DAY]),
)
def test_the_columns_follow_what_changes(first, second, asked, ranked, now, shared):
    """Whatever becomes of the records, the columns answer as a look at everything does."""
    catalog, search = shared
    clear(shared)
    for world in (first, second):
        gone = []
        with catalog.batch():
            for one in catalog.artifacts(WS):
                if one.id not in {made.id for made in world["artifacts"]}:
                    catalog.remove_artifact(WS, one.id)
                    search.remove(WS, "artifact", one.id)
                    gone.append(("artifact", one.id))
            for one in (*catalog.workflows(WS), *catalog.tasks(WS)):
                part = "workflow" if isinstance(one, Workflow) else "task"
                getattr(catalog, f"remove_{part}")(WS, one.id)
                gone.append((part, one.id))
        tell(shared, *gone)
        fill(
            shared,
            *((one, world["contents"][int(one.id[:8], 16)]) for one in world["artifacts"]),
            workflows=world["workflows"],
            tasks=world["tasks"],
        )
        for query, parts in asked:
            query = msgspec.structs.replace(query, q=" ".join(parts) or query.q)
            if ranked and query.q:
                query = msgspec.structs.replace(query, sort="relevance")
            assert Explorer(catalog, search).explore(WS, query, now) == explore(catalog, search, WS, query, now)


def test_the_largest_workspaces_are_read_before_anybody_asks(tmp_path, monkeypatch):
    monkeypatch.setattr(answering, "_LARGE", 3)
    monkeypatch.setattr(answering, "_AHEAD", 9)
    path = tmp_path / "catalog.sqlite"
    catalog, index = Catalog(path), Index(tmp_path / "index", Quiet(), batch=1000, interval=3600)
    sizes = {WS: 5, OTHER: 3, "too-many": 7, "too-few": 2}
    with catalog.batch():
        for workspace, count in sizes.items():
            for number in range(count):
                made = msgspec.structs.replace(artifact(number)[0], id=f"{workspace}-{number}")
                catalog.put_artifact(workspace, made)
                index.put(workspace, Document("artifact", made.id, made.path, "zebra"))
    held = answering.Answering(path, index)
    for _ in held.ahead():
        pass
    assert list(held._held) == ["too-many"]  # the largest comes first, and leaves no room for another
    monkeypatch.setattr(answering, "_AHEAD", 6)
    for _ in held.ahead():
        pass
    assert list(held._held) == [
        WS,
        "too-many",
    ]  # what is read ahead makes room for what is asked for, and for larger ones
    held._workspace("too-few")
    assert list(held._held) == [WS, "too-many", "too-few"]
    assert held._held[WS].contents._ways[index.parts[0]].rows[:12].max() == 4
    held._close()
    catalog.close()


def test_a_fault_of_what_is_read_ahead_is_left_to_the_next_question(tmp_path):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker = Worker(theirs, Options(str(tmp_path / "index"), None, 10, 60.0))

        def ahead():
            yield
            raise OSError("gone")

        steps = worker.ahead = ahead()
        worker._step(steps)
        assert worker.ahead is steps
        worker._step(steps)
        assert worker.ahead is None
