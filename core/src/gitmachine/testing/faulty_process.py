"""A live process whose connection can break."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gitmachine.execution import ByteWriter, Process, TerminalSize

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from typing import Any, TypeVar

    from gitmachine.errors import MachineLostError

    T = TypeVar("T")

__all__ = ["FaultyProcess"]


class FaultyProcess(Process):
    """Passes everything on until its output exceeds a limit, or its machine dies; then everything is lost."""

    def __init__(
        self,
        process: Process,
        *,
        limit: Callable[[], int | None],
        cut: Callable[[], MachineLostError],
        machine_lost: asyncio.Event,
        death: Callable[[], MachineLostError | None],
    ) -> None:
        """Wrap a process.

        Args:
            process: the process inside.
            limit: how much output may arrive before the connection breaks; None is any amount.
            cut: called when it breaks; makes the error.
            machine_lost: set when the machine dies.
            death: returns the error of a dead machine, or None.
        """
        self._process = process
        self._limit = limit
        self._count = 0
        self._make_cut = cut
        self._machine_lost = machine_lost
        self._death = death
        self._broken: MachineLostError | None = None
        self._cut = asyncio.Event()
        self.enforces_timeout = process.enforces_timeout
        self._stdout = self._stream(process.stdout)
        self._stderr = self._stream(process.stderr)

    @property
    def timed_out(self) -> bool:  # type: ignore[override]  # an attribute of the class, here that of the process inside
        """Whether the machine ended it at its timeout."""
        return self._process.timed_out

    @property
    def id(self) -> str:
        """The id of the process inside."""
        return self._process.id

    @property
    def stdin(self) -> ByteWriter:
        """The input of the process inside."""
        return self._process.stdin

    @property
    def stdout(self) -> AsyncIterator[bytes]:
        """Standard output, up to the cut."""
        return self._stdout

    @property
    def stderr(self) -> AsyncIterator[bytes]:
        """Standard error, up to the cut."""
        return self._stderr

    async def _stream(self, source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        while True:
            try:
                data: bytes = await self._unless_broken(anext(source))
            except StopAsyncIteration:
                return
            limit = self._limit()
            breaks = limit is not None and self._count + len(data) >= limit
            if breaks and limit is not None:
                data = data[: max(0, limit - self._count)]
                self._broken = self._make_cut()
            self._count += len(data)
            if data:
                yield data
            if breaks:
                self._cut.set()

    async def wait(self) -> int:
        """Wait for the exit code."""
        return await self._unless_broken(self._process.wait())

    async def kill(self) -> None:
        """Kill the process tree; after a cut too, because the machine notices that its client went away."""
        if self._death() is None:
            await self._process.kill()

    async def resize(self, size: TerminalSize) -> None:
        """Resize the terminal of the process inside."""
        await self._unless_broken(self._process.resize(size))

    async def _unless_broken(self, call: Coroutine[Any, Any, T] | Any) -> T:
        doing = asyncio.ensure_future(_result(call))
        breaking = [asyncio.ensure_future(event.wait()) for event in (self._cut, self._machine_lost)]
        try:
            await asyncio.wait([doing, *breaking], return_when=asyncio.FIRST_COMPLETED)
            broken = self._death() or self._broken
            if broken is not None:
                raise broken
            ended, value = doing.result()
        finally:
            for task in (doing, *breaking):
                task.cancel()
            await asyncio.gather(doing, *breaking, return_exceptions=True)
        if ended:
            raise StopAsyncIteration
        return value  # type: ignore[no-any-return]  # what `call` returned


async def _result(call: Any) -> tuple[bool, Any]:
    """Await a call; the end of an iteration is a value, because no future can hold it."""
    try:
        return False, await call
    except StopAsyncIteration:
        return True, None
