"""Deadlines for what plugins do, which may not listen when they are told to end."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["GRACE_SECONDS", "LateError", "ended_within"]

GRACE_SECONDS = 30.0
"""How long a coroutine that is late, or that nobody waits for any more, may take to clean up."""

_left: set[asyncio.Task[Any]] = set()
"""Coroutines that did not end when they were cancelled: the loop itself holds its tasks only weakly."""


class LateError(TimeoutError):
    """Somebody did not answer in time.

    Attributes:
        seconds: how long it might take.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"it did not end within {seconds:g} s")
        self.seconds = seconds


async def ended_within(seconds: float | None, call: Callable[[], Any], *, on_thread: Awaitable[Any] | None) -> Any:
    """Return what a call answers, or what the awaitable that it returns does.

    A thread that is late goes on, and its answer is dropped. A coroutine that is late is cancelled; when it does not
    end then, it is left behind as well.

    Args:
        seconds: how long it may take; None is no limit.
        call: what to call on the loop, unless a thread does.
        on_thread: the answer of the thread that does it, or None.

    Raises:
        LateError: it took longer.
    """
    loop = asyncio.get_running_loop()
    deadline = None if seconds is None else loop.time() + seconds
    try:
        async with asyncio.timeout_at(deadline) as limit:
            value = call() if on_thread is None else await on_thread
    except TimeoutError as error:
        if seconds is None or not limit.expired():
            raise
        raise LateError(seconds) from error
    if not inspect.isawaitable(value):
        return value
    if seconds is None or deadline is None:
        return await value
    return await _watched(value, deadline - loop.time(), seconds)


async def _watched(value: Awaitable[Any], left_seconds: float, seconds: float) -> Any:
    """Wait for an awaitable in a task of its own, which can be left behind."""
    task = asyncio.ensure_future(_outcome(value))
    try:
        await asyncio.wait({task}, timeout=max(0.0, left_seconds))
        if task.done():
            answer, exit_ = task.result()
            if exit_ is not None:
                raise exit_
            return answer
    finally:
        if task.done():
            _forget(task)
        else:
            await _end(task)
    raise LateError(seconds)


async def _outcome(value: Awaitable[Any]) -> tuple[Any, SystemExit | None]:
    try:
        return await value, None
    except SystemExit as error:  # raised by a task it would end the loop
        return None, error


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    _left.add(task)
    task.add_done_callback(_forget)
    await asyncio.wait({task}, timeout=GRACE_SECONDS)


def _forget(task: asyncio.Task[Any]) -> None:
    _left.discard(task)
    if not task.cancelled():
        task.exception()  # nobody asks any more; unasked, it would be reported as forgotten
