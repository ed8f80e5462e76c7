"""A live command of a fake machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from typing import TYPE_CHECKING

from gitmachine.execution import ByteWriter, Process
from gitmachine.testing.fake.terminal import TerminalReader, set_size

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator

    from gitmachine.errors import MachineLostError
    from gitmachine.execution import TerminalSize
    from gitmachine.pipes import PipeReader, PipeWriter
    from gitmachine.streams import NoOutput
    from gitmachine.testing.fake.tree import ProcessTree

__all__ = ["FakeProcess"]

_KILL_SECONDS = 10.0


class FakeProcess(Process):
    """A local subprocess with its tree."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        tree: ProcessTree,
        mark: int,
        *,
        stdout: PipeReader | TerminalReader,
        stderr: PipeReader | NoOutput,
        stdin: PipeWriter | None,
    ) -> None:
        """Watch over `child`, which was started with `mark`."""
        self._child = child
        self._tree = tree
        self._mark = mark
        self._stdout = stdout
        self._stderr = stderr
        self._stdin = stdin
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._exit_code: int | None = None
        self._lost: MachineLostError | None = None
        self._pidfd: int | None = None
        self._watch()

    @property
    def id(self) -> str:
        """The pid."""
        return str(self._child.pid)

    @property
    def stdin(self) -> ByteWriter:
        """The input; the request had `open_stdin`."""
        if self._stdin is None:
            raise BrokenPipeError("the command has no input: ask for open_stdin in its request")
        return self._stdin

    @property
    def stdout(self) -> AsyncIterator[bytes]:
        """Standard output, as it arrives."""
        return self._stdout

    @property
    def stderr(self) -> AsyncIterator[bytes]:
        """Standard error, as it arrives."""
        return self._stderr

    async def wait(self) -> int:
        """Wait for the exit code."""
        await self._over.wait()
        if self._lost is not None:
            raise self._lost
        assert self._exit_code is not None
        return self._exit_code

    async def kill(self) -> None:
        """Kill the command with all its children."""
        if self._over.is_set():
            return
        await asyncio.to_thread(self._tree.kill, self._child.pid, self._mark)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_KILL_SECONDS):
                await self._over.wait()

    async def resize(self, size: TerminalSize) -> None:
        """Change the size of its terminal."""
        if not isinstance(self._stdout, TerminalReader):
            await super().resize(size)
        elif not self._stdout.ended:
            set_size(self._stdout.master, size)

    @property
    def released(self) -> bool:
        """Whether nobody can read from it any more."""
        return self._over.is_set() and self._stdout.ended and self._stderr.ended

    def lose(self, error: MachineLostError) -> None:
        """The machine is gone: whoever waits gets the error, and the streams end."""
        if not self._over.is_set():
            self._lost = error
            self._end()

    def _watch(self) -> None:
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                self._pidfd = os.pidfd_open(self._child.pid)
                self._loop.add_reader(self._pidfd, self._exited)
                return
        threading.Thread(target=self._wait_in_thread, daemon=True).start()

    def _wait_in_thread(self) -> None:
        self._child.wait()
        with contextlib.suppress(RuntimeError):  # the loop was closed before
            self._loop.call_soon_threadsafe(self._exited)

    def _exited(self) -> None:
        code = self._child.wait()
        self._exit_code = code if code >= 0 else 128 - code
        self._end()

    def _end(self) -> None:
        if self._pidfd is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        if self._lost is None:
            self._stdout.finish()
            self._stderr.finish()
        else:
            self._stdout.close()
            self._stderr.close()
        if self._stdin is not None:
            self._stdin.abort()
        if not self._loop.is_closed():
            self._over.set()

    def release(self) -> None:
        """Let go of everything, once the machine's processes were killed; unread output is gone where nobody waits."""
        self._child.wait()
        if self._exit_code is None and self._lost is None:
            self._exited()
        if self._loop.is_closed():
            self._stdout.close()
            self._stderr.close()
