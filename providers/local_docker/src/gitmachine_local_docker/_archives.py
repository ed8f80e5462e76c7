"""Archives into an engine and out of it, each on a connection of its own that a thread serves.

What is large goes from the file into the socket without being read here, and out of the socket into the file with one
copy, whatever the event loop does meanwhile.

https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/PutContainerArchive
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import sys
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import quote

import aiodocker
import aiohttp

from gitmachine.archives import Pieces, Stretch, Unpacker, advance, local_error, run_alone
from gitmachine_local_docker._hijack import content_length, message_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gitmachine.archives import Transfer
    from gitmachine_local_docker._engine import Engine

__all__ = ["get_archive", "put_archive"]

T = TypeVar("T")

WAIT_SECONDS = 1
"""How long the kernel waits for the other side before we look whether somebody gave up."""
SEND_BYTES = 4 << 20
"""How much is sent before we look whether the engine has something to say already."""
READ_BYTES, FIRST_READ_BYTES = 1 << 20, 64 << 10
MAX_ANSWER_BYTES = 64 << 10


async def put_archive(engine: Engine, container: str, directory: str, source: Path) -> Transfer:
    """Unpack something of this host, called ``it``, into a directory of a container.

    Raises:
        LocalFileError: `source` cannot be read.
        aiodocker.DockerError: the engine refused.
        OSError: the connection broke.
    """
    path = f"{await engine.base()}/containers/{container}/archive?path={_quoted(directory)}"
    wire = await _Wire.open(engine)
    return await run_alone(lambda: _put(wire, path, source), wire.give_up)


async def get_archive(
    engine: Engine, container: str, source: str, target: Path, *, name: str, max_bytes: int, max_entries: int
) -> Transfer:
    """Unpack the engine's archive of something in a container; the arguments are those of `unpack`.

    Raises:
        ArchiveError: the archive holds what is refused.
        LocalFileError: this host cannot write it.
        aiodocker.DockerError: the engine refused.
        aiohttp.ClientError, OSError: the connection broke.
    """
    path = f"{await engine.base()}/containers/{container}/archive?path={_quoted(source)}"
    wire = await _Wire.open(engine)

    def take() -> Transfer:
        with wire:
            # 1.0, so that nothing is between the pieces: an archive says itself where it ends.
            # Uncompressed, which costs the engine a tenth (writeCompressedResponse, moby/api/server).
            wire.send(f"GET {path} HTTP/1.0\r\nHost: docker\r\nAccept-Encoding: identity\r\n\r\n".encode())
            head, begun = wire.read_head()
            _check(wire, head, begun)
            return _unpacked(wire, begun, Unpacker(target, name, max_bytes, max_entries))

    return await run_alone(take, wire.give_up)


def _quoted(path: str) -> str:
    return quote(os.fsencode(path), safe="/")


def _put(wire: _Wire, path: str, source: Path) -> Transfer:
    with wire:
        head = f"PUT {path} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/x-tar\r\n"
        wire.send(f"{head}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        pieces, complete = Pieces(source, name="it"), False
        with contextlib.suppress(_AnsweredError), contextlib.closing(iter(pieces)) as walk:
            for piece in walk:
                if isinstance(piece, Stretch):
                    wire.send(b"%x\r\n" % piece.size)
                    wire.send_stretch(piece)
                    wire.send(b"\r\n")
                else:
                    wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            complete = True
            wire.send(b"0\r\n\r\n")
        _check(wire, *wire.read_head())
        if not complete:
            raise aiohttp.ClientPayloadError("the engine answered before it had everything")
        return pieces.transfer


def _unpacked(wire: _Wire, begun: bytes, unpacker: Unpacker) -> Transfer:
    try:
        unpacker.feed(begun)
        buffer = memoryview(bytearray(READ_BYTES))
        # Small pieces first: what is in them is written while the next are on their way.
        wanted = FIRST_READ_BYTES
        while size := wire.read_into(buffer[:wanted]):
            unpacker.feed(buffer[:size])
            wanted = min(2 * wanted, READ_BYTES)
        if not unpacker.complete:
            raise aiohttp.ClientPayloadError("the engine's archive stops in the middle")
        wire.look()
        return unpacker.finish()
    except BaseException:
        unpacker.abandon()
        raise


def _check(wire: _Wire, head: bytes, begun: bytes) -> None:
    """Raise what an answer's head says, if it is a refusal; the body has the reason."""
    words = head.split(None, 2)
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 502
    if status != 200:
        length = content_length(head)
        wanted = MAX_ANSWER_BYTES if length is None else min(length, MAX_ANSWER_BYTES)
        while len(begun) < wanted and (more := wire.receive()):
            begun += more
        raise aiodocker.DockerError(status, message_of(begun))
    if head.startswith(b"HTTP/1.0") and b"\r\ntransfer-encoding:" in head.lower():
        raise aiodocker.DockerError(502, "something before the engine does not speak HTTP/1.0")


