"""Start: machine up, repository in, branch checked out; connect: take over a machine that has all that."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from gitmachine.errors import CheckoutError, GitError, GitMachineError, MachineError, StateError
from gitmachine.events import GitCloned, MachineReconnected, MachineStarted
from gitmachine.git.names import session_conflict
from gitmachine.machine import MachineState
from gitmachine.state.owner import this_process
from gitmachine.state.records import MachineRecord
from gitmachine.steps.callbacks import call
from gitmachine.steps.committing import CHANGES_REF
from gitmachine.steps.context import Phase
from gitmachine.steps.publishing import keep_on_host, rescue, session_sha
from gitmachine.steps.regaining import regain
from gitmachine.steps.remains import is_orphan
from gitmachine.steps.runs import may_have_runs

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from gitmachine.git.model import RemoteState
    from gitmachine.steps.context import Context
    from gitmachine.steps.operations import Operation

__all__ = ["attach", "connect", "record_of", "refuse_clash", "start"]


async def start(ctx: Context) -> None:
    """Bring the session up; when anything fails, nothing of it stays but work that a callback made."""
    async with ctx.operations.hold("start", lifecycle=True) as operation:
        if ctx.phase is Phase.READY and ctx.machine.state is MachineState.RUNNING:
            return
        if ctx.machine.state is MachineState.PAUSED:
            ctx.require_running("start")
        ctx.renew()
        ctx.phase = Phase.STARTING
        try:
            await ctx.open_journal()
            ctx.open_transport()
            async with ctx.locked("start"):
                await ctx.journal.begin_machine(record_of(ctx, "starting"))
                await _start(ctx, operation)
        except BaseException:
            ctx.phase = Phase.ENDED
            await asyncio.shield(ctx.close_state())
            raise
        ctx.phase = Phase.READY


async def _start(ctx: Context, operation: Operation) -> None:
    """Do what the journal's row announces; when it fails, undo it."""
    checked_out = False
    try:
        intent = await ctx.intend("start")
        await ctx.remember()
        remote = await ctx.transport.ask()
        refuse_clash(ctx, remote)
        ctx.inner.label = ctx.key
        await _side_by_side(_bring_up(ctx), _prepare(ctx, remote))
        await _clone(ctx)
        checked_out = True
        await ctx.remember()
        await ctx.journal.update_machine(ctx.key, state="running", head=ctx.start_sha)
        operation.emit(ctx.event(GitCloned, branch=ctx.branch, sha=ctx.start_sha, created=ctx.created))
        operation.emit(ctx.event(MachineStarted, repo_path=ctx.path))
        await operation.flush()
        await ctx.dispatcher.step("gitmachine_setup", gm=ctx.gm)
        await call(ctx.setup.on_start, ctx.gm)
        await ctx.journal.done(intent)
    except BaseException as error:
        operation.pending.clear()
        await asyncio.shield(_abandon(ctx, operation, error, has_work=checked_out))
        raise


async def _bring_up(ctx: Context) -> None:
    await ctx.machine.start()
    await ctx.journal.update_machine(ctx.key, machine_id=ctx.machine.id, repo_path=ctx.path)


async def _prepare(ctx: Context, remote: RemoteState) -> None:
    """Do on this host what needs no machine."""
    await ctx.transport.open(remote)
    await ctx.transport.prepare(ctx.machine, branch=ctx.branch, base=ctx.setup.git.base)


async def _side_by_side(*steps: Coroutine[Any, Any, None]) -> None:
    """Await all; when one fails, the others are cancelled, and have ended before its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(step)
    except BaseExceptionGroup as errors:
        error = errors.exceptions[0]
        raise error from error.__cause__


async def _clone(ctx: Context) -> None:
    """Bring the repository in and check the session branch out."""
    options = ctx.setup.git
    populated = await ctx.transport.populate(ctx.machine, ctx.path, branch=ctx.branch, base=options.base)
    await ctx.workspace.checkout(ctx.branch, populated.start_sha, populated.upstream)
    if options.submodules and populated.start_sha is not None:
        await ctx.transport.populate_submodules(ctx.machine, ctx.path, populated.start_sha)
    ctx.start_sha, ctx.created, ctx.published = populated.start_sha, populated.created, populated.branch_sha


def refuse_clash(ctx: Context, remote: RemoteState) -> None:
    """Raise CheckoutError when the session cannot be a branch beside those of the remote."""
    prefix = "refs/heads/"
    clash = session_conflict(ctx.branch, [ref.removeprefix(prefix) for ref in remote.refs if ref.startswith(prefix)])
    if clash is not None:
        raise CheckoutError(
            f"the session {ctx.branch!r} cannot be a branch beside the remote's {clash!r}, since git keeps one as a "
            "folder of the other: choose another session name"
        )


def record_of(ctx: Context, state: str) -> MachineRecord:
    """Return the journal's row of a session that begins."""
    pid, started = this_process()
    return MachineRecord(
        key=ctx.key,
        name=ctx.setup.name,
        provider=ctx.inner.provider,
        machine_id=ctx.inner.id,
        repository=ctx.setup.repository.canonical,
        session=ctx.branch,
        state=state,
        owner_pid=pid,
        owner_start=started,
        options=ctx.options,
    )


