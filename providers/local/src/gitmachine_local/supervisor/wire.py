"""One client of the supervisor: frames in, descriptors in, replies out.

A frame is a length (4 bytes, big-endian) and a body. A request's body is NUL-joined fields, ``id op arguments…``, and
descriptors may travel with its first byte; a reply's body is words, ``id kind arguments…``.

| request | arguments | descriptors | replies |
|---|---|---|---|
| init | working directory, mark prefix, NAME=value… | | ok |
| keep, hello | | | ok, 1 when paused |
| spawn | timeout or "", cwd, 1 with stdin, count, argv…, NAME=value… | stdout, stderr: r w; stdin r | started, exit |
| run | the same | the same | exit |
| spawn | the same, COLUMNSxROWS in place of the 1 | stdout w, stdin r | started, exit |
| resize | (the id is the command's) columns, rows | | none |
| kill, drop | (the id is the command's) | | none |
| read, write, list | path, limit or size | one end of a pipe | ok, bytes |
| pause, resume, terminate, shutdown | | | ok |

Replies: ``ok N``, ``started PID``, ``exit CODE TIMED_OUT``, ``error ERRNO filename``. The client makes the pipes, so
output goes from the command to the client directly, and no descriptor ever travels out of the machine. What a terminal
shows may still be on its way when its command's exit is reported: its end is the end of the pipe.
"""

from __future__ import annotations

import errno
import select

from gitmachine_local.supervisor.lean import os, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from gitmachine_local.supervisor.loop import Command

MAX_FRAME_BYTES = 64 << 20
MAX_FDS = 5
CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

Words: TypeAlias = "tuple[object, ...]"
Serve: TypeAlias = "Callable[[Connection, list[bytes]], None]"


class Connection:
    """A client: its socket, its commands, and the pipes of commands that ended while their children live on."""

    def __init__(
        self, sock: socket.socket, poll: select.poll, serve: Callable[[Connection, list[bytes]], None]
    ) -> None:
        sock.setblocking(False)
        self.fd = sock.fileno()
        self.commands: dict[bytes, Command] = {}
        self.held: dict[bytes, list[int]] = {}
        self.open = True
        self._sock = sock
        self._poll = poll
        self._serve = serve
        self._buffer = bytearray()
        self._fds: list[int] = []
        self._out: list[bytes] = []

    def receive(self) -> bool:
        """Serve what has arrived; False when the client is gone, or speaks another language."""
        self._flush()
        try:
            data, ancillary, flags, _ = self._sock.recvmsg(1 << 18, socket.CMSG_SPACE(MAX_FDS * 4), CLOEXEC)
        except BlockingIOError:
            return True
        except OSError:
            return False
        for _level, kind, payload in ancillary:
            if kind == socket.SCM_RIGHTS:
                self._fds += memoryview(payload).cast("i").tolist()
        if not data or flags & socket.MSG_CTRUNC:
            return False
        self._buffer += data
        while len(self._buffer) >= 4:
            end = 4 + int.from_bytes(self._buffer[:4], "big")
            if end > MAX_FRAME_BYTES:
                return False
            if len(self._buffer) < end:
                break
            fields = bytes(self._buffer[4:end]).split(b"\0")
            del self._buffer[:end]
            try:
                self._serve(self, fields)
            except (ValueError, LookupError, AttributeError):
                return False
        return self.open

    def take(self, count: int) -> list[int]:
        """Return the descriptors that came with the request being served."""
        fds, self._fds = self._fds[:count], self._fds[count:]
        if len(fds) < count:
            close(*fds)
            raise ValueError("descriptors are missing")
        return fds

    def reply(self, ident: bytes, words: Words) -> None:
        """Send a reply, now or when the client takes it."""
        body = b" ".join([ident, *(word if isinstance(word, bytes) else str(word).encode() for word in words)])
        self._out.append(len(body).to_bytes(4, "big") + body)
        self._flush()

    def _flush(self) -> None:
        waiting = False
        while self.open and self._out:
            try:
                rest = self._out[0][self._sock.send(self._out[0]) :]
            except BlockingIOError:
                waiting = True
                break
            except OSError:
                self._out.clear()  # the end of the connection is read in its turn
                return
            self._out[:1] = [rest] if rest else []
        if self.open:
            self._poll.modify(self.fd, select.POLLIN | (select.POLLOUT if waiting else 0))

    def close(self) -> None:
        """Let go of the client."""
        self.open = False
        self._sock.close()
        close(*self._fds)


def failure(error: OSError) -> Words:
    """Return an error as words of a reply."""
    name = (
        error.filename
        if isinstance(error.filename, bytes)
        else str(error.filename or "").encode("utf-8", "surrogateescape")
    )
    return ("error", error.errno or errno.EIO, name[:4096])


def close(*fds: int) -> None:
    """Close descriptors."""
    for fd in fds:
        os.close(fd)
