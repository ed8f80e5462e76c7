"""One run from start to stop, with every way it can end."""

from __future__ import annotations

import os
import time
import traceback
from typing import TYPE_CHECKING

import attrs

from gitmachine.cli.exits import Exit
from gitmachine.cli.interrupts import Interrupted, Interrupts
from gitmachine.cli.messages import explain, say
from gitmachine.cli.output import OutputClosed
from gitmachine.cli.passthrough import Passthrough
from gitmachine.errors import CommandTimeoutError, ConfigError, GitMachineError, MachineError, PushError, StopRefused
from gitmachine.execution import DEFAULT_MAX_OUTPUT_BYTES
from gitmachine.output import OutputBuffer

if TYPE_CHECKING:
    from gitmachine.cli.report import Outcome, Progress
    from gitmachine.execution import ExecResult
    from gitmachine.session import AsyncGitMachine

__all__ = ["Attempt", "Plan"]


@attrs.frozen(kw_only=True)
class Plan:
    """What to run, and how its output travels.

    Attributes:
        command: the program and its arguments.
        keep: whether the machine is left when the command has ended.
        auto_commit: whether what changed is committed.
        as_json: whether output is kept for one document.
        stream: whether that output goes to standard error as well.
        debug: whether tracebacks are shown.
    """

    command: tuple[str, ...]
    keep: bool = False
    auto_commit: bool = True
    as_json: bool = False
    stream: bool = False
    debug: bool = False


