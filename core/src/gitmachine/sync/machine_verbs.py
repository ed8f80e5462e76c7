"""Terminals, forks and snapshots of `GitMachine`."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Self

from gitmachine._portal import GuestLease, Lease
from gitmachine.session import context_of
from gitmachine.sync.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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

    def fork(self, session: str | None = None, *, name: str | None = None) -> Self:
        """Copy the machine as it is now, and return a session that runs on the copy; this one goes on.

        The copy has every file, uncommitted changes too, and no process. Its branch is a new one that begins where this
        one is; environment, identity and all other settings are this session's, callbacks are not. It is stopped, and
        its work published, on its own.

        Args:
            session: the new branch; None makes a fresh ``gitmachine/<id>``.
            name: a name for the copy in listings.

        Raises:
            UnsupportedOperation: the machine cannot be copied.
            CheckoutError: there is a branch of that name already.
            StateError: another machine holds that session; names it.
        """
        return self._beside(self._lease.call(self._inner.fork, session, name=name))

    def _beside(self, made: AsyncGitMachine) -> Self:
        """Return the blocking half of a session that this one made; held by the same loop."""
        gm = object.__new__(type(self))
        gm._lease = self._lease if isinstance(self._lease, GuestLease) else Lease.of(gm)
        gm._inner = made
        context_of(made).views.own = weakref.ref(gm)
        return gm

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
