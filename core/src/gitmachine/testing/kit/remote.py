"""A remote for the git behaviours: a repository in a temporary directory, by path or behind git's own HTTP server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from gitmachine.testing.kit.behaviour import ConformanceFailure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["EXECUTABLE", "NON_ASCII", "SYMLINK", "SampleRemote", "can_serve", "serving"]

EXECUTABLE = "bin/tool.sh"
SYMLINK = "link"
NON_ASCII = "docs/grüße-日本語.txt"

_SECONDS = 120
_QUIET = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
_IMPORT = b"""\
commit refs/heads/main
committer Kit <kit@example.org> 1700000000 +0000
data 5
first
M 100644 inline README.md
data 9
# Sample

M 100755 inline %b
data 20
#!/bin/sh
echo tool

M 120000 inline %b
data 9
README.md
M 100644 inline "%b"
data 6
hello

M 100644 inline lines.txt
data 11
unix
lines

done
""" % (EXECUTABLE.encode(), SYMLINK.encode(), NON_ASCII.encode())


class SampleRemote:
    """A bare repository with an executable, a symlink and a name that is not ASCII on its only branch, ``main``."""

    def __init__(self, path: Path) -> None:
        """Name a repository that `make` will make."""
        self.path = path

    @property
    def url(self) -> str:
        """Its address as a file."""
        return f"file://{self.path}"

    async def make(self) -> None:
        """Make it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        await self._git("init", "-q", "--bare", "--initial-branch=main", str(self.path), where=False)
        await self._git("fast-import", "--quiet", "--done", stdin=_IMPORT)

    async def tip(self, branch: str) -> str | None:
        """Return the commit of a branch, or None."""
        found = await self._git("for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}")
        return found.decode().strip() or None

    async def file(self, branch: str, path: str) -> bytes | None:
        """Return a file of a branch, or None."""
        return await self._git("cat-file", "blob", f"refs/heads/{branch}:{path}", missing=True)

    async def modes(self, branch: str) -> Mapping[str, str]:
        """Return the mode of each file of a branch, by its path."""
        listing = await self._git("ls-tree", "-r", "-z", f"refs/heads/{branch}")
        entries = [entry.split(b"\t", 1) for entry in listing.split(b"\0") if entry]
        return {os.fsdecode(path): head.split()[0].decode() for head, path in entries}

    async def refuse(self) -> None:
        """Reject every push from now on."""
        hook = self.path / "hooks" / "pre-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\necho 'frozen for release' >&2\nexit 1\n", encoding="utf-8")
        hook.chmod(0o755)

    async def accept(self) -> None:
        """Take pushes again."""
        (self.path / "hooks" / "pre-receive").unlink()

    async def clone_holds(self, bundle: str, branch: str, path: str) -> bytes | None:
        """Clone a bundle and return a file of its branch."""
        target = self.path.parent / "clone"
        await self._git("clone", "-q", "-b", branch, bundle, str(target), where=False)
        file = target / path
        return file.read_bytes() if file.is_file() else None

    async def _git(self, *arguments: str, stdin: bytes = b"", where: bool = True, missing: bool = False) -> bytes:
        argv = ["git", *(("-C", str(self.path)) if where else ()), *arguments]
        done = await asyncio.to_thread(_run, argv, stdin)
        if done.returncode != 0:
            if missing:
                return None  # type: ignore[return-value]  # only `file` asks for it
            raise ConformanceFailure(f"{' '.join(argv)} failed on the host: {done.stderr.decode('utf-8', 'replace')}")
        return done.stdout


def _run(argv: list[str], stdin: bytes) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(
        argv, input=stdin, env={**environment, **_QUIET}, capture_output=True, timeout=_SECONDS, check=False
    )


async def can_serve() -> bool:
    """Whether this host's git has an HTTP server."""
    done = await asyncio.to_thread(_run, ["git", "--exec-path"], b"")
    return done.returncode == 0 and os.access(done.stdout.rstrip(b"\n") + b"/git-http-backend", os.X_OK)


@contextlib.contextmanager
def serving(root: Path, token: str) -> Iterator[int]:
    """Serve the repositories below `root` over HTTP on loopback to whoever has the token; yields the port."""

    class Handler(_Handler):
        where = root
        secret = token

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(_SECONDS)


class _Handler(BaseHTTPRequestHandler):
    where: Path
    secret: str

    def do_GET(self) -> None:
        """Answer to git's first question."""
        self._answer()

    def do_POST(self) -> None:
        """Answer to the others."""
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class calls it so
        """Say nothing."""

    def _answer(self) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            body = self._body()
            if not self._allowed():
                self._send(401, [("WWW-Authenticate", 'Basic realm="git"')], b"who are you?\n")
                return
            head, _, content = self._backend(body).partition(b"\r\n\r\n")
            fields = [tuple(line.decode().split(": ", 1)) for line in head.split(b"\r\n") if b": " in line]
            headers = {name.lower(): value for name, value in fields}
            status = int(headers.pop("status", "200").split()[0])
            headers.pop("content-length", None)
            self._send(status, list(headers.items()), content)

    def _allowed(self) -> bool:
        kind, _, value = self.headers.get("Authorization", "").partition(" ")
        with contextlib.suppress(ValueError):
            return kind == "Basic" and base64.b64decode(value).decode().partition(":")[2] == self.secret
        return False

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

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _backend(self, body: bytes) -> bytes:
        path, _, query = self.path.partition("?")
        environment = {
            **_QUIET,
            "PATH": os.environ.get("PATH", os.defpath),
            "GIT_PROJECT_ROOT": str(self.where),
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
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "kit",
            "REMOTE_ADDR": "127.0.0.1",
        }
        done = subprocess.run(
            ["git", "http-backend"],
            input=body,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
        )
        return done.stdout
