"""What a slot is busy with: where the output goes, and how it ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gitmachine.machines.channel.duplex import ChannelLostError
from gitmachine.output import OutputBuffer

if TYPE_CHECKING:
    from gitmachine.machines.channel.duplex import StreamNumber

__all__ = ["KILLED", "CollectJob", "Job"]

KILLED = "137"
"""The status of a command whose shell was killed with it: 128 + SIGKILL."""


class Job:
    """One order on its way; what it prints is thrown away.

    Attributes:
        done: its status word (an exit code, or ``cwd`` and an errno), or ChannelLostError.
        going: done as soon as the command may be running, or is over.
        killed: whether its end was asked for, so that a lost shell is no surprise.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.done: asyncio.Future[str] = loop.create_future()
        self.going: asyncio.Future[None] = loop.create_future()
        self.killed = False
        self.began = loop.time()
        self.took = 0.0

    def output(self, stream: StreamNumber, data: bytes) -> None:
        """Take a piece of output."""

    def end_stream(self, stream: StreamNumber) -> None:
        """Take notice that a stream is complete."""

    def go(self) -> None:
        """Take notice that the directory was found, and the command begins."""
        if not self.going.done():
            self.going.set_result(None)

    def finish(self, status: str) -> None:
        """End with a status."""
        self.took = asyncio.get_running_loop().time() - self.began
        self.go()
        if not self.done.done():
            self.done.set_result(status)

    def lose(self, error: Exception | None) -> None:
        """End because the shell is gone."""
        if self.killed:
            self.finish(KILLED)
        elif not self.done.done():
            reason = f": {error}" if error is not None else ""
            lost = ChannelLostError(
                "the shell that ran the command ended before it said how the command ended, so the command may or "
                f"may not have finished{reason}",
                operation="execute",
            )
            lost.__cause__ = error
            self.done.set_exception(lost)
            self.done.exception()  # seen: whoever still wants to know is told again
        self.go()
        self.end_stream(1)
        self.end_stream(2)


class CollectJob(Job):
    """A command whose output nobody watches; the result keeps it."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__()
        self.stdout = OutputBuffer(limit_bytes)
        self.stderr = OutputBuffer(limit_bytes)

    def output(self, stream: StreamNumber, data: bytes) -> None:
        """Keep a piece of output."""
        (self.stdout if stream == 1 else self.stderr).append(data)
