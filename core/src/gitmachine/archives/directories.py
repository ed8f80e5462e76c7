"""The directories below a target on this host: opened one after the other, and never through a link."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from typing import TYPE_CHECKING, TypeVar

import attrs

from gitmachine.archives.model import ArchiveError, local_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Directories", "Names", "times"]

T = TypeVar("T")

Names = tuple[bytes, ...]
"""A path from the target down; empty for the target itself."""

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PRIVATE = 0o700
_USUAL = 0o755
_LATEST_SECONDS = 1 << 33


@attrs.frozen
class _Made:
    mode: int = _USUAL
    mtime: int | None = None


class Directories:
    """Opens and makes directories for somebody who may be hostile.

    Everything below the target is opened relative to the directory above it, links not followed. The target itself is
    the user's own word and may be a link to a directory.
    """

    def __init__(self, target: Path) -> None:
        """Look at the target; nothing is made yet."""
        self.target = target
        self.new = not os.path.lexists(target)
        """Whether there was nothing at the target."""
        self._beside: int | None = None
        self._target_fd: int | None = None
        self._open: list[tuple[bytes, int]] = []
        self._made: dict[bytes, _Made] = {}  # by the joined path, which is smaller than its parts
        self._new_parents: list[Path] = []

    def beside(self) -> int:
        """Return the open directory that holds the target, made when it is missing; for a target that is no directory.

        Raises:
            LocalFileError: it cannot be, or the target is a directory.
        """
        if self.target.is_dir() and not self.target.is_symlink():
            raise local_error(errno.EISDIR, self.target, "it is a directory, and what would replace it is none")
        if self._beside is None:
            self._make_parents()
            self._beside = self.attempt((), os.open, self.target.parent, _OPEN)
        return self._beside

    def enter(self, path: Names) -> int:
        """Return an open directory, made when it is missing; it stays open until another one is entered."""
        if self._target_fd is None:
            self._target_fd = self._open_target()
        common = 0
        while common < len(path) and common < len(self._open) and self._open[common][0] == path[common]:
            common += 1
        while len(self._open) > common:
            os.close(self._open.pop()[1])
        at = self._open[-1][1] if self._open else self._target_fd
        for depth in range(common, len(path)):
            at = self._step(at, path[: depth + 1])
            self._open.append((path[depth], at))
        return at

    def describe(self, path: Names, mode: int, mtime: int) -> None:
        """Say what a directory shall have in the end; one that was there before keeps what it has."""
        if (key := b"/".join(path)) in self._made:
            self._made[key] = _Made(mode, mtime)

    def settle(self) -> None:
        """Give the new directories their modes and times, from the deepest up."""
        for key in sorted(self._made, key=lambda key: key.count(b"/") if key else -1, reverse=True):
            path = tuple(key.split(b"/")) if key else ()
            made, fd = self._made[key], self.enter(path)
            if made.mtime is not None:
                self.attempt(path, os.utime, fd, times(made.mtime))
            self.attempt(path, os.fchmod, fd, made.mode)

    def close(self) -> None:
        """Close every directory."""
        for fd in (*(fd for _, fd in self._open), self._target_fd, self._beside):
            if fd is not None:
                os.close(fd)
        self._open.clear()
        self._target_fd = self._beside = None

    def remove_new(self) -> None:
        """Remove the target if it was made here, and those parents of it that were and are empty."""
        if b"" in self._made:
            shutil.rmtree(self.target, ignore_errors=True)
        for parent in self._new_parents:
            with contextlib.suppress(OSError):  # somebody else put something there
                parent.rmdir()

    def attempt(self, path: Names, action: Callable[..., T], *arguments: object, **keywords: object) -> T:
        """Call a function of the system; its error becomes one of ours that names the path."""
        try:
            return action(*arguments, **keywords)
        except OSError as error:
            raise self.problem(error, path) from error

    def problem(self, error: OSError, path: Names) -> Exception:
        """Return the error to raise for one of the system."""
        number = error.errno or errno.EIO
        if path and number in {errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY}:
            if self.new:  # all that is there came from the archive
                name = os.fsdecode(b"/".join(path))
                return ArchiveError(f"the archive contradicts itself at {name!r}: a directory here is none there")
            if number in {errno.ELOOP, errno.ENOTDIR}:
                reason = "it is no directory, and nothing is written through a link"
                return local_error(errno.ENOTDIR, self._where(path), reason)
        return local_error(number, self._where(path))

    def _where(self, path: Names) -> bytes:
        return b"/".join((os.fsencode(self.target), *path))

    def _step(self, at: int, path: Names) -> int:
        name, flags = path[-1], _OPEN | os.O_NOFOLLOW
        try:
            return os.open(name, flags, dir_fd=at)
        except FileNotFoundError:
            self.attempt(path, os.mkdir, name, _PRIVATE, dir_fd=at)
            self._made[b"/".join(path)] = _Made()
            return self.attempt(path, os.open, name, flags, dir_fd=at)
        except OSError as error:
            raise self.problem(error, path) from error

    def _open_target(self) -> int:
        if self.new:
            self._make_parents()
            self.attempt((), os.mkdir, self.target, _PRIVATE)
            self._made[b""] = _Made()
        return self.attempt((), os.open, self.target, _OPEN)

    def _make_parents(self) -> None:
        missing = []
        parent = self.target.parent
        while not os.path.lexists(parent):
            missing.append(parent)
            parent = parent.parent
        for path in reversed(missing):
            self.attempt((), os.mkdir, path)
            self._new_parents.insert(0, path)


def times(mtime: int) -> tuple[int, int]:
    """Return the two times of a file for a time in seconds, which may be nonsense."""
    bounded = min(max(mtime, 0), _LATEST_SECONDS)
    return bounded, bounded
