"""One command in a machine, as a command line runs it: its output passed on, and every way it can end."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping  # noqa: TC003  # attrs resolves annotations at run time
from typing import TYPE_CHECKING

import attrs

from gitmachine.cli.exits import Exit
from gitmachine.cli.interrupts import Interrupted, Interrupts
from gitmachine.cli.messages import explain, say
from gitmachine.cli.output import OutputClosed
from gitmachine.cli.passthrough import Passthrough
from gitmachine.errors import CommandTimeoutError
from gitmachine.execution import DEFAULT_MAX_OUTPUT_BYTES
from gitmachine.output import OutputBuffer

if TYPE_CHECKING:
    from gitmachine.cli.report import Outcome
    from gitmachine.execution import ExecResult
    from gitmachine.session import AsyncGitMachine

__all__ = ["Plan", "Running", "fail"]


@attrs.frozen(kw_only=True)
class Plan:
    """What to run, and how its output travels.

    Attributes:
        command: the program and its arguments.
        env: variables for it, beside the session's.
        timeout: seconds it may run; None is the session's own limit.
        keep: whether the machine is left when the command has ended.
        auto_commit: whether what changed is committed.
        as_json: whether output is kept for one document.
        stream: whether that output goes to standard error as well.
        debug: whether tracebacks are shown.
    """

    command: tuple[str, ...]
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    timeout: float | None = None
    keep: bool = False
    auto_commit: bool = True
    as_json: bool = False
    stream: bool = False
    debug: bool = False


def fail(plan: Plan, outcome: Outcome, status: Exit, error: Exception | str) -> None:
    """Put on record why a run did not end well; what needs more than one line is told at once."""
    outcome.status = status
    if isinstance(error, str):
        outcome.error = error
        return
    if plan.debug:
        say("".join(traceback.format_exception(error)))
    text = explain(error)
    outcome.error, *details = text.splitlines()
    if details:
        say(text)


class Running:
    """Runs a plan's command in a machine that is up, and fills in the outcome.

    Args:
        plan: what to run.
        gm: the session.
        outcome: filled in.
        interrupts: what may cancel it.
    """

    def __init__(self, plan: Plan, gm: AsyncGitMachine, outcome: Outcome, interrupts: Interrupts) -> None:
        self._plan = plan
        self._gm = gm
        self._outcome = outcome
        self._interrupts = interrupts
        self._buffers = (OutputBuffer(DEFAULT_MAX_OUTPUT_BYTES), OutputBuffer(DEFAULT_MAX_OUTPUT_BYTES))

    async def run(self) -> None:
        """Run the command to its end, whatever that is; nothing but a cancellation is raised."""
        outcome, began = self._outcome, time.monotonic()
        try:
            result = await self._interrupts.run(self._execute())
        except Interrupted:
            self._fail(Exit.INTERRUPTED, "interrupted: the command was stopped")
        except CommandTimeoutError as error:
            self._ended(error.result)
            self._fail(Exit.RUN_TIMEOUT, error)
        except OutputClosed as error:
            self._fail(Exit.BROKEN_PIPE, f"standard output cannot be written ({error}): the command was stopped")
        except Exception as error:  # noqa: BLE001  # whatever it is, the work is saved next
            self._fail(Exit.RUN_FAILURE, error)
        else:
            self._ended(result)
            outcome.status = result.exit_code
            if self._interrupts.interrupted:
                self._fail(Exit.INTERRUPTED, "interrupted")
        if outcome.duration is None:
            outcome.duration = time.monotonic() - began
        outcome.stdout, outcome.stderr = (buffer.getvalue().decode("utf-8", "replace") for buffer in self._buffers)
        outcome.truncated = any(buffer.truncated for buffer in self._buffers)

    async def _execute(self) -> ExecResult:
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
            list(plan.command),
            env=plan.env,
            timeout=plan.timeout,
            on_stdout_bytes=on_stdout,
            on_stderr_bytes=on_stderr,
            max_output_bytes=64 * 1024,
        )

    def _ended(self, result: ExecResult) -> None:
        outcome = self._outcome
        outcome.exit_code, outcome.timed_out, outcome.duration = result.exit_code, result.timed_out, result.duration
        outcome.hint = self._gm.machine.hint(result) or _missing_program(self._plan.command, result)

    def _fail(self, status: Exit, error: Exception | str) -> None:
        fail(self._plan, self._outcome, status, error)


def _missing_program(command: tuple[str, ...], result: ExecResult) -> str | None:
    if result.exit_code != 127:  # what shells and machines say when there is no such program
        return None
    if any(character in command[0] for character in " |&;<>$"):
        return f"no shell reads the command: for a script write sh -c {command[0]!r}"
    return f"there is no program {command[0]!r} in the machine" if command[0] not in ("sh", "bash") else None
