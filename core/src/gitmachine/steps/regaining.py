"""A machine that was lost and is still there: some come back with their files, so none is written off unasked.

A container that was killed, for one, can be started again, and what the agent wrote since the last checkpoint is in it
and nowhere else.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from gitmachine.errors import GitMachineError, UnknownProviderError, UnsupportedOperation
from gitmachine.events import MachineReconnected
from gitmachine.steps.remains import Remains

if TYPE_CHECKING:
    from gitmachine.steps.context import Context
    from gitmachine.steps.operations import Operation

__all__ = ["regain"]

_log = logging.getLogger("gitmachine.recovery")


async def regain(ctx: Context, operation: Operation) -> bool:
    """Take a lost machine up again, in place of the object that lost it; False when there is none any more.

    Nothing that ran in it need run any more.

    Raises:
        GitMachineError: nobody knows whether it is there, or it is and does not run: it may hold work.
    """
    why, record = ctx.machine.lost, await ctx.journal.machine(ctx.key)
    remains = Remains(record=record, places=ctx.places, journal=ctx.journal, host=ctx.dispatcher.host)
    try:
        machine = await remains.connect()
    except (UnknownProviderError, UnsupportedOperation):
        return False  # who made it cannot be asked for it
    if machine is None:
        return False
    await ctx.announce_loss()
    with contextlib.suppress(GitMachineError):  # it is lost to that object, whatever becomes of its connections
        await ctx.machine.close()
    await ctx.transport.close()
    ctx.take(machine)
    ctx.open_transport()
    operation.emit(ctx.event(MachineReconnected))
    _log.info("machine %s: it was lost (%s) and is there all the same: its work is fetched from it", record.label, why)
    return True
