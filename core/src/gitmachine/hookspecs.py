"""Every hook that plugins can implement, and the markers for both sides.

A plugin is a module or object whose methods are marked with `hookimpl`. Implementations may be ``def`` or
``async def`` and take any subset of a hook's arguments, by name. Hook wrappers are refused at load.

The mode of each hook (collect, decide, step, notify) says what happens with several answers and with errors; see
`gitmachine.plugins.dispatch`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gitmachine import events
    from gitmachine.git.model import Changes, GitCredential
    from gitmachine.provider import ProviderSpec

__all__ = ["GROUP", "hookimpl", "hookspec"]

GROUP = "gitmachine"
"""The entry point group, and pluggy's project name."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def gitmachine_register_providers() -> Sequence[ProviderSpec]:  # type: ignore[empty-body]
    """Offer providers (collect). Called once, when plugins are loaded; must import nothing heavy."""


@hookspec(firstresult=True)
def gitmachine_git_credentials(repository: str, operation: str) -> GitCredential | None:
    """Supply the credential for a repository (decide): each time git needs one, ``operation`` is read or write.

    ``repository`` is the URL without credentials. None passes on to the next plugin.
    """


@hookspec(firstresult=True)
def gitmachine_commit_message(changes: Changes, reason: str) -> str | None:
    """Word the message of a commit that was given none (decide); ``reason`` is explicit, pause or stop."""


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
def gitmachine_command_started(event: events.CommandStarted) -> None:
    """A command is about to run (notify)."""


@hookspec
def gitmachine_command_finished(event: events.CommandFinished) -> None:
    """A command ended (notify)."""
