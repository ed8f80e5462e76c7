"""The ends of a command's streams on this side: output that waits to be read, input that is sent call by call."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

from gitmachine_e2b._errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gitmachine_e2b._process import E2BProcess

HELD_BYTES = 1 << 20
"""How much output waits for its reader before the process has to."""
INPUT_BYTES = 256 << 10
"""How much of the input goes into one call."""


class OutputPipe:
    """One stream of output: filled as it arrives, read as its consumer asks."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._limit: int | None = HELD_BYTES
        self._ended = False
        self._error: BaseException | None = None
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def __aiter__(self) -> OutputPipe:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._ended:
                raise StopAsyncIteration
            self._filled.clear()
            await self._filled.wait()
        piece = self._pieces.popleft()
        self._held -= len(piece)
        self._room.set()
        return piece

    async def put(self, data: bytes) -> None:
        """Add a piece; waits while too much is unread."""
        if self._ended:
            return
        self._pieces.append(data)
        self._held += len(data)
        self._filled.set()
        while self._limit is not None and self._held > self._limit and not self._ended:
            self._room.clear()
            await self._room.wait()

    def open_up(self) -> None:
        """Take whatever comes from now on, read or not: the process is about to end, or to be frozen."""
        self._limit = None
        self._room.set()

    def limit(self) -> None:
        """Undo `open_up`."""
        self._limit = HELD_BYTES

    def end(self, error: BaseException | None = None) -> None:
        """End the stream, with an error after what is in it, or without."""
        if not self._ended:
            self._ended, self._error = True, error
            self._filled.set()
            self._room.set()


class InputWriter:
    """The input of a command, or what is typed on its terminal."""

    def __init__(self, process: E2BProcess, *, pty: bool, ends: bool) -> None:
        self._process = process
        self._pty = pty
        self._ends = ends
        self._closed = False
        self._turn = asyncio.Lock()
        self._held = False

    async def write(self, data: bytes) -> None:
        """Write all of data, in order. Raises BrokenPipeError when the process does not take it any more."""
        view = memoryview(data)
        async with self._turn:
            while view:
                if self._closed or self._process.over:
                    raise BrokenPipeError("the command's input is closed")
                piece = bytes(view[:INPUT_BYTES])
                await self._ask(lambda data=piece: self._send(data))  # type: ignore[misc]  # bound now, called at once
                view = view[len(piece) :]

    async def _send(self, data: bytes) -> None:
        await self._process.envd.send_input(self._process.pid, data, pty=self._pty)

    async def _ask(self, call: Callable[[], Awaitable[None]]) -> None:
        """Make a call about the input; it ends with the process, whose pipe it may be waiting for."""
        asking = asyncio.ensure_future(call())
        over = asyncio.ensure_future(self._process.ended.wait())
        try:
            await asyncio.wait([asking, over], return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise BrokenPipeError("the command ended before it read its input")
            asking.result()
        except Refusal as refusal:
            if refusal.code in ("not_found", "internal", "unknown"):
                raise BrokenPipeError(f"the command does not read its input: {refusal.message}") from refusal
            raise await self._process.explained(refusal) from refusal
        except Exception as problem:
            if isinstance(problem, BrokenPipeError):
                raise
            raise await self._process.explained(problem) from problem
        finally:
            for task in (asking, over):
                task.cancel()
            await asyncio.gather(asking, over, return_exceptions=True)

    async def hold(self, seconds: float) -> None:
        """Wait until no call is under way, at most so long, and let none begin."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._turn.acquire()
            self._held = True

    def release(self) -> None:
        """Undo `hold`."""
        if self._held:
            self._held = False
            self._turn.release()

    async def close(self) -> None:
        """End the input. On a terminal this is only a promise: there, typing the byte 4 ends it."""
        async with self._turn:
            if self._closed:
                return
            self._closed = True
            if self._ends and not self._pty and not self._process.over:
                try:
                    await self._ask(lambda: self._process.envd.close_stdin(self._process.pid))
                except BrokenPipeError:
                    return
