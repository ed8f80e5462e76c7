"""A terminal, which is made in here, so that its name means something inside.

The client has two pipes, and the loop moves bytes between them and the terminal. Few machines ever have one: this
module is loaded with the first.
"""

from __future__ import annotations

import fcntl
import select
import sys
import termios

from gitmachine_local.supervisor.lean import os
from gitmachine_local.supervisor.wire import close

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from gitmachine_local.supervisor.ends import Actions

    class Loop(Protocol):
        """What a terminal needs of the supervisor."""

        def watch(self, fd: int, handler: Callable[[], object], events: int = select.POLLIN) -> None:
            """Call the handler when something can be done with the descriptor."""

        def forget(self, fd: int) -> None:
            """Watch it no more."""


CHUNK_BYTES = 1 << 16
ROUNDS = 16
"""How many chunks are moved before others have their turn."""
IUTF8 = 0o40000
"""Erasing takes a whole character; Linux only, which is where sandboxes are."""


class Terminal:
    """A terminal, a pipe to its client for what it shows, and one from there for what is typed."""

    kept: tuple[int, ...] = ()

    def __init__(self, loop: Loop, fds: Sequence[int], size: bytes) -> None:
        self._loop = loop
        self._sink, self._source = fds
        self._shown = self._typed = b""
        self._ended = self._over = False
        self._watched: dict[int, int] = {}
        try:
            # The slave is kept open too, or the terminal would be hung up whenever its programs close theirs.
            self._master, self._slave = os.openpty()
        except OSError as error:
            close(*fds)
            raise OSError(error.errno, error.strerror, b"") from error
        mode = termios.tcgetattr(self._slave)
        mode[0] |= IUTF8
        termios.tcsetattr(self._slave, termios.TCSANOW, mode)
        self.resize(*size.split(b"x"))
        for fd in (self._master, self._sink, self._source):
            os.set_blocking(fd, False)

    def resize(self, columns: bytes, rows: bytes) -> None:
        """Change its size; what runs in the foreground gets SIGWINCH."""
        if self._master >= 0:
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, window_size(int(rows), int(columns)))

    def actions(self) -> Actions:
        """Return what the child does: it leads a session, so what it opens is its controlling terminal."""
        name = os.ttyname(self._slave)
        opened = (os.POSIX_SPAWN_OPEN, 0, name, os.O_RDWR, 0)
        return [opened, (os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2)]

    def complain(self, line: bytes) -> None:
        """Say in place of a command why there is none."""
        os.write(self._sink, line + b"\r\n")

    def begin(self) -> None:
        """Begin to move what is typed and shown."""
        self._pump()

    def abandon(self) -> None:
        """Let go of everything: there is no command."""
        self._close_all()

    def end(self) -> None:
        """The command's first process has ended, and the system has hung the terminal up; show the rest."""
        self._ended = True
        self._slave = self._closed(self._slave)
        self._source = self._closed(self._source)
        self._typed = b""
        self._pump()

    def _pump(self) -> None:
        self._type()
        self._show()
        if self._over and not self._shown:
            self._close_all()
            return
        self._await(self._master, (0 if self._shown else select.POLLIN) | (select.POLLOUT if self._typed else 0))
        self._await(self._sink, select.POLLOUT if self._shown else 0)
        self._await(self._source, 0 if self._typed else select.POLLIN)

    def _type(self) -> None:
        for _ in range(ROUNDS):
            if self._source < 0 and not self._typed:
                return
            try:
                if self._typed:
                    self._typed = self._typed[os.write(self._master, self._typed) :]
                else:
                    self._typed = os.read(self._source, CHUNK_BYTES)
                    if not self._typed:
                        self._source = self._closed(self._source)
            except BlockingIOError:
                return
            except OSError:  # hung up
                self._typed = b""
                self._source = self._closed(self._source)

    def _show(self) -> None:
        for _ in range(ROUNDS):
            if self._shown and not self._write():
                return
            if self._over:
                return
            try:
                self._shown = os.read(self._master, CHUNK_BYTES)
            except BlockingIOError:
                self._over = self._ended
                return
            except OSError:  # EIO: hung up, and everything was read
                self._over = True
                return

    def _write(self) -> bool:
        """Write what is to be shown; False while the client takes no more. Without a client it is thrown away."""
        try:
            self._shown = self._shown[os.write(self._sink, self._shown) :] if self._sink >= 0 else b""
        except BlockingIOError:
            return False
        except OSError:
            self._shown = b""
            self._sink = self._closed(self._sink)
        return not self._shown

    def _await(self, fd: int, events: int) -> None:
        """Have the loop call when something can be done; a descriptor without events would report its end for ever."""
        if fd >= 0 and self._watched.get(fd, 0) != events:
            if self._watched.pop(fd, 0):
                self._loop.forget(fd)
            if events:
                self._watched[fd] = events
                self._loop.watch(fd, self._pump, events)

    def _closed(self, fd: int) -> int:
        if fd >= 0:
            self._await(fd, 0)
            os.close(fd)
        return -1

    def _close_all(self) -> None:
        self._master, self._slave = self._closed(self._master), self._closed(self._slave)
        self._sink, self._source = self._closed(self._sink), self._closed(self._source)


def window_size(rows: int, columns: int) -> bytes:
    """Return what TIOCSWINSZ takes: four shorts, of which the size in pixels is unknown."""
    return b"".join(max(0, min(number, 0xFFFF)).to_bytes(2, sys.byteorder) for number in (rows, columns, 0, 0))
