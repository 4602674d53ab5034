"""Search at scale: explorer pages, indexing, freshness, ingest, a new index; SQLite FTS5 with the same documents.

`BENCH_DOCUMENTS` artifacts (10,000 if not said otherwise) are in one workspace, and then dealt out to
`BENCH_WORKSPACES` (50).
"""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import math
import os
import random
import shutil
import sqlite3
import statistics
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

from bench.place import KEY, SECONDS, WHO, Row, folder, make_workspaces, serving
from bench.pour import poured
from gitstore import accord, artifacts, names
from gitstore.query import PAGE_MAX
from gitstore.store import Options, Store

DOCUMENTS = int(os.environ.get("BENCH_DOCUMENTS", "10000"))
SPREAD = int(os.environ.get("BENCH_WORKSPACES", "50"))
_ASKED = 20  # workspaces whose columns are in memory
_WRITTEN = 5000  # artifacts that are written through the library; git brings the others
_COMMIT = 500
ROLES = ("writer", "reviewer", "tester", "analyst")
STAGES = ("plan", "build", "check", "release")
TYPES = (("md", "text/markdown"), ("txt", "text/plain"), ("json", "application/json"))


class Library:
    """Documents of about 1 KiB whose words are as unequal as those of people, always the same ones."""

    def __init__(self) -> None:
        chance = random.Random(5)
        letters = "abcdefghijklmnopqrstuvwxyz"
        self.words = ["".join(chance.choices(letters, k=chance.randint(3, 9))) for _ in range(20_000)]
        self.weights = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(self.words))))

    def text(self, number: int) -> str:
        return " ".join(random.Random(number).choices(self.words, cum_weights=self.weights, k=150))

    def artifact(self, number: int) -> artifacts.New:
        chance = random.Random(-number)
        suffix, kind = chance.choice(TYPES)
        name = f"{chance.choice(STAGES)}/{chance.choice(self.words[:500])}-{number}.{suffix}"
        return artifacts.New(
            f"out/{number % 97}/{name}", self.text(number).encode(), content_type=kind,
            role=chance.choice(ROLES), stage_name=chance.choice(STAGES),
        )  # fmt: skip

    def queries(self, slug: str, count: int, page: int = 1) -> list[tuple[str, str, None]]:
        chance = random.Random(9)
        asked = []
        for _ in range(count):
            q = " ".join(chance.choices(self.words[:2000], cum_weights=self.weights[:2000], k=chance.choice((1, 1, 2))))
            given = {"q": q, "role": chance.choice(ROLES), "stage_name": chance.choice(STAGES), "page": page}
            asked.append(("GET", f"/api/v1/workspaces/{slug}/artifacts?{urlencode(given)}", None))
        return asked


def _written(data: Path, library: Library, count: int) -> float:
    """Adds the first artifacts through the library; how many a second, until all of them are on disk in the index."""
    make_workspaces(data, 1)
    made = [artifacts.check(library.artifact(number)) for number in range(count)]
    with Store.open(data) as store:
        store.search.start()
        before = time.perf_counter()
        waiting: deque[Any] = deque()
        for new in made:
            waiting.append(store.apply("w0", "evidence", lambda draft, new=new: artifacts.add(draft, new), WHO))
            if len(waiting) > 200:
                waiting.popleft().result()
        while waiting:
            waiting.popleft().result()
        store.search.flush()
        return count / (time.perf_counter() - before)


def _brought(data: Path, library: Library, slugs: list[str], numbers: range) -> None:
    """Adds artifacts by git, to the workspaces in turn, 500 a commit; the indexes are then to be made anew."""
    now = int(time.time())
    for at, slug in enumerate(slugs):
        own = numbers[at :: len(slugs)]
        with poured(data / "workspaces" / slug, "evidence") as into:
            for place, number in enumerate(own):
                if place % _COMMIT == 0:
                    into.commit(now - len(own) + place, b"artifacts")
                new = library.artifact(number)
                folder = names.artifact_folder(str(uuid.UUID(int=random.Random(number).getrandbits(128), version=4)))
                into.file(f"{folder}/{new.path.rpartition('/')[2]}", cast(bytes, new.content))
                into.file(
                    f"{folder}/artifact.yaml",
                    f"path: {new.path}\ncontent_type: {new.content_type}\nstage_name: {new.stage_name}\n"
                    f"role: {new.role}\n".encode(),
                )
    shutil.rmtree(data / "derived")


