"""Pause, resume and letting go: the work is committed and copied to this host before the machine is frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gitmachine.errors import GitError, StateError
from gitmachine.events import MachinePaused, MachineResumed
from gitmachine.machine import Capability, MachineState
from gitmachine.steps.callbacks import call
from gitmachine.steps.committing import auto_commit, note_withheld
from gitmachine.steps.context import Phase
from gitmachine.steps.publishing import keep_on_host, same_work, session_sha

if TYPE_CHECKING:
    from gitmachine.state.records import MachineRecord
    from gitmachine.steps.context import Context

__all__ = ["close", "pause", "resume"]


async def pause(ctx: Context) -> None:
    """Auto-commit, call plugins and `on_pause`, copy the work to this host, freeze the machine.

    Raises:
        UnsupportedOperation: the machine cannot pause; nothing was done.
    """
    async with ctx.exclusive("pause", lifecycle=True) as operation:
        await ctx.machine.refresh()
        if ctx.state is MachineState.PAUSED:
            if (await ctx.journal.machine(ctx.key)).state == "paused":
                return
            await ctx.machine.resume()  # somebody else has paused it, and its work is not here yet
        ctx.require_running("pause")
        if not ctx.can_pause:
            raise ctx.machine.unsupported("pause", Capability.PAUSE)
        if ctx.setup.auto_commit:
            await auto_commit(ctx, operation, reason="pause")
        survey = await ctx.survey()
        await ctx.dispatcher.step("gitmachine_before_pause", gm=ctx.gm)
        await call(ctx.setup.on_pause, ctx.gm)
        after = await ctx.survey()
        if not same_work(survey, after):
            if ctx.setup.auto_commit:
                await auto_commit(ctx, operation, reason="pause")
            after = await ctx.survey()
        await keep_on_host(ctx, after)
        await note_withheld(ctx, operation, after)
        await ctx.machine.pause()
        await ctx.journal.update_machine(ctx.key, state="paused", head=session_sha(ctx, after), tree=after.tree)
        operation.emit(ctx.event(MachinePaused))


async def resume(ctx: Context) -> None:
    """Continue the machine, tell the plugins and call `on_resume`."""
    async with ctx.exclusive("resume", lifecycle=True) as operation:
        await ctx.machine.refresh()
        if ctx.state is not MachineState.PAUSED:
            return
        recorded = await ctx.journal.machine(ctx.key)
        await ctx.machine.resume()
        # What was recorded for an older pause says nothing of one by somebody else.
        verified = await _verify(ctx, recorded) if recorded.state == "paused" else None
        await ctx.journal.update_machine(ctx.key, state="running")
        await ctx.dispatcher.step("gitmachine_after_resume", gm=ctx.gm)
        await call(ctx.setup.on_resume, ctx.gm)
        operation.emit(ctx.event(MachineResumed, verified=verified))


async def _verify(ctx: Context, recorded: MachineRecord) -> bool | None:
    """Compare the machine with what was recorded when it was paused.

    A tree that differs is reported: a process may have written between the record and the freeze. A commit that is
    gone is an error: the machine came back as an older one.

    Raises:
        StateError: HEAD does not lead to the recorded commit any more.
    """
    if recorded.tree is None:
        return None
    survey = await ctx.survey()
    head = session_sha(ctx, survey)
    if head == recorded.head:
        return survey.tree == recorded.tree
    if recorded.head is not None and survey.branch == ctx.branch and not await _leads_to(ctx, recorded.head):
        await ctx.journal.update_machine(ctx.key, state="running")
        raise StateError(
            f"the machine did not come back as it was paused: {ctx.branch!r} was at {recorded.head} and is at {head}; "
            f"this host has what was lost, in {ctx.transport.store.path}"
        )
    return False


async def close(ctx: Context) -> None:
    """Let go of the machine: from now on it is left on purpose, and nobody's."""
    async with ctx.operations.hold("close", lifecycle=True):
        if ctx.phase is not Phase.READY:
            return
        ctx.phase = Phase.ENDED
        try:
            await ctx.machine.close()
            await ctx.disown()
        finally:
            await ctx.close_state()


async def _leads_to(ctx: Context, sha: str) -> bool:
    """Tell whether HEAD is a commit or comes after it."""
    try:
        _ahead, behind = await ctx.workspace.divergence(sha)
    except GitError:
        return False  # the machine does not have it at all
    return behind == 0
