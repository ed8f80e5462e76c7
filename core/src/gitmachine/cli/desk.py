"""The terminal that somebody sits at: raw while it belongs to a machine's, and always given back as it was."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import termios
import tty
from typing import TYPE_CHECKING, Any

from gitmachine.execution import TerminalSize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Desk"]

CHUNK_BYTES = 4096


class Desk:
    """Our own terminal, by a descriptor of it.

    Args:
        descriptor: standard input.
    """

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self._found: list[Any] | None = None

    @property
    def is_there(self) -> bool:
        """Whether the descriptor is a terminal."""
        return os.isatty(self._descriptor)

    @property
    def size(self) -> TerminalSize:
        """Its size; 80 x 24 where it says nothing."""
        try:
            columns, rows = os.get_terminal_size(self._descriptor)
        except OSError:
            columns = rows = 0
        return TerminalSize(columns, rows) if columns > 0 and rows > 0 else TerminalSize()

    @contextlib.contextmanager
    def raw(self) -> Iterator[None]:
        """Pass every key on as it is, Ctrl-C too."""
        self._found = termios.tcgetattr(self._descriptor)
        try:
            tty.setraw(self._descriptor, termios.TCSADRAIN)
            yield
        finally:
            self.restore()

    def restore(self) -> None:
        """Make it what it was before `raw`; harmless at any time."""
        if self._found is not None:
            # A terminal that is gone needs nothing. What was typed ahead is left to who comes next.
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._found)

    def watch(self, resized: Callable[[], None]) -> None:
        """Have changes of its size told, and take it again after a stop by job control."""
        loop = asyncio.get_running_loop()

        def continued() -> None:
            with contextlib.suppress(termios.error):
                tty.setraw(self._descriptor, termios.TCSADRAIN)
            resized()

        loop.add_signal_handler(signal.SIGWINCH, resized)
        loop.add_signal_handler(signal.SIGCONT, continued)

    def unwatch(self) -> None:
        """Undo `watch`."""
        loop = asyncio.get_running_loop()
        loop.remove_signal_handler(signal.SIGWINCH)
        loop.remove_signal_handler(signal.SIGCONT)

    async def read(self) -> bytes:
        """Return what was typed next; empty when the terminal is gone."""
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_reader(self._descriptor, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            loop.remove_reader(self._descriptor)
        try:
            return os.read(self._descriptor, CHUNK_BYTES)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return b""
