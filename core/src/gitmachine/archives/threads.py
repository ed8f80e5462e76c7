"""Blocking steps in threads, each of which comes to its end whatever happens to its caller."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["begin", "ended", "run_through"]

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
