"""Evidence as it was: after random histories, the explorer answers for each commit what it answered when it was new."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from folders import WHO, fill

from gitstore import artifacts, workflows
from gitstore.errors import NotFound
from gitstore.explorer import Explorer, ExplorerPage, parse_query
from gitstore.past import Past
from gitstore.records import Evidence
from gitstore.store import Store
from gitstore.work import TaskNew, Work

NOW = 1 << 45
QUERIES = [parse_query(one) for one in (
    {}, {"sort": "name"}, {"sort": "largest", "per_page": "3"}, {"q": "zebra"}, {"q": "quagga report"},
    {"q": "flow-1"}, {"stage_name": "build"}, {"workflow_id": "w0"}, {"q": "zebra", "sort": "relevance"},
)]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "data") as opened:
        fill(opened, keys=1)
        yield opened


class History:
    """Random changes of the evidence of one workspace."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.chance = random.Random(seed)
        self.work = Work(store)
        self.id = store.find("live")
        self.there: list[str] = []
        self.ever: list[str] = []
        self.flows = 0

    def step(self) -> None:
        act = self.chance.choice(("add", "add", "add", "delete", "flow", "task", "rename"))
        if act == "flow" or not self.flows:
            new = workflows.New(f"flow-{self.flows}", id=f"w{self.flows}")
            put = workflows.TaskPut(title="First", stage_name="build")
            self.work.create_workflow(self.id, new, WHO, tasks=[TaskNew(f"t{self.flows}", put)]).result()
            self.flows += 1
        elif act == "rename":
            flow = f"w{self.chance.randrange(self.flows)}"
            patch = workflows.Patch(
                name=f"flow-{self.chance.randrange(3)}", state=self.chance.choice(("active", "failed"))
            )
            self.work.update_workflow(flow, patch, WHO).result()
        elif act == "task":
            put = workflows.TaskPut(
                title=f"title {self.chance.randrange(9)}", stage_name=self.chance.choice(("build", "x"))
            )
            number = self.chance.randrange(self.flows)
            self.work.put_task(f"w{number}", f"t{number}", put, WHO).result()
        elif act == "delete" and self.there:
            gone = self.there.pop(self.chance.randrange(len(self.there)))
            self.store.apply(
                self.id, "evidence",
                lambda draft: artifacts.delete(draft, self.work.artifact(self.id, gone)), WHO,
            ).result()  # fmt: skip
        else:
            word = self.chance.choice(("zebra", "quagga", "okapi"))
            task = f"t{self.chance.randrange(self.flows)}" if self.chance.random() < 0.7 else None
            new = artifacts.New(f"out/report-{len(self.ever)}.md", f"The {word} ran.".encode(), task_id=task)
            made = self.work.add_artifact(self.id, artifacts.check(new), WHO).result().value
            self.there.append(made.id)
            self.ever.append(made.id)

    def pages(self, explorer: Explorer) -> list[ExplorerPage]:
        pages = [explorer.explore(self.id, one, NOW, self.work.text(self.id)) for one in QUERIES]
        for page in pages:
            self.work.tell_indexed(page)
        return pages


@pytest.mark.parametrize("seed", range(4))
def test_each_commit_is_explored_as_it_was(store: Store, seed: int) -> None:
    history = History(store, seed)
    explorer = Explorer(store.catalog, store.search, store.derived.standing)
    seen: dict[str, tuple[list[ExplorerPage], dict[str, Any]]] = {}
    for _ in range(30):
        history.step()
        head = store.load(history.id).visible.evidence.head
        assert head is not None
        single = {one: history.work.artifact(history.id, one) for one in history.there}
        seen[head] = history.pages(explorer), single
    workspace, past, evidence = store.load(history.id), Past(store), Evidence(store)
    for commit in random.Random(seed).sample(sorted(seen), len(seen)):
        moment = past.moment(workspace, commit)
        assert moment.evidence == commit
        pages, single = seen[commit]
        for query, page in zip(QUERIES, pages, strict=True):
            assert evidence.explore(workspace, moment, query, NOW) == page, (commit, query)
        for one in history.ever:
            if one in single:
                assert evidence.artifact(workspace, moment, one.upper()) == single[one]
            else:
                with pytest.raises(NotFound):
                    evidence.artifact(workspace, moment, one)


def test_the_past_is_whole_while_the_search_index_is_made_again(store: Store) -> None:
    history = History(store, 0)
    while not history.there:
        history.step()
    workspace, evidence = store.load(history.id), Evidence(store)
    head = workspace.visible.evidence.head or ""
    found = parse_query({"q": "zebra OR quagga OR okapi"}), parse_query({"q": "ran"})
    pages = [evidence.explore(workspace, Past(store).moment(workspace, head), one, NOW) for one in found]
    assert pages[1].total == 1
    history.step()
    store.feeder.stop()
    store.search.renew()
    again = [evidence.explore(workspace, Past(store).moment(workspace, head), one, NOW) for one in found]
    assert [page.rows for page in again] == [page.rows for page in pages]
    assert {page.standing.index for page in again} == {"rebuilding"}


def test_before_the_first_evidence_there_is_none(store: Store) -> None:
    history = History(store, 0)
    workspace, past = store.load(history.id), Past(store)
    before = past.moment(workspace, workspace.visible.main.head or "")
    history.step()
    page = Evidence(store).explore(workspace, before, QUERIES[0], NOW)
    assert (page.rows, page.total) == ([], 0)
    with pytest.raises(NotFound):
        Evidence(store).artifact(workspace, before, "0" * 8)
