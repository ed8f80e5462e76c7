"""The warm channel as a provider uses it: a pool of long-lived shells."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from typing import TYPE_CHECKING

import attrs

from gitmachine.clock import PausableClock, command_clock
from gitmachine.errors import CommandTimeoutError, MachineError, file_error
from gitmachine.execution import KILL_GRACE_SECONDS, ExecResult, run_process
from gitmachine.machines.channel.duplex import ChannelLostError
from gitmachine.machines.channel.job import KILLED, CollectJob, Job
from gitmachine.machines.channel.keeper import SlotKeeper
from gitmachine.machines.channel.process import ChannelProcess, StreamJob
from gitmachine.machines.channel.quoting import as_bytes
from gitmachine.machines.channel.scripts import kill_script, machine_mark, new_mark, wake_script
from gitmachine.machines.channel.turn import new_token
from gitmachine.machines.channel.watch import Watch
from gitmachine.machines.channel.wire import (
    EMBEDDED_BYTES,
    LARGEST_WORD_BYTES,
    command_order,
    marked_argv,
    script_order,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gitmachine.execution import ExecRequest, Process
    from gitmachine.machines.channel.duplex import Connect, Judge, Plain
    from gitmachine.machines.channel.shell import Shell
    from gitmachine.machines.channel.slot import Slot

__all__ = ["WarmPool"]

LARGEST_INPUT_BYTES = 256 << 20
"""More input than this goes the plain way: unread, it would have to be sent all the same."""
PAUSE_SECONDS = 10.0
"""How long a shell that is being opened may hold up a pause."""
SCRIPT_SECONDS = 60.0
"""How long a kill may take, on the machine's clock; a shell that has said nothing until then says nothing any more."""
PAUSED_KILL_SECONDS = 1.0
"""How long a kill is waited for in a paused machine; it is carried out when the machine goes on."""


