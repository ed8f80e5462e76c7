"""What is to be moved from this host: what kind of thing it is."""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import TYPE_CHECKING

import attrs

from gitmachine.archives.model import local_error
from gitmachine.archives.threads import run_through

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Source", "look_at"]

_LATEST_SECONDS = (1 << 33) - 1


@attrs.frozen
class Source:
    """A file, directory or link of this host, as it was when it was looked at.

    Attributes:
        directory: whether it is a directory.
        mode: the nine bits.
        mtime: when it was changed, in whole seconds.
        size: the bytes of a regular file; None for anything else.
    """

    directory: bool
    mode: int
    mtime: int
    size: int | None

    @property
    def touched(self) -> str:
        """The time in UTC as ``touch -t`` takes it, which every host knows."""
        return time.strftime("%Y%m%d%H%M.%S", time.gmtime(min(max(self.mtime, 0), _LATEST_SECONDS)))


async def look_at(path: Path) -> Source:
    """Look at something of this host, and follow no link.

    Raises:
        LocalFileError: it is not there, or cannot be looked at.
    """
    return await run_through(lambda: _look(path))


def _look(path: Path) -> Source:
    try:
        status = os.lstat(path)
    except OSError as error:
        raise local_error(error.errno or errno.EIO, path) from error
    size = status.st_size if stat.S_ISREG(status.st_mode) else None
    return Source(stat.S_ISDIR(status.st_mode), stat.S_IMODE(status.st_mode) & 0o777, int(status.st_mtime), size)
