"""Real git behind real sockets: `git http-backend` as CGI on 127.0.0.1; and the check that they are checked with."""

import base64
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from gitstore.addresses import AddressPolicy
from gitstore.remotes import REASONS, AccessReport, verify_access

HERE = AddressPolicy(allow=("127.0.0.0/8",))
TOKEN = "tok-9fQ2mZx7Lk4Vw1"
EXEC_PATH = subprocess.run(["git", "--exec-path"], check=True, capture_output=True, text=True).stdout.strip()
IDENTITY = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
}


def git(folder: Path, *arguments: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **IDENTITY}
    done = subprocess.run(["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def bare(root: Path, name: str, *branches: str, options: tuple[str, ...] = ()) -> Path:
    """A bare repository whose HEAD names `main`; each branch gets a commit of its own, after the branch before it."""
    folder = root / name
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "--bare", "-b", "main", *options, ".")
    tree = git(folder, "hash-object", "-t", "tree", "-w", "/dev/null") if branches else ""
    parent: list[str] = []
    for branch in branches:
        commit = git(folder, "commit-tree", "-m", branch, *parent, tree)
        git(folder, "update-ref", f"refs/heads/{branch}", commit)
        parent = ["-p", commit]
    return folder


class Host(ThreadingHTTPServer):
    """Serves every repository below `root`; those below `root/private` only to `x-access-token:<token>`."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, root: Path, token: str = "", newest: int = 2) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.token = token
        self.newest = newest
        self.seen: list[tuple[str, str, str | None, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Host
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        path, _, query = self.path.partition("?")
        given = self.headers.get("Authorization")
        self.server.seen.append((self.command, self.path, given, self.headers.get("Host")))
        if path.startswith("/moved/"):
            self.send_response(301)
            self.send_header("Location", path.removeprefix("/moved") + "?" + query)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        wanted = "Basic " + base64.b64encode(b"x-access-token:" + self.server.token.encode()).decode()
        if path.startswith("/private/") and given != wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if path.startswith("/forbidden/"):
            self.send_error(403)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        protocol = self.headers.get("Git-Protocol", "") if self.server.newest == 2 else ""
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "GIT_PROTOCOL": protocol,
        }
        if self.server.newest == 1:
            environment["GIT_PROTOCOL"] = "version=1"
        done = subprocess.run(
            [EXEC_PATH + "/git-http-backend"], input=body, env=environment, capture_output=True, check=False
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        lines = [line.split(": ", 1) for line in head.decode().split("\r\n")]
        headers = {name: value for name, value in lines if name != "Status"}
        status = next((int(value.split()[0]) for name, value in lines if name == "Status"), 200)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving(root: Path, token: str = "", newest: int = 2) -> Iterator[Host]:
    host = Host(root, token, newest)
    thread = threading.Thread(target=host.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield host
    finally:
        host.shutdown()
        host.server_close()
        thread.join()


def check(url: str, branch: str | None = None, token: str | None = None, **options: object) -> AccessReport:
    options.setdefault("policy", HERE)
    report = verify_access(url, branch=branch, token=token, **options)  # type: ignore[arg-type]
    assert report.ok == (report.reason is None)
    assert report.reason is None or report.reason in REASONS
    assert report.message
    assert not report.branch_verified or report.ok
    assert report.duration_ms >= 0
    assert TOKEN not in repr(report)
    return report


def fields(report: AccessReport) -> tuple[object, ...]:
    return (
        report.ok,
        report.reason,
        report.default_branch,
        report.branch_verified,
        report.head,
        report.branches,
    )
