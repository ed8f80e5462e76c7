"""Stop: publish, verify, destroy; and what happens instead when the work cannot be published or the machine is gone.

The order is the guarantee: nothing is destroyed before what it holds is elsewhere, and what callbacks and background
processes write meanwhile is found by comparing once more, after everything that could still write was ended.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import attrs

from gitmachine.errors import (
    GitError,
    GitMachineError,
    MachineError,
    MachineLostError,
    PushError,
    StateError,
    StopRefused,
)
from gitmachine.events import MachineStopped, MachineStopping
from gitmachine.git.model import Survey
from gitmachine.machine import Capability, MachineState
from gitmachine.outcomes import Kept, PushResult, Receipt, Rescue
from gitmachine.steps.callbacks import call
from gitmachine.steps.committing import auto_commit, note_withheld
from gitmachine.steps.context import Phase
from gitmachine.steps.publishing import (
    ask_remote,
    emit_rescue,
    keep_on_host,
    kept_work,
    nothing_to_push,
    publish,
    rescue,
    same_work,
    session_sha,
    unfinished,
)
from gitmachine.steps.regaining import regain
from gitmachine.steps.runs import end_runs
from gitmachine.steps.unlocking import unlock

if TYPE_CHECKING:
    from gitmachine.steps.context import Context
    from gitmachine.steps.operations import Operation

__all__ = ["stop"]

GRACE_SECONDS = 10.0
"""How long running commands, and detached runs that were asked to, may take to end by themselves."""

TEARDOWN_SECONDS = 600.0
"""How long each plugin's teardown may take."""

MAX_ROUNDS = 5
"""How often the work is published again because it changed, on a machine whose processes cannot be ended."""


@attrs.frozen(kw_only=True)
class _Secured:
    """Work that is safe: what was found, what the remote said, what only this host has."""

    survey: Survey
    push: PushResult | None = None
    kept: tuple[Kept, ...] = ()
    rescue: Rescue | None = None
    remote_sha: str | None = None
    """What the remote's branch is at, when it has all of our commits and others on top."""
    unreadable: bool = False
    """The machine's repository is broken: nothing more can be learned of it."""


@attrs.define
class _Goodbye:
    """Whether the callbacks were told of the end, and what went wrong with that."""

    said: bool = False
    error: Exception | None = None


async def stop(ctx: Context, *, force: bool) -> Receipt | None:
    """End the session; see the module's docstring for the order."""
    goodbye = _Goodbye()
    async with ctx.exclusive("stop", lifecycle=True) as operation:
        if ctx.phase is not Phase.READY:
            return ctx.receipt
        try:
            await _attempt(ctx, operation, goodbye, force=force)
        except MachineLostError as error:
            if not await _regained(ctx, operation, error):
                await _bury(ctx, operation, error)
                raise
            await _attempt_again(ctx, operation, goodbye, force=force)
        ctx.phase = Phase.ENDED
        await ctx.close_state()
    if goodbye.error is not None:
        goodbye.error.add_note("the session was stopped and its work published nevertheless")
        raise goodbye.error
    return ctx.receipt


async def _attempt(ctx: Context, operation: Operation, goodbye: _Goodbye, *, force: bool) -> None:
    """Stop the machine; when that fails it is as it was."""
    was_paused = ctx.machine.state is MachineState.PAUSED
    ctx.phase = Phase.STOPPING
    try:
        with ctx.machine.gate.closed("the machine is stopping"), ctx.machine.gate.permit():
            await _stop(ctx, operation, goodbye, force=force)
    except BaseException as error:
        ctx.phase = Phase.READY
        if goodbye.error is not None:
            error.add_note(f"before that: {type(goodbye.error).__name__}: {goodbye.error}")
        if isinstance(error, MachineLostError):
            raise
        if was_paused and ctx.machine.lost is None and ctx.machine.state is MachineState.RUNNING:
            await ctx.machine.pause()
        with contextlib.suppress(StateError):  # what was wrong with the stop matters more
            # One that is lost may be there, and with it its work.
            state = "running" if ctx.machine.lost is not None else str(ctx.machine.state)
            await ctx.journal.update_machine(ctx.key, state=state)
        raise


async def _regained(ctx: Context, operation: Operation, error: MachineLostError) -> bool:
    """Tell whether the machine could be taken up again.

    Raises:
        GitMachineError: it may be there, with its work, so it stays listed.
    """
    try:
        return await regain(ctx, operation)
    except GitMachineError as problem:
        await _keep_listed(ctx, problem)
        raise problem from error


async def _attempt_again(ctx: Context, operation: Operation, goodbye: _Goodbye, *, force: bool) -> None:
    """Stop a machine that was taken up again; what ran in it may have died, git in the middle of something included.

    Raises:
        MachineError: it was lost once more, so it stays listed.
    """
    try:
        if ctx.machine.state is MachineState.RUNNING:
            await unlock(ctx.machine, ctx.path)
        await _attempt(ctx, operation, goodbye, force=force)
    except MachineLostError as error:
        problem = MachineError(
            f"the machine was lost, is there all the same, and was lost again: {error}",
            machine_id=ctx.inner.id,
            provider=ctx.inner.provider,
            operation="stop",
        )
        await _keep_listed(ctx, problem)
        raise problem from error


