"""Exit codes, and which one an error means."""

from __future__ import annotations

from enum import IntEnum

from gitmachine.errors import (
    ConfigError,
    MachineLostError,
    PluginLoadError,
    ProviderConflictError,
    PushError,
    StopRefused,
    UnknownProviderError,
)

__all__ = ["NOTHING_STARTED", "Exit", "exit_code", "run_exit_code"]


class Exit(IntEnum):
    """What the command line exits with when it is not a command's own code."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    """Usage or configuration, before anything started."""
    KEPT = 3
    """The work could not be published and was kept (other commands than run, exec and attach)."""
    LOST = 4
    """The machine is lost (other commands than run, exec and attach)."""
    RUN_KEPT = 123
    """The work could not be published and was kept; wins over the command's code."""
    RUN_TIMEOUT = 124
    RUN_FAILURE = 125
    """Our own failure, as opposed to the command's."""
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    """Nobody reads our output any more: what a program that SIGPIPE ends has."""


NOTHING_STARTED = (ConfigError, UnknownProviderError, PluginLoadError, ProviderConflictError)
"""Errors of usage and configuration."""


def exit_code(error: Exception) -> Exit:
    """Return what a command other than run, exec and attach exits with after an error."""
    if isinstance(error, NOTHING_STARTED):
        return Exit.USAGE
    if isinstance(error, PushError | StopRefused):
        return Exit.KEPT
    return Exit.LOST if isinstance(error, MachineLostError) else Exit.FAILURE


def run_exit_code(error: Exception) -> Exit:
    """Return what run, exec and attach exit with after an error that is not the command's own end."""
    return Exit.USAGE if isinstance(error, NOTHING_STARTED) else Exit.RUN_FAILURE
