"""From a machine without ``tar``, file by file: slow; of the modes only who may execute is kept, and no times."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from gitmachine.archives.headers import BLOCK, make_header, padding
from gitmachine.archives.model import ArchiveError
from gitmachine.archives.progress import advance
from gitmachine.transfers.ends import script
from gitmachine.transfers.scripts import LIST

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from gitmachine.transfers.ends import Spot

__all__ = ["archive_plainly"]

_MAX_LIST_BYTES = 64 * 1024 * 1024
_MODES = {b"f": 0o644, b"x": 0o755, b"d": 0o755, b"l": 0o777}
_KINDS = {b"f": b"0", b"x": b"0", b"d": b"5", b"l": b"2"}


async def archive_plainly(spot: Spot, max_bytes: int, max_entries: int) -> AsyncGenerator[bytes]:
    """Yield the archive that the machine cannot make, from a list of what there is and the files one by one.

    What the machine says goes through `unpack` like any archive, so a hostile list is as harmless as a hostile archive.
    """
    content = spot.name is None
    path = f"{spot.path}/." if content else spot.path
    result = await spot.good(script(LIST, path, spot.name or ".", max_output_bytes=_MAX_LIST_BYTES))
    fields = result.stdout_bytes.split(b"\0")
    if result.truncated or len(fields) // 3 > max_entries:
        raise ArchiveError(f"there are more than {max_entries} entries, or their names are too long", errno=errno.EFBIG)
    left, now = max_bytes, int(time.time())
    for kind, name, text in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
        if kind not in _KINDS:
            number = errno.EACCES if kind == b"u" else errno.EOPNOTSUPP
            raise spot.failed(number, f"{os.fsdecode(name)!r}: {os.strerror(number).lower()}")
        data = b""
        if kind in {b"f", b"x"}:
            below = os.fsdecode(name).partition("/")[2]
            data = await spot.machine.read_file(f"{spot.path}/{below}" if below else spot.path, max_bytes=left)
            left -= len(data)
        link = text.removesuffix(b"x").removesuffix(b"\n") if kind == b"l" else b""
        yield make_header(name, _KINDS[kind], mode=_MODES[kind], size=len(data), mtime=now, link=link)
        yield data + bytes(padding(len(data)))
        advance()
    yield bytes(2 * BLOCK)
