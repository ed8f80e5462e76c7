"""Time limits that stand still while a machine is paused."""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Limit", "PausableClock", "command_clock"]


class PausableClock:
    """A monotonic clock that can be stopped; the limits made by it stand still meanwhile.

    For one event loop. Pausing a paused clock and resuming a running one are harmless.
    """

    def __init__(self) -> None:
        self._paused_at: float | None = None
        self._paused_seconds = 0.0
        self._limits: set[Limit] = set()

    def time(self) -> float:
        """Return the seconds that passed on this clock, from an arbitrary start."""
        now = time.monotonic() if self._paused_at is None else self._paused_at
        return now - self._paused_seconds

    @property
    def paused(self) -> bool:
        """Whether the clock stands still."""
        return self._paused_at is not None

    def pause(self) -> None:
        """Stop the clock."""
        if self._paused_at is None:
            for limit in self._limits:
                limit.hold()
            self._paused_at = time.monotonic()

    def resume(self) -> None:
        """Let the clock go on."""
        if self._paused_at is not None:
            self._paused_seconds += time.monotonic() - self._paused_at
            self._paused_at = None
            for limit in self._limits:
                limit.release()

    def limit(self, seconds: float | None) -> Limit:
        """Return a limit of so many seconds on this clock; None never expires by itself."""
        return Limit(self, seconds, self._limits)


class Limit:
    """Bounds what is awaited inside ``async with``: at its end the body is cancelled and TimeoutError raised.

    As `asyncio.timeout`, and in addition it can be held, released, and ended early by `expire`.
    """

    def __init__(self, clock: PausableClock, seconds: float | None, limits: set[Limit]) -> None:
        self._clock = clock
        self._left = seconds
        self._since: float | None = None
        self._holds = 0
        self._limits = limits
        self._timeout = asyncio.Timeout(None)
        self._entered = False
        self.reason: str | None = None
        """Why it was ended early, or None."""

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._entered = True
        self._limits.add(self)
        if self._clock.paused:
            self._holds += 1
        self._schedule()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered = False
        self._limits.discard(self)
        await self._timeout.__aexit__(kind, error, trace)

    def expired(self) -> bool:
        """Whether the limit was reached, or ended by `expire`."""
        return self._timeout.expired()

    def expire(self, reason: str) -> None:
        """End the body now, whatever holds the limit; the first reason stays."""
        if self._entered and not self.expired() and self.reason is None:
            self.reason = reason
            self._timeout.reschedule(asyncio.get_running_loop().time())

    def hold(self) -> None:
        """Let the limit stand still until as many calls of `release`."""
        self._holds += 1
        if self._holds == 1 and self._entered and self._since is not None and self._left is not None:
            self._left -= time.monotonic() - self._since
            self._since = None
            self._reschedule(None)

    def release(self) -> None:
        """Undo one `hold`."""
        self._holds -= 1
        self._schedule()

    def _schedule(self) -> None:
        if self._left is not None and self._holds == 0 and self._entered:
            self._since = time.monotonic()
            self._reschedule(asyncio.get_running_loop().time() + max(0.0, self._left))

    def _reschedule(self, when: float | None) -> None:
        if self.reason is None and not self.expired():
            self._timeout.reschedule(when)


command_clock: ContextVar[PausableClock | None] = ContextVar("gitmachine_command_clock", default=None)
"""The clock of the machine whose command is being run: its timeout counts on it."""
