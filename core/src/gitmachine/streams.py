"""A command's outputs for machines whose connection calls when something has arrived: for providers."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HIGH_BYTES", "LOW_BYTES", "NoOutput", "PushedOutputs", "PushedStream"]

HIGH_BYTES = 1 << 20
LOW_BYTES = 256 << 10
"""How much may wait for its reader before the connection is held back, and how little before it goes on."""


class PushedStream:
    """One stream: filled as its bytes arrive, emptied by one ``async for``; all on one event loop.

    Attributes:
        ended: whether no more will come; what is there can still be read.
    """

    def __init__(self, taken: Callable[[int], None] | None = None) -> None:
        """Make an empty stream.

        Args:
            taken: called with the number of bytes that were read, each time.
        """
        self.ended = False
        self._pieces: deque[bytes] = deque()
        self._taken = taken
        self._waiter: asyncio.Future[None] | None = None

    def feed(self, data: bytes) -> None:
        """Add bytes that have arrived."""
        self._pieces.append(data)
        self._wake()

    def finish(self) -> None:
        """End behind what is there. Repeating it is harmless."""
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> PushedStream:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self.ended:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        if self._taken is not None:
            self._taken(len(data))
        return data


class PushedOutputs:
    """Both outputs of a command, bounded together: what nobody reads holds the connection back.

    Attributes:
        stdout: standard output.
        stderr: standard error.
        held_back: whether the connection is held back now.
        waiting_bytes: how much waits to be read.
    """

    def __init__(self, hold_back: Callable[[bool], None]) -> None:
        """Make a pair of empty streams.

        Args:
            hold_back: stops reading from the connection (True), or goes on with it (False).
        """
        self.stdout = PushedStream(self._taken)
        self.stderr = PushedStream(self._taken)
        self.held_back = False
        self.waiting_bytes = 0
        self._hold_back = hold_back
        self._bounded = True

    def stream(self, number: Literal[1, 2]) -> PushedStream:
        """Return standard output (1) or standard error (2)."""
        return self.stdout if number == 1 else self.stderr

    def feed(self, number: Literal[1, 2], data: bytes) -> None:
        """Add bytes that have arrived on one of them."""
        self.waiting_bytes += len(data)
        self.stream(number).feed(data)
        if self.waiting_bytes > HIGH_BYTES and self._bounded and not self.held_back:
            self.held_back = True
            self._hold_back(True)

    def finish(self) -> None:
        """End both behind what is there."""
        self.stdout.finish()
        self.stderr.finish()

    def open_up(self) -> None:
        """Take whatever comes from now on, read or not: behind it stands the end of what is being killed."""
        self._bounded = False
        self._go_on()

    def _taken(self, count: int) -> None:
        self.waiting_bytes -= count
        if self.waiting_bytes <= LOW_BYTES:
            self._go_on()

    def _go_on(self) -> None:
        if self.held_back:
            self.held_back = False
            self._hold_back(False)


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
