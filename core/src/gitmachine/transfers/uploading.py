"""From this host into a machine."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from gitmachine.archives.packing import pack, plain
from gitmachine.archives.sources import look_at
from gitmachine.machine import Capability
from gitmachine.transfers.ends import Spot, new_name, script
from gitmachine.transfers.plain_upload import upload_plainly
from gitmachine.transfers.scripts import KEEP, NO_TAR, UNPACK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from gitmachine.archives.model import Transfer
    from gitmachine.archives.packing import Packing
    from gitmachine.archives.sources import Source
    from gitmachine.execution import ExecRequest
    from gitmachine.machine import Machine

__all__ = ["upload"]

_PART_BYTES = 16 * 1024 * 1024


async def upload(machine: Machine, source: Path, target: str) -> Transfer:
    """Do what `Machine.upload` says: with ``tar`` in the machine, or file by file where there is none."""
    spot = Spot(machine, "upload", target)
    found = await look_at(source)
    if not found.directory and spot.name is None:
        raise spot.failed(errno.EISDIR)
    stream = machine.bulk_in == "stream" and {Capability.SPAWN, Capability.STDIN_EOF} <= machine.capabilities
    # A file alone needs no archive, which would have to be made, read and written once more.
    way = (_by_content if found.size is not None else _by_stream) if stream else _by_files
    transfer = await way(spot, source, found)
    return transfer if transfer is not None else await upload_plainly(spot, source, directory=found.directory)


def _packed(source: Path, found: Source) -> Packing:
    return pack(source, name="" if found.directory else "content")


def _arguments(spot: Spot, found: Source, name: str) -> tuple[str, ...]:
    kind = "directory" if found.directory else "other"
    return (spot.path, kind, spot.parent, f"{found.mode:o}", str(found.mtime), name)


async def _by_stream(spot: Spot, source: Path, found: Source) -> Transfer | None:
    """Send an archive to the input of one script; returns None when the machine has no tar."""
    name, packing = new_name(), _packed(source, found)
    request = script(UNPACK, *_arguments(spot, found, name), "", stdin=packing)
    return await _fed(spot, request, packing, None if found.directory else f"{spot.parent}/{name}")


async def _by_content(spot: Spot, source: Path, found: Source) -> Transfer | None:
    """Send a file to the input of one script; returns None when the machine misses a program for it."""
    assert found.size is not None
    name, packing = new_name(), plain(source, found.size)
    words = (spot.path, "other", spot.parent, f"{found.mode:o}", found.touched, name, str(found.size))
    return await _fed(spot, script(KEEP, *words, stdin=packing), packing, f"{spot.parent}/{name}")


async def _fed(spot: Spot, request: ExecRequest, packing: Packing, temporary: str | None) -> Transfer | None:
    """Run a script that reads what is packed; removes what it made on the way if it was not seen to its end."""
    complete = False
    try:
        result = await spot.machine.execute(request)
        complete = True
    finally:
        await packing.aclose()
        if not complete and temporary is not None:
            await spot.discard(temporary)
    if result.exit_code == NO_TAR:
        return None
    if result.exit_code != 0:
        raise spot.fault(result)
    return packing.transfer


async def _by_files(spot: Spot, source: Path, found: Source) -> Transfer | None:
    """Write an archive as files and unpack those; returns None when the machine has no tar."""
    machine, name = spot.machine, new_name()
    if (await machine.execute(script("command -v tar"))).exit_code != 0:
        return None
    parts = f"/tmp/{name}"  # noqa: S108  # in the machine, and a name that nobody can guess
    packing = _packed(source, found)
    try:
        number = 0
        async for part in _in_parts(packing):
            await machine.write_file(f"{parts}/part-{number:06}", part)
            number += 1
        await spot.good(script(UNPACK, *_arguments(spot, found, name), parts))
    finally:
        await packing.aclose()
        await spot.discard(parts)
    return packing.transfer


async def _in_parts(packing: Packing) -> AsyncIterator[bytes]:
    part = bytearray()
    async for chunk in packing:
        part += chunk
        if len(part) >= _PART_BYTES:
            yield bytes(part)
            part.clear()
    yield bytes(part)
