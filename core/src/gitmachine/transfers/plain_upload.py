"""Into a machine without ``tar``, file by file: slow, and times are not kept."""

from __future__ import annotations

import errno
import itertools
import stat
from pathlib import Path  # noqa: TC003  # attrs resolves annotations
from typing import TYPE_CHECKING

import attrs

from gitmachine.archives.model import Transfer, local_error
from gitmachine.archives.progress import advance
from gitmachine.archives.threads import run_through
from gitmachine.transfers.ends import new_name, script
from gitmachine.transfers.scripts import PLACE, SETTLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gitmachine.transfers.ends import Spot

__all__ = ["upload_plainly"]

_PIECE_BYTES = 32 * 1024 * 1024
_STEPS_TOGETHER = 300


@attrs.frozen
class _Item:
    """One file, link or directory: `kind` is ``f``, ``l`` or ``d``; `text` is that of a link."""

    path: Path
    below: str
    kind: str
    mode: int
    text: str = ""


async def upload_plainly(spot: Spot, source: Path, *, directory: bool) -> Transfer:
    """Make directories, write files, then set modes and make links, with the machine's own file operations."""
    kind = "directory" if directory else "other"
    await spot.good(script(PLACE, spot.path, kind, spot.parent))
    items = await run_through(lambda: list(_walk(source)))
    inside = [item for item in items if item.below]  # an existing target keeps its mode
    await _settle(spot, [("d", spot.path + item.below, "") for item in inside if item.kind == "d"])
    moved = 0
    for item in items:
        if item.kind == "f":
            moved += await _file(spot, item)
    steps = [("l", spot.path + item.below, item.text) for item in items if item.kind == "l"]
    # From the bottom up: a directory may forbid what is still to be done in it.
    steps += [("m", spot.path + item.below, f"{item.mode:o}") for item in reversed(inside) if item.kind == "d"]
    await _settle(spot, steps)
    return Transfer(files=sum(item.kind != "d" for item in items), bytes=moved)


def _walk(source: Path) -> Iterator[_Item]:
    try:
        yield from _items(source, "")
    except OSError as error:
        raise local_error(error.errno or errno.EIO, error.filename or source) from error


def _items(path: Path, below: str) -> Iterator[_Item]:
    ahead = [(path, below)]
    while ahead:
        path, below = ahead.pop()
        status = path.lstat()
        mode = stat.S_IMODE(status.st_mode) & 0o777
        if stat.S_ISLNK(status.st_mode):
            yield _Item(path, below, "l", mode, str(path.readlink()))
        elif stat.S_ISREG(status.st_mode):
            yield _Item(path, below, "f", mode)
        elif stat.S_ISDIR(status.st_mode):
            yield _Item(path, below, "d", mode)
            ahead += [(inner, f"{below}/{inner.name}") for inner in sorted(path.iterdir(), reverse=True)]
        else:
            raise local_error(errno.EOPNOTSUPP, path, "it is no file, link or directory; remove it or leave it out")


async def _settle(spot: Spot, steps: list[tuple[str, str, str]]) -> None:
    for first in range(0, len(steps), _STEPS_TOGETHER):
        part = steps[first : first + _STEPS_TOGETHER]
        await spot.good(script(SETTLE, *itertools.chain.from_iterable(part)))
        advance()


async def _file(spot: Spot, item: _Item) -> int:
    """Write a file in pieces beside its place, then put it there; returns its size."""
    target = spot.path + item.below
    temporary = f"{target.rpartition('/')[0]}/{new_name()}"
    machine, size, number, complete = spot.machine, 0, 0, False
    try:
        while piece := await run_through(lambda: _read(item.path, number * _PIECE_BYTES)):  # noqa: B023  # at once
            await machine.write_file(f"{temporary}.{number:06}", piece)
            advance()
            size, number = size + len(piece), number + 1
        if not number:
            await machine.write_file(f"{temporary}.000000", b"")
        await spot.good(script(SETTLE, "j", target, temporary, "m", target, f"{item.mode:o}"))
        complete = True
    finally:
        if not complete:
            await spot.discard(*(f"{temporary}.{piece:06}" for piece in range(number + 1)), temporary)
    return size


def _read(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(_PIECE_BYTES)
    except OSError as error:
        raise local_error(error.errno or errno.EIO, path) from error
