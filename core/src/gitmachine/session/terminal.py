"""`AsyncTerminal`: a command of `AsyncGitMachine` on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from gitmachine.execution import TerminalSize

if TYPE_CHECKING:
    from gitmachine.steps.terminals import OpenTerminal

__all__ = ["AsyncTerminal"]


class AsyncTerminal:
    """A command on a terminal in the machine, made by ``open_terminal``: what it shows is read, what is typed written.

    Use it with ``async with``: leaving kills what still runs. Iterating gives what it shows, as it comes, to its end.
    It lives in this process: what is to outlive it is a ``spawn``.
    """

    def __init__(self, opened: OpenTerminal) -> None:
        self._opened = opened

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}: {self.command}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        data = await self.read()
        if not data:
            raise StopAsyncIteration
        return data

    @property
    def id(self) -> str:
        """The machine's own id of the process, such as its pid."""
        return self._opened.process.id

    @property
    def command(self) -> str:
        """The command, redacted."""
        return self._opened.command

    async def read(self) -> bytes:
        """Return the next piece of what it shows, as soon as there is one; empty at its end."""
        return await self._opened.read()

    async def write(self, data: bytes | str) -> None:
        r"""Type something: Return is ``\r``, Ctrl-C ``\x03``, Ctrl-D ``\x04``.

        Raises:
            BrokenPipeError: its command has ended.
        """
        await self._opened.process.stdin.write(data.encode() if isinstance(data, str) else data)

    async def resize(self, columns: int, rows: int) -> None:
        """Change its size; what runs in its foreground is told so."""
        await self._opened.process.resize(TerminalSize(columns=columns, rows=rows))

    async def wait(self) -> int:
        """Wait for the exit code: 0 to 255, or 128 + N when signal N ended it; somebody has to read meanwhile.

        Raises:
            MachineLostError: the machine is gone.
        """
        return await self._opened.wait()

    async def kill(self) -> None:
        """Kill the command with all its children; no error when it has ended already."""
        await self._opened.process.kill()

    async def close(self) -> None:
        """Kill what still runs, and let go of it."""
        await self._opened.close()
