"""Keeping apart what must not meet: the freezing of a container, and the start of a process in it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gitmachine_local_docker._gate import HostGate

__all__ = ["Starts"]

PATIENCE_SECONDS = 10.0
"""How long a start may hold up a freezing: one that takes longer waits for something else."""


class Starts:
    """The processes of one container that are being started by this client, and by others of this user and host."""

    def __init__(self, gate: HostGate) -> None:
        self.gate = gate
        """For who is kept apart from this client's own freezings otherwise: the pool of warm shells."""
        self._starting = 0
        self._refusing = 0
        self._none = asyncio.Event()
        self._none.set()
        self._allowed = asyncio.Event()
        self._allowed.set()

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Start a process, when nobody is about to freeze the container."""
        await self._allowed.wait()
        self._starting += 1
        self._none.clear()
        try:
            hold = await self.gate.enter()
            try:
                yield
            finally:
                hold.release()
        finally:
            self._starting -= 1
            if self._starting == 0:
                self._none.set()

    @contextlib.asynccontextmanager
    async def none(self) -> AsyncIterator[None]:
        """Freeze the container, when no process is being started any more; others wait until it is done."""
        self._refusing += 1
        self._allowed.clear()
        deadline = time.monotonic() + PATIENCE_SECONDS
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._none.wait()
            async with self.gate.shut(deadline - time.monotonic()):
                yield
        finally:
            self._refusing -= 1
            if self._refusing == 0:
                self._allowed.set()
