"""One long-lived shell, and the stream to it."""

from __future__ import annotations

import asyncio
import secrets
from enum import Enum
from typing import TYPE_CHECKING

from gitmachine.machines.channel.duplex import ChannelLostError
from gitmachine.machines.channel.preamble import parse_hello, preamble
from gitmachine.machines.channel.scanner import MarkerScanner

if TYPE_CHECKING:
    from collections.abc import Callable

    from gitmachine.clock import PausableClock
    from gitmachine.machines.channel.duplex import Connect, Duplex, StreamNumber
    from gitmachine.machines.channel.job import Job
    from gitmachine.machines.channel.shell import Shell
    from gitmachine.machines.channel.wire import Order

__all__ = ["Slot", "SlotState", "new_token"]

FULL_SCAN_SECONDS = 5.0
"""After a longer command all processes are looked at: meanwhile the process ids may have gone round."""
WRITE_BYTES = 256 << 10


class SlotState(Enum):
    """What a slot is doing."""

    OPENING = "opening"
    IDLE = "idle"
    BUSY = "busy"
    SETTLING = "settling"
    """The command is over; the shell looks for what it left behind."""
    TAINTED = "tainted"
    """Something that a command left behind holds the outputs; they are drained, and no command runs here."""
    GONE = "gone"


class Slot:
    """A shell that runs one command at a time. It is the `Receiver` of its stream.

    Attributes:
        state: see `SlotState`; the pool may set it to BUSY to reserve the slot.
        shell: what the shell said of itself.
        condemned: whether it is closed as soon as its command is over.
    """

    def __init__(self, settled: Callable[[Slot], None]) -> None:
        """Make a slot without a stream.

        Args:
            settled: called when the slot is idle, tainted or gone, each time that it becomes so.
        """
        self.state = SlotState.OPENING
        self.shell: Shell
        self.condemned = False
        self._settled = settled
        self._duplex: Duplex | None = None
        self._job: Job | None = None
        self._order: Order | None = None
        self._sender: asyncio.Task[None] | None = None
        self._hello: asyncio.Future[str] | None = None
        self._token = ""
        self._status = ""
        self._ended: set[StreamNumber] = set()
        self._verdicts: dict[StreamNumber, str] = {}
        self._out = MarkerScanner(lambda data: self._output(1, data), lambda word: self._word(1, word))
        self._err = MarkerScanner(lambda data: self._output(2, data), lambda word: self._word(2, word))

    # From the stream

    def feed(self, stream: StreamNumber, data: bytes) -> None:
        """Take bytes from the shell."""
        if self.state is not SlotState.GONE:
            (self._out if stream == 1 else self._err).feed(data)

    def ended(self, error: Exception | None = None) -> None:
        """Take notice of the stream's end."""
        if self.state is SlotState.GONE:
            return
        opened = self.state is not SlotState.OPENING
        self.state = SlotState.GONE
        if self._hello is not None and not self._hello.done():
            reason = f": {error}" if error is not None else ""
            self._hello.set_exception(ChannelLostError(f"the shell ended before it answered{reason}"))
            self._hello.exception()  # seen: where the connection fails as well, nobody awaits it
        self._lose(error)
        if opened:
            self._settled(self)

    def _lose(self, error: Exception | None) -> None:
        if self._sender is not None:
            self._sender.cancel()
        job, self._job = self._job, None
        if job is not None:
            job.lose(error)

    def _output(self, stream: StreamNumber, data: bytes) -> None:
        if self._job is not None and stream not in self._ended:
            self._job.output(stream, data)

    def _word(self, stream: StreamNumber, word: str) -> None:
        if word in {"clean", "taint", "spoilt"}:
            self._verdicts[stream] = word
            if len(self._verdicts) == 2:
                self._settle()
        elif word == "go":
            self._go()
        else:
            self._ended.add(stream)
            if stream == 1:
                self._status = word
            if self._job is not None:
                self._job.end_stream(stream)
            if len(self._ended) == 2:
                self._finish()

    def _go(self) -> None:
        if self._job is not None:
            self._job.go()
            if self._order is not None and self._order.raw is not None:
                self._sender = asyncio.ensure_future(self._send(self._order.raw))

    def _finish(self) -> None:
        if self._hello is not None:
            if not self._hello.done():
                self._hello.set_result(self._status)
            return
        self.state = SlotState.SETTLING
        if self._job is not None:
            self._job.finish(self._status)

    def _settle(self) -> None:
        job, self._job = self._job, None
        self._order = None
        verdict = self._verdicts[1]
        if verdict == "clean" and job is not None and job.took > FULL_SCAN_SECONDS:
            self.rescan()
            return
        if verdict == "spoilt":
            self.condemned = True
        self._out.expect("")
        self._err.expect("")
        self.state = SlotState.TAINTED if verdict == "taint" else SlotState.IDLE
        self._settled(self)

    # To the stream

    async def open(self, connect: Connect, seconds: float, clock: PausableClock) -> None:
        """Start the shell and hear what it says of itself.

        Raises:
            TimeoutError: it said nothing for so many seconds of the clock.
            ChannelLostError: it ended.
        """
        self._hello = asyncio.get_running_loop().create_future()
        self._expect(new_token())
        try:
            async with clock.limit(seconds):
                self._duplex = await connect(self)
                self._duplex.write(preamble(self._token))
                word = await self._hello
            self.shell = parse_hello(word)
        except BaseException:
            await asyncio.shield(self.close())
            raise
        finally:
            self._hello = None
        self._expect("")
        self.state = SlotState.IDLE

    def _expect(self, token: str) -> None:
        self._token = token
        self._ended.clear()
        self._verdicts.clear()
        self._out.expect(token)
        self._err.expect(token)

    def run(self, order: Order, job: Job) -> None:
        """Begin an order."""
        if self._duplex is None or self.state is SlotState.GONE:
            job.lose(None)
            return
        self.state = SlotState.BUSY
        self._order, self._job = order, job
        self._expect(order.token)
        self._duplex.write(order.text)

    async def _send(self, data: bytes) -> None:
        assert self._duplex is not None
        for start in range(0, len(data), WRITE_BYTES):
            self._duplex.write(data[start : start + WRITE_BYTES])
            try:
                await self._duplex.drain()
            except Exception as error:  # noqa: BLE001  # whatever a provider's stream raises, it is the stream's end
                self.ended(error)
                return

    def rescan(self) -> None:
        """Have all processes looked at; the slot settles anew."""
        if self._duplex is not None and self.state is not SlotState.GONE:
            self.state = SlotState.SETTLING
            token = new_token()
            self._expect(token)
            self._ended.update((1, 2))
            self._duplex.write(f"{{ _gm_scan {token} all; }}\n".encode())

    def set_reading(self, *, wanted: bool) -> None:
        """Let the stream flow, or hold it back because nobody takes what it brings."""
        if self._duplex is not None and self.state is not SlotState.GONE:
            if wanted:
                self._duplex.resume_reading()
            else:
                self._duplex.pause_reading()

    async def close(self) -> None:
        """End the stream; a job on it is lost."""
        self.state = SlotState.GONE
        if self._hello is not None and not self._hello.done():
            self._hello.cancel()
        self._lose(None)
        duplex, self._duplex = self._duplex, None
        if duplex is not None:
            await duplex.close()


def new_token() -> str:
    """Return a token for markers: 128 random bits in hexadecimal digits."""
    return secrets.token_hex(16)
