"""Keeping apart what must not meet: the freezing of a container, and the start of a process in it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Starts"]

PATIENCE_SECONDS = 10.0
"""How long a start may hold up a freezing: one that takes longer waits for something else."""


class Starts:
    """The processes of one container that are being started by this client."""

    def __init__(self) -> None:
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
            yield
        finally:
            self._starting -= 1
            if self._starting == 0:
                self._none.set()

    @contextlib.asynccontextmanager
    async def none(self) -> AsyncIterator[None]:
        """Freeze the container, when no process is being started any more; others wait until it is done."""
        self._refusing += 1
        self._allowed.clear()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._none.wait()
            yield
        finally:
            self._refusing -= 1
            if self._refusing == 0:
                self._allowed.set()
