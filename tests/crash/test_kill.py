"""The server is killed in the middle of its work, again and again: what it acknowledged is there when it comes back.

One data folder goes through all rounds. `CRASH_ROUNDS` says how many (30 unless told otherwise), and
`CRASH_SEED` which; the seed of a failed run is in its output.
"""

from __future__ import annotations

import gc
import os
import random
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from crash.traffic import Client, Server, Traffic

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "30"))
LONGEST = 1.0 if ROUNDS >= 100 else 0.6
SEED = int(os.environ.get("CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)

pytestmark = [
    pytest.mark.crash,
    pytest.mark.timeout(120 + ROUNDS * 10),
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data")
    try:
        yield server
    finally:
        server.close()
        gc.collect()  # a socket that its clients left open is found here, not in the next test


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=Pat", "-c", "user.email=pat@example.org", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
    )
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def branches(folder: Path) -> list[str]:
    """There may be no evidence yet."""
    return git(folder, "for-each-ref", "--format=%(refname)", "refs/heads").split()


def folders(data: Path) -> list[Path]:
    return sorted(path for path in (data / "workspaces").iterdir() if path.is_dir())


def baseline(tmp_path: Path) -> tuple[float, float]:
    """What a start costs that has nothing to recover: the interpreter, the imports, an empty store; seconds by the
    clock, and of work.
    """
    empty = Server(tmp_path / "empty")
    try:
        times = []
        for _ in range(3):
            times.append((empty.start(), empty.work()))
            empty.stop()
        return min(clock for clock, _ in times), min(work for _, work in times)
    finally:
        empty.close()


def plain_git(data: Path, traffic: Traffic, *, fsck: bool) -> None:
    """What git says, right after the start: the branches hold every acknowledged commit, the checkouts are clean."""
    assert not list((data / "workspaces").rglob("*.lock"))
    by_home: dict[str, set[str]] = {home: set() for home in traffic.homes}
    for home, commit in traffic.commits:
        by_home[home].add(commit)
    for home, wanted in by_home.items():
        folder = data / "workspaces" / home
        assert wanted <= set(git(folder, "rev-list", *branches(folder)).split()), f"{home} lost acknowledged commits"
    for folder in folders(data):
        if folder.name in by_home or fsck:
            assert git(folder, "status", "--porcelain") == ""
        if fsck:
            assert git(folder, "fsck", "--strict", "--full", "--no-dangling", "--no-progress") == ""


def told_once(client: Client, data: Path, traffic: Traffic, *, whole: bool) -> None:
    """The timeline has every commit of the branches once; or, for less than the `whole`, the newest ones."""
    for home in traffic.homes:
        told = [row["id"] for row in client.pages(f"/workspaces/{home}/timeline", 10**6 if whole else 300)]
        assert max(Counter(told).values()) == 1
        folder = data / "workspaces" / home
        if whole:
            lines = [git(folder, "rev-list", "--first-parent", head).split() for head in branches(folder)]
            line = [commit for one in lines for commit in one]
            assert sorted(told) == sorted(line)
        newest = set(told)
        recent = [commit for place, commit in traffic.commits if place == home][-50:]
        assert set(recent) <= newest, f"{home}: the timeline misses acknowledged commits"


def test_killed_in_the_middle_of_its_work(server: Server, tmp_path: Path) -> None:
    print(f"CRASH_SEED={SEED}")
    usual, work = baseline(tmp_path)
    rng, traffic = random.Random(SEED), Traffic(SEED)
    server.start()
    traffic.prepare(server.client)
    extra = []
    for number in range(ROUNDS):
        busy = rng.choice((0.05, 0.3, LONGEST))  # seconds; the longest at the pace of people, not of a flood
        with traffic.running(server.port, 0.05 if busy == LONGEST else 0.0):
            time.sleep(busy * rng.uniform(0.5, 1.5))
            server.kill()
        if rng.random() < 0.2:  # and once more, while it recovers
            server.spawn()
            time.sleep(usual * rng.uniform(0.3, 1.1))
            server.kill()
        server.start()
        extra.append(server.work() - work)
        last = number == ROUNDS - 1
        plain_git(server.data, traffic, fsck=last or number % 10 == 9)
        with server.client() as client:
            traffic.settle(client, whole=last)
            if number % 5 == 4 or last:
                told_once(client, server.data, traffic, whole=last or number % 10 == 9)
    server.stop()
    plain_git(server.data, traffic, fsck=True)
    assert not list((server.data / "journal").iterdir()), "an orderly stop leaves nothing to recover"
    print(f"{traffic.acknowledged} acknowledged; a start is {work:.2f} s of work + {[round(one, 2) for one in extra]}")
    assert traffic.acknowledged > 20 * ROUNDS
    assert statistics.median(extra) < 1.0


def test_a_person_works_in_the_checkout_between_the_kill_and_the_start(server: Server) -> None:
    print(f"CRASH_SEED={SEED}")
    rng, traffic = random.Random(SEED), Traffic(SEED, homes=1)
    server.settings["GITSTORE_CHECKOUT_MODE"] = "manual"  # what is not committed is to stay so
    server.start()
    traffic.prepare(server.client)
    folder = server.data / "workspaces" / traffic.homes[0]
    mine: list[str] = []
    until = time.monotonic() + 10
    while not (folder / ".git/refs/heads/main").exists():  # an answer does not wait for the folder
        assert time.monotonic() < until
        time.sleep(0.05)
    for number in range(4):
        with traffic.running(server.port):
            time.sleep(rng.choice((0.1, 0.5, 1.2)))
            server.kill()
        for lock in (folder / ".git").rglob("*.lock"):
            lock.unlink()  # as git tells the person to
        (folder / "notes.md").write_text(f"committed {number}\n")
        (folder / f"draft-{number}.md").write_text("not committed\n")
        git(folder, "add", "notes.md")
        git(folder, "commit", "-q", "-m", f"notes {number}", "--", "notes.md")
        mine.append(git(folder, "rev-parse", "HEAD").strip())
        server.start()
        with server.client() as client:
            traffic.settle(client)
            wait_for(client, traffic.homes[0], folder, mine[-1])
        for kept in range(number + 1):
            assert (folder / f"draft-{kept}.md").read_text() == "not committed\n"
        assert (folder / "notes.md").read_text() == f"committed {number}\n"
        line = set(git(folder, "rev-list", *branches(folder)).split())
        assert {commit for _, commit in traffic.commits} | set(mine) <= line
        drafts = [f"?? draft-{kept}.md" for kept in range(number + 1)]
        until = time.monotonic() + 10
        while sorted(git(folder, "status", "--porcelain").splitlines()) != drafts:  # the files come after the branch
            assert time.monotonic() < until
            time.sleep(0.05)
        assert git(folder, "fsck", "--strict", "--full", "--no-dangling", "--no-progress") == ""
    server.stop()


def wait_for(client: Client, home: str, folder: Path, commit: str) -> None:
    """Until the person's commit is taken in, which is within about a second of somebody looking at the workspace."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        head = client.read(f"/workspaces/{home}")["head"]
        if commit in git(folder, "rev-list", head, "refs/heads/main").split() and head == shown(folder):
            return
        time.sleep(0.1)
    raise AssertionError(f"{commit} was not taken in")


def shown(folder: Path) -> str:
    return git(folder, "rev-parse", "refs/heads/main").strip()
