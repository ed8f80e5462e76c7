"""File operations of a fake machine, on the host's file system."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

__all__ = ["list_names", "read_bytes", "write_bytes"]


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """Return a regular file's bytes; larger ones are refused, also those that grow meanwhile."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)  # opening a FIFO must not wait
    with os.fdopen(fd, "rb") as file:
        _check_regular(os.fstat(fd), path)
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"larger than the limit of {max_bytes} bytes", str(path))
    return data


def write_bytes(path: Path, data: bytes, free_bytes: int | None) -> None:
    """Replace a file atomically; `free_bytes` is how much fits on the disk, where that is limited."""
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    mode = None
    with contextlib.suppress(FileNotFoundError):
        info = target.stat()
        _check_regular(info, path)
        mode = stat.S_IMODE(info.st_mode)
    temporary = target.parent / f".gitmachine-{secrets.token_hex(8)}"
    try:
        if free_bytes is not None and len(data) > free_bytes:
            temporary.write_bytes(data[:free_bytes])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        temporary.write_bytes(data)
        if mode is not None:
            temporary.chmod(mode)
        temporary.rename(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def list_names(path: Path) -> list[str]:
    """Return the sorted names in a directory."""
    return sorted(entry.name for entry in path.iterdir())


def _check_regular(info: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(info.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(info.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
