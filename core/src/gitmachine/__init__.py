"""GitMachine: run commands on a git repository inside an isolated machine; the work comes back as commits.

Nothing is loaded by ``import gitmachine``; each name loads its module on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gitmachine.archives import (
        LocalFileError,
        Transfer,
    )
    from gitmachine.catalog import (
        create_machine,
        providers,
    )
    from gitmachine.config.load import (
        load_config,
    )
    from gitmachine.config.model import (
        Settings,
    )
    from gitmachine.errors import (
        AuthenticationError,
        CheckoutError,
        CloneError,
        CommandFailedError,
        CommandTimeoutError,
        CommandVetoed,
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
        MachineUnreachableError,
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
    from gitmachine.execution import (
        ExecRequest,
        ExecResult,
        Process,
        TerminalSize,
    )
    from gitmachine.git.model import (
        Change,
        Changes,
        Commit,
        GitCredential,
        GitIdentity,
        GitOptions,
        GuardOptions,
    )
    from gitmachine.git.outgoing import (
        OutgoingCommits,
        OutgoingFile,
    )
    from gitmachine.hookspecs import (
        hookimpl,
    )
    from gitmachine.machine import (
        Capability,
        Host,
        Machine,
        MachineState,
    )
    from gitmachine.outcomes import (
        Kept,
        KeptKind,
        LogEntry,
        PushResult,
        PushStatus,
        Receipt,
        Rescue,
        RunInfo,
        RunState,
        Withheld,
        Withhold,
    )
    from gitmachine.plugins.dispatch import (
        HookFailure,
    )
    from gitmachine.plugins.host import (
        PluginHost,
    )
    from gitmachine.provider import (
        Check,
        ProviderSpec,
        SnapshotInfo,
    )
    from gitmachine.session import (
        AsyncGitMachine,
    )
    from gitmachine.session.run import (
        AsyncRun,
    )
    from gitmachine.session.terminal import (
        AsyncTerminal,
    )
    from gitmachine.sync import (
        GitMachine,
    )
    from gitmachine.sync.run import (
        Run,
    )
    from gitmachine.sync.terminal import (
        Terminal,
    )

__version__ = "0.1.0"

_EXPORTS = {
    "archives": (
        "LocalFileError",
        "Transfer",
    ),
    "catalog": (
        "create_machine",
        "providers",
    ),
    "config.load": ("load_config",),
    "config.model": ("Settings",),
    "errors": (
        "AuthenticationError",
        "CheckoutError",
        "CloneError",
        "CommandFailedError",
        "CommandTimeoutError",
        "CommandVetoed",
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
        "MachineUnreachableError",
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
    "execution": (
        "ExecRequest",
        "ExecResult",
        "Process",
        "TerminalSize",
    ),
    "git.model": (
        "Change",
        "Changes",
        "Commit",
        "GitCredential",
        "GitIdentity",
        "GitOptions",
        "GuardOptions",
    ),
    "git.outgoing": (
        "OutgoingCommits",
        "OutgoingFile",
    ),
    "hookspecs": ("hookimpl",),
    "machine": (
        "Capability",
        "Host",
        "Machine",
        "MachineState",
    ),
    "outcomes": (
        "Kept",
        "KeptKind",
        "LogEntry",
        "PushResult",
        "PushStatus",
        "Receipt",
        "Rescue",
        "RunInfo",
        "RunState",
        "Withheld",
        "Withhold",
    ),
    "plugins.dispatch": ("HookFailure",),
    "plugins.host": ("PluginHost",),
    "provider": (
        "Check",
        "ProviderSpec",
        "SnapshotInfo",
    ),
    "session": ("AsyncGitMachine",),
    "session.run": ("AsyncRun",),
    "session.terminal": ("AsyncTerminal",),
    "sync": ("GitMachine",),
    "sync.run": ("Run",),
    "sync.terminal": ("Terminal",),
}
_HOMES = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = [
    "AsyncGitMachine",
    "AsyncRun",
    "AsyncTerminal",
    "AuthenticationError",
    "Capability",
    "Change",
    "Changes",
    "Check",
    "CheckoutError",
    "CloneError",
    "CommandFailedError",
    "CommandTimeoutError",
    "CommandVetoed",
    "Commit",
    "CommitError",
    "CommitRejected",
    "ConfigError",
    "ExecRequest",
    "ExecResult",
    "GitCredential",
    "GitError",
    "GitIdentity",
    "GitMachine",
    "GitMachineError",
    "GitOptions",
    "GuardOptions",
    "HookError",
    "HookFailure",
    "Host",
    "InvalidStateError",
    "Kept",
    "KeptKind",
    "LocalFileError",
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
    "MachineUnreachableError",
    "OutgoingCommits",
    "OutgoingFile",
    "PluginError",
    "PluginHost",
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
    "PushStatus",
    "PushUnreachableError",
    "PushVetoed",
    "QuotaError",
    "Receipt",
    "Rescue",
    "Run",
    "RunInfo",
    "RunState",
    "Settings",
    "SnapshotInfo",
    "StateError",
    "StopRefused",
    "Terminal",
    "TerminalSize",
    "Transfer",
    "UnknownProviderError",
    "UnsupportedOperation",
    "Withheld",
    "Withhold",
    "__version__",
    "create_machine",
    "hookimpl",
    "load_config",
    "providers",
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
