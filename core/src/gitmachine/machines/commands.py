"""The commands that are running in one machine, and how they are ended from outside."""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from typing import TYPE_CHECKING

from gitmachine.execution import KILL_GRACE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gitmachine.clock import Limit
    from gitmachine.execution import Process

__all__ = ["RunningCommands"]

LEAVE_SECONDS = 2 * KILL_GRACE_SECONDS + 5
"""How long a command that is being ended may take to be gone: its tasks' end and its kill have a grace each."""


class RunningCommands:
    """Knows each running command by the limit it runs under, and each spawned process that somebody still holds.

    Permitted ones belong to whoever ends the others, so they are spared.
    """

    def __init__(self) -> None:
        self._running: dict[Limit, bool] = {}
        self._spawned: list[tuple[weakref.ref[Process], bool]] = []
        self._left = asyncio.Event()

    def __len__(self) -> int:
        return len(self._running)

    def enter(self, limit: Limit, *, permitted: bool) -> None:
        """Note a command that begins."""
        self._running[limit] = permitted

    def leave(self, limit: Limit) -> None:
        """Note that a command is gone."""
        del self._running[limit]
        self._left.set()

    def add(self, process: Process, *, permitted: bool) -> None:
        """Note a spawned process, for as long as somebody holds it."""
        self._spawned = [entry for entry in self._spawned if entry[0]() is not None]
        self._spawned.append((weakref.ref(process), permitted))

    def expire(self, reason: str) -> list[Limit]:
        """Have every command end now, permitted or not; return those it concerns, without waiting for them."""
        limits = list(self._running)
        for limit in limits:
            limit.expire(reason)
        return limits

    async def end(self, grace_seconds: float, reason: str) -> int:
        """Give every command without a permit time to end by itself, kill the others; return how many were killed."""
        limits = [limit for limit, permitted in self._running.items() if not permitted]
        held = [(process(), permitted) for process, permitted in self._spawned]
        processes = [process for process, permitted in held if process is not None and not permitted]
        exits = {asyncio.ensure_future(process.wait()): process for process in processes}
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_seconds):
                    await self.gone(limits, grace_seconds)
                    if exits:
                        await asyncio.wait(exits)
            remaining = [limit for limit in limits if limit in self._running]
            for limit in remaining:
                limit.expire(reason)
            alive = [process for exit_, process in exits.items() if not exit_.done()]
            await asyncio.gather(*(_kill(process) for process in alive))
            await self.gone(remaining, LEAVE_SECONDS)
        finally:
            for exit_ in exits:
                exit_.cancel()
            await asyncio.gather(*exits, return_exceptions=True)
        return len(remaining) + len(alive)

    async def gone(self, limits: Iterable[Limit], seconds: float) -> None:
        """Wait until these commands are gone, at most so long."""
        limits = list(limits)
        deadline = time.monotonic() + seconds
        while any(limit in self._running for limit in limits):
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self._left.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._left.wait()


async def _kill(process: Process) -> None:
    with contextlib.suppress(Exception):  # a process that cannot be killed falls with its machine
        async with asyncio.timeout(KILL_GRACE_SECONDS):
            await process.kill()
