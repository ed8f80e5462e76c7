"""The two ends of a command's pipes that its client holds, without threads and without a buffer in between."""

from __future__ import annotations

import asyncio
import fcntl
import os
import termios
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PipeReader", "PipeWriter"]

_CHUNK_BYTES = 1 << 16


class PipeReader:
    """Reads a pipe as the consumer asks; ends at its end, or after `finish` with what it held then.

    A pipe that others still hold when it has ended is handed to `adopt`, which owns the descriptor from then on.
    """

    def __init__(self, fd: int, adopt: Callable[[int], None]) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._adopt = adopt
        self._loop = asyncio.get_running_loop()
        self._left: int | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._reads = 0
        self.ended = False

    def __aiter__(self) -> PipeReader:
        return self

    async def __anext__(self) -> bytes:
        while not self.ended:
            size = _CHUNK_BYTES if self._left is None else min(_CHUNK_BYTES, self._left)
            if size == 0:
                self._end(adopted=True)
                break
            try:
                data = os.read(self._fd, size)
            except BlockingIOError:
                await self._readable()
                continue
            if not data:
                self._end()
                break
            if self._left is not None:
                self._left -= len(data)
            self._reads += 1
            if self._reads % 8 == 0:
                await asyncio.sleep(0)  # a stream that never runs dry leaves room for the others
            return data
        raise StopAsyncIteration

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
        """End after what is in the pipe now: all that the command wrote before its end."""
        if not self.ended and self._left is None:
            self._left = int.from_bytes(fcntl.ioctl(self._fd, termios.FIONREAD, b"\0" * 4), "little")
            self._wake()

    def close(self) -> None:
        """End at once."""
        if not self.ended:
            self._end()

    def _end(self, *, adopted: bool = False) -> None:
        self.ended = True
        if not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
            self._wake()
        if adopted:
            self._adopt(self._fd)
        else:
            os.close(self._fd)


class PipeWriter:
    """The input of a live command."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    async def write(self, data: bytes) -> None:
        """Write all of data. Raises BrokenPipeError when nobody reads any more."""
        view = memoryview(data)
        while view:
            if self._closed:
                raise BrokenPipeError("the command's input is closed")
            try:
                view = view[os.write(self._fd, view[:_CHUNK_BYTES]) :]
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
