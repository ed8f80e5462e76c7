"""Blocking steps in threads, each of which comes to its end whatever happens to its caller."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["begin", "ended", "run_alone", "run_through"]

T = TypeVar("T")


def begin(step: Callable[[], T]) -> asyncio.Future[T]:
    """Start a step in a thread."""
    return asyncio.get_running_loop().run_in_executor(None, step)


async def ended(step: asyncio.Future[T]) -> T:
    """Wait for a step; a cancellation waits until it has ended: what it works on is not ours before that."""
    try:
        return await asyncio.shield(step)
    except asyncio.CancelledError:
        while not step.done():
            try:
                await asyncio.wait([step])
            except asyncio.CancelledError:  # a second one: the thread cannot be interrupted
                continue
        raise


async def run_through(step: Callable[[], T]) -> T:
    """Run a step in a thread and wait for its end, even when cancelled."""
    return await ended(begin(step))


async def run_alone(step: Callable[[], T], stop: Callable[[], None]) -> T:
    """Run a step that may take long in a thread of its own, not in one of the few that short ones share.

    Args:
        step: what to run, in the caller's context.
        stop: called by a cancellation, in the event loop; the step has to end soon after it. Its end is waited for.
    """
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    future: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        settle: Callable[[], None]
        try:
            result = context.run(step)
            settle = functools.partial(future.set_result, result)
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is raised where the step is waited for
            settle = functools.partial(future.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle)

    threading.Thread(target=run, name="gitmachine transfer", daemon=True).start()
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        stop()
        while not future.done():
            with contextlib.suppress(asyncio.CancelledError):  # a second one: the thread cannot be interrupted
                await asyncio.wait([future])
        future.exception()
        raise
