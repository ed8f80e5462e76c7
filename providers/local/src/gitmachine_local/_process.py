"""A live command: its pipes, which are read here and written by the command itself, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import termios
from typing import TYPE_CHECKING

from gitmachine import Process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from gitmachine import TerminalSize
    from gitmachine.execution import ByteWriter
    from gitmachine_local._client import Channel

CHUNK_BYTES = 1 << 16
LARGE_PIPE_BYTES = 1 << 20
KILL_SECONDS = 5.0
UNREAD_SECONDS = 60.0
F_SETPIPE_SZ = 1031


def make_pipes(count: int) -> list[int]:
    """Return the ends of some pipes, read and write in turn; all or none. Raises OSError."""
    ends: list[int] = []
    try:
        for _ in range(count):
            ends += os.pipe()
    except OSError:
        for fd in ends:
            os.close(fd)
        raise
    return ends


class PipeReader:
    """Reads a pipe as the consumer asks; ends at its end, or with what it held when `finish` was called."""

    def __init__(self, fd: int, on_end: Callable[[], None] | None = None) -> None:
        os.set_blocking(fd, False)
        self.ended = False
        self.drained = True
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._on_end = on_end
        self._left: int | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._turn = 0
        self._size = CHUNK_BYTES

    def __aiter__(self) -> PipeReader:
        return self

    async def __anext__(self) -> bytes:
        while not self.ended:
            size = self._size if self._left is None else min(self._size, self._left)
            try:
                data = os.read(self._fd, size) if size else b""
            except BlockingIOError:
                await self._readable()
                continue
            if not data:
                self.drained = size > 0 or self._at_end()
                self.close()
                break
            if self._left is not None:
                self._left -= len(data)
            self._turn += 1
            if len(data) == CHUNK_BYTES and self._size == CHUNK_BYTES:
                self._enlarge()
            if self._turn % 8 == 0:
                await asyncio.sleep(0)  # a stream that never runs dry leaves room for the others
            return data
        raise StopAsyncIteration

    def _at_end(self) -> bool:
        """Whether nobody holds the other end any more; a byte that came too late is nobody's."""
        try:
            return not os.read(self._fd, 1)
        except BlockingIOError:
            return False

    def _enlarge(self) -> None:
        """Give a busy stream a larger pipe, once; fewer wake-ups for both sides."""
        self._size = LARGE_PIPE_BYTES
        with contextlib.suppress(OSError):  # a user's share of pipe memory is limited; the small one works too
            fcntl.fcntl(self._fd, F_SETPIPE_SZ, LARGE_PIPE_BYTES)

    async def _readable(self) -> None:
        self._waiter = self._loop.create_future()
        self._loop.add_reader(self._fd, self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if not self.ended:
                self._loop.remove_reader(self._fd)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def finish(self) -> None:
        """End after what is in the pipe now: everything that was written before the caller knew of the end."""
        if self.ended:
            return
        self._left = int.from_bytes(fcntl.ioctl(self._fd, termios.FIONREAD, b"\0" * 4), "little")
        if not self._loop.is_closed():
            self._wake()

    def close(self) -> None:
        """Close the pipe."""
        if self.ended:
            return
        self.ended = True
        if not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
            self._wake()
        os.close(self._fd)
        if self._on_end is not None:
            self._on_end()


class PipeWriter:
    """The input of a command, or of a file that is being written."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None

    async def write(self, data: bytes) -> None:
        """Write all of data. Raises BrokenPipeError when nobody reads any more."""
        view = memoryview(data)
        while view:
            if self._closed:
                raise BrokenPipeError("the command's input is closed")
            try:
                view = view[os.write(self._fd, view[: 1 << 20]) :]
            except BlockingIOError:
                await self._writable()

    async def _writable(self) -> None:
        self._waiter = self._loop.create_future()
        self._loop.add_writer(self._fd, self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if not self._closed:
                self._loop.remove_writer(self._fd)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def close(self) -> None:
        """End the input."""
        self.abort()

    def abort(self) -> None:
        """End the input at once; a waiting write fails."""
        if self._closed:
            return
        self._closed = True
        if not self._loop.is_closed():
            self._loop.remove_writer(self._fd)
            self._wake()
        os.close(self._fd)


class NoOutput:
    """The standard error of a command on a terminal: nothing."""

    ended = drained = True

    def __aiter__(self) -> NoOutput:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration

    def finish(self) -> None:
        """Do nothing: it has ended."""

    def close(self) -> None:
        """Do nothing: it has ended."""


class LocalProcess(Process):
    """A command in a local machine. The supervisor enforces its timeout."""

    enforces_timeout = True

    def __init__(self, channel: Channel, stdout: int, stderr: int | None, stdin: int | None) -> None:
        """Hold a command's pipes; one without standard error is on a terminal."""
        self.ident = 0
        self.pid = 0
        self._channel = channel
        self._stdout = PipeReader(stdout, self._stream_ended)
        self._stderr = NoOutput() if stderr is None else PipeReader(stderr, self._stream_ended)
        self._terminal = stderr is None
        self._stdin = None if stdin is None else PipeWriter(stdin)
        self._exit_code: int | None = None
        self._over = asyncio.Event()

    @property
    def id(self) -> str:
        """The pid inside the machine; "0" for a program that did not exist."""
        return str(self.pid)

    @property
    def stdin(self) -> ByteWriter:
        """The input; the request had `open_stdin`."""
        if self._stdin is None:
            raise BrokenPipeError("the command has no input: ask for open_stdin in its request")
        return self._stdin

    @property
    def stdout(self) -> AsyncIterator[bytes]:
        """Standard output, as it arrives."""
        return self._stdout

    @property
    def stderr(self) -> AsyncIterator[bytes]:
        """Standard error, as it arrives."""
        return self._stderr

    def exited(self, code: int | None, timed_out: bool) -> None:
        """Take note of the end; None stands for a lost machine."""
        self._exit_code = code
        self.timed_out = timed_out
        if not self._terminal or code is None:
            self._stdout.finish()
        self._stderr.finish()
        if self._stdin is not None:
            self._stdin.abort()
        self._over.set()
        self._stream_ended()

    def _stream_ended(self) -> None:
        """Let the supervisor throw away what background children write from now on."""
        streams = (self._stdout, self._stderr)
        if self._terminal:
            return
        if self._over.is_set() and all(s.ended for s in streams) and not all(s.drained for s in streams):
            self._channel.tell(self.ident, "drop")

    async def wait(self) -> int:
        """Wait for the exit code."""
        await self._over.wait()
        if self._exit_code is None:
            raise self._channel.lost or AssertionError("a command ended without a code")
        return self._exit_code

    async def kill(self) -> None:
        """Kill the whole process tree, and wait a moment for the end."""
        if not self._over.is_set():
            self._channel.tell(self.ident, "kill")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KILL_SECONDS):
                    await self._over.wait()
        # Who kills need not read; who does has had the time.
        self._channel.loop.call_later(UNREAD_SECONDS, self.discard)

    async def resize(self, size: TerminalSize) -> None:
        """Change the size of its terminal."""
        if not self._terminal:
            await super().resize(size)
        elif not self._over.is_set():
            self._channel.tell(self.ident, "resize", b"%d" % size.columns, b"%d" % size.rows)

    def discard(self) -> None:
        """Close every pipe, of a command that did not come to be."""
        self._stdout.close()
        self._stderr.close()
        if self._stdin is not None:
            self._stdin.abort()
