"""One SSH session as a stream to a shell: what came before the shell spoke is skipped, the rest delivered."""

from __future__ import annotations

import asyncio
import signal as signals
from typing import TYPE_CHECKING

import asyncssh

if TYPE_CHECKING:
    from collections.abc import Callable

    from gitmachine.machines.channel import Receiver

__all__ = ["Session"]

WRITE_BUFFER_BYTES = 512 << 10
CLOSE_SECONDS = 3.0


class Session(asyncssh.SSHClientSession[bytes]):
    """A session whose shell says `hello` on both outputs; a `Duplex` for the warm channel.

    Attributes:
        hello: what the shell says first; it is in its environment, too.
        pid: the shell's process id, once `ready`.
        noisy: whether the login printed anything on standard output before.
        exit_status: how it ended, as 0 to 255 or 128 + signal; None before, or when the connection broke.
        error: what broke the connection, or None.
    """

    def __init__(self, hello: str, *, merged: bool = False, done: Callable[[Session], None] | None = None) -> None:
        """Make a session that waits for a hello.

        Args:
            hello: what the shell says first, before its process id and a newline.
            merged: whether it says so on standard output only (on a terminal).
            done: called when the session is over.
        """
        self.pid = 0
        self.noisy = False
        self.exit_status: int | None = None
        self.error: Exception | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.hello = hello
        self._hello = hello.encode()
        self._waiting = {1: b""} if merged else {1: b"", 2: b""}
        self._early: list[tuple[int, bytes]] = []
        self._receiver: Receiver | None = None
        self._done = done
        self._over = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None

    # From the library

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """Take the channel."""
        self._channel = chan
        chan.set_write_buffer_limits(WRITE_BUFFER_BYTES)

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Deliver a piece of output."""
        stream = 2 if datatype == asyncssh.EXTENDED_DATA_STDERR else 1
        if stream in self._waiting:
            data = self._skip(stream, data)
        if data:
            self._deliver(stream, data)

    def eof_received(self) -> bool:
        """Keep our half open: the shell may close its outputs and go on."""
        return True

    def exit_status_received(self, status: int) -> None:
        """Take note of the shell's end; output may still come."""
        self.exit_status = status

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        """Take note of the shell's end by a signal."""
        number = getattr(signals, f"SIG{signal}", signals.SIGKILL)
        self.exit_status = 128 + int(number)

    def pause_writing(self) -> None:
        """Let `drain` wait."""
        self._room.clear()

    def resume_writing(self) -> None:
        """Let `drain` return."""
        self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note of the end of the session, or of its connection."""
        self.error = self.error or exc
        self._over.set()
        self._room.set()
        if not self.ready.done():
            self.ready.set_exception(exc or asyncssh.ConnectionLost("the login shell ended before it ran sh"))
            self.ready.exception()  # whoever waits has it; nobody may
        if self._receiver is not None:
            self._receiver.ended(self.error)
        if self._done is not None:
            self._done(self)

    def _skip(self, stream: int, data: bytes) -> bytes:
        """Throw away what comes before the hello; return what comes after it."""
        data = self._waiting[stream] + data
        at = data.find(self._hello)
        end = data.find(b"\n", at) if at >= 0 else -1
        if end < 0:
            kept = data[at:] if at >= 0 else data[-len(self._hello) :]
            self.noisy = self.noisy or (stream == 1 and len(data) > len(self._hello) and at != 0)
            self._waiting[stream] = kept
            return b""
        if stream == 1:
            self.noisy = self.noisy or at > 0
            digits = data[at + len(self._hello) : end].strip()
            self.pid = int(digits) if digits.isdigit() else 0
        del self._waiting[stream]
        if not self._waiting and not self.ready.done():
            self.ready.set_result(None)
        return data[end + 1 :]

    def _deliver(self, stream: int, data: bytes) -> None:
        if self._receiver is None:
            self._early.append((stream, data))
        else:
            self._receiver.feed(1 if stream == 1 else 2, data)

    # To whoever uses the shell

    def attach(self, receiver: Receiver) -> None:
        """Deliver to this one from now on, and what came already."""
        self._receiver = receiver
        early, self._early = self._early, []
        for stream, data in early:
            self._deliver(stream, data)
        if self._over.is_set():
            receiver.ended(self.error)

    def detach(self) -> None:
        """Keep what comes from now on for the next receiver."""
        self._receiver = None

    @property
    def is_over(self) -> bool:
        """Whether the session has ended."""
        return self._over.is_set()

    def write(self, data: bytes) -> None:
        """Send bytes to the shell's input; nothing happens once it has ended."""
        if self._channel is not None and not self._over.is_set() and not self._channel.is_closing():
            try:
                self._channel.write(data)
            except OSError:  # closed in this very moment: `ended` tells
                return

    @property
    def has_room(self) -> bool:
        """Whether `drain` would return at once."""
        return self._room.is_set()

    async def drain(self) -> None:
        """Wait until there is room in the buffer of `write`, or the session has ended."""
        await self._room.wait()

    def write_eof(self) -> None:
        """End the shell's input."""
        if self._channel is not None and not self._over.is_set() and not self._channel.is_closing():
            self._channel.write_eof()

    def pause_reading(self) -> None:
        """Let no more be sent than is under way."""
        if self._channel is not None and not self._over.is_set():
            self._channel.pause_reading()

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""
        if self._channel is not None and not self._over.is_set():
            self._channel.resume_reading()

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of its terminal."""
        if self._channel is not None and not self._over.is_set():
            self._channel.change_terminal_size(columns, rows)

    async def over(self) -> None:
        """Wait for the end of the session."""
        await self._over.wait()

    async def close(self) -> None:
        """End the session, and with it the shell."""
        if self._channel is None or self._over.is_set():
            return
        self._channel.resume_reading()  # or the end waits behind what nobody takes
        self._channel.close()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._over.wait()
        except TimeoutError:
            self._channel.abort()
