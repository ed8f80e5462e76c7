"""Pause, resume and letting go: the work is committed and copied to this host before the machine is frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitmachine.events import MachinePaused, MachineResumed
from gitmachine.machine import Capability, MachineState
from gitmachine.steps.callbacks import call
from gitmachine.steps.context import Phase
from gitmachine.steps.publishing import auto_commit, keep_on_host, same_work, session_sha

if TYPE_CHECKING:
    from gitmachine.steps.context import Context

__all__ = ["close", "pause", "resume"]


async def pause(ctx: Context) -> None:
    """Auto-commit, call `on_pause`, copy the work to this host, freeze the machine.

    Raises:
        UnsupportedOperation: the machine cannot pause; nothing was done.
    """
    async with ctx.exclusive("pause", lifecycle=True) as operation:
        if ctx.state is MachineState.PAUSED:
            return
        ctx.require_running("pause")
        if not ctx.can_pause:
            raise ctx.machine.unsupported("pause", Capability.PAUSE)
        if ctx.setup.auto_commit:
            await auto_commit(ctx, operation, reason="pause")
        survey = await ctx.workspace.survey()
        await call(ctx.setup.on_pause, ctx.gm)
        after = await ctx.workspace.survey()
        if not same_work(survey, after):
            if ctx.setup.auto_commit:
                await auto_commit(ctx, operation, reason="pause")
            after = await ctx.workspace.survey()
        await keep_on_host(ctx, after)
        intent = await ctx.journal.intend(ctx.key, "pause")
        await ctx.machine.pause()
        await ctx.journal.update_machine(ctx.key, state="paused", head=session_sha(ctx, after), tree=after.tree)
        await ctx.journal.done(intent)
        operation.emit(ctx.event(MachinePaused))


async def resume(ctx: Context) -> None:
    """Continue the machine and call `on_resume`."""
    async with ctx.exclusive("resume", lifecycle=True) as operation:
        if ctx.state is not MachineState.PAUSED:
            return
        intent = await ctx.journal.intend(ctx.key, "resume")
        await ctx.machine.resume()
        await ctx.journal.update_machine(ctx.key, state="running")
        await ctx.journal.done(intent)
        await call(ctx.setup.on_resume, ctx.gm)
        operation.emit(ctx.event(MachineResumed))


async def close(ctx: Context) -> None:
    """Let go of the machine; the journal still knows it."""
    async with ctx.operations.hold("close", lifecycle=True):
        if ctx.phase is not Phase.READY:
            return
        ctx.phase = Phase.ENDED
        await ctx.machine.close()
        await ctx.close_state()
