"""A git server on loopback: the real `git http-backend` behind a small threaded HTTP server, misbehaving on cue."""

from __future__ import annotations

import base64
import contextlib
import gzip
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Mischief(Enum):
    """What the server does instead of answering properly; each holds until `behave` is called."""

    UNAUTHORIZED = "answer 401 to everything"
    FORBIDDEN_PUSH = "answer 403 to a push"
    HANG = "take the request and never answer"
    CUT_OFF = "send half of a body and close the connection"
    FAIL = "answer 500"
    ACCEPT_AND_DIE = "take the push, then close the connection and refuse every later request until `behave`"
    ACCEPT_PUSH_SILENTLY = "take the push and close the connection before the answer"
    SLOW_PUSH = "wait for `release` before a push is handed on"


class GitServer:
    """Serves every repository below `root` at ``url/<path>``; `token` None means no authentication."""

    def __init__(self, root: Path, *, token: str | None = None, username: str | None = None) -> None:
        self.root = root
        self.token = token
        self.username = username
        self.requests: list[str] = []
        self.authorizations: list[str | None] = []
        self.redirect_to: str | None = None
        self.cut_off_pack = False
        self.mischief: Mischief | None = None
        self.read_only_token: str | None = None
        self.push_started = threading.Event()
        self.release = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        """The address, without a final slash."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def misbehave(self, mischief: Mischief) -> None:
        """From now on do this."""
        self.release.clear()
        self.push_started.clear()
        self.mischief = mischief

    def behave(self) -> None:
        """Answer properly again; what hangs is let go."""
        self.mischief = None
        self.release.set()

    def start(self) -> None:
        """Serve in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """End it; requests that hang are let go."""
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(30)

    def allows(self, header: str | None, *, write: bool) -> bool:
        """Tell whether an Authorization header is good enough."""
        if self.token is None:
            return True
        if header is None or not header.startswith("Basic "):
            return False
        username, _, password = base64.b64decode(header[6:]).decode().partition(":")
        if self.username is not None and username != self.username:
            return False
        return password == self.token or (not write and password == self.read_only_token)


@contextlib.contextmanager
def serving(root: Path, *, token: str | None = None, username: str | None = None) -> Iterator[GitServer]:
    """Serve the repositories below `root` for the time of a `with`."""
    # A proxy of the network that the tests run in cannot reach this host's loopback.
    os.environ["no_proxy"] = ",".join(filter(None, {*os.environ.get("no_proxy", "").split(","), "127.0.0.1"}))
    server = GitServer(root, token=token, username=username)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _handler(server: GitServer) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        git_server = server

    return Handler


class _Handler(BaseHTTPRequestHandler):
    git_server: GitServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        del format, args

    def _serve(self) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._answer()

    def _answer(self) -> None:
        server = self.git_server
        body = self._body()
        push = "git-receive-pack" in self.path
        server.requests.append(f"{self.command} {self.path}")
        server.authorizations.append(self.headers["Authorization"])
        if server.redirect_to is not None:
            self._plain(302, b"over there\n", [("Location", f"{server.redirect_to}{self.path}")])
            return
        mischief = server.mischief
        if mischief is Mischief.FAIL or (mischief is Mischief.ACCEPT_AND_DIE and server.push_started.is_set()):
            self._plain(500, b"out of order\n")
        elif mischief is Mischief.HANG:
            server.release.wait(100)
            self.close_connection = True
        elif mischief is Mischief.UNAUTHORIZED or not server.allows(self.headers["Authorization"], write=push):
            self._plain(401, b"who are you?\n", [("WWW-Authenticate", 'Basic realm="git"')])
        elif mischief is Mischief.FORBIDDEN_PUSH and push:
            self._plain(403, b"not you\n")
        else:
            self._backend(body, mischief, posted=push and self.command == "POST")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            body = b"".join(parts)
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _plain(self, status: int, body: bytes, headers: list[tuple[str, str]] | None = None) -> None:
        self.send_response(status)
        for name, value in headers or []:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _backend(self, body: bytes, mischief: Mischief | None, *, posted: bool) -> None:
        server = self.git_server
        if posted:
            server.push_started.set()
            if mischief is Mischief.SLOW_PUSH:
                server.release.wait(100)
        path, _, query = self.path.partition("?")
        environ = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": "http.receivepack",
            "GIT_CONFIG_VALUE_0": "true",
            "GIT_CONFIG_KEY_1": "safe.directory",
            "GIT_CONFIG_VALUE_1": "*",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "REMOTE_USER": "tester",
            "REMOTE_ADDR": "127.0.0.1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        pipe, silent = subprocess.PIPE, subprocess.DEVNULL
        argv = ["git", "http-backend"]
        done = subprocess.run(argv, input=body, env=environ, stdout=pipe, stderr=silent, timeout=100, check=False)
        if posted and mischief in (Mischief.ACCEPT_AND_DIE, Mischief.ACCEPT_PUSH_SILENTLY):
            self.close_connection = True
            return
        pack = b"PACK" in done.stdout and server.cut_off_pack
        self._relay(done.stdout, cut_off=pack or mischief is Mischief.CUT_OFF)

    def _relay(self, answer: bytes, *, cut_off: bool) -> None:
        head, _, body = answer.partition(b"\r\n\r\n")
        fields = [line.decode().split(": ", 1) for line in head.split(b"\r\n") if line]
        status = next((int(value.split()[0]) for name, value in fields if name.lower() == "status"), 200)
        self.send_response(status)
        for name, value in fields:
            if name.lower() not in ("status", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if cut_off:
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        else:
            self.wfile.write(body)


def wait_until(condition: object, *, seconds: float = 30.0) -> None:
    """Poll a condition until it holds; AssertionError after the deadline."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen within {seconds} s: {condition}")
        time.sleep(0.02)
