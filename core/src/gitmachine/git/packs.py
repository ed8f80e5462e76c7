"""One pack for all that a small repository holds: made while the machine starts, sent with the command that unpacks it.

Git's own protocol takes a process with two streams in the machine, several round trips, and a walk over the whole
history at the end; what is small enough to be held in memory is there at the price of one command.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import attrs

from gitmachine.errors import CommandTimeoutError, GitError
from gitmachine.git.carrier import FSCK_STRICT
from gitmachine.git.carrying import script_request
from gitmachine.git.host import GitCall, HostGit

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gitmachine.git.carrying import Delivery
    from gitmachine.git.model import RemoteState
    from gitmachine.machine import Machine

__all__ = ["MAX_PACK_BYTES", "UNPACK", "bring_pack", "pack_of", "ref_commands"]

MAX_PACK_BYTES = 4 << 20
"""A larger repository comes by git's protocol."""

MAX_LIST_BYTES = 32 << 10
"""So does one with a longer list of refs, which is an argument of the script."""

PACK_SECONDS = 10.0

HEADER_BYTES = 12
"""Of a pack: four letters, its version, how many objects it has (gitformat-pack)."""

UNPACK_LIMIT = 100
"""Fewer objects than this become files of their own, as after a fetch (fetch.unpackLimit)."""

# $8 commands for `git update-ref`. Standard input: the pack; git checks that it lacks nothing of what it names.
UNPACK = r"""
refs=$8
g index-pack --stdin --check-self-contained-and-connected >/dev/null || exit 95
exec </dev/null >/dev/null
printf '%s\n' "$refs" | g update-ref --stdin >&2 || exit 95
placed=yes
"""

# $1 path  $2 the most that is fine, in bytes. Standard input: revisions. Prints a pack, without what the excluded have.
_PACK = r"""
cd -- "$1" 2>/dev/null || exit 94
if [ ! -e .git ]; then [ -f HEAD ] && export GIT_DIR=. GIT_WORK_TREE=. || exit 94; fi
revisions=$(cat)
size=$(printf '%s\n' "$revisions" | g rev-list --objects --disk-usage --stdin) && [ "$size" -le "$2" ] || exit 96
printf '%s\n' "$revisions" | g pack-objects --revs --thin --stdout --delta-base-offset -q
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


async def bring_pack(
    host: HostGit, machine: Machine, path: str, target: Path, wanted: Iterable[str], known: Iterable[str]
) -> bool:
    """Store what commits of a machine have beyond known ones, checked; False when it is much, or anything is odd.

    It needs no process with streams, and says nothing of what was wrong: git's own protocol comes next, and does.
    Whether all of it is there is for the caller to look at.
    """
    revisions = "".join([*(f"{sha}\n" for sha in wanted), *(f"^{sha}\n" for sha in known)])
    if len(revisions) > MAX_LIST_BYTES:
        return False
    most = min(MAX_PACK_BYTES // 4, host.limits.max_pack_bytes)  # on a slow line nothing much is lost by the try
    request = script_request(_PACK, path, str(most), stdin=revisions.encode(), timeout=PACK_SECONDS)
    try:
        result = await machine.execute(attrs.evolve(request, max_output_bytes=most))
    except CommandTimeoutError:
        return False
    data = result.stdout_bytes
    if result.exit_code or result.truncated or len(data) < HEADER_BYTES:
        return False
    few = int.from_bytes(data[8:HEADER_BYTES], "big") < UNPACK_LIMIT
    args = ("unpack-objects", "-q", FSCK_STRICT) if few else ("index-pack", "--stdin", "--fix-thin", FSCK_STRICT)
    return (await host.run(GitCall(args=args, git_dir=target, stdin=data, check=False))).exit_code == 0
