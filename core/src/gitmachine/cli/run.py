"""``gitmachine run``: start a machine, run a command on the repository, publish the work, stop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from gitmachine.cli.exits import run_exit_code
from gitmachine.cli.messages import explain, say, show_traceback
from gitmachine.cli.options import Invocation, config_option, debug_option, json_option
from gitmachine.cli.output import write_outcome
from gitmachine.cli.prepare import check_command, prepare, session_options

if TYPE_CHECKING:
    from gitmachine.cli.report import Outcome, Progress
    from gitmachine.cli.running import Plan
    from gitmachine.session import AsyncGitMachine

__all__ = ["run"]


@click.command(context_settings={"allow_interspersed_args": False})
@session_options
@click.option("--keep", is_flag=True, help="Publish the work but leave the machine.")
@click.option("--stream", is_flag=True, help="With --json: the command's output goes to standard error as it comes.")
@json_option
@config_option
@debug_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def run(invocation: Invocation, /, *, as_json: bool, **given: Any) -> int:
    """Run COMMAND on a repository in a machine, and bring its work back as commits on a branch.

    The command is a program and its arguments; no shell reads them. For a script:

        gitmachine run -r REPO -- sh -c 'make && make test'

    Exits with the command's own code; 123 when the work could not be published and was kept, 124 after a timeout, 125
    for failures of our own, 130 when interrupted, 2 for mistakes in usage and configuration.
    """
    from gitmachine.cli.report import Outcome, Progress, document
    from gitmachine.cli.running import Plan

    outcome = Outcome(provider=given["provider"] or "")
    progress = Progress(quiet=as_json and not given["stream"])
    try:
        check_command(given["command"])
        prepared = prepare(given, progress.event, leaves=given["keep"])
        outcome.provider, settings = prepared.provider, prepared.settings
        plan = Plan(
            command=given["command"],
            keep=given["keep"],
            auto_commit=settings.auto_commit,
            as_json=as_json,
            stream=given["stream"],
            debug=invocation.debug,
        )
        for hint in prepared.hints:
            progress.line(hint)
        _carry_out(plan, prepared.gm, outcome, progress)
    except Exception as error:  # noqa: BLE001  # a mistake of ours too has an exit code of its own here
        outcome.status = run_exit_code(error)
        outcome.error = explain(error)
        if invocation.debug:
            show_traceback(error)
        say(outcome.error)
    return write_outcome(document(outcome), outcome.status) if as_json else outcome.status


def _carry_out(plan: Plan, gm: AsyncGitMachine, outcome: Outcome, progress: Progress) -> None:
    from gitmachine.cli.attempt import Attempt
    from gitmachine.cli.report import last_line, receipt_lines

    async def attempt() -> None:
        await Attempt(plan, gm, outcome, progress).run()

    asyncio.run(attempt())
    for line in receipt_lines(outcome):
        progress.line(line)
    reason = last_line(outcome)
    if reason is not None:
        say(reason)
