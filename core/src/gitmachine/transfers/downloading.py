"""From a machine, which may be hostile, to this host."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING

import attrs

from gitmachine.archives.model import ArchiveError, Transfer
from gitmachine.archives.unpacking import unpack
from gitmachine.machine import Capability
from gitmachine.transfers.ends import Spot, new_name, script
from gitmachine.transfers.plain_download import archive_plainly
from gitmachine.transfers.scripts import ARCHIVE, NO_TAR, SLICE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from gitmachine.execution import ExecResult
    from gitmachine.machine import Machine

__all__ = ["download"]

_SLICE_BYTES = 8 * 1024 * 1024
_PIECES_AHEAD = 16
_HARMLESS = re.compile(r"changed as we read it|removed before we read it|socket ignored")


class _NoTarError(Exception):
    """The machine has no tar; never leaves this module."""


async def download(machine: Machine, source: str, target: Path, *, max_bytes: int, max_entries: int) -> Transfer:
    """Do what `Machine.download` says: with ``tar`` in the machine, or file by file where there is none."""
    spot = Spot(machine, "download", source)
    stream = _by_stream if Capability.SPAWN in machine.capabilities else _by_files

    async def take(chunks: AsyncGenerator[bytes]) -> Transfer:
        async with contextlib.aclosing(chunks):
            return await unpack(chunks, target, name=spot.name, max_bytes=max_bytes, max_entries=max_entries)

    try:
        try:
            return await take(stream(spot))
        except _NoTarError:
            return await take(archive_plainly(spot, max_bytes, max_entries))
    except ArchiveError as error:
        raise spot.refused(error, error.errno) from error


def _arguments(spot: Spot) -> tuple[str, ...]:
    return (spot.path, "content" if spot.name is None else "named", spot.parent, spot.name or "")


async def _by_stream(spot: Spot) -> AsyncGenerator[bytes]:
    """Yield the archive that one script prints.

    Raises:
        MachineFileError: at the end: the script failed, so what came is not complete.
    """
    pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
    room = asyncio.Semaphore(_PIECES_AHEAD)

    async def keep(piece: bytes) -> None:
        await room.acquire()
        pieces.put_nowait(piece)

    async def run() -> ExecResult:
        try:
            request = script(ARCHIVE, *_arguments(spot), "-")
            return await spot.machine.execute(attrs.evolve(request, on_stdout_bytes=keep))
        finally:
            pieces.put_nowait(None)  # whatever happened: somebody waits for it

    running = asyncio.ensure_future(run())
    try:
        while (piece := await pieces.get()) is not None:
            room.release()
            yield piece
        _judge(spot, await running)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _by_files(spot: Spot) -> AsyncGenerator[bytes]:
    """Yield an archive that was made as a file, in slices."""
    archive = f"/tmp/{new_name()}/archive"  # noqa: S108  # in the machine, and a name that nobody can guess
    try:
        _judge(spot, await spot.machine.execute(script(ARCHIVE, *_arguments(spot), archive)))
        number = 0
        while True:
            request = script(SLICE, archive, str(_SLICE_BYTES), str(number), max_output_bytes=2 * _SLICE_BYTES)
            piece = (await spot.good(request)).stdout_bytes
            if not piece:
                return
            yield piece
            number += 1
    finally:
        await spot.discard(archive.rpartition("/")[0])


def _judge(spot: Spot, result: ExecResult) -> None:
    """Raise for a script that failed; that a file changed meanwhile is the way of files."""
    if result.exit_code == NO_TAR:
        raise _NoTarError
    lines = result.stderr.splitlines()
    if result.exit_code == 1 and lines and all(map(_HARMLESS.search, lines)):
        return
    if result.exit_code != 0:
        raise spot.fault(result)
