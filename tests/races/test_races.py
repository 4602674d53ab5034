"""Many clients at the same moment: nothing is lost, nobody is refused without need, and exactly one wins a race."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from contract.client import Answer, Client, slug
from contract.conftest import Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("races") / "data") as running:
        yield running


def at_once(server: Server, count: int, work: Callable[[int, Client], Any]) -> list[Any]:
    """Runs `work(n, client)` in `count` threads that all begin together, each on a connection of its own."""
    barrier = threading.Barrier(count)

    def one(number: int) -> Any:
        with server.client() as client:
            client.get("/auth/me")
            barrier.wait(20)
            return work(number, client)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def workspace(server: Server, **more: Any) -> str:
    with server.client() as client:
        answer = client.post("/workspaces", {"name": "w", "slug": slug(), **more})
        assert answer.status == 201, answer.body
        return str(answer.data["id"])


def statuses(answers: list[Answer]) -> list[int]:
    return sorted(answer.status for answer in answers)


def test_different_keys_set_and_deleted_by_32_clients(server: Server) -> None:
    one = workspace(server, memory={f"old-{n}": n for n in range(32)})

    def work(number: int, client: Client) -> list[int]:
        seen = []
        for turn in range(6):
            seen.append(client.patch(f"/workspaces/{one}/memory", {"key": f"key-{number}", "value": turn}).status)
            if turn == 2:
                seen.append(client.delete(f"/workspaces/{one}/memory/old-{number}").status)
            if turn == 3 and number % 2:
                seen.append(client.delete(f"/workspaces/{one}/memory/key-{number}").status)
        return seen

    for seen in at_once(server, 32, work):
        assert set(seen) == {200}
    with server.client() as client:
        memory = client.get(f"/workspaces/{one}/memory").data
        assert memory == {f"key-{n}": 5 for n in range(32)}
        total = client.get(f"/workspaces/{one}/timeline?per_page=1").meta["total"]
        assert total == 1 + 32 * 6 + 32 + 16


def test_patches_of_different_fields_never_undo_each_other(server: Server) -> None:
    one = workspace(server)
    for turn in range(15):
        fields = [{"name": f"name {turn}"}, {"settings": {"turn": turn}}, {"description": f"text {turn}"}]
        answers = at_once(server, 3, lambda n, client, fields=fields: client.patch(f"/workspaces/{one}", fields[n]))
        assert statuses(answers) == [200, 200, 200]
        with server.client() as client:
            found = client.get(f"/workspaces/{one}").data
        assert (found["name"], found["settings"], found["description"]) == (
            f"name {turn}", {"turn": turn}, f"text {turn}",
        )  # fmt: skip


def test_ten_creations_of_one_slug(server: Server) -> None:
    for _ in range(5):
        wanted = slug()
        answers = at_once(
            server, 10, lambda n, client, wanted=wanted: client.post("/workspaces", {"name": f"w{n}", "slug": wanted})
        )
        assert statuses(answers) == [201] + [409] * 9


def test_two_writers_with_the_same_etag(server: Server) -> None:
    one = workspace(server, memory={"k": 0})
    with server.client() as client:
        for turn in range(20):
            tag = client.get(f"/workspaces/{one}/memory/k").etag
            answers = at_once(
                server, 2,
                lambda n, other, tag=tag, turn=turn: other.patch(
                    f"/workspaces/{one}/memory", {"key": "k", "value": [turn, n]}, headers={"If-Match": tag}
                ),
            )  # fmt: skip
            assert statuses(answers) == [200, 412]
            whole = client.get(f"/workspaces/{one}").etag
            answers = at_once(
                server, 2,
                lambda n, other, tag=whole, turn=turn: other.patch(
                    f"/workspaces/{one}", {"name": f"{turn} {n}"}, headers={"If-Match": tag}
                ),
            )  # fmt: skip
            assert statuses(answers) == [200, 412]


def test_specs_get_consecutive_versions(server: Server) -> None:
    one = workspace(server)
    answers = at_once(server, 12, lambda n, client: client.put(f"/workspaces/{one}/spec", {"config": {"n": n}}))
    assert sorted(answer.data["version"] for answer in answers) == list(range(1, 13))
    with server.client() as client:
        for answer in answers:
            version = answer.data["version"]
            assert client.get(f"/workspaces/{one}/spec?version={version}").data["spec"] == answer.data["spec"]


def test_one_request_id_makes_one_artifact(server: Server) -> None:
    one = workspace(server)
    body = {"path": "a.txt", "content_base64": "aGVsbG8=", "request_id": "the-same"}
    answers = at_once(server, 8, lambda n, client: client.post(f"/workspaces/{one}/artifacts", body))
    assert statuses(answers) == [201] * 8
    assert len({answer.data["id"] for answer in answers}) == 1
    with server.client() as client:
        assert client.get(f"/workspaces/{one}/artifacts").meta["total"] == 1
        assert client.post(f"/workspaces/{one}/artifacts", {**body, "path": "b.txt"}).status == 409


def test_a_deletion_racing_writers(server: Server) -> None:
    for _ in range(5):
        one = workspace(server)

        def work(number: int, client: Client, one: str = one) -> list[int]:
            if number == 0:
                return [client.delete(f"/workspaces/{one}").status]
            answers = (client.patch(f"/workspaces/{one}/memory", {"key": f"k{number}", "value": n}) for n in range(10))
            return [answer.status for answer in answers]

        first, *others = at_once(server, 6, work)
        assert first == [200]
        for seen in others:
            assert set(seen) <= {200, 404}
            assert seen == sorted(seen), "once it is gone it stays gone"


def test_readers_see_the_line_in_its_order(server: Server) -> None:
    one = workspace(server)
    done = threading.Event()

    def work(number: int, client: Client) -> list[str]:
        if number < 4:
            for turn in range(40):
                assert client.patch(f"/workspaces/{one}/memory", {"key": f"k{number}", "value": turn}).status == 200
            done.set()
            return []
        seen = []
        while not done.is_set():
            head = client.get(f"/workspaces/{one}").data["head"]
            if not seen or seen[-1] != head:
                seen.append(head)
        return seen

    readers = at_once(server, 8, work)[4:]
    with server.client() as client:
        rows: list[str] = []
        page = 1
        while found := client.get(f"/workspaces/{one}/timeline?per_page=100&page={page}").data:
            rows += [row["id"] for row in found]
            page += 1
    order = {commit: at for at, commit in enumerate(reversed(rows))}
    for seen in readers:
        places = [order[head] for head in seen]
        assert places == sorted(places)
        assert len(places) > 3


def test_the_checkout_is_clean_after_all_that(server: Server, tmp_path: Path) -> None:
    deadline = time.monotonic() + 10
    while server.store.publisher.waiting and time.monotonic() < deadline:
        time.sleep(0.05)
    for folder in server.store.layout.workspaces.iterdir():
        for words in (["status", "--porcelain"], ["fsck", "--strict"]):
            done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True)
            assert (done.returncode, done.stdout) == (0, ""), (folder, done.stdout, done.stderr)
