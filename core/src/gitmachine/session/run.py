"""`AsyncRun`: a command in the machine that goes on without whoever started it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitmachine.execution import DEFAULT_MAX_OUTPUT_BYTES, BytesCallback, ExecResult
from gitmachine.steps import run_output, runs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gitmachine.outcomes import RunInfo
    from gitmachine.steps.context import Context

__all__ = ["AsyncRun"]


class AsyncRun:
    """A detached run: made by ``spawn``, found again by ``attach``, from this process or any other.

    All of its output is kept in the machine, and can be read from any offset, by anybody, as often as wanted. What
    waits for output or for the end goes on waiting while the machine is paused.
    """

    def __init__(self, ctx: Context, info: RunInfo) -> None:
        self._ctx = ctx
        self._info = info

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}: {self.command}>"

    @property
    def id(self) -> str:
        """Eight hexadecimal digits."""
        return self._info.id

    @property
    def name(self) -> str | None:
        """What it was called, or None."""
        return self._info.name

    @property
    def command(self) -> str:
        """The command, redacted."""
        return self._info.command

    async def info(self) -> RunInfo:
        """Return what is true of it now: its state, exit code and how much output there is."""
        return await runs.inform(self._ctx, self._info)

    async def stdout(self, offset: int = 0, follow: bool = True) -> AsyncIterator[bytes]:
        """Yield its standard output from an offset in bytes: to its end, or without `follow` to what there is now.

        Raises:
            MachineError: followed, and it ended without an exit code; what there was has been yielded.
        """
        stream = run_output.Stream(self._ctx, self.id, "stdout", offset, follow=follow)
        while (chunk := await stream.next()) is not None:
            yield chunk

    async def stderr(self, offset: int = 0, follow: bool = True) -> AsyncIterator[bytes]:
        """Yield its standard error, as `stdout` does."""
        stream = run_output.Stream(self._ctx, self.id, "stderr", offset, follow=follow)
        while (chunk := await stream.next()) is not None:
            yield chunk

    async def follow(
        self,
        on_stdout: BytesCallback | None = None,
        on_stderr: BytesCallback | None = None,
        *,
        stdout_offset: int = 0,
        stderr_offset: int = 0,
    ) -> int:
        """Hand its output to callbacks as it comes, from offsets in bytes, until its end; return the exit code.

        Raises:
            MachineError: it ended without an exit code.
        """
        code, _ = await run_output.follow(
            self._ctx,
            self.id,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
            stdout_offset=stdout_offset,
            stderr_offset=stderr_offset,
        )
        return code

    async def wait(self, timeout: float | None = None) -> int:
        """Wait for its exit code: 0 to 255, 128 + N when signal N ended it, 127 when there was no such program.

        Raises:
            CommandTimeoutError: it did not end within so many seconds (`result` is empty); it goes on.
            MachineError: it ended without an exit code.
        """
        return await run_output.wait(self._ctx, self.id, timeout)

    async def output(
        self, timeout: float | None = None, *, max_output_bytes: int = DEFAULT_MAX_OUTPUT_BYTES
    ) -> ExecResult:
        """Wait for its end and return everything as a result; raises as `wait` does."""
        return await run_output.collect(self._ctx, self._info, timeout, max_output_bytes)

    async def kill(self) -> None:
        """Kill it with all its children; no error when it has ended already."""
        await runs.kill(self._ctx, self.id)
