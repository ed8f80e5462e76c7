"""Which paths an archive may name, and where they are below the target."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from gitmachine.archives.model import ArchiveError

if TYPE_CHECKING:
    from gitmachine.archives.directories import Names

__all__ = ["Naming"]

_MAX_PATH_BYTES = 4095
_MAX_NAME_BYTES = 255
_MAX_DEPTH = 256


class Naming:
    """Turns the names of an archive into paths from the target down, and knows which entries there were."""

    def __init__(self, name: str | None, max_bytes: int) -> None:
        """Expect everything at or below `name`; None when the archive holds what is in a directory.

        Args:
            name: what the archive calls the target.
            max_bytes: how long all names together may be, since they are remembered.
        """
        self._left = max_bytes
        self._within = () if name is None else _parts(os.fsencode(name))
        self._directory_only = name is None
        self._placed: set[bytes] = set()
        self._any = False
        self._complete = False

    def place(self, raw: bytes, *, directory: bool) -> Names:
        """Return where an entry belongs.

        Raises:
            ArchiveError: nowhere.
        """
        path = self._below(raw)
        self._left -= len(raw)
        if self._left < 0:
            raise ArchiveError("the names in the archive are too long altogether", errno=errno.EFBIG)
        if self._complete or (not path and not directory and (self._directory_only or self._any)):
            raise ArchiveError(f"the archive holds {os.fsdecode(raw)!r} beside or instead of what was asked for")
        self._any = True
        if not directory:
            self._complete = not path  # then the target is a file or a link: nothing can follow
            self._placed.add(b"/".join(path))
        return path

    def placed(self, raw: bytes, link: bytes) -> Names:
        """Return where the entry is that a hard link names.

        Raises:
            ArchiveError: no such file came before.
        """
        path = self._below(raw)
        if not path or b"/".join(path) not in self._placed:
            raise ArchiveError(
                f"the archive links {os.fsdecode(link)!r} to {os.fsdecode(raw)!r}, which is not before it"
            )
        return path

    def _below(self, raw: bytes) -> Names:
        parts = _parts(raw)
        depth = len(self._within)
        if parts[:depth] != self._within:
            raise ArchiveError(f"the archive holds {os.fsdecode(raw)!r}, which was not asked for")
        return parts[depth:]


def _parts(raw: bytes) -> Names:
    if raw.startswith(b"/"):
        raise ArchiveError(f"the archive names the absolute path {os.fsdecode(raw[:200])!r}, which is not accepted")
    if not raw or b"\0" in raw or len(raw) > _MAX_PATH_BYTES:
        raise ArchiveError(f"the archive has a name of {len(raw)} bytes: {os.fsdecode(raw[:80])!r}")
    parts = tuple(part for part in raw.split(b"/") if part not in {b"", b"."})
    if b".." in parts:
        raise ArchiveError(f"the archive names {os.fsdecode(raw)!r}, which leads outside")
    if len(parts) > _MAX_DEPTH or any(len(part) > _MAX_NAME_BYTES for part in parts):
        raise ArchiveError(f"the archive names a path that is too deep or too long: {os.fsdecode(raw[:80])!r}")
    return parts
