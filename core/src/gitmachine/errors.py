"""The exceptions GitMachine raises; every one of them is a `GitMachineError`.

::

    GitMachineError
    ├─ ConfigError                      every problem at once, each with its path
    ├─ PluginError                      plugin, distribution, version
    │  ├─ PluginLoadError
    │  ├─ HookError
    │  └─ ProviderConflictError
    ├─ UnknownProviderError             also LookupError
    ├─ MachineError                     machine id, provider, operation
    │  ├─ InvalidStateError
    │  ├─ UnsupportedOperation
    │  ├─ MachineLostError
    │  ├─ MachineUnreachableError       the machine may well go on; the next operation tries to reach it again
    │  ├─ MachineStartError
    │  ├─ AuthenticationError
    │  ├─ QuotaError
    │  ├─ CommandTimeoutError           also TimeoutError; carries the partial result
    │  ├─ CommandFailedError            from run(check=True); carries the result
    │  └─ MachineFileError              also OSError
    │     ├─ MachineFileNotFoundError       also FileNotFoundError
    │     ├─ MachinePermissionError         also PermissionError
    │     ├─ MachineIsADirectoryError       also IsADirectoryError
    │     ├─ MachineNotADirectoryError      also NotADirectoryError
    │     └─ MachineFileExistsError         also FileExistsError
    ├─ GitError                         redacted argv, exit code, end of stderr
    │  ├─ CloneError
    │  ├─ CheckoutError
    │  ├─ CommitError
    │  ├─ CommitRejected
    │  ├─ PullConflictError
    │  ├─ PullDivergedError                both sides have commits and the policy is ff (`ahead`, `behind`)
    │  └─ PushError                     where the work is safe (`rescue`)
    │     ├─ PushRejectedError
    │     ├─ PushAuthenticationError
    │     ├─ PushVetoed
    │     └─ PushUnreachableError
    ├─ CommandVetoed                    a plugin refused the command; it did not run
    ├─ StopRefused                      unpublished work and auto_commit off
    └─ StateError                       held by another, journal corrupt or from a newer version
"""

from __future__ import annotations

import errno as _errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypedDict, Unpack

    from gitmachine.execution import ExecResult
    from gitmachine.outcomes import Kept, Rescue

    class _MachineFields(TypedDict, total=False):
        machine_id: str | None
        provider: str | None
        operation: str | None

    class _GitFields(TypedDict, total=False):
        argv: Sequence[str]
        exit_code: int | None
        stderr: str

    class _PushFields(_GitFields, total=False):
        rescue: Rescue | None


__all__ = [
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
    "file_error",
]


class GitMachineError(Exception):
    """The base of everything this package raises on purpose."""


class ConfigError(GitMachineError):
    """The configuration is wrong; `problems` are sentences with their paths, `source` the file read, or None."""

    def __init__(self, *problems: str, source: str | None = None) -> None:
        self.problems: tuple[str, ...] = problems
        self.source = source
        super().__init__("\n".join(problems))


class PluginError(GitMachineError):
    """A plugin misbehaved; names the plugin, and its distribution and version where known."""

    def __init__(
        self, message: str, *, plugin: str, distribution: str | None = None, version: str | None = None
    ) -> None:
        super().__init__(message)
        self.plugin = plugin
        self.distribution = distribution
        self.version = version


class PluginLoadError(PluginError):
    """A plugin could not be imported or registered."""


class HookError(PluginError):
    """A hook implementation raised; `hook` names it, the cause is chained."""

    def __init__(
        self, message: str, *, plugin: str, hook: str, distribution: str | None = None, version: str | None = None
    ) -> None:
        super().__init__(message, plugin=plugin, distribution=distribution, version=version)
        self.hook = hook


class ProviderConflictError(PluginError):
    """Two distributions claim one provider name; the message names both."""


class UnknownProviderError(GitMachineError, LookupError):
    """No usable provider has this name.

    Attributes:
        name: what was asked for.
        available: names that would work.
        close: the most similar available name, or None.
        broken: the plugin that would have offered it but failed to load, or None.
        install: the distribution to install, where one is known, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        name: str,
        available: Sequence[str] = (),
        close: str | None = None,
        broken: str | None = None,
        install: str | None = None,
    ) -> None:
        super().__init__(message)
        self.name = name
        self.available = tuple(available)
        self.close = close
        self.broken = broken
        self.install = install


class MachineError(GitMachineError):
    """A machine failed (never a command in it: that is a result).

    `machine_id` is the provider's id or None, `provider` its name, `operation` the method that failed (``"start"``).
    """

    def __init__(
        self, message: str, *, machine_id: str | None = None, provider: str | None = None, operation: str | None = None
    ) -> None:
        super().__init__(message)
        self.machine_id = machine_id
        self.provider = provider
        self.operation = operation


class InvalidStateError(MachineError):
    """The operation does not fit the machine's state; says what to call first."""


class UnsupportedOperation(MachineError):  # noqa: N818  # the name is part of the public contract
    """This machine does not declare the capability that the operation needs."""


class MachineLostError(MachineError):
    """The machine is gone or does not answer; a command that was running may or may not have finished."""


class MachineUnreachableError(MachineError):
    """The way to a machine is cut; it may well go on, and so may its commands. The next call tries to reach it."""


class MachineStartError(MachineError):
    """The machine could not be started; nothing of it is left behind."""


class AuthenticationError(MachineError):
    """The provider refused our credentials."""


class QuotaError(MachineError):
    """The provider's quota or rate limit is exhausted."""


