"""A live command in a session of its own: with its input open, or on a terminal."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from gitmachine.execution import ByteWriter, Process
from gitmachine.machines.channel import ChannelLostError
from gitmachine.machines.channel.scanner import MarkerScanner
from gitmachine.streams import PushedOutputs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from gitmachine import TerminalSize
    from gitmachine.machines.channel import StreamNumber
    from gitmachine_ssh._session import Session

__all__ = ["SSHProcess", "WatchedProcess"]

CHUNK_BYTES = 256 << 10
END_SECONDS = 5.0
"""How long a killed command may take to be reported."""
KILLED = 137


class _Input:
    """The input of a process."""

    def __init__(self, process: SSHProcess, end: bytes | None) -> None:
        self._process = process
        self._end = end
        self._closed = False

    async def write(self, data: bytes) -> None:
        if self._closed or self._process.is_over:
            raise BrokenPipeError("the command's input is closed")
        session = self._process.session
        view = memoryview(data)
        while view:
            if self._process.is_over:
                raise BrokenPipeError("the command does not read any more")
            session.write(bytes(view[:CHUNK_BYTES]))
            view = view[CHUNK_BYTES:]
            if not session.has_room:
                await self._process.unless_over(session.drain())

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if not self._process.is_over:
            if self._end is not None:
                self._process.session.write(self._end)
            else:
                self._process.session.write_eof()


class SSHProcess(Process):
    """A command in a session of its own; the receiver of what its shell says.

    Without a terminal the shell stays behind the command and says how it ended. On a terminal the command takes the
    shell's place, and the session's own end says so.
    """

    def __init__(
        self,
        token: str,
        *,
        terminal: bool,
        killing: Callable[[SSHProcess], Awaitable[None]],
        judge: Callable[[ChannelLostError], Awaitable[Exception]],
    ) -> None:
        """Wait for a command that is about to be started.

        Args:
            token: what the shell's words carry.
            terminal: whether it runs on one.
            killing: kills the whole tree on the host.
            judge: says what a lost session means.
        """
        loop = asyncio.get_running_loop()
        self.session: Session
        self.mark = ""
        self.going: asyncio.Future[str] = loop.create_future()
        """``go``, or the word that says why nothing was started."""
        self._terminal = terminal
        self._killing = killing
        self._judge = judge
        self._verdict: Exception | None = None
        self._over = asyncio.Event()
        self._code: int | None = None
        self._words: dict[int, str] = {}
        self._outputs = PushedOutputs(self._hold_back)
        self._stdin = _Input(self, b"\x04" if terminal else None)
        self._scanners = {1: self._scanner(1, token), 2: self._scanner(2, token)}

    def _scanner(self, number: StreamNumber, token: str) -> MarkerScanner:
        scanner = MarkerScanner(lambda data: self._output(number, data), lambda word: self._word(number, word))
        scanner.expect(token)
        return scanner

    # From the session

    def feed(self, stream: StreamNumber, data: bytes) -> None:
        """Take output; what comes after the command's end is a left-over child's, and nobody's."""
        if not self._over.is_set():
            self._scanners[stream].feed(data)

    def ended(self, error: Exception | None = None) -> None:
        """Take note of the session's end: of a command on a terminal it is the end, else the shell is lost."""
        if self._terminal and error is None and self.going.done() and self.session.exit_status is not None:
            self._finish(self.session.exit_status)
        elif not self._over.is_set():
            self._lost = ChannelLostError("the shell that ran the command ended" if error is None else str(error))
            self._lost.__cause__ = error
            if not self.going.done():
                self.going.set_exception(self._lost)
                self.going.exception()
            self._finish(None)

    def _word(self, number: StreamNumber, word: str) -> None:
        word = word.rstrip("\r")  # a terminal ends lines so
        if not self.going.done() and number == 1:
            self.going.set_result(word)
            if self._terminal:
                self._scanners[1].expect("")
            if word == "go":
                return
        self._words[number] = word
        self._outputs.stream(number).finish()
        if len(self._words) == 2:
            status = self._words[1]
            self._finish(int(status) & 255 if status.isdigit() else 255)

    def _output(self, number: StreamNumber, data: bytes) -> None:
        if self.going.done() and not self._outputs.stream(number).ended:  # else of the shell, before or after it
            self._outputs.feed(number, data)

    def _hold_back(self, held: bool) -> None:
        if held:
            self.session.pause_reading()
        else:
            self.session.resume_reading()

    def _finish(self, code: int | None) -> None:
        if self._over.is_set():
            return
        self._code = code
        self._over.set()
        self._outputs.finish()
        self.session.resume_reading()

    # To whoever holds it

    @property
    def is_over(self) -> bool:
        """Whether the command has ended, or its session."""
        return self._over.is_set()

    @property
    def on_terminal(self) -> bool:
        """Whether it runs on a terminal."""
        return self._terminal

    async def unless_over(self, work: Awaitable[None]) -> None:
        """Await something, but no longer than the command lives."""
        task, over = asyncio.ensure_future(work), asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait([task, over], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise BrokenPipeError("the command does not read any more")
        finally:
            task.cancel()
            over.cancel()

    @property
    def id(self) -> str:
        """The process id of its shell on the host."""
        return str(self.session.pid)

    @property
    def stdin(self) -> ByteWriter:
        """The input."""
        return self._stdin

    @property
    def stdout(self) -> AsyncIterator[bytes]:
        """Standard output, or everything that appears on the terminal."""
        return self._outputs.stdout

    @property
    def stderr(self) -> AsyncIterator[bytes]:
        """Standard error."""
        return self._outputs.stderr

    async def wait(self) -> int:
        """Wait for the exit code."""
        await self._over.wait()
        if self._code is None:
            if self._verdict is None:
                self._verdict = await self._judge(self._lost)
            raise self._verdict
        return self._code

    async def kill(self) -> None:
        """Kill the whole tree, and wait a moment for the end."""
        if self._over.is_set():
            return
        self._outputs.open_up()  # the end stands behind what nobody has read
        await self._killing(self)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self._over.wait()
        if not self._over.is_set():
            self._finish(KILLED)
            await self.session.close()

    async def resize(self, size: TerminalSize) -> None:
        """Change the size of its terminal."""
        if not self._terminal:
            await super().resize(size)
        self.session.resize(size.columns, size.rows)


class WatchedProcess(Process):
    """Another process, whose death by SIGKILL is looked into: its machine may have been removed under it."""

    def __init__(self, process: Process, judge: Callable[[], Awaitable[Exception | None]]) -> None:
        """Watch over a process; `judge` returns what to raise instead of its end, or None."""
        self._process = process
        self._judge = judge
        self._verdict: Exception | None = None
        self._killed = False

    @property
    def id(self) -> str:
        """The id of the process."""
        return self._process.id

    @property
    def stdin(self) -> ByteWriter:
        """Its input."""
        return self._process.stdin

    @property
    def stdout(self) -> AsyncIterator[bytes]:
        """Its standard output."""
        return self._process.stdout

    @property
    def stderr(self) -> AsyncIterator[bytes]:
        """Its standard error."""
        return self._process.stderr

    async def wait(self) -> int:
        """Wait for its exit code."""
        code = await self._process.wait()
        if code == KILLED and not self._killed and self._verdict is None:
            self._verdict = await self._judge()
        if self._verdict is not None:
            raise self._verdict
        return code

    async def kill(self) -> None:
        """Kill its whole tree."""
        self._killed = True
        await self._process.kill()

    async def resize(self, size: TerminalSize) -> None:
        """Change the size of its terminal."""
        await self._process.resize(size)
