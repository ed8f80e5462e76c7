"""Committing, keeping on the host and publishing: the steps that push, pause and stop share."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from gitmachine.errors import CommitError, GitError, PushError, PushRejectedError
from gitmachine.events import GitCommitted, GitPushed, GitRescued
from gitmachine.git.model import IGNORED_REF
from gitmachine.outcomes import Kept, KeptKind, PushResult, Rescue
from gitmachine.state.places import make_private
from gitmachine.steps.unlocking import unlock

if TYPE_CHECKING:
    from gitmachine.git.model import Survey
    from gitmachine.steps.context import Context
    from gitmachine.steps.operations import Operation

__all__ = [
    "CHANGES_REF",
    "ask_remote",
    "auto_commit",
    "commit",
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

CHANGES_REF = "refs/gitmachine/keep/changes"
"""Where a survey puts a commit of everything uncommitted."""

DEFAULT_MESSAGES = {"explicit": "checkpoint", "pause": "auto: checkpoint", "stop": "auto: checkpoint"}


def session_sha(ctx: Context, survey: Survey) -> str | None:
    """Return the tip of the session branch, or None while it has no commit."""
    return survey.refs.get(f"refs/heads/{ctx.branch}")


def same_work(one: Survey, other: Survey) -> bool:
    """Tell whether two surveys found the same work; ignored files may differ, since nothing is published of them."""
    refs = [{ref: sha for ref, sha in survey.refs.items() if ref != IGNORED_REF} for survey in (one, other)]
    return (refs[0], one.nested_refs, one.head) == (refs[1], other.nested_refs, other.head)


async def commit(
    ctx: Context, operation: Operation, message: str | None, *, reason: str, auto: bool = False
) -> str | None:
    """Commit everything; returns the commit, or None when there was nothing."""
    if message is None:
        changes = await ctx.workspace.changes()
        if not changes and changes.in_progress is None:
            return None
        answer = await ctx.dispatcher.decide("gitmachine_commit_message", changes=changes, reason=reason)
        message = answer or DEFAULT_MESSAGES[reason]
    outcome = await ctx.workspace.commit(message, auto=auto)
    if outcome is None:
        return None
    operation.emit(ctx.event(GitCommitted, sha=outcome.sha, message=outcome.message))
    await ctx.journal.update_machine(ctx.key, head=outcome.sha)
    return outcome.sha


async def auto_commit(ctx: Context, operation: Operation, *, reason: str) -> None:
    """Commit everything, unless a merge or the like is in progress: that is kept on the host as it is, and listed."""
    try:
        await commit(ctx, operation, None, reason=reason, auto=True)
    except CommitError as error:
        if error.in_progress is not None:
            return
        if not await unlock(ctx.machine, ctx.path):
            raise
        # A git process that was killed had left its lock.
        await commit(ctx, operation, None, reason=reason, auto=True)


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
