"""Files and directories by the engine's archives: straight between its storage and this host, past the container.

The engine unpacks as root and replaces what is there piece by piece. So it unpacks beside the target, and the machine
moves it there in one step. What this way cannot do, the contract's own way through ``tar`` does.
"""

from __future__ import annotations

import contextlib
import posixpath
import secrets
from typing import TYPE_CHECKING

import aiodocker

from gitmachine.archives import look_at
from gitmachine_local_docker._archives import get_archive, put_archive

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from gitmachine import ExecResult
    from gitmachine.archives import Transfer
    from gitmachine_local_docker._engine import Engine

    Script = Callable[..., Awaitable[ExecResult]]
    """Runs a script of ours with its words in the machine."""

__all__ = ["download", "upload"]

LARGE_BYTES = 16 << 20

# $1 the target, $2 the directory beside it to unpack in, $3 file or directory, $4 large or nothing. Anything unusual is
# the other way's business. The memory in which the kernel keeps a large file that is to be replaced is let go (GNU's dd
# knows how): it serves for the new one, and memory that was not used before is the slowest of all.
_STAGE = """\
dir=${1%/*}; dir=${dir:-/}
[ ! -e "$1" ] || { [ -f "$1" ] && [ "$3" = file ]; } || [ -L "$1" ] || exit 1
[ ! -L "$1" ] || [ "$3" = file ] || exit 1
mkdir -p -- "$dir" && mkdir -m 700 -- "$2" || exit 1
if [ "$4" ] && [ -f "$1" ]; then dd if="$1" iflag=nocache count=0 2>/dev/null; fi
exit 0
"""
_PLACE = 'mv -f -- "$2/it" "$1" && rmdir -- "$2"'
_CLEAR = 'rm -rf -- "$2"'


async def upload(engine: Engine, container: str, script: Script, source: Path, target: str) -> Transfer | None:
    """Copy something of this host to a path where nothing is, or a file; None when it has to go the other way.

    Raises:
        LocalFileError: `source` cannot be read.
        aiohttp.ClientError, OSError: the connection broke.
    """
    found = await look_at(source)
    kind = "directory" if found.directory else "file"
    large = "large" if (found.size or 0) >= LARGE_BYTES else ""
    target = target.rstrip("/")
    staging = posixpath.join(posixpath.dirname(target), f".gitmachine-{secrets.token_hex(8)}")
    if posixpath.basename(target) in ("", ".", "..") or not (await script(_STAGE, target, staging, kind, large)).ok:
        return None
    done = False
    try:
        try:
            transfer = await put_archive(engine, container, staging, source)
        except aiodocker.DockerError:
            return None  # a file system that the engine does not see, or may not write; or a full one
        done = (await script(_PLACE, target, staging)).ok
        return transfer if done else None
    finally:
        if not done:
            with contextlib.suppress(Exception):  # whatever made us leave says more
                await script(_CLEAR, target, staging)


async def download(
    engine: Engine, container: str, source: str, target: Path, *, max_bytes: int, max_entries: int
) -> Transfer | None:
    """Copy something of the container to this host; None when it has to go the other way.

    Raises:
        ArchiveError: the archive holds what is refused.
        LocalFileError: this host cannot write it.
        aiohttp.ClientError, OSError: the connection broke.
    """
    name = posixpath.basename(source)
    if name in ("", ".", ".."):
        return None
    try:
        bounds = {"max_bytes": max_bytes, "max_entries": max_entries}
        return await get_archive(engine, container, source, target, name=name, **bounds)
    except aiodocker.DockerError:
        return None
