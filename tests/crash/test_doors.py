"""Every door at once on one workspace, while the server is killed again and again: nothing acknowledged goes.

`make crash` (or CRASH_ROUNDS of 100 and more) runs it for 60 s, else it takes 12 s. `CRASH_SEED` says what everybody
does; the seed of a failed run is in its output.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import started

from crash import doors
from crash.doors import HOME, Caller, Committer, Ledger, Pusher, Saver, Writer, git
from crash.traffic import API, Client, Server

SECONDS = 60 if int(os.environ.get("CRASH_ROUNDS", "0")) >= 100 else 12
SEED = int(os.environ.get("CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)

pytestmark = [
    pytest.mark.crash,
    pytest.mark.timeout(SECONDS * 3 + 240),
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data")
    try:
        yield server
    finally:
        server.close()
        gc.collect()  # a socket that its clients left open is found here, not in the next test


def begin(server: Server, owners: list[str]) -> Path:
    """A workspace with the shared document, as a person wrote it; its folder."""
    server.start()
    folder = server.data / "workspaces" / HOME
    with server.client() as client:
        answer = client.ask("POST", f"{API}/workspaces", {"name": HOME, "slug": HOME, "memory": {"first": 1}})
        assert answer.status == 201, answer
        wait(lambda: (folder / "memory/first.yaml").exists(), "the folder is not made")
        (folder / doors.SHARED).write_text(doors.shared(owners))
        wait(
            lambda: client.ask("GET", f"{API}/workspaces/{HOME}/memory/shared").status == 200,
            "the document is not taken in",
        )
    return folder


def wait(met: object, what: str, seconds: float = 45) -> None:
    assert callable(met)
    until = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < until, what
        time.sleep(0.05)


def settled(client: Client, folder: Path) -> bool:
    """Whether everything that was saved is taken in, and the folder is what main is."""
    if client.read(f"/workspaces/{HOME}/checkout")["pending"]:
        return False
    head = client.read(f"/workspaces/{HOME}")["head"]
    shown = git(folder, "rev-parse", "HEAD").strip()
    return head == shown and git(folder, "--no-optional-locks", "status", "--porcelain") == ""


def settle(client: Client, folder: Path) -> list[str]:
    """What keeps it from coming to rest, if anything."""
    try:
        wait(lambda: settled(client, folder), "it does not come to rest", 30)
    except AssertionError as error:
        state = client.read(f"/workspaces/{HOME}/checkout")
        return [f"{str(error).splitlines()[0]}: {state}, git status: {git(folder, 'status', '--porcelain')}"]
    return []


def everything(ledger: Ledger, server: Server, folder: Path, owners: list[str]) -> list[str]:
    """What is not as it was promised, while the server runs."""
    with server.client() as client:
        return settle(client, folder) + doors.missing(ledger, folder, owners) + doors.differing(ledger, client)


def timeline(server: Server) -> list[str]:
    with server.client() as client:
        return [row["id"] for row in client.pages(f"/workspaces/{HOME}/timeline")]


def at_rest(server: Server, folder: Path) -> list[str]:
    """What git and `gitstore verify` have to say about a store whose server was stopped."""
    found = []
    if (status := git(folder, "status", "--porcelain")) != "":
        found.append(f"git status: {status}")
    if (faults := doors.run(folder, "fsck", "--strict", "--full", "--no-dangling", "--no-progress")).text != "":
        found.append(f"git fsck: {faults.text[:1000]}")
    if locks := [str(path) for path in (folder / ".git").rglob("*.lock")]:
        found.append(f"locks are left: {locks}")
    if list((server.data / "journal").iterdir()):
        found.append("an orderly stop left something to recover")
    done = started.run("verify", "--data", server.data, timeout=600)  # a long soak makes tens of thousands of commits
    if done.returncode != 0:
        found.append(f"gitstore verify: {done.stdout[-1500:]}{done.stderr[-1500:]}")
    return found


def test_every_door_at_once_and_the_server_killed(server: Server, tmp_path: Path) -> None:
    print(f"CRASH_SEED={SEED}")
    rng, ledger, stop = random.Random(SEED), Ledger(), threading.Event()
    callers, people, pushers = [f"api{n}" for n in range(4)], ["rosa", "sam"], ["pia", "pol"]
    owners = [*callers, *people, *pushers]
    folder = begin(server, owners)
    writers: list[Writer] = [Caller(name, SEED, ledger, stop, server.port) for name in callers]
    writers += [Committer("rosa", SEED, ledger, stop, folder), Saver("sam", SEED, ledger, stop, folder)]
    writers += [Pusher(name, SEED, ledger, stop, doors.clone(server, tmp_path / name)) for name in pushers]
    for writer in writers:
        writer.start()
    kills = []
    until = time.monotonic() + SECONDS
    while time.monotonic() < until and not ledger.wrong:
        time.sleep(rng.uniform(2, 6))
        server.kill()
        kills.append(round(time.monotonic() - ledger.began, 2))
        time.sleep(rng.choice((0.0, 0.3, 1.0)))
        server.start()
    stop.set()
    for writer in writers:
        writer.join(120)
        assert not writer.is_alive(), f"{writer.name} does not end"
    print(f"{ledger.counts}; killed at {kills} s")
    wrong = list(ledger.wrong)
    wrong += everything(ledger, server, folder, owners)
    server.stop()
    wrong += [f"after the stop: {one}" for one in (*at_rest(server, folder), *doors.missing(ledger, folder, owners))]
    server.start()
    wrong += [f"after a new start: {one}" for one in everything(ledger, server, folder, owners)]
    told = timeline(server)
    server.stop()
    wrong += [f"after the second stop: {one}" for one in at_rest(server, folder)]
    shutil.rmtree(server.data / "derived")
    server.start()
    again = timeline(server)
    if again != told:
        wrong.append(f"the rebuilt timeline differs: {len(again)} rows, not {len(told)}")
    wrong += [f"with new indexes: {one}" for one in everything(ledger, server, folder, owners)]
    assert not wrong, f"CRASH_SEED={SEED}, killed at {kills} s\n" + "\n".join(wrong)
    assert ledger.counts["calls"] > 3 * SECONDS, ledger.counts
    assert min(ledger.counts.get(what, 0) for what in ("commits by hand", "saves", "pushes", "artifacts")) > 3


def test_ten_people_push_while_the_api_writes_fifty_times_a_second(server: Server, tmp_path: Path) -> None:
    print(f"CRASH_SEED={SEED}")
    ledger, stop, pushes = Ledger(), threading.Event(), 2
    callers, pushers = [f"api{n}" for n in range(4)], [f"push{n}" for n in range(10)]
    owners = [*callers, *pushers]
    folder = begin(server, owners)
    writers = [Caller(name, SEED, ledger, stop, server.port, pace=0.08) for name in callers]
    people = [Pusher(name, SEED, ledger, stop, doors.clone(server, tmp_path / name), most=pushes) for name in pushers]
    for writer in (*writers, *people):
        writer.start()
    wanted = pushes * len(people)
    wait(lambda: ledger.wrong or ledger.counts.get("pushes", 0) >= wanted, "the pushes take too long", 180)
    stop.set()
    for writer in (*writers, *people):
        writer.join(60)
    print(ledger.counts)
    wrong = ledger.wrong + everything(ledger, server, folder, owners)
    server.stop()
    wrong += at_rest(server, folder)
    assert not wrong, "\n".join(wrong)
    assert ledger.counts["pushes"] == wanted
    assert "pushes that failed" not in ledger.counts
