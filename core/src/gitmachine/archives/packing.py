"""Tar streams of what is on this host, made in a thread, a block ahead of whoever reads them."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, TypeVar

import attrs

from gitmachine.archives.headers import BLOCK, make_header, padding
from gitmachine.archives.model import Transfer, local_error
from gitmachine.archives.progress import advance
from gitmachine.archives.threads import begin, ended, run_through

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

__all__ = ["Packing", "Pieces", "Stretch", "pack", "plain"]

T = TypeVar("T")

_CHUNK_BYTES = 1024 * 1024
_MODE = 0o777

_SPECIAL: dict[int, str] = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def pack(source: Path, *, name: str) -> Packing:
    """Return a tar stream of a file, a symbolic link or a directory; nothing is read before the first iteration.

    Modes (the nine bits), links and times (to the second) are kept; owners are left out, holes and hard links become
    plain content. What vanishes while a directory is read is left out. Memory is bounded by a few MiB.

    Args:
        source: on this host; a symbolic link is packed as such.
        name: what it is called in the archive; empty for the content of a directory without the directory itself.

    Raises:
        LocalFileError: while iterating: it cannot be read, or a file is a socket, a named pipe or a device, or became
            smaller while it was read.
    """
    return Packing(_Walk(os.fsencode(source), os.fsencode(name)))


def plain(source: Path, size: int) -> Packing:
    """Return the bytes of one regular file as they are, without an archive around them; bounded as `pack` is.

    Args:
        source: on this host; no symbolic link.
        size: how many bytes are read, even while the file grows.

    Raises:
        LocalFileError: while iterating: it cannot be read, is no regular file any more, or became smaller.
    """
    return Packing(_Plain(os.fsencode(source), size))


class Pieces:
    """The archive that `pack` makes, for whoever has a thread: what is large comes unread, as a `Stretch` of a file."""

    def __init__(self, source: Path, *, name: str) -> None:
        """Read nothing yet; the arguments are those of `pack`."""
        self._walk = _Walk(os.fsencode(source), os.fsencode(name), unread=True)

    @property
    def transfer(self) -> Transfer:
        """What was given out so far."""
        return Transfer(files=self._walk.files, bytes=self._walk.bytes)

    def __iter__(self) -> Generator[bytes | Stretch]:
        """Give the pieces in order, each stretch to be used before the next is asked for; errors are as of `pack`."""
        return self._walk.pieces()


@attrs.frozen
class Stretch:
    """The first `size` bytes of an open file, from where it stands.

    Attributes:
        fd: the file.
        size: how many bytes.
        path: of this host, for messages.
    """

    fd: int
    size: int
    path: bytes

    def shrunk(self) -> Exception:
        """Return the error for a file that ends before."""
        return local_error(errno.EIO, self.path, "it became smaller while it was read; try again")


class Packing:
    """The asynchronous iterator that `pack` and `plain` return; `aclose` lets go of it early."""

    def __init__(self, walk: _Walk | _Plain) -> None:
        self._walk = walk
        self._chunks = walk.chunks()
        self._next: asyncio.Future[bytes | Exception | None] | None = None
        self._done = False

    @property
    def transfer(self) -> Transfer:
        """What was packed so far."""
        return Transfer(files=self._walk.files, bytes=self._walk.bytes)

    def __aiter__(self) -> Packing:
        return self

    async def __anext__(self) -> bytes:
        if self._done:
            raise StopAsyncIteration
        self._next = self._next or begin(self._step)
        chunk = await ended(self._next)  # after a cancellation it is there for whoever asks next
        advance()
        if isinstance(chunk, bytes):
            self._next = begin(self._step)
            return chunk
        self._next, self._done = None, True
        if chunk is None:
            raise StopAsyncIteration
        raise chunk

    async def aclose(self) -> None:
        """Close the file that is being read, and end the iteration."""
        self._done = True
        if self._next is not None:
            await ended(self._next)
            self._next = None
        await run_through(self._chunks.close)

    def _step(self) -> bytes | Exception | None:
        try:
            return next(self._chunks, None)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is raised where the chunk is waited for
            return error


class _Walk:
    """Goes through what is packed, with blocking calls."""

    def __init__(self, source: bytes, name: bytes, *, unread: bool = False) -> None:
        self._source = source
        self._name = name
        self._unread = unread
        self._buffer = bytearray()
        self.files = 0
        self.bytes = 0

    def chunks(self) -> Generator[bytes]:
        """Yield the archive."""
        for piece in self.pieces():
            assert isinstance(piece, bytes)
            yield piece

    def pieces(self) -> Generator[bytes | Stretch]:
        """Yield the archive, with stretches of files where that was wanted."""
        status = _attempt(self._source, os.lstat, self._source)
        if not self._name and not stat.S_ISDIR(status.st_mode):
            raise local_error(errno.ENOTDIR, self._source)
        yield from self._entry(self._source, self._name, status)
        self._buffer += bytes(2 * BLOCK)
        yield bytes(self._buffer)

    def _entry(self, path: bytes, name: bytes, status: os.stat_result) -> Iterator[bytes | Stretch]:
        if stat.S_ISDIR(status.st_mode):
            yield from self._directories(path, name, status)
        elif stat.S_ISREG(status.st_mode):
            yield from self._file(path, name)
        elif stat.S_ISLNK(status.st_mode):
            link = _attempt(path, os.readlink, path)
            self._add(name, b"2", status, link=link)
            self.files += 1
        else:
            what = _SPECIAL.get(stat.S_IFMT(status.st_mode), "no file")
            raise local_error(errno.EOPNOTSUPP, path, f"{what}, which cannot be copied; remove it or leave it out")

    def _directories(self, path: bytes, name: bytes, status: os.stat_result) -> Iterator[bytes | Stretch]:
        """Yield a directory and all that is in it, without recursion: trees may be deep."""
        ahead = [(path, name, status)]
        while ahead:
            path, name, status = ahead.pop()
            inside = []
            entries = self._scan(path)
            if entries is None:
                continue
            if name:
                self._add(name + b"/", b"5", status)
            for entry in entries:
                below = name + b"/" + entry.name if name else entry.name
                try:
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(found.st_mode):
                        inside.append((entry.path, below, found))
                    else:
                        yield from self._entry(entry.path, below, found)
                except FileNotFoundError:  # it vanished since it was listed
                    continue
                if len(self._buffer) >= _CHUNK_BYTES:
                    yield self._take()
            ahead += reversed(inside)

    def _scan(self, path: bytes) -> list[os.DirEntry[bytes]] | None:
        try:
            with os.scandir(path) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except FileNotFoundError as error:
            if path == self._source:
                raise local_error(errno.ENOENT, path) from error
            return None
        except OSError as error:
            raise local_error(error.errno or errno.EIO, path) from error

    def _file(self, path: bytes, name: bytes) -> Iterator[bytes | Stretch]:
        with _opened(path) as (fd, status):
            if status.st_size < _CHUNK_BYTES:
                self._small(_attempt(path, os.read, fd, _CHUNK_BYTES), name, status)
            else:
                yield from self._large(fd, path, name, status)
        self.files += 1

    def _small(self, content: bytes, name: bytes, status: os.stat_result) -> None:
        self._add(name, b"0", status, size=len(content))
        self._buffer += content
        self._buffer += bytes(padding(len(content)))
        self.bytes += len(content)

    def _large(self, fd: int, path: bytes, name: bytes, status: os.stat_result) -> Iterator[bytes | Stretch]:
        """Yield a file of the size it had when it was opened, even while it grows."""
        self._add(name, b"0", status, size=status.st_size)
        yield self._take()
        if self._unread:
            yield Stretch(fd, status.st_size, path)
            self.bytes += status.st_size
        else:
            for content in _content(fd, path, status.st_size):
                self.bytes += len(content)
                yield content
        self._buffer += bytes(padding(status.st_size))

    def _add(self, name: bytes, kind: bytes, status: os.stat_result, *, size: int = 0, link: bytes = b"") -> None:
        mode = stat.S_IMODE(status.st_mode) & _MODE
        self._buffer += make_header(name, kind, mode=mode, size=size, mtime=int(status.st_mtime), link=link)

    def _take(self) -> bytes:
        taken = bytes(self._buffer)
        self._buffer.clear()
        return taken


class _Plain:
    """Reads one file, with blocking calls."""

    def __init__(self, source: bytes, size: int) -> None:
        self._source = source
        self._size = size
        self.files = 0
        self.bytes = 0

    def chunks(self) -> Generator[bytes]:
        """Yield the content."""
        with _opened(self._source) as (fd, _):
            for content in _content(fd, self._source, self._size):
                self.bytes += len(content)
                yield content
        self.files = 1


@contextlib.contextmanager
def _opened(path: bytes) -> Iterator[tuple[int, os.stat_result]]:
    """Open a regular file."""
    # Not waiting, and not through a link: it may have been exchanged since it was looked at.
    fd = _attempt(path, os.open, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise local_error(errno.EOPNOTSUPP, path, "it was replaced while it was read; try again")
        yield fd, status
    finally:
        os.close(fd)


def _content(fd: int, path: bytes, size: int) -> Iterator[bytes]:
    """Yield so many bytes of a file in pieces."""
    left = size
    while left:
        content = _attempt(path, os.read, fd, min(left, _CHUNK_BYTES))
        if not content:
            raise Stretch(fd, left, path).shrunk()
        left -= len(content)
        yield content


def _attempt(path: bytes, action: Callable[..., T], *arguments: object) -> T:
    try:
        return action(*arguments)
    except OSError as error:
        raise local_error(error.errno or errno.EIO, path) from error
