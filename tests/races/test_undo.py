"""Undoing while everybody writes: nothing that was acknowledged is lost, and change sets are whole or not there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from contract.client import Client, slug
from contract.conftest import Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("undoing") / "data") as running:
        yield running


def workspace(client: Client, **more: Any) -> str:
    return str(client.post("/workspaces", {"name": "w", "slug": slug(), **more}).data["id"])


def test_reverts_among_writers(server: Server) -> None:
    """Writers set keys, and fields of one shared document, that the cause never wrote at; the cause writes its own."""
    with server.client() as client:
        one = workspace(client, memory={"shared": {f"f{n}": 0 for n in range(4)}})
    at, rounds = f"/workspaces/{one}", 12
    done = threading.Event()

    def writer(number: int) -> int:
        with server.client() as client:
            for turn in range(1, rounds + 1):
                assert client.patch(f"{at}/memory", {"key": f"own-{number}", "value": turn}).status == 200
                if number % 2:
                    continue
                while True:  # the field of this writer in the document that everybody writes
                    found = client.get(f"{at}/memory/shared")
                    body = {"key": "shared", "value": {**found.data["value"], f"f{number}": turn}}
                    if client.patch(f"{at}/memory", body, headers={"If-Match": found.etag}).status == 200:
                        break
        return number

    def cause(_: int) -> None:
        with server.client("agent") as client:
            headers = {"X-Workflow-Id": "bad"}
            turn = 0
            while not done.is_set():
                turn += 1
                client.patch(f"{at}/memory", {"key": f"bad-{turn % 5}", "value": turn}, headers=headers)
                found = client.get(f"{at}/memory/shared")
                value = {**found.data["value"], "bad": turn}
                client.patch(
                    f"{at}/memory", {"key": "shared", "value": value}, headers={**headers, "If-Match": found.etag}
                )

    def undoer(_: int) -> int:
        count = 0
        with server.client() as client:
            while not done.is_set():
                answer = client.post(f"{at}/revert", {"workflow_id": "bad", "on_conflict": "keep"})
                assert answer.status in (200, 404), answer.body
                count += answer.status == 200 and answer.data["commit"] is not None
        return count

    with ThreadPoolExecutor(7) as pool:
        writers = [pool.submit(writer, number) for number in range(4)]
        others = [pool.submit(cause, 0), pool.submit(undoer, 0), pool.submit(undoer, 1)]
        try:
            assert sorted(one.result(100) for one in writers) == list(range(4))
        finally:
            done.set()
        assert sum(one.result(60) or 0 for one in others) > 0
    with server.client() as client:
        last = client.post(f"{at}/revert", {"workflow_id": "bad", "on_conflict": "force"})
        assert last.status == 200, last.body
        memory = client.get(f"{at}/memory").data
        assert {key: value for key, value in memory.items() if key.startswith("own-")} == {
            f"own-{number}": rounds for number in range(4)
        }
        assert memory["shared"] == {"f0": rounds, "f1": 0, "f2": rounds, "f3": 0}
        assert not any(key.startswith("bad") for key in memory)
        assert client.get(at).data["problems"] == []


def test_change_sets_among_each_other(server: Server) -> None:
    with server.client() as client:
        one = workspace(client)
    at = f"/workspaces/{one}"

    def work(number: int) -> list[int]:
        seen = []
        with server.client() as client:
            for turn in range(10):
                pair = [{"op": "memory.set", "key": f"{side}-{number}", "value": turn} for side in ("left", "right")]
                if turn == 5:
                    pair.append({"op": "file.delete", "key": "none"})  # which fails, and takes the others with it
                seen.append(client.post(f"{at}/changes", {"message": "both", "operations": pair}).status)
                found = client.get(f"{at}/memory").data
                sides = [[found.get(f"{side}-{n}") for n in range(6)] for side in ("left", "right")]
                assert sides[0] == sides[1]
        return seen

    with ThreadPoolExecutor(6) as pool:
        for seen in pool.map(work, range(6)):
            assert seen == [200] * 5 + [404] + [200] * 4
    with server.client() as client:
        assert client.get(f"{at}/timeline?per_page=1").meta["total"] == 1 + 6 * 9
