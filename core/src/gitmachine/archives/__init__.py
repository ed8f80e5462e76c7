"""Tar streams of files and directories: `pack` makes one, `unpack` takes one from somebody who may be hostile."""

from __future__ import annotations

from gitmachine.archives.model import (
    DEFAULT_MAX_ENTRIES,
    DEFAULT_MAX_TRANSFER_BYTES,
    ArchiveError,
    LocalFileError,
    LocalFileExistsError,
    LocalFileNotFoundError,
    LocalIsADirectoryError,
    LocalNotADirectoryError,
    LocalPermissionError,
    Transfer,
    local_error,
)
from gitmachine.archives.packing import Packing, Pieces, Stretch, pack, plain
from gitmachine.archives.progress import Progress, advance, watched_progress
from gitmachine.archives.sources import Source, look_at
from gitmachine.archives.threads import run_alone
from gitmachine.archives.unpacking import Unpacker, unpack

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
    "Packing",
    "Pieces",
    "Progress",
    "Source",
    "Stretch",
    "Transfer",
    "Unpacker",
    "advance",
    "local_error",
    "look_at",
    "pack",
    "plain",
    "run_alone",
    "unpack",
    "watched_progress",
]
