"""One pack for all that a small repository holds: made while the machine starts, sent with the command that unpacks it.

Git's own protocol takes a process with two streams in the machine, several round trips, and a walk over the whole
history at the end; what is small enough to be held in memory is there at the price of one command.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gitmachine.errors import GitError
from gitmachine.git.host import GitCall, HostGit

if TYPE_CHECKING:
    from pathlib import Path

    from gitmachine.git.carrying import Delivery
    from gitmachine.git.model import RemoteState

__all__ = ["MAX_PACK_BYTES", "UNPACK", "pack_of", "ref_commands"]

MAX_PACK_BYTES = 4 << 20
"""A larger repository comes by git's protocol."""

MAX_LIST_BYTES = 32 << 10
"""So does one with a longer list of refs, which is an argument of the script."""

PACK_SECONDS = 10.0

# $8 commands for `git update-ref`. Standard input: the pack; git checks that it lacks nothing of what it names.
UNPACK = r"""
refs=$8
g index-pack --stdin --check-self-contained-and-connected >/dev/null || exit 95
exec </dev/null >/dev/null
printf '%s\n' "$refs" | g update-ref --stdin >&2 || exit 95
placed=yes
"""


async def pack_of(host: HostGit, git_dir: Path, state: RemoteState) -> bytes | None:
    """Return a pack with everything that refs of a mirror lead to, or None where that is nothing, or much."""
    if not state.refs or await asyncio.to_thread(_packed_bytes, git_dir) > MAX_PACK_BYTES:
        return None
    lines = "".join(f"{sha}\n" for sha in sorted(set(state.refs.values())))
    call = GitCall(
        args=("pack-objects", "--revs", "--stdout", "--delta-base-offset", "-q"),
        git_dir=git_dir,
        stdin=lines.encode(),
        seconds=PACK_SECONDS,
        max_output_bytes=MAX_PACK_BYTES,
    )
    try:
        return (await host.run(call)).stdout
    except GitError:
        return None  # it is larger than it seemed, or something is wrong with it, which git's protocol will say


def _packed_bytes(git_dir: Path) -> int:
    return sum(file.stat().st_size for file in (git_dir / "objects" / "pack").glob("*.pack"))


def ref_commands(delivery: Delivery) -> str | None:
    """Return the commands that make a fresh repository's refs, or None where they are too many, or too strange."""
    tags = {f"refs/tags/{ref.removeprefix('refs/gitmachine/tags/')}": sha for ref, sha in delivery.tags.items()}
    heads = {ref: sha for ref, sha in delivery.heads.items() if ref != "refs/remotes/origin/HEAD"}
    text = "\n".join(f"create {ref} {sha}" for ref, sha in {**heads, **tags}.items())
    return text if text.isascii() and len(text) <= MAX_LIST_BYTES else None
