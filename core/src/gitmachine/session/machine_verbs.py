"""Terminals, forks and snapshots of `AsyncGitMachine`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, cast

from gitmachine.execution import ExecRequest, TerminalSize
from gitmachine.session.terminal import AsyncTerminal
from gitmachine.steps import copies, forking, terminals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gitmachine.steps.context import Context

__all__ = ["AsyncMachineVerbs"]


class AsyncMachineVerbs:
    """What `AsyncGitMachine` does with machines that can do more than others."""

    _ctx: Context

    async def open_terminal(
        self,
        command: str | Sequence[str] | None = None,
        *,
        columns: int = 80,
        rows: int = 24,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> AsyncTerminal:
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
        script = command if isinstance(command, str) else terminals.SHELL
        request = ExecRequest(
            argv=None if command is None or isinstance(command, str) else command,
            shell=script if command is None or isinstance(command, str) else None,
            cwd=cwd,
            env=env or {},
            user=user,
            open_stdin=True,
            terminal=TerminalSize(columns=columns, rows=rows),
        )
        return AsyncTerminal(await terminals.open_terminal(self._ctx, request))

    async def fork(self, session: str | None = None, *, name: str | None = None) -> Self:
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
        return cast("Self", await forking.fork(self._ctx, session, name))

    async def snapshot(self, name: str | None = None) -> str:
        """Save the disk of the running machine, and return what a new machine can be made from; this one goes on.

        It is a copy of everything in the machine, whatever secrets commands left there included, and outlives the
        machine until it is deleted.

        Args:
            name: what to call it; None lets the provider choose.

        Raises:
            UnsupportedOperation: the machine cannot.
        """
        return await copies.snapshot(self._ctx, name)

    async def snapshots(self) -> list[str]:
        """Return the snapshots that were made of this machine and still exist, oldest first."""
        return await copies.list_snapshots(self._ctx)

    async def delete_snapshot(self, snapshot: str) -> None:
        """Remove a snapshot; no error when it is gone already."""
        await copies.delete_snapshot(self._ctx, snapshot)