class _AnsweredError(Exception):
    """The engine answers before it has everything; never leaves this module."""


class _Wire:
    """One connection, for a thread: blocking, but for a look around every second."""

    def __init__(self, plain: socket.socket) -> None:
        plain.setblocking(True)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            plain.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", WAIT_SECONDS, 0))
        self._socket = plain
        self._poll = select.poll()
        self._poll.register(plain, select.POLLIN)
        self._given_up = False
        self._by_kernel = sys.platform == "linux"

    @classmethod
    async def open(cls, engine: Engine) -> _Wire:
        """Connect."""
        return cls(await engine.dialer.dial())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def give_up(self) -> None:
        """Let whoever reads or writes fail at once; from any thread."""
        self._given_up = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def look(self) -> None:
        """Raise if somebody gave up."""
        if self._given_up:
            raise ConnectionAbortedError("the transfer was given up")

    def send(self, data: bytes) -> None:
        """Send all of it. Raises _AnsweredError when the engine speaks first, or closed the connection."""
        view = memoryview(data)
        while view:
            sent = self._sent(lambda view=view: self._socket.send(view))  # type: ignore[misc]  # called at once
            view = view[sent:]

    def send_stretch(self, stretch: Stretch) -> None:
        """Send a part of a file, by the kernel alone where it does that."""
        left = stretch.size
        while left:
            count = min(left, SEND_BYTES)
            if self._by_kernel:
                left -= self._sent(lambda count=count: self._sendfile(stretch, count))  # type: ignore[misc]  # at once
                continue
            content = os.read(stretch.fd, min(count, READ_BYTES))
            if not content:
                raise stretch.shrunk()
            self.send(content)
            left -= len(content)

    def _sendfile(self, stretch: Stretch, count: int) -> int:
        try:
            sent = os.sendfile(self._socket.fileno(), stretch.fd, None, count)
        except OSError as error:
            if error.errno in {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
                self._by_kernel = False  # not from this file system
                return 0
            if error.errno == errno.EIO:
                raise local_error(errno.EIO, stretch.path) from error
            raise
        if not sent:
            raise stretch.shrunk()
        return sent

    def _sent(self, action: Callable[[], int]) -> int:
        while True:
            self.look()
            if self._poll.poll(0):
                raise _AnsweredError
            try:
                sent = action()
            except BlockingIOError:
                continue  # nobody took anything for a second
            except (BrokenPipeError, ConnectionResetError) as error:
                self.look()
                raise _AnsweredError from error
            advance()
            return sent

    def read_into(self, buffer: memoryview) -> int:
        """Fill a buffer, as far as that does not take long; returns 0 at the end."""
        return self._received(lambda: self._socket.recv_into(buffer, 0, socket.MSG_WAITALL))

    def receive(self) -> bytes:
        """Return some of what has come; nothing at the end."""
        return self._received(lambda: self._socket.recv(MAX_ANSWER_BYTES))

    def _received(self, action: Callable[[], T]) -> T:
        while True:
            self.look()
            try:
                received = action()
            except BlockingIOError:
                continue  # nothing came for a second
            advance()
            return received

    def read_head(self) -> tuple[bytes, bytes]:
        """Return the head of an answer, and what came after it."""
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            more = self.receive()
            if not more or len(data) > MAX_ANSWER_BYTES:
                raise aiohttp.ServerDisconnectedError
            data += more
        return data[:end], data[end + 4 :]
