"""Snapshots of a session's machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitmachine.machine import Capability
from gitmachine.steps.runs import guarded

if TYPE_CHECKING:
    from gitmachine.steps.context import Context

__all__ = ["delete_snapshot", "list_snapshots", "snapshot"]


def _need(ctx: Context, operation: str) -> None:
    if Capability.SNAPSHOT not in ctx.machine.capabilities:
        raise ctx.machine.unsupported(operation, Capability.SNAPSHOT)
    ctx.require_running(operation)


async def snapshot(ctx: Context, name: str | None) -> str:
    """Save the machine's disk; nothing else changes the machine meanwhile."""
    _need(ctx, "snapshot")
    async with ctx.exclusive("snapshot"):
        ctx.require_running("snapshot")
        return await guarded(ctx, lambda: ctx.machine.snapshot(name))


async def list_snapshots(ctx: Context) -> list[str]:
    """Return the machine's snapshots."""
    _need(ctx, "snapshots")
    return await guarded(ctx, ctx.machine.snapshots)


async def delete_snapshot(ctx: Context, wanted: str) -> None:
    """Remove a snapshot."""
    _need(ctx, "delete_snapshot")
    await ctx.pass_lock("delete_snapshot")
    await guarded(ctx, lambda: ctx.machine.delete_snapshot(wanted))
