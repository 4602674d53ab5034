"""The reference of fetches and pushes: `git http-backend` as CGI behind the least of a server, in a process of its own.

`python -m bench.backend PORT FOLDER KEY` serves every repository below the folder, streaming both ways, to whoever
gives the key as the password: what anybody would run who has git and no store.
"""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench.place import KEY, ROOT, free_port

_CHUNK = 256 << 10


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """Serves the repositories below a folder; the port."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.backend", str(port), str(folder), KEY], cwd=ROOT)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.01)
        yield port
    finally:
        process.terminate()
        process.wait(10)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = _CHUNK
    root = ""
    wanted = ""
    program = ""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._run()

    def do_POST(self) -> None:
        self._run()

    def _run(self) -> None:
        if self.headers.get("Authorization") != self.wanted:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": self.root, "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "REMOTE_USER": "bench",
            "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }  # fmt: skip
        if "Content-Length" in self.headers:
            environment["CONTENT_LENGTH"] = self.headers["Content-Length"]
        program = subprocess.Popen([self.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        assert program.stdin is not None
        assert program.stdout is not None
        with program, program.stdout as out:
            for piece in self._body():
                program.stdin.write(piece)
            program.stdin.close()
            status, headers = 200, []
            while line := out.readline().strip():
                name, _, value = line.decode().partition(": ")
                if name == "Status":
                    status = int(value.split()[0])
                else:
                    headers.append((name, value))
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.flush()
            while piece := out.read1(_CHUNK):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") != "chunked":
            left = int(self.headers.get("Content-Length") or 0)
            while left and (piece := self.rfile.read(min(left, _CHUNK))):
                left -= len(piece)
                yield piece
            return
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()


def main() -> None:
    port, folder, key = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    place = subprocess.run(["git", "--exec-path"], check=True, capture_output=True, text=True).stdout.strip()
    _Handler.root = folder
    _Handler.wanted = "Basic " + base64.b64encode(f"bench:{key}".encode()).decode()
    _Handler.program = shutil.which("git-http-backend", path=place) or f"{place}/git-http-backend"
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
