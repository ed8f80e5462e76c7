"""Checkpoints: snapshots of the whole working tree on private refs, copied to this host; and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitmachine.errors import GitError
from gitmachine.events import GitCheckpointed
from gitmachine.steps.publishing import keep_on_host

if TYPE_CHECKING:
    from gitmachine.outcomes import Checkpoint
    from gitmachine.steps.context import Context
    from gitmachine.steps.operations import Operation

__all__ = ["checkpoint", "checkpoints", "rollback"]

MAX_UNTRACKED_BYTES = 100 * 1024 * 1024
"""Larger untracked files are left out: git would compress each anew at every checkpoint."""


async def checkpoint(ctx: Context, message: str | None) -> Checkpoint:
    """Take a checkpoint; index, HEAD and files stay as they are."""
    async with ctx.exclusive("checkpoint") as operation, ctx.awake("checkpoint"):
        return await _take(ctx, operation, message or "checkpoint")


async def _take(ctx: Context, operation: Operation, message: str) -> Checkpoint:
    snapshot = await ctx.workspace.snapshot(message, max_untracked_bytes=MAX_UNTRACKED_BYTES)
    await keep_on_host(ctx, await ctx.survey())
    made = await ctx.transport.store.add_checkpoint(snapshot.sha)
    operation.emit(ctx.event(GitCheckpointed, number=made.number, sha=made.sha, skipped=snapshot.skipped))
    return made


async def checkpoints(ctx: Context) -> tuple[Checkpoint, ...]:
    """Return the session's checkpoints, the oldest first; asks this host only."""
    return await ctx.transport.store.checkpoints()


async def rollback(ctx: Context, number: int) -> Checkpoint:
    """Go back to a checkpoint: files and branch; what was there is a checkpoint itself afterwards.

    Raises:
        GitError: there is no such checkpoint, or the machine's repository does not have it any more.
    """
    async with ctx.exclusive("rollback") as operation, ctx.awake("rollback"):
        known = await ctx.transport.store.checkpoints()
        found = next((one for one in known if one.number == number), None)
        if found is None:
            numbers = ", ".join(str(one.number) for one in known) or "none"
            raise GitError(f"there is no checkpoint {number} (there is: {numbers})")
        await _take(ctx, operation, f"before the rollback to {number}")
        await ctx.workspace.restore(found.sha, branch=ctx.branch)
        await ctx.journal.update_machine(ctx.key, head=found.head)
        return found
