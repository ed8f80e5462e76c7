"""What a command is connected to: the client's pipes here, or a `terminal`."""

from __future__ import annotations

from gitmachine_local.supervisor.lean import os
from gitmachine_local.supervisor.wire import close

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol, TypeAlias

    Actions: TypeAlias = "list[tuple[object, ...]]"

    class Ends(Protocol):
        """What the loop asks of either."""

        kept: tuple[int, ...]

        def actions(self) -> Actions:
            """Return what the child does before it becomes the command."""

        def complain(self, line: bytes) -> None:
            """Say in place of a command why there is none."""

        def begin(self) -> None:
            """The command runs."""

        def abandon(self) -> None:
            """Let go of everything: there is no command."""

        def end(self) -> None:
            """The command's first process has ended."""

        def resize(self, columns: bytes, rows: bytes) -> None:
            """Change the size of the terminal, if this is one."""


class Pipes:
    """Three pipes; a command writes to its client directly."""

    def __init__(self, fds: Sequence[int]) -> None:
        out_r, self._out, err_r, self._errors, *self._stdin = fds
        self.kept: tuple[int, ...] = (out_r, err_r)

    def actions(self) -> Actions:
        """Return what the child does before it becomes the command."""
        stdin: tuple[object, ...] = (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)
        if self._stdin:
            stdin = (os.POSIX_SPAWN_DUP2, self._stdin[0], 0)
        return [(os.POSIX_SPAWN_DUP2, self._out, 1), (os.POSIX_SPAWN_DUP2, self._errors, 2), stdin]

    def complain(self, line: bytes) -> None:
        """Say in place of a command why there is none."""
        os.write(self._errors, line + b"\n")

    def begin(self) -> None:
        """Let go of what is the command's."""
        close(self._out, self._errors, *self._stdin)

    def abandon(self) -> None:
        """Let go of everything: there is no command."""
        self.begin()
        close(*self.kept)

    def end(self) -> None:
        """The command's first process has ended: what it wrote is in the pipes."""

    def resize(self, columns: bytes, rows: bytes) -> None:
        """Do nothing: pipes have no size."""
