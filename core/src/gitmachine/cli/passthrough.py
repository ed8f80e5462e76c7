"""A command's output, byte for byte, to our own standard streams."""

from __future__ import annotations

import asyncio
import os
import select

from gitmachine.cli.output import OutputClosed

__all__ = ["Passthrough"]

PIPE_CHUNK_BYTES = 4096
"""A pipe that is ready takes this much (PIPE_BUF) without blocking."""
TERMINAL_CHUNK_BYTES = 256
"""A terminal that is ready takes this much (the kernel's WAKEUP_CHARS) without blocking."""


class Passthrough:
    """Writes to a descriptor in order, and waits for a slow reader without blocking the event loop.

    Args:
        descriptor: 1 or 2.
        essential: whether it matters that nobody reads; else what is written is dropped then.
    """

    def __init__(self, descriptor: int, *, essential: bool) -> None:
        self._descriptor = descriptor
        self._essential = essential
        self._chunk = TERMINAL_CHUNK_BYTES if os.isatty(descriptor) else PIPE_CHUNK_BYTES
        self._lock = asyncio.Lock()
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._closed = False

    async def write(self, data: bytes) -> None:
        """Write all of data.

        Raises:
            OutputClosed: nobody reads any more (only when it is essential).
        """
        view = memoryview(data)
        async with self._lock:
            while view and not self._closed:
                if not self._poll.poll(0):
                    await self._ready()
                    continue
                try:
                    view = view[os.write(self._descriptor, view[: self._chunk]) :]
                except BlockingIOError:
                    await self._ready()
                except OSError as error:  # the pipe has no reader, the terminal is gone, the disk is full
                    self._closed = True
                    if self._essential:
                        raise OutputClosed(error.strerror) from error

    async def _ready(self) -> None:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()

        def set_ready() -> None:
            if not ready.done():
                ready.set_result(None)

        try:
            loop.add_writer(self._descriptor, set_ready)
        except PermissionError:  # epoll refuses plain files, which are always ready
            await asyncio.sleep(0)
            return
        try:
            await ready
        finally:
            loop.remove_writer(self._descriptor)
