"""One call to a provider: its deadline, and its exceptions as ours."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, TypeVar

from gitmachine.archives.progress import Progress, watched_progress
from gitmachine.errors import GitMachineError, MachineError, MachineStartError, file_error

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from gitmachine.clock import PausableClock
    from gitmachine.machine import Machine

__all__ = ["DeadlineError", "bounded", "in_our_terms", "progressing", "stop_quietly"]

T = TypeVar("T")

_log = logging.getLogger("gitmachine.machine")

_left_behind: set[asyncio.Task[Any]] = set()
"""Calls that ignored their cancellation: somebody must hold them until they end."""


class DeadlineError(Exception):
    """A call did not end in time; never leaves this room."""


async def bounded(call: Coroutine[Any, Any, T], seconds: float, *, clock: PausableClock, cancel_seconds: float) -> T:
    """Await a call for so many seconds of a clock; one that ignores its cancellation is left behind.

    Raises:
        DeadlineError: it did not end in time.
    """
    task = asyncio.ensure_future(call)
    task.add_done_callback(_forget)
    try:
        async with clock.limit(seconds):
            await asyncio.wait([task])
    except TimeoutError as error:
        if not task.done():
            raise DeadlineError from error
    finally:
        await _given_up(task, cancel_seconds)
    return task.result()


async def progressing(
    call: Coroutine[Any, Any, T], seconds: float, *, clock: PausableClock, cancel_seconds: float
) -> T:
    """Await a call that may take any time, as long as it goes on: it calls `gitmachine.archives.advance`.

    Raises:
        DeadlineError: it did not go on for so many seconds of the clock (or up to twice as many).
    """
    progress = Progress()
    token = watched_progress.set(progress)
    try:
        task = asyncio.ensure_future(call)
    finally:
        watched_progress.reset(token)
    task.add_done_callback(_forget)
    try:
        while not task.done():
            seen = progress.steps
            try:
                async with clock.limit(seconds):
                    await asyncio.wait([task])
            except TimeoutError as error:
                if not task.done() and progress.steps == seen:
                    raise DeadlineError from error
    finally:
        await _given_up(task, cancel_seconds)
    return task.result()


async def _given_up(task: asyncio.Task[Any], cancel_seconds: float) -> None:
    """Cancel a call that has not ended; one that ignores it is left behind."""
    if not task.done():
        _left_behind.add(task)
        task.cancel()
        await asyncio.wait([task], timeout=cancel_seconds)


def _forget(task: asyncio.Task[Any]) -> None:
    failed = not task.cancelled() and task.exception() is not None
    if task in _left_behind and failed:
        _log.debug("a cancelled call to a machine failed: %r", task.exception())
    _left_behind.discard(task)


async def stop_quietly(machine: Machine, seconds: float) -> None:
    """Stop a machine that nobody got to know, within a deadline; goes on when the caller is cancelled."""

    async def stop() -> None:
        with contextlib.suppress(Exception):  # the error that made us stop it matters more than a stop that fails
            async with asyncio.timeout(seconds):
                await machine.stop()

    task = asyncio.ensure_future(stop())
    _left_behind.add(task)
    task.add_done_callback(_left_behind.discard)
    await asyncio.shield(task)


def in_our_terms(error: Exception, machine: Machine, operation: str, *, path: str | None = None) -> GitMachineError:
    """Return the exception to raise for one that a provider raised; ours stay as they are."""
    if isinstance(error, GitMachineError):
        return error
    where = {"machine_id": machine.id, "provider": machine.provider, "operation": operation}
    reason = str(error) or type(error).__name__
    if path is not None and isinstance(error, OSError) and error.errno is not None:
        return file_error(error.errno, f"{operation} {path!r}: {error.strerror or reason}", path=path, **where)
    message = f"the {machine.provider} machine failed to {operation}: {type(error).__name__}: {reason}"
    cls = MachineStartError if operation == "start" else MachineError
    return cls(message, **where)
