"""Deadlines for what plugins do, which may not listen when they are told to end."""

from __future__ import annotations

import asyncio
import inspect
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from gitmachine.errors import InvalidStateError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["GRACE_SECONDS", "LateError", "ended_within", "take_part"]

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


class _Work:
    """What a thread that somebody waits for has under way on the loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._given_up = False

    def begin(self, task: asyncio.Task[Any]) -> None:
        """Count a task in, on the loop.

        Raises:
            InvalidStateError: nobody waits for the thread any more.
        """
        if self._given_up:
            raise InvalidStateError("the hook took too long, or was cancelled: nothing more is done for it")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def give_up(self) -> None:
        """Cancel what is under way, and let nothing more begin."""
        self._given_up = True
        for task in tuple(self._tasks):
            task.cancel()


_work: ContextVar[_Work | None] = ContextVar("gitmachine_hook_work", default=None)


def take_part() -> None:
    """Have the current task, which works for a thread, be cancelled when that thread is given up.

    Raises:
        InvalidStateError: it was given up already.
    """
    work, task = _work.get(), asyncio.current_task()
    if work is not None and task is not None:
        work.begin(task)


async def ended_within(seconds: float | None, call: Callable[[], Any], *, on_thread: Awaitable[Any] | None) -> Any:
    """Return what a call answers, or what the awaitable that it returns does.

    A thread that is late goes on, and its answer is dropped; what it has under way on the loop is cancelled. A
    coroutine that is late is cancelled; when it does not end then, it is left behind as well.

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
            value = call() if on_thread is None else await _working(on_thread)
    except TimeoutError as error:
        if seconds is None or not limit.expired():
            raise
        raise LateError(seconds) from error
    if not inspect.isawaitable(value):
        return value
    if seconds is None or deadline is None:
        return await value
    return await _watched(value, deadline - loop.time(), seconds)


async def _working(thread: Awaitable[Any]) -> Any:
    work = _Work()
    token = _work.set(work)
    try:
        return await thread
    except asyncio.CancelledError:
        work.give_up()
        raise
    finally:
        _work.reset(token)


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