async def _abandon(ctx: Context, operation: Operation, error: BaseException, *, has_work: bool) -> None:
    """Undo a start that failed: keep what a callback did on this host, then release the machine."""
    try:
        if has_work and (ctx.machine.lost is None or await regain(ctx, operation)):
            await _keep_before_release(ctx, error)
        elif not has_work and ctx.machine.lost is not None:
            ctx.take(ctx.inner)  # what guards a lost machine takes it for removed, and something of it may be there
        await ctx.machine.stop()
    except (GitMachineError, OSError) as problem:
        error.add_note(f"the machine {ctx.inner.id} may be left behind: {problem}")
        await ctx.journal.update_machine(ctx.key, state="running")
    else:
        await ctx.end_record("failed")
    finally:
        ctx.phase = Phase.ENDED
        await ctx.announce_loss()
        await ctx.close_state()


async def _keep_before_release(ctx: Context, error: BaseException) -> None:
    await ctx.machine.end_commands(0)
    survey = await ctx.survey()
    if session_sha(ctx, survey) == ctx.start_sha and CHANGES_REF not in survey.refs:
        return
    await keep_on_host(ctx, survey)
    kept = await rescue(ctx, survey, reason="start failed", machine_kept=False)
    error.add_note(f"what it had done already is safe in {kept.bundle or kept.repository}")


async def connect(ctx: Context) -> None:
    """Take over a running or paused machine; its repository must be where it is expected.

    Raises:
        MachineError: there is no such machine, or it does not run.
        CheckoutError: there is no repository at the path, or another branch than the session's is checked out.
    """
    async with ctx.operations.hold("connect", lifecycle=True) as operation:
        _require_live(ctx, "connect")
        await ctx.open_journal()
        try:
            known = await _find_record(ctx)
            async with ctx.roused():
                await _verify_repository(ctx)
            ctx.open_transport()
            await _take_over(ctx, known=known)
            await ctx.transport.store.open()
        except BaseException:
            await asyncio.shield(ctx.close_state())
            raise
        ctx.phase = Phase.READY
        operation.emit(ctx.event(MachineReconnected))


async def attach(ctx: Context, record: MachineRecord, *, adopt: bool) -> None:
    """Act on a machine of the journal from this process: no look at its repository, no remote, no event.

    Args:
        ctx: the session.
        record: its row.
        adopt: make a machine whose process is gone one that was left on purpose.

    Raises:
        MachineError: it does not run.
    """
    async with ctx.operations.hold("attach", lifecycle=True):
        _require_live(ctx, "attach")
        await ctx.open_journal()
        try:
            ctx.key, ctx.branch, ctx.known_path = record.key, record.session, record.repo_path
            ctx.attached = True
            await ctx.recall()
            ctx.open_transport()
            await ctx.transport.store.open()
            if adopt and is_orphan(record):
                await ctx.journal.update_machine(ctx.key, owner_pid=None, owner_start=None)
        except BaseException:
            await asyncio.shield(ctx.close_state())
            raise
        ctx.phase = Phase.READY


def _require_live(ctx: Context, operation: str) -> None:
    if ctx.machine.state not in {MachineState.RUNNING, MachineState.PAUSED}:
        raise MachineError(
            f"cannot {operation}: machine is {ctx.machine.state}", provider=ctx.inner.provider, operation=operation
        )


async def _find_record(ctx: Context) -> bool:
    """Look the machine up in the journal and go by what it says; False when another host or program started it."""
    for record in await ctx.journal.machines():
        if record.machine_id == ctx.machine.id and record.provider == ctx.inner.provider:
            ctx.key, ctx.known_path = record.key, record.repo_path
            await ctx.recall()
            if ctx.setup.session is None:
                ctx.branch = record.session
            elif ctx.setup.session != record.session:
                raise StateError(
                    f"the machine {record.label} works on the session {record.session!r}, not {ctx.setup.session!r}",
                    holder=record.label,
                )
            return True
    return False


async def _verify_repository(ctx: Context) -> None:
    try:
        survey = await ctx.survey()
    except GitError as error:
        raise CheckoutError(f"cannot connect: there is no repository at {ctx.path} in the machine") from error
    if survey.branch is None and ctx.setup.session is None:
        raise CheckoutError(f"cannot connect: HEAD of {ctx.path} is detached; name the session")
    if ctx.setup.session is None and survey.branch is not None:
        ctx.branch = survey.branch
    ref = f"refs/heads/{ctx.branch}"
    if ref not in survey.refs and survey.branch != ctx.branch:
        raise CheckoutError(f"cannot connect: the repository at {ctx.path} has no branch {ctx.branch!r}")


async def _take_over(ctx: Context, *, known: bool) -> None:
    state = str(ctx.machine.state)
    if known:
        await ctx.own(state=state)
    else:
        await ctx.journal.begin_machine(record_of(ctx, state))
        await ctx.journal.update_machine(ctx.key, repo_path=ctx.path)
        await may_have_runs(ctx)
        await ctx.remember()
