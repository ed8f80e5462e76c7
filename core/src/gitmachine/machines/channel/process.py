"""A command in a slot as a live process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitmachine.execution import Process
from gitmachine.machines.channel.job import Job
from gitmachine.streams import PushedOutputs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from gitmachine.execution import ByteWriter
    from gitmachine.machines.channel.duplex import StreamNumber

__all__ = ["ChannelProcess", "StreamJob"]


class StreamJob(Job):
    """A command whose output is read while it runs, in bounded memory.

    Attributes:
        outputs: what it prints.
    """

    def __init__(self, hold_back: Callable[[bool], None]) -> None:
        """Make a job.

        Args:
            hold_back: holds the slot's stream back, or lets it flow.
        """
        super().__init__()
        self.outputs = PushedOutputs(hold_back)

    def output(self, stream: StreamNumber, data: bytes) -> None:
        """Put a piece of output where its reader finds it."""
        self.outputs.feed(stream, data)

    def end_stream(self, stream: StreamNumber) -> None:
        """Let the reader come to an end behind what is there."""
        self.outputs.stream(stream).finish()


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
        return self.job.outputs.stdout

    @property
    def stderr(self) -> AsyncIterator[bytes]:
        """Standard error, as it arrives."""
        return self.job.outputs.stderr

    async def wait(self) -> int:
        """Wait for the exit code."""
        return await self._outcome()

    async def kill(self) -> None:
        """Kill the whole process tree; what it printed until then can still be read."""
        await self._kill()
