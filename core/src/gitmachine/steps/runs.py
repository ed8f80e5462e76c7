"""Detached runs of a session: started on record, listed, found again, killed, ended by a stop."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import attrs

from gitmachine.errors import ConfigError, GitMachineError, MachineError, MachineLostError, StateError
from gitmachine.machines.runs import Runs, new_run_id
from gitmachine.outcomes import RunInfo, RunState
from gitmachine.state.owner import is_alive
from gitmachine.state.records import CommandRecord
from gitmachine.steps.commands import describe, in_repository
from gitmachine.steps.vetting import vetted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gitmachine.execution import ExecRequest
    from gitmachine.state.records import Intent
    from gitmachine.steps.context import Context

    _T = TypeVar("_T")

__all__ = ["attach", "end_runs", "guarded", "inform", "kill", "list_runs", "may_have_runs", "runs_of", "spawn"]

MAX_NAME_CHARS = 100

_log = logging.getLogger("gitmachine.runs")


def runs_of(ctx: Context) -> Runs:
    """Return the client of the machine's runs; their directory is where no commit sees it."""
    workdir, repository = ctx.machine.workdir.rstrip("/"), ctx.path.rstrip("/")
    inside = f"{workdir}/".startswith(f"{repository}/")
    return Runs(ctx.machine.execute, f"{repository}/.git/gitmachine/runs" if inside else f"{workdir}/.gitmachine/runs")


async def guarded(ctx: Context, ask: Callable[[], Awaitable[_T]]) -> _T:
    """Ask a machine something; when it turns out to be lost, that is announced."""
    try:
        return await ask()
    except GitMachineError:
        await ctx.announce_loss()
        raise


async def spawn(ctx: Context, request: ExecRequest, name: str | None) -> RunInfo:
    """Start a detached run in the repository; it is written down before it begins."""
    ctx.require_running("spawn")
    if name is not None and (not name.isprintable() or not 0 < len(name) <= MAX_NAME_CHARS):
        raise ConfigError(f"the name of a run must be 1 to {MAX_NAME_CHARS} printable characters, not {name!r}")
    ctx.learn_secrets(request.env)
    cwd = ctx.path if request.cwd is None else in_repository(ctx, request.cwd)
    full = await vetted(ctx, attrs.evolve(request, env={**ctx.env, **request.env}, cwd=cwd))
    info = RunInfo(
        id=new_run_id(),
        name=name,
        command=ctx.redactor.redact(describe(full)),
        started=datetime.now(UTC),
        state=RunState.RUNNING,
    )
    async with ctx.sharing("spawn"):
        await _start(ctx, full, info)
    return info


async def _start(ctx: Context, request: ExecRequest, info: RunInfo) -> None:
    began, outcome = time.perf_counter(), "started"
    intent = await ctx.intend("spawn", id=info.id, name=info.name, command=info.command)
    number = ctx.journal.begin_command(ctx.key, info.command, info.started)
    try:
        with ctx.operations.command():
            await guarded(ctx, lambda: runs_of(ctx).start(request, info))
    except BaseException as error:
        outcome = f"failed: {type(error).__name__}"
        raise
    finally:
        duration = time.perf_counter() - began
        record = CommandRecord(command=info.command, started=info.started, duration=duration, exit_code=None)
        ctx.journal.log_command(ctx.key, record, number)
        await ctx.journal.done(intent, {"run": outcome})


async def list_runs(ctx: Context) -> tuple[RunInfo, ...]:
    """Return the runs of the machine, those that were never quite started included, the oldest first."""
    ctx.require_running("runs")
    await ctx.pass_lock("runs")
    intents = {
        str(intent.detail.get("id")): intent
        for intent in await ctx.journal.open_intents(ctx.key)
        if intent.operation == "spawn"
    }
    found = {info.id: info for info in await guarded(ctx, runs_of(ctx).list)}
    for run_id, intent in intents.items():
        info = found.get(run_id)
        if info is None or not info.command:
            found[run_id] = _half_started(run_id, intent, info)
        elif info.state is not RunState.STARTING:
            await ctx.journal.done(intent.id, {"run": "started"})
    return tuple(sorted(found.values(), key=lambda info: (info.started, info.id)))


def _half_started(run_id: str, intent: Intent, info: RunInfo | None) -> RunInfo:
    detail = intent.detail
    alive = is_alive(detail.get("pid"), detail.get("started"))
    known = info or RunInfo(id=run_id, name=None, command="", started=intent.started, state=RunState.LOST)
    return attrs.evolve(
        known,
        name=detail.get("name"),
        command=str(detail.get("command")),
        started=intent.started,
        state=RunState.STARTING if alive and not (info and info.ended) else known.state,
    )


async def attach(ctx: Context, wanted: str) -> RunInfo:
    """Return the run with this id or name (the newest of that name), or the only one whose id begins so.

    Raises:
        StateError: there is none, or several; names what there is.
    """
    infos = await list_runs(ctx)
    exact = [info for info in infos if wanted in {info.id, info.name}]
    if exact:
        return exact[-1]
    near = [info for info in infos if wanted and info.id.startswith(wanted)]
    if len(near) == 1:
        return near[0]
    names = ", ".join(info.id if info.name is None else f"{info.id} ({info.name})" for info in near or infos)
    what = f"several runs begin with {wanted!r}" if near else f"there is no run {wanted!r} in the machine"
    raise StateError(f"{what}; it has: {names or 'none'}")


async def inform(ctx: Context, info: RunInfo) -> RunInfo:
    """Return what is true of a run now."""
    ctx.require_running("info")
    await ctx.pass_lock("info")
    piece = await guarded(ctx, lambda: runs_of(ctx).look(info.id))
    return attrs.evolve(
        info,
        state=piece.state,
        exit_code=piece.exit_code,
        stdout_bytes=piece.stdout_bytes,
        stderr_bytes=piece.stderr_bytes,
        finished=piece.finished,
        truncated=piece.truncated,
    )


async def kill(ctx: Context, run_id: str) -> None:
    """Kill a run with all its children."""
    ctx.require_running("kill")
    await ctx.pass_lock("kill")
    runs = runs_of(ctx)
    await guarded(ctx, lambda: runs.look(run_id))
    await guarded(ctx, lambda: runs.kill(run_id))


async def may_have_runs(ctx: Context) -> None:
    """Write down that a machine, taken over from elsewhere, may have runs that the journal knows nothing of."""
    await ctx.journal.done(await ctx.intend("spawn"), {"run": "unknown"})


async def end_runs(ctx: Context, grace_seconds: float) -> None:
    """End every run for a stop: SIGTERM, then SIGKILL; costs nothing where none was ever started."""
    if not await ctx.journal.intended(ctx.key, "spawn"):
        return
    try:
        await runs_of(ctx).end_all(grace_seconds)
    except MachineLostError:
        raise
    except MachineError as error:
        # What they write is found all the same, and they fall with the machine.
        _log.warning("the runs of the machine %s could not be ended: %s", ctx.machine.id, error)
