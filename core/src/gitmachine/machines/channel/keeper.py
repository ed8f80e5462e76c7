"""Which slot runs the next command: opening, handing out, taking back, setting aside."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from gitmachine.clock import PausableClock
from gitmachine.machines.channel.slot import Slot, SlotState

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from gitmachine.clock import Limit
    from gitmachine.machines.channel.duplex import Connect
    from gitmachine.machines.channel.shell import Shell

__all__ = ["SlotKeeper"]

OPEN_AT_ONCE = 4
"""How many shells are opened side by side: a burst of short commands is done before more would be of use."""
STALL_SECONDS = 0.2
"""How long commands wait for a slot while none becomes free and none is being opened; then some go the plain way."""
CLOSE_SECONDS = 10.0
"""How long streams may take to close."""
RETRY_SECONDS = 1.0
"""How long no more shells are opened after one could not be."""
ATTEMPTS = 3
"""After so many failures, and no success ever, the channel is given up."""
PREPARED_SECONDS = 0.003
"""How long a shell takes, about, to have a process wait for the next command."""
HURRIES = 16
ROTATING = 3
"""Up to so many shells are opened for one caller whose commands follow each other at once, so often."""
RESCAN_SECONDS = (0.05, 60.0)
"""How soon a slot that was set aside is looked at again, and how long at most until the next time."""


class SlotKeeper:
    """Keeps the slots of one machine.

    Attributes:
        shell: what the first shell said of itself.
        problem: why the channel cannot be used at all, or "".
        closed: whether it was closed.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        new_mark: Callable[[], str],
        limit: int,
        tainted_limit: int,
        hello_seconds: float,
    ) -> None:
        self.shell: Shell | None = None
        self.problem = ""
        self._connect = connect
        self._new_mark = new_mark
        self._limit = limit
        self._tainted_limit = tainted_limit
        self._hello_seconds = hello_seconds
        self._idle: list[Slot] = []
        self._all: set[Slot] = set()
        self._tainted: dict[Slot, tuple[float, float]] = {}
        self._waiters: deque[asyncio.Future[Slot | None]] = deque()
        self._opening = 0
        self._hurried = 0
        self._failures = 0
        self._retry_at = 0.0
        self._handed_out_at = 0.0
        self._stall: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._openers: set[asyncio.Task[Any]] = set()
        self._clock = PausableClock()
        self.closed = False

    @property
    def paused(self) -> bool:
        """Whether the machine is known to stand still."""
        return self._clock.paused

    @property
    def pids(self) -> list[int]:
        """The process ids of the shells, in the machine."""
        return [slot.shell.pid for slot in self._all]

    def limit(self, seconds: float) -> Limit:
        """Return a limit of so many seconds, during which the machine does not stand still."""
        return self._clock.limit(seconds)

    def hold(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something beside the callers; `close` waits for it."""
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def pause(self) -> None:
        """Judge nothing by the time it takes, and open nothing, until `resume`."""
        self._clock.pause()

    async def opened(self, seconds: float) -> None:
        """Wait for the shells that are being opened, at most so long."""
        if self._openers:
            await asyncio.wait(set(self._openers), timeout=seconds)

    def resume(self) -> None:
        """Go on."""
        self._clock.resume()
        self._grow()

    # Handing out

    def take(self) -> Slot | None:
        """Return a free slot at once, reserved, or None.

        It is the one that was used last among those that have had the time to prepare for a command; else the one
        that has had the most.
        """
        if not self._idle:
            return None
        prepared = time.monotonic() - PREPARED_SECONDS
        at = len(self._idle) - 1
        while at > 0 and self._idle[at].idle_since > prepared:
            at -= 1
        slot = self._idle.pop(at)
        if slot.idle_since > prepared:
            self._hurry()
        slot.state = SlotState.BUSY
        return slot

    def _hurry(self) -> None:
        """Open another shell when commands come faster, again and again, than a shell prepares for them."""
        self._hurried += 1
        if self.paused or self.closed:
            return
        if self._hurried >= HURRIES and len(self._all) - len(self._tainted) + self._opening < min(
            ROTATING, self._limit
        ):
            self._hurried = 0
            self._start_opening()

    async def acquire(self, *, urgent: bool = False) -> Slot | None:
        """Wait for a slot, reserved for the caller; None when it is better to do without.

        Args:
            urgent: go first, and open one more shell than the limit allows, rather than wait.
        """
        while (slot := self.take() or await self._wait(urgent=urgent)) is not None:
            if slot.state is not SlotState.GONE:  # else it ended in the moment between
                return slot
        return None

    async def _wait(self, *, urgent: bool) -> Slot | None:
        if self.closed or self.problem:
            return None
        waiter: asyncio.Future[Slot | None] = asyncio.get_running_loop().create_future()
        if self._all:
            self._hurry()
        if urgent:
            self._waiters.appendleft(waiter)
        else:
            self._waiters.append(waiter)
        self._grow(extra=1 if urgent else 0, impatient=urgent)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and (slot := waiter.result()) is not None:
                self.give_back(slot)
            raise

    def give_back(self, slot: Slot) -> None:
        """Take back a slot that was reserved and not used."""
        if slot.state is not SlotState.GONE:
            slot.state = SlotState.IDLE
            self._settled(slot)

    def _settled(self, slot: Slot) -> None:
        """Find the next use of a slot that is idle, tainted or gone."""
        if slot.state is SlotState.GONE or self.closed:
            self._forget(slot)
        elif slot.state is SlotState.TAINTED:
            self._set_aside(slot)
        elif slot.condemned:
            self.retire(slot)
        else:
            self._tainted.pop(slot, None)
            self._hand_out(slot)
        self._grow()

    def _hand_out(self, slot: Slot) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                slot.state = SlotState.BUSY
                self._handed_out_at = asyncio.get_running_loop().time()
                waiter.set_result(slot)
                return
        if len(self._all) - len(self._tainted) > self._limit:  # it was opened for a kill
            self.retire(slot)
        else:
            self._idle.append(slot)

    def _send_away(self, count: int) -> None:
        """Let waiters do without a slot."""
        while self._waiters and count > 0:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                count -= 1

    # Opening

    def _grow(self, *, extra: int = 0, impatient: bool = False) -> None:
        """Open what is missing; see to it that nobody waits in vain.

        Args:
            extra: how many more than the limit.
            impatient: do not count on shells that should be free in a moment.
        """
        waiting = sum(not waiter.done() for waiter in self._waiters)
        if not waiting or self.closed or self.paused:
            return
        now = asyncio.get_running_loop().time()
        self._rescan_due(now)
        missing = waiting - self._opening
        if not impatient:
            missing -= sum(slot.state is SlotState.SETTLING for slot in self._all - self._tainted.keys())
        while (
            missing > 0
            and (self._opening < OPEN_AT_ONCE or extra > 0)
            and len(self._all) - len(self._tainted) + self._opening < self._limit + extra
            and now >= self._retry_at
        ):
            missing -= 1
            extra = 0
            self._start_opening()
        if self._opening == 0 and self._stall is None:
            if self._all:
                self._stall = asyncio.get_running_loop().call_later(STALL_SECONDS, self._stalled, now)
            else:
                self._send_away(waiting)

    def _start_opening(self) -> None:
        self._opening += 1
        opener = self.hold(self._open())
        self._openers.add(opener)
        opener.add_done_callback(self._openers.discard)

    async def _open(self) -> None:
        slot = Slot(self._settled, self._new_mark)
        try:
            await slot.open(self._connect, self._hello_seconds, self._clock)
        except Exception as error:  # noqa: BLE001  # whatever the provider raises: there is the plain way, which says why
            self._opening -= 1
            self._failed(str(error) or type(error).__name__)
        except BaseException:
            self._opening -= 1
            raise
        else:
            self._opening -= 1
            self._opened(slot)

    def _opened(self, slot: Slot) -> None:
        if slot.shell.problem:
            self.problem = slot.shell.problem
        if slot.shell.problem or self.closed:
            self.retire(slot)
            self._send_away(len(self._waiters))
            return
        self._failures = 0
        if self.shell is None:
            self.shell = slot.shell
        self._all.add(slot)
        self._settled(slot)

    def _failed(self, reason: str) -> None:
        self._failures += 1
        if self.shell is None and self._failures >= ATTEMPTS:
            self.problem = reason
        self._retry_at = asyncio.get_running_loop().time() + RETRY_SECONDS
        if not self.paused:
            self._send_away(len(self._waiters) if not self._all else 1)
            self._grow()

    def _stalled(self, since: float) -> None:
        self._stall = None
        stalled = self._handed_out_at < since and not self.paused
        self._grow(impatient=stalled)
        if stalled and self._opening == 0:
            self._send_away(OPEN_AT_ONCE)

    async def warm(self) -> bool:
        """Open the first shell; tell whether the channel can be used."""
        if not self._all and not self.problem and not self.closed:
            slot = await self.acquire()
            if slot is not None:
                self.give_back(slot)
        return bool(self._all)

    # Setting aside

    def _set_aside(self, slot: Slot) -> None:
        """Keep a slot open whose outputs somebody holds.

        Its shell must not exit: dockerd would wait for the streams, delay the ends of other commands by seconds, and
        then close the pipes under the server that was started.
        """
        now = asyncio.get_running_loop().time()
        first, longest = RESCAN_SECONDS
        _, wait = self._tainted.get(slot, (0.0, 0.0))
        wait = min(2 * wait, longest) if wait else first
        self._tainted[slot] = (now + wait, wait)
        if wait == first and self._look is None:
            # A child that was forked and had not redirected its output yet looks like one that keeps it.
            self._look = asyncio.get_running_loop().call_later(first, self._look_again)
        while len(self._tainted) > self._tainted_limit:
            self.retire(next(iter(self._tainted)))

    def _look_again(self) -> None:
        self._look = None
        self._rescan_due(asyncio.get_running_loop().time() + 0.01)

    def _rescan_due(self, now: float) -> None:
        for slot, (due, _) in list(self._tainted.items()):
            if due <= now and slot.state is SlotState.TAINTED:
                slot.rescan()

    def _forget(self, slot: Slot) -> None:
        self._all.discard(slot)
        self._tainted.pop(slot, None)
        if slot in self._idle:
            self._idle.remove(slot)
        self.retire(slot)

    def retire(self, slot: Slot) -> None:
        """Close a slot and forget it."""
        self._all.discard(slot)
        self._tainted.pop(slot, None)
        self.hold(slot.close())

    async def close(self) -> None:
        """Close every slot; whoever waits is sent away."""
        self.closed = True
        for timer in (self._stall, self._look):
            if timer is not None:
                timer.cancel()
        self._send_away(len(self._waiters))
        for opener in self._openers:
            opener.cancel()
        for slot in list(self._all):
            self._forget(slot)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()
