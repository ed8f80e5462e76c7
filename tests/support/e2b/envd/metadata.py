"""What an upload says about a file: extended attributes `user.e2b.<key>` (reference, 2.6)."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

PREFIX = "user.e2b."
_remembered: dict[tuple[int, int], dict[str, str]] = {}
"""By device and inode, where the file system takes no attributes; older kernels' tmpfs does not."""


def store(fd: int, metadata: Mapping[str, str]) -> None:
    """Replace what is known about an open file."""
    status = os.fstat(fd)
    _remembered.pop((status.st_dev, status.st_ino), None)
    try:
        for name in os.listxattr(fd):
            if name.startswith(PREFIX):
                os.removexattr(fd, name)
        for key, value in metadata.items():
            os.setxattr(fd, PREFIX + key, value.encode())
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        if metadata:
            _remembered[status.st_dev, status.st_ino] = dict(metadata)


def load(path: str) -> dict[str, str]:
    """Return what is known about a file."""
    status = os.stat(path)  # noqa: PTH116 -- paths are text here, also odd ones
    found = dict(_remembered.get((status.st_dev, status.st_ino), {}))
    try:
        names = [name for name in os.listxattr(path) if name.startswith(PREFIX)]
        return found | {name.removeprefix(PREFIX): os.getxattr(path, name).decode() for name in names}
    except OSError:
        return found