async def _keep_listed(ctx: Context, problem: GitMachineError) -> None:
    """Leave a machine in the journal that may hold work and cannot be used now."""
    problem.add_note(f"the machine {ctx.inner.id} is not written off: stop it again, once that is mended")
    await ctx.announce_loss()
    with contextlib.suppress(StateError):  # what is wrong with the machine matters more
        await ctx.journal.update_machine(ctx.key, state="running")


async def _stop(ctx: Context, operation: Operation, goodbye: _Goodbye, *, force: bool) -> None:
    if ctx.machine.lost is not None:
        ctx.require_running("stop")
    await ctx.machine.refresh()  # nothing can be done in one that somebody else has paused
    if ctx.machine.state is MachineState.PAUSED:
        await ctx.machine.resume()
    await ctx.machine.end_commands(GRACE_SECONDS)
    await end_runs(ctx, GRACE_SECONDS)
    secured = await _secure(ctx, operation, force=force)
    await ctx.journal.update_machine(ctx.key, state="stopping")
    operation.emit(ctx.event(MachineStopping))
    await operation.flush()
    if not goodbye.said:
        goodbye.said, goodbye.error = True, await _say_goodbye(ctx)
    secured = await _secure_again(ctx, operation, secured, force=force)
    await _destroy(ctx, operation, secured)


async def _say_goodbye(ctx: Context) -> Exception | None:
    """Call `on_end` and the plugins, all of them; what went wrong is for stop() to raise once the machine is gone."""
    failed: list[Exception] = []
    try:
        await call(ctx.setup.on_end, ctx.gm)
    except Exception as error:  # noqa: BLE001  # raised by stop() once the machine is gone
        failed.append(error)
    try:
        await ctx.dispatcher.step("gitmachine_teardown", run_all=True, seconds=TEARDOWN_SECONDS, gm=ctx.gm)
    except GitMachineError as error:
        failed.append(error)
    for other in failed[1:]:
        failed[0].add_note(f"after that: {type(other).__name__}: {other}")
    return failed[0] if failed else None


async def _secure(ctx: Context, operation: Operation, *, force: bool) -> _Secured:
    """Commit, copy everything to this host, publish.

    Raises:
        StopRefused: auto_commit is off and there is unpublished work.
        PushError: and not force.
    """
    refusal: GitMachineError | None = None
    if ctx.setup.auto_commit:
        try:
            await auto_commit(ctx, operation, reason="stop")
        except GitMachineError as error:
            refusal = error  # of a machine that is lost, the survey says so
    try:
        survey = await ctx.survey()
        await keep_on_host(ctx, survey)
    except GitError as error:
        return await _give_up_repository(ctx, operation, refusal or error, force=force)
    await note_withheld(ctx, operation, survey)
    if refusal is not None:
        return await _keep_uncommitted(ctx, operation, survey, refusal, force=force)
    await ask_remote(ctx)
    if not ctx.setup.auto_commit:
        return await _secure_by_hand(ctx, operation, survey, force=force)
    sha = session_sha(ctx, survey)
    if ctx.unnamed and ctx.created and sha == ctx.start_sha:
        # Nobody named this branch and nothing was done on it: the remote need not have it.
        return _Secured(survey=survey, kept=await kept_work(ctx))
    try:
        pushed = await publish(ctx, operation, survey)
    except PushError as error:
        await operation.flush()
        if nothing_to_push(error):
            theirs = (await ctx.transport.open()).branch(ctx.branch)
            return _Secured(survey=survey, kept=await kept_work(ctx), remote_sha=theirs)
        if not force:
            raise _kept_machine(ctx, error) from error
        return _Secured(survey=survey, kept=await kept_work(ctx), rescue=error.rescue)
    if pushed is not None and pushed.local_sha != sha:
        survey = await ctx.survey()
    return _Secured(survey=survey, push=pushed, kept=await kept_work(ctx))


async def _keep_uncommitted(
    ctx: Context, operation: Operation, survey: Survey, refusal: GitMachineError, *, force: bool
) -> _Secured:
    """The commit was refused: keep the machine, whose work this host has now, or, when forced, go by that."""
    if not force:
        refusal.add_note(
            f"the machine {ctx.machine.id} is kept; stop(force=True) ends it, with its work as it is kept on this host"
        )
        raise refusal
    await ask_remote(ctx)
    made = await rescue(ctx, survey, reason=str(refusal), machine_kept=False)
    emit_rescue(ctx, operation, made)
    return _Secured(survey=survey, kept=await kept_work(ctx), rescue=made)


