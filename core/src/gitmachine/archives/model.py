"""What moving files comes to, its bounds, and what can be wrong with it on this host."""

from __future__ import annotations

import errno as _errno
import os
from typing import TYPE_CHECKING

import attrs

from gitmachine.errors import GitMachineError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "DEFAULT_MAX_ENTRIES",
    "DEFAULT_MAX_TRANSFER_BYTES",
    "ArchiveError",
    "LocalFileError",
    "LocalFileExistsError",
    "LocalFileNotFoundError",
    "LocalIsADirectoryError",
    "LocalNotADirectoryError",
    "LocalPermissionError",
    "Transfer",
    "local_error",
]

DEFAULT_MAX_TRANSFER_BYTES = 10 * 1024**3
"""How many bytes of content `unpack` accepts unless told otherwise."""

DEFAULT_MAX_ENTRIES = 1_000_000
"""How many files, directories and links `unpack` accepts unless told otherwise."""


@attrs.frozen(kw_only=True)
class Transfer:
    """What was moved.

    Attributes:
        files: files and symbolic links; directories are not counted.
        bytes: the bytes of their content.
    """

    files: int = 0
    bytes: int = 0


class ArchiveError(GitMachineError):
    """An archive is malformed, hostile or too large; `errno` is EBADMSG or EFBIG."""

    def __init__(self, message: str, *, errno: int = _errno.EBADMSG) -> None:
        super().__init__(message)
        self.errno = errno


class LocalFileError(GitMachineError, OSError):
    """A file of this host cannot be read or written; `errno` and `filename` are set as for any OSError.

    What `local_error` returns is also the built-in exception for its errno, such as FileNotFoundError.
    """

    def __init__(self, message: str, *, path: str, errno: int = _errno.EIO) -> None:
        super().__init__(message)
        OSError.__init__(self, errno, message, path)
        self.message = message

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_again, (self.errno, self.message, self.filename))


class LocalFileNotFoundError(LocalFileError, FileNotFoundError):
    """The path does not exist on this host."""


class LocalPermissionError(LocalFileError, PermissionError):
    """This host's user may not do this to the path."""


class LocalIsADirectoryError(LocalFileError, IsADirectoryError):
    """Something else than a directory was needed where the path is one."""


class LocalNotADirectoryError(LocalFileError, NotADirectoryError):
    """A directory was needed where the path, or a part of it, is something else."""


class LocalFileExistsError(LocalFileError, FileExistsError):
    """The path exists already."""


_LOCAL_ERRORS: dict[int, type[LocalFileError]] = {
    _errno.ENOENT: LocalFileNotFoundError,
    _errno.EACCES: LocalPermissionError,
    _errno.EPERM: LocalPermissionError,
    _errno.EISDIR: LocalIsADirectoryError,
    _errno.ENOTDIR: LocalNotADirectoryError,
    _errno.EEXIST: LocalFileExistsError,
}


def local_error(errno: int, path: str | bytes | Path, reason: str | None = None) -> LocalFileError:
    """Return the `LocalFileError` that is also the built-in exception for this errno; it names the path.

    Args:
        errno: what the system said.
        path: on this host.
        reason: what to say instead of the system's own words.
    """
    name = os.fsdecode(path)
    return _again(errno, f"{name!r} on this host: {reason or os.strerror(errno).lower()}", name)


def _again(errno: int | None, message: str, path: str) -> LocalFileError:
    number = errno or _errno.EIO
    return _LOCAL_ERRORS.get(number, LocalFileError)(message, path=path, errno=number)
