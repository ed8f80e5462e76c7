"""The terminal of a fake machine's command: the client's end of a pseudo-terminal."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import struct
import termios
from typing import TYPE_CHECKING

from gitmachine.pipes import PipeWriter, Readiness

if TYPE_CHECKING:
    from gitmachine.execution import TerminalSize

__all__ = ["TERMINAL_SCRIPT", "TerminalReader", "TerminalWriter", "set_size"]

TERMINAL_SCRIPT = 'exec <>"$0" >&0 2>&0; exec "$@"'
"""A shell that leads its session makes the terminal that it opens the controlling one, and becomes the command."""

_CHUNK_BYTES = 1 << 16


def set_size(fd: int, size: TerminalSize) -> None:
    """Change the size of a terminal; what runs in its foreground gets SIGWINCH."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))


class TerminalReader:
    """Reads what a command writes to its terminal; ends when nobody holds the terminal any more."""

    def __init__(self, master: int) -> None:
        self.master = master
        self.ended = False
        self._finishing = False
        self._readable = Readiness(master)

    def __aiter__(self) -> TerminalReader:
        return self

    async def __anext__(self) -> bytes:
        while not self.ended:
            try:
                data = os.read(self.master, _CHUNK_BYTES)
            except BlockingIOError:
                if self._finishing:
                    break
                await self._readable.wait()
                continue
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                break
            await asyncio.sleep(0)  # a stream that never runs dry leaves room for the others
            return data
        self.close()
        raise StopAsyncIteration

    def finish(self) -> None:
        """End after what was written until now: the system hangs a terminal up before its leader's end is known."""
        self._finishing = True
        self._readable.wake()

    def close(self) -> None:
        """Hang up."""
        if not self.ended:
            self.ended = True
            self._readable.give_up()
            os.close(self.master)


class TerminalWriter(PipeWriter):
    """What is typed on a terminal."""

    async def write(self, data: bytes) -> None:
        """Type all of data. Raises BrokenPipeError when nobody reads any more."""
        try:
            await super().write(data)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            raise BrokenPipeError("the terminal was hung up") from error
