"""Everybody at every door for a long time, with kills: memory, open files and disk stay within their bounds, and at the
end search says what git says.

`make soak` runs it for half an hour (SOAK_SECONDS of 1800), else it takes two minutes, at an easy pace. What it saw it
prints.
"""

from __future__ import annotations

import gc
import os
import random
import re
import shutil
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from crash import doors
from crash.doors import HOME, Caller, Committer, Ledger, Pusher, Saver, Writer, git
from crash.test_doors import at_rest, begin, everything
from crash.traffic import API, Client, Server

SECONDS = float(os.environ.get("SOAK_SECONDS", "120"))
LONG = SECONDS >= 300
SEED = int(os.environ.get("CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)
MIB = 1 << 20
# The bounds that docs/configuration.md states, with what may come between two rounds of maintenance.
LOOSE, PACKS, JOURNAL = 20_000, 60, 32 * MIB
RECENT = 30.0  # seconds: what pushes brought is left alone for 20, however many they are
TIMES, SLACK = 4, 8 * MIB  # of what git needs for the same history in one pack, and besides
MEMORY, FILES = 64 * MIB, 30  # how much more at the end than in the middle, of a server that is not killed in between

pytestmark = [pytest.mark.crash, pytest.mark.timeout(SECONDS * 3 + 600)]


class Sample(NamedTuple):
    """What the server and its children use: seconds, anonymous memory in bytes, open files; and the disk in bytes."""

    at: float
    memory: int
    files: int
    disk: int


def look(pid: int, data: Path, began: float) -> Sample:
    memory = files = 0
    for one in family(pid):
        try:
            status = Path(f"/proc/{one}/status").read_text()
            files += len(os.listdir(f"/proc/{one}/fd"))
        except OSError:
            continue  # a git that has ended
        found = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
        memory += int(found[1]) * 1024 if found is not None else 0
    return Sample(time.monotonic() - began, memory, files, size(data))


def kept(server: Server) -> str:
    """What the server keeps in memory to be read again, in MiB."""
    with server.client() as client:
        said = client.ask("GET", "/metrics").body.decode()
    found = re.findall(r'^gitstore_cache_bytes{cache="([^"]+)"} (\S+)$', said, re.MULTILINE)
    return ", ".join(f"{name} {float(figure) / MIB:.0f}" for name, figure in found)


def family(pid: int) -> list[int]:
    """A process and what it started for good: the children that serve a request come and go, and are no leak."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            try:
                command = Path(f"/proc/{child}/cmdline").read_bytes()
            except OSError:
                continue
            if b"python" in command:
                found += family(int(child))
    return found


def size(folder: Path) -> int:
    """The bytes that a folder takes, each file once."""
    seen: dict[tuple[int, int], int] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                state = os.lstat(f"{place}/{name}")
            except FileNotFoundError:
                continue
            seen[state.st_dev, state.st_ino] = state.st_blocks * 512
    return sum(seen.values())


class Carrier(Writer):
    """Uploads large artifacts of few contents, looks at them, deletes most of them again."""

    def __init__(self, name: str, seed: int, ledger: Ledger, stop: threading.Event, port: int, bytes_: int) -> None:
        super().__init__(name, seed, ledger, stop)
        self._client = Client(port)
        self._contents = [random.Random(number).randbytes(bytes_) for number in range(4)]
        self._held: list[str] = []

    def leave(self) -> None:
        self._client.close()

    def step(self) -> None:
        try:
            self._carry()
        except (OSError, EOFError, doors.http.client.HTTPException):
            time.sleep(0.1)
        self._stopping.wait(self.rng.uniform(0.5, 1.5) * (10 if LONG else 4))

    def _carry(self) -> None:
        content = self.rng.choice(self._contents)
        path = f"large/{self.number}.bin"
        answer = self._client.send(f"{API}/workspaces/{HOME}/artifacts?path={path}", content)
        assert answer.status == 201, answer.body[:300]
        self._held.append(answer.data["id"])
        got = self._client.ask("GET", f"{API}/workspaces/{HOME}/artifacts/{self._held[-1]}")
        assert got.body == content
        self.ledger.count("large")
        if len(self._held) > 3:
            gone = self._held.pop(0)
            assert self._client.ask("DELETE", f"{API}/workspaces/{HOME}/artifacts/{gone}").status in (204, 404)


class Reader(Writer):
    """Searches, pages, clones nothing: what people look at while others write."""

    def __init__(self, name: str, seed: int, ledger: Ledger, stop: threading.Event, port: int) -> None:
        super().__init__(name, seed, ledger, stop)
        self._client = Client(port)

    def leave(self) -> None:
        self._client.close()

    def step(self) -> None:
        base = f"{API}/workspaces/{HOME}"
        asked = self.rng.choice(
            (
                f"{base}/artifacts?q=api{self.rng.randrange(4)}",
                f"{base}/timeline",
                f"{base}/artifacts?sort=largest",
                base,
            )
        )
        try:
            answer = self._client.ask("GET", asked)
        except (OSError, doors.http.client.HTTPException):
            time.sleep(0.1)
            return
        if answer.status == 503:  # right after a start, before the index has everything, on a busy machine
            assert b"the search index is being made again" in answer.body, answer.body[:300]
            self.ledger.count("told to wait")
        else:
            assert answer.status == 200, (asked, answer.status, answer.body[:300])
            self.ledger.count("reads")
        time.sleep(0.1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data")
    try:
        yield server
    finally:
        server.close()
        gc.collect()


def searched(client: Client, folder: Path, rng: random.Random) -> list[str]:
    """What the explorer and the words of artifacts say, held against the tree of the branch."""
    wrong: list[str] = []
    lines = git(folder, "ls-tree", "-r", "--name-only", "evidence").splitlines()
    there = {line.split("/")[3] for line in lines if line.startswith("artifacts/")}
    rows = {row["id"]: row for row in client.pages(f"/workspaces/{HOME}/artifacts?sort=oldest")}
    if set(rows) != there:
        wrong.append(f"the explorer has {len(rows)} artifacts, git {len(there)}: {set(rows) ^ there}"[:500])
    texts = [row for row in rows.values() if row["logical_path"].startswith("out/")]
    for row in rng.sample(texts, min(20, len(texts))):
        word = row["logical_path"]
        found = {one["id"] for one in client.pages(f"/workspaces/{HOME}/artifacts?q=%22{word}%22")}
        wanted = {one["id"] for one in texts if word in one["logical_path"]}
        if not wanted <= found:
            wrong.append(f"{word!r} finds {sorted(found)}, not {sorted(wanted)}")
    return wrong


def on_disk(server: Server, folder: Path, scratch: Path) -> tuple[dict[str, Any], list[str]]:
    """What is on the disk of a store that was stopped, and what of it is over the bounds."""
    objects = folder / ".git/objects"
    loose = sum(len(os.listdir(place)) for place in objects.iterdir() if len(place.name) == 2)
    times = sorted(pack.stat().st_mtime for pack in objects.glob("pack/*.pack"))
    packs = sum(time < times[-1] - RECENT for time in times)
    git(scratch, "clone", "-q", "--mirror", f"file://{folder}", str(scratch / "packed"))
    git(scratch / "packed", "repack", "-adq")
    least = size(scratch / "packed/objects")
    figures = {
        "loose": loose, "packs": len(times), "older packs": packs, "objects": size(objects), "packed": least,
        "journal": size(server.data / "journal"), "derived": size(server.data / "derived"),
        "large": size(server.data / "large"), "all": size(server.data),
    }  # fmt: skip
    wrong = []
    if loose > LOOSE or packs > PACKS:
        wrong.append(f"{loose} loose objects, {packs} packs, of {len(times)}, that did not come just now")
    if figures["objects"] > TIMES * least + SLACK + loose * 4096:
        wrong.append(f"the objects take {figures['objects']} bytes, packed they are {least}")
    if figures["journal"] > JOURNAL:
        wrong.append(f"the journal has {figures['journal']} bytes")
    return figures, wrong


def flat(samples: list[Sample], more_files: int = FILES) -> list[str]:
    """What the last third needs more than the middle one."""
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[2 * third :]
    wrong = []
    if (
        more := statistics.median(one.memory for one in last) - statistics.median(one.memory for one in middle)
    ) > MEMORY:
        wrong.append(f"{more / MIB:.0f} MiB more memory at the end than in the middle")
    files = statistics.median(one.files for one in last) - statistics.median(one.files for one in middle)
    if files > more_files:
        wrong.append(f"{files} more open files at the end than in the middle")
    return wrong


def test_a_long_time_at_every_door(server: Server, tmp_path: Path) -> None:
    print(f"CRASH_SEED={SEED}")
    rng, ledger, stop = random.Random(SEED), Ledger(), threading.Event()
    callers, people, pushers = [f"api{n}" for n in range(4 if LONG else 2)], ["rosa", "sam"], ["pia"]
    owners = [*callers, *people, *pushers]
    folder = begin(server, owners)
    writers: list[Writer] = [Caller(name, SEED, ledger, stop, server.port, pace=0.1) for name in callers]
    writers += [Committer("rosa", SEED, ledger, stop, folder), Saver("sam", SEED, ledger, stop, folder)]
    writers += [Pusher(name, SEED, ledger, stop, doors.clone(server, tmp_path / name)) for name in pushers]
    writers += [Carrier("carl", SEED, ledger, stop, server.port, 5 * MIB if LONG else 100_000)]
    writers += [Reader("rita", SEED, ledger, stop, server.port)]
    for writer in writers:
        writer.rest = 0.0 if LONG else 2.5
        writer.start()
    began, kills = time.monotonic(), 0
    samples: list[Sample] = []
    # Half of the time with kills, then one server for the other half, which has to stay as small as it was.
    while time.monotonic() - began < SECONDS / 2 and not ledger.wrong:
        stop.wait(rng.uniform(5, 60) if LONG else rng.uniform(4, 16))
        server.kill()
        kills += 1
        time.sleep(rng.choice((0.0, 0.5)))
        server.start()
    while time.monotonic() - began < SECONDS and not ledger.wrong:
        samples.append(look(server.pid, server.data, began))
        if LONG and len(samples) % 12 == 0:
            print(f"{samples[-1].at:6.0f} s {samples[-1].memory // MIB} MiB {samples[-1].files} files "
                  f"{samples[-1].disk // MIB} MiB of disk; {kept(server)}", flush=True)  # fmt: skip
        stop.wait(5 if LONG else 2)
    stop.set()
    for writer in writers:
        writer.join(120)
        assert not writer.is_alive(), f"{writer.name} does not end"
    wrong = list(ledger.wrong)
    wrong += everything(ledger, server, folder, owners)
    with server.client() as client:
        wrong += searched(client, folder, rng)
    server.stop()
    wrong += [f"after the stop: {one}" for one in at_rest(server, folder)]
    figures, over = on_disk(server, folder, tmp_path)
    if not ledger.wrong:  # else it ended early, between kills that let no maintenance come to its end
        # In a short time packs come, and are open, that were not folded yet.
        wrong += over + flat(samples, FILES if LONG else FILES + 2 * PACKS)
    shutil.rmtree(server.data / "derived")
    server.start()
    with server.client() as client:
        wrong += [f"with new indexes: {one}" for one in searched(client, folder, rng)]
    server.stop()
    print(f"{ledger.counts}; {kills} kills; {figures}; {samples[:1]} … {samples[-1:]}")
    assert not wrong, f"CRASH_SEED={SEED}\n" + "\n".join(wrong)
    assert kills >= 2
    assert ledger.counts.get("told to wait", 0) <= ledger.counts["reads"] / 50
    assert min(ledger.counts.get(what, 0) for what in ("calls", "saves", "pushes", "artifacts", "large", "reads")) > 1


def test_the_figures_are_of_the_server(server: Server) -> None:
    """A check of the check: what is held open or kept in memory is counted."""
    server.start()
    before = look(server.pid, server.data, 0.0)
    links = [Client(server.port) for _ in range(20)]
    for link in links:
        assert link.ask("GET", "/readyz").status == 200
    after = look(server.pid, server.data, 0.0)
    for link in links:
        link.close()
    assert after.files >= before.files + 15
    assert before.memory > 10 * MIB
    assert before.disk > 0
    (server.data / "more").write_bytes(b"x" * MIB)
    assert look(server.pid, server.data, 0.0).disk >= after.disk + MIB
    steady = [Sample(at, 100 * MIB, 50, 0) for at in range(9)]
    assert flat(steady) == []
    assert len(flat([*steady[:6], *(Sample(at, 200 * MIB, 90, 0) for at in range(3))])) == 2
