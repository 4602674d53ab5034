"""A server in a process of its own, clients that write to it all the time, and an account of what they were promised.

Each thing that is written belongs to one client, so that its value is always known: the last acknowledged one, or, when
the answer never came, that or the one after it.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from started import Started

ADMIN = "admin-key-for-tests-0123456789"
API = "/api/v1"
ABSENT = "(absent)"


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: http.client.HTTPMessage

    @property
    def data(self) -> Any:
        return json.loads(self.body)["data"]


class Client:
    """One connection, used again as long as it holds. Raises OSError or HTTPException where no answer came."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        if body is not None:
            sent["Content-Type"] = "application/json"
        return self._ask(method, path, json.dumps(body).encode() if body is not None else None, sent)

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            self._connection.request(method, path, body, {"Authorization": f"Bearer {ADMIN}", **headers})
            with self._connection.getresponse() as answer:  # it has the socket where the server is to close it
                return Answer(answer.status, answer.read(), answer.headers)
        except BaseException:
            self.close()
            raise

    def send(self, path: str, content: bytes) -> Answer:
        """POSTs bytes as they are."""
        return self._ask("POST", path, content, {"Content-Type": "application/octet-stream"})

    def read(self, path: str) -> Any:
        """The data of a GET that must succeed."""
        answer = self.ask("GET", f"{API}{path}")
        assert answer.status == 200, (path, answer)
        return answer.data

    def pages(self, path: str, most: int = 1_000_000) -> list[Any]:
        """All rows of a list, or as many as asked for."""
        rows: list[Any] = []
        for page in range(1, 1000):
            answer = self.ask("GET", f"{API}{path}{'&' if '?' in path else '?'}per_page=100&page={page}")
            assert answer.status == 200, (path, answer)
            whole = json.loads(answer.body)
            rows += whole["data"]
            if not whole["meta"]["has_more"] or len(rows) >= most:
                break
        return rows

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Server:
    """`gitstore serve` on a data folder."""

    def __init__(self, data: Path, log: Path | None = None) -> None:
        self.data = data
        self._told = log or data.parent / f"{data.name}.log"
        self.settings: dict[str, str] = {}  # more of its environment
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._log = open(self._told, "ab")  # noqa: SIM115  (as long as the server)
        self._process: Started | None = None

    def spawn(self) -> None:
        self._process = Started(
            ["serve", "--data", str(self.data), "--port", str(self.port)],
            env={**os.environ, "GITSTORE_ADMIN_KEY": ADMIN, **self.settings},
            stdout=self._log,
            stderr=self._log,
        )

    def start(self) -> float:
        """Starts it; the seconds from the start of the process to the first 200 of /readyz."""
        began = time.monotonic()
        self.spawn()
        assert self._process is not None
        while time.monotonic() < began + 60:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                with contextlib.closing(connection):
                    connection.request("GET", "/readyz")
                    with connection.getresponse() as answer:
                        if answer.status == 200:
                            return time.monotonic() - began
            assert self._process.poll() is None, self.log()
            time.sleep(0.005)
        raise AssertionError(f"it does not get ready: {self.log()}")

    @property
    def pid(self) -> int:
        """The process that was started last."""
        assert self._process is not None
        return self._process.pid

    def work(self) -> float:
        """Seconds of processor time that it has used (proc(5)): unlike the clock they do not tell of other programs."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(30)

    def close(self) -> None:
        self.stop()
        self._log.close()

    def log(self) -> str:
        self._log.flush()
        return self._told.read_text()[-4000:]

    def client(self) -> Client:
        return Client(self.port)


class Traffic:
    """The clients and the account."""

    def __init__(self, seed: int, clients: int = 8, homes: int = 3) -> None:
        self.clients = clients
        self.expected: dict[tuple[str, ...], list[Any]] = {}  # what may be read; the last one is the newest
        self.commits: list[tuple[str, str]] = []  # workspace, commit: acknowledged in this round
        self.artifacts: dict[str, set[str]] = {}  # workspace → acknowledged artifacts
        self.homes = [f"home-{number}" for number in range(homes)]
        self.ids: dict[str, str] = {}
        self.wrong: list[str] = []
        self.acknowledged = 0
        self._rngs = [random.Random(seed * 100 + number) for number in range(clients)]
        self._numbers = [0] * clients
        self._stop = threading.Event()
        self._pause = 0.0

    def prepare(self, connect: Callable[[], Client]) -> None:
        """The workspaces that live for the whole test."""
        for slug in self.homes:
            with connect() as client:
                answer = client.ask("POST", f"{API}/workspaces", {"name": slug, "slug": slug})
            assert answer.status == 201, answer
            self.ids[slug] = answer.data["id"]
            self.artifacts[slug] = set()
            self.expected["settings", slug] = [{}]
            self.expected["name", slug] = [slug]
            self.expected["spec", slug] = [{}]

    @contextlib.contextmanager
    def running(self, port: int, pause: float = 0.0) -> Iterator[None]:
        """Writes while the block runs, each client with a pause of that many seconds or less between two requests. The
        server is expected to be dead, or dying, at its end.
        """
        self._stop.clear()
        self._pause = pause
        self.commits = []
        threads = [threading.Thread(target=self._run, args=(number, port)) for number in range(self.clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(60)
        assert not self.wrong, self.wrong[:5]

    def _run(self, number: int, port: int) -> None:
        client, rng = Client(port), self._rngs[number]
        steps: list[Callable[[Client, int, random.Random], None]] = [
            self._memory, self._memory, self._memory, self._memory_delete, self._file, self._workflow, self._artifact,
            self._workspace, self._settings if number == 0 else self._spec if number == 1 else self._memory,
        ]  # fmt: skip
        try:
            while not self._stop.is_set():
                rng.choice(steps)(client, number, rng)
                if self._pause:
                    time.sleep(self._pause * rng.random())
        except (OSError, http.client.HTTPException):
            pass  # it was killed; what was under way is in doubt
        except Exception as error:  # noqa: BLE001  (a thread's error would else be lost)
            self.wrong.append(repr(error))
        finally:
            client.close()

    def _do(
        self, client: Client, subject: tuple[str, ...], value: Any, method: str, path: str, body: Any = None
    ) -> Answer:
        """One write of a subject of this client's own."""
        before = self.expected.get(subject, [ABSENT])
        self.expected[subject] = [*before, value]
        answer = client.ask(method, f"{API}{path}", body)
        if 200 <= answer.status < 300:
            self.expected[subject] = [value]
            self.acknowledged += 1
        else:
            self.expected[subject] = before
            self.wrong.append(f"{method} {path}: {answer.status} {answer.body[:300]!r}")
        return answer

    def _next(self, number: int) -> int:
        self._numbers[number] += 1
        return self._numbers[number]

    def _noted(self, home: str, commit: str | None) -> None:
        if commit is not None:
            self.commits.append((home, commit))

    def _memory(self, client: Client, number: int, rng: random.Random) -> None:
        home, key = rng.choice(self.homes), f"c{number}-{rng.randrange(5)}"
        value = {"n": self._next(number), "text": "x" * rng.choice((1, 100, 3000))}
        answer = self._do(
            client, ("memory", home, key), value, "PATCH", f"/workspaces/{home}/memory", {"key": key, "value": value}
        )
        if answer.status == 200:
            self._noted(home, answer.data["head"])

    def _memory_delete(self, client: Client, number: int, rng: random.Random) -> None:
        home, key = rng.choice(self.homes), f"c{number}-{rng.randrange(5)}"
        self._do(client, ("memory", home, key), ABSENT, "DELETE", f"/workspaces/{home}/memory/{key}")

    def _settings(self, client: Client, number: int, rng: random.Random) -> None:
        home = rng.choice(self.homes)
        value = {"n": self._next(number), "workspace_brief": "b" * 50}
        self._do(client, ("settings", home), value, "PATCH", f"/workspaces/{home}", {"settings": value})
        name = f"name {self._next(number)}"
        self._do(client, ("name", home), name, "PATCH", f"/workspaces/{home}", {"name": name})

    def _spec(self, client: Client, number: int, rng: random.Random) -> None:
        home = rng.choice(self.homes)
        value = {"config": {"n": self._next(number)}, "instructions": {"content": f"version {self._numbers[number]}"}}
        answer = self._do(client, ("spec", home), value, "PUT", f"/workspaces/{home}/spec", value)
        if answer.status == 200:
            self._noted(home, answer.data["commit"])

    def _file(self, client: Client, number: int, rng: random.Random) -> None:
        home, content = rng.choice(self.homes), f"{self._next(number)} of {number}\n" * 20
        body = {"file_name": f"f{number}.txt", "content_base64": base64.b64encode(content.encode()).decode()}
        self._do(client, ("file", home, f"f{number}.txt"), content, "POST", f"/workspaces/{home}/files", body)

    def _workflow(self, client: Client, number: int, rng: random.Random) -> None:
        home, name = rng.choice(self.homes), f"wf-{number}-{self._next(number)}"
        answer = self._do(
            client, ("workflow", name), "pending", "POST", f"/workspaces/{home}/workflows",
            {"name": name, "id": name, "tasks": [{"id": f"task-{name}", "title": name}]},
        )  # fmt: skip
        if answer.status == 201:
            self._do(client, ("workflow", name), "active", "PATCH", f"/workflows/{name}", {"state": "active"})

    def _artifact(self, client: Client, number: int, rng: random.Random) -> None:
        home, path = rng.choice(self.homes), f"out/{number}/{self._next(number)}.txt"
        body = {"path": path, "content_base64": base64.b64encode(path.encode()).decode()}
        answer = self._do(client, ("artifact", home, path), path, "POST", f"/workspaces/{home}/artifacts", body)
        if answer.status == 201:
            self.artifacts[home].add(answer.data["id"])
            self._noted(home, answer.data["commit"])

    def _workspace(self, client: Client, number: int, rng: random.Random) -> None:
        """A workspace of its own: made, written to, renamed, and now and then deleted."""
        slug = f"own-{number}-{self._next(number)}"
        answer = self._do(
            client, ("workspace", slug), slug, "POST", "/workspaces", {"name": slug, "slug": slug, "memory": {"a": 1}}
        )
        if answer.status != 201:
            return
        identity = answer.data["id"]
        self.ids[slug] = identity
        renamed = f"{slug}-renamed"
        self._do(client, ("workspace", slug), renamed, "PATCH", f"/workspaces/{identity}", {"slug": renamed})
        if rng.random() < 0.7:
            self._do(client, ("workspace", slug), ABSENT, "DELETE", f"/workspaces/{identity}?cascade=true")

    # -- afterwards -----------------------------------------------------------------------------------------------

    def settle(self, client: Client, *, whole: bool = False) -> None:
        """Everything that was promised is there; what was in doubt is known from here on.

        `whole`: the explorer is asked for every artifact there ever was, else for the newest.
        """
        most = 1_000_000 if whole else 500
        records = {home: client.read(f"/workspaces/{home}") for home in self.homes}
        specs = {home: client.read(f"/workspaces/{home}/spec")["spec"] for home in self.homes}
        files = {
            home: {row["file_name"]: row for row in client.read(f"/workspaces/{home}/files")} for home in self.homes
        }
        slugs = {row["id"]: row["slug"] for row in client.pages("/workspaces")}
        known = {slug: slug for slug in slugs.values()}
        artifacts = {
            home: {
                row["logical_path"]: row["id"]
                for row in client.pages(f"/workspaces/{home}/artifacts?sort=newest", most)
            }
            for home in self.homes
        }
        for subject, allowed in self.expected.items():
            what, place = subject[0], subject[1]
            if what == "memory":
                found = records[place]["memory"].get(subject[2], ABSENT)
            elif what in ("settings", "name"):
                found = records[place][what]
            elif what == "spec":
                found = specs[place]
            elif what == "file":
                row = files[place].get(subject[2])
                if row is None:
                    found = ABSENT
                else:
                    found = client.ask("GET", row["download_url"]).body.decode()
            elif what == "artifact":
                found = subject[2] if subject[2] in artifacts[place] else ABSENT
            elif what == "workspace":
                renamed = f"{place}-renamed"
                found = known.get(place) or known.get(renamed) or ABSENT
            else:
                answer = client.ask("GET", f"{API}/workflows/{place}")
                found = answer.data["state"] if answer.status == 200 else ABSENT
            assert found in allowed, f"{subject} is {found!r:.300}, not one of {allowed!r:.300}"
            self.expected[subject] = [found]
        if whole:
            for home in self.homes:
                assert self.artifacts[home] <= set(artifacts[home].values())
        self._forget()

    def _forget(self) -> None:
        """Drops what no client writes again, so that each round costs the same."""
        for subject in [one for one in self.expected if one[0] in ("artifact", "workflow", "workspace")]:
            del self.expected[subject]
