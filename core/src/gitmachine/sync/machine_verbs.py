"""Terminals and snapshots of `GitMachine`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitmachine.sync.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gitmachine._portal import Lease
    from gitmachine.session import AsyncGitMachine

__all__ = ["MachineVerbs"]


class MachineVerbs:
    """What `GitMachine` does with machines that can do more than others."""

    _lease: Lease
    _inner: AsyncGitMachine

    def open_terminal(
        self,
        command: str | Sequence[str] | None = None,
        *,
        columns: int = 80,
        rows: int = 24,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> Terminal:
        """Run a command on a terminal in the repository, to talk to: an editor, a debugger, a shell.

        Args:
            command: a string is a script for ``sh -c``; a list is a program and its arguments, read by no shell; None
                is the machine's shell.
            columns, rows: the terminal's size.
            cwd: the working directory, relative to the repository; None is the repository.
            env: variables for this command, added to the session's; ``TERM`` is ``xterm-256color`` unless said here.
            user: the user to run as, where the machine can.

        Raises:
            UnsupportedOperation: the machine has no terminals.
            MachineFileNotFoundError: there is no such working directory; nothing was started.
            InvalidStateError: the machine does not run; says what to call first.
        """
        made = self._lease.call(
            self._inner.open_terminal, command, columns=columns, rows=rows, cwd=cwd, env=env, user=user
        )
        return Terminal(self._lease, made)

    def snapshot(self, name: str | None = None) -> str:
        """Save the disk of the running machine, and return what a new machine can be made from; this one goes on.

        It is a copy of everything in the machine, whatever secrets commands left there included, and outlives the
        machine until it is deleted.

        Args:
            name: what to call it; None lets the provider choose.

        Raises:
            UnsupportedOperation: the machine cannot.
        """
        return self._lease.call(self._inner.snapshot, name)

    def snapshots(self) -> list[str]:
        """Return the snapshots that were made of this machine and still exist, oldest first."""
        return self._lease.call(self._inner.snapshots)

    def delete_snapshot(self, snapshot: str) -> None:
        """Remove a snapshot; no error when it is gone already."""
        self._lease.call(self._inner.delete_snapshot, snapshot)
