"""A live command: its pipes, which are read here and written by the command itself, and its end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from gitmachine import Process
from gitmachine.pipes import PipeReader, PipeWriter
from gitmachine.streams import NoOutput

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gitmachine import TerminalSize
    from gitmachine.execution import ByteWriter
    from gitmachine_local._client import Channel

KILL_SECONDS = 5.0
UNREAD_SECONDS = 60.0


class LocalProcess(Process):
    """A command in a local machine. The supervisor enforces its timeout."""

    enforces_timeout = True

    def __init__(self, channel: Channel, stdout: int, stderr: int | None, stdin: int | None) -> None:
        """Hold a command's pipes; one without standard error is on a terminal."""
        self.ident = 0
        self.pid = 0
        self._channel = channel
        self._stdout = PipeReader(stdout, on_end=self._stream_ended)
        self._stderr = NoOutput() if stderr is None else PipeReader(stderr, on_end=self._stream_ended)
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
