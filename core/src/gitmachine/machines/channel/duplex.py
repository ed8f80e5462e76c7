"""What a provider brings: a duplex stream to a POSIX shell, pushed to us as its bytes arrive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

from gitmachine.errors import MachineLostError
from gitmachine.execution import ExecRequest, Process

__all__ = ["ChannelLostError", "Connect", "Duplex", "Judge", "Plain", "Receiver", "StreamNumber"]

StreamNumber = Literal[1, 2]
"""1 is standard output, 2 is standard error."""


class ChannelLostError(MachineLostError):
    """The shell that ran a command ended, or the stream to it, before it said how the command ended.

    The command may or may not have finished; it is never run again.
    """


class Receiver(Protocol):
    """Where a provider delivers what comes from the shell; made by the pool, one for each stream.

    Both methods are for the event loop's thread, return at once and raise nothing. They may be called while `Connect`
    is still connecting. Calls after `ended` are ignored.
    """

    def feed(self, stream: StreamNumber, data: bytes) -> None:
        """Take bytes of one of the shell's two outputs, in order within each.

        Large pieces are cheaper than small ones: where frames arrive together, join those of the same stream.
        """

    def ended(self, error: Exception | None = None) -> None:
        """Take notice that no more will come: the shell exited, or (with an error) the connection broke."""


class Duplex(Protocol):
    """An open stream to ``sh`` without arguments and without a terminal; what an asyncio transport offers, in short."""

    def write(self, data: bytes) -> None:
        """Send bytes to the shell's standard input; buffers what the connection does not take at once.

        Writing to a stream that has ended does nothing: `Receiver.ended` tells.
        """

    async def drain(self) -> None:
        """Wait until the buffer of `write` has room again; returns, or raises, when the stream has ended."""

    def pause_reading(self) -> None:
        """Let no more be fed until `resume_reading`; what is under way may still come. Repeating it is harmless."""

    def resume_reading(self) -> None:
        """Undo `pause_reading`. Repeating it is harmless."""

    async def close(self) -> None:
        """End the stream, and with it the shell; returns within a few seconds. Closing twice is harmless."""


Connect = Callable[[Receiver], Awaitable[Duplex]]
"""Opens one more stream to a new shell: ``docker exec -i`` of ``sh``, or an SSH session with the command ``sh``.

Raises a `MachineError` (or OSError) when it cannot; the pool then goes on with what it has, or takes the plain way.
"""

Plain = Callable[[ExecRequest], Awaitable[Process]]
"""The provider's own way to start a command, for what the channel cannot serve; the request comes as it was."""

Judge = Callable[[ChannelLostError], Awaitable[Exception]]
"""Asked by the pool what a lost stream means; returns what to raise from the lost command.

A provider looks whether its machine is still there: if it is not, it returns a `MachineLostError` that says why; if it
is (somebody killed the shell), a plain `MachineError`, so that the machine goes on being used.
"""
