"""One long-lived shell, and the stream to it."""

from __future__ import annotations

import asyncio
import time
from enum import Enum
from typing import TYPE_CHECKING

from gitmachine.machines.channel.duplex import ChannelLostError
from gitmachine.machines.channel.preamble import look_order, parse_hello, preamble, serve_order, usable
from gitmachine.machines.channel.scanner import MarkerScanner
from gitmachine.machines.channel.turn import Turn, TurnKind, turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from gitmachine.clock import PausableClock
    from gitmachine.machines.channel.duplex import Connect, Duplex, StreamNumber
    from gitmachine.machines.channel.job import Job
    from gitmachine.machines.channel.shell import Shell
    from gitmachine.machines.channel.wire import Order

__all__ = ["Slot", "SlotState"]

FULL_SCAN_SECONDS = 5.0
"""After a longer command all processes are looked at: meanwhile the process ids may have gone round."""
WAITED_SECONDS = 2.0
"""When a process has waited longer for its command, the command says where the process ids were at its beginning."""
TURNS = 16
"""How many commands a shell is prepared for at a time."""
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
        idle_since: when it became idle, by `time.monotonic`.
    """

    def __init__(self, settled: Callable[[Slot], None], new_mark: Callable[[], str]) -> None:
        """Make a slot without a stream.

        Args:
            settled: called when the slot is idle, tainted or gone, each time that it becomes so.
            new_mark: makes a mark for each command.
        """
        self.state = SlotState.OPENING
        self.shell: Shell
        self.condemned = False
        self.idle_since = 0.0
        self._settled = settled
        self._new_mark = new_mark
        self._duplex: Duplex | None = None
        self._job: Job | None = None
        self._job_turn: Turn | None = None
        self._order: Order | None = None
        self._sender: asyncio.Task[None] | None = None
        self._hello: asyncio.Future[str] | None = None
        self._greeting = ""
        self._heard = False
        self._number = 1
        # Each stream is in a turn of its own, for there is no order between what they bring.
        self._turns: dict[StreamNumber, Turn | None] = {1: None, 2: None}
        self._scanners: dict[StreamNumber, MarkerScanner] = {
            1: MarkerScanner(lambda data: self._output(1, data), lambda word: self._word(1, word)),
            2: MarkerScanner(lambda data: self._output(2, data), lambda word: self._word(2, word)),
        }

    # From the stream

    def feed(self, stream: StreamNumber, data: bytes) -> None:
        """Take bytes from the shell."""
        if self.state is not SlotState.GONE:
            self._scanners[stream].feed(data)

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
        turn = self._turns[stream]
        if self._job is not None and turn is not None and turn is self._job_turn and stream not in turn.ended:
            self._job.output(stream, data)

    def _word(self, stream: StreamNumber, word: str) -> None:
        turn = self._turns[stream]
        if turn is None or self.state is SlotState.GONE:  # it went with an earlier word of the same piece
            return
        if word in {"clean", "taint", "spoilt", "aged"}:
            turn.verdicts[stream] = word
            self._begin(stream, turn.next if word == "clean" else None)
            if len(turn.verdicts) == 2:
                self._settle(turn)
        elif word == "go":
            self._go()
        elif word == "ready":
            self._ready()
        elif word.startswith("cwd"):
            turn.refusal = word
        elif word.startswith("at"):
            turn.before = word.removeprefix("at")
        else:
            self._end(stream, turn, word)

    def _begin(self, stream: StreamNumber, turn: Turn | None) -> None:
        self._turns[stream] = turn
        self._scanners[stream].expect(turn.token if turn is not None else "")

    def _go(self) -> None:
        if self._job is not None:
            self._job.go()
            if self._order is not None and self._order.raw is not None:
                self._sender = asyncio.ensure_future(self._send(self._order.raw))

    def _end(self, stream: StreamNumber, turn: Turn, word: str) -> None:
        turn.ended.add(stream)
        if stream == 1:
            turn.status = word
        if turn.kind is TurnKind.HELLO:
            self._begin(stream, turn.next)
            if len(turn.ended) == 2:
                self._greet(turn.status)
            return
        job = self._job if turn is self._job_turn else None
        if job is not None:
            job.end_stream(stream)
        if len(turn.ended) < 2:
            return
        if job is None:  # somebody killed the process that was waiting for a command
            self.ended(None)
            return
        self.state = SlotState.SETTLING
        job.finish(turn.refusal or turn.status)

    def _greet(self, greeting: str) -> None:
        """Take what the shell says of itself; one that can be used says ``ready`` as well, before or after."""
        self._greeting = greeting
        if self._hello is not None and not self._hello.done() and (self._heard or not usable(greeting)):
            self._hello.set_result(greeting)

    def _ready(self) -> None:
        if self._hello is None:
            self._become_idle()
            return
        self._heard = True
        if self._greeting and not self._hello.done():
            self._hello.set_result(self._greeting)

    def _become_idle(self) -> None:
        self.state = SlotState.IDLE
        self.idle_since = time.monotonic()
        self._settled(self)

    def _settle(self, turn: Turn) -> None:
        job, self._job = self._job, None
        self._order = None
        verdict = turn.verdicts[1]
        if verdict == "spoilt":
            self.condemned = True
        if verdict == "taint":
            self.state = SlotState.TAINTED
            self._settled(self)
        elif self.condemned or (verdict == "clean" and turn.next is not None):
            self._become_idle()
        elif verdict == "aged":
            short = job is not None and job.took <= FULL_SCAN_SECONDS
            self._look(turn.before if short else "")
        else:
            self._serve()

    # To the stream

    async def open(self, connect: Connect, seconds: float, clock: PausableClock) -> None:
        """Start the shell and hear what it says of itself.

        Raises:
            TimeoutError: it said nothing for so many seconds of the clock.
            ChannelLostError: it ended.
        """
        self._hello = asyncio.get_running_loop().create_future()
        hello = Turn(kind=TurnKind.HELLO, next=self._next_turns())
        self._begin(1, hello)
        self._begin(2, hello)
        try:
            async with clock.limit(seconds):
                self._duplex = await connect(self)
                self._duplex.write(preamble(hello))
                word = await self._hello
            self.shell = parse_hello(word)
        except BaseException:
            await asyncio.shield(self.close())
            raise
        finally:
            self._hello = None
        self.state = SlotState.IDLE
        self.idle_since = time.monotonic()

    def _next_turns(self) -> Turn:
        first = turns(self._number, TURNS, self._new_mark)
        self._number += TURNS
        return first

    def _serve(self) -> None:
        """Prepare the shell for more commands; it says when it is ready."""
        if self._duplex is not None:
            first = self._next_turns()
            self._begin(1, first)
            self._begin(2, first)
            self._duplex.write(serve_order(first))

    @property
    def turn(self) -> Turn:
        """What the next order has to be made for; only while the slot is reserved."""
        turn = self._turns[1]
        assert turn is not None
        return turn

    @property
    def waited(self) -> bool:
        """Whether the next order has to say where the process ids were when it began."""
        return self.idle_since + WAITED_SECONDS < time.monotonic()

    def run(self, order: Order, job: Job) -> None:
        """Begin an order."""
        if self._duplex is None or self.state is SlotState.GONE:
            job.lose(None)
            return
        self.state = SlotState.BUSY
        self._order, self._job, self._job_turn = order, job, self.turn
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
        """Have all processes looked at; the slot, which was set aside, settles anew."""
        self._look("")

    def _look(self, before: str) -> None:
        if self._duplex is not None and self.state is not SlotState.GONE:
            self.state = SlotState.SETTLING
            turn = Turn(kind=TurnKind.LOOK, ended={1, 2})
            self._begin(1, turn)
            self._begin(2, turn)
            self._duplex.write(look_order(turn, before))

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
