"""Ctrl-C and termination: once to stop in order, twice to leave at once."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Interrupted", "Interrupts"]

T = TypeVar("T")

_GENTLE = (signal.SIGTERM, signal.SIGHUP)
"""Like one Ctrl-C, however often they come: a supervisor may send them to the group and to each process."""


class Interrupted(Exception):  # noqa: N818  # what happened, not an error
    """The user wants to stop; what was running was cancelled and has ended."""


class Interrupts:
    """Turns signals into one cancellation of what runs, and a second Ctrl-C into leaving at once.

    Args:
        announce: called at the first interruption.
        leave: called at the second Ctrl-C; does not return.
    """

    def __init__(self, announce: Callable[[], None], leave: Callable[[], None]) -> None:
        self.interrupted = False
        self._announce = announce
        self._leave = leave
        self._running: asyncio.Task[object] | None = None

    def install(self) -> None:
        """Take the signals over, except those that are ignored already (as under nohup, or in the background)."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, *_GENTLE):
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._arrived, number)

    def _arrived(self, number: signal.Signals) -> None:
        if not self.interrupted:
            self.interrupted = True
            self._announce()
            if self._running is not None:
                self._running.cancel()
        elif number not in _GENTLE:
            self._leave()

    async def run(self, work: Coroutine[object, object, T]) -> T:
        """Do some work that the first interruption cancels.

        Raises:
            Interrupted: it was cancelled, or the interruption had come before.
        """
        if self.interrupted:
            work.close()
            raise Interrupted
        task = asyncio.ensure_future(work)
        self._running = task
        try:
            return await task
        except asyncio.CancelledError:
            if not self.interrupted:
                raise
            raise Interrupted from None
        finally:
            self._running = None
            if not task.done():  # we were cancelled ourselves
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
