"""Writing below one directory of this host, on behalf of somebody who may be hostile."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from typing import TYPE_CHECKING

import attrs

from gitmachine.archives.directories import Directories, times
from gitmachine.archives.model import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gitmachine.archives.directories import Names

__all__ = ["Placing"]

_LARGE_BYTES = 16 << 20
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@attrs.frozen
class _Begun:
    """A file that is being written, under its own name when nothing else has it."""

    fd: int
    directory: int
    name: bytes
    temporary: bytes
    path: Names
    mode: int
    mtime: int


class Placing:
    """Puts files, directories and links where they belong: the target, or below it.

    A file is always written as a new one, so nothing is ever written through a link of either kind. What is in the
    way is replaced in one step, but a directory never is.
    """

    def __init__(self, target: Path) -> None:
        """Write to `target`, which is made by the first entry."""
        self._directories = Directories(target)
        self._begun: _Begun | None = None
        self._pending: tuple[int, bytes, bytes] | None = None  # the target, complete, until everything has come

    def directory(self, path: Names, mode: int, mtime: int) -> None:
        """Make a directory; one that is there already keeps its mode and time."""
        self._directories.enter(path)
        self._directories.describe(path, mode, mtime)

    def begin_file(self, path: Names, mode: int, mtime: int) -> None:
        """Make a file; `write` and `end_file` follow."""
        at, name = self._place(path)
        temporary = name if path else _temporary_name()
        if not path:
            _forget_content(at, name)
        try:
            fd = os.open(temporary, _NEW_FILE, 0o600, dir_fd=at)
        except FileExistsError:
            _forget_content(at, name)
            temporary = _temporary_name()
            fd = self._directories.attempt(path, os.open, temporary, _NEW_FILE, 0o600, dir_fd=at)
        except OSError as error:
            raise self._directories.problem(error, path) from error
        self._begun = _Begun(fd, at, name, temporary, path, mode, mtime)

    def write(self, data: memoryview) -> None:
        """Write the next part of the file."""
        begun = self._current()
        while data:
            data = data[self._directories.attempt(begun.path, os.write, begun.fd, data) :]

    def end_file(self) -> None:
        """Give the file its mode and its time, and its name if something else had that."""
        begun, attempt = self._current(), self._directories.attempt
        attempt(begun.path, os.fchmod, begun.fd, begun.mode)
        attempt(begun.path, os.utime, begun.fd, times(begun.mtime))
        self._settle(begun.path, begun.directory, begun.temporary, begun.name)
        self._begun = None
        os.close(begun.fd)

    def symlink(self, path: Names, text: bytes, mtime: int) -> None:
        """Make a symbolic link, whatever its text is: it is never followed here."""
        with self._renamed(path) as (at, temporary):
            attempt = self._directories.attempt
            attempt(path, os.symlink, text, temporary, dir_fd=at)
            attempt(path, os.utime, temporary, times(mtime), dir_fd=at, follow_symlinks=False)

    def hard_link(self, path: Names, existing: Names) -> None:
        """Give another name to an entry that was placed before."""
        source = os.dup(self._place(existing)[0])
        try:
            with self._renamed(path) as (at, temporary):
                fds = {"src_dir_fd": source, "dst_dir_fd": at}
                self._directories.attempt(path, os.link, existing[-1], temporary, follow_symlinks=False, **fds)
        finally:
            os.close(source)

    def finish(self) -> None:
        """Give the target its name and the new directories their modes and times, and let go of everything."""
        if self._pending is not None:
            at, temporary, name = self._pending
            self._replace((), temporary, name, at)
            self._pending = None
        self._directories.settle()
        self._directories.close()

    def abandon(self) -> None:
        """Let go of everything, and remove what is not complete: all of it when the target was new."""
        if self._begun is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._begun.temporary, dir_fd=self._begun.directory)
            os.close(self._begun.fd)
            self._begun = None
        if self._pending is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._pending[1], dir_fd=self._pending[0])
            self._pending = None
        self._directories.close()
        self._directories.remove_new()

    def _place(self, path: Names) -> tuple[int, bytes]:
        """Return the directory that holds an entry, open until the next entry, and the entry's name in it."""
        if path:
            return self._directories.enter(path[:-1]), path[-1]
        return self._directories.beside(), os.fsencode(self._directories.target.name)

    @contextlib.contextmanager
    def _renamed(self, path: Names) -> Iterator[tuple[int, bytes]]:
        """Have an entry made under another name, then give it its own."""
        at, name = self._place(path)
        temporary = _temporary_name()
        try:
            yield at, temporary
            self._settle(path, at, temporary, name)
        finally:
            # After a failure it is there; and rename(2) does nothing when both are names of one file already.
            if self._pending is None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=at)

    def _settle(self, path: Names, at: int, temporary: bytes, name: bytes) -> None:
        """Give something that is complete its name; the target itself gets it in the end."""
        if not path:
            self._pending = (at, temporary, name)
        elif temporary != name:
            self._replace(path, temporary, name, at)

    def _replace(self, path: Names, temporary: bytes, name: bytes, at: int) -> None:
        self._directories.attempt(path, os.replace, temporary, name, src_dir_fd=at, dst_dir_fd=at)

    def _current(self) -> _Begun:
        if self._begun is None:
            raise ArchiveError("there is no file to write to: the archive is out of order")
        return self._begun


def _forget_content(at: int, name: bytes) -> None:
    """Let go of the memory in which the kernel keeps a large file that is about to be replaced; the file stays.

    Else that of both is taken for a while, and memory that was not used before is the slowest of all.
    """
    try:
        status = os.lstat(name, dir_fd=at)
        if status.st_size < _LARGE_BYTES or not stat.S_ISREG(status.st_mode):
            return
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
    except (OSError, AttributeError):  # it is only advice, which not every system takes
        return


def _temporary_name() -> bytes:
    return b".gitmachine-" + secrets.token_hex(8).encode()
