"""The output and the end of detached runs: read in pieces, waited for also while somebody has the machine paused."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, TypeVar

from gitmachine.errors import CommandTimeoutError, ConfigError, InvalidStateError, MachineError
from gitmachine.execution import ExecResult, OutputBuffer
from gitmachine.machine import MachineState
from gitmachine.machines.runs import CHUNK_BYTES
from gitmachine.steps.context import Phase
from gitmachine.steps.runs import guarded, runs_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from gitmachine.execution import BytesCallback
    from gitmachine.machines.runs import Piece
    from gitmachine.outcomes import RunInfo
    from gitmachine.steps.context import Context

    _T = TypeVar("_T")

__all__ = ["Stream", "collect", "follow", "look", "wait"]

BREATHER_SECONDS = 0.05
"""Between two looks at a run that writes all the time, so that each brings more than a line."""

PAUSE_POLL_SECONDS = 0.2
"""How often whoever waits for a paused machine looks whether it runs again."""

MAX_REFUSALS = 10
"""How often a machine may refuse a look although the journal says that it runs."""

TIMEOUT_EXIT = 124


class Stream:
    """One stream of a run, read from an offset to its end, or to what there is at the first look.

    Args:
        ctx: the session.
        run_id: the run.
        which: ``stdout`` or ``stderr``.
        offset: where to begin.
        follow: go on until the run's end.
    """

    def __init__(self, ctx: Context, run_id: str, which: str, offset: int, *, follow: bool) -> None:
        _check_offsets(offset)
        self._ctx = ctx
        self._run_id = run_id
        self._which = which
        self._offset = offset
        self._follow = follow
        self._end: int | None = None
        self._last: Piece | None = None

    async def next(self) -> bytes | None:
        """Return the next bytes; None at the end.

        Raises:
            MachineError: the run was followed and ended without an exit code; what there was has been returned.
        """
        while self._end is None or self._offset < self._end:
            if self._last is not None:
                await breathe(self._last)
            piece = self._last = await look(self._ctx, self._run_id, {self._which: self._offset}, wait=self._follow)
            data, total = output_of(piece, self._which)
            check_progress(self._run_id, data, self._offset, total)
            if self._end is None and (piece.ended or not self._follow):
                self._end = total
            if self._end is not None:
                data = data[: max(0, self._end - self._offset)]
            self._offset += len(data)
            if data:
                return data
        if self._follow and self._last is not None:
            exit_code_of(self._run_id, self._last)
        return None


async def follow(
    ctx: Context,
    run_id: str,
    *,
    on_stdout: BytesCallback | None = None,
    on_stderr: BytesCallback | None = None,
    stdout_offset: int = 0,
    stderr_offset: int = 0,
) -> tuple[int, Piece]:
    """Hand both streams of a run to callbacks until its end; return its exit code."""
    _check_offsets(stdout_offset, stderr_offset)
    callbacks = {"stdout": on_stdout, "stderr": on_stderr}
    given = {"stdout": stdout_offset, "stderr": stderr_offset}
    offsets = {name: given[name] for name, callback in callbacks.items() if callback is not None}
    while True:
        piece = await look(ctx, run_id, offsets, wait=True)
        for name, offset in list(offsets.items()):
            data, total = output_of(piece, name)
            check_progress(run_id, data, offset, total)
            callback = callbacks[name]
            if data and callback is not None:
                offsets[name] = offset + len(data)
                answer = callback(data)
                if inspect.isawaitable(answer):
                    await answer
        if piece.ended and all(offset >= output_of(piece, name)[1] for name, offset in offsets.items()):
            return exit_code_of(run_id, piece), piece
        await breathe(piece)


async def wait(ctx: Context, run_id: str, timeout: float | None) -> int:
    """Wait for a run's exit code.

    Raises:
        CommandTimeoutError: it goes on.
    """
    code, _ = await _within(timeout, run_id, follow(ctx, run_id))
    return code


async def collect(ctx: Context, info: RunInfo, timeout: float | None, max_output_bytes: int) -> ExecResult:
    """Wait for a run's end and return all of it as a result."""
    out, err = OutputBuffer(max_output_bytes), OutputBuffer(max_output_bytes)
    following = follow(ctx, info.id, on_stdout=out.append, on_stderr=err.append)
    code, piece = await _within(timeout, info.id, following)
    duration = 0.0 if piece.finished is None else max(0.0, (piece.finished - info.started).total_seconds())
    return ExecResult(
        exit_code=code,
        stdout_bytes=out.getvalue(),
        stderr_bytes=err.getvalue(),
        duration=duration,
        truncated=out.truncated or err.truncated or piece.truncated,
    )


async def _within(seconds: float | None, run_id: str, call: Awaitable[_T]) -> _T:
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            return await call
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise CommandTimeoutError(
            f"the run {run_id} did not end within {seconds:g} s; it goes on",
            result=ExecResult(exit_code=TIMEOUT_EXIT, timed_out=True),
        ) from error


async def look(ctx: Context, run_id: str, offsets: Mapping[str, int], *, wait: bool) -> Piece:
    """Look at a run; while somebody has the machine paused, wait for that to be over."""
    runs, refusals = runs_of(ctx), 0
    while True:
        try:
            ctx.require_running("read")
            return await guarded(
                ctx, lambda: runs.look(run_id, stdout=offsets.get("stdout"), stderr=offsets.get("stderr"), wait=wait)
            )
        except InvalidStateError:
            if ctx.phase is not Phase.READY:
                raise
            if not await _is_paused(ctx):
                refusals += 1
                if refusals > MAX_REFUSALS:
                    raise
        await asyncio.sleep(PAUSE_POLL_SECONDS)


async def _is_paused(ctx: Context) -> bool:
    """Tell whether the machine is paused; when another process resumed it, make this one know."""
    await ctx.pass_lock("read")
    if (await ctx.journal.machine(ctx.key)).state == MachineState.PAUSED:
        return True
    if ctx.machine.state is MachineState.PAUSED and not ctx.asleep:
        async with ctx.exclusive("resume"):
            if (await ctx.journal.machine(ctx.key)).state == MachineState.RUNNING:
                await ctx.machine.resume()
    return False


def output_of(piece: Piece, which: str) -> tuple[bytes, int]:
    """Return a piece's bytes of a stream, and how many there are in all."""
    return (piece.stdout, piece.stdout_bytes) if which == "stdout" else (piece.stderr, piece.stderr_bytes)


def _check_offsets(*offsets: int) -> None:
    if min(offsets) < 0:
        raise ConfigError(f"an offset must be 0 or more bytes, not {min(offsets)}")


async def breathe(piece: Piece) -> None:
    """Leave a run that writes a little all the time some time to write more."""
    if not piece.ended and max(len(piece.stdout), len(piece.stderr)) < CHUNK_BYTES // 2:
        await asyncio.sleep(BREATHER_SECONDS)


def check_progress(run_id: str, data: bytes, offset: int, total: int) -> None:
    """Raise when there should be more output and there is none: asking again would not end."""
    if not data and offset < total:
        raise MachineError(f"the output of the run {run_id} is shorter than it was: somebody changed its files")


def exit_code_of(run_id: str, piece: Piece) -> int:
    """Return the exit code of a run that has ended, or raise."""
    if piece.exit_code is None:
        raise MachineError(
            f"the run {run_id} ended without an exit code: its supervisor in the machine was killed, or never began"
        )
    return piece.exit_code
