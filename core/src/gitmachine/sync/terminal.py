"""`Terminal`: `AsyncTerminal` for blocking code, without any logic of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from gitmachine._portal import Lease
    from gitmachine.session.terminal import AsyncTerminal

__all__ = ["Terminal"]


class Terminal:
    """A command on a terminal in the machine, made by ``open_terminal``: what it shows is read, what is typed written.

    Use it with ``with``: leaving kills what still runs. Iterating gives what it shows, as it comes, to its end.
    It lives in this process: what is to outlive it is a ``spawn``.
    """

    def __init__(self, lease: Lease, inner: AsyncTerminal) -> None:
        self._lease = lease
        self._inner = inner

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}: {self.command}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        data = self.read()
        if not data:
            raise StopIteration
        return data

    @property
    def id(self) -> str:
        """The machine's own id of the process, such as its pid."""
        return self._inner.id

    @property
    def command(self) -> str:
        """The command, redacted."""
        return self._inner.command

    def read(self) -> bytes:
        """Return the next piece of what it shows, as soon as there is one; empty at its end."""
        return self._lease.call(self._inner.read)

    def write(self, data: bytes | str) -> None:
        r"""Type something: Return is ``\r``, Ctrl-C ``\x03``, Ctrl-D ``\x04``.

        Raises:
            BrokenPipeError: its command has ended.
        """
        self._lease.call(self._inner.write, data)

    def resize(self, columns: int, rows: int) -> None:
        """Change its size; what runs in its foreground is told so."""
        self._lease.call(self._inner.resize, columns, rows)

    def wait(self) -> int:
        """Wait for the exit code: 0 to 255, or 128 + N when signal N ended it; somebody has to read meanwhile.

        Raises:
            MachineLostError: the machine is gone.
        """
        return self._lease.call(self._inner.wait)

    def kill(self) -> None:
        """Kill the command with all its children; no error when it has ended already."""
        self._lease.call(self._inner.kill)

    def close(self) -> None:
        """Kill what still runs, and let go of it."""
        self._lease.call(self._inner.close)