class Attempt:
    """Runs a plan in a session and fills in the outcome.

    Args:
        plan: what to run.
        gm: the session, not started.
        outcome: filled in.
        progress: told what happens.
    """

    def __init__(self, plan: Plan, gm: AsyncGitMachine, outcome: Outcome, progress: Progress) -> None:
        self._plan = plan
        self._outcome = outcome
        self._progress = progress
        self._gm = gm
        self._buffers = (OutputBuffer(DEFAULT_MAX_OUTPUT_BYTES), OutputBuffer(DEFAULT_MAX_OUTPUT_BYTES))
        self._interrupts = Interrupts(self._announce, self._leave)
        self._phase = "starting"

    async def run(self) -> None:
        """Start, run the command, publish and stop; nothing but a cancellation is raised."""
        outcome, gm = self._outcome, self._gm
        outcome.repository, outcome.session, outcome.name = gm.repository, gm.session, gm.name
        self._interrupts.install()
        self._progress.line(f"starting a machine ({outcome.provider}) for {gm.repository}")
        if not await self._start():
            return
        outcome.machine, outcome.session = gm.id, gm.session
        self._phase = "running"
        await self._command()
        self._phase = "saving"
        await self._finish()

    async def _start(self) -> bool:
        try:
            await self._interrupts.run(self._gm.start())
        except Interrupted:
            self._failed(Exit.INTERRUPTED, "interrupted before the command started; nothing is left behind")
        except Exception as error:  # noqa: BLE001  # told as the outcome, with the traceback on request
            self._failed(Exit.USAGE if isinstance(error, ConfigError) else Exit.RUN_FAILURE, error)
        else:
            return True
        return False

    async def _command(self) -> None:
        outcome, began = self._outcome, time.monotonic()
        try:
            result = await self._interrupts.run(self._run())
        except Interrupted:
            self._failed(Exit.INTERRUPTED, "interrupted: the command was stopped")
        except CommandTimeoutError as error:
            self._ended(error.result)
            self._failed(Exit.RUN_TIMEOUT, error)
        except OutputClosed as error:
            self._failed(Exit.BROKEN_PIPE, f"standard output cannot be written ({error}): the command was stopped")
        except Exception as error:  # noqa: BLE001  # whatever it is, the work is saved next
            self._failed(Exit.RUN_FAILURE, error)
        else:
            self._ended(result)
            outcome.status = result.exit_code
            if self._interrupts.interrupted:
                self._failed(Exit.INTERRUPTED, "interrupted")
        if outcome.duration is None:
            outcome.duration = time.monotonic() - began
        outcome.stdout, outcome.stderr = (buffer.getvalue().decode("utf-8", "replace") for buffer in self._buffers)
        outcome.truncated = any(buffer.truncated for buffer in self._buffers)

    async def _run(self) -> ExecResult:
        plan = self._plan
        forward = not plan.as_json or plan.stream
        out = Passthrough(2 if plan.as_json else 1, essential=not plan.as_json) if forward else None
        err = out if plan.as_json else Passthrough(2, essential=False)
        keep_out, keep_err = self._buffers

        async def on_stdout(data: bytes) -> None:
            if plan.as_json:
                keep_out.append(data)
            if out is not None:
                await out.write(data)

        async def on_stderr(data: bytes) -> None:
            if plan.as_json:
                keep_err.append(data)
            if err is not None:
                await err.write(data)

        # What the result keeps is not needed: the bytes are here already.
        return await self._gm.run(
            list(plan.command), on_stdout_bytes=on_stdout, on_stderr_bytes=on_stderr, max_output_bytes=64 * 1024
        )

    def _ended(self, result: ExecResult) -> None:
        outcome = self._outcome
        outcome.exit_code, outcome.timed_out, outcome.duration = result.exit_code, result.timed_out, result.duration
        outcome.hint = self._gm.machine.hint(result) or _missing_program(self._plan.command, result)

    async def _finish(self) -> None:
        outcome = self._outcome
        try:
            if self._plan.keep:
                await self._keep()
            else:
                outcome.receipt = await self._gm.stop()
        except Exception as error:  # noqa: BLE001  # told as the outcome, with the traceback on request
            self._not_published(error)
            outcome.machine_kept = self._gm.id is not None
        try:
            await self._gm.close()
        except GitMachineError as error:
            self._progress.line(explain(error))

    async def _keep(self) -> None:
        self._outcome.machine_kept = True
        if self._plan.auto_commit:
            await self._gm.commit()
            self._outcome.push = await self._gm.push()

    def _not_published(self, error: Exception) -> None:
        self._tell_earlier()
        if isinstance(error, MachineError) or not isinstance(error, GitMachineError):
            self._failed(Exit.RUN_FAILURE, error)
            return
        if isinstance(error, PushError):
            self._outcome.rescue = error.rescue
        elif isinstance(error, StopRefused):
            self._outcome.unpublished = tuple(error.unpublished)
        self._failed(Exit.RUN_KEPT, error)

    def _tell_earlier(self) -> None:
        """What went wrong before is told above the last line, which belongs to what is worse."""
        if self._outcome.error is not None:
            say(self._outcome.error)

    def _failed(self, status: Exit, error: Exception | str) -> None:
        outcome = self._outcome
        outcome.status = status
        if isinstance(error, str):
            outcome.error = error
            return
        if self._plan.debug:
            say("".join(traceback.format_exception(error)))
        text = explain(error)
        outcome.error, *details = text.splitlines()
        if details:
            say(text)

    def _announce(self) -> None:
        what = {
            "starting": "interrupted: undoing the start",
            "running": "interrupted: stopping the command and saving the work",
            "saving": "interrupted: the work is being saved",
        }[self._phase]
        say(f"{what} (Ctrl-C again leaves at once)")

    def _leave(self) -> None:
        """End this process now: what it holds is released by the kernel, and the journal knows the machine."""
        machine = self._outcome.name or self._gm.id
        kept = f"the machine {machine} is recorded and keeps the work"
        if self._phase == "starting":
            kept = "the start was not undone, and what there is of it is recorded"
        say(f"left at once: {kept}")
        os._exit(Exit.INTERRUPTED)


def _missing_program(command: tuple[str, ...], result: ExecResult) -> str | None:
    if result.exit_code != 127:  # what shells and machines say when there is no such program
        return None
    if any(character in command[0] for character in " |&;<>$"):
        return f"no shell reads the command: for a script write sh -c {command[0]!r}"
    return f"there is no program {command[0]!r} in the machine" if command[0] not in ("sh", "bash") else None
