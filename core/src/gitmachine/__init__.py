"""GitMachine: run commands on a git repository inside an isolated machine; the work comes back as commits.

Nothing is loaded by ``import gitmachine``; each name loads its module on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gitmachine.errors import (
        AuthenticationError,
        CheckoutError,
        CloneError,
        CommandFailedError,
        CommandTimeoutError,
        CommitError,
        CommitRejected,
        ConfigError,
        GitError,
        GitMachineError,
        HookError,
        InvalidStateError,
        MachineError,
        MachineFileError,
        MachineFileExistsError,
        MachineFileNotFoundError,
        MachineIsADirectoryError,
        MachineLostError,
        MachineNotADirectoryError,
        MachinePermissionError,
        MachineStartError,
        PluginError,
        PluginLoadError,
        ProviderConflictError,
        PullConflictError,
        PullDivergedError,
        PushAuthenticationError,
        PushError,
        PushRejectedError,
        PushUnreachableError,
        PushVetoed,
        QuotaError,
        StateError,
        StopRefused,
        UnknownProviderError,
        UnsupportedOperation,
    )
    from gitmachine.execution import ExecRequest, ExecResult, Process
    from gitmachine.git.model import Changes, GitCredential, GitIdentity, GitOptions
    from gitmachine.hookspecs import hookimpl
    from gitmachine.machine import Capability, Host, Machine, MachineState
    from gitmachine.outcomes import Kept, LogEntry, PushResult, Receipt, Rescue
    from gitmachine.provider import Check, ProviderSpec

__version__ = "0.1.0"

_EXPORTS = {
    "errors": (
        "AuthenticationError",
        "CheckoutError",
        "CloneError",
        "CommandFailedError",
        "CommandTimeoutError",
        "CommitError",
        "CommitRejected",
        "ConfigError",
        "GitError",
        "GitMachineError",
        "HookError",
        "InvalidStateError",
        "MachineError",
        "MachineFileError",
        "MachineFileExistsError",
        "MachineFileNotFoundError",
        "MachineIsADirectoryError",
        "MachineLostError",
        "MachineNotADirectoryError",
        "MachinePermissionError",
        "MachineStartError",
        "PluginError",
        "PluginLoadError",
        "ProviderConflictError",
        "PullConflictError",
        "PullDivergedError",
        "PushAuthenticationError",
        "PushError",
        "PushRejectedError",
        "PushUnreachableError",
        "PushVetoed",
        "QuotaError",
        "StateError",
        "StopRefused",
        "UnknownProviderError",
        "UnsupportedOperation",
    ),
    "execution": ("ExecRequest", "ExecResult", "Process"),
    "git.model": ("Changes", "GitCredential", "GitIdentity", "GitOptions"),
    "hookspecs": ("hookimpl",),
    "machine": ("Capability", "Host", "Machine", "MachineState"),
    "outcomes": ("Kept", "LogEntry", "PushResult", "Receipt", "Rescue"),
    "provider": ("Check", "ProviderSpec"),
}
_HOMES = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = [
    "AuthenticationError",
    "Capability",
    "Changes",
    "Check",
    "CheckoutError",
    "CloneError",
    "CommandFailedError",
    "CommandTimeoutError",
    "CommitError",
    "CommitRejected",
    "ConfigError",
    "ExecRequest",
    "ExecResult",
    "GitCredential",
    "GitError",
    "GitIdentity",
    "GitMachineError",
    "GitOptions",
    "HookError",
    "Host",
    "InvalidStateError",
    "Kept",
    "LogEntry",
    "Machine",
    "MachineError",
    "MachineFileError",
    "MachineFileExistsError",
    "MachineFileNotFoundError",
    "MachineIsADirectoryError",
    "MachineLostError",
    "MachineNotADirectoryError",
    "MachinePermissionError",
    "MachineStartError",
    "MachineState",
    "PluginError",
    "PluginLoadError",
    "Process",
    "ProviderConflictError",
    "ProviderSpec",
    "PullConflictError",
    "PullDivergedError",
    "PushAuthenticationError",
    "PushError",
    "PushRejectedError",
    "PushResult",
    "PushUnreachableError",
    "PushVetoed",
    "QuotaError",
    "Receipt",
    "Rescue",
    "StateError",
    "StopRefused",
    "UnknownProviderError",
    "UnsupportedOperation",
    "__version__",
    "hookimpl",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
