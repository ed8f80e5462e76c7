"""Commands and files in the machine, as users of a session ask for them."""

from __future__ import annotations

import inspect
import posixpath
import shlex
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import attrs

from gitmachine.errors import CommandFailedError, CommandTimeoutError, GitMachineError
from gitmachine.events import CommandFinished, CommandStarted
from gitmachine.execution import ExecRequest
from gitmachine.outcomes import LogEntry
from gitmachine.state.records import CommandRecord
from gitmachine.steps.context import Phase
from gitmachine.steps.vetting import vetted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from gitmachine.archives import Transfer
    from gitmachine.execution import ExecResult
    from gitmachine.machine import Host
    from gitmachine.steps.context import Context

__all__ = [
    "download",
    "get_host",
    "in_repository",
    "list_files",
    "merge_env",
    "read_file",
    "run",
    "upload",
    "write_file",
]


def in_repository(ctx: Context, path: str) -> str:
    """Return an absolute path in the machine; relative ones start at the repository."""
    return posixpath.join(ctx.path, path)


def describe(request: ExecRequest) -> str:
    """Return the command as one line of text."""
    return request.shell if request.shell is not None else shlex.join(request.argv or ())


async def run(
    ctx: Context,
    request: ExecRequest,
    *,
    check: bool,
    on_exit: Callable[[int], Awaitable[None] | None] | None = None,
) -> ExecResult:
    """Run a command in the repository and put it on record.

    Raises:
        CommandVetoed: a plugin refused it.
        CommandFailedError: `check` and an exit code other than 0.
        CommandTimeoutError: with the output so far.
    """
    ctx.require_running("run")
    await ctx.pass_lock("exec")
    env = {**ctx.env, **request.env}
    ctx.learn_secrets(request.env)
    full = attrs.evolve(request, env=env, cwd=ctx.path if request.cwd is None else in_repository(ctx, request.cwd))
    full = await vetted(ctx, full)
    command = ctx.redactor.redact(describe(full))
    observed = ctx.observes_commands
    if observed:
        await ctx.deliver(ctx.event(CommandStarted, command=command))
    timestamp, began = datetime.now(UTC), time.perf_counter()
    number = ctx.journal.begin_command(ctx.key, command, timestamp)
    result: ExecResult | None = None
    try:
        with ctx.operations.command():
            result = await ctx.machine.execute(full)
    except CommandTimeoutError as error:
        result = error.result
        raise
    except GitMachineError:
        await ctx.announce_loss()
        raise
    finally:
        duration = time.perf_counter() - began
        code = None if result is None else result.exit_code
        timed_out = result is not None and result.timed_out
        if result is not None:
            ctx.log.append(LogEntry(command=command, result=result, timestamp=timestamp))
        ctx.journal.log_command(
            ctx.key,
            CommandRecord(command=command, started=timestamp, duration=duration, exit_code=code, timed_out=timed_out),
            number,
        )
        if observed:
            await ctx.deliver(
                ctx.event(CommandFinished, command=command, exit_code=code, duration=duration, timed_out=timed_out)
            )
    if on_exit is not None:
        answer = on_exit(result.exit_code)
        if inspect.isawaitable(answer):
            await answer
    if check and result.exit_code != 0:
        raise CommandFailedError(
            f"the command exited with {result.exit_code}: {command}",
            result=result,
            machine_id=ctx.machine.id,
            provider=ctx.inner.provider,
        )
    return result


async def merge_env(ctx: Context, env: Mapping[str, str]) -> None:
    """Merge variables into the environment of later commands.

    Raises:
        ConfigError: a name or value cannot be a variable.
    """
    ExecRequest(argv=("true",), env=env)
    ctx.learn_secrets(env)
    ctx.env.update(env)
    if ctx.phase is Phase.READY:
        await ctx.remember()


async def read_file(ctx: Context, path: str, max_bytes: int) -> bytes:
    """Return a file's bytes."""
    ctx.require_running("read_file")
    return await ctx.machine.read_file(in_repository(ctx, path), max_bytes=max_bytes)


async def write_file(ctx: Context, path: str, data: bytes | str) -> None:
    """Replace a file."""
    ctx.require_running("write_file")
    await ctx.pass_lock("write_file")
    await ctx.machine.write_file(in_repository(ctx, path), data)


async def list_files(ctx: Context, path: str) -> list[str]:
    """Return the names in a directory."""
    ctx.require_running("list_files")
    return await ctx.machine.list_files(in_repository(ctx, path))


async def upload(ctx: Context, source: Path, target: str) -> Transfer:
    """Copy something of this host into the machine."""
    ctx.require_running("upload")
    await ctx.pass_lock("upload")
    try:
        return await ctx.machine.upload(source, in_repository(ctx, target))
    except GitMachineError:
        await ctx.announce_loss()
        raise


async def download(ctx: Context, source: str, target: Path, *, max_bytes: int, max_entries: int) -> Transfer:
    """Copy something of the machine to this host."""
    ctx.require_running("download")
    limits = {"max_bytes": max_bytes, "max_entries": max_entries}
    try:
        return await ctx.machine.download(in_repository(ctx, source), target, **limits)
    except GitMachineError:
        await ctx.announce_loss()
        raise


async def get_host(ctx: Context, port: int) -> Host:
    """Return a port's address."""
    ctx.require_running("get_host")
    return await ctx.machine.get_host(port)
