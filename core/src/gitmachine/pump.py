"""Driving a live process to its end: input in, output out, its timeout honoured, nothing of it left behind."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from typing import TYPE_CHECKING

from gitmachine.clock import PausableClock, command_clock
from gitmachine.errors import MachineLostError
from gitmachine.output import OutputBuffer, pump

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

    from gitmachine.execution import ByteWriter, ExecRequest, Process

__all__ = ["KILL_GRACE_SECONDS", "Run", "kill_quietly"]

KILL_GRACE_SECONDS = 10.0
"""How long a killed process tree may take to report its end."""


class Run:
    """One process on its way to its result."""

    def __init__(self, process: Process, request: ExecRequest) -> None:
        self._process = process
        self._request = request
        self.began = time.monotonic()
        self.stdout = OutputBuffer(request.max_output_bytes)
        self.stderr = OutputBuffer(request.max_output_bytes)
        self._pumps: list[asyncio.Task[None]] = []
        self._feeder: asyncio.Task[None] | None = None

    async def finish(self) -> tuple[int, bool]:
        """Return the exit code and whether the timeout ended the process; leave no task behind."""
        process, request = self._process, self._request
        self._pumps = [
            asyncio.ensure_future(pump(process.stdout, self.stdout, request.on_stdout, request.on_stdout_bytes)),
            asyncio.ensure_future(pump(process.stderr, self.stderr, request.on_stderr, request.on_stderr_bytes)),
        ]
        if request.open_stdin:
            self._feeder = asyncio.ensure_future(_feed(process.stdin, request.stdin))
        try:
            return await self._within_timeout()
        except BaseException:
            # A callback that raised, a lost machine, a cancellation: the command must not outlive it.
            await self._end_tasks()
            await kill_quietly(process)
            raise
        finally:
            await self._end_tasks()

    async def _within_timeout(self) -> tuple[int, bool]:
        seconds = None if self._process.enforces_timeout else self._request.timeout
        limit = (command_clock.get() or PausableClock()).limit(seconds)
        if self._feeder is not None:
            # An input that fails is an error of the command, noticed at once; one that nobody reads is none.
            self._feeder.add_done_callback(lambda task: limit.expire("its input failed") if _failed(task) else None)
        try:
            async with limit:
                exit_code = await self._ended()
        except TimeoutError:
            if not limit.expired():
                raise
        else:
            return exit_code, self._process.timed_out
        if self._feeder is not None and _failed(self._feeder):
            self._feeder.result()
        if await _has_exited(self._process):
            # It ended in time; only a slow callback is still busy with its output.
            return await self._ended(), self._process.timed_out
        return await self._kill(), True

    async def _ended(self) -> int:
        """Wait until all output was delivered and the process has exited."""
        done, _ = await asyncio.wait(self._pumps, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
        return await self._process.wait()

    async def _kill(self) -> int:
        """Kill the tree; wait, within a deadline, for the rest of its output and its exit code."""
        try:
            async with asyncio.timeout(KILL_GRACE_SECONDS):
                await self._process.kill()
        except TimeoutError as error:
            raise MachineLostError(
                f"the command exceeded its timeout of {self._request.timeout:g} s, and the machine did not kill it "
                f"within {KILL_GRACE_SECONDS:g} s",
                operation="execute",
            ) from error
        exited = asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.wait([*self._pumps, exited], timeout=KILL_GRACE_SECONDS)
            return exited.result() if exited.done() else 128 + signal.SIGKILL
        finally:
            exited.cancel()

    async def _end_tasks(self) -> None:
        tasks = [task for task in (*self._pumps, self._feeder) if task is not None]
        unfinished = [task for task in tasks if not task.done()]
        for task in unfinished:
            task.cancel()
        if unfinished:
            await asyncio.wait(unfinished, timeout=KILL_GRACE_SECONDS)
        for task in tasks:
            _failed(task)  # a lost machine fails both streams; one error is raised, the other is seen and let go


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is not None


async def _has_exited(process: Process) -> bool:
    exited = asyncio.ensure_future(process.wait())
    await asyncio.wait([exited], timeout=0)
    if not exited.done():
        exited.cancel()
        await asyncio.wait([exited])
        return False
    return True


_kills: set[asyncio.Task[None]] = set()
"""Kills that go on after their caller was cancelled a second time: somebody must hold them."""


async def kill_quietly(process: Process) -> None:
    """Kill a process tree and wait, within a deadline, for its end; goes on when the caller is cancelled."""

    async def kill() -> None:
        with contextlib.suppress(Exception):  # the error that made us kill matters more than a kill that fails
            async with asyncio.timeout(KILL_GRACE_SECONDS):
                await process.kill()
                await process.wait()

    task = asyncio.ensure_future(kill())
    _kills.add(task)
    task.add_done_callback(_kills.discard)
    await asyncio.shield(task)


async def _feed(writer: ByteWriter, source: bytes | AsyncIterable[bytes] | None) -> None:
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # nobody reads any more: not an error
            if isinstance(source, bytes):
                await writer.write(source)
            elif source is not None:
                async for chunk in source:
                    await writer.write(chunk)
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        await writer.close()
