"""The README's walk, as it is written there: its shell blocks, in their order, against `gitstore serve`."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from git.living import until

README = (Path(__file__).parents[2] / "README.md").read_text()
WALK = README[README.index("## A walk through the API") : README.index("## On disk")]
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", WALK, re.MULTILINE | re.DOTALL)
MARK = "=-=-= block"


class Walk:
    """What the blocks printed, by their number; `home` is where they ran."""

    def __init__(self, home: Path, printed: str) -> None:
        self.home = home
        self.printed = printed.split(MARK)[1:]

    def block(self, text: str) -> str:
        """The output of the only block that contains a text."""
        (number,) = [at for at, block in enumerate(BLOCKS) if text in block]
        return self.printed[number].split("\n", 1)[1]

    def answers(self, text: str) -> list[Any]:
        """The JSON answers in it."""
        return [json.loads(line) for line in self.block(text).splitlines() if line.startswith('{"')]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    home = tmp_path_factory.mktemp("walk")
    (home / "tmp").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = Path(sys.executable).with_name("gitstore")
    server = subprocess.Popen(
        [command, "serve", "--data", "data", "--port", str(port)], cwd=home, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        said = [server.stdout.readline() for _ in range(4)]
        key = re.search(r"gs_admin_\w+", "".join(said))
        assert key is not None, said
        script = f"set -eu; KEY={key[0]}\n"
        for number, block in enumerate(BLOCKS):
            script += f"echo; echo '{MARK} {number}'\n{block}\n"
        script = script.replace("127.0.0.1:8080", f"127.0.0.1:{port}").replace("/tmp/", f"{home}/tmp/")
        done = subprocess.run(["bash", "-c", script], cwd=home, capture_output=True, text=True, timeout=110)
        assert done.returncode == 0, f"{done.stdout[-300:]}\n{done.stderr[-1000:]}"
        yield Walk(home, done.stdout)
    finally:
        server.send_signal(signal.SIGTERM)
        with server:
            assert server.wait(20) == 0


def test_no_answer_is_an_error_but_the_one_that_is_meant_to_be(walk: Walk) -> None:
    failed = [
        (number, json.loads(line)["error"]["code"])
        for number, text in enumerate(walk.printed)
        for line in text.splitlines()
        if line.startswith('{"error"')
    ]
    assert [code for _, code in failed] == ["PRECONDITION_FAILED"]
    assert "If-Match" in BLOCKS[failed[0][0]]


def test_search_finds_the_evidence(walk: Walk) -> None:
    (answer,) = walk.answers("artifacts?q=")
    assert [row["logical_path"] for row in answer["data"]] == ["trains/2026-12-01/canary.csv"]


def test_what_a_workflow_wrote_is_undone(walk: Walk) -> None:
    made, tried, done, value = walk.answers("dry_run=true")
    assert [one["changed"] for one in made["data"]["results"]] == [True, True]
    assert tried["data"]["commit"] is None
    assert [one["path"] for one in tried["data"]["changes"]] == ["files/freeze.md", "memory/release-policy.yaml"]
    assert [done["data"][name] for name in ("changes", "reverted", "conflicts")] == [
        tried["data"][name] for name in ("changes", "reverted", "conflicts")
    ]
    assert value["data"]["value"] == {"owner": "release-engineering", "freeze_days": ["2026-12-24"]}
    assert value["data"]["commit"] == done["data"]["commit"]


def test_an_edit_of_the_folder_is_in_the_api(walk: Walk) -> None:
    (answer,) = walk.answers("<<'YAML'")
    assert answer["data"]["value"] == {"this-week": "ada", "next-week": "grace"}
    assert answer["data"]["actor"]["type"] == "person"
    assert walk.block("<<'YAML'").rstrip().endswith(": add memory/on-call.yaml")


def test_a_push_is_in_the_api_and_in_the_folder(walk: Walk) -> None:
    (answer,) = walk.answers("git clone")
    assert answer["data"]["value"]["this-week"] == "grace"
    assert (answer["data"]["actor"]["name"], answer["data"]["actor"]["id"]) == ("Grace", "grace@northgate.example")
    assert "\nthis-week: grace\n" in walk.block("git clone")


def test_a_broken_file_is_a_problem_and_nothing_else(walk: Walk) -> None:
    problems, value = walk.answers("this-week: ada\\n")
    (problem,) = problems["data"]
    assert (problem["path"], problem["line"], problem["kind"]) == ("memory/on-call.yaml", 2, "invalid")
    assert value["data"]["value"]["this-week"] == "grace"
    (mended,) = walk.answers("checkout -q --")
    assert mended["data"] == []


def test_two_people_and_an_agent_all_have_their_way(walk: Walk) -> None:
    shown = re.search(r"^```yaml\n(.*?)^```$", WALK[WALK.index("refs/for/main") :], re.MULTILINE | re.DOTALL)
    assert shown is not None
    assert shown[1] in walk.block("rota-agent")
    folder = walk.home / "data/workspaces/platform"
    done = subprocess.run(["git", "-C", folder, "fsck", "--strict", "--no-dangling"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")

    def status() -> str:
        words = ["git", "-C", folder, "--no-optional-locks", "status", "--porcelain"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    until(lambda: status() == "", 20, what=status)  # an answer does not wait for the folder
