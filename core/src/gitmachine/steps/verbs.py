"""The git verbs; each works on a running machine and on a paused one."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from gitmachine.errors import ConfigError, GitError
from gitmachine.events import GitPulled
from gitmachine.git.model import PullPolicy
from gitmachine.machine import MachineState
from gitmachine.steps import committing, publishing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from gitmachine.git.model import Changes, Commit
    from gitmachine.outcomes import PushResult
    from gitmachine.steps.context import Context

    _T = TypeVar("_T")

__all__ = ["changes", "commit", "diff", "head", "log", "pull", "push"]


async def _read(ctx: Context, name: str, ask: Callable[[], Awaitable[_T]]) -> _T:
    """Ask the repository something; beside everything else when the machine runs."""
    if ctx.machine.state is not MachineState.PAUSED or ctx.asleep:
        ctx.require_running(name)
        return await ask()
    async with ctx.exclusive(name), ctx.awake(name):
        return await ask()


async def diff(ctx: Context) -> str:
    """Return everything that differs from HEAD."""
    return await _read(ctx, "diff", ctx.workspace.diff)


async def changes(ctx: Context) -> Changes:
    """Return the changed paths."""
    return await _read(ctx, "changes", ctx.workspace.changes)


async def head(ctx: Context) -> str | None:
    """Return HEAD."""
    return await _read(ctx, "hash", ctx.workspace.head)


async def log(ctx: Context, limit: int) -> tuple[Commit, ...]:
    """Return the newest commits."""
    return await _read(ctx, "log", lambda: ctx.workspace.log(limit))


async def commit(ctx: Context, message: str | None) -> str | None:
    """Commit everything; the repository's hooks run."""
    async with ctx.exclusive("commit") as operation, ctx.awake("commit"):
        return await committing.commit(ctx, operation, message, reason="explicit")


async def push(ctx: Context) -> PushResult:
    """Publish the commits of the session branch; uncommitted changes stay as they are."""
    async with ctx.exclusive("push") as operation, ctx.awake("push"):
        survey = await ctx.survey()
        if publishing.session_sha(ctx, survey) is None:
            raise GitError(f"the branch {ctx.branch!r} has no commit yet: commit something before push()")
        await publishing.keep_on_host(ctx, survey)
        result = await publishing.publish(ctx, operation, survey)
        assert result is not None
        return result


async def pull(ctx: Context, policy: PullPolicy | None = None) -> str | None:
    """Bring what the remote's session branch has into the working tree; returns the new HEAD."""
    policy = ctx.setup.git.pull if policy is None else policy
    if policy not in get_args(PullPolicy):
        raise ConfigError(f"expected one of {', '.join(get_args(PullPolicy))}, not {policy!r} @ policy")
    async with ctx.exclusive("pull") as operation, ctx.awake("pull"):
        state = await ctx.transport.refresh(ctx.machine, ctx.path)
        old = await ctx.workspace.head()
        new = old
        if state.branch(ctx.branch) is not None:
            old, new = await ctx.workspace.integrate(f"refs/remotes/origin/{ctx.branch}", policy)
            await ctx.journal.update_machine(ctx.key, head=new)
        operation.emit(ctx.event(GitPulled, old_sha=old, sha=new))
        return new