async def _give_up_repository(ctx: Context, operation: Operation, error: GitMachineError, *, force: bool) -> _Secured:
    """The work cannot be read out of the machine: keep the machine, or, when forced, go by what this host has."""
    if not force:
        error.add_note(
            f"the machine {ctx.machine.id} is kept; stop(force=True) ends it with what this host has of its work"
        )
        raise error
    made = await rescue(ctx, None, reason=str(error), machine_kept=False)
    emit_rescue(ctx, operation, made)
    empty = Survey(head=None, branch=None, tree="")
    return _Secured(survey=empty, kept=await kept_work(ctx), rescue=made, unreadable=True)


def _kept_machine(ctx: Context, error: PushError) -> PushError:
    """Add to the message where the work is."""
    where = error.rescue.bundle or error.rescue.repository if error.rescue is not None else ctx.path
    error.args = (f"{error}; the machine {ctx.machine.id} is kept and the work is safe in {where}", *error.args[1:])
    return error


async def _secure_by_hand(ctx: Context, operation: Operation, survey: Survey, *, force: bool) -> _Secured:
    """Without auto_commit: refuse to lose what is not published, or rescue it when forced."""
    kept = await kept_work(ctx)
    open_work = unfinished(survey, kept, ctx.branch)
    if open_work and not force:
        listing = ", ".join(f"{item.name} ({item.sha[:10]})" for item in open_work)
        raise StopRefused(
            f"auto_commit is off and this is not published: {listing}; commit() and push() it, or stop(force=True)",
            unpublished=open_work,
        )
    made = None
    if open_work:
        made = await rescue(ctx, survey, reason="stop was forced", machine_kept=False)
        emit_rescue(ctx, operation, made)
    return _Secured(survey=survey, kept=kept, rescue=made)


async def _secure_again(ctx: Context, operation: Operation, secured: _Secured, *, force: bool) -> _Secured:
    """End what still runs and publish what changed since."""
    can_end = Capability.QUIESCE in ctx.machine.capabilities
    await end_runs(ctx, 0.0)
    if can_end:
        await ctx.machine.terminate_processes()
    if secured.unreadable:
        return secured
    for _ in range(MAX_ROUNDS):
        found = await ctx.survey()
        if same_work(found, secured.survey):
            return await _keep_ignored(ctx, secured, found)
        secured = await _secure(ctx, operation, force=force)
        if can_end:
            return secured
    raise StateError(
        f"the work in {ctx.path} keeps changing while it is being published, and {ctx.inner.provider} machines cannot "
        "end their processes: end them and call stop() again"
    )


async def _keep_ignored(ctx: Context, secured: _Secured, found: Survey) -> _Secured:
    """Have the newest of the ignored files; a log that is always written to is no reason to publish again."""
    if found.refs == secured.survey.refs:
        return secured
    await keep_on_host(ctx, found)
    return attrs.evolve(secured, survey=found, kept=await kept_work(ctx))


async def _destroy(ctx: Context, operation: Operation, secured: _Secured) -> None:
    sha, push = session_sha(ctx, secured.survey), secured.push
    remote_sha = secured.remote_sha or (push.remote_sha if push is not None else ctx.published)
    contained = secured.remote_sha is not None or (remote_sha is not None and remote_sha == sha)
    receipt = Receipt(
        branch=push.branch if push is not None else ctx.branch,
        local_sha=sha,
        remote_sha=remote_sha,
        pushed=contained and secured.rescue is None,
        published=(f"refs/heads/{push.branch}",) if push is not None else (),
        kept=secured.kept,
        ignored=secured.survey.ignored,
        withheld=ctx.withheld,
        rescue=None if secured.rescue is None else attrs.evolve(secured.rescue, machine_kept=False),
        machine_id=ctx.machine.id,
    )
    await ctx.intend("destroy", receipt=receipt.as_dict())
    await ctx.machine.stop()
    await ctx.end_record("stopped")
    ctx.receipt = receipt
    operation.emit(attrs.evolve(ctx.event(MachineStopped, receipt=receipt.as_dict()), machine_id=receipt.machine_id))


async def _bury(ctx: Context, operation: Operation, error: MachineLostError) -> None:
    """The machine died: say what this host has of its work, and how old it is."""
    ctx.phase = Phase.ENDED
    try:
        kept = await kept_work(ctx)
        record = await ctx.journal.machine(ctx.key)
        if kept:
            made = await rescue(ctx, None, reason="the machine was lost", machine_kept=False)
            emit_rescue(ctx, operation, made)
            age = (datetime.now(UTC) - record.updated).total_seconds()
            error.add_note(
                f"what this host has of its work, {age:.0f} s old, is in {made.bundle or made.repository}: "
                + ", ".join(f"{item.kind} {item.name} {item.sha[:10]}" for item in kept)
            )
        else:
            error.add_note("this host has nothing of it that the remote lacks")
    except (GitError, StateError) as problem:
        error.add_note(f"what this host has of its work could not be listed: {problem}")
    await ctx.announce_loss()
    try:
        await ctx.inner.close()
    except GitMachineError as problem:
        error.add_note(str(problem))
    await ctx.end_record("lost")
    await ctx.close_state()
