"""Commands put to the plugins before they run."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gitmachine.execution import ExecRequest
    from gitmachine.steps.context import Context

__all__ = ["vetted"]

BEFORE = "gitmachine_before_command"

_vetting: ContextVar[tuple[Context, ...]] = ContextVar("gitmachine_vetting", default=())


async def vetted(ctx: Context, request: ExecRequest) -> ExecRequest:
    """Return what the plugins make of a command; what they run for that is not put to them again.

    Raises:
        CommandVetoed: a plugin refused it.
        HookError: a plugin failed; the command does not run then either.
    """
    if not await ctx.dispatcher.implemented(BEFORE) or ctx in _vetting.get():
        return request
    token = _vetting.set((*_vetting.get(), ctx))
    try:
        with ctx.operations.command():
            answer: ExecRequest = await ctx.dispatcher.refine(BEFORE, "request", gm=ctx.gm, request=request)
    finally:
        _vetting.reset(token)
    if answer is not request:
        ctx.learn_secrets(answer.env)
    return answer
