"""Committing, keeping on the host and publishing: the steps that push, pause and stop share."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from gitmachine.errors import (
    GitError,
    GitMachineError,
    MachineLostError,
    MachineUnreachableError,
    PushError,
    PushRejectedError,
    PushVetoed,
)
from gitmachine.events import GitPushed, GitRescued
from gitmachine.git.model import IGNORED_REF
from gitmachine.git.outgoing import outgoing
from gitmachine.outcomes import Kept, KeptKind, PushResult, Rescue
from gitmachine.state.places import make_private
from gitmachine.steps.committing import CHANGES_REF

if TYPE_CHECKING:
    from gitmachine.git.model import Survey
    from gitmachine.steps.context import Context
    from gitmachine.steps.operations import Operation

__all__ = [
    "ask_remote",
    "emit_rescue",
    "keep_on_host",
    "kept_work",
    "nothing_to_push",
    "publish",
    "rescue",
    "same_work",
    "session_sha",
    "unfinished",
]

BEFORE = "gitmachine_before_push"


def session_sha(ctx: Context, survey: Survey) -> str | None:
    """Return the tip of the session branch, or None while it has no commit."""
    return survey.refs.get(f"refs/heads/{ctx.branch}")


def same_work(one: Survey, other: Survey) -> bool:
    """Tell whether two surveys found the same work; ignored files may differ, since nothing is published of them."""
    refs = [{ref: sha for ref, sha in survey.refs.items() if ref != IGNORED_REF} for survey in (one, other)]
    return (refs[0], one.nested_refs, one.head) == (refs[1], other.nested_refs, other.head)


async def keep_on_host(ctx: Context, survey: Survey) -> None:
    """Have all the work that the survey found on this host."""
    await ctx.transport.collect(ctx.machine, ctx.path, survey)


async def kept_work(ctx: Context) -> tuple[Kept, ...]:
    """Return what is on this host but not on the remote, as it last answered; all of it when it never did."""
    return await ctx.transport.store.unpublished(ctx.transport.remote_state, ctx.branch)


async def ask_remote(ctx: Context) -> None:
    """Have the remote's answer, unless it gave one to this process already; one that is silent stays unknown."""
    if ctx.transport.remote_state is None:
        with contextlib.suppress(GitError):
            await ctx.transport.open()


async def publish(ctx: Context, operation: Operation, survey: Survey) -> PushResult | None:
    """Publish the session branch, which is on this host already; returns None when it has no commit.

    Raises:
        PushError: the work is safe as its `rescue` says, and the machine still has it.
    """
    sha = session_sha(ctx, survey)
    if sha is None:
        return None
    intent = await ctx.intend("push", branch=ctx.branch, sha=sha)
    try:
        await _vet(ctx, sha)
        result = await ctx.transport.publish(
            sha, ctx.branch, policy=ctx.setup.git.diverged, machine=ctx.machine, path=ctx.path
        )
    except PushError as error:
        await ctx.journal.done(intent, {"error": ctx.redactor.redact(str(error))})
        if error.rescue is None and not nothing_to_push(error):
            await _rescue_for(ctx, operation, survey, error)
        raise
    await ctx.journal.done(intent, {"remote_sha": result.remote_sha, "branch": result.branch})
    ctx.published = result.remote_sha
    operation.emit(ctx.event(GitPushed, branch=result.branch, sha=result.remote_sha, commits=result.commits))
    if result.local_sha != sha and result.branch == ctx.branch:
        # The policy replayed our commits on the remote's: the machine follows.
        await ctx.transport.refresh(ctx.machine, ctx.path)
        await ctx.workspace.integrate(f"refs/remotes/origin/{ctx.branch}", "rebase")
    return result


def nothing_to_push(error: PushError) -> bool:
    """Tell whether the push was refused because the remote has all of our commits and more."""
    return isinstance(error, PushRejectedError) and error.ahead == 0


async def _rescue_for(ctx: Context, operation: Operation, survey: Survey, error: PushError) -> None:
    try:
        error.rescue = await rescue(ctx, survey, reason=str(error), machine_kept=True)
    except GitError as problem:  # why the push failed matters more; the store and the machine have the work
        error.add_note(f"no bundle could be made: {problem}")
    else:
        emit_rescue(ctx, operation, error.rescue)


async def _vet(ctx: Context, sha: str) -> None:
    """Put the commits that the remote lacks to the plugins.

    Raises:
        PushVetoed: one of them refused, or failed: nobody then knows that they may go.
    """
    if not await ctx.dispatcher.implemented(BEFORE):
        return
    remote = ctx.transport.remote_state
    known = {*(remote.refs.values() if remote is not None else ()), ctx.start_sha, ctx.published}
    try:
        store = ctx.transport.store
        commits = await outgoing(store, branch=ctx.branch, sha=sha, known=[one for one in known if one is not None])
    except GitError as error:
        raise PushError(f"the commits for {ctx.branch!r} could not be looked at before the push: {error}") from error
    if not commits:
        return
    try:
        await ctx.dispatcher.step(BEFORE, gm=ctx.gm, commits=commits)
    except (PushError, MachineLostError, MachineUnreachableError):
        raise
    except GitMachineError as error:
        raise PushVetoed(str(error)) from error


async def rescue(ctx: Context, survey: Survey | None, *, reason: str, machine_kept: bool) -> Rescue:
    """Make a bundle of everything that the session repository holds, proven to clone."""
    return await ctx.transport.store.rescue(
        bundles=make_private(ctx.places.bundles),
        branch=ctx.branch,
        sha=None if survey is None else session_sha(ctx, survey),
        reason=ctx.redactor.redact(reason),
        machine_kept=machine_kept,
    )


def emit_rescue(ctx: Context, operation: Operation, made: Rescue) -> None:
    """Note the event of a rescue."""
    operation.emit(ctx.event(GitRescued, repository_path=made.repository, bundle=made.bundle, reason=made.reason))


def unfinished(survey: Survey, kept: tuple[Kept, ...], branch: str) -> tuple[Kept, ...]:
    """Return what only the machine's owner can decide about when nothing is committed automatically."""
    own = tuple(item for item in kept if item.kind is KeptKind.BRANCH and item.name == branch)
    changes = tuple(item for item in kept if item.kind is KeptKind.CHANGES and not item.path)
    if not changes and CHANGES_REF in survey.refs:
        changes = (Kept(kind=KeptKind.CHANGES, name="uncommitted changes", sha=survey.refs[CHANGES_REF]),)
    return own + changes
