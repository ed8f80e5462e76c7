"""`Run`: `AsyncRun` for blocking code, without any logic of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitmachine._portal import adapt
from gitmachine.execution import DEFAULT_MAX_OUTPUT_BYTES, ExecResult
from gitmachine.plugins.threads import OrderedThread
from gitmachine.steps import run_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gitmachine._portal import Lease
    from gitmachine.outcomes import RunInfo
    from gitmachine.session.run import AsyncRun
    from gitmachine.steps.context import Context

__all__ = ["Run"]


class Run:
    """A detached run: made by ``spawn``, found again by ``attach``, from this process or any other.

    All of its output is kept in the machine, and can be read from any offset, by anybody, as often as wanted. What
    waits for output or for the end goes on waiting while the machine is paused.
    """

    def __init__(self, ctx: Context, lease: Lease, inner: AsyncRun) -> None:
        self._ctx = ctx
        self._lease = lease
        self._inner = inner

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}: {self.command}>"

    @property
    def id(self) -> str:
        """Eight hexadecimal digits."""
        return self._inner.id

    @property
    def name(self) -> str | None:
        """What it was called, or None."""
        return self._inner.name

    @property
    def command(self) -> str:
        """The command, redacted."""
        return self._inner.command

    def info(self) -> RunInfo:
        """Return what is true of it now: its state, exit code and how much output there is."""
        return self._lease.call(self._inner.info)

    def stdout(self, offset: int = 0, follow: bool = True) -> Iterator[bytes]:
        """Yield its standard output from an offset in bytes: to its end, or without `follow` to what there is now.

        Raises:
            MachineError: followed, and it ended without an exit code; what there was has been yielded.
        """
        stream = run_output.Stream(self._ctx, self.id, "stdout", offset, follow=follow)
        while (chunk := self._lease.call(stream.next)) is not None:
            yield chunk

    def stderr(self, offset: int = 0, follow: bool = True) -> Iterator[bytes]:
        """Yield its standard error, as `stdout` does."""
        stream = run_output.Stream(self._ctx, self.id, "stderr", offset, follow=follow)
        while (chunk := self._lease.call(stream.next)) is not None:
            yield chunk

    def follow(
        self,
        on_stdout: Callable[[bytes], object] | None = None,
        on_stderr: Callable[[bytes], object] | None = None,
        *,
        stdout_offset: int = 0,
        stderr_offset: int = 0,
    ) -> int:
        """Hand its output to callbacks as it comes, from offsets in bytes, until its end; return the exit code.

        Raises:
            MachineError: it ended without an exit code.
        """
        with OrderedThread("gitmachine-output") as output:
            return self._lease.call(
                self._inner.follow,
                adapt(on_stdout, output.call),
                adapt(on_stderr, output.call),
                stdout_offset=stdout_offset,
                stderr_offset=stderr_offset,
            )

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its exit code: 0 to 255, 128 + N when signal N ended it, 127 when there was no such program.

        Raises:
            CommandTimeoutError: it did not end within so many seconds (`result` is empty); it goes on.
            MachineError: it ended without an exit code.
        """
        return self._lease.call(self._inner.wait, timeout)

    def output(self, timeout: float | None = None, *, max_output_bytes: int = DEFAULT_MAX_OUTPUT_BYTES) -> ExecResult:
        """Wait for its end and return everything as a result; raises as `wait` does."""
        return self._lease.call(self._inner.output, timeout, max_output_bytes=max_output_bytes)

    def kill(self) -> None:
        """Kill it with all its children; no error when it has ended already."""
        self._lease.call(self._inner.kill)