class WarmPool:
    """Runs commands in long-lived shells, one at a time in each, at the price of one exec.

    ::

        pool = WarmPool(self._connect, plain=self._spawn_plain, judge=self._judge, mark=machine_mark(self.id))
        await pool.warm()                                          # optional: opens the first shell now

        async def execute(self, request):
            return await self._pool.execute(request, cwd=self._directory(request), env=request.env)

        async def spawn(self, request):
            return await self._pool.spawn(request, cwd=self._directory(request), env=request.env)

    What the channel cannot serve (another user, a terminal, live input), and what comes while all shells are busy and
    no more can be opened, goes the provider's plain way. A pool belongs to one event loop.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        plain: Plain,
        judge: Judge | None = None,
        mark: str | None = None,
        limit: int = 16,
        tainted_limit: int = 64,
        hello_seconds: float = 10.0,
    ) -> None:
        """Make a pool that has no shell yet.

        Args:
            connect: opens a stream to a new shell.
            plain: starts a command without the channel. It has to honour everything in the request.
            judge: says what a lost stream means; None raises `ChannelLostError`, which is a `MachineLostError`.
            mark: what `machine_mark` returned for this machine, so that every client finds its processes; None is
                a random one.
            limit: how many shells may be open for commands (one more may be opened to kill, so keep one in reserve
                where the server counts sessions).
            tainted_limit: how many shells, beside those, may be kept open for children that were left in the
                background with the shell's outputs; closing one ends what such a child can write.
            hello_seconds: how long a new shell may take to answer.
        """
        self._plain = plain
        self._judge = judge
        self._machine = mark if mark is not None else machine_mark(new_token())
        self._slots = SlotKeeper(
            connect, new_mark=self.new_mark, limit=limit, tainted_limit=tainted_limit, hello_seconds=hello_seconds
        )
        self._running: dict[Job, tuple[Slot, str, bool]] = {}
        self._kills: dict[Job, asyncio.Task[None]] = {}
        self._scripts: set[Job] = set()
        self._watch = Watch(
            plain,
            wake=lambda: self.wake_script,
            jobs=lambda: (*self._running, *self._scripts),
            paused=lambda: self._slots.paused,
        )
        self._count = 0

    @property
    def shell(self) -> Shell | None:
        """What the shells of this machine can do; None before the first has answered."""
        return self._slots.shell

    @property
    def wake_script(self) -> str:
        """A script that continues those of the shells that somebody stopped; the commands in them stay as they are."""
        return wake_script(self._slots.pids, self._machine if self.shell is not None and self.shell.mark_option else "")

    @property
    def problem(self) -> str:
        """Why everything goes the plain way, or "" while the channel is used."""
        return self._slots.problem

    async def warm(self) -> bool:
        """Open a shell if there is none; return whether the channel can be used. Raises nothing of the connection."""
        return await self._slots.warm()

    def pause(self) -> None:
        """Take notice that the machine is being paused: until `resume` nothing is opened, or judged by its time.

        Optional; what runs meanwhile simply stands still.
        """
        self._slots.pause()

    async def opened(self, seconds: float = PAUSE_SECONDS) -> None:
        """Wait for the shells that are being opened, at most so long; after `pause` no more are.

        For machines that must not be frozen while a process of theirs is half started.
        """
        await self._slots.opened(seconds)

    def resume(self) -> None:
        """Take notice that the machine goes on."""
        self._slots.resume()

    # Commands

    def serves(self, request: ExecRequest) -> bool:
        """Whether the channel can run this command (else `execute` and `spawn` take the plain way)."""
        if self._slots.problem or request.user is not None or request.terminal is not None or request.open_stdin:
            return False
        stdin, size = request.stdin, 0
        if stdin is not None:
            if not isinstance(stdin, bytes) or len(stdin) > LARGEST_INPUT_BYTES:
                return False
            size = len(stdin)
        script = request.shell
        long = script is not None and (
            len(script) > LARGEST_WORD_BYTES
            or (4 * len(script) > LARGEST_WORD_BYTES and len(as_bytes(script)) > LARGEST_WORD_BYTES)
        )
        if not (long or size > EMBEDDED_BYTES):
            return True
        shell = self._slots.shell
        return not (long and size) and (shell is None or shell.takes_input)

    async def execute(self, request: ExecRequest, *, cwd: str, env: Mapping[str, str]) -> ExecResult:
        """Run a command to its end, as `Machine.execute` does.

        Args:
            request: what to run; its own `cwd` and `env` are not looked at, unless it goes the plain way.
            cwd: an absolute path.
            env: what is added to the shells' environment for this command.

        Raises:
            CommandTimeoutError: the timeout passed on the machine's clock; the whole tree was killed.
            MachineFileNotFoundError: there is no such directory, and nothing ran (or its siblings, as errno says).
            ChannelLostError: or what `judge` made of it.
        """
        slot = (self._slots.take() or await self._slots.acquire()) if self.serves(request) else None
        if slot is None or (long_input(request) and not slot.shell.takes_input):
            if slot is not None:
                self._slots.give_back(slot)
            live = attrs.evolve(request, open_stdin=True) if request.stdin is not None else request
            return await run_process(await self._plain(live), live)
        if _is_watched(request):
            process = self._start_process(slot, request, cwd, env, announce=False)
            return await run_process(process, request)
        return await self._collect(slot, request, cwd, env)

    async def _collect(self, slot: Slot, request: ExecRequest, cwd: str, env: Mapping[str, str]) -> ExecResult:
        """Run a command whose output nobody watches: no task, one wait."""
        began = time.monotonic()
        job = CollectJob(request.max_output_bytes)
        self._start(slot, job, request, cwd, env, announce=False)
        timed_out = False
        limit = (command_clock.get() or PausableClock()).limit(request.timeout)
        try:
            async with limit:
                await asyncio.wait([job.done])
        except TimeoutError:
            if not limit.expired():
                raise
            if not job.done.done():
                timed_out = True
                await self._kill(job)
        except BaseException:
            await asyncio.shield(self._kill(job, quietly=True))
            raise
        exit_code = await self._outcome(job, cwd)
        result = ExecResult(
            exit_code=exit_code,
            stdout_bytes=job.stdout.getvalue(),
            stderr_bytes=job.stderr.getvalue(),
            duration=time.monotonic() - began,
            timed_out=timed_out,
            truncated=job.stdout.truncated or job.stderr.truncated,
        )
        if timed_out:
            raise CommandTimeoutError(
                f"the command exceeded its timeout of {request.timeout or 0:g} s and was killed", result=result
            )
        return result

    async def spawn(self, request: ExecRequest, *, cwd: str, env: Mapping[str, str]) -> Process:
        """Start a command and return the live process, as `Machine.spawn` does; with `open_stdin` the plain way.

        Raises:
            MachineFileNotFoundError: there is no such directory, and nothing ran (or its siblings, as errno says).
            ChannelLostError: or what `judge` made of it.
        """
        bare = attrs.evolve(request, stdin=None) if request.stdin is not None else request
        slot = (self._slots.take() or await self._slots.acquire()) if self.serves(bare) else None
        if slot is None or (long_input(bare) and not slot.shell.takes_input):
            if slot is not None:
                self._slots.give_back(slot)
            return await self._plain(request)
        process = self._start_process(slot, bare, cwd, env, announce=True)
        try:
            await asyncio.wait([process.job.going])
            if process.job.done.done():
                await process.wait()
        except asyncio.CancelledError:
            await asyncio.shield(self._kill(process.job, quietly=True))
            raise
        return process

    def _start_process(
        self, slot: Slot, request: ExecRequest, cwd: str, env: Mapping[str, str], *, announce: bool
    ) -> ChannelProcess:
        job = StreamJob(lambda held_back: slot.set_reading(wanted=not held_back))
        mark = self._start(slot, job, request, cwd, env, announce=announce)
        self._count += 1
        return ChannelProcess(
            job,
            mark or f"{slot.shell.pid}.{self._count}",
            outcome=lambda: self._outcome(job, cwd),
            kill=lambda: self._kill(job),
        )

    def _start(
        self, slot: Slot, job: Job, request: ExecRequest, cwd: str, env: Mapping[str, str], *, announce: bool
    ) -> str:
        """Have a slot run a command; return its mark."""
        turn, shell = slot.turn, slot.shell
        mark = turn.mark if shell.mark_option else ""
        order = command_order(turn, request, shell, cwd=cwd, env=env, announce=announce, count=slot.waited)
        self._running[job] = (slot, mark, order.raw is not None)
        job.done.add_done_callback(lambda _: self._over(job, mark))
        slot.run(order, job)
        self._watch.begin()
        return mark

    def _over(self, job: Job, mark: str) -> None:
        self._running.pop(job, None)
        if mark and job.done.exception() is not None and not self._slots.closed:
            self._slots.hold(self._end_orphans(mark))

    async def _end_orphans(self, mark: str) -> None:
        """Kill what a lost command left running: nobody hears of it any more."""
        with contextlib.suppress(MachineError):  # the machine may be gone with the shell
            await self._run_script(kill_script(mark))

    async def _outcome(self, job: Job, cwd: str) -> int:
        """Wait for an exit code, or raise what became of the command."""
        if not job.done.done():
            await asyncio.wait([job.done])
        try:
            status = job.done.result()
        except ChannelLostError as error:
            if self._judge is None:
                raise
            raise await self._judge(error) from error
        if status.startswith("cwd"):
            number = int(status[3:])
            reason = {errno.ENOENT: "there is no such directory", errno.ENOTDIR: "it is not a directory"}
            raise file_error(
                number,
                f"cannot run a command in {cwd!r}: {reason.get(number, 'it may not be entered')} in the machine",
                path=cwd,
                operation="execute",
            )
        return int(status) & 255

    # Killing

    async def _kill(self, job: Job, *, quietly: bool = False) -> None:
        """Kill a job's whole tree, and wait for its end."""
        running = self._running.get(job)
        if running is None or job.done.done():
            return
        task = self._kills.get(job)
        if task is None:
            task = self._kills[job] = self._slots.hold(self._end(job, *running))
            task.add_done_callback(lambda _: self._kills.pop(job, None))
        await asyncio.wait([task], timeout=PAUSED_KILL_SECONDS if self._slots.paused else 2 * KILL_GRACE_SECONDS)
        if task.done() and not task.cancelled() and (error := task.exception()) is not None and not quietly:
            raise error

    async def _end(self, job: Job, slot: Slot, mark: str, hard: bool) -> None:
        job.killed = True
        # Never used again: a command that began there while the kill is still under way would be killed, too.
        slot.condemned = True
        script = kill_script(mark, control=slot.shell.pid, hard=hard)
        try:
            await self._run_script(script)
        finally:
            slot.set_reading(wanted=True)  # not before, or what nobody reads would all be brought here
            if not job.done.done():
                await asyncio.wait([job.done], timeout=KILL_GRACE_SECONDS)
            if not job.done.done():
                job.finish(KILLED)
                self._slots.retire(slot)

    async def _run_script(self, script: str) -> None:
        """Run a script of ours in a spare shell."""
        slot = await self._slots.acquire(urgent=True)
        if slot is None:
            raise MachineError("no shell could be opened in the machine to kill a command", operation="kill")
        job = Job()
        self._scripts.add(job)
        try:
            slot.run(script_order(slot.turn, script), job)
            self._watch.begin()
            async with self._slots.limit(SCRIPT_SECONDS):
                await asyncio.wait([job.done])
        except TimeoutError as error:
            self._slots.retire(slot)
            raise MachineError(
                f"the shell that was to kill a command did not answer within {SCRIPT_SECONDS:g} s", operation="kill"
            ) from error
        finally:
            self._scripts.discard(job)
        if job.done.exception() is not None:
            raise ChannelLostError("the shell that was to kill a command ended", operation="kill")

    def new_mark(self) -> str:
        """Return a mark of this machine for a command that is started the plain way; see `marked`."""
        return new_mark(self._machine)

    def marked(self, argv: Sequence[str], mark: str) -> list[str]:
        """Return a command that puts the mark on itself and becomes `argv`; `argv` itself where there are no marks."""
        return marked_argv(tuple(argv), self._slots.shell, mark)

    async def kill(self, mark: str) -> None:
        """Kill every process that carries a mark of `new_mark`, whatever it did to get away; waits until it is done.

        Raises:
            MachineError: no shell could be had for it.
        """
        await self._run_script(kill_script(mark))

    async def kill_everything(self) -> None:
        """Kill all commands of this machine, and all that they left behind, whichever client started them.

        The pool's own shells stay. Running commands end with 137.
        """
        await self._run_script(kill_script(self._machine))

    async def close(self) -> None:
        """Close every shell. Commands that are running go on in the machine; whoever waits for them is told."""
        self._watch.close()
        await self._slots.close()


def long_input(request: ExecRequest) -> bool:
    """Whether a request's input, or its script, is too long to stand in the order."""
    size = len(request.stdin) if isinstance(request.stdin, bytes) else 0
    return size > EMBEDDED_BYTES or (request.shell is not None and len(as_bytes(request.shell)) > LARGEST_WORD_BYTES)


def _is_watched(request: ExecRequest) -> bool:
    callbacks = (request.on_stdout, request.on_stderr, request.on_stdout_bytes, request.on_stderr_bytes)
    return any(callback is not None for callback in callbacks)
