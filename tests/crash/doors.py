"""Everybody who changes one workspace at once, through every door, and the ledger of what each was promised.

Each thing that is written belongs to one writer, so that what must be there is known: the last value that was
acknowledged, or, where an answer never came, that or the one in doubt. Each writer goes on as a person or a program
would whose server was killed: it tries again until it is told something.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import re
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from crash.traffic import ABSENT, ADMIN, API, Client, Server
from gitstore.repository.disk import Disk

HOME = "home"
SHARED = "memory/shared.yaml"
COMMENTS = ("# What everybody writes into.", "# One line each; do not sort them.", "# The end.")
_PATIENCE = 60.0  # seconds until somebody gives up, which is a failure
_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "Rosa Vidal",
    "GIT_AUTHOR_EMAIL": "rosa@northgate.example",
    "GIT_COMMITTER_NAME": "Rosa Vidal",
    "GIT_COMMITTER_EMAIL": "rosa@northgate.example",
    "LC_ALL": "C",
}
# The last is the same, said after the branch was moved between git's two looks at it.
_NOTHING_THERE = re.compile("nothing to commit|nothing added to commit|no changes added to commit|Changes to be comm")
_AGAIN = re.compile(r"index\.lock|cannot lock ref|Unable to create .*\.lock|unable to write new.index|HEAD")


class Run(NamedTuple):
    """How a git ended; `text` is everything it said."""

    code: int
    out: str
    text: str


def run(folder: Path, *words: str) -> Run:
    done = subprocess.run(["git", *words], cwd=folder, env=_ENVIRONMENT, capture_output=True, text=True, timeout=120)
    return Run(done.returncode, done.stdout, done.stdout + done.stderr)


def git(folder: Path, *words: str) -> str:
    done = run(folder, *words)
    assert done.code == 0, (words, done.text)
    return done.out


def shared(owners: list[str]) -> str:
    """A document that a person wrote, with a line for each owner."""
    lines = [COMMENTS[0], COMMENTS[1], *(f"{owner}: 0  # {owner}'s own" for owner in owners), COMMENTS[2]]
    return "\n".join(lines) + "\n"


def comments(owners: list[str]) -> list[str]:
    return [*COMMENTS, *(f"  # {owner}'s own" for owner in owners)]


class Ledger:
    """What was promised. Threads write to entries of their own."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.began = time.monotonic()
        self.values: dict[tuple[str, str], list[Any]] = {}  # ("key" or "field", name) → what it may be
        self.files: dict[str, str | None] = {}  # path → the last text that was saved there
        self.commits: list[tuple[float, str, str]] = []  # when, commit, who was told that it is in
        self.artifacts: dict[str, tuple[float, str]] = {}
        self.wrong: list[str] = []
        self.counts: dict[str, int] = {}

    def committed(self, commit: str, who: str) -> None:
        with self.lock:
            self.commits.append((time.monotonic() - self.began, commit, who))

    def count(self, what: str) -> None:
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def complain(self, text: str) -> None:
        with self.lock:
            self.wrong.append(f"{time.monotonic() - self.began:.2f} s: {text}")


