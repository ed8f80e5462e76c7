"""File operations of a machine; each runs in a thread of its own, because a file system may hang."""

# ruff: noqa: PTH103, PTH104, PTH108, PTH116, PTH118, PTH120, PTH208  # paths are bytes here, which pathlib does not take

from __future__ import annotations

import errno
import os
import stat

from gitmachine_local.supervisor.lean import suppress

CHUNK = 1 << 18


def check_regular(info: os.stat_result, path: bytes) -> None:
    """Refuse what is not a plain file."""
    if stat.S_ISDIR(info.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a directory", path)
    if not stat.S_ISREG(info.st_mode):
        raise OSError(errno.EINVAL, "is not a regular file", path)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte to a blocking descriptor."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def read_file(path: bytes, limit: int, fd: int) -> int:
    """Send a file's bytes to fd; refuses a file of more than `limit` bytes, also one that grows meanwhile."""
    source = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)  # O_NONBLOCK: opening a FIFO must not wait
    try:
        info = os.fstat(source)
        check_regular(info, path)
        if info.st_size > limit:
            raise OSError(errno.EFBIG, "is too large", path)
        count = 0
        while data := os.read(source, CHUNK):
            count += len(data)
            if count > limit:
                raise OSError(errno.EFBIG, "is too large", path)
            write_all(fd, data)
        return count
    finally:
        os.close(source)


def write_file(path: bytes, size: int, fd: int) -> int:
    """Replace a file with `size` bytes from fd, atomically; nothing changes when they do not all arrive."""
    if path.endswith(b"/"):
        raise IsADirectoryError(errno.EISDIR, "is a directory", path)
    target = os.path.realpath(path)  # a symlink stays one: what it points to is replaced
    folder = os.path.dirname(target)
    os.makedirs(folder, exist_ok=True)
    mode = None
    with suppress(FileNotFoundError):
        info = os.stat(target)
        check_regular(info, path)
        mode = stat.S_IMODE(info.st_mode)
    temporary = os.path.join(folder, b".gitmachine-" + os.urandom(8).hex().encode())
    destination = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        try:
            left = size
            while left:
                data = os.read(fd, min(CHUNK, left))
                if not data:
                    raise OSError(errno.EPIPE, "the client went away", path)
                write_all(destination, data)
                left -= len(data)
            if mode is not None:
                os.fchmod(destination, mode)
        finally:
            os.close(destination)
        os.rename(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    return size


def list_files(path: bytes, fd: int) -> int:
    """Send the names in a directory to fd, NUL between them."""
    data = b"\0".join(os.listdir(path))
    write_all(fd, data)
    return len(data)