class CommandTimeoutError(MachineError, TimeoutError):
    """A command exceeded its timeout and its process tree was killed; `result` holds the output so far."""

    def __init__(self, message: str, *, result: ExecResult, **fields: Unpack[_MachineFields]) -> None:
        super().__init__(message, **fields)
        self.operation = self.operation or "execute"
        self.result = result


class CommandFailedError(MachineError):
    """A command that had to succeed exited with another code; `result` is complete."""

    def __init__(self, message: str, *, result: ExecResult, **fields: Unpack[_MachineFields]) -> None:
        super().__init__(message, **fields)
        self.operation = self.operation or "run"
        self.result = result


class MachineFileError(MachineError, OSError):
    """A file operation in the machine failed; `errno` and `filename` are set as for any OSError."""

    def __init__(self, message: str, *, path: str, errno: int = _errno.EIO, **fields: Unpack[_MachineFields]) -> None:
        super().__init__(message, **fields)
        OSError.__init__(self, errno, message, path)
        self.message = message

    def __str__(self) -> str:
        return self.message


class MachineFileNotFoundError(MachineFileError, FileNotFoundError):
    """The path does not exist in the machine."""


class MachinePermissionError(MachineFileError, PermissionError):
    """The machine's user may not do this to the path."""


class MachineIsADirectoryError(MachineFileError, IsADirectoryError):
    """A file was needed where the path is a directory."""


class MachineNotADirectoryError(MachineFileError, NotADirectoryError):
    """A directory was needed where the path, or a part of it, is something else."""


class MachineFileExistsError(MachineFileError, FileExistsError):
    """The path exists already."""


_FILE_ERRORS: dict[int, type[MachineFileError]] = {
    _errno.ENOENT: MachineFileNotFoundError,
    **dict.fromkeys((_errno.EACCES, _errno.EPERM), MachinePermissionError),
    _errno.EISDIR: MachineIsADirectoryError,
    _errno.ENOTDIR: MachineNotADirectoryError,
    _errno.EEXIST: MachineFileExistsError,
}


def file_error(errno: int, message: str, *, path: str, **fields: Unpack[_MachineFields]) -> MachineFileError:
    """Return the `MachineFileError` that is also the built-in exception for this errno."""
    return _FILE_ERRORS.get(errno, MachineFileError)(message, path=path, errno=errno, **fields)


class GitError(GitMachineError):
    """A git command failed.

    Attributes:
        argv: the command with every secret redacted.
        exit_code: git's exit code, or None when it never ended by itself.
        stderr: the end of what git printed, redacted.
    """

    def __init__(
        self, message: str, *, argv: Sequence[str] = (), exit_code: int | None = None, stderr: str = ""
    ) -> None:
        super().__init__(message)
        self.argv = tuple(argv)
        self.exit_code = exit_code
        self.stderr = stderr


class CloneError(GitError):
    """The repository could not be read, or not be brought into the machine."""


class CheckoutError(GitError):
    """The session's branch could not be checked out, or the checkout is not clean."""


class CommitError(GitError):
    """Git could not commit; `in_progress` (as in `Changes`) is what has to be finished or aborted first, or None."""

    def __init__(self, message: str, *, in_progress: str | None = None, **fields: Unpack[_GitFields]) -> None:
        super().__init__(message, **fields)
        self.in_progress = in_progress


class CommitRejected(GitError):  # noqa: N818  # the name is part of the public contract
    """A repository hook or a plugin refused the commit; its output is in `stderr`."""


class PullConflictError(GitError):
    """The pull met conflicts in `files`; the working tree is as it was before."""

    def __init__(self, message: str, *, files: Sequence[str] = (), **fields: Unpack[_GitFields]) -> None:
        super().__init__(message, **fields)
        self.files = tuple(files)


class PullDivergedError(GitError):
    """A fast-forward is impossible: the branch is `ahead` and `behind` by these many commits; nothing changed."""

    def __init__(self, message: str, *, ahead: int, behind: int, **fields: Unpack[_GitFields]) -> None:
        super().__init__(message, **fields)
        self.ahead = ahead
        self.behind = behind


class PushError(GitError):
    """The work could not be published.

    Attributes:
        rescue: where the work is safe on this host, or None while it is only in the machine.
    """

    def __init__(self, message: str, *, rescue: Rescue | None = None, **fields: Unpack[_GitFields]) -> None:
        super().__init__(message, **fields)
        self.rescue = rescue


class PushRejectedError(PushError):
    """The remote refused: its branch diverged (`ahead`, `behind` in commits) or a rule of its own forbids it."""

    def __init__(
        self, message: str, *, ahead: int | None = None, behind: int | None = None, **fields: Unpack[_PushFields]
    ) -> None:
        super().__init__(message, **fields)
        self.ahead = ahead
        self.behind = behind


class PushAuthenticationError(PushError):
    """The remote did not accept our credential for writing."""


class PushVetoed(PushError):  # noqa: N818  # the name is part of the public contract
    """A plugin refused the push."""


class PushUnreachableError(PushError):
    """The remote could not be reached, or could not be asked what it has."""


class CommandVetoed(GitMachineError):  # noqa: N818  # a veto, as `PushVetoed` is
    """A plugin refused the command; it did not run."""


class StopRefused(GitMachineError):  # noqa: N818  # the name is part of the public contract
    """Stop would lose `unpublished` work while auto_commit is off; commit and push it, or force."""

    def __init__(self, message: str, *, unpublished: Sequence[Kept] = ()) -> None:
        super().__init__(message)
        self.unpublished = tuple(unpublished)


class StateError(GitMachineError):
    """What this host remembers forbids it: held by another (`holder` says by whom), corrupt, or of a newer version."""

    def __init__(self, message: str, *, holder: str | None = None) -> None:
        super().__init__(message)
        self.holder = holder
