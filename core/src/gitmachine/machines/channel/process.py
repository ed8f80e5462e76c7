"""A command in a slot as a live process."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from gitmachine.execution import Process
from gitmachine.machines.channel.job import Job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from gitmachine.execution import ByteWriter
    from gitmachine.machines.channel.duplex import StreamNumber

__all__ = ["ChannelProcess", "StreamJob"]

HIGH_BYTES = 1 << 20
LOW_BYTES = 256 << 10
"""How much may wait for its reader before the shell's stream is held back, and how little before it goes on."""


class _Pieces:
    """One output stream: filled by the slot, emptied by one reader."""

    def __init__(self, taken: Callable[[int], None]) -> None:
        self._pieces: deque[bytes] = deque()
        self._taken = taken
        self._waiter: asyncio.Future[None] | None = None
        self._complete = False

    def put(self, data: bytes) -> None:
        self._pieces.append(data)
        self._wake()

    def complete(self) -> None:
        self._complete = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> _Pieces:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self._complete:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = self._pieces.popleft()
        self._taken(len(data))
        return data


class StreamJob(Job):
    """A command whose output is read while it runs, in bounded memory."""

    def __init__(self, set_reading: Callable[[bool], None]) -> None:
        """Make a job.

        Args:
            set_reading: lets the slot's stream flow, or holds it back.
        """
        super().__init__()
        self.streams: dict[StreamNumber, _Pieces] = {1: _Pieces(self._taken), 2: _Pieces(self._taken)}
        self._set_reading = set_reading
        self._waiting_bytes = 0
        self._held_back = False

    def output(self, stream: StreamNumber, data: bytes) -> None:
        """Put a piece of output where its reader finds it."""
        self._waiting_bytes += len(data)
        self.streams[stream].put(data)
        if self._waiting_bytes > HIGH_BYTES and not self._held_back:
            self._held_back = True
            self._set_reading(False)

    def end_stream(self, stream: StreamNumber) -> None:
        """Let the reader come to an end behind what is there."""
        self.streams[stream].complete()

    def _taken(self, count: int) -> None:
        self._waiting_bytes -= count
        if self._held_back and self._waiting_bytes <= LOW_BYTES:
            self._held_back = False
            self._set_reading(True)


class _NoInput:
    """The input of a command that has none."""

    async def write(self, data: bytes) -> None:
        raise BrokenPipeError(f"the command has no input to write {len(data)} bytes to: spawn it with open_stdin")

    async def close(self) -> None:
        """Nothing is open."""


class ChannelProcess(Process):
    """A command that is running in a slot.

    Attributes:
        job: what the slot is busy with.
    """

    def __init__(
        self,
        job: StreamJob,
        identifier: str,
        *,
        outcome: Callable[[], Awaitable[int]],
        kill: Callable[[], Awaitable[None]],
    ) -> None:
        """Make the process of a job.

        Args:
            job: what the slot is busy with.
            identifier: its name, unique in the machine.
            outcome: waits for the exit code, or raises what became of the command.
            kill: kills it with its whole tree.
        """
        self.job = job
        self._id = identifier
        self._outcome = outcome
        self._kill = kill
        self._stdin = _NoInput()

    @property
    def id(self) -> str:
        """The command's mark, or the shell's pid and a number."""
        return self._id

    @property
    def stdin(self) -> ByteWriter:
        """No input: commands with one go another way."""
        return self._stdin

    @property
    def stdout(self) -> AsyncIterator[bytes]:
        """Standard output, as it arrives."""
        return self.job.streams[1]

    @property
    def stderr(self) -> AsyncIterator[bytes]:
        """Standard error, as it arrives."""
        return self.job.streams[2]

    async def wait(self) -> int:
        """Wait for the exit code."""
        return await self._outcome()

    async def kill(self) -> None:
        """Kill the whole process tree; what it printed until then can still be read."""
        await self._kill()
