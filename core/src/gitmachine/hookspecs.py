"""Every hook that plugins can implement, and the markers for both sides.

A plugin is a module or object whose methods are marked with `hookimpl`. Implementations may be ``def`` or
``async def`` and take any subset of a hook's arguments, by name. Hook wrappers are refused at load.

The mode of each hook (collect, decide, step, notify) says what happens with several answers and with errors; see
`gitmachine.plugins.dispatch`.

An argument called ``gm`` is the session: an ``async def`` implementation gets the `AsyncGitMachine`, a ``def`` one a
blocking `GitMachine` over the same session (the very object, if it is one that the program made).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pluggy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gitmachine import events
    from gitmachine.execution import ExecRequest
    from gitmachine.git.model import Changes, GitCredential, GuardOptions
    from gitmachine.git.outgoing import OutgoingCommits
    from gitmachine.machine import Machine, MachineState
    from gitmachine.outcomes import Withhold
    from gitmachine.provider import ProviderSpec

__all__ = ["GROUP", "AnyGitMachine", "CommandGroup", "hookimpl", "hookspec"]

GROUP = "gitmachine"
"""The entry point group, and pluggy's project name."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


class AnyGitMachine(Protocol):
    """What `AsyncGitMachine` and `GitMachine` have in common: what needs no waiting."""

    @property
    def id(self) -> str | None:
        """The machine's id."""

    @property
    def key(self) -> str:
        """The session's key in this host's journal."""

    @property
    def name(self) -> str | None:
        """The name given to the machine."""

    @property
    def state(self) -> MachineState:
        """The machine's state."""

    @property
    def path(self) -> str:
        """The repository's path in the machine."""

    @property
    def session(self) -> str:
        """The session branch."""

    @property
    def repository(self) -> str:
        """The repository's URL, without any credential."""

    @property
    def machine(self) -> Machine:
        """The machine itself."""

    @property
    def guard(self) -> GuardOptions:
        """What the guard keeps out of commits."""

    def plugin_options(self, plugin: str) -> Mapping[str, Any]:
        """Return the options that the configuration has for a plugin."""


class CommandGroup(Protocol):
    """The part of a click group that takes commands."""

    def add_command(self, cmd: Any, name: str | None = None) -> None:
        """Add a click command."""


@hookspec
def gitmachine_register_providers() -> Sequence[ProviderSpec]:  # type: ignore[empty-body]
    """Offer providers (collect). Called once, when plugins are loaded; must import nothing heavy."""


@hookspec
def gitmachine_register_commands(cli: CommandGroup) -> None:
    """Add commands to the command line (collect): for ``--help``, completion, and a command that is not built in.

    ``cli`` is a click group; a name that is built in, or that another plugin has taken, is refused.
    """


@hookspec(firstresult=True)
def gitmachine_git_credentials(repository: str, operation: str) -> GitCredential | None:
    """Supply the credential for a repository (decide): each time git needs one, ``operation`` is read or write.

    ``repository`` is the URL without credentials. None passes on to the next plugin.
    """


@hookspec(firstresult=True)
def gitmachine_commit_message(changes: Changes, reason: str) -> str | None:
    """Word the message of a commit that was given none (decide); ``reason`` is explicit, pause or stop."""


@hookspec
def gitmachine_setup(gm: AnyGitMachine) -> None:
    """Prepare the machine (step): the branch is checked out, `on_start` comes next. An error undoes the start."""


@hookspec
def gitmachine_before_command(gm: AnyGitMachine, request: ExecRequest) -> ExecRequest | None:
    """Look at a command of ``run`` or ``spawn`` before it runs (step); an answer replaces the request, an error vetoes.

    Veto by raising `CommandVetoed`. Commands that an implementation runs itself are not put to this hook.
    """


@hookspec
def gitmachine_before_pause(gm: AnyGitMachine) -> None:
    """Act before the machine is frozen (step); what is written is committed. An error leaves the machine running."""


@hookspec
def gitmachine_after_resume(gm: AnyGitMachine) -> None:
    """Act when the machine runs again (step); `on_resume` comes next."""


@hookspec
def gitmachine_select_changes(gm: AnyGitMachine, changes: Changes) -> Sequence[Withhold] | Withhold | None:
    """Name changes that an automatic commit is to leave out (collect); the files are kept on this host."""


@hookspec
def gitmachine_before_commit(gm: AnyGitMachine, changes: Changes) -> None:
    """Act before a commit of `changes` (step); an error vetoes it: raise `CommitRejected`."""


@hookspec
def gitmachine_before_push(gm: AnyGitMachine, commits: OutgoingCommits) -> None:
    """Look at the commits that are about to be published (step); an error vetoes the push: raise `PushVetoed`."""


@hookspec
def gitmachine_teardown(gm: AnyGitMachine) -> None:
    """Act before the machine ends (step): all are called, the machine ends regardless, errors are raised at the end."""


@hookspec
def gitmachine_machine_started(event: events.MachineStarted) -> None:
    """The machine runs and the session branch is checked out (notify)."""


@hookspec
def gitmachine_machine_paused(event: events.MachinePaused) -> None:
    """The machine is frozen (notify)."""


@hookspec
def gitmachine_machine_resumed(event: events.MachineResumed) -> None:
    """The machine runs again (notify)."""


@hookspec
def gitmachine_machine_stopping(event: events.MachineStopping) -> None:
    """The work is published and the machine is about to end (notify)."""


@hookspec
def gitmachine_machine_stopped(event: events.MachineStopped) -> None:
    """The machine is gone (notify)."""


@hookspec
def gitmachine_machine_reconnected(event: events.MachineReconnected) -> None:
    """A running machine was taken over (notify)."""


@hookspec
def gitmachine_machine_lost(event: events.MachineLost) -> None:
    """The machine ended unasked (notify)."""


@hookspec
def gitmachine_git_cloned(event: events.GitCloned) -> None:
    """The repository is in the machine (notify)."""


@hookspec
def gitmachine_git_committed(event: events.GitCommitted) -> None:
    """A commit was made (notify)."""


@hookspec
def gitmachine_git_pushed(event: events.GitPushed) -> None:
    """The remote confirmed the session branch (notify)."""


@hookspec
def gitmachine_git_pulled(event: events.GitPulled) -> None:
    """A pull succeeded (notify)."""


@hookspec
def gitmachine_git_checkpointed(event: events.GitCheckpointed) -> None:
    """A checkpoint was taken and copied to this host (notify)."""


@hookspec
def gitmachine_git_rescued(event: events.GitRescued) -> None:
    """Unpublished work is safe on the host (notify)."""


@hookspec
def gitmachine_git_withheld(event: events.GitWithheld) -> None:
    """Changes were left out of an automatic commit (notify)."""


@hookspec
def gitmachine_command_started(event: events.CommandStarted) -> None:
    """A command is about to run (notify)."""


@hookspec
def gitmachine_command_finished(event: events.CommandFinished) -> None:
    """A command ended (notify)."""
