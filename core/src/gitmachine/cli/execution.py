"""``gitmachine exec``: a command in a machine that another process started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gitmachine.cli.exits import run_exit_code
from gitmachine.cli.messages import explain, say, show_traceback
from gitmachine.cli.options import (
    CommandAfterName,
    Invocation,
    config_option,
    debug_option,
    json_option,
    load_settings,
    name_argument,
)
from gitmachine.cli.output import write_outcome

if TYPE_CHECKING:
    from gitmachine.cli.interrupts import Interrupts
    from gitmachine.cli.report import Outcome
    from gitmachine.cli.running import Plan

__all__ = ["execute"]


@click.command("exec", cls=CommandAfterName)
@click.option("-e", "--env", multiple=True, metavar="K=V", help="A variable for the command; K alone passes ours on.")
@click.option("--timeout", type=float, metavar="SECONDS", help="How long the command may run.")
@click.option("--stream", is_flag=True, help="With --json: the command's output goes to standard error as it comes.")
@json_option
@config_option
@debug_option
@name_argument
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def execute(invocation: Invocation, /, *, name: str, as_json: bool, **given: Any) -> int:
    """Run COMMAND in the repository of the machine NAME, and leave the machine as it is.

    The command is a program and its arguments; no shell reads them. Exits with the command's own code; 124 after a
    timeout, 125 for failures of our own, 130 when interrupted, 2 for mistakes in usage and configuration.
    """
    from gitmachine.cli.report import Outcome, last_line

    outcome = Outcome(provider="", machine_kept=True)
    try:
        plan = _plan(given, as_json=as_json, debug=invocation.debug)
        _carry_out(name, plan, outcome, given)
    except click.Abort:
        raise
    except Exception as error:  # noqa: BLE001  # a mistake of ours too has an exit code of its own here
        outcome.status = run_exit_code(error)
        outcome.error = explain(error)
        outcome.machine_kept = False
        if invocation.debug:
            show_traceback(error)
        say(outcome.error)
    else:
        if outcome.hint and (not as_json or given["stream"]):
            say(f"hint: {outcome.hint}")
        reason = last_line(outcome)
        if reason is not None:
            say(reason)
    return write_outcome(_document(outcome), outcome.status) if as_json else outcome.status


def _plan(given: dict[str, Any], *, as_json: bool, debug: bool) -> Plan:
    from gitmachine.cli.prepare import check_command, environment
    from gitmachine.cli.running import Plan
    from gitmachine.execution import ExecRequest

    check_command(given["command"])
    env = environment(given["env"])
    ExecRequest(argv=given["command"], env=env, timeout=given["timeout"])  # says what is wrong before anything happens
    return Plan(
        command=given["command"],
        env=env,
        timeout=given["timeout"],
        as_json=as_json,
        stream=given["stream"],
        debug=debug,
    )


def _carry_out(name: str, plan: Plan, outcome: Outcome, given: dict[str, Any]) -> None:
    from gitmachine.cli.acting import attached, interruptible
    from gitmachine.cli.running import Running

    settings = load_settings(given["config"])

    async def main(interrupts: Interrupts) -> None:
        async with attached(name, settings, interrupts) as gm:
            outcome.provider, outcome.machine, outcome.name = gm.machine.provider, gm.id, gm.name
            outcome.repository, outcome.session = gm.repository, gm.session
            await Running(plan, gm, outcome, interrupts).run()

    interruptible(main, "exec")


def _document(outcome: Outcome) -> dict[str, Any]:
    keys = (
        *("exit_code", "status", "stdout", "stderr", "truncated", "timed_out", "duration"),
        *("repository", "session", "provider", "machine", "name", "hint", "error"),
    )
    return {key: getattr(outcome, key) for key in keys}