def _rebuilt(data: Path) -> float:
    """Seconds in which all indexes of a closed store are made again."""
    before = time.perf_counter()
    accord.reindex(data, Options())
    return time.perf_counter() - before


def _fts(where: Path, library: Library) -> tuple[float, float]:
    """SQLite FTS5: documents a second in batches of 1,000, and the median ms of the same page."""
    base = sqlite3.connect(where / "fts.sqlite")
    base.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
        "CREATE TABLE rows(id INTEGER PRIMARY KEY, workspace, path, role, stage, type, size, created);"
        "CREATE INDEX by_role ON rows(workspace, role, stage);"
        "CREATE VIRTUAL TABLE texts USING fts5(path, body, content='', tokenize='unicode61');"
    )
    before = time.perf_counter()
    for number in range(DOCUMENTS):
        one = library.artifact(number)
        values = (number, 0, one.path, one.role, one.stage_name, one.content_type, 1, number)
        base.execute("INSERT INTO rows VALUES(?,?,?,?,?,?,?,?)", values)
        base.execute("INSERT INTO texts(rowid, path, body) VALUES(?,?,?)", (number, one.path, one.content.decode()))
        if number % 1000 == 999:
            base.commit()
    base.commit()
    rate = DOCUMENTS / (time.perf_counter() - before)
    took: list[float] = []
    matching = (
        "FROM rows JOIN texts ON texts.rowid = rows.id WHERE texts MATCH ? AND workspace=0 AND role=? AND stage=?"
    )
    for _, path, _ in library.queries("x", 200):
        if sum(took) > 2 * SECONDS:
            break
        given = dict(part.split("=") for part in path.split("?")[1].split("&"))
        bound = (given["q"].replace("+", " "), given["role"], given["stage_name"])
        begun = time.perf_counter()
        base.execute(f"SELECT rows.* {matching} ORDER BY created DESC LIMIT 20", bound).fetchall()
        counts = "count(*), sum(size), count(distinct role), count(distinct stage)"
        base.execute(f"SELECT {counts} {matching}", bound).fetchone()
        for column in ("role", "stage", "type"):
            base.execute(f"SELECT DISTINCT {column} {matching} LIMIT 100", bound).fetchall()
        took.append(time.perf_counter() - begun)
    base.close()
    return rate, statistics.median(took) * 1000


