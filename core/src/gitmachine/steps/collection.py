"""Collecting a machine that nobody drives any more: published if it can be, else rescued and kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from gitmachine.errors import GitMachineError, MachineLostError, PushError, StateError, StopRefused
from gitmachine.session import context_of
from gitmachine.steps import pausing, starting, stopping
from gitmachine.steps.publishing import emit_rescue, keep_on_host, rescue
from gitmachine.steps.recovery import bury, recover

if TYPE_CHECKING:
    from gitmachine.outcomes import Receipt, Rescue
    from gitmachine.steps.context import Context
    from gitmachine.steps.remains import Remains

__all__ = ["MachineOutcome", "collect_machine"]


@attrs.frozen(kw_only=True)
class MachineOutcome:
    """What became of one machine.

    Attributes:
        ok: whether it is gone.
        done: a sentence.
        receipt: what its stop returned, or None.
        rescue: where its work is safe, when it could not be published.
    """

    ok: bool
    done: str
    receipt: Receipt | None = None
    rescue: Rescue | None = None


async def collect_machine(remains: Remains, *, force: bool) -> MachineOutcome:
    """Bring the machine's work to the remote and end it; work that cannot be published is rescued and the machine kept.

    With `force` it ends after the rescue.
    """
    try:
        recovery = await recover(remains)
        record = await remains.journal.machine(remains.record.key)
        if record.ended:
            return MachineOutcome(ok=True, done="; ".join(recovery.sentences), rescue=recovery.rescue)
        if recovery.problem is not None:
            return MachineOutcome(ok=False, done=recovery.problem)
        remains = attrs.evolve(remains, record=record)
        machine = await remains.connect()
        if machine is None:
            buried = await bury(remains)
            return MachineOutcome(ok=True, done="; ".join(buried.sentences), rescue=buried.rescue)
        ctx = context_of(await remains.session(machine))
        try:
            await starting.attach(ctx, record, adopt=False)
        except BaseException:
            await machine.close()
            raise
        try:
            return await _end(ctx, force=force)
        finally:
            await pausing.close(ctx)
    except GitMachineError as error:
        # One machine that cannot be dealt with must not keep the others from being collected.
        return MachineOutcome(ok=False, done=f"kept: {error}")


async def _end(ctx: Context, *, force: bool) -> MachineOutcome:
    try:
        receipt = await stopping.stop(ctx, force=force)
    except MachineLostError as error:
        notes = "; ".join(getattr(error, "__notes__", ()))
        return MachineOutcome(ok=True, done=f"it is gone: {error}" + (f"; {notes}" if notes else ""))
    except PushError as error:
        return MachineOutcome(ok=False, done=f"kept: {error}", rescue=error.rescue)
    except StopRefused as error:
        made = await _rescue(ctx, str(error))
        place = made.bundle or made.repository
        return MachineOutcome(ok=False, done=f"kept: {error}; its work is safe in {place} too", rescue=made)
    if receipt is None:
        raise StateError("the machine was not running any more")
    return MachineOutcome(ok=True, done=_told(receipt), receipt=receipt, rescue=receipt.rescue)


def _told(receipt: Receipt) -> str:
    if receipt.rescue is not None:
        return f"removed; its work is safe in {receipt.rescue.bundle or receipt.rescue.repository}"
    if receipt.published:
        return f"published to {receipt.branch!r} and removed"
    return "removed; it had no work to publish"


async def _rescue(ctx: Context, reason: str) -> Rescue:
    """Copy all work to this host; the machine stays as it is."""
    async with ctx.exclusive("rescue") as operation, ctx.roused():
        survey = await ctx.survey()
        await keep_on_host(ctx, survey)
        made = await rescue(ctx, survey, reason=reason, machine_kept=True)
        emit_rescue(ctx, operation, made)
        return made
