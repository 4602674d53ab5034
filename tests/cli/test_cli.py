"""The command as scripts use it: exit codes, what goes to which stream, and no command that hurts a running server."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import started
from started import PIPE, Started

COMMAND = Path(sys.executable).with_name("gitstore")
ID = "8f4c1c52-6a0d-4b7e-9d35-1f0a7b7c2e10"


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GITSTORE_", "GIT_"))}
    return kept | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"} | more


def gitstore(*words: object, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
    done = started.run(*words, env=environment(**more))
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def answer(*words: object, code: int = 0) -> Any:
    return json.loads(gitstore(*words, "--json", code=code).stdout)


def git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", folder, *words], check=True, capture_output=True, text=True, env=environment()
    ).stdout


class Served:
    """A server that was started as a person starts it."""

    def __init__(self, data: Path, *words: object, **more: str) -> None:
        self.process = Started(
            ["serve", "--data", str(data), "--port", "0", *map(str, words)],
            stdout=PIPE,
            stderr=PIPE,
            env=environment(**more),
        )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        match = re.fullmatch(r"gitstore is ready at http://127\.0\.0\.1:(\d+)\n", first)
        assert match is not None, (first, self.process.communicate(timeout=10))
        self.port = int(match[1])
        self.key: str | None = None

    def more(self, lines: int) -> list[str]:
        assert self.process.stdout is not None
        return [self.process.stdout.readline() for _ in range(lines)]

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            sent = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
            link.request(method, f"/api/v1{path}", None if body is None else json.dumps(body), sent)
            got = link.getresponse()
            return got.status, json.loads(got.read() or b"null")
        finally:
            link.close()

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float, str, str]:
        began = time.monotonic()
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=20)
        return self.process.wait(), time.monotonic() - began, out, err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "shop"
    for path, text in {
        "workspace.yaml": f"id: {ID}\nname: The shop\nslug: shop\n",
        "memory/policy.yaml": "on: Monday\n",
        "README.md": "Hello\n",
        "evidence/tasks/build.yaml": "title: Build\n",
    }.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text)
    return place


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def served(data: Path, folder: Path) -> Iterator[Served]:
    gitstore("import", folder, "--data", data)
    key = gitstore("key", "create", "--scope", "admin", "--name", "tests", "--data", data).stdout.strip()
    running = Served(data)
    running.key = key
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.stop()


def test_help_names_every_command_and_the_exit_codes() -> None:
    text = gitstore("--help").stdout
    for word in ("serve", "import", "export", "key", "workspace", "verify", "reindex", "backup", "restore", "  3  "):
        assert word in text
    assert "0.1.0" in gitstore("--version").stdout
    assert "--json" in gitstore("key", "create", "--help").stdout
    assert subprocess.run([sys.executable, "-m", "server", "--help"], capture_output=True).returncode == 0


def test_a_wrong_command_line_is_2() -> None:
    gitstore("nonsense", code=2)
    gitstore("import", "a", "b", "--slug", "x", code=2)
    gitstore("workspace", "purge", code=2)
    assert "port" in gitstore("serve", "--port", "70000", code=2).stderr
    assert "GITSTORE_PORT" in gitstore("verify", code=2, GITSTORE_PROT="1").stderr


def test_settings_come_from_file_environment_and_flags(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('port = 1111\nhost = "10.0.0.1"\nadmin_key = "very-secret"\n')
    text = gitstore("serve", "--config", file, "--print-config", "--port", 3333, GITSTORE_HOST="10.0.0.2").stdout
    assert "port = 3333\n" in text
    assert 'host = "10.0.0.2"\n' in text
    assert "very-secret" not in text
    assert not (tmp_path / "data").exists()


def test_import_export_and_back(data: Path, folder: Path, tmp_path: Path) -> None:
    assert gitstore("import", folder, "--data", data).stdout.startswith(f"imported shop ({ID})")
    assert git(data / "workspaces/shop", "status", "--porcelain") == ""
    gitstore("export", "shop", tmp_path / "out", "--data", data)
    git(tmp_path / "out", "fsck", "--strict")
    assert (tmp_path / "out/evidence/tasks/build.yaml").exists()
    found = answer("import", tmp_path / "out", "--data", data, "--slug", "second", "--new-id")
    assert found["imported"][0]["slug"] == "second"
    assert found["imported"][0]["id"] != ID
    rows = answer("workspace", "list", "--data", data)["workspaces"]
    assert [row["slug"] for row in rows] == ["second", "shop"]
    assert "everything is sound" in gitstore("verify", "--data", data).stdout


def test_what_is_refused_says_where_and_does_not_keep_the_others_out(data: Path, folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(folder, bad)
    (bad / "memory/broken.yaml").write_text("a: 1\na: 2\n")
    found = answer("import", bad, "--data", data, code=1)
    assert found["imported"] == []
    assert found["failed"][0]["error"]["details"]["problems"][0]["line"] == 2
    done = gitstore("import", bad, folder, "--data", data, code=1)
    assert "memory/broken.yaml:2:1: " in done.stderr
    assert "imported shop" in done.stdout
    assert answer("export", "nobody", tmp_path / "x", "--data", data, code=1)["error"]["code"] == "NOT_FOUND"
    assert not (tmp_path / "x").exists()


def test_check_says_what_an_import_would_say_and_needs_no_store(folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(folder, bad)
    (bad / "memory/broken.yaml").write_text("a: 1\na: 2\n")
    (bad / "notes").mkdir()
    (bad / "notes/odd\x1b[31m\nname").write_text("x")
    done = gitstore("check", bad, "--data", tmp_path / "none", code=1)
    first, second = done.stdout.splitlines()
    assert first.startswith("memory/broken.yaml:2:1: ")
    assert second.startswith("notes/odd [31m name: ")
    assert done.stderr == "2 problems\n"
    found = answer("check", bad, code=1)
    assert (found["sound"], found["faults"][0]["line"], found["faults"][0]["column"]) == (False, 2, 1)
    assert gitstore("check", folder, "--data", tmp_path / "none").stdout == f"{folder} is sound\n"
    assert answer("check", folder) | {"files": 0} == {"folder": str(folder), "sound": True, "files": 0, "faults": []}
    assert gitstore("check", folder / "workspace.yaml", code=2).stdout == ""
    assert gitstore("check", tmp_path / "nowhere", code=2).stdout == ""
    assert gitstore("check", code=2).stdout == ""
    assert not (tmp_path / "none").exists()


def test_backup_and_restore(data: Path, folder: Path, tmp_path: Path) -> None:
    gitstore("import", folder, "--data", data)
    gitstore("key", "create", "--scope", "agent", "--name", "a", "--data", data)
    file = tmp_path / "b.tar"
    assert answer("backup", file, "--data", data)["workspaces"][0]["folder"] == "shop"
    assert "everything is sound" in gitstore("restore", file, "--data", tmp_path / "back").stdout
    assert (tmp_path / "back/keys.yaml").read_bytes() == (data / "keys.yaml").read_bytes()
    assert "not empty" in gitstore("restore", file, "--data", data, code=1).stderr
    file.write_bytes(file.read_bytes()[:-700])
    assert "cut short" in gitstore("restore", file, "--data", tmp_path / "other", code=1).stderr
    assert not (tmp_path / "other").exists()


def test_keys(data: Path) -> None:
    made = answer("key", "create", "--scope", "worker", "--name", "ci", "--expires-at", "2099-01-01", "--data", data)
    assert made["key"].startswith("gs_worker_")
    listed = gitstore("key", "list", "--data", data).stdout
    assert made["prefix"] in listed
    assert made["key"] not in listed + gitstore("key", "list", "--json", "--data", data).stdout
    assert answer("key", "revoke", made["prefix"], "--data", data)["revoked_at"] is not None
    assert "(revoked)" in gitstore("key", "list", "--data", data).stdout
    gitstore("key", "revoke", "nobody", "--data", data, code=1)
    gitstore("key", "create", "--scope", "worker", "--name", "x", "--expires-at", "yesterday", "--data", data, code=1)
    gitstore("key", "create", "--scope", "root", "--name", "x", "--data", data, code=2)


def test_verify_is_1_for_damage_and_reindex_mends_the_indexes(data: Path, folder: Path) -> None:
    gitstore("import", folder, "--data", data)
    index = data / "workspaces/shop/.git/index"
    index.write_bytes(index.read_bytes()[:50])
    done = gitstore("verify", "--data", data, code=1)
    assert "error: workspaces/shop/.git/index: " in done.stdout
    assert answer("verify", "--data", data, code=1)["sound"] is False
    git(data / "workspaces/shop", "reset", "-q")
    shutil.rmtree(data / "derived")
    assert "indexed 1 workspaces" in gitstore("reindex", "--data", data).stdout
    gitstore("verify", "--data", data)
    gitstore("verify", "--data", data / "nothing", code=1)


# --- serve ------------------------------------------------------------------------------------------------------------


def test_the_first_start_makes_a_key_and_shows_it_once(data: Path) -> None:
    served = Served(data)
    lines = served.more(4)
    assert str(data / "workspaces") in lines[0]
    assert "/git/<slug>.git" in lines[1]
    match = re.fullmatch(r"admin key \(shown this once\): (gs_admin_\w+)\n", lines[2])
    assert match is not None
    assert lines[3].startswith("try it: curl ")
    served.key = match[1]
    assert served.ask("GET", "/workspaces")[0] == 200
    code, _, _, err = served.stop()
    assert code == 0, err
    assert match[1] not in "".join(path.read_text("latin-1") for path in data.rglob("*") if path.is_file())
    again = Served(data)
    code, _, out, _ = again.stop(signal.SIGINT)
    assert code == 0
    assert "gs_admin" not in out
    configured = Served(data.with_name("other"), GITSTORE_ADMIN_KEY="given-by-hand")
    assert "gs_admin" not in configured.stop()[2]


def test_commands_beside_a_running_server(served: Served, data: Path, folder: Path, tmp_path: Path) -> None:
    for number in range(5):
        assert served.ask("PATCH", "/workspaces/shop/memory", {"key": f"k{number}", "value": number})[0] == 200
    gitstore("export", "shop", tmp_path / "out", "--data", data)
    assert (tmp_path / "out/memory/k4.yaml").read_text().endswith("\n4\n")
    gitstore("backup", tmp_path / "b.tar", "--data", data)
    gitstore("verify", "--data", data)
    assert "shop" in gitstore("workspace", "list", "--data", data).stdout
    gitstore("reindex", "--data", data)
    for words in (
        ["import", folder],
        ["workspace", "restore", "x"],
        ["workspace", "purge", "--expired"],
        ["serve", "--port", "0"],
    ):
        assert "another process has the store" in gitstore(*words, "--data", data, code=3).stderr
    assert served.ask("GET", "/workspaces/shop")[0] == 200


def test_a_key_that_the_command_makes_or_ends_counts_at_once(served: Served, data: Path) -> None:
    made = answer("key", "create", "--scope", "agent", "--name", "x", "--data", data)
    served.key = made["key"]
    until = time.monotonic() + 5
    while (status := served.ask("GET", "/workspaces")[0]) == 401 and time.monotonic() < until:
        time.sleep(0.1)
    assert status == 200
    gitstore("key", "revoke", made["id"], "--data", data)
    until = time.monotonic() + 5
    while (status := served.ask("GET", "/workspaces")[0]) == 200 and time.monotonic() < until:
        time.sleep(0.1)
    assert status == 401


def test_a_stop_keeps_what_was_acknowledged_and_is_quick(served: Served, data: Path) -> None:
    acknowledged: set[str] = set()
    odd: list[int] = []

    def write(worker: int) -> None:
        for number in range(10_000):
            key = f"w{worker}-{number % 40}"
            try:
                status, _ = served.ask("PATCH", "/workspaces/shop/memory", {"key": key, "value": number})
            except (OSError, http.client.HTTPException):
                return
            if status == 200:
                acknowledged.add(f"{key}={number}")
            elif status != 503:
                odd.append(status)
            else:
                return

    workers = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for worker in workers:
        worker.start()
    time.sleep(0.7)
    code, taken, _, err = served.stop()
    for worker in workers:
        worker.join()
    assert (code, odd) == (0, []), err
    assert taken < 5
    assert len(acknowledged) > 50
    last: dict[str, int] = {}
    for text in acknowledged:
        key, _, number = text.partition("=")
        last[key] = max(last.get(key, 0), int(number))
    home = data / "workspaces/shop"
    for key, number in last.items():
        assert int((home / f"memory/{key}.yaml").read_text().splitlines()[-1]) >= number
    assert git(home, "status", "--porcelain") == ""
    assert not list((data / "journal").iterdir())
    gitstore("verify", "--data", data)


def test_a_request_that_hangs_does_not_hold_up_the_stop(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as link:
        link.sendall(
            b"PATCH /api/v1/workspaces/shop/memory HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer " + (served.key or "").encode() + b"\r\nContent-Length: 100\r\n\r\n{"
        )
        time.sleep(0.3)
        code, taken, _, err = served.stop()
        assert code == 0, err
        assert taken < 5


def test_a_kill_is_healed_by_the_next_start(served: Served, data: Path) -> None:
    assert served.ask("PATCH", "/workspaces/shop/memory", {"key": "last", "value": 1})[0] == 200
    served.process.kill()
    served.process.communicate()
    gitstore("verify", "--data", data)
    again = Served(data)
    again.key = served.key
    assert again.ask("GET", "/workspaces/shop/memory/last")[0] == 200
    assert again.stop()[0] == 0


def test_a_port_that_is_taken(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = gitstore("serve", "--data", data, "--port", taken.getsockname()[1], code=1)
    assert "--port" in done.stderr
    assert done.stdout == ""
    # No key was made that nobody saw.
    assert answer("key", "list", "--data", data)["keys"] == []


def test_delete_restore_purge(served: Served, data: Path) -> None:
    assert served.ask("DELETE", "/workspaces/shop?cascade=true")[0] == 200
    assert served.stop()[0] == 0
    (gone,) = answer("workspace", "list", "--deleted", "--data", data)["workspaces"]
    assert gone["id"] == ID
    assert "restored shop" in gitstore("workspace", "restore", "shop", "--data", data).stdout
    gitstore("verify", "--data", data)
    again = Served(data)
    again.key = served.key
    assert again.ask("DELETE", f"/workspaces/{ID}?cascade=true")[0] == 200
    assert again.stop()[0] == 0
    assert "nothing to purge" in gitstore("workspace", "purge", "--expired", "--data", data).stdout
    assert answer("workspace", "purge", "shop", "--data", data)["purged"][0]["id"] == ID
    assert list((data / "trash").iterdir()) == []
    gitstore("workspace", "restore", "shop", "--data", data, code=1)


def test_gc_says_what_why_and_how_much(data: Path, folder: Path) -> None:
    gitstore("import", folder, "--data", data)
    oid = "ab" * 32
    place = data / "large/ab/ab" / oid
    place.parent.mkdir(parents=True)
    place.write_bytes(b"nobody has it")
    os.utime(place, (1e9, 1e9))
    assert (
        "(store): object " + oid + ", 13 bytes: no workspace has had it"
        in gitstore("gc", "--dry-run", "--data", data).stdout
    )
    assert place.exists()
    done = answer("gc", "--data", data)
    assert (done["bytes"], done["dry_run"], [one["id"] for one in done["reclaimed"]]) == (13, False, [oid])
    assert not place.exists()
    assert "freed 0 bytes, 0 pieces" in gitstore("gc", "shop", "--data", data).stdout
    gitstore("gc", "nowhere", "--data", data, code=1)
