"""The ends of a command's pipes that its client holds, without threads and without a buffer in between.

For providers whose commands are processes of this host.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
import termios
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PipeReader", "PipeWriter", "Readiness", "make_pipes"]

CHUNK_BYTES = 1 << 16
LARGE_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031  # <linux/fcntl.h>; the module fcntl does not name it everywhere


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


class Readiness:
    """Waits, one at a time, until a descriptor that does not block can be read (or written), or is given up."""

    def __init__(self, fd: int, *, writing: bool = False) -> None:
        """Belong to the running loop, and to a descriptor, which is made not to block and stays the caller's."""
        os.set_blocking(fd, False)
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._add = self._loop.add_writer if writing else self._loop.add_reader
        self._remove = self._loop.remove_writer if writing else self._loop.remove_reader
        self._given_up = False
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Wait for it, for `wake`, or for `give_up`."""
        self._waiter = self._loop.create_future()
        self._add(self._fd, self.wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if not self._given_up:
                self._remove(self._fd)

    def wake(self) -> None:
        """Let whoever waits go on now."""
        if self._waiter is not None and not self._waiter.done() and not self._loop.is_closed():
            self._waiter.set_result(None)

    def give_up(self) -> None:
        """Let go of the descriptor, before it is closed, and of whoever waits."""
        self._given_up = True
        if not self._loop.is_closed():
            self._remove(self._fd)
            self.wake()


class PipeReader:
    """Reads a pipe as the consumer asks; ends at its end, or with what it held when `finish` was called.

    Attributes:
        ended: whether no more will come.
        drained: whether nobody held the other end any more when it ended.
    """

    def __init__(
        self, fd: int, *, on_end: Callable[[], None] | None = None, adopt: Callable[[int], None] | None = None
    ) -> None:
        """Read a pipe, which is closed at the end.

        Args:
            fd: the descriptor to read.
            on_end: called once, when it has ended.
            adopt: takes the descriptor over, instead, of a pipe that others may still write to after `finish`.
        """
        self.ended = False
        self.drained = True
        self._fd = fd
        self._readable = Readiness(fd)
        self._on_end = on_end
        self._adopt = adopt
        self._left: int | None = None
        self._turn = 0
        self._size = CHUNK_BYTES

    def __aiter__(self) -> PipeReader:
        return self

    async def __anext__(self) -> bytes:
        while not self.ended:
            size = self._size if self._left is None else min(self._size, self._left)
            if size == 0:
                self.drained = self._at_end()
                self._end(self._adopt)
                break
            try:
                data = os.read(self._fd, size)
            except BlockingIOError:
                await self._readable.wait()
                continue
            if not data:
                self._end(None)
                break
            if self._left is not None:
                self._left -= len(data)
            if len(data) == CHUNK_BYTES and self._size == CHUNK_BYTES:
                self._enlarge()
            self._turn += 1
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
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # a user's share of pipe memory is limited; the small one works too
                fcntl.fcntl(self._fd, _F_SETPIPE_SZ, LARGE_PIPE_BYTES)

    def finish(self) -> None:
        """End after what is in the pipe now: everything that was written before the caller knew of the end."""
        if self.ended or self._left is not None:
            return
        self._left = int.from_bytes(fcntl.ioctl(self._fd, termios.FIONREAD, b"\0" * 4), "little")
        self._readable.wake()

    def close(self) -> None:
        """End at once."""
        self._end(None)

    def _end(self, adopt: Callable[[int], None] | None) -> None:
        if self.ended:
            return
        self.ended = True
        self._readable.give_up()
        if adopt is None:
            os.close(self._fd)
        else:
            adopt(self._fd)
        if self._on_end is not None:
            self._on_end()


class PipeWriter:
    """The input of a command, or of a file that is being written."""

    def __init__(self, fd: int) -> None:
        """Write to a descriptor, which `close` closes."""
        self._fd = fd
        self._closed = False
        self._writable = Readiness(fd, writing=True)

    async def write(self, data: bytes) -> None:
        """Write all of data. Raises BrokenPipeError when nobody reads any more."""
        view = memoryview(data)
        while view:
            if self._closed:
                raise BrokenPipeError("the command's input is closed")
            try:
                view = view[os.write(self._fd, view[:LARGE_PIPE_BYTES]) :]
            except BlockingIOError:
                await self._writable.wait()

    async def close(self) -> None:
        """End the input."""
        self.abort()

    def abort(self) -> None:
        """End the input at once; a waiting write fails."""
        if self._closed:
            return
        self._closed = True
        self._writable.give_up()
        os.close(self._fd)
