"""``gitmachine pause``, ``resume`` and ``stop``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gitmachine.cli.exits import exit_code
from gitmachine.cli.messages import explain, say, show_traceback
from gitmachine.cli.options import Invocation, config_option, debug_option, json_option, load_settings, name_argument
from gitmachine.cli.output import write_json
from gitmachine.cli.report import Outcome, Progress, document, last_line, receipt_lines
from gitmachine.errors import GitMachineError, MachineLostError, PushError, StopRefused
from gitmachine.machine import MachineState

if TYPE_CHECKING:
    from pathlib import Path

    from gitmachine.cli.interrupts import Interrupts
    from gitmachine.session import AsyncGitMachine

__all__ = ["pause", "resume", "stop"]


@click.command()
@json_option
@config_option
@debug_option
@name_argument
def pause(*, name: str, as_json: bool, config: Path | None) -> None:
    """Commit what is uncommitted, copy the work to this host, and freeze the machine NAME with all that runs in it."""
    _change(name, "pause", as_json=as_json, config=config)


@click.command()
@json_option
@config_option
@debug_option
@name_argument
def resume(*, name: str, as_json: bool, config: Path | None) -> None:
    """Continue the paused machine NAME, and what ran in it."""
    _change(name, "resume", as_json=as_json, config=config)


def _change(name: str, verb: str, *, as_json: bool, config: Path | None) -> None:
    from gitmachine.cli.acting import act

    progress = Progress(quiet=as_json)

    async def work(gm: AsyncGitMachine) -> dict[str, Any]:
        await (gm.pause() if verb == "pause" else gm.resume())
        return {
            "name": gm.name,
            "machine": gm.id,
            "key": gm.key,
            "provider": gm.machine.provider,
            "session": gm.session,
            "state": str(gm.state),
        }

    found = act(name, work, doing=verb, config=config, observe=progress.event)
    if as_json:
        write_json(found)
    progress.line(f"the machine {found['name'] or found['machine']} is {found['state']}")


@click.command()
@click.option("--force", is_flag=True, help="End the machine also when its work cannot be published; it is kept here.")
@json_option
@config_option
@debug_option
@name_argument
@click.pass_obj
def stop(invocation: Invocation, /, *, name: str, force: bool, as_json: bool, config: Path | None) -> int:
    """Commit and publish the work of the machine NAME, verify that the remote has it, and end the machine.

    Exits with 3 when the work could not be published: the machine and the work are kept then; 4 when the machine is
    lost.
    """
    outcome = Outcome(provider="")
    progress = Progress(quiet=as_json)
    try:
        _stop(name, outcome, progress, force=force, config=config)
    except click.Abort:
        raise
    except Exception as error:  # noqa: BLE001  # a mistake of ours too belongs into the document
        _put_down(outcome, error)
        if invocation.debug:
            show_traceback(error)
        if outcome.receipt is not None:
            for line in receipt_lines(outcome):
                progress.line(line)
        say(explain(error))
    else:
        for line in receipt_lines(outcome):
            progress.line(line)
        reason = last_line(outcome)
        if reason is not None:
            say(reason)
    if as_json:
        write_json(_document(outcome))
    return outcome.status


def _stop(name: str, outcome: Outcome, progress: Progress, *, force: bool, config: Path | None) -> None:
    from gitmachine.cli.acting import attached, interruptible, means
    from gitmachine.upkeep import recover

    settings = load_settings(config)

    async def main(interrupts: Interrupts) -> None:
        recovery = await interrupts.run(recover(name, **await means(settings, name)))
        for sentence in recovery.sentences:
            say(sentence)
        outcome.provider, outcome.session, outcome.name = recovery.provider, recovery.session, recovery.name
        outcome.machine, outcome.rescue = recovery.machine_id, recovery.rescue
        if recovery.sentences and recovery.state == "stopped":
            return  # a stop before was cut off, and has ended now
        if recovery.state == "lost":
            raise MachineLostError(f"the machine {recovery.label} is lost", operation="stop")
        async with attached(name, settings, interrupts, observe=progress.event) as gm:
            outcome.repository, outcome.session, outcome.machine = gm.repository, gm.session, gm.id
            outcome.machine_kept = True
            outcome.key = gm.key
            try:
                outcome.receipt = await interrupts.run(gm.stop(force=force))
            except GitMachineError:
                # Published and ended all the same, when it was a plugin's teardown that failed.
                outcome.receipt = gm.receipt if gm.state is MachineState.STOPPED else None
                outcome.machine_kept = outcome.receipt is None
                raise
            finally:
                outcome.hook_failures = gm.hook_failures
            outcome.machine_kept = False
            outcome.rescue = outcome.receipt.rescue if outcome.receipt is not None else None

    interruptible(main, "stop")


def _put_down(outcome: Outcome, error: Exception) -> None:
    outcome.status = exit_code(error)
    outcome.error = explain(error).splitlines()[0]
    if isinstance(error, PushError):
        outcome.rescue = error.rescue
    elif isinstance(error, StopRefused):
        outcome.unpublished = tuple(error.unpublished)
    elif isinstance(error, MachineLostError):
        outcome.machine_kept = False


def _document(outcome: Outcome) -> dict[str, Any]:
    of_commands = {"exit_code", "stdout", "stderr", "truncated", "timed_out", "duration", "hint"}
    return {key: value for key, value in document(outcome).items() if key not in of_commands}