def _pages(
    server: Any, library: Library, slugs: list[str], held: int, note: str, reference: float | None = None
) -> Iterator[Row]:
    """Explorer pages of some workspaces, each of which has `held` artifacts; `reference` is in ms."""
    asked = [one for slug in slugs for one in library.queries(slug, max(20, 400 // len(slugs)))]
    random.Random(3).shuffle(asked)
    server.load(1, 1, asked)
    one = server.load(1, SECONDS, asked)
    yield (
        f"explorer page: q, 2 filters, facets, total; {note}", f"p50 {one['p50']:.1f} ms, p99 {one['p99']:.1f} ms",
        f"SQLite FTS5 in process {reference:.1f} ms" if reference else "",
        f"{one['p50'] / reference:.3f} ×" if reference else "", "p50 ≤ 5 ms, p99 ≤ 25 ms",
    )  # fmt: skip
    many = server.load(16, SECONDS, asked)
    yield f"the same at 16 connections; {note}", f"{many['rate']:.0f}/s, p99 {many['p99']:.1f} ms", "", "", "≥ 300/s"
    base = f"/api/v1/workspaces/{slugs[0]}/artifacts"
    last = min(max(1, held // 20), PAGE_MAX)
    first = server.load(1, SECONDS / 2, [("GET", base, None)])["p50"]
    deep = server.load(1, SECONDS / 2, [("GET", f"{base}?page={last}", None)])["p50"]
    yield f"page {last}; {note}", f"{deep:.2f} ms", f"the first {first:.2f} ms", f"{deep / first:.2f} ×", "≤ 2 ×"


def _late(server: Any, work: Callable[[], object], note: str) -> Row:
    """How late the event loop is meanwhile: the smallest bound that 99 of 100 looks at it kept."""
    before = server.lag()
    work()
    seen = {bound: count - before[bound] for bound, count in server.lag().items()}
    bound = min(bound for bound, count in seen.items() if count >= 0.99 * seen[math.inf])
    within = seen[0.005] / seen[math.inf]
    return f"event loop late, {note}", f"p99 ≤ {bound * 1e3:g} ms, {within:.1%} ≤ 5 ms", "", "", "p99 ≤ 5 ms"


def _ingest(server: Any, slug: str) -> float:
    """Artifacts of 1 KiB a second, durable, 32 connections."""
    content = base64.b64encode(random.Random(1).randbytes(512).hex().encode()).decode()
    address = f"/api/v1/workspaces/{slug}/artifacts"
    requests = [
        ("POST", address, {"path": f"in/{number}.txt", "content_base64": content, "content_type": "text/plain"})
        for number in range(500)
    ]
    rate: float = server.load(32, SECONDS, requests)["rate"]
    return rate


def _fresh(port: int, slug: str) -> Row:
    """A word is looked for as soon as the artifact with it is answered."""

    def one(_: int) -> bool:
        word = uuid.uuid4().hex
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        head = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        content = base64.b64encode(f"the word {word}".encode()).decode()
        body = json.dumps({"path": f"f/{word[:5]}.txt", "content_base64": content, "content_type": "text/plain"})
        link.request("POST", f"/api/v1/workspaces/{slug}/artifacts", body, head)
        link.getresponse().read()
        link.request("GET", f"/api/v1/workspaces/{slug}/artifacts?q={word}", headers=head)
        found = json.loads(link.getresponse().read())
        link.close()
        return len(found["data"]) == 1

    with ThreadPoolExecutor(8) as pool:
        missed = sum(not found for found in pool.map(one, range(200)))
    return "findable when answered: 200 artifacts, 8 at once", f"{missed} missed", "", "", "0"


def search() -> Iterator[Row]:
    """Everything about search, in one workspace."""
    library = Library()
    with folder() as where:
        data = where / "data"
        make_workspaces(where / "none", 1)
        with serving(where / "none") as server:
            at_none = _ingest(server, "w0")
        count = min(DOCUMENTS, _WRITTEN)
        written = _written(data, library, count)
        _brought(data, library, ["w0"], range(count, DOCUMENTS))
        rebuilt = _rebuilt(data)
        rate, median = _fts(where, library)
        yield (
            f"{count:,} artifacts committed, indexed and on disk", f"{written:.0f}/s",
            f"SQLite FTS5 alone, batches of 1,000: {rate:.0f}/s", f"{written / rate:.2f} ×", "≥ 500/s",
        )  # fmt: skip
        with serving(data) as server:
            yield from _pages(server, library, ["w0"], DOCUMENTS, f"{DOCUMENTS:,} in one workspace", median)
            yield _fresh(server.port, "w0")
            at_many = _ingest(server, "w0")
            yield _late(server, lambda: _ingest(server, "w0"), "artifacts at 32 connections")
            asked = library.queries("w0", 400)
            yield _late(server, lambda: server.load(1, SECONDS, asked), "explorer pages at one connection")
        shutil.rmtree(data / "derived/search")
        with serving(data) as server:
            memory = [("GET", "/api/v1/workspaces/w0/memory", None)]
            yield _late(server, lambda: server.load(1, 2 * SECONDS, memory), "search index made anew meanwhile")
            yield (
                f"POST of 1 KiB artifacts, 32 connections, at {DOCUMENTS:,}", f"{at_many:.0f}/s",
                f"at none {at_none:.0f}/s", f"{at_none / at_many:.2f} ×", "≥ 800/s, ≤ 1.5 ×",
            )  # fmt: skip
        yield (f"all indexes of {DOCUMENTS:,} artifacts made again", f"{rebuilt:.1f} s", "", "",
               f"≤ {240 * DOCUMENTS / 100_000:.0f} s")  # fmt: skip


def spread() -> Iterator[Row]:
    """As many artifacts, over many workspaces: pages of some that were asked for before, and of all in turn."""
    library = Library()
    with folder() as where:
        slugs = [f"w{number}" for number in range(SPREAD)]
        make_workspaces(where / "data", SPREAD)
        _brought(where / "data", library, slugs, range(DOCUMENTS))
        rebuilt = _rebuilt(where / "data")
        note = f"{DOCUMENTS:,} over {SPREAD:,} workspaces"
        yield f"all indexes made again; {note}", f"{rebuilt:.1f} s", "", "", f"≤ {240 * DOCUMENTS / 100_000:.0f} s"
        with serving(where / "data") as server:
            yield f"start until ready; {note}", f"{server.ready:.2f} s", "", "", "≤ 2 s"
            held = DOCUMENTS // SPREAD
            yield from _pages(server, library, slugs[:_ASKED], held, f"{note}, {_ASKED} of them asked before")
            yield from _pages(server, library, slugs, held, f"{note}, of all of them")


ALL = {"search": search, "spread": spread}
