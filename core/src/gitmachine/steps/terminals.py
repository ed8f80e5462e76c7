"""Terminals in the machine: a command that somebody talks to, put on record when it ends."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import attrs

from gitmachine.errors import InvalidStateError
from gitmachine.events import CommandFinished, CommandStarted
from gitmachine.execution import ExecResult
from gitmachine.machine import Capability
from gitmachine.outcomes import LogEntry
from gitmachine.pump import kill_quietly
from gitmachine.state.records import CommandRecord
from gitmachine.steps.commands import describe, in_repository
from gitmachine.steps.vetting import vetted

if TYPE_CHECKING:
    from gitmachine.execution import ExecRequest, Process
    from gitmachine.steps.context import Context

__all__ = ["SHELL", "OpenTerminal", "open_terminal"]

SHELL = 'exec "${SHELL:-$(command -v bash || echo sh)}"'
"""What runs on a terminal when nobody said what: the machine's shell, else bash where there is one, else sh."""

KILL_SECONDS = 30.0


async def open_terminal(ctx: Context, request: ExecRequest) -> OpenTerminal:
    """Start a command on a terminal, in the repository.

    Raises:
        UnsupportedOperation: the machine has no terminals.
        CommandVetoed: a plugin refused it.
    """
    if Capability.PTY not in ctx.machine.capabilities:
        raise ctx.machine.unsupported("open a terminal", Capability.PTY)
    ctx.require_running("open_terminal")
    await ctx.pass_lock("open_terminal")
    ctx.learn_secrets(request.env)
    cwd = ctx.path if request.cwd is None else in_repository(ctx, request.cwd)
    full = await vetted(ctx, attrs.evolve(request, env={**ctx.env, **request.env}, cwd=cwd))
    command = ctx.redactor.redact(describe(full))
    observed = ctx.observes_commands
    if observed:
        await ctx.deliver(ctx.event(CommandStarted, command=command))
    opened = OpenTerminal(ctx=ctx, command=command, observed=observed)
    opened.begin()
    try:
        opened.watch(await ctx.machine.spawn(full))
    except BaseException:
        await opened.ended(None)
        await ctx.announce_loss()
        raise
    return opened


@attrs.define(eq=False, kw_only=True)
class OpenTerminal:
    """A command on a terminal.

    Attributes:
        ctx: the session.
        command: the command, redacted.
        observed: whether its beginning was told, and its end is to be.
        process: the live process.
    """

    ctx: Context
    command: str
    observed: bool
    process: Process = attrs.field(init=False)
    _began: float = attrs.field(factory=time.perf_counter, init=False)
    _timestamp: datetime = attrs.field(factory=lambda: datetime.now(UTC), init=False)
    _number: int = attrs.field(default=0, init=False)
    _recorded: bool = attrs.field(default=False, init=False)
    _end: asyncio.Future[int] = attrs.field(init=False)

    def begin(self) -> None:
        """Note that the command begins."""
        self._number = self.ctx.journal.begin_command(self.ctx.key, self.command, self._timestamp)

    async def read(self) -> bytes:
        """Return the next piece of what the terminal shows; empty at its end."""
        try:
            return await anext(self.process.stdout)
        except StopAsyncIteration:
            return b""

    def watch(self, process: Process) -> None:
        """Put the command on record when its process ends, whoever waits for that."""
        self.process = process
        self._end = asyncio.ensure_future(self._watch())
        self._end.add_done_callback(lambda end: None if end.cancelled() else end.exception())

    async def _watch(self) -> int:
        code = None
        try:
            code = await self.process.wait()
        finally:
            await self.ended(code)
            await self.ctx.announce_loss()
        return code

    async def wait(self) -> int:
        """Wait for the exit code.

        Raises:
            MachineLostError: the machine is gone.
        """
        return await asyncio.shield(self._end)

    async def close(self) -> None:
        """Kill what still runs, and wait for its end within a deadline."""
        try:
            await asyncio.wait([self._end], timeout=0)
            if not self._end.done():
                await kill_quietly(self.process)
                await asyncio.wait([self._end], timeout=KILL_SECONDS)
        finally:
            self._end.cancel()

    async def ended(self, exit_code: int | None) -> None:
        """Put the command on record, once; what was typed and shown is not kept."""
        if self._recorded:
            return
        self._recorded = True
        ctx, duration = self.ctx, time.perf_counter() - self._began
        if exit_code is not None:
            result = ExecResult(exit_code=exit_code, duration=duration)
            ctx.log.append(LogEntry(command=self.command, result=result, timestamp=self._timestamp))
        record = CommandRecord(
            command=self.command, started=self._timestamp, duration=duration, exit_code=exit_code, timed_out=False
        )
        try:
            ctx.journal.log_command(ctx.key, record, self._number)
        except InvalidStateError:  # the session let go of the machine before
            return
        if self.observed:
            await ctx.deliver(
                ctx.event(
                    CommandFinished, command=self.command, exit_code=exit_code, duration=duration, timed_out=False
                )
            )