class Writer(threading.Thread):
    """Somebody who makes one step after the other, and ends the one that is under way when told to stop."""

    def __init__(self, name: str, seed: int, ledger: Ledger, stop: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self.rng = random.Random(f"{seed} {name}")
        self.ledger = ledger
        self.number = 0
        self.told = ""  # what was said last to somebody who has to try again
        self.rest = 0.0  # seconds after each step
        self._stopping = stop

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                self.number += 1
                self.step()
                self._stopping.wait(self.rest)
        except Exception as error:  # noqa: BLE001  (a thread's error would else be lost)
            self.ledger.complain(f"{self.name}: {error!r:.1500}")
        finally:
            self.leave()

    def leave(self) -> None:
        """Lets go of what it holds."""

    def step(self) -> None:
        raise NotImplementedError

    def until(self, attempt: Callable[[], bool], what: str, pause: float = 0.05) -> None:
        """Tries until it works."""
        end = time.monotonic() + _PATIENCE
        while not attempt():
            if time.monotonic() > end:
                raise AssertionError(f"gave up: {what}: {self.told}")
            time.sleep(pause * self.rng.uniform(0.5, 1.5))


class Caller(Writer):
    """An API client: keys of its own, its own line of the shared document, deletions, artifacts."""

    def __init__(
        self, name: str, seed: int, ledger: Ledger, stop: threading.Event, port: int, pace: float = 0.03
    ) -> None:
        super().__init__(name, seed, ledger, stop)
        self._client = Client(port)
        self._pace = pace

    def leave(self) -> None:
        self._client.close()

    def step(self) -> None:
        self.rng.choice((self._set, self._set, self._field, self._field, self._remove, self._artifact))()
        time.sleep(self._pace * self.rng.uniform(0.2, 1.8))

    def _ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The answer; None where none came."""
        try:
            return self._client.ask(method, f"{API}/workspaces/{HOME}{path}", body, **headers)
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)
            return None

    def _write(self, subject: tuple[str, str], value: Any, method: str, path: str, body: Any, **headers: str) -> int:
        """One write; 0 where no answer came."""
        before = self.ledger.values.get(subject, [ABSENT])
        self.ledger.values[subject] = [*before, value]
        answer = self._ask(method, path, body, **headers)
        if answer is None:
            return 0
        if answer.status == 412:
            self.ledger.values[subject] = before
        elif answer.status == 200:
            self.ledger.values[subject] = [value]
            self.ledger.committed(answer.data["head"], f"{self.name}: {method} {subject} {value}")
            self.ledger.count("calls")
        else:
            self.ledger.values[subject] = before
            self.ledger.complain(f"{self.name}: {method} {subject}: {answer.status} {answer.body[:500]!r}")
        return int(answer.status)

    def _set(self) -> None:
        key = f"{self.name}-{self.rng.randrange(4)}"
        value = {"n": self.number, "text": "x" * self.rng.choice((1, 100, 1000))}
        self._write(("key", key), value, "PATCH", "/memory", {"key": key, "value": value})

    def _remove(self) -> None:  # not `_delete`: Thread has one, and calls it at its end
        key = f"{self.name}-{self.rng.randrange(4)}"
        self._write(("key", key), ABSENT, "DELETE", f"/memory/{key}", None)

    def _field(self) -> None:
        for _ in range(50):
            found = self._ask("GET", "/memory/shared")
            if found is None:
                return
            assert found.status == 200, (found.status, found.body[:300])
            value = {**found.data["value"], self.name: self.number}
            body = {"key": "shared", "value": value}
            if (
                self._write(("field", self.name), self.number, "PATCH", "/memory", body, If_Match=found.headers["ETag"])
                != 412
            ):
                return

    def _artifact(self) -> None:
        path = f"out/{self.name}/{self.number}.txt"
        body = {"path": path, "content_base64": base64.b64encode(path.encode()).decode()}
        answer = self._ask("POST", "/artifacts", body)
        if answer is None:
            return
        if answer.status != 201:
            self.ledger.complain(f"{self.name}: artifact: {answer.status} {answer.body[:500]!r}")
            return
        self.ledger.artifacts[answer.data["id"]] = time.monotonic() - self.ledger.began, path
        self.ledger.committed(answer.data["commit"], f"{self.name}: artifact {path}")
        self.ledger.count("artifacts")


class Person(Writer):
    """Somebody with an editor in the live folder."""

    field = ""
    desk = threading.Lock()  # two people at one desk do not press the key in the same microsecond

    def __init__(self, name: str, seed: int, ledger: Ledger, stop: threading.Event, folder: Path) -> None:
        super().__init__(name, seed, ledger, stop)
        self.folder = folder
        self.disk = Disk()
        self._scratch = f"{folder.parent.parent.parent}/editor-{name}"

    def save(self, path: str, text: str) -> None:
        """As editors do: written in place, or beside it and put in its place."""
        place = self.folder / path
        place.parent.mkdir(exist_ok=True)
        self.ledger.files[path] = text
        if self.rng.random() < 0.5:
            place.write_text(text)
        else:
            beside = place.with_name(f".{place.name}.swp")
            beside.write_text(text)
            beside.rename(place)
        self.ledger.count("saves")

    def save_field(self) -> None:
        """Changes the own line of the shared document; again, if it has changed on disk meanwhile, as editors ask."""

        def attempt() -> bool:
            root = self.disk.folder(str(self.folder), ["memory"])
            assert root is not None
            with self.desk, root:
                state = root.stat("shared.yaml")
                if state is None:
                    return False
                text = root.read("shared.yaml").decode()
                line = re.compile(rf"^{self.name}: \d+", re.M)
                assert line.search(text), text
                self.disk.overwrite(self._scratch, line.sub(f"{self.name}: {self.number}", text).encode())
                self.disk.exchange(self._scratch, root, "shared.yaml")
                was = os.lstat(self._scratch)
                if (was.st_ino, was.st_mtime_ns) != (state.st_ino, state.st_mtime_ns):
                    self.disk.exchange(self._scratch, root, "shared.yaml")
                    return False
                self.ledger.values["field", self.name] = [self.number]
                self.ledger.count("saves")
                return True

        self.until(attempt, "saving the shared document", 0.01)

    def own(self) -> tuple[str, str]:
        """A file of one's own, and what it is to say."""
        which = self.rng.randrange(5)
        if which < 2:
            key = f"{self.name}-{which}"
            value = {"n": self.number, "by": self.name}
            self.ledger.values["key", key] = [value]
            return f"memory/{key}.yaml", f"# {self.name} keeps this\nn: {self.number}  # counted\nby: {self.name}\n"
        return f"{self.name}/note-{which}.md", f"{self.name} wrote this {self.number}\n" * self.rng.randrange(1, 30)


class Saver(Person):
    """Only saves."""

    def step(self) -> None:
        chance = self.rng.random()
        if chance < 0.4:
            self.save_field()
        elif chance < 0.55:
            path = f"{self.name}/draft-{self.rng.randrange(6)}.md"
            if self.ledger.files.get(path) is not None:
                self.ledger.files[path] = None
                (self.folder / path).unlink()
            else:
                self.save(path, f"draft {self.number}\n")
        else:
            self.save(*self.own())
        time.sleep(self.rng.choice((0.05, 0.3, 1.2)) * self.rng.uniform(0.5, 1.5))


class Committer(Person):
    """Edits, `git add`, `git commit`."""

    def step(self) -> None:
        if self.rng.random() < 0.4:
            self.save_field()
            path = SHARED
        else:
            path, text = self.own()
            self.save(path, text)
        time.sleep(self.rng.choice((0.0, 0.0, 0.2, 1.3)) * self.rng.uniform(0.5, 1.5))
        self.until(lambda: self._commit(path), f"committing {path}")
        time.sleep(self.rng.choice((0.0, 0.1, 0.5)))

    def _commit(self, path: str) -> bool:
        added = run(self.folder, "add", "--", path)
        if added.code != 0:
            return self._refused(added)
        time.sleep(self.rng.choice((0.0, 0.0, 0.0, 0.1, 0.5)))
        done = run(self.folder, "commit", "-m", f"{self.name} {self.number}")
        if done.code == 0:
            short = re.match(r"\[main ([0-9a-f]+)\]", done.out)
            assert short is not None, done.text
            self.ledger.committed(git(self.folder, "rev-parse", short[1]).strip(), f"{self.name}: git commit {path}")
            self.ledger.count("commits by hand")
            return True
        if _NOTHING_THERE.search(done.text):
            # The server was quicker; or it brought the file up to date between the two, which unstages it.
            return run(self.folder, "diff", "--quiet", "HEAD", "--", path).code == 0
        return self._refused(done)

    def _refused(self, done: Run) -> bool:
        assert _AGAIN.search(done.text), done.text
        self.told = done.text[-500:]
        self.ledger.count("locks met")
        return False


class Pusher(Writer):
    """Works in a clone of one's own and pushes to refs/for/main."""

    def __init__(
        self, name: str, seed: int, ledger: Ledger, stop: threading.Event, folder: Path, *, most: int = 1_000_000
    ) -> None:
        super().__init__(name, seed, ledger, stop)
        self.folder = folder
        self._most = most

    def step(self) -> None:
        if self.number > self._most:
            self._stopping.wait()
            return
        self._edit()
        git(self.folder, "add", "-A")
        git(self.folder, "commit", "-q", "-m", f"{self.name} {self.number}")
        self.until(self._push, "pushing", 0.2)
        if self.rng.random() < 0.6:
            self.until(lambda: run(self.folder, "fetch", "-q", "origin").code == 0, "fetching", 0.2)
            # What was pushed is in there, so that nothing goes.
            git(self.folder, "merge-base", "--is-ancestor", "HEAD", "origin/main")
            git(self.folder, "reset", "-q", "--hard", "origin/main")
        time.sleep(self.rng.uniform(0, 0.5))

    def _edit(self) -> None:
        notes = self.folder / self.name
        notes.mkdir(exist_ok=True)
        path = f"{self.name}/{self.rng.randrange(4)}.md"
        self.ledger.files[path] = f"{self.name} pushed {self.number}\n"
        (self.folder / path).write_text(f"{self.name} pushed {self.number}\n")
        place = self.folder / SHARED
        text, count = re.subn(rf"^{self.name}: \d+", f"{self.name}: {self.number}", place.read_text(), flags=re.M)
        assert count == 1, text
        place.write_text(text)
        self.ledger.values["field", self.name] = [self.number]
        self.ledger.values["key", f"{self.name}-own"] = [self.number]
        (self.folder / f"memory/{self.name}-own.yaml").write_text(f"{self.number}  # of {self.name}\n")

    def _push(self) -> bool:
        done = run(self.folder, "push", "origin", "HEAD:refs/for/main")
        if done.code != 0:
            self.ledger.count("pushes that failed")
            self.told = done.text[-500:]
            if "remote rejected" in done.text or "conflict" in done.text.lower():
                self.ledger.complain(f"{self.name}: refused: {done.text}")
            return False
        said = re.search(r"main is now at ([0-9a-f]{12})", done.text)
        self.ledger.committed(git(self.folder, "rev-parse", "HEAD").strip(), f"{self.name}: push {self.number}")
        if said is not None:
            self.ledger.committed(said[1], f"{self.name}: answer to push {self.number}")
        self.ledger.count("pushes")
        return True


def clone(server: Server, target: Path) -> Path:
    git(target.parent, "clone", "-q", f"http://x:{ADMIN}@127.0.0.1:{server.port}/git/{HOME}.git", str(target))
    return target


# -- afterwards ---------------------------------------------------------------------------------------------------


def missing(ledger: Ledger, folder: Path, owners: list[str]) -> list[str]:
    """What was promised and is not in the branches, by what plain git says. No server need run."""
    found: list[str] = []
    heads = git(folder, "for-each-ref", "--format=%(refname)", "refs/heads").split()
    line = set(git(folder, "rev-list", *heads).split())
    short = {commit[:12] for commit in line}
    for when, commit, who in ledger.commits:
        if commit not in (line if len(commit) == 40 else short):
            found.append(f"commit {commit} of {when:.2f} s is no ancestor ({who})")
    for path, wanted in sorted(ledger.files.items()):
        done = run(folder, "show", f"main:{path}")
        text = done.out if done.code == 0 else None
        if text != wanted:
            found.append(f"{path} in main is {text!r:.200}, saved was {wanted!r:.200}")
        place = folder / path
        there = place.read_text() if place.exists() else None
        if there != wanted:
            found.append(f"{path} in the folder is {there!r:.200}, saved was {wanted!r:.200}")
    produced = git(folder, "ls-tree", "-r", "--name-only", "evidence") if ledger.artifacts else ""
    for one, (when, path) in ledger.artifacts.items():
        if f"/{one}/" not in produced:
            found.append(f"artifact {one} of {when:.2f} s ({path}) is not in evidence")
    text = git(folder, "show", f"main:{SHARED}")
    found += [f"the comment {one!r} is gone from {SHARED}" for one in comments(owners) if one not in text]
    return found


def differing(ledger: Ledger, client: Client) -> list[str]:
    """What was promised and is not what the API says."""
    record = client.read(f"/workspaces/{HOME}")
    found = [f"problem: {json.dumps(one)}" for one in record["problems"]]
    memory = record["memory"]
    for (kind, name), allowed in sorted(ledger.values.items()):
        value = memory["shared"].get(name, ABSENT) if kind == "field" else memory.get(name, ABSENT)
        if value not in allowed:
            found.append(f"{kind} {name} is {value!r:.200}, not one of {allowed!r:.200}")
    there = {row["id"] for row in client.pages(f"/workspaces/{HOME}/artifacts")}
    for one, (when, path) in ledger.artifacts.items():
        if one not in there:
            found.append(f"artifact {one} of {when:.2f} s ({path}) is not in the explorer's {len(there)}")
    told = [row["id"] for row in client.pages(f"/workspaces/{HOME}/timeline")]
    if len(told) != len(set(told)):
        found.append("the timeline tells a commit twice")
    return found
